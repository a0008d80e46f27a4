/* SPDX-License-Identifier: MIT */
/* system.c: the host's system calls behind the table of system.h. Owns nothing, keeps no state. */
#include "src/system.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static int checked(int result)
{
    return result < 0 ? -errno : result;
}

static int host_socket(int family)
{
    return checked(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

static int host_bind(int fd, const struct sockaddr *address, socklen_t size)
{
    return checked(bind(fd, address, size));
}

static int host_setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    return checked(setsockopt(fd, level, name, value, size));
}

static int host_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    return checked(getsockopt(fd, level, name, value, size));
}

static int host_getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    return checked(getsockname(fd, address, size));
}

/* EINTR is not retried: on Linux the descriptor is gone all the same, close(2). */
static int host_close(int fd)
{
    return checked(close(fd));
}

static uint64_t host_now(void)
{
    struct timespec now;
    (void) clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

/* Asked of the main thread: a program that pins each thread to a CPU of its own has more than
 * one. */
static bool only_one_cpu(void)
{
    static atomic_int known; /* 0: not asked yet, 1: one, 2: more */
    int answer = atomic_load(&known);
    if (answer == 0) {
        cpu_set_t allowed;
        bool one =
            sched_getaffinity(getpid(), sizeof(allowed), &allowed) == 0 && CPU_COUNT(&allowed) == 1;
        answer = one || sysconf(_SC_NPROCESSORS_ONLN) == 1 ? 1 : 2;
        atomic_store(&known, answer);
    }
    return answer == 1;
}

static void host_relax(void)
{
    if (only_one_cpu()) {
        (void) sched_yield();
    }
}

/*
 * A pipe, not an eventfd: when a ring that has an eventfd of its own polls another eventfd, writing
 * to that one makes the kernel put the ring's signal off (no eventfd is signalled inside another's
 * wake-up), and from the second time on it is lost (seen on 6.18: the descriptor of an embedded
 * loop stays silent). A pipe's wake-up signals at once.
 */
static int host_wake_open(int ret_fds[2])
{
    return checked(pipe2(ret_fds, O_CLOEXEC | O_NONBLOCK));
}

/* A full pipe is readable already, so a failed write loses nothing. */
static void host_wake_signal(int fd)
{
    int saved = errno;
    ssize_t ignored = write(fd, "", 1);
    (void) ignored;
    errno = saved; /* for the signal handlers that end up here */
}

static void host_wake_clear(int fd)
{
    char bytes[64]; /* also room for the expiry count of an alarm */
    while (read(fd, bytes, sizeof(bytes)) == (ssize_t) sizeof(bytes)) {
    }
}

static int host_gather_open(const int *fds, size_t count)
{
    int gather = checked(epoll_create1(EPOLL_CLOEXEC));
    for (size_t i = 0; gather >= 0 && i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN};
        int code = checked(epoll_ctl(gather, EPOLL_CTL_ADD, fds[i], &event));
        if (code < 0) {
            (void) close(gather);
            gather = code;
        }
    }
    return gather;
}

static int host_alarm_open(void)
{
    return checked(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
}

static void host_alarm_set(int fd, uint64_t deadline)
{
    struct itimerspec when = {0}; /* zero disarms, timerfd_create(2) */
    if (deadline != UINT64_MAX) {
        deadline = deadline == 0 ? 1 : deadline;
        when.it_value.tv_sec = (time_t) (deadline / 1000000000u);
        when.it_value.tv_nsec = (long) (deadline % 1000000000u);
    }
    (void) timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL); /* the arguments are valid */
}

/* A train of `count` one-byte datagrams from a socket to itself. */
static bool train_goes(int fd, const struct sockaddr_in *self, uint16_t count)
{
    enum { SOL_UDP_ = 17, UDP_SEGMENT_ = 103, COUNT_MAX = 128 };
    unsigned char payload[COUNT_MAX] = {0};
    _Alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct iovec vector = {.iov_base = payload, .iov_len = count};
    struct msghdr header = {
        .msg_name = (void *) (uintptr_t) self,
        .msg_namelen = sizeof(*self),
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    uint16_t segment = 1;
    c->cmsg_level = SOL_UDP_;
    c->cmsg_type = UDP_SEGMENT_;
    c->cmsg_len = CMSG_LEN(sizeof(segment));
    memcpy(CMSG_DATA(c), &segment, sizeof(segment));
    return sendmsg(fd, &header, MSG_DONTWAIT) == (ssize_t) count;
}

/* 128 segments since Linux 6.9 and some stable branches, 64 since 4.18: asked, not derived from a
 * version. A kernel before 4.18 ignores the unknown message and sends one datagram of 64 bytes, so
 * a receive tells the truth. */
static unsigned probe_segments(void)
{
    struct sockaddr_in self = {.sin_family = AF_INET};
    self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(self);
    int fd = host_socket(AF_INET);
    if (fd < 0) {
        return 0;
    }
    unsigned segments = 0;
    unsigned char byte[2];
    if (bind(fd, (struct sockaddr *) &self, size) == 0 &&
        getsockname(fd, (struct sockaddr *) &self, &size) == 0) {
        segments = train_goes(fd, &self, 128) ? 128 : train_goes(fd, &self, 64) ? 64 : 0;
        if (segments == 0 && errno != ENETUNREACH && errno != ENETDOWN) {
            segments = 1;
        }
        if (segments > 1 && recv(fd, byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) != 1) {
            segments = 1;
        }
    }
    (void) close(fd);
    return segments;
}

/* Once per process: two threads that probe at the same time find the same. Where there is no
 * loopback to ask (yet), 64 is a fair guess: a refused train costs no datagram. */
static unsigned host_segments_max(void)
{
    static atomic_uint known;
    unsigned segments = atomic_load(&known);
    if (segments == 0) {
        segments = probe_segments();
        atomic_store(&known, segments);
    }
    return segments != 0 ? segments : 64;
}

const struct dg_system dg_system_host = {
    .socket = host_socket,
    .bind = host_bind,
    .setsockopt = host_setsockopt,
    .getsockopt = host_getsockopt,
    .getsockname = host_getsockname,
    .close = host_close,
    .now = host_now,
    .relax = host_relax,
    .wake_open = host_wake_open,
    .wake_signal = host_wake_signal,
    .wake_clear = host_wake_clear,
    .gather_open = host_gather_open,
    .alarm_open = host_alarm_open,
    .alarm_set = host_alarm_set,
    .segments_max = host_segments_max,
};
