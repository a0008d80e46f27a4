/* SPDX-License-Identifier: MIT */
/*
 * request.c: datagrams that are remembered one by one, and the account of what is queued.
 *
 * Owns the store of requests, which grows in slabs and keeps its high-water mark, the limits of the
 * queues with `drain` and the shares of what is stalled in them, and the list of completions whose
 * callbacks are due. It never looks at trains and never submits.
 */
#include <string.h>

#include "src/core.h"

enum { REQUESTS_PER_SLAB = 63 };

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
        queue_prepend(&loop->request_store, &slab->requests[i].link);
    }
    return true;
}

struct request *dg_request_take(struct dgram_loop *loop)
{
    if (queue_is_empty(&loop->request_store) && !requests_grow(loop)) {
        return NULL;
    }
    return dg_requests_pop(&loop->request_store);
}

void dg_request_give(struct dgram_loop *loop, struct request *request)
{
    if (request->heap) {
        dg_release(request);
        return;
    }
    queue_prepend(&loop->request_store, &request->link);
}

/* A request that owns its payload, of which the caller fills the bytes. */
struct request *dg_request_with_room(struct dgram_socket *socket, uint32_t size, dgram_sent_fn *fn,
                                     void *user)
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

void dg_request_park(struct queue *queue, struct request *request)
{
    const struct dgram_socket *socket = request->socket;
    /* Else for the name that the socket binds to, or for its `listening`. */
    bool for_room = socket->blocked || !node_alone(&socket->stalls);
    if (for_room && !request->parked) {
        request->parked = true;
        request->socket->stats.parked++;
    }
    queue_append(queue, &request->link);
}

void dg_requests_forget(struct queue *queue, struct dgram_loop *loop)
{
    for (struct request *r; (r = dg_requests_pop(queue)) != NULL;) {
        dg_request_give(loop, r);
    }
}

void dg_requests_release(struct dgram_loop *loop)
{
    while (loop->request_slabs != NULL) {
        struct request_slab *next = loop->request_slabs->next;
        dg_release(loop->request_slabs);
        loop->request_slabs = next;
    }
    loop->request_store = (struct queue){0};
}

/* ---- Accounting ---------------------------------------------------------------------------- */

static uint64_t queue_charge(const struct dgram_socket *socket)
{
    return socket->queue_bytes + QUEUE_OVERHEAD * socket->queue_count;
}

void dg_queue_count(struct dgram_socket *socket, uint64_t bytes, uint64_t count)
{
    socket->queue_bytes += bytes;
    socket->queue_count += count;
    socket->loop->queue_charge += bytes + QUEUE_OVERHEAD * count;
}

void dg_queue_uncount(struct dgram_socket *socket, uint64_t bytes, uint64_t count)
{
    assert(socket->queue_bytes >= bytes && socket->queue_count >= count);
    socket->queue_bytes -= bytes;
    socket->queue_count -= count;
    socket->loop->queue_charge -= bytes + QUEUE_OVERHEAD * count;
    if (socket->state == SOCKET_ENDING && socket->queue_count == 0) {
        dg_socket_all_sent(socket);
    }
}

/* What is stalled takes half of a limit at most, so that the other half is always for what is not;
 * what was on its way before its destination stalled counts as no more than that half. */
static uint64_t stalled_part(uint64_t stalled, uint64_t limit)
{
    return stalled < limit / 2 ? stalled : limit / 2;
}

/* An empty queue takes any one datagram, whatever the limit. */
static bool exceeds(uint64_t charge, uint64_t stalled, uint64_t more, uint64_t limit)
{
    if (charge + more <= limit) {
        return false;
    }
    uint64_t live = charge - stalled, half = limit / 2;
    bool room_is_full = live > 0 && live + stalled_part(stalled, limit) + more > limit;
    return room_is_full || (charge > half && charge - half + more > limit);
}

bool dg_queue_is_full(struct dgram_socket *socket, uint32_t size)
{
    const struct dgram_loop *loop = socket->loop;
    uint64_t more = size + QUEUE_OVERHEAD;
    return exceeds(queue_charge(socket), socket->stalled, more, socket->queue_limit) ||
           exceeds(loop->queue_charge, loop->stalled, more, loop->queue_limit);
}

/* Notes the largest that was refused since the last `drain`. */
static void want_drain(struct dgram_socket *socket, uint8_t what, uint32_t size, uint32_t *largest)
{
    bool first = (socket->drain_wanted & what) == 0;
    *largest = first || size > *largest ? size : *largest;
    socket->loop->drains_wanted += socket->drain_wanted == 0;
    socket->drain_wanted |= what;
}

int dg_queue_refuse(struct dgram_socket *socket, uint32_t size)
{
    want_drain(socket, WANTED_QUEUE, size, &socket->refused_size);
    return -EAGAIN;
}

/* What is not stalled has fallen to half of its room. */
static bool is_low(uint64_t charge, uint64_t stalled, uint64_t limit)
{
    return charge - stalled <= (limit - stalled_part(stalled, limit)) / 2;
}

/* `drain` comes when both queues have fallen to half and what was refused fits: a large datagram
 * may be refused below the half, and would be again. */
static bool queue_is_ready(struct dgram_socket *s)
{
    return is_low(queue_charge(s), s->stalled, s->queue_limit) &&
           is_low(s->loop->queue_charge, s->loop->stalled, s->loop->queue_limit) &&
           !dg_queue_is_full(s, s->refused_size);
}

static void drain_has_come(struct dgram_socket *socket, uint8_t what)
{
    socket->drain_wanted &= (uint8_t) ~what;
    socket->loop->drains_wanted -= socket->drain_wanted == 0;
    dg_agenda_add(&socket->loop->agenda, &socket->drain);
}

/* Asked once a turn, and only while wanted. */
void dg_queue_check_drains(struct dgram_loop *loop)
{
    if (loop->drains_wanted == 0) {
        return;
    }
    for (struct node *node = loop->sockets.next; node != &loop->sockets; node = node->next) {
        struct dgram_socket *s = owner_of(node, struct dgram_socket, all);
        if ((s->drain_wanted & WANTED_QUEUE) && queue_is_ready(s)) {
            drain_has_come(s, WANTED_QUEUE);
        }
        if ((s->drain_wanted & WANTED_STALLED) && !dg_share_is_full(s, NULL, s->refused_stalled)) {
            drain_has_come(s, WANTED_STALLED);
        }
    }
}

/* ---- Shares -------------------------------------------------------------------------------- */

/*
 * The half is shared as switches share their buffers (dynamic thresholds): each takes at most four
 * times of what is left. So one that is alone gets four fifths, two get four ninths each, and there
 * is always room for another.
 */
enum { SHARE_OF_FREE = 4 };

static bool share_exceeds(uint64_t own, uint64_t stalled, uint64_t more, uint64_t limit)
{
    uint64_t half = limit / 2;
    if (stalled == 0) {
        return false; /* the first one is taken, whatever the limit */
    }
    if (stalled + more > half) {
        return true;
    }
    return own > 0 && (own + more) / SHARE_OF_FREE > half - stalled - more;
}

bool dg_share_is_full(const struct dgram_socket *socket, const struct share *share, uint32_t size)
{
    const struct dgram_loop *loop = socket->loop;
    uint64_t more = size + QUEUE_OVERHEAD;
    uint64_t own = share != NULL ? share->charge : 0;
    uint64_t whole = share != NULL && share->whole != NULL ? share->whole->charge : own;
    return share_exceeds(own, socket->stalled, more, socket->queue_limit) ||
           share_exceeds(whole, loop->stalled, more, loop->queue_limit);
}

/* Where the destination holds something, of this socket or of others, there is room again when this
 * socket holds half of that; elsewhere room must come from whatever is stalled. */
int dg_share_refuse(struct dgram_socket *socket, struct share *share, uint32_t size)
{
    uint64_t most = share != NULL ? share->charge : 0;
    if (share != NULL && share->whole != NULL && share->whole->charge > most) {
        most = share->whole->charge;
    }
    if (most > 0) {
        share->refused_at = most;
    } else {
        want_drain(socket, WANTED_STALLED, size, &socket->refused_stalled);
    }
    return -EAGAIN;
}

void dg_share_charge(struct dgram_socket *socket, struct share *share, uint32_t size)
{
    uint64_t charge = size + QUEUE_OVERHEAD;
    share->charge += charge;
    if (share->whole != NULL) {
        share->whole->charge += charge;
    }
    socket->stalled += charge;
    socket->loop->stalled += charge;
}

void dg_share_release(struct dgram_socket *socket, struct share *share, uint32_t size)
{
    uint64_t charge = size + QUEUE_OVERHEAD;
    assert(share->charge >= charge && socket->stalled >= charge);
    share->charge -= charge;
    if (share->whole != NULL) {
        share->whole->charge -= charge;
    }
    socket->stalled -= charge;
    socket->loop->stalled -= charge;
}

void dg_share_check(struct dgram_socket *socket, struct share *share)
{
    if (share->refused_at > 0 && share->charge <= share->refused_at / 2) {
        share->refused_at = 0;
        if (socket->state < SOCKET_CLOSING) {
            dg_agenda_add(&socket->loop->agenda, &socket->drain);
        }
    }
}

/* ---- Completion ---------------------------------------------------------------------------- */

void dg_request_complete(struct request *request, int result)
{
    struct dgram_socket *socket = request->socket;
    struct dgram_loop *loop = socket->loop;
    if (result < 0) {
        socket->stats.send_errors++;
    }
    if (request->fn != NULL) {
        request->result = result;
        queue_append(&loop->done, &request->link);
        dg_agenda_add(&loop->agenda, &loop->sent);
        return;
    }
    if (result < 0) {
        const struct dg_error error = {.operation = "send",
                                       .code = result,
                                       .repeat = 1,
                                       .peer = &request->peer,
                                       .peer_size = request->peer_size};
        dg_error_queue(&socket->errors, &error);
    }
    dg_queue_uncount(socket, request->size, 1);
    dg_request_give(loop, request);
}

static void sent_run(struct task *task)
{
    struct dgram_loop *loop = owner_of(task, struct dgram_loop, sent);
    struct queue done = queue_take(&loop->done);
    while (!queue_is_empty(&done) && !dg_loop_forked(loop)) {
        struct request *request = dg_requests_pop(&done);
        struct dgram_socket *socket = request->socket;
        dgram_sent_fn *fn = request->fn;
        void *user = request->user;
        int result = request->result;
        dg_queue_uncount(socket, request->size, 1);
        dg_request_give(loop, request);
        fn(socket, result, user);
    }
    if (dg_loop_forked(loop)) {
        queue_prepend_all(&loop->done, &done); /* a child's: to be released with the loop */
    }
}

void dg_requests_open(struct dgram_loop *loop)
{
    dg_task_init(&loop->sent, PHASE_SENT, sent_run);
}
