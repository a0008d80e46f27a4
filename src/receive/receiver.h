/* SPDX-License-Identifier: MIT */
/*
 * receiver.h: the receiving half of a socket: when it receives, and who starves for slots.
 *
 * Owns the decision: a receiver that is bound and not paused, has a handler and an empty backlog
 * receives while slots are free. It delivers nothing (deliver.h), and knows the socket only as the
 * handle that callbacks get.
 */
#ifndef DGRAM_RECEIVE_RECEIVER_H
#define DGRAM_RECEIVE_RECEIVER_H

#include <dgram.h>

#include "src/base/list.h"
#include "src/base/queue.h"
#include "src/core/agenda.h"
#include "src/core/core.h"

enum receive_state {
    RECEIVE_OFF,
    RECEIVE_ON,
    RECEIVE_STOPPING, /* recv_stop() was called, STOPPED has not come */
    RECEIVE_STARVED,  /* no slot was free; in one of the inlet's lists of the starved */
    RECEIVE_FAILED    /* error after error; in the inlet's list for timed retries */
};

/* A message touches the first two lines. */
struct receiver {
    struct dgram_loop *loop;
    struct dgram_socket *socket; /* for callbacks */
    dgram_message_fn *on_message;
    void *message_user;
    uint64_t received, received_bytes;
    uint8_t receive; /* enum receive_state */
    bool delivers;   /* messages may be delivered: not closed nor paused, with a handler */
    bool bound, gro, paused, closed;
    bool emptying;          /* nothing new arrives: see ending.h */
    bool more;              /* while it is emptied: the kernel holds something */
    bool got_some;          /* since it was started */
    uint8_t errors;         /* since it received something, at most 16 */
    uint16_t pace;          /* datagrams between two looks at the clock; 0: not known yet */
    struct queue backlog;   /* arrivals that are to be delivered first, */
    uint32_t backlog_slots; /* and how many of them lie in slots */
    dgram_messages_fn *on_messages;
    void *messages_user;

    struct endpoint *endpoint;
    struct error_sink *sink;
    struct task task;     /* to start or stop */
    struct node starved;  /* in one of the inlet's lists, */
    struct node later;    /* in that of timed retries, */
    struct node rotation; /* in that of backlogs to be served */
    uint64_t told;        /* loop time: when the last error was told */
    uint64_t empty_at;    /* while it is emptied: received bytes after which there can be no more */
    uint64_t receives, truncated, discarded;
};

void dg_receiver_init(struct receiver *receiver, struct dgram_loop *loop,
                      struct dgram_socket *socket, struct endpoint *endpoint,
                      struct error_sink *sink);

/* GRO trains arrive. */
void dg_receiver_takes_trains(struct receiver *receiver, bool takes);

/* Each of these starts or stops receiving as needed, in the next prepare. */
void dg_receiver_bound(struct receiver *receiver);
void dg_receiver_on_message(struct receiver *receiver, dgram_message_fn *fn, void *user);
void dg_receiver_on_messages(struct receiver *receiver, dgram_messages_fn *fn, void *user);
void dg_receiver_pause(struct receiver *receiver, bool pause);
void dg_receiver_update(struct receiver *receiver);
/* The same at once. */
void dg_receiver_apply(struct receiver *receiver);
/* Messages end here; to be applied before the endpoint is detached. */
void dg_receiver_close(struct receiver *receiver);
/* The endpoint is detached. */
void dg_receiver_detached(struct receiver *receiver);
/* STOPPED came. */
void dg_receiver_stopped(struct receiver *receiver, int result);

void dg_receiver_stats(const struct receiver *receiver, struct dgram_socket_stats *stats);

/* ---- The loop's side ----------------------------------------------------------------------- */

struct inlet;

int dg_inlet_open(struct dgram_loop *loop, uint32_t slots, uint32_t slot_size);
void dg_inlet_close(struct dgram_loop *loop);
struct pool *dg_inlet_pool(const struct dgram_loop *loop);
/* Slots have room for the longest trains. */
bool dg_inlet_takes_trains(const struct dgram_loop *loop);

/* Gives released slots back to the engine, and starts receivers that starved. */
void dg_inlet_prepare(struct dgram_loop *loop);
/* Starved receivers could be started, or backlogs served: the loop must not sleep. */
bool dg_inlet_has_work(const struct dgram_loop *loop);
/* Whether these bytes are a received message's, which ends with its handler. (A retained one may
 * lie there, too: its slot is pinned.) */
bool dg_inlet_owns(const struct dgram_loop *loop, const void *data);

#endif
