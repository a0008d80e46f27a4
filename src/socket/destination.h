/* SPDX-License-Identifier: MIT */
/* destination.h: destination handles: a literal, or a name with its last good address. */
#ifndef DGRAM_SOCKET_DESTINATION_H
#define DGRAM_SOCKET_DESTINATION_H

#include "src/send/request.h"
#include "src/socket/socket.h"

/* Whether the socket may send to it: 0, DGRAM_EWRONGLOOP, DGRAM_EBADFAMILY. */
int dg_destination_check(const struct dgram_socket *socket,
                         const struct dgram_destination *destination);
int dg_destination_send(struct dgram_socket *socket, struct dgram_destination *destination,
                        const struct payload *payload, dgram_sent_fn *fn, void *user);

#endif
