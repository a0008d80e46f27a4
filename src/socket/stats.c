/* SPDX-License-Identifier: MIT */
/* stats.c: the counters of a socket. Its parts count; here they are put together. */
#include "src/base/sized.h"
#include "src/send/batch.h"
#include "src/socket/socket.h"

int dgram_socket_stats(const struct dgram_socket *socket, struct dgram_socket_stats *stats)
{
    if (socket == NULL) {
        return DGRAM_ENULL;
    }
    if (loop_forked(socket->loop)) {
        return DGRAM_EFORKED;
    }
    const struct sender *sender = &socket->sender;
    const struct receiver *receiver = &socket->receiver;
    const struct dgram_socket_stats ours = {
        .received = receiver->received,
        .received_bytes = receiver->received_bytes,
        .receives = receiver->receives,
        .truncated = receiver->truncated,
        .discarded = receiver->discarded,
        .sent = sender->sent,
        .sent_bytes = sender->sent_bytes,
        .sends = sender->sends,
        .trains_refused = sender->trains_refused,
        .parked = sender->parked_count,
        .send_errors = sender->errors,
        .errors_lost = socket->errors.lost,
        .dropped = socket->endpoint.fd < 0 ? socket->dropped
                                           : socket->loop->system->drops(socket->endpoint.fd),
    };
    return dg_result_write(stats, &ours, sizeof(ours),
                           offsetof(struct dgram_socket_stats, received_bytes));
}

size_t dgram_get_send_queue_size(const struct dgram_socket *socket)
{
    if (socket == NULL || socket->state >= SOCKET_CLOSING) {
        return 0;
    }
    dg_batch_sync(socket->loop->outbox->batch);
    return (size_t) socket->sender.queue_bytes;
}

size_t dgram_get_send_queue_count(const struct dgram_socket *socket)
{
    if (socket == NULL || socket->state >= SOCKET_CLOSING) {
        return 0;
    }
    dg_batch_sync(socket->loop->outbox->batch);
    return (size_t) socket->sender.queue_count;
}
