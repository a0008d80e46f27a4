/* SPDX-License-Identifier: MIT */
/*
 * wait.h: how a turn waits.
 *
 * Owns the choice between sleeping, spinning and gathering (a sleep that lasts whatever comes, so
 * that one wake-up serves several datagrams), and the figures from which it chooses. It calls
 * nobody back: turn.c dispatches the records.
 */
#ifndef DGRAM_LOOP_WAIT_H
#define DGRAM_LOOP_WAIT_H

#include "src/core/core.h"

struct completion;

bool dg_wait_options_are_good(const struct dgram_loop_options *options);
int dg_wait_open(struct dgram_loop *loop, const struct dgram_loop_options *options);
void dg_wait_close(struct dgram_loop *loop);

/* How long the turn may sleep: not at all if there is work, else until the first deadline. */
int64_t dg_wait_patience(struct dgram_loop *loop, int64_t timeout_ns);
/* Submits, and waits that long at most for something to happen: 0, or the error of a broken engine.
 * The loop's clock tells then when it ended.
 * `limited`: by the program; the wait then lasts as long unless something happens. */
int dg_wait(struct dgram_loop *loop, int64_t patience, bool limited);
/* The last wait found its datagrams by spinning: a peer waits for the reply. */
bool dg_wait_found(const struct dgram_loop *loop);
/* These RECEIVED records were delivered, as so many datagrams. */
void dg_wait_received(struct dgram_loop *loop, const struct completion *records, uint32_t count,
                      uint64_t datagrams);

#endif
