/* SPDX-License-Identifier: MIT */
/*
 * backend.h: the boundary between the core and an engine.
 *
 * The message across it is "datagram batches complete". "A descriptor is readable" would throw
 * multishot receives and batched submission away. "A whole UDP socket" would be written once per
 * engine. uring/ and fallback/ include this file and src/base/, and nothing else of src/; src/
 * never includes theirs and knows each engine by its exported `const struct backend`.
 *
 * Engines only append completion records and fill in results; they never call the user, park,
 * re-send, re-arm, count or order anything. The core does all of that, in one place.
 *
 * Life of the objects: the core allocates and frees endpoint, watch and train; an engine keeps its
 * own part of them in `state`, made by attach() or the first watch() and freed by the engine no
 * later than DETACHED or unwatch(). Every function runs on the loop's thread. open() to
 * recv_start() may run on the creating thread before the first flush() or wait(). Calls after
 * inherit() run on the thread that called inherit().
 */
#ifndef DGRAM_BACKEND_H
#define DGRAM_BACKEND_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* The engine's state for one loop; each engine defines its own. */
struct engine;

/* Room in each slot beside the payload, for the engine's header, the sender's name and the control
 * data. A slot is `payload + SLOT_HEADROOM` bytes and 64-byte aligned; with the default payload of
 * 65,536 the stride is no power of two, so that slots do not alias in the cache. */
#define SLOT_HEADROOM 256u

/* Bytes of a received name: sockaddr_in6 is 28, and control data behind it wants 8-alignment. */
#define SLOT_NAME_SIZE 32u

/* A socket as engines see it. */
struct endpoint {
    int fd;
    uint32_t control_size; /* control bytes to ask for with each receive; a multiple of 8, at most
                              SLOT_HEADROOM - 16 - SLOT_NAME_SIZE */
    void *state;           /* the engine's; NULL while not attached */
};

/* One-shot interest in a descriptor that the engine does not read itself. Known by this object,
 * never by the number of the descriptor. */
struct watch {
    int fd;
    short events;              /* POLLIN or POLLOUT */
    struct endpoint *endpoint; /* set when `fd` is this endpoint's own, else NULL */
    void *state;               /* the engine's; NULL before the first watch() */
};

/* Memory of the program's datagrams that an engine may send from without a copy. */
struct region {
    void *memory; /* page-aligned */
    size_t size;
    uint32_t number; /* the engine's */
};

/* One send of the kernel: one datagram, or a run of them that the kernel cuts up (UDP_SEGMENT). */
struct train {
    struct msghdr header; /* ready for sendmsg(2): name, vectors, control */
    struct endpoint *endpoint;
    /* Not 0: the payload, one vector in `region`, may be sent without a copy. If the engine sets
     * `kept` with the result, whatever that is, RELEASED with this number tells when the memory is
     * free again. */
    uint16_t loan;
    bool kept;
    /* To be tried only if the train before it in the list was taken; else its result is -ECANCELED.
     * This is how order per destination survives a refusal. */
    bool follows;
    const struct region *region;
    int result; /* 0 or more: taken; else the negated errno as the kernel gave it */
};

enum completion_kind {
    COMPLETION_RECEIVED, /* a datagram or train lies in `slot`, which the core has now */
    COMPLETION_READY,    /* `watch` fired, with poll(2)'s revents in `result`; it is disarmed now */
    COMPLETION_STOPPED,  /* `endpoint` receives no more; `result` tells why (0: stopped on request,
                            or for no reason that matters: start again) */
    COMPLETION_DETACHED, /* the last record of `endpoint`: no operation of the kernel holds it */
    COMPLETION_RELEASED  /* `loan` is over; `result` is 1 if the kernel copied anyway, else 0 */
};

struct completion {
    uint8_t kind;
    uint8_t truncated;         /* RECEIVED: `size` is less than `real_size` */
    uint16_t name_size;        /* RECEIVED: bytes at `name` */
    int32_t result;            /* READY, STOPPED */
    uint32_t slot;             /* RECEIVED */
    uint32_t size, real_size;  /* RECEIVED: payload bytes present, and sent */
    uint32_t control_size;     /* RECEIVED: bytes at `control`, raw control messages */
    struct endpoint *endpoint; /* RECEIVED, STOPPED, DETACHED */
    struct watch *watch;       /* READY */
    uint32_t loan;             /* RELEASED */
    const unsigned char *data;
    const void *name;
    const void *control;
};

/*
 * Where engines append. The core keeps room for every record that can be outstanding (one RECEIVED
 * per slot, STOPPED and DETACHED per endpoint, one READY per watch, one RELEASED per loan), so
 * appending cannot fail.
 */
struct completions {
    struct completion *items;
    uint32_t count, capacity;
};

static inline struct completion *completions_append(struct completions *list)
{
    assert(list->count < list->capacity);
    return &list->items[list->count++];
}

struct engine_config {
    /* Outlives the engine; the core may swap `items` between calls. */
    struct completions *completions;
    bool peeks; /* peek() will be called */
    /* Where wait() and flush() name the system call that failed: a static string. */
    const char **failed_call;
};

/* The receive slots of a loop: one mapping, made once. */
struct slots {
    unsigned char *memory; /* page-aligned */
    uint32_t stride;       /* bytes from slot to slot: payload + SLOT_HEADROOM */
    uint32_t count;        /* 4 to 4,096 */
};

struct backend {
    const char *name; /* as in DGRAM_ENGINE */

    /* Makes the mechanism. 0, or a negated errno with *ret_call naming the call that failed. */
    int (*open)(const struct engine_config *config, struct engine **ret_engine,
                const char **ret_call);

    /* Frees it, with the `state` of whatever is still attached or watched; it must not look at
     * those endpoints and watches any more. `forked`: this is a child process, which must close
     * descriptors and free memory only. */
    void (*close)(struct engine *engine, bool forked);

    /* A socket joins: 0, -ENOMEM or another negated errno. Leaves: cancels everything; DETACHED
     * follows from a later wait(). Nothing is sent or received for it after detach(), but records
     * that were on their way still come before DETACHED. */
    int (*attach)(struct engine *engine, struct endpoint *endpoint);
    void (*detach)(struct engine *engine, struct endpoint *endpoint);

    /* Gives the slots, all free. Once, next after open(): whoever is refused can still take another
     * engine. 0, or a negated errno with *ret_call naming the call that failed. */
    int (*provide)(struct engine *engine, const struct slots *slots, const char **ret_call);

    /* Receive into free slots until STOPPED. STOPPED comes exactly once for each recv_start(): with
     * -ENOBUFS when no slot is free, with 0 after recv_stop(). recv_start() is legal only before
     * the first or after STOPPED. Records that were on their way still come after recv_stop().
     * After detach() STOPPED may be left out. */
    void (*recv_start)(struct engine *engine, struct endpoint *endpoint);
    void (*recv_stop)(struct engine *engine, struct endpoint *endpoint);

    /* A slot is free again. The kernel may see it as late as the next flush() or wait(). */
    void (*recycle)(struct engine *engine, uint32_t slot);

    /* Takes trains, at most once before each flush() or wait(), until when the list stays. When
     * that returns, each has its `result`: sends are tried with MSG_DONTWAIT and never wait, so all
     * their memory is the core's again, loans excepted. EAGAIN and refusals are results like any
     * other. */
    void (*send)(struct engine *engine, struct train *const *trains, size_t count);

    /* Makes memory known from which trains may be sent without a copy; reclaim() undoes it, also
     * while loans are out: RELEASED still comes. 0 or a negated errno. NULL: not here. */
    int (*lend)(struct engine *engine, struct region *region);
    void (*reclaim)(struct engine *engine, const struct region *region);

    /* Takes back whatever the kernel does on behalf of this thread, which is about to end: no
     * operation holds an endpoint or a watch any more. Receives and watches go on from the next
     * wait(), and records that came meanwhile are appended. NULL: nothing is bound to a thread. */
    void (*rest)(struct engine *engine);

    /* Another thread than that of the waits goes on, in order to close everything: from now on
     * nothing is started or watched, and wait() does not sleep. 0; or -EBUSY if the kernel still
     * works on operations that rest() did not take back. For some more milliseconds sockets,
     * watched descriptors and slots stay in use then. NULL: any thread will do. */
    int (*inherit)(struct engine *engine);

    /* Submits everything now and never sleeps. May append records. 0 or a negated errno, which
     * means that the engine itself is broken; trains without an answer get it as their result. */
    int (*flush)(struct engine *engine);

    /* Arms `watch` for one READY; again after that. 0 or a negated errno, only from the first call
     * for an object. unwatch() disarms and forgets; records already appended may still name it. It
     * comes before detach() of the watch's endpoint. */
    int (*watch)(struct engine *engine, struct watch *watch);
    void (*unwatch)(struct engine *engine, struct watch *watch);

    /* Submits everything, sleeps until a record or a failed train is there or `timeout_ns` has
     * passed (negative: no limit; 0: does not sleep), appends the records that are there. May
     * return early with nothing, after a signal for one. `gathers`, with a limit only: it may sleep
     * on although something is there, for all of the time or until that is much, so that one
     * wake-up serves several. The only call that blocks. 0 or an error as flush(). */
    int (*wait)(struct engine *engine, int64_t timeout_ns, bool gathers);

    /* Looks for received datagrams in the cheapest way there is and never sleeps. A busy loop calls
     * it again and again between two wait(). May miss whatever is not a datagram. Appends records;
     * hands nothing over. NULL: wait(0) is the cheapest. 0 or a negated errno. */
    int (*peek)(struct engine *engine);

    /* A descriptor that is readable whenever wait(0) would append something; made by the first
     * call. -ENOTSUP where the mechanism has none. */
    int (*fd)(struct engine *engine);
};

#endif
