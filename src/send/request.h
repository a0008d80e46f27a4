/* SPDX-License-Identifier: MIT */
/*
 * request.h: datagrams that are remembered one by one: they have a callback, or wait for room.
 *
 * Owns the store of requests, which grows in slabs and keeps its high-water mark, and the list of
 * completions whose callbacks are due. It never submits.
 */
#ifndef DGRAM_SEND_REQUEST_H
#define DGRAM_SEND_REQUEST_H

#include "src/base/queue.h"
#include "src/send/ledger.h"

struct request {
    struct link link; /* first, so that the two convert */
    struct sender *sender;
    dgram_sent_fn *fn; /* NULL: failures become `error` events */
    void *user;
    const void *data; /* borrowed until fn has run, or this request's own; NULL: in the arena */
    uint32_t size;
    int32_t result;
    uint16_t index; /* which datagram of its train */
    bool heap;      /* allocated alone, payload behind the struct; else from the store */
    bool parked;    /* has waited for room, and is counted */
    uint8_t peer_size;
    uint16_t tries;     /* in vain, since the kernel had no memory for it (ENOBUFS), */
    uint32_t since;     /* and from when on: the loop's time in milliseconds */
    union dg_peer peer; /* set while parked */
};

/* A datagram that is to be sent. */
struct payload {
    const void *data;
    uint32_t size;
    bool borrowed;               /* the caller leaves it alone until its callback */
    struct dgram_buffer *buffer; /* it lies there, and is left alone until that is idle; or NULL */
};

/* The request of a datagram with a callback; NULL when memory ran out. */
struct request *dg_request_for(struct sender *sender, const struct payload *payload,
                               dgram_sent_fn *fn, void *user);
/* A request that owns its payload, of which the caller fills the bytes behind the struct. */
struct request *dg_request_with_room(struct sender *sender, uint32_t size, dgram_sent_fn *fn,
                                     void *user);
void dg_request_give(struct request *request);
/* Joins a queue of those that wait for room. */
void dg_request_park(struct queue *queue, struct request *request);
/* NULL: it is empty. */
static inline struct request *requests_pop(struct queue *queue)
{
    return (struct request *) queue_pop(queue);
}

/* The request's datagram has its result: its callback is due, or it is done. */
void dg_request_complete(struct request *request, int result);
/* Completes all of them with a code. */
void dg_requests_complete(struct queue *queue, int code);
/* Releases requests without completing them: in a forked child. */
void dg_requests_forget(struct queue *queue);

void dg_requests_open(struct outbox *outbox);
void dg_requests_close(struct outbox *outbox);

#endif
