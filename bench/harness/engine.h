/* SPDX-License-Identifier: MIT */
/*
 * engine.h: the boundary between the harness and an engine, the thing that is measured.
 *
 * The harness owns threads, clocks, credit, numbers, checks and printing. An engine owns one end:
 * its sockets and whatever waits for them. An engine never counts, never times and never prints.
 *
 * An end belongs to the thread that opened it. Everything that an engine needs per datagram is
 * inline, here, in sink.h and in numbers.h: so all engines pay the same few instructions for it.
 */
#ifndef DGPERF_ENGINE_H
#define DGPERF_ENGINE_H

#include <dgram.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/harness/plan.h"
#include "bench/harness/sink.h"

/* How long turn() may sleep. An end sees at most so late that the run is over. */
#define TICK_MS 50
#define TICK_NS (TICK_MS * INT64_C(1000000))

#define RECEIVE_BUFFER (4u << 20) /* bytes that every engine asks for, as the library does */
#define TRAIN_BYTES 65473u        /* the kernel splits longer trains in software */
#define TRAIN_SEGMENTS 128u       /* the most that the kernel takes; older kernels take 64 */

enum role {
    ROLE_SOURCE,   /* sends numbered datagrams; receives nothing */
    ROLE_SINK,     /* receives and checks them; sends nothing */
    ROLE_CLIENT,   /* sends requests, receives replies */
    ROLE_SERVER,   /* sends each datagram back, or an answer */
    ROLE_COLLECTOR /* receives datagrams with a time (stamp_write()); sends nothing */
};

/* ---- Ends ---------------------------------------------------------------------------------- */

struct end;

typedef void end_datagram_fn(struct end *end, const struct dgram_addr *from, const void *data,
                             uint32_t size);

struct end {
    /* Set by the harness before open(). */
    const struct plan *plan;
    const struct engine *engine;
    const char *mode; /* one of engine->modes, or engine->reply_mode */
    enum role role;
    uint32_t sockets; /* how many to open and bind to bind_to; above 1 for sinks only */
    struct dgram_addr bind_to;
    const struct dgram_addr *peers; /* sources and clients: where to send */
    const struct sizes *sizes;
    struct sink *sink;            /* sinks */
    end_datagram_fn *on_datagram; /* all others but sources */
    void *user;                   /* for on_datagram */
    const _Atomic bool *stop;     /* the run is to end: do not go on waiting for room */

    /* Set by open(). */
    const char *engine_name; /* of the engine that really runs */
    void *state;
    uint32_t granted;    /* bytes of one socket's receive buffer; 0: unknown */
    uint32_t train;      /* datagrams a train may hold; 1: no trains */
    uint64_t elapsed_ns; /* of the round trip (clients) or since the stamp (collectors), if the
                          * engine takes the time itself; else 0 */
    struct dgram_addr local[FANOUT_PEERS];

    /* How often the kernel was given a datagram or a whole train, and how often it gave one. Set
     * by calls(), else COUNT_UNKNOWN. */
    uint64_t kernel_sends, kernel_receives;

    char error[200]; /* why something failed */
};

/* Says why in end->error and returns -1. `code` is a negated errno, a library code, or 0. */
int end_fail(struct end *end, const char *what, int code);

static inline bool end_stopped(const struct end *end)
{
    return atomic_load_explicit(end->stop, memory_order_relaxed);
}

/* ---- Engines ------------------------------------------------------------------------------- */

#define ENGINE_TRAINS 0x1u    /* --segments means something */
#define ENGINE_BORROWS 0x2u   /* --borrow, --in-place and --zero-copy do */
#define ENGINE_BUSY_POLL 0x4u /* --busy-poll does */
#define ENGINE_IDLE 0x8u      /* --idle-sockets does */
#define ENGINE_FLOOD 0x10u    /* --flood does */
#define ENGINE_DELAYS 0x20u   /* --max-delay does */
#define ENGINE_ANSWERS 0x40u  /* a server's replies are the harness's: respond */
#define ENGINE_ALL 0x7fu

struct engine {
    const char *name;
    const char *summary;      /* one line */
    const char *const *modes; /* ways to send and receive, ending with NULL; NULL: only one way */
    const char *const *receive_modes; /* the same for ends that only receive */
    const char *reply_mode;           /* the way of ping and echo, where `modes` is set */
    uint32_t traits;                  /* ENGINE_... */

    const char *missing; /* why it was not built in; NULL: it was */

    /* Returns 0 if the engine can run here, or -1 with the reason in `why`. NULL: it always can.
     * Only engine_available() calls it. */
    int (*available)(char *why, size_t room);

    /* Returns the same of --zero-copy. All engines with ENGINE_BORROWS have it. */
    int (*zero_copy)(char *why, size_t room);

    /* Makes the end. Returns 0 when its sockets are bound and receive, or -1 with end->error. The
     * harness calls close() after a failure, too. */
    int (*open)(struct end *end);

    /* Sources: sends `count` datagrams, the first being number `first` of all (struct cursor), and
     * submits them. Returns how many were accepted, or -1. Fewer than `count`: the end was
     * stopped. */
    int64_t (*send)(struct end *end, uint64_t first, uint32_t count);

    /* Clients and servers: queues one datagram for the next turn, inside on_datagram or outside.
     * Copies the bytes. Returns 0, 1 if the datagram was dropped for want of room, or -1. */
    int (*reply)(struct end *end, const struct dgram_addr *to, const void *data, uint32_t size);

    /* Submits the queue, waits at most TICK_MS if `wait`, hands each datagram that came to
     * end_take(), and submits the replies. Returns 0, or -1. */
    int (*turn)(struct end *end, bool wait);

    /* Returns how many datagrams were accepted and not yet taken by the kernel. NULL: none after
     * send() and turn(). */
    uint64_t (*pending)(struct end *end);

    /* Returns the CPU time of the process that is the end, in nanoseconds. NULL: the end is the
     * thread that opened it. */
    uint64_t (*cpu)(struct end *end);

    /* Sets kernel_sends and kernel_receives of the end, when the work is done. NULL: the engine
     * cannot tell them. */
    void (*calls)(struct end *end);

    void (*close)(struct end *end);
};

/* Returns 0 if the engine was built in and can run here, or -1 with the reason in `why`. */
int engine_available(const struct engine *engine, char *why, size_t room);

/* Returns whether it matters from whom datagrams come. */
static inline bool end_wants_names(const struct end *end)
{
    return end->role == ROLE_CLIENT || end->role == ROLE_SERVER;
}

/* Takes one datagram that came at socket `peer` of the end. `from` may be NULL unless
 * end_wants_names(). */
static inline void end_take(struct end *end, uint32_t peer, const struct dgram_addr *from,
                            const void *data, uint32_t size)
{
    if (__builtin_expect(end->role == ROLE_SINK, 1)) {
        sink_take(end->sink, peer, data, size);
    } else {
        end->on_datagram(end, from, data, size);
    }
}

#endif
