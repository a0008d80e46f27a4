/* SPDX-License-Identifier: MIT */
/* watch.h: watches of descriptors that the engine does not read. */
#ifndef DGRAM_URING_WATCH_H
#define DGRAM_URING_WATCH_H

#include "uring/ring.h"

/* As in struct backend. */
int dg_ring_watch(struct engine *engine, struct watch *watch);
void dg_ring_unwatch(struct engine *engine, struct watch *watch);

/* Makes the SQE of a watch that is submitted now. */
void dg_ring_watch_prepare(struct object *object, struct io_uring_sqe *sqe);

/* Takes a CQE of OPERATION_POLL. */
void dg_ring_watch_completed(struct engine *engine, const struct io_uring_cqe *cqe);

#endif
