/* SPDX-License-Identifier: MIT */
/*
 * engines.c: the table of engines.
 *
 * DGPERF_HAS_... is 1 if meson found the library, else 0. The engine of an absent library has a row
 * all the same, which says what is missing.
 */
#include "bench/engines/engines.h"

static const struct engine no_libuv = {
    .name = "libuv",
    .summary = "libuv (not built in)",
    .missing = "libuv was not there when dgperf was built",
};

static const struct engine no_asio = {
    .name = "asio",
    .summary = "asio (not built in)",
    .missing = "asio or a C++ compiler was not there when dgperf was built",
};

const struct engine *const engines[] = {
    &engine_auto,
    &engine_uring,
    &engine_poll,
    &engine_raw_mmsg,
    &engine_raw_gso,
    DGPERF_HAS_LIBUV ? &engine_libuv : &no_libuv,
    DGPERF_HAS_ASIO ? &engine_asio : &no_asio,
    &engine_node,
    NULL,
};
