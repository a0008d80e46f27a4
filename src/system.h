/* SPDX-License-Identifier: MIT */
/*
 * system.h: the other boundary: every system call of src/ that is not an engine's, and the clock.
 *
 * One const table. Tests put a faulty one in its place (the n-th call fails), the simulator its
 * own, so that a run replays exactly. Every function returns 0 or more, or a negated errno.
 */
#ifndef DGRAM_SYSTEM_H
#define DGRAM_SYSTEM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct dg_system {
    /* socket(2): close-on-exec, and blocking, because an adopted socket may be blocking as well:
     * engines pass MSG_DONTWAIT wherever they must not sleep. */
    int (*socket)(int family);
    int (*bind)(int fd, const struct sockaddr *address, socklen_t size);
    int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t size);
    int (*getsockopt)(int fd, int level, int name, void *value, socklen_t *size);
    int (*getsockname)(int fd, struct sockaddr *address, socklen_t *size);
    int (*close)(int fd);

    /* recvmsg(2) with these flags that never waits. With MSG_TRUNC where the host knows that as an
     * argument: it tells the real size then. */
    int (*receive)(int fd, struct msghdr *header, int flags);

    /* From now on the kernel drops arrivals, and counts them; the datagrams that it holds stay.
     * -ENOTSUP where the host cannot do that. */
    int (*refuse)(int fd);

    /* Sockets of guests: of other people's code in this process (c-ares). Close-on-exec, they never
     * block and never raise a signal: a peer that hangs up is -EPIPE, not SIGPIPE. `type` is
     * SOCK_STREAM or SOCK_DGRAM. */
    int (*guest_socket)(int family, int type);
    int (*guest_connect)(int fd, const struct sockaddr *name, socklen_t size);
    int (*guest_send)(int fd, const struct iovec *vectors, size_t count);
    int (*guest_receive)(int fd, void *data, size_t size, struct sockaddr *name,
                         socklen_t *name_size);

    /* open(2), to read, close-on-exec; and another descriptor of the same, close-on-exec too. */
    int (*file_open)(const char *path);
    int (*duplicate)(int fd);

    /* The kernel's drops, datagrams or whole trains, before anybody received them; 0 where the host
     * does not tell. */
    uint32_t (*drops)(int fd);

    /* CLOCK_MONOTONIC in nanoseconds. */
    uint64_t (*now)(void);

    /* CPU time of the calling thread, user and system, in nanoseconds. */
    uint64_t (*cpu)(void);

    /* Sleeps for about so long, or until a signal. */
    void (*pause)(uint64_t ns);

    /* Between two looks of a busy loop: gives way if this is the only CPU that we may use. */
    void (*relax)(void);

    /* A wake-up: readable after wake_signal() until wake_clear(). One descriptor, or the two ends
     * of a pipe. wake_signal() is async-signal-safe, and does nothing for a descriptor of -1. */
    int (*wake_open)(int ret_fds[2]);
    void (*wake_signal)(int fd);
    void (*wake_clear)(int fd);
    /* Closes a wake-up, and waits until the kernel itself does not hold the read end any more
     * either, but no longer than a second. */
    void (*wake_outlast)(const int fds[2]);

    /* One descriptor that is readable while any of these is. -ENOTSUP where the host has none. */
    int (*gather_open)(const int *fds, size_t count);

    /* An alarm: readable from about `deadline` of now()'s clock on until it is set again;
     * UINT64_MAX: never. -ENOTSUP where the host has none. */
    int (*alarm_open)(void);
    void (*alarm_set)(int fd, uint64_t deadline);

    /* 64 bits that peers cannot guess. */
    uint64_t (*random)(void);

    /* How many datagrams the kernel takes in one train (UDP_SEGMENT, udp(7)): 1 where it has
     * none. */
    unsigned (*segments_max)(void);
};

extern const struct dg_system dg_system_host;

#endif
