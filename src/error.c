/* SPDX-License-Identifier: MIT */
/*
 * error.c: names and sentences for codes, and the queue of `error` events.
 *
 * The queue is bounded per loop: a program that sends ten million datagrams nowhere in one callback
 * gets what fits and a count of the rest. Equal errors in a row share one record.
 */
#include <string.h>

#include "src/core.h"

#define LIBRARY_CODES(X)                                                                           \
    X(DGRAM_ENULL, "a required pointer is NULL")                                                   \
    X(DGRAM_EBADTYPE, "the socket type is neither DGRAM_UDP4 nor DGRAM_UDP6")                      \
    X(DGRAM_EBADOPTIONS, "an options struct has a wrong size or a value out of range")             \
    X(DGRAM_EBADPORT, "the port is above 65535, or the destination port is 0")                     \
    X(DGRAM_EBADADDRESS,                                                                           \
      "not an IP address (without port or brackets) or, where allowed, a host name")               \
    X(DGRAM_EBADFAMILY, "the address is not of the socket's family")                               \
    X(DGRAM_EBADTTL, "the TTL is out of range")                                                    \
    X(DGRAM_EBADGROUP, "not the IP address of a multicast group for this socket")                  \
    X(DGRAM_EBADINTERFACE, "not an interface of this host")                                        \
    X(DGRAM_EBADTIME, "the delay or interval is negative")                                         \
    X(DGRAM_EBADBUFFERSIZE, "the buffer size is 0 or too large")                                   \
    X(DGRAM_EALREADYBOUND, "the socket is already bound")                                          \
    X(DGRAM_ENOTBOUND, "the socket is not bound")                                                  \
    X(DGRAM_ENOTRUNNING, "the socket is closed")                                                   \
    X(DGRAM_EFORKED, "the loop belongs to the parent process")                                     \
    X(DGRAM_EWRONGTHREAD, "the loop belongs to another thread")                                    \
    X(DGRAM_EREENTERED, "the loop is already running")                                             \
    X(DGRAM_EBADENGINE, "there is no such engine: the engines are auto, uring and poll")           \
    X(DGRAM_ENOTFOUND, "the name does not exist or has no address of this family")                 \
    X(DGRAM_EDNSTIMEOUT, "no name server answered in time")                                        \
    X(DGRAM_EDNSFAILED, "a name server failed or answered nonsense")                               \
    X(DGRAM_EWRONGLOOP, "the destination or buffer belongs to another loop")                       \
    X(DGRAM_EBADRANGE, "the part exceeds the buffer")

/* What sockets, rings and name servers answer with; strerrorname_np() is too new to rely on. */
/* clang-format off */
#define SYSTEM_CODES(X) \
    X(EPERM) X(ENOENT) X(EINTR) X(EIO) X(ENXIO) X(E2BIG) X(EBADF) X(EAGAIN) X(ENOMEM) X(EACCES) \
    X(EFAULT) X(EBUSY) X(EEXIST) X(ENODEV) X(ENOTDIR) X(EINVAL) X(ENFILE) X(EMFILE) X(EFBIG) \
    X(ENOSPC) X(EPIPE) X(EDOM) X(ERANGE) X(ENOSYS) X(EOVERFLOW) X(ENOTSOCK) X(EDESTADDRREQ) \
    X(EMSGSIZE) X(EPROTOTYPE) X(ENOPROTOOPT) X(EPROTONOSUPPORT) X(EOPNOTSUPP) X(EPFNOSUPPORT) \
    X(EAFNOSUPPORT) X(EADDRINUSE) X(EADDRNOTAVAIL) X(ENETDOWN) X(ENETUNREACH) X(ENETRESET) \
    X(ECONNABORTED) X(ECONNRESET) X(ENOBUFS) X(EISCONN) X(ENOTCONN) X(ETIMEDOUT) X(ECONNREFUSED) \
    X(EHOSTDOWN) X(EHOSTUNREACH) X(EALREADY) X(EINPROGRESS) X(ECANCELED) X(EPROTO) X(ETIME)
/* clang-format on */

struct code_name {
    int code;
    const char *name, *text;
};

#define LIBRARY_ROW(code, text) {code, #code, text},
#define SYSTEM_ROW(code) {-(code), #code, NULL},

static const struct code_name code_names[] = {LIBRARY_CODES(LIBRARY_ROW) SYSTEM_CODES(SYSTEM_ROW)};

static const struct code_name *code_find(int code)
{
    for (size_t i = 0; i < sizeof(code_names) / sizeof(code_names[0]); i++) {
        if (code_names[i].code == code) {
            return &code_names[i];
        }
    }
    return NULL;
}

const char *dgram_strerror(int code)
{
    const struct code_name *known = code_find(code);
    if (known != NULL && known->text != NULL) {
        return known->text;
    }
    if (code >= 0) {
        return "success";
    }
    return code > -4096 ? strerror(-code) : "unknown error";
}

const char *dgram_error_name(int code)
{
    const struct code_name *known = code_find(code);
    return known != NULL ? known->name : code >= 0 ? "OK" : "UNKNOWN";
}

#define DGRAM_TEXT(number) #number
#define DGRAM_TEXT_OF(number) DGRAM_TEXT(number)

const char *dgram_version(void)
{
    return DGRAM_TEXT_OF(DGRAM_VERSION_MAJOR) "." DGRAM_TEXT_OF(
        DGRAM_VERSION_MINOR) "." DGRAM_TEXT_OF(DGRAM_VERSION_PATCH);
}

static bool event_equals(const struct error_event *event, const struct dgram_socket *socket,
                         const char *operation, int code, const void *name, size_t name_size)
{
    return event->socket == socket && event->code == code && event->operation == operation &&
           event->host == NULL && event->address.size == name_size &&
           memcmp(&event->address.u, name, name_size) == 0;
}

static struct error_event *event_take(struct dgram_loop *loop)
{
    struct link *link = queue_pop(&loop->error_store);
    if (link != NULL) {
        return (struct error_event *) link;
    }
    return loop->errors_waiting < ERRORS_WAITING_MAX ? dg_allocate(sizeof(struct error_event))
                                                     : NULL;
}

static void event_give(struct dgram_loop *loop, struct error_event *event)
{
    if (event != NULL) {
        queue_prepend(&loop->error_store, &event->link);
    }
}

static void event_append(struct dgram_loop *loop, struct error_event *event)
{
    queue_append(&loop->errors, &event->link);
    loop->errors_waiting += event->repeat;
    dg_loop_touch(loop);
}

void dg_error_queue(struct dgram_socket *socket, const char *operation, int code, const void *name,
                    size_t name_size, uint32_t repeat)
{
    static const char none[1];
    struct dgram_loop *loop = socket->loop;
    struct error_event *tail = (struct error_event *) loop->errors.last;
    if (loop->errors_waiting + repeat > ERRORS_WAITING_MAX) {
        uint32_t kept = ERRORS_WAITING_MAX - loop->errors_waiting;
        socket->stats.errors_lost += repeat - kept;
        repeat = kept;
    }
    if (repeat == 0) {
        return;
    }
    name = name_size == 0 ? none : name;
    if (tail != NULL && event_equals(tail, socket, operation, code, name, name_size)) {
        tail->repeat += repeat;
        loop->errors_waiting += repeat;
        return;
    }
    struct error_event *event = event_take(loop);
    if (event == NULL) {
        socket->stats.errors_lost += repeat;
        return;
    }
    *event = (struct error_event){
        .socket = socket, .operation = operation, .code = code, .repeat = repeat};
    dg_address_set(&event->address, name, name_size);
    event_append(loop, event);
}

void dg_error_queue_host(struct dgram_socket *socket, const char *operation, int code,
                         const char *host)
{
    struct dgram_loop *loop = socket->loop;
    size_t size = strlen(host) + 1;
    struct error_event *event = loop->errors_waiting < ERRORS_WAITING_MAX ? event_take(loop) : NULL;
    char *copy = event != NULL ? dg_allocate(size) : NULL;
    if (copy == NULL) {
        socket->stats.errors_lost++;
        event_give(loop, event);
        return;
    }
    memcpy(copy, host, size);
    *event = (struct error_event){
        .socket = socket, .operation = operation, .code = code, .repeat = 1, .host = copy};
    event_append(loop, event);
}

static void event_emit(const struct error_event *event)
{
    struct dgram_socket *socket = event->socket;
    const struct dgram_error error = {
        .size = sizeof(error),
        .code = event->code,
        .operation = event->operation,
        .address = event->address.size > 0 ? &event->address : NULL,
        .host = event->host,
    };
    for (uint32_t i = 0; i < event->repeat && !dg_loop_forked(socket->loop); i++) {
        if (socket->on_error == NULL) {
            socket->stats.errors_lost += event->repeat - i;
            return;
        }
        socket->on_error(socket, &error, socket->error_user);
    }
}

/* What a handler causes while these run waits for the next turn. A socket cannot be freed before
 * its events are out: `close` is dispatched after them. */
void dg_error_dispatch(struct dgram_loop *loop)
{
    struct queue errors = queue_take(&loop->errors);
    loop->errors_waiting = 0;
    while (!queue_is_empty(&errors) && !dg_loop_forked(loop)) {
        struct error_event *event = (struct error_event *) queue_pop(&errors);
        event_emit(event);
        dg_release(event->host);
        event->host = NULL;
        event_give(loop, event);
    }
    queue_prepend_all(&loop->errors, &errors); /* a child's: to be released with the loop */
}

bool dg_error_waits_for(const struct dgram_socket *socket)
{
    const struct queue *errors = &socket->loop->errors;
    const struct link *link = queue_first(errors);
    while (link != NULL && ((const struct error_event *) link)->socket != socket) {
        link = queue_after(errors, link);
    }
    return link != NULL;
}

void dg_error_forget(struct dgram_loop *loop)
{
    queue_prepend_all(&loop->error_store, &loop->errors);
    for (struct link *link; (link = queue_pop(&loop->error_store)) != NULL;) {
        struct error_event *event = (struct error_event *) link;
        dg_release(event->host);
        dg_release(event);
    }
}
