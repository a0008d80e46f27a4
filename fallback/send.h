/* SPDX-License-Identifier: MIT */
/* send.h: trains to the kernel. */
#ifndef DGRAM_FALLBACK_SEND_H
#define DGRAM_FALLBACK_SEND_H

#include "fallback/engine.h"

/* As in struct backend. */
void dg_poll_send(struct engine *engine, struct train *const *trains, size_t count);
int dg_poll_flush(struct engine *engine);

#endif
