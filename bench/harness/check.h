/* SPDX-License-Identifier: MIT */
/*
 * check.h: whether the options of a plan go together.
 */
#ifndef DGPERF_CHECK_H
#define DGPERF_CHECK_H

#include "bench/harness/options.h"

/* Returns 0, or EXIT_USAGE after saying why. `server_given`: --server-engine was there. */
int plan_check(const struct command *command, const struct plan *plan, bool server_given);

#endif
