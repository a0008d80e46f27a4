/* SPDX-License-Identifier: MIT */
/*
 * settle.c: what becomes of trains that were handed over.
 *
 *     taken                       done: callbacks, or nothing
 *     refused, two or more        again, one by one, at once and in order
 *     an ICMP error, perhaps old  again, once
 *     no room                     parked, retried when there is: the socket's buffer is full, and
 *                                 all wait (EAGAIN); or the destination's (ENOBUFS): stall.c
 *     a `listening` is to come    parked until then, without having been tried
 *     failed                      callbacks, or `error` events
 *
 * Owns the submission and the parked sends. Order: the trains of a flow are a chain (`follows`)
 * that stops at the first that is not taken; what is behind it is parked, or handed over again
 * behind it.
 */
#include <string.h>

#include "src/core.h"

/* ENOBUFS says that a device queue is full; POLLOUT does not tell when it no longer is. Nor does
 * anything tell when a receive that fails again and again would not. */
#define RETRY_NS UINT64_C(1000000)

enum { VAIN_RETRIES = 1000, VAIN_MS = 1000, REFUSALS_IN_A_ROW = 8 };

/* ---- Completion ---------------------------------------------------------------------------- */

static void send_failed(const struct flow *flow, int code, uint32_t count)
{
    const struct dg_error error = {.operation = "send",
                                   .code = code,
                                   .repeat = count,
                                   .peer = &flow->peer,
                                   .peer_size = flow->peer_size};
    dg_error_queue(&flow->socket->errors, &error);
}

/* One datagram of a train ends: the one with `request`, or a plain one. */
static void datagram_complete(const struct dg_train *train, struct request *request, uint32_t size,
                              int result)
{
    const struct flow *flow = train->flow;
    struct dgram_socket *socket = flow->socket;
    if (result >= 0) {
        socket->stats.sent++;
        socket->stats.sent_bytes += size;
    }
    if (request != NULL) {
        request->peer = flow->peer;
        request->peer_size = (uint8_t) flow->peer_size;
        dg_request_complete(request, result >= 0 ? (int) size : result);
        return;
    }
    if (result < 0) {
        socket->stats.send_errors++;
        send_failed(flow, result, 1);
    }
    dg_queue_uncount(socket, size, 1);
}

static uint32_t datagram_size(const struct dg_train *train, uint32_t index)
{
    uint32_t offset = index * train->segment;
    uint32_t left = train->bytes - offset;
    return left < train->segment ? left : train->segment;
}

/* Of the first datagram that is left of the train, if it has one. */
static struct request *train_request(const struct dg_train *train, uint32_t index)
{
    struct request *request = (struct request *) queue_first(&train->requests);
    return request != NULL && request->index == index ? request : NULL;
}

static struct request *train_pop_request(struct dg_train *train, uint32_t index)
{
    return train_request(train, index) != NULL ? dg_requests_pop(&train->requests) : NULL;
}

/* All datagrams of the train end alike. The common train has no requests: nothing is done per
 * datagram then. */
static void train_complete(struct dg_train *train, int result)
{
    struct dgram_socket *socket = train->flow->socket;
    uint64_t bytes = train->bytes, count = train->count;
    for (struct request *r; (r = dg_requests_pop(&train->requests)) != NULL;) {
        bytes -= r->size;
        count--;
        datagram_complete(train, r, r->size, result);
    }
    if (count == 0) {
        return;
    }
    if (result >= 0) {
        socket->stats.sent += count;
        socket->stats.sent_bytes += bytes;
    } else {
        socket->stats.send_errors += count;
        send_failed(train->flow, result, (uint32_t) count);
    }
    dg_queue_uncount(socket, bytes, count);
}

/* ---- Parking ------------------------------------------------------------------------------- */

static void socket_woken(struct dg_watch *watch)
{
    dg_send_retry(owner_of(watch, struct dgram_socket, writable));
}

void dg_socket_retry_soon(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    if (!node_alone(&socket->retried)) {
        return;
    }
    if (node_alone(&loop->blocked)) {
        dg_alarm_set(&loop->alarms, &loop->retry, loop->system->now() + RETRY_NS);
    }
    node_append(&loop->blocked, &socket->retried);
}

static void socket_block(struct dgram_socket *socket, int reason)
{
    if (socket->blocked) {
        return;
    }
    socket->blocked = true;
    socket->writable.base.fd = socket->endpoint.fd;
    socket->writable.base.events = POLLOUT;
    socket->writable.base.endpoint = &socket->endpoint;
    socket->writable.fn = socket_woken;
    if (reason == -ENOBUFS || socket->state >= SOCKET_CLOSING ||
        dg_watch_arm(&socket->loop->io, &socket->writable) < 0) {
        dg_socket_retry_soon(socket);
    }
}

/* A parked datagram owns its payload or borrows it from a caller who waits for a callback: the
 * arena is rewound. Returns what to park; NULL when memory ran out, with `request` unchanged. */
static struct request *request_for_parking(const struct dg_train *train, struct request *request,
                                           uint32_t index)
{
    if (request != NULL && request->data != NULL) {
        return request;
    }
    struct dgram_socket *socket = train->flow->socket;
    uint32_t size = datagram_size(train, index);
    struct request *parked = dg_request_with_room(
        socket, size, request != NULL ? request->fn : NULL, request != NULL ? request->user : NULL);
    if (parked == NULL) {
        return NULL;
    }
    dg_train_copy(train, index * train->segment, size, parked + 1);
    if (request != NULL) {
        dg_request_give(socket->loop, request);
    }
    return parked;
}

static void train_park(struct dg_train *train, uint32_t from)
{
    struct dgram_socket *socket = train->flow->socket;
    struct stall *stall = train->flow->stall;
    for (uint32_t i = from; i < train->count; i++) {
        struct request *request = train_pop_request(train, i);
        struct request *parked = request_for_parking(train, request, i);
        if (parked == NULL) {
            datagram_complete(train, request, datagram_size(train, i), -ENOMEM);
            continue;
        }
        parked->peer = train->flow->peer;
        parked->peer_size = (uint8_t) train->flow->peer_size;
        if (stall != NULL) {
            dg_stall_append(stall, &stall->again, parked);
        } else {
            dg_request_park(&socket->parked_again, parked);
        }
    }
}

static void chain_park(struct dg_train *train, uint32_t from)
{
    for (; train != NULL; train = train->next) {
        train_park(train, from);
        from = 0;
    }
}

/* ENOBUFS is the destination's, EAGAIN the socket's, and so is what there is no memory to tell. */
static void flow_block(struct flow *flow, int reason)
{
    if (reason == -ENOBUFS && flow->stall == NULL) {
        flow->stall = dg_stall_open(flow->socket, &flow->peer);
    }
    if (reason == -ENOBUFS && flow->stall != NULL) {
        dg_socket_retry_soon(flow->socket);
    } else {
        socket_block(flow->socket, reason);
    }
}

static uint32_t milliseconds(const struct dgram_loop *loop)
{
    return (uint32_t) (loop->now / 1000000);
}

/* From here on: this datagram was refused for want of room, those behind it were not tried. */
static void flow_park(struct dg_train *train, uint32_t from, int reason)
{
    struct request *refused = train_request(train, from);
    if (refused != NULL && reason == -ENOBUFS) {
        uint32_t now = milliseconds(train->flow->socket->loop);
        refused->since = refused->tries == 0 ? now : refused->since;
        if (refused->tries < VAIN_RETRIES) {
            refused->tries++;
        }
    }
    flow_block(train->flow, reason);
    chain_park(train, from);
}

/* What could not leave goes back before what was still waiting behind it. */
static void socket_rejoin_parked(struct dgram_socket *socket)
{
    queue_prepend_all(&socket->parked, &socket->parked_again);
}

/* Returns whether the batch ought to be submitted. */
static bool parked_try(struct dgram_socket *socket, struct request *request)
{
    struct stall *stall =
        !node_alone(&socket->stalls) ? dg_stall_find(socket, &request->peer) : NULL;
    if (stall != NULL) {
        dg_stall_append(stall, &stall->requests, request);
        return false;
    }
    struct flow *flow = dg_batch_flow(socket->loop, socket, &request->peer);
    struct payload payload = {.data = request->data, .size = request->size};
    return dg_batch_append(socket->loop->batch, flow, &payload, request);
}

static void vain_retries_forget(struct dgram_socket *socket)
{
    if (queue_is_empty(&socket->parked) && node_alone(&socket->stalls)) {
        socket->vain_retries = 0;
    }
}

void dg_send_retry(struct dgram_socket *socket)
{
    socket->blocked = false;
    while (!queue_is_empty(&socket->parked) && !socket->blocked && !dg_socket_announces(socket)) {
        bool full = false;
        for (struct request *r; !full && (r = dg_requests_pop(&socket->parked)) != NULL;) {
            full = parked_try(socket, r);
        }
        (void) dg_send_flush(socket->loop); /* a broken engine shows in the results */
    }
    if (!node_alone(&socket->stalls) && !socket->blocked) {
        dg_socket_retry_soon(socket);
    }
    vain_retries_forget(socket);
}

void dg_send_cancel(struct dgram_socket *socket, int code)
{
    node_remove(&socket->retried);
    socket_rejoin_parked(socket);
    for (struct request *r; (r = dg_requests_pop(&socket->parked)) != NULL;) {
        dg_request_complete(r, code);
    }
    dg_stalls_cancel(socket, code);
}

/* A moment has passed for those without room. */
static void socket_retry(struct dgram_socket *socket)
{
    bool blocked = socket->blocked && !socket->writable.armed;
    socket->vain_retries += blocked || (!node_alone(&socket->stalls) && !socket->blocked);
    if (blocked) {
        dg_send_retry(socket);
    }
    dg_stalls_retry(socket);
    vain_retries_forget(socket);
}

static void blocked_retry(struct alarm *alarm)
{
    struct dgram_loop *loop = owner_of(alarm, struct dgram_loop, retry);
    struct node list;
    node_take_all(&list, &loop->blocked);
    while (!node_alone(&list)) {
        struct dgram_socket *socket = owner_of(node_take(&list), struct dgram_socket, retried);
        socket_retry(socket);
        dg_receive_retry(socket);
    }
}

/* ---- Settling ------------------------------------------------------------------------------ */

/* The engine may break at any hand-over, and gives its own code to all trains from then on. */
static void send_now(struct dgram_loop *loop, struct train *const *trains, size_t count)
{
    loop->io.backend->send(loop->io.engine, trains, count);
    int code = loop->io.backend->flush(loop->io.engine);
    if (code < 0) {
        loop->batch->code = code;
    }
}

/* An unfinished chain is handed over again from this train on. */
static void chain_again(struct dgram_loop *loop, struct dg_train *train)
{
    size_t count = 0;
    train->base.follows = false;
    for (; train != NULL; train = train->next) {
        loop->batch->order[count++] = &train->base;
    }
    send_now(loop, loop->batch->order, count);
    loop->flushes++;
}

/* The kernel reports an ICMP error of an older datagram by failing the next send, and forgets it:
 * the same send tried again tells the truth. */
static bool error_may_be_old(int code)
{
    return code == -ECONNREFUSED || code == -EHOSTUNREACH || code == -ENETUNREACH ||
           code == -EHOSTDOWN || code == -EPROTO || code == -ENOPROTOOPT;
}

/* A firewall that looks at lengths, or at the rate, refuses the train and not its datagrams
 * (EPERM), and what else the kernel may hold against a large send is not for us to list. A broken
 * engine's code is everybody's. */
static bool train_is_refused(const struct dg_train *train)
{
    int code = train->base.result;
    return train->count > 1 && code != -ENOBUFS && !error_may_be_old(code) &&
           code != train->flow->socket->loop->batch->code;
}

/* The train was at fault. Where nobody takes any, as on a device without checksum offload, asking
 * every new peer costs a call each: so many in a row, and the socket makes none for a while. */
static void refusal_learn(struct dgram_loop *loop, const struct dg_train *train)
{
    struct dgram_socket *socket = train->flow->socket;
    bool too_big = train->base.result == -EMSGSIZE;
    bool news = dg_batch_refused(loop, &train->flow->peer, too_big ? train->segment : 0);
    if (!too_big && news && ++socket->refused_trains >= REFUSALS_IN_A_ROW) {
        socket->refused_trains = 0;
        socket->alone_until = loop->now + REFUSAL_NS;
    }
}

/* The payload of datagram `index`, which lies in one vector: chunks are never split inside one. */
static struct iovec datagram_vector(const struct dg_train *train, uint32_t index)
{
    size_t offset = (size_t) index * train->segment, i = 0;
    while (offset >= train->vectors[i].iov_len) {
        offset -= train->vectors[i++].iov_len;
    }
    return (struct iovec){(unsigned char *) train->vectors[i].iov_base + offset,
                          datagram_size(train, index)};
}

static int datagram_send_alone(struct dgram_loop *loop, const struct dg_train *train,
                               uint32_t index)
{
    struct iovec vector = datagram_vector(train, index);
    struct train alone = {.header = train->base.header, .endpoint = train->base.endpoint};
    struct train *list[] = {&alone};
    alone.header.msg_iov = &vector;
    alone.header.msg_iovlen = 1;
    alone.header.msg_control = NULL;
    alone.header.msg_controllen = 0;
    for (int tries = 0; tries < 2; tries++) {
        send_now(loop, list, 1);
        if (!error_may_be_old(alone.result)) {
            break;
        }
    }
    return alone.result;
}

static bool is_hopeless(const struct request *request)
{
    uint32_t waited = milliseconds(request->socket->loop) - request->since;
    return request->tries >= VAIN_RETRIES && waited >= VAIN_MS;
}

/* ENOBUFS is back-pressure too, but a datagram that needs more fragments than the send buffer can
 * ever hold gets it for ever: when a thousand retries, a second at least, could not send it, or
 * nothing of the socket, it is the result. What a broken engine says is none, even if it says
 * EAGAIN. */
static bool is_back_pressure(const struct dg_train *train, uint32_t index, int result)
{
    const struct dgram_socket *socket = train->flow->socket;
    const struct request *request = train_request(train, index);
    bool in_vain =
        socket->vain_retries >= VAIN_RETRIES || (request != NULL && is_hopeless(request));
    return result != socket->loop->batch->code &&
           (result == -EAGAIN || (result == -ENOBUFS && !in_vain));
}

/* The datagrams of a train one by one, in order, each with its own true result.
 * False when the kernel had no room: then the rest and what follows are parked. `*helps`: one of
 * them at least has met with something else than the train. */
static bool datagrams_send_alone(struct dgram_loop *loop, struct dg_train *train, bool *helps)
{
    for (uint32_t i = 0; i < train->count; i++) {
        int result = datagram_send_alone(loop, train, i);
        *helps |= result != train->base.result;
        if (is_back_pressure(train, i, result)) {
            flow_park(train, i, result);
            return false;
        }
        if (result >= 0) {
            train->flow->socket->stats.sends++;
            train->flow->socket->vain_retries = 0;
        }
        datagram_complete(train, train_pop_request(train, i), datagram_size(train, i), result);
    }
    return true;
}

/* A refused train. Nothing is learnt of it if its datagrams fail like it: an address that cannot be
 * sent to is EINVAL, too. Then each of its trains costs one call more than without trains; a guess
 * that the next train's datagrams fail as well would be wrong where a firewall counts the rate. */
static bool train_send_singly(struct dgram_loop *loop, struct dg_train *train)
{
    bool helps = false;
    train->flow->socket->stats.trains_refused++;
    bool goes_on = datagrams_send_alone(loop, train, &helps);
    if (helps) {
        refusal_learn(loop, train);
    }
    return goes_on;
}

/* What the train got is the result of its first datagram, which was tried in vain for long enough;
 * the others have their own time. */
static bool train_fail_first(struct dgram_loop *loop, struct dg_train *train)
{
    bool helps = false;
    return datagrams_send_alone(loop, train, &helps);
}

/* An attempt without a copy that failed (an older kernel, too many pages under way) says nothing
 * about the datagrams: they go again like any others. True if this was one. */
static bool lending_failed(struct dgram_loop *loop, struct dg_train *train)
{
    if (train->base.loan == 0) {
        return false;
    }
    dg_train_take_back(loop, train);
    if (train->base.result >= 0 || train->base.result == -EAGAIN) {
        return false;
    }
    dg_buffer_copied(loop, &train->flow->peer);
    return true;
}

static void train_taken(struct dg_train *train)
{
    struct dgram_socket *socket = train->flow->socket;
    socket->stats.sends++;
    socket->vain_retries = 0;
    if (train->count > 1) {
        socket->refused_trains = 0;
    }
    train_complete(train, train->base.result);
}

/* Ends one train. False when the flow is parked from here on. */
static bool train_settle(struct dgram_loop *loop, struct dg_train *train)
{
    if (lending_failed(loop, train)) {
        chain_again(loop, train);
    }
    int result = train->base.result;
    if (result >= 0) {
        train_taken(train);
        return true;
    }
    if (is_back_pressure(train, 0, result)) {
        flow_park(train, 0, result);
        return false;
    }
    bool goes_on = true;
    if (train_is_refused(train)) {
        goes_on = train_send_singly(loop, train);
    } else if (result == -ENOBUFS && train->count > 1) {
        goes_on = train_fail_first(loop, train);
    } else if (error_may_be_old(result) && !train->retried) {
        train->retried = true;
        chain_again(loop, train);
        return train_settle(loop, train);
    } else {
        train_complete(train, result);
    }
    if (goes_on && train->next != NULL) {
        chain_again(loop, train->next); /* the engine did not try what is behind a failure */
    }
    return goes_on;
}

static void flow_settle(struct dgram_loop *loop, struct flow *flow)
{
    struct dg_train *train = flow->head;
    if (dg_socket_announces(flow->socket)) {
        chain_park(train, 0); /* it was not handed over */
        return;
    }
    while (train != NULL && train_settle(loop, train)) {
        train = train->next;
    }
}

static void flow_rejoin(struct flow *flow)
{
    socket_rejoin_parked(flow->socket);
    if (flow->stall != NULL) {
        dg_stall_rejoin(flow->stall);
    }
}

int dg_send_settle(struct dgram_loop *loop, int code)
{
    struct batch *batch = loop->batch;
    batch->code = code;
    if (batch->flow_count == 0) {
        return code;
    }
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        flow_settle(loop, &batch->flows[i]);
    }
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        flow_rejoin(&batch->flows[i]);
    }
    for (uint32_t i = 0; batch->in_buffers > 0 && i < batch->train_count; i++) {
        if (batch->trains[i].buffer != NULL) {
            dg_train_left(loop, &batch->trains[i]);
        }
    }
    dg_batch_reset(batch);
    dg_queue_check_drains(loop);
    return batch->code;
}

void dg_send_hand_over(struct dgram_loop *loop)
{
    size_t count = loop->batch->flow_count > 0 ? dg_batch_order(loop) : 0;
    if (count > 0) {
        loop->io.backend->send(loop->io.engine, loop->batch->order, count);
        loop->flushes++;
        loop->sent_at = loop->now;
    }
}

int dg_send_flush(struct dgram_loop *loop)
{
    int cancel_state = dg_cancel_hold();
    dg_send_hand_over(loop);
    loop->io.arms = false;
    int code = dg_send_settle(loop, loop->io.backend->flush(loop->io.engine));
    if (loop->io.arms && code == 0) {
        code = loop->io.backend->flush(loop->io.engine); /* what was parked waits for POLLOUT now */
        loop->io.arms = false;
    }
    dg_io_note(&loop->io, code);
    if (loop->io.pending.count > 0) {
        agenda_wake(&loop->agenda); /* there is more to tell than results of sends */
    }
    dg_cancel_release(cancel_state);
    return code;
}

bool dg_send_wants_answer(const struct dgram_loop *loop)
{
    const struct batch *batch = loop->batch;
    if (batch->in_buffers > 0 || (loop->drains_wanted > 0 && batch->train_count > 0)) {
        return true;
    }
    for (uint32_t i = 0; i < batch->train_count; i++) {
        const struct dg_train *train = &batch->trains[i];
        if (!queue_is_empty(&train->requests) || train->flow->socket->state == SOCKET_ENDING) {
            return true;
        }
    }
    return false;
}

void dg_send_open(struct dgram_loop *loop)
{
    loop->retry.run = blocked_retry;
}
