/* SPDX-License-Identifier: MIT */
/*
 * life.h: creation and the end of sockets.
 *
 * A call that may not do all of its work itself adds a task to the agenda.
 */
#ifndef DGRAM_SOCKET_LIFE_H
#define DGRAM_SOCKET_LIFE_H

#include "src/socket/socket.h"

/* The loop is being freed: all sockets close. */
void dg_sockets_close(struct dgram_loop *loop);
/* DETACHED came. */
void dg_socket_detached(struct dgram_socket *socket);
/* The loop's engine is of no use: all sockets, which are closing, close without it. */
void dg_sockets_abandon(struct dgram_loop *loop, int code);
/* A child's copy of the loop: memory and descriptors go, nothing that the parent shares is
 * touched. */
void dg_sockets_forget(struct dgram_loop *loop);
/* The least receive buffer of the loop's bound sockets, in bytes; UINT64_MAX without one. */
uint64_t dg_sockets_receive_buffer(struct dgram_loop *loop);

#endif
