/* SPDX-License-Identifier: MIT */
/*
 * arrival.h: the content of one RECEIVED record, taken apart as messages are delivered, and an
 * arrival that waits for its socket.
 */
#ifndef DGRAM_RECEIVE_ARRIVAL_H
#define DGRAM_RECEIVE_ARRIVAL_H

#include <dgram.h>

#include "src/base/queue.h"

struct arrival {
    const unsigned char *data;
    uint32_t size;    /* bytes left */
    uint32_t segment; /* bytes of each datagram but the last; 0: one datagram, whatever its size */
    uint32_t real_size;
    bool truncated;
    const struct dgram_addr *from;
    void *owner; /* dgram_message.owner */
};

/* Owner of messages that lie in no slot: its lowest bit says so. */
#define DG_OWNER_COPIED ((void *) 1)

/* For backlog_item.slot: the arrival is a copy. */
#define DG_NO_SLOT UINT32_MAX

/* An arrival, or its rest, that waits for its socket: in its slot, of which each has one of these,
 * because the turn was over; or copied away, because the socket was paused. */
struct backlog_item {
    struct link link; /* first, so that the two convert */
    struct arrival arrival;
    uint32_t slot;
};

/* Datagrams that are left. */
static inline uint64_t arrival_count(const struct arrival *arrival)
{
    if (arrival->segment == 0 || arrival->size == 0) {
        return 1;
    }
    return (arrival->size + arrival->segment - 1) / arrival->segment;
}

#endif
