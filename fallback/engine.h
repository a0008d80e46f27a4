/* SPDX-License-Identifier: MIT */
/*
 * engine.h: the structs of the poll engine. Private to fallback/; nothing in it is linked.
 *
 * A file calls files below its own line, and none above. From above:
 *
 *     poll.c                 Opening, closing, waiting; the table of functions that the core calls.
 *     receive, send, watch   Datagrams from the kernel and to it; foreign descriptors.
 *     endpoint               Sockets, and their records that are due without the kernel.
 *     interest, slot.h       The interest in each descriptor; the layout of a slot.
 *     ready, transfer        The host: readiness, and the calls that move datagrams.
 */
#ifndef DGRAM_FALLBACK_ENGINE_H
#define DGRAM_FALLBACK_ENGINE_H

#include "src/backend.h"
#include "src/base/list.h"

#include "fallback/ready.h"
#include "fallback/transfer.h"

#include <sys/uio.h>

/* Datagrams or trains that one endpoint may take from the pool in one wait. recvmmsg has all of its
 * gain by then (Linux 6.18: 1.08 us a datagram alone, 0.84 in batches). */
#define RECEIVE_MAX 32u

/* Preparing for 32 costs 0.15 us, so a receive is prepared for no more than expect() says. */
#define RECEIVE_LEAST 2u

/* Trains handed over in one call. Eight have all of sendmmsg's gain (Linux 6.18: 2.6 us a train of
 * 64 datagrams of 64 bytes, against 3.3 alone), and lone datagrams have it by 64. */
#define SEND_MAX 64u

/* Ready descriptors dealt with in one wait. */
#define EVENTS_MAX 256u

/* One descriptor, and the watchers of it. An endpoint has an entry, which its own watches share,
 * because epoll knows a descriptor once. A watch of a foreign descriptor has its own. */
struct entry {
    struct ready_entry ready;
    struct node lowered;  /* in engine->lowered while more is registered than wanted */
    struct node watchers; /* those of its struct watcher */
    bool registered;      /* with `ready` */
    bool receiving;       /* between recv_start() and the reason for STOPPED */
};

/* An endpoint, as this engine sees it. */
struct poll_endpoint {
    struct entry entry;
    struct endpoint *endpoint;
    struct node all;  /* in engine->endpoints */
    struct node due;  /* in engine->due while a record is to be appended */
    uint64_t full;    /* the list of trains in which the kernel had no more room */
    uint32_t expects; /* how many datagrams or trains the next receive is prepared for */
    int stop_result;
    bool stop_due, detach_due;
};

/* A watch, as this engine sees it. */
struct watcher {
    struct entry own;    /* of a foreign descriptor: a duplicate that belongs to the engine */
    struct entry *entry; /* &own, or the endpoint's */
    struct watch *watch;
    struct node beside; /* in entry->watchers */
    struct node all;    /* in engine->watchers */
    bool armed;
};

struct engine {
    const char **failed_call;
    struct completions *completions;
    struct ready *ready;
    struct slots slots;
    uint32_t *free;       /* a stack: the slot that came back last is the one still in the cache */
    unsigned char *taken; /* by slot: a RECEIVED has named it */
    uint32_t free_count;
    uint32_t turns; /* where the rotation among ready entries begins */
    uint64_t lists; /* lists of trains so far */
    bool refused;   /* a train failed since the last flush() or wait() */
    bool more;      /* the last wait() left datagrams in the kernel, perhaps */
    struct node endpoints, watchers;
    struct node due;     /* endpoints, in the order in which their records became due */
    struct node lowered; /* entries */
    struct ready_event events[EVENTS_MAX];
    struct transfer incoming[RECEIVE_MAX];
    struct iovec rooms[RECEIVE_MAX];
    struct transfer outgoing[SEND_MAX];
};

#endif
