/* SPDX-License-Identifier: MIT */
/* bind.h: sockets get their local address: by text, by name, by the first send. */
#ifndef DGRAM_SOCKET_BIND_H
#define DGRAM_SOCKET_BIND_H

#include "src/socket/socket.h"

/* To any address and port. */
int dg_bind_implicitly(struct dgram_socket *socket);
/* For a membership, unless the socket is bound by then. */
void dg_bind_run(struct task *task);
/* Nobody waits for a name to bind to any more. Sends that waited for the bind are completed:
 * they never had an address to leave from. */
void dg_bind_cancel(struct dgram_socket *socket);

#endif
