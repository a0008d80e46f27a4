/* SPDX-License-Identifier: MIT */
/*
 * socket.c: creation, bind, events and the end of sockets.
 *
 * Life: open - ending (dgram_end) - emptying (all was sent, nothing new arrives, ending.c) -
 * closing (dgram_close: no message any more, in the next prepare the queue gets its last attempt
 * and the engine detaches) - closed (DETACHED came, the descriptor is closed) - `close` is emitted,
 * the memory is freed. A call that may not do all of its work itself adds a task to the agenda.
 */
#include <limits.h>
#include <netinet/udp.h>
#include <string.h>

#include "src/core.h"

/* Four default receive buffers hold three trains each; 4 MiB hold a few milliseconds of trains at
 * full rate. The kernel cuts it to net.core.rmem_max. */
enum { RECV_BUFFER_DEFAULT = 4 * 1024 * 1024 };

_Static_assert(sizeof(void *) != 8 || sizeof(struct dgram_message) == 64, "frozen");

enum { BIND_PATIENCE_MAX_MS = 1000 };
#define MILLISECOND_NS UINT64_C(1000000)

/* A send queue's default bound, QUEUE_OVERHEAD included. */
#define SOCKET_QUEUE_LIMIT (UINT64_C(4) * 1024 * 1024)

/* ---- Life ---------------------------------------------------------------------------------- */

/* Whether the socket keeps the loop alive, counted once in the loop. */
static void keep_update(struct dgram_socket *socket)
{
    bool bound = socket->bound || socket->binding != NULL;
    bool keeps = socket->state >= SOCKET_EMPTYING || (bound && !socket->unreffed);
    if (keeps != socket->counted) {
        socket->counted = keeps;
        socket->loop->keeping += keeps ? 1u : -1u;
    }
}

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
    if (!(flags & DGRAM_NO_GRO) && socket->loop->slot_size == SLOT_SIZE_DEFAULT) {
        socket->endpoint.control_size =
            dg_cmsg_ask_for_segments(socket->loop->system, socket->endpoint.fd);
    }
    socket->gro = socket->endpoint.control_size > 0;
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
        code = loop->io.backend->attach(loop->io.engine, &socket->endpoint);
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

static void nodes_init(struct dgram_socket *socket)
{
    node_init(&socket->all);
    node_init(&socket->starved);
    node_init(&socket->retried);
    node_init(&socket->rotation);
    node_init(&socket->binding_node);
    node_init(&socket->waiters);
    node_init(&socket->stalls);
    node_init(&socket->memberships);
}

static void socket_fill(struct dgram_socket *socket, struct dgram_loop *loop, uint32_t type,
                        const struct dgram_socket_options *options)
{
    bool in4 = type == DGRAM_UDP4;
    socket->loop = loop;
    socket->endpoint.fd = -1;
    socket->family = in4 ? AF_INET : AF_INET6;
    socket->peer_size = in4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    socket->size_max = in4 ? DGRAM_UDP4_SIZE_MAX : DGRAM_UDP6_SIZE_MAX;
    socket->segments_max = loop->segments_max;
    if (options->segments_max != 0 && options->segments_max < socket->segments_max) {
        socket->segments_max = options->segments_max;
    }
    nodes_init(socket);
    tasks_init(socket);
    socket->errors.errors = loop->errors;
    socket->errors.socket = socket;
    socket->bind_patience_ms = options->bind_patience_ms;
    socket->copies = (options->flags & DGRAM_COPY) != 0;
    socket->ipv6_only = (options->flags & DGRAM_IPV6_ONLY) != 0;
    socket->queue_limit = options->queue_limit != 0 ? options->queue_limit : SOCKET_QUEUE_LIMIT;
    socket->on_message = options->on_message;
    socket->message_user = options->user;
}

static void sockets_link(struct dgram_loop *loop, struct dgram_socket *socket)
{
    node_prepend(&loop->sockets, &socket->all);
    loop->gathering.buffer = 0;
}

static void sockets_unlink(struct dgram_loop *loop, struct dgram_socket *socket)
{
    node_remove(&socket->all);
    loop->gathering.buffer = 0;
}

uint64_t dg_sockets_receive_buffer(struct dgram_loop *loop)
{
    uint64_t least = UINT64_MAX;
    for (struct node *node = loop->sockets.next; node != &loop->sockets; node = node->next) {
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

/* STOPPED and DETACHED of the endpoint, and READY of its POLLOUT watch. */
enum { RECORDS_PER_SOCKET = 3 };

static int create_checked(struct dgram_loop *loop, uint32_t type,
                          const struct dgram_socket_options *options,
                          struct dgram_socket **ret_socket)
{
    int code = dg_io_reserve(&loop->io, RECORDS_PER_SOCKET);
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
        (void) dg_io_reserve(&loop->io, -RECORDS_PER_SOCKET);
        return code;
    }
    sockets_link(loop, socket);
    dg_receive_update(socket);
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
    if (dg_loop_forked(loop)) {
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

/* ---- Bind ---------------------------------------------------------------------------------- */

static int bind_to(struct dgram_socket *socket, const struct dgram_addr *address)
{
    int code = socket->loop->system->bind(socket->endpoint.fd, &address->u.any, address->size);
    if (code < 0) {
        return code;
    }
    socket->bound = true;
    socket->loop->gathering.buffer = 0;
    dg_agenda_drop(&socket->loop->agenda, &socket->bind);
    keep_update(socket);
    dg_agenda_add(&socket->loop->agenda, &socket->listening);
    dg_receive_update(socket);
    return 0;
}

/* The ring of a process that was killed holds its sockets until a worker of the kernel has taken it
 * down, 12 ms after the process is gone at most (6.18). */
static int bind_patiently(struct dgram_socket *socket, const struct dgram_addr *address)
{
    const struct dg_system *system = socket->loop->system;
    int code = bind_to(socket, address);
    if (code != -EADDRINUSE || socket->bind_patience_ms == 0) {
        return code;
    }
    uint64_t end = system->now() + socket->bind_patience_ms * MILLISECOND_NS;
    while (code == -EADDRINUSE && system->now() < end) {
        system->pause(MILLISECOND_NS);
        code = bind_to(socket, address);
    }
    return code;
}

int dgram_bind(struct dgram_socket *socket, uint32_t port, const char *address)
{
    int code = dg_socket_check(socket);
    if (code < 0) {
        return code;
    }
    if (socket->bound || socket->binding != NULL) {
        return DGRAM_EALREADYBOUND;
    }
    if (port > UINT16_MAX) {
        return DGRAM_EBADPORT;
    }
    struct dgram_addr local;
    code = dg_address_read(socket->family, address, port, DG_ANY, &local);
    if (code == DGRAM_EBADADDRESS && dg_name_is_well_formed(address)) {
        code = dg_resolve_bind(socket, address, (uint16_t) port);
        keep_update(socket);
        return code;
    }
    return code < 0 ? code : bind_patiently(socket, &local);
}

static void bind_failed(struct dgram_socket *socket, int code, const struct dgram_addr *local)
{
    const struct dg_error error = {.operation = "bind",
                                   .code = code,
                                   .repeat = 1,
                                   .peer = &local->u,
                                   .peer_size = local->size};
    dg_error_queue(&socket->errors, &error);
}

/* Sends that came meanwhile wait in the parked queue: now they go, or fail with the bind. */
int dg_socket_bind_resolved(struct dgram_socket *socket, int code, const union dg_peer *address)
{
    struct dgram_addr local = {.size = socket->peer_size};
    assert(socket->binding == NULL && !socket->bound);
    if (code == 0) {
        memcpy(&local.u, address, sizeof(*address));
        local.u.in4.sin_port = socket->bind_port;
        code = bind_to(socket, &local);
        if (code < 0) {
            bind_failed(socket, code, &local);
        }
    }
    if (code < 0) {
        dg_send_cancel(socket, code);
    } else {
        dg_send_retry(socket);
    }
    keep_update(socket);
    return code;
}

int dg_socket_bind_implicitly(struct dgram_socket *socket)
{
    struct dgram_addr any;
    int code = dg_address_read(socket->family, NULL, 0, DG_ANY, &any);
    assert(code == 0);
    (void) code;
    return bind_to(socket, &any);
}

int dgram_address(struct dgram_socket *socket, struct dgram_addr *ret_address)
{
    int code = dg_socket_check(socket);
    if (code < 0) {
        return code;
    }
    if (ret_address == NULL) {
        return DGRAM_ENULL;
    }
    if (!socket->bound) {
        return DGRAM_ENOTBOUND;
    }
    struct dgram_addr address = {0};
    socklen_t size = sizeof(address.u);
    code = socket->loop->system->getsockname(socket->endpoint.fd, &address.u.any, &size);
    if (code == 0) {
        address.size = size;
        *ret_address = address;
    }
    return code;
}

/* ---- Close --------------------------------------------------------------------------------- */

/* No datagram may take the fast way any more, and those that did count. */
static void lane_close(struct dgram_socket *socket)
{
    dg_batch_sync(socket->loop->batch);
    socket->last_flow = NULL;
}

void dg_socket_begin_close(struct dgram_socket *socket)
{
    struct agenda *agenda = &socket->loop->agenda;
    assert(socket->state < SOCKET_CLOSING);
    lane_close(socket);
    socket->state = SOCKET_CLOSING;
    dg_agenda_drop(agenda, &socket->bind);
    dg_agenda_drop(agenda, &socket->listening);
    dg_agenda_drop(agenda, &socket->ending);
    dg_agenda_drop(agenda, &socket->drain);
    dg_receive_update(socket);
    keep_update(socket);
    dg_agenda_add(agenda, &socket->closing);
}

int dgram_close(struct dgram_socket *socket)
{
    int code = dg_socket_check(socket);
    if (code == 0) {
        dg_socket_begin_close(socket);
    }
    return code;
}

int dgram_end(struct dgram_socket *socket)
{
    int code = dg_socket_check(socket);
    if (code < 0) {
        return code;
    }
    if (socket->state >= SOCKET_ENDING) {
        return DGRAM_ENOTRUNNING;
    }
    lane_close(socket);
    socket->state = SOCKET_ENDING;
    if (socket->queue_count == 0) {
        dg_socket_all_sent(socket);
    }
    return 0;
}

void dg_socket_all_sent(struct dgram_socket *socket)
{
    assert(socket->state == SOCKET_ENDING && socket->queue_count == 0);
    if (!dg_ending_begin(socket)) {
        dg_socket_begin_close(socket);
        return;
    }
    socket->state = SOCKET_EMPTYING;
    keep_update(socket);
    dg_agenda_add(&socket->loop->agenda, &socket->ending);
}

static void ending_run(struct task *task)
{
    struct dgram_socket *socket = owner_of(task, struct dgram_socket, ending);
    if (dg_ending_step(socket)) {
        dg_agenda_add(&socket->loop->agenda, task);
    } else {
        dg_socket_begin_close(socket);
    }
}

/* The queue's last attempt, then the engine lets go. */
static void closing_run(struct task *task)
{
    struct dgram_socket *socket = owner_of(task, struct dgram_socket, closing);
    struct dgram_loop *loop = socket->loop;
    dg_resolve_forget(socket);
    if (socket->queue_count > 0) {
        (void) dg_send_flush(loop); /* a broken engine shows in the results */
        dg_send_retry(socket);
        dg_stalls_retry_all(socket);
    }
    dg_send_cancel(socket, -ECANCELED);
    if (socket->drain_wanted != 0) {
        socket->drain_wanted = 0;
        loop->drains_wanted--;
    }
    dg_backlog_discard(socket);
    dg_watch_end(&loop->io, &socket->writable);
    dg_receive_apply(socket);
    loop->io.backend->detach(loop->io.engine, &socket->endpoint);
}

void dg_socket_detached(struct dgram_socket *socket)
{
    assert(socket->state == SOCKET_CLOSING);
    dg_ending_count(socket);
    socket->stats.dropped = socket->loop->system->drops(socket->endpoint.fd);
    (void) socket->loop->system->close(socket->endpoint.fd);
    socket->endpoint.fd = -1;
    socket->state = SOCKET_CLOSED;
    dg_agenda_drop(&socket->loop->agenda, &socket->receiving);
    dg_agenda_add(&socket->loop->agenda, &socket->closed);
}

void dg_socket_abandon(struct dgram_socket *socket, int code)
{
    assert(socket->state >= SOCKET_CLOSING);
    if (socket->state == SOCKET_CLOSING) {
        dg_resolve_forget(socket);
        dg_send_cancel(socket, code);
        dg_backlog_discard(socket);
        if (socket->receive == RECEIVE_STARVED) {
            dg_receive_apply(socket);
        }
        dg_agenda_drop(&socket->loop->agenda, &socket->closing);
        dg_socket_detached(socket);
    }
}

static void socket_free(struct dgram_socket *socket)
{
    struct dgram_loop *loop = socket->loop;
    assert(socket->queue_count == 0 && queue_is_empty(&socket->backlog) &&
           node_alone(&socket->retried));
    assert(node_alone(&socket->stalls) && node_alone(&socket->waiters) && socket->stalled == 0);
    assert(!task_is_due(&socket->receiving) && !task_is_due(&socket->closing));
    assert(!task_is_due(&socket->listening) && !task_is_due(&socket->drain));
    assert(node_alone(&socket->rotation));
    assert(node_alone(&socket->starved) && socket->last_flow == NULL);
    sockets_unlink(loop, socket);
    loop->keeping -= socket->counted;
    (void) dg_io_reserve(&loop->io, -RECORDS_PER_SOCKET);
    dg_memberships_forget(socket);
    dg_release(socket);
}

/* Every send must have completed before `close`; those that did in this turn come first. */
static void closed_run(struct task *task)
{
    struct dgram_socket *socket = owner_of(task, struct dgram_socket, closed);
    if (socket->queue_count > 0 || socket->errors.waiting > 0) {
        dg_agenda_add(&socket->loop->agenda, task);
        return;
    }
    socket->state = SOCKET_GONE;
    if (socket->on_close != NULL) {
        socket->on_close(socket, socket->close_user);
    }
    socket_free(socket);
}

/* ---- Working off what is due --------------------------------------------------------------- */

static void bind_run(struct task *task)
{
    struct dgram_socket *socket = owner_of(task, struct dgram_socket, bind);
    bool bound = socket->bound || socket->binding != NULL;
    int code = bound ? 0 : dg_socket_bind_implicitly(socket);
    if (code < 0) {
        bind_failed(socket, code, &(const struct dgram_addr){0});
    }
}

static void receiving_run(struct task *task)
{
    dg_receive_apply(owner_of(task, struct dgram_socket, receiving));
}

static void emit(struct dgram_socket *socket, dgram_event_fn *fn, void *user)
{
    if (fn != NULL && socket->state < SOCKET_CLOSING && !dg_loop_forked(socket->loop)) {
        fn(socket, user);
    }
}

/* Sends that waited for the handler leave after it, so that the options which it sets hold for
 * them. So do those that a timer of this turn has sent. */
static void listening_run(struct task *task)
{
    struct dgram_socket *socket = owner_of(task, struct dgram_socket, listening);
    struct dgram_loop *loop = socket->loop;
    if (socket->on_listening != NULL && loop->batch->train_count > 0) {
        socket->announcing = true;
        (void) dg_send_flush(loop); /* a broken engine shows in the results */
        socket->announcing = false;
    }
    emit(socket, socket->on_listening, socket->listening_user);
    if (socket->state < SOCKET_CLOSING && !socket->blocked && !dg_loop_forked(socket->loop)) {
        dg_send_retry(socket);
    }
}

/* Not to a socket that sends no more. The program may try again whatever was refused, so the next
 * `drain` waits for those only that are refused from now on. */
static void drain_run(struct task *task)
{
    struct dgram_socket *socket = owner_of(task, struct dgram_socket, drain);
    socket->refused_size = socket->refused_stalled = 0;
    if (socket->state < SOCKET_EMPTYING) {
        emit(socket, socket->on_drain, socket->drain_user);
    }
}

static void tasks_init(struct dgram_socket *socket)
{
    dg_task_init(&socket->ending, PHASE_ENDING, ending_run);
    dg_task_init(&socket->bind, PHASE_PREPARE, bind_run);
    dg_task_init(&socket->closing, PHASE_PREPARE, closing_run);
    dg_task_init(&socket->receiving, PHASE_RECEIVE, receiving_run);
    dg_task_init(&socket->listening, PHASE_EVENTS, listening_run);
    dg_task_init(&socket->drain, PHASE_EVENTS, drain_run);
    dg_task_init(&socket->closed, PHASE_CLOSED, closed_run);
}

/* ---- Handlers and the rest ----------------------------------------------------------------- */

int dgram_ref(struct dgram_socket *socket)
{
    int code = dg_socket_check(socket);
    if (code == 0) {
        socket->unreffed = false;
        keep_update(socket);
    }
    return code;
}

int dgram_unref(struct dgram_socket *socket)
{
    int code = dg_socket_check(socket);
    if (code == 0) {
        socket->unreffed = true;
        keep_update(socket);
    }
    return code;
}

struct dgram_loop *dgram_socket_loop(const struct dgram_socket *socket)
{
    return socket == NULL ? NULL : socket->loop;
}

int dgram_on_message(struct dgram_socket *socket, dgram_message_fn *fn, void *user)
{
    int code = dg_socket_check(socket);
    if (code == 0) {
        socket->pace = fn == socket->on_message ? socket->pace : 0;
        socket->on_message = fn;
        socket->message_user = user;
        dg_receive_update(socket);
    }
    return code;
}

int dgram_on_messages(struct dgram_socket *socket, dgram_messages_fn *fn, void *user)
{
    int code = dg_socket_check(socket);
    if (code == 0) {
        socket->pace = fn == socket->on_messages ? socket->pace : 0;
        socket->on_messages = fn;
        socket->messages_user = user;
        dg_receive_update(socket);
    }
    return code;
}

int dgram_on_listening(struct dgram_socket *socket, dgram_event_fn *fn, void *user)
{
    int code = dg_socket_check(socket);
    if (code == 0) {
        socket->on_listening = fn;
        socket->listening_user = user;
    }
    return code;
}

int dgram_on_drain(struct dgram_socket *socket, dgram_event_fn *fn, void *user)
{
    int code = dg_socket_check(socket);
    if (code == 0) {
        socket->on_drain = fn;
        socket->drain_user = user;
    }
    return code;
}

/* `error` and `close` may come after dgram_close(), so they may be set after it, too. */
static int check_until_closed(const struct dgram_socket *socket)
{
    if (socket == NULL) {
        return DGRAM_ENULL;
    }
    if (dg_loop_forked(socket->loop)) {
        return DGRAM_EFORKED;
    }
    return socket->state == SOCKET_GONE ? DGRAM_ENOTRUNNING : 0;
}

int dgram_on_error(struct dgram_socket *socket, dgram_error_fn *fn, void *user)
{
    int code = check_until_closed(socket);
    if (code == 0) {
        socket->errors.fn = fn;
        socket->errors.user = user;
    }
    return code;
}

int dgram_on_close(struct dgram_socket *socket, dgram_event_fn *fn, void *user)
{
    int code = check_until_closed(socket);
    if (code == 0) {
        socket->on_close = fn;
        socket->close_user = user;
    }
    return code;
}

int dgram_socket_stats(const struct dgram_socket *socket, struct dgram_socket_stats *stats)
{
    if (socket == NULL) {
        return DGRAM_ENULL;
    }
    if (dg_loop_forked(socket->loop)) {
        return DGRAM_EFORKED;
    }
    struct dgram_socket_stats ours = socket->stats;
    ours.errors_lost = socket->errors.lost;
    if (socket->endpoint.fd >= 0) {
        ours.dropped = socket->loop->system->drops(socket->endpoint.fd);
    }
    return dg_result_write(stats, &ours, sizeof(ours),
                           offsetof(struct dgram_socket_stats, received_bytes));
}
