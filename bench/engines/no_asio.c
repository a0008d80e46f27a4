/* SPDX-License-Identifier: MIT */
/*
 * no_asio.c: the entry of `asio` in a dgperf that was built without it. Only says so.
 */
#include <stdio.h>

#include "bench/harness/engine.h"

static int asio_available(char *why, size_t room)
{
    snprintf(why, room, "asio or a C++ compiler was not there when dgperf was built");
    return -1;
}

const struct engine engine_asio = {
    .name = "asio",
    .summary = "asio (not built in)",
    .available = asio_available,
};
