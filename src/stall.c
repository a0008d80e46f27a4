/* SPDX-License-Identifier: MIT */
/*
 * stall.c: destinations for which the kernel had no memory (ENOBUFS), and what waits for them.
 *
 * Owns the stalls of a socket: one for each such destination, which others neither wait for nor
 * have to share their queue with. It hands their datagrams over again, each destination in its
 * turn; what becomes of them is settle.c's to say. A stall ends when nothing waits in it.
 */
#include <string.h>

#include "src/core.h"

/* So many are tried in one go: at 1 us for a refusal a tenth of the time. */
enum { STALL_TURNS = 64 };

static struct stall **bucket_of(const struct dgram_socket *socket, const union dg_peer *peer)
{
    return &socket->loop->stalls[dg_peer_bucket(socket->loop->batch, socket, peer)];
}

struct stall *dg_stall_find(const struct dgram_socket *socket, const union dg_peer *peer)
{
    struct stall *stall = *bucket_of(socket, peer);
    while (stall != NULL && (stall->socket != socket || !dg_peer_equal(&stall->peer, peer))) {
        stall = stall->hash_next;
    }
    return stall;
}

struct stall *dg_stall_open(struct dgram_socket *socket, const union dg_peer *peer)
{
    struct stall *stall = dg_allocate(sizeof(*stall));
    if (stall != NULL) {
        struct stall **bucket = bucket_of(socket, peer);
        stall->socket = socket;
        stall->peer = *peer;
        stall->hash_next = *bucket;
        *bucket = stall;
        node_init(&stall->turn);
        node_append(&socket->stalls, &stall->turn);
    }
    return stall;
}

static void stall_close(struct stall *stall)
{
    struct stall **link = bucket_of(stall->socket, &stall->peer);
    assert(stall->share.charge == 0);
    while (*link != stall) {
        link = &(*link)->hash_next;
    }
    *link = stall->hash_next;
    node_remove(&stall->turn);
    dg_release(stall);
}

void dg_stall_append(struct stall *stall, struct queue *queue, struct request *request)
{
    dg_request_park(queue, request);
    dg_share_charge(stall->socket, &stall->share, request->size);
}

/* What could not leave goes back before what was still waiting behind it. */
void dg_stall_rejoin(struct stall *stall)
{
    stall->goes = queue_is_empty(&stall->again);
    queue_prepend_all(&stall->requests, &stall->again);
    dg_share_check(stall->socket, &stall->share);
    if (queue_is_empty(&stall->requests)) {
        stall_close(stall);
    }
}

/* The first datagram that waits, or all: false when the batch has to be submitted before more. */
static bool stall_try(struct stall *stall, bool all)
{
    struct dgram_socket *socket = stall->socket;
    struct flow *flow = dg_batch_flow(socket->loop, socket, &stall->peer);
    bool full = false;
    flow->stall = stall;
    do {
        struct request *request = dg_requests_pop(&stall->requests);
        struct payload payload = {.data = request->data, .size = request->size};
        dg_share_release(socket, &stall->share, request->size);
        full = dg_batch_append(socket->loop->batch, flow, &payload, request);
    } while (all && !full && !queue_is_empty(&stall->requests));
    return !full;
}

/* What has left its place has made room: the rest of those destinations goes, too. */
static void stalls_go_on(struct dgram_socket *socket)
{
    bool tried = true;
    while (tried && !socket->blocked) {
        tried = false;
        for (struct node *node = socket->stalls.next, *next; node != &socket->stalls; node = next) {
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
        (void) dg_send_flush(socket->loop); /* a broken engine shows in the results */
    }
}

/* The first of them goes last the next time, so that no destination is always the first to take
 * the room that has come. Returns how many were tried. */
static uint32_t stalls_take_turns(struct dgram_socket *socket)
{
    struct stall *turns[STALL_TURNS];
    uint32_t count = 0;
    for (; count < STALL_TURNS && !node_alone(&socket->stalls); count++) {
        turns[count] = owner_of(node_take(&socket->stalls), struct stall, turn);
    }
    for (uint32_t i = 1; i <= count; i++) {
        node_append(&socket->stalls, &turns[i % count]->turn);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!stall_try(turns[i], false)) {
            (void) dg_send_flush(socket->loop);
        }
    }
    (void) dg_send_flush(socket->loop);
    stalls_go_on(socket);
    return count;
}

void dg_stalls_retry(struct dgram_socket *socket)
{
    if (!node_alone(&socket->stalls) && !socket->blocked) {
        (void) stalls_take_turns(socket);
    }
    if (!node_alone(&socket->stalls) && !socket->blocked) {
        dg_socket_retry_soon(socket);
    }
}

void dg_stalls_retry_all(struct dgram_socket *socket)
{
    uint32_t left = 0;
    for (struct node *node = socket->stalls.next; node != &socket->stalls; node = node->next) {
        left++;
    }
    while (left > 0 && !node_alone(&socket->stalls) && !socket->blocked) {
        uint32_t tried = stalls_take_turns(socket);
        left = left > tried ? left - tried : 0;
    }
}

void dg_stalls_cancel(struct dgram_socket *socket, int code)
{
    while (!node_alone(&socket->stalls)) {
        struct stall *stall = owner_of(socket->stalls.next, struct stall, turn);
        assert(queue_is_empty(&stall->again));
        for (struct request *r; (r = dg_requests_pop(&stall->requests)) != NULL;) {
            dg_share_release(socket, &stall->share, r->size);
            dg_request_complete(r, code);
        }
        stall_close(stall);
    }
}

void dg_stalls_forget(struct dgram_socket *socket)
{
    while (!node_alone(&socket->stalls)) {
        struct stall *stall = owner_of(node_take(&socket->stalls), struct stall, turn);
        dg_requests_forget(&stall->requests, socket->loop);
        dg_release(stall);
    }
}
