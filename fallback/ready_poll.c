/* SPDX-License-Identifier: MIT */
/*
 * ready_poll.c: readiness by poll(2), for hosts that have nothing better.
 *
 * Owns the array that poll(2) reads. Each wait costs the kernel a look at every entry, and there is
 * no descriptor that another event loop could wait on.
 */
#include "fallback/ready.h"

#include "src/backend.h"
#include "src/base/array.h"

#include <limits.h>
#include <poll.h>
#include <string.h>

#define CAPACITY_FIRST 16u

struct ready {
    struct pollfd *fds; /* fd -1, which poll(2) skips, for an entry without interest */
    struct ready_entry **entries;
    uint32_t count, capacity;
    uint32_t cursor; /* where the next search for ready entries begins */
};

int dg_ready_open(struct ready **ret_ready, const char **ret_call)
{
    struct ready *ready = dg_allocate(sizeof *ready);
    if (ready == NULL) {
        *ret_call = "malloc";
        return -ENOMEM;
    }
    *ret_ready = ready;
    return 0;
}

void dg_ready_close(struct ready *ready)
{
    dg_release(ready->fds);
    dg_release(ready->entries);
    dg_release(ready);
}

static int grow(struct ready *ready)
{
    uint32_t capacity = array_doubled(ready->capacity, (uint32_t) CAPACITY_FIRST);
    int result = array_grow(&ready->fds, ready->count, capacity);
    if (result == 0) {
        result = array_grow(&ready->entries, ready->count, capacity);
    }
    ready->capacity = result == 0 ? capacity : ready->capacity; /* `fds` may be longer */
    return result;
}

static void place(struct ready *ready, struct ready_entry *entry, uint32_t position)
{
    int fd = entry->interest == 0 ? -1 : entry->fd;
    ready->fds[position] = (struct pollfd){.fd = fd, .events = entry->interest};
    ready->entries[position] = entry;
    entry->position = position;
}

int dg_ready_add(struct ready *ready, struct ready_entry *entry)
{
    if (ready->count == ready->capacity) {
        int result = grow(ready);
        if (result < 0) {
            return result;
        }
    }
    entry->interest = 0;
    place(ready, entry, ready->count++);
    return 0;
}

void dg_ready_set(struct ready *ready, struct ready_entry *entry, short interest)
{
    assert(entry->position < ready->count && ready->entries[entry->position] == entry);
    assert(interest != entry->interest);
    entry->interest = interest;
    place(ready, entry, entry->position);
}

void dg_ready_remove(struct ready *ready, struct ready_entry *entry)
{
    assert(entry->position < ready->count && ready->entries[entry->position] == entry);
    struct ready_entry *last = ready->entries[--ready->count];
    if (last != entry) {
        place(ready, last, entry->position);
    }
}

/* Rounded up: rounded down, a wait for less than a millisecond would not sleep, and its caller spin
 * until the time has come. */
static int milliseconds(int64_t timeout_ns)
{
    if (timeout_ns < 0) {
        return -1;
    }
    int64_t whole = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return whole > INT_MAX ? INT_MAX : (int) whole;
}

/* Collects the entries that poll(2) marked, from the cursor on, and leaves the cursor behind the
 * last one, so that a crowd of ready entries is served in turn. */
static int collect(struct ready *ready, uint32_t marked, struct ready_event *events,
                   uint32_t capacity)
{
    uint32_t wanted = marked < capacity ? marked : capacity;
    uint32_t found = 0;
    for (uint32_t step = 0; step < ready->count && found < wanted; step++) {
        if (ready->cursor >= ready->count) {
            ready->cursor = 0;
        }
        uint32_t position = ready->cursor++;
        if (ready->fds[position].revents != 0) {
            events[found++] = (struct ready_event){.entry = ready->entries[position],
                                                   .revents = ready->fds[position].revents};
        }
    }
    assert(found == wanted);
    return (int) found;
}

const char dg_ready_wait_call[] = "poll";

int dg_ready_wait(struct ready *ready, int64_t timeout_ns, struct ready_event *events,
                  uint32_t capacity)
{
    assert(capacity > 0);
    int marked = poll(ready->fds, (nfds_t) ready->count, milliseconds(timeout_ns));
    if (marked < 0) {
        /* POSIX has EAGAIN for a want of memory that passes. */
        return errno == EINTR || errno == EAGAIN ? 0 : -errno;
    }
    return collect(ready, (uint32_t) marked, events, capacity);
}

int dg_ready_fd(struct ready *ready)
{
    (void) ready;
    return -ENOTSUP;
}

void dg_ready_signal(struct ready *ready)
{
    (void) ready;
}
