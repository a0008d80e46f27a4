/* SPDX-License-Identifier: MIT */
/*
 * harness.h: threads, the common start, the stop and the live line. Every scenario needs them, and
 * no engine sees them.
 *
 * A scenario is a crew of one or two sides. Each side is a thread with one end. All sides open
 * their ends, then wait; crew_go() starts the clocks; side->work() runs to the end of the run.
 */
#ifndef DGPERF_HARNESS_H
#define DGPERF_HARNESS_H

#include <pthread.h>

#include "bench/harness/engine.h"

/* A receiver gives up when nothing has come for so long. */
#define SILENCE_NS (UINT64_C(500) * 1000000)

struct side;

struct crew {
    const struct plan *plan;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a side's state, or `go` */
    bool go;
    uint64_t started;  /* clock_now() when the clocks were started */
    _Atomic bool stop; /* the sides are to end */
};

enum side_state { SIDE_OPENING, SIDE_READY, SIDE_DONE };

struct side {
    struct end end;
    int (*work)(struct side *side); /* 0, or -1 with end.error */
    void *run;                      /* the scenario's */
    const char *name;               /* "sender", for messages */
    unsigned place;                 /* sides with different places get different CPUs */

    /* The rest is the harness's; the scenario reads it after side_join(). */
    struct crew *crew;
    pthread_t thread;
    enum side_state state;
    bool joinable;
    bool failed;
    uint64_t cpu_ns;      /* of work(), user and system */
    uint64_t cpu_wait_ns; /* of that: waiting for credit */
};

/* ---- Crew ---------------------------------------------------------------------------------- */

void crew_init(struct crew *crew, const struct plan *plan);
void crew_destroy(struct crew *crew);

/* Starts the thread and waits until its end is open. Returns 0, or -1 after saying why. */
int side_start(struct crew *crew, struct side *side);

/* Lets all sides begin. */
void crew_go(struct crew *crew);

/* Called a few times a second: writes the live line's text. */
typedef void live_fn(void *run, double elapsed, char *text, size_t room);

/* Appends the seconds that are left to the live line's text, unless `left` is below zero. */
void live_add_left(char *text, size_t room, double left);

/* Waits until all sides are done. Ctrl-C and a side that failed stop the crew. */
void crew_watch(struct crew *crew, struct side *const *sides, size_t count, live_fn *live,
                void *run);

/* Stops the crew and waits for the thread. Returns 0, or -1 after saying why the side failed. */
int side_join(struct side *side);

/* crew_watch(), then side_join() for each of them. Returns 0, or -1 if one had failed. */
int crew_finish(struct crew *crew, struct side *const *sides, size_t count, live_fn *live,
                void *run);

static inline bool crew_stopped(const struct crew *crew)
{
    return atomic_load_explicit(&crew->stop, memory_order_relaxed);
}

/* Returns whether the plan has a time, and it is over. */
bool crew_time_over(const struct crew *crew, uint64_t now);

/* Returns how many seconds are left, or -1 if the plan has no time. */
double crew_time_left(const struct crew *crew, double elapsed);

/* ---- Ends and plans ------------------------------------------------------------------------ */

void sizes_fill(struct sizes *sizes, const struct plan *plan);

/* Fills the end's constant part for one side. `engine` is the plan's or the server's. */
void end_init(struct end *end, struct crew *crew, const struct engine *engine, enum role role);

/* Turns until the kernel has taken all datagrams that the end has accepted, SILENCE_NS at most.
 * Returns 0, or -1 with end->error. */
int end_drain(struct end *end);

/* Says where the end listens; with --json not on standard output, whose only line is the object.
 * Returns 0, or -1 if the text could not be written. */
int end_announce(const struct end *end);

/* Returns 0 if the engine can run here as the plan wants it, or EXIT_UNAVAILABLE after saying why
 * not. */
int engine_check(const struct plan *plan, const struct engine *engine);

#endif
