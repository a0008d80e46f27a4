/* SPDX-License-Identifier: MIT */
/*
 * enter.c: the submission queue and the completion queue.
 *
 * Owns the free SQEs and the CQEs that nobody has seen. Makes SQEs of objects, hands each CQE to
 * the file that asked for it, and decides what an enter's result means. Never sleeps for work, and
 * makes no SQE of a train: send.c does.
 */
#include "uring/enter.h"

#include <time.h>

#include "uring/lend.h"
#include "uring/object.h"
#include "uring/receive.h"
#include "uring/train.h"
#include "uring/watch.h"

/* ---- Submission ---------------------------------------------------------------------------- */

struct io_uring_sqe *dg_ring_sqe(struct engine *engine)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&engine->ring);
    if (sqe == NULL && engine->enabled && io_uring_submit(&engine->ring) > 0) {
        sqe = io_uring_get_sqe(&engine->ring);
    }
    return sqe;
}

static void prepare_start(struct engine *engine, struct object *object, struct io_uring_sqe *sqe)
{
    object->start = false;
    object->armed = true;
    if (object->is_watch) {
        dg_ring_watch_prepare(object, sqe);
    } else {
        dg_ring_receive_prepare(engine, object, sqe);
    }
}

static void prepare_cancel(struct object *object, struct io_uring_sqe *sqe)
{
    enum operation operation = object->is_watch ? OPERATION_POLL : OPERATION_RECEIVE;
    object->cancel = false;
    io_uring_prep_cancel64(sqe, ring_user_data(operation, object->generation, object->index), 0);
    sqe->user_data = ring_user_data(OPERATION_CANCEL, 0, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS; /* the target's own completion counts */
}

/* Returns false if the SQ is full: the object stays first in the list. */
static bool submit_object(struct engine *engine, struct object *object)
{
    if (object->start) {
        struct io_uring_sqe *sqe = dg_ring_sqe(engine);
        if (sqe == NULL) {
            return false;
        }
        prepare_start(engine, object, sqe);
    }
    if (object->cancel) {
        struct io_uring_sqe *sqe = dg_ring_sqe(engine);
        if (sqe == NULL) {
            return false;
        }
        prepare_cancel(object, sqe);
    }
    return true;
}

void dg_ring_submit_objects(struct engine *engine)
{
    while (!node_alone(&engine->queued) &&
           submit_object(engine, owner_of(engine->queued.next, struct object, queued))) {
        (void) node_take(&engine->queued);
    }
}

/* ---- Completions --------------------------------------------------------------------------- */

static void complete(struct engine *engine, const struct io_uring_cqe *cqe)
{
    switch ((enum operation)(cqe->user_data >> 56)) {
    case OPERATION_RECEIVE:
        dg_ring_receive_completed(engine, cqe);
        break;
    case OPERATION_POLL:
        dg_ring_watch_completed(engine, cqe);
        break;
    case OPERATION_SEND:
        dg_ring_train_failed(engine, cqe->user_data, cqe->res);
        break;
    case OPERATION_LEND:
        dg_ring_loan_completed(engine, cqe);
        break;
    case OPERATION_CANCEL:
        break; /* "not found": the target ended by itself meanwhile */
    }
}

void dg_ring_harvest(struct engine *engine)
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

/* ---- After an enter ------------------------------------------------------------------------ */

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

/* A kernel that lets nothing in is given a moment after each refusal. Returns false when it has
 * refused for a second: then the ring is broken. */
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

int dg_ring_reap(struct engine *engine, int code, bool slept)
{
    while (enter_is_fine(code)) {
        dg_ring_harvest(engine);
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
