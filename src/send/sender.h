/* SPDX-License-Identifier: MIT */
/*
 * sender.h: the sending half of a socket, and the state that the senders of a loop share.
 *
 * The way of a datagram:
 *
 *     accept.c -> batch.c -> engine -> outcome.c -> sent: callback, or nothing
 *                 ^                     | no room: park.c, stall.c
 *                 +---------------------+ and again
 *
 * A sender knows its socket only as the handle that callbacks get. The socket tells it whatever it
 * has to know of the socket's life: that it closes, that it has to wait for `listening` or for a
 * bind.
 */
#ifndef DGRAM_SEND_SENDER_H
#define DGRAM_SEND_SENDER_H

#include <dgram.h>

#include "src/base/list.h"
#include "src/base/queue.h"
#include "src/core/agenda.h"
#include "src/core/alarm.h"
#include "src/core/core.h"
#include "src/core/io.h"
#include "src/net/peer.h"

enum {
    SEGMENTS_LIMIT = 128,    /* of one train: the kernel's, since 6.9; 64 before */
    TRAIN_BYTES_MAX = 65473, /* payload of a train: one byte more, and IPv6 trains are cut up in
                                 software, ten times dearer (65,493 for IPv4) */
    QUEUE_OVERHEAD = 64,     /* bytes that a queued datagram is charged beside its payload */
    BATCH_BUCKETS = 256
};

/* Bits of sender.drain_wanted. */
enum {
    WANTED_QUEUE = 1 << 0,  /* room in the queue */
    WANTED_STALLED = 1 << 1 /* room in the half of it for stalled datagrams */
};

struct flow;
struct batch;
struct paths;
struct stall;

struct sender {
    struct dgram_loop *loop;
    struct flow *last_flow; /* of the current submission, or NULL */
    struct dgram_socket *socket;
    struct endpoint *endpoint;
    struct error_sink *sink;
    sa_family_t family;
    socklen_t peer_size;
    uint32_t size_max, segments_max;

    bool ended;           /* nothing new is accepted */
    bool closing;         /* the queue gets its last attempt */
    bool announces;       /* `listening` is to be called first */
    bool binds;           /* to a name: all sends wait */
    bool blocked;         /* the socket's buffer is full: sends are parked */
    uint8_t drain_wanted; /* WANTED_...: the limits that refused a send since the last `drain` */
    /* Not NULL: nothing new comes, and this is called when the queue is empty. */
    void (*emptied)(struct sender *sender);
    struct task drain;  /* the socket's: `drain` is to be emitted */
    struct node drains; /* in the outbox's list, while `drain_wanted` */

    struct queue parked;       /* wait for room, in order */
    struct queue parked_again; /* refused in the submission that is being settled */
    struct node stalls;        /* in the order of their turns */
    struct node awaits;        /* for names: see await.h */
    struct node later;         /* in the outbox's list of timed retries */
    struct dg_watch writable;
    uint32_t refused_trains;  /* by one destination after the other, since one took a train */
    uint64_t alone_until;     /* loop time: no trains before */
    uint32_t refused_size;    /* of the largest that the queue refused since the last `drain`, */
    uint32_t refused_stalled; /* and that the part for stalled ones refused */
    uint32_t vain_retries;    /* timed retries since something was sent */

    uint64_t queue_bytes, queue_count, queue_limit;
    uint64_t stalled; /* of the queue's charge: waits for names, and for stalled destinations */
    uint64_t sent, sent_bytes, sends, trains_refused, parked_count, errors;
};

struct outbox {
    struct batch *batch;
    struct dgram_loop *loop;
    uint32_t segments_max;
    uint64_t queue_charge, queue_limit, stalled; /* of all senders */
    struct node drains;                          /* senders that are owed a `drain` */
    struct queue request_store;                  /* free ones */
    struct queue request_slabs;
    struct queue done;                 /* callbacks to run, */
    struct task sent;                  /* if any */
    struct node later;                 /* senders that wait a moment, */
    struct alarm retry;                /* until this rings */
    struct node stalls[BATCH_BUCKETS]; /* by sender and peer */
    struct paths *paths;               /* see path.h */
    uint64_t secrets[3]; /* multipliers of the hash of peers: odd, nobody else knows them */
    uint32_t loans_out;  /* see buffer.h */
    uint64_t flushes;
    uint64_t sent_at; /* when the last of these was; 0: never */
};

int dg_outbox_open(struct dgram_loop *loop, uint32_t segments_max, uint64_t queue_limit);
void dg_outbox_close(struct dgram_loop *loop);

/* A forked child releases the requests of its parent. */
void dg_outbox_forget(struct dgram_loop *loop);

/* The socket hands these in. */
struct sender_config {
    struct dgram_socket *socket; /* for callbacks */
    struct endpoint *endpoint;
    struct error_sink *sink;
    void (*drain)(struct task *task); /* emits `drain` */
    sa_family_t family;
    uint32_t segments_max; /* 0: the loop's */
    uint64_t queue_limit;
};

void dg_sender_init(struct sender *sender, struct dgram_loop *loop,
                    const struct sender_config *config);
/* Nothing new is accepted: no datagram may take the fast way any more, and those that did are
 * charged. `emptied` is called when the queue is empty; the first also where it is so already. */
void dg_sender_end(struct sender *sender, void (*emptied)(struct sender *sender));
/* The queue gets its last attempt. */
void dg_sender_close(struct sender *sender);
/* Before the endpoint is detached. */
void dg_sender_detach(struct sender *sender);
/* Nothing names the sender any more. */
bool dg_sender_is_idle(const struct sender *sender);
void dg_sender_stats(const struct sender *sender, struct dgram_socket_stats *stats);

/* `listening` is to be called before the next datagram leaves. */
static inline void sender_announces(struct sender *sender, bool announces)
{
    sender->announces = announces;
}

/* The socket is being bound to a name: all sends wait. */
static inline void sender_binds(struct sender *sender, bool binds)
{
    sender->binds = binds;
}

static inline bool sender_is_blocked(const struct sender *sender)
{
    return sender->blocked;
}

static inline bool sender_is_empty(const struct sender *sender)
{
    return sender->queue_count == 0;
}

/* Bytes of a socket address of its family, and of its largest payload. */
static inline socklen_t sender_peer_size(const struct sender *sender)
{
    return sender->peer_size;
}

static inline uint32_t sender_size_max(const struct sender *sender)
{
    return sender->size_max;
}

/* The sender whose `drain` is due. */
static inline struct sender *sender_of_drain(struct task *task)
{
    return owner_of(task, struct sender, drain);
}

#endif
