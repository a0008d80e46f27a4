/* SPDX-License-Identifier: MIT */
/* deliver.c: see deliver.h. */
#include "src/receive/deliver.h"

#include <assert.h>

#include "src/base/list.h"
#include "src/base/queue.h"
#include "src/core/check.h"
#include "src/core/io.h"
#include "src/net/address.h"
#include "src/net/cmsg.h"
#include "src/receive/backlog.h"
#include "src/system.h"

/* ---- Delivering ---------------------------------------------------------------------------- */

/* The size of its next datagram. */
static uint32_t arrival_step(const struct arrival *arrival)
{
    bool more = arrival->segment != 0 && arrival->segment < arrival->size;
    return more ? arrival->segment : arrival->size;
}

/* As far as it is the same for all of its datagrams. */
static struct dgram_message arrival_message(const struct arrival *arrival)
{
    return (struct dgram_message){
        .from = arrival->from,
        .flags = arrival->truncated ? DGRAM_TRUNCATED : 0,
        .owner = arrival->owner,
    };
}

/* Takes the next datagram off an arrival. False when it was the last. */
static bool arrival_next(struct arrival *arrival, struct dgram_message *message)
{
    uint32_t size = arrival_step(arrival);
    *message = arrival_message(arrival);
    message->data = arrival->data;
    message->size = size;
    message->real_size = arrival->truncated ? arrival->real_size : size;
    arrival->data += size;
    arrival->size -= size;
    return arrival->size > 0;
}

/* The only datagram of an arrival, or the last: most come alone, and need no walk. */
static void deliver_last(struct receiver *receiver, struct arrival *arrival)
{
    struct dgram_message message;
    bool left = arrival_next(arrival, &message);
    assert(!left);
    (void) left;
    receiver->received++;
    receiver->received_bytes += message.size;
    receiver->on_message(receiver->socket, &message, receiver->message_user);
    turn_delivered(receiver, 1);
}

/* Full ones of a train, one handler call each, until the next look: the walk keeps all that it
 * needs in registers. Returns whether something is left, be it a shorter one at the end. */
static bool deliver_full_ones(struct receiver *receiver, struct arrival *arrival)
{
    const struct dgram_loop *loop = receiver->loop;
    struct dgram_message message = arrival_message(arrival);
    uint32_t step = arrival->segment;
    uint32_t whole = arrival->size / step, allowed = turn_allows(receiver);
    uint32_t count = whole < allowed ? whole : allowed, left = count;
    const unsigned char *data = arrival->data;
    message.size = step;
    message.real_size = arrival->truncated ? arrival->real_size : step;
    do {
        message.data = data;
        data += step;
        left--;
        receiver->received++;
        receiver->received_bytes += step;
        receiver->on_message(receiver->socket, &message, receiver->message_user);
    } while (left > 0 && receiver->delivers && receiver->on_messages == NULL && !loop_forked(loop));
    arrival->data = data;
    arrival->size -= (count - left) * step;
    turn_delivered(receiver, count - left);
    return arrival->size > 0;
}

static bool deliver_one_by_one(struct receiver *receiver, struct arrival *arrival)
{
    if (arrival_step(arrival) < arrival->size) {
        return deliver_full_ones(receiver, arrival);
    }
    deliver_last(receiver, arrival);
    return false;
}

/* Of the next array: a socket whose datagrams take long gets as many as may pass unseen. */
static uint32_t array_size(const struct receiver *receiver)
{
    bool quick = receiver->pace == 0 || receiver->pace == PACE_MAX;
    return quick ? MESSAGES_MAX : receiver->pace;
}

/* Appends the arrival's datagrams to the loop's array, up to `most` in all. Returns whether some
 * are left: it is full. */
static bool array_fill(struct receiver *receiver, uint32_t most, uint32_t *count,
                       struct arrival *arrival)
{
    struct dgram_message *messages = receiver->loop->inlet->messages;
    uint32_t bytes = arrival->size;
    uint32_t before = *count;
    bool left = true;
    while (left && *count < most) {
        left = arrival_next(arrival, &messages[(*count)++]);
    }
    receiver->received += *count - before;
    receiver->received_bytes += bytes - arrival->size;
    return left;
}

static void array_deliver(struct receiver *receiver, uint32_t count)
{
    receiver->on_messages(receiver->socket, receiver->loop->inlet->messages, count,
                          receiver->messages_user);
    turn_delivered(receiver, count);
}

static bool deliver_array(struct receiver *receiver, struct arrival *arrival)
{
    uint32_t count = 0;
    bool left = array_fill(receiver, array_size(receiver), &count, arrival);
    array_deliver(receiver, count);
    return left;
}

/* Returns whether something is left, because the socket no longer delivers or the turn is over. */
static bool arrival_deliver(struct receiver *receiver, struct arrival *arrival)
{
    const struct dgram_loop *loop = receiver->loop;
    bool left = true;
    while (left && receiver->delivers && !loop->inlet->turn.over && !loop_forked(loop)) {
        left = receiver->on_messages != NULL ? deliver_array(receiver, arrival)
                                             : deliver_one_by_one(receiver, arrival);
    }
    return left;
}

/* ---- The backlog --------------------------------------------------------------------------- */

/* The handler that is called next has so many of these. */
static void serving(struct dgram_loop *loop, const struct queue *backlog, uint32_t count)
{
    loop->inlet->served = backlog;
    loop->inlet->served_count = count;
}

/* One array of arrivals of the backlog that follow each other. Their slots are free when the
 * handler has returned. */
static void serve_array(struct receiver *receiver)
{
    struct link *link = queue_first(&receiver->backlog);
    uint32_t most = array_size(receiver), count = 0, done = 0;
    while (link != NULL && count < most &&
           !array_fill(receiver, most, &count, &((struct backlog_item *) link)->arrival)) {
        link = queue_after(&receiver->backlog, link);
        done++;
    }
    serving(receiver->loop, &receiver->backlog, done + 1);
    array_deliver(receiver, count);
    serving(receiver->loop, NULL, 0);
    for (; done > 0; done--) {
        dg_backlog_pop(receiver);
    }
}

static bool serve_one_by_one(struct receiver *receiver)
{
    struct backlog_item *item = (struct backlog_item *) queue_first(&receiver->backlog);
    serving(receiver->loop, &receiver->backlog, 1);
    bool left = deliver_one_by_one(receiver, &item->arrival);
    serving(receiver->loop, NULL, 0);
    return left;
}

/* Until the quantum is over, or the socket no longer delivers: the first arrival remembers where.
 * */
static void serve(struct receiver *receiver)
{
    struct dgram_loop *loop = receiver->loop;
    while (!queue_is_empty(&receiver->backlog) && receiver->delivers && !loop->inlet->turn.over &&
           !loop_forked(loop)) {
        if (receiver->on_messages != NULL) {
            serve_array(receiver);
        } else if (!serve_one_by_one(receiver)) {
            dg_backlog_pop(receiver);
        }
    }
    dg_receiver_update(receiver);
}

uint64_t dg_deliver_backlog(struct dgram_loop *loop)
{
    struct receiver *receiver = loop_forked(loop) ? NULL : dg_backlog_next(loop->inlet);
    if (receiver == NULL) {
        return 0;
    }
    uint64_t before = receiver->received;
    serve(receiver);
    return receiver->received - before;
}

/* ---- Records ------------------------------------------------------------------------------- */

static struct arrival arrival_open(struct receiver *receiver, const struct completion *record)
{
    const struct inlet *inlet = receiver->loop->inlet;
    struct dgram_addr *from;
    struct arrival arrival = {
        .data = record->data,
        .size = record->size,
        .real_size = record->real_size,
        .truncated = record->truncated,
        .owner = dg_pool_take(inlet->pool, record->slot, &from),
    };
    dg_address_set(from, record->name, record->name_size);
    arrival.from = from;
    if (arrival.size > inlet->slot_size) { /* the slot's headroom is not the program's */
        arrival.size = inlet->slot_size;
        arrival.truncated = true;
    }
    if (receiver->gro && record->control_size > 0) {
        arrival.segment = dg_cmsg_segment(record->control, record->control_size);
    }
    receiver->got_some = true;
    receiver->errors = 0;
    receiver->receives++;
    receiver->truncated += arrival.truncated;
    return arrival;
}

/* The rest of an arrival waits for the next turn or until the socket delivers again; or it is
 * discarded, because the socket is closed. Returns whether it stays in its slot. */
static bool arrival_leave(struct receiver *receiver, const struct arrival *arrival, uint32_t slot)
{
    if (receiver->delivers) {
        dg_backlog_keep(receiver, arrival, slot);
        dg_receiver_update(receiver);
        return true;
    }
    if (!receiver->closed) {
        dg_backlog_copy(receiver, arrival);
    } else {
        receiver->discarded += arrival_count(arrival);
    }
    return false;
}

static bool same_socket(const struct completion *one, const struct completion *two)
{
    return two->kind == COMPLETION_RECEIVED && two->endpoint == one->endpoint;
}

/* Delivers one array of all records of the socket that follow each other, as far as there is room.
 * Datagrams that were sent alone make arrays as long as a train does. */
static uint32_t receive_array(struct receiver *receiver, const struct completion *records,
                              uint32_t count, bool *ret_stays)
{
    struct arrival arrival;
    uint32_t most = array_size(receiver), messages = 0, taken = 0;
    bool left;
    do {
        arrival = arrival_open(receiver, &records[taken++]);
        left = array_fill(receiver, most, &messages, &arrival);
    } while (!left && messages < most && taken < count && same_socket(records, &records[taken]));
    array_deliver(receiver, messages);
    if (left && arrival_deliver(receiver, &arrival)) {
        *ret_stays = arrival_leave(receiver, &arrival, records[taken - 1].slot);
    }
    return taken;
}

/* The backlog comes before the new one, so that the order is kept. */
static bool receive_one(struct receiver *receiver, const struct completion *record)
{
    struct arrival arrival = arrival_open(receiver, record);
    bool waits = !queue_is_empty(&receiver->backlog) || turn_is_full(receiver->loop->inlet);
    bool left = waits || arrival_deliver(receiver, &arrival);
    return left && arrival_leave(receiver, &arrival, record->slot);
}

uint32_t dg_deliver(struct receiver *receiver, const struct completion *records, uint32_t count,
                    uint64_t *ret_datagrams)
{
    uint64_t before = receiver->received;
    bool joins = receiver->on_messages != NULL && receiver->delivers &&
                 queue_is_empty(&receiver->backlog) && !turn_is_full(receiver->loop->inlet);
    uint32_t taken = 1;
    bool stays = false; /* the last one, in its slot */
    if (joins) {
        taken = receive_array(receiver, records, count, &stays);
    } else {
        stays = receive_one(receiver, records);
    }
    for (uint32_t i = 0; i < taken - stays; i++) {
        dg_slot_done(receiver->loop, records[i].slot);
    }
    *ret_datagrams = receiver->received - before;
    return taken;
}

void dg_deliver_begin(struct dgram_loop *loop, bool late)
{
    bool asks = late && (loop->io->dispatching.count > 0 || !node_alone(&loop->inlet->rotation));
    dg_turn_begin(loop->inlet, asks ? loop->system->now() : loop->now);
}
