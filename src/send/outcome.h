/* SPDX-License-Identifier: MIT */
/*
 * outcome.h: what becomes of a train that was handed over.
 *
 *     taken                       done: callbacks, or nothing
 *     refused, two or more        again, one by one, at once and in order
 *     an ICMP error, perhaps old  again, once
 *     no room                     parked (park.h)
 *     failed                      callbacks, or `error` events
 *
 * Owns nothing. Order: the trains of a flow are a chain (`follows`) that stops at the first that is
 * not taken; those behind it are parked, or handed over again behind it.
 */
#ifndef DGRAM_SEND_OUTCOME_H
#define DGRAM_SEND_OUTCOME_H

#include "src/send/batch.h"

/* Ends one train. False when the flow is parked from here on. */
bool dg_train_settle(struct dgram_loop *loop, struct dg_train *train);

#endif
