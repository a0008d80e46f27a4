/* SPDX-License-Identifier: MIT */
/* stall.c: see stall.h. */
#include "src/send/stall.h"

#include <assert.h>

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/base/queue.h"
#include "src/send/path.h"

static struct node *bucket_of(const struct sender *sender, const union dg_peer *peer)
{
    return &sender->loop->outbox->stalls[dg_path_hash(sender->loop, (uintptr_t) sender, peer)];
}

struct stall *dg_stall_find(const struct sender *sender, const union dg_peer *peer)
{
    const struct node *bucket = bucket_of(sender, peer);
    for (struct node *node = bucket->next; node != bucket; node = node->next) {
        struct stall *stall = owner_of(node, struct stall, bucket);
        if (stall->sender == sender && dg_peer_equal(&stall->peer, peer)) {
            return stall;
        }
    }
    return NULL;
}

struct stall *dg_stall_open(struct sender *sender, const union dg_peer *peer)
{
    struct stall *stall = dg_allocate(sizeof(*stall));
    if (stall != NULL) {
        stall->sender = sender;
        stall->peer = *peer;
        node_init(&stall->bucket);
        node_prepend(bucket_of(sender, peer), &stall->bucket);
        node_init(&stall->turn);
        node_append(&sender->stalls, &stall->turn);
    }
    return stall;
}

static void stall_close(struct stall *stall)
{
    assert(stall->share.charge == 0);
    node_remove(&stall->bucket);
    node_remove(&stall->turn);
    dg_release(stall);
}

void dg_stall_append(struct stall *stall, struct queue *queue, struct request *request)
{
    dg_request_park(queue, request);
    dg_share_charge(stall->sender, &stall->share, request->size);
}

/* Datagrams that could not leave go back before those that were waiting behind them. */
void dg_stall_rejoin(struct stall *stall)
{
    stall->goes = queue_is_empty(&stall->again);
    queue_prepend_all(&stall->requests, &stall->again);
    dg_share_check(stall->sender, &stall->share);
    if (queue_is_empty(&stall->requests)) {
        stall_close(stall);
    }
}

void dg_stalls_cancel(struct sender *sender, int code)
{
    while (!node_alone(&sender->stalls)) {
        struct stall *stall = owner_of(sender->stalls.next, struct stall, turn);
        assert(queue_is_empty(&stall->again));
        for (struct request *r; (r = requests_pop(&stall->requests)) != NULL;) {
            dg_share_release(sender, &stall->share, r->size);
            dg_request_complete(r, code);
        }
        stall_close(stall);
    }
}

void dg_stalls_forget(struct sender *sender)
{
    while (!node_alone(&sender->stalls)) {
        struct stall *stall = owner_of(node_take(&sender->stalls), struct stall, turn);
        node_remove(&stall->bucket);
        dg_requests_forget(&stall->requests);
        dg_release(stall);
    }
}
