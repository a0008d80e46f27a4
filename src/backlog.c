/* SPDX-License-Identifier: MIT */
/*
 * backlog.c: how much a turn delivers, and the parcels that wait for the next one.
 *
 * Owns the budget of a turn's message handlers, the parcels that a socket holds, and the rotation
 * of sockets that hold some. It never calls a handler: receive.c delivers and asks here how far.
 *
 * A train may be 128 datagrams and a turn may have 64 trains, with a handler that takes its time
 * for each. So the handlers of a turn have a millisecond; then timers and other sockets come. The
 * rest of a parcel stays in its slot, uncopied, and the socket receives no more until the rest is
 * delivered (dg_receive_update): slots are for everybody. While a socket holds parcels, new ones
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
    bool asks = turn->late && (received || !node_alone(&loop->backlog));
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

/* A parcel that was copied. */
struct held_copy {
    struct held held; /* first, so that the two convert */
    struct dgram_addr from;
    uint32_t size;
    unsigned char bytes[];
};

void dg_slot_done(struct dgram_loop *loop, uint32_t slot)
{
    if (dg_pool_settle(loop->pool, slot) && !dg_loop_forked(loop)) {
        loop->backend->recycle(loop->engine, slot);
    }
}

uint64_t dg_parcel_count(const struct parcel *parcel)
{
    if (parcel->segment == 0 || parcel->size == 0) {
        return 1;
    }
    return (parcel->size + parcel->segment - 1) / parcel->segment;
}

static void held_append(struct dgram_socket *socket, struct held *held)
{
    queue_append(&socket->held, &held->link);
}

static void held_release(struct dgram_socket *socket, struct held *held)
{
    if (held->slot != DG_NO_SLOT) {
        socket->held_slots--;
        dg_slot_done(socket->loop, held->slot);
    } else {
        dg_release(held);
    }
}

void dg_backlog_keep(struct dgram_socket *socket, const struct parcel *parcel, uint32_t slot)
{
    struct held *held = dg_pool_held(socket->loop->pool, slot);
    held->parcel = *parcel;
    held->slot = slot;
    socket->held_slots++;
    held_append(socket, held);
    dg_receive_update(socket);
}

/* NULL: no memory. */
static struct held *parcel_copy(const struct parcel *parcel)
{
    struct held_copy *copy = dg_allocate(sizeof(*copy) + parcel->size);
    if (copy == NULL) {
        return NULL;
    }
    dg_address_set(&copy->from, &parcel->from->u, parcel->from->size);
    memcpy(copy->bytes, parcel->data, parcel->size);
    copy->held.parcel = *parcel;
    copy->held.parcel.data = copy->bytes;
    copy->held.parcel.from = &copy->from;
    copy->held.parcel.owner = DG_OWNER_HELD;
    copy->held.slot = DG_NO_SLOT;
    copy->size = parcel->size;
    return &copy->held;
}

void dg_backlog_copy(struct dgram_socket *socket, const struct parcel *parcel)
{
    struct held *held = parcel_copy(parcel);
    if (held != NULL) {
        held_append(socket, held);
    } else {
        socket->stats.discarded += dg_parcel_count(parcel);
    }
}

bool dg_backlog_owns(const struct dgram_loop *loop, const void *data)
{
    const struct link *link = loop->served != NULL ? queue_first(loop->served) : NULL;
    bool found = false;
    for (uint32_t i = 0; i < loop->served_count && link != NULL && !found; i++) {
        const struct held_copy *copy = (const struct held_copy *) link;
        found = copy->held.slot == DG_NO_SLOT &&
                (uintptr_t) data - (uintptr_t) copy->bytes < copy->size;
        link = queue_after(loop->served, link);
    }
    return found;
}

void dg_backlog_pop(struct dgram_socket *socket)
{
    held_release(socket, (struct held *) queue_pop(&socket->held));
}

void dg_backlog_leave_slots(struct dgram_socket *socket)
{
    if (socket->held_slots == 0) {
        return;
    }
    struct queue all = queue_take(&socket->held);
    for (struct link *link; (link = queue_pop(&all)) != NULL;) {
        struct held *held = (struct held *) link;
        if (held->slot == DG_NO_SLOT) {
            held_append(socket, held);
        } else {
            dg_backlog_copy(socket, &held->parcel);
            held_release(socket, held);
        }
    }
}

/* ---- The rotation -------------------------------------------------------------------------- */

void dg_backlog_join(struct dgram_socket *socket)
{
    if (node_alone(&socket->backlog)) {
        node_append(&socket->loop->backlog, &socket->backlog);
        dg_loop_touch(socket->loop);
    }
}

/* Those that were paused meanwhile fall out: they join again when they deliver again. */
struct dgram_socket *dg_backlog_next(struct dgram_loop *loop)
{
    loop->turn.rotates = true;
    loop->turn.over = loop->turn.spent;
    while (!node_alone(&loop->backlog) && !loop->turn.spent) {
        struct dgram_socket *socket =
            owner_of(node_take(&loop->backlog), struct dgram_socket, backlog);
        if (socket->delivers && !queue_is_empty(&socket->held)) {
            return socket;
        }
    }
    return NULL;
}

/* The socket's first parcel leaves its slot. False if it lies in none, or there is no memory. */
static bool first_moves(struct dgram_socket *socket)
{
    struct held *held = (struct held *) queue_first(&socket->held);
    struct held *copy =
        held == NULL || held->slot == DG_NO_SLOT ? NULL : parcel_copy(&held->parcel);
    if (copy == NULL) {
        return false;
    }
    (void) queue_pop(&socket->held);
    queue_prepend(&socket->held, &copy->link);
    held_release(socket, held);
    return true;
}

/* A train may take its handlers 10 ms and more. One copy for each socket in the rotation, so there
 * are no more of them than slots. */
bool dg_backlog_make_room(struct dgram_loop *loop)
{
    for (struct node *node = loop->backlog.next; node != &loop->backlog; node = node->next) {
        if (first_moves(owner_of(node, struct dgram_socket, backlog))) {
            return true;
        }
    }
    return false;
}

void dg_backlog_discard(struct dgram_socket *socket)
{
    for (const struct link *link; (link = queue_first(&socket->held)) != NULL;) {
        socket->stats.discarded += dg_parcel_count(&((const struct held *) link)->parcel);
        dg_backlog_pop(socket);
    }
    node_remove(&socket->backlog);
}
