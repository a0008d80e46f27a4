/* SPDX-License-Identifier: MIT */
/*
 * backlog.c: how much a turn delivers, and the arrivals that wait for the next one.
 *
 * Owns the budget of a turn's message handlers, the arrivals that a socket holds, and the rotation
 * of sockets that hold some. It never calls a handler: receive.c delivers and asks here how far.
 *
 * A train may be 128 datagrams and a turn may have 64 trains, with a handler that takes its time
 * for each. So the handlers of a turn have a millisecond; then timers and other sockets come. The
 * rest of an arrival stays in its slot, uncopied, and the socket receives no more until the rest is
 * delivered (dg_receive_update): slots are for everybody. While a socket holds arrivals, new ones
 * join them at the end, and sockets are served in turn. If all slots wait so, one is copied for
 * whoever starves.
 *
 * A look at the clock costs 25 ns, as much as a short handler. How many datagrams there are between
 * two looks is the socket's pace, which follows from the time of its last ones.
 */
#include <string.h>

#include "src/core.h"

/* Of a turn: as many datagrams as the default pool holds in the longest trains. */
enum { TURN_NS = 1000000, TURN_DATAGRAMS = SLOTS_DEFAULT * SEGMENTS_LIMIT };
/* Between two looks, and so a quantum of the rotation. */
enum { LOOK_NS = 250000 };

/* ---- The budget ---------------------------------------------------------------------------- */

void dg_turn_begin(struct dgram_loop *loop, bool received)
{
    struct turn *turn = &loop->turn;
    bool asks = turn->late && (received || !node_alone(&loop->rotation));
    turn->start = turn->looked = asks ? loop->system->now() : loop->now;
    turn->unseen = turn->delivered = 0;
    turn->unanswered = 0;
    turn->rotates = turn->over = turn->spent = false;
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

void dg_turn_look(struct dgram_socket *socket)
{
    struct turn *turn = &socket->loop->turn;
    uint64_t now = socket->loop->system->now();
    socket->pace = pace_after(turn->unseen, now - turn->looked);
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
    if (dg_pool_done(loop->pool, slot) && !dg_loop_forked(loop)) {
        loop->io.backend->recycle(loop->io.engine, slot);
    }
}

uint64_t dg_arrival_count(const struct arrival *arrival)
{
    if (arrival->segment == 0 || arrival->size == 0) {
        return 1;
    }
    return (arrival->size + arrival->segment - 1) / arrival->segment;
}

static void item_append(struct dgram_socket *socket, struct backlog_item *item)
{
    queue_append(&socket->backlog, &item->link);
}

static void item_release(struct dgram_socket *socket, struct backlog_item *item)
{
    if (item->slot != DG_NO_SLOT) {
        socket->backlog_slots--;
        dg_slot_done(socket->loop, item->slot);
    } else {
        dg_release(item);
    }
}

void dg_backlog_keep(struct dgram_socket *socket, const struct arrival *arrival, uint32_t slot)
{
    struct backlog_item *item = dg_pool_backlog_item(socket->loop->pool, slot);
    item->arrival = *arrival;
    item->slot = slot;
    socket->backlog_slots++;
    item_append(socket, item);
    dg_receive_update(socket);
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

void dg_backlog_copy(struct dgram_socket *socket, const struct arrival *arrival)
{
    struct backlog_item *item = arrival_copy(arrival);
    if (item != NULL) {
        item_append(socket, item);
    } else {
        socket->stats.discarded += dg_arrival_count(arrival);
    }
}

bool dg_backlog_owns(const struct dgram_loop *loop, const void *data)
{
    const struct link *link = loop->served != NULL ? queue_first(loop->served) : NULL;
    bool found = false;
    for (uint32_t i = 0; i < loop->served_count && link != NULL && !found; i++) {
        const struct backlog_copy *copy = (const struct backlog_copy *) link;
        found = copy->item.slot == DG_NO_SLOT &&
                (uintptr_t) data - (uintptr_t) copy->bytes < copy->size;
        link = queue_after(loop->served, link);
    }
    return found;
}

void dg_backlog_pop(struct dgram_socket *socket)
{
    item_release(socket, (struct backlog_item *) queue_pop(&socket->backlog));
}

void dg_backlog_leave_slots(struct dgram_socket *socket)
{
    if (socket->backlog_slots == 0) {
        return;
    }
    struct queue all = queue_take(&socket->backlog);
    for (struct link *link; (link = queue_pop(&all)) != NULL;) {
        struct backlog_item *item = (struct backlog_item *) link;
        if (item->slot == DG_NO_SLOT) {
            item_append(socket, item);
        } else {
            dg_backlog_copy(socket, &item->arrival);
            item_release(socket, item);
        }
    }
}

/* ---- The rotation -------------------------------------------------------------------------- */

void dg_backlog_join(struct dgram_socket *socket)
{
    if (node_alone(&socket->rotation)) {
        node_append(&socket->loop->rotation, &socket->rotation);
        agenda_wake(&socket->loop->agenda);
    }
}

/* Those that were paused meanwhile fall out: they join again when they deliver again. */
struct dgram_socket *dg_backlog_next(struct dgram_loop *loop)
{
    loop->turn.rotates = true;
    loop->turn.over = loop->turn.spent;
    while (!node_alone(&loop->rotation) && !loop->turn.spent) {
        struct dgram_socket *socket =
            owner_of(node_take(&loop->rotation), struct dgram_socket, rotation);
        if (socket->delivers && !queue_is_empty(&socket->backlog)) {
            return socket;
        }
    }
    return NULL;
}

/* The socket's first arrival leaves its slot. False if it lies in none, or there is no memory. */
static bool first_moves(struct dgram_socket *socket)
{
    struct backlog_item *item = (struct backlog_item *) queue_first(&socket->backlog);
    struct backlog_item *copy =
        item == NULL || item->slot == DG_NO_SLOT ? NULL : arrival_copy(&item->arrival);
    if (copy == NULL) {
        return false;
    }
    (void) queue_pop(&socket->backlog);
    queue_prepend(&socket->backlog, &copy->link);
    item_release(socket, item);
    return true;
}

/* A train may take its handlers 10 ms and more. One copy for each socket in the rotation, so there
 * are no more of them than slots. */
bool dg_backlog_make_room(struct dgram_loop *loop)
{
    for (struct node *node = loop->rotation.next; node != &loop->rotation; node = node->next) {
        if (first_moves(owner_of(node, struct dgram_socket, rotation))) {
            return true;
        }
    }
    return false;
}

void dg_backlog_discard(struct dgram_socket *socket)
{
    for (const struct link *link; (link = queue_first(&socket->backlog)) != NULL;) {
        socket->stats.discarded += dg_arrival_count(&((const struct backlog_item *) link)->arrival);
        dg_backlog_pop(socket);
    }
    node_remove(&socket->rotation);
}
