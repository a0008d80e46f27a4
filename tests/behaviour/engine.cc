/* SPDX-License-Identifier: MIT */
/*
 * behaviour_engine.cc: what an engine holds of the host, and for how long: the port of a ring whose
 * process is gone, and the patience of a bind with it.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <thread>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

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
