/* SPDX-License-Identifier: MIT */
/* batch.c: see batch.h. */
#include "src/send/batch.h"

#include <assert.h>
#include <errno.h>

#include "src/base/memory.h"
#include "src/base/queue.h"
#include "src/send/path.h"

int dg_batch_create(struct batch **ret_batch)
{
    struct batch *batch = dg_allocate(sizeof(*batch));
    unsigned char *arena = dg_allocate(ARENA_BYTES);
    if (batch == NULL || arena == NULL) {
        dg_release(batch);
        dg_release(arena);
        return -ENOMEM;
    }
    batch->arena = (struct arena){arena, arena, arena + ARENA_BYTES};
    *ret_batch = batch;
    return 0;
}

void dg_batch_free(struct batch *batch)
{
    if (batch != NULL) {
        dg_release(batch->arena.start);
        dg_release(batch);
    }
}

void dg_batch_reset(struct batch *batch)
{
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        batch->flows[i].sender->last_flow = NULL;
        *batch->flows[i].bucket = NULL;
    }
    batch->flow_count = batch->train_count = 0;
    batch->full_trains = batch->full_bytes = 0;
    batch->in_buffers = batch->buffer_bytes = 0;
    batch->arena.top = batch->arena.start;
}

static struct flow *flow_open(struct sender *sender, const union dg_peer *peer,
                              struct flow **bucket)
{
    const struct dgram_loop *loop = sender->loop;
    struct batch *batch = loop->outbox->batch;
    assert(batch->flow_count < BATCH_TRAINS);
    struct flow *flow = &batch->flows[batch->flow_count++];
    flow->lane_left = flow->lane_granted = flow->run_left = 0;
    flow->peer = *peer;
    flow->peer_size = sender->peer_size;
    flow->trains_below = sender->alone_until > loop->now ? 0 : dg_path_trains_below(loop, peer);
    flow->sender = sender;
    flow->stall = NULL;
    flow->trains = (struct queue){0};
    flow->bucket = bucket;
    flow->hash_next = *bucket;
    *bucket = flow;
    return flow;
}

static struct flow *bucket_find(struct flow *const *bucket, const struct sender *sender,
                                const union dg_peer *peer)
{
    struct flow *flow = *bucket;
    while (flow != NULL && (flow->sender != sender || !dg_peer_equal(&flow->peer, peer))) {
        flow = flow->hash_next;
    }
    return flow;
}

struct flow *dg_batch_find(const struct sender *sender, const union dg_peer *peer)
{
    const struct batch *batch = sender->loop->outbox->batch;
    return bucket_find(&batch->buckets[dg_path_hash(sender->loop, (uintptr_t) sender, peer)],
                       sender, peer);
}

struct flow *dg_batch_flow(struct sender *sender, const union dg_peer *peer)
{
    struct flow *flow = sender->last_flow;
    if (flow != NULL && dg_peer_equal(&flow->peer, peer)) {
        return flow;
    }
    struct flow **bucket =
        &sender->loop->outbox->batch->buckets[dg_path_hash(sender->loop, (uintptr_t) sender, peer)];
    flow = bucket_find(bucket, sender, peer);
    if (flow == NULL) {
        flow = flow_open(sender, peer, bucket);
    }
    sender->last_flow = flow;
    return flow;
}

struct queued dg_batch_queued(const struct sender *sender)
{
    dg_batch_sync(sender->loop->outbox->batch);
    return (struct queued){sender->queue_bytes, sender->queue_count};
}

static void train_ask(struct dg_train *train, struct request *request)
{
    request->index = train->count;
    queue_append(&train->requests, &request->link);
}

/* A shorter one must be the last, and an empty one cannot be a segment: it travels alone. */
static void train_close_if_full(struct batch *batch, struct dg_train *train, uint32_t size)
{
    if (size < train->segment || size == 0) {
        train->full = true;
    } else if (train->bytes >= train->bytes_max) {
        train->full = true;
        batch->full_trains += train->count > 1;
        batch->full_bytes += train->bytes;
    }
}

/* Opens the lane of a flow as wide as its last train has room, less one: the datagram that fills
 * the train comes the slow way, which closes it. No lane while a queue limit is near. */
static void lane_open(struct flow *flow, const struct dg_train *train)
{
    const struct sender *sender = flow->sender;
    if (train->full || ledger_charge(sender) + BATCH_CHARGE_MAX > sender->queue_limit ||
        sender->loop->outbox->queue_charge + BATCH_CHARGE_MAX > sender->loop->outbox->queue_limit) {
        return;
    }
    uint32_t room = (uint32_t) (train->room_end - train->room) / train->segment;
    uint32_t places = (train->bytes_max - train->bytes) / train->segment - 1;
    flow->lane = train->room;
    flow->lane_size = train->segment;
    flow->lane_granted = room < places ? room : places;
    if (train->buffer == NULL) {
        flow->lane_left = flow->lane_granted;
        return;
    }
    uint32_t most = LANE_RUN_BYTES / train->segment;
    flow->run_left = flow->lane_granted = flow->lane_granted < most ? flow->lane_granted : most;
    sender->loop->outbox->batch->buffer_bytes += flow->lane_granted * train->segment;
}

static void flow_sync(struct flow *flow)
{
    uint32_t count = flow->lane_granted - flow->lane_left - flow->run_left;
    if (flow->run_left > 0) { /* places that it loses need not be submitted */
        flow->sender->loop->outbox->batch->buffer_bytes -=
            flow->run_left * flow_last(flow)->segment;
    }
    flow->lane_granted = flow->lane_left = flow->run_left = 0;
    if (count == 0) {
        return;
    }
    struct dg_train *train = flow_last(flow);
    uint32_t bytes = count * train->segment;
    assert(flow->lane == train->room + bytes && flow->lane <= train->room_end);
    train->room = flow->lane;
    train->vectors[train->base.header.msg_iovlen - 1].iov_len += bytes;
    train->bytes += bytes;
    train->count = (uint16_t) (train->count + count);
    ledger_add(flow->sender, bytes, count);
}

void dg_batch_sync(struct batch *batch)
{
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        flow_sync(&batch->flows[i]);
    }
}

static struct dg_train *train_begin(struct batch *batch, struct flow *flow,
                                    const struct payload *payload)
{
    assert(batch->train_count < BATCH_TRAINS);
    struct dg_train *train = &batch->trains[batch->train_count++];
    dg_train_open(train, flow, payload);
    batch->in_buffers += train->buffer != NULL;
    return train;
}

bool dg_batch_append(struct batch *batch, struct flow *flow, const struct payload *payload,
                     struct request *request)
{
    uint32_t size = payload->size;
    flow_sync(flow);
    struct dg_train *train = train_of(flow->trains.last);
    if (train == NULL || train->full || size > train->segment || size == 0 ||
        !dg_train_take(&batch->arena, train, payload, request)) {
        train = train_begin(batch, flow, payload);
        bool taken = dg_train_take(&batch->arena, train, payload, request);
        assert(taken); /* ARENA_BYTES leaves room for any datagram after the flush limit */
        (void) taken;
    }
    if (request != NULL) {
        train_ask(train, request);
    }
    train->count++;
    train->bytes += size;
    batch->buffer_bytes += train->buffer != NULL ? size : 0;
    train_close_if_full(batch, train, size);
    lane_open(flow, train);
    return batch->train_count == BATCH_TRAINS || batch->full_trains >= BATCH_FULL_TRAINS ||
           batch->full_bytes >= BATCH_FULL_BYTES ||
           (size_t) (batch->arena.top - batch->arena.start) + batch->buffer_bytes >= BATCH_BYTES;
}

size_t dg_batch_order(struct batch *batch)
{
    size_t count = 0;
    dg_batch_sync(batch);
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        struct flow *flow = &batch->flows[i];
        if (flow->sender->announces) {
            continue; /* settled without having been tried: it waits for its `listening` */
        }
        for (struct dg_train *train = flow_first(flow); train != NULL; train = train_after(train)) {
            dg_train_ready(train);
            batch->order[count++] = &train->base;
        }
    }
    assert(count <= batch->train_count);
    return count;
}
