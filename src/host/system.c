/* SPDX-License-Identifier: MIT */
/*
 * system.c: the host's system calls behind the table of system.h.
 *
 * Owns nothing but the answers of questions that are asked once per process. Calls that differ by
 * host are behind host.h.
 */
#include "src/system.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#include "src/host/host.h"

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

static int host_receive(int fd, struct msghdr *header, int flags)
{
    return checked((int) recvmsg(fd, header, flags | MSG_DONTWAIT | dg_host_real_size));
}

/* EINTR is not retried: on Linux the descriptor is gone all the same, close(2). */
static int host_close(int fd)
{
    return checked(close(fd));
}

static int host_guest_connect(int fd, const struct sockaddr *name, socklen_t size)
{
    return checked(connect(fd, name, size));
}

/* POSIX.1-2008. macOS lacks it, and has SO_NOSIGPIPE: see dg_host_guest_socket(). */
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/* Vectors above the least IOV_MAX of POSIX wait, as for a socket that has no room for all. */
static int host_guest_send(int fd, const struct iovec *vectors, size_t count)
{
    enum { VECTORS_MAX = 16 };
    uint16_t taken = (uint16_t) (count < VECTORS_MAX ? count : VECTORS_MAX);
    const struct msghdr header = {.msg_iov = (struct iovec *) (uintptr_t) vectors,
                                  .msg_iovlen = taken};
    return checked((int) sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT));
}

static int host_guest_receive(int fd, void *data, size_t size, struct sockaddr *name,
                              socklen_t *name_size)
{
    return checked((int) recvfrom(fd, data, size, MSG_DONTWAIT, name, name_size));
}

static int host_file_open(const char *path)
{
    return checked(open(path, O_RDONLY | O_CLOEXEC));
}

static int host_duplicate(int fd)
{
    return checked(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

static uint64_t clock_read(clockid_t clock)
{
    struct timespec time = {0};
    (void) clock_gettime(clock, &time); /* cannot fail for these clocks */
    return (uint64_t) time.tv_sec * 1000000000u + (uint64_t) time.tv_nsec;
}

static uint64_t host_now(void)
{
    return clock_read(CLOCK_MONOTONIC);
}

static uint64_t host_cpu(void)
{
    return clock_read(CLOCK_THREAD_CPUTIME_ID);
}

static void host_pause(uint64_t ns)
{
    const struct timespec time = {.tv_sec = (time_t) (ns / 1000000000u),
                                  .tv_nsec = (long) (ns % 1000000000u)};
    (void) nanosleep(&time, NULL);
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

/* Where the host gives none: numbers that differ from process to process, at least. */
static uint64_t host_random(void)
{
    uint64_t random = 0;
    if (dg_host_random(&random) < 0) {
        random = host_now() ^ (uint64_t) getpid() << 32 ^ (uint64_t) (uintptr_t) &random;
    }
    return random;
}

/* A full pipe is readable already, so a failed write loses nothing. pthread_cancel(3) must not end
 * the thread in write(2): the post would lie there, and nobody would wake. */
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
    const uint64_t start = host_now();
    (void) close(fds[0]);
    for (uint64_t passed = 0; passed < SECOND_MS; passed = (host_now() - start) / 1000000) {
        if (poll(&end, 1, (int) (SECOND_MS - passed)) >= 0 || errno != EINTR) {
            break;
        }
    }
    (void) close(fds[1]);
}

/* The kernel's answer is found out once per process: two threads that ask at the same time find the
 * same. While the network lets nobody ask, 64 is a fair guess, since a refused train costs no
 * datagram; the next loop asks again. */
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
 * Wake-ups are pipes, not eventfds. No eventfd is signalled inside another's wake-up: if a ring
 * with an eventfd of its own polls another eventfd, a write to that one makes the kernel put the
 * ring's signal off. From the second time on the signal is lost (seen on 6.18: the descriptor of an
 * embedded loop stays silent). A pipe's wake-up signals at once.
 */
const struct dg_system dg_system_host = {
    .socket = dg_host_socket,
    .bind = host_bind,
    .setsockopt = host_setsockopt,
    .getsockopt = host_getsockopt,
    .getsockname = host_getsockname,
    .close = host_close,
    .receive = host_receive,
    .refuse = dg_host_refuse,
    .guest_socket = dg_host_guest_socket,
    .guest_connect = host_guest_connect,
    .guest_send = host_guest_send,
    .guest_receive = host_guest_receive,
    .file_open = host_file_open,
    .duplicate = host_duplicate,
    .drops = dg_host_drops,
    .now = host_now,
    .cpu = host_cpu,
    .pause = host_pause,
    .relax = host_relax,
    .wake_open = dg_host_pipe,
    .wake_signal = host_wake_signal,
    .wake_clear = host_wake_clear,
    .wake_outlast = host_wake_outlast,
    .gather_open = dg_host_gather_open,
    .alarm_open = dg_host_alarm_open,
    .alarm_set = dg_host_alarm_set,
    .random = host_random,
    .segments_max = host_segments_max,
};
