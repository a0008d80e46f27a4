/* SPDX-License-Identifier: MIT */
/*
 * engine.h: the boundary between the harness and what it measures.
 *
 * The harness owns threads, clocks, credit, numbers, checks and printing. An engine owns one end:
 * its sockets and whatever waits for them. It never counts, never times and never prints.
 *
 * An end belongs to the thread that opened it. Everything an engine needs per datagram is inline
 * here, so that all engines pay the same few instructions for it.
 */
#ifndef DGPERF_ENGINE_H
#define DGPERF_ENGINE_H

#include <dgram.h>
#include <endian.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bench/harness/plan.h"

/* How long turn() may sleep: bounds how late an end sees that the run is over. */
#define TICK_MS 50
#define TICK_NS (TICK_MS * INT64_C(1000000))

#define RECEIVE_BUFFER (4u << 20) /* what every engine asks for, as the library does */
#define TRAIN_BYTES 65473u        /* above it the stack splits a train in software */
#define TRAIN_SEGMENTS 128u       /* what the kernel takes at most; older ones take 64 */

#define CACHE_LINE 128 /* two lines: the prefetcher fetches pairs */

enum role {
    ROLE_SOURCE,   /* sends numbered datagrams; receives nothing */
    ROLE_SINK,     /* receives and checks them; sends nothing */
    ROLE_CLIENT,   /* sends requests, receives replies */
    ROLE_SERVER,   /* sends back what comes */
    ROLE_COLLECTOR /* receives what stamps itself (struct stamped); sends nothing */
};

/* ---- Sizes --------------------------------------------------------------------------------- */

/* A power of two, so that a size costs a mask and a load for fixed and for distinct sizes alike. */
#define SIZES 1024u

struct sizes {
    uint32_t at[SIZES];
};

/* The size of datagram `number` to peer `peer`: neighbours in either differ (--distinct-sizes). */
static inline uint32_t sizes_of(const struct sizes *sizes, uint64_t number, uint32_t peer)
{
    return sizes->at[(number + peer) & (SIZES - 1)];
}

/* ---- Numbers ------------------------------------------------------------------------------- */

/* Datagrams are sent one by one to each peer in turn; each peer's are numbered from 0. */
struct cursor {
    uint64_t number;
    uint32_t peer;
    uint32_t peers;
};

static inline struct cursor cursor_at(uint64_t index, uint32_t peers)
{
    return (struct cursor){
        .number = index / peers, .peer = (uint32_t) (index % peers), .peers = peers};
}

static inline void cursor_next(struct cursor *cursor)
{
    if (++cursor->peer == cursor->peers) {
        cursor->peer = 0;
        cursor->number++;
    }
}

static inline void number_write(void *payload, uint64_t number)
{
    uint64_t little = htole64(number);
    memcpy(payload, &little, sizeof(little));
}

static inline uint64_t number_read(const void *payload)
{
    uint64_t little;
    memcpy(&little, payload, sizeof(little));
    return le64toh(little);
}

/* A datagram of `collect` carries its time, CLOCK_MONOTONIC in nanoseconds, behind its number. */
static inline void stamp_write(void *payload, uint64_t now)
{
    number_write((uint8_t *) payload + sizeof(now), now);
}

static inline uint64_t stamp_read(const void *payload)
{
    return number_read((const uint8_t *) payload + sizeof(uint64_t));
}

/* ---- What was received --------------------------------------------------------------------- */

/* The only thing that both threads of a stream touch all the time: alone in its cache lines. */
struct credit {
    _Alignas(CACHE_LINE) _Atomic uint64_t counted; /* received, and known to be lost */
    _Alignas(CACHE_LINE) _Atomic uint64_t sent;    /* so far; for the live line */
    _Atomic uint64_t total;                        /* to be sent; UINT64_MAX: not known yet */
    _Atomic uint64_t missing;                      /* gaps so far; for the live line */
};

struct sink;

/* The rare cases: a gap, disorder, a wrong size, another run. `data` may be read if it has room for
 * a number. */
typedef void sink_odd_fn(struct sink *sink, uint32_t peer, const void *data, uint32_t size);

struct sink {
    struct credit *credit;
    sink_odd_fn *take_odd;
    void *user; /* for take_odd */
    const struct sizes *sizes;
    uint64_t counted;      /* received in order, and the gaps before them */
    uint64_t bytes;        /* payload received in order */
    uint64_t publish_mask; /* the sender learns of every n-th at once, of the rest after the turn */
    uint64_t window;
    uint64_t gaps;       /* numbers that were passed over */
    uint64_t disordered; /* came after a higher number: late, or a second time */
    uint64_t corrupt;    /* of a wrong size, or with a number that cannot have been sent */
    uint64_t expected[FANOUT_PEERS];
};

/* Counts a datagram whose number may have been sent: after a gap, late, or of a wrong size. */
void sink_place(struct sink *sink, uint32_t peer, uint64_t number, uint32_t size);

/* Counts a gap. */
void sink_skip(struct sink *sink, uint64_t missing);

/* How many came, in order or not. */
uint64_t sink_received(const struct sink *sink);

static inline void sink_publish(struct sink *sink)
{
    atomic_store_explicit(&sink->credit->counted, sink->counted, memory_order_release);
}

/* One datagram came at receiving socket `peer`. */
static inline void sink_take(struct sink *sink, uint32_t peer, const void *data, uint32_t size)
{
    uint64_t expected = sink->expected[peer];

    if (__builtin_expect(size != sizes_of(sink->sizes, expected, peer), 0) ||
        __builtin_expect(number_read(data) != expected, 0)) {
        sink->take_odd(sink, peer, data, size);
        return;
    }
    sink->expected[peer] = expected + 1;
    sink->bytes += size;
    if ((++sink->counted & sink->publish_mask) == 0) {
        sink_publish(sink);
    }
}

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
    const char *engine_name; /* the one that really runs */
    void *state;
    uint32_t granted;    /* bytes of one socket's receive buffer; 0: unknown */
    uint32_t train;      /* datagrams a train may hold; 1: no trains */
    uint64_t elapsed_ns; /* clients and collectors: of the round trip, or since the stamp, where the
                       engine takes the time itself; else 0 */
    struct dgram_addr local[FANOUT_PEERS];

    /* Set by calls(), else COUNT_UNKNOWN: how often the kernel was given a datagram or a whole
     * train, and how often it gave one. */
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

    /* Whether it can run here: 0, or -1 with the reason in `why`. */
    int (*available)(char *why, size_t room);

    /* The same of --zero-copy; all that have ENGINE_BORROWS. */
    int (*zero_copy)(char *why, size_t room);

    /* Makes the end; its sockets are bound and receive when it returns. 0, or -1 with end->error;
     * close() is called after a failure too. */
    int (*open)(struct end *end);

    /* Sources: sends `count` datagrams, the first being number `first` of all (struct cursor), and
     * submits them. Returns how many were accepted, fewer only if the end was stopped; or -1. */
    int64_t (*send)(struct end *end, uint64_t first, uint32_t count);

    /* Clients and servers: queues one datagram for the next turn, inside on_datagram or outside.
     * Copies the bytes. Returns 0, 1 when it was dropped for want of room, or -1. */
    int (*reply)(struct end *end, const struct dgram_addr *to, const void *data, uint32_t size);

    /* Submits what is queued, waits at most TICK_MS if `wait`, delivers what came to the sink or to
     * on_datagram, submits what that queued. Returns 0, or -1. */
    int (*turn)(struct end *end, bool wait);

    /* Datagrams accepted, not yet taken by the kernel. NULL: never any after send() or turn(). */
    uint64_t (*pending)(struct end *end);

    /* CPU time of the process that is the end. NULL: it is only the thread that opened it. */
    uint64_t (*cpu)(struct end *end);

    /* Tells the sends and receives of the kernel, when the work is done. NULL: it cannot. */
    void (*calls)(struct end *end);

    void (*close)(struct end *end);
};

extern const struct engine engine_auto;
extern const struct engine engine_uring;
extern const struct engine engine_poll;
extern const struct engine engine_raw_mmsg;
extern const struct engine engine_raw_gso;
extern const struct engine engine_libuv;
extern const struct engine engine_asio;
extern const struct engine engine_node;

/* All engines, in the order of help and `peers`; ends with NULL. */
extern const struct engine *const engines[];

const struct engine *engine_by_name(const char *name);

/* Whether it matters from whom datagrams come. */
static inline bool end_wants_names(const struct end *end)
{
    return end->role == ROLE_CLIENT || end->role == ROLE_SERVER;
}

/* One datagram came at socket `peer` of the end. `from` may be NULL if that does not matter. */
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
