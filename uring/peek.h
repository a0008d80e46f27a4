/* SPDX-License-Identifier: MIT */
/* peek.h: looking for datagrams in a busy loop. */
#ifndef DGRAM_URING_PEEK_H
#define DGRAM_URING_PEEK_H

#include "uring/ring.h"

/* As in struct backend. */
int dg_ring_peek(struct engine *engine);

#endif
