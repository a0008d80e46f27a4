/* SPDX-License-Identifier: MIT */
/* setup.h: the ring, the ring of provided buffers and the descriptor for outer loops. */
#ifndef DGRAM_URING_SETUP_H
#define DGRAM_URING_SETUP_H

#include "uring/ring.h"

/* The rung of the ladder of set-up flags on which rings begin: 0. Tests begin lower, to run as on
 * an older kernel. */
extern unsigned ring_first_rung;

/* As in struct backend. */
int dg_ring_open(const struct engine_config *config, struct engine **ret_engine,
                 const char **ret_call);
void dg_ring_close(struct engine *engine, bool forked);
int dg_ring_provide(struct engine *engine, const struct slots *slots, const char **ret_call);
int dg_ring_event_fd(struct engine *engine);

/* Makes this thread the ring's owner, once: 0 or a negated errno. */
int dg_ring_enable(struct engine *engine);

#endif
