/* SPDX-License-Identifier: MIT */
/*
 * receive.c: from RECEIVED records to `message` events.
 *
 * Owns the decision when a socket receives (bound, not paused, a handler is set, slots are free)
 * and the taking apart of trains. A parcel is what one record holds; its messages point into the
 * slot, which goes back to the engine when the last one is done. Between any two messages the
 * handler may have closed, paused or changed the socket: `delivers` says so in one flag.
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

/* What is held back comes first, and the kernel's buffer is the place where more of it waits. */
static bool receive_is_wanted(const struct dgram_socket *socket)
{
    return socket->delivers && socket->bound && socket->held_head == NULL;
}

void dg_receive_update(struct dgram_socket *socket)
{
    socket->delivers =
        socket->state < SOCKET_CLOSING && !socket->paused && socket_has_handler(socket);
    if (socket->delivers && socket->held_head != NULL) {
        dg_socket_due(socket, DUE_HELD);
    }
    if (receive_is_wanted(socket) != (socket->receive == RECEIVE_ON)) {
        dg_socket_due(socket, DUE_RECEIVE);
    }
}

static void receive_begin(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    socket->receive = RECEIVE_ON;
    loop->backend->recv_start(loop->engine, &socket->endpoint);
}

static bool starved_remove_from(struct socket_list *list, const struct dgram_socket *socket)
{
    bool found = false;
    struct dgram_socket *other = list->head;
    *list = (struct socket_list){0};
    for (struct dgram_socket *next; other != NULL; other = next) {
        next = other->starved_next;
        if (other == socket) {
            found = true;
        } else {
            dg_list_append(list, other, offsetof(struct dgram_socket, starved_next));
        }
    }
    return found;
}

static void starved_remove(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    if (!starved_remove_from(&loop->starved, socket)) {
        (void) starved_remove_from(&loop->starved_fed, socket);
    }
    socket->receive = RECEIVE_OFF;
}

static struct dgram_socket *starved_pop(struct dgram_loop *loop)
{
    struct socket_list *list = loop->starved.head != NULL ? &loop->starved : &loop->starved_fed;
    struct dgram_socket *socket = list->head;
    if (socket != NULL) {
        list->head = socket->starved_next;
        if (list->head == NULL) {
            list->tail = NULL;
        }
    }
    return socket;
}

/* One flooded socket takes all slots as soon as it is started; those that got nothing meanwhile
 * must come before it, or it would be first every time. */
static void starved_append(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    struct socket_list *list = socket->fed ? &loop->starved_fed : &loop->starved;
    socket->fed = false;
    socket->receive = RECEIVE_STARVED;
    dg_list_append(list, socket, offsetof(struct dgram_socket, starved_next));
}

/* Brings the engine in line with what the socket wants. */
void dg_receive_apply(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    bool wanted = receive_is_wanted(socket);
    if (wanted && socket->receive == RECEIVE_OFF) {
        receive_begin(socket);
    } else if (!wanted && socket->receive == RECEIVE_ON) {
        socket->receive = RECEIVE_STOPPING;
        loop->backend->recv_stop(loop->engine, &socket->endpoint);
    } else if (!wanted && socket->receive == RECEIVE_STARVED) {
        starved_remove(socket);
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
    if (result == -ENOBUFS && socket->delivers) {
        starved_append(socket);
        return;
    }
    if (result < 0 && result != -ENOBUFS && result != -ECANCELED) {
        receive_failed(socket, result);
    }
    dg_receive_update(socket);
}

/* Gives released slots back, then starts the starved, and no more of them in a turn than slots are
 * free: if all are flooded, each of the others would only starve again. */
void dg_receive_prepare(struct dgram_loop *loop)
{
    for (uint32_t slot; dg_pool_returned(loop->pool, &slot);) {
        loop->backend->recycle(loop->engine, slot);
    }
    uint32_t starts = dg_pool_free_count(loop->pool);
    for (struct dgram_socket *s; starts > 0 && (s = starved_pop(loop)) != NULL; starts--) {
        s->receive = RECEIVE_OFF;
        dg_receive_apply(s);
    }
}

bool dg_receive_has_work(const struct dgram_loop *loop)
{
    bool starved = loop->starved.head != NULL || loop->starved_fed.head != NULL;
    return starved && dg_pool_free_count(loop->pool) > 0;
}

/* ---- Delivering ---------------------------------------------------------------------------- */

/* Takes the next datagram off a parcel. False when it was the last. */
static bool parcel_next(struct parcel *parcel, struct dgram_message *message)
{
    uint32_t size =
        parcel->segment != 0 && parcel->segment < parcel->size ? parcel->segment : parcel->size;
    message->data = parcel->data;
    message->size = size;
    message->real_size = size;
    parcel->data += size;
    parcel->size -= size;
    return parcel->size > 0;
}

static struct dgram_message parcel_message(const struct parcel *parcel)
{
    return (struct dgram_message){.from = parcel->from, .owner = parcel->owner};
}

/* One handler call per datagram. Returns whether something is left. */
static bool deliver_one_by_one(struct dgram_socket *socket, struct parcel *parcel)
{
    struct dgram_message message = parcel_message(parcel);
    bool left = true;
    while (left && socket->delivers && socket->on_messages == NULL &&
           !dg_loop_forked(socket->loop)) {
        left = parcel_next(parcel, &message);
        if (parcel->truncated) {
            message.real_size = parcel->real_size;
            message.flags = DGRAM_TRUNCATED;
        }
        socket->stats.received++;
        socket->stats.received_bytes += message.size;
        socket->on_message(socket, &message, socket->message_user);
    }
    return left;
}

/* Appends the parcel's datagrams to the loop's array. Returns whether some are left: it is full. */
static bool array_fill(struct dgram_socket *socket, size_t *count, struct parcel *parcel)
{
    struct dgram_message *messages = socket->loop->messages;
    uint32_t bytes = parcel->size;
    size_t before = *count;
    bool left = true;
    while (left && *count < MESSAGES_MAX) {
        struct dgram_message *message = &messages[(*count)++];
        *message = parcel_message(parcel);
        left = parcel_next(parcel, message);
        if (parcel->truncated) {
            message->real_size = parcel->real_size;
            message->flags = DGRAM_TRUNCATED;
        }
    }
    socket->stats.received += *count - before;
    socket->stats.received_bytes += bytes - parcel->size;
    return left;
}

static bool deliver_array(struct dgram_socket *socket, struct parcel *parcel)
{
    size_t count = 0;
    bool left = array_fill(socket, &count, parcel);
    socket->on_messages(socket, socket->loop->messages, count, socket->messages_user);
    return left;
}

/* Returns whether something is left because the socket no longer delivers. */
static bool parcel_deliver(struct dgram_socket *socket, struct parcel *parcel)
{
    bool left = true;
    while (left && socket->delivers && !dg_loop_forked(socket->loop)) {
        left = socket->on_messages != NULL ? deliver_array(socket, parcel)
                                           : deliver_one_by_one(socket, parcel);
    }
    return left;
}

/* ---- Holding back -------------------------------------------------------------------------- */

static uint64_t parcel_count(const struct parcel *parcel)
{
    if (parcel->segment == 0 || parcel->size == 0) {
        return 1;
    }
    return (parcel->size + parcel->segment - 1) / parcel->segment;
}

/* The rest of a parcel whose socket was paused: copied, so that a paused socket does not keep slots
 * from the others. */
static void parcel_hold(struct dgram_socket *socket, const struct parcel *parcel)
{
    struct held *held = dg_allocate(sizeof(*held) + parcel->size);
    if (held == NULL) {
        socket->stats.discarded += parcel_count(parcel);
        return;
    }
    held->parcel = *parcel;
    held->size = parcel->size;
    dg_address_set(&held->from, &parcel->from->u, parcel->from->size);
    memcpy(held->bytes, parcel->data, parcel->size);
    held->parcel.data = held->bytes;
    held->parcel.from = &held->from;
    held->parcel.owner = DG_OWNER_HELD;
    if (socket->held_tail != NULL) {
        socket->held_tail->next = held;
    } else {
        socket->held_head = held;
    }
    socket->held_tail = held;
}

static struct held *held_pop(struct dgram_socket *socket)
{
    struct held *held = socket->held_head;
    socket->held_head = held->next;
    if (socket->held_head == NULL) {
        socket->held_tail = NULL;
    }
    return held;
}

void dg_receive_deliver_held(struct dgram_socket *socket)
{
    while (socket->held_head != NULL && socket->delivers && !dg_loop_forked(socket->loop)) {
        struct held *held = socket->held_head;
        socket->loop->held = held;
        bool left = parcel_deliver(socket, &held->parcel);
        socket->loop->held = NULL;
        if (left) {
            break; /* paused again in the middle: the parcel remembers where */
        }
        dg_release(held_pop(socket));
    }
    dg_receive_update(socket);
}

void dg_receive_discard_held(struct dgram_socket *socket)
{
    while (socket->held_head != NULL) {
        struct held *held = held_pop(socket);
        socket->stats.discarded += parcel_count(&held->parcel);
        dg_release(held);
    }
}

bool dg_receive_owns(const struct dgram_loop *loop, const void *data)
{
    const struct held *held = loop->held;
    if (held != NULL && (uintptr_t) data - (uintptr_t) held->bytes < held->size) {
        return true;
    }
    return loop->pool != NULL && dg_pool_contains(loop->pool, data);
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

/* Nobody wants what is left of it, for now or for ever. */
static void parcel_spare(struct dgram_socket *socket, const struct parcel *parcel)
{
    if (socket->state < SOCKET_CLOSING) {
        parcel_hold(socket, parcel);
    } else {
        socket->stats.discarded += parcel_count(parcel);
    }
}

static bool same_socket(const struct completion *one, const struct completion *two)
{
    return two->kind == COMPLETION_RECEIVED && two->endpoint == one->endpoint;
}

/* One array of all records of the socket that follow each other, as far as there is room: datagrams
 * that were sent alone are as many messages as a train of them. */
static uint32_t receive_array(struct dgram_socket *socket, const struct completion *records,
                              uint32_t count)
{
    struct dgram_loop *loop = socket->loop;
    struct parcel parcel;
    size_t messages = 0;
    uint32_t taken = 0;
    bool left;
    do {
        parcel = parcel_open(loop, &records[taken++]);
        left = array_fill(socket, &messages, &parcel);
    } while (!left && messages < MESSAGES_MAX && taken < count &&
             same_socket(records, &records[taken]));
    socket->on_messages(socket, loop->messages, messages, socket->messages_user);
    if (left && parcel_deliver(socket, &parcel)) {
        parcel_spare(socket, &parcel);
    }
    return taken;
}

static void receive_parcel(struct dgram_socket *socket, const struct completion *record)
{
    struct parcel parcel = parcel_open(socket->loop, record);
    if (socket->held_head != NULL || parcel_deliver(socket, &parcel)) {
        parcel_spare(socket, &parcel);
    }
}

uint32_t dg_receive_completed(struct dgram_loop *loop, const struct completion *records,
                              uint32_t count)
{
    struct dgram_socket *socket = (struct dgram_socket *) records->endpoint;
    uint32_t taken = 1;
    if (socket->on_messages != NULL && socket->delivers && socket->held_head == NULL) {
        taken = receive_array(socket, records, count);
    } else {
        receive_parcel(socket, records);
    }
    for (uint32_t i = 0; i < taken; i++) {
        if (dg_pool_settle(loop->pool, records[i].slot)) {
            loop->backend->recycle(loop->engine, records[i].slot);
        }
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
