/* SPDX-License-Identifier: MIT */
/* errors.c: see errors.h. */
#include "src/core/errors.h"

#include <errno.h>
#include <string.h>

#include "src/base/fork.h"
#include "src/base/memory.h"
#include "src/base/queue.h"
#include "src/core/agenda.h"
#include "src/net/address.h"

enum { ERRORS_WAITING_MAX = 1024 };

/* `repeat` equal ones share a record. */
struct event {
    struct link link; /* first, so that the two convert */
    struct error_sink *sink;
    const char *operation;
    int code;
    uint32_t repeat;
    char *host; /* allocated, or NULL */
    struct dgram_addr address;
};

struct errors {
    struct task task; /* first, so that the two convert */
    struct agenda *agenda;
    struct queue waiting, store; /* the store has free records */
    uint32_t count;              /* waiting, each repeat */
};

static void events_emit(struct task *task);

int dg_errors_open(struct agenda *agenda, struct errors **ret_errors)
{
    struct errors *errors = dg_allocate(sizeof(*errors));
    if (errors == NULL) {
        return -ENOMEM;
    }
    errors->agenda = agenda;
    dg_task_init(&errors->task, PHASE_ERRORS, events_emit);
    *ret_errors = errors;
    return 0;
}

void dg_errors_close(struct errors *errors)
{
    if (errors == NULL) {
        return;
    }
    queue_prepend_all(&errors->store, &errors->waiting);
    for (struct link *link; (link = queue_pop(&errors->store)) != NULL;) {
        dg_release(((struct event *) link)->host);
        dg_release(link);
    }
    dg_release(errors);
}

/* ---- Queueing ------------------------------------------------------------------------------ */

static bool event_equals(const struct event *event, const struct error_sink *sink,
                         const struct dg_error *error)
{
    return event->sink == sink && event->code == error->code &&
           event->operation == error->operation && event->host == NULL && error->host == NULL &&
           event->address.size == error->peer_size &&
           (error->peer_size == 0 || memcmp(&event->address.u, error->peer, error->peer_size) == 0);
}

static struct event *event_take(struct errors *errors)
{
    struct link *link = queue_pop(&errors->store);
    return link != NULL ? (struct event *) link : dg_allocate(sizeof(struct event));
}

/* NULL: there is no memory. */
static struct event *event_make(struct error_sink *sink, const struct dg_error *error)
{
    static const char none[1];
    size_t size = error->host != NULL ? strlen(error->host) + 1 : 0;
    struct event *event = event_take(sink->errors);
    char *host = event != NULL && size > 0 ? dg_allocate(size) : NULL;
    if (event != NULL && size > 0 && host == NULL) {
        queue_prepend(&sink->errors->store, &event->link);
        event = NULL;
    }
    if (event == NULL) {
        return NULL;
    }
    *event = (struct event){
        .sink = sink, .operation = error->operation, .code = error->code, .host = host};
    if (host != NULL) {
        memcpy(host, error->host, size);
    }
    dg_address_set(&event->address, error->peer_size > 0 ? error->peer : none, error->peer_size);
    return event;
}

void dg_error_queue(struct error_sink *sink, const struct dg_error *error)
{
    struct errors *errors = sink->errors;
    struct event *event = (struct event *) errors->waiting.last;
    uint32_t room = ERRORS_WAITING_MAX - errors->count;
    uint32_t repeat = error->repeat < room ? error->repeat : room;
    if (repeat > 0 && (event == NULL || !event_equals(event, sink, error))) {
        event = event_make(sink, error);
        repeat = event != NULL ? repeat : 0;
        if (event != NULL) {
            sink->waiting++;
            queue_append(&errors->waiting, &event->link);
            dg_agenda_add(errors->agenda, &errors->task);
        }
    }
    sink->lost += error->repeat - repeat;
    if (repeat > 0) {
        event->repeat += repeat;
        errors->count += repeat;
    }
}

/* ---- Telling ------------------------------------------------------------------------------- */

static void event_emit(const struct errors *errors, const struct event *event)
{
    struct error_sink *sink = event->sink;
    const struct dgram_error error = {
        .size = sizeof(error),
        .code = event->code,
        .operation = event->operation,
        .address = event->address.size > 0 ? &event->address : NULL,
        .host = event->host,
    };
    for (uint32_t i = 0; i < event->repeat && !dg_forked(errors->agenda->fork_generation); i++) {
        if (sink->fn == NULL) {
            sink->lost += event->repeat - i;
            return;
        }
        sink->fn(sink->socket, &error, sink->user);
    }
}

/* Errors that a handler causes meanwhile wait for the next turn. A socket cannot be freed before
 * its events are out: `close` comes after them. */
static void events_emit(struct task *task)
{
    struct errors *errors = (struct errors *) task;
    struct queue waiting = queue_take(&errors->waiting);
    errors->count = 0;
    while (!queue_is_empty(&waiting) && !dg_forked(errors->agenda->fork_generation)) {
        struct event *event = (struct event *) queue_pop(&waiting);
        event_emit(errors, event);
        event->sink->waiting--;
        dg_release(event->host);
        event->host = NULL;
        queue_prepend(&errors->store, &event->link);
    }
    queue_prepend_all(&errors->waiting, &waiting); /* a child's: to be released with the loop */
}
