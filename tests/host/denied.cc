/* SPDX-License-Identifier: MIT */
/*
 * denied.cc: system calls that a filter denies: before the start, where another engine is chosen
 * and told why, and later, where the loop fails or does without. The filters are real ones
 * (seccomp(2)): what they deny the kernel denies to the engines' own calls, which no table of
 * functions can reach.
 */
#include <dgram.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/host/denied.h"

using namespace denied;

namespace
{

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

/* ---- Sandboxes ----------------------------------------------------------------------------- */

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

} /* namespace */
