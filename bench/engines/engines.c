/* SPDX-License-Identifier: MIT */
/*
 * engines.c: the table of engines. An engine that was not built in has an entry that says so.
 */
#include "bench/harness/engine.h"

const struct engine *const engines[] = {
    &engine_auto, &engine_uring, &engine_poll, &engine_raw_mmsg, &engine_raw_gso, &engine_libuv,
    &engine_asio, &engine_node,  NULL,
};

const struct engine *engine_by_name(const char *name)
{
    for (const struct engine *const *engine = engines; *engine; engine++) {
        if (strcmp((*engine)->name, name) == 0) {
            return *engine;
        }
    }
    return NULL;
}
