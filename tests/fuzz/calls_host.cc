/* SPDX-License-Identifier: MIT */
/*
 * calls_host.cc: a program of public calls on the host's kernel, on the poll engine and, where
 * there is one, on io_uring. Memory and the C library's calls fail where the input says so: this
 * program's own stand before the C library's.
 */
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "tests/fuzz/program.h"

extern "C" {
#include "src/base/memory.h"
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
}

namespace
{

struct {
    uint32_t memory, first, last, calls;
    int errnum;
    uint32_t engine;
} faults;

bool fails(int instead = 0)
{
    const uint32_t number = ++faults.calls;
    if (number < faults.first || number >= faults.last) {
        return false;
    }
    errno = instead != 0 ? instead : faults.errnum;
    return true;
}

template <class... Arguments> int call(long number, Arguments... arguments)
{
    return fails() ? -1 : static_cast<int>(::syscall(number, arguments...));
}

} // namespace

extern "C" {

int socket(int domain, int type, int protocol)
{
    return call(SYS_socket, domain, type, protocol);
}

int bind(int fd, const struct sockaddr *address, socklen_t size)
{
    return call(SYS_bind, fd, address, size);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    return call(SYS_setsockopt, fd, level, name, value, size);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    return call(SYS_getsockopt, fd, level, name, value, size);
}

int getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    return call(SYS_getsockname, fd, address, size);
}

int pipe2(int fds[2], int flags)
{
    return call(SYS_pipe2, fds, flags);
}

int epoll_create1(int flags)
{
    return call(SYS_epoll_create1, flags);
}

/* A change of what is registered cannot fail. */
int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    return operation == EPOLL_CTL_ADD && fails(ENOMEM)
               ? -1
               : static_cast<int>(syscall(SYS_epoll_ctl, epoll_fd, operation, fd, event));
}

int timerfd_create(clockid_t clock, int flags)
{
    return call(SYS_timerfd_create, clock, flags);
}

int eventfd(unsigned value, int flags)
{
    return call(SYS_eventfd2, value, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    return call(SYS_recvmsg, fd, message, flags);
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    return call(SYS_recvmmsg, fd, messages, count, flags, timeout);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    return call(SYS_sendmsg, fd, message, flags);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    return call(SYS_sendmmsg, fd, messages, count, flags);
}

} /* extern "C" */

namespace
{

void *allocate(size_t size)
{
    return faults.memory > 0 && --faults.memory == 0 ? nullptr : calloc(1, size > 0 ? size : 1);
}

void fail(uint32_t kind, uint32_t n, uint32_t length)
{
    static const int errnos[] = {ENOMEM, ENOBUFS, EAGAIN, EPERM, EMFILE, EINTR, ECONNREFUSED, EIO};
    if (kind < 64) {
        faults.memory = 1 + n;
        return;
    }
    faults.errnum = errnos[kind % 8];
    faults.first = faults.calls + 1 + n;
    faults.last = faults.first + length;
}

void calm()
{
    const uint32_t engine = faults.engine;
    faults = {};
    faults.engine = engine;
}

int create(const struct dgram_loop_options *options, struct dgram_loop **ret_loop)
{
    struct dgram_loop_options own = *options;
    own.engine = faults.engine;
    own.busy_poll_us = DGRAM_BUSY_POLL_OFF;
    return dgram_loop_create(&own, ret_loop);
}

} // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct world world = {create, fail, calm, true};
    struct bytes bytes = {data, size};
    const uint32_t choice = bytes_take(&bytes);
    dg_memory.allocate = allocate;
    faults.engine = choice % 4 == 0 ? DGRAM_ENGINE_URING : DGRAM_ENGINE_POLL;
    if ((choice & 16) != 0) {
        const uint32_t kind = bytes_take(&bytes);
        fail(kind, bytes_take(&bytes), 1);
    }
    program_run(&world, bytes);
    return 0;
}
