/* SPDX-License-Identifier: MIT */
/*
 * faults.cc: this program's own calls stand before the C library's and liburing's. They count, fail
 * when the plan says so, and else do what the true ones do.
 *
 * Operations of a ring fail one by one, too: one that is to fail is submitted as one that does
 * nothing, and its completion gets the error. So the kernel holds nothing of it, as if it had
 * refused it itself. A receive that is under way is cancelled, and its last completion gets another
 * error.
 *
 * A call fails with errnos that the kernel gives it for a while: no memory, no descriptors, no
 * room, a signal, a filter. What cannot fail so is left alone: a change of what is registered with
 * epoll allocates nothing, and close(2) does its work whatever it returns.
 */
/* Both names of a call that has two are defined here, so neither may stand for the other. */
#undef _FILE_OFFSET_BITS
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <vector>

#if DGRAM_TEST_URING
#include <liburing.h>
#endif

#include "tests/heal/heal.h"
#include "tests/support/real.h"

extern "C" {
#include "src/base/memory.h"
}

namespace heal
{

namespace
{

Plan plan;
Injected injected;
bool active;
pthread_t thread;
unsigned without_room;
std::function<void(const struct sockaddr *)> name_told;
std::atomic<int64_t> live{0};

bool counts(Source source, const char *name)
{
    return active && plan.source == source && pthread_equal(thread, pthread_self()) &&
           (plan.only == nullptr || strcmp(plan.only, name) == 0);
}

/* The errno with which this call is to fail, 0 if it is not. */
int fault(Source source, const char *name, std::initializer_list<int> likely)
{
    if (!counts(source, name)) {
        return 0;
    }
    const uint64_t number = ++injected.calls;
    if (plan.first == 0 || number < plan.first || number >= plan.first + plan.length) {
        return 0;
    }
    const int errnum = likely.begin()[plan.errnum % likely.size()];
    if (injected.failed++ == 0) {
        injected.choices = likely.size();
        injected.where = std::string(name) + " " + dgram_error_name(-errnum);
    }
    return errnum;
}

/* For calls that set errno: true if it is to fail. */
bool fails(const char *name, std::initializer_list<int> likely)
{
    const int errnum = fault(Source::CALLS, name, likely);
    if (errnum != 0) {
        errno = errnum;
    }
    return errnum != 0;
}

bool has_no_room()
{
    if (without_room == 0 || !pthread_equal(thread, pthread_self())) {
        return false;
    }
    without_room--;
    errno = EAGAIN;
    return true;
}

void *allocate(size_t size)
{
    if (fault(Source::MEMORY, "allocate", {ENOMEM}) != 0) {
        return nullptr;
    }
    void *memory = calloc(1, size > 0 ? size : 1);
    live += memory != nullptr;
    return memory;
}

void release(void *memory)
{
    live -= memory != nullptr;
    free(memory);
}

const bool installed = [] {
    dg_memory = {allocate, release};
    return true;
}();

} /* namespace */

void faults_begin(const Plan &the_plan)
{
    plan = the_plan;
    injected = {};
    thread = pthread_self();
    active = true;
}

void tell_the_next_name(std::function<void(const struct sockaddr *)> told)
{
    name_told = std::move(told);
}

void faults_pause(bool on)
{
    active = !on;
}

void faults_end()
{
    active = false;
    plan = {};
}

const Injected &faults_injected()
{
    return injected;
}

void sends_get_no_room(unsigned count)
{
    thread = pthread_self();
    without_room = count;
}

int64_t live_memory()
{
    return installed ? live.load() : 0;
}

} /* namespace heal */

using namespace heal;

/* ---- The C library's ----------------------------------------------------------------------- */

extern "C" {

int socket(int domain, int type, int protocol)
{
    REAL(socket);
    return fails("socket", {EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES, EPERM})
               ? -1
               : socket_real(domain, type, protocol);
}

int bind(int fd, const struct sockaddr *address, socklen_t size)
{
    REAL(bind);
    return fails("bind", {EADDRINUSE, ENOMEM, EACCES, EPERM}) ? -1 : bind_real(fd, address, size);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    REAL(setsockopt);
    return fails("setsockopt", {ENOBUFS, ENOMEM, EPERM})
               ? -1
               : setsockopt_real(fd, level, name, value, size);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    REAL(getsockopt);
    return fails("getsockopt", {ENOBUFS, ENOMEM, EPERM})
               ? -1
               : getsockopt_real(fd, level, name, value, size);
}

int connect(int fd, const struct sockaddr *address, socklen_t size)
{
    REAL(connect);
    return fails("connect", {ENOBUFS, ENOMEM, ENETUNREACH, EADDRNOTAVAIL, EPERM})
               ? -1
               : connect_real(fd, address, size);
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *address,
               socklen_t address_size)
{
    REAL(sendto);
    return fails("sendto", {ENOBUFS, ENOMEM, EAGAIN, EPERM, ECONNREFUSED})
               ? -1
               : sendto_real(fd, data, size, flags, address, address_size);
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    REAL(send);
    return fails("send", {ENOBUFS, ENOMEM, EAGAIN, EPERM, ECONNREFUSED})
               ? -1
               : send_real(fd, data, size, flags);
}

ssize_t recvfrom(int fd, void *data, size_t size, int flags, struct sockaddr *address,
                 socklen_t *address_size)
{
    REAL(recvfrom);
    return fails("recvfrom", {ENOBUFS, ENOMEM, EAGAIN, ECONNREFUSED})
               ? -1
               : recvfrom_real(fd, data, size, flags, address, address_size);
}

int getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    REAL(getsockname);
    int code = fails("getsockname", {ENOBUFS, EPERM}) ? -1 : getsockname_real(fd, address, size);
    if (code == 0 && name_told) {
        const std::function<void(const struct sockaddr *)> told = std::move(name_told);
        name_told = nullptr;
        told(address);
    }
    return code;
}

int pipe2(int fds[2], int flags)
{
    REAL(pipe2);
    return fails("pipe2", {EMFILE, ENFILE, EPERM}) ? -1 : pipe2_real(fds, flags);
}

int epoll_create1(int flags)
{
    REAL(epoll_create1);
    return fails("epoll_create1", {EMFILE, ENFILE, ENOMEM, EPERM}) ? -1 : epoll_create1_real(flags);
}

int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    REAL(epoll_ctl);
    return operation == EPOLL_CTL_ADD && fails("epoll_ctl", {ENOMEM, ENOSPC, EPERM})
               ? -1
               : epoll_ctl_real(epoll_fd, operation, fd, event);
}

int epoll_pwait(int epoll_fd, struct epoll_event *events, int most, int timeout,
                const sigset_t *mask)
{
    REAL(epoll_pwait);
    return fails("epoll_pwait", {EINTR, ENOMEM})
               ? -1
               : epoll_pwait_real(epoll_fd, events, most, timeout, mask);
}

/* epoll_pwait2(2) comes by its number. EPERM is left out: that means an old seccomp filter. */
long syscall(long number, ...)
{
    REAL(syscall);
    va_list list;
    va_start(list, number);
    long words[6];
    for (long &word : words) {
        word = va_arg(list, long);
    }
    va_end(list);
#ifdef SYS_epoll_pwait2
    if (number == SYS_epoll_pwait2 && fails("epoll_pwait2", {EINTR, ENOMEM, ENOSYS})) {
        return -1;
    }
#endif
    return syscall_real(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    REAL(recvmsg);
    return fails("recvmsg", {ENOMEM, ENOBUFS, EAGAIN, EINTR, EPERM, ECONNREFUSED})
               ? -1
               : recvmsg_real(fd, message, flags);
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    REAL(recvmmsg);
    return fails("recvmmsg", {ENOMEM, ENOBUFS, EAGAIN, EINTR, EPERM, ECONNREFUSED})
               ? -1
               : recvmmsg_real(fd, messages, count, flags, timeout);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg);
    return has_no_room() || fails("sendmsg", {ENOBUFS, ENOMEM, EAGAIN, EINTR, EPERM, ECONNREFUSED})
               ? -1
               : sendmsg_real(fd, message, flags);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    REAL(sendmmsg);
    return has_no_room() || fails("sendmmsg", {ENOBUFS, ENOMEM, EAGAIN, EINTR, EPERM, ECONNREFUSED})
               ? -1
               : sendmmsg_real(fd, messages, count, flags);
}

int timerfd_create(clockid_t clock, int flags)
{
    REAL(timerfd_create);
    return fails("timerfd_create", {EMFILE, ENFILE, ENOMEM, EPERM})
               ? -1
               : timerfd_create_real(clock, flags);
}

int eventfd(unsigned value, int flags)
{
    REAL(eventfd);
    return fails("eventfd", {EMFILE, ENFILE, ENOMEM, EPERM}) ? -1 : eventfd_real(value, flags);
}

/* Whatever the size of an offset is: both names mean this one here. */
static void *map(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    static const auto mmap_real = real_function<void *(void *, size_t, int, int, int, off_t)>(
        sizeof(long) == 8 ? "mmap" : "mmap64");
    return fails("mmap", {ENOMEM, EAGAIN, EPERM})
               ? MAP_FAILED
               : mmap_real(address, size, protection, flags, fd, offset);
}

#undef mmap
#undef mmap64
void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    return map(address, size, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset)
{
    return map(address, size, protection, flags, fd, static_cast<off_t>(offset));
}

static int control(int fd, int command, void *argument)
{
    static const auto fcntl_real = real_function<int(int, int, ...)>("fcntl");
    return command == F_DUPFD_CLOEXEC && fails("fcntl", {EMFILE, ENOMEM, EPERM})
               ? -1
               : fcntl_real(fd, command, argument);
}

static FILE *open_file(const char *path, const char *mode)
{
    static const auto fopen_real = real_function<FILE *(const char *, const char *)>("fopen");
    return fails("fopen", {EMFILE, ENFILE, ENOMEM, EINTR}) ? nullptr : fopen_real(path, mode);
}

#undef fopen
#undef fopen64
FILE *fopen(const char *path, const char *mode)
{
    return open_file(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    return open_file(path, mode);
}

#undef fcntl
#undef fcntl64
int fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return control(fd, command, argument);
}

int fcntl64(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return control(fd, command, argument);
}

/* ---- liburing's ---------------------------------------------------------------------------- */

#if DGRAM_TEST_URING

} /* extern "C" */

namespace
{

/* As in uring/ring.h, in the first byte of `user_data`. */
enum Operation { RECEIVE = 1, POLL, CANCEL, SEND, LEND };

Operation operation_of(uint64_t user_data)
{
    return static_cast<Operation>(user_data >> 56);
}

/* An operation whose completion gets this result. */
struct Marked {
    uint64_t user_data;
    int result;
    bool ended; /* only a receive's last completion, after a cancel */
};
std::vector<Marked> marked;
struct io_uring *marked_ring;

/* What the kernel may answer to this operation, for a while. */
int result_fault(uint64_t user_data)
{
    switch (operation_of(user_data)) {
    case RECEIVE:
        return fault(Source::RESULTS, "receive", {ENOBUFS, ENOMEM, EINTR, ECANCELED, EIO, EAGAIN});
    case POLL:
        return fault(Source::RESULTS, "poll", {ENOMEM, ECANCELED, EINTR});
    case SEND:
        return fault(Source::RESULTS, "send",
                     {EAGAIN, ENOBUFS, ENOMEM, EINTR, EPERM, ECONNREFUSED});
    case LEND:
        return fault(Source::RESULTS, "lend", {EAGAIN, ENOBUFS, ENOMEM, EINTR, EPERM, EINVAL});
    default:
        return 0; /* the kernel allocates nothing to cancel */
    }
}

/* Those that are to be handed over by the next enter. */
void mark_submissions(struct io_uring *ring)
{
    for (unsigned at = ring->sq.sqe_head; at != ring->sq.sqe_tail; at++) {
        struct io_uring_sqe *sqe = &ring->sq.sqes[at & *ring->sq.kring_mask];
        const uint64_t user_data = sqe->user_data;
        const int errnum = result_fault(user_data);
        if (errnum != 0) {
            memset(sqe, 0, sizeof(*sqe)); /* liburing 2.9 leaves flags of what it was */
            io_uring_prep_nop(sqe);
            sqe->user_data = user_data;
            marked.push_back({user_data, -errnum, false});
        }
    }
}

/* The receive that brought this is cancelled by the next enter. */
void end_receive(struct io_uring *ring, uint64_t user_data)
{
    const int errnum = fault(Source::ENDS, "receiving", {ENOBUFS, ENOMEM, EINTR, EIO, EAGAIN});
    struct io_uring_sqe *sqe = errnum != 0 ? io_uring_get_sqe(ring) : nullptr;
    if (sqe != nullptr) {
        io_uring_prep_cancel64(sqe, user_data, 0);
        sqe->user_data = static_cast<uint64_t>(CANCEL) << 56;
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        marked.push_back({user_data, -errnum, true});
    }
}

void overwrite(struct io_uring_cqe *cqe)
{
    for (size_t i = 0; i < marked.size(); i++) {
        if (marked[i].user_data == cqe->user_data &&
            cqe->res == (marked[i].ended ? -ECANCELED : 0)) {
            cqe->res = marked[i].result;
            marked.erase(marked.begin() + static_cast<long>(i));
            return;
        }
    }
}

/* Completions that came since the last enter; the engine harvests after each. */
template <class F> int entered(struct io_uring *ring, F enter)
{
    if (plan.source != Source::RESULTS && plan.source != Source::ENDS) {
        return enter();
    }
    if (marked_ring != ring) {
        marked.clear();
        marked_ring = ring;
    }
    mark_submissions(ring);
    const int code = enter();
    struct io_uring_cqe *cqe;
    unsigned head;
    io_uring_for_each_cqe(ring, head, cqe)
    {
        const bool brought = operation_of(cqe->user_data) == RECEIVE && cqe->res >= 0 &&
                             (cqe->flags & IORING_CQE_F_MORE) != 0;
        overwrite(cqe);
        if (brought) {
            end_receive(ring, cqe->user_data);
        }
    }
    return code;
}

} /* namespace */

extern "C" {

int io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                               struct io_uring_params *params)
{
    REAL(io_uring_queue_init_params);
    const int errnum = fault(Source::CALLS, "io_uring_setup", {EMFILE, ENFILE, ENOMEM, EPERM});
    return errnum != 0 ? -errnum : io_uring_queue_init_params_real(entries, ring, params);
}

int io_uring_register_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *registration,
                               unsigned flags)
{
    REAL(io_uring_register_buf_ring);
    const int errnum =
        fault(Source::CALLS, "io_uring_register_buf_ring", {ENOMEM, EAGAIN, EINTR, EPERM});
    return errnum != 0 ? -errnum : io_uring_register_buf_ring_real(ring, registration, flags);
}

int io_uring_register(unsigned fd, unsigned operation, const void *argument, unsigned count)
{
    static const auto io_uring_register_real =
        real_function<int(unsigned, unsigned, const void *, unsigned)>("io_uring_register");
    const int errnum = fault(Source::CALLS, "io_uring_register", {ENOMEM, EINTR, EPERM});
    return errnum != 0 ? -errnum : io_uring_register_real(fd, operation, argument, count);
}

int io_uring_register_eventfd(struct io_uring *ring, int fd)
{
    REAL(io_uring_register_eventfd);
    const int errnum = fault(Source::CALLS, "io_uring_register_eventfd", {ENOMEM, EINTR, EPERM});
    return errnum != 0 ? -errnum : io_uring_register_eventfd_real(ring, fd);
}

int io_uring_register_buffers_sparse(struct io_uring *ring, unsigned count)
{
    REAL(io_uring_register_buffers_sparse);
    const int errnum = fault(Source::CALLS, "io_uring_register_buffers", {ENOMEM, EINTR, EPERM});
    return errnum != 0 ? -errnum : io_uring_register_buffers_sparse_real(ring, count);
}

int io_uring_register_buffers_update_tag(struct io_uring *ring, unsigned offset,
                                         const struct iovec *vectors, const __u64 *tags,
                                         unsigned count)
{
    REAL(io_uring_register_buffers_update_tag);
    /* Taking a region out allocates nothing. */
    const int errnum =
        vectors->iov_base == nullptr
            ? 0
            : fault(Source::CALLS, "io_uring_register_buffers_update", {ENOMEM, EINTR, EPERM});
    return errnum != 0
               ? -errnum
               : io_uring_register_buffers_update_tag_real(ring, offset, vectors, tags, count);
}

/* Refused before anything of it was done, as the kernel refuses. */
static int enter_fault()
{
    return fault(Source::CALLS, "io_uring_enter", {EAGAIN, EINTR, EBUSY, ENOMEM, EPERM});
}

int io_uring_submit(struct io_uring *ring)
{
    REAL(io_uring_submit);
    const int errnum = enter_fault();
    return errnum != 0 ? -errnum : entered(ring, [&] { return io_uring_submit_real(ring); });
}

int io_uring_submit_and_get_events(struct io_uring *ring)
{
    REAL(io_uring_submit_and_get_events);
    const int errnum = enter_fault();
    return errnum != 0 ? -errnum
                       : entered(ring, [&] { return io_uring_submit_and_get_events_real(ring); });
}

int io_uring_get_events(struct io_uring *ring)
{
    REAL(io_uring_get_events);
    const int errnum = enter_fault();
    return errnum != 0 ? -errnum : entered(ring, [&] { return io_uring_get_events_real(ring); });
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned count)
{
    REAL(io_uring_submit_and_wait);
    const int errnum = enter_fault();
    return errnum != 0 ? -errnum
                       : entered(ring, [&] { return io_uring_submit_and_wait_real(ring, count); });
}

int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **ret_cqe,
                                     unsigned count, struct __kernel_timespec *timeout,
                                     sigset_t *mask)
{
    REAL(io_uring_submit_and_wait_timeout);
    const int errnum = enter_fault();
    return errnum != 0 ? -errnum : entered(ring, [&] {
        return io_uring_submit_and_wait_timeout_real(ring, ret_cqe, count, timeout, mask);
    });
}

#endif

} /* extern "C" */
