/* SPDX-License-Identifier: MIT */
/*
 * arrivals.h: the sending side of `collect`: many plain sockets, one datagram at a time.
 *
 * Owns when a datagram is due. The sending side is the same for every engine under test: each
 * datagram is one sendto(2) of its own, as of programs that report something now and then.
 */
#ifndef DGPERF_ARRIVALS_H
#define DGPERF_ARRIVALS_H

#include "bench/harness/harness.h"

struct arrivals {
    struct side side;
    const struct dgram_addr *to;
    struct credit *credit; /* learns `sent`, and `total` when it is over */
    uint64_t sent;
    uint64_t sent_ns; /* from the start to the last */
    uint64_t waited_ns;
    uint64_t lot; /* of the generator */
    double due;   /* nanoseconds from the start: when the next is to be sent */
};

/* The plan has the rate and the number of sockets. `to` is read when the side starts. */
void arrivals_init(struct arrivals *arrivals, struct crew *crew, const struct dgram_addr *to,
                   struct credit *credit);

#endif
