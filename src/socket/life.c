/* SPDX-License-Identifier: MIT */
/* life.c: see life.h. */
#include "src/socket/life.h"

#include <errno.h>
#include <limits.h>
#include <netinet/udp.h>

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/base/sized.h"
#include "src/core/agenda.h"
#include "src/core/io.h"
#include "src/net/cmsg.h"
#include "src/receive/backlog.h"
#include "src/receive/ending.h"
#include "src/send/await.h"
#include "src/send/ledger.h"
#include "src/send/retry.h"
#include "src/send/submit.h"
#include "src/socket/bind.h"
#include "src/socket/events.h"
#include "src/socket/group.h"
#include "src/system.h"

/* Four default receive buffers hold three trains each; 4 MiB hold a few milliseconds of trains at
 * full rate. The kernel cuts it to net.core.rmem_max. */
enum { RECV_BUFFER_DEFAULT = 4 * 1024 * 1024 };

_Static_assert(sizeof(void *) != 8 || sizeof(struct dgram_message) == 64, "frozen");

enum { BIND_PATIENCE_MAX_MS = 1000 };

/* A send queue's default bound, QUEUE_OVERHEAD included. */
#define SOCKET_QUEUE_LIMIT (UINT64_C(4) * 1024 * 1024)

static void tasks_init(struct dgram_socket *socket);

/* ---- Creation ------------------------------------------------------------------------------ */

static int set_int(const struct dgram_socket *socket, int level, int name, int value)
{
    return socket->loop->system->setsockopt(socket->endpoint.fd, level, name, &value,
                                            sizeof(value));
}

static int apply_flags(struct dgram_socket *socket, uint32_t flags)
{
    int code = 0;
    if (socket->family == AF_INET6) {
        /* Said either way: the host's default (net.ipv6.bindv6only) is not ours. */
        code = set_int(socket, IPPROTO_IPV6, IPV6_V6ONLY, (flags & DGRAM_IPV6_ONLY) != 0);
    }
    if (code == 0 && (flags & DGRAM_REUSE_ADDR)) {
        code = set_int(socket, SOL_SOCKET, SO_REUSEADDR, 1);
    }
    if (code == 0 && (flags & DGRAM_REUSE_PORT)) {
        code = set_int(socket, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    return code;
}

static int apply_buffers(struct dgram_socket *socket, const struct dgram_socket_options *options)
{
    int code = 0;
    if (options->recv_buffer_size == 0) {
        /* A wish: a host that grants less has said so with rmem_max. */
        (void) set_int(socket, SOL_SOCKET, SO_RCVBUF, RECV_BUFFER_DEFAULT);
    } else if (options->recv_buffer_size != DGRAM_KERNEL_DEFAULT) {
        code = set_int(socket, SOL_SOCKET, SO_RCVBUF, (int) options->recv_buffer_size);
    }
    if (code == 0 && options->send_buffer_size != 0 &&
        options->send_buffer_size != DGRAM_KERNEL_DEFAULT) {
        code = set_int(socket, SOL_SOCKET, SO_SNDBUF, (int) options->send_buffer_size);
    }
    return code;
}

/* Before bind, and never switched off again: trains that are queued then would arrive unmarked. A
 * kernel without it (before 5.0) simply delivers single datagrams. */
static void apply_gro(struct dgram_socket *socket, uint32_t flags)
{
    if (!(flags & DGRAM_NO_GRO) && dg_inlet_takes_trains(socket->loop)) {
        socket->endpoint.control_size =
            dg_cmsg_ask_for_segments(socket->loop->system, socket->endpoint.fd);
    }
    dg_receiver_takes_trains(&socket->receiver, socket->endpoint.control_size > 0);
}

static int socket_open(struct dgram_socket *socket, const struct dgram_socket_options *options)
{
    struct dgram_loop *loop = socket->loop;
    int code = loop->system->socket(socket->family);
    if (code < 0) {
        return code;
    }
    socket->endpoint.fd = code;
    code = apply_flags(socket, options->flags);
    if (code == 0) {
        code = apply_buffers(socket, options);
    }
    if (code == 0) {
        apply_gro(socket, options->flags);
        code = loop->io->backend->attach(loop->io->engine, &socket->endpoint);
    }
    if (code < 0) {
        (void) loop->system->close(socket->endpoint.fd);
    }
    return code;
}

static int check_options(uint32_t type, const struct dgram_socket_options *options)
{
    const uint32_t known =
        DGRAM_REUSE_ADDR | DGRAM_REUSE_PORT | DGRAM_IPV6_ONLY | DGRAM_NO_GRO | DGRAM_COPY;
    if (type != DGRAM_UDP4 && type != DGRAM_UDP6) {
        return DGRAM_EBADTYPE;
    }
    if ((options->flags & ~known) != 0 || options->segments_max > SEGMENTS_LIMIT ||
        (type == DGRAM_UDP4 && (options->flags & DGRAM_IPV6_ONLY))) {
        return DGRAM_EBADOPTIONS;
    }
    if (options->bind_patience_ms > BIND_PATIENCE_MAX_MS || options->reserved0 != 0) {
        return DGRAM_EBADOPTIONS;
    }
    if ((options->recv_buffer_size > INT_MAX &&
         options->recv_buffer_size != DGRAM_KERNEL_DEFAULT) ||
        (options->send_buffer_size > INT_MAX &&
         options->send_buffer_size != DGRAM_KERNEL_DEFAULT)) {
        return DGRAM_EBADBUFFERSIZE;
    }
    return 0;
}

static void parts_init(struct dgram_socket *socket, const struct dgram_socket_options *options)
{
    const struct sender_config sender = {
        .socket = socket,
        .endpoint = &socket->endpoint,
        .sink = &socket->errors,
        .drain = dg_drain_run,
        .family = socket->family,
        .segments_max = options->segments_max,
        .queue_limit = options->queue_limit != 0 ? options->queue_limit : SOCKET_QUEUE_LIMIT,
    };
    dg_sender_init(&socket->sender, socket->loop, &sender);
    dg_receiver_init(&socket->receiver, socket->loop, socket, &socket->endpoint, &socket->errors);
    dg_receiver_on_message(&socket->receiver, options->on_message, options->user);
}

static void socket_fill(struct dgram_socket *socket, struct dgram_loop *loop, uint32_t type,
                        const struct dgram_socket_options *options)
{
    bool in4 = type == DGRAM_UDP4;
    socket->loop = loop;
    socket->endpoint.fd = -1;
    socket->family = in4 ? AF_INET : AF_INET6;
    node_init(&socket->all);
    node_init(&socket->memberships);
    node_init(&socket->bind_waiter.node);
    tasks_init(socket);
    socket->errors.errors = loop->errors;
    socket->errors.socket = socket;
    socket->bind_patience_ms = options->bind_patience_ms;
    socket->copies = (options->flags & DGRAM_COPY) != 0;
    socket->ipv6_only = (options->flags & DGRAM_IPV6_ONLY) != 0;
    parts_init(socket, options);
}

/* STOPPED and DETACHED of the endpoint, and READY of its POLLOUT watch. */
enum { RECORDS_PER_SOCKET = 3 };

static int create_checked(struct dgram_loop *loop, uint32_t type,
                          const struct dgram_socket_options *options,
                          struct dgram_socket **ret_socket)
{
    int code = dg_io_reserve(loop->io, RECORDS_PER_SOCKET);
    if (code < 0) {
        return code;
    }
    struct dgram_socket *socket = dg_allocate(sizeof(*socket));
    code = socket == NULL ? -ENOMEM : 0;
    if (code == 0) {
        socket_fill(socket, loop, type, options);
        code = socket_open(socket, options);
    }
    if (code < 0) {
        dg_release(socket);
        (void) dg_io_reserve(loop->io, -RECORDS_PER_SOCKET);
        return code;
    }
    node_prepend(loop->sockets, &socket->all);
    loop->buffers_changed++;
    dg_receiver_update(&socket->receiver);
    *ret_socket = socket;
    return 0;
}

int dgram_create_socket(struct dgram_loop *loop, uint32_t type,
                        const struct dgram_socket_options *options,
                        struct dgram_socket **ret_socket)
{
    struct dgram_socket_options read = {0};
    if (loop == NULL || ret_socket == NULL) {
        return DGRAM_ENULL;
    }
    if (loop_forked(loop)) {
        return DGRAM_EFORKED;
    }
    if (loop->freeing) {
        return DGRAM_ENOTRUNNING;
    }
    int code =
        dg_options_read(&read, sizeof(read), options, offsetof(struct dgram_socket_options, flags));
    if (code == 0) {
        code = check_options(type, &read);
    }
    return code < 0 ? code : create_checked(loop, type, &read, ret_socket);
}

/* ---- The end ------------------------------------------------------------------------------- */

static void begin_close(struct dgram_socket *socket)
{
    struct agenda *agenda = socket->loop->agenda;
    assert(socket->state < SOCKET_CLOSING);
    dg_sender_close(&socket->sender);
    socket->state = SOCKET_CLOSING;
    dg_agenda_drop(agenda, &socket->bind);
    dg_agenda_drop(agenda, &socket->listening);
    dg_agenda_drop(agenda, &socket->ending);
    dg_receiver_close(&socket->receiver);
    socket_keep(socket);
    dg_agenda_add(agenda, &socket->closing);
}

int dgram_close(struct dgram_socket *socket)
{
    int code = socket_check(socket);
    if (code == 0) {
        begin_close(socket);
    }
    return code;
}

static void all_sent(struct sender *sender)
{
    struct dgram_socket *socket = owner_of(sender, struct dgram_socket, sender);
    assert(socket->state == SOCKET_ENDING && sender_is_empty(sender));
    if (!dg_ending_begin(&socket->receiver)) {
        begin_close(socket);
        return;
    }
    socket->state = SOCKET_EMPTYING;
    socket_keep(socket);
    dg_agenda_add(socket->loop->agenda, &socket->ending);
}

int dgram_end(struct dgram_socket *socket)
{
    int code = socket_check(socket);
    if (code < 0) {
        return code;
    }
    if (socket->state >= SOCKET_ENDING) {
        return DGRAM_ENOTRUNNING;
    }
    socket->state = SOCKET_ENDING;
    dg_sender_end(&socket->sender, all_sent);
    return 0;
}

static void ending_run(struct task *task)
{
    struct dgram_socket *socket = owner_of(task, struct dgram_socket, ending);
    if (dg_ending_step(&socket->receiver)) {
        dg_agenda_add(socket->loop->agenda, task);
    } else {
        begin_close(socket);
    }
}

/* The queue's last attempt, then the engine lets go. */
static void closing_run(struct task *task)
{
    struct dgram_socket *socket = owner_of(task, struct dgram_socket, closing);
    struct dgram_loop *loop = socket->loop;
    dg_bind_cancel(socket);
    dg_awaits_cancel(&socket->sender, -ECANCELED);
    if (!sender_is_empty(&socket->sender)) {
        (void) dg_send_flush(loop); /* a broken engine shows in the results */
        dg_send_retry(&socket->sender);
        dg_send_retry_stalls(&socket->sender);
    }
    dg_send_cancel(&socket->sender, -ECANCELED);
    dg_sender_detach(&socket->sender);
    dg_backlog_discard(&socket->receiver);
    dg_receiver_apply(&socket->receiver);
    loop->io->backend->detach(loop->io->engine, &socket->endpoint);
}

void dg_socket_detached(struct dgram_socket *socket)
{
    assert(socket->state == SOCKET_CLOSING);
    dg_ending_count(&socket->receiver);
    socket->dropped = socket->loop->system->drops(socket->endpoint.fd);
    (void) socket->loop->system->close(socket->endpoint.fd);
    socket->endpoint.fd = -1;
    socket->state = SOCKET_CLOSED;
    dg_receiver_detached(&socket->receiver);
    dg_agenda_add(socket->loop->agenda, &socket->closed);
}

static void socket_abandon(struct dgram_socket *socket, int code)
{
    assert(socket->state >= SOCKET_CLOSING);
    if (socket->state == SOCKET_CLOSING) {
        dg_bind_cancel(socket);
        dg_awaits_cancel(&socket->sender, -ECANCELED);
        dg_send_cancel(&socket->sender, code);
        dg_ledger_close(&socket->sender);
        dg_backlog_discard(&socket->receiver);
        dg_agenda_drop(socket->loop->agenda, &socket->closing);
        dg_socket_detached(socket);
    }
}

static void socket_free(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    assert(dg_sender_is_idle(&socket->sender));
    assert(!task_is_due(&socket->closing) && !task_is_due(&socket->listening));
    node_remove(&socket->all);
    loop->buffers_changed++;
    loop->keeping -= socket->counted;
    (void) dg_io_reserve(loop->io, -RECORDS_PER_SOCKET);
    dg_memberships_forget(socket);
    dg_release(socket);
}

/* Every send must have completed before `close`; those that did in this turn come first. */
static void closed_run(struct task *task)
{
    struct dgram_socket *socket = owner_of(task, struct dgram_socket, closed);
    if (!sender_is_empty(&socket->sender) || socket->errors.waiting > 0) {
        dg_agenda_add(socket->loop->agenda, task);
        return;
    }
    socket->state = SOCKET_GONE;
    if (socket->on_close != NULL) {
        socket->on_close(socket, socket->close_user);
    }
    socket_free(socket);
}

static void tasks_init(struct dgram_socket *socket)
{
    dg_task_init(&socket->ending, PHASE_ENDING, ending_run);
    dg_task_init(&socket->bind, PHASE_PREPARE, dg_bind_run);
    dg_task_init(&socket->closing, PHASE_PREPARE, closing_run);
    dg_task_init(&socket->listening, PHASE_EVENTS, dg_listening_run);
    dg_task_init(&socket->closed, PHASE_CLOSED, closed_run);
}

/* ---- All sockets of a loop ----------------------------------------------------------------- */

void dg_sockets_close(struct dgram_loop *loop)
{
    for (struct node *node = loop->sockets->next; node != loop->sockets; node = node->next) {
        struct dgram_socket *s = owner_of(node, struct dgram_socket, all);
        if (s->state < SOCKET_CLOSING) {
            begin_close(s);
        }
    }
}

void dg_sockets_abandon(struct dgram_loop *loop, int code)
{
    for (struct node *node = loop->sockets->next; node != loop->sockets; node = node->next) {
        socket_abandon(owner_of(node, struct dgram_socket, all), code);
    }
}

void dg_sockets_forget(struct dgram_loop *loop)
{
    while (!node_alone(loop->sockets)) {
        struct dgram_socket *socket = owner_of(node_take(loop->sockets), struct dgram_socket, all);
        if (socket->endpoint.fd >= 0) {
            (void) loop->system->close(socket->endpoint.fd);
        }
        node_remove(&socket->bind_waiter.node);
        dg_backlog_discard(&socket->receiver);
        dg_awaits_forget(&socket->sender);
        dg_send_forget(&socket->sender);
        dg_memberships_forget(socket);
        dg_release(socket);
    }
}

uint64_t dg_sockets_receive_buffer(struct dgram_loop *loop)
{
    uint64_t least = UINT64_MAX;
    for (struct node *node = loop->sockets->next; node != loop->sockets; node = node->next) {
        const struct dgram_socket *s = owner_of(node, struct dgram_socket, all);
        int bytes = 0;
        socklen_t size = sizeof(bytes);
        int fd = s->endpoint.fd;
        if (s->bound && loop->system->getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &size) == 0 &&
            (uint64_t) bytes < least) {
            least = (uint64_t) bytes;
        }
    }
    return least;
}

/* ---- Keeping the loop alive ---------------------------------------------------------------- */

int dgram_ref(struct dgram_socket *socket)
{
    int code = socket_check(socket);
    if (code == 0) {
        socket->unreffed = false;
        socket_keep(socket);
    }
    return code;
}

int dgram_unref(struct dgram_socket *socket)
{
    int code = socket_check(socket);
    if (code == 0) {
        socket->unreffed = true;
        socket_keep(socket);
    }
    return code;
}

struct dgram_loop *dgram_socket_loop(const struct dgram_socket *socket)
{
    return socket == NULL ? NULL : socket->loop;
}
