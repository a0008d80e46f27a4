/* SPDX-License-Identifier: MIT */
/* check.h: whether a loop may be used: the first question of every public function. */
#ifndef DGRAM_CORE_CHECK_H
#define DGRAM_CORE_CHECK_H

#include "src/base/fork.h"
#include "src/core/core.h"

/* The loop belongs to the parent process. */
static inline bool loop_forked(const struct dgram_loop *loop)
{
    return dg_forked(loop->fork_generation);
}

/* 0, DGRAM_ENULL or DGRAM_EFORKED. */
static inline int loop_check(const struct dgram_loop *loop)
{
    if (loop == NULL) {
        return DGRAM_ENULL;
    }
    return loop_forked(loop) ? DGRAM_EFORKED : 0;
}

/* The same, and DGRAM_ENOTRUNNING while the loop is being freed: nothing new begins. */
static inline int loop_check_running(const struct dgram_loop *loop)
{
    int code = loop_check(loop);
    return code == 0 && loop->freeing ? (int) DGRAM_ENOTRUNNING : code;
}

#endif
