/* SPDX-License-Identifier: MIT */
/* park.c: see park.h. */
#include "src/send/park.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "src/base/list.h"
#include "src/base/queue.h"
#include "src/core/alarm.h"
#include "src/core/errors.h"
#include "src/core/io.h"
#include "src/system.h"

/* ENOBUFS says that a device queue is full; POLLOUT does not tell when it no longer is. */
#define RETRY_NS UINT64_C(1000000)

enum { VAIN_RETRIES = 1000, VAIN_MS = 1000 };

/* ---- Completion ---------------------------------------------------------------------------- */

void dg_datagrams_failed(const struct flow *flow, int code, uint32_t count)
{
    const struct dg_error error = {.operation = "send",
                                   .code = code,
                                   .repeat = count,
                                   .peer = &flow->peer,
                                   .peer_size = flow->peer_size};
    dg_error_queue(flow->sender->sink, &error);
}

void dg_datagram_complete(const struct dg_train *train, struct request *request, uint32_t size,
                          int result)
{
    const struct flow *flow = train->flow;
    struct sender *sender = flow->sender;
    if (result >= 0) {
        sender->sent++;
        sender->sent_bytes += size;
    }
    if (request != NULL) {
        request->peer = flow->peer;
        request->peer_size = (uint8_t) flow->peer_size;
        dg_request_complete(request, result >= 0 ? (int) size : result);
        return;
    }
    if (result < 0) {
        sender->errors++;
        dg_datagrams_failed(flow, result, 1);
    }
    dg_ledger_take(sender, size, 1);
}

/* ---- Parking ------------------------------------------------------------------------------- */

void dg_park_retry_soon(struct sender *sender)
{
    struct dgram_loop *loop = sender->loop;
    if (!node_alone(&sender->later)) {
        return;
    }
    if (node_alone(&loop->outbox->later)) {
        dg_alarm_set(loop->alarms, &loop->outbox->retry, loop->system->now() + RETRY_NS);
    }
    node_append(&loop->outbox->later, &sender->later);
}

static void sender_block(struct sender *sender, int reason)
{
    if (sender->blocked) {
        return;
    }
    sender->blocked = true;
    sender->writable.base.fd = sender->endpoint->fd;
    sender->writable.base.events = POLLOUT;
    sender->writable.base.endpoint = sender->endpoint;
    if (reason == -ENOBUFS || sender->closing ||
        dg_watch_arm(sender->loop->io, &sender->writable) < 0) {
        dg_park_retry_soon(sender);
    }
}

/* A parked datagram owns its payload or borrows it from a caller who waits for a callback: the
 * arena is rewound. Returns the request to park; NULL when memory ran out, with `request`
 * unchanged. */
static struct request *request_for_parking(const struct dg_train *train, struct request *request,
                                           uint32_t index)
{
    if (request != NULL && request->data != NULL) {
        return request;
    }
    struct sender *sender = train->flow->sender;
    uint32_t size = dg_train_datagram_size(train, index);
    struct request *parked = dg_request_with_room(
        sender, size, request != NULL ? request->fn : NULL, request != NULL ? request->user : NULL);
    if (parked == NULL) {
        return NULL;
    }
    if (size > 0) {
        memcpy(parked + 1, dg_train_datagram(train, index).iov_base, size);
    }
    if (request != NULL) {
        dg_request_give(request);
    }
    return parked;
}

static void train_park(struct dg_train *train, uint32_t from)
{
    struct sender *sender = train->flow->sender;
    struct stall *stall = train->flow->stall;
    for (uint32_t i = from; i < train->count; i++) {
        struct request *request = dg_train_pop_request(train, i);
        struct request *parked = request_for_parking(train, request, i);
        if (parked == NULL) {
            dg_datagram_complete(train, request, dg_train_datagram_size(train, i), -ENOMEM);
            continue;
        }
        parked->peer = train->flow->peer;
        parked->peer_size = (uint8_t) train->flow->peer_size;
        if (stall != NULL) {
            dg_stall_append(stall, &stall->again, parked);
        } else {
            dg_request_park(&sender->parked_again, parked);
        }
    }
}

static void chain_park(struct dg_train *train, uint32_t from)
{
    for (; train != NULL; train = train_after(train)) {
        train_park(train, from);
        from = 0;
    }
}

/* ENOBUFS is the destination's, EAGAIN the socket's. So is ENOBUFS where there is no memory for a
 * stall. */
static void flow_block(struct flow *flow, int reason)
{
    if (reason == -ENOBUFS && flow->stall == NULL) {
        flow->stall = dg_stall_open(flow->sender, &flow->peer);
    }
    if (reason == -ENOBUFS && flow->stall != NULL) {
        dg_park_retry_soon(flow->sender);
    } else {
        sender_block(flow->sender, reason);
    }
}

static uint32_t milliseconds(const struct dgram_loop *loop)
{
    return (uint32_t) (loop->now / 1000000);
}

void dg_park_flow(struct dg_train *train, uint32_t from, int reason)
{
    struct request *refused = dg_train_request(train, from);
    if (refused != NULL && reason == -ENOBUFS) {
        uint32_t now = milliseconds(train->flow->sender->loop);
        refused->since = refused->tries == 0 ? now : refused->since;
        if (refused->tries < VAIN_RETRIES) {
            refused->tries++;
        }
    }
    flow_block(train->flow, reason);
    chain_park(train, from);
}

void dg_park_chain(struct dg_train *train)
{
    chain_park(train, 0);
}

void dg_park_rejoin(struct flow *flow)
{
    queue_prepend_all(&flow->sender->parked, &flow->sender->parked_again);
    if (flow->stall != NULL) {
        dg_stall_rejoin(flow->stall);
    }
}

bool dg_park_is_hopeless(const struct dg_train *train, uint32_t index)
{
    const struct request *request = dg_train_request(train, index);
    const struct sender *sender = train->flow->sender;
    if (sender->vain_retries >= VAIN_RETRIES) {
        return true;
    }
    return request != NULL && request->tries >= VAIN_RETRIES &&
           milliseconds(sender->loop) - request->since >= VAIN_MS;
}
