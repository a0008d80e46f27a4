/* SPDX-License-Identifier: MIT */
/*
 * watch.c: watches of descriptors that the engine does not read: one POLL_ADD for one READY.
 *
 * Owns a watch's object from the first watch() until unwatch() and, if it is in the kernel then,
 * its CQE. Never enters the kernel: starts and cancels wait in the list of objects.
 */
#include "uring/watch.h"

#include "uring/object.h"

int dg_ring_watch(struct engine *engine, struct watch *watch)
{
    struct object *object = watch->state;
    if (object == NULL) {
        object = dg_ring_object_make(engine);
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
    ring_object_queue(engine, object);
    return 0;
}

void dg_ring_unwatch(struct engine *engine, struct watch *watch)
{
    struct object *object = watch->state;
    watch->state = NULL;
    if (object->armed) {
        object->forgotten = true;
        object->cancel = true;
        ring_object_queue(engine, object);
        return;
    }
    dg_ring_object_end(engine, object);
}

void dg_ring_watch_prepare(struct object *object, struct io_uring_sqe *sqe)
{
    io_uring_prep_poll_add(sqe, object->watch->fd, (unsigned) object->watch->events);
    sqe->user_data = ring_user_data(OPERATION_POLL, object->generation, object->index);
    if (object->owner != NULL) {
        object->owner->polls++;
    }
}

void dg_ring_watch_completed(struct engine *engine, const struct io_uring_cqe *cqe)
{
    struct object *object = ring_object_of(engine, cqe->user_data);
    struct object *owner = object->owner;
    object->armed = false;
    if (object->forgotten) {
        dg_ring_object_end(engine, object);
    } else if (engine->resting && cqe->res == -ECANCELED) {
        object->start = true;
        ring_object_queue(engine, object);
    } else {
        *completions_append(engine->out) = (struct completion){
            .kind = COMPLETION_READY, .watch = object->watch, .result = cqe->res};
    }
    if (owner != NULL) {
        owner->polls--;
        dg_ring_object_detached(engine, owner);
    }
}
