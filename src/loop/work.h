/* SPDX-License-Identifier: MIT */
/* work.h: whether a loop has work, and whether it lives. It does nothing of that work. */
#ifndef DGRAM_LOOP_WORK_H
#define DGRAM_LOOP_WORK_H

#include "src/core/core.h"

/* Something to call back without waiting for the kernel. */
bool dg_loop_has_work(struct dgram_loop *loop);
/* Something is there or to come, for which dgram_loop_run() goes on. */
bool dg_loop_is_alive(struct dgram_loop *loop);
/* The loop has a reason to sleep. Sends that are handed over now are none: they do not wait, and
 * when nothing else is left the program wants to end. */
bool dg_loop_may_sleep(struct dgram_loop *loop);

#endif
