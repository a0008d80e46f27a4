/* SPDX-License-Identifier: MIT */
/* events.h: the handlers of a socket, and the events that are emitted here. */
#ifndef DGRAM_SOCKET_EVENTS_H
#define DGRAM_SOCKET_EVENTS_H

#include "src/socket/socket.h"

/* Tasks: `listening` and `drain`. */
void dg_listening_run(struct task *task);
void dg_drain_run(struct task *task);

#endif
