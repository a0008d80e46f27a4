/* SPDX-License-Identifier: MIT */
/*
 * ledger.h: the account of what is queued, and its limits.
 *
 * Owns the charges of senders and of the loop, the shares of what is stalled in them, and `drain`.
 * It never looks at trains.
 */
#ifndef DGRAM_SEND_LEDGER_H
#define DGRAM_SEND_LEDGER_H

#include "src/send/sender.h"

static inline uint64_t ledger_charge(const struct sender *sender)
{
    return sender->queue_bytes + QUEUE_OVERHEAD * sender->queue_count;
}

/* Datagrams join and leave the queue. A sender that ends is told when the last one has left. */
static inline void ledger_add(struct sender *sender, uint64_t bytes, uint64_t count)
{
    sender->queue_bytes += bytes;
    sender->queue_count += count;
    sender->loop->outbox->queue_charge += bytes + QUEUE_OVERHEAD * count;
}

void dg_ledger_take(struct sender *sender, uint64_t bytes, uint64_t count);
bool dg_ledger_exceeds(const struct sender *sender, uint32_t size);

static inline bool ledger_is_full(const struct sender *sender, uint32_t size)
{
    const struct outbox *outbox = sender->loop->outbox;
    uint64_t more = size + QUEUE_OVERHEAD;
    bool fits = ledger_charge(sender) + more <= sender->queue_limit &&
                outbox->queue_charge + more <= outbox->queue_limit;
    return !fits && dg_ledger_exceeds(sender, size);
}

/* -EAGAIN: a `drain` follows. */
int dg_ledger_refuse(struct sender *sender, uint32_t size);

/* Looks for queues that have room again, if somebody waits for that. */
void dg_ledger_check_drains(struct dgram_loop *loop);

static inline void ledger_check_drains(struct dgram_loop *loop)
{
    if (!node_alone(&loop->outbox->drains)) {
        dg_ledger_check_drains(loop);
    }
}

/* `drain` is being emitted: the program may try again whatever was refused, so the next `drain`
 * waits for those only that are refused from now on. */
void dg_ledger_drained(struct sender *sender);
/* Nobody waits for a `drain` of this sender any more. */
void dg_ledger_close(struct sender *sender);

/*
 * The datagrams that wait for one destination or name, as a part of the queues.
 *
 * Stalled datagrams take half of the queue at most, and each destination or name a share of that
 * half which leaves room for others. A share that is NULL is one that holds nothing yet.
 */
struct share {
    uint64_t charge;     /* sizes, and QUEUE_OVERHEAD for each */
    uint64_t refused_at; /* its charge when it last refused a send; 0: none since a `drain` */
    uint64_t *whole;     /* charge of all senders for the same name; NULL: no more than this */
};

bool dg_share_is_full(const struct sender *sender, const struct share *share, uint32_t size);
int dg_share_refuse(struct sender *sender, struct share *share, uint32_t size);
/* A datagram of the queue begins to wait, and waits no longer. */
void dg_share_charge(struct sender *sender, struct share *share, uint32_t size);
void dg_share_release(struct sender *sender, struct share *share, uint32_t size);
/* After releases: a share that has refused and has room again is a reason for `drain`. */
void dg_share_check(struct sender *sender, struct share *share);

#endif
