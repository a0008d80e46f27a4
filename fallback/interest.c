/* SPDX-License-Identifier: MIT */
/*
 * interest.c: the interest in each descriptor.
 *
 * Owns the registration of an entry, and the list of entries with more registered than wanted.
 * Never waits, and calls nobody who looks at an entry.
 */
#include "fallback/interest.h"

void dg_poll_interest_set(struct engine *engine, struct entry *entry, short interest)
{
    short known = entry->ready.interest;
    node_remove(&entry->lowered);
    if ((interest & ~known) != 0) {
        dg_ready_set(engine->ready, &entry->ready, interest);
    } else if (interest != known) {
        node_append(&engine->lowered, &entry->lowered);
    }
}

int dg_poll_entry_register(struct engine *engine, struct entry *entry)
{
    int result = 0;
    if (!entry->registered) {
        result = dg_ready_add(engine->ready, &entry->ready);
        entry->registered = result == 0;
    }
    return result;
}

void dg_poll_entry_open(struct entry *entry, int fd)
{
    assert(fd >= 0);
    node_init(&entry->lowered);
    node_init(&entry->watchers);
    entry->ready.fd = fd;
}

void dg_poll_entry_close(struct engine *engine, struct entry *entry)
{
    node_remove(&entry->lowered);
    if (entry->registered) {
        dg_ready_remove(engine->ready, &entry->ready);
    }
}
