/* SPDX-License-Identifier: MIT */
/*
 * receive.c: from RECEIVED records to `message` events.
 *
 * Owns the decision when a socket receives (bound, not paused, a handler is set, the backlog is
 * empty, slots are free) and the taking apart of trains. An arrival is the content of one record;
 * its messages point into the slot, which goes back to the engine when the last one is done.
 * Between any two messages the handler may have closed, paused or changed the socket: `delivers`
 * says so in one flag. The turn may be over, too (backlog.c): then the arrival waits for the next
 * one.
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

/* A socket that holds arrivals does not receive: they are delivered first, and newer datagrams wait
 * in the kernel's buffer. */
static bool receive_is_wanted(const struct dgram_socket *socket)
{
    bool more = socket->state != SOCKET_EMPTYING || socket->more;
    return socket->delivers && socket->bound && queue_is_empty(&socket->backlog) && more;
}

void dg_receive_update(struct dgram_socket *socket)
{
    socket->delivers =
        socket->state < SOCKET_CLOSING && !socket->paused && socket_has_handler(socket);
    if (socket->delivers && !queue_is_empty(&socket->backlog)) {
        dg_backlog_join(socket);
    }
    bool leaves_slots = !socket->delivers && socket->backlog_slots > 0;
    if (leaves_slots || receive_is_wanted(socket) != (socket->receive == RECEIVE_ON)) {
        dg_agenda_add(&socket->loop->agenda, &socket->receiving);
    }
}

static void receive_begin(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    socket->receive = RECEIVE_ON;
    loop->io.backend->recv_start(loop->io.engine, &socket->endpoint);
}

static struct dgram_socket *starved_pop(struct dgram_loop *loop)
{
    struct node *list = !node_alone(&loop->starved) ? &loop->starved : &loop->starved_again;
    return node_alone(list) ? NULL : owner_of(node_take(list), struct dgram_socket, starved);
}

/* One flooded socket takes all slots as soon as it is started; those that got nothing meanwhile
 * must come before it, or it would be first every time. */
static void starved_append(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    struct node *list = socket->got_some ? &loop->starved_again : &loop->starved;
    socket->got_some = false;
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
        loop->io.backend->recv_stop(loop->io.engine, &socket->endpoint);
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
        const struct dg_error error = {.operation = "recvmsg", .code = result, .repeat = 1};
        dg_error_queue(&socket->errors, &error);
    } else {
        socket->errors.lost++;
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
    return !node_alone(&loop->starved) || !node_alone(&loop->starved_again);
}

/* Gives released slots back, then starts starved sockets: no more of them in a turn than slots are
 * free. If all are flooded, each of the others would only starve again. */
void dg_receive_prepare(struct dgram_loop *loop)
{
    for (uint32_t slot; dg_pool_returned(loop->pool, &slot);) {
        loop->io.backend->recycle(loop->io.engine, slot);
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
static void deliver_last(struct dgram_socket *socket, struct arrival *arrival)
{
    struct dgram_message message;
    bool left = arrival_next(arrival, &message);
    assert(!left);
    (void) left;
    socket->stats.received++;
    socket->stats.received_bytes += message.size;
    socket->on_message(socket, &message, socket->message_user);
    dg_turn_delivered(socket, 1);
}

/* Full ones of a train, one handler call each, until the next look: the walk keeps all that it
 * needs in registers. Returns whether something is left, be it a shorter one at the end. */
static bool deliver_full_ones(struct dgram_socket *socket, struct arrival *arrival)
{
    const struct dgram_loop *loop = socket->loop;
    struct dgram_message message = arrival_message(arrival);
    uint32_t step = arrival->segment;
    uint32_t whole = arrival->size / step, allowed = dg_turn_allows(socket);
    uint32_t count = whole < allowed ? whole : allowed, left = count;
    const unsigned char *data = arrival->data;
    message.size = step;
    message.real_size = arrival->truncated ? arrival->real_size : step;
    do {
        message.data = data;
        data += step;
        left--;
        socket->stats.received++;
        socket->stats.received_bytes += step;
        socket->on_message(socket, &message, socket->message_user);
    } while (left > 0 && socket->delivers && socket->on_messages == NULL && !dg_loop_forked(loop));
    arrival->data = data;
    arrival->size -= (count - left) * step;
    dg_turn_delivered(socket, count - left);
    return arrival->size > 0;
}

static bool deliver_one_by_one(struct dgram_socket *socket, struct arrival *arrival)
{
    if (arrival_step(arrival) < arrival->size) {
        return deliver_full_ones(socket, arrival);
    }
    deliver_last(socket, arrival);
    return false;
}

/* Of the next array: a socket whose datagrams take long gets as many as may pass unseen. */
static uint32_t array_size(const struct dgram_socket *socket)
{
    bool quick = socket->pace == 0 || socket->pace == PACE_MAX;
    return quick ? MESSAGES_MAX : socket->pace;
}

/* Appends the arrival's datagrams to the loop's array, up to `most` in all. Returns whether some
 * are left: it is full. */
static bool array_fill(struct dgram_socket *socket, uint32_t most, uint32_t *count,
                       struct arrival *arrival)
{
    struct dgram_message *messages = socket->loop->messages;
    uint32_t bytes = arrival->size;
    uint32_t before = *count;
    bool left = true;
    while (left && *count < most) {
        left = arrival_next(arrival, &messages[(*count)++]);
    }
    socket->stats.received += *count - before;
    socket->stats.received_bytes += bytes - arrival->size;
    return left;
}

static void array_deliver(struct dgram_socket *socket, uint32_t count)
{
    socket->on_messages(socket, socket->loop->messages, count, socket->messages_user);
    dg_turn_delivered(socket, count);
}

static bool deliver_array(struct dgram_socket *socket, struct arrival *arrival)
{
    uint32_t count = 0;
    bool left = array_fill(socket, array_size(socket), &count, arrival);
    array_deliver(socket, count);
    return left;
}

/* Returns whether something is left, because the socket no longer delivers or the turn is over. */
static bool arrival_deliver(struct dgram_socket *socket, struct arrival *arrival)
{
    const struct dgram_loop *loop = socket->loop;
    bool left = true;
    while (left && socket->delivers && !loop->turn.over && !dg_loop_forked(loop)) {
        left = socket->on_messages != NULL ? deliver_array(socket, arrival)
                                           : deliver_one_by_one(socket, arrival);
    }
    return left;
}

/* ---- The backlog --------------------------------------------------------------------------- */

/* The handler that is called next has so many of these. */
static void serving(struct dgram_loop *loop, const struct queue *backlog, uint32_t count)
{
    loop->served = backlog;
    loop->served_count = count;
}

/* One array of arrivals of the backlog that follow each other. Their slots are free when the
 * handler has returned. */
static void serve_array(struct dgram_socket *socket)
{
    struct link *link = queue_first(&socket->backlog);
    uint32_t most = array_size(socket), count = 0, done = 0;
    while (link != NULL && count < most &&
           !array_fill(socket, most, &count, &((struct backlog_item *) link)->arrival)) {
        link = queue_after(&socket->backlog, link);
        done++;
    }
    serving(socket->loop, &socket->backlog, done + 1);
    array_deliver(socket, count);
    serving(socket->loop, NULL, 0);
    for (; done > 0; done--) {
        dg_backlog_pop(socket);
    }
}

static bool serve_one_by_one(struct dgram_socket *socket)
{
    struct backlog_item *item = (struct backlog_item *) queue_first(&socket->backlog);
    serving(socket->loop, &socket->backlog, 1);
    bool left = deliver_one_by_one(socket, &item->arrival);
    serving(socket->loop, NULL, 0);
    return left;
}

/* Until the quantum is over, or the socket no longer delivers: the first arrival remembers where. */
void dg_receive_serve(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    while (!queue_is_empty(&socket->backlog) && socket->delivers && !loop->turn.over &&
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

static struct arrival arrival_open(struct dgram_loop *loop, const struct completion *record)
{
    struct dgram_socket *socket = (struct dgram_socket *) record->endpoint;
    struct dgram_addr *from;
    struct arrival arrival = {
        .data = record->data,
        .size = record->size,
        .real_size = record->real_size,
        .truncated = record->truncated,
        .owner = dg_pool_take(loop->pool, record->slot, &from),
    };
    dg_address_set(from, record->name, record->name_size);
    arrival.from = from;
    if (arrival.size > loop->slot_size) { /* the slot's headroom is not the program's */
        arrival.size = loop->slot_size;
        arrival.truncated = true;
    }
    if (socket->gro && record->control_size > 0) {
        arrival.segment = dg_cmsg_segment(record->control, record->control_size);
    }
    socket->got_some = true;
    socket->receive_errors = 0;
    socket->stats.receives++;
    socket->stats.truncated += arrival.truncated;
    return arrival;
}

/* The rest of an arrival waits for the next turn or until the socket delivers again; or it is
 * discarded, because the socket is closed. Returns whether it stays in its slot. */
static bool arrival_leave(struct dgram_socket *socket, const struct arrival *arrival, uint32_t slot)
{
    if (socket->delivers) {
        dg_backlog_keep(socket, arrival, slot);
        return true;
    }
    if (socket->state < SOCKET_CLOSING) {
        dg_backlog_copy(socket, arrival);
    } else {
        socket->stats.discarded += dg_arrival_count(arrival);
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
    struct arrival arrival;
    uint32_t most = array_size(socket), messages = 0, taken = 0;
    bool left;
    do {
        arrival = arrival_open(loop, &records[taken++]);
        left = array_fill(socket, most, &messages, &arrival);
    } while (!left && messages < most && taken < count && same_socket(records, &records[taken]));
    array_deliver(socket, messages);
    if (left && arrival_deliver(socket, &arrival)) {
        *ret_stays = arrival_leave(socket, &arrival, records[taken - 1].slot);
    }
    return taken;
}

/* Held arrivals come before the new one, so that the order is kept. */
static bool receive_parcel(struct dgram_socket *socket, const struct completion *record)
{
    struct arrival arrival = arrival_open(socket->loop, record);
    bool waits = !queue_is_empty(&socket->backlog) || dg_turn_is_full(socket->loop);
    bool left = waits || arrival_deliver(socket, &arrival);
    return left && arrival_leave(socket, &arrival, record->slot);
}

uint32_t dg_receive_completed(struct dgram_loop *loop, const struct completion *records,
                              uint32_t count)
{
    struct dgram_socket *socket = (struct dgram_socket *) records->endpoint;
    bool joins = socket->on_messages != NULL && socket->delivers &&
                 queue_is_empty(&socket->backlog) && !dg_turn_is_full(loop);
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
