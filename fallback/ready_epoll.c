/* SPDX-License-Identifier: MIT */
/*
 * ready_epoll.c: readiness by epoll(7).
 *
 * Owns the epoll instance and, once another event loop asked for a descriptor, the eventfd that
 * wakes it for records that are due without the kernel. The cost of a wait grows with the ready
 * descriptors, not with those that idle. Registrations change only when an interest does.
 */
#include "fallback/ready.h"

#include "src/backend.h"
#include "src/base/memory.h"

#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The most that one epoll call takes over; further ready descriptors come first in the next. */
#define EVENTS_MAX 256u

/* Interests and results pass through untranslated. */
_Static_assert((int) EPOLLIN == POLLIN && (int) EPOLLOUT == POLLOUT, "epoll's bits are poll's");
_Static_assert((int) EPOLLERR == POLLERR && (int) EPOLLHUP == POLLHUP, "epoll's bits are poll's");

/* epoll_pwait2(2) came with Linux 5.11 and with glibc 2.35, so it is called by its number; headers
 * that lack even this get a number that every kernel answers with ENOSYS. */
#ifdef SYS_epoll_pwait2
#define EPOLL_PWAIT2 SYS_epoll_pwait2
#else
#define EPOLL_PWAIT2 (-1)
#endif

/* The kernel's struct __kernel_timespec: 64 bits each, also where C's time_t has 32. */
struct timespec64 {
    int64_t seconds, nanoseconds;
};
_Static_assert(sizeof(struct timespec64) == 16, "the kernel's layout");

struct ready {
    int epoll_fd;
    int signal_fd; /* -1 until dg_ready_fd() */
    bool signalled;
    bool coarse; /* the kernel has no epoll_pwait2 */
    struct epoll_event events[EVENTS_MAX];
};

int dg_ready_open(struct ready **ret_ready, const char **ret_call)
{
    struct ready *ready = dg_allocate(sizeof *ready);
    if (ready == NULL) {
        *ret_call = "malloc";
        return -ENOMEM;
    }
    ready->signal_fd = -1;
    ready->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (ready->epoll_fd < 0) {
        int error = -errno;
        *ret_call = "epoll_create1";
        dg_release(ready);
        return error;
    }
    *ret_ready = ready;
    return 0;
}

/* Registrations end with the last descriptor of the instance. In a forked child that is the
 * parent's: an EPOLL_CTL_DEL here would take the parent's sockets out. */
void dg_ready_close(struct ready *ready)
{
    if (ready->signal_fd >= 0) {
        (void) close(ready->signal_fd);
    }
    (void) close(ready->epoll_fd);
    dg_release(ready);
}

/*
 * epoll reports errors and hang-ups even to those who asked for nothing, and level-triggered it
 * would do so in every wait. Edge-triggered it does so once, and changing an entry cannot fail for
 * want of memory, as taking it out and putting it back could.
 */
static struct epoll_event registration(struct ready_entry *entry, short interest)
{
    uint32_t events = interest == 0 ? (uint32_t) EPOLLET : (uint32_t) interest;
    return (struct epoll_event){.events = events, .data = {.ptr = entry}};
}

int dg_ready_add(struct ready *ready, struct ready_entry *entry)
{
    struct epoll_event event = registration(entry, 0);
    if (epoll_ctl(ready->epoll_fd, EPOLL_CTL_ADD, entry->fd, &event) < 0) {
        return -errno;
    }
    entry->interest = 0;
    return 0;
}

void dg_ready_set(struct ready *ready, struct ready_entry *entry, short interest)
{
    assert(interest != entry->interest);
    struct epoll_event event = registration(entry, interest);
    int result = epoll_ctl(ready->epoll_fd, EPOLL_CTL_MOD, entry->fd, &event);
    assert(result == 0); /* it fails only if the descriptor was closed before it was removed */
    (void) result;
    entry->interest = interest;
}

void dg_ready_remove(struct ready *ready, struct ready_entry *entry)
{
    int result = epoll_ctl(ready->epoll_fd, EPOLL_CTL_DEL, entry->fd, NULL);
    assert(result == 0);
    (void) result;
}

static int wait_fine(struct ready *ready, int64_t timeout_ns, int capacity)
{
    struct timespec64 limit = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    return (int) syscall(EPOLL_PWAIT2, ready->epoll_fd, ready->events, capacity,
                         timeout_ns < 0 ? NULL : &limit, NULL, (size_t) 0);
}

/* Rounded up: rounded down, a wait for less than a millisecond would not sleep, and its caller spin
 * until the time has come. */
static int wait_coarse(struct ready *ready, int64_t timeout_ns, int capacity)
{
    int64_t whole = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    int limit = timeout_ns < 0 ? -1 : whole > INT_MAX ? INT_MAX : (int) whole;
    return epoll_pwait(ready->epoll_fd, ready->events, capacity, limit, NULL);
}

static int wait_kernel(struct ready *ready, int64_t timeout_ns, int capacity)
{
    if (!ready->coarse) {
        int count = wait_fine(ready, timeout_ns, capacity);
        /* Seccomp filters that are older than a system call say EPERM instead of ENOSYS. */
        if (count >= 0 || (errno != ENOSYS && errno != EPERM)) {
            return count;
        }
        ready->coarse = true;
    }
    return wait_coarse(ready, timeout_ns, capacity);
}

static void take_signal(struct ready *ready)
{
    uint64_t value;
    ssize_t size = read(ready->signal_fd, &value, sizeof value);
    assert(size == (ssize_t) sizeof value);
    (void) size;
    ready->signalled = false;
}

const char dg_ready_wait_call[] = "epoll_wait";

int dg_ready_wait(struct ready *ready, int64_t timeout_ns, struct ready_event *events,
                  uint32_t capacity)
{
    assert(capacity > 0);
    uint32_t most = capacity < EVENTS_MAX ? capacity : EVENTS_MAX;
    int count = wait_kernel(ready, timeout_ns, (int) most);
    if (count < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    int found = 0;
    for (int i = 0; i < count; i++) {
        if (ready->events[i].data.ptr == NULL) {
            take_signal(ready);
        } else {
            events[found++] = (struct ready_event){.entry = ready->events[i].data.ptr,
                                                   .revents = (short) ready->events[i].events};
        }
    }
    return found;
}

int dg_ready_fd(struct ready *ready)
{
    if (ready->signal_fd >= 0) {
        return ready->epoll_fd;
    }
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = NULL}};
    if (epoll_ctl(ready->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int error = -errno;
        (void) close(fd);
        return error;
    }
    ready->signal_fd = fd;
    return ready->epoll_fd;
}

void dg_ready_signal(struct ready *ready)
{
    if (ready->signal_fd < 0 || ready->signalled) {
        return;
    }
    uint64_t value = 1;
    ssize_t size = write(ready->signal_fd, &value, sizeof value);
    assert(size == (ssize_t) sizeof value);
    (void) size;
    ready->signalled = true;
}
