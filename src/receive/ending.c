/* SPDX-License-Identifier: MIT */
/* ending.c: see ending.h. */
#include "src/receive/ending.h"

#include <errno.h>

#include "src/backend.h"
#include "src/base/queue.h"
#include "src/net/cmsg.h"
#include "src/receive/arrival.h"
#include "src/system.h"

/* Bytes of the receive buffer that a datagram takes beside its payload, at least. */
enum { HELD_OVERHEAD = 256 };

/* ---- What the kernel holds ----------------------------------------------------------------- */

/* Takes the next datagram or train, of which nothing is kept, or looks at it only: how many
 * datagrams, and their bytes. 0: there is none. */
static uint64_t kernel_next(const struct receiver *receiver, int flags, uint64_t *ret_bytes)
{
    enum { ERRORS_MAX = 16 }; /* ICMP answers to older sends come first */
    _Alignas(size_t) unsigned char control[64];
    unsigned char byte;
    int size = -EAGAIN;
    struct msghdr header;
    for (int errors = 0; errors < ERRORS_MAX; errors++) {
        struct iovec vector = {.iov_base = &byte, .iov_len = sizeof(byte)};
        header = (struct msghdr){.msg_iov = &vector, .msg_iovlen = 1};
        if (receiver->gro) {
            header.msg_control = control;
            header.msg_controllen = sizeof(control);
        }
        size = receiver->loop->system->receive(receiver->endpoint->fd, &header, flags);
        if (size >= 0 || size == -EAGAIN) {
            break;
        }
    }
    if (size < 0) {
        return 0;
    }
    uint32_t segment = receiver->gro ? dg_cmsg_segment(control, (size_t) header.msg_controllen) : 0;
    const struct arrival arrival = {.size = (uint32_t) size, .segment = segment};
    uint64_t count = arrival_count(&arrival);
    *ret_bytes = arrival.size + HELD_OVERHEAD * count;
    return count;
}

/* Nothing new comes. Returns how many bytes may be there all the same. */
static uint64_t arrivals_stop(const struct receiver *receiver)
{
    const struct dg_system *system = receiver->loop->system;
    int granted = 0;
    socklen_t size = sizeof(granted);
    if (system->refuse(receiver->endpoint->fd) == 0) {
        return UINT64_MAX;
    }
    int code = system->getsockopt(receiver->endpoint->fd, SOL_SOCKET, SO_RCVBUF, &granted, &size);
    return code == 0 && granted > 0 ? (uint64_t) granted : 0;
}

void dg_ending_count(struct receiver *receiver)
{
    uint64_t bytes = 0;
    uint64_t count = receiver->bound ? kernel_next(receiver, 0, &bytes) : 0;
    uint64_t left = count > 0 ? arrivals_stop(receiver) : 0;
    while (count > 0) {
        receiver->discarded += count;
        left -= bytes < left ? bytes : left;
        count = left > 0 ? kernel_next(receiver, 0, &bytes) : 0;
    }
}

/* ---- Emptying ------------------------------------------------------------------------------ */

static uint64_t delivered_bytes(const struct receiver *receiver)
{
    return receiver->received_bytes + HELD_OVERHEAD * receiver->received;
}

bool dg_ending_begin(struct receiver *receiver)
{
    if (!receiver->bound || !receiver->delivers) {
        return false;
    }
    uint64_t most = arrivals_stop(receiver);
    uint64_t before = delivered_bytes(receiver);
    receiver->emptying = true;
    receiver->empty_at = most < UINT64_MAX - before ? before + most : UINT64_MAX;
    return true;
}

/* Stopped, and all was delivered: the kernel may hold more. */
static bool receive_again(struct receiver *receiver)
{
    uint64_t bytes;
    receiver->more = delivered_bytes(receiver) < receiver->empty_at &&
                     kernel_next(receiver, MSG_PEEK, &bytes) > 0;
    dg_receiver_apply(receiver);
    return receiver->more && receiver->receive == RECEIVE_ON;
}

/* One step a turn: receiving lasts from one to the next, so there is a wait between them. */
bool dg_ending_step(struct receiver *receiver)
{
    if (!receiver->delivers || receiver->receive == RECEIVE_FAILED) {
        return false;
    }
    if (receiver->receive == RECEIVE_OFF && queue_is_empty(&receiver->backlog)) {
        return receive_again(receiver);
    }
    if (receiver->receive == RECEIVE_ON) {
        receiver->more = false;
        dg_receiver_apply(receiver);
    }
    return true;
}
