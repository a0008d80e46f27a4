/* SPDX-License-Identifier: MIT */
/*
 * ending.c: the end of a socket that receives.
 *
 * Owns what becomes of datagrams that the kernel holds when a socket ends. dgram_end() empties it:
 * nothing new is let in, and what is there is delivered, turn by turn as ever. dgram_close() and
 * whoever cannot deliver throws it away and counts. It knows no engine: the socket stops receiving,
 * and when STOPPED has come and all was delivered, the kernel is asked whether it holds more.
 *
 * Where the host cannot keep arrivals out, a flood would never end: then it is as much as the
 * receive buffer holds.
 */
#include <string.h>

#include "src/core.h"

/* What a datagram takes of the receive buffer beside its payload, at least. */
enum { HELD_OVERHEAD = 256 };

/* ---- What the kernel holds ----------------------------------------------------------------- */

/* Takes the next datagram or train, of which nothing is kept, or looks at it only: how many
 * datagrams, and their bytes. 0: there is none. */
static uint64_t kernel_next(const struct dgram_socket *socket, int flags, uint64_t *ret_bytes)
{
    enum { ERRORS_MAX = 16 }; /* ICMP answers to older sends come first */
    _Alignas(size_t) unsigned char control[64];
    unsigned char byte;
    int size = -EAGAIN;
    struct msghdr header;
    for (int errors = 0; errors < ERRORS_MAX; errors++) {
        struct iovec vector = {.iov_base = &byte, .iov_len = sizeof(byte)};
        header = (struct msghdr){.msg_iov = &vector, .msg_iovlen = 1};
        if (socket->gro) {
            header.msg_control = control;
            header.msg_controllen = sizeof(control);
        }
        size = socket->loop->system->receive(socket->endpoint.fd, &header, flags);
        if (size >= 0 || size == -EAGAIN) {
            break;
        }
    }
    if (size < 0) {
        return 0;
    }
    uint32_t segment = socket->gro ? dg_cmsg_segment(control, (size_t) header.msg_controllen) : 0;
    const struct arrival arrival = {.size = (uint32_t) size, .segment = segment};
    uint64_t count = dg_arrival_count(&arrival);
    *ret_bytes = arrival.size + HELD_OVERHEAD * count;
    return count;
}

/* Nothing new comes. Returns how many bytes may be there all the same. */
static uint64_t arrivals_stop(const struct dgram_socket *socket)
{
    const struct dg_system *system = socket->loop->system;
    int granted = 0;
    socklen_t size = sizeof(granted);
    if (system->refuse(socket->endpoint.fd) == 0) {
        return UINT64_MAX;
    }
    int code = system->getsockopt(socket->endpoint.fd, SOL_SOCKET, SO_RCVBUF, &granted, &size);
    return code == 0 && granted > 0 ? (uint64_t) granted : 0;
}

void dg_ending_count(struct dgram_socket *socket)
{
    uint64_t bytes = 0;
    uint64_t count = socket->bound ? kernel_next(socket, 0, &bytes) : 0;
    uint64_t left = count > 0 ? arrivals_stop(socket) : 0;
    while (count > 0) {
        socket->stats.discarded += count;
        left -= bytes < left ? bytes : left;
        count = left > 0 ? kernel_next(socket, 0, &bytes) : 0;
    }
}

/* ---- Emptying ------------------------------------------------------------------------------ */

static uint64_t delivered_bytes(const struct dgram_socket *socket)
{
    return socket->stats.received_bytes + HELD_OVERHEAD * socket->stats.received;
}

bool dg_ending_begin(struct dgram_socket *socket)
{
    if (!socket->bound || !socket->delivers) {
        return false;
    }
    uint64_t most = arrivals_stop(socket);
    uint64_t before = delivered_bytes(socket);
    socket->empty_at = most < UINT64_MAX - before ? before + most : UINT64_MAX;
    return true;
}

/* Stopped, and all was delivered: the kernel may hold more. */
static bool receive_again(struct dgram_socket *socket)
{
    uint64_t bytes;
    socket->more =
        delivered_bytes(socket) < socket->empty_at && kernel_next(socket, MSG_PEEK, &bytes) > 0;
    dg_receive_apply(socket);
    return socket->more && socket->receive == RECEIVE_ON;
}

/* One step a turn: receiving lasts from one to the next, so there is a wait between them. */
bool dg_ending_step(struct dgram_socket *socket)
{
    if (!socket->delivers || socket->receive == RECEIVE_FAILED) {
        return false;
    }
    if (socket->receive == RECEIVE_OFF && queue_is_empty(&socket->backlog)) {
        return receive_again(socket);
    }
    if (socket->receive == RECEIVE_ON) {
        socket->more = false;
        dg_receive_apply(socket);
    }
    return true;
}
