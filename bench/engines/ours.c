/* SPDX-License-Identifier: MIT */
/*
 * ours.c: `auto`, `uring` and `poll`: the library, as any program uses it.
 *
 * Owns nothing but a loop, its sockets and its buffers. Never knows of trains or rings: one call
 * per datagram sent, one message handler call per datagram received.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/engines/engines.h"
#include "bench/harness/process.h"

/* --borrow: how many payloads are lent to the library at a time, and their bytes at the most. */
#define LOANS_MOST 4096u
#define LOAN_BYTES (64u << 20)

/* --in-place: how many buffers are filled in turn. All of them stay in the cache, and when the
 * first is filled again, its datagrams have been submitted. */
#define BUFFERS 4u
#define BUFFER_BYTES (128u << 10)

struct lane {
    struct end *end;
    uint32_t index;
};

/* A payload and whose it is. */
struct loan {
    struct peer *peer;
    uint8_t bytes[];
};

struct peer {
    struct end *end;
    struct dgram_loop *loop;
    struct dgram_socket *sockets[FANOUT_PEERS];
    struct lane lanes[FANOUT_PEERS];
    uint8_t *payload; /* of every datagram sent without --borrow: the library copies it */

    /* --borrow: a stack of the payloads that are not lent. The payload that came back last is lent
     * first: it is still in the cache. */
    uint8_t *loans;
    struct loan **free_loans;
    uint32_t free_count;

    /* --in-place */
    struct dgram_buffer *buffers[BUFFERS];
    uint32_t buffer, at; /* the one that is being filled, and how far */

    bool failed; /* by an error that came later; end->error tells */
};

/* ---- Which engines there are --------------------------------------------------------------- */

static int probe(uint32_t engine, char *why, size_t room)
{
    struct dgram_engine_report report = {.size = sizeof(report)};
    int result = dgram_engine_probe(engine, &report);

    if (result == 0 && report.code == 0) {
        return 0;
    }
    if (result != 0) {
        snprintf(why, room, "%s", dgram_strerror(result));
    } else {
        snprintf(why, room, "%s%s%s%s%s", report.call, *report.call ? ": " : "",
                 dgram_strerror(report.code), *report.advice ? "; " : "", report.advice);
    }
    return -1;
}

static int uring_available(char *why, size_t room)
{
    return probe(DGRAM_ENGINE_URING, why, room);
}

static int poll_available(char *why, size_t room)
{
    return probe(DGRAM_ENGINE_POLL, why, room);
}

/* Returns 0 if a buffer of the loop can be sent without a copy, else the code that says why not. */
static int buffer_try(struct dgram_loop *loop)
{
    const struct dgram_buffer_options options = {.size = sizeof(options), .flags = DGRAM_ZERO_COPY};
    struct dgram_buffer *buffer = NULL;
    int result = dgram_buffer_create(loop, BUFFER_BYTES, &options, &buffer);

    return result == 0 ? dgram_buffer_zero_copy(buffer) : result;
}

static int zero_copy_try(uint32_t engine, char *why, size_t room)
{
    const struct dgram_loop_options options = {.size = sizeof(options), .engine = engine};
    struct dgram_loop_info info = {.size = sizeof(info)};
    struct dgram_loop *loop = NULL;
    int result = dgram_loop_create(&options, &loop);

    result = result == 0 ? dgram_loop_info(loop, &info) : result;
    result = result == 0 ? buffer_try(loop) : result;
    if (result == -ENOTSUP || result == -EINVAL) {
        snprintf(why, room,
                 "on %s the kernel copies; sending from registered memory is io_uring's, engine "
                 "uring on Linux 6.15 and later",
                 info.name);
    } else {
        snprintf(why, room, "%s%s", dgram_strerror(result),
                 result == -ENOMEM ? "; the limit of locked memory is too low (ulimit -l)" : "");
    }
    dgram_loop_free(loop);
    return result == 0 ? 0 : -1;
}

static int uring_zero_copy(char *why, size_t room)
{
    return zero_copy_try(DGRAM_ENGINE_URING, why, room);
}

static int poll_zero_copy(char *why, size_t room)
{
    return zero_copy_try(DGRAM_ENGINE_POLL, why, room);
}

static int auto_zero_copy(char *why, size_t room)
{
    return zero_copy_try(DGRAM_ENGINE_AUTO, why, room);
}

/* Makes a loop, which says more than the probes: it reads the environment's DGRAM_ENGINE, too. */
static int auto_available(char *why, size_t room)
{
    struct dgram_loop *loop = NULL;
    int result = dgram_loop_create(NULL, &loop);

    if (result != 0) {
        snprintf(why, room, "no loop: %s", dgram_strerror(result));
        return -1;
    }
    dgram_loop_free(loop);
    return 0;
}

/* ---- Events -------------------------------------------------------------------------------- */

static void on_message(struct dgram_socket *socket, const struct dgram_message *message, void *user)
{
    const struct lane *lane = user;

    (void) socket;
    end_take(lane->end, lane->index, message->from, message->data, message->size);
}

static void peer_fail(struct peer *peer, const char *what, int code)
{
    if (!peer->failed) {
        peer->failed = true;
        end_fail(peer->end, what, code);
    }
}

static void on_error(struct dgram_socket *socket, const struct dgram_error *error, void *user)
{
    (void) socket;
    peer_fail(user, error->operation, error->code);
}

/* ---- Open and close ------------------------------------------------------------------------ */

static int loop_open(struct peer *peer, uint32_t engine)
{
    const struct plan *plan = peer->end->plan;
    struct dgram_loop_options options = {
        .size = sizeof(options),
        .engine = engine,
        .segments_max = plan->segments,
        .busy_poll_us = plan->never_spins ? DGRAM_BUSY_POLL_OFF : plan->busy_poll_us,
        .max_delay_us = plan->max_delay_us,
    };
    struct dgram_loop_info info = {.size = sizeof(info)};
    int result = dgram_loop_create(&options, &peer->loop);

    if (result != 0) {
        return end_fail(peer->end, "dgram_loop_create", result);
    }
    result = dgram_loop_info(peer->loop, &info);
    if (result != 0) {
        return end_fail(peer->end, "dgram_loop_info", result);
    }
    peer->end->engine_name = info.name;
    peer->end->train = info.segments_max;
    return 0;
}

/* A source sets no message handler: it is to receive nothing. */
static int socket_create(struct peer *peer, uint32_t index)
{
    struct end *end = peer->end;
    uint32_t type = end->bind_to.u.any.sa_family == AF_INET6 ? DGRAM_UDP6 : DGRAM_UDP4;
    struct dgram_socket_options options = {
        .size = sizeof(options),
        .flags = end->plan->no_gro ? DGRAM_NO_GRO : 0,
        .on_message = end->role == ROLE_SOURCE ? NULL : on_message,
        .user = &peer->lanes[index],
    };

    peer->lanes[index] = (struct lane){.end = end, .index = index};
    return dgram_create_socket(peer->loop, type, &options, &peer->sockets[index]);
}

static int socket_open(struct peer *peer, uint32_t index)
{
    struct end *end = peer->end;
    char text[DGRAM_ADDR_TEXT_MAX];
    struct dgram_socket *socket;
    int result = socket_create(peer, index);

    if (result != 0) {
        return end_fail(end, "dgram_create_socket", result);
    }
    socket = peer->sockets[index];
    dgram_on_error(socket, on_error, peer);
    dgram_addr_text(&end->bind_to, text);
    result = dgram_bind(socket, dgram_addr_port(&end->bind_to), text);
    if (result != 0) {
        return end_fail(end, "dgram_bind", result);
    }
    result = dgram_address(socket, &end->local[index]);
    if (result != 0) {
        return end_fail(end, "dgram_address", result);
    }
    result = dgram_get_recv_buffer_size(socket);
    end->granted = result > 0 ? (uint32_t) result : 0;
    return 0;
}

static void on_stray(struct dgram_socket *socket, const struct dgram_message *message, void *user)
{
    (void) socket;
    (void) message;
    peer_fail(user, "a datagram for an idle socket", -EPROTO);
}

/* Opens sockets that are bound and armed like the one that receives. The loop owns them. */
static int idle_sockets_open(struct peer *peer, uint32_t count)
{
    const struct dgram_socket_options options = {.size = sizeof(options),
                                                 .recv_buffer_size = DGRAM_KERNEL_DEFAULT,
                                                 .on_message = on_stray,
                                                 .user = peer};

    descriptors_allow();
    for (uint32_t i = 0; i < count; i++) {
        struct dgram_socket *socket = NULL;
        int result = dgram_create_socket(peer->loop, DGRAM_UDP4, &options, &socket);

        if (result == 0) {
            result = dgram_bind(socket, 0, "127.0.0.1");
        }
        if (result != 0) {
            return end_fail(peer->end, "an idle socket", result);
        }
    }
    return 0;
}

static int loans_make(struct peer *peer)
{
    size_t stride = (sizeof(struct loan) + peer->end->plan->size + 63) & ~(size_t) 63;
    uint32_t count =
        LOAN_BYTES / stride < LOANS_MOST ? (uint32_t) (LOAN_BYTES / stride) : LOANS_MOST;

    peer->loans = calloc(count, stride);
    peer->free_loans = calloc(count, sizeof(struct loan *));
    if (!peer->loans || !peer->free_loans) {
        return end_fail(peer->end, "memory", -ENOMEM);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct loan *loan = (struct loan *) (void *) (peer->loans + i * stride);

        loan->peer = peer;
        peer->free_loans[i] = loan;
    }
    peer->free_count = count;
    return 0;
}

static int buffers_make(struct peer *peer)
{
    const struct dgram_buffer_options options = {
        .size = sizeof(options), .flags = peer->end->plan->zero_copy ? DGRAM_ZERO_COPY : 0};

    for (uint32_t i = 0; i < BUFFERS; i++) {
        int result = dgram_buffer_create(peer->loop, BUFFER_BYTES, &options, &peer->buffers[i]);

        if (result == 0 && options.flags != 0) {
            result = dgram_buffer_zero_copy(peer->buffers[i]);
        }
        if (result != 0) {
            return end_fail(peer->end, "dgram_buffer_create", result);
        }
    }
    return 0;
}

static int payloads_make(struct peer *peer)
{
    if (peer->end->role == ROLE_SOURCE && peer->end->plan->in_place) {
        return buffers_make(peer);
    }
    if (peer->end->plan->borrow) {
        return loans_make(peer);
    }
    peer->payload = calloc(1, SIZE_MOST);
    return peer->payload ? 0 : end_fail(peer->end, "memory", -ENOMEM);
}

static int lib_turn(struct end *end, bool wait);

static int peer_open(struct end *end, uint32_t engine)
{
    struct peer *peer = calloc(1, sizeof(*peer));

    if (!peer) {
        return end_fail(end, "memory", -ENOMEM);
    }
    peer->end = end;
    end->state = peer;
    if (loop_open(peer, engine) != 0 || payloads_make(peer) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < end->sockets; i++) {
        if (socket_open(peer, i) != 0) {
            return -1;
        }
    }
    if (end->role == ROLE_SINK && idle_sockets_open(peer, end->plan->idle_sockets) != 0) {
        return -1;
    }
    return lib_turn(end, false); /* the sockets receive from the first turn on */
}

static int auto_open(struct end *end)
{
    return peer_open(end, DGRAM_ENGINE_AUTO);
}

static int uring_open(struct end *end)
{
    return peer_open(end, DGRAM_ENGINE_URING);
}

static int poll_open(struct end *end)
{
    return peer_open(end, DGRAM_ENGINE_POLL);
}

/* Frees the loop first, because that completes the sends whose payloads are lent. */
static void lib_close(struct end *end)
{
    struct peer *peer = end->state;

    if (peer) {
        dgram_loop_free(peer->loop);
        free(peer->payload);
        free(peer->loans);
        free(peer->free_loans);
        free(peer);
    }
    end->state = NULL;
}

/* ---- Turns --------------------------------------------------------------------------------- */

static int lib_turn(struct end *end, bool wait)
{
    struct peer *peer = end->state;
    int result = dgram_loop_turn(peer->loop, wait ? TICK_NS : 0);

    if (result < 0) {
        return end_fail(end, "dgram_loop_turn", result);
    }
    return peer->failed ? -1 : 0;
}

static uint64_t lib_pending(struct end *end)
{
    const struct peer *peer = end->state;

    return dgram_get_send_queue_count(peer->sockets[0]);
}

/* Leaves idle sockets out: nothing comes to them and they send nothing. */
static void lib_calls(struct end *end)
{
    const struct peer *peer = end->state;

    end->kernel_sends = end->kernel_receives = 0;
    for (uint32_t i = 0; i < end->sockets; i++) {
        struct dgram_socket_stats stats = {.size = sizeof(stats)};

        dgram_socket_stats(peer->sockets[i], &stats);
        end->kernel_sends += stats.sends;
        end->kernel_receives += stats.receives;
    }
}

/* ---- Sending ------------------------------------------------------------------------------- */

/* Takes the payload back: the library had it until this call. */
static void on_sent(struct dgram_socket *socket, int result, void *user)
{
    struct loan *loan = user;
    struct peer *peer = loan->peer;

    (void) socket;
    peer->free_loans[peer->free_count++] = loan;
    if (result < 0) {
        peer_fail(peer, "send", result);
    }
}

/* Sends one datagram of lent bytes. Returns the result of dgram_send_to(). */
static int send_lent(struct peer *peer, const struct cursor *cursor, uint32_t size)
{
    struct loan *loan;
    int result;

    if (peer->free_count == 0) {
        return -EAGAIN;
    }
    loan = peer->free_loans[--peer->free_count];
    number_write(loan->bytes, cursor->number);
    result = dgram_send_to(peer->sockets[0], loan->bytes, size, &peer->end->peers[cursor->peer],
                           on_sent, loan);
    if (result != 0) {
        peer->free_loans[peer->free_count++] = loan;
    }
    return result;
}

static inline int send_copied(struct peer *peer, const struct cursor *cursor, uint32_t size)
{
    number_write(peer->payload, cursor->number);
    return dgram_send_to(peer->sockets[0], peer->payload, size, &peer->end->peers[cursor->peer],
                         NULL, NULL);
}

/* Writes one datagram into a buffer of the library and sends it from there. Returns the same. */
static inline int send_in_place(struct peer *peer, const struct cursor *cursor, uint32_t size)
{
    struct dgram_buffer *buffer = peer->buffers[peer->buffer];
    int result;

    if (peer->at + size > BUFFER_BYTES) {
        uint32_t next = (peer->buffer + 1) % BUFFERS;

        buffer = peer->buffers[next];
        if (dgram_buffer_in_use(buffer)) {
            return -EAGAIN;
        }
        peer->buffer = next;
        peer->at = 0;
    }
    number_write((uint8_t *) dgram_buffer_data(buffer) + peer->at, cursor->number);
    result = dgram_send_buffer(peer->sockets[0], buffer, peer->at, size,
                               &peer->end->peers[cursor->peer]);
    peer->at += result == 0 ? size : 0;
    return result;
}

/* Gives the library a turn if the result of a send was -EAGAIN; other results are errors. Returns
 * 0: try again, 1: the end is stopped, or -1. */
static int send_pause(struct peer *peer, int result)
{
    if (result != -EAGAIN) {
        return end_fail(peer->end, "send", result);
    }
    if (lib_turn(peer->end, false) != 0) {
        return -1;
    }
    return end_stopped(peer->end) ? 1 : 0;
}

typedef int send_one_fn(struct peer *peer, const struct cursor *cursor, uint32_t size);

/* Sends `count` datagrams. The compiler makes a loop of its own for each way of sending, so that a
 * datagram costs the library's instructions and no choice. */
static inline __attribute__((always_inline)) int64_t
send_each(struct end *end, uint64_t first, uint32_t count, send_one_fn *send_one)
{
    struct peer *peer = end->state;
    struct cursor cursor = cursor_at(first, end->plan->peers);
    uint32_t i = 0;
    int result = 0;

    while (i < count && result == 0) {
        result = send_one(peer, &cursor, sizes_of(end->sizes, cursor.number, cursor.peer));
        if (result == 0) {
            cursor_next(&cursor);
            i++;
        } else {
            result = send_pause(peer, result);
        }
    }
    return result >= 0 && lib_turn(end, false) == 0 ? (int64_t) i : -1;
}

static int64_t lib_send(struct end *end, uint64_t first, uint32_t count)
{
    const struct peer *peer = end->state;

    if (peer->buffers[0] != NULL) {
        return send_each(end, first, count, send_in_place);
    }
    return peer->loans != NULL ? send_each(end, first, count, send_lent)
                               : send_each(end, first, count, send_copied);
}

static int lib_reply(struct end *end, const struct dgram_addr *to, const void *data, uint32_t size)
{
    struct peer *peer = end->state;
    int result = dgram_send_to(peer->sockets[0], data, size, to, NULL, NULL);

    if (result == -EAGAIN) {
        return 1;
    }
    return result == 0 ? 0 : end_fail(end, "dgram_send_to", result);
}

/* ---- The engines --------------------------------------------------------------------------- */

const struct engine engine_auto = {
    .name = "auto",
    .summary = "this library, on the engine that it chooses",
    .traits = ENGINE_ALL,
    .available = auto_available,
    .zero_copy = auto_zero_copy,
    .open = auto_open,
    .send = lib_send,
    .reply = lib_reply,
    .turn = lib_turn,
    .pending = lib_pending,
    .calls = lib_calls,
    .close = lib_close,
};

const struct engine engine_uring = {
    .name = "uring",
    .summary = "this library on io_uring",
    .traits = ENGINE_ALL,
    .available = uring_available,
    .zero_copy = uring_zero_copy,
    .open = uring_open,
    .send = lib_send,
    .reply = lib_reply,
    .turn = lib_turn,
    .pending = lib_pending,
    .calls = lib_calls,
    .close = lib_close,
};

const struct engine engine_poll = {
    .name = "poll",
    .summary = "this library on readiness: epoll or poll(2)",
    .traits = ENGINE_ALL,
    .available = poll_available,
    .zero_copy = poll_zero_copy,
    .open = poll_open,
    .send = lib_send,
    .reply = lib_reply,
    .turn = lib_turn,
    .pending = lib_pending,
    .calls = lib_calls,
    .close = lib_close,
};
