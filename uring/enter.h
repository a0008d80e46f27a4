/* SPDX-License-Identifier: MIT */
/* enter.h: the submission queue and the completion queue. */
#ifndef DGRAM_URING_ENTER_H
#define DGRAM_URING_ENTER_H

#include "uring/ring.h"

/* Returns a free SQE. If the queue is full, the queued ones are submitted first; NULL if that did
 * not help. */
struct io_uring_sqe *dg_ring_sqe(struct engine *engine);

/* Makes the SQEs of the objects that have something to submit. Objects for which the queue has no
 * room stay in the list. */
void dg_ring_submit_objects(struct engine *engine);

/* Hands each CQE to the file that asked for it. */
void dg_ring_harvest(struct engine *engine);

/*
 * Finishes an enter that returned `code`. Submits the SQEs that the enter left, and fetches
 * completions that did not fit the CQ, until every send has been tried and every failure was seen.
 * `slept`: the enter was to sleep. If the kernel refused it, a pause follows even if nothing is
 * left to do, or the loop would spin. Returns 0, or the error that broke the ring.
 */
int dg_ring_reap(struct engine *engine, int code, bool slept);

#endif
