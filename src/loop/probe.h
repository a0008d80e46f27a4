/* SPDX-License-Identifier: MIT */
/*
 * probe.h: a train through an engine, to find out whether it works here.
 *
 * Owns the advice for each way to fail. It needs no loop, and asks the host each time.
 */
#ifndef DGRAM_LOOP_PROBE_H
#define DGRAM_LOOP_PROBE_H

#include "src/backend.h"
#include "src/receive/pool.h"

struct failure {
    int code;         /* 0: none */
    const char *call; /* that failed; "": none */
};

/* Opens the engine and gives it the slots: all that it takes of the host for its whole life, or
 * nothing. NULL is an engine that is not built in. */
struct failure dg_engine_start(const struct backend *backend, const struct engine_config *config,
                               const struct pool *pool, struct engine **ret_engine);

struct failure dg_probe(const struct backend *backend);
/* The engine was set up, and then failed the trial itself. */
bool dg_probe_is_verdict(const struct failure *failure);
/* A sentence for whoever runs the program; "": there is none. */
const char *dg_probe_advice(const struct failure *failure);

#endif
