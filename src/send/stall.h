/* SPDX-License-Identifier: MIT */
/*
 * stall.h: destinations for which the kernel had no memory (ENOBUFS), and the datagrams that wait
 * for them.
 *
 * Owns the stalls of a sender: one for each such destination, which others neither wait for nor
 * have to share their queue with. A stall ends when nothing waits in it. It submits nothing
 * (retry.c).
 */
#ifndef DGRAM_SEND_STALL_H
#define DGRAM_SEND_STALL_H

#include "src/base/list.h"
#include "src/base/queue.h"
#include "src/send/request.h"

struct stall {
    struct node turn;   /* in the sender's list */
    struct node bucket; /* in the outbox's table */
    struct sender *sender;
    union dg_peer peer;
    struct share share;
    struct queue requests; /* in order */
    struct queue again;    /* refused in the submission that is being settled */
    bool goes;             /* the datagram that was tried last has left: the rest may go, too */
};

/* NULL if the sender may send to the destination at once. */
struct stall *dg_stall_find(const struct sender *sender, const union dg_peer *peer);
/* NULL when memory ran out. */
struct stall *dg_stall_open(struct sender *sender, const union dg_peer *peer);
/* To one of the two lists of the stall. */
void dg_stall_append(struct stall *stall, struct queue *queue, struct request *request);
/* The submission is settled: ends the stall if nothing waits in it. */
void dg_stall_rejoin(struct stall *stall);
/* The datagrams that wait are completed with a code; in a forked child they are only released. */
void dg_stalls_cancel(struct sender *sender, int code);
void dg_stalls_forget(struct sender *sender);

#endif
