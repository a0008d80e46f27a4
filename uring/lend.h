/* SPDX-License-Identifier: MIT */
/* lend.h: registered memory, and trains that are sent from it without a copy. */
#ifndef DGRAM_URING_LEND_H
#define DGRAM_URING_LEND_H

#include "uring/ring.h"

/* As in struct backend. */
int dg_ring_lend(struct engine *engine, struct region *region);
void dg_ring_reclaim(struct engine *engine, const struct region *region);

/* Makes the SQE of train `index` of the list, which has a loan. */
void dg_ring_loan_prepare(struct engine *engine, struct io_uring_sqe *sqe, uint32_t index);

/* Takes a CQE of OPERATION_LEND: the result of the train, or the end of its loan. */
void dg_ring_loan_completed(struct engine *engine, const struct io_uring_cqe *cqe);

#endif
