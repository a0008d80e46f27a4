/* SPDX-License-Identifier: MIT */
/* request.c: see request.h. */
#include "src/send/request.h"

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/base/queue.h"
#include "src/core/agenda.h"
#include "src/core/check.h"
#include "src/core/errors.h"

enum { REQUESTS_PER_SLAB = 63 };

struct request_slab {
    struct link link; /* first, so that the two convert */
    struct request requests[REQUESTS_PER_SLAB];
};

/* ---- Requests ------------------------------------------------------------------------------ */

static bool store_grow(struct outbox *outbox)
{
    struct request_slab *slab = dg_allocate(sizeof(*slab));
    if (slab == NULL) {
        return false;
    }
    queue_prepend(&outbox->request_slabs, &slab->link);
    for (size_t i = 0; i < REQUESTS_PER_SLAB; i++) {
        queue_prepend(&outbox->request_store, &slab->requests[i].link);
    }
    return true;
}

static struct request *request_take(struct outbox *outbox)
{
    if (queue_is_empty(&outbox->request_store) && !store_grow(outbox)) {
        return NULL;
    }
    return requests_pop(&outbox->request_store);
}

void dg_request_give(struct request *request)
{
    if (request->heap) {
        dg_release(request);
        return;
    }
    queue_prepend(&request->sender->loop->outbox->request_store, &request->link);
}

static void request_fill(struct request *request, struct sender *sender, uint32_t size,
                         dgram_sent_fn *fn, void *user)
{
    request->sender = sender;
    request->fn = fn;
    request->user = user;
    request->size = size;
    request->parked = false;
    request->tries = 0;
    request->since = 0;
    request->peer_size = 0;
}

struct request *dg_request_for(struct sender *sender, const struct payload *payload,
                               dgram_sent_fn *fn, void *user)
{
    struct request *request = request_take(sender->loop->outbox);
    if (request != NULL) {
        request_fill(request, sender, payload->size, fn, user);
        request->data = payload->borrowed ? payload->data : NULL;
        request->heap = false;
    }
    return request;
}

struct request *dg_request_with_room(struct sender *sender, uint32_t size, dgram_sent_fn *fn,
                                     void *user)
{
    struct request *request = dg_allocate(sizeof(*request) + size);
    if (request != NULL) {
        request_fill(request, sender, size, fn, user);
        request->data = request + 1;
        request->heap = true;
    }
    return request;
}

void dg_request_park(struct queue *queue, struct request *request)
{
    struct sender *sender = request->sender;
    /* Else for the name that the socket binds to, or for its `listening`. */
    bool for_room = sender->blocked || !node_alone(&sender->stalls);
    if (for_room && !request->parked) {
        request->parked = true;
        sender->parked_count++;
    }
    queue_append(queue, &request->link);
}

void dg_requests_forget(struct queue *queue)
{
    for (struct request *r; (r = requests_pop(queue)) != NULL;) {
        dg_request_give(r);
    }
}

void dg_requests_close(struct outbox *outbox)
{
    for (struct link *slab; (slab = queue_pop(&outbox->request_slabs)) != NULL;) {
        dg_release(slab);
    }
    outbox->request_store = (struct queue){0};
}

/* ---- Completion ---------------------------------------------------------------------------- */

void dg_request_complete(struct request *request, int result)
{
    struct sender *sender = request->sender;
    struct dgram_loop *loop = sender->loop;
    if (result < 0) {
        sender->errors++;
    }
    if (request->fn != NULL) {
        request->result = result;
        queue_append(&loop->outbox->done, &request->link);
        dg_agenda_add(loop->agenda, &loop->outbox->sent);
        return;
    }
    if (result < 0) {
        const struct dg_error error = {.operation = "send",
                                       .code = result,
                                       .repeat = 1,
                                       .peer = &request->peer,
                                       .peer_size = request->peer_size};
        dg_error_queue(sender->sink, &error);
    }
    dg_ledger_take(sender, request->size, 1);
    dg_request_give(request);
}

void dg_requests_complete(struct queue *queue, int code)
{
    for (struct request *r; (r = requests_pop(queue)) != NULL;) {
        dg_request_complete(r, code);
    }
}

static void sent_run(struct task *task)
{
    struct outbox *outbox = owner_of(task, struct outbox, sent);
    struct queue done = queue_take(&outbox->done);
    while (!queue_is_empty(&done) && !loop_forked(outbox->loop)) {
        struct request *request = requests_pop(&done);
        struct sender *sender = request->sender;
        dgram_sent_fn *fn = request->fn;
        void *user = request->user;
        int result = request->result;
        dg_ledger_take(sender, request->size, 1);
        dg_request_give(request);
        fn(sender->socket, result, user);
    }
    if (loop_forked(outbox->loop)) {
        queue_prepend_all(&outbox->done, &done); /* a child's: to be released with the loop */
    }
}

void dg_requests_open(struct outbox *outbox)
{
    dg_task_init(&outbox->sent, PHASE_SENT, sent_run);
}
