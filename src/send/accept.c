/* SPDX-License-Identifier: MIT */
/* accept.c: see accept.h. */
#include "src/send/accept.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "src/base/list.h"
#include "src/base/queue.h"
#include "src/core/agenda.h"
#include "src/core/errors.h"
#include "src/send/buffer.h"
#include "src/send/stall.h"
#include "src/send/submit.h"

/* The request of a datagram that outlives this call: it borrows from a caller who waits for a
 * callback, or owns a copy. NULL when memory ran out; `request` is gone then. */
static struct request *request_waiting(struct sender *sender, const struct payload *payload,
                                       struct request *request)
{
    if (request != NULL && request->data != NULL) {
        return request;
    }
    struct request *owner =
        dg_request_with_room(sender, payload->size, request != NULL ? request->fn : NULL,
                             request != NULL ? request->user : NULL);
    if (request != NULL) {
        dg_request_give(request);
    }
    assert(payload->data != NULL || payload->size == 0);
    if (owner != NULL && payload->size > 0) {
        memcpy(owner + 1, payload->data, payload->size);
    }
    return owner;
}

static void send_batched(struct sender *sender, const union dg_peer *peer,
                         const struct payload *payload, struct request *request)
{
    struct dgram_loop *loop = sender->loop;
    struct flow *flow = dg_batch_flow(sender, peer);
    if (sender->ended) {
        sender->last_flow = NULL; /* nothing new may come behind it by the fast way */
    }
    if (dg_batch_append(loop->outbox->batch, flow, payload, request)) {
        (void) dg_send_flush(loop); /* a broken engine shows in the results */
    }
}

/* The kernel has no room, others wait already, or the socket waits for the name it binds to. */
static bool must_wait(const struct sender *sender)
{
    return !queue_is_empty(&sender->parked) || sender->blocked || sender->binds;
}

/* The stall of the destination, or NULL. */
static struct stall *stall_of(const struct sender *sender, const union dg_peer *peer)
{
    return !node_alone(&sender->stalls) ? dg_stall_find(sender, peer) : NULL;
}

/* Behind the socket's others, or its destination's. */
static void send_waits(struct sender *sender, struct stall *stall, struct request *request)
{
    if (must_wait(sender)) {
        dg_request_park(&sender->parked, request);
    } else {
        dg_stall_append(stall, &stall->requests, request);
    }
}

int dg_send_accept(struct sender *sender, const union dg_peer *peer, const struct payload *payload,
                   dgram_sent_fn *fn, void *user)
{
    struct request *request = NULL;
    struct stall *stall = stall_of(sender, peer);
    if (ledger_is_full(sender, payload->size)) {
        return dg_ledger_refuse(sender, payload->size);
    }
    if (stall != NULL && dg_share_is_full(sender, &stall->share, payload->size)) {
        return dg_share_refuse(sender, &stall->share, payload->size);
    }
    if (fn != NULL && (request = dg_request_for(sender, payload, fn, user)) == NULL) {
        return -ENOMEM;
    }
    if (stall != NULL || must_wait(sender)) {
        request = request_waiting(sender, payload, request);
        if (request == NULL) {
            return -ENOMEM;
        }
        request->peer = *peer;
        request->peer_size = (uint8_t) sender->peer_size;
        ledger_add(sender, payload->size, 1);
        send_waits(sender, stall, request);
    } else {
        ledger_add(sender, payload->size, 1);
        send_batched(sender, peer, payload, request);
    }
    if (payload->buffer != NULL) {
        dg_buffer_due(payload->buffer); /* unless the submission has it: it was copied to wait */
    }
    agenda_wake(sender->loop->agenda);
    return 0;
}

int dg_send_accept_later(struct sender *sender, struct queue *queue, struct share *share,
                         in_port_t port, const struct payload *payload, dgram_sent_fn *fn,
                         void *user)
{
    struct request *request = NULL;
    if (ledger_is_full(sender, payload->size)) {
        return dg_ledger_refuse(sender, payload->size);
    }
    if (dg_share_is_full(sender, share, payload->size)) {
        return dg_share_refuse(sender, share, payload->size);
    }
    if (fn != NULL && (request = dg_request_for(sender, payload, fn, user)) == NULL) {
        return -ENOMEM;
    }
    request = request_waiting(sender, payload, request);
    if (request == NULL) {
        return -ENOMEM;
    }
    request->peer.in4.sin_port = port;
    request->peer_size = 0; /* not an address yet */
    queue_append(queue, &request->link);
    ledger_add(sender, payload->size, 1);
    dg_share_charge(sender, share, payload->size);
    return 0;
}

/* Not by way of the parked queue, if nothing waits there: a lane to the same peer may be open. */
void dg_send_resolved(struct request *request, const union dg_peer *address)
{
    struct sender *sender = request->sender;
    struct payload payload = {.data = request->data, .size = request->size, .borrowed = true};
    in_port_t port = request->peer.in4.sin_port;
    request->peer = *address;
    request->peer.in4.sin_port = port;
    request->peer_size = (uint8_t) sender->peer_size;
    struct stall *stall = stall_of(sender, &request->peer);
    if (stall != NULL || must_wait(sender)) {
        send_waits(sender, stall, request);
    } else {
        send_batched(sender, &request->peer, &payload, request);
    }
}

void dg_send_unresolved(struct request *request, int code, const char *host)
{
    if (request->fn == NULL) {
        const struct dg_error error = {
            .operation = "send", .code = code, .repeat = 1, .host = host};
        dg_error_queue(request->sender->sink, &error);
        request->sender->errors++;
        dg_ledger_take(request->sender, request->size, 1);
        dg_request_give(request);
    } else {
        dg_request_complete(request, code);
    }
}
