/* SPDX-License-Identifier: MIT */
/*
 * raw_receive.c: recvmmsg, and trains taken apart (UDP_GRO, udp(7)).
 *
 * Owns the receive buffers and the waiting of the raw engines. A single socket sleeps in recvmmsg
 * itself, the cheapest way, or in poll; many sleep in epoll.
 */
#include "bench/engines/raw.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <unistd.h>

#include "bench/harness/engine.h"
#include "bench/harness/process.h"

#define TRAIN_STRIDE (65536u + 192u) /* any train; no power of two, which would crowd the cache */
#define TRAIN_BUFFERS 8u             /* half a megabyte: stays in the cache */

/* ---- Open and close ------------------------------------------------------------------------ */

static int buffers_make(struct raw_in *in)
{
    bool any_size = in->gro || in->end->role == ROLE_SERVER;

    in->messages = in->gro ? TRAIN_BUFFERS : RAW_MESSAGES;
    in->stride = any_size ? TRAIN_STRIDE : (in->end->plan->size + 127u) & ~(size_t) 63;
    in->buffers = malloc(in->messages * in->stride);
    if (!in->buffers) {
        return end_fail(in->end, "memory", -ENOMEM);
    }
    for (uint32_t i = 0; i < in->messages; i++) {
        struct msghdr *header = &in->headers[i].msg_hdr;

        in->pieces[i].iov_base = in->buffers + i * in->stride;
        in->pieces[i].iov_len = in->stride;
        header->msg_iov = &in->pieces[i];
        header->msg_iovlen = 1;
        header->msg_control = in->gro ? &in->controls[i] : NULL;
        header->msg_name = end_wants_names(in->end) ? &in->names[i].u : NULL;
    }
    return 0;
}

static int socket_set(const struct raw_in *in, int fd)
{
    struct timeval tick = {.tv_usec = TICK_MS * 1000L};
    int bytes = RECEIVE_BUFFER;
    int on = 1;

    if (in->gro && setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)) != 0) {
        return end_fail(in->end, "UDP_GRO", -errno);
    }
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tick, sizeof(tick)) != 0) {
        return end_fail(in->end, "SO_RCVTIMEO", -errno);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)); /* granted as far as allowed */
    return 0;
}

static int socket_bind(struct raw_in *in, uint32_t index)
{
    struct end *end = in->end;
    struct dgram_addr *local = &end->local[index];
    socklen_t size = sizeof(local->u);
    socklen_t int_size = sizeof(int);
    int granted = 0;

    if (bind(in->fds[index], &end->bind_to.u.any, end->bind_to.size) != 0) {
        return end_fail(end, "bind", -errno);
    }
    if (getsockname(in->fds[index], &local->u.any, &size) != 0) {
        return end_fail(end, "getsockname", -errno);
    }
    local->size = size;
    getsockopt(in->fds[index], SOL_SOCKET, SO_RCVBUF, &granted, &int_size);
    end->granted = (uint32_t) granted;
    return 0;
}

static int socket_open(struct raw_in *in, uint32_t index)
{
    int fd = socket(in->end->bind_to.u.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};

    in->fds[index] = fd;
    if (fd < 0) {
        return end_fail(in->end, "socket", -errno);
    }
    if (socket_set(in, fd) != 0 || socket_bind(in, index) != 0) {
        return -1;
    }
    if (in->epoll >= 0 && epoll_ctl(in->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        return end_fail(in->end, "epoll_ctl", -errno);
    }
    return 0;
}

int raw_in_open(struct raw_in *in, struct end *end, bool gro)
{
    in->end = end;
    in->gro = gro;
    in->epoll = -1;
    in->polls = end->role == ROLE_COLLECTOR;
    for (uint32_t i = 0; i < FANOUT_PEERS; i++) {
        in->fds[i] = -1;
    }
    if (end->sockets > 1) {
        in->epoll = epoll_create1(EPOLL_CLOEXEC);
        if (in->epoll < 0) {
            return end_fail(end, "epoll_create1", -errno);
        }
    }
    for (uint32_t i = 0; i < end->sockets; i++) {
        if (socket_open(in, i) != 0) {
            return -1;
        }
    }
    return buffers_make(in);
}

void raw_in_close(struct raw_in *in)
{
    for (uint32_t i = 0; i < FANOUT_PEERS; i++) {
        if (in->fds[i] >= 0) {
            close(in->fds[i]);
        }
    }
    if (in->epoll >= 0) {
        close(in->epoll);
    }
    free(in->buffers);
}

/* ---- Receiving ----------------------------------------------------------------------------- */

/* Returns the size of the datagrams of message `i`. Without the control message the message is one
 * datagram. */
static uint32_t segment_of(const struct raw_in *in, uint32_t i, uint32_t size)
{
    const struct msghdr *header = &in->headers[i].msg_hdr;
    const struct cmsghdr *control = CMSG_FIRSTHDR(header);
    int segment = 0;

    if (control && control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO) {
        memcpy(&segment, CMSG_DATA(control), sizeof(segment));
    }
    return segment > 0 ? (uint32_t) segment : size;
}

static void deliver(struct raw_in *in, uint32_t socket, uint32_t i)
{
    uint32_t size = in->headers[i].msg_len;
    uint32_t segment = segment_of(in, i, size);
    const uint8_t *data = in->pieces[i].iov_base;

    in->names[i].size = in->headers[i].msg_hdr.msg_namelen;
    while (size > segment) {
        end_take(in->end, socket, &in->names[i], data, segment);
        data += segment;
        size -= segment;
    }
    end_take(in->end, socket, &in->names[i], data, size);
}

/* One recvmmsg. Returns how many messages came, or -1. */
static int receive(struct raw_in *in, uint32_t socket, int flags)
{
    bool named = end_wants_names(in->end);
    int count;

    for (uint32_t i = 0; i < in->messages; i++) {
        in->headers[i].msg_hdr.msg_controllen = in->gro ? sizeof(in->controls[i]) : 0;
        in->headers[i].msg_hdr.msg_namelen = named ? sizeof(in->names[i].u) : 0;
    }
    count = recvmmsg(in->fds[socket], in->headers, in->messages, flags, NULL);
    if (count < 0) {
        bool nothing = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
        return nothing || errno == ECONNREFUSED ? 0 : end_fail(in->end, "recvmmsg", -errno);
    }
    for (uint32_t i = 0; i < (uint32_t) count; i++) {
        deliver(in, socket, i);
    }
    return count;
}

static int receive_from_ready(struct raw_in *in, int timeout_ms)
{
    struct epoll_event events[FANOUT_PEERS];
    int ready = epoll_wait(in->epoll, events, (int) FANOUT_PEERS, timeout_ms);
    int total = 0;

    if (ready < 0) {
        return errno == EINTR ? 0 : end_fail(in->end, "epoll_wait", -errno);
    }
    for (int i = 0; i < ready; i++) {
        int count = receive(in, events[i].data.u32, MSG_DONTWAIT);

        if (count < 0) {
            return -1;
        }
        total += count;
    }
    return total;
}

static int receive_any(struct raw_in *in, bool wait)
{
    if (in->epoll >= 0) {
        return receive_from_ready(in, wait ? TICK_MS : 0);
    }
    if (in->polls && wait) {
        (void) poll(&(struct pollfd){.fd = in->fds[0], .events = POLLIN}, 1, TICK_MS);
        wait = false;
    }
    return receive(in, 0, wait ? MSG_WAITFORONE : MSG_DONTWAIT);
}

/* Receives once by recvfrom, the cheapest call. recvfrom tells no trains: this is for ends to which
 * none are sent. Returns 1, 0 if nothing came, or -1. */
static int look(struct raw_in *in)
{
    bool named = end_wants_names(in->end);
    socklen_t name_size = sizeof(in->names[0].u);
    ssize_t size = recvfrom(in->fds[0], in->pieces[0].iov_base, in->pieces[0].iov_len, MSG_DONTWAIT,
                            named ? &in->names[0].u.any : NULL, named ? &name_size : NULL);

    if (size < 0) {
        bool nothing = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
        return nothing || errno == ECONNREFUSED ? 0 : end_fail(in->end, "recvfrom", -errno);
    }
    in->names[0].size = named ? name_size : 0;
    end_take(in->end, 0, &in->names[0], in->pieces[0].iov_base, (uint32_t) size);
    return 1;
}

/* Looks for a while before it sleeps (--busy-poll). This saves the wake-up and costs the CPU. */
static int receive_spinning(struct raw_in *in)
{
    uint64_t until = clock_now() + in->end->plan->busy_poll_us * UINT64_C(1000);
    bool lone = in->epoll < 0 && !in->gro;
    int count;

    do {
        count = lone ? look(in) : receive_any(in, false);
    } while (count == 0 && clock_now() < until);
    return count;
}

int raw_in_turn(struct raw_in *in, bool wait)
{
    int count = 0;

    if (wait && in->end->plan->busy_poll_us > 0) {
        count = receive_spinning(in);
    }
    if (count == 0) {
        count = receive_any(in, wait);
    }
    return count < 0 ? -1 : 0;
}
