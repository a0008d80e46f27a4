/* SPDX-License-Identifier: MIT */
/* group.h: multicast groups. */
#ifndef DGRAM_SOCKET_GROUP_H
#define DGRAM_SOCKET_GROUP_H

#include "src/socket/socket.h"

/* The descriptor is closed, and the kernel has left all groups. */
void dg_memberships_forget(struct dgram_socket *socket);

#endif
