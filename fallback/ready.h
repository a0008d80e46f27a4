/* SPDX-License-Identifier: MIT */
/*
 * ready.h: how the poll engine learns which descriptors are ready.
 *
 * The inner boundary to readiness, which differs by host. The build takes one of ready_epoll.c
 * (Linux) and ready_poll.c (any POSIX host). Behind it lie descriptors and interests; sockets,
 * slots, watches and completion records are unknown there. Interest is level-triggered: a
 * descriptor that stays ready is reported by each wait.
 */
#ifndef DGRAM_FALLBACK_READY_H
#define DGRAM_FALLBACK_READY_H

#include <stdbool.h>
#include <stdint.h>

/* The mechanism; each host file defines its own. */
struct ready;

/* One descriptor, embedded in an object of the engine. A descriptor has at most one entry. */
struct ready_entry {
    int fd;
    short interest;    /* the interest that the mechanism knows now: 0, or POLLIN and POLLOUT;
                          written there */
    uint32_t position; /* the mechanism's */
};

struct ready_event {
    struct ready_entry *entry;
    short revents; /* as poll(2) gives it */
};

/* 0, or a negated errno with *ret_call naming the call that failed. */
int dg_ready_open(struct ready **ret_ready, const char **ret_call);

/* Closes and frees, entries or not. Touches nothing that a parent process shares. */
void dg_ready_close(struct ready *ready);

/* Adds an entry without interest: 0 or a negated errno. The only function that allocates. */
int dg_ready_add(struct ready *ready, struct ready_entry *entry);

/* Changes the interest; it must differ from the known one. Without interest the entry is silent,
 * except that epoll may report an error of the descriptor once. */
void dg_ready_set(struct ready *ready, struct ready_entry *entry, short interest);

/* No event names the entry after this. Before its descriptor is closed. */
void dg_ready_remove(struct ready *ready, struct ready_entry *entry);

/* Sleeps until an entry is ready or the time has passed (negative: no limit), never less long, and
 * fills `events`: how many, or a negated errno. 0 after a signal. When more are ready than
 * `capacity`, the next wait begins with those that were left out. */
int dg_ready_wait(struct ready *ready, int64_t timeout_ns, struct ready_event *events,
                  uint32_t capacity);

extern const char dg_ready_wait_call[]; /* the system call that it sleeps in */

/* A descriptor that is readable while an entry is ready or a signal is there. -ENOTSUP without
 * such a mechanism, else a negated errno. */
int dg_ready_fd(struct ready *ready);

/* Makes the descriptor of dg_ready_fd() readable until the next wait; nothing before that was
 * called. */
void dg_ready_signal(struct ready *ready);

#endif
