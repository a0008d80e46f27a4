/* SPDX-License-Identifier: MIT */
/*
 * libuv_no_many.c: in place of libuv_many.c, for a libuv before 1.50.
 */
#include <stddef.h>

#include "bench/engines/libuv.h"

const char *const libuv_modes[] = {
    "try_send+recvmmsg", "try_send+recvmsg", "send+recvmmsg", "send+recvmsg", NULL,
};

int libuv_send_many(uv_udp_t *handle, uint32_t count, uv_buf_t *buffers, struct sockaddr **peers)
{
    (void) handle;
    (void) count;
    (void) buffers;
    (void) peers;
    return UV_ENOSYS;
}
