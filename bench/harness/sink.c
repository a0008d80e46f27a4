/* SPDX-License-Identifier: MIT */
/*
 * sink.c: counts datagrams that are not the expected one.
 *
 * Owns the counters' meaning. The scenario decides which numbers may come at all.
 */
#include "bench/harness/sink.h"

void sink_place(struct sink *sink, uint32_t peer, uint64_t number, uint32_t size)
{
    uint64_t expected = sink->expected[peer];

    if (size != sizes_of(sink->sizes, number, peer)) {
        sink->corrupt++;
    }
    if (number < expected) {
        sink->disordered++;
        return;
    }
    sink_skip(sink, number - expected);
    sink->counted++;
    sink->bytes += size;
    sink->expected[peer] = number + 1;
    sink_publish(sink);
}

void sink_skip(struct sink *sink, uint64_t missing)
{
    sink->gaps += missing;
    sink->counted += missing;
    atomic_store_explicit(&sink->credit->missing, sink->gaps, memory_order_relaxed);
}

uint64_t sink_received(const struct sink *sink)
{
    return sink->counted - sink->gaps + sink->disordered;
}
