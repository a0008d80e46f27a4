/* SPDX-License-Identifier: MIT */
/*
 * request.c: datagrams that are remembered one by one, and the account of what is queued.
 *
 * Owns the store of requests, which grows in slabs and keeps its high-water mark, the limits of the
 * queues with `drain`, and the list of completions whose callbacks are due. It never looks at
 * trains and never submits.
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
        slab->requests[i].next = loop->request_store;
        loop->request_store = &slab->requests[i];
    }
    return true;
}

struct request *dg_request_take(struct dgram_loop *loop)
{
    if (loop->request_store == NULL && !requests_grow(loop)) {
        return NULL;
    }
    struct request *request = loop->request_store;
    loop->request_store = request->next;
    return request;
}

void dg_request_give(struct dgram_loop *loop, struct request *request)
{
    if (request->heap) {
        dg_release(request);
        return;
    }
    request->next = loop->request_store;
    loop->request_store = request;
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

void dg_requests_append(struct request_list *list, struct request *request)
{
    request->next = NULL;
    if (list->tail != NULL) {
        list->tail->next = request;
    } else {
        list->head = request;
    }
    list->tail = request;
}

void dg_request_park(struct request_list *list, struct request *request)
{
    const struct dgram_socket *socket = request->socket;
    bool for_room = socket->binding == NULL; /* else for the name that the socket binds to */
    if (for_room && !request->parked) {
        request->parked = true;
        request->socket->stats.parked++;
    }
    dg_requests_append(list, request);
}

struct request *dg_requests_pop(struct request_list *list)
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

void dg_requests_forget(struct request_list *list, struct dgram_loop *loop)
{
    for (struct request *r; (r = dg_requests_pop(list)) != NULL;) {
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
    loop->request_store = NULL;
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

/* An empty queue takes any one datagram, whatever the limit. */
bool dg_queue_is_full(struct dgram_socket *socket, uint32_t size)
{
    const struct dgram_loop *loop = socket->loop;
    uint64_t charge = size + QUEUE_OVERHEAD;
    bool full = socket->queue_count > 0 && queue_charge(socket) + charge > socket->queue_limit;
    return full || (loop->queue_charge > 0 && loop->queue_charge + charge > loop->queue_limit);
}

int dg_queue_refuse(struct dgram_socket *socket, uint32_t size)
{
    if (!socket->drain_wanted) {
        socket->drain_wanted = true;
        socket->refused_size = 0;
        socket->loop->drains_wanted++;
    }
    socket->refused_size = size > socket->refused_size ? size : socket->refused_size;
    return -EAGAIN;
}

/* `drain` comes when both queues have fallen to half and what was refused fits: a large datagram
 * may be refused below the half, and would be again. Asked once a turn, and only while wanted. */
void dg_queue_check_drains(struct dgram_loop *loop)
{
    if (loop->drains_wanted == 0 || loop->queue_charge > loop->queue_limit / 2) {
        return;
    }
    for (struct dgram_socket *s = loop->sockets; s != NULL; s = s->next) {
        if (s->drain_wanted && queue_charge(s) <= s->queue_limit / 2 &&
            !dg_queue_is_full(s, s->refused_size)) {
            s->drain_wanted = false;
            loop->drains_wanted--;
            dg_socket_due(s, DUE_DRAIN);
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
        dg_requests_append(&loop->done, request);
        dg_loop_touch(loop);
        return;
    }
    if (result < 0) {
        dg_error_queue(socket, "send", result, &request->name, request->name_size, 1);
    }
    dg_queue_uncount(socket, request->size, 1);
    dg_request_give(loop, request);
}

void dg_requests_dispatch(struct dgram_loop *loop)
{
    struct request *request = loop->done.head;
    loop->done = (struct request_list){0};
    while (request != NULL && !dg_loop_forked(loop)) {
        struct request *next = request->next;
        struct dgram_socket *socket = request->socket;
        dgram_sent_fn *fn = request->fn;
        void *user = request->user;
        int result = request->result;
        dg_queue_uncount(socket, request->size, 1);
        dg_request_give(loop, request);
        fn(socket, result, user);
        request = next;
    }
    if (request != NULL) {
        loop->done.head = request; /* a child's: to be released with the loop */
        return;
    }
    dg_queue_check_drains(loop); /* an outer loop may sleep after this turn */
}
