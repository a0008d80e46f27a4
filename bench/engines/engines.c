/* SPDX-License-Identifier: MIT */
/*
 * engines.c: the table of engines. An engine that was not built in has an entry that says so.
 */
#include "bench/engines/engines.h"

const struct engine *const engines[] = {
    &engine_auto, &engine_uring, &engine_poll, &engine_raw_mmsg, &engine_raw_gso, &engine_libuv,
    &engine_asio, &engine_node,  NULL,
};
