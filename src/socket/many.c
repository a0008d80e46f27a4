/* SPDX-License-Identifier: MIT */
/* many.c: many datagrams at once, and datagrams in pieces. */
#include <errno.h>
#include <string.h>

#include "src/send/accept.h"
#include "src/socket/destination.h"
#include "src/socket/send.h"

/* The payload of an item; pieces are joined into a buffer of the loop, which lends nothing. */
static int item_payload(struct dgram_socket *socket, const struct dgram_outgoing *item,
                        dgram_sent_fn *fn, struct payload *ret_payload)
{
    bool borrowed = !(item->flags & DGRAM_COPY) && send_borrows(socket, item->data, fn);
    if (item->pieces == NULL) {
        *ret_payload = (struct payload){
            .data = item->data, .size = (uint32_t) item->size, .borrowed = borrowed};
        return dg_send_check(socket, item->data, item->size);
    }
    size_t size = 0;
    for (size_t i = 0; i < item->piece_count; i++) {
        const struct iovec *piece = &item->pieces[i];
        int code = dg_send_check(socket, piece->iov_base, piece->iov_len);
        if (code < 0) {
            return code;
        }
        if (size + piece->iov_len > sender_size_max(&socket->sender)) {
            return -EMSGSIZE;
        }
        if (piece->iov_len > 0) {
            memcpy(socket->loop->pieces + size, piece->iov_base, piece->iov_len);
        }
        size += piece->iov_len;
    }
    *ret_payload = (struct payload){.data = socket->loop->pieces, .size = (uint32_t) size};
    return dg_send_check(socket, socket->loop->pieces, size);
}

static int item_send(struct dgram_socket *socket, const struct dgram_outgoing *item,
                     dgram_sent_fn *fn, void *user)
{
    struct payload payload;
    union dg_peer peer;
    if ((item->flags & ~DGRAM_COPY) != 0 || (item->address != NULL && item->destination != NULL)) {
        return DGRAM_EBADOPTIONS;
    }
    if (item->address == NULL && item->destination == NULL) {
        return DGRAM_ENULL;
    }
    if (fn == NULL && item->pieces == NULL) { /* by the lanes */
        return item->address != NULL
                   ? dgram_send_to(socket, item->data, item->size, item->address, NULL, NULL)
                   : dgram_send_dest(socket, item->data, item->size, item->destination, NULL, NULL);
    }
    int code = item->address != NULL ? dg_send_address(socket, item->address, &peer)
                                     : dg_destination_check(socket, item->destination);
    if (code == 0) {
        code = item_payload(socket, item, fn, &payload);
    }
    if (code != 0) {
        return code;
    }
    user = item->user != NULL ? item->user : user;
    return item->address != NULL
               ? dg_send_accept(&socket->sender, &peer, &payload, fn, user)
               : dg_destination_send(socket, item->destination, &payload, fn, user);
}

int dgram_send_many(struct dgram_socket *socket, struct dgram_outgoing *items, size_t count,
                    dgram_sent_fn *fn, void *user)
{
    int accepted = 0, status = socket_check(socket);
    if (status == 0 && socket->state != SOCKET_OPEN) {
        status = DGRAM_ENOTRUNNING;
    }
    if (status < 0 || (items == NULL && count > 0)) {
        return status < 0 ? status : (int) DGRAM_ENULL;
    }
    for (size_t i = 0; i < count; i++) {
        status = status == -EAGAIN ? -EAGAIN : item_send(socket, &items[i], fn, user);
        items[i].status = status;
        accepted += status == 0;
    }
    return accepted;
}
