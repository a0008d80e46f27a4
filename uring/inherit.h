/* SPDX-License-Identifier: MIT */
/* inherit.h: the thread that owns the ring ends, and another one closes the sockets. */
#ifndef DGRAM_URING_INHERIT_H
#define DGRAM_URING_INHERIT_H

#include "uring/ring.h"

/* As in struct backend. */
void dg_ring_rest(struct engine *engine);
int dg_ring_inherit(struct engine *engine);

#endif
