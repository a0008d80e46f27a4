/* SPDX-License-Identifier: MIT */
/*
 * deliver.h: from RECEIVED records to `message` events.
 *
 * Owns the taking apart of trains. The messages of an arrival point into its slot, which goes back
 * to the engine when the last one is done. Between any two messages the handler may have closed,
 * paused or changed the socket: `delivers` says so in one flag. The turn may be over, too
 * (backlog.h): then the rest of the arrival waits for the next one.
 */
#ifndef DGRAM_RECEIVE_DELIVER_H
#define DGRAM_RECEIVE_DELIVER_H

#include "src/receive/receiver.h"

struct completion;

/* The message handlers of a turn begin. `late`: the loop's clock is older than other callbacks of
 * this turn. */
void dg_deliver_begin(struct dgram_loop *loop, bool late);
/* The first of the records is the receiver's: delivers it, or it and some after it. Returns how
 * many records, and how many datagrams handlers got. */
uint32_t dg_deliver(struct receiver *receiver, const struct completion *records, uint32_t count,
                    uint64_t *ret_datagrams);
/* Delivers the backlog of the next receiver for a quantum. Returns how many datagrams; 0: there is
 * no backlog, or no time left. */
uint64_t dg_deliver_backlog(struct dgram_loop *loop);

#endif
