/* SPDX-License-Identifier: MIT */
/*
 * park.h: datagrams that wait for room.
 *
 * Owns the rules of waiting: the sender's socket buffer is full and all wait (EAGAIN); or the
 * destination's way is (ENOBUFS), and those to it wait in its stall. It submits nothing (retry.c).
 */
#ifndef DGRAM_SEND_PARK_H
#define DGRAM_SEND_PARK_H

#include "src/send/stall.h"
#include "src/send/train.h"

/* The sender's parked datagrams are tried again in a millisecond. */
void dg_park_retry_soon(struct sender *sender);

/* From this datagram of the chain on: it was refused for want of room, those behind it were not
 * tried. */
void dg_park_flow(struct dg_train *train, uint32_t from, int reason);
/* All of the chain, which was not tried. */
void dg_park_chain(struct dg_train *train);
/* Datagrams that could not leave go back before those that were still waiting behind them. */
void dg_park_rejoin(struct flow *flow);

/* The datagram was tried in vain a thousand times, and for a second at least: it will never fit. Or
 * the sender has made a thousand retries and nothing has left. */
bool dg_park_is_hopeless(const struct dg_train *train, uint32_t index);

/* Datagrams of the flow fail: an `error` event for each. */
void dg_datagrams_failed(const struct flow *flow, int code, uint32_t count);
/* One datagram of a train ends: the one with `request`, or a plain one. */
void dg_datagram_complete(const struct dg_train *train, struct request *request, uint32_t size,
                          int result);

#endif
