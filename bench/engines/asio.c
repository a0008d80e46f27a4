/* SPDX-License-Identifier: MIT */
/*
 * asio.c: `asio`: standalone asio, as a C++ program uses it.
 *
 * Knows each of its ways to send (async_send_to; send_to without blocking) and to receive
 * (async_receive_from; receive_from when async_wait says so). asio itself is in asio_sockets.cc.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/engines/asio_sockets.h"
#include "bench/engines/engines.h"

static const char *const asio_modes[] = {
    "async_send_to+async_receive_from",
    "async_send_to+receive_from",
    "send_to+async_receive_from",
    "send_to+receive_from",
    NULL,
};

/* ---- Receiving and turns ------------------------------------------------------------------- */

static void on_datagram(void *user, uint32_t socket, const struct sockaddr *from, size_t from_size,
                        const void *data, size_t size)
{
    struct end *end = user;
    struct dgram_addr address;

    if (!end_wants_names(end)) {
        end_take(end, socket, NULL, data, (uint32_t) size);
        return;
    }
    address.size = (uint32_t) from_size;
    memcpy(&address.u, from, from_size);
    end->on_datagram(end, &address, data, (uint32_t) size);
}

static int asio_turn(struct end *end, bool wait)
{
    int result = asio_group_turn(end->state, wait ? TICK_MS : 0);

    return result == 0 ? 0 : end_fail(end, "an asio operation", result);
}

static uint64_t asio_pending(struct end *end)
{
    return asio_group_pending(end->state);
}

/* ---- Sending ------------------------------------------------------------------------------- */

/* Hands one datagram to asio. Returns 0, -EAGAIN if asio did not take it, or another negated
 * errno. */
static int send_one(struct end *end, const struct cursor *cursor)
{
    const struct dgram_addr *to = &end->peers[cursor->peer];
    void *payload = asio_group_payload(end->state);

    if (!payload) {
        return -EAGAIN;
    }
    number_write(payload, cursor->number);
    return asio_group_send(end->state, &to->u.any, to->size,
                           sizes_of(end->sizes, cursor->number, cursor->peer));
}

static int64_t asio_send(struct end *end, uint64_t first, uint32_t count)
{
    struct cursor cursor = cursor_at(first, end->plan->peers);
    uint32_t i = 0;

    while (i < count) {
        int result = send_one(end, &cursor);

        if (result == 0) {
            cursor_next(&cursor);
            i++;
        } else if (result != -EAGAIN) {
            return end_fail(end, "send_to", result);
        } else if (asio_turn(end, false) != 0) {
            return -1;
        } else if (end_stopped(end)) {
            break;
        }
    }
    return asio_turn(end, false) == 0 ? (int64_t) i : -1;
}

static int asio_reply(struct end *end, const struct dgram_addr *to, const void *data, uint32_t size)
{
    void *payload = asio_group_payload(end->state);
    int result;

    if (!payload) {
        return 1;
    }
    memcpy(payload, data, size);
    result = asio_group_send(end->state, &to->u.any, to->size, size);
    if (result == -EAGAIN) {
        return 1;
    }
    return result == 0 ? 0 : end_fail(end, "send_to", result);
}

/* ---- Open and close ------------------------------------------------------------------------ */

static int sockets_name(struct end *end)
{
    for (uint32_t i = 0; i < end->sockets; i++) {
        struct dgram_addr *local = &end->local[i];
        size_t size = sizeof(local->u);
        int result = asio_group_name(end->state, i, &local->u.any, &size, &end->granted);

        if (result != 0) {
            return end_fail(end, "local_endpoint", result);
        }
        local->size = (uint32_t) size;
    }
    return 0;
}

/* A server's datagrams may have any size. */
static int asio_open(struct end *end)
{
    struct asio_setup setup = {
        .bind_to = &end->bind_to.u.any,
        .bind_size = end->bind_to.size,
        .sockets = end->sockets,
        .payload = end->role == ROLE_SERVER ? SIZE_MOST : end->plan->size,
        .receive_buffer = RECEIVE_BUFFER,
        .async_send = strncmp(end->mode, "async_send_to+", 14) == 0,
        .async_receive = strstr(end->mode, "async_receive_from") != NULL,
        .take = end->role == ROLE_SOURCE ? NULL : on_datagram,
        .user = end,
    };
    struct asio_group *group = NULL;
    int result = asio_group_open(&setup, &group);

    if (result != 0) {
        return end_fail(end, "opening", result);
    }
    end->state = group;
    return sockets_name(end) == 0 ? asio_turn(end, false) : -1;
}

static void asio_close(struct end *end)
{
    if (end->state) {
        asio_group_close(end->state);
    }
    end->state = NULL;
}

static const char *const asio_receive_modes[] = {"async_receive_from", "receive_from", NULL};

const struct engine engine_asio = {
    .name = "asio",
    .summary = "standalone asio, in the best of its modes",
    .traits = ENGINE_ANSWERS,
    .modes = asio_modes,
    .receive_modes = asio_receive_modes,
    .reply_mode = "send_to+async_receive_from",
    .open = asio_open,
    .send = asio_send,
    .reply = asio_reply,
    .turn = asio_turn,
    .pending = asio_pending,
    .close = asio_close,
};
