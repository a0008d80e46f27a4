/* SPDX-License-Identifier: MIT */
/*
 * submit.h: the submission: handed over, settled, begun anew.
 *
 * Owns the order of hand-over, settling and a new beginning. It looks into no train (outcome.h).
 */
#ifndef DGRAM_SEND_SUBMIT_H
#define DGRAM_SEND_SUBMIT_H

#include "src/send/batch.h"

/* Hands the batch over and submits; settle() after the engine's wait(), with its code, when
 * hand_over() was done for it. Both return it, or the code with which the engine broke
 * meanwhile. */
int dg_send_flush(struct dgram_loop *loop);
void dg_send_hand_over(struct dgram_loop *loop);
int dg_send_settle(struct dgram_loop *loop, int code);

/* Whether somebody has to hear the results of the batch before the loop may sleep. */
bool dg_send_wants_answer(const struct dgram_loop *loop);

/* Something is to be submitted. */
static inline bool send_is_queued(const struct dgram_loop *loop)
{
    return loop->outbox->batch->train_count > 0;
}

#endif
