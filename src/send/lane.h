/* SPDX-License-Identifier: MIT */
/*
 * lane.h: the fast way into the last train of a flow: a copy, and two counters.
 *
 * Owns nothing and knows no sockets. Its functions are inlined into the only file that includes
 * it, or kept out of line there on purpose.
 */
#ifndef DGRAM_SEND_LANE_H
#define DGRAM_SEND_LANE_H

#include <assert.h>
#include <string.h>

#include "src/send/batch.h"
#include "src/send/buffer.h"

/* A block that the compiler neither merges with its neighbours nor makes a call of. */
typedef struct {
    uint64_t first, second;
} block;

/* Up to LANE_INLINE_MAX bytes the call of a function shows; above LANE_BLOCKS_MAX, memcpy's wider
 * vectors win. */
#define BLOCK sizeof(block)
#define LANE_INLINE_MAX (4 * BLOCK)
#define LANE_BLOCKS_MAX (16 * BLOCK)

static inline void block_copy(unsigned char *target, const unsigned char *source)
{
    block b;
    memcpy(&b, source, sizeof(b));
    memcpy(target, &b, sizeof(b));
}

/*
 * Copies a payload whose first 16 bytes were written a moment ago, as a program does that numbers
 * or stamps its datagrams. A vector load has to wait for bytes that are still in the store buffer
 * in narrower pieces (measured: 12 % of both sides' time at 64 B). Words do not wait. The rest goes
 * in blocks, of which the last may overlap the one before. Without the call of memcpy a datagram of
 * 64 B costs the sender 24.3 instead of 25.2 ns, the kernel's 17 included; and 1 ns less than that
 * with the four of 64 B in a row instead of in a loop.
 */
static inline void fresh_copy(unsigned char *target, const unsigned char *source)
{
    uint64_t first, second;
    memcpy(&first, source, sizeof(first));
    memcpy(&second, source + sizeof(first), sizeof(second));
    __asm__("" : "+r"(first), "+r"(second)); /* or the compiler makes one vector of them */
    memcpy(target, &first, sizeof(first));
    memcpy(target + sizeof(first), &second, sizeof(second));
}

static inline int lane_advance(struct flow *flow, size_t size)
{
    flow->lane += size;
    flow->lane_left--;
    return 0;
}

/* One to four blocks. */
static inline int lane_copy(struct flow *flow, const unsigned char *data, size_t size)
{
    assert(size >= BLOCK && size <= LANE_INLINE_MAX);
    unsigned char *lane = flow->lane;
    size_t last = size - BLOCK;
    fresh_copy(lane, data);
    if (size > 2 * BLOCK) {
        block_copy(lane + BLOCK, data + BLOCK);
        block_copy(lane + last - BLOCK, data + last - BLOCK);
    }
    block_copy(lane + last, data + last);
    return lane_advance(flow, size);
}

static inline void pair_copy(unsigned char *target, const unsigned char *source)
{
    block_copy(target, source);
    block_copy(target + BLOCK, source + BLOCK);
}

/* Five to sixteen blocks. Not inlined, nor is the next, so that short datagrams save no registers
 * for them. */
__attribute__((noinline)) static int lane_blocks(struct flow *flow, const unsigned char *data,
                                                 size_t size)
{
    assert(size > LANE_INLINE_MAX && size <= LANE_BLOCKS_MAX);
    unsigned char *lane = flow->lane;
    size_t last = size - 2 * BLOCK;
    fresh_copy(lane, data);
    for (size_t at = BLOCK; at < last; at += 2 * BLOCK) {
        pair_copy(lane + at, data + at);
        __asm__("" ::: "memory"); /* or the compiler calls memcpy */
    }
    pair_copy(lane + last, data + last);
    return lane_advance(flow, size);
}

/*
 * Asks for the cache lines that the next datagram will be copied to. The arena has left the
 * first-level cache since its last use, and a copy's stores would wait for them one after the
 * other. At 512 B the sender takes 66 ns a datagram without this and 61 with it, at 1,200 B in slow
 * memory 211 and 170. Up to LANE_BLOCKS_MAX the processor is quick enough by itself, above 2 KiB
 * the copy.
 */
static inline void lane_prefetch(const struct flow *flow, size_t size)
{
    enum { LINE = 64, PREFETCH_MAX = 2048, FOR_WRITING = 1 };
    for (size_t at = LINE; at <= size && size <= PREFETCH_MAX; at += LINE) {
        __builtin_prefetch(flow->lane + at, FOR_WRITING);
    }
}

/* Of all other sizes. `runs`: the next one is likely to be for this peer, too. */
__attribute__((noinline)) static int lane_call(struct flow *flow, const unsigned char *data,
                                               size_t size, bool runs)
{
    size_t fresh = size > BLOCK ? BLOCK : 0;
    if (fresh > 0) {
        fresh_copy(flow->lane, data);
    }
    memcpy(flow->lane + fresh, data + fresh, size - fresh);
    lane_advance(flow, size);
    if (runs) {
        lane_prefetch(flow, size);
    }
    return 0;
}

static inline int lane_take(struct flow *flow, const unsigned char *data, size_t size, bool runs)
{
    if (size - BLOCK <= LANE_INLINE_MAX - BLOCK) { /* and no smaller than a block */
        return lane_copy(flow, data, size);
    }
    return size - BLOCK <= LANE_BLOCKS_MAX - BLOCK ? lane_blocks(flow, data, size)
                                                   : lane_call(flow, data, size, runs);
}

static inline bool flow_is_to(const struct flow *flow, const struct dgram_addr *address)
{
    uint64_t one, two;
    memcpy(&one, &flow->peer, sizeof(one));
    memcpy(&two, &address->u, sizeof(two));
    if (one != two || address->size < flow->peer_size) {
        return false;
    }
    return flow->peer_size == sizeof(struct sockaddr_in) ||
           memcmp(&flow->peer.in6, &address->u.in6, sizeof(address->u.in6)) == 0;
}

/* The flow of the last send in this submission, or NULL. */
static inline struct flow *lane_last(const struct sender *sender)
{
    return sender->last_flow;
}

/* The flow to another peer than the last one's, or NULL: interleaved sends. */
static inline struct flow *lane_find(const struct sender *sender, const struct dgram_addr *address)
{
    return address->size >= sender->peer_size
               ? dg_batch_find(sender, (const union dg_peer *) &address->u)
               : NULL;
}

/* The next datagram is likely to be for this peer, too. */
static inline void lane_remember(struct sender *sender, struct flow *flow)
{
    sender->last_flow = flow;
}

/* The lane of what lies in a buffer already: nothing is left to do but to count. */
static inline bool run_advance(struct flow *flow, const struct dgram_buffer *buffer, size_t offset,
                               size_t size)
{
    if (flow->run_left == 0 || size != flow->lane_size || buffer != flow_last(flow)->buffer ||
        offset != (size_t) (flow->lane - (unsigned char *) buffer->region.memory)) {
        return false;
    }
    flow->lane += size;
    flow->run_left--;
    return true;
}

#endif
