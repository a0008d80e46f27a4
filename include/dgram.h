/* SPDX-License-Identifier: MIT */
/*
 * dgram.h: Node's `dgram` event API for C programs.
 *
 * THE MODEL
 *
 * A *loop* waits for the kernel. A *socket* belongs to one loop for life. A program creates
 * sockets, gives them handlers, and runs the loop; the loop calls the handlers back:
 *
 *     message     a datagram came               listening   the socket is bound and receives
 *     error       something failed later        close       the socket is gone, its port is free
 *     drain       the send queue is low again   sent        one datagram was handed to the network
 *
 * Callbacks run only inside dgram_loop_run() and dgram_loop_turn(), on the thread that called them,
 * and never inside the call that caused them. A callback may call anything in this header: send,
 * bind, replace handlers, close its own or any other socket, stop or free the loop. The single
 * exception to the first rule is dgram_loop_free(): it closes the sockets that are open and
 * completes the sends that are queued before it returns.
 *
 * ERRORS. A function that can fail returns an int: zero or more is success, below zero is an error:
 * a negated errno, or a library code (enum dgram_code, -10001 and below). dgram_strerror() and
 * dgram_error_name() describe both. Parameters called `ret_...` are written on success only. A
 * failure that is known at once is returned at once and reported nowhere else. A later one reaches
 * the callback of the send that failed, or the socket's `error` handler. A NULL handle gives
 * DGRAM_ENULL; a socket that was closed gives DGRAM_ENOTRUNNING until its `close` handler has
 * returned; then the library frees it, and the handle must not be used again.
 *
 * SENDING. A send returns at once and never blocks. A negative return means that it was not
 * accepted: no callback follows and the bytes are still the caller's. Zero means accepted: it
 * completes exactly once. Per socket and destination, datagrams leave in the order of the calls.
 *
 * ENDING. dgram_loop_run() returns when nothing keeps the loop alive. A program that is to end
 * cleanly calls dgram_loop_stop() in its signal handler. When run has returned 1, the program calls
 * dgram_end() on its sockets, frees its timers, and runs the loop again until it returns 0. Queued
 * sends leave, and datagrams that the kernel has received until then are delivered. The final
 * counters are there in `close`. dgram_loop_free() alone is quicker: each queued send gets one
 * attempt, and received datagrams are counted as discarded.
 *
 * THREADS. One loop, one thread: the thread of its first turn owns the loop and all its sockets and
 * timers, for ever. Only dgram_loop_post(), dgram_loop_stop() and dgram_message_release() may be
 * called from other threads; turns find that out (DGRAM_EWRONGTHREAD, also from a thread that got
 * the pthread_t of the owner after its end), anything else is a data race. When the owner has ended
 * and was joined, or will not use the loop any more, one other thread may call dgram_loop_free(),
 * and nothing else. A program that wants more cores runs a loop per core, each with its own socket
 * on the same port (`reuse_port`).
 *
 * A callback has to return: longjmp(3), a C++ exception or pthread_exit(3) must not leave it.
 * pthread_cancel(3) ends a thread in one place of the library: in dgram_loop_run(), between two
 * turns. A turn comes to its end first, its callbacks included, and a loop that sleeps notices when
 * something wakes it: dgram_loop_stop() after pthread_cancel() does. The loop is then as if
 * dgram_loop_run() had returned, and can be freed by the thread's clean-up handlers, or by whoever
 * has joined the thread. pthread_setcancelstate(3) is as before when a function returns.
 *
 * FORK. In a child process only dgram_loop_free() may touch a loop of the parent; every other
 * function answers DGRAM_EFORKED. The parent's loop is not disturbed.
 *
 * STRUCTS THAT MAY GROW begin with `size`, which the caller sets to sizeof the struct. Zero in any
 * other member means "the default". If `size` is larger than this library's struct, the bytes
 * beyond it must be zero; otherwise the call returns -E2BIG, as openat2(2) does. If `size` is
 * smaller, the missing members take their defaults. Structs that are filled in are filled as far as
 * they reach. DGRAM_SIZED() sets `size` and zeroes the rest in any dialect of C and C++, and no
 * compiler warns of it.
 *
 * The manual behind the names is Node's page "UDP / Datagram Sockets"; `createSocket` is
 * dgram_create_socket(), `setMulticastTTL` is dgram_set_multicast_ttl(), and so on.
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
 * Initialises a struct that begins with `size`: sets that and zeroes the other members.
 *
 *     struct dgram_loop_options options = DGRAM_SIZED(struct dgram_loop_options);
 *     options.max_delay_us = 1000;
 *
 * C has designated initialisers for the same: {.size = sizeof(options), .max_delay_us = 1000}. C++
 * has them since C++20 only, and there g++ -Wextra warns of each member that the list leaves out.
 * In C++14 and later it is a constant expression.
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

/* The version of the library that runs, as "0.1.0". A static string. Any thread. */
DGRAM_API const char *dgram_version(void);

/* ---- Errors -------------------------------------------------------------------------------- */

/* Library codes. Each tells a mistake that no errno tells as clearly. */
enum dgram_code {
    DGRAM_ENULL = -10001,          /* a pointer that must not be NULL is NULL */
    DGRAM_EBADTYPE = -10002,       /* the socket type is none of enum dgram_type */
    DGRAM_EBADOPTIONS = -10003,    /* an options struct: size too small, or a value out of range */
    DGRAM_EBADPORT = -10004,       /* a port above 65,535, or a destination port of 0 */
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

/* A sentence for a code that this library returned, without a full stop. Never NULL; a static
 * string or strerror(3)'s, which the thread's next call may overwrite. Any thread. */
DGRAM_API const char *dgram_strerror(int code);

/* The symbol of a code: "EADDRINUSE", "DGRAM_EBADPORT"; "OK" for zero and above, "UNKNOWN" for a
 * number that is neither. A static string. Any thread. */
DGRAM_API const char *dgram_error_name(int code);

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
 * Reads the text of an IPv4 or IPv6 address; IPv6 may carry a zone, "fe80::1%eth0" or "fe80::1%2"
 * (RFC 4007): the whole rest of the text, the name or the number of an interface. Never asks a name
 * server. `port` is in host order, 0 to 65,535. The text has no port and no brackets.
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

/* The port in host order, 0 where there is none: Node's `rinfo.port`. Any thread. */
DGRAM_API uint16_t dgram_addr_port(const struct dgram_addr *address);

/* "IPv4", "IPv6" or "": Node's `rinfo.family`. A static string. Any thread. */
DGRAM_API const char *dgram_addr_family(const struct dgram_addr *address);

/* Whether two addresses name the same peer: family, address, port and zone. Any thread. */
DGRAM_API bool dgram_addr_equal(const struct dgram_addr *one, const struct dgram_addr *two);

/* ---- The loop ------------------------------------------------------------------------------ */

struct dgram_loop;
struct dgram_socket;
struct dgram_timer;

/* The mechanism below the loop. Behaviour is the same on all. */
enum dgram_engine {
    DGRAM_ENGINE_AUTO = 0,  /* as DGRAM_ENGINE in the environment says: "uring", "poll"; without it,
                               or if it is "auto" or empty, the best that works here */
    DGRAM_ENGINE_URING = 1, /* io_uring (Linux 6.0 and later, where it is permitted) */
    DGRAM_ENGINE_POLL = 2   /* readiness: epoll or poll(2) */
};

/*
 * A question of the library to the program's own resolver (Node: the `lookup` option): the address
 * of `host` in family 4 or 6. It is answered by one call of dgram_lookup_answer(), inside the hook
 * or at any time later. `host` is valid until then. Called like all callbacks.
 */
struct dgram_lookup;
typedef void dgram_lookup_fn(struct dgram_loop *loop, struct dgram_lookup *lookup, const char *host,
                             int family, void *user);

/* For `busy_poll_us`: never spin. */
#define DGRAM_BUSY_POLL_OFF UINT32_MAX

struct dgram_loop_options {
    size_t size;           /* sizeof (struct dgram_loop_options) */
    uint32_t engine;       /* enum dgram_engine */
    uint32_t slots;        /* receive slots, 4 to 4,096; default 64 */
    uint32_t slot_size;    /* bytes of payload a slot holds, 512 to 65,536; default 65,536, which
                              holds any datagram or train; smaller ones switch UDP_GRO off */
    uint32_t segments_max; /* datagrams a train may hold, 1 to 128; 1: no trains; default: as many
                              as the kernel takes */
    uint64_t queue_limit;  /* bytes queued by all sockets before sends get -EAGAIN; default 16 MiB;
                             shared as a socket's */
    const char *dns_servers; /* instead of the host's name servers: "192.0.2.1,[2001:db8::1]:53",
                                link-local ones with the zone of an interface: "fe80::1%eth0" */
    const char *resolv_conf; /* another file than /etc/resolv.conf, resolv.conf(5) */
    uint32_t busy_poll_us; /* look so long for datagrams before sleeping: answers in a tenth of the
                              time that a wake-up takes, for a busy core. 0, the default: the loop
                              looks for up to 40 us after a short wait, if it has sent something in
                              the last 10 ms and a trial has shown that a datagram costs less CPU
                              so. Two loops that talk to each other without a pause use a core each,
                              and a fifth of the CPU for an answer. Where requests come at random,
                              looking costs more; it is tried again for 16 to 64 waits each 2.5 s. 1
                              to 1,000,000: before every sleep; a datagram that comes later finds
                              the loop asleep. DGRAM_BUSY_POLL_OFF: never. A turn of timeout 0 does
                              not look: a program that never sleeps calls that again and again */
    uint32_t max_delay_us; /* the delay that the program allows for fewer wake-ups, 1 to 100,000; 0,
                              the default: none. With it the loop gathers whenever the rate of the
                              last 16 datagrams promises three or more in that time: a sleep then
                              lasts so long whatever comes, or until half of a receive buffer is
                              full at that rate. Datagrams, posts and other events are delivered at
                              its end. Timers and timeouts end it. A collector's CPU falls to a
                              third at 20,000 datagrams a second and 1,000. Not where busy_poll_us
                              is 1 to 1,000,000, nor by default in addition to it: a loop with a
                              budget does not spin */
    dgram_lookup_fn *lookup; /* resolves names instead of the library; literals never get there */
    void *lookup_user;
};

/*
 * Makes a loop. It owns no thread and does nothing until it is run. The ring of the uring engine is
 * created here but belongs to the thread of the first turn.
 * `options` may be NULL and is not kept. Free it with dgram_loop_free().
 * Returns 0; DGRAM_EBADENGINE for an engine that does not exist or an unknown name in the
 * environment's DGRAM_ENGINE; the engine's errno where a forced engine does not work here
 * (dgram_engine_probe() tells why); DGRAM_EBADOPTIONS, -E2BIG, -ENOMEM, -EMFILE, -ENFILE.
 */
DGRAM_API int dgram_loop_create(const struct dgram_loop_options *options,
                                struct dgram_loop **ret_loop);

/*
 * Closes every socket, completes every accepted send (a queued one gets one attempt, then
 * -ECANCELED), calls the posts that wait, and emits `close` for each socket. Then it frees the loop
 * with its sockets, timers and buffers. No `message`, timer or lookup comes after the call. The
 * callbacks that do run inside it. Accepts NULL, a loop that never ran, and a loop in one of whose
 * callbacks it is called (then they come while that turn unwinds, and dgram_loop_run() returns 1).
 * Retained messages stay valid. In a forked child it frees memory and closes descriptors only,
 * without callbacks. A signal handler that calls dgram_loop_stop() must be restored before.
 * Returns NULL. Loop thread, or another one when that has ended or is done with the loop (THREADS).
 * All said above holds there, too, on every engine. If the loop thread lives on, or has ended
 * without the destructors of pthread_key_create(3), the uring engine waits until the kernel has
 * taken its ring down before anything is closed: 5 to 12 ms on Linux 6.18, a second at most.
 */
DGRAM_API struct dgram_loop *dgram_loop_free(struct dgram_loop *loop);

/*
 * Turns until nothing keeps the loop alive or it is stopped. It is kept alive by a bound socket
 * that is not unref'd, an accepted send, a socket being closed, a started timer that is not
 * unref'd, a posted function, or a buffer in use.
 * Returns 0 when nothing is left, 1 when stopped, a negative code when the engine failed;
 * DGRAM_EREENTERED, DGRAM_EWRONGTHREAD, DGRAM_EFORKED. A cancellation point between two turns
 * (THREADS). Loop thread; not from a callback.
 */
DGRAM_API int dgram_loop_run(struct dgram_loop *loop);

/*
 * One turn: submits the queued sends, sleeps until something happens or `timeout_ns` nanoseconds
 * have passed (0: not at all; negative: no limit), and runs the callbacks that are due. It does not
 * sleep while callbacks are due, nor when nothing keeps the loop alive. Sends that callbacks queued
 * are submitted before it returns. It may end early with nothing done, after a signal for one;
 * dgram_loop_stop() ends it for sure.
 * Returns 1 while something keeps the loop alive, else 0; errors as dgram_loop_run().
 * Loop thread; not from a callback.
 */
DGRAM_API int dgram_loop_turn(struct dgram_loop *loop, int64_t timeout_ns);

/*
 * Submits every queued send now instead of at the end of the turn, but for those that wait: for
 * room, a name, a `listening` handler. Waits for nothing itself (but tries for up to a second where
 * the kernel has no memory for requests), runs no callback.
 * Works before the first turn, too, and does not make this thread the loop's owner.
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

typedef void dgram_post_fn(struct dgram_loop *loop, void *user);

/*
 * Has the loop call `fn` in one of its next turns, in the order of the posts of each thread. The
 * loop must not be freed meanwhile; posts that wait when it is freed are called then.
 * Returns 0; -EAGAIN when 65,536 posts are waiting, -ENOMEM, DGRAM_ENULL, DGRAM_EFORKED;
 * DGRAM_ENOTRUNNING while the loop is being freed.
 * Any thread; not from a signal handler.
 */
DGRAM_API int dgram_loop_post(struct dgram_loop *loop, dgram_post_fn *fn, void *user);

/*
 * A descriptor for another event loop (epoll, libuv, glib): it is readable whenever
 * dgram_loop_turn(loop, 0) has something to do, timers, posts and queued sends included: the level
 * counts, not the edge (no EPOLLET). One turn each time is enough: work that it leaves keeps the
 * descriptor readable. Only wait on it; never read or close it, and take it out of the outer loop
 * before dgram_loop_free(), which closes it. The first call makes it, which costs a little at each
 * wake-up.
 * Returns the descriptor; -ENOTSUP where the host has only poll(2); -EMFILE, -ENFILE, -ENOMEM.
 * Loop thread.
 */
DGRAM_API int dgram_loop_fd(struct dgram_loop *loop);

/* The loop's clock: CLOCK_MONOTONIC in nanoseconds, read once a turn. 0 for NULL. Loop thread. */
DGRAM_API uint64_t dgram_loop_now(const struct dgram_loop *loop);

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
 * Returns 0 with the report filled, whatever it says; DGRAM_EBADENGINE for AUTO and unknown
 * numbers, DGRAM_EBADOPTIONS for a report whose size is too small, DGRAM_ENULL. Any thread.
 */
DGRAM_API int dgram_engine_probe(uint32_t engine, struct dgram_engine_report *report);

struct dgram_loop_info {
    size_t size;           /* sizeof (struct dgram_loop_info), set by the caller */
    uint32_t engine;       /* the engine that runs */
    uint32_t segments_max; /* datagrams a train may hold */
    uint32_t slots;        /* receive slots of the pool */
    uint32_t slot_size;    /* bytes of payload a slot holds */
    const char *name;      /* "uring", "poll" */
    int32_t refused_code;  /* 0, or why the engine preferred by AUTO was passed over */
    uint32_t slots_free;   /* slots that hold no received data */
    const char *refused_call;
    const char *refused_advice;
    uint64_t turns;          /* turns so far */
    uint64_t flushes;        /* hand-overs of queued sends to the kernel */
    const char *failed_call; /* the system call by which the engine failed last; "": it did not */
    int32_t failed_code;     /* its negated errno, as a turn, run or flush returned it */
    uint32_t reserved0;
    uint64_t zero_copy_sends;  /* trains handed over to be sent without a copy; of these, when the
                                  kernel has let go of them (all have, when no buffer is in use): */
    uint64_t zero_copy_copied; /* it copied all the same, */
    uint64_t zero_copy_spared; /* it did not */
};

/*
 * Answers a lookup: `code` 0 with an address of the asked family (its port is ignored), good for
 * `ttl_seconds` (one at least), or a negative code, for instance DGRAM_ENOTFOUND, remembered as
 * long (an errno, -ENOMEM for instance, and DGRAM_EBADFAMILY are not: they tell nothing of the
 * name). The lookup is gone then. Valid also after the loop was freed. Returns 0; DGRAM_EBADFAMILY
 * (the lookup is gone all the same, and fails with it); DGRAM_EFORKED (gone, too); DGRAM_ENULL
 * (nothing happened: it must still be answered). Loop thread.
 */
DGRAM_API int dgram_lookup_answer(struct dgram_lookup *lookup, int code,
                                  const struct dgram_addr *address, uint32_t ttl_seconds);

/* Tells which engine the loop runs on, and its counters. Returns 0; DGRAM_ENULL, DGRAM_EBADOPTIONS,
 * DGRAM_EFORKED. Loop thread. */
DGRAM_API int dgram_loop_info(struct dgram_loop *loop, struct dgram_loop_info *info);

/* ---- Timers -------------------------------------------------------------------------------- */

typedef void dgram_timer_fn(struct dgram_timer *timer, void *user);

/*
 * Makes a stopped timer. It belongs to the loop, which frees it if dgram_timer_free() does not.
 * Returns 0; -ENOMEM, DGRAM_ENULL, DGRAM_EFORKED, DGRAM_ENOTRUNNING (the loop is being freed). Loop
 * thread.
 */
DGRAM_API int dgram_timer_create(struct dgram_loop *loop, dgram_timer_fn *fn, void *user,
                                 struct dgram_timer **ret_timer);

/*
 * Starts or restarts: `fn` is called `delay_ns` from now (the real time, not dgram_loop_now()),
 * then every `interval_ns` (0: once). A period that passed unserved is skipped, not made up for.
 * Never calls `fn` early; allocates nothing. Returns 0; DGRAM_EBADTIME for negative times,
 * DGRAM_ENULL, DGRAM_EFORKED, DGRAM_ENOTRUNNING (the loop is being freed). Loop thread.
 */
DGRAM_API int dgram_timer_start(struct dgram_timer *timer, int64_t delay_ns, int64_t interval_ns);

/* Stops; no call follows. A stopped timer may be started again. Loop thread. */
DGRAM_API int dgram_timer_stop(struct dgram_timer *timer);

/* A started timer keeps dgram_loop_run() running unless it is unref'd. Idempotent. These three
 * return 0, DGRAM_ENULL or DGRAM_EFORKED. Loop thread. */
DGRAM_API int dgram_timer_ref(struct dgram_timer *timer);
DGRAM_API int dgram_timer_unref(struct dgram_timer *timer);

/* Stops and frees, its own callback included. Accepts NULL, returns NULL. Loop thread. */
DGRAM_API struct dgram_timer *dgram_timer_free(struct dgram_timer *timer);

/* ---- Sockets: creation and life ------------------------------------------------------------ */

/* createSocket's 'udp4' and 'udp6' (manual: dgram.createSocket). */
enum dgram_type {
    DGRAM_UDP4 = 4,
    DGRAM_UDP6 = 6 /* receives from and sends to "::ffff:a.b.c.d" too, unless ipv6_only */
};

/* Facts about one received datagram that a socket may ask for. Reserved: none can be asked yet. */
struct dgram_facts;

/* Bits of dgram_message.flags. */
#define DGRAM_TRUNCATED 0x1u /* the slot was too small: `size` bytes of `real_size` are here */

/*
 * One received datagram (manual: Event 'message'). 64 bytes on 64-bit hosts, and frozen, because
 * arrays of it are handed out. All that it points to is the library's, valid until the handler
 * returns; see dgram_message_retain().
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

typedef void dgram_message_fn(struct dgram_socket *socket, const struct dgram_message *message,
                              void *user);
typedef void dgram_messages_fn(struct dgram_socket *socket, const struct dgram_message *messages,
                               size_t count, void *user);
typedef void dgram_error_fn(struct dgram_socket *socket, const struct dgram_error *error,
                            void *user);
typedef void dgram_event_fn(struct dgram_socket *socket, void *user);

/* Completion of one send: `result` is the payload's bytes (0 for an empty datagram) or a negative
 * code. "Sent" means that the kernel took it, not that the peer has it; the bytes are the caller's
 * again (manual: "when buf may be re-used"). */
typedef void dgram_sent_fn(struct dgram_socket *socket, int result, void *user);

/* Bits of dgram_socket_options.flags. */
#define DGRAM_REUSE_ADDR 0x1u /* SO_REUSEADDR, socket(7): several sockets share a multicast port */
#define DGRAM_REUSE_PORT 0x2u /* SO_REUSEPORT, socket(7): the kernel spreads flows over sockets */
#define DGRAM_IPV6_ONLY 0x4u  /* IPV6_V6ONLY, ipv6(7); udp6 only */
#define DGRAM_NO_GRO 0x8u     /* do not ask for UDP_GRO, udp(7) */
#define DGRAM_COPY 0x10u      /* copy the payload of every send, also of those with a callback */

/* For recv_buffer_size and send_buffer_size: keep the kernel's own size. */
#define DGRAM_KERNEL_DEFAULT 0xffffffffu

struct dgram_socket_options {
    size_t size;               /* sizeof (struct dgram_socket_options) */
    uint32_t flags;            /* DGRAM_REUSE_ADDR ... */
    uint32_t segments_max;     /* as in the loop's options, for this socket; 0: the loop's */
    uint32_t recv_buffer_size; /* SO_RCVBUF in bytes; default: 4 MiB, as far as the host's
                                  net.core.rmem_max grants them */
    uint32_t send_buffer_size; /* SO_SNDBUF in bytes; default: the kernel's */
    uint64_t queue_limit;      /* bytes that may be queued; default 4 MiB. A datagram is charged its
                                  size plus 64; one that would exceed the limit gets -EAGAIN, unless
                                  the queue is empty. Datagrams that wait for names, or for
                                  destinations without room in the kernel (ENOBUFS), may take half
                                  of it, so that they keep nobody else out. One name or destination
                                  may take four fifths of that half, and less the more others wait.
                                  Datagrams that were queued before their destination had no room
                                  count as that half at the most, so there may be one and a half
                                  times the limit in all */
    dgram_message_fn *on_message; /* the `message` handler: createSocket's callback */
    void *user;                   /* for on_message */
    uint32_t bind_patience_ms;    /* dgram_bind() to a port that is in use blocks for so many
                                     milliseconds and tries again each millisecond, before it gives
                                     -EADDRINUSE: 0, the default, to 1,000. A process that ends
                                     without dgram_loop_free(), killed for one, keeps the ports of
                                     its uring loops for some 10 ms: the kernel takes rings down in
                                     the background. A program that restarts it needs 100. A bind to
                                     a name does not wait */
    uint32_t reserved0;
};

/*
 * createSocket. Makes an unbound socket; every setter works on it at once. It does not keep the
 * loop running until it is bound. `options` may be NULL and is not kept. Returns 0; DGRAM_EBADTYPE,
 * DGRAM_EBADOPTIONS, DGRAM_EBADBUFFERSIZE, -E2BIG, DGRAM_ENULL, DGRAM_EFORKED, DGRAM_ENOTRUNNING
 * (the loop is being freed), -EMFILE, -ENFILE, -ENOMEM, -EAFNOSUPPORT, or the errno of an option
 * that the host refuses. Loop thread.
 */
DGRAM_API int dgram_create_socket(struct dgram_loop *loop, uint32_t type,
                                  const struct dgram_socket_options *options,
                                  struct dgram_socket **ret_socket);

/*
 * bind (manual: dgram.bind). `address` is the text of a local IP address or a name; NULL or "" is
 * "all interfaces". Port 0 takes a free one: dgram_address() tells which. `listening` follows in
 * the next turn; a failed bind may be tried again. A name is looked up first. Until then the socket
 * is neither unbound nor bound (DGRAM_EALREADYBOUND, DGRAM_ENOTBOUND) and its sends wait. A failure
 * is an `error` event ("bind") that completes them with the same code. Does not block, unless the
 * socket has `bind_patience_ms` and the port is in use.
 * Returns 0; DGRAM_EALREADYBOUND, DGRAM_EBADPORT (above 65,535), DGRAM_EBADADDRESS,
 * DGRAM_EBADFAMILY, DGRAM_EBADINTERFACE, -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ... as bind(2). Loop
 * thread.
 */
DGRAM_API int dgram_bind(struct dgram_socket *socket, uint32_t port, const char *address);

/*
 * address (manual: dgram.address). Where the socket is bound; asked from the kernel at each call.
 * Returns 0; DGRAM_ENOTBOUND. Loop thread.
 */
DGRAM_API int dgram_address(struct dgram_socket *socket, struct dgram_addr *ret_address);

/*
 * close (manual: dgram.close). No `message` follows. Sends that are queued get one attempt in this
 * turn, so `send(); close();` delivers. Datagrams that the kernel does not take then complete with
 * -ECANCELED. So do those that wait for a name: they are not sent (dgram_end() waits for them).
 * Datagrams that were received and not delivered, by the kernel too, are counted as discarded. Then
 * `close` is emitted, when the port is free again. Until that handler has returned the handle
 * answers DGRAM_ENOTRUNNING; then the library frees it.
 * Returns 0; DGRAM_ENOTRUNNING, DGRAM_ENULL, DGRAM_EFORKED. Loop thread.
 */
DGRAM_API int dgram_close(struct dgram_socket *socket);

/*
 * Refuses new sends (DGRAM_ENOTRUNNING) and goes on receiving until the queue is empty, however
 * long back-pressure or a lookup lasts. Then a socket filter lets nothing new in (SO_ATTACH_FILTER
 * in socket(7); `dropped` counts it), the datagrams that the kernel has received are delivered, and
 * the socket closes by itself. Hosts without such a filter deliver as much as the receive buffer
 * holds at most. A socket that is paused or has no `message` handler by then closes at once and
 * counts the datagrams that it cannot deliver as discarded; dgram_close() still closes at once,
 * too. An ended socket keeps dgram_loop_run() running from the moment at which its queue is empty.
 * Returns as dgram_close(), DGRAM_ENOTRUNNING also when it has begun to end. Loop thread.
 */
DGRAM_API int dgram_end(struct dgram_socket *socket);

/* A bound socket keeps dgram_loop_run() running unless it is unref'd; sends under way keep it
 * running all the same. Valid before bind, idempotent (Node: socket.ref, socket.unref). Return as
 * dgram_close(). Loop thread. */
DGRAM_API int dgram_ref(struct dgram_socket *socket);
DGRAM_API int dgram_unref(struct dgram_socket *socket);

/* The loop of a socket, NULL for NULL. Valid until `close` has returned. Loop thread. */
DGRAM_API struct dgram_loop *dgram_socket_loop(const struct dgram_socket *socket);

/* ---- Events -------------------------------------------------------------------------------- */

/*
 * Each sets one handler; NULL removes it; it may be replaced at any time, also from inside itself.
 * All return 0, DGRAM_ENOTRUNNING (after dgram_close(); `close` and `error` may still be replaced
 * until `close` is emitted), DGRAM_ENULL or DGRAM_EFORKED. Loop thread.
 *
 * message    a datagram. The socket receives while it is bound and a handler is set; without one
 *            datagrams stay in the kernel's buffer until that is full. A handler that removes
 *            itself gets no more; the rest of a train waits for the next one, as while paused.
 *            The handlers of a turn have about 1 ms and 8,192 datagrams; then timers and other
 *            events come, and the rest of a train in the next turn.
 * messages   the same in arrays of 1 to 256 datagrams of a socket, in the order in which they came,
 *            from any senders: as many as were received one after the other, but no more than
 *            a handler that took long for the last ones may have in its turn; replaces `message`
 *            while set.
 * listening  the socket is bound, explicitly or by its first send; dgram_address() is valid. Not
 *            emitted if the socket is closed before. While a handler is set and has not been called
 *            since the bind, sends wait for it: options that it sets hold for the first datagram.
 * error      a failure that no call returned and no send callback took. Without a handler it is
 *            counted (dgram_socket_stats) and nothing aborts. 1,024 may wait per loop; further
 *            ones are counted only.
 * drain      sends were refused with -EAGAIN; now the queues of socket and loop have fallen to half
 *            their limits, and each of those sends would fit; or the name or destination that
 *            refused one has sent half of what it held.
 * close      the socket's last event: the port is free, every send has completed.
 */
DGRAM_API int dgram_on_message(struct dgram_socket *socket, dgram_message_fn *fn, void *user);
DGRAM_API int dgram_on_messages(struct dgram_socket *socket, dgram_messages_fn *fn, void *user);
DGRAM_API int dgram_on_listening(struct dgram_socket *socket, dgram_event_fn *fn, void *user);
DGRAM_API int dgram_on_error(struct dgram_socket *socket, dgram_error_fn *fn, void *user);
DGRAM_API int dgram_on_drain(struct dgram_socket *socket, dgram_event_fn *fn, void *user);
DGRAM_API int dgram_on_close(struct dgram_socket *socket, dgram_event_fn *fn, void *user);

/* ---- Sending ------------------------------------------------------------------------------- */

/* The largest payload: 65,535 less the UDP header, and less the IP header for IPv4 (manual: "A Note
 * about UDP datagram size"). Larger ones are -EMSGSIZE; nothing is ever cut. */
#define DGRAM_UDP4_SIZE_MAX 65507u
#define DGRAM_UDP6_SIZE_MAX 65527u

/*
 * send (manual: dgram.send). One datagram to a port and the text of an IP address or a host name;
 * NULL or "" is this host (127.0.0.1 or ::1), and so are "localhost" and names that end in
 * ".localhost" (RFC 6761): no server is asked for them. Others are looked for in /etc/hosts, then
 * by DNS, as resolv.conf(5) and nsswitch.conf(5) say: the first address of the socket's family
 * (udp6: AAAA only) is taken, and without `timeout` and `attempts` there a silent server takes 14 s
 * to fail. A name is looked up without blocking, once for all sends that wait for it; a send that
 * comes after 2 s without an answer has it asked again. The answer is used for its TTL (256 names,
 * one second at least); the datagram joins the order of its destination when the name is resolved.
 * A name that failed is not asked for again for a second: sends to it fail with the same code. A
 * lack of this host is no such failure: if no descriptor or memory is left (-EMFILE, -ENFILE,
 * -ENOMEM), or resolv.conf cannot be read (-EACCES, ...), the next send asks again. When that file
 * changes, later questions go by it. An unbound socket is first bound to a free port of all
 * interfaces; `listening` follows. The datagram leaves at the latest at the end of the turn;
 * datagrams to one peer leave together where the kernel can do that (UDP_SEGMENT, udp(7)). That a
 * peer does not listen (ICMP) is no error of an unconnected socket.
 *
 * Ownership: with `fn`, the bytes are borrowed until it is called, unless the socket has
 * DGRAM_COPY. Without, they are copied before this returns; a failure then is an `error` event. A
 * received message may be sent on by a socket of its loop in its handler, with `fn` as without: it
 * is copied (a retained one perhaps, too).
 *
 * Returns 0: accepted, completes exactly once (with DGRAM_ENOTFOUND, DGRAM_EDNSTIMEOUT,
 * DGRAM_EDNSFAILED or such an errno if the name has no answer). Else nothing was kept:
 * DGRAM_EBADPORT, DGRAM_EBADADDRESS, DGRAM_EBADFAMILY, DGRAM_EBADINTERFACE, -EMSGSIZE, -EAGAIN (the
 * queue is full, or the part of it that this name or destination may take; `drain` follows),
 * -ENOMEM, DGRAM_ENOTRUNNING, DGRAM_ENULL (data may be NULL if size is 0), or the errno of the
 * implicit bind. Loop thread.
 */
DGRAM_API int dgram_send(struct dgram_socket *socket, const void *data, size_t size, uint32_t port,
                         const char *address, dgram_sent_fn *fn, void *user);

/* The same to a binary address: a message's `from`, or the result of dgram_addr_parse(). Nothing is
 * parsed, and without `fn` the second and further datagrams of one size to one peer go the fastest
 * way (unless a queue limit is less than 2 MiB away). `address` is not kept. */
DGRAM_API int dgram_send_to(struct dgram_socket *socket, const void *data, size_t size,
                            const struct dgram_addr *address, dgram_sent_fn *fn, void *user);

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
 * too, so that none overtakes another. `fn` is called once for each accepted item. Returns how many
 * were accepted, with every status set; or, with none set, DGRAM_ENULL, DGRAM_ENOTRUNNING,
 * DGRAM_EFORKED. `items` is not kept. Loop thread.
 */
DGRAM_API int dgram_send_many(struct dgram_socket *socket, struct dgram_outgoing *items,
                              size_t count, dgram_sent_fn *fn, void *user);

/*
 * A destination that is used again and again: parsed once; a name is looked up by the first send,
 * and again in the background when its TTL is over, while the last good address stays in use. It
 * belongs to the loop and must be freed before it. It may be freed while sends to it wait for the
 * name: they complete. A failed lookup is not repeated for a second.
 * Returns 0; DGRAM_EBADPORT, DGRAM_EBADADDRESS, DGRAM_EBADFAMILY, DGRAM_EBADINTERFACE,
 * DGRAM_EBADTYPE, DGRAM_ENULL, DGRAM_EFORKED, DGRAM_ENOTRUNNING (the loop is being freed), -ENOMEM.
 * Loop thread.
 */
struct dgram_destination;
DGRAM_API int dgram_destination_create(struct dgram_loop *loop, uint32_t type, uint32_t port,
                                       const char *address,
                                       struct dgram_destination **ret_destination);

/*
 * Where sends to it go now: the literal, or the last good address of the name, to know an answer by
 * or to send from a buffer. If none is known yet, this asks in the background: no event tells of
 * the answer, and it does not keep the loop running. (Whoever has something to send does so, and
 * learns it in the callback.)
 * Returns 0; -EAGAIN until a name has its first answer; then, until it has an address, the failure
 * of the last lookup (DGRAM_ENOTFOUND, ...), which is repeated when it is a second old, at once
 * after an errno (-EMFILE, ...);
 * DGRAM_ENULL, DGRAM_EFORKED, -ENOMEM. Loop thread.
 */
DGRAM_API int dgram_destination_address(struct dgram_destination *destination,
                                        struct dgram_addr *ret_address);

/* Accepts NULL, returns NULL. Loop thread. */
DGRAM_API struct dgram_destination *dgram_destination_free(struct dgram_destination *destination);

/* dgram_send() to a destination of the socket's type and loop: also DGRAM_EBADFAMILY and
 * DGRAM_EWRONGLOOP. */
DGRAM_API int dgram_send_dest(struct dgram_socket *socket, const void *data, size_t size,
                              struct dgram_destination *destination, dgram_sent_fn *fn, void *user);

/*
 * A buffer: memory in which a program composes datagrams and from which they are sent as they lie,
 * without being copied and without a callback for each. It belongs to a loop; all sockets of the
 * loop may send from it, one part also to several peers.
 *
 * A buffer is *in use* from the first send until nobody reads its memory any more. Meanwhile the
 * bytes that were passed to dgram_send_buffer() must not change; the rest may be written and sent
 * at any time. Then `idle` is called, like all callbacks, once for all sends since the one before
 * it: the whole buffer may be filled again. `idle` may come while the program is filling the
 * buffer; the program keeps count of the datagrams that it has composed and not yet sent. Buffers
 * become idle in the order in which they went out of use. A program that never waits has two and
 * fills one while the other is in use.
 *
 * `idle` is about memory only. It says nothing of delivery: datagrams that wait for room in the
 * kernel are copied, so a buffer may be idle while its datagrams are queued; and with zero copy it
 * may be in use when all of them have left, their socket is closed and `close` was emitted. A
 * buffer in use keeps dgram_loop_run() running. dgram_loop_free() does not wait for it and does not
 * call `idle`; datagrams that have left are sent unchanged all the same.
 *
 * Trains: a peer's datagrams travel together if each begins where the one before it *to that peer*
 * ended, all of one size (a shorter one is the last). Sends to other peers may come between, their
 * bytes may not: give each peer a part of the buffer, or a buffer. Padding records to one size
 * pays; `sent` by `sends` of dgram_socket_stats() tells how long the trains are.
 */
struct dgram_buffer;
typedef void dgram_buffer_fn(struct dgram_buffer *buffer, void *user);

/* Bits of dgram_buffer_options.flags. */

/* Have the network card read the buffer itself, where that is possible: on the uring engine with
 * Linux 6.15 and later, for trains of 16 KiB and more; the kernel copies others as ever, and also
 * those that wait for room in the socket's send buffer: give it some MiB (`send_buffer_size`). It
 * pins the memory (ulimit -l). Where the kernel says that it had to copy, as it does for receivers
 * on the same host, that host gets copies for ten seconds. Then it is tried again;
 * dgram_loop_info() counts. */
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

/* Its memory, page-aligned, valid until dgram_buffer_free(); NULL for NULL. Loop thread. */
DGRAM_API void *dgram_buffer_data(struct dgram_buffer *buffer);

/* Sets the `idle` handler; NULL removes it. Returns 0, DGRAM_ENULL, DGRAM_EFORKED. Loop thread. */
DGRAM_API int dgram_on_idle(struct dgram_buffer *buffer, dgram_buffer_fn *fn, void *user);

/* Whether it is in use: from the first send until `idle` is about to be called or, without a
 * handler, until nobody reads it any more. False for NULL and in a forked child. Changes in turns;
 * without a handler in dgram_loop_flush(), too. Loop thread. */
DGRAM_API bool dgram_buffer_in_use(const struct dgram_buffer *buffer);

/*
 * Whether DGRAM_ZERO_COPY was granted (dgram_loop_info() tells whether it was of use): 0, or why
 * the kernel copies: -ENOTSUP (not asked for, or not with this engine), DGRAM_EBADBUFFERSIZE (less
 * than 16 KiB), -ENOMEM (usually RLIMIT_MEMLOCK), -ENOBUFS (64 buffers of the loop have it),
 * -EINVAL (older kernel) or another errno of io_uring_register(2); DGRAM_ENULL, DGRAM_EFORKED. Loop
 * thread.
 */
DGRAM_API int dgram_buffer_zero_copy(const struct dgram_buffer *buffer);

/* Frees it; its memory at once or, if it is in use, when it no longer is: datagrams that were sent
 * leave unchanged. `idle` is not called any more; this may be called in it. The handle and the
 * memory must not be used again. Accepts NULL, returns NULL. Loop thread. */
DGRAM_API struct dgram_buffer *dgram_buffer_free(struct dgram_buffer *buffer);

/*
 * Sends `size` bytes from `offset` in a buffer of the socket's loop as one datagram, like
 * dgram_send_to() without a callback: a later failure is an `error` event, which does not tell the
 * part. (A program that has to know which datagram failed sends it with dgram_send_to() and a
 * callback.)
 * Returns 0: accepted. Else nothing was kept: -EAGAIN (the queue is full; `drain` follows; go on
 * from here then), DGRAM_EBADRANGE for a part that exceeds the buffer, DGRAM_EWRONGLOOP,
 * DGRAM_EBADPORT, DGRAM_EBADADDRESS, DGRAM_EBADFAMILY, -EMSGSIZE, -ENOMEM, DGRAM_ENOTRUNNING,
 * DGRAM_ENULL, DGRAM_EFORKED, or the errno of the implicit bind. Loop thread.
 */
DGRAM_API int dgram_send_buffer(struct dgram_socket *socket, struct dgram_buffer *buffer,
                                size_t offset, size_t size, const struct dgram_addr *address);

/* Bytes of payload and datagrams accepted and not yet completed (Node: getSendQueueSize,
 * getSendQueueCount), without the overhead that limits charge; 0 for NULL and closed sockets. Loop
 * thread. */
DGRAM_API size_t dgram_get_send_queue_size(const struct dgram_socket *socket);
DGRAM_API size_t dgram_get_send_queue_count(const struct dgram_socket *socket);

/* ---- Receiving ----------------------------------------------------------------------------- */

/*
 * Stops and restarts receiving; datagrams wait in the kernel's buffer meanwhile, and those already
 * taken from it are delivered first on resume. No `message` comes while paused. Idempotent.
 * Return 0, DGRAM_ENOTRUNNING, DGRAM_ENULL, DGRAM_EFORKED. Loop thread.
 */
DGRAM_API int dgram_pause(struct dgram_socket *socket);
DGRAM_API int dgram_resume(struct dgram_socket *socket);

/*
 * Keeps a message beyond its handler, either by pinning its slot (while slots are plenty and the
 * message fills a fair part of one) or by copying it: retaining never stops receiving. Its `data`
 * and `from` stay valid. `message` may be a copy of what the handler got; `*ret_kept` may be copied
 * by value; release it once.
 * Returns 0; -ENOMEM, DGRAM_ENULL. Loop thread, inside the handler that got the message.
 */
DGRAM_API int dgram_message_retain(const struct dgram_message *message,
                                   struct dgram_message *ret_kept);

/* Gives a retained message back; NULL and an already released struct are accepted. Any thread, also
 * after the socket and the loop are gone. */
DGRAM_API void dgram_message_release(struct dgram_message *kept);

struct dgram_socket_stats {
    size_t size;       /* sizeof (struct dgram_socket_stats), set by the caller */
    uint64_t received; /* datagrams delivered to handlers */
    uint64_t received_bytes;
    uint64_t receives;  /* receives of the kernel: datagrams or whole trains */
    uint64_t truncated; /* datagrams that were cut to fit the slot */
    uint64_t discarded; /* received, be it by the kernel only, but closed or out of memory before
                           delivery */
    uint64_t sent;      /* datagrams that the kernel took */
    uint64_t sent_bytes;
    uint64_t sends;          /* sends of the kernel: datagrams or whole trains */
    uint64_t trains_refused; /* trains that had to be sent one by one */
    uint64_t parked;         /* datagrams that had to wait for room in the kernel */
    uint64_t send_errors;    /* sends that failed, with and without a callback */
    uint64_t errors_lost;    /* errors that no handler got: there was none, or too many errors */
    uint64_t dropped;        /* by the kernel before we saw them, datagrams or whole trains: the
                                receive buffer was full, for the most part, or a checksum was wrong
                                (SO_MEMINFO, Linux 4.12; modulo 2^32); 0 where the host does not
                                tell */
};

/* Counters since creation, final in the `close` handler. One system call. Returns 0;
 * DGRAM_EBADOPTIONS, DGRAM_ENULL, DGRAM_EFORKED. Loop thread; until `close` has returned. */
DGRAM_API int dgram_socket_stats(const struct dgram_socket *socket,
                                 struct dgram_socket_stats *stats);

/* ---- Options ------------------------------------------------------------------------------- */

/* Options of sending apply to datagrams that are accepted after the call. Datagrams accepted before
 * leave with the old values, unless they still wait for room in the kernel, for a name or for
 * `listening`.
 * All work before and after bind, return 0, the errno of setsockopt(2), or DGRAM_ENOTRUNNING,
 * DGRAM_ENULL, DGRAM_EFORKED, and leave the socket usable when they fail. Loop thread. */

/* setBroadcast: SO_BROADCAST, socket(7). Without it a send to a broadcast address gives -EACCES. */
DGRAM_API int dgram_set_broadcast(struct dgram_socket *socket, bool on);

/* setTTL: 1 to 255 hops, else DGRAM_EBADTTL. IP_TTL, ip(7); on udp6 IPV6_UNICAST_HOPS too. */
DGRAM_API int dgram_set_ttl(struct dgram_socket *socket, int ttl);

/* setMulticastTTL: 0 to 255 hops, else DGRAM_EBADTTL; 0 stays on this host. IP_MULTICAST_TTL,
 * ip(7); on udp6 IPV6_MULTICAST_HOPS. */
DGRAM_API int dgram_set_multicast_ttl(struct dgram_socket *socket, int ttl);

/* setMulticastLoopback: whether this host receives its own multicasts; on by default.
 * IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP. */
DGRAM_API int dgram_set_multicast_loopback(struct dgram_socket *socket, bool on);

/*
 * Which interface multicasts leave by (Node: setMulticastInterface). An interface here and below
 * is: its name ("eth0") or its number ("2", if no interface is named so); for groups of IPv4 one of
 * its addresses ("10.0.0.1"); for groups of IPv6 an address with a zone ("::%eth0"), of which only
 * the zone counts. NULL or "" lets the kernel choose, and so does "0.0.0.0" for groups of IPv4 and
 * "::" for groups of IPv6. DGRAM_EBADINTERFACE for other text. On udp6 without DGRAM_IPV6_ONLY an
 * IPv4 address is about the groups of IPv4 only ("::ffff:239.1.2.3"), "::" about those of IPv6
 * only, the rest about both.
 */
DGRAM_API int dgram_set_multicast_interface(struct dgram_socket *socket,
                                            const char *interface_text);

/*
 * addMembership, dropMembership: join and leave a multicast group. Without an interface the kernel
 * picks one, unless the group carries a zone ("ff02::1%eth0"); a zone that is not the interface
 * that is given is DGRAM_EBADINTERFACE. A udp6 socket without DGRAM_IPV6_ONLY joins groups of IPv4,
 * too: "239.1.2.3" or "::ffff:239.1.2.3", which are the same. A group that another socket of this
 * host joined on another interface is heard as well (IP_MULTICAST_ALL, ip(7)): Linux's default, and
 * Node's.
 *
 * A membership lasts until it is left, also if its interface vanishes; the kernel then keeps and
 * counts it (net.ipv4.igmp_max_memberships), and hears nothing, not even when an interface of the
 * same name comes. It is left by the texts by which it was joined, by the name or number that its
 * interface has, or without an interface, then the last that was joined; whether the interface is
 * there or not. To join again by the same texts, when the interface was made anew, leaves the old
 * one first. The library forgets its memberships at close.
 *
 * Membership of an unbound socket binds it to a free port of all interfaces with the next turn,
 * unless the program binds it first; from then on it keeps the loop running like any bound socket.
 * The kernel leaves all groups at close. Return also DGRAM_EBADGROUP, DGRAM_EBADINTERFACE, -ENODEV
 * (no route, so no interface to pick), -EADDRINUSE (joined already), -EADDRNOTAVAIL (not joined),
 * -ENOBUFS (as many as the kernel allows), -ENOMEM. ip(7), ipv6(7), RFC 3678.
 */
DGRAM_API int dgram_add_membership(struct dgram_socket *socket, const char *group,
                                   const char *interface_text);
DGRAM_API int dgram_drop_membership(struct dgram_socket *socket, const char *group,
                                    const char *interface_text);

/*
 * The kernel's buffers (Node: setRecvBufferSize ...). The getters return the granted bytes; Linux
 * doubles the size that was asked for and cuts it silently at net.core.rmem_max or wmem_max,
 * socket(7).
 * The setters give DGRAM_EBADBUFFERSIZE for 0 and for more than INT_MAX.
 */
DGRAM_API int dgram_set_recv_buffer_size(struct dgram_socket *socket, uint32_t bytes);
DGRAM_API int dgram_set_send_buffer_size(struct dgram_socket *socket, uint32_t bytes);
DGRAM_API int dgram_get_recv_buffer_size(struct dgram_socket *socket);
DGRAM_API int dgram_get_send_buffer_size(struct dgram_socket *socket);

#ifdef __cplusplus
#pragma GCC diagnostic pop
}
#endif

#endif
