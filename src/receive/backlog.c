/* SPDX-License-Identifier: MIT */
/* backlog.c: see backlog.h. */
#include "src/receive/backlog.h"

#include <string.h>

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/base/queue.h"
#include "src/core/agenda.h"
#include "src/core/check.h"
#include "src/core/io.h"
#include "src/net/address.h"
#include "src/system.h"

/* Of a turn: as many datagrams as the default pool holds in the longest trains. */
enum { TURN_NS = 1000000, TURN_DATAGRAMS = 64 * 128 };
/* Between two looks, and so a quantum of the rotation. */
enum { LOOK_NS = 250000 };

/* ---- The budget ---------------------------------------------------------------------------- */

void dg_turn_begin(struct inlet *inlet, uint64_t now)
{
    inlet->turn = (struct turn){.start = now, .looked = now};
}

/* As many as would have taken LOOK_NS, but no more than twice of what was seen: a few quick ones
 * say little of those that follow. The last ones may have been other sockets', too: an error of
 * that kind costs a few looks, until the next one of this socket's own. */
static uint16_t pace_after(uint32_t seen, uint64_t took)
{
    uint64_t pace = took > 0 ? (uint64_t) LOOK_NS * seen / took : PACE_MAX;
    pace = pace > (uint64_t) 2 * seen ? (uint64_t) 2 * seen : pace;
    pace = pace > PACE_MAX ? PACE_MAX : pace;
    return (uint16_t) (pace > 0 ? pace : 1);
}

void dg_turn_look(struct receiver *receiver)
{
    struct turn *turn = &receiver->loop->inlet->turn;
    uint64_t now = receiver->loop->system->now();
    receiver->pace = pace_after(turn->unseen, now - turn->looked);
    turn->delivered += turn->unseen;
    turn->unseen = 0;
    turn->looked = now;
    turn->spent = now - turn->start >= TURN_NS || turn->delivered >= TURN_DATAGRAMS;
    turn->over = turn->spent || turn->rotates;
}

/* ---- What a socket holds ------------------------------------------------------------------- */

/* An arrival that was copied. */
struct backlog_copy {
    struct backlog_item item; /* first, so that the two convert */
    struct dgram_addr from;
    uint32_t size;
    unsigned char bytes[];
};

void dg_slot_done(struct dgram_loop *loop, uint32_t slot)
{
    if (dg_pool_done(loop->inlet->pool, slot) && !loop_forked(loop)) {
        loop->io->backend->recycle(loop->io->engine, slot);
    }
}

static void item_append(struct receiver *receiver, struct backlog_item *item)
{
    queue_append(&receiver->backlog, &item->link);
}

static void item_release(struct receiver *receiver, struct backlog_item *item)
{
    if (item->slot != DG_NO_SLOT) {
        receiver->backlog_slots--;
        dg_slot_done(receiver->loop, item->slot);
    } else {
        dg_release(item);
    }
}

void dg_backlog_keep(struct receiver *receiver, const struct arrival *arrival, uint32_t slot)
{
    struct backlog_item *item = dg_pool_backlog_item(receiver->loop->inlet->pool, slot);
    item->arrival = *arrival;
    item->slot = slot;
    receiver->backlog_slots++;
    item_append(receiver, item);
}

/* NULL: no memory. */
static struct backlog_item *arrival_copy(const struct arrival *arrival)
{
    struct backlog_copy *copy = dg_allocate(sizeof(*copy) + arrival->size);
    if (copy == NULL) {
        return NULL;
    }
    dg_address_set(&copy->from, &arrival->from->u, arrival->from->size);
    memcpy(copy->bytes, arrival->data, arrival->size);
    copy->item.arrival = *arrival;
    copy->item.arrival.data = copy->bytes;
    copy->item.arrival.from = &copy->from;
    copy->item.arrival.owner = DG_OWNER_COPIED;
    copy->item.slot = DG_NO_SLOT;
    copy->size = arrival->size;
    return &copy->item;
}

void dg_backlog_copy(struct receiver *receiver, const struct arrival *arrival)
{
    struct backlog_item *item = arrival_copy(arrival);
    if (item != NULL) {
        item_append(receiver, item);
    } else {
        receiver->discarded += arrival_count(arrival);
    }
}

bool dg_backlog_owns(const struct inlet *inlet, const void *data)
{
    const struct link *link = inlet->served != NULL ? queue_first(inlet->served) : NULL;
    bool found = false;
    for (uint32_t i = 0; i < inlet->served_count && link != NULL && !found; i++) {
        const struct backlog_copy *copy = (const struct backlog_copy *) link;
        found = copy->item.slot == DG_NO_SLOT &&
                (uintptr_t) data - (uintptr_t) copy->bytes < copy->size;
        link = queue_after(inlet->served, link);
    }
    return found;
}

void dg_backlog_pop(struct receiver *receiver)
{
    item_release(receiver, (struct backlog_item *) queue_pop(&receiver->backlog));
}

void dg_backlog_leave_slots(struct receiver *receiver)
{
    if (receiver->backlog_slots == 0) {
        return;
    }
    struct queue all = queue_take(&receiver->backlog);
    for (struct link *link; (link = queue_pop(&all)) != NULL;) {
        struct backlog_item *item = (struct backlog_item *) link;
        if (item->slot == DG_NO_SLOT) {
            item_append(receiver, item);
        } else {
            dg_backlog_copy(receiver, &item->arrival);
            item_release(receiver, item);
        }
    }
}

/* ---- The rotation -------------------------------------------------------------------------- */

void dg_backlog_join(struct receiver *receiver)
{
    if (node_alone(&receiver->rotation)) {
        node_append(&receiver->loop->inlet->rotation, &receiver->rotation);
        agenda_wake(receiver->loop->agenda);
    }
}

/* Those that were paused meanwhile fall out: they join again when they deliver again. */
struct receiver *dg_backlog_next(struct inlet *inlet)
{
    inlet->turn.rotates = true;
    inlet->turn.over = inlet->turn.spent;
    while (!node_alone(&inlet->rotation) && !inlet->turn.spent) {
        struct receiver *receiver =
            owner_of(node_take(&inlet->rotation), struct receiver, rotation);
        if (receiver->delivers && !queue_is_empty(&receiver->backlog)) {
            return receiver;
        }
    }
    return NULL;
}

/* The socket's first arrival leaves its slot. False if it lies in none, or there is no memory. */
static bool first_moves(struct receiver *receiver)
{
    struct backlog_item *item = (struct backlog_item *) queue_first(&receiver->backlog);
    struct backlog_item *copy =
        item == NULL || item->slot == DG_NO_SLOT ? NULL : arrival_copy(&item->arrival);
    if (copy == NULL) {
        return false;
    }
    (void) queue_pop(&receiver->backlog);
    queue_prepend(&receiver->backlog, &copy->link);
    item_release(receiver, item);
    return true;
}

/* A train may take its handlers 10 ms and more. One copy for each socket in the rotation, so there
 * are no more of them than slots. */
bool dg_backlog_make_room(struct inlet *inlet)
{
    for (struct node *node = inlet->rotation.next; node != &inlet->rotation; node = node->next) {
        if (first_moves(owner_of(node, struct receiver, rotation))) {
            return true;
        }
    }
    return false;
}

void dg_backlog_discard(struct receiver *receiver)
{
    for (const struct link *link; (link = queue_first(&receiver->backlog)) != NULL;) {
        receiver->discarded += arrival_count(&((const struct backlog_item *) link)->arrival);
        dg_backlog_pop(receiver);
    }
    node_remove(&receiver->rotation);
}
