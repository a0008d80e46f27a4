/* SPDX-License-Identifier: MIT */
/*
 * receive.c: endpoints, and the multishot receive of each.
 *
 * Owns an endpoint from attach() to detach(), the slots that are free, and the array of endpoints
 * that peek() looks at. Never enters the kernel: starts and cancels wait in the list of objects.
 *
 * One multishot RECVMSG per endpoint receives into the ring of provided buffers: one CQE a datagram
 * or train, and no system call. It ends (no F_MORE) on every error, on an empty datagram and when
 * the CQ is full, so each CQE is asked for F_MORE, whatever its result.
 */
#include "uring/receive.h"

#include <string.h>

#include "uring/object.h"
#include "uring/slot.h"

/* ---- Who receives -------------------------------------------------------------------------- */

static void receiver_added(struct engine *engine, struct object *object)
{
    if (engine->receiver_count < PEEK_MAX) {
        engine->receivers[engine->receiver_count] = object;
    }
    engine->receiver_count++;
}

/* Looks the array's members up again: only when a receive ends. */
static void receiver_gone(struct engine *engine, struct object *object)
{
    uint32_t known = 0;
    assert(engine->receiver_count > 0);
    engine->receiver_count--;
    if (engine->receiver_count > PEEK_MAX) {
        return; /* the array is of no use now */
    }
    for (uint32_t i = 0; i < engine->object_capacity && known < PEEK_MAX; i++) {
        struct object *other = engine->objects[i];
        if (other != NULL && other != object && !other->is_watch && other->armed) {
            engine->receivers[known++] = other;
        }
    }
    assert(known == engine->receiver_count);
}

/* ---- Records ------------------------------------------------------------------------------- */

static void append_stopped(struct engine *engine, struct endpoint *endpoint, int result)
{
    *completions_append(engine->out) =
        (struct completion){.kind = COMPLETION_STOPPED, .endpoint = endpoint, .result = result};
}

void dg_ring_receive_append(struct engine *engine, struct endpoint *endpoint, uint32_t slot,
                            const struct io_uring_recvmsg_out *header, uint32_t present)
{
    uint32_t control = endpoint->control_size;
    const unsigned char *base = ring_slot(engine, slot);
    uint32_t name = header->namelen;
    *completions_append(engine->out) = (struct completion){
        .kind = COMPLETION_RECEIVED,
        .truncated = header->payloadlen > present,
        .name_size = (uint16_t) (name < SLOT_NAME_SIZE ? name : SLOT_NAME_SIZE),
        .slot = slot,
        .size = present,
        .real_size = header->payloadlen,
        .control_size = header->controllen < control ? header->controllen : control,
        .endpoint = endpoint,
        .data = base + SLOT_CONTROL_OFFSET + control,
        .name = base + SLOT_NAME_OFFSET,
        .control = base + SLOT_CONTROL_OFFSET,
    };
}

static void append_received(struct engine *engine, struct endpoint *endpoint,
                            const struct io_uring_cqe *cqe)
{
    uint32_t slot = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    uint32_t before = SLOT_CONTROL_OFFSET + endpoint->control_size;
    struct io_uring_recvmsg_out header;
    assert((uint32_t) cqe->res >= before);
    memcpy(&header, ring_slot(engine, slot), sizeof(header));
    dg_ring_receive_append(engine, endpoint, slot, &header, (uint32_t) cqe->res - before);
}

/* ---- The receive in the kernel ------------------------------------------------------------- */

void dg_ring_receive_prepare(struct engine *engine, struct object *object, struct io_uring_sqe *sqe)
{
    object->header = (struct msghdr){.msg_namelen = SLOT_NAME_SIZE,
                                     .msg_controllen = object->endpoint->control_size};
    /* With MSG_TRUNC the header tells the real length, without it the cut one. */
    io_uring_prep_recvmsg_multishot(sqe, object->endpoint->fd, &object->header, MSG_TRUNC);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    sqe->user_data = ring_user_data(OPERATION_RECEIVE, object->generation, object->index);
    receiver_added(engine, object);
}

/* Returns why a receive ended, as the core wants it told. */
static int stop_reason(int result)
{
    bool harmless = result >= 0 || result == -ECANCELED || result == -EAGAIN || result == -EINTR;
    return harmless ? 0 : result;
}

static void receive_ended(struct engine *engine, struct object *object, int result)
{
    object->armed = object->cancel = false;
    receiver_gone(engine, object);
    if (object->detaching) {
        dg_ring_object_detached(engine, object);
    } else if (engine->resting && !object->stopping && stop_reason(result) == 0) {
        object->start = true;
        ring_object_queue(engine, object);
    } else {
        object->stopping = false;
        append_stopped(engine, object->endpoint, stop_reason(result));
    }
}

void dg_ring_receive_completed(struct engine *engine, const struct io_uring_cqe *cqe)
{
    struct object *object = ring_object_of(engine, cqe->user_data);
    bool has_slot = (cqe->flags & IORING_CQE_F_BUFFER) != 0;
    if (has_slot && cqe->res >= 0) {
        append_received(engine, object->endpoint, cqe);
    } else if (has_slot) {
        dg_ring_recycle(engine, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE)) {
        receive_ended(engine, object, cqe->res);
    }
}

/* ---- Requests of the core ------------------------------------------------------------------ */

void dg_ring_recycle(struct engine *engine, uint32_t slot)
{
    assert(slot < engine->slots.count);
    if (slot == engine->spare) {
        engine->has_spare = true;
        return;
    }
    ring_slot_add(engine, slot);
}

int dg_ring_attach(struct engine *engine, struct endpoint *endpoint)
{
    struct object *object = dg_ring_object_make(engine);
    if (object == NULL) {
        return -ENOMEM;
    }
    object->endpoint = endpoint;
    endpoint->state = object;
    return 0;
}

void dg_ring_recv_start(struct engine *engine, struct endpoint *endpoint)
{
    struct object *object = endpoint->state;
    assert(!object->armed && !object->start && engine->buffers != NULL);
    object->start = true;
    object->stopping = false;
    ring_object_queue(engine, object);
}

/* Takes back a start that was not submitted, else has the kernel cancel the receive. Returns
 * whether it took a start back: no CQE will tell of the end then. */
static bool cancel_receive(struct engine *engine, struct object *object)
{
    if (object->start) {
        object->start = false;
        return true;
    }
    if (object->armed && !object->stopping) {
        object->stopping = true;
        object->cancel = true;
        ring_object_queue(engine, object);
    }
    return false;
}

void dg_ring_recv_stop(struct engine *engine, struct endpoint *endpoint)
{
    struct object *object = endpoint->state;
    if (cancel_receive(engine, object)) {
        append_stopped(engine, endpoint, 0);
    }
}

void dg_ring_detach(struct engine *engine, struct endpoint *endpoint)
{
    struct object *object = endpoint->state;
    object->detaching = true;
    (void) cancel_receive(engine, object);
    dg_ring_object_detached(engine, object);
}
