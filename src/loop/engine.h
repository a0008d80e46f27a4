/* SPDX-License-Identifier: MIT */
/* engine.h: the engines there are, and the choice of one. It looks for itself whether each works.
 * */
#ifndef DGRAM_LOOP_ENGINE_H
#define DGRAM_LOOP_ENGINE_H

#include "src/core/core.h"

struct backend;

/* Why the preferred engine was refused. */
struct choice {
    int refused_code;
    const char *refused_call, *refused_advice;
};

/* Opens the given engine, or if it is NULL the wanted or the best one, and gives it the loop's
 * slots. */
int dg_engine_open(struct dgram_loop *loop, const struct backend *given, uint32_t engine);
uint32_t dg_engine_number(const struct backend *backend);

#endif
