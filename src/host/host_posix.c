/* SPDX-License-Identifier: MIT */
/*
 * host_posix.c: hosts of which nothing but POSIX is known. Owns nothing, keeps no state.
 *
 * No flags of socket(2) and pipe(2) here, which macOS lacks: a fork and exec in another thread may
 * catch a descriptor between its creation and FD_CLOEXEC. No descriptor that gathers others either,
 * so a loop cannot be embedded here.
 */
#include "src/host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int descriptor_set(int fd, int flags)
{
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || (flags != 0 && fcntl(fd, F_SETFL, flags) < 0)) {
        return -errno;
    }
    return 0;
}

static int socket_open(int family, int type, int flags)
{
    int fd = socket(family, type, 0);
    if (fd < 0) {
        return -errno;
    }
    int code = descriptor_set(fd, flags);
    if (code < 0) {
        (void) close(fd);
        return code;
    }
    return fd;
}

int dg_host_socket(int family)
{
    return socket_open(family, SOCK_DGRAM, 0);
}

/* Without TCP_NODELAY, a second question on a connection would wait for the first one's ACK. */
int dg_host_guest_socket(int family, int type)
{
    int on = 1;
    int fd = socket_open(family, type, O_NONBLOCK);
#ifdef SO_NOSIGPIPE /* macOS, which lacks MSG_NOSIGNAL */
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on)) < 0) {
        int code = -errno;
        (void) close(fd);
        return code;
    }
#endif
    if (fd >= 0 && type == SOCK_STREAM) {
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    return fd;
}

int dg_host_pipe(int ret_fds[2])
{
    int fds[2];
    if (pipe(fds) < 0) {
        return -errno;
    }
    int code = descriptor_set(fds[0], O_NONBLOCK);
    if (code == 0) {
        code = descriptor_set(fds[1], O_NONBLOCK);
    }
    if (code < 0) {
        (void) close(fds[0]);
        (void) close(fds[1]);
        return code;
    }
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

const int dg_host_real_size = 0;

int dg_host_refuse(int fd)
{
    (void) fd;
    return -ENOTSUP;
}

uint32_t dg_host_drops(int fd)
{
    (void) fd;
    return 0;
}

bool dg_host_only_one_cpu(void)
{
    return sysconf(_SC_NPROCESSORS_ONLN) == 1;
}

int dg_host_gather_open(const int *fds, size_t count)
{
    (void) fds;
    (void) count;
    return -ENOTSUP;
}

int dg_host_alarm_open(void)
{
    return -ENOTSUP;
}

void dg_host_alarm_set(int fd, uint64_t deadline)
{
    (void) fd;
    (void) deadline;
}

int dg_host_random(uint64_t *ret_random)
{
#ifdef HAVE_ARC4RANDOM
    arc4random_buf(ret_random, sizeof(*ret_random));
    return 0;
#else
    (void) ret_random;
    return -ENOSYS;
#endif
}

unsigned dg_host_segments_max(void)
{
    return 1;
}
