/* SPDX-License-Identifier: MIT */
/*
 * peek.c: looking for datagrams in a busy loop.
 *
 * Owns the spare slot while it is free. Never sleeps, sends or starts anything.
 *
 * With DEFER_TASKRUN nothing comes to the ring before a system call asks for it, so each look there
 * costs a system call all the same. A look at the kernel's flag costs none, but 2 us a round trip.
 * A plain recvmsg beside the armed multishot gets those back. With DEFER_TASKRUN the multishot
 * takes nothing before our next enter: as long as the CQ was empty, recvmsg finds the oldest
 * datagram. Measured on 6.18: 200,000 datagrams that way, none lost, none out of order.
 */
#include "uring/peek.h"

#include "uring/enter.h"
#include "uring/receive.h"
#include "uring/slot.h"

/* Receives into the spare slot, which is laid out as the kernel does it for the ring. */
static void receive_raw(struct engine *engine, struct endpoint *endpoint)
{
    unsigned char *base = ring_slot(engine, engine->spare);
    uint32_t before = SLOT_CONTROL_OFFSET + endpoint->control_size;
    uint32_t room = engine->slots.stride - before;
    struct iovec vector = {.iov_base = base + before, .iov_len = room};
    struct msghdr header = {
        .msg_name = base + SLOT_NAME_OFFSET,
        .msg_namelen = SLOT_NAME_SIZE,
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = endpoint->control_size > 0 ? base + SLOT_CONTROL_OFFSET : NULL,
        .msg_controllen = endpoint->control_size,
    };
    ssize_t size = recvmsg(endpoint->fd, &header, MSG_DONTWAIT | MSG_TRUNC);
    if (size < 0) {
        return; /* nothing there; an error is the multishot's to report */
    }
    const struct io_uring_recvmsg_out out = {
        .namelen = header.msg_namelen,
        .controllen = (uint32_t) header.msg_controllen,
        .payloadlen = (uint32_t) size,
    };
    engine->has_spare = false;
    dg_ring_receive_append(engine, endpoint, engine->spare, &out,
                           (uint32_t) size < room ? (uint32_t) size : room);
}

/* Has the kernel put the completions that are due into the CQ, by a system call. */
static int look_closely(struct engine *engine)
{
    int code = io_uring_get_events(&engine->ring);
    dg_ring_harvest(engine);
    if (code >= 0 || code == -EINTR || code == -EAGAIN || code == -EBUSY) {
        return 0;
    }
    *engine->failed_call = "io_uring_enter";
    return code;
}

int dg_ring_peek(struct engine *engine)
{
    if (!engine->enabled) {
        return 0; /* the first wait() is still to come */
    }
    /* Completions that overflowed are older than the datagram that a receive would find now. */
    bool overflown = io_uring_cq_has_overflow(&engine->ring);
    if (io_uring_cq_ready(&engine->ring) > 0) {
        dg_ring_harvest(engine);
        return 0;
    }
    if (engine->receiver_count <= PEEK_MAX && engine->has_spare && !overflown) {
        /* The flag is of no interest here: it tells first of the multishot's own wake-up for the
         * datagram that was just taken. */
        for (uint32_t i = 0; i < engine->receiver_count && engine->has_spare; i++) {
            if (!engine->receivers[i]->stopping) {
                receive_raw(engine, engine->receivers[i]->endpoint);
            }
        }
        return 0;
    }
    bool flagged = (*engine->ring.sq.kflags & IORING_SQ_TASKRUN) != 0;
    return flagged || overflown || !(engine->ring.flags & IORING_SETUP_TASKRUN_FLAG)
               ? look_closely(engine)
               : 0;
}
