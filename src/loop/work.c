/* SPDX-License-Identifier: MIT */
/* work.c: see work.h. */
#include "src/loop/work.h"

#include "src/core/agenda.h"
#include "src/core/io.h"
#include "src/loop/post.h"
#include "src/loop/timer.h"
#include "src/receive/receiver.h"
#include "src/send/submit.h"

/* Work that keeps a loop alive. Starting and stopping a receive does not: a flooded socket that is
 * unref'd always has that to do. Nor do received datagrams that wait. */
static bool has_other_work(struct dgram_loop *loop)
{
    return (loop->agenda->due & ~(UINT32_C(1) << PHASE_RECEIVE)) != 0 ||
           loop->io->pending.count > 0 || dg_send_wants_answer(loop);
}

bool dg_loop_has_work(struct dgram_loop *loop)
{
    return loop->io->pending.count > 0 || loop->agenda->due != 0 || has_other_work(loop) ||
           dg_inlet_has_work(loop);
}

bool dg_loop_is_alive(struct dgram_loop *loop)
{
    return loop->keeping > 0 || loop->timers->keeping > 0 || loop->outbox->queue_charge > 0 ||
           loop->outbox->loans_out > 0 || send_is_queued(loop) || has_other_work(loop) ||
           dg_inbox_waiting(loop);
}

bool dg_loop_may_sleep(struct dgram_loop *loop)
{
    bool stopped = atomic_load(&loop->inbox->stop) && !loop->freeing; /* that goes to its end */
    if (dg_loop_has_work(loop) || stopped) {
        return false;
    }
    return loop->keeping > 0 || loop->timers->keeping > 0 || loop->outbox->loans_out > 0 ||
           (loop->outbox->queue_charge > 0 && !send_is_queued(loop));
}
