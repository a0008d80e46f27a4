/* SPDX-License-Identifier: MIT */
/* bind.c: see bind.h. */
#include "src/socket/bind.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "src/base/list.h"
#include "src/core/agenda.h"
#include "src/core/errors.h"
#include "src/names/text.h"
#include "src/net/address.h"
#include "src/send/await.h"
#include "src/send/retry.h"
#include "src/system.h"

#define MILLISECOND_NS UINT64_C(1000000)

static int bind_to(struct dgram_socket *socket, const struct dgram_addr *address)
{
    int code = socket->loop->system->bind(socket->endpoint.fd, &address->u.any, address->size);
    if (code < 0) {
        return code;
    }
    socket->bound = true;
    socket->loop->buffers_changed++;
    dg_agenda_drop(socket->loop->agenda, &socket->bind);
    socket_keep(socket);
    dg_agenda_add(socket->loop->agenda, &socket->listening);
    sender_announces(&socket->sender, socket->on_listening != NULL);
    dg_receiver_bound(&socket->receiver);
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

static void bind_failed(struct dgram_socket *socket, int code, const struct dgram_addr *local)
{
    const struct dg_error error = {.operation = "bind",
                                   .code = code,
                                   .repeat = 1,
                                   .peer = &local->u,
                                   .peer_size = local->size};
    dg_error_queue(&socket->errors, &error);
}

/* ---- To a name ----------------------------------------------------------------------------- */

static void binding_set(struct dgram_socket *socket, bool binding)
{
    socket->binding = binding;
    sender_binds(&socket->sender, binding);
}

static int bind_to_answer(struct dgram_socket *socket, const union dg_peer *address)
{
    struct dgram_addr local = {.size = sender_peer_size(&socket->sender)};
    memcpy(&local.u, address, sizeof(*address));
    local.u.in4.sin_port = socket->bind_port;
    int code = bind_to(socket, &local);
    if (code < 0) {
        bind_failed(socket, code, &local);
    }
    return code;
}

/* Sends that came meanwhile wait in the parked queue: now they go, or fail with the bind. Those
 * that wait for names of their own must fail with it, too: the kernel would bind the socket of the
 * first that leaves to any port. */
static void bind_answered(struct waiter *waiter, int code, const union dg_peer *address)
{
    struct dgram_socket *socket = owner_of(waiter, struct dgram_socket, bind_waiter);
    assert(socket->binding && !socket->bound);
    binding_set(socket, false);
    if (code < 0) {
        const struct dg_error error = {
            .operation = "bind", .code = code, .repeat = 1, .host = dg_name_host(waiter->name)};
        dg_error_queue(&socket->errors, &error);
    } else {
        code = bind_to_answer(socket, address);
    }
    if (code < 0) {
        dg_send_cancel(&socket->sender, code);
        dg_awaits_cancel(&socket->sender, code);
    } else {
        dg_send_retry(&socket->sender);
    }
    socket_keep(socket);
}

static int bind_to_name(struct dgram_socket *socket, const char *host, uint16_t port)
{
    struct name *name = dg_name_get(socket->loop, host, socket->family);
    int code = name != NULL ? dg_name_ask(socket->loop, name) : -ENOMEM;
    if (code == 0) {
        socket->bind_port = htons(port);
        socket->bind_waiter.answered = bind_answered;
        binding_set(socket, true);
        dg_name_await(name, &socket->bind_waiter, true);
    }
    return code;
}

void dg_bind_cancel(struct dgram_socket *socket)
{
    if (socket->binding) {
        binding_set(socket, false);
        dg_name_leave(socket->loop, &socket->bind_waiter);
        dg_send_cancel(&socket->sender, -ECANCELED);
    }
}

/* ---- To an address ------------------------------------------------------------------------- */

int dgram_bind(struct dgram_socket *socket, uint32_t port, const char *address)
{
    int code = socket_check(socket);
    if (code < 0) {
        return code;
    }
    if (socket->bound || socket->binding) {
        return DGRAM_EALREADYBOUND;
    }
    if (port > UINT16_MAX) {
        return DGRAM_EBADPORT;
    }
    struct dgram_addr local;
    code = dg_address_read(socket->family, address, port, DG_ANY, &local);
    if (code == DGRAM_EBADADDRESS && dg_name_is_well_formed(address)) {
        code = bind_to_name(socket, address, (uint16_t) port);
        socket_keep(socket);
        return code;
    }
    return code < 0 ? code : bind_patiently(socket, &local);
}

int dg_bind_implicitly(struct dgram_socket *socket)
{
    struct dgram_addr any;
    int code = dg_address_read(socket->family, NULL, 0, DG_ANY, &any);
    assert(code == 0);
    (void) code;
    return bind_to(socket, &any);
}

void dg_bind_run(struct task *task)
{
    struct dgram_socket *socket = owner_of(task, struct dgram_socket, bind);
    bool bound = socket->bound || socket->binding;
    int code = bound ? 0 : dg_bind_implicitly(socket);
    if (code < 0) {
        bind_failed(socket, code, &(const struct dgram_addr){0});
    }
}

int dgram_address(struct dgram_socket *socket, struct dgram_addr *ret_address)
{
    int code = socket_check(socket);
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
