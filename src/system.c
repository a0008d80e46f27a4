/* SPDX-License-Identifier: MIT */
/*
 * system.c: the host's system calls behind the table of system.h.
 *
 * Owns nothing but the answers of questions that are asked once per process. What differs by host
 * is behind host.h.
 */
#include "src/system.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#include "src/host.h"

static int checked(int result)
{
    return result < 0 ? -errno : result;
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

static bool only_one_cpu(void)
{
    static atomic_int known; /* 0: not asked yet, 1: one, 2: more */
    int answer = atomic_load(&known);
    if (answer == 0) {
        answer = dg_host_only_one_cpu() ? 1 : 2;
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

/* A full pipe is readable already, so a failed write loses nothing. pthread_cancel(3) must not end
 * the thread in write(2): what has been posted would lie there, and nobody would wake. */
static void host_wake_signal(int fd)
{
    int saved = errno, cancel_state;
    (void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    ssize_t ignored = write(fd, "", 1);
    (void) ignored;
    (void) pthread_setcancelstate(cancel_state, NULL);
    errno = saved; /* for the signal handlers that end up here */
}

static void host_wake_clear(int fd)
{
    char bytes[64];
    while (read(fd, bytes, sizeof(bytes)) == (ssize_t) sizeof(bytes)) {
    }
}

/* The write end of a pipe that nobody can read from is in error. */
static void host_wake_outlast(const int fds[2])
{
    enum { SECOND_MS = 1000 };
    struct pollfd end = {.fd = fds[1]};
    (void) close(fds[0]);
    (void) poll(&end, 1, SECOND_MS);
    (void) close(fds[1]);
}

/* Once per process: two threads that probe at the same time find the same. Where there is no
 * loopback to ask (yet), 64 is a fair guess: a refused train costs no datagram. */
static unsigned host_segments_max(void)
{
    static atomic_uint known;
    unsigned segments = atomic_load(&known);
    if (segments == 0) {
        segments = dg_host_segments_max();
        atomic_store(&known, segments);
    }
    return segments != 0 ? segments : 64;
}

/*
 * Wake-ups are pipes, not eventfds: when a ring that has an eventfd of its own polls another
 * eventfd, writing to that one makes the kernel put the ring's signal off (no eventfd is signalled
 * inside another's wake-up), and from the second time on it is lost (seen on 6.18: the descriptor
 * of an embedded loop stays silent). A pipe's wake-up signals at once.
 */
const struct dg_system dg_system_host = {
    .socket = dg_host_socket,
    .bind = host_bind,
    .setsockopt = host_setsockopt,
    .getsockopt = host_getsockopt,
    .getsockname = host_getsockname,
    .close = host_close,
    .drops = dg_host_drops,
    .now = host_now,
    .relax = host_relax,
    .wake_open = dg_host_pipe,
    .wake_signal = host_wake_signal,
    .wake_clear = host_wake_clear,
    .wake_outlast = host_wake_outlast,
    .gather_open = dg_host_gather_open,
    .alarm_open = dg_host_alarm_open,
    .alarm_set = dg_host_alarm_set,
    .segments_max = host_segments_max,
};
