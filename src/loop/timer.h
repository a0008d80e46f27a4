/* SPDX-License-Identifier: MIT */
/*
 * timer.h: the program's timers: an alarm each.
 *
 * Owns every timer. Reads the clock itself on start, because the loop's `now` may be a long
 * callback old and a timer must never be early.
 */
#ifndef DGRAM_LOOP_TIMER_H
#define DGRAM_LOOP_TIMER_H

#include "src/base/list.h"
#include "src/core/core.h"

struct timers {
    struct node all;
    uint32_t keeping; /* started and not unref'd */
};

void dg_timers_stop(struct dgram_loop *loop); /* all of them */
void dg_timers_free(struct dgram_loop *loop);

#endif
