/* SPDX-License-Identifier: MIT */
/* ledger.c: see ledger.h. */
#include "src/send/ledger.h"

#include <assert.h>
#include <errno.h>

#include "src/base/list.h"
#include "src/base/queue.h"
#include "src/core/agenda.h"

void dg_ledger_take(struct sender *sender, uint64_t bytes, uint64_t count)
{
    assert(sender->queue_bytes >= bytes && sender->queue_count >= count);
    sender->queue_bytes -= bytes;
    sender->queue_count -= count;
    sender->loop->outbox->queue_charge -= bytes + QUEUE_OVERHEAD * count;
    void (*emptied)(struct sender *) = sender->emptied;
    if (emptied != NULL && sender->queue_count == 0) {
        sender->emptied = NULL;
        emptied(sender);
    }
}

/* Stalled datagrams take half of a limit at most, so that the other half is always for the others;
 * those that were on their way before their destination stalled count as no more than that half. */
static uint64_t stalled_part(uint64_t stalled, uint64_t limit)
{
    return stalled < limit / 2 ? stalled : limit / 2;
}

/* An empty queue takes any one datagram, whatever the limit. */
static bool exceeds(uint64_t charge, uint64_t stalled, uint64_t more, uint64_t limit)
{
    if (charge + more <= limit) {
        return false;
    }
    uint64_t live = charge - stalled, half = limit / 2;
    bool room_is_full = live > 0 && live + stalled_part(stalled, limit) + more > limit;
    return room_is_full || (charge > half && charge - half + more > limit);
}

bool dg_ledger_exceeds(const struct sender *sender, uint32_t size)
{
    const struct dgram_loop *loop = sender->loop;
    uint64_t more = size + QUEUE_OVERHEAD;
    return exceeds(ledger_charge(sender), sender->stalled, more, sender->queue_limit) ||
           exceeds(loop->outbox->queue_charge, loop->outbox->stalled, more,
                   loop->outbox->queue_limit);
}

/* Notes the largest that was refused since the last `drain`. */
static void want_drain(struct sender *sender, uint8_t what, uint32_t size, uint32_t *largest)
{
    bool first = (sender->drain_wanted & what) == 0;
    *largest = first || size > *largest ? size : *largest;
    sender->drain_wanted |= what;
    if (node_alone(&sender->drains)) {
        node_append(&sender->loop->outbox->drains, &sender->drains);
    }
}

int dg_ledger_refuse(struct sender *sender, uint32_t size)
{
    want_drain(sender, WANTED_QUEUE, size, &sender->refused_size);
    return -EAGAIN;
}

/* The charge that is not stalled has fallen to half of its room. */
static bool is_low(uint64_t charge, uint64_t stalled, uint64_t limit)
{
    return charge - stalled <= (limit - stalled_part(stalled, limit)) / 2;
}

/* `drain` comes when both queues have fallen to half and the largest refused datagram fits. A large
 * datagram may be refused below the half, and would be again. */
static bool queue_is_ready(struct sender *s)
{
    return is_low(ledger_charge(s), s->stalled, s->queue_limit) &&
           is_low(s->loop->outbox->queue_charge, s->loop->outbox->stalled,
                  s->loop->outbox->queue_limit) &&
           !ledger_is_full(s, s->refused_size);
}

static void drain_has_come(struct sender *sender, uint8_t what)
{
    sender->drain_wanted &= (uint8_t) ~what;
    if (sender->drain_wanted == 0) {
        node_remove(&sender->drains);
    }
    dg_agenda_add(sender->loop->agenda, &sender->drain);
}

void dg_ledger_check_drains(struct dgram_loop *loop)
{
    struct node *list = &loop->outbox->drains;
    for (struct node *node = list->next, *next; node != list; node = next) {
        struct sender *s = owner_of(node, struct sender, drains);
        next = node->next;
        if ((s->drain_wanted & WANTED_QUEUE) && queue_is_ready(s)) {
            drain_has_come(s, WANTED_QUEUE);
        }
        if ((s->drain_wanted & WANTED_STALLED) && !dg_share_is_full(s, NULL, s->refused_stalled)) {
            drain_has_come(s, WANTED_STALLED);
        }
    }
}

void dg_ledger_drained(struct sender *sender)
{
    sender->refused_size = sender->refused_stalled = 0;
}

void dg_ledger_close(struct sender *sender)
{
    sender->drain_wanted = 0;
    node_remove(&sender->drains);
    dg_agenda_drop(sender->loop->agenda, &sender->drain);
}

/* ---- Shares -------------------------------------------------------------------------------- */

/*
 * The half is shared as switches share their buffers (dynamic thresholds): each takes at most four
 * times of what is left. So one that is alone gets four fifths, two get four ninths each, and there
 * is always room for another.
 */
enum { SHARE_OF_FREE = 4 };

static bool share_exceeds(uint64_t own, uint64_t stalled, uint64_t more, uint64_t limit)
{
    uint64_t half = limit / 2;
    if (stalled == 0) {
        return false; /* the first one is taken, whatever the limit */
    }
    if (stalled + more > half) {
        return true;
    }
    return own > 0 && (own + more) / SHARE_OF_FREE > half - stalled - more;
}

bool dg_share_is_full(const struct sender *sender, const struct share *share, uint32_t size)
{
    const struct dgram_loop *loop = sender->loop;
    uint64_t more = size + QUEUE_OVERHEAD;
    uint64_t own = share != NULL ? share->charge : 0;
    uint64_t whole = share != NULL && share->whole != NULL ? *share->whole : own;
    return share_exceeds(own, sender->stalled, more, sender->queue_limit) ||
           share_exceeds(whole, loop->outbox->stalled, more, loop->outbox->queue_limit);
}

/* Where the destination holds something, of this sender or of others, there is room again when this
 * sender holds half of that; elsewhere room must come from whatever is stalled. */
int dg_share_refuse(struct sender *sender, struct share *share, uint32_t size)
{
    uint64_t most = share != NULL ? share->charge : 0;
    if (share != NULL && share->whole != NULL && *share->whole > most) {
        most = *share->whole;
    }
    if (most > 0) {
        share->refused_at = most;
    } else {
        want_drain(sender, WANTED_STALLED, size, &sender->refused_stalled);
    }
    return -EAGAIN;
}

void dg_share_charge(struct sender *sender, struct share *share, uint32_t size)
{
    uint64_t charge = size + QUEUE_OVERHEAD;
    share->charge += charge;
    if (share->whole != NULL) {
        *share->whole += charge;
    }
    sender->stalled += charge;
    sender->loop->outbox->stalled += charge;
}

void dg_share_release(struct sender *sender, struct share *share, uint32_t size)
{
    uint64_t charge = size + QUEUE_OVERHEAD;
    assert(share->charge >= charge && sender->stalled >= charge);
    share->charge -= charge;
    if (share->whole != NULL) {
        *share->whole -= charge;
    }
    sender->stalled -= charge;
    sender->loop->outbox->stalled -= charge;
}

void dg_share_check(struct sender *sender, struct share *share)
{
    if (share->refused_at > 0 && share->charge <= share->refused_at / 2) {
        share->refused_at = 0;
        if (!sender->closing) {
            dg_agenda_add(sender->loop->agenda, &sender->drain);
        }
    }
}
