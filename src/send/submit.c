/* SPDX-License-Identifier: MIT */
/* submit.c: see submit.h. */
#include "src/send/submit.h"

#include "src/base/cancel.h"
#include "src/base/list.h"
#include "src/base/queue.h"
#include "src/core/agenda.h"
#include "src/core/io.h"
#include "src/send/buffer.h"
#include "src/send/outcome.h"
#include "src/send/park.h"

int dg_send_settle(struct dgram_loop *loop, int code)
{
    struct batch *batch = loop->outbox->batch;
    batch->code = code;
    if (batch->flow_count == 0) {
        return code;
    }
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        dg_flow_settle(loop, &batch->flows[i]);
    }
    for (uint32_t i = 0; i < batch->flow_count; i++) {
        dg_park_rejoin(&batch->flows[i]);
    }
    for (uint32_t i = 0; batch->in_buffers > 0 && i < batch->train_count; i++) {
        if (batch->trains[i].buffer != NULL) {
            dg_buffer_left(loop, &batch->trains[i]);
        }
    }
    dg_batch_reset(batch);
    ledger_check_drains(loop);
    return batch->code;
}

void dg_send_hand_over(struct dgram_loop *loop)
{
    struct batch *batch = loop->outbox->batch;
    size_t count = batch->flow_count > 0 ? dg_batch_order(batch) : 0;
    for (uint32_t i = 0; batch->in_buffers > 0 && i < batch->train_count; i++) {
        struct dg_train *train = &batch->trains[i];
        if (train->buffer != NULL && !train->flow->sender->announces) {
            dg_buffer_lend(loop, train);
        }
    }
    if (count > 0) {
        loop->io->backend->send(loop->io->engine, loop->outbox->batch->order, count);
        loop->outbox->flushes++;
        loop->outbox->sent_at = loop->now;
    }
}

int dg_send_flush(struct dgram_loop *loop)
{
    int cancel_state = cancel_hold();
    dg_send_hand_over(loop);
    loop->io->arms = false;
    int code = dg_send_settle(loop, loop->io->backend->flush(loop->io->engine));
    if (loop->io->arms && code == 0) {
        code =
            loop->io->backend->flush(loop->io->engine); /* parked datagrams wait for POLLOUT now */
        loop->io->arms = false;
    }
    dg_io_note(loop->io, code);
    if (loop->io->pending.count > 0) {
        agenda_wake(loop->agenda); /* there is more to tell than results of sends */
    }
    cancel_release(cancel_state);
    return code;
}

bool dg_send_wants_answer(const struct dgram_loop *loop)
{
    const struct batch *batch = loop->outbox->batch;
    if (batch->in_buffers > 0 || (!node_alone(&loop->outbox->drains) && batch->train_count > 0)) {
        return true;
    }
    for (uint32_t i = 0; i < batch->train_count; i++) {
        const struct dg_train *train = &batch->trains[i];
        if (!queue_is_empty(&train->requests) || train->flow->sender->emptied != NULL) {
            return true;
        }
    }
    return false;
}
