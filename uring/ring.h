/* SPDX-License-Identifier: MIT */
/*
 * ring.h: the structs of the io_uring engine. Private to uring/; nothing in it is linked.
 *
 * A file calls files below its own line, and none above. From above:
 *
 *     uring.c          The turn, and the table of functions that the core calls.
 *     peek, inherit    The busy loop; the end of the thread that owns the ring.
 *     send             Trains become SQEs or system calls.
 *     enter            Objects become SQEs; each CQE goes to the file that asked for it.
 *     receive, watch   Endpoints and watches: requests of the core, answers of the kernel.
 *     train, lend      The same for trains.
 *     setup            The ring, and its provided buffers.
 *     object           The table of endpoints and watches.
 *     slot.h           The layout of a slot, and its way back to the kernel.
 *
 * user_data is operation | generation | index into the object table, never a pointer. An object
 * lives until the last completion that names it. The generation keeps a cancel from an operation of
 * the object that has the index next.
 */
#ifndef DGRAM_URING_RING_H
#define DGRAM_URING_RING_H

#include <liburing.h>

#include "src/backend.h"
#include "src/base/list.h"

/* With more receiving sockets than this, a look at the kernel's flag costs less than a recvmsg for
 * each of them. */
enum { PEEK_MAX = 2 };

/* Regions that may be registered at a time. */
enum { REGIONS_MAX = 64 };

enum operation {
    OPERATION_RECEIVE = 1,
    OPERATION_POLL,
    OPERATION_CANCEL,
    OPERATION_SEND,
    OPERATION_LEND
};

/* An endpoint or a watch, as this engine sees it. */
struct object {
    uint32_t index, generation;
    bool is_watch;
    struct node queued;       /* in engine->queued while `start` or `cancel` is to be submitted */
    bool start, cancel;       /* to be submitted */
    bool armed;               /* its operation is in the kernel */
    bool stopping, detaching; /* endpoint */
    bool forgotten;           /* watch: unwatch() was called, the object lives until its CQE */
    uint32_t polls;           /* endpoint: its watches that are in the kernel and hold the socket */
    struct endpoint *endpoint;
    struct watch *watch;
    struct object *owner; /* watch of an endpoint's own descriptor: that endpoint */
    struct msghdr header; /* endpoint: the kernel reads it when the receive is submitted */
};

struct engine {
    struct io_uring ring;
    const char **failed_call;
    struct completions *out;
    bool enabled;   /* by the first wait(), whose thread owns the ring from then on */
    bool resting;   /* operations that end now are to be started again */
    bool inherited; /* another thread has it now, and only closes: the ring is not entered */
    bool down;      /* inherited, and the ring itself is gone */
    int broken; /* the error of an enter that failed, else 0. The SQEs that it left point to memory
                   that the core uses again, so no enter may follow it */
    uint32_t refusals; /* enters in a row to which the kernel said "not now" */
    int event_fd;      /* -1 until fd() */

    /* object */
    struct object **objects; /* by index; NULL where free */
    uint32_t *free_places;   /* a stack of free indices */
    uint32_t object_capacity, free_count;
    uint32_t generation;
    struct node queued; /* objects */

    /* slot.h, receive */
    struct slots slots;
    struct io_uring_buf_ring *buffers;
    uint32_t buffer_entries;
    unsigned recycled; /* slots that were added to the buffer ring and are not yet published */

    /* receive, peek */
    bool peeks, has_spare;
    uint32_t spare; /* the slot that peek() fills: the kernel does not have it */
    struct object *receivers[PEEK_MAX];
    uint32_t receiver_count; /* all of them; the array has the first PEEK_MAX */

    /* train, send, lend */
    struct train *const *sends; /* handed over, not yet answered */
    uint32_t send_count;
    uint32_t send_generation;
    bool send_refused; /* by a system call, so no CQE will end a sleep */
    bool has_regions;  /* the table of registered memory was made */
    bool region_used[REGIONS_MAX];
};

static inline uint64_t ring_user_data(enum operation operation, uint32_t generation, uint32_t index)
{
    return (uint64_t) operation << 56 | (uint64_t) (generation & 0xffffffu) << 32 | index;
}

#endif
