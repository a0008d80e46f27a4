/* SPDX-License-Identifier: MIT */
/*
 * pool.h: the receive slots of a loop, and messages that a program retains.
 *
 * Owns one mapping, made with the loop. A loop that only sends never touches it.
 *
 * Life of a slot: the engine's (free) - taken by the core with a RECEIVED record - free again when
 * all of it was delivered, in this dispatch as a rule. Retained messages pin it until the last of
 * them is released, on any thread. Released slots wait in a list for the loop, which gives them
 * back to the engine with its next turn. The loop need not be woken for that, because at most a
 * quarter of the slots can be pinned. The pool outlives its loop while messages are retained.
 */
#ifndef DGRAM_RECEIVE_POOL_H
#define DGRAM_RECEIVE_POOL_H

#include "src/backend.h"
#include "src/receive/arrival.h"

struct pool;

int dg_pool_create(uint32_t slots, uint32_t slot_size, struct pool **ret_pool);
/* The loop ends. The memory goes when the last retained message is released. NULL is accepted. */
void dg_pool_abandon(struct pool *pool);

const struct slots *dg_pool_slots(const struct pool *pool);
bool dg_pool_contains(const struct pool *pool, const void *data);
uint32_t dg_pool_free_count(const struct pool *pool);

/* The core got a slot from the engine. Returns the owner to put into messages, and where to keep
 * the sender's address. */
void *dg_pool_take(struct pool *pool, uint32_t slot, struct dgram_addr **ret_from);
/* The dispatch is done with a slot. True if it is free now, false if a message of it is retained.
 * */
bool dg_pool_done(struct pool *pool, uint32_t slot);
/* Where the rest of an arrival is noted while it waits in its slot. */
struct backlog_item *dg_pool_backlog_item(struct pool *pool, uint32_t slot);
/* The next slot whose last retained message was released since; false if there is none. */
bool dg_pool_returned(struct pool *pool, uint32_t *ret_slot);

#endif
