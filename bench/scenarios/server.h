/* SPDX-License-Identifier: MIT */
/*
 * server.h: the side that answers: `echo` and `ping`'s server send each datagram back, `respond`
 * sends the answer to the question in it.
 */
#ifndef DGPERF_SERVER_H
#define DGPERF_SERVER_H

#include "bench/harness/harness.h"

#define FLOOD_MARK (UINT64_C(1) << 63)

/* Makes the answer, of at most SERVER_ANSWER_MOST bytes. Returns its size, or 0: there is none. */
typedef uint32_t server_answer_fn(const void *question, uint32_t size, void *answer);

#define SERVER_ANSWER_MOST 512u

struct server {
    struct side side;
    server_answer_fn *answer; /* NULL: the datagram itself goes back */
    bool timed;               /* ends with the plan's time */
    bool flooded;             /* numbers with FLOOD_MARK do not go back */
    uint64_t received;
    uint64_t bytes;
    uint64_t senseless; /* datagrams to which there is no answer */
    uint64_t dropped;   /* replies for which there was no room */
    uint64_t last_ns;   /* from the start to the last turn that brought something */
    _Atomic uint64_t received_live;
    _Atomic uint64_t dropped_live;
};

/* Fills in a server on 127.0.0.1 and a free port, which runs until the crew stops, or for the
 * plan's time if `timed`. The caller may change the end before it starts. */
void server_init(struct server *server, struct crew *crew, const struct engine *engine, bool timed);

#endif
