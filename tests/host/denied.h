/* SPDX-License-Identifier: MIT */
/*
 * denied.h: hosts that refuse: seccomp filters, a child process for each case, and a program that
 * has to work all the same.
 *
 * A filter, most limits and a good verdict of the probe cannot be taken back, so every case runs in
 * a child process of its own.
 */
#ifndef DGRAM_TESTS_HOST_DENIED_H
#define DGRAM_TESTS_HOST_DENIED_H

#include <dgram.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

namespace denied
{

constexpr int64_t MILLISECOND = 1000000;
constexpr unsigned WATCHDOG_SECONDS = 100;

/* ---- Children ------------------------------------------------------------------------------ */

/* The child's failures are printed by gtest in the child; here they count as one. */
inline void in_child(const std::function<void()> &body)
{
    fflush(nullptr);
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        alarm(WATCHDOG_SECONDS); /* "nothing hangs" */
        body();
        fflush(nullptr);
        _exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 0) << "the child's failures are above";
}

inline size_t descriptors()
{
    size_t count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

inline bool ring_works()
{
    struct dgram_engine_report report = {};
    report.size = sizeof(report);
    return dgram_engine_probe(DGRAM_ENGINE_URING, &report) == 0 && report.code == 0;
}

/* Asked in a process of its own, too: the verdict would be inherited. */
inline bool ring_works_in_child()
{
    static const bool works = [] {
        pid_t child = fork();
        if (child == 0) {
            _exit(ring_works() ? 0 : 1);
        }
        int status = 1;
        waitpid(child, &status, 0);
        return WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }();
    return works;
}

#define SKIP_WITHOUT_RING()                                                                        \
    if (!ring_works_in_child()) {                                                                  \
        GTEST_SKIP() << "io_uring does not work here, so nothing is shown by denying it";          \
    }

/* ---- Filters ------------------------------------------------------------------------------- */

constexpr uint32_t NUMBER = offsetof(struct seccomp_data, nr);

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
constexpr uint32_t FIRST_ARGUMENT = offsetof(struct seccomp_data, args[0]) + 4;
constexpr uint32_t SECOND_ARGUMENT = offsetof(struct seccomp_data, args[1]) + 4;
#else
constexpr uint32_t FIRST_ARGUMENT = offsetof(struct seccomp_data, args[0]);
constexpr uint32_t SECOND_ARGUMENT = offsetof(struct seccomp_data, args[1]);
#endif

/* What the filter answers to any of these calls; all others are allowed. So are changes of what is
 * registered with epoll: they allocate nothing and cannot fail. */
inline std::vector<struct sock_filter> program_for(const std::vector<long> &calls, uint32_t answer)
{
    std::vector<struct sock_filter> code = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NUMBER),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_ctl, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SECOND_ARGUMENT),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, EPOLL_CTL_ADD, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NUMBER),
    };
    for (size_t i = 0; i < calls.size(); i++) {
        const auto skip = static_cast<uint8_t>(calls.size() - i);
        code.push_back(
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(calls[i]), skip, 0));
    }
    code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    code.push_back(BPF_STMT(BPF_RET | BPF_K, answer));
    return code;
}

/* For this thread, and what it starts, for good. Returns what seccomp(2) does. */
inline int install(std::vector<struct sock_filter> code, unsigned flags)
{
    struct sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
    EXPECT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    return static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}

inline int filter(const std::vector<long> &calls, uint32_t answer, unsigned flags)
{
    return install(program_for(calls, answer), flags);
}

inline void deny(long call, int error)
{
    ASSERT_EQ(filter({call}, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error), 0), 0)
        << strerror(errno);
}

/* No sockets of IPv4, as RestrictAddressFamilies of systemd.exec(5) has it. */
inline void deny_ipv4(int error)
{
    const std::vector<struct sock_filter> code = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NUMBER),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIRST_ARGUMENT),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    ASSERT_EQ(install(code, 0), 0) << strerror(errno);
}

/* ---- A program ----------------------------------------------------------------------------- */

/* Two sockets of one loop; what one sends the other counts. */
struct Program {
    struct dgram_loop *loop = nullptr;
    struct dgram_socket *sender = nullptr, *receiver = nullptr;
    unsigned accepted = 0, completed = 0, messages = 0;
    std::vector<int> results;

    ~Program()
    {
        loop = dgram_loop_free(loop);
    }

    int create(uint32_t engine, uint32_t slots = 8)
    {
        struct dgram_loop_options options = {};
        options.size = sizeof(options);
        options.engine = engine;
        options.slots = slots;
        return dgram_loop_create(&options, &loop);
    }
    int open(uint32_t type = DGRAM_UDP4)
    {
        int code = dgram_create_socket(loop, type, nullptr, &sender);
        if (code == 0) {
            code = dgram_create_socket(loop, type, nullptr, &receiver);
        }
        if (code == 0) {
            dgram_on_message(receiver, count_message, this);
            code = dgram_bind(receiver, 0, type == DGRAM_UDP4 ? "127.0.0.1" : "::1");
        }
        return code;
    }
    /* Some with a callback; further ones to the same peer make trains. */
    void send(unsigned count)
    {
        struct dgram_addr to = {};
        if (dgram_address(receiver, &to) != 0) {
            return;
        }
        for (unsigned i = 0; i < count; i++) {
            bool asks = i % 3 == 0;
            int code = dgram_send_to(sender, "payload", 7, &to, asks ? count_sent : nullptr, this);
            accepted += asks && code == 0;
        }
    }
    /* Until all have come or the engine fails; its error, or 0. */
    int run_until(unsigned wanted, unsigned turns)
    {
        int code = 0;
        for (unsigned i = 0; i < turns && messages < wanted && code >= 0; i++) {
            code = dgram_loop_turn(loop, MILLISECOND);
        }
        return code < 0 ? code : 0;
    }
    /* `idle`: turns before it sends. */
    void works(unsigned idle = 0, uint32_t type = DGRAM_UDP4)
    {
        ASSERT_EQ(open(type), 0);
        for (unsigned i = 0; i < idle; i++) {
            EXPECT_EQ(dgram_loop_turn(loop, MILLISECOND), 1);
        }
        send(300);
        EXPECT_EQ(run_until(300, 5000), 0);
        EXPECT_EQ(messages, 300u);
        EXPECT_EQ(completed, accepted);
        EXPECT_EQ(dgram_close(sender), 0);
        EXPECT_EQ(dgram_close(receiver), 0);
        EXPECT_EQ(dgram_loop_run(loop), 0);
        sender = receiver = nullptr;
    }
    struct dgram_loop_info info() const
    {
        struct dgram_loop_info info = {};
        info.size = sizeof(info);
        EXPECT_EQ(dgram_loop_info(loop, &info), 0);
        return info;
    }

    static void count_message(struct dgram_socket *, const struct dgram_message *message,
                              void *user)
    {
        EXPECT_EQ(message->size, 7u);
        static_cast<Program *>(user)->messages++;
    }
    static void count_sent(struct dgram_socket *, int result, void *user)
    {
        auto *self = static_cast<Program *>(user);
        self->completed++;
        self->results.push_back(result);
    }
};

/* ---- The n-th system call ------------------------------------------------------------------ */

/* Watches calls of one thread, counted from 1, and fails those that it is told to. */
class Supervisor
{
  public:
    using Choice = std::function<bool(unsigned number)>;

    Supervisor(std::vector<long> calls, int error, Choice fails)
        : calls_(std::move(calls)), error_(error), fails_(std::move(fails))
    {
    }

    /* Runs the body on a thread of its own; how many calls it made, or -1 where the kernel has no
     * such filters. */
    int supervise(const std::function<void()> &body)
    {
        int ready[2];
        EXPECT_EQ(pipe(ready), 0);
        std::thread worker([&] {
            int listener = filter(calls_, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
            EXPECT_EQ(write(ready[1], &listener, sizeof(listener)), ssize_t(sizeof(listener)));
            if (listener >= 0) {
                body();
            }
        });
        int listener = -1;
        EXPECT_EQ(read(ready[0], &listener, sizeof(listener)), ssize_t(sizeof(listener)));
        while (listener >= 0 && answer(listener)) {
        }
        worker.join();
        close(ready[0]);
        close(ready[1]);
        close(listener);
        return listener >= 0 ? static_cast<int>(count_) : -1;
    }

  private:
    /* One call; false when the thread has ended. */
    bool answer(int listener)
    {
        struct pollfd wait = {listener, POLLIN, 0};
        struct seccomp_notif call;
        struct seccomp_notif_resp response = {};
        poll(&wait, 1, -1);
        if (!(wait.revents & POLLIN)) {
            return false;
        }
        memset(&call, 0, sizeof(call));
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) {
            return errno == EINTR || errno == ENOENT;
        }
        response.id = call.id;
        if (fails_(++count_)) {
            response.error = -error_;
        } else {
            response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        }
        return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0 || errno == ENOENT;
    }

    std::vector<long> calls_;
    int error_;
    Choice fails_;
    unsigned count_ = 0;
};

} /* namespace denied */

#endif
