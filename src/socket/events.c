/* SPDX-License-Identifier: MIT */
/* events.c: see events.h. */
#include "src/socket/events.h"

#include "src/base/list.h"
#include "src/core/agenda.h"
#include "src/send/ledger.h"
#include "src/send/retry.h"
#include "src/send/submit.h"

/* ---- Events -------------------------------------------------------------------------------- */

static void emit(struct dgram_socket *socket, dgram_event_fn *fn, void *user)
{
    if (fn != NULL && socket->state < SOCKET_CLOSING && !loop_forked(socket->loop)) {
        fn(socket, user);
    }
}

/* Sends that waited for the handler leave after it, so that the options which it sets hold for
 * them. So do those that a timer of this turn has sent. */
void dg_listening_run(struct task *task)
{
    struct dgram_socket *socket = owner_of(task, struct dgram_socket, listening);
    struct dgram_loop *loop = socket->loop;
    if (socket->on_listening != NULL && send_is_queued(loop)) {
        (void) dg_send_flush(loop); /* a broken engine shows in the results */
    }
    sender_announces(&socket->sender, false);
    emit(socket, socket->on_listening, socket->listening_user);
    if (socket->state < SOCKET_CLOSING && !sender_is_blocked(&socket->sender) &&
        !loop_forked(socket->loop)) {
        dg_send_retry(&socket->sender);
    }
}

/* Not of a socket that sends no more. */
void dg_drain_run(struct task *task)
{
    struct sender *sender = sender_of_drain(task);
    struct dgram_socket *socket = owner_of(sender, struct dgram_socket, sender);
    dg_ledger_drained(sender);
    if (socket->state < SOCKET_EMPTYING) {
        emit(socket, socket->on_drain, socket->drain_user);
    }
}

/* ---- Handlers ------------------------------------------------------------------------------ */

int dgram_on_message(struct dgram_socket *socket, dgram_message_fn *fn, void *user)
{
    int code = socket_check(socket);
    if (code == 0) {
        dg_receiver_on_message(&socket->receiver, fn, user);
    }
    return code;
}

int dgram_on_messages(struct dgram_socket *socket, dgram_messages_fn *fn, void *user)
{
    int code = socket_check(socket);
    if (code == 0) {
        dg_receiver_on_messages(&socket->receiver, fn, user);
    }
    return code;
}

int dgram_on_listening(struct dgram_socket *socket, dgram_event_fn *fn, void *user)
{
    int code = socket_check(socket);
    if (code == 0) {
        socket->on_listening = fn;
        socket->listening_user = user;
        sender_announces(&socket->sender, task_is_due(&socket->listening) && fn != NULL);
    }
    return code;
}

int dgram_on_drain(struct dgram_socket *socket, dgram_event_fn *fn, void *user)
{
    int code = socket_check(socket);
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
    if (loop_forked(socket->loop)) {
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

/* ---- Pause --------------------------------------------------------------------------------- */

int dgram_pause(struct dgram_socket *socket)
{
    int code = socket_check(socket);
    if (code == 0) {
        dg_receiver_pause(&socket->receiver, true);
    }
    return code;
}

int dgram_resume(struct dgram_socket *socket)
{
    int code = socket_check(socket);
    if (code == 0) {
        dg_receiver_pause(&socket->receiver, false);
    }
    return code;
}
