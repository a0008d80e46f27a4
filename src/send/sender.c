/* SPDX-License-Identifier: MIT */
/* sender.c: see sender.h. It opens and closes; everything else is done elsewhere. */
#include "src/send/sender.h"

#include <errno.h>

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/core/agenda.h"
#include "src/core/alarm.h"
#include "src/core/io.h"
#include "src/send/batch.h"
#include "src/send/path.h"
#include "src/send/request.h"
#include "src/send/retry.h"
#include "src/system.h"

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
    for (int i = 0; i < BATCH_BUCKETS; i++) {
        node_init(&outbox->stalls[i]);
    }
    dg_requests_open(outbox);
    dg_peer_secrets(loop->system->random(), outbox->secrets);
    int code = dg_paths_open(outbox);
    if (code == 0) {
        code = dg_alarms_reserve(loop->alarms);
    }
    return code < 0 ? code : dg_batch_create(&outbox->batch);
}

void dg_outbox_close(struct dgram_loop *loop)
{
    if (loop->outbox != NULL) {
        dg_requests_close(loop->outbox);
        dg_paths_close(loop->outbox);
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

void dg_sender_init(struct sender *sender, struct dgram_loop *loop,
                    const struct sender_config *config)
{
    bool in4 = config->family == AF_INET;
    uint32_t segments = config->segments_max, most = loop->outbox->segments_max;
    sender->loop = loop;
    sender->socket = config->socket;
    sender->endpoint = config->endpoint;
    sender->sink = config->sink;
    sender->family = config->family;
    sender->peer_size = in4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    sender->size_max = in4 ? DGRAM_UDP4_SIZE_MAX : DGRAM_UDP6_SIZE_MAX;
    sender->segments_max = segments != 0 && segments < most ? segments : most;
    sender->queue_limit = config->queue_limit;
    sender->writable.fn = dg_retry_woken;
    dg_task_init(&sender->drain, PHASE_EVENTS, config->drain);
    node_init(&sender->drains);
    node_init(&sender->stalls);
    node_init(&sender->awaits);
    node_init(&sender->later);
}

static void lane_close(struct sender *sender)
{
    dg_batch_sync(sender->loop->outbox->batch);
    sender->last_flow = NULL;
    sender->ended = true;
}

void dg_sender_end(struct sender *sender, void (*emptied)(struct sender *sender))
{
    lane_close(sender);
    if (sender->queue_count == 0) {
        emptied(sender);
    } else {
        sender->emptied = emptied;
    }
}

void dg_sender_close(struct sender *sender)
{
    lane_close(sender);
    sender->emptied = NULL;
    sender->announces = false;
    sender->closing = true;
    dg_agenda_drop(sender->loop->agenda, &sender->drain);
}

void dg_sender_detach(struct sender *sender)
{
    dg_ledger_close(sender);
    dg_watch_end(sender->loop->io, &sender->writable);
}

bool dg_sender_is_idle(const struct sender *sender)
{
    return sender->queue_count == 0 && sender->stalled == 0 && sender->last_flow == NULL &&
           node_alone(&sender->later) && node_alone(&sender->stalls) &&
           node_alone(&sender->awaits) && node_alone(&sender->drains);
}

void dg_sender_stats(const struct sender *sender, struct dgram_socket_stats *stats)
{
    stats->sent = sender->sent;
    stats->sent_bytes = sender->sent_bytes;
    stats->sends = sender->sends;
    stats->trains_refused = sender->trains_refused;
    stats->parked = sender->parked_count;
    stats->send_errors = sender->errors;
}
