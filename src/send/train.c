/* SPDX-License-Identifier: MIT */
/* train.c: see train.h. */
#include "src/send/train.h"

#include <assert.h>
#include <string.h>

#include "src/base/queue.h"
#include "src/send/buffer.h"

/* Borrowed payloads from here on are gathered instead of copied: above the usual MTU a copy costs
 * more than a vector. */
enum { BORROW_BYTES = 2048 };
/* The first arena chunk of a train. */
enum { CHUNK_BYTES = 1024 };

/* A whole number of datagrams, at least one. */
static uint32_t train_bytes_max(const struct flow *flow, uint32_t size)
{
    uint32_t count = size < flow->trains_below ? flow->sender->segments_max : 1;
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

void dg_train_open(struct dg_train *train, struct flow *flow, const struct payload *payload)
{
    uint32_t size = payload->size;
    train->base.endpoint = flow->sender->endpoint;
    train->base.follows = !queue_is_empty(&flow->trains);
    train->base.result = 0;
    train->base.loan = 0;
    train->base.kept = false;
    train->base.header.msg_iovlen = 0;
    train->flow = flow;
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
    }
    queue_append(&flow->trains, &train->link);
}

/* More arena for a train. Its chunk being the last one tells of a run to one peer: it is extended
 * in place to all that the train may hold. Else the train gets another chunk as large as all it
 * has. False if it may gather no further chunk. */
static bool train_make_room(struct arena *arena, struct dg_train *train, uint32_t size)
{
    uint32_t left = train->bytes_max > train->bytes ? train->bytes_max - train->bytes : size;
    if (train->room_end == arena->top && train->room_end != NULL) {
        uint32_t more = left - (uint32_t) (train->room_end - train->room);
        assert(left >= size && more <= (size_t) (arena->end - arena->top));
        arena->top += more;
        train->room_end += more;
        return true;
    }
    if (train->base.header.msg_iovlen == TRAIN_VECTORS) {
        return false;
    }
    uint32_t want = train->bytes == 0 ? CHUNK_BYTES : train->bytes;
    want = want > left ? left : want;
    want = want < size ? size : want;
    assert(want <= (size_t) (arena->end - arena->top));
    train->room = arena->top;
    arena->top += want;
    train->room_end = arena->top;
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
    train->room = train->room_end = NULL; /* the rest of the chunk before it stays unused */
    return true;
}

static bool train_copy(struct arena *arena, struct dg_train *train, const void *data, uint32_t size)
{
    if (size > (size_t) (train->room_end - train->room) && !train_make_room(arena, train, size)) {
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

/* A datagram in a buffer joins the one that lies just before it, and is not touched. */
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

bool dg_train_take(struct arena *arena, struct dg_train *train, const struct payload *payload,
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
    if (train->base.header.msg_iovlen == 0 && !train_make_room(arena, train, size)) {
        return false;
    }
    return train_copy(arena, train, data, size);
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

/* ---- Datagrams ----------------------------------------------------------------------------- */

uint32_t dg_train_datagram_size(const struct dg_train *train, uint32_t index)
{
    uint32_t offset = index * train->segment;
    uint32_t left = train->bytes - offset;
    return left < train->segment ? left : train->segment;
}

/* Chunks are never split inside a datagram. */
struct iovec dg_train_datagram(const struct dg_train *train, uint32_t index)
{
    size_t offset = (size_t) index * train->segment, i = 0;
    while (offset > 0 && offset >= train->vectors[i].iov_len) {
        offset -= train->vectors[i++].iov_len;
    }
    return (struct iovec){(unsigned char *) train->vectors[i].iov_base + offset,
                          dg_train_datagram_size(train, index)};
}

struct request *dg_train_request(const struct dg_train *train, uint32_t index)
{
    struct request *request = (struct request *) queue_first(&train->requests);
    return request != NULL && request->index == index ? request : NULL;
}

struct request *dg_train_pop_request(struct dg_train *train, uint32_t index)
{
    return dg_train_request(train, index) != NULL ? requests_pop(&train->requests) : NULL;
}
