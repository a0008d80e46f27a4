/* SPDX-License-Identifier: MIT */
/*
 * cmsg.h: the only reader and writer of control messages, cmsg(3), udp(7).
 *
 * Keeps no state. Engines pass control bytes across raw.
 */
#ifndef DGRAM_NET_CMSG_H
#define DGRAM_NET_CMSG_H

#include <stddef.h>
#include <stdint.h>

#include "src/system.h"

/* Switches UDP_GRO on: the bytes of control that received trains need, 0 where there is none. */
uint32_t dg_cmsg_ask_for_segments(const struct dg_system *system, int fd);
/* The segment size of a GRO train, 0 if this is one datagram. */
uint32_t dg_cmsg_segment(const void *control, size_t size);
/* Writes the UDP_SEGMENT message into a train's control buffer; returns its length. */
size_t dg_cmsg_write_segment(void *control, size_t size, uint16_t segment);

#endif
