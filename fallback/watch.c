/* SPDX-License-Identifier: MIT */
/*
 * watch.c: watches of descriptors that the engine does not read: one READY each time one is armed.
 *
 * Owns a watcher from the first watch() to unwatch(), and the duplicates of foreign descriptors.
 * Never reads a descriptor.
 */
#include "fallback/watch.h"

#include "src/base/memory.h"

#include "fallback/endpoint.h"
#include "fallback/interest.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

/* poll(2) reports these to everyone. */
#define REVENTS_ALWAYS (POLLERR | POLLHUP | POLLNVAL)

/*
 * Registers a duplicate of a foreign descriptor. So two watches may name one descriptor, which
 * epoll would refuse (c-ares reads and writes a socket by two objects). And if the owner closes the
 * descriptor early, the next file that gets its number is not mistaken for it.
 */
static int open_foreign(struct engine *engine, struct watcher *state)
{
    int fd = fcntl(state->watch->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    dg_poll_entry_open(&state->own, fd);
    int result = dg_poll_entry_register(engine, &state->own);
    if (result < 0) {
        (void) close(fd);
        return result;
    }
    state->entry = &state->own;
    return 0;
}

static int open_own(struct engine *engine, struct watcher *state)
{
    struct poll_endpoint *owner = poll_endpoint_of(state->watch->endpoint);
    assert(state->watch->fd == state->watch->endpoint->fd && !owner->detach_due);
    state->entry = &owner->entry;
    return dg_poll_entry_register(engine, state->entry);
}

static int watch_first(struct engine *engine, struct watch *watch)
{
    struct watcher *state = dg_allocate(sizeof *state);
    if (state == NULL) {
        return -ENOMEM;
    }
    state->watch = watch;
    int result = watch->endpoint != NULL ? open_own(engine, state) : open_foreign(engine, state);
    if (result < 0) {
        dg_release(state);
        return result;
    }
    node_init(&state->beside);
    node_prepend(&state->entry->watchers, &state->beside);
    node_init(&state->all);
    node_append(&engine->watchers, &state->all);
    watch->state = state;
    return 0;
}

int dg_poll_watch(struct engine *engine, struct watch *watch)
{
    assert(watch->events == POLLIN || watch->events == POLLOUT);
    if (watch->state == NULL) {
        int result = watch_first(engine, watch);
        if (result < 0) {
            return result;
        }
    }
    struct watcher *state = watch->state;
    assert(state->watch == watch && state->entry != NULL);
    state->armed = true;
    poll_interest_changed(engine, state->entry);
    return 0;
}

static void leave_entry(struct engine *engine, struct watcher *state)
{
    node_remove(&state->beside);
    if (state->entry == &state->own) {
        dg_poll_entry_close(engine, &state->own);
        (void) close(state->own.ready.fd);
    } else {
        poll_interest_changed(engine, state->entry);
    }
}

void dg_poll_unwatch(struct engine *engine, struct watch *watch)
{
    struct watcher *state = watch->state;
    if (state == NULL) {
        return;
    }
    assert(state->watch == watch);
    leave_entry(engine, state);
    node_remove(&state->all);
    dg_release(state);
    watch->state = NULL;
}

void dg_poll_fire(struct engine *engine, struct entry *entry, short revents)
{
    for (struct node *node = entry->watchers.next; node != &entry->watchers; node = node->next) {
        struct watcher *state = owner_of(node, struct watcher, beside);
        int result = revents & (state->watch->events | REVENTS_ALWAYS);
        if (state->armed && result != 0) {
            state->armed = false;
            *completions_append(engine->completions) = (struct completion){
                .kind = COMPLETION_READY, .result = result, .watch = state->watch};
        }
    }
}

void dg_poll_watchers_free(struct engine *engine)
{
    while (!node_alone(&engine->watchers)) {
        struct watcher *state = owner_of(node_take(&engine->watchers), struct watcher, all);
        if (state->entry == &state->own) {
            (void) close(state->own.ready.fd);
        }
        dg_release(state);
    }
}
