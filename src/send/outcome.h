/* SPDX-License-Identifier: MIT */
/*
 * outcome.h: the end of trains that were handed over.
 *
 *     taken                       done: callbacks, or nothing
 *     refused, two or more        again, one by one, at once and in order
 *     an ICMP error, perhaps old  again, once
 *     no room                     parked (park.h)
 *     a `listening` is to come    parked until then, without having been tried
 *     failed                      callbacks, or `error` events
 *
 * Owns nothing. Order: the trains of a flow are a chain (`follows`) that stops at the first that is
 * not taken; those behind it are parked, or handed over again behind it.
 */
#ifndef DGRAM_SEND_OUTCOME_H
#define DGRAM_SEND_OUTCOME_H

#include "src/send/batch.h"

/* Ends all trains of a flow, or parks it. */
void dg_flow_settle(struct dgram_loop *loop, struct flow *flow);

#endif
