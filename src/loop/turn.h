/* SPDX-License-Identifier: MIT */
/*
 * turn.h: one turn of the loop.
 *
 * Owns the order of things: prepare (binds, closes, re-arms) - hand over the queued trains and
 * wait - settle the trains - dispatch alarms, events, records, names, sent callbacks, buffers,
 * errors, closes. Callbacks run in the dispatch only, so every other part may assume that nothing
 * changes under its feet.
 */
#ifndef DGRAM_LOOP_TURN_H
#define DGRAM_LOOP_TURN_H

#include "src/core/core.h"

/* 0, the error of a broken engine, or DGRAM_EFORKED in a forked child. */
int dg_turn(struct dgram_loop *loop, int64_t timeout_ns);
/* Nothing waits for a turn that may be long in coming: all is submitted. */
int dg_turn_leave(struct dgram_loop *loop);

#endif
