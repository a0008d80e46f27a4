/* SPDX-License-Identifier: MIT */
/* stats.c: the counters of a socket. Its parts count; here they are put together. */
#include "src/base/queue.h"
#include "src/base/sized.h"
#include "src/send/batch.h"
#include "src/socket/socket.h"
#include "src/system.h"

int dgram_socket_stats(const struct dgram_socket *socket, struct dgram_socket_stats *stats)
{
    if (socket == NULL) {
        return DGRAM_ENULL;
    }
    if (loop_forked(socket->loop)) {
        return DGRAM_EFORKED;
    }
    struct dgram_socket_stats ours = {.errors_lost = socket->errors.lost};
    dg_sender_stats(&socket->sender, &ours);
    dg_receiver_stats(&socket->receiver, &ours);
    ours.dropped = socket->endpoint.fd < 0 ? socket->dropped
                                           : socket->loop->system->drops(socket->endpoint.fd);
    return dg_result_write(stats, &ours, sizeof(ours),
                           offsetof(struct dgram_socket_stats, received_bytes));
}

/* A socket that closes has no queue any more. */
static struct queued queue_of(const struct dgram_socket *socket)
{
    bool open = socket != NULL && socket->state < SOCKET_CLOSING;
    return open ? dg_batch_queued(&socket->sender) : (struct queued){0, 0};
}

size_t dgram_get_send_queue_size(const struct dgram_socket *socket)
{
    return (size_t) queue_of(socket).bytes;
}

size_t dgram_get_send_queue_count(const struct dgram_socket *socket)
{
    return (size_t) queue_of(socket).count;
}
