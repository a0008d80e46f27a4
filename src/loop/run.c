/* SPDX-License-Identifier: MIT */
/* run.c: the public functions that turn a loop, and tell of it. */
#include "src/base/cancel.h"
#include "src/base/sized.h"
#include "src/core/check.h"
#include "src/core/io.h"
#include "src/loop/loop.h"
#include "src/loop/turn.h"
#include "src/loop/work.h"
#include "src/receive/pool.h"
#include "src/receive/receiver.h"
#include "src/send/buffer.h"
#include "src/send/submit.h"
#include "src/system.h"

static int turn_begin(struct dgram_loop *loop)
{
    if (loop == NULL) {
        return DGRAM_ENULL;
    }
    if (loop_forked(loop)) {
        return DGRAM_EFORKED;
    }
    if (loop->in_turn) {
        return DGRAM_EREENTERED;
    }
    if (dg_owner_is_other(loop)) {
        return DGRAM_EWRONGTHREAD;
    }
    if (!loop->ownership->attended) {
        dg_owner_attend(loop);
    }
    loop->in_turn = true;
    loop->ownership->cancel_state = cancel_hold();
    loop->now = loop->system->now();
    return 0;
}

static int leave(struct dgram_loop *loop, int code)
{
    return code == 0 && !rooms_of(loop)->free_requested ? dg_turn_leave(loop) : code;
}

/* Leaves the turn; true if a callback had asked to free the loop, which is gone then. */
static bool turn_end(struct dgram_loop *loop)
{
    int cancel_state = loop->ownership->cancel_state;
    bool freed = rooms_of(loop)->free_requested;
    loop->in_turn = false;
    if (freed) {
        (void) dgram_loop_free(loop);
    } else {
        dg_embedding_set(loop);
    }
    cancel_release(cancel_state);
    return freed;
}

/* Nothing is half done between two turns: here, and nowhere else, pthread_cancel(3) may end the
 * thread. It leaves the loop as if dgram_loop_run() had returned. */
static void cancellation_point(struct dgram_loop *loop)
{
    if (loop->ownership->cancel_state == PTHREAD_CANCEL_ENABLE) {
        loop->in_turn = false;
        cancel_release(PTHREAD_CANCEL_ENABLE);
        pthread_testcancel();
        (void) cancel_hold();
        loop->in_turn = true;
    }
}

/* Looks first: an exchange locks the bus, and this is asked in every turn. */
static bool stop_taken(struct dgram_loop *loop)
{
    return atomic_load(&loop->inbox->stop) && atomic_exchange(&loop->inbox->stop, false);
}

int dgram_loop_turn(struct dgram_loop *loop, int64_t timeout_ns)
{
    int code = turn_begin(loop);
    if (code < 0) {
        return code;
    }
    dg_embedding_clear(loop);
    bool stopped = stop_taken(loop);
    code = leave(loop, dg_turn(loop, stopped ? 0 : timeout_ns));
    int alive = dg_loop_is_alive(loop);
    if (turn_end(loop)) {
        return 0;
    }
    return code < 0 ? code : alive;
}

int dgram_loop_run(struct dgram_loop *loop)
{
    int code = turn_begin(loop);
    if (code < 0) {
        return code;
    }
    bool stopped = false;
    dg_embedding_clear(loop);
    while (code == 0 && !stopped) {
        cancellation_point(loop);
        stopped = stop_taken(loop);
        if (stopped || !dg_loop_is_alive(loop)) {
            break;
        }
        code = dg_turn(loop, -1);
        stopped = rooms_of(loop)->free_requested;
    }
    code = leave(loop, code);
    if (turn_end(loop)) {
        return 1;
    }
    return code < 0 ? code : stopped;
}

int dgram_loop_flush(struct dgram_loop *loop)
{
    if (loop == NULL) {
        return DGRAM_ENULL;
    }
    return loop_forked(loop) ? DGRAM_EFORKED : dg_send_flush(loop);
}

uint64_t dgram_loop_now(const struct dgram_loop *loop)
{
    return loop == NULL ? 0 : loop->now;
}

int dgram_loop_info(struct dgram_loop *loop, struct dgram_loop_info *info)
{
    if (loop == NULL) {
        return DGRAM_ENULL;
    }
    if (loop_forked(loop)) {
        return DGRAM_EFORKED;
    }
    const struct loop_rooms *rooms = rooms_of(loop);
    struct dgram_loop_info ours = {
        .size = sizeof(ours),
        .engine = dg_engine_number(loop->io->backend),
        .segments_max = loop->outbox->segments_max,
        .slots = rooms->slots,
        .slot_size = rooms->slot_size,
        .name = loop->io->backend->name,
        .refused_code = rooms->choice.refused_code,
        .slots_free = dg_pool_free_count(dg_inlet_pool(loop)),
        .refused_call = rooms->choice.refused_call,
        .refused_advice = rooms->choice.refused_advice,
        .turns = loop->turns,
        .flushes = loop->outbox->flushes,
        .failed_call = loop->io->failed_call,
        .failed_code = loop->io->failed_code,
    };
    dg_buffers_info(loop, &ours);
    return dg_result_write(info, &ours, sizeof(ours),
                           offsetof(struct dgram_loop_info, segments_max));
}
