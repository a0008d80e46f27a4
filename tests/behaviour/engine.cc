/* SPDX-License-Identifier: MIT */
/*
 * engine.cc: the choice of the engine and what it tells of it; what an engine holds of the host,
 * and for how long: the port of a ring whose process is gone, and the patience of a bind with it.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <thread>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class EngineChoice : public HostTest
{
};

/* ---- Information and choice ---------------------------------------------------------------- */

TEST_F(EngineChoice, ProbeRefusesWhatIsNoEngine)
{
    struct dgram_engine_report report = {};
    report.size = sizeof(report);
    for (uint32_t engine : {0u, 3u, 100u, 0xffffffffu}) {
        EXPECT_EQ(dgram_engine_probe(engine, &report), DGRAM_EBADENGINE) << engine;
    }
    EXPECT_EQ(report.name, nullptr);
    EXPECT_EQ(dgram_engine_probe(DGRAM_ENGINE_POLL, nullptr), DGRAM_ENULL);
    report.size = sizeof(size_t) - 1;
    EXPECT_EQ(dgram_engine_probe(DGRAM_ENGINE_POLL, &report), DGRAM_EBADOPTIONS);
    EXPECT_EQ(report.name, nullptr);
}

/* Each engine is either usable or says what to do about it. */
TEST_F(EngineChoice, ReportAndLoopAgree)
{
    for (uint32_t engine : {DGRAM_ENGINE_URING, DGRAM_ENGINE_POLL}) {
        const struct dgram_engine_report report = probe(engine);
        struct dgram_loop_options options = loop_options();
        options.engine = engine;
        struct dgram_loop *loop = nullptr;
        int code = report.code == 0 ? patiently([&] { return dgram_loop_create(&options, &loop); })
                                    : dgram_loop_create(&options, &loop);
        if (report.code == 0) {
            EXPECT_EQ(code, 0);
        } else {
            EXPECT_EQ(code, report.code);
            EXPECT_EQ(loop, nullptr);
            EXPECT_STRNE(report.advice, "");
        }
        dgram_loop_free(loop);
    }
}

/* The environment as it was, after each test. */
class EngineEnvironment : public HostTest
{
  protected:
    void SetUp() override
    {
        HostTest::SetUp();
        const char *text = getenv("DGRAM_ENGINE");
        had_ = text != nullptr;
        before_ = had_ ? text : "";
    }
    void TearDown() override
    {
        if (had_) {
            setenv("DGRAM_ENGINE", before_.c_str(), 1);
        } else {
            unsetenv("DGRAM_ENGINE");
        }
        HostTest::TearDown();
    }
    /* The engine of a loop made with `engine`, or the code. */
    static int engine_of(uint32_t engine)
    {
        struct dgram_loop_options options = loop_options();
        options.engine = engine;
        struct dgram_loop *loop = nullptr;
        int code = patiently([&] { return dgram_loop_create(&options, &loop); });
        if (code == 0) {
            code = static_cast<int>(info_of(loop).engine);
        } else {
            EXPECT_EQ(loop, nullptr);
        }
        dgram_loop_free(loop);
        return code;
    }
    static bool works(uint32_t engine)
    {
        return probe(engine).code == 0;
    }

  private:
    bool had_ = false;
    std::string before_;
};

TEST_F(EngineEnvironment, ChoosesWhereTheOptionIsAuto)
{
    setenv("DGRAM_ENGINE", "poll", 1);
    EXPECT_EQ(engine_of(DGRAM_ENGINE_AUTO), DGRAM_ENGINE_POLL);
    struct dgram_loop *loop = nullptr;
    ASSERT_EQ(dgram_loop_create(nullptr, &loop), 0);
    EXPECT_STREQ(info_of(loop).name, "poll");
    dgram_loop_free(loop);
    setenv("DGRAM_ENGINE", "uring", 1);
    if (works(DGRAM_ENGINE_URING)) {
        EXPECT_EQ(engine_of(DGRAM_ENGINE_AUTO), DGRAM_ENGINE_URING);
    } else {
        EXPECT_LT(engine_of(DGRAM_ENGINE_AUTO), 0);
    }
}

TEST_F(EngineEnvironment, UnknownNameIsAnError)
{
    for (const char *name : {"nonsense", "POLL", "poll ", "urin", "poll,uring", "2"}) {
        setenv("DGRAM_ENGINE", name, 1);
        EXPECT_EQ(engine_of(DGRAM_ENGINE_AUTO), DGRAM_EBADENGINE) << name;
        EXPECT_EQ(engine_of(DGRAM_ENGINE_POLL), DGRAM_ENGINE_POLL) << name;
    }
}

TEST_F(EngineEnvironment, OptionGoesFirst)
{
    setenv("DGRAM_ENGINE", "uring", 1);
    EXPECT_EQ(engine_of(DGRAM_ENGINE_POLL), DGRAM_ENGINE_POLL);
    if (works(DGRAM_ENGINE_URING)) {
        setenv("DGRAM_ENGINE", "poll", 1);
        EXPECT_EQ(engine_of(DGRAM_ENGINE_URING), DGRAM_ENGINE_URING);
    }
}

TEST_F(EngineEnvironment, AutoTakesTheBestAndTellsWhatItPassedOver)
{
    unsetenv("DGRAM_ENGINE");
    const bool best_works = works(DGRAM_ENGINE_URING);
    struct dgram_loop *loop = nullptr;
    ASSERT_EQ(dgram_loop_create(nullptr, &loop), 0);
    struct dgram_loop_info info = info_of(loop);
    if (best_works && info.refused_code == -ENOMEM) {
        dgram_loop_free(loop);
        GTEST_SKIP() << "no memory for a ring just now";
    }
    if (best_works) {
        EXPECT_EQ(info.engine, static_cast<uint32_t>(DGRAM_ENGINE_URING));
        EXPECT_EQ(info.refused_code, 0);
    } else {
        EXPECT_EQ(info.engine, static_cast<uint32_t>(DGRAM_ENGINE_POLL));
        EXPECT_LT(info.refused_code, 0);
        ASSERT_NE(info.refused_call, nullptr);
        ASSERT_NE(info.refused_advice, nullptr);
        EXPECT_STRNE(info.refused_advice, "");
    }
    dgram_loop_free(loop);
}

TEST_F(EngineEnvironment, NumberThatIsNoEngineIsRefused)
{
    for (uint32_t engine : {3u, 99u, 0xffffffffu}) {
        EXPECT_EQ(engine_of(engine), DGRAM_EBADENGINE) << engine;
    }
}

class Patience : public EngineTest
{
  protected:
    struct dgram_socket *open_patient(uint32_t milliseconds)
    {
        struct dgram_socket_options options = socket_options();
        options.bind_patience_ms = milliseconds;
        struct dgram_socket *socket = nullptr;
        EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
        return socket;
    }
};

class PatienceHost : public Patience
{
};

INSTANTIATE_ON_ALL_ENGINES(Patience);
INSTANTIATE_ON_HOST_ENGINES(PatienceHost);

TEST_P(Patience, IsASecondAtMost)
{
    struct dgram_socket_options options = socket_options();
    struct dgram_socket *socket = nullptr;
    options.bind_patience_ms = 1001;
    EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), DGRAM_EBADOPTIONS);
    options.bind_patience_ms = UINT32_MAX;
    EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), DGRAM_EBADOPTIONS);
    options.bind_patience_ms = 1000;
    options.reserved0 = 1;
    EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), DGRAM_EBADOPTIONS);
    options.reserved0 = 0;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
    expect_echo(loop, socket);
}

/* A port that is really in use stays so, and the bind says so in the end. */
TEST_P(Patience, EndsWhereThePortIsInUse)
{
    struct dgram_socket *owner = open_bound(loop);
    const uint16_t port = port_of(owner);
    struct dgram_socket *hasty = open_patient(0), *patient = open_patient(30);
    EXPECT_EQ(dgram_bind(hasty, port, "127.0.0.1"), -EADDRINUSE);
    const uint64_t start = monotonic_ns();
    EXPECT_EQ(dgram_bind(patient, port, "127.0.0.1"), -EADDRINUSE);
    const uint64_t took = monotonic_ns() - start;
    EXPECT_GE(took, static_cast<uint64_t>(30 * MILLISECOND));
    if (GetParam().begin != nullptr) { /* no other process takes any time there */
        EXPECT_LE(took, static_cast<uint64_t>(31 * MILLISECOND));
    }
    close_and_wait(loop, owner);
    EXPECT_EQ(dgram_bind(patient, port, "127.0.0.1"), 0);
    expect_echo(loop, patient);
}

/* Only what may pass is worth waiting for. */
TEST_P(Patience, IsNotForOtherErrors)
{
    struct dgram_socket *socket = open_patient(1000);
    const uint64_t start = monotonic_ns();
    EXPECT_EQ(dgram_bind(socket, 0, "192.0.2.1"), -EADDRNOTAVAIL);
    EXPECT_LT(monotonic_ns() - start, static_cast<uint64_t>(900 * MILLISECOND));
    expect_echo(loop, socket);
}

TEST_P(PatienceHost, TakesAPortThatBecomesFree)
{
    const uint16_t port = private_port(DGRAM_UDP4);
    auto owner = std::make_unique<Plain>(DGRAM_UDP4, nullptr, port);
    struct dgram_socket *socket = open_patient(1000);
    std::thread other([&] {
        usleep(20000);
        owner.reset();
    });
    EXPECT_EQ(dgram_bind(socket, port, "127.0.0.1"), 0);
    other.join();
    expect_echo(loop, socket);
}

/* Serves on the port until it is killed. */
[[noreturn]] void serve(const Engine &engine, uint16_t port, int ready)
{
    struct dgram_loop *loop = nullptr;
    struct dgram_socket *socket = nullptr;
    if (engine.create(nullptr, &loop) < 0 ||
        dgram_create_socket(loop, DGRAM_UDP4, nullptr, &socket) < 0 ||
        dgram_on_message(
            socket, [](struct dgram_socket *, const struct dgram_message *, void *) {}, nullptr) <
            0 ||
        dgram_bind(socket, port, "127.0.0.1") < 0 || dgram_loop_turn(loop, 0) < 0 ||
        dgram_loop_turn(loop, 0) < 0 || write(ready, "", 1) != 1) {
        _exit(1);
    }
    for (;;) {
        (void) dgram_loop_turn(loop, -1);
    }
}

/* Returns when it is gone, with all that the kernel tells a parent to be gone. */
void start_and_kill(const Engine &engine, uint16_t port)
{
    int ready[2];
    char byte;
    ASSERT_EQ(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        close(ready[0]);
        serve(engine, port, ready[1]);
    }
    close(ready[1]);
    EXPECT_EQ(read(ready[0], &byte, 1), 1) << "the child could not serve";
    close(ready[0]);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
}

/* The kernel takes the ring of a dead process down in the background, and that holds the port. */
TEST_P(PatienceHost, OutlivesTheRingOfAKilledProcess)
{
    const uint16_t port = private_port(DGRAM_UDP4);
    unsigned in_use = 0;
    for (int round = 0; round < 15; round++) {
        ASSERT_NO_FATAL_FAILURE(start_and_kill(GetParam(), port));
        struct dgram_socket *hasty = open_patient(0), *patient = open_patient(1000);
        const int code = dgram_bind(hasty, port, "127.0.0.1");
        in_use += code == -EADDRINUSE;
        if (code == 0) {
            close_and_wait(loop, hasty);
        }
        ASSERT_EQ(dgram_bind(patient, port, "127.0.0.1"), 0) << "round " << round;
        expect_echo(loop, patient);
        close_and_wait(loop, patient);
    }
    RecordProperty("in_use", static_cast<int>(in_use));
    printf("in use without patience: %u of 15 times\n", in_use);
}

/* ---- Engines that were not built ----------------------------------------------------------- */

class Choice : public HostTest
{
};

/* That, and nothing about kernels or permissions. */
TEST_F(Choice, AnEngineThatWasNotBuiltSaysThat)
{
    struct dgram_engine_report report = {};
    report.size = sizeof(report);
    ASSERT_EQ(dgram_engine_probe(DGRAM_ENGINE_URING, &report), 0);
    if (report.code != -ENOTSUP || report.call[0] != '\0') {
        GTEST_SKIP() << "this build has every engine";
    }
    EXPECT_STREQ(report.advice, "this library was built without it");
    struct dgram_loop_options options = loop_options();
    struct dgram_loop *made = nullptr;
    ASSERT_EQ(dgram_loop_create(&options, &made), 0);
    EXPECT_STREQ(info_of(made).refused_advice, report.advice);
    dgram_loop_free(made);
    options.engine = DGRAM_ENGINE_URING;
    EXPECT_EQ(dgram_loop_create(&options, &made), -ENOTSUP);
}

} /* namespace */
