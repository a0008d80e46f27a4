/* SPDX-License-Identifier: MIT */
/*
 * batch.h: the submission being built: datagrams grouped into trains by destination.
 *
 * Owns the flows, the trains and the order in which they go. It never submits and never looks at
 * results. Everything in it lives until the submission is settled, then dg_batch_reset() rewinds
 * the arena: sends never wait in the kernel, so nothing outlives a submit.
 */
#ifndef DGRAM_SEND_BATCH_H
#define DGRAM_SEND_BATCH_H

#include "src/send/train.h"

enum {
    BATCH_TRAINS = 128, /* in one submission; at 3.3 us for a lone datagram, 0.4 ms of sending */
    BATCH_FULL_TRAINS = 16,        /* submit after so many full trains, */
    BATCH_FULL_BYTES = 256 * 1024, /* or so many bytes in them, while they are in the cache, */
    BATCH_BYTES = 1024 * 1024,     /* or so much of arena and buffers is used: interleaved sends to
                                      many peers fill their trains late */
    /* The most that open lanes can hold before dg_batch_sync() charges it to the queues: an arena
     * of one-byte datagrams, each with its overhead. */
    BATCH_CHARGE_MAX = BATCH_BYTES + BATCH_TRAINS * SEGMENTS_LIMIT * QUEUE_OVERHEAD,
    /* Of a lane in a buffer: all flows may have one. */
    LANE_RUN_BYTES = BATCH_BYTES / BATCH_TRAINS,
    ARENA_BYTES = BATCH_BYTES + 2 * 65536 /* so there is always room for one more datagram */
};

/* One per loop, allocated with it. */
struct batch {
    struct flow flows[BATCH_TRAINS];
    struct dg_train trains[BATCH_TRAINS];
    struct train *order[BATCH_TRAINS];
    struct flow *buckets[BATCH_BUCKETS];
    uint32_t flow_count, train_count, full_trains, full_bytes;
    int code;              /* of the engine, while results are settled: 0, or why it failed */
    uint32_t in_buffers;   /* trains */
    uint32_t buffer_bytes; /* of theirs, and of what their lanes may take: beside the arena */
    struct arena arena;
};

int dg_batch_create(struct batch **ret_batch);
void dg_batch_free(struct batch *batch); /* NULL is accepted */
void dg_batch_reset(struct batch *batch);

/* The flow of a sender to a peer in this submission. There is always room for one. */
struct flow *dg_batch_flow(struct sender *sender, const union dg_peer *peer);
/* The same if there is one already, else NULL. */
struct flow *dg_batch_find(const struct sender *sender, const union dg_peer *peer);

/* Adds a datagram to the flow's last train, or to a new one. `request` may be NULL. Returns whether
 * the batch ought to be submitted before the next one. */
bool dg_batch_append(struct batch *batch, struct flow *flow, const struct payload *payload,
                     struct request *request);

/* Charges the datagrams that lanes took. */
void dg_batch_sync(struct batch *batch);

/* The queue of a sender, lanes included. */
struct queued {
    uint64_t bytes, count;
};
struct queued dg_batch_queued(const struct sender *sender);

/* Readies every train for the engine, trains of one flow next to each other; returns how many. Not
 * those that wait for a `listening`. */
size_t dg_batch_order(struct batch *batch);

#endif
