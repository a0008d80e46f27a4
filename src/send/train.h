/* SPDX-License-Identifier: MIT */
/*
 * train.h: one train of one flow, and the arena that payloads are copied to.
 *
 * Owns the vectors of a train. It knows no other trains, never submits and never looks at results.
 *
 * The arena is handed to trains in chunks. The train that got the last chunk extends it in place,
 * so a run of datagrams to one peer is one vector; interleaved peers gather a few doubling chunks
 * each. Measured: a vector costs the kernel 28-32 ns, a copy 3 ns (64 B) to 25 ns (1400 B).
 */
#ifndef DGRAM_SEND_TRAIN_H
#define DGRAM_SEND_TRAIN_H

#include "src/backend.h"
#include "src/base/list.h"
#include "src/base/queue.h"
#include "src/net/cmsg.h"
#include "src/send/request.h"

/*
 * One destination of one sender within a submission. Its *lane* is the fast way into its last
 * train. So many more datagrams of exactly this size and without a callback may simply be copied to
 * `lane`. dg_batch_sync() charges them later.
 */
struct flow {
    unsigned char *lane;
    uint32_t lane_size, lane_left, lane_granted;
    uint32_t run_left; /* the same where `lane` points into a buffer of the program: further
                          datagrams that lie there already. One of the two is 0 */
    union dg_peer peer;
    socklen_t peer_size;
    uint32_t trains_below; /* datagrams of this size and more travel alone: see path.h */
    struct sender *sender;
    struct stall *stall; /* its stall, where datagrams wait for room, or NULL */
    struct flow **bucket, *hash_next;
    struct queue trains;
};

/* Chunks of arena, or borrowed payloads, that one train gathers. Arena chunks double, so 8 reach
 * from 1 KiB to a full train. */
enum { TRAIN_VECTORS = 8 };

/* Datagrams of one flow and one size, of which the last may be shorter. */
struct dg_train {
    struct train base; /* the engine's part; first, so that the two convert */
    struct flow *flow;
    struct link link;      /* in the flow's trains */
    struct queue requests; /* by rising index */
    uint32_t segment;      /* size of the first datagram */
    uint32_t bytes;
    uint32_t bytes_max;
    uint16_t count; /* datagrams */
    bool full;      /* takes no more */
    bool retried;   /* after a pending ICMP error */
    unsigned char *room,
        *room_end;               /* free arena behind the last payload, or the rest of `buffer` */
    struct dgram_buffer *buffer; /* all of the train lies there, in one vector; NULL: elsewhere */
    struct iovec vectors[TRAIN_VECTORS];
    _Alignas(size_t) unsigned char control[CMSG_SPACE(sizeof(uint16_t))];
};

static inline struct dg_train *train_of(const struct link *link)
{
    return link != NULL ? owner_of(link, struct dg_train, link) : NULL;
}

/* The flow's first train, and the one behind another; NULL: there is none. */
static inline struct dg_train *flow_first(const struct flow *flow)
{
    return train_of(queue_first(&flow->trains));
}

static inline struct dg_train *train_after(const struct dg_train *train)
{
    return train_of(queue_after(&train->flow->trains, &train->link));
}

/* The last train of a flow that has one. */
static inline struct dg_train *flow_last(const struct flow *flow)
{
    return owner_of(flow->trains.last, struct dg_train, link);
}

/* Where payloads are copied to until the submission is settled. */
struct arena {
    unsigned char *start, *top, *end;
};

/* Makes an empty train for a first datagram, as the last one of its flow. */
void dg_train_open(struct dg_train *train, struct flow *flow, const struct payload *payload);
/* Takes the datagram's bytes; false if the train may gather no further chunk. */
bool dg_train_take(struct arena *arena, struct dg_train *train, const struct payload *payload,
                   const struct request *request);
/* Fills in the engine's part. */
void dg_train_ready(struct dg_train *train);

/* Datagram `index`: its size; its payload, which lies in one vector; a copy of it. */
uint32_t dg_train_datagram_size(const struct dg_train *train, uint32_t index);
struct iovec dg_train_datagram(const struct dg_train *train, uint32_t index);

/* The request of datagram `index`, which must be the first datagram left; NULL if it has none. The
 * second takes it out. */
struct request *dg_train_request(const struct dg_train *train, uint32_t index);
struct request *dg_train_pop_request(struct dg_train *train, uint32_t index);

#endif
