/* SPDX-License-Identifier: MIT */
/*
 * receive.c: from RECEIVED records to `message` events.
 *
 * Owns the decision when a socket receives (bound, not paused, a handler is set, nothing held,
 * slots are free) and the taking apart of trains. A parcel is the content of one record; its
 * messages point into the slot, which goes back to the engine when the last one is done. Between
 * any two messages the handler may have closed, paused or changed the socket: `delivers` says so in
 * one flag. The turn may be over, too (backlog.c): then the parcel waits for the next one.
 */
#include <string.h>

#include "src/core.h"

enum { ERRORS_AT_ONCE = 16 };
#define ERRORS_PAUSE_NS UINT64_C(1000000000)

/* ---- Starting and stopping ----------------------------------------------------------------- */

static bool socket_has_handler(const struct dgram_socket *socket)
{
    return socket->on_message != NULL || socket->on_messages != NULL;
}

/* A socket that holds parcels does not receive: they are delivered first, and newer datagrams wait
 * in the kernel's buffer. */
static bool receive_is_wanted(const struct dgram_socket *socket)
{
    bool more = socket->state != SOCKET_EMPTYING || socket->more;
    return socket->delivers && socket->bound && queue_is_empty(&socket->held) && more;
}

void dg_receive_update(struct dgram_socket *socket)
{
    socket->delivers =
        socket->state < SOCKET_CLOSING && !socket->paused && socket_has_handler(socket);
    if (socket->delivers && !queue_is_empty(&socket->held)) {
        dg_backlog_join(socket);
    }
    bool leaves_slots = !socket->delivers && socket->held_slots > 0;
    if (leaves_slots || receive_is_wanted(socket) != (socket->receive == RECEIVE_ON)) {
        dg_socket_due(socket, DUE_RECEIVE);
    }
}

static void receive_begin(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    socket->receive = RECEIVE_ON;
    loop->backend->recv_start(loop->engine, &socket->endpoint);
}

static struct dgram_socket *starved_pop(struct dgram_loop *loop)
{
    struct node *list = !node_alone(&loop->starved) ? &loop->starved : &loop->starved_fed;
    return node_alone(list) ? NULL : owner_of(node_take(list), struct dgram_socket, starved);
}

/* One flooded socket takes all slots as soon as it is started; those that got nothing meanwhile
 * must come before it, or it would be first every time. */
static void starved_append(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    struct node *list = socket->fed ? &loop->starved_fed : &loop->starved;
    socket->fed = false;
    socket->receive = RECEIVE_STARVED;
    node_append(list, &socket->starved);
}

/* Starts or stops the engine's receive, as the socket wants it. */
void dg_receive_apply(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    bool wanted = receive_is_wanted(socket);
    if (!socket->delivers) {
        dg_backlog_leave_slots(socket);
    }
    if (wanted && socket->receive == RECEIVE_OFF) {
        receive_begin(socket);
    } else if (!wanted && socket->receive == RECEIVE_ON) {
        socket->receive = RECEIVE_STOPPING;
        loop->backend->recv_stop(loop->engine, &socket->endpoint);
    } else if (!wanted && socket->receive == RECEIVE_STARVED) {
        node_remove(&socket->starved);
        socket->receive = RECEIVE_OFF;
    } else if (!wanted && socket->receive == RECEIVE_FAILED) {
        socket->receive = RECEIVE_OFF;
    }
}

void dg_receive_retry(struct dgram_socket *socket)
{
    if (socket->receive == RECEIVE_FAILED) {
        socket->receive = RECEIVE_OFF;
        dg_receive_update(socket);
    }
}

/* The first errors in a row are all told, those of a failure that lasts once a second. */
static void receive_tell(struct dgram_socket *socket, int result)
{
    uint64_t now = socket->loop->now;
    if (socket->receive_errors < ERRORS_AT_ONCE || now - socket->receive_told >= ERRORS_PAUSE_NS) {
        socket->receive_told = now;
        dg_error_queue(socket, "recvmsg", result, NULL, 0, 1);
    } else {
        socket->stats.errors_lost++;
    }
}

/* A few errors in a row are ICMP answers to as many sends. More of them without a datagram between
 * may last: the kernel has no memory for the request (ENOMEM), epoll has no place left (ENOSPC).
 * They would come as fast as the loop turns, so the receive begins again after a millisecond. */
static void receive_failed(struct dgram_socket *socket, int result)
{
    receive_tell(socket, result);
    if (socket->receive_errors < ERRORS_AT_ONCE) {
        socket->receive_errors++;
    } else if (receive_is_wanted(socket)) {
        socket->receive = RECEIVE_FAILED;
        dg_socket_retry_soon(socket);
    }
}

/* Errors that end a receive and are not about memory or slots: an ICMP answer to an older send. */
void dg_receive_stopped(struct dgram_socket *socket, int result)
{
    assert(socket->receive == RECEIVE_ON || socket->receive == RECEIVE_STOPPING);
    socket->receive = RECEIVE_OFF;
    if (socket->state >= SOCKET_CLOSING) {
        return;
    }
    if (result == -ENOBUFS && receive_is_wanted(socket)) {
        starved_append(socket);
        return;
    }
    if (result < 0 && result != -ENOBUFS && result != -ECANCELED) {
        receive_failed(socket, result);
    }
    dg_receive_update(socket);
}

/* An engine may keep a slot to itself (the ring does, to peek): the last one may be of no use. */
enum { KEPT_BY_ENGINE = 1 };

static bool somebody_starves(const struct dgram_loop *loop)
{
    return !node_alone(&loop->starved) || !node_alone(&loop->starved_fed);
}

/* Gives released slots back, then starts starved sockets: no more of them in a turn than slots are
 * free. If all are flooded, each of the others would only starve again. */
void dg_receive_prepare(struct dgram_loop *loop)
{
    for (uint32_t slot; dg_pool_returned(loop->pool, &slot);) {
        loop->backend->recycle(loop->engine, slot);
    }
    uint32_t starts = dg_pool_free_count(loop->pool);
    if (starts <= KEPT_BY_ENGINE && somebody_starves(loop)) {
        starts += dg_backlog_make_room(loop);
    }
    for (struct dgram_socket *s; starts > 0 && (s = starved_pop(loop)) != NULL; starts--) {
        s->receive = RECEIVE_OFF;
        dg_receive_apply(s);
    }
}

bool dg_receive_has_work(const struct dgram_loop *loop)
{
    return somebody_starves(loop) && dg_pool_free_count(loop->pool) > 0;
}

/* ---- Delivering ---------------------------------------------------------------------------- */

/* The size of its next datagram. */
static uint32_t parcel_step(const struct parcel *parcel)
{
    bool more = parcel->segment != 0 && parcel->segment < parcel->size;
    return more ? parcel->segment : parcel->size;
}

/* As far as it is the same for all of its datagrams. */
static struct dgram_message parcel_message(const struct parcel *parcel)
{
    return (struct dgram_message){
        .from = parcel->from,
        .flags = parcel->truncated ? DGRAM_TRUNCATED : 0,
        .owner = parcel->owner,
    };
}

/* Takes the next datagram off a parcel. False when it was the last. */
static bool parcel_next(struct parcel *parcel, struct dgram_message *message)
{
    uint32_t size = parcel_step(parcel);
    *message = parcel_message(parcel);
    message->data = parcel->data;
    message->size = size;
    message->real_size = parcel->truncated ? parcel->real_size : size;
    parcel->data += size;
    parcel->size -= size;
    return parcel->size > 0;
}

/* The only datagram of a parcel, or the last: most come alone, and need no walk. */
static void deliver_last(struct dgram_socket *socket, struct parcel *parcel)
{
    struct dgram_message message;
    bool left = parcel_next(parcel, &message);
    assert(!left);
    (void) left;
    socket->stats.received++;
    socket->stats.received_bytes += message.size;
    socket->on_message(socket, &message, socket->message_user);
    dg_turn_delivered(socket, 1);
}

/* Full ones of a train, one handler call each, until the next look: the walk keeps all that it
 * needs in registers. Returns whether something is left, be it a shorter one at the end. */
static bool deliver_full_ones(struct dgram_socket *socket, struct parcel *parcel)
{
    const struct dgram_loop *loop = socket->loop;
    struct dgram_message message = parcel_message(parcel);
    uint32_t step = parcel->segment;
    uint32_t whole = parcel->size / step, allowed = dg_turn_allows(socket);
    uint32_t count = whole < allowed ? whole : allowed, left = count;
    const unsigned char *data = parcel->data;
    message.size = step;
    message.real_size = parcel->truncated ? parcel->real_size : step;
    do {
        message.data = data;
        data += step;
        left--;
        socket->stats.received++;
        socket->stats.received_bytes += step;
        socket->on_message(socket, &message, socket->message_user);
    } while (left > 0 && socket->delivers && socket->on_messages == NULL && !dg_loop_forked(loop));
    parcel->data = data;
    parcel->size -= (count - left) * step;
    dg_turn_delivered(socket, count - left);
    return parcel->size > 0;
}

static bool deliver_one_by_one(struct dgram_socket *socket, struct parcel *parcel)
{
    if (parcel_step(parcel) < parcel->size) {
        return deliver_full_ones(socket, parcel);
    }
    deliver_last(socket, parcel);
    return false;
}

/* Of the next array: a socket whose datagrams take long gets as many as may pass unseen. */
static uint32_t array_size(const struct dgram_socket *socket)
{
    bool quick = socket->pace == 0 || socket->pace == PACE_MAX;
    return quick ? MESSAGES_MAX : socket->pace;
}

/* Appends the parcel's datagrams to the loop's array, up to `most` in all. Returns whether some are
 * left: it is full. */
static bool array_fill(struct dgram_socket *socket, uint32_t most, uint32_t *count,
                       struct parcel *parcel)
{
    struct dgram_message *messages = socket->loop->messages;
    uint32_t bytes = parcel->size;
    uint32_t before = *count;
    bool left = true;
    while (left && *count < most) {
        left = parcel_next(parcel, &messages[(*count)++]);
    }
    socket->stats.received += *count - before;
    socket->stats.received_bytes += bytes - parcel->size;
    return left;
}

static void array_deliver(struct dgram_socket *socket, uint32_t count)
{
    socket->on_messages(socket, socket->loop->messages, count, socket->messages_user);
    dg_turn_delivered(socket, count);
}

static bool deliver_array(struct dgram_socket *socket, struct parcel *parcel)
{
    uint32_t count = 0;
    bool left = array_fill(socket, array_size(socket), &count, parcel);
    array_deliver(socket, count);
    return left;
}

/* Returns whether something is left, because the socket no longer delivers or the turn is over. */
static bool parcel_deliver(struct dgram_socket *socket, struct parcel *parcel)
{
    const struct dgram_loop *loop = socket->loop;
    bool left = true;
    while (left && socket->delivers && !loop->turn.over && !dg_loop_forked(loop)) {
        left = socket->on_messages != NULL ? deliver_array(socket, parcel)
                                           : deliver_one_by_one(socket, parcel);
    }
    return left;
}

/* ---- What was held back -------------------------------------------------------------------- */

/* The handler that is called next has so many of these. */
static void serving(struct dgram_loop *loop, const struct queue *held, uint32_t count)
{
    loop->served = held;
    loop->served_count = count;
}

/* One array of held parcels that follow each other. Their slots are free when the handler has
 * returned. */
static void serve_array(struct dgram_socket *socket)
{
    struct link *link = queue_first(&socket->held);
    uint32_t most = array_size(socket), count = 0, done = 0;
    while (link != NULL && count < most &&
           !array_fill(socket, most, &count, &((struct held *) link)->parcel)) {
        link = queue_after(&socket->held, link);
        done++;
    }
    serving(socket->loop, &socket->held, done + 1);
    array_deliver(socket, count);
    serving(socket->loop, NULL, 0);
    for (; done > 0; done--) {
        dg_backlog_pop(socket);
    }
}

static bool serve_one_by_one(struct dgram_socket *socket)
{
    struct held *held = (struct held *) queue_first(&socket->held);
    serving(socket->loop, &socket->held, 1);
    bool left = deliver_one_by_one(socket, &held->parcel);
    serving(socket->loop, NULL, 0);
    return left;
}

/* Until the quantum is over, or the socket no longer delivers: the first parcel remembers where. */
void dg_receive_serve(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    while (!queue_is_empty(&socket->held) && socket->delivers && !loop->turn.over &&
           !dg_loop_forked(loop)) {
        if (socket->on_messages != NULL) {
            serve_array(socket);
        } else if (!serve_one_by_one(socket)) {
            dg_backlog_pop(socket);
        }
    }
    dg_receive_update(socket);
}

bool dg_receive_owns(const struct dgram_loop *loop, const void *data)
{
    return dg_backlog_owns(loop, data) || dg_pool_contains(loop->pool, data);
}

/* ---- Records ------------------------------------------------------------------------------- */

static struct parcel parcel_open(struct dgram_loop *loop, const struct completion *record)
{
    struct dgram_socket *socket = (struct dgram_socket *) record->endpoint;
    struct dgram_addr *from;
    struct parcel parcel = {
        .data = record->data,
        .size = record->size,
        .real_size = record->real_size,
        .truncated = record->truncated,
        .owner = dg_pool_lend(loop->pool, record->slot, &from),
    };
    dg_address_set(from, record->name, record->name_size);
    parcel.from = from;
    if (parcel.size > loop->slot_size) { /* the slot's headroom is not the program's */
        parcel.size = loop->slot_size;
        parcel.truncated = true;
    }
    if (socket->gro && record->control_size > 0) {
        parcel.segment = dg_cmsg_segment(record->control, record->control_size);
    }
    socket->fed = true;
    socket->receive_errors = 0;
    socket->stats.receives++;
    socket->stats.truncated += parcel.truncated;
    return parcel;
}

/* The rest of a parcel waits for the next turn or until the socket delivers again; or it is
 * discarded, because the socket is closed. Returns whether it stays in its slot. */
static bool parcel_leave(struct dgram_socket *socket, const struct parcel *parcel, uint32_t slot)
{
    if (socket->delivers) {
        dg_backlog_keep(socket, parcel, slot);
        return true;
    }
    if (socket->state < SOCKET_CLOSING) {
        dg_backlog_copy(socket, parcel);
    } else {
        socket->stats.discarded += dg_parcel_count(parcel);
    }
    return false;
}

static bool same_socket(const struct completion *one, const struct completion *two)
{
    return two->kind == COMPLETION_RECEIVED && two->endpoint == one->endpoint;
}

/* Delivers one array of all records of the socket that follow each other, as far as there is room.
 * Datagrams that were sent alone make arrays as long as a train does. */
static uint32_t receive_array(struct dgram_socket *socket, const struct completion *records,
                              uint32_t count, bool *ret_stays)
{
    struct dgram_loop *loop = socket->loop;
    struct parcel parcel;
    uint32_t most = array_size(socket), messages = 0, taken = 0;
    bool left;
    do {
        parcel = parcel_open(loop, &records[taken++]);
        left = array_fill(socket, most, &messages, &parcel);
    } while (!left && messages < most && taken < count && same_socket(records, &records[taken]));
    array_deliver(socket, messages);
    if (left && parcel_deliver(socket, &parcel)) {
        *ret_stays = parcel_leave(socket, &parcel, records[taken - 1].slot);
    }
    return taken;
}

/* Held parcels come before the new one, so that the order is kept. */
static bool receive_parcel(struct dgram_socket *socket, const struct completion *record)
{
    struct parcel parcel = parcel_open(socket->loop, record);
    bool waits = !queue_is_empty(&socket->held) || dg_turn_is_full(socket->loop);
    bool left = waits || parcel_deliver(socket, &parcel);
    return left && parcel_leave(socket, &parcel, record->slot);
}

uint32_t dg_receive_completed(struct dgram_loop *loop, const struct completion *records,
                              uint32_t count)
{
    struct dgram_socket *socket = (struct dgram_socket *) records->endpoint;
    bool joins = socket->on_messages != NULL && socket->delivers && queue_is_empty(&socket->held) &&
                 !dg_turn_is_full(loop);
    uint32_t taken = 1;
    bool stays = false; /* the last one, in its slot */
    if (joins) {
        taken = receive_array(socket, records, count, &stays);
    } else {
        stays = receive_parcel(socket, records);
    }
    for (uint32_t i = 0; i < taken - stays; i++) {
        dg_slot_done(loop, records[i].slot);
    }
    return taken;
}

int dgram_pause(struct dgram_socket *socket)
{
    int code = dg_socket_check(socket);
    if (code == 0) {
        socket->paused = true;
        dg_receive_update(socket);
    }
    return code;
}

int dgram_resume(struct dgram_socket *socket)
{
    int code = dg_socket_check(socket);
    if (code == 0) {
        socket->paused = false;
        dg_receive_update(socket);
    }
    return code;
}
