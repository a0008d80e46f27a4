/* SPDX-License-Identifier: MIT */
/*
 * no_libuv.c: the entry of `libuv` in a dgperf that was built without it. Only says so.
 */
#include <stdio.h>

#include "bench/harness/engine.h"

static int libuv_available(char *why, size_t room)
{
    snprintf(why, room, "libuv was not there when dgperf was built");
    return -1;
}

const struct engine engine_libuv = {
    .name = "libuv",
    .summary = "libuv (not built in)",
    .available = libuv_available,
};
