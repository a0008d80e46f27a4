/* SPDX-License-Identifier: MIT */
/*
 * train.c: the submission being built: datagrams grouped into trains by destination.
 *
 * Owns the batch: flows, trains and the arena that payloads are copied to. It never submits and
 * never looks at results (send.c does). Everything in it lives until the submission is settled,
 * then dg_batch_reset() rewinds the arena: sends never wait in the kernel, so nothing outlives a
 * submit.
 *
 * The arena is handed to trains in chunks. The train that got the last chunk extends it in place,
 * so a run of datagrams to one peer is one vector; interleaved peers gather a few doubling chunks
 * each. Measured: a vector costs the kernel 28-32 ns, a copy 3 ns (64 B) to 25 ns (1400 B).
 */
#include <string.h>

#include "src/core.h"

/* Borrowed payloads from here on are gathered instead of copied: above the usual MTU a copy costs
 * more than a vector. */
enum { BORROW_BYTES = 2048 };

/* splitmix64 */
static uint64_t number_next(uint64_t *state)
{
    uint64_t number = *state += 0x9e3779b97f4a7c15u;
    number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9u;
    number = (number ^ (number >> 27)) * 0x94d049bb133111ebu;
    return number ^ (number >> 31);
}

int dg_batch_create(uint64_t random, struct batch **ret_batch)
{
    struct batch *batch = dg_allocate(sizeof(*batch));
    unsigned char *arena = dg_allocate(ARENA_BYTES);
    if (batch == NULL || arena == NULL) {
        dg_release(batch);
        dg_release(arena);
        return -ENOMEM;
    }
    batch->arena = batch->arena_top = arena;
    batch->arena_end = arena + ARENA_BYTES;
    for (size_t i = 0; i < sizeof(batch->secrets) / sizeof(batch->secrets[0]); i++) {
        batch->secrets[i] = number_next(&random) | 1;
    }
    *ret_batch = batch;
    return 0;
}

void dg_batch_free(struct batch *batch)
{
    if (batch != NULL) {
        dg_release(batch->arena);
        dg_release(batch);
    }
}

void dg_batch_reset(struct batch *batch)
{
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        batch->flows[i].socket->last_flow = NULL;
        *batch->flows[i].bucket = NULL;
    }
    batch->flow_count = batch->train_count = 0;
    batch->full_trains = batch->full_bytes = 0;
    batch->in_buffers = batch->buffer_bytes = 0;
    batch->arena_top = batch->arena;
}

uint32_t dg_peer_bucket(const struct batch *batch, const struct dgram_socket *socket,
                        const union dg_peer *peer)
{
    return dg_peer_hash(peer, (uintptr_t) socket, batch->secrets);
}

_Static_assert(BATCH_BUCKETS == 256, "dg_peer_hash() gives 8 bits");

static struct refusal *refusal_of(struct dgram_loop *loop, const union dg_peer *peer)
{
    return &loop->refusals[dg_peer_bucket(loop->batch, NULL, peer) % REFUSALS];
}

static uint32_t trains_below(struct dgram_loop *loop, const union dg_peer *peer)
{
    const struct refusal *refusal = refusal_of(loop, peer);
    bool known = refusal->until > loop->now && dg_peer_equal(&refusal->peer, peer);
    return known ? refusal->size : UINT32_MAX;
}

bool dg_batch_refused(struct dgram_loop *loop, const union dg_peer *peer, uint32_t size)
{
    struct refusal *refusal = refusal_of(loop, peer);
    uint32_t known = trains_below(loop, peer);
    refusal->peer = *peer;
    refusal->size = size < known ? size : known;
    refusal->until = loop->now + REFUSAL_NS;
    return size < known;
}

static struct flow *flow_open(struct dgram_loop *loop, struct dgram_socket *socket,
                              const union dg_peer *peer, struct flow **bucket)
{
    struct batch *batch = loop->batch;
    assert(batch->flow_count < BATCH_TRAINS);
    struct flow *flow = &batch->flows[batch->flow_count++];
    flow->lane_left = flow->lane_granted = flow->run_left = 0;
    flow->peer = *peer;
    flow->peer_size = socket->peer_size;
    flow->trains_below = socket->alone_until > loop->now ? 0 : trains_below(loop, peer);
    flow->socket = socket;
    flow->stall = NULL;
    flow->head = flow->tail = NULL;
    flow->bucket = bucket;
    flow->hash_next = *bucket;
    *bucket = flow;
    return flow;
}

static struct flow *bucket_find(struct flow *const *bucket, const struct dgram_socket *socket,
                                const union dg_peer *peer)
{
    struct flow *flow = *bucket;
    while (flow != NULL && (flow->socket != socket || !dg_peer_equal(&flow->peer, peer))) {
        flow = flow->hash_next;
    }
    return flow;
}

struct flow *dg_batch_find(const struct dgram_socket *socket, const union dg_peer *peer)
{
    const struct batch *batch = socket->loop->batch;
    return bucket_find(&batch->buckets[dg_peer_bucket(batch, socket, peer)], socket, peer);
}

struct flow *dg_batch_flow(struct dgram_loop *loop, struct dgram_socket *socket,
                           const union dg_peer *peer)
{
    struct flow *flow = socket->last_flow;
    if (flow != NULL && dg_peer_equal(&flow->peer, peer)) {
        return flow;
    }
    struct flow **bucket = &loop->batch->buckets[dg_peer_bucket(loop->batch, socket, peer)];
    flow = bucket_find(bucket, socket, peer);
    if (flow == NULL) {
        flow = flow_open(loop, socket, peer, bucket);
    }
    socket->last_flow = flow;
    return flow;
}

/* A whole number of datagrams, at least one. */
static uint32_t train_bytes_max(const struct flow *flow, uint32_t size)
{
    uint32_t count = size < flow->trains_below ? flow->socket->segments_max : 1;
    if (count * size > TRAIN_BYTES_MAX) {
        count = TRAIN_BYTES_MAX / size;
    }
    return count > 0 ? count * size : size;
}

static void train_open_in_buffer(struct dg_train *train, const struct payload *payload)
{
    struct region *region = &train->buffer->region;
    train->buffer->uses++;
    train->room = (unsigned char *) (uintptr_t) payload->data;
    train->room_end = (unsigned char *) region->memory + region->size;
    train->vectors[train->base.header.msg_iovlen++] = (struct iovec){train->room, 0};
}

static struct dg_train *train_open(struct batch *batch, struct flow *flow,
                                   const struct payload *payload)
{
    uint32_t size = payload->size;
    assert(batch->train_count < BATCH_TRAINS);
    struct dg_train *train = &batch->trains[batch->train_count++];
    train->base.endpoint = &flow->socket->endpoint;
    train->base.follows = flow->tail != NULL;
    train->base.result = 0;
    train->base.loan = 0;
    train->base.lent = false;
    train->base.header.msg_iovlen = 0;
    train->flow = flow;
    train->next = NULL;
    train->requests = (struct queue){0};
    train->segment = size;
    train->bytes = 0;
    train->count = 0;
    train->bytes_max = train_bytes_max(flow, size);
    train->full = false;
    train->retried = false;
    train->room = train->room_end = NULL;
    train->buffer = payload->buffer;
    if (train->buffer != NULL) {
        train_open_in_buffer(train, payload);
        batch->in_buffers++;
    }
    if (flow->tail != NULL) {
        flow->tail->next = train;
    } else {
        flow->head = train;
    }
    flow->tail = train;
    return train;
}

/* More arena for a train. Its chunk being the last one tells of a run to one peer: it is extended
 * in place to all that the train may hold. Else the train gets another chunk as large as all it
 * has. False if it may gather no further chunk. */
static bool train_make_room(struct batch *batch, struct dg_train *train, uint32_t size)
{
    uint32_t left = train->bytes_max > train->bytes ? train->bytes_max - train->bytes : size;
    if (train->room_end == batch->arena_top && train->room_end != NULL) {
        uint32_t more = left - (uint32_t) (train->room_end - train->room);
        assert(left >= size && more <= (size_t) (batch->arena_end - batch->arena_top));
        batch->arena_top += more;
        train->room_end += more;
        return true;
    }
    if (train->base.header.msg_iovlen == TRAIN_VECTORS) {
        return false;
    }
    uint32_t want = train->bytes == 0 ? CHUNK_BYTES : train->bytes;
    want = want > left ? left : want;
    want = want < size ? size : want;
    assert(want <= (size_t) (batch->arena_end - batch->arena_top));
    train->room = batch->arena_top;
    batch->arena_top += want;
    train->room_end = batch->arena_top;
    train->vectors[train->base.header.msg_iovlen++] = (struct iovec){train->room, 0};
    return true;
}

static bool train_borrow(struct dg_train *train, const void *data, uint32_t size)
{
    if (train->base.header.msg_iovlen == TRAIN_VECTORS) {
        return false;
    }
    train->vectors[train->base.header.msg_iovlen++] =
        (struct iovec){(void *) (uintptr_t) data, size};
    train->room = train->room_end = NULL; /* what is left of the chunk before it stays unused */
    return true;
}

static bool train_copy(struct batch *batch, struct dg_train *train, const void *data, uint32_t size)
{
    if (size > (size_t) (train->room_end - train->room) && !train_make_room(batch, train, size)) {
        return false;
    }
    if (size > 0) {
        assert(train->room != NULL && data != NULL);
        memcpy(train->room, data, size);
    }
    train->room += size;
    train->vectors[train->base.header.msg_iovlen - 1].iov_len += size;
    return true;
}

/* What lies in a buffer joins what lies just before it, and is not touched. */
static bool train_grow(struct dg_train *train, const void *data, uint32_t size)
{
    if (train->room != data) {
        return false;
    }
    assert(size <= (size_t) (train->room_end - train->room));
    train->room += size;
    train->vectors[0].iov_len += size;
    return true;
}

static bool train_take(struct batch *batch, struct dg_train *train, const struct payload *payload,
                       const struct request *request)
{
    const void *data = payload->data;
    uint32_t size = payload->size;
    if (train->buffer != NULL || payload->buffer != NULL) {
        return train->buffer == payload->buffer && train_grow(train, data, size);
    }
    if (request != NULL && request->data != NULL && size >= BORROW_BYTES) {
        return train_borrow(train, data, size);
    }
    if (train->base.header.msg_iovlen == 0 && !train_make_room(batch, train, size)) {
        return false;
    }
    return train_copy(batch, train, data, size);
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
    const struct dgram_socket *socket = flow->socket;
    uint64_t charge = socket->queue_bytes + QUEUE_OVERHEAD * socket->queue_count;
    if (train->full || charge + BATCH_CHARGE_MAX > socket->queue_limit ||
        socket->loop->queue_charge + BATCH_CHARGE_MAX > socket->loop->queue_limit) {
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
    socket->loop->batch->buffer_bytes += flow->lane_granted * train->segment;
}

void dg_flow_sync(struct flow *flow)
{
    uint32_t count = flow->lane_granted - flow->lane_left - flow->run_left;
    if (flow->run_left > 0) { /* what it may not take any more need not be submitted */
        flow->socket->loop->batch->buffer_bytes -= flow->run_left * flow->tail->segment;
    }
    flow->lane_granted = flow->lane_left = flow->run_left = 0;
    if (count == 0) {
        return;
    }
    struct dg_train *train = flow->tail;
    uint32_t bytes = count * train->segment;
    assert(flow->lane == train->room + bytes && flow->lane <= train->room_end);
    train->room = flow->lane;
    train->vectors[train->base.header.msg_iovlen - 1].iov_len += bytes;
    train->bytes += bytes;
    train->count = (uint16_t) (train->count + count);
    dg_queue_count(flow->socket, bytes, count);
}

void dg_batch_sync(struct batch *batch)
{
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        dg_flow_sync(&batch->flows[i]);
    }
}

bool dg_batch_append(struct batch *batch, struct flow *flow, const struct payload *payload,
                     struct request *request)
{
    uint32_t size = payload->size;
    dg_flow_sync(flow);
    struct dg_train *train = flow->tail;
    if (train == NULL || train->full || size > train->segment || size == 0 ||
        !train_take(batch, train, payload, request)) {
        train = train_open(batch, flow, payload);
        bool taken = train_take(batch, train, payload, request);
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
           (size_t) (batch->arena_top - batch->arena) + batch->buffer_bytes >= BATCH_BYTES;
}

void dg_train_ready(struct dg_train *train)
{
    struct msghdr *header = &train->base.header;
    header->msg_name = &train->flow->peer;
    header->msg_namelen = train->flow->peer_size;
    header->msg_iov = train->vectors;
    header->msg_flags = 0;
    header->msg_control = NULL;
    header->msg_controllen = 0;
    /* Only for two or more: with the message, even one short datagram is held against the MTU
     * (EMSGSIZE) instead of being fragmented. */
    if (train->count > 1) {
        header->msg_control = train->control;
        header->msg_controllen = (__typeof__(header->msg_controllen)) dg_cmsg_write_segment(
            train->control, sizeof(train->control), (uint16_t) train->segment);
    }
}

size_t dg_batch_order(struct dgram_loop *loop)
{
    struct batch *batch = loop->batch;
    size_t count = 0;
    dg_batch_sync(batch);
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        struct flow *flow = &batch->flows[i];
        if (dg_socket_announces(flow->socket)) {
            continue; /* settled without having been tried: it waits for its `listening` */
        }
        for (struct dg_train *train = flow->head; train != NULL; train = train->next) {
            dg_train_ready(train);
            if (train->buffer != NULL) {
                dg_train_lend(loop, train);
            }
            batch->order[count++] = &train->base;
        }
    }
    assert(count <= batch->train_count);
    return count;
}

void dg_train_copy(const struct dg_train *train, uint32_t offset, uint32_t size, void *target)
{
    unsigned char *out = target;
    size_t count = (size_t) train->base.header.msg_iovlen; /* an int on macOS, musl and the BSDs */
    for (size_t i = 0; i < count && size > 0; i++) {
        const struct iovec *vector = &train->vectors[i];
        if (offset >= vector->iov_len) {
            offset -= (uint32_t) vector->iov_len;
            continue;
        }
        uint32_t part = (uint32_t) vector->iov_len - offset;
        part = part > size ? size : part;
        memcpy(out, (const unsigned char *) vector->iov_base + offset, part);
        out += part;
        size -= part;
        offset = 0;
    }
    assert(size == 0);
}
