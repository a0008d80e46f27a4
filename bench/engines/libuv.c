/* SPDX-License-Identifier: MIT */
/*
 * libuv.c: `libuv`: the library below Node, as a program uses it.
 *
 * Knows each of its ways to send (try_send; send with a callback; try_send2 where it is there) and
 * to receive (with and without UV_UDP_RECVMMSG). The scenario finds out which way is the best.
 */
#include "bench/engines/libuv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/engines/engines.h"

#define RECEIVE_ROOM 1310720u /* 20 datagrams of any size: the most per recvmmsg of libuv */
#define REQUESTS_MOST 2048u   /* sends with a callback under way, within these bytes */
#define REQUEST_BYTES (64u << 20)

struct lane {
    struct end *end;
    uint32_t index;
};

struct uv_peer;

/* A send with a callback, and its payload. */
struct request {
    uv_udp_send_t uv;
    struct uv_peer *peer;
    uint8_t bytes[];
};

/* libuv_many.c has the function; NULL: this libuv has no such call, and no mode asks for it. */
static int (*const send_many)(uv_udp_t *handle, uint32_t count, uv_buf_t *buffers,
                              struct sockaddr **peers) = DGPERF_HAS_TRY_SEND2 ? libuv_send_many
                                                                              : NULL;

/* How to send and how to receive, joined by a plus; ends with the first NULL. */
static const char *const libuv_modes[] = {
    "try_send+recvmmsg",
    "try_send+recvmsg",
    "send+recvmmsg",
    "send+recvmsg",
    DGPERF_HAS_TRY_SEND2 ? "try_send2+recvmmsg" : NULL,
    DGPERF_HAS_TRY_SEND2 ? "try_send2+recvmsg" : NULL,
    NULL,
};

typedef int64_t send_fn(struct uv_peer *peer, uint64_t first, uint32_t count);

struct uv_peer {
    struct end *end;
    send_fn *send;
    uv_loop_t loop;
    uv_timer_t tick; /* bounds a sleeping turn */
    uv_udp_t handles[FANOUT_PEERS];
    struct lane lanes[FANOUT_PEERS];
    char *received;    /* where datagrams go: given to libuv anew for each receive */
    uint8_t *payloads; /* UV_MANY of them, of everything that is sent without a callback */
    uint8_t *requests;
    struct request **free_requests; /* a stack */
    uint32_t free_count;
    bool loop_made;
    bool batch; /* UV_UDP_RECVMMSG */
    bool failed;
};

static void peer_fail(struct uv_peer *peer, const char *what, int code)
{
    if (!peer->failed) {
        peer->failed = true;
        end_fail(peer->end, what, code);
    }
}

/* ---- Receiving ----------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    const struct lane *lane = handle->data;
    struct uv_peer *peer = lane->end->state;

    (void) suggested;
    *buffer = uv_buf_init(peer->received, peer->batch ? RECEIVE_ROOM : 65536u);
}

static void take_with_address(struct end *end, const struct lane *lane, const uv_buf_t *buffer,
                              uint32_t size, const struct sockaddr *from)
{
    struct dgram_addr address;

    address.size = from->sa_family == AF_INET6 ? sizeof(address.u.in6) : sizeof(address.u.in4);
    memcpy(&address.u, from, address.size);
    end_take(end, lane->index, &address, buffer->base, size);
}

static void on_receive(uv_udp_t *handle, ssize_t size, const uv_buf_t *buffer,
                       const struct sockaddr *from, unsigned flags)
{
    const struct lane *lane = handle->data;
    struct end *end = lane->end;

    (void) flags;
    if (size < 0) {
        peer_fail(end->state, "uv_udp_recv", (int) size);
    } else if (from && !end_wants_names(end)) {
        end_take(end, lane->index, NULL, buffer->base, (uint32_t) size);
    } else if (from) { /* no address: nothing more to read, or the buffer is free again */
        take_with_address(end, lane, buffer, (uint32_t) size, from);
    }
}

/* ---- Turns --------------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer)
{
    (void) timer;
}

static int libuv_turn(struct end *end, bool wait)
{
    struct uv_peer *peer = end->state;

    uv_run(&peer->loop, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    return peer->failed ? -1 : 0;
}

static uint64_t libuv_pending(struct end *end)
{
    const struct uv_peer *peer = end->state;

    return uv_udp_get_send_queue_count(&peer->handles[0]);
}

/* ---- Sending ------------------------------------------------------------------------------- */

static const struct sockaddr *peer_address(const struct uv_peer *peer, const struct cursor *cursor)
{
    return &peer->end->peers[cursor->peer].u.any;
}

/* Lets libuv send its queue after UV_EAGAIN. Returns 0: try again, 1: the end is stopped, or -1. */
static int send_pause(struct uv_peer *peer)
{
    if (libuv_turn(peer->end, false) != 0) {
        return -1;
    }
    return end_stopped(peer->end) ? 1 : 0;
}

/* Returns the result of a send function of which `sent` datagrams went before `result` stopped it:
 * `sent`, or -1. */
static int64_t send_answer(struct uv_peer *peer, int result, uint32_t sent)
{
    if (result >= 0 && libuv_turn(peer->end, false) != 0) {
        result = -1;
    }
    return result < 0 ? -1 : (int64_t) sent;
}

static int64_t send_by_try(struct uv_peer *peer, uint64_t first, uint32_t count)
{
    struct cursor cursor = cursor_at(first, peer->end->plan->peers);
    int result = 0;
    uint32_t i = 0;

    while (i < count && result == 0) {
        uint32_t size = sizes_of(peer->end->sizes, cursor.number, cursor.peer);
        uv_buf_t buffer = uv_buf_init((char *) peer->payloads, size);
        int sent;

        number_write(peer->payloads, cursor.number);
        sent = uv_udp_try_send(&peer->handles[0], &buffer, 1, peer_address(peer, &cursor));
        if (sent >= 0) {
            cursor_next(&cursor);
            i++;
        } else {
            result =
                sent == UV_EAGAIN ? send_pause(peer) : end_fail(peer->end, "uv_udp_try_send", sent);
        }
    }
    return send_answer(peer, result, i);
}

/* Sends `count` datagrams by one uv_udp_try_send2(). Returns how many it took, or a libuv error. */
static int many_send(struct uv_peer *peer, struct cursor cursor, uint32_t count)
{
    uv_buf_t buffers[UV_MANY];
    struct sockaddr *to[UV_MANY];

    for (uint32_t i = 0; i < count; i++) {
        uint8_t *payload = peer->payloads + (size_t) i * peer->end->plan->size;

        number_write(payload, cursor.number);
        buffers[i] =
            uv_buf_init((char *) payload, sizes_of(peer->end->sizes, cursor.number, cursor.peer));
        to[i] = (struct sockaddr *) (uintptr_t) peer_address(peer, &cursor);
        cursor_next(&cursor);
    }
    return send_many(&peer->handles[0], count, buffers, to);
}

static int64_t send_by_many(struct uv_peer *peer, uint64_t first, uint32_t count)
{
    uint32_t done = 0;
    int result = 0;

    while (done < count && result == 0) {
        uint32_t part = count - done < UV_MANY ? count - done : UV_MANY;
        int sent = many_send(peer, cursor_at(first + done, peer->end->plan->peers), part);

        if (sent >= 0) {
            done += (uint32_t) sent;
        } else {
            result = sent == UV_EAGAIN ? send_pause(peer)
                                       : end_fail(peer->end, "uv_udp_try_send2", sent);
        }
    }
    return send_answer(peer, result, done);
}

static void on_sent(uv_udp_send_t *uv, int status)
{
    struct request *request = uv->data;
    struct uv_peer *peer = request->peer;

    peer->free_requests[peer->free_count++] = request;
    if (status < 0) {
        peer_fail(peer, "uv_udp_send", status);
    }
}

static int request_send(struct uv_peer *peer, const struct cursor *cursor)
{
    struct request *request = peer->free_requests[--peer->free_count];
    uint32_t size = sizes_of(peer->end->sizes, cursor->number, cursor->peer);
    uv_buf_t buffer = uv_buf_init((char *) request->bytes, size);
    int result;

    number_write(request->bytes, cursor->number);
    result = uv_udp_send(&request->uv, &peer->handles[0], &buffer, 1, peer_address(peer, cursor),
                         on_sent);
    if (result != 0) {
        peer->free_requests[peer->free_count++] = request;
        return end_fail(peer->end, "uv_udp_send", result);
    }
    return 0;
}

static int64_t send_by_request(struct uv_peer *peer, uint64_t first, uint32_t count)
{
    struct cursor cursor = cursor_at(first, peer->end->plan->peers);
    int result = 0;
    uint32_t i = 0;

    while (i < count && result == 0) {
        if (peer->free_count == 0) {
            result = send_pause(peer);
            continue;
        }
        result = request_send(peer, &cursor);
        if (result == 0) {
            cursor_next(&cursor);
            i++;
        }
    }
    return send_answer(peer, result, i);
}

static int64_t libuv_send(struct end *end, uint64_t first, uint32_t count)
{
    struct uv_peer *peer = end->state;

    return peer->send(peer, first, count);
}

static int libuv_reply(struct end *end, const struct dgram_addr *to, const void *data,
                       uint32_t size)
{
    struct uv_peer *peer = end->state;
    uv_buf_t buffer = uv_buf_init((char *) (uintptr_t) data, size);
    int sent = uv_udp_try_send(&peer->handles[0], &buffer, 1, &to->u.any);

    if (sent == UV_EAGAIN) {
        return 1;
    }
    return sent >= 0 ? 0 : end_fail(end, "uv_udp_try_send", sent);
}

/* ---- Open and close ------------------------------------------------------------------------ */

static void mode_read(struct uv_peer *peer)
{
    const char *mode = peer->end->mode;

    if (strncmp(mode, "try_send2+", 10) == 0) {
        peer->send = send_by_many;
    } else if (strncmp(mode, "send+", 5) == 0) {
        peer->send = send_by_request;
    } else {
        peer->send = send_by_try;
    }
    peer->batch = strstr(mode, "recvmmsg") != NULL;
}

static int requests_make(struct uv_peer *peer)
{
    size_t stride = (sizeof(struct request) + peer->end->plan->size + 63) & ~(size_t) 63;
    size_t count = REQUEST_BYTES / stride < REQUESTS_MOST ? REQUEST_BYTES / stride : REQUESTS_MOST;

    peer->requests = calloc(count, stride);
    peer->free_requests = calloc(count, sizeof(struct request *));
    if (!peer->requests || !peer->free_requests) {
        return end_fail(peer->end, "memory", -ENOMEM);
    }
    for (size_t i = 0; i < count; i++) {
        struct request *request = (struct request *) (void *) (peer->requests + i * stride);

        request->peer = peer;
        request->uv.data = request;
        peer->free_requests[i] = request;
    }
    peer->free_count = (uint32_t) count;
    return 0;
}

static int memory_make(struct uv_peer *peer)
{
    peer->received = malloc((size_t) RECEIVE_ROOM);
    peer->payloads = calloc(UV_MANY, peer->end->plan->size);
    if (!peer->received || !peer->payloads) {
        return end_fail(peer->end, "memory", -ENOMEM);
    }
    return peer->send == send_by_request ? requests_make(peer) : 0;
}

static int loop_make(struct uv_peer *peer)
{
    int result = uv_loop_init(&peer->loop);

    if (result != 0) {
        return end_fail(peer->end, "uv_loop_init", result);
    }
    peer->loop_made = true;
    uv_timer_init(&peer->loop, &peer->tick);
    uv_timer_start(&peer->tick, on_tick, TICK_MS, TICK_MS);
    return 0;
}

/* Notes the address and the buffer of a bound socket, and starts to receive if the end does. */
static int socket_start(struct end *end, uv_udp_t *handle, uint32_t index)
{
    struct dgram_addr *local = &end->local[index];
    int name_size = sizeof(local->u);
    int bytes = (int) RECEIVE_BUFFER;
    int result = uv_udp_getsockname(handle, &local->u.any, &name_size);

    if (result != 0) {
        return end_fail(end, "uv_udp_getsockname", result);
    }
    local->size = (uint32_t) name_size;
    uv_recv_buffer_size((uv_handle_t *) handle, &bytes); /* granted as far as allowed */
    bytes = 0;
    uv_recv_buffer_size((uv_handle_t *) handle, &bytes); /* 0 asks */
    end->granted = (uint32_t) bytes;
    if (end->role != ROLE_SOURCE) {
        result = uv_udp_recv_start(handle, on_alloc, on_receive);
    }
    return result == 0 ? 0 : end_fail(end, "uv_udp_recv_start", result);
}

static int socket_open(struct uv_peer *peer, uint32_t index)
{
    struct end *end = peer->end;
    uv_udp_t *handle = &peer->handles[index];
    unsigned flags = end->bind_to.u.any.sa_family;
    int result;

    if (peer->batch) {
        flags |= UV_UDP_RECVMMSG;
    }
    result = uv_udp_init_ex(&peer->loop, handle, flags);
    if (result != 0) {
        return end_fail(end, "uv_udp_init_ex", result);
    }
    peer->lanes[index] = (struct lane){.end = end, .index = index};
    handle->data = &peer->lanes[index];
    result = uv_udp_bind(handle, &end->bind_to.u.any, 0);
    if (result != 0) {
        return end_fail(end, "uv_udp_bind", result);
    }
    return socket_start(end, handle, index);
}

static int libuv_open(struct end *end)
{
    struct uv_peer *peer = calloc(1, sizeof(*peer));

    if (!peer) {
        return end_fail(end, "memory", -ENOMEM);
    }
    peer->end = end;
    end->state = peer;
    mode_read(peer);
    if (loop_make(peer) != 0 || memory_make(peer) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < end->sockets; i++) {
        if (socket_open(peer, i) != 0) {
            return -1;
        }
    }
    return libuv_turn(end, false); /* registers the sockets with epoll */
}

static void close_handle(uv_handle_t *handle, void *user)
{
    (void) user;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void libuv_close(struct end *end)
{
    struct uv_peer *peer = end->state;

    if (!peer) {
        return;
    }
    if (peer->loop_made) {
        uv_walk(&peer->loop, close_handle, NULL);
        uv_run(&peer->loop, UV_RUN_DEFAULT);
        uv_loop_close(&peer->loop);
    }
    free(peer->received);
    free(peer->payloads);
    free(peer->requests);
    free(peer->free_requests);
    free(peer);
    end->state = NULL;
}

static const char *const libuv_receive_modes[] = {"recvmmsg", "recvmsg", NULL};

const struct engine engine_libuv = {
    .name = "libuv",
    .summary = "libuv, in the best of its modes",
    .traits = ENGINE_FLOOD | ENGINE_ANSWERS,
    .modes = libuv_modes,
    .receive_modes = libuv_receive_modes,
    .reply_mode = "try_send+recvmmsg",
    .open = libuv_open,
    .send = libuv_send,
    .reply = libuv_reply,
    .turn = libuv_turn,
    .pending = libuv_pending,
    .close = libuv_close,
};
