/* SPDX-License-Identifier: MIT */
/*
 * libuv_many.c: several datagrams per call, for a libuv that can (1.50 and later).
 */
#include <stddef.h>

#include "bench/engines/libuv.h"

int libuv_send_many(uv_udp_t *handle, uint32_t count, uv_buf_t *buffers, struct sockaddr **peers)
{
    uv_buf_t *lists[UV_MANY];
    unsigned lengths[UV_MANY];

    for (uint32_t i = 0; i < count; i++) {
        lists[i] = &buffers[i];
        lengths[i] = 1;
    }
    return uv_udp_try_send2(handle, count, lists, lengths, peers, 0);
}
