/* SPDX-License-Identifier: MIT */
/*
 * inlet.h: the state of a loop that its receivers share. Only receive/ opens it.
 */
#ifndef DGRAM_RECEIVE_INLET_H
#define DGRAM_RECEIVE_INLET_H

#include "src/base/list.h"
#include "src/base/queue.h"
#include "src/core/alarm.h"
#include "src/receive/pool.h"
#include "src/receive/receiver.h"

enum {
    MESSAGES_MAX = 256, /* of one `messages` event */
    PACE_MAX = 64
};

/* The time and the datagrams that the message handlers of a turn have used up (backlog.c). */
struct turn {
    uint64_t start, looked; /* at the clock: when they began, and last */
    uint32_t unseen;        /* datagrams delivered since then */
    uint32_t delivered;     /* and before */
    bool rotates;           /* backlogs are being served: each look is the end of a quantum */
    bool over;              /* the quantum, or the whole turn: */
    bool spent;             /* nothing more is delivered in it */
};

struct inlet {
    struct turn turn;
    struct pool *pool;
    uint32_t slot_size;
    struct node rotation;       /* receivers with backlogs; the next to be served first */
    const struct queue *served; /* a handler has so many arrivals of this backlog; NULL: none */
    uint32_t served_count;
    struct dgram_message *messages; /* MESSAGES_MAX of them, for the `messages` event */
    struct node starved;            /* got nothing since they were started: first in turn; */
    struct node starved_again;      /* those that got something */
    struct node later;              /* failed; they wait a moment, */
    struct alarm retry;             /* until this rings */
    struct dgram_loop *loop;
};

#endif
