/* SPDX-License-Identifier: MIT */
/* train.h: the trains that the core handed over, and their results. */
#ifndef DGRAM_URING_TRAIN_H
#define DGRAM_URING_TRAIN_H

#include "uring/ring.h"

/* As in struct backend: takes the list, and submits nothing yet. */
void dg_ring_send(struct engine *engine, struct train *const *trains, size_t count);

/* Takes a CQE of OPERATION_SEND, which tells of a failure. */
void dg_ring_train_failed(struct engine *engine, uint64_t user_data, int result);

/* Gives the list back. Each train has its result, unless `code` is an error that broke the ring:
 * then it is the result of all. */
void dg_ring_trains_answer(struct engine *engine, int code);

#endif
