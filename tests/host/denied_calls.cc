/* SPDX-License-Identifier: MIT */
/*
 * denied_calls.cc: system calls that fail once, or for a while: each call of a whole life fails
 * cleanly, and what the kernel does not do now is tried again.
 */
#include <dgram.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <functional>
#include <vector>

#include "tests/host/denied.h"

using namespace denied;

namespace
{

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
