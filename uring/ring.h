/* SPDX-License-Identifier: MIT */
/*
 * ring.h: the structs and functions that the files of the io_uring engine share. Private to uring/.
 *
 *     setup.c   the ring, its buffer ring, the object table: everything that allocates
 *     send.c    trains into SQEs
 *     lend.c    those that are not copied
 *     peek.c    looking for datagrams in a busy loop
 *     inherit.c the thread that owns the ring ends, and another one closes it
 *     uring.c   receives, watches, submission, completions: the turn
 *
 * user_data is operation | generation | index into the object table, never a pointer: a completion
 * that outlives its object finds another generation there and is dropped.
 */
#ifndef DGRAM_URING_RING_H
#define DGRAM_URING_RING_H

#include <liburing.h>

#include "src/backend.h"
#include "src/base/array.h"
#include "src/base/list.h"

enum {
    RING_ENTRIES = 256,     /* SQEs; more than a batch of trains, and submitted early when full */
    RING_COMPLETIONS = 1024 /* CQEs: 16 for each default slot. The kernel keeps what exceeds them
                               (FEAT_NODROP); larger rings are locked memory for nothing */
};

/* Beyond so many sockets the kernel's flag costs less than a recvmsg for each. */
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
    struct node queued;       /* in the engine's list of those with something to submit */
    bool start, cancel;       /* to be submitted */
    bool armed;               /* its operation is in the kernel */
    bool stopping, detaching; /* endpoint */
    bool forgotten;           /* watch: unwatch() was called, the object lives until its CQE */
    uint32_t polls;           /* endpoint: its watches that are in the kernel and hold the socket */
    struct endpoint *endpoint;
    struct watch *watch;
    struct object *owner; /* watch of an endpoint's own descriptor: that endpoint */
    struct msghdr header; /* endpoint: read by the kernel when the receive is submitted */
};

struct engine {
    struct io_uring ring;
    const char **failed_call;
    struct completions *out;
    bool enabled;   /* by the first wait(), whose thread owns the ring from then on */
    bool resting;   /* operations that end now are to be started again */
    bool inherited; /* another thread has it now, and only closes: the ring is not entered */
    bool down;      /* and the ring itself is gone */
    int broken; /* an enter failed: its error. The SQEs that it left point to memory that the core
                     uses again, so there is none after it */
    uint32_t refusals; /* enters that said "not now" and were borne, since one that did not */
    int event_fd;      /* -1 until fd() */

    struct object **objects; /* by index; NULL where free */
    uint32_t *free_places;   /* a stack of free indices */
    uint32_t object_capacity, free_count;
    uint32_t generation;
    struct node queued; /* objects */

    struct slots slots;
    struct io_uring_buf_ring *buffers;
    uint32_t buffer_entries;
    unsigned recycled; /* added to the buffer ring, not yet published */

    /* For peek(): a slot that is kept from the buffer ring, and who receives. */
    bool peeks, has_spare;
    uint32_t spare;
    struct object *receivers[PEEK_MAX];
    uint32_t receiver_count; /* of all; only the first PEEK_MAX are in the array */

    struct train *const *sends; /* handed over, not yet answered */
    uint32_t send_count;
    uint32_t send_generation;
    bool send_refused; /* by system call: there is no CQE that would end a sleep */

    bool has_regions; /* the table of registered memory was made */
    bool region_used[REGIONS_MAX];
};

static inline uint64_t ring_user_data(enum operation operation, uint32_t generation, uint32_t index)
{
    return (uint64_t) operation << 56 | (uint64_t) (generation & 0xffffffu) << 32 | index;
}

/* setup.c */
/* How far down the ladder of set-up flags rings begin: 0. Tests begin lower, to run as on an older
 * kernel. */
extern unsigned ring_first_rung;
int ring_open(const struct engine_config *config, struct engine **ret_engine,
              const char **ret_call);
void ring_close(struct engine *engine, bool forked);
int ring_enable(struct engine *engine);
int ring_provide(struct engine *engine, const struct slots *slots, const char **ret_call);
int ring_event_fd(struct engine *engine);
struct object *ring_object_make(struct engine *engine);
void ring_object_free(struct engine *engine, struct object *object);

/* send.c: queues the trains that go by SQE, sends the others; answers them after the submission. */
void ring_send_queue(struct engine *engine, bool flush);
void ring_send_failed(struct engine *engine, uint64_t user_data, int result);
void ring_send_answer(struct engine *engine, int code);

/* lend.c */
int ring_lend(struct engine *engine, struct region *region);
void ring_reclaim(struct engine *engine, const struct region *region);
void ring_lend_prepare(struct engine *engine, struct io_uring_sqe *sqe, uint32_t index);
void ring_lend_completed(struct engine *engine, const struct io_uring_cqe *cqe);

/* inherit.c */
void ring_rest(struct engine *engine);
int ring_inherit(struct engine *engine);

/* peek.c */
int ring_peek(struct engine *engine);
void ring_receiver_added(struct engine *engine, struct object *object);
void ring_receiver_gone(struct engine *engine, struct object *object);

/* uring.c: a free SQE; if there is none, the queued ones are submitted first. */
struct io_uring_sqe *ring_sqe(struct engine *engine);
/* Appends the datagram that a receive of the kernel left in a slot: `before` bytes of header, then
 * payload. */
void ring_append_received(struct engine *engine, const struct object *object, uint32_t slot,
                          const struct io_uring_recvmsg_out *header, uint32_t present);
void ring_harvest(struct engine *engine);
/* The kernel has nothing of the object any more: the rest of a detach or an unwatch. */
void ring_object_dropped(struct engine *engine, struct object *object);
/* What follows an enter that gave `code`: 0, or the error that broke the ring. */
int ring_settle(struct engine *engine, int code, bool slept);

/* Slot: header, name, control, payload. The name's size is 32 because 28 would put the control
 * messages 4 bytes off their alignment. */
enum { SLOT_NAME_OFFSET = sizeof(struct io_uring_recvmsg_out) };
enum { SLOT_CONTROL_OFFSET = SLOT_NAME_OFFSET + SLOT_NAME_SIZE };
_Static_assert(SLOT_NAME_OFFSET == 16, "the kernel's header");
_Static_assert(SLOT_CONTROL_OFFSET % 8 == 0, "control messages are aligned");

#endif
