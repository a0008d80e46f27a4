/* SPDX-License-Identifier: MIT */
/* retry.c: see retry.h. */
#include "src/send/retry.h"

#include "src/base/list.h"
#include "src/base/queue.h"
#include "src/send/park.h"
#include "src/send/submit.h"

/* So many are tried in one go: at 1 us for a refusal a tenth of the time. */
enum { STALL_TURNS = 64 };

/* The first datagram that waits, or all: false when the batch has to be submitted before more. */
static bool stall_try(struct stall *stall, bool all)
{
    struct sender *sender = stall->sender;
    struct flow *flow = dg_batch_flow(sender, &stall->peer);
    bool full = false;
    flow->stall = stall;
    do {
        struct request *request = requests_pop(&stall->requests);
        struct payload payload = {.data = request->data, .size = request->size};
        dg_share_release(sender, &stall->share, request->size);
        full = dg_batch_append(sender->loop->outbox->batch, flow, &payload, request);
    } while (all && !full && !queue_is_empty(&stall->requests));
    return !full;
}

/* A datagram that has left has made room: the rest of its destination goes, too. */
static void stalls_go_on(struct sender *sender)
{
    bool tried = true;
    while (tried && !sender->blocked) {
        tried = false;
        for (struct node *node = sender->stalls.next, *next; node != &sender->stalls; node = next) {
            struct stall *s = owner_of(node, struct stall, turn);
            next = node->next;
            if (s->goes) {
                s->goes = false;
                tried = true;
                if (!stall_try(s, true)) {
                    break; /* the flush may end the next one, too */
                }
            }
        }
        (void) dg_send_flush(sender->loop); /* a broken engine shows in the results */
    }
}

/* The first of them goes last the next time, so that no destination is always the first to take
 * the room that has come. Returns how many were tried. */
static uint32_t stalls_take_turns(struct sender *sender)
{
    struct stall *turns[STALL_TURNS];
    uint32_t count = 0;
    for (; count < STALL_TURNS && !node_alone(&sender->stalls); count++) {
        turns[count] = owner_of(node_take(&sender->stalls), struct stall, turn);
    }
    for (uint32_t i = 1; i <= count; i++) {
        node_append(&sender->stalls, &turns[i % count]->turn);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!stall_try(turns[i], false)) {
            (void) dg_send_flush(sender->loop);
        }
    }
    (void) dg_send_flush(sender->loop);
    stalls_go_on(sender);
    return count;
}

static void stalls_retry(struct sender *sender)
{
    if (!node_alone(&sender->stalls) && !sender->blocked) {
        (void) stalls_take_turns(sender);
    }
    if (!node_alone(&sender->stalls) && !sender->blocked) {
        dg_park_retry_soon(sender);
    }
}

void dg_send_retry_stalls(struct sender *sender)
{
    uint32_t left = 0;
    for (struct node *node = sender->stalls.next; node != &sender->stalls; node = node->next) {
        left++;
    }
    while (left > 0 && !node_alone(&sender->stalls) && !sender->blocked) {
        uint32_t tried = stalls_take_turns(sender);
        left = left > tried ? left - tried : 0;
    }
}

/* Returns whether the batch ought to be submitted. */
static bool parked_try(struct sender *sender, struct request *request)
{
    struct stall *stall =
        !node_alone(&sender->stalls) ? dg_stall_find(sender, &request->peer) : NULL;
    if (stall != NULL) {
        dg_stall_append(stall, &stall->requests, request);
        return false;
    }
    struct flow *flow = dg_batch_flow(sender, &request->peer);
    struct payload payload = {.data = request->data, .size = request->size};
    return dg_batch_append(sender->loop->outbox->batch, flow, &payload, request);
}

static void vain_retries_forget(struct sender *sender)
{
    if (queue_is_empty(&sender->parked) && node_alone(&sender->stalls)) {
        sender->vain_retries = 0;
    }
}

void dg_send_retry(struct sender *sender)
{
    sender->blocked = false;
    while (!queue_is_empty(&sender->parked) && !sender->blocked && !sender->announces) {
        bool full = false;
        for (struct request *r; !full && (r = requests_pop(&sender->parked)) != NULL;) {
            full = parked_try(sender, r);
        }
        (void) dg_send_flush(sender->loop); /* a broken engine shows in the results */
    }
    if (!node_alone(&sender->stalls) && !sender->blocked) {
        dg_park_retry_soon(sender);
    }
    vain_retries_forget(sender);
}

void dg_send_cancel(struct sender *sender, int code)
{
    struct outbox *outbox = sender->loop->outbox;
    node_remove(&sender->later);
    if (node_alone(&outbox->later)) {
        dg_alarm_clear(sender->loop->alarms, &outbox->retry);
    }
    queue_prepend_all(&sender->parked, &sender->parked_again);
    dg_requests_complete(&sender->parked, code);
    dg_stalls_cancel(sender, code);
}

void dg_send_forget(struct sender *sender)
{
    dg_requests_forget(&sender->parked);
    dg_stalls_forget(sender);
}

void dg_retry_woken(struct dg_watch *watch)
{
    dg_send_retry(owner_of(watch, struct sender, writable));
}

/* A moment has passed for a sender without room. */
static void sender_retry(struct sender *sender)
{
    bool blocked = sender->blocked && !sender->writable.armed;
    sender->vain_retries += blocked || (!node_alone(&sender->stalls) && !sender->blocked);
    if (blocked) {
        dg_send_retry(sender);
    }
    stalls_retry(sender);
    vain_retries_forget(sender);
}

void dg_retry_ring(struct alarm *alarm)
{
    struct outbox *outbox = owner_of(alarm, struct outbox, retry);
    struct node list;
    node_take_all(&list, &outbox->later);
    while (!node_alone(&list)) {
        sender_retry(owner_of(node_take(&list), struct sender, later));
    }
}
