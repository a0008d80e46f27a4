/* SPDX-License-Identifier: MIT */
/*
 * socket.h: a socket: an endpoint, a sender, a receiver, and its life.
 *
 * Life: open - ending (dgram_end) - emptying (all was sent, nothing new arrives, see
 * receive/ending.h) - closing (dgram_close: no message any more; in the next prepare the queue gets
 * its last attempt and the engine detaches) - closed (DETACHED came, the descriptor is closed) -
 * `close` is emitted, and the memory is freed.
 */
#ifndef DGRAM_SOCKET_SOCKET_H
#define DGRAM_SOCKET_SOCKET_H

#include "src/backend.h"
#include "src/base/list.h"
#include "src/core/agenda.h"
#include "src/core/check.h"
#include "src/core/errors.h"
#include "src/names/names.h"
#include "src/receive/receiver.h"
#include "src/send/sender.h"

enum socket_state {
    SOCKET_OPEN,
    SOCKET_ENDING,   /* dgram_end(): no new sends */
    SOCKET_EMPTYING, /* and all were made: no new arrivals; the kernel's datagrams are delivered */
    SOCKET_CLOSING,  /* dgram_close(): no messages; being detached */
    SOCKET_CLOSED,   /* the descriptor is closed; `close` is due */
    SOCKET_GONE      /* `close` is being emitted */
};

struct dgram_socket {
    struct endpoint endpoint; /* first, so that the two convert */
    struct sender sender;
    struct receiver receiver;
    struct dgram_loop *loop;
    struct error_sink errors;

    uint8_t state; /* enum socket_state */
    bool bound, binding, unreffed, counted;
    bool copies; /* DGRAM_COPY */
    bool ipv6_only;
    sa_family_t family;
    in_port_t bind_port; /* network order, while `binding` */
    uint32_t bind_patience_ms;
    struct waiter bind_waiter; /* for the name to which it is to be bound, while `binding` */
    struct node all;           /* in loop->sockets */
    struct node memberships;   /* the last to be joined comes first: see group.c */
    uint32_t dropped;          /* by the kernel, when the descriptor was closed */

    /* Work that is due: another step of its end; a bind for its memberships; the last attempt to
     * send, then to be detached; `listening`; to be freed. */
    struct task ending, bind, closing, listening, closed;
    dgram_event_fn *on_listening, *on_drain, *on_close;
    void *listening_user, *drain_user, *close_user;
};

/* 0 if the socket may be used, else DGRAM_ENULL, DGRAM_EFORKED, DGRAM_ENOTRUNNING. */
static inline int socket_check(const struct dgram_socket *socket)
{
    if (socket == NULL) {
        return DGRAM_ENULL;
    }
    if (loop_forked(socket->loop)) {
        return DGRAM_EFORKED;
    }
    return socket->state >= SOCKET_CLOSING ? DGRAM_ENOTRUNNING : 0;
}

/* Whether the socket keeps the loop alive, counted once in the loop. */
static inline void socket_keep(struct dgram_socket *socket)
{
    bool bound = socket->bound || socket->binding;
    bool keeps = socket->state >= SOCKET_EMPTYING || (bound && !socket->unreffed);
    if (keeps != socket->counted) {
        socket->counted = keeps;
        socket->loop->keeping += keeps ? 1u : -1u;
    }
}

#endif
