/* SPDX-License-Identifier: MIT */
/*
 * backlog.h: how much a turn delivers, and the arrivals that wait for the next one.
 *
 * Owns the budget of a turn's message handlers, the backlogs, and the rotation of receivers that
 * have one. It never calls a handler: deliver.c delivers and asks here how far.
 *
 * A train may be 128 datagrams and a turn may have 64 trains, with a handler that takes its time
 * for each. So the handlers of a turn have a millisecond; then timers and other sockets come. The
 * rest of an arrival stays in its slot, uncopied, and the socket receives no more until the rest is
 * delivered: slots are for everybody. While a socket has a backlog, new arrivals join it at its
 * end, and sockets are served in turn. If all slots wait so, one is copied for whoever starves.
 *
 * A look at the clock costs 25 ns, as much as a short handler. How many datagrams there are between
 * two looks is the receiver's pace, which follows from the time of its last ones.
 */
#ifndef DGRAM_RECEIVE_BACKLOG_H
#define DGRAM_RECEIVE_BACKLOG_H

#include "src/base/list.h"
#include "src/receive/inlet.h"

/* The message handlers of a turn begin at this time. */
void dg_turn_begin(struct inlet *inlet, uint64_t now);
/* Reads the clock, and decides whether the turn or the quantum is over. */
void dg_turn_look(struct receiver *receiver);

/* So many datagrams at least may be delivered before the next look. */
static inline uint32_t turn_allows(const struct receiver *receiver)
{
    uint32_t unseen = receiver->loop->inlet->turn.unseen;
    return receiver->pace > unseen ? receiver->pace - unseen : 1;
}

static inline void turn_delivered(struct receiver *receiver, uint32_t count)
{
    struct turn *turn = &receiver->loop->inlet->turn;
    turn->unseen += count;
    if (turn->unseen >= receiver->pace) {
        dg_turn_look(receiver);
    }
}

/* Whether a new arrival has to wait behind the backlogs. */
static inline bool turn_is_full(const struct inlet *inlet)
{
    return inlet->turn.spent || !node_alone(&inlet->rotation);
}

/* The arrival waits: in its slot, which stays with the core; or as a copy, if there is memory. */
void dg_backlog_keep(struct receiver *receiver, const struct arrival *arrival, uint32_t slot);
void dg_backlog_copy(struct receiver *receiver, const struct arrival *arrival);
/* The first arrival of the backlog is done with. */
void dg_backlog_pop(struct receiver *receiver);
/* The receiver may be long in coming back to its backlog: the arrivals leave their slots. */
void dg_backlog_leave_slots(struct receiver *receiver);
void dg_backlog_discard(struct receiver *receiver);

/* The rotation: a receiver with a backlog joins it at its end, unless it is in it already; the next
 * one whose turn it is leaves it. NULL: nobody, or nobody in this turn any more. */
void dg_backlog_join(struct receiver *receiver);
struct receiver *dg_backlog_next(struct inlet *inlet);
/* Copies the arrival of one slot, for a receiver that starves. Not while handlers run. */
bool dg_backlog_make_room(struct inlet *inlet);

/* Whether these bytes are of a copy that a handler has. */
bool dg_backlog_owns(const struct inlet *inlet, const void *data);

/* The dispatch is done with the slot. */
void dg_slot_done(struct dgram_loop *loop, uint32_t slot);

#endif
