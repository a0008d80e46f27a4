/* SPDX-License-Identifier: MIT */
/* interest.h: the interest in each descriptor. */
#ifndef DGRAM_FALLBACK_INTEREST_H
#define DGRAM_FALLBACK_INTEREST_H

#include "fallback/engine.h"

#include <poll.h>

/* Begins and ends an entry. Without a registration nothing is reported. */
void dg_poll_entry_open(struct entry *entry, int fd);
void dg_poll_entry_close(struct engine *engine, struct entry *entry);

/*
 * Registers an entry when it is first of interest: 0 or a negated errno. An endpoint that only
 * sends never is: epoll is called for every buffer that a registered socket gets back, whatever it
 * was asked for (Linux 6.18: 40 of 1,200 ns of a lone datagram).
 */
int dg_poll_entry_register(struct engine *engine, struct entry *entry);

/* Registers the interest of an entry now if there is more than before, else later. */
void dg_poll_interest_set(struct engine *engine, struct entry *entry, short interest);

static inline short poll_interest_of(const struct entry *entry)
{
    int events = entry->receiving ? POLLIN : 0;
    for (const struct node *node = entry->watchers.next; node != &entry->watchers;
         node = node->next) {
        const struct watcher *watcher = owner_of(node, struct watcher, beside);
        events |= watcher->armed ? watcher->watch->events : 0;
    }
    return (short) events;
}

/*
 * Follows a change of the interest in an entry. More interest is registered at once, since the
 * program may be sleeping on fd() before the next wait(). Less interest waits until then: nearly
 * always the core has armed the same again by that time, and a turn costs no epoll_ctl.
 */
static inline void poll_interest_changed(struct engine *engine, struct entry *entry)
{
    short interest = poll_interest_of(entry);
    if (interest != entry->ready.interest || !node_alone(&entry->lowered)) {
        dg_poll_interest_set(engine, entry, interest);
    }
}

/* Registers the less that has waited. */
static inline void poll_interest_lower(struct engine *engine)
{
    while (!node_alone(&engine->lowered)) {
        struct entry *entry = owner_of(node_take(&engine->lowered), struct entry, lowered);
        dg_ready_set(engine->ready, &entry->ready, poll_interest_of(entry));
    }
}

#endif
