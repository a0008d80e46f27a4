/* SPDX-License-Identifier: MIT */
/* sender.c: see sender.h. It opens and closes; everything else is done elsewhere. */
#include "src/send/sender.h"

#include "src/base/memory.h"
#include "src/send/batch.h"
#include "src/send/request.h"
#include "src/send/retry.h"

int dg_outbox_open(struct dgram_loop *loop, uint32_t segments_max, uint64_t queue_limit)
{
    struct outbox *outbox = dg_allocate(sizeof(*outbox));
    if (outbox == NULL) {
        return -ENOMEM;
    }
    loop->outbox = outbox;
    outbox->loop = loop;
    outbox->segments_max = segments_max;
    outbox->queue_limit = queue_limit;
    outbox->retry.run = dg_retry_ring;
    node_init(&outbox->drains);
    node_init(&outbox->later);
    dg_requests_open(outbox);
    dg_peer_secrets(loop->system->random(), outbox->secrets);
    int code = dg_alarms_reserve(&loop->alarms);
    return code < 0 ? code : dg_batch_create(&outbox->batch);
}

void dg_outbox_close(struct dgram_loop *loop)
{
    if (loop->outbox != NULL) {
        dg_requests_close(loop->outbox);
        dg_batch_free(loop->outbox->batch);
        dg_release(loop->outbox);
    }
}

void dg_outbox_forget(struct dgram_loop *loop)
{
    struct batch *batch = loop->outbox->batch;
    for (uint32_t i = 0; i < batch->train_count; i++) {
        dg_requests_forget(&batch->trains[i].requests);
    }
    dg_requests_forget(&loop->outbox->done);
}

void dg_sender_init(struct sender *sender, struct dgram_loop *loop)
{
    sender->loop = loop;
    sender->writable.fn = dg_retry_woken;
    node_init(&sender->drains);
    node_init(&sender->stalls);
    node_init(&sender->awaits);
    node_init(&sender->later);
}

void dg_sender_end(struct sender *sender)
{
    sender->ended = true;
    dg_batch_sync(sender->loop->outbox->batch);
    sender->last_flow = NULL;
}

void dg_sender_detach(struct sender *sender)
{
    dg_ledger_close(sender);
    dg_watch_end(&sender->loop->io, &sender->writable);
}

bool dg_sender_is_idle(const struct sender *sender)
{
    return sender->queue_count == 0 && sender->stalled == 0 && sender->last_flow == NULL &&
           node_alone(&sender->later) && node_alone(&sender->stalls) &&
           node_alone(&sender->awaits) && node_alone(&sender->drains);
}
