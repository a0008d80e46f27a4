/* SPDX-License-Identifier: MIT */
/*
 * dgram.h: Node's `dgram` event API for C programs.
 *
 * THE MODEL
 *
 * A *loop* waits for the kernel. A *socket* belongs to one loop for life. A program creates
 * sockets, gives them *handlers*, and runs the loop. The loop calls a handler when its *event*
 * comes:
 *
 *     `message`     a datagram came.
 *     `listening`   the socket is bound and receives.
 *     `drain`       sends were refused because the queue was full; now it is low again.
 *     `error`       something failed after its call had returned.
 *     `close`       the socket is gone, its port is free.
 *
 * A send may bring a function of its own, Node's callback of send: it is called when the datagram
 * was handed to the network, or has failed. Timers, posts, lookups and buffers have functions, too.
 * All of these and the handlers are *callbacks*.
 *
 * A loop works in *turns*. dgram_loop_turn() is one turn, dgram_loop_run() is one after the other.
 * A turn
 *
 *     1. hands the datagrams that were sent since the last turn to the kernel;
 *     2. sleeps until something happens, unless a callback is due already;
 *     3. calls the callbacks that are due;
 *     4. hands over the datagrams that the callbacks sent.
 *
 * Callbacks run only inside dgram_loop_run() and dgram_loop_turn(), on the thread that called
 * these, and never inside the call that caused the callback. A callback may call anything in this
 * header but a turn of its own loop. It may send, bind, replace handlers, close its own or any
 * other socket, stop or free the loop. The single exception to the first rule is dgram_loop_free():
 * it closes the sockets that are open and completes the sends that are queued before it returns.
 *
 * WORDS
 *
 * Loop, socket, handler, event, callback and turn are as above. Each other word of this header that
 * has a meaning of its own is here:
 *
 *     `alive`       A loop is alive while it has something to wait for: bound sockets, sends,
 *                   timers (dgram_loop_run() has the list). A socket or timer that is *unref'd*
 *                   does not count.
 *     `peer`        The address that a datagram goes to or comes from.
 *     `engine`      The mechanism below the loop: io_uring, or readiness (epoll, poll). A program
 *                   behaves the same on both.
 *     `train`       Datagrams of one peer that cross the kernel's network stack as one piece. All
 *                   have one size, but the last may be shorter (UDP_SEGMENT and UDP_GRO, udp(7)).
 *                   The library makes trains out of plain sends to one peer, and takes them apart
 *                   into plain messages. No call of a program is about trains.
 *     `slot`        Memory of the loop into which the kernel receives: one datagram or one train.
 *     `accepted`    A send whose call returned 0. It completes exactly once.
 *     `queue`       The accepted datagrams of a socket, or of all sockets of a loop, that have not
 *                   completed. It has a limit in bytes; a send above the limit is refused.
 *     `parked`      A datagram is parked while it waits for room in the kernel.
 *     `stalled`     A peer is stalled while the kernel has no memory for datagrams to it (ENOBUFS).
 *                   Datagrams to this peer wait, those to other peers go on.
 *     `lookup`      The search for the address of a host name.
 *     `destination` A handle for a peer to which a program sends again and again.
 *     `buffer`      Memory in which a program composes datagrams, and from which they are sent
 *                   without being copied. The kernel's own are always called receive buffer and
 *                   send buffer.
 *     `spin`        To look for datagrams again and again instead of sleeping.
 *     `gather`      To sleep on although datagrams came, so that one wake-up serves several.
 *
 * ERRORS
 *
 * A function that can fail returns an int. Zero or more is success. Below zero is an error: a
 * negated errno, or a library code (enum dgram_code, -10001 and below). dgram_strerror() and
 * dgram_error_name() describe both. Parameters called `ret_...` are written on success only.
 *
 * A failure that is known at once is returned at once and reported nowhere else. A later failure
 * reaches the callback of the send that failed, or the socket's `error` handler.
 *
 * A NULL handle gives DGRAM_ENULL. A socket that was closed gives DGRAM_ENOTRUNNING until its
 * `close` handler has returned. Then the library frees the socket, and the handle must not be used
 * again.
 *
 * SENDING
 *
 * A send returns at once and never blocks. Zero means accepted: the send completes exactly once. A
 * negative return means that the send was not accepted: no callback follows, and the bytes are
 * still the caller's. Datagrams of one socket to one peer leave in the order of the calls.
 *
 * ENDING
 *
 * dgram_loop_run() returns when nothing keeps the loop alive. A program that is to end cleanly
 * calls dgram_loop_stop() in its signal handler. When dgram_loop_run() has returned 1, the program
 * calls dgram_end() on its sockets, frees its timers, and runs the loop again until it returns 0.
 * Queued sends leave, and datagrams that the kernel has received until then are delivered. The
 * final counters are there in `close`.
 *
 * dgram_loop_free() alone is quicker: each queued send gets one attempt, and received datagrams are
 * counted as discarded.
 *
 * THREADS
 *
 * The thread of a loop's first turn owns the loop and all its sockets and timers, for ever. The
 * comment of each function ends with the threads that may call it: "Loop thread" is the owner.
 * Only dgram_loop_post(), dgram_loop_stop() and dgram_message_release() may be called from other
 * threads while the owner uses the loop. Turns find out that another thread calls them
 * (DGRAM_EWRONGTHREAD), even a thread that got the pthread_t of the owner after the owner's end.
 * Any other call from a wrong thread is a data race.
 *
 * One other thread may call dgram_loop_free(), and nothing else, when the owner has ended and was
 * joined, or will not use the loop any more. A program that wants more cores runs a loop per core,
 * each with its own socket on the same port (DGRAM_REUSE_PORT).
 *
 * A callback has to return: longjmp(3), a C++ exception or pthread_exit(3) must not leave it.
 *
 * pthread_cancel(3) ends a thread in one place of the library: in dgram_loop_run(), between two
 * turns. A turn comes to its end first, its callbacks included. A loop that sleeps notices the
 * cancellation when something wakes it: dgram_loop_stop() after pthread_cancel() does. The loop is
 * then as if dgram_loop_run() had returned. The thread's clean-up handlers can free it, or whoever
 * has joined the thread. The state of pthread_setcancelstate(3) is as before when a function
 * returns.
 *
 * FORK
 *
 * In a child process only dgram_loop_free() may touch a loop of the parent. Every other function
 * answers DGRAM_EFORKED. The parent's loop is not disturbed.
 *
 * STRUCTS THAT MAY GROW
 *
 * They begin with `size`, which the caller sets to sizeof the struct. Zero in any other member
 * means "the default". If `size` is larger than this library's struct, the bytes beyond it must be
 * zero; otherwise the call returns -E2BIG, as openat2(2) does. If `size` is smaller, the missing
 * members take their defaults. Structs that the library fills in are filled as far as they reach.
 * DGRAM_SIZED() sets `size` and zeroes the rest in any dialect of C and C++, and no compiler warns
 * of it.
 *
 * NAMES AND PAGES
 *
 * The manual behind the names is Node's page "UDP / Datagram Sockets"; `createSocket` is
 * dgram_create_socket(), `setMulticastTTL` is dgram_set_multicast_ttl(), and so on. "(manual: ...)"
 * below names its row. docs/tuning.md in the source tells when to change which option, by measured
 * figures.
 */
#ifndef DGRAM_H
#define DGRAM_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#ifdef __cplusplus
extern "C" {
/* Two functions are named like the struct that they fill in, as stat(2) is: no mistake of the
 * program that includes this. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif

#define DGRAM_API __attribute__((visibility("default")))

/*
 * Initialises a struct that begins with `size`: sets `size` and zeroes the other members.
 *
 *     struct dgram_loop_options options = DGRAM_SIZED(struct dgram_loop_options);
 *     options.max_delay_us = 1000;
 *
 * C has designated initialisers for the same: {.size = sizeof(options), .max_delay_us = 1000}. C++
 * has them since C++20 only, and there g++ -Wextra warns of each member that the list leaves out.
 * In C++14 and later DGRAM_SIZED() is a constant expression.
 */
/* clang-format off */
#ifdef __cplusplus
#define DGRAM_SIZED(type) dgram_sized<type>()
extern "C++" {
template <typename sized_type>
#if __cplusplus >= 201402L
constexpr
#endif
inline sized_type dgram_sized() noexcept
{
    sized_type sized{};
    sized.size = sizeof(sized_type);
    return sized;
}
}
#else
#define DGRAM_SIZED(type) {.size = sizeof(type)}
#endif
/* clang-format on */

/* ---- Version ------------------------------------------------------------------------------- */

#define DGRAM_VERSION_MAJOR 0
#define DGRAM_VERSION_MINOR 1
#define DGRAM_VERSION_PATCH 0

/* Returns the version of the library that runs, as "0.1.0": a static string. Any thread. */
DGRAM_API const char *dgram_version(void);

/* ---- Addresses ----------------------------------------------------------------------------- */

/* A socket address and its length. Only the first `size` bytes of `u` count. */
struct dgram_addr {
    uint32_t size; /* bytes of `u` in use; 0: no address */
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } u;
};

/* Room for the text of any IP address with its zone and the terminating NUL. */
#define DGRAM_ADDR_TEXT_MAX 64

/*
 * Reads the text of an IPv4 or IPv6 address, without port and brackets; never asks a name server.
 * `port` is in host order, 0 to 65,535. IPv6 may carry a zone, "fe80::1%eth0" or "fe80::1%2"
 * (RFC 4007). The zone is the whole rest of the text: the name or the number of an interface.
 * Returns 0; DGRAM_EBADADDRESS if the text is no literal (a host name is none), DGRAM_EBADINTERFACE
 * if its zone names no interface of this host ("fe80::1%eth0:80"), DGRAM_EBADPORT,
 * DGRAM_ENULL. Any thread.
 */
DGRAM_API int dgram_addr_parse(const char *text, uint32_t port, struct dgram_addr *ret_address);

/*
 * Writes the address without its port: Node's `rinfo.address`. Link-local IPv6 peers carry their
 * zone. `text` has room for DGRAM_ADDR_TEXT_MAX bytes. Returns `text`; an address that is no IP
 * address gives "". Any thread.
 */
DGRAM_API const char *dgram_addr_text(const struct dgram_addr *address, char *text);

/* Returns the port in host order, 0 where there is none: Node's `rinfo.port`. Any thread. */
DGRAM_API uint16_t dgram_addr_port(const struct dgram_addr *address);

/* Returns "IPv4", "IPv6" or "", a static string: Node's `rinfo.family`. Any thread. */
DGRAM_API const char *dgram_addr_family(const struct dgram_addr *address);

/* Tells whether two addresses are the same peer: family, address, port and zone. Any thread. */
DGRAM_API bool dgram_addr_equal(const struct dgram_addr *one, const struct dgram_addr *two);

/* ---- Engines ------------------------------------------------------------------------------- */

/* docs/engines.md in the source tells which engine runs where. */
enum dgram_engine {
    DGRAM_ENGINE_AUTO = 0,  /* as DGRAM_ENGINE in the environment says: "uring", "poll"; without it,
                               or if it is "auto" or empty, the best that works here */
    DGRAM_ENGINE_URING = 1, /* io_uring (Linux 6.0 and later, where it is permitted) */
    DGRAM_ENGINE_POLL = 2   /* readiness: epoll or poll(2) */
};

/* Why an engine works here or does not. All text is static. */
struct dgram_engine_report {
    size_t size;      /* sizeof (struct dgram_engine_report), set by the caller */
    int32_t code;     /* 0: it works; else the negated errno of `call`, or -ENOTSUP: not built in */
    uint32_t engine;  /* enum dgram_engine */
    const char *name; /* "uring", "poll" */
    const char *call; /* the call that failed, "" if none */
    const char *advice; /* the usual cause and its cure, "" if none */
};

/*
 * Tries an engine without a loop: sets it up, moves a datagram through it, takes it down.
 * Returns 0 with the report filled, whatever the report says; DGRAM_EBADENGINE for AUTO and unknown
 * numbers, DGRAM_EBADOPTIONS for a report whose size is too small, DGRAM_ENULL. Any thread.
 */
DGRAM_API int dgram_engine_probe(uint32_t engine, struct dgram_engine_report *report);

/* ---- The loop: creation -------------------------------------------------------------------- */

struct dgram_loop;
struct dgram_socket;
struct dgram_timer;

/*
 * A lookup that the library leaves to the program's own resolver, the *hook* (Node: the `lookup`
 * option). The loop calls the hook like all callbacks, with the `host` whose address it wants, and
 * `family` 4 or 6. The program answers each lookup by one call of dgram_lookup_answer(), inside the
 * hook or at any time later. `host` is valid until then.
 */
struct dgram_lookup;
typedef void dgram_lookup_fn(struct dgram_loop *loop, struct dgram_lookup *lookup, const char *host,
                             int family, void *user);

/*
 * Answers a lookup, which is gone then. `code` tells the answer:
 *
 *     0          `address`, of the family that was asked for, is the host's; its port is ignored.
 *                It is good for `ttl_seconds`, one at least.
 *     negative   the lookup failed, with DGRAM_ENOTFOUND for instance. The failure is remembered as
 *                long. An errno (-ENOMEM for instance) and DGRAM_EBADFAMILY are not remembered,
 *                because they tell nothing of the name.
 *
 * Valid also after the loop was freed. Returns 0; DGRAM_EBADFAMILY (the lookup is gone all the
 * same, and fails with it); DGRAM_EFORKED (gone, too); DGRAM_ENULL (nothing happened: the lookup
 * must still be answered). Loop thread.
 */
DGRAM_API int dgram_lookup_answer(struct dgram_lookup *lookup, int code,
                                  const struct dgram_addr *address, uint32_t ttl_seconds);

/* For `busy_poll_us`: never spin. */
#define DGRAM_BUSY_POLL_OFF UINT32_MAX

/* docs/tuning.md tells when to change these, with figures. */
struct dgram_loop_options {
    size_t size;             /* sizeof (struct dgram_loop_options) */
    uint32_t engine;         /* enum dgram_engine; default DGRAM_ENGINE_AUTO */
    uint32_t slots;          /* receive slots, 4 to 4,096; default 64 */
    uint32_t slot_size;      /* bytes of payload a slot holds, 512 to 65,536; default 65,536, which
                              holds any datagram or train; smaller ones switch UDP_GRO off */
    uint32_t segments_max;   /* datagrams a train may hold, 1 to 128; 1: no trains; default: as many
                              as the kernel takes */
    uint64_t queue_limit;    /* bytes that all sockets may queue before sends get -EAGAIN; default
                              16 MiB; shared out as a socket's queue_limit */
    const char *dns_servers; /* instead of the host's name servers: "192.0.2.1,[2001:db8::1]:53",
                                link-local ones with the zone of an interface: "fe80::1%eth0" */
    const char *resolv_conf; /* another file than /etc/resolv.conf, resolv.conf(5) */
    uint32_t busy_poll_us;   /* microseconds to spin before every sleep, 1 to 1,000,000. 0, the
                              default: up to 40, and only while a trial shows that a datagram costs
                              less CPU so. DGRAM_BUSY_POLL_OFF: never. A turn of timeout 0 does not
                              spin */
    uint32_t max_delay_us;   /* microseconds by which the loop may delay events to gather datagrams,
                              1 to 100,000; 0, the default: none. Timers and timeouts end the delay.
                              With this option and a busy_poll_us of 0 the loop does not spin; with
                              a busy_poll_us of 1 to 1,000,000 it does not gather */
    dgram_lookup_fn *lookup; /* the hook that looks names up instead of the library; literals never
                                get there */
    void *lookup_user;       /* for lookup */
};

/*
 * Makes a loop. It owns no thread and does nothing until it is run. The ring of the uring engine is
 * created here but belongs to the thread of the first turn.
 * `options` may be NULL and is not kept. Free the loop with dgram_loop_free().
 * Returns 0; DGRAM_EBADENGINE for an engine that does not exist or an unknown name in the
 * environment's DGRAM_ENGINE; the engine's errno where a forced engine does not work here
 * (dgram_engine_probe() tells why); DGRAM_EBADOPTIONS, -E2BIG, -ENOMEM, -EMFILE, -ENFILE.
 */
DGRAM_API int dgram_loop_create(const struct dgram_loop_options *options,
                                struct dgram_loop **ret_loop);

/* ---- The loop: turns ----------------------------------------------------------------------- */

/*
 * Turns until nothing keeps the loop alive, or until it is stopped. A loop is kept alive by
 *
 *     - a bound socket that is not unref'd, a socket that is being closed;
 *     - an accepted send;
 *     - a started timer that is not unref'd;
 *     - a posted function;
 *     - a buffer in use.
 *
 * Returns 0 when nothing is left, 1 when stopped, a negative code when the engine failed;
 * DGRAM_EREENTERED, DGRAM_EWRONGTHREAD, DGRAM_EFORKED. A cancellation point between two turns
 * (THREADS). Loop thread; not from a callback.
 */
DGRAM_API int dgram_loop_run(struct dgram_loop *loop);

/*
 * Does one turn: submits the queued sends, sleeps until something happens or `timeout_ns`
 * nanoseconds have passed (0: not at all; negative: no limit), and runs the callbacks that are due.
 * It does not sleep while callbacks are due, nor when nothing keeps the loop alive. Sends that
 * callbacks queued are submitted before it returns. A turn may end early with nothing done, after a
 * signal for one; dgram_loop_stop() ends it for sure.
 * Returns 1 while something keeps the loop alive, else 0; errors as dgram_loop_run().
 * Loop thread; not from a callback.
 */
DGRAM_API int dgram_loop_turn(struct dgram_loop *loop, int64_t timeout_ns);

/*
 * Submits every queued send now instead of at the end of the turn. Sends that wait for room in the
 * kernel, for a name or for a `listening` handler stay queued. Runs no callback, and waits for
 * nothing, with one exception: where the kernel has no memory for requests, it tries for up to a
 * second. Works before the first turn, too, and does not make this thread the loop's owner.
 * Returns 0 or a negative code when the engine failed. Loop thread.
 */
DGRAM_API int dgram_loop_flush(struct dgram_loop *loop);

/*
 * Makes dgram_loop_run() return 1 after the callbacks of the current turn; if none runs, the next
 * call returns 1 at once. If a dgram_loop_turn() comes next, it does not sleep, and the stop is
 * spent. NULL is ignored. Any thread, and signal handlers (async-signal-safe), not after
 * dgram_loop_free().
 */
DGRAM_API void dgram_loop_stop(struct dgram_loop *loop);

/*
 * Closes every socket, completes every accepted send (a queued one gets one attempt, then
 * -ECANCELED), calls the posts that wait, and emits `close` for each socket. Then it frees the loop
 * with its sockets, timers and buffers. No `message`, timer or lookup comes after the call; the
 * callbacks that do come run inside it.
 *
 * Accepts NULL, a loop that never ran, and a loop in one of whose callbacks it is called: then the
 * callbacks come while that turn unwinds, and dgram_loop_run() returns 1. Retained messages stay
 * valid. In a forked child it frees memory and closes descriptors only, without callbacks. A signal
 * handler that calls dgram_loop_stop() must be restored before.
 *
 * Returns NULL. Loop thread, or another thread when the loop thread has ended or is done with the
 * loop (THREADS). All said above holds on that thread, too, on every engine. If the loop thread
 * lives on, or has ended without the destructors of pthread_key_create(3), the uring engine waits
 * until the kernel has taken its ring down before anything is closed: 5 to 12 ms on Linux 6.18, a
 * second at most.
 */
DGRAM_API struct dgram_loop *dgram_loop_free(struct dgram_loop *loop);

/* Returns the loop's clock: CLOCK_MONOTONIC in nanoseconds, read once a turn. 0 for NULL. Loop
 * thread. */
DGRAM_API uint64_t dgram_loop_now(const struct dgram_loop *loop);

/* ---- The loop: timers ---------------------------------------------------------------------- */

typedef void dgram_timer_fn(struct dgram_timer *timer, void *user);

/*
 * Makes a stopped timer. It belongs to the loop, which frees it if dgram_timer_free() does not.
 * Returns 0; -ENOMEM, DGRAM_ENULL, DGRAM_EFORKED, DGRAM_ENOTRUNNING (the loop is being freed). Loop
 * thread.
 */
DGRAM_API int dgram_timer_create(struct dgram_loop *loop, dgram_timer_fn *fn, void *user,
                                 struct dgram_timer **ret_timer);

/*
 * Starts or restarts a timer: `fn` is called `delay_ns` from now (the real time, not
 * dgram_loop_now()), then every `interval_ns` (0: once). A period that passed unserved is skipped,
 * not made up for. Never calls `fn` early; allocates nothing. Returns 0; DGRAM_EBADTIME for
 * negative times, DGRAM_ENULL, DGRAM_EFORKED, DGRAM_ENOTRUNNING (the loop is being freed). Loop
 * thread.
 */
DGRAM_API int dgram_timer_start(struct dgram_timer *timer, int64_t delay_ns, int64_t interval_ns);

/* dgram_timer_stop() stops: no call follows; a stopped timer may be started again. A started timer
 * keeps the loop alive unless it is unref'd; dgram_timer_ref() undoes that. Idempotent.
 * These three return 0, DGRAM_ENULL or DGRAM_EFORKED. Loop thread. */
DGRAM_API int dgram_timer_stop(struct dgram_timer *timer);
DGRAM_API int dgram_timer_ref(struct dgram_timer *timer);
DGRAM_API int dgram_timer_unref(struct dgram_timer *timer);

/* Stops and frees a timer, in its own callback, too. Accepts NULL, returns NULL. Loop thread. */
DGRAM_API struct dgram_timer *dgram_timer_free(struct dgram_timer *timer);

/* ---- The loop: other threads, other loops -------------------------------------------------- */

typedef void dgram_post_fn(struct dgram_loop *loop, void *user);

/*
 * Has the loop call `fn` in one of its next turns, in the order of the posts of each thread. The
 * loop must not be freed meanwhile; dgram_loop_free() calls the posts that wait.
 * Returns 0; -EAGAIN when 65,536 posts are waiting, -ENOMEM, DGRAM_ENULL, DGRAM_EFORKED;
 * DGRAM_ENOTRUNNING while the loop is being freed.
 * Any thread; not from a signal handler.
 */
DGRAM_API int dgram_loop_post(struct dgram_loop *loop, dgram_post_fn *fn, void *user);

/*
 * Gives another event loop (epoll, libuv, glib) a descriptor to wait on. It is readable whenever
 * dgram_loop_turn(loop, 0) has something to do, timers, posts and queued sends included. The level
 * counts, not the edge (no EPOLLET). One turn each time is enough: work that a turn leaves keeps
 * the descriptor readable. Only wait on the descriptor; never read or close it. Take it out of the
 * outer loop before dgram_loop_free(), which closes it. The first call makes it, which costs a
 * little at each wake-up.
 * Returns the descriptor; -ENOTSUP where the host has only poll(2); -EMFILE, -ENFILE, -ENOMEM. Loop
 * thread.
 */
DGRAM_API int dgram_loop_fd(struct dgram_loop *loop);

/* ---- The loop: facts and counters ---------------------------------------------------------- */

struct dgram_loop_info {
    size_t size;                /* sizeof (struct dgram_loop_info), set by the caller */
    uint32_t engine;            /* the engine that runs */
    uint32_t segments_max;      /* datagrams a train may hold */
    uint32_t slots;             /* receive slots of the loop */
    uint32_t slot_size;         /* bytes of payload a slot holds */
    const char *name;           /* "uring", "poll" */
    int32_t refused_code;       /* 0, or why the engine preferred by AUTO was passed over */
    uint32_t slots_free;        /* slots that hold no received data */
    const char *refused_call;   /* as in struct dgram_engine_report */
    const char *refused_advice; /* as there */
    uint64_t turns;             /* turns so far */
    uint64_t flushes;           /* hand-overs of queued sends to the kernel */
    const char *failed_call; /* the system call by which the engine failed last; "": it did not */
    int32_t failed_code;     /* its negated errno, as a turn, run or flush returned it */
    uint32_t reserved0;
    uint64_t zero_copy_sends;  /* trains handed over to be sent without a copy (DGRAM_ZERO_COPY) */
    uint64_t zero_copy_copied; /* of these, trains that the kernel has let go of, and copied */
    uint64_t zero_copy_spared; /* of these, trains that the kernel has let go of, and not copied;
                                  it has let go of all when no buffer is in use */
};

/* Tells which engine the loop runs on, and its counters. Returns 0; DGRAM_ENULL, DGRAM_EBADOPTIONS,
 * DGRAM_EFORKED. Loop thread. */
DGRAM_API int dgram_loop_info(struct dgram_loop *loop, struct dgram_loop_info *info);

/* ---- Sockets: creation --------------------------------------------------------------------- */

/* createSocket's 'udp4' and 'udp6' (manual: dgram.createSocket). */
enum dgram_type {
    DGRAM_UDP4 = 4,
    DGRAM_UDP6 = 6 /* receives from and sends to "::ffff:a.b.c.d" too, unless DGRAM_IPV6_ONLY */
};

/* Facts about one received datagram that a socket may ask for. Reserved: none can be asked yet. */
struct dgram_facts;

/* Bits of dgram_message.flags. */
#define DGRAM_TRUNCATED 0x1u /* the slot was too small: `size` bytes of `real_size` are here */

/*
 * One received datagram (manual: Event 'message'). 64 bytes on 64-bit hosts, and frozen, because
 * arrays of it are handed out. All that it points to is the library's, valid until the handler
 * returns; dgram_message_retain() keeps a message longer.
 */
struct dgram_message {
    const void *data;                /* the payload; not NULL even when empty */
    uint32_t size;                   /* bytes at `data`, 0 to 65,527: Node's `rinfo.size` */
    uint32_t real_size;              /* bytes that were sent to us */
    const struct dgram_addr *from;   /* the sender: Node's `rinfo` */
    const struct dgram_facts *facts; /* NULL */
    uint32_t flags;                  /* DGRAM_TRUNCATED */
    uint32_t reserved0;
    void *owner; /* the library's */
    uint64_t reserved[2];
};

typedef void dgram_message_fn(struct dgram_socket *socket, const struct dgram_message *message,
                              void *user);

/* Bits of dgram_socket_options.flags. */
#define DGRAM_REUSE_ADDR 0x1u /* SO_REUSEADDR, socket(7): several sockets share a multicast port */
#define DGRAM_REUSE_PORT 0x2u /* SO_REUSEPORT, socket(7): the kernel spreads flows over sockets */
#define DGRAM_IPV6_ONLY 0x4u  /* IPV6_V6ONLY, ipv6(7); udp6 only */
#define DGRAM_NO_GRO 0x8u     /* do not ask for UDP_GRO, udp(7) */
#define DGRAM_COPY 0x10u      /* copy the payload of every send, also of those with a callback */

/* For recv_buffer_size and send_buffer_size: keep the kernel's own size. */
#define DGRAM_KERNEL_DEFAULT 0xffffffffu

/* docs/tuning.md tells when to change these, with figures. */
struct dgram_socket_options {
    size_t size;               /* sizeof (struct dgram_socket_options) */
    uint32_t flags;            /* DGRAM_REUSE_ADDR ... */
    uint32_t segments_max;     /* as in the loop's options, for this socket; 0: the loop's */
    uint32_t recv_buffer_size; /* SO_RCVBUF in bytes; default: 4 MiB, as far as the host's
                                  net.core.rmem_max grants them */
    uint32_t send_buffer_size; /* SO_SNDBUF in bytes; default: the kernel's */
    uint64_t queue_limit;      /* bytes that may be queued; default 4 MiB. A datagram is charged its
                                  size plus 64; a datagram that would exceed the limit gets -EAGAIN,
                                  unless the queue is empty. Datagrams that wait for names or for
                                  stalled peers may take half of it */
    dgram_message_fn *on_message; /* the `message` handler: createSocket's callback */
    void *user;                   /* for on_message */
    uint32_t bind_patience_ms;    /* milliseconds, 0 to 1,000, for which dgram_bind() to a port that
                                     is in use blocks and tries again, each millisecond, before it
                                     gives -EADDRINUSE; default 0. A bind to a name does not wait */
    uint32_t reserved0;
};

/*
 * createSocket. Makes an unbound socket; every setter works on it at once. It does not keep the
 * loop alive until it is bound. `options` may be NULL and is not kept. Returns 0; DGRAM_EBADTYPE,
 * DGRAM_EBADOPTIONS, DGRAM_EBADBUFFERSIZE, -E2BIG, DGRAM_ENULL, DGRAM_EFORKED, DGRAM_ENOTRUNNING
 * (the loop is being freed), -EMFILE, -ENFILE, -ENOMEM, -EAFNOSUPPORT, or the errno of an option
 * that the host refuses. Loop thread.
 */
DGRAM_API int dgram_create_socket(struct dgram_loop *loop, uint32_t type,
                                  const struct dgram_socket_options *options,
                                  struct dgram_socket **ret_socket);

/* ---- Sockets: life ------------------------------------------------------------------------- */

/*
 * bind (manual: dgram.bind). `address` is the text of a local IP address or a name; NULL or "" is
 * "all interfaces". Port 0 takes a free one: dgram_address() tells which. `listening` follows in
 * the next turn; a failed bind may be tried again. Does not block, unless the socket has
 * `bind_patience_ms` and the port is in use.
 *
 * A name is looked up first. Until then the socket is neither unbound nor bound
 * (DGRAM_EALREADYBOUND, DGRAM_ENOTBOUND), and its sends wait. A failure is an `error` event
 * ("bind") and completes these sends with the same code.
 *
 * Returns 0; DGRAM_EALREADYBOUND, DGRAM_EBADPORT (above 65,535), DGRAM_EBADADDRESS,
 * DGRAM_EBADFAMILY, DGRAM_EBADINTERFACE, -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ... as bind(2). Loop
 * thread.
 */
DGRAM_API int dgram_bind(struct dgram_socket *socket, uint32_t port, const char *address);

/*
 * address (manual: dgram.address). Tells where the socket is bound; asks the kernel at each call.
 * Returns 0; DGRAM_ENOTBOUND. Loop thread.
 */
DGRAM_API int dgram_address(struct dgram_socket *socket, struct dgram_addr *ret_address);

/* Returns the loop of a socket, NULL for NULL. Valid until `close` has returned. Loop thread. */
DGRAM_API struct dgram_loop *dgram_socket_loop(const struct dgram_socket *socket);

/* A bound socket keeps the loop alive unless it is unref'd; sends under way keep it
 * alive all the same. Valid before bind, idempotent (Node: socket.ref, socket.unref). Return as
 * dgram_close(). Loop thread. */
DGRAM_API int dgram_ref(struct dgram_socket *socket);
DGRAM_API int dgram_unref(struct dgram_socket *socket);

/*
 * close (manual: dgram.close). No `message` follows. Everything else ends like this:
 *
 *     - queued sends get one attempt in this turn, so `send(); close();` delivers;
 *     - datagrams that the kernel does not take then complete with -ECANCELED. So do those that
 *       wait for a name: they are not sent (dgram_end() waits for them);
 *     - datagrams that were received and not delivered, by the kernel too, are counted as
 *       discarded;
 *     - `close` is emitted when the port is free again. Until that handler has returned the handle
 *       answers DGRAM_ENOTRUNNING; then the library frees it.
 *
 * Returns 0; DGRAM_ENOTRUNNING, DGRAM_ENULL, DGRAM_EFORKED. Loop thread.
 */
DGRAM_API int dgram_close(struct dgram_socket *socket);

/*
 * Ends a socket in three steps:
 *
 *     1. It refuses new sends (DGRAM_ENOTRUNNING) and goes on receiving until its queue is empty,
 *        however long back-pressure or a lookup lasts.
 *     2. A socket filter lets nothing new in (SO_ATTACH_FILTER in socket(7); `dropped` counts the
 *        datagrams). Datagrams that the kernel holds already are delivered. Hosts without such a
 *        filter deliver as much as the receive buffer holds at most.
 *     3. The socket closes by itself.
 *
 * A socket that is paused or has no `message` handler by step 2 closes at once, and counts the
 * datagrams that it cannot deliver as discarded. A call of dgram_close() still closes the socket at
 * once, too. An ended socket keeps the loop alive from the moment at which its queue is
 * empty. Returns as dgram_close(), DGRAM_ENOTRUNNING also when it has begun to end. Loop thread.
 */
DGRAM_API int dgram_end(struct dgram_socket *socket);

/* ---- Sockets: events ----------------------------------------------------------------------- */

/* A failure that came after its call had returned (manual: Event 'error'). Valid in the handler
 * only. A receive that fails ("recvmsg") is tried again every millisecond until it works. The first
 * 16 failures in a row are told, and from then on one a second; `errors_lost` counts the others. */
struct dgram_error {
    size_t size;           /* sizeof (struct dgram_error) */
    int code;              /* as returned by functions */
    const char *operation; /* "send", "bind" (with `host` if the name failed), "recvmsg" */
    const struct dgram_addr *address; /* the peer or local address concerned, or NULL */
    const char *host;                 /* the name concerned, in lower case, or NULL */
};

typedef void dgram_error_fn(struct dgram_socket *socket, const struct dgram_error *error,
                            void *user);
typedef void dgram_event_fn(struct dgram_socket *socket, void *user);

/*
 * Each dgram_on_...() of a socket sets one handler; NULL removes it. A handler may be replaced at
 * any time, also from inside itself. All return 0, DGRAM_ENOTRUNNING (after dgram_close(); `close`
 * and `error` may still be replaced until `close` is emitted), DGRAM_ENULL or DGRAM_EFORKED. Loop
 * thread. `drain` stands with sending below, `message` and `messages` with receiving.
 *
 * `listening`  The socket is bound, explicitly or by its first send; dgram_address() is valid. Not
 *              emitted if the socket is closed before. Sends wait for a handler that is set and has
 *              not been called since the bind. So options that the handler sets hold for the first
 *              datagram.
 * `error`      A failure that no call returned and no send callback took. Without a handler the
 *              failure is counted (dgram_socket_stats) and nothing aborts. 1,024 may wait per loop;
 *              further ones are counted only.
 * `close`      The socket's last event: the port is free, every send has completed.
 */
DGRAM_API int dgram_on_listening(struct dgram_socket *socket, dgram_event_fn *fn, void *user);
DGRAM_API int dgram_on_error(struct dgram_socket *socket, dgram_error_fn *fn, void *user);
DGRAM_API int dgram_on_close(struct dgram_socket *socket, dgram_event_fn *fn, void *user);

/* ---- Sending ------------------------------------------------------------------------------- */

/* The largest payload: 65,535 less the UDP header, and less the IP header for IPv4 (manual: "A Note
 * about UDP datagram size"). Larger ones are -EMSGSIZE; nothing is ever cut. */
#define DGRAM_UDP4_SIZE_MAX 65507u
#define DGRAM_UDP6_SIZE_MAX 65527u

/* Completion of one send: `result` is the payload's bytes (0 for an empty datagram) or a negative
 * code. Success means that the kernel took the datagram, not that the peer has it. The bytes are
 * the caller's again (manual: "when buf may be re-used"). */
typedef void dgram_sent_fn(struct dgram_socket *socket, int result, void *user);

/*
 * send (manual: dgram.send). Sends one datagram to a port and the text of an IP address or a host
 * name. An unbound socket is first bound to a free port of all interfaces; `listening` follows. The
 * datagram leaves at the latest at the end of the turn. Datagrams to one peer leave together where
 * the kernel can do that (UDP_SEGMENT, udp(7)). An unconnected socket gets no error where nobody
 * listens at the peer's port (ICMP).
 *
 * Names: NULL or "" is this host (127.0.0.1 or ::1), and so are "localhost" and names that end in
 * ".localhost" (RFC 6761): no server is asked for them. Other names are looked for in /etc/hosts,
 * then by DNS, as resolv.conf(5) and nsswitch.conf(5) say. The first address of the socket's family
 * is taken (udp6: AAAA only). Without `timeout` and `attempts` in resolv.conf a silent server takes
 * 14 s to fail. When that file changes, later questions go by it.
 *
 * A lookup does not block, and all sends to the name share it. A send that comes after 2 s without
 * an answer has the name asked again. The datagram joins the order of its peer when the lookup has
 * an answer. The answer is used for its TTL (256 names, one second at least). A name that failed is
 * not asked for again for a second: sends to it fail with the same code. A lack of this host is no
 * such failure: if no descriptor or memory is left (-EMFILE, -ENFILE, -ENOMEM), or resolv.conf
 * cannot be read (-EACCES, ...), the next send asks again.
 *
 * Ownership: with `fn`, the bytes are borrowed until it is called, unless the socket has
 * DGRAM_COPY. Without `fn`, they are copied before this returns; a failure then is an `error`
 * event. A handler may send a received message on by a socket of its loop, with `fn` as without:
 * the message is copied (a retained message perhaps, too).
 *
 * Returns 0: accepted, completes exactly once (with DGRAM_ENOTFOUND, DGRAM_EDNSTIMEOUT,
 * DGRAM_EDNSFAILED or such an errno if the name has no answer). Else nothing was kept:
 * DGRAM_EBADPORT, DGRAM_EBADADDRESS, DGRAM_EBADFAMILY, DGRAM_EBADINTERFACE, -EMSGSIZE, -EAGAIN (the
 * queue is full, or the part of it that this name or peer may take; `drain` follows), -ENOMEM,
 * DGRAM_ENOTRUNNING, DGRAM_ENULL (data may be NULL if size is 0), or the errno of the implicit
 * bind. Loop thread.
 */
DGRAM_API int dgram_send(struct dgram_socket *socket, const void *data, size_t size, uint32_t port,
                         const char *address, dgram_sent_fn *fn, void *user);

/* dgram_send() to a binary address: a message's `from`, or the result of dgram_addr_parse().
 * Nothing is parsed. Without `fn` the second and further datagrams of one size to one peer go the
 * fastest way (unless a queue limit is less than 2 MiB away). `address` is not kept. */
DGRAM_API int dgram_send_to(struct dgram_socket *socket, const void *data, size_t size,
                            const struct dgram_addr *address, dgram_sent_fn *fn, void *user);

/*
 * Sets the `drain` handler, as the dgram_on_...() above. `drain` is emitted after sends were
 * refused with -EAGAIN, when the refused sends have room:
 *
 *     - the queues of socket and loop have fallen to half their limits, and each of those sends
 *       would fit;
 *     - or a send was refused because of its name or peer, and half of the datagrams that waited
 *       for that name or peer have left.
 */
DGRAM_API int dgram_on_drain(struct dgram_socket *socket, dgram_event_fn *fn, void *user);

/* Return the bytes of payload, and the datagrams, that are accepted and not yet completed (Node:
 * getSendQueueSize, getSendQueueCount), without the overhead that limits charge; 0 for NULL and
 * closed sockets. Loop thread. */
DGRAM_API size_t dgram_get_send_queue_size(const struct dgram_socket *socket);
DGRAM_API size_t dgram_get_send_queue_count(const struct dgram_socket *socket);

/* ---- Sending: destinations ----------------------------------------------------------------- */

/*
 * Makes a destination: a peer to which a program sends again and again. Its text is parsed once. A
 * name is looked up by the first send, and again in the background when its TTL is over; meanwhile
 * the last good address stays in use. A failed lookup is not repeated for a second.
 *
 * A destination belongs to the loop and must be freed before the loop. It may be freed while sends
 * to it wait for the name: they complete.
 *
 * Returns 0; DGRAM_EBADPORT, DGRAM_EBADADDRESS, DGRAM_EBADFAMILY, DGRAM_EBADINTERFACE,
 * DGRAM_EBADTYPE, DGRAM_ENULL, DGRAM_EFORKED, DGRAM_ENOTRUNNING (the loop is being freed), -ENOMEM.
 * Loop thread.
 */
struct dgram_destination;
DGRAM_API int dgram_destination_create(struct dgram_loop *loop, uint32_t type, uint32_t port,
                                       const char *address,
                                       struct dgram_destination **ret_destination);

/* dgram_send() to a destination of the socket's type and loop. Returns also DGRAM_EBADFAMILY and
 * DGRAM_EWRONGLOOP. Loop thread. */
DGRAM_API int dgram_send_dest(struct dgram_socket *socket, const void *data, size_t size,
                              struct dgram_destination *destination, dgram_sent_fn *fn, void *user);

/*
 * Tells where sends to a destination go now: the literal, or the last good address of the name. A
 * program knows an answer by it, or sends from a buffer to it. If no address is known yet, this
 * asks in the background: no event tells of the answer, and the question does not keep the loop
 * alive. (A program that has something to send does so, and learns the answer in the callback.)
 *
 * Returns 0; -EAGAIN until a name has its first answer. If that is a failure (DGRAM_ENOTFOUND,
 * ...), this returns the failure of the last lookup until the name has an address. The lookup is
 * repeated when the failure is a second old, at once after an errno (-EMFILE, ...).
 * DGRAM_ENULL, DGRAM_EFORKED, -ENOMEM. Loop thread.
 */
DGRAM_API int dgram_destination_address(struct dgram_destination *destination,
                                        struct dgram_addr *ret_address);

/* Frees a destination. Accepts NULL, returns NULL. Loop thread. */
DGRAM_API struct dgram_destination *dgram_destination_free(struct dgram_destination *destination);

/* ---- Sending: many at once ----------------------------------------------------------------- */

/* One datagram of dgram_send_many(). Members that are not used are zero. */
struct dgram_outgoing {
    const void *data; /* the payload; or, if `pieces` is set, ignored */
    size_t size;
    const struct iovec *pieces; /* parts that are joined into one datagram; copied in the call */
    size_t piece_count;
    const struct dgram_addr *address; /* where to: one of these two */
    struct dgram_destination *destination;
    void *user;     /* for the callback; NULL: the call's */
    uint32_t flags; /* DGRAM_COPY: do not borrow the payload */
    int32_t status; /* set by the call: 0 accepted, else the code why not */
    uint64_t reserved[2];
};

/*
 * Sends many datagrams. Each item stands for one dgram_send_to() or dgram_send_dest(), with a
 * status of its own: a bad item does not stop the rest. After the first -EAGAIN all others get it
 * too, so that none overtakes another. `fn` is called once for each accepted item. `items` is not
 * kept.
 * Returns how many were accepted, with every status set; or, with none set, DGRAM_ENULL,
 * DGRAM_ENOTRUNNING, DGRAM_EFORKED. Loop thread.
 */
DGRAM_API int dgram_send_many(struct dgram_socket *socket, struct dgram_outgoing *items,
                              size_t count, dgram_sent_fn *fn, void *user);

/* ---- Sending: buffers ---------------------------------------------------------------------- */

/*
 * A buffer: memory in which a program composes datagrams and from which they are sent as they lie,
 * without being copied and without a callback for each. It belongs to a loop; all sockets of the
 * loop may send from it, one part also to several peers.
 *
 * A buffer is *in use* from the first send until nobody reads its memory any more. Meanwhile the
 * bytes that were passed to dgram_send_buffer() must not change; the rest may be written and sent
 * at any time. When the use ends, the `idle` handler is called like all callbacks, once for all
 * sends since the `idle` before: the whole buffer may be filled again. `idle` may come while the
 * program is filling the buffer; the program keeps count of the datagrams that it has composed and
 * not yet sent. Buffers become idle in the order in which they went out of use. A program that
 * never waits has two buffers and fills one while the other is in use.
 *
 * `idle` is about memory only, and says nothing of delivery. Datagrams that wait for room in the
 * kernel are copied, so a buffer may be idle while its datagrams are queued. With zero copy a
 * buffer may be in use when all of them have left, their socket is closed and `close` was emitted.
 *
 * A buffer in use keeps the loop alive. dgram_loop_free() does not wait for it and does not call
 * `idle`; datagrams that have left are sent unchanged all the same.
 *
 * Trains: a peer's datagrams travel together if each begins where the one before it *to that peer*
 * ended, all of one size (a shorter one is the last). Sends to other peers may come between, their
 * bytes may not: give each peer a part of the buffer, or a buffer. Padding records to one size
 * pays; `sent` by `sends` of dgram_socket_stats() tells how long the trains are.
 */
struct dgram_buffer;
typedef void dgram_buffer_fn(struct dgram_buffer *buffer, void *user);

/* Bits of dgram_buffer_options.flags. */

/* Zero copy: the network card reads the buffer itself, on the uring engine with Linux 6.15 and
 * later, for trains of 16 KiB and more. The kernel copies other datagrams as ever, and those that
 * wait for room in the socket's send buffer: give it some MiB (`send_buffer_size`). Pins the memory
 * (ulimit -l). Where the kernel says that it had to copy, as it does for receivers on the same
 * host, that host gets copies for ten seconds. Then zero copy is tried again; dgram_loop_info()
 * counts. */
#define DGRAM_ZERO_COPY 0x1u

struct dgram_buffer_options {
    size_t size;    /* sizeof (struct dgram_buffer_options) */
    uint32_t flags; /* DGRAM_ZERO_COPY */
    uint32_t reserved0;
    dgram_buffer_fn *on_idle; /* the `idle` handler */
    void *user;               /* for on_idle */
};

/*
 * Makes a buffer of `bytes`, 1 to 1 GiB, zeroed. The loop frees it if dgram_buffer_free() does not.
 * `options` may be NULL and is not kept. Returns 0; DGRAM_EBADBUFFERSIZE, DGRAM_EBADOPTIONS,
 * -E2BIG, -ENOMEM, DGRAM_ENULL, DGRAM_EFORKED, DGRAM_ENOTRUNNING (the loop is being freed). Loop
 * thread.
 */
DGRAM_API int dgram_buffer_create(struct dgram_loop *loop, size_t bytes,
                                  const struct dgram_buffer_options *options,
                                  struct dgram_buffer **ret_buffer);

/* Returns the buffer's memory, page-aligned, valid until dgram_buffer_free(); NULL for NULL. Loop
 * thread. */
DGRAM_API void *dgram_buffer_data(struct dgram_buffer *buffer);

/*
 * Sends `size` bytes from `offset` in a buffer of the socket's loop as one datagram, like
 * dgram_send_to() without a callback. A later failure is an `error` event, which does not tell the
 * part. (A program that has to know which datagram failed sends it with dgram_send_to() and a
 * callback.)
 * Returns 0: accepted. Else nothing was kept: -EAGAIN (the queue is full; `drain` follows; go on
 * from here then), DGRAM_EBADRANGE for a part that exceeds the buffer, DGRAM_EWRONGLOOP,
 * DGRAM_EBADPORT, DGRAM_EBADADDRESS, DGRAM_EBADFAMILY, -EMSGSIZE, -ENOMEM, DGRAM_ENOTRUNNING,
 * DGRAM_ENULL, DGRAM_EFORKED, or the errno of the implicit bind. Loop thread.
 */
DGRAM_API int dgram_send_buffer(struct dgram_socket *socket, struct dgram_buffer *buffer,
                                size_t offset, size_t size, const struct dgram_addr *address);

/* Sets the `idle` handler; NULL removes it. Returns 0, DGRAM_ENULL, DGRAM_EFORKED. Loop thread. */
DGRAM_API int dgram_on_idle(struct dgram_buffer *buffer, dgram_buffer_fn *fn, void *user);

/* Tells whether a buffer is in use: from the first send until `idle` is about to be called or,
 * without a handler, until nobody reads the buffer any more. False for NULL and in a forked child.
 * Changes in turns; without a handler in dgram_loop_flush(), too. Loop thread. */
DGRAM_API bool dgram_buffer_in_use(const struct dgram_buffer *buffer);

/*
 * Tells whether DGRAM_ZERO_COPY was granted (dgram_loop_info() tells whether it was of use).
 * Returns 0 if it was, or why the kernel copies: -ENOTSUP (not asked for, or not with this engine),
 * DGRAM_EBADBUFFERSIZE (less than 16 KiB), -ENOMEM (usually RLIMIT_MEMLOCK), -ENOBUFS (64 buffers
 * of the loop have it), -EINVAL (older kernel) or another errno of io_uring_register(2);
 * DGRAM_ENULL, DGRAM_EFORKED. Loop thread.
 */
DGRAM_API int dgram_buffer_zero_copy(const struct dgram_buffer *buffer);

/* Frees a buffer. Its memory goes at once or, if the buffer is in use, when it no longer is:
 * datagrams that were sent leave unchanged. `idle` is not called any more; this may be called in
 * it. The handle and the memory must not be used again. Accepts NULL, returns NULL. Loop thread. */
DGRAM_API struct dgram_buffer *dgram_buffer_free(struct dgram_buffer *buffer);

/* ---- Receiving ----------------------------------------------------------------------------- */

typedef void dgram_messages_fn(struct dgram_socket *socket, const struct dgram_message *messages,
                               size_t count, void *user);

/*
 * Set the handlers of received datagrams, as the dgram_on_...() above.
 *
 * `message`    A datagram came. The socket receives while it is bound and a handler is set. Without
 *              a handler datagrams stay in the receive buffer until that is full. A handler that
 *              removes itself gets no more; the rest of a train waits for the next handler, as
 *              while paused. The handlers of a turn have about 1 ms and 8,192 datagrams. Then
 *              timers and other events come, and the rest of a train in the next turn.
 * `messages`   Datagrams came: arrays of 1 to 256 of a socket, from any senders, in the order in
 *              which they came. An array has as many as were received one after the other. It has
 *              no more than a handler that took long for the last ones may have in its turn.
 *              Replaces `message` while set.
 */
DGRAM_API int dgram_on_message(struct dgram_socket *socket, dgram_message_fn *fn, void *user);
DGRAM_API int dgram_on_messages(struct dgram_socket *socket, dgram_messages_fn *fn, void *user);

/*
 * Stop and restart receiving. Meanwhile datagrams wait in the receive buffer. Datagrams that were
 * taken from it already are delivered first on resume. No `message` comes while paused. Idempotent.
 * Return 0, DGRAM_ENOTRUNNING, DGRAM_ENULL, DGRAM_EFORKED. Loop thread.
 */
DGRAM_API int dgram_pause(struct dgram_socket *socket);
DGRAM_API int dgram_resume(struct dgram_socket *socket);

/*
 * Keeps a message beyond its handler, either by pinning its slot (while slots are plenty and the
 * message fills a fair part of one) or by copying it: retaining never stops receiving. Its `data`
 * and `from` stay valid. `message` may be a copy of the handler's; `*ret_kept` may be copied by
 * value; release it once.
 * Returns 0; -ENOMEM, DGRAM_ENULL. Loop thread, inside the handler that got the message.
 */
DGRAM_API int dgram_message_retain(const struct dgram_message *message,
                                   struct dgram_message *ret_kept);

/* Gives a retained message back; NULL and an already released struct are accepted. Any thread, also
 * after the socket and the loop are gone. */
DGRAM_API void dgram_message_release(struct dgram_message *kept);

/* ---- Counters of a socket ------------------------------------------------------------------ */

struct dgram_socket_stats {
    size_t size;       /* sizeof (struct dgram_socket_stats), set by the caller */
    uint64_t received; /* datagrams delivered to handlers */
    uint64_t received_bytes;
    uint64_t receives;  /* receives of the kernel: datagrams or whole trains */
    uint64_t truncated; /* datagrams that were cut to fit the slot */
    uint64_t discarded; /* datagrams received, be it by the kernel only, but not delivered, because
                           the socket was closed or out of memory before */
    uint64_t sent;      /* datagrams that the kernel took */
    uint64_t sent_bytes;
    uint64_t sends;          /* sends of the kernel: datagrams or whole trains */
    uint64_t trains_refused; /* trains that had to be sent one by one */
    uint64_t parked;         /* datagrams that had to wait for room in the kernel */
    uint64_t send_errors;    /* sends that failed, with and without a callback */
    uint64_t errors_lost;    /* errors that no handler got: there was none, or too many errors */
    uint64_t dropped;        /* datagrams or whole trains that the kernel dropped: for the most part
                                the receive buffer was full, or a checksum was wrong (SO_MEMINFO,
                                Linux 4.12; modulo 2^32); 0 where the host does not tell */
};

/* Tells the counters since creation, final in the `close` handler. One system call. Returns 0;
 * DGRAM_EBADOPTIONS, DGRAM_ENULL, DGRAM_EFORKED. Loop thread; until `close` has returned. */
DGRAM_API int dgram_socket_stats(const struct dgram_socket *socket,
                                 struct dgram_socket_stats *stats);

/* ---- Options ------------------------------------------------------------------------------- */

/*
 * All setters below, those of multicast too, work before and after bind, return 0, the errno of
 * setsockopt(2), or DGRAM_ENOTRUNNING, DGRAM_ENULL, DGRAM_EFORKED, and leave the socket usable when
 * they fail. Loop thread.
 *
 * Options of sending apply to datagrams that are accepted after the call. Datagrams accepted before
 * leave with the old values, unless they still wait for room in the kernel, for a name or for
 * `listening`.
 */

/* setBroadcast: SO_BROADCAST, socket(7). Without it a send to a broadcast address gives -EACCES. */
DGRAM_API int dgram_set_broadcast(struct dgram_socket *socket, bool on);

/* setTTL: 1 to 255 hops, else DGRAM_EBADTTL. IP_TTL, ip(7); on udp6 IPV6_UNICAST_HOPS too. */
DGRAM_API int dgram_set_ttl(struct dgram_socket *socket, int ttl);

/*
 * The receive buffer and the send buffer (Node: setRecvBufferSize ...). The getters return the
 * granted bytes. Linux doubles the size that was asked for and cuts it silently at
 * net.core.rmem_max or wmem_max, socket(7). The setters give DGRAM_EBADBUFFERSIZE for 0 and for
 * more than INT_MAX.
 */
DGRAM_API int dgram_set_recv_buffer_size(struct dgram_socket *socket, uint32_t bytes);
DGRAM_API int dgram_set_send_buffer_size(struct dgram_socket *socket, uint32_t bytes);
DGRAM_API int dgram_get_recv_buffer_size(struct dgram_socket *socket);
DGRAM_API int dgram_get_send_buffer_size(struct dgram_socket *socket);

/* ---- Multicast ----------------------------------------------------------------------------- */

/* setMulticastTTL: 0 to 255 hops, else DGRAM_EBADTTL; 0 stays on this host. IP_MULTICAST_TTL,
 * ip(7); on udp6 IPV6_MULTICAST_HOPS. */
DGRAM_API int dgram_set_multicast_ttl(struct dgram_socket *socket, int ttl);

/* setMulticastLoopback: whether this host receives its own multicasts; on by default.
 * IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP. */
DGRAM_API int dgram_set_multicast_loopback(struct dgram_socket *socket, bool on);

/*
 * Sets the interface by which multicasts leave (Node: setMulticastInterface). An interface here and
 * below is
 *
 *     - its name ("eth0"), or its number ("2", if no interface is named so);
 *     - for groups of IPv4 one of its addresses ("10.0.0.1");
 *     - for groups of IPv6 an address with a zone ("::%eth0"), of which only the zone counts.
 *
 * NULL or "" lets the kernel choose, and so does "0.0.0.0" for groups of IPv4 and "::" for groups
 * of IPv6. DGRAM_EBADINTERFACE for other text. On udp6 without DGRAM_IPV6_ONLY an IPv4 address is
 * about the groups of IPv4 only ("::ffff:239.1.2.3"), "::" about those of IPv6 only, other text
 * about both.
 */
DGRAM_API int dgram_set_multicast_interface(struct dgram_socket *socket,
                                            const char *interface_text);

/*
 * addMembership, dropMembership: join and leave a multicast group. Without an interface the kernel
 * picks one, unless the group carries a zone ("ff02::1%eth0"). A zone that is not the interface
 * that is given is DGRAM_EBADINTERFACE. A udp6 socket without DGRAM_IPV6_ONLY joins groups of IPv4,
 * too: "239.1.2.3" or "::ffff:239.1.2.3", which are the same. A group that another socket of this
 * host joined on another interface is heard as well (IP_MULTICAST_ALL, ip(7)): Linux's default, and
 * Node's.
 *
 * A membership lasts until it is left, also if its interface vanishes. The kernel then keeps and
 * counts it (net.ipv4.igmp_max_memberships), and hears nothing, not even when an interface of the
 * same name comes. A membership is left, whether the interface is there or not,
 *
 *     - by the texts by which it was joined;
 *     - by the name or number that its interface has;
 *     - or without an interface: then the last membership that was joined is left.
 *
 * A join by the same texts, when the interface was made anew, leaves the old membership first. The
 * library forgets its memberships at close, and the kernel leaves all groups then.
 *
 * Membership of an unbound socket binds it to a free port of all interfaces with the next turn,
 * unless the program binds it first. From then on it keeps the loop alive like any bound socket.
 *
 * Return also DGRAM_EBADGROUP, DGRAM_EBADINTERFACE, -ENODEV (no route, so no interface to pick),
 * -EADDRINUSE (joined already), -EADDRNOTAVAIL (not joined), -ENOBUFS (as many as the kernel
 * allows), -ENOMEM. ip(7), ipv6(7), RFC 3678.
 */
DGRAM_API int dgram_add_membership(struct dgram_socket *socket, const char *group,
                                   const char *interface_text);
DGRAM_API int dgram_drop_membership(struct dgram_socket *socket, const char *group,
                                    const char *interface_text);

/* ---- Errors -------------------------------------------------------------------------------- */

/* Library codes. Each tells a mistake that no errno tells as clearly. */
enum dgram_code {
    DGRAM_ENULL = -10001,          /* a pointer that must not be NULL is NULL */
    DGRAM_EBADTYPE = -10002,       /* the socket type is none of enum dgram_type */
    DGRAM_EBADOPTIONS = -10003,    /* an options struct: size too small, or a value out of range */
    DGRAM_EBADPORT = -10004,       /* a port above 65,535, or a peer with port 0 */
    DGRAM_EBADADDRESS = -10005,    /* no IP address, and no well-formed name where a name may stand
                                      ("127.0.0.1:80", "[::1]"); an unusable dgram_addr */
    DGRAM_EBADFAMILY = -10006,     /* an IPv4 address on a udp6 socket, or the reverse */
    DGRAM_EBADTTL = -10007,        /* a TTL out of range */
    DGRAM_EBADGROUP = -10008,      /* not the text of a multicast address of a family that the
                                      socket takes */
    DGRAM_EBADINTERFACE = -10009,  /* not the text of an interface of this host */
    DGRAM_EBADTIME = -10010,       /* a negative delay or interval */
    DGRAM_EBADBUFFERSIZE = -10011, /* a buffer size of 0 or above INT_MAX */
    DGRAM_EALREADYBOUND = -10012,  /* bind on a bound socket */
    DGRAM_ENOTBOUND = -10013,      /* dgram_address() before the socket is bound */
    DGRAM_ENOTRUNNING = -10014,    /* the socket was closed, or has ended */
    DGRAM_EFORKED = -10015,        /* a child process uses its parent's loop */
    DGRAM_EWRONGTHREAD = -10016,   /* a turn on a thread that does not own the loop */
    DGRAM_EREENTERED = -10017,     /* a turn from inside a callback of the same loop */
    DGRAM_EBADENGINE = -10018,     /* an engine name or number that does not exist */
    DGRAM_ENOTFOUND = -10019,      /* the name does not exist, or has no address of the family */
    DGRAM_EDNSTIMEOUT = -10020,    /* no name server answered in time */
    DGRAM_EDNSFAILED = -10021,     /* name servers answered with errors or nonsense, or refused */
    DGRAM_EWRONGLOOP = -10022,     /* a destination or buffer of another loop than the socket's */
    DGRAM_EBADRANGE = -10023       /* a part of a buffer that exceeds it */
};

/* Returns a sentence for a code that this library returned, without a full stop. Never NULL; a
 * static string or strerror(3)'s, which the thread's next call may overwrite. Any thread. */
DGRAM_API const char *dgram_strerror(int code);

/* Returns the symbol of a code: "EADDRINUSE", "DGRAM_EBADPORT"; "OK" for zero and above, "UNKNOWN"
 * for a number that is neither. A static string. Any thread. */
DGRAM_API const char *dgram_error_name(int code);

#ifdef __cplusplus
#pragma GCC diagnostic pop
}
#endif

#endif
