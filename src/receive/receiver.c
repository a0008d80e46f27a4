/* SPDX-License-Identifier: MIT */
/* receiver.c: see receiver.h. */
#include "src/receive/receiver.h"

#include <assert.h>
#include <errno.h>

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/base/queue.h"
#include "src/core/agenda.h"
#include "src/core/alarm.h"
#include "src/core/errors.h"
#include "src/core/io.h"
#include "src/receive/backlog.h"
#include "src/system.h"

/* Nothing tells when a receive that fails again and again would not. */
#define RETRY_NS UINT64_C(1000000)
enum { ERRORS_AT_ONCE = 16 };
#define ERRORS_PAUSE_NS UINT64_C(1000000000)

static void receiver_run(struct task *task);
static void failed_retry(struct alarm *alarm);

void dg_receiver_init(struct receiver *receiver, struct dgram_loop *loop,
                      struct dgram_socket *socket, struct endpoint *endpoint,
                      struct error_sink *sink)
{
    receiver->loop = loop;
    receiver->socket = socket;
    receiver->endpoint = endpoint;
    receiver->sink = sink;
    dg_task_init(&receiver->task, PHASE_RECEIVE, receiver_run);
    node_init(&receiver->starved);
    node_init(&receiver->later);
    node_init(&receiver->rotation);
}

/* ---- The inlet ----------------------------------------------------------------------------- */

int dg_inlet_open(struct dgram_loop *loop, uint32_t slots, uint32_t slot_size)
{
    struct inlet *inlet = dg_allocate(sizeof(*inlet));
    if (inlet == NULL) {
        return -ENOMEM;
    }
    loop->inlet = inlet;
    inlet->loop = loop;
    inlet->slot_size = slot_size;
    inlet->retry.run = failed_retry;
    node_init(&inlet->rotation);
    node_init(&inlet->starved);
    node_init(&inlet->starved_again);
    node_init(&inlet->later);
    inlet->messages = dg_allocate(MESSAGES_MAX * sizeof(struct dgram_message));
    int code = inlet->messages == NULL ? -ENOMEM : dg_alarms_reserve(loop->alarms);
    if (code == 0) {
        code = dg_pool_create(slots, slot_size, &inlet->pool);
    }
    return code < 0 ? code : dg_io_reserve(loop->io, (int) slots);
}

void dg_inlet_close(struct dgram_loop *loop)
{
    if (loop->inlet != NULL) {
        dg_pool_abandon(loop->inlet->pool);
        dg_release(loop->inlet->messages);
        dg_release(loop->inlet);
    }
}

bool dg_inlet_takes_trains(const struct dgram_loop *loop)
{
    return loop->inlet->slot_size == UINT16_MAX + 1;
}

struct pool *dg_inlet_pool(const struct dgram_loop *loop)
{
    return loop->inlet->pool;
}

/* ---- Starting and stopping ----------------------------------------------------------------- */

static bool has_handler(const struct receiver *receiver)
{
    return receiver->on_message != NULL || receiver->on_messages != NULL;
}

/* A socket that holds arrivals does not receive: they are delivered first, and newer datagrams wait
 * in the kernel's buffer. */
static bool receive_is_wanted(const struct receiver *receiver)
{
    bool more = !receiver->emptying || receiver->more;
    return receiver->delivers && receiver->bound && queue_is_empty(&receiver->backlog) && more;
}

void dg_receiver_update(struct receiver *receiver)
{
    receiver->delivers = !receiver->closed && !receiver->paused && has_handler(receiver);
    if (receiver->delivers && !queue_is_empty(&receiver->backlog)) {
        dg_backlog_join(receiver);
    }
    bool leaves_slots = !receiver->delivers && receiver->backlog_slots > 0;
    if (leaves_slots || receive_is_wanted(receiver) != (receiver->receive == RECEIVE_ON)) {
        dg_agenda_add(receiver->loop->agenda, &receiver->task);
    }
}

static void receive_begin(struct receiver *receiver)
{
    struct dgram_loop *loop = receiver->loop;
    receiver->receive = RECEIVE_ON;
    loop->io->backend->recv_start(loop->io->engine, receiver->endpoint);
}

static struct receiver *starved_pop(struct dgram_loop *loop)
{
    struct node *list =
        !node_alone(&loop->inlet->starved) ? &loop->inlet->starved : &loop->inlet->starved_again;
    return node_alone(list) ? NULL : owner_of(node_take(list), struct receiver, starved);
}

/* One flooded socket takes all slots as soon as it is started; those that got nothing meanwhile
 * must come before it, or it would be first every time. */
static void starved_append(struct receiver *receiver)
{
    struct dgram_loop *loop = receiver->loop;
    struct node *list = receiver->got_some ? &loop->inlet->starved_again : &loop->inlet->starved;
    receiver->got_some = false;
    receiver->receive = RECEIVE_STARVED;
    node_append(list, &receiver->starved);
}

static void later_leave(struct receiver *receiver)
{
    struct inlet *inlet = receiver->loop->inlet;
    node_remove(&receiver->later);
    if (node_alone(&inlet->later)) {
        dg_alarm_clear(receiver->loop->alarms, &inlet->retry);
    }
}

/* Starts or stops the engine's receive, as the socket wants it. */
void dg_receiver_apply(struct receiver *receiver)
{
    struct dgram_loop *loop = receiver->loop;
    bool wanted = receive_is_wanted(receiver);
    if (!receiver->delivers) {
        dg_backlog_leave_slots(receiver);
    }
    if (wanted && receiver->receive == RECEIVE_OFF) {
        receive_begin(receiver);
    } else if (!wanted && receiver->receive == RECEIVE_ON) {
        receiver->receive = RECEIVE_STOPPING;
        loop->io->backend->recv_stop(loop->io->engine, receiver->endpoint);
    } else if (!wanted && receiver->receive == RECEIVE_STARVED) {
        node_remove(&receiver->starved);
        receiver->receive = RECEIVE_OFF;
    } else if (!wanted && receiver->receive == RECEIVE_FAILED) {
        later_leave(receiver);
        receiver->receive = RECEIVE_OFF;
    }
}

static void receiver_run(struct task *task)
{
    dg_receiver_apply(owner_of(task, struct receiver, task));
}

static void failed_retry(struct alarm *alarm)
{
    struct inlet *inlet = owner_of(alarm, struct inlet, retry);
    while (!node_alone(&inlet->later)) {
        struct receiver *receiver = owner_of(node_take(&inlet->later), struct receiver, later);
        receiver->receive = RECEIVE_OFF;
        dg_receiver_update(receiver);
    }
}

static void retry_soon(struct receiver *receiver)
{
    struct dgram_loop *loop = receiver->loop;
    receiver->receive = RECEIVE_FAILED;
    if (node_alone(&loop->inlet->later)) {
        dg_alarm_set(loop->alarms, &loop->inlet->retry, loop->system->now() + RETRY_NS);
    }
    node_append(&loop->inlet->later, &receiver->later);
}

/* The first errors in a row are all told, those of a failure that lasts once a second. */
static void receive_tell(struct receiver *receiver, int result)
{
    uint64_t now = receiver->loop->now;
    if (receiver->errors < ERRORS_AT_ONCE || now - receiver->told >= ERRORS_PAUSE_NS) {
        receiver->told = now;
        const struct dg_error error = {.operation = "recvmsg", .code = result, .repeat = 1};
        dg_error_queue(receiver->sink, &error);
    } else {
        receiver->sink->lost++;
    }
}

/* A few errors in a row are ICMP answers to as many sends. More of them without a datagram between
 * may last: the kernel has no memory for the request (ENOMEM), epoll has no place left (ENOSPC).
 * They would come as fast as the loop turns, so the receive begins again after a millisecond. */
static void receive_failed(struct receiver *receiver, int result)
{
    receive_tell(receiver, result);
    if (receiver->errors < ERRORS_AT_ONCE) {
        receiver->errors++;
    } else if (receive_is_wanted(receiver)) {
        retry_soon(receiver);
    }
}

/* Errors that end a receive and are not about memory or slots: an ICMP answer to an older send. */
void dg_receiver_stopped(struct receiver *receiver, int result)
{
    assert(receiver->receive == RECEIVE_ON || receiver->receive == RECEIVE_STOPPING);
    receiver->receive = RECEIVE_OFF;
    if (receiver->closed) {
        return;
    }
    if (result == -ENOBUFS && receive_is_wanted(receiver)) {
        starved_append(receiver);
        return;
    }
    if (result < 0 && result != -ENOBUFS && result != -ECANCELED) {
        receive_failed(receiver, result);
    }
    dg_receiver_update(receiver);
}

/* An engine may keep a slot to itself (the ring does, to peek): the last one may be of no use. */
enum { KEPT_BY_ENGINE = 1 };

static bool somebody_starves(const struct dgram_loop *loop)
{
    return !node_alone(&loop->inlet->starved) || !node_alone(&loop->inlet->starved_again);
}

/* Gives released slots back, then starts starved sockets: no more of them in a turn than slots are
 * free. If all are flooded, each of the others would only starve again. */
void dg_inlet_prepare(struct dgram_loop *loop)
{
    for (uint32_t slot; dg_pool_returned(loop->inlet->pool, &slot);) {
        loop->io->backend->recycle(loop->io->engine, slot);
    }
    uint32_t starts = dg_pool_free_count(loop->inlet->pool);
    if (starts <= KEPT_BY_ENGINE && somebody_starves(loop)) {
        starts += dg_backlog_make_room(loop->inlet);
    }
    for (struct receiver *s; starts > 0 && (s = starved_pop(loop)) != NULL; starts--) {
        s->receive = RECEIVE_OFF;
        dg_receiver_apply(s);
    }
}

bool dg_inlet_has_work(const struct dgram_loop *loop)
{
    return !node_alone(&loop->inlet->rotation) ||
           (somebody_starves(loop) && dg_pool_free_count(loop->inlet->pool) > 0);
}

bool dg_inlet_owns(const struct dgram_loop *loop, const void *data)
{
    return dg_backlog_owns(loop->inlet, data) || dg_pool_contains(loop->inlet->pool, data);
}

/* ---- The end ------------------------------------------------------------------------------- */

void dg_receiver_close(struct receiver *receiver)
{
    receiver->closed = true;
    dg_receiver_update(receiver);
}

void dg_receiver_detached(struct receiver *receiver)
{
    assert(receiver->closed && queue_is_empty(&receiver->backlog));
    assert(node_alone(&receiver->rotation));
    node_remove(&receiver->starved);
    later_leave(receiver);
    dg_agenda_drop(receiver->loop->agenda, &receiver->task);
}

/* ---- Told by the socket -------------------------------------------------------------------- */

void dg_receiver_takes_trains(struct receiver *receiver, bool takes)
{
    receiver->gro = takes;
}

void dg_receiver_bound(struct receiver *receiver)
{
    receiver->bound = true;
    dg_receiver_update(receiver);
}

/* Nothing is known of the time that another handler takes. */
void dg_receiver_on_message(struct receiver *receiver, dgram_message_fn *fn, void *user)
{
    receiver->pace = fn == receiver->on_message ? receiver->pace : 0;
    receiver->on_message = fn;
    receiver->message_user = user;
    dg_receiver_update(receiver);
}

void dg_receiver_on_messages(struct receiver *receiver, dgram_messages_fn *fn, void *user)
{
    receiver->pace = fn == receiver->on_messages ? receiver->pace : 0;
    receiver->on_messages = fn;
    receiver->messages_user = user;
    dg_receiver_update(receiver);
}

void dg_receiver_pause(struct receiver *receiver, bool pause)
{
    receiver->paused = pause;
    dg_receiver_update(receiver);
}

void dg_receiver_stats(const struct receiver *receiver, struct dgram_socket_stats *stats)
{
    stats->received = receiver->received;
    stats->received_bytes = receiver->received_bytes;
    stats->receives = receiver->receives;
    stats->truncated = receiver->truncated;
    stats->discarded = receiver->discarded;
}
