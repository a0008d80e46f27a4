/* SPDX-License-Identifier: MIT */
/*
 * inherit.c: the thread that owns the ring ends, and another one closes the sockets.
 *
 * Owns `resting`, `inherited` and `down`. Never sleeps but for the end of cancelled operations.
 *
 * A ring with SINGLE_ISSUER takes nothing from another thread than its own (EEXIST), not even a
 * cancel. Armed operations outlive that thread and hold its sockets. So the owner cancels
 * everything as its last deed, when the thread ends. (At the end of each run it would be too dear:
 * to cancel and to start again takes 0.7 us with one socket, 4.4 with ten.) Where it did not, only
 * the end of the ring lets go of the sockets: the kernel cancels its requests some milliseconds
 * after that, 5 to 12 on 6.18.
 */
#include "uring/inherit.h"

#include "uring/enter.h"
#include "uring/object.h"

static bool anything_armed(const struct engine *engine)
{
    for (uint32_t i = 0; i < engine->object_capacity; i++) {
        if (engine->objects[i] != NULL && engine->objects[i]->armed) {
            return true;
        }
    }
    return false;
}

/* Waits for one completion, for a moment. */
static int await(struct engine *engine)
{
    struct __kernel_timespec moment = {.tv_nsec = 10000000};
    struct io_uring_cqe *cqe;
    int code = io_uring_submit_and_wait_timeout(&engine->ring, &cqe, 1, &moment, NULL);
    return dg_ring_reap(engine, code, true);
}

/* Cancels all by one operation. The completions of those that it ends count, not its own. */
void dg_ring_rest(struct engine *engine)
{
    enum { TRIES = 100 };
    if (!engine->enabled || engine->broken < 0 || !anything_armed(engine)) {
        return;
    }
    struct io_uring_sqe *sqe = dg_ring_sqe(engine);
    if (sqe == NULL) {
        return; /* inherit() will find it armed */
    }
    io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
    sqe->user_data = ring_user_data(OPERATION_CANCEL, 0, 0);
    engine->resting = true;
    for (int tries = 0; engine->broken == 0 && tries < TRIES && anything_armed(engine); tries++) {
        engine->broken = await(engine);
    }
    engine->resting = false;
}

/* Operations that are not armed need the ring no more: sends go by system call, and a detach is
 * done at once. A broken ring is of no account from here on. */
int dg_ring_inherit(struct engine *engine)
{
    bool armed = anything_armed(engine);
    engine->inherited = true;
    engine->enabled = false;
    engine->broken = 0;
    if (!armed) {
        return 0;
    }
    io_uring_queue_exit(&engine->ring);
    engine->down = true;
    engine->receiver_count = 0;
    for (uint32_t i = 0; i < engine->object_capacity; i++) {
        struct object *object = engine->objects[i];
        if (object != NULL) {
            dg_ring_object_dropped(engine, object);
        }
    }
    return -EBUSY;
}
