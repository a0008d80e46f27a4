/* SPDX-License-Identifier: MIT */
/*
 * uring.c: the io_uring engine's turn: requests of the core become SQEs, one enter submits them and
 * waits, CQEs become records.
 *
 * Receiving is one multishot RECVMSG per endpoint into the ring of provided buffers: one CQE a
 * datagram or train, no system call. It ends (no F_MORE) on every error, on an empty datagram and
 * when the CQ is full; so every CQE is asked for F_MORE first, whatever its result. Starts and
 * cancels wait in a list of objects until the next submission, so a full SQ only makes them wait.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "uring/ring.h"

extern const struct backend dg_backend_uring;

/* ---- Submission ---------------------------------------------------------------------------- */

static void queue_object(struct engine *engine, struct object *object)
{
    if (node_alone(&object->queued)) {
        node_append(&engine->queued, &object->queued);
    }
}

static void publish_buffers(struct engine *engine)
{
    if (engine->recycled > 0) {
        io_uring_buf_ring_advance(engine->buffers, (int) engine->recycled);
        engine->recycled = 0;
    }
}

/* The kernel says "not now": no memory for requests, completions to be fetched first. */
static bool enter_is_refused(int result)
{
    return result == -EAGAIN || result == -EBUSY;
}

/* Results of an enter after which another may be tried. */
static bool enter_is_fine(int result)
{
    return result >= 0 || result == -ETIME || result == -EINTR || enter_is_refused(result);
}

struct io_uring_sqe *ring_sqe(struct engine *engine)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&engine->ring);
    if (sqe == NULL && engine->enabled && io_uring_submit(&engine->ring) > 0) {
        sqe = io_uring_get_sqe(&engine->ring);
    }
    return sqe;
}

static void prepare_start(struct engine *engine, struct object *object, struct io_uring_sqe *sqe)
{
    if (object->is_watch) {
        io_uring_prep_poll_add(sqe, object->watch->fd, (unsigned) object->watch->events);
        sqe->user_data = ring_user_data(OPERATION_POLL, object->generation, object->index);
        return;
    }
    object->header = (struct msghdr){.msg_namelen = SLOT_NAME_SIZE,
                                     .msg_controllen = object->endpoint->control_size};
    /* MSG_TRUNC has the header tell the real length; without it, it tells the cut one. */
    io_uring_prep_recvmsg_multishot(sqe, object->endpoint->fd, &object->header, MSG_TRUNC);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    sqe->user_data = ring_user_data(OPERATION_RECEIVE, object->generation, object->index);
    (void) engine;
}

static void prepare_cancel(struct object *object, struct io_uring_sqe *sqe)
{
    enum operation operation = object->is_watch ? OPERATION_POLL : OPERATION_RECEIVE;
    io_uring_prep_cancel64(sqe, ring_user_data(operation, object->generation, object->index), 0);
    sqe->user_data = ring_user_data(OPERATION_CANCEL, 0, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS; /* the target's own completion counts */
}

/* False if the SQ is full: the object stays first in the list. */
static bool submit_object(struct engine *engine, struct object *object)
{
    if (object->start) {
        struct io_uring_sqe *sqe = ring_sqe(engine);
        if (sqe == NULL) {
            return false;
        }
        prepare_start(engine, object, sqe);
        object->start = false;
        object->armed = true;
        if (object->owner != NULL) {
            object->owner->polls++;
        }
        if (!object->is_watch) {
            ring_receiver_added(engine, object);
        }
    }
    if (object->cancel) {
        struct io_uring_sqe *sqe = ring_sqe(engine);
        if (sqe == NULL) {
            return false;
        }
        prepare_cancel(object, sqe);
        object->cancel = false;
    }
    return true;
}

static void submit_objects(struct engine *engine)
{
    while (!node_alone(&engine->queued) &&
           submit_object(engine, owner_of(engine->queued.next, struct object, queued))) {
        (void) node_take(&engine->queued);
    }
}

static void prepare_all(struct engine *engine, bool flush)
{
    publish_buffers(engine);
    ring_send_queue(engine, flush);
    if (engine->enabled && engine->broken == 0) {
        submit_objects(engine);
    }
}

/* ---- Completions --------------------------------------------------------------------------- */

static struct object *object_of(const struct engine *engine, uint64_t user_data)
{
    uint32_t index = (uint32_t) user_data;
    struct object *object = index < engine->object_capacity ? engine->objects[index] : NULL;
    bool same = object != NULL && object->generation == ((user_data >> 32) & 0xffffffu);
    return same ? object : NULL;
}

static void slot_recycle(struct engine *engine, uint32_t slot)
{
    assert(slot < engine->slots.count);
    if (slot == engine->spare) {
        engine->has_spare = true;
        return;
    }
    io_uring_buf_ring_add(engine->buffers,
                          engine->slots.memory + (size_t) slot * engine->slots.stride,
                          engine->slots.stride, (unsigned short) slot,
                          io_uring_buf_ring_mask(engine->buffer_entries), (int) engine->recycled);
    engine->recycled++;
}

static void append_simple(struct engine *engine, struct endpoint *endpoint,
                          enum completion_kind kind, int result)
{
    *completions_append(engine->out) =
        (struct completion){.kind = (uint8_t) kind, .endpoint = endpoint, .result = result};
}

/* Its operations that were not submitted are moot. */
static void object_end(struct engine *engine, struct object *object)
{
    node_remove(&object->queued);
    ring_object_free(engine, object);
}

/* The last operation that held the endpoint is gone. */
static void detach_if_done(struct engine *engine, struct object *object)
{
    if (!object->detaching || object->armed || object->polls > 0) {
        return;
    }
    struct endpoint *endpoint = object->endpoint;
    endpoint->state = NULL;
    object_end(engine, object);
    append_simple(engine, endpoint, COMPLETION_DETACHED, 0);
}

void ring_object_dropped(struct engine *engine, struct object *object)
{
    object->armed = object->cancel = object->start = false;
    object->polls = 0;
    if (object->forgotten) {
        object_end(engine, object);
    } else {
        detach_if_done(engine, object);
    }
}

void ring_append_received(struct engine *engine, const struct object *object, uint32_t slot,
                          const struct io_uring_recvmsg_out *header, uint32_t present)
{
    uint32_t control = object->endpoint->control_size;
    const unsigned char *base = engine->slots.memory + (size_t) slot * engine->slots.stride;
    uint32_t name = header->namelen;
    *completions_append(engine->out) = (struct completion){
        .kind = COMPLETION_RECEIVED,
        .truncated = header->payloadlen > present,
        .name_size = (uint16_t) (name < SLOT_NAME_SIZE ? name : SLOT_NAME_SIZE),
        .slot = slot,
        .size = present,
        .real_size = header->payloadlen,
        .control_size = header->controllen < control ? header->controllen : control,
        .endpoint = object->endpoint,
        .data = base + SLOT_CONTROL_OFFSET + control,
        .name = base + SLOT_NAME_OFFSET,
        .control = base + SLOT_CONTROL_OFFSET,
    };
}

static void append_received(struct engine *engine, const struct object *object,
                            const struct io_uring_cqe *cqe)
{
    uint32_t slot = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    uint32_t before = SLOT_CONTROL_OFFSET + object->endpoint->control_size;
    struct io_uring_recvmsg_out header;
    assert((uint32_t) cqe->res >= before);
    memcpy(&header, engine->slots.memory + (size_t) slot * engine->slots.stride, sizeof(header));
    ring_append_received(engine, object, slot, &header, (uint32_t) cqe->res - before);
}

/* Why a receive ended, as the core wants it told. */
static int stop_reason(int result)
{
    bool harmless = result >= 0 || result == -ECANCELED || result == -EAGAIN || result == -EINTR;
    return harmless ? 0 : result;
}

static void start_again(struct engine *engine, struct object *object)
{
    object->start = true;
    queue_object(engine, object);
}

static void complete_receive(struct engine *engine, const struct io_uring_cqe *cqe)
{
    struct object *object = object_of(engine, cqe->user_data);
    bool ended = !(cqe->flags & IORING_CQE_F_MORE);
    bool has_slot = (cqe->flags & IORING_CQE_F_BUFFER) != 0;
    assert(object != NULL && object->armed); /* it lives until its last CQE */
    if (ended) {
        object->armed = object->cancel = false;
        ring_receiver_gone(engine, object);
    }
    if (has_slot && cqe->res < 0) {
        slot_recycle(engine, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    } else if (has_slot) {
        append_received(engine, object, cqe);
    }
    if (ended && object->detaching) {
        detach_if_done(engine, object);
    } else if (ended && engine->resting && !object->stopping && stop_reason(cqe->res) == 0) {
        start_again(engine, object);
    } else if (ended) {
        object->stopping = false;
        append_simple(engine, object->endpoint, COMPLETION_STOPPED, stop_reason(cqe->res));
    }
}

static void complete_poll(struct engine *engine, const struct io_uring_cqe *cqe)
{
    struct object *object = object_of(engine, cqe->user_data);
    assert(object != NULL && object->armed);
    struct object *owner = object->owner;
    object->armed = false;
    if (object->forgotten) {
        object_end(engine, object);
    } else if (engine->resting && cqe->res == -ECANCELED) {
        start_again(engine, object);
    } else {
        *completions_append(engine->out) = (struct completion){
            .kind = COMPLETION_READY, .watch = object->watch, .result = cqe->res};
    }
    if (owner != NULL) {
        owner->polls--;
        detach_if_done(engine, owner);
    }
}

static void complete(struct engine *engine, const struct io_uring_cqe *cqe)
{
    switch ((enum operation)(cqe->user_data >> 56)) {
    case OPERATION_RECEIVE:
        complete_receive(engine, cqe);
        break;
    case OPERATION_POLL:
        complete_poll(engine, cqe);
        break;
    case OPERATION_SEND:
        ring_send_failed(engine, cqe->user_data, cqe->res);
        break;
    case OPERATION_LEND:
        ring_lend_completed(engine, cqe);
        break;
    case OPERATION_CANCEL:
        break; /* "not found": the target ended by itself meanwhile */
    }
}

void ring_harvest(struct engine *engine)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&engine->ring, head, cqe)
    {
        complete(engine, cqe);
        count++;
    }
    io_uring_cq_advance(&engine->ring, count);
}

/* A kernel that lets nothing in is given a moment after each refusal, and is taken for broken when
 * it has refused for a second. False: it is broken. */
static bool bear_refusal(struct engine *engine)
{
    enum { REFUSALS_MAX = 1000 };
    const struct timespec moment = {.tv_nsec = 1000000};
    if (++engine->refusals >= REFUSALS_MAX) {
        return false;
    }
    (void) nanosleep(&moment, NULL);
    return true;
}

/* After an enter: submits the rest of the SQEs and fetches completions that did not fit the CQ,
 * until every send has been tried and every failure was seen. `slept`: the enter was to sleep; one
 * that is refused is borne even if nothing is left to do, or the loop would spin. */
int ring_settle(struct engine *engine, int code, bool slept)
{
    while (enter_is_fine(code)) {
        ring_harvest(engine);
        bool more = io_uring_sq_ready(&engine->ring) > 0 || io_uring_cq_has_overflow(&engine->ring);
        if (!enter_is_refused(code)) {
            engine->refusals = 0;
        } else if ((more || slept) && !bear_refusal(engine)) {
            return code;
        }
        if (!more) {
            return 0;
        }
        code = io_uring_submit_and_get_events(&engine->ring);
    }
    return code;
}

static int finish(struct engine *engine, int entered, bool slept)
{
    int code = engine->broken < 0 ? engine->broken : ring_settle(engine, entered, slept);
    if (code < 0) {
        *engine->failed_call = "io_uring_enter";
        engine->broken = code;
    }
    ring_send_answer(engine, code);
    return code;
}

static int uring_flush(struct engine *engine)
{
    int code = engine->broken;
    if (code < 0) {
        ring_send_answer(engine, code);
        return code;
    }
    prepare_all(engine, true);
    if (engine->broken < 0) { /* by a loan, which is submitted at once */
        return finish(engine, engine->broken, false);
    }
    if (engine->enabled && io_uring_sq_ready(&engine->ring) > 0) {
        return finish(engine, io_uring_submit(&engine->ring), false);
    }
    ring_send_answer(engine, 0);
    return 0;
}

/* Something to tell that is no CQE, or something left to submit. */
static bool must_not_sleep(const struct engine *engine)
{
    return engine->out->count > 0 || engine->send_refused || !node_alone(&engine->queued);
}

/* Sleeps until `count` completions are there. */
static int enter(struct engine *engine, int64_t timeout_ns, unsigned count)
{
    struct io_uring_cqe *cqe;
    if (timeout_ns == 0) {
        return io_uring_submit_and_get_events(&engine->ring);
    }
    if (timeout_ns < 0) {
        return io_uring_submit_and_wait(&engine->ring, count);
    }
    struct __kernel_timespec timeout = {.tv_sec = timeout_ns / 1000000000,
                                        .tv_nsec = timeout_ns % 1000000000};
    return io_uring_submit_and_wait_timeout(&engine->ring, &cqe, count, &timeout, NULL);
}

/*
 * With DEFER_TASKRUN the kernel counts what becomes due, a socket once however much it received,
 * and wakes nobody before that is enough (6.5; older ones wake each time and sleep on). A timeout
 * and not the kernel's minimum wait (6.12): that slept on with completions there up to 6.18,
 * liburing issue 1477.
 */
static unsigned enough(const struct engine *engine, bool gathers)
{
    enum { MANY = 32 };
    return gathers && (engine->ring.flags & IORING_SETUP_DEFER_TASKRUN) != 0 ? MANY : 1;
}

static int uring_wait(struct engine *engine, int64_t timeout_ns, bool gathers)
{
    if (engine->inherited) {
        return uring_flush(engine);
    }
    int code = engine->broken < 0 ? engine->broken : ring_enable(engine);
    if (code < 0) {
        ring_send_answer(engine, code);
        return code;
    }
    prepare_all(engine, false);
    if (engine->event_fd >= 0) {
        eventfd_t ignored;
        (void) eventfd_read(engine->event_fd, &ignored); /* before the harvest: none is missed */
    }
    if (must_not_sleep(engine)) {
        timeout_ns = 0;
    }
    int entered =
        engine->broken < 0 ? engine->broken : enter(engine, timeout_ns, enough(engine, gathers));
    return finish(engine, entered, timeout_ns != 0);
}

/* ---- The boundary -------------------------------------------------------------------------- */

static int uring_attach(struct engine *engine, struct endpoint *endpoint)
{
    struct object *object = ring_object_make(engine);
    if (object == NULL) {
        return -ENOMEM;
    }
    object->endpoint = endpoint;
    endpoint->state = object;
    return 0;
}

static void uring_recv_start(struct engine *engine, struct endpoint *endpoint)
{
    struct object *object = endpoint->state;
    assert(!object->armed && !object->start && engine->buffers != NULL);
    object->start = true;
    object->stopping = false;
    queue_object(engine, object);
}

/* Takes back a start that was not submitted, else has the kernel cancel. True if nothing is
 * there. */
static bool cancel_receive(struct engine *engine, struct object *object)
{
    if (object->start) {
        object->start = false;
        return true;
    }
    if (object->armed && !object->stopping) {
        object->stopping = true;
        object->cancel = true;
        queue_object(engine, object);
    }
    return false;
}

static void uring_recv_stop(struct engine *engine, struct endpoint *endpoint)
{
    struct object *object = endpoint->state;
    if (cancel_receive(engine, object)) {
        append_simple(engine, endpoint, COMPLETION_STOPPED, 0);
    }
}

static void uring_detach(struct engine *engine, struct endpoint *endpoint)
{
    struct object *object = endpoint->state;
    object->detaching = true;
    (void) cancel_receive(engine, object);
    detach_if_done(engine, object);
}

static void uring_recycle(struct engine *engine, uint32_t slot)
{
    slot_recycle(engine, slot);
}

static void uring_send(struct engine *engine, struct train *const *trains, size_t count)
{
    assert(engine->send_count == 0);
    engine->sends = trains;
    engine->send_count = (uint32_t) count;
}

static int uring_watch(struct engine *engine, struct watch *watch)
{
    struct object *object = watch->state;
    if (object == NULL) {
        object = ring_object_make(engine);
        if (object == NULL) {
            return -ENOMEM;
        }
        object->is_watch = true;
        object->watch = watch;
        object->owner = watch->endpoint != NULL ? watch->endpoint->state : NULL;
        watch->state = object;
    }
    assert(!object->armed && !object->start);
    object->start = true;
    queue_object(engine, object);
    return 0;
}

static void uring_unwatch(struct engine *engine, struct watch *watch)
{
    struct object *object = watch->state;
    watch->state = NULL;
    if (object->armed) {
        object->forgotten = true;
        object->cancel = true;
        queue_object(engine, object);
        return;
    }
    object_end(engine, object);
}

const struct backend dg_backend_uring = {
    .name = "uring",
    .open = ring_open,
    .close = ring_close,
    .attach = uring_attach,
    .detach = uring_detach,
    .provide = ring_provide,
    .recv_start = uring_recv_start,
    .recv_stop = uring_recv_stop,
    .recycle = uring_recycle,
    .send = uring_send,
    .lend = ring_lend,
    .reclaim = ring_reclaim,
    .rest = ring_rest,
    .inherit = ring_inherit,
    .flush = uring_flush,
    .watch = uring_watch,
    .unwatch = uring_unwatch,
    .wait = uring_wait,
    .peek = ring_peek,
    .fd = ring_event_fd,
};
