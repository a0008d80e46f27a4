/* SPDX-License-Identifier: MIT */
/*
 * send.h: the public sends to an address, and the fast way.
 *
 * Owns nothing: each checks its arguments and binds the socket; accept.h does the rest.
 */
#ifndef DGRAM_SOCKET_SEND_H
#define DGRAM_SOCKET_SEND_H

#include "src/send/request.h"
#include "src/socket/socket.h"

/* The public sends end here: socket_check() comes first, this checks the payload and binds. */
int dg_send_check(struct dgram_socket *socket, const void *data, size_t size);

/* Whether a datagram with a callback may stay where it is until then. DGRAM_COPY says no. A
 * received message that is sent on is copied, too: it ends with its handler, and the callback may
 * be late. */
static inline bool send_borrows(const struct dgram_socket *socket, const void *data,
                                dgram_sent_fn *fn)
{
    return fn != NULL && !socket->copies && !dg_inlet_owns(socket->loop, data);
}

/* The address as the kernel takes it: 0, DGRAM_EBADADDRESS, DGRAM_EBADFAMILY, DGRAM_EBADPORT. */
int dg_send_address(const struct dgram_socket *socket, const struct dgram_addr *address,
                    union dg_peer *ret_peer);

#endif
