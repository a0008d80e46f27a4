/* SPDX-License-Identifier: MIT */
/*
 * libuv.h: what depends on libuv's version. Private to the libuv files: meson compiles
 * libuv_many.c where uv_udp_try_send2() is there (libuv 1.50), else libuv_no_many.c.
 */
#ifndef DGPERF_LIBUV_H
#define DGPERF_LIBUV_H

#include <stdint.h>
#include <uv.h>

#define UV_MANY 64u /* datagrams per call */

/* How to send and how to receive, joined by a plus; ends with NULL. */
extern const char *const libuv_modes[];

/* Sends `count` datagrams of one buffer each. Returns how many went, or a libuv error. */
int libuv_send_many(uv_udp_t *handle, uint32_t count, uv_buf_t *buffers, struct sockaddr **peers);

#endif
