/* SPDX-License-Identifier: MIT */
/*
 * sink.h: counts the datagrams that a receiver gets, and tells the sender how many there were.
 *
 * The usual case, the datagram that is expected next, is inline; sink.c has the others.
 */
#ifndef DGPERF_SINK_H
#define DGPERF_SINK_H

#include <stdatomic.h>

#include "bench/harness/numbers.h"
#include "bench/harness/plan.h"

#define CACHE_LINE 128 /* two lines: the prefetcher fetches pairs */

/* Both threads of a stream touch it all the time: so it is alone in its cache lines. */
struct credit {
    _Alignas(CACHE_LINE) _Atomic uint64_t counted; /* received, and known to be lost */
    _Alignas(CACHE_LINE) _Atomic uint64_t sent;    /* so far; for the live line */
    _Atomic uint64_t total;                        /* to be sent; UINT64_MAX: not known yet */
    _Atomic uint64_t missing;                      /* gaps so far; for the live line */
};

struct sink;

/* Takes the rare cases: a gap, disorder, a wrong size, another run. `data` may be read if `size` is
 * SIZE_LEAST or more. */
typedef void sink_odd_fn(struct sink *sink, uint32_t peer, const void *data, uint32_t size);

struct sink {
    struct credit *credit;
    sink_odd_fn *take_odd;
    void *user; /* for take_odd */
    const struct sizes *sizes;
    uint64_t counted;      /* received in order, and the gaps before them */
    uint64_t bytes;        /* payload received in order */
    uint64_t publish_mask; /* the sender learns of every n-th at once, of the rest after the turn */
    uint64_t window;
    uint64_t gaps;       /* numbers that were passed over */
    uint64_t disordered; /* came after a higher number: late, or a second time */
    uint64_t corrupt;    /* of a wrong size, or with a number that cannot have been sent */
    uint64_t expected[FANOUT_PEERS];
};

/* Counts a datagram whose number may have been sent: after a gap, late, or of a wrong size. */
void sink_place(struct sink *sink, uint32_t peer, uint64_t number, uint32_t size);

/* Counts a gap of `missing` numbers. */
void sink_skip(struct sink *sink, uint64_t missing);

/* Returns how many came, in order or not. */
uint64_t sink_received(const struct sink *sink);

static inline void sink_publish(struct sink *sink)
{
    atomic_store_explicit(&sink->credit->counted, sink->counted, memory_order_release);
}

/* Takes one datagram that came at receiving socket `peer`. */
static inline void sink_take(struct sink *sink, uint32_t peer, const void *data, uint32_t size)
{
    uint64_t expected = sink->expected[peer];

    if (__builtin_expect(size != sizes_of(sink->sizes, expected, peer), 0) ||
        __builtin_expect(number_read(data) != expected, 0)) {
        sink->take_odd(sink, peer, data, size);
        return;
    }
    sink->expected[peer] = expected + 1;
    sink->bytes += size;
    if ((++sink->counted & sink->publish_mask) == 0) {
        sink_publish(sink);
    }
}

#endif
