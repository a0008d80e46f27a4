/* SPDX-License-Identifier: MIT */
/* guest.c: see guest.h. */
#include "src/names/guest.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/core/io.h"
#include "src/system.h"

/* A message that came by TCP, behind its length. */
struct stream {
    uint32_t filled, taken; /* by the server, by c-ares */
    unsigned char bytes[2 + UINT16_MAX];
};

struct guest {
    struct node node; /* in the list of guests */
    struct guests *guests;
    struct dg_watch readable, writable;
    bool wants_read, wants_write;
    struct stream *stream; /* NULL: datagrams */
};

/* READY of the two watches. */
enum { RECORDS_PER_GUEST = 2 };

int dg_spare_take(struct spare *spare)
{
    if (spare->fd < 0) {
        spare->fd = spare->system->duplicate(*spare->source);
    }
    return spare->fd < 0 ? spare->fd : 0;
}

void dg_spare_give(struct spare *spare)
{
    if (spare->fd >= 0) {
        (void) spare->system->close(spare->fd);
        spare->fd = -1;
    }
}

/* ---- Sockets ------------------------------------------------------------------------------- */

/* ENOSPC: epoll has no place left for a watch (fs.epoll.max_user_watches). */
static bool is_lack(int code)
{
    return code == -EMFILE || code == -ENFILE || code == -ENOMEM || code == -ENOBUFS ||
           code == -ENOSPC;
}

/* A lack of this host is no fault of the servers, though c-ares may take it for one. */
static void note_lack(struct guests *guests, int code)
{
    if (is_lack(code)) {
        guests->lack = code;
        guests->lacks++;
    }
}

static void watch_rearm(struct guests *guests, struct dg_watch *watch, bool wanted)
{
    if (wanted && !watch->armed) {
        int code = dg_watch_arm(guests->loop->io, watch);
        note_lack(guests, code);
        if (code < 0) {
            guests->deaf(guests);
        }
    }
}

static void socket_rearm(struct guest *socket)
{
    watch_rearm(socket->guests, &socket->readable, socket->wants_read);
    watch_rearm(socket->guests, &socket->writable, socket->wants_write);
}

static struct guest *socket_find(const struct guests *guests, int fd)
{
    for (struct node *node = guests->sockets.next; node != &guests->sockets; node = node->next) {
        struct guest *socket = owner_of(node, struct guest, node);
        if (socket->readable.base.fd == fd) {
            return socket;
        }
    }
    return NULL;
}

static bool stream_is_whole(const struct stream *stream)
{
    const unsigned char *bytes = stream->bytes;
    return stream->filled >= 2 && stream->filled == 2 + ((uint32_t) bytes[0] << 8 | bytes[1]);
}

static void socket_ready(const struct guest *socket, bool readable)
{
    socket->guests->ready(socket->guests, socket->readable.base.fd, readable);
}

static void socket_readable(struct dg_watch *watch)
{
    socket_ready(owner_of(watch, struct guest, readable), true);
}

static void socket_writable(struct dg_watch *watch)
{
    socket_ready(owner_of(watch, struct guest, writable), false);
}

static void socket_release(struct guests *guests, struct guest *socket)
{
    (void) dg_io_reserve(guests->loop->io, -RECORDS_PER_GUEST);
    dg_release(socket->stream);
    dg_release(socket);
}

static struct guest *socket_make(struct guests *guests, int type)
{
    struct guest *socket = dg_allocate(sizeof(*socket));
    if (socket == NULL || dg_io_reserve(guests->loop->io, RECORDS_PER_GUEST) < 0) {
        dg_release(socket);
        return NULL;
    }
    if (type == SOCK_STREAM && (socket->stream = dg_allocate(sizeof(*socket->stream))) == NULL) {
        socket_release(guests, socket);
        return NULL;
    }
    return socket;
}

static void socket_link(struct guests *guests, struct guest *socket, int fd)
{
    socket->guests = guests;
    socket->readable =
        (struct dg_watch){.base = {.fd = fd, .events = POLLIN}, .fn = socket_readable};
    socket->writable =
        (struct dg_watch){.base = {.fd = fd, .events = POLLOUT}, .fn = socket_writable};
    node_init(&socket->node);
    node_prepend(&guests->sockets, &socket->node);
}

static void socket_unlink(struct guests *guests, struct guest *socket)
{
    node_remove(&socket->node);
    if (!guests->forked) {
        dg_watch_end(guests->loop->io, &socket->readable);
        dg_watch_end(guests->loop->io, &socket->writable);
    }
}

/* c-ares tells what it waits for, and with (false, false) that it is about to close the socket. */
void dg_guest_state_changed(void *guests, ares_socket_t fd, int readable, int writable)
{
    struct guest *socket = socket_find(guests, fd);
    if (socket != NULL) {
        socket->wants_read = readable;
        socket->wants_write = writable;
        socket_rearm(socket);
    }
}

/* ---- The functions of its sockets ---------------------------------------------------------- */

/* As system calls end: a result, or -1 and errno. */
static int call_end(int result)
{
    errno = result < 0 ? -result : errno;
    return result < 0 ? -1 : result;
}

/*
 * The spare descriptor is for files: no socket may have it. Sockets to servers have no protocol
 * here. Those with one help to put addresses into an order (RFC 6724), and are not missed.
 */
static ares_socket_t guest_open(int family, int type, int protocol, void *user)
{
    struct guests *guests = user;
    struct guest *socket = socket_make(guests, type);
    int fd = socket != NULL ? dg_spare_take(guests->spare) : -ENOMEM;
    if (fd == 0) {
        fd = guests->loop->system->guest_socket(family, type);
        dg_spare_give(guests->spare);
    }
    if (fd >= 0) {
        socket_link(guests, socket, fd);
    } else if (socket != NULL) {
        socket_release(guests, socket);
    }
    if (protocol == 0) {
        note_lack(guests, fd);
    }
    return call_end(fd);
}

static int guest_close(ares_socket_t fd, void *user)
{
    struct guests *guests = user;
    struct guest *socket = socket_find(guests, fd);
    socket_unlink(guests, socket);
    socket_release(guests, socket);
    return call_end(guests->loop->system->close(fd));
}

static int guest_connect(ares_socket_t fd, const struct sockaddr *given, ares_socklen_t size,
                         void *user)
{
    struct guests *guests = user;
    union dg_peer peer = {0};
    memcpy(&peer, given, size < sizeof(peer) ? size : sizeof(peer));
    int code = dg_dns_peer_of_server(guests->configuration, &peer);
    if (code == 0) {
        code = guests->loop->system->guest_connect(fd, &peer.any, size);
    }
    note_lack(guests, code);
    return call_end(code);
}

/*
 * c-ares gets whole messages only. Of a connection that ends in the middle of one, 1.34.9 does not
 * see the end: it would be called again and again until the question timed out. Here, the part that
 * came is gone with the connection.
 */
static int stream_receive(const struct dg_system *system, int fd, struct stream *stream, void *data,
                          size_t size)
{
    while (!stream_is_whole(stream)) {
        const unsigned char *bytes = stream->bytes;
        uint32_t wanted = stream->filled < 2 ? 2 : 2 + ((uint32_t) bytes[0] << 8 | bytes[1]);
        int received = system->guest_receive(fd, stream->bytes + stream->filled,
                                             wanted - stream->filled, NULL, NULL);
        if (received <= 0) {
            return received;
        }
        stream->filled += (uint32_t) received;
    }
    uint32_t left = stream->filled - stream->taken;
    uint32_t taken = size < left ? (uint32_t) size : left;
    memcpy(data, stream->bytes + stream->taken, taken);
    stream->taken += taken;
    if (stream->taken == stream->filled) {
        stream->taken = stream->filled = 0;
    }
    return (int) taken;
}

static ares_ssize_t guest_receive(ares_socket_t fd, void *data, size_t size, int flags,
                                  struct sockaddr *from, ares_socklen_t *from_size, void *user)
{
    struct guests *guests = user;
    const struct dg_system *system = guests->loop->system;
    const struct guest *socket = socket_find(guests, fd);
    union dg_peer peer = {0};
    socklen_t peer_size = sizeof(peer);
    (void) flags; /* none is ever asked for */
    if (socket->stream != NULL) {
        return call_end(stream_receive(system, fd, socket->stream, data, size));
    }
    int received = system->guest_receive(fd, data, size, &peer.any, &peer_size);
    if (received >= 0 && from != NULL) {
        dg_dns_peer_for_cares(guests->configuration, &peer);
        *from_size = peer_size < *from_size ? peer_size : *from_size;
        memcpy(from, &peer, *from_size);
    }
    return call_end(received);
}

/* A datagram for which there is no room is one that was lost, and is sent again like those. */
static ares_ssize_t guest_send(ares_socket_t fd, const struct iovec *vectors, int count, void *user)
{
    struct guests *guests = user;
    const struct guest *socket = socket_find(guests, fd);
    int sent = guests->loop->system->guest_send(fd, vectors, (size_t) count);
    if (socket->stream == NULL && (sent == -EAGAIN || sent == -ENOBUFS)) {
        sent = (int) vectors[0].iov_len;
    }
    note_lack(guests, sent);
    return call_end(sent);
}

/* ---- What differs by the version of c-ares -------------------------------------------------- */

#if ARES_VERSION >= 0x012200
static int guest_option(ares_socket_t fd, ares_socket_opt_t option, const void *value,
                        ares_socklen_t size, void *user)
{
    (void) fd, (void) option, (void) value, (void) size, (void) user;
    errno = ENOSYS; /* for one, without TCP_FASTOPEN: a question is sent when it is connected */
    return -1;
}

static int guest_connect_by(ares_socket_t fd, const struct sockaddr *name, ares_socklen_t size,
                            unsigned int flags, void *user)
{
    (void) flags;
    return guest_connect(fd, name, size, user);
}

static ares_ssize_t guest_send_to(ares_socket_t fd, const void *data, size_t size, int flags,
                                  const struct sockaddr *name, ares_socklen_t name_size, void *user)
{
    const struct iovec vector = {.iov_base = (void *) (uintptr_t) data, .iov_len = size};
    (void) flags, (void) name, (void) name_size; /* of TCP_FASTOPEN */
    return guest_send(fd, &vector, 1, user);
}

static int guest_name(ares_socket_t fd, struct sockaddr *name, ares_socklen_t *size, void *user)
{
    struct guests *guests = user;
    return call_end(guests->loop->system->getsockname(fd, name, size));
}

void dg_guests_serve(struct guests *guests, ares_channel cares)
{
    static const struct ares_socket_functions_ex functions = {
        .version = 1,
        .flags = ARES_SOCKFUNC_FLAG_NONBLOCKING,
        .asocket = guest_open,
        .aclose = guest_close,
        .asetsockopt = guest_option,
        .aconnect = guest_connect_by,
        .arecvfrom = guest_receive,
        .asendto = guest_send_to,
        .agetsockname = guest_name,
    };
    (void) ares_set_socket_functions_ex(cares, &functions, guests);
}
#else
void dg_guests_serve(struct guests *guests, ares_channel cares)
{
    static const struct ares_socket_functions functions = {
        .asocket = guest_open,
        .aclose = guest_close,
        .aconnect = guest_connect,
        .arecvfrom = guest_receive,
        .asendv = guest_send,
    };
    ares_set_socket_functions(cares, &functions, guests);
}
#endif

/* ---- Looks --------------------------------------------------------------------------------- */

void dg_guests_init(struct guests *guests)
{
    node_init(&guests->sockets);
}

void dg_guest_watch(struct guests *guests, int fd)
{
    struct guest *socket = socket_find(guests, fd);
    if (socket != NULL) {
        socket_rearm(socket);
    }
}

void dg_guests_watch(struct guests *guests)
{
    for (struct node *node = guests->sockets.next; node != &guests->sockets; node = node->next) {
        socket_rearm(owner_of(node, struct guest, node));
    }
}

bool dg_guest_has_message(const struct guests *guests, int fd)
{
    const struct guest *socket = socket_find(guests, fd);
    return socket != NULL && socket->stream != NULL && stream_is_whole(socket->stream);
}
