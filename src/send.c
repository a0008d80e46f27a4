/* SPDX-License-Identifier: MIT */
/*
 * send.c: the way of a datagram from dgram_send() to its completion.
 *
 *     accept -> batch (train.c) -> engine -> settle -> sent: callback, or nothing
 *                                              |-----> refused: again, one by one (a train) or once
 *                                              |-----> no room: parked, retried when there is
 *                                              `-----> failed: callback, or `error` event
 *
 * Owns requests and parked sends. Order: trains of one flow are handed over as a chain (`follows`),
 * which stops at the first that is not taken; what is behind it is parked or handed over again
 * behind it. While a socket has parked sends, new ones queue up behind them.
 */
#include <string.h>

#include "src/core.h"

/* ENOBUFS says that a device queue is full; POLLOUT does not tell when it no longer is. */
#define NOBUFS_RETRY_NS UINT64_C(1000000)

enum { FUTILE_TRIES = 1000 };

enum { REQUESTS_PER_SLAB = 63, REFUSALS_BEFORE_OFF = 8 };

struct request_slab {
    struct request_slab *next;
    struct request requests[REQUESTS_PER_SLAB];
};

/* ---- Requests ------------------------------------------------------------------------------ */

static bool requests_grow(struct dgram_loop *loop)
{
    struct request_slab *slab = dg_allocate(sizeof(*slab));
    if (slab == NULL) {
        return false;
    }
    slab->next = loop->request_slabs;
    loop->request_slabs = slab;
    for (size_t i = 0; i < REQUESTS_PER_SLAB; i++) {
        slab->requests[i].next = loop->request_store;
        loop->request_store = &slab->requests[i];
    }
    return true;
}

static struct request *request_take(struct dgram_loop *loop)
{
    if (loop->request_store == NULL && !requests_grow(loop)) {
        return NULL;
    }
    struct request *request = loop->request_store;
    loop->request_store = request->next;
    return request;
}

static void request_give(struct dgram_loop *loop, struct request *request)
{
    if (request->heap) {
        dg_release(request);
        return;
    }
    request->next = loop->request_store;
    loop->request_store = request;
}

/* A request that owns its payload, of which the caller fills the bytes. */
static struct request *request_with_room(struct dgram_socket *socket, uint32_t size,
                                         dgram_sent_fn *fn, void *user)
{
    struct request *request = dg_allocate(sizeof(*request) + size);
    if (request != NULL) {
        request->socket = socket;
        request->fn = fn;
        request->user = user;
        request->data = request + 1;
        request->size = size;
        request->heap = true;
    }
    return request;
}

static void list_append(struct request_list *list, struct request *request)
{
    request->next = NULL;
    if (list->tail != NULL) {
        list->tail->next = request;
    } else {
        list->head = request;
    }
    list->tail = request;
}

static struct request *list_pop(struct request_list *list)
{
    struct request *request = list->head;
    if (request != NULL) {
        list->head = request->next;
        if (list->head == NULL) {
            list->tail = NULL;
        }
    }
    return request;
}

/* ---- Accounting ---------------------------------------------------------------------------- */

static uint64_t queue_charge(const struct dgram_socket *socket)
{
    return socket->queue_bytes + QUEUE_OVERHEAD * socket->queue_count;
}

void dg_send_count(struct dgram_socket *socket, uint64_t bytes, uint64_t count)
{
    socket->queue_bytes += bytes;
    socket->queue_count += count;
    socket->loop->queue_charge += bytes + QUEUE_OVERHEAD * count;
}

void dg_send_uncount(struct dgram_socket *socket, uint64_t bytes, uint64_t count)
{
    assert(socket->queue_bytes >= bytes && socket->queue_count >= count);
    socket->queue_bytes -= bytes;
    socket->queue_count -= count;
    socket->loop->queue_charge -= bytes + QUEUE_OVERHEAD * count;
    if (socket->state == SOCKET_ENDING && socket->queue_count == 0) {
        dg_socket_begin_close(socket);
    }
}

/* An empty queue takes any one datagram, whatever the limit. */
static bool queue_is_full(struct dgram_socket *socket, uint32_t size)
{
    const struct dgram_loop *loop = socket->loop;
    uint64_t charge = size + QUEUE_OVERHEAD;
    bool full = socket->queue_count > 0 && queue_charge(socket) + charge > socket->queue_limit;
    return full || (loop->queue_charge > 0 && loop->queue_charge + charge > loop->queue_limit);
}

static int queue_refuse(struct dgram_socket *socket)
{
    if (!socket->drain_wanted) {
        socket->drain_wanted = true;
        socket->loop->drains_wanted++;
    }
    return -EAGAIN;
}

/* `drain` comes when what refused has fallen to half: asked once a turn, and only while wanted. */
static void queue_check_drains(struct dgram_loop *loop)
{
    if (loop->drains_wanted == 0 || loop->queue_charge > loop->queue_limit / 2) {
        return;
    }
    for (struct dgram_socket *s = loop->sockets; s != NULL; s = s->next) {
        if (s->drain_wanted && queue_charge(s) <= s->queue_limit / 2) {
            s->drain_wanted = false;
            loop->drains_wanted--;
            dg_socket_due(s, DUE_DRAIN);
        }
    }
}

/* ---- Completion ---------------------------------------------------------------------------- */

static void request_complete(struct request *request, int result)
{
    struct dgram_socket *socket = request->socket;
    struct dgram_loop *loop = socket->loop;
    if (result < 0) {
        socket->stats.send_errors++;
    }
    if (request->fn != NULL) {
        request->result = result;
        list_append(&loop->done, request);
        dg_loop_touch(loop);
        return;
    }
    if (result < 0) {
        dg_error_queue(socket, "send", result, &request->name, request->name_size, 1);
    }
    dg_send_uncount(socket, request->size, 1);
    request_give(loop, request);
}

void dg_send_dispatch_done(struct dgram_loop *loop)
{
    struct request *request = loop->done.head;
    loop->done = (struct request_list){0};
    while (request != NULL) {
        struct request *next = request->next;
        struct dgram_socket *socket = request->socket;
        dgram_sent_fn *fn = request->fn;
        void *user = request->user;
        int result = request->result;
        dg_send_uncount(socket, request->size, 1);
        request_give(loop, request);
        fn(socket, result, user);
        request = next;
    }
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
        request->name = flow->name;
        request->name_size = (uint8_t) flow->name_size;
        request_complete(request, result >= 0 ? (int) size : result);
        return;
    }
    if (result < 0) {
        socket->stats.send_errors++;
        dg_error_queue(socket, "send", result, &flow->name, flow->name_size, 1);
    }
    dg_send_uncount(socket, size, 1);
}

static uint32_t datagram_size(const struct dg_train *train, uint32_t index)
{
    uint32_t offset = index * train->segment;
    uint32_t left = train->bytes - offset;
    return left < train->segment ? left : train->segment;
}

static struct request *train_pop_request(struct dg_train *train, uint32_t index)
{
    struct request *request = train->asked.head;
    return request != NULL && request->index == index ? list_pop(&train->asked) : NULL;
}

/* All datagrams of the train end alike. The common train has no requests: nothing is done per
 * datagram then. */
static void train_complete(struct dg_train *train, int result)
{
    struct dgram_socket *socket = train->flow->socket;
    uint64_t bytes = train->bytes, count = train->count;
    for (struct request *r; (r = list_pop(&train->asked)) != NULL;) {
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
        dg_error_queue(socket, "send", result, &train->flow->name, train->flow->name_size,
                       (uint32_t) count);
    }
    dg_send_uncount(socket, bytes, count);
}

/* ---- Parking ------------------------------------------------------------------------------- */

static void socket_woken(struct dgram_loop *loop, struct dg_watch *watch)
{
    (void) loop;
    struct dgram_socket *socket =
        (struct dgram_socket *) ((char *) watch - offsetof(struct dgram_socket, writable));
    dg_send_retry(socket);
}

static void block_for_a_moment(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    if (socket->in_blocked) {
        return;
    }
    socket->in_blocked = true;
    if (loop->blocked.head == NULL) {
        loop->blocked_until = loop->system->now() + NOBUFS_RETRY_NS;
    }
    dg_list_append(&loop->blocked, socket, offsetof(struct dgram_socket, blocked_next));
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
        dg_watch_arm(socket->loop, &socket->writable) < 0) {
        block_for_a_moment(socket);
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
    struct request *parked = request_with_room(socket, size, request != NULL ? request->fn : NULL,
                                               request != NULL ? request->user : NULL);
    if (parked == NULL) {
        return NULL;
    }
    dg_train_copy(train, index * train->segment, size, parked + 1);
    if (request != NULL) {
        request_give(socket->loop, request);
    }
    return parked;
}

static void train_park(struct dg_train *train, uint32_t from)
{
    struct dgram_socket *socket = train->flow->socket;
    for (uint32_t i = from; i < train->count; i++) {
        struct request *request = train_pop_request(train, i);
        struct request *parked = request_for_parking(train, request, i);
        if (parked == NULL) {
            datagram_complete(train, request, datagram_size(train, i), -ENOMEM);
            continue;
        }
        socket->stats.parked += parked->name_size == 0; /* else it was parked before */
        parked->name = train->flow->name;
        parked->name_size = (uint8_t) train->flow->name_size;
        list_append(&socket->parked_again, parked);
    }
}

static void flow_park(struct dg_train *train, uint32_t from, int reason)
{
    socket_block(train->flow->socket, reason);
    for (; train != NULL; train = train->next) {
        train_park(train, from);
        from = 0;
    }
}

/* What could not leave goes back before what was still waiting behind it. */
static void socket_rejoin_parked(struct dgram_socket *socket)
{
    if (socket->parked_again.head == NULL) {
        return;
    }
    socket->parked_again.tail->next = socket->parked.head;
    if (socket->parked.head == NULL) {
        socket->parked.tail = socket->parked_again.tail;
    }
    socket->parked.head = socket->parked_again.head;
    socket->parked_again = (struct request_list){0};
}

void dg_send_retry(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    socket->blocked = false;
    while (socket->parked.head != NULL && !socket->blocked) {
        bool full = false;
        for (struct request *r; !full && (r = list_pop(&socket->parked)) != NULL;) {
            struct flow *flow = dg_batch_flow(loop, socket, &r->name);
            full = dg_batch_append(loop->batch, flow, r->data, r->size, r);
        }
        (void) dg_send_flush(loop); /* a broken engine shows in the results */
    }
}

static void blocked_forget(struct dgram_socket *socket)
{
    struct socket_list *blocked = &socket->loop->blocked;
    struct dgram_socket *other = blocked->head;
    *blocked = (struct socket_list){0};
    for (struct dgram_socket *next; other != NULL; other = next) {
        next = other->blocked_next;
        if (other != socket) {
            dg_list_append(blocked, other, offsetof(struct dgram_socket, blocked_next));
        }
    }
    socket->in_blocked = false;
}

void dg_send_cancel(struct dgram_socket *socket, int code)
{
    if (socket->in_blocked) {
        blocked_forget(socket);
    }
    socket_rejoin_parked(socket);
    for (struct request *r; (r = list_pop(&socket->parked)) != NULL;) {
        request_complete(r, code);
    }
}

void dg_send_forget(struct request_list *list, struct dgram_loop *loop)
{
    for (struct request *r; (r = list_pop(list)) != NULL;) {
        request_give(loop, r);
    }
}

void dg_send_retry_blocked(struct dgram_loop *loop)
{
    if (loop->blocked.head == NULL || loop->blocked_until > loop->now) {
        return;
    }
    struct dgram_socket *socket = loop->blocked.head;
    loop->blocked = (struct socket_list){0};
    while (socket != NULL) {
        struct dgram_socket *next = socket->blocked_next;
        socket->in_blocked = false;
        dg_send_retry(socket);
        socket = next;
    }
}

/* ---- Settling ------------------------------------------------------------------------------ */

/* An unfinished chain is handed over again from this train on. */
static void chain_again(struct dgram_loop *loop, struct dg_train *train)
{
    size_t count = 0;
    train->base.follows = false;
    for (; train != NULL; train = train->next) {
        loop->batch->order[count++] = &train->base;
    }
    loop->backend->send(loop->engine, loop->batch->order, count);
    (void) loop->backend->flush(loop->engine);
    loop->flushes++;
}

/* The kernel reports an ICMP error of an older datagram by failing the next send, and forgets it:
 * the same send tried again tells the truth. */
static bool error_may_be_old(int code)
{
    return code == -ECONNREFUSED || code == -EHOSTUNREACH || code == -ENETUNREACH ||
           code == -EHOSTDOWN || code == -EPROTO || code == -ENOPROTOOPT;
}

static bool train_is_refused(const struct dg_train *train)
{
    int code = train->base.result;
    return train->count > 1 && (code == -EIO || code == -EINVAL || code == -EMSGSIZE);
}

static void refusal_learn(struct dgram_loop *loop, const struct dg_train *train)
{
    struct dgram_socket *socket = train->flow->socket;
    bool too_big = train->base.result == -EMSGSIZE;
    dg_batch_refused(loop, &train->flow->name, too_big ? train->segment : 0);
    socket->stats.trains_refused++;
    if (!too_big && ++socket->refused_trains >= REFUSALS_BEFORE_OFF) {
        socket->segments_max = 1;
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
        loop->backend->send(loop->engine, list, 1);
        (void) loop->backend->flush(loop->engine);
        if (!error_may_be_old(alone.result)) {
            break;
        }
    }
    return alone.result;
}

/* ENOBUFS is back-pressure too, but a datagram that needs more fragments than the send buffer can
 * ever hold gets it for ever: when nothing at all could be sent for a second, it is the result. */
static bool is_back_pressure(struct dgram_socket *socket, int result)
{
    if (result == -ENOBUFS) {
        return ++socket->futile <= FUTILE_TRIES;
    }
    return result == -EAGAIN;
}

/* A refused train: its datagrams one by one, in order, each with its own true result. False when
 * the kernel had no room: then the rest and what follows are parked. */
static bool train_send_singly(struct dgram_loop *loop, struct dg_train *train)
{
    refusal_learn(loop, train);
    for (uint32_t i = 0; i < train->count; i++) {
        int result = datagram_send_alone(loop, train, i);
        if (is_back_pressure(train->flow->socket, result)) {
            flow_park(train, i, result);
            return false;
        }
        train->flow->socket->stats.sends += result >= 0;
        datagram_complete(train, train_pop_request(train, i), datagram_size(train, i), result);
    }
    return true;
}

/* Ends one train. False when the flow is parked from here on. */
static bool train_settle(struct dgram_loop *loop, struct dg_train *train)
{
    int result = train->base.result;
    if (result >= 0) {
        train->flow->socket->stats.sends++;
        train->flow->socket->futile = 0;
        train_complete(train, result);
        return true;
    }
    if (is_back_pressure(train->flow->socket, result)) {
        flow_park(train, 0, result);
        return false;
    }
    bool goes_on = true;
    if (train_is_refused(train)) {
        goes_on = train_send_singly(loop, train);
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

void dg_send_settle(struct dgram_loop *loop)
{
    struct batch *batch = loop->batch;
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        struct dg_train *train = batch->flows[i].head;
        while (train != NULL && train_settle(loop, train)) {
            train = train->next;
        }
    }
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        socket_rejoin_parked(batch->flows[i].socket);
    }
    dg_batch_reset(batch);
    queue_check_drains(loop);
}

void dg_send_hand_over(struct dgram_loop *loop)
{
    size_t count = dg_batch_order(loop->batch);
    if (count > 0) {
        loop->backend->send(loop->engine, loop->batch->order, count);
        loop->flushes++;
    }
}

int dg_send_flush(struct dgram_loop *loop)
{
    dg_send_hand_over(loop);
    loop->arms = false;
    int code = loop->backend->flush(loop->engine);
    dg_send_settle(loop);
    if (loop->arms && code == 0) {
        code = loop->backend->flush(loop->engine); /* what was parked waits for POLLOUT now */
        loop->arms = false;
    }
    if (loop->pending.count > 0) {
        dg_loop_touch(loop); /* the engine had more to tell than results of sends */
    }
    return code;
}

bool dg_send_wants_answer(const struct dgram_loop *loop)
{
    const struct batch *batch = loop->batch;
    if (loop->drains_wanted > 0 && batch->train_count > 0) {
        return true;
    }
    for (uint32_t i = 0; i < batch->train_count; i++) {
        const struct dg_train *train = &batch->trains[i];
        if (train->asked.head != NULL || train->flow->socket->state == SOCKET_ENDING) {
            return true;
        }
    }
    return false;
}

void dg_send_prepare(struct dgram_loop *loop)
{
    dg_send_retry_blocked(loop);
    queue_check_drains(loop);
}

void dg_send_release(struct dgram_loop *loop)
{
    while (loop->request_slabs != NULL) {
        struct request_slab *next = loop->request_slabs->next;
        dg_release(loop->request_slabs);
        loop->request_slabs = next;
    }
    loop->request_store = NULL;
}

/* ---- Accepting ----------------------------------------------------------------------------- */

static int name_read(const struct dgram_socket *socket, const struct dgram_addr *address,
                     union dg_name *ret_name)
{
    if (address->size < sizeof(sa_family_t) || address->size > sizeof(address->u)) {
        return DGRAM_EBADADDRESS;
    }
    if (address->u.any.sa_family != socket->family) {
        return DGRAM_EBADFAMILY;
    }
    if (address->size < socket->name_size) {
        return DGRAM_EBADADDRESS;
    }
    if (address->u.in4.sin_port == 0) {
        return DGRAM_EBADPORT;
    }
    if (socket->family == AF_INET) {
        ret_name->in4 = address->u.in4;
    } else {
        ret_name->in6 = address->u.in6;
    }
    return 0;
}

_Static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port),
               "name_read() looks at the port of either");

/* The request of a datagram that outlives this call: it borrows from a caller who waits for a
 * callback, or owns a copy. NULL when memory ran out; `request` is gone then. */
static struct request *request_waiting(struct dgram_socket *socket, const struct payload *payload,
                                       struct request *request)
{
    if (request != NULL && request->data != NULL) {
        return request;
    }
    struct request *owner =
        request_with_room(socket, payload->size, request != NULL ? request->fn : NULL,
                          request != NULL ? request->user : NULL);
    if (request != NULL) {
        request_give(socket->loop, request);
    }
    if (owner != NULL && payload->size > 0) {
        memcpy(owner + 1, payload->data, payload->size);
    }
    return owner;
}

static void send_batched(struct dgram_socket *socket, const union dg_name *name,
                         const struct payload *payload, struct request *request)
{
    struct dgram_loop *loop = socket->loop;
    struct flow *flow = dg_batch_flow(loop, socket, name);
    if (dg_batch_append(loop->batch, flow, payload->data, payload->size, request)) {
        (void) dg_send_flush(loop); /* a broken engine shows in the results */
    }
}

static struct request *request_for(struct dgram_socket *socket, const struct payload *payload,
                                   dgram_sent_fn *fn, void *user)
{
    struct request *request = request_take(socket->loop);
    if (request != NULL) {
        request->socket = socket;
        request->fn = fn;
        request->user = user;
        request->data = payload->lent ? payload->data : NULL;
        request->size = payload->size;
        request->heap = false;
        request->name_size = 0;
    }
    return request;
}

/* The kernel has no room, others wait already, or the socket waits for the name it binds to. */
static bool must_wait(const struct dgram_socket *socket)
{
    return socket->parked.head != NULL || socket->blocked || socket->binding != NULL;
}

int dg_send_accept(struct dgram_socket *socket, const union dg_name *name,
                   const struct payload *payload, dgram_sent_fn *fn, void *user)
{
    struct request *request = NULL;
    if (queue_is_full(socket, payload->size)) {
        return queue_refuse(socket);
    }
    if (fn != NULL && (request = request_for(socket, payload, fn, user)) == NULL) {
        return -ENOMEM;
    }
    if (must_wait(socket)) {
        request = request_waiting(socket, payload, request);
        if (request == NULL) {
            return -ENOMEM;
        }
        request->name = *name;
        request->name_size = (uint8_t) socket->name_size;
        socket->stats.parked++;
        list_append(&socket->parked, request);
        dg_send_count(socket, payload->size, 1);
    } else {
        dg_send_count(socket, payload->size, 1);
        send_batched(socket, name, payload, request);
    }
    dg_loop_touch(socket->loop);
    return 0;
}

int dg_send_await(struct dgram_socket *socket, struct request_list *list, in_port_t port,
                  const struct payload *payload, dgram_sent_fn *fn, void *user)
{
    struct request *request = NULL;
    if (queue_is_full(socket, payload->size)) {
        return queue_refuse(socket);
    }
    if (fn != NULL && (request = request_for(socket, payload, fn, user)) == NULL) {
        return -ENOMEM;
    }
    request = request_waiting(socket, payload, request);
    if (request == NULL) {
        return -ENOMEM;
    }
    request->name.in4.sin_port = port;
    request->name_size = 0; /* not an address yet */
    list_append(list, request);
    dg_send_count(socket, payload->size, 1);
    return 0;
}

void dg_send_resolved(struct request *request, const union dg_name *address)
{
    struct dgram_socket *socket = request->socket;
    in_port_t port = request->name.in4.sin_port;
    request->name = *address;
    request->name.in4.sin_port = port;
    request->name_size = (uint8_t) socket->name_size;
    list_append(&socket->parked, request);
    if (!socket->blocked && socket->binding == NULL) {
        dg_socket_due(socket, DUE_RETRY);
    }
}

void dg_send_unresolved(struct request *request, int code, const char *host)
{
    if (request->fn == NULL) {
        dg_error_queue_host(request->socket, "send", code, host);
        request->socket->stats.send_errors++;
        dg_send_uncount(request->socket, request->size, 1);
        request_give(request->socket->loop, request);
    } else {
        request_complete(request, code);
    }
}

int dg_send_check(struct dgram_socket *socket, const void *data, size_t size)
{
    int code = dg_socket_check(socket);
    if (code < 0) {
        return code;
    }
    if (socket->state != SOCKET_OPEN) {
        return DGRAM_ENOTRUNNING;
    }
    if (data == NULL && size > 0) {
        return DGRAM_ENULL;
    }
    if (size > socket->size_max) {
        return -EMSGSIZE;
    }
    bool bound = socket->bound || socket->binding != NULL;
    return bound ? 0 : dg_socket_bind_implicitly(socket);
}

/* Not inlined, so that the fast way below saves no registers for it. */
__attribute__((noinline)) static int send_to(struct dgram_socket *socket, const void *data,
                                             size_t size, const struct dgram_addr *address,
                                             dgram_sent_fn *fn, void *user)
{
    union dg_name name;
    int code = dg_socket_check(socket);
    if (code == 0) {
        code = address == NULL ? DGRAM_ENULL : name_read(socket, address, &name);
    }
    if (code == 0) {
        code = dg_send_check(socket, data, size);
    }
    if (code < 0) {
        return code;
    }
    struct payload payload = {data, (uint32_t) size, !socket->copies};
    return dg_send_accept(socket, &name, &payload, fn, user);
}

/*
 * Copies a payload whose first bytes were written a moment ago, as a program does that numbers or
 * stamps its datagrams: a vector load of bytes that are still in the store buffer in narrower
 * pieces has to wait for them (measured: 12 % of both sides' time at 64 B). Words do not wait.
 */
static inline void lane_copy(unsigned char *target, const unsigned char *source, size_t size)
{
    enum { FRESH = 64 };
    size_t words = (size < FRESH ? size : FRESH) / sizeof(uint64_t);
    for (size_t i = 0; i < words; i++) {
        uint64_t word;
        memcpy(&word, source + i * sizeof(word), sizeof(word));
        __asm__("" : "+r"(word)); /* keeps the compiler from making vectors of the words */
        memcpy(target + i * sizeof(word), &word, sizeof(word));
    }
    size_t done = words * sizeof(uint64_t);
    if (done < size) {
        memcpy(target + done, source + done, size - done);
    }
}

static bool flow_is_to(const struct flow *flow, const struct dgram_addr *address)
{
    uint64_t one, two;
    memcpy(&one, &flow->name, sizeof(one));
    memcpy(&two, &address->u, sizeof(two));
    if (one != two || address->size < flow->name_size) {
        return false;
    }
    return flow->name_size == sizeof(struct sockaddr_in) ||
           memcmp(&flow->name, &address->u, sizeof(struct sockaddr_in6)) == 0;
}

/*
 * The fast way: another datagram of the same size to the same peer, without a callback. A flow
 * exists in this submission only if its socket is open, bound and not blocked, so all that was
 * checked for its first datagram holds. 48 instructions instead of some 250 (callgrind).
 */
int dgram_send_to(struct dgram_socket *socket, const void *data, size_t size,
                  const struct dgram_addr *address, dgram_sent_fn *fn, void *user)
{
    struct flow *flow = socket != NULL ? socket->last_flow : NULL;
    if (flow != NULL && fn == NULL && data != NULL && address != NULL && size == flow->lane_size &&
        flow->lane_left > 0 && flow_is_to(flow, address) && !dg_loop_forked(socket->loop)) {
        lane_copy(flow->lane, data, size);
        flow->lane += size;
        flow->lane_left--;
        return 0;
    }
    return send_to(socket, data, size, address, fn, user);
}

int dgram_send(struct dgram_socket *socket, const void *data, size_t size, uint16_t port,
               const char *address, dgram_sent_fn *fn, void *user)
{
    struct dgram_addr target;
    int code = dg_socket_check(socket);
    if (code < 0) {
        return code;
    }
    if (port == 0) {
        return DGRAM_EBADPORT;
    }
    code = dg_address_read(socket->family, address, port, DG_LOOPBACK, &target);
    if (code != DGRAM_EBADADDRESS || !dg_name_is_well_formed(address)) {
        return code < 0 ? code : send_to(socket, data, size, &target, fn, user);
    }
    code = dg_send_check(socket, data, size);
    struct payload payload = {data, (uint32_t) size, !socket->copies};
    return code < 0 ? code : dg_resolve_send(socket, address, htons(port), &payload, fn, user);
}

/* ---- Many at once -------------------------------------------------------------------------- */

/* The payload of an item; pieces are joined into a buffer of the loop, which lends nothing. */
static int item_payload(struct dgram_socket *socket, const struct dgram_outgoing *item,
                        struct payload *ret_payload)
{
    bool lent = !socket->copies && !(item->flags & DGRAM_COPY);
    if (item->pieces == NULL) {
        *ret_payload = (struct payload){item->data, (uint32_t) item->size, lent};
        return dg_send_check(socket, item->data, item->size);
    }
    size_t size = 0;
    for (size_t i = 0; i < item->piece_count; i++) {
        const struct iovec *piece = &item->pieces[i];
        int code = dg_send_check(socket, piece->iov_base, piece->iov_len);
        if (code < 0) {
            return code;
        }
        if (size + piece->iov_len > socket->size_max) {
            return -EMSGSIZE;
        }
        if (piece->iov_len > 0) {
            memcpy(socket->loop->joined + size, piece->iov_base, piece->iov_len);
        }
        size += piece->iov_len;
    }
    *ret_payload = (struct payload){socket->loop->joined, (uint32_t) size, false};
    return dg_send_check(socket, socket->loop->joined, size);
}

static int item_send(struct dgram_socket *socket, const struct dgram_outgoing *item,
                     dgram_sent_fn *fn, void *user)
{
    struct payload payload;
    union dg_name name;
    if ((item->flags & ~DGRAM_COPY) != 0 || (item->address != NULL && item->destination != NULL)) {
        return DGRAM_EBADOPTIONS;
    }
    if (item->address == NULL && item->destination == NULL) {
        return DGRAM_ENULL;
    }
    int code = item->address != NULL ? name_read(socket, item->address, &name) : 0;
    if (code == 0) {
        code = item_payload(socket, item, &payload);
    }
    if (code < 0) {
        return code;
    }
    user = item->user != NULL ? item->user : user;
    return item->address != NULL
               ? dg_send_accept(socket, &name, &payload, fn, user)
               : dg_destination_send(socket, item->destination, &payload, fn, user);
}

int dgram_send_many(struct dgram_socket *socket, struct dgram_outgoing *items, size_t count,
                    dgram_sent_fn *fn, void *user)
{
    int accepted = 0, status = dg_socket_check(socket);
    if (status == 0 && socket->state != SOCKET_OPEN) {
        status = DGRAM_ENOTRUNNING;
    }
    if (status < 0 || (items == NULL && count > 0)) {
        return status < 0 ? status : (int) DGRAM_ENULL;
    }
    for (size_t i = 0; i < count; i++) {
        status = status == -EAGAIN ? -EAGAIN : item_send(socket, &items[i], fn, user);
        items[i].status = status;
        accepted += status == 0;
    }
    return accepted;
}

size_t dgram_get_send_queue_size(const struct dgram_socket *socket)
{
    if (socket == NULL || socket->state >= SOCKET_CLOSING) {
        return 0;
    }
    dg_batch_sync(socket->loop->batch);
    return (size_t) socket->queue_bytes;
}

size_t dgram_get_send_queue_count(const struct dgram_socket *socket)
{
    if (socket == NULL || socket->state >= SOCKET_CLOSING) {
        return 0;
    }
    dg_batch_sync(socket->loop->batch);
    return (size_t) socket->queue_count;
}
