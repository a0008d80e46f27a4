/* SPDX-License-Identifier: MIT */
/*
 * libuv.h: several datagrams per call. Private to the libuv files. DGPERF_HAS_TRY_SEND2 is 1, and
 * meson compiles libuv_many.c, where libuv has uv_udp_try_send2() (1.50 and later).
 */
#ifndef DGPERF_LIBUV_H
#define DGPERF_LIBUV_H

#include <stdint.h>
#include <uv.h>

#define UV_MANY 64u /* datagrams per call */

/* Sends `count` datagrams of one buffer each. Returns how many went, or a libuv error. */
int libuv_send_many(uv_udp_t *handle, uint32_t count, uv_buf_t *buffers, struct sockaddr **peers);

#endif
