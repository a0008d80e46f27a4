/* SPDX-License-Identifier: MIT */
/*
 * uring.c: the io_uring engine's turn, and the table of functions that the core calls.
 *
 * In a turn requests of the core become SQEs, one enter submits them and waits, and CQEs become
 * records. Owns the sleep: no other file of the engine waits for work. Never looks into an object
 * or a train.
 */
#include <sys/eventfd.h>

#include "uring/enter.h"
#include "uring/inherit.h"
#include "uring/lend.h"
#include "uring/peek.h"
#include "uring/receive.h"
#include "uring/send.h"
#include "uring/setup.h"
#include "uring/slot.h"
#include "uring/train.h"
#include "uring/watch.h"

extern const struct backend dg_backend_uring;

static void prepare_all(struct engine *engine, bool flush)
{
    ring_slots_publish(engine);
    dg_ring_send_queue(engine, flush);
    if (engine->enabled && engine->broken == 0) {
        dg_ring_submit_objects(engine);
    }
}

static int finish(struct engine *engine, int entered, bool slept)
{
    int code = engine->broken < 0 ? engine->broken : dg_ring_reap(engine, entered, slept);
    if (code < 0) {
        *engine->failed_call = "io_uring_enter";
        engine->broken = code;
    }
    dg_ring_trains_answer(engine, code);
    return code;
}

static int uring_flush(struct engine *engine)
{
    int code = engine->broken;
    if (code < 0) {
        dg_ring_trains_answer(engine, code);
        return code;
    }
    prepare_all(engine, true);
    if (engine->broken < 0) { /* by a loan, which is submitted at once */
        return finish(engine, engine->broken, false);
    }
    if (engine->enabled && io_uring_sq_ready(&engine->ring) > 0) {
        return finish(engine, io_uring_submit(&engine->ring), false);
    }
    dg_ring_trains_answer(engine, 0);
    return 0;
}

/* There is something to tell that is no CQE, or something left to submit. */
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
 * Returns how many completions end a sleep. With DEFER_TASKRUN the kernel counts operations that
 * become due, a socket once however much it received, and wakes nobody before there are enough
 * (6.5; older ones wake each time and sleep on). The limit is a timeout and not the kernel's
 * minimum wait (6.12), which slept on with completions there up to 6.18 (liburing issue 1477).
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
    int code = engine->broken < 0 ? engine->broken : dg_ring_enable(engine);
    if (code < 0) {
        dg_ring_trains_answer(engine, code);
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

const struct backend dg_backend_uring = {
    .name = "uring",
    .open = dg_ring_open,
    .close = dg_ring_close,
    .attach = dg_ring_attach,
    .detach = dg_ring_detach,
    .provide = dg_ring_provide,
    .recv_start = dg_ring_recv_start,
    .recv_stop = dg_ring_recv_stop,
    .recycle = dg_ring_recycle,
    .send = dg_ring_send,
    .lend = dg_ring_lend,
    .reclaim = dg_ring_reclaim,
    .rest = dg_ring_rest,
    .inherit = dg_ring_inherit,
    .flush = uring_flush,
    .watch = dg_ring_watch,
    .unwatch = dg_ring_unwatch,
    .wait = uring_wait,
    .peek = dg_ring_peek,
    .fd = dg_ring_event_fd,
};
