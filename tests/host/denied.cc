/* SPDX-License-Identifier: MIT */
/*
 * denied_test.cc: hosts that refuse: seccomp filters, limits, and system calls that fail once.
 *
 * A filter, most limits and a good verdict of the probe cannot be taken back, so every case runs
 * in a child process of its own. The filters are real ones (seccomp(2)): what they deny the kernel
 * denies to the engines' own calls, which no table of functions can reach.
 */
#include <dgram.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace
{

constexpr int64_t MILLISECOND = 1000000;
constexpr unsigned WATCHDOG_SECONDS = 100;

/* ---- Children ------------------------------------------------------------------------------ */

/* The child's failures are printed by gtest in the child; here they count as one. */
void in_child(const std::function<void()> &body)
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

size_t descriptors()
{
    size_t count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

bool ring_works()
{
    struct dgram_engine_report report = {};
    report.size = sizeof(report);
    return dgram_engine_probe(DGRAM_ENGINE_URING, &report) == 0 && report.code == 0;
}

/* Asked in a process of its own, too: the verdict would be inherited. */
bool ring_works_in_child()
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
std::vector<struct sock_filter> program_for(const std::vector<long> &calls, uint32_t answer)
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
int install(std::vector<struct sock_filter> code, unsigned flags)
{
    struct sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
    EXPECT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    return static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}

int filter(const std::vector<long> &calls, uint32_t answer, unsigned flags)
{
    return install(program_for(calls, answer), flags);
}

void deny(long call, int error)
{
    ASSERT_EQ(filter({call}, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error), 0), 0)
        << strerror(errno);
}

/* No sockets of IPv4, as RestrictAddressFamilies of systemd.exec(5) has it. */
void deny_ipv4(int error)
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

/* ---- Denied before the start --------------------------------------------------------------- */

struct Denial {
    const char *name;
    long call;
    int error;
    const char *told; /* the call that the reason names begins so */
};

class Denied : public ::testing::TestWithParam<Denial>
{
};

INSTANTIATE_TEST_SUITE_P(
    Call, Denied,
    ::testing::Values(Denial{"SetupEPERM", SYS_io_uring_setup, EPERM, "io_uring_setup"},
                      Denial{"SetupENOSYS", SYS_io_uring_setup, ENOSYS, "io_uring_setup"},
                      Denial{"SetupEACCES", SYS_io_uring_setup, EACCES, "io_uring_setup"},
                      Denial{"SetupEINVAL", SYS_io_uring_setup, EINVAL, "io_uring_setup"},
                      Denial{"SetupENOMEM", SYS_io_uring_setup, ENOMEM, "io_uring_setup"},
                      Denial{"SetupEMFILE", SYS_io_uring_setup, EMFILE, "io_uring_setup"},
                      Denial{"RegisterEPERM", SYS_io_uring_register, EPERM, "io_uring_register"},
                      Denial{"RegisterENOSYS", SYS_io_uring_register, ENOSYS, "io_uring_register"},
                      Denial{"RegisterEINVAL", SYS_io_uring_register, EINVAL, "io_uring_register"},
                      Denial{"RegisterENOMEM", SYS_io_uring_register, ENOMEM, "io_uring_register"},
                      Denial{"EnterEPERM", SYS_io_uring_enter, EPERM, "io_uring_enter"},
                      Denial{"EnterENOSYS", SYS_io_uring_enter, ENOSYS, "io_uring_enter"}),
    [](const ::testing::TestParamInfo<Denial> &info) { return info.param.name; });

/* The program runs on the other engine, silently, and can read why. */
TEST_P(Denied, AutoRunsOnPollAndTellsWhy)
{
    SKIP_WITHOUT_RING();
    in_child([&] {
        Program program;
        unsetenv("DGRAM_ENGINE");
        deny(GetParam().call, GetParam().error);
        ASSERT_EQ(program.create(DGRAM_ENGINE_AUTO), 0);
        struct dgram_loop_info info = program.info();
        EXPECT_STREQ(info.name, "poll");
        EXPECT_EQ(info.refused_code, -GetParam().error);
        EXPECT_EQ(strncmp(info.refused_call, GetParam().told, strlen(GetParam().told)), 0)
            << info.refused_call;
        EXPECT_STRNE(info.refused_call, "");
        EXPECT_STRNE(info.refused_advice, "");
        EXPECT_STREQ(info.failed_call, "") << "the engine that runs has not failed";
        /* The sysctl acts in one call only. */
        EXPECT_EQ(strstr(info.refused_advice, "kernel.io_uring_disabled") != nullptr,
                  GetParam().call == SYS_io_uring_setup && GetParam().error == EPERM)
            << info.refused_advice;
        program.works();
    });
}

/* Whoever insists is told, by option and by environment alike; nothing is left open. */
TEST_P(Denied, ForcedFailsWithTheReason)
{
    SKIP_WITHOUT_RING();
    in_child([&] {
        size_t before = descriptors();
        struct dgram_engine_report report = {};
        struct dgram_loop *loop = nullptr;
        struct dgram_loop_options options = {};
        options.size = sizeof(options);
        options.engine = DGRAM_ENGINE_URING;
        report.size = sizeof(report);
        deny(GetParam().call, GetParam().error);
        EXPECT_EQ(dgram_loop_create(&options, &loop), -GetParam().error);
        setenv("DGRAM_ENGINE", "uring", 1);
        EXPECT_EQ(dgram_loop_create(nullptr, &loop), -GetParam().error);
        EXPECT_EQ(loop, nullptr);
        ASSERT_EQ(dgram_engine_probe(DGRAM_ENGINE_URING, &report), 0);
        EXPECT_EQ(report.code, -GetParam().error);
        EXPECT_STRNE(report.call, "");
        EXPECT_STRNE(report.advice, "");
        EXPECT_EQ(descriptors(), before);
    });
}

/* A filter is the thread's, limits are lifted, a sysctl is set back: what one loop was refused, the
 * next is not. */
TEST_P(Denied, TheNextLoopIsNotRefusedForIt)
{
    SKIP_WITHOUT_RING();
    in_child([&] {
        unsetenv("DGRAM_ENGINE");
        std::thread([] {
            Program program;
            deny(GetParam().call, GetParam().error);
            ASSERT_EQ(program.create(DGRAM_ENGINE_AUTO), 0);
            EXPECT_STREQ(program.info().name, "poll");
        }).join();
        Program program;
        ASSERT_EQ(program.create(DGRAM_ENGINE_AUTO), 0);
        EXPECT_STREQ(program.info().name, "uring");
        EXPECT_EQ(program.info().refused_code, 0);
        program.works();
    });
}

/* ---- Denied later -------------------------------------------------------------------------- */

class DeniedLater : public ::testing::TestWithParam<bool>
{
};

INSTANTIATE_TEST_SUITE_P(Turns, DeniedLater, ::testing::Bool(),
                         [](const ::testing::TestParamInfo<bool> &info) {
                             return info.param ? "AfterSome" : "BeforeTheFirst";
                         });

/* Set-up was fine, the work is not: the loop fails with errno and call, every send completes with
 * that error, and whatever the program does then, it does not hang. */
TEST_P(DeniedLater, EnterFailsTheLoop)
{
    SKIP_WITHOUT_RING();
    in_child([&] {
        size_t before = descriptors();
        Program program;
        ASSERT_EQ(program.create(DGRAM_ENGINE_URING), 0);
        ASSERT_EQ(program.open(), 0);
        if (GetParam()) {
            program.send(30);
            ASSERT_EQ(program.run_until(30, 1000), 0);
        }
        deny(SYS_io_uring_enter, EPERM);
        program.send(30);
        EXPECT_EQ(dgram_loop_run(program.loop), -EPERM);
        EXPECT_EQ(dgram_loop_run(program.loop), -EPERM);
        EXPECT_EQ(dgram_loop_turn(program.loop, -1), -EPERM);
        EXPECT_EQ(program.info().failed_code, -EPERM);
        EXPECT_STREQ(program.info().failed_call, "io_uring_enter");
        program.send(30); /* accepted or not, they complete */
        EXPECT_EQ(dgram_close(program.sender), 0);
        EXPECT_EQ(dgram_loop_turn(program.loop, -1), -EPERM);
        program.loop = dgram_loop_free(program.loop);
        EXPECT_EQ(program.completed, program.accepted);
        EXPECT_GT(program.completed, 0u);
        EXPECT_EQ(descriptors(), before);
    });
}

/* A loop that never sleeps looks by the same call, if its sockets are too many to be asked each. */
TEST(DeniedBusy, EnterFailsTheLoop)
{
    SKIP_WITHOUT_RING();
    in_child([] {
        std::vector<struct dgram_socket *> more(20);
        struct dgram_addr to = {};
        Program program;
        struct dgram_loop_options options = DGRAM_SIZED(struct dgram_loop_options);
        options.engine = DGRAM_ENGINE_URING;
        options.busy_poll_us = 100000;
        ASSERT_EQ(dgram_loop_create(&options, &program.loop), 0);
        ASSERT_EQ(program.open(), 0);
        for (struct dgram_socket *&one : more) {
            ASSERT_EQ(dgram_create_socket(program.loop, DGRAM_UDP4, nullptr, &one), 0);
            dgram_on_message(one, Program::count_message, &program);
            ASSERT_EQ(dgram_bind(one, 0, "127.0.0.1"), 0);
        }
        program.send(30);
        ASSERT_EQ(program.run_until(30, 1000), 0);
        for (int i = 0; i < 3; i++) {
            ASSERT_GE(dgram_loop_turn(program.loop, MILLISECOND), 0);
        }
        ASSERT_EQ(dgram_address(more[7], &to), 0);
        int peer = socket(AF_INET, SOCK_DGRAM, 0);
        deny(SYS_io_uring_enter, EPERM);
        ASSERT_EQ(sendto(peer, "payload", 7, 0, &to.u.any, to.size), 7);
        EXPECT_EQ(dgram_loop_run(program.loop), -EPERM);
        close(peer);
        EXPECT_EQ(program.info().failed_code, -EPERM);
        EXPECT_STREQ(program.info().failed_call, "io_uring_enter");
        program.loop = dgram_loop_free(program.loop);
        EXPECT_EQ(program.completed, program.accepted);
    });
}

TEST(DeniedEnable, FailsTheFirstTurn)
{
    SKIP_WITHOUT_RING();
    in_child([] {
        Program program;
        ASSERT_EQ(program.create(DGRAM_ENGINE_URING), 0);
        ASSERT_EQ(program.open(), 0);
        deny(SYS_io_uring_register, EPERM);
        program.send(30);
        EXPECT_EQ(dgram_loop_run(program.loop), -EPERM);
        EXPECT_EQ(program.info().failed_code, -EPERM);
        EXPECT_EQ(strncmp(program.info().failed_call, "io_uring_register", 17), 0);
        program.loop = dgram_loop_free(program.loop);
        EXPECT_EQ(program.completed, program.accepted);
    });
}

/* The other engine's sleep. */
TEST(DeniedPoll, WaitFailsTheLoop)
{
    in_child([] {
        Program program;
        ASSERT_EQ(program.create(DGRAM_ENGINE_POLL), 0);
        ASSERT_EQ(program.open(), 0);
        ASSERT_EQ(filter({SYS_epoll_pwait2, SYS_epoll_pwait,
#ifdef SYS_epoll_wait
                          SYS_epoll_wait, SYS_poll,
#endif
                          SYS_ppoll},
                         SECCOMP_RET_ERRNO | EPERM, 0),
                  0);
        program.send(30);
        EXPECT_EQ(dgram_loop_run(program.loop), -EPERM);
        EXPECT_EQ(program.info().failed_code, -EPERM);
        EXPECT_STRNE(program.info().failed_call, "");
        program.loop = dgram_loop_free(program.loop);
        EXPECT_EQ(program.completed, program.accepted);
    });
}

/* The engine's call to send by does not exist: the probe says so, and each send has that result. */
TEST(DeniedPoll, SendThatDoesNotExistIsTold)
{
    in_child([] {
        struct dgram_engine_report report = DGRAM_SIZED(struct dgram_engine_report);
        Program program;
        ASSERT_EQ(filter({SYS_sendmsg, SYS_sendmmsg, SYS_sendto},
                         SECCOMP_RET_ERRNO | static_cast<uint32_t>(ENOSYS), 0),
                  0);
        ASSERT_EQ(dgram_engine_probe(DGRAM_ENGINE_POLL, &report), 0);
        EXPECT_EQ(report.code, -ENOSYS);
        EXPECT_STREQ(report.call, "send a train");
        ASSERT_EQ(program.create(DGRAM_ENGINE_POLL), 0);
        ASSERT_EQ(program.open(), 0);
        program.send(30);
        for (int turns = 0; turns < 1000 && program.completed < program.accepted; turns++) {
            ASSERT_GE(dgram_loop_turn(program.loop, MILLISECOND), 0);
        }
        EXPECT_EQ(program.results, std::vector<int>(10, -ENOSYS));
        EXPECT_EQ(program.messages, 0u);
    });
}

/* A loop that would gather, where the call for that is denied: all is received, and
 * a turn in which nothing comes neither fails nor hangs. */
void receives_without(const std::vector<long> &calls)
{
    ASSERT_EQ(filter(calls, SECCOMP_RET_ERRNO | EPERM, 0), 0);
    struct dgram_loop_options options = {};
    options.size = sizeof(options);
    options.engine = DGRAM_ENGINE_POLL;
    options.max_delay_us = 1000;
    struct dgram_loop *loop = nullptr;
    struct dgram_socket *socket = nullptr;
    struct dgram_addr to = {};
    unsigned received = 0;
    ASSERT_EQ(dgram_loop_create(&options, &loop), 0);
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, nullptr, &socket), 0);
    dgram_on_message(
        socket,
        [](struct dgram_socket *, const struct dgram_message *, void *user) {
            ++*static_cast<unsigned *>(user);
        },
        &received);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    ASSERT_EQ(dgram_address(socket, &to), 0);
    int peer = ::socket(AF_INET, SOCK_DGRAM, 0);
    for (unsigned wanted = 20; wanted <= 200; wanted += 20) {
        for (int i = 0; i < 20; i++) {
            ASSERT_EQ(sendto(peer, "x", 1, 0, &to.u.any, to.size), 1);
        }
        for (int turns = 0; turns < 100 && received < wanted; turns++) {
            ASSERT_GE(dgram_loop_turn(loop, 10 * MILLISECOND), 0);
        }
        ASSERT_EQ(received, wanted);
    }
    EXPECT_GE(dgram_loop_turn(loop, 5 * MILLISECOND), 0);
    EXPECT_STREQ("", [&] {
        struct dgram_loop_info info = {};
        info.size = sizeof(info);
        EXPECT_EQ(dgram_loop_info(loop, &info), 0);
        return info.failed_call;
    }());
    close(peer);
    dgram_loop_free(loop);
}

TEST(DeniedPoll, NothingIsGathered)
{
#ifdef SYS_nanosleep
    in_child([] { receives_without({SYS_nanosleep, SYS_clock_nanosleep}); });
#else
    in_child([] { receives_without({SYS_clock_nanosleep}); });
#endif
}

/* ---- Sandboxes ------------------------------------------------------------------------------ */

bool has_ipv6()
{
    const int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    struct sockaddr_in6 name = {};
    name.sin6_family = AF_INET6;
    name.sin6_addr.s6_addr[15] = 1;
    const bool has =
        fd >= 0 && bind(fd, reinterpret_cast<struct sockaddr *>(&name), sizeof(name)) == 0;
    close(fd);
    return has;
}

/* Whoever is denied IPv4 has its engine all the same, and IPv6. */
TEST(NoIpv4, EngineIsChosenAndServesIpv6)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6 here";
    }
    for (int error : {EAFNOSUPPORT, EPERM, EACCES}) {
        in_child([error] {
            const char *best = ring_works_in_child() ? "uring" : "poll";
            unsetenv("DGRAM_ENGINE");
            deny_ipv4(error);
            for (uint32_t engine : {DGRAM_ENGINE_AUTO, DGRAM_ENGINE_POLL}) {
                struct dgram_socket *none = nullptr;
                Program program;
                ASSERT_EQ(program.create(engine), 0);
                EXPECT_STREQ(program.info().name, engine == DGRAM_ENGINE_AUTO ? best : "poll");
                EXPECT_EQ(dgram_create_socket(program.loop, DGRAM_UDP4, nullptr, &none), -error);
                program.works(0, DGRAM_UDP6);
            }
        });
    }
}

/* The kernel gives no random numbers: loops have others. */
TEST(NoRandom, LoopsDoWithout)
{
    in_child([] {
        unsetenv("DGRAM_ENGINE");
        deny(SYS_getrandom, ENOSYS);
        for (uint32_t engine : {DGRAM_ENGINE_AUTO, DGRAM_ENGINE_POLL}) {
            Program program;
            ASSERT_EQ(program.create(engine), 0);
            program.works();
        }
    });
}

/* ---- No loopback ---------------------------------------------------------------------------- */

/* An ioctl of netdevice(7) on "lo". */
void loopback(unsigned long request, struct ifreq change)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    strcpy(change.ifr_name, "lo");
    EXPECT_EQ(ioctl(fd, request, &change), 0) << strerror(errno);
    close(fd);
}

void expect_ring(const char *when)
{
    Program program;
    EXPECT_EQ(program.create(DGRAM_ENGINE_URING), 0) << when;
}

/* A host whose loopback is not up cannot try an engine on it, and that is no fault of the engine:
 * fresh network namespaces are such hosts. */
TEST(NoLoopback, RingIsChosenAllTheSame)
{
    SKIP_WITHOUT_RING();
    for (int state = 0; state < 3; state++) {
        in_child([state] {
            struct ifreq up = {}, down = {}, no_address = {};
            up.ifr_flags = IFF_UP;
            no_address.ifr_addr.sa_family = AF_INET;
            if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
                printf("no network namespaces here: nothing is shown\n");
                return;
            }
            if (state == 0) {
                expect_ring("never up: sends find no route");
                return;
            }
            loopback(SIOCSIFFLAGS, up);
            loopback(state == 1 ? SIOCSIFFLAGS : SIOCSIFADDR, state == 1 ? down : no_address);
            expect_ring(state == 1 ? "down again" : "without its address: bind(2) fails");
        });
    }
}

/* ---- Firewalls ------------------------------------------------------------------------------ */

/* A namespace of its own with loopback up; false where there is none to be had. */
bool enter_namespace()
{
    struct ifreq up = {};
    up.ifr_flags = IFF_UP;
    if (unshare(CLONE_NEWNET) != 0) {
        return false;
    }
    loopback(SIOCSIFFLAGS, up);
    return true;
}

/* What is not said by a rule is dropped, but for the port of a service. */
constexpr uint16_t SERVICE = 9999;

bool firewall(const std::string &hook)
{
    const std::string rules = "add table inet t\n"
                              "add chain inet t c { type filter hook " +
                              hook +
                              " priority 0; }\n"
                              "add rule inet t c udp dport != 9999 drop\n";
    FILE *nft = popen("nft -f - >/dev/null 2>&1", "w");
    return nft != nullptr && fputs(rules.c_str(), nft) >= 0 && pclose(nft) == 0;
}

/* Why rules cannot be tried here; "" if they can. */
std::string no_firewall()
{
    static const std::string reason = [] {
        if (geteuid() != 0) {
            return "only root may make network namespaces with rules";
        }
        if (system("command -v nft >/dev/null 2>&1") != 0) {
            return "nft (nftables) is not here";
        }
        pid_t child = fork();
        if (child == 0) {
            _exit(enter_namespace() && firewall("output") ? 0 : 1);
        }
        int status = 1;
        waitpid(child, &status, 0);
        return status == 0 ? "" : "this kernel has no nftables or no namespaces";
    }();
    return reason;
}

#define SKIP_WITHOUT_FIREWALL()                                                                    \
    SKIP_WITHOUT_RING();                                                                           \
    if (!no_firewall().empty()) {                                                                  \
        GTEST_SKIP() << no_firewall();                                                             \
    }

/* A loop that talks to itself by the service's port. */
void serves(uint32_t engine, const char *name, unsigned segments_max)
{
    SCOPED_TRACE(testing::Message() << "engine " << engine);
    Program program;
    ASSERT_EQ(program.create(engine), 0);
    const struct dgram_loop_info info = program.info();
    EXPECT_STREQ(info.name, name);
    EXPECT_EQ(info.refused_code, 0) << info.refused_call << ": " << info.refused_advice;
    EXPECT_EQ(info.segments_max, segments_max);
    ASSERT_EQ(dgram_create_socket(program.loop, DGRAM_UDP4, nullptr, &program.receiver), 0);
    ASSERT_EQ(dgram_on_message(program.receiver, Program::count_message, &program), 0);
    ASSERT_EQ(dgram_bind(program.receiver, SERVICE, "127.0.0.1"), 0);
    program.sender = program.receiver;
    program.send(20);
    EXPECT_EQ(program.run_until(20, 5000), 0);
    EXPECT_EQ(program.messages, 20u);
}

bool trains_go(uint16_t count);
unsigned longest_train()
{
    return trains_go(128) ? 128 : trains_go(64) ? 64 : 1;
}

void expect_probe(uint32_t engine)
{
    struct dgram_engine_report report = {};
    report.size = sizeof(report);
    ASSERT_EQ(dgram_engine_probe(engine, &report), 0);
    EXPECT_EQ(report.code, 0) << report.call << ": " << report.advice;
}

/* A child in a namespace of its own; the body gets the longest train that left before. */
void in_namespace(const std::function<void(unsigned longest)> &body)
{
    in_child([&] {
        const unsigned longest = longest_train();
        unsetenv("DGRAM_ENGINE");
        if (!enter_namespace()) {
            printf("no network namespaces here: nothing is shown\n");
            return;
        }
        body(longest);
    });
}

/* Both engines pass their probe, are chosen and serve as on any other host. */
void expect_both_engines(unsigned longest)
{
    expect_probe(DGRAM_ENGINE_URING);
    expect_probe(DGRAM_ENGINE_POLL);
    serves(DGRAM_ENGINE_AUTO, "uring", longest);
    serves(DGRAM_ENGINE_URING, "uring", longest);
    serves(DGRAM_ENGINE_POLL, "poll", longest);
    setenv("DGRAM_ENGINE", "uring", 1);
    serves(DGRAM_ENGINE_AUTO, "uring", longest);
}

class Firewall : public ::testing::TestWithParam<const char *>
{
};

INSTANTIATE_TEST_SUITE_P(Hook, Firewall, ::testing::Values("output", "input"),
                         [](const ::testing::TestParamInfo<const char *> &info) {
                             return std::string(info.param);
                         });

/* It refuses the trial datagrams (EPERM), or swallows them. That is neither the engine's fault nor
 * a limit of the kernel, and the same host has a port that is open. */
TEST_P(Firewall, SaysNothingOfEngineOrKernel)
{
    SKIP_WITHOUT_FIREWALL();
    in_namespace([](unsigned longest) {
        ASSERT_TRUE(firewall(GetParam()));
        expect_both_engines(longest);
    });
}

/* Turns every feature of the loopback device off that can be: it makes no trains any more. */
void switch_features_off()
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    for (unsigned bit = 0; bit < 64; bit++) {
        alignas(struct ethtool_sfeatures) unsigned char memory[64] = {};
        auto *change = reinterpret_cast<struct ethtool_sfeatures *>(memory);
        struct ifreq request = {};
        change->cmd = ETHTOOL_SFEATURES;
        change->size = 2;
        change->features[bit / 32].valid = 1u << bit % 32;
        strcpy(request.ifr_name, "lo");
        request.ifr_data = reinterpret_cast<char *>(memory);
        (void) ioctl(fd, SIOCETHTOOL, &request);
    }
    close(fd);
}

/* The kernel cuts the trial train up and delivers its datagrams one by one: that is no damage. */
TEST(CutUp, TrainIsNotTakenForDamaged)
{
    SKIP_WITHOUT_RING();
    if (geteuid() != 0) {
        GTEST_SKIP() << "only root may change devices";
    }
    in_namespace([](unsigned longest) {
        switch_features_off();
        expect_both_engines(longest);
    });
}

/* All ports that the kernel gives away are taken: no trial can be made. */
TEST(NoPort, SaysNothingOfEngineOrKernel)
{
    SKIP_WITHOUT_RING();
    if (geteuid() != 0) {
        GTEST_SKIP() << "only root may make network namespaces";
    }
    in_namespace([](unsigned longest) {
        FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "w");
        ASSERT_NE(range, nullptr);
        EXPECT_GT(fputs("50000 50000", range), 0);
        ASSERT_EQ(fclose(range), 0);
        struct sockaddr_in name = {};
        name.sin_family = AF_INET;
        name.sin_port = htons(50000);
        int holder = socket(AF_INET, SOCK_DGRAM, 0);
        ASSERT_EQ(bind(holder, reinterpret_cast<struct sockaddr *>(&name), sizeof(name)), 0);
        expect_probe(DGRAM_ENGINE_URING);
        expect_probe(DGRAM_ENGINE_POLL);
        serves(DGRAM_ENGINE_AUTO, "uring", 64); /* the guess */
        serves(DGRAM_ENGINE_URING, "uring", 64);
        close(holder);
        serves(DGRAM_ENGINE_POLL, "poll", longest);
        serves(DGRAM_ENGINE_AUTO, "uring", longest);
    });
}

/* ---- Limits -------------------------------------------------------------------------------- */

/* A user of whom no other program counts locked memory: root takes a number, others stay. */
void become_nobody()
{
    const auto user = static_cast<uid_t>(61000 + getpid() % 4000);
    if (geteuid() == 0) {
        ASSERT_EQ(setresuid(user, user, user), 0); /* without CAP_IPC_LOCK */
    }
}

/* Many loops of one user under one limit of locked memory: each that was made can receive, whatever
 * the last ring had no room for, itself or its list of buffers. Untouched pools cost nothing. */
TEST(Limits, EachOfManyLoopsReceives)
{
    SKIP_WITHOUT_RING();
    for (uint32_t slots : {4u, 64u, 1000u}) {
        in_child([slots] {
            const struct rlimit few = {1 << 20, 1 << 20};
            unsetenv("DGRAM_ENGINE");
            ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &few), 0);
            become_nobody();
            std::vector<std::unique_ptr<Program>> programs;
            unsigned rings = 0;
            for (int i = 0; i < 45; i++) {
                programs.push_back(std::make_unique<Program>());
                ASSERT_EQ(programs.back()->create(DGRAM_ENGINE_AUTO, slots), 0);
            }
            for (auto &program : programs) {
                const struct dgram_loop_info info = program->info();
                rings += info.engine == DGRAM_ENGINE_URING;
                if (info.engine != DGRAM_ENGINE_URING) {
                    EXPECT_EQ(info.refused_code, -ENOMEM);
                    EXPECT_EQ(strncmp(info.refused_call, "io_uring_", 9), 0) << info.refused_call;
                    EXPECT_NE(strstr(info.refused_advice, "ulimit -l"), nullptr);
                }
                ASSERT_EQ(program->open(), 0);
                program->send(3);
                EXPECT_EQ(program->run_until(3, 1000), 0);
                ASSERT_EQ(program->messages, 3u) << info.name << " is deaf";
            }
            printf("%u slots: %u rings of 45 loops\n", slots, rings);
        });
    }
}

/* Memory of the process in bytes, for RLIMIT_AS. */
rlim_t address_space()
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    EXPECT_EQ(fscanf(file, "%lu", &pages), 1);
    fclose(file);
    return static_cast<rlim_t>(pages) * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
}

void limit_address_space(rlim_t more)
{
    const struct rlimit limit = {more == RLIM_INFINITY ? more : address_space() + more,
                                 RLIM_INFINITY};
    ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

/* A limit of memory that comes after the loop was made harms no receive; before, there is no loop,
 * and one when it has gone. */
TEST(Limits, AddressSpaceThatComesAndGoes)
{
    const rlim_t some = 64 << 20; /* the slots of this loop are 270 MB */
    for (uint32_t engine : {DGRAM_ENGINE_AUTO, DGRAM_ENGINE_POLL}) {
        in_child([engine] {
            Program program;
            limit_address_space(some);
            EXPECT_EQ(program.create(engine, 4096), -ENOMEM);
            limit_address_space(RLIM_INFINITY);
            ASSERT_EQ(program.create(engine, 4096), 0);
            limit_address_space(some);
            program.works();
        });
    }
}

/* No memory may be locked: where rings count as that, the reason says what to raise. */
TEST(Limits, NoLockedMemory)
{
    SKIP_WITHOUT_RING();
    in_child([] {
        const struct rlimit none = {0, 0};
        Program program;
        unsetenv("DGRAM_ENGINE");
        ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
        if (geteuid() == 0) {
            ASSERT_EQ(setresuid(65534, 65534, 65534), 0); /* without CAP_IPC_LOCK */
        }
        ASSERT_EQ(program.create(DGRAM_ENGINE_AUTO), 0);
        if (program.info().engine == DGRAM_ENGINE_POLL) {
            EXPECT_EQ(program.info().refused_code, -ENOMEM);
            EXPECT_NE(strstr(program.info().refused_advice, "ulimit -l"), nullptr);
        }
        program.works();
    });
}

/* Zero copy pins memory: without leave to, the buffer says so and is copied from. */
TEST(Limits, NoLockedMemoryForABuffer)
{
    SKIP_WITHOUT_RING();
    in_child([] {
        const struct rlimit none = {0, 0};
        Program program;
        if (geteuid() == 0) {
            ASSERT_EQ(setresuid(65534, 65534, 65534), 0); /* without CAP_IPC_LOCK */
        }
        if (program.create(DGRAM_ENGINE_URING) < 0) {
            printf("no memory for a ring here\n");
            return;
        }
        ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
        struct dgram_buffer_options options = {};
        options.size = sizeof(options);
        options.flags = DGRAM_ZERO_COPY;
        struct dgram_buffer *buffer = nullptr;
        ASSERT_EQ(dgram_buffer_create(program.loop, 1 << 20, &options, &buffer), 0);
        int code = dgram_buffer_zero_copy(buffer);
        EXPECT_TRUE(code == -ENOMEM || code == -EINVAL) << code; /* the latter before 6.15 */
        struct dgram_socket *sender = nullptr;
        struct dgram_addr to = {};
        ASSERT_EQ(dgram_create_socket(program.loop, DGRAM_UDP4, nullptr, &sender), 0);
        ASSERT_EQ(dgram_addr_parse("127.77.0.1", 9, &to), 0);
        for (size_t i = 0; i < 50; i++) {
            EXPECT_EQ(dgram_send_buffer(sender, buffer, i * 1200, 1200, &to), 0);
        }
        EXPECT_GE(dgram_loop_turn(program.loop, 0), 0);
        EXPECT_FALSE(dgram_buffer_in_use(buffer));
        EXPECT_EQ(program.info().zero_copy_sends, 0u);
    });
}

/* At every number of free descriptors: a clear error or a program that works; nothing is lost, and
 * with the limit gone all is well. */
TEST(Limits, FewDescriptors)
{
    in_child([] {
        struct rlimit usual = {};
        ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
        const size_t before = descriptors();
        bool worked = false;
        for (rlim_t free = 0; !worked; free++) {
            ASSERT_LT(free, 64u);
            struct rlimit few = {before + free, usual.rlim_max};
            ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
            {
                Program program;
                int code = program.create(DGRAM_ENGINE_AUTO);
                if (code == 0) {
                    code = program.open();
                }
                if (code == 0) {
                    program.send(30);
                    code = program.run_until(30, 1000);
                }
                if (code == 0) {
                    code = dgram_loop_fd(program.loop);
                }
                worked = code >= 0;
                EXPECT_TRUE(worked || code == -EMFILE) << free << ": " << code;
                EXPECT_EQ(program.completed, program.accepted);
            }
            ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
            EXPECT_EQ(descriptors(), before) << free;
        }
        Program program;
        ASSERT_EQ(program.create(DGRAM_ENGINE_AUTO), 0);
        program.works();
    });
}

/* ---- The n-th system call ------------------------------------------------------------------ */

/* Every call that an engine makes, except those that give something back. */
const std::vector<long> &engine_calls()
{
    static const std::vector<long> calls = {
        SYS_io_uring_setup, SYS_io_uring_register,
        SYS_io_uring_enter, SYS_epoll_create1,
        SYS_epoll_ctl,      SYS_epoll_pwait,
        SYS_epoll_pwait2,   SYS_pipe2,
        SYS_timerfd_create, SYS_timerfd_settime,
        SYS_eventfd2,       SYS_socket,
        SYS_bind,           SYS_setsockopt,
        SYS_getsockname,    SYS_sendmsg,
        SYS_sendmmsg,       SYS_recvmsg,
        SYS_recvmmsg,       SYS_ppoll,
#ifdef SYS_epoll_wait
        SYS_epoll_wait,     SYS_poll,
#endif
    };
    return calls;
}

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

/* Chains and lone trains from a buffer; what the loop says. Either all has left, or it failed. */
int send_in_place(const Program &program, unsigned *idle)
{
    const size_t size = 1200, counts[] = {60, 60, 20};
    struct dgram_buffer *buffer = nullptr;
    size_t offset = 0;
    struct dgram_buffer_options options = {};
    options.size = sizeof(options);
    options.flags = DGRAM_ZERO_COPY;
    options.on_idle = [](struct dgram_buffer *, void *user) { ++*static_cast<unsigned *>(user); };
    options.user = idle;
    int code = dgram_buffer_create(program.loop, 140 * size, &options, &buffer);
    if (code < 0) {
        return 0;
    }
    for (uint32_t peer = 0; peer < 3; peer++) {
        struct dgram_addr to = {};
        EXPECT_EQ(dgram_addr_parse("127.0.0.1", 9, &to), 0);
        to.u.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK + peer);
        for (size_t i = 0; i < counts[peer]; i++) {
            EXPECT_EQ(dgram_send_buffer(program.sender, buffer, offset, size, &to), 0);
            offset += size;
        }
    }
    for (unsigned i = 0; i < 100 && *idle == 0 && code >= 0; i++) {
        code = dgram_loop_turn(program.loop, MILLISECOND);
    }
    EXPECT_TRUE(code < 0 || *idle == 1) << "not idle";
    dgram_buffer_free(buffer);
    return code < 0 ? code : 0;
}

/* Everything that an engine does. Any step may fail; what was accepted completes all the same. */
void whole_life(uint32_t engine)
{
    Program program;
    if (program.create(engine) != 0) {
        return;
    }
    unsigned idle = 0;
    if (program.open() == 0) {
        program.send(30);
        int code = program.run_until(30, 10);
        code = code < 0 ? code : send_in_place(program, &idle);
        if (code < 0 && strcmp(program.info().failed_call, "io_uring_enter") == 0) {
            /* What it left unsubmitted points to memory that is used again. */
            EXPECT_EQ(dgram_loop_turn(program.loop, 0), code) << "a broken ring went on";
        }
        (void) dgram_loop_fd(program.loop);
        program.send(3);
        (void) program.run_until(33, 10);
        EXPECT_EQ(dgram_close(program.receiver), 0);
        (void) dgram_loop_turn(program.loop, 0);
    }
    program.loop = dgram_loop_free(program.loop);
    EXPECT_EQ(program.completed, program.accepted);
}

struct Failing {
    const char *name;
    uint32_t engine;
    int error;
};

class NthCall : public ::testing::TestWithParam<Failing>
{
};

INSTANTIATE_TEST_SUITE_P(Engine, NthCall,
                         ::testing::Values(Failing{"uringENOMEM", DGRAM_ENGINE_URING, ENOMEM},
                                           Failing{"uringEPERM", DGRAM_ENGINE_URING, EPERM},
                                           Failing{"uringEINTR", DGRAM_ENGINE_URING, EINTR},
                                           Failing{"uringEAGAIN", DGRAM_ENGINE_URING, EAGAIN},
                                           Failing{"pollENOMEM", DGRAM_ENGINE_POLL, ENOMEM},
                                           Failing{"pollEPERM", DGRAM_ENGINE_POLL, EPERM},
                                           Failing{"pollEINTR", DGRAM_ENGINE_POLL, EINTR},
                                           Failing{"pollEAGAIN", DGRAM_ENGINE_POLL, EAGAIN}),
                         [](const ::testing::TestParamInfo<Failing> &info) {
                             return info.param.name;
                         });

/* Each system call of a loop's life fails once, probe and set-up included. */
TEST_P(NthCall, FailsCleanly)
{
    if (GetParam().engine == DGRAM_ENGINE_URING) {
        SKIP_WITHOUT_RING();
    }
    in_child([&] {
        size_t before = descriptors();
        int calls = 1;
        for (int nth = 1; nth <= calls && !::testing::Test::HasFailure(); nth++) {
            Supervisor supervisor(engine_calls(), GetParam().error, [nth](unsigned number) {
                return number == static_cast<unsigned>(nth);
            });
            int made = supervisor.supervise([&] { whole_life(GetParam().engine); });
            if (made < 0) {
                printf("no seccomp notifications here\n");
                return;
            }
            calls = made > calls ? made : calls;
            EXPECT_EQ(descriptors(), before) << "call " << nth << " of " << made;
        }
        printf("%d calls\n", calls);
        EXPECT_GT(calls, 20);
    });
}

/* The limit of epoll's registrations (fs.epoll.max_user_watches) is reached, for a while: the error
 * is told and the socket hears when it is over. */
TEST(NotNowRegistered, HearsWhenThereIsAPlace)
{
    in_child([] {
        unsigned errors = 0;
        Program program;
        Supervisor supervisor({SYS_epoll_ctl}, ENOSPC,
                              [](unsigned number) { return number <= 40; });
        ASSERT_EQ(program.create(DGRAM_ENGINE_POLL), 0);
        ASSERT_EQ(program.open(), 0);
        ASSERT_EQ(dgram_on_error(
                      program.receiver,
                      [](struct dgram_socket *, const struct dgram_error *error, void *user) {
                          EXPECT_EQ(error->code, -ENOSPC);
                          EXPECT_STREQ(error->operation, "recvmsg");
                          ++*static_cast<unsigned *>(user);
                      },
                      &errors),
                  0);
        int calls = supervisor.supervise([&] {
            program.send(30);
            EXPECT_EQ(program.run_until(30, 5000), 0);
        });
        if (calls < 0) {
            printf("no seccomp notifications here\n");
            return;
        }
        EXPECT_EQ(program.messages, 30u);
        EXPECT_GE(errors, 16u);
        EXPECT_LT(errors, 40u) << "one for each attempt";
    });
}

/* ---- Trains -------------------------------------------------------------------------------- */

/* Whether this kernel takes a train of so many datagrams; asked without the library. */
bool trains_go(uint16_t count)
{
    constexpr int udp_level = 17, udp_segment = 103, one = 1;
    struct sockaddr_in name = {};
    socklen_t size = sizeof(name);
    const std::string payload(count, 'x');
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto *address = reinterpret_cast<struct sockaddr *>(&name);
    bool go = bind(fd, address, size) == 0 && getsockname(fd, address, &size) == 0 &&
              setsockopt(fd, udp_level, udp_segment, &one, sizeof(one)) == 0 &&
              sendto(fd, payload.data(), count, 0, address, size) == count;
    close(fd);
    return go;
}

struct Probed {
    const char *name;
    unsigned refused; /* of the first sends, which ask: 128, far too many, 64, one datagram */
    int error;
    uint32_t segments_max;
    uint32_t later; /* of the next loop, when nothing is refused any more */
};

class SegmentsMax : public ::testing::TestWithParam<Probed>
{
};

INSTANTIATE_TEST_SUITE_P(Kernel, SegmentsMax,
                         ::testing::Values(/* The kernel's answers, for good. */
                                           Probed{"LongOnesEINVAL", 1, EINVAL, 64, 64},
                                           Probed{"AllTrainsEINVAL", 3, EINVAL, 1, 1},
                                           /* Refused behind the count of segments. */
                                           Probed{"CountedEIO", 1, EIO, 128, 128},
                                           Probed{"CountedEPERM", 1, EPERM, 128, 128},
                                           Probed{"CountedENOBUFS", 1, ENOBUFS, 128, 128},
                                           /* Refused before it: a guess, until the next loop. */
                                           Probed{"AllEINVAL", 4, EINVAL, 64, 128},
                                           Probed{"AllEIO", 2, EIO, 64, 128},
                                           Probed{"AllEPERM", 2, EPERM, 64, 128},
                                           Probed{"AllEAGAIN", 2, EAGAIN, 64, 128},
                                           Probed{"NothingNow", 2, ENETUNREACH, 64, 128}),
                         [](const ::testing::TestParamInfo<Probed> &info) {
                             return info.param.name;
                         });

void probe_and_send(uint32_t segments_max)
{
    const uint64_t count = 300;
    Program program;
    ASSERT_EQ(program.create(DGRAM_ENGINE_POLL), 0);
    EXPECT_EQ(program.info().segments_max, segments_max);
    ASSERT_EQ(program.open(), 0);
    program.send(count);
    EXPECT_EQ(program.run_until(count, 5000), 0);
    EXPECT_EQ(program.messages, count);
    struct dgram_socket_stats stats = {};
    stats.size = sizeof(stats);
    ASSERT_EQ(dgram_socket_stats(program.sender, &stats), 0);
    EXPECT_EQ(stats.sends, (count + segments_max - 1) / segments_max);
    EXPECT_EQ(stats.trains_refused, 0u);
}

/* The kernel is asked with a train of 128; where that is refused, the refusals of others tell
 * whether it was the kernel's limit. Where there is no network to ask on, 64 is the guess. */
TEST_P(SegmentsMax, AreThoseThatTheKernelTakes)
{
    in_child([] {
        const Probed &probed = GetParam();
        Supervisor supervisor({SYS_sendmsg}, probed.error,
                              [&](unsigned number) { return number <= probed.refused; });
        if (!trains_go(128)) {
            printf("this kernel takes no trains of 128\n");
            return;
        }
        int calls = supervisor.supervise([&] {
            Program first;
            ASSERT_EQ(first.create(DGRAM_ENGINE_POLL), 0);
            EXPECT_EQ(first.info().segments_max, probed.segments_max);
            probe_and_send(probed.later);
        });
        if (calls < 0) {
            printf("no seccomp notifications here\n");
        }
    });
}

/* Without a refusal, what it takes. */
TEST(SegmentsMaxOfTheKernel, AreAsManyAsGo)
{
    in_child([] { probe_and_send(longest_train()); });
}

/* ---- Not now ------------------------------------------------------------------------------- */

/* EAGAIN and EBUSY of io_uring_enter: borne for a second, then the ring is broken. */

constexpr unsigned HASTY_WATCHDOG_SECONDS = 20; /* "within a few seconds", on a loaded host */
constexpr unsigned PATIENCE = 1000;             /* refusals in a row, a millisecond each */

int64_t milliseconds_of(const std::function<void()> &body)
{
    const auto start = std::chrono::steady_clock::now();
    body();
    const auto took = std::chrono::steady_clock::now() - start;
    return std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
}

/* A loop that has submitted all that it has to: what follows is a wait for datagrams. */
void open_idle(Program &program)
{
    ASSERT_EQ(program.create(DGRAM_ENGINE_URING), 0);
    ASSERT_EQ(program.open(), 0);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(dgram_loop_turn(program.loop, 0), 1);
    }
}

struct Refusal {
    const char *name;
    int error;
    unsigned sends; /* queued when it begins */
};

class NotNow : public ::testing::TestWithParam<Refusal>
{
};

INSTANTIATE_TEST_SUITE_P(
    Enter, NotNow,
    ::testing::Values(Refusal{"EAGAINSending", EAGAIN, 30}, Refusal{"EAGAINWaiting", EAGAIN, 0},
                      Refusal{"EBUSYSending", EBUSY, 30}, Refusal{"EBUSYWaiting", EBUSY, 0}),
    [](const ::testing::TestParamInfo<Refusal> &info) { return info.param.name; });

/* The loop is patient, then it fails as with any other errno. */
TEST_P(NotNow, ForEverFailsTheLoop)
{
    SKIP_WITHOUT_RING();
    in_child([&] {
        const int code = -GetParam().error;
        Program program;
        alarm(HASTY_WATCHDOG_SECONDS);
        ASSERT_NO_FATAL_FAILURE(open_idle(program));
        deny(SYS_io_uring_enter, GetParam().error);
        program.send(GetParam().sends);
        int64_t took = milliseconds_of([&] { EXPECT_EQ(dgram_loop_run(program.loop), code); });
        EXPECT_GE(took, PATIENCE * 9 / 10) << "hasty";
        EXPECT_EQ(program.info().failed_code, code);
        EXPECT_STREQ(program.info().failed_call, "io_uring_enter");
        EXPECT_EQ(program.completed, program.accepted) << "told by the turn that failed";
        program.send(30);
        took = milliseconds_of([&] { EXPECT_EQ(dgram_loop_turn(program.loop, -1), code); });
        EXPECT_LT(took, PATIENCE / 2) << "a broken ring was tried again";
        EXPECT_EQ(program.completed, program.accepted);
        EXPECT_EQ(dgram_close(program.sender), 0);
        program.loop = dgram_loop_free(program.loop);
        EXPECT_EQ(program.results, std::vector<int>(program.accepted, code));
        EXPECT_GT(program.accepted, 0u);
    });
}

/* Each chain of trains that are not copied has a submission of its own. All of them together wait
 * for the one second. */
TEST(NotNowLent, AllChainsFailTogether)
{
    SKIP_WITHOUT_RING();
    in_child([] {
        const size_t size = 1200, count = 100;
        Program program;
        alarm(HASTY_WATCHDOG_SECONDS);
        ASSERT_NO_FATAL_FAILURE(open_idle(program));
        struct dgram_buffer *buffer = nullptr;
        struct dgram_buffer_options options = {};
        options.size = sizeof(options);
        options.flags = DGRAM_ZERO_COPY;
        ASSERT_EQ(dgram_buffer_create(program.loop, 3 * count * size, &options, &buffer), 0);
        if (dgram_buffer_zero_copy(buffer) < 0) {
            printf("no zero copy here\n");
            return;
        }
        deny(SYS_io_uring_enter, EAGAIN);
        for (size_t peer = 0; peer < 3; peer++) {
            struct dgram_addr to = {};
            ASSERT_EQ(dgram_address(program.receiver, &to), 0);
            to.u.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK + static_cast<uint32_t>(peer));
            for (size_t i = 0; i < count; i++) {
                ASSERT_EQ(
                    dgram_send_buffer(program.sender, buffer, (peer * count + i) * size, size, &to),
                    0);
            }
        }
        int64_t took =
            milliseconds_of([&] { EXPECT_EQ(dgram_loop_turn(program.loop, -1), -EAGAIN); });
        EXPECT_GE(took, PATIENCE * 9 / 10) << "hasty";
        EXPECT_FALSE(dgram_buffer_in_use(buffer));
        EXPECT_EQ(dgram_get_send_queue_count(program.sender), 0u);
        program.loop = dgram_loop_free(program.loop);
    });
}

/* Who does not want to sleep is not made to, and gets no verdict of a loop of such turns. */
TEST(NotNowPolled, TurnsThatMayNotSleepDoNot)
{
    SKIP_WITHOUT_RING();
    in_child([] {
        Program program;
        alarm(HASTY_WATCHDOG_SECONDS);
        ASSERT_NO_FATAL_FAILURE(open_idle(program));
        deny(SYS_io_uring_enter, EAGAIN);
        int64_t took = milliseconds_of([&] {
            for (unsigned i = 0; i < 2 * PATIENCE; i++) {
                ASSERT_EQ(dgram_loop_turn(program.loop, 0), 1);
            }
        });
        EXPECT_LT(took, PATIENCE);
        EXPECT_STREQ(program.info().failed_call, "");
    });
}

/* A while in which enters are answered so, and how many turns the program has nothing to do. */
struct Spell {
    const char *name;
    int error;
    unsigned first, last; /* enters, counted from 1 */
    unsigned idle;
    unsigned one_succeeds; /* 0: none between them */
};

class NotNowForAWhile : public ::testing::TestWithParam<Spell>
{
};

INSTANTIATE_TEST_SUITE_P(
    Enter, NotNowForAWhile,
    ::testing::Values(Spell{"EAGAINSending", EAGAIN, 1, 50, 0, 0},
                      Spell{"EAGAINWaiting", EAGAIN, 10, 60, 80, 0},
                      Spell{"EBUSYSending", EBUSY, 1, 50, 0, 0},
                      Spell{"EBUSYWaiting", EBUSY, 10, 60, 80, 0},
                      Spell{"OneSuccessIsEnough", EAGAIN, 1, PATIENCE * 6 / 5, 0, PATIENCE * 3 / 5},
                      /* No refusals: a signal came, the time was up. */
                      Spell{"EINTRSending", EINTR, 1, PATIENCE * 3 / 2, 0, 0},
                      Spell{"EINTRWaiting", EINTR, 10, PATIENCE * 3 / 2, PATIENCE * 3 / 2, 0},
                      Spell{"ETIMEWaiting", ETIME, 10, PATIENCE * 3 / 2, PATIENCE * 3 / 2, 0}),
    [](const ::testing::TestParamInfo<Spell> &info) { return info.param.name; });

/* Nothing is lost and nobody hears of it. */
TEST_P(NotNowForAWhile, EverythingIsDelivered)
{
    SKIP_WITHOUT_RING();
    in_child([] {
        const Spell &spell = GetParam();
        Supervisor supervisor({SYS_io_uring_enter}, spell.error, [&](unsigned number) {
            return number >= spell.first && number <= spell.last && number != spell.one_succeeds;
        });
        Program program;
        int calls = 0;
        alarm(HASTY_WATCHDOG_SECONDS);
        ASSERT_EQ(program.create(DGRAM_ENGINE_URING), 0); /* the probe is not supervised */
        int64_t took = milliseconds_of([&] {
            calls = supervisor.supervise([&] {
                program.works(spell.idle);
                EXPECT_STREQ(program.info().failed_call, "");
                program.loop = dgram_loop_free(program.loop);
            });
        });
        if (calls < 0) {
            printf("no seccomp notifications here\n");
            return;
        }
        EXPECT_GT(calls, static_cast<int>(spell.last)) << "enters";
        EXPECT_EQ(program.results, std::vector<int>(program.accepted, 7));
        if (spell.error == EINTR || spell.error == ETIME) {
            EXPECT_LT(took, PATIENCE * 5 / 4) << "paused after what was no refusal";
        }
    });
}

} /* namespace */
