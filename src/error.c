/* SPDX-License-Identifier: MIT */
/*
 * error.c: the queue of `error` events.
 *
 * It is bounded per loop: a program that sends ten million datagrams nowhere in one callback
 * gets what fits and a count of the rest. Equal errors in a row share one record.
 */
#include <string.h>

#include "src/core.h"

static bool event_equals(const struct error_event *event, const struct dgram_socket *socket,
                         const char *operation, int code, const void *peer, size_t peer_size)
{
    return event->socket == socket && event->code == code && event->operation == operation &&
           event->host == NULL && event->address.size == peer_size &&
           memcmp(&event->address.u, peer, peer_size) == 0;
}

static struct error_event *event_take(struct dgram_loop *loop)
{
    struct link *link = queue_pop(&loop->error_store);
    if (link != NULL) {
        return (struct error_event *) link;
    }
    return loop->errors_waiting < ERRORS_WAITING_MAX ? dg_allocate(sizeof(struct error_event))
                                                     : NULL;
}

static void event_give(struct dgram_loop *loop, struct error_event *event)
{
    if (event != NULL) {
        queue_prepend(&loop->error_store, &event->link);
    }
}

static void event_append(struct dgram_loop *loop, struct error_event *event)
{
    queue_append(&loop->errors, &event->link);
    loop->errors_waiting += event->repeat;
    dg_loop_touch(loop);
}

void dg_error_queue(struct dgram_socket *socket, const char *operation, int code, const void *peer,
                    size_t peer_size, uint32_t repeat)
{
    static const char none[1];
    struct dgram_loop *loop = socket->loop;
    struct error_event *tail = (struct error_event *) loop->errors.last;
    if (loop->errors_waiting + repeat > ERRORS_WAITING_MAX) {
        uint32_t kept = ERRORS_WAITING_MAX - loop->errors_waiting;
        socket->stats.errors_lost += repeat - kept;
        repeat = kept;
    }
    if (repeat == 0) {
        return;
    }
    peer = peer_size == 0 ? none : peer;
    if (tail != NULL && event_equals(tail, socket, operation, code, peer, peer_size)) {
        tail->repeat += repeat;
        loop->errors_waiting += repeat;
        return;
    }
    struct error_event *event = event_take(loop);
    if (event == NULL) {
        socket->stats.errors_lost += repeat;
        return;
    }
    *event = (struct error_event){
        .socket = socket, .operation = operation, .code = code, .repeat = repeat};
    dg_address_set(&event->address, peer, peer_size);
    event_append(loop, event);
}

void dg_error_queue_host(struct dgram_socket *socket, const char *operation, int code,
                         const char *host)
{
    struct dgram_loop *loop = socket->loop;
    size_t size = strlen(host) + 1;
    struct error_event *event = loop->errors_waiting < ERRORS_WAITING_MAX ? event_take(loop) : NULL;
    char *copy = event != NULL ? dg_allocate(size) : NULL;
    if (copy == NULL) {
        socket->stats.errors_lost++;
        event_give(loop, event);
        return;
    }
    memcpy(copy, host, size);
    *event = (struct error_event){
        .socket = socket, .operation = operation, .code = code, .repeat = 1, .host = copy};
    event_append(loop, event);
}

static void event_emit(const struct error_event *event)
{
    struct dgram_socket *socket = event->socket;
    const struct dgram_error error = {
        .size = sizeof(error),
        .code = event->code,
        .operation = event->operation,
        .address = event->address.size > 0 ? &event->address : NULL,
        .host = event->host,
    };
    for (uint32_t i = 0; i < event->repeat && !dg_loop_forked(socket->loop); i++) {
        if (socket->on_error == NULL) {
            socket->stats.errors_lost += event->repeat - i;
            return;
        }
        socket->on_error(socket, &error, socket->error_user);
    }
}

/* What a handler causes while these run waits for the next turn. A socket cannot be freed before
 * its events are out: `close` is dispatched after them. */
void dg_error_dispatch(struct dgram_loop *loop)
{
    struct queue errors = queue_take(&loop->errors);
    loop->errors_waiting = 0;
    while (!queue_is_empty(&errors) && !dg_loop_forked(loop)) {
        struct error_event *event = (struct error_event *) queue_pop(&errors);
        event_emit(event);
        dg_release(event->host);
        event->host = NULL;
        event_give(loop, event);
    }
    queue_prepend_all(&loop->errors, &errors); /* a child's: to be released with the loop */
}

bool dg_error_waits_for(const struct dgram_socket *socket)
{
    const struct queue *errors = &socket->loop->errors;
    const struct link *link = queue_first(errors);
    while (link != NULL && ((const struct error_event *) link)->socket != socket) {
        link = queue_after(errors, link);
    }
    return link != NULL;
}

void dg_error_forget(struct dgram_loop *loop)
{
    queue_prepend_all(&loop->error_store, &loop->errors);
    for (struct link *link; (link = queue_pop(&loop->error_store)) != NULL;) {
        struct error_event *event = (struct error_event *) link;
        dg_release(event->host);
        dg_release(event);
    }
}
