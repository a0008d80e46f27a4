/* SPDX-License-Identifier: MIT */
/*
 * loop.c: the loop: creation, the turn, the end.
 *
 * Owns the order of things in a turn (see core.h).
 */
#include <stdlib.h>
#include <string.h>

#include "src/core.h"

/* ---- Creation ------------------------------------------------------------------------------ */

/* READY of the inbox. */
enum { RECORDS_PER_LOOP = 1 };
#define LOOP_QUEUE_LIMIT (UINT64_C(16) * 1024 * 1024)

static int check_loop_options(const struct dgram_loop_options *options)
{
    bool slots =
        options->slots == 0 || (options->slots >= SLOTS_MIN && options->slots <= SLOTS_MAX);
    bool size = options->slot_size == 0 ||
                (options->slot_size >= SLOT_SIZE_MIN && options->slot_size <= SLOT_SIZE_DEFAULT);
    bool servers =
        options->dns_servers == NULL || dg_dns_servers_are_well_formed(options->dns_servers);
    bool segments = options->segments_max <= SEGMENTS_LIMIT;
    bool waits = dg_wait_options_are_good(options);
    return slots && size && waits && segments && servers ? 0 : DGRAM_EBADOPTIONS;
}

static void lists_init(struct dgram_loop *loop)
{
    node_init(&loop->sockets);
    node_init(&loop->blocked);
    node_init(&loop->starved);
    node_init(&loop->starved_again);
    node_init(&loop->rotation);
    node_init(&loop->buffers);
    node_init(&loop->timers.all);
    node_init(&loop->owned);
}

static void loop_fill(struct dgram_loop *loop, const struct dgram_loop_options *options,
                      const struct dg_system *system)
{
    lists_init(loop);
    loop->system = system;
    dg_agenda_open(&loop->agenda);
    loop->alarms.fork_generation = dg_fork_generation;
    dg_io_open(&loop->io);
    dg_requests_open(loop);
    dg_send_open(loop);
    loop->embedding.fd = -1;
    loop->slots = options->slots != 0 ? options->slots : SLOTS_DEFAULT;
    loop->slot_size = options->slot_size != 0 ? options->slot_size : SLOT_SIZE_DEFAULT;
    loop->queue_limit = options->queue_limit != 0 ? options->queue_limit : LOOP_QUEUE_LIMIT;
    loop->segments_max = system->segments_max();
    if (options->segments_max != 0 && options->segments_max < loop->segments_max) {
        loop->segments_max = options->segments_max;
    }
    loop->now = system->now();
    dg_wait_set(loop, options);
}

static int loop_memory(struct dgram_loop *loop)
{
    loop->messages = dg_allocate(MESSAGES_MAX * sizeof(struct dgram_message));
    loop->pieces = dg_allocate(DGRAM_UDP6_SIZE_MAX);
    if (loop->messages == NULL || loop->pieces == NULL ||
        dg_batch_create(loop->system->random(), &loop->batch) < 0 ||
        dg_errors_open(&loop->agenda, &loop->errors) < 0 || dg_alarms_reserve(&loop->alarms) < 0 ||
        dg_pool_create(loop->slots, loop->slot_size, &loop->pool) < 0) {
        return -ENOMEM;
    }
    return dg_io_reserve(&loop->io, (int) loop->slots + RECORDS_PER_LOOP);
}

static void loop_release(struct dgram_loop *loop)
{
    dg_batch_free(loop->batch);
    dg_pool_abandon(loop->pool);
    dg_release(loop->messages);
    dg_release(loop->pieces);
    dg_errors_close(loop->errors);
    dg_alarms_close(&loop->alarms);
    dg_io_close(&loop->io);
    dg_release(loop);
}

static int loop_open(struct dgram_loop *loop, const struct dgram_loop_options *options,
                     const struct backend *backend)
{
    int code = loop_memory(loop);
    if (code == 0) {
        code = dg_resolver_open(loop, options);
    }
    if (code < 0) {
        return code;
    }
    code = dg_inbox_open(loop);
    if (code < 0) {
        return code;
    }
    code = dg_engine_open(loop, backend, options->engine);
    if (code < 0) {
        dg_inbox_close(loop);
        return code;
    }
    code = dg_watch_arm(&loop->io, &loop->inbox.watch);
    if (code < 0) {
        loop->io.backend->close(loop->io.engine, false);
        dg_inbox_close(loop);
    }
    return code;
}

int dg_loop_create_on(const struct dgram_loop_options *options, const struct dg_system *system,
                      const struct backend *backend, struct dgram_loop **ret_loop)
{
    struct dgram_loop_options read = {0};
    if (ret_loop == NULL) {
        return DGRAM_ENULL;
    }
    int code =
        dg_options_read(&read, sizeof(read), options, offsetof(struct dgram_loop_options, engine));
    if (code == 0) {
        code = check_loop_options(&read);
    }
    if (code < 0) {
        return code;
    }
    dg_owners_open();
    struct dgram_loop *loop = dg_allocate(sizeof(*loop));
    if (loop == NULL) {
        return -ENOMEM;
    }
    loop_fill(loop, &read, system);
    code = loop_open(loop, &read, backend);
    if (code < 0) {
        dg_resolver_close(loop, false);
        loop_release(loop);
        return code;
    }
    *ret_loop = loop;
    return 0;
}

int dg_loop_create_with(const struct dgram_loop_options *options, const struct dg_system *system,
                        struct dgram_loop **ret_loop)
{
    return dg_loop_create_on(options, system, NULL, ret_loop);
}

int dgram_loop_create(const struct dgram_loop_options *options, struct dgram_loop **ret_loop)
{
    return dg_loop_create_with(options, &dg_system_host, ret_loop);
}

/* ---- The turn ------------------------------------------------------------------------------ */

/* Work that keeps a loop alive. Starting and stopping a receive does not: a flooded socket that is
 * unref'd always has that to do. Nor do received datagrams that wait. */
static bool has_other_work(struct dgram_loop *loop)
{
    return (loop->agenda.due & ~(UINT32_C(1) << PHASE_RECEIVE)) != 0 ||
           loop->io.pending.count > 0 || dg_send_wants_answer(loop);
}

/* Something to call back without waiting for the kernel. */
bool dg_loop_has_work(struct dgram_loop *loop)
{
    return loop->agenda.due != 0 || !node_alone(&loop->rotation) || has_other_work(loop) ||
           dg_receive_has_work(loop);
}

static bool loop_is_alive(struct dgram_loop *loop)
{
    return loop->keeping > 0 || loop->timers.keeping > 0 || loop->queue_charge > 0 ||
           loop->loans_out > 0 || loop->batch->train_count > 0 || has_other_work(loop) ||
           dg_inbox_waiting(loop);
}

static void loop_prepare(struct dgram_loop *loop)
{
    agenda_run(&loop->agenda, PHASE_PREPARE);
    agenda_run(&loop->agenda, PHASE_RECEIVE);
    dg_receive_prepare(loop);
    dg_queue_check_drains(loop); /* a socket that closes leaves room to others */
    if (!loop->inbox.watch.armed) {
        (void) dg_watch_arm(&loop->io, &loop->inbox.watch); /* only the first arming can fail */
    }
}

/*
 * A turn may hold 64 trains of 128 datagrams, a quarter of a millisecond of handlers and more.
 * Datagrams that the first handler sent do not wait for the last. So many datagrams, two full
 * trains, are delivered between two submissions; replies to as many are still a cheap submission
 * each.
 */
enum { DELIVERIES_PER_FLUSH = 256 };

/* So many datagrams were delivered. `sent`: handlers had sent something before. */
static void answers_leave(struct dgram_loop *loop, bool sent, uint64_t delivered)
{
    uint64_t *unanswered = &loop->turn.unanswered;
    *unanswered = sent ? *unanswered + delivered : 0;
    if (*unanswered >= DELIVERIES_PER_FLUSH && !dg_loop_forked(loop)) {
        *unanswered = 0;
        (void) dg_send_flush(loop); /* a broken engine shows in the results */
    }
}

/* Delivers, and submits the datagrams that handlers have sent long enough ago. Returns how many
 * records are done with: delivered, or in the backlog. */
static uint32_t received(struct dgram_loop *loop, const struct completion *records, uint32_t count)
{
    const struct dgram_socket *socket = (const struct dgram_socket *) records->endpoint;
    bool sent = loop->batch->train_count > 0;
    uint64_t before = socket->stats.received;
    uint32_t taken = dg_receive_completed(loop, records, count);
    uint64_t datagrams = socket->stats.received - before;
    dg_wait_received(loop, records, taken, datagrams);
    answers_leave(loop, sent, datagrams);
    return taken;
}

/* Sockets in turn, as long as the turn may last. */
static void serve_backlog(struct dgram_loop *loop)
{
    for (struct dgram_socket *s; !dg_loop_forked(loop) && (s = dg_backlog_next(loop)) != NULL;) {
        bool sent = loop->batch->train_count > 0;
        uint64_t before = s->stats.received;
        dg_receive_serve(s);
        uint64_t datagrams = s->stats.received - before;
        dg_wait_received(loop, NULL, 0, datagrams); /* their records were counted as they came */
        answers_leave(loop, sent, datagrams);
    }
}

/* Returns how many records are done with. */
static uint32_t dispatch_records(struct dgram_loop *loop, const struct completion *records,
                                 uint32_t count)
{
    switch ((enum completion_kind) records->kind) {
    case COMPLETION_RECEIVED:
        return received(loop, records, count);
    case COMPLETION_READY:
        dg_watch_fired(records->watch);
        break;
    case COMPLETION_STOPPED:
        dg_receive_stopped((struct dgram_socket *) records->endpoint, records->result);
        break;
    case COMPLETION_DETACHED:
        dg_socket_detached((struct dgram_socket *) records->endpoint);
        break;
    case COMPLETION_RELEASED:
        dg_buffer_released(loop, records->loan, records->result > 0);
        break;
    }
    return 1;
}

/* If the last wait found its datagram by spinning, a peer is waiting for the reply: it is submitted
 * before the rest of the dispatch, which would add about 50 ns to a round trip of 4 us. A loop that
 * sleeps submits and sleeps in one system call, so it would only lose. */
static void reply_at_once(struct dgram_loop *loop)
{
    if (loop->spinning.found && loop->batch->train_count > 0 && !dg_loop_forked(loop)) {
        (void) dg_send_flush(loop); /* a broken engine shows in the results */
    }
}

static void dispatch_completions(struct dgram_loop *loop)
{
    struct completions list = dg_io_take(&loop->io);
    dg_turn_begin(loop, list.count > 0);
    for (uint32_t i = 0; i < list.count && !dg_loop_forked(loop);) {
        i += dispatch_records(loop, &list.items[i], list.count - i);
    }
    dg_io_done(&loop->io);
    serve_backlog(loop);
    reply_at_once(loop);
}

/*
 * Sockets are freed in the last phase only, when no record and no request names them any more. A
 * callback that forks returns in the child as well: nothing more of the parent's runs there.
 *
 * A phase that has nothing to do is not called. After a sleep its code has left the cache, and most
 * of the cost of a turn for one datagram is that.
 */
static void loop_dispatch(struct dgram_loop *loop)
{
    struct agenda *agenda = &loop->agenda;
    bool rings = alarms_next(&loop->alarms) <= loop->now;
    loop->turn.late = agenda->due != 0 || rings;
    if (rings) {
        dg_alarms_run(&loop->alarms, loop->now);
    }
    agenda_run(agenda, PHASE_EVENTS);
    dispatch_completions(loop);
    agenda_run(agenda, PHASE_NAMES);
    agenda_run(agenda, PHASE_SENT);
    if (loop->drains_wanted > 0 && !dg_loop_forked(loop)) {
        dg_queue_check_drains(loop); /* an outer loop may sleep after this turn */
    }
    agenda_run(agenda, PHASE_IDLE);
    agenda_run(agenda, PHASE_ERRORS);
    agenda_run(agenda, PHASE_CLOSED);
}

static int loop_turn(struct dgram_loop *loop, int64_t timeout_ns)
{
    loop->turns++;
    agenda_run(&loop->agenda, PHASE_ENDING);
    loop_prepare(loop);
    int64_t patience = dg_wait_patience(loop, timeout_ns);
    dg_send_hand_over(loop);
    loop->io.arms = false;
    int code = dg_send_settle(loop, dg_wait(loop, patience, timeout_ns > 0));
    dg_io_note(&loop->io, code);
    loop_dispatch(loop);
    return dg_loop_forked(loop) ? DGRAM_EFORKED : code;
}

/* Nothing waits for a turn that may be long in coming: all is submitted. */
static int loop_leave(struct dgram_loop *loop, int code)
{
    if (code == 0 && !loop->free_requested) {
        loop_prepare(loop);
        code = dg_send_flush(loop);
    }
    return code;
}

/* ---- Turning ------------------------------------------------------------------------------- */

static int turn_begin(struct dgram_loop *loop)
{
    if (loop == NULL) {
        return DGRAM_ENULL;
    }
    if (dg_loop_forked(loop)) {
        return DGRAM_EFORKED;
    }
    if (loop->in_turn) {
        return DGRAM_EREENTERED;
    }
    if (dg_owner_is_other(loop)) {
        return DGRAM_EWRONGTHREAD;
    }
    if (!loop->attended) {
        dg_owner_attend(loop);
    }
    loop->in_turn = true;
    loop->cancel_state = dg_cancel_hold();
    loop->now = loop->system->now();
    return 0;
}

/* Leaves the turn; true if a callback had asked to free the loop, which is gone then. */
static bool turn_end(struct dgram_loop *loop)
{
    int cancel_state = loop->cancel_state;
    bool freed = loop->free_requested;
    loop->in_turn = false;
    if (freed) {
        (void) dgram_loop_free(loop);
    } else {
        dg_embedding_set(loop);
    }
    dg_cancel_release(cancel_state);
    return freed;
}

/* Nothing is half done between two turns: here, and nowhere else, pthread_cancel(3) may end the
 * thread. It leaves the loop as if dgram_loop_run() had returned. */
static void cancellation_point(struct dgram_loop *loop)
{
    if (loop->cancel_state == PTHREAD_CANCEL_ENABLE) {
        loop->in_turn = false;
        dg_cancel_release(PTHREAD_CANCEL_ENABLE);
        pthread_testcancel();
        (void) dg_cancel_hold();
        loop->in_turn = true;
    }
}

/* Looks first: an exchange locks the bus, and this is asked in every turn. */
static bool stop_taken(struct dgram_loop *loop)
{
    return atomic_load(&loop->inbox.stop) && atomic_exchange(&loop->inbox.stop, false);
}

int dgram_loop_turn(struct dgram_loop *loop, int64_t timeout_ns)
{
    int code = turn_begin(loop);
    if (code < 0) {
        return code;
    }
    dg_embedding_clear(loop);
    bool stopped = stop_taken(loop);
    code = loop_leave(loop, loop_turn(loop, stopped ? 0 : timeout_ns));
    int alive = loop_is_alive(loop);
    if (turn_end(loop)) {
        return 0;
    }
    return code < 0 ? code : alive;
}

int dgram_loop_run(struct dgram_loop *loop)
{
    int code = turn_begin(loop);
    if (code < 0) {
        return code;
    }
    bool stopped = false;
    dg_embedding_clear(loop);
    while (code == 0 && !stopped) {
        cancellation_point(loop);
        stopped = stop_taken(loop);
        if (stopped || !loop_is_alive(loop)) {
            break;
        }
        code = loop_turn(loop, -1);
        stopped = loop->free_requested;
    }
    code = loop_leave(loop, code);
    if (turn_end(loop)) {
        return 1;
    }
    return code < 0 ? code : stopped;
}

int dgram_loop_flush(struct dgram_loop *loop)
{
    if (loop == NULL) {
        return DGRAM_ENULL;
    }
    return dg_loop_forked(loop) ? DGRAM_EFORKED : dg_send_flush(loop);
}

uint64_t dgram_loop_now(const struct dgram_loop *loop)
{
    return loop == NULL ? 0 : loop->now;
}

int dgram_loop_info(struct dgram_loop *loop, struct dgram_loop_info *info)
{
    if (loop == NULL) {
        return DGRAM_ENULL;
    }
    if (dg_loop_forked(loop)) {
        return DGRAM_EFORKED;
    }
    const struct dgram_loop_info ours = {
        .size = sizeof(ours),
        .engine = dg_engine_number(loop->io.backend),
        .segments_max = loop->segments_max,
        .slots = loop->slots,
        .slot_size = loop->slot_size,
        .name = loop->io.backend->name,
        .refused_code = loop->refused_code,
        .slots_free = dg_pool_free_count(loop->pool),
        .refused_call = loop->refused_call,
        .refused_advice = loop->refused_advice,
        .turns = loop->turns,
        .flushes = loop->flushes,
        .failed_call = loop->io.failed_call,
        .failed_code = loop->io.failed_code,
        .zero_copy_sends = loop->zero_copy_sends,
        .zero_copy_copied = loop->zero_copy_copied,
        .zero_copy_spared = loop->zero_copy_spared,
    };
    return dg_result_write(info, &ours, sizeof(ours),
                           offsetof(struct dgram_loop_info, segments_max));
}

/* ---- The end ------------------------------------------------------------------------------- */

/* From here on nothing begins any more: no message, no tick of a timer, no question, no new socket.
 * Accepted sends are still to be completed. */
static void loop_begin_end(struct dgram_loop *loop)
{
    loop->freeing = true;
    dg_inbox_end(loop);
    dg_timers_stop(loop);
    for (struct node *node = loop->sockets.next; node != &loop->sockets; node = node->next) {
        struct dgram_socket *s = owner_of(node, struct dgram_socket, all);
        if (s->state < SOCKET_CLOSING) {
            dg_socket_begin_close(s);
        }
    }
}

/* Without the engine: it is broken. */
static void abandon_all(struct dgram_loop *loop, int code)
{
    dg_send_settle(loop, code);
    for (struct node *node = loop->sockets.next; node != &loop->sockets; node = node->next) {
        dg_socket_abandon(owner_of(node, struct dgram_socket, all), code);
    }
    for (uint32_t i = 0; i < loop->io.pending.count; i++) {
        if (loop->io.pending.items[i].kind == COMPLETION_RECEIVED) {
            (void) dg_receive_completed(loop, &loop->io.pending.items[i], 1); /* counts */
        }
    }
    loop->io.pending.count = 0;
    while (!node_alone(&loop->sockets) && !dg_loop_forked(loop)) {
        agenda_run(&loop->agenda, PHASE_SENT);
        agenda_run(&loop->agenda, PHASE_ERRORS);
        agenda_run(&loop->agenda, PHASE_CLOSED);
    }
}

static void loop_forget(struct dgram_loop *loop, bool forked)
{
    dg_resolver_close(loop, forked);
    loop->io.backend->close(loop->io.engine, forked);
    dg_embedding_close(loop);
    dg_inbox_close(loop);
    dg_timers_free(loop);
    dg_buffers_free(loop);
    dg_requests_release(loop);
    loop_release(loop);
}

/* The child's copy: memory and descriptors go, nothing that the parent shares is touched. */
static void loop_free_forked(struct dgram_loop *loop)
{
    while (!node_alone(&loop->sockets)) {
        struct dgram_socket *socket = owner_of(node_take(&loop->sockets), struct dgram_socket, all);
        if (socket->endpoint.fd >= 0) {
            (void) loop->system->close(socket->endpoint.fd);
        }
        dg_backlog_discard(socket);
        dg_requests_forget(&socket->parked, loop);
        dg_stalls_forget(socket);
        dg_memberships_forget(socket);
        dg_release(socket);
    }
    for (uint32_t i = 0; i < loop->batch->train_count; i++) {
        dg_requests_forget(&loop->batch->trains[i].requests, loop);
    }
    dg_requests_forget(&loop->done, loop);
    loop_forget(loop, true);
}

/* The owner has ended, or does not use the loop any more. */
static void loop_inherit(struct dgram_loop *loop)
{
    if (loop->io.backend->inherit != NULL && loop->io.backend->inherit(loop->io.engine) == -EBUSY) {
        dg_inbox_await(loop);
    }
}

static void loop_destroy(struct dgram_loop *loop)
{
    int code = 0;
    loop->in_turn = true;
    if (dg_owner_is_other(loop)) {
        loop_inherit(loop);
    }
    while (!node_alone(&loop->sockets) && code == 0) {
        code = loop_turn(loop, -1);
    }
    if (code < 0 && code != DGRAM_EFORKED) {
        abandon_all(loop, code);
    }
    dg_inbox_run(loop);
    agenda_run(&loop->agenda, PHASE_SENT);
    if (dg_loop_forked(loop)) { /* a callback forked */
        loop_free_forked(loop);
        return;
    }
    dg_watch_end(&loop->io, &loop->inbox.watch);
    loop_forget(loop, false);
}

struct dgram_loop *dgram_loop_free(struct dgram_loop *loop)
{
    if (loop == NULL) {
        return NULL;
    }
    int cancel_state = dg_cancel_hold();
    bool forked = dg_loop_forked(loop);
    if (!forked && !loop->in_turn) {
        dg_owner_leave(loop);
    }
    if (!forked) {
        loop_begin_end(loop);
    }
    if (loop->in_turn) {
        loop->free_requested = true;
    } else if (forked) {
        loop_free_forked(loop);
    } else {
        loop_destroy(loop);
    }
    dg_cancel_release(cancel_state);
    return NULL;
}
