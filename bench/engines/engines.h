/* SPDX-License-Identifier: MIT */
/*
 * engines.h: the engines that dgperf knows. Only dgperf.c reads the table, and hands it on.
 */
#ifndef DGPERF_ENGINES_H
#define DGPERF_ENGINES_H

#include "bench/harness/engine.h"

extern const struct engine engine_auto;
extern const struct engine engine_uring;
extern const struct engine engine_poll;
extern const struct engine engine_raw_mmsg;
extern const struct engine engine_raw_gso;
extern const struct engine engine_libuv;
extern const struct engine engine_asio;
extern const struct engine engine_node;

/* All engines, in the order of help and `peers`; ends with NULL. The first is the default. */
extern const struct engine *const engines[];

#endif
