/* SPDX-License-Identifier: MIT */
/*
 * loop.cc: a turn and a run: when they return, how they are stopped, what they tell of themselves.
 */
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <thread>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Turn : public EngineTest
{
};

/* They let time pass outside the loop. */
class HostTurn : public Turn
{
};

class Stop : public EngineTest
{
};

class Info : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Turn);
INSTANTIATE_ON_HOST_ENGINES(HostTurn);

INSTANTIATE_ON_HOST_ENGINES(Stop);

INSTANTIATE_ON_HOST_ENGINES(Info);

/* ---- Turns --------------------------------------------------------------------------------- */

TEST_P(Turn, ReturnsWhetherSomethingKeepsTheLoopAlive)
{
    EXPECT_EQ(dgram_loop_turn(loop, 0), 0);
    EXPECT_EQ(dgram_loop_turn(loop, -1), 0); /* does not sleep when nothing does */
    struct dgram_socket *socket = open_bound(loop);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 1);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 1); /* nor with nothing to do */
    EXPECT_EQ(dgram_loop_turn(loop, 1), 1);
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 0);
}

/* An idle loop sleeps for the time that it was given. Signals may cut single turns short, and the
 * end of an earlier ring of this thread does. */
TEST_P(Turn, SleepsForItsTimeout)
{
    struct dgram_socket *socket = open_bound(loop);
    ASSERT_NE(socket, nullptr);
    const uint64_t limit = monotonic_ns() + 10 * SECOND;
    bool slept = false;
    while (!slept && monotonic_ns() < limit) {
        const uint64_t before = monotonic_ns();
        ASSERT_EQ(dgram_loop_turn(loop, 5 * MILLISECOND), 1);
        slept = monotonic_ns() - before >= 5 * MILLISECOND;
    }
    EXPECT_TRUE(slept);
}

TEST_P(Turn, DoesNotSleepPastATimer)
{
    int ticks = 0;
    Tick tick([&](struct dgram_timer *) { ticks++; });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, 0), 0);
    ASSERT_TRUE(run_until(loop, [&] { return ticks == 1; }));
}

TEST_P(Turn, IsRefusedInsideACallback)
{
    int seen = 0;
    auto check = [&] {
        EXPECT_EQ(dgram_loop_turn(loop, 0), DGRAM_EREENTERED);
        EXPECT_EQ(dgram_loop_run(loop), DGRAM_EREENTERED);
        seen++;
    };
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *) { check(); };
    on.message = [&](struct dgram_socket *which, const struct dgram_message *) {
        check();
        dgram_close(which);
    };
    on.close = [&](struct dgram_socket *) { check(); };
    on.attach(socket);
    Sent sent([&](struct dgram_socket *, int) { check(); });
    Tick tick([&](struct dgram_timer *) { check(); });
    Job job([&](struct dgram_loop *) { check(); });
    struct dgram_timer *timer = nullptr;
    struct dgram_addr to = address_of(socket);
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, 0, 0), 0);
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    ASSERT_EQ(dgram_send_to(socket, "x", 1, &to, Sent::call, &sent), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(seen, 6);
}

/* Another loop may be turned inside a callback. */
TEST_P(Turn, OfAnotherLoopInsideACallbackWorks)
{
    struct dgram_loop *other = make_loop();
    bool listened = false;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *) {
        struct dgram_socket *there = open_socket(other);
        expect_echo(other, there);
        listened = true;
    };
    on.attach(socket);
    ASSERT_TRUE(run_until(loop, [&] { return listened; }));
    dgram_loop_free(other);
}

TEST_P(HostTurn, ClockIsReadOncePerTurn)
{
    const uint64_t before = monotonic_ns();
    int ticks = 0;
    Tick tick([&](struct dgram_timer *) {
        ticks++;
        const uint64_t now = dgram_loop_now(loop);
        EXPECT_GE(now, before);
        EXPECT_LE(now, monotonic_ns());
        spend(MILLISECOND);
        EXPECT_EQ(dgram_loop_now(loop), now);
    });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, 0), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(ticks, 1);
    EXPECT_EQ(dgram_loop_now(nullptr), 0u);
}

/* ---- Stop ---------------------------------------------------------------------------------- */

TEST_P(Stop, FromACallbackEndsTheRunAfterTheTurn)
{
    int ticks = 0;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *) { dgram_loop_stop(loop); };
    on.attach(socket);
    EXPECT_EQ(dgram_loop_run(loop), 1);
    Tick tick([&](struct dgram_timer *) {
        if (++ticks == 3) {
            dgram_loop_stop(loop);
            dgram_loop_stop(loop); /* twice is once */
        }
    });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, 0, MILLISECOND), 0);
    EXPECT_EQ(dgram_loop_run(loop), 1);
    EXPECT_EQ(ticks, 3);
    ASSERT_EQ(dgram_timer_stop(timer), 0);
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0); /* a stop is used up by one run */
}

TEST_P(Stop, BeforeTheRunEndsItAtOnce)
{
    struct dgram_socket *socket = open_bound(loop);
    dgram_loop_stop(loop);
    EXPECT_EQ(dgram_loop_run(loop), 1);
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

/* A turn does not sleep instead, and has used the stop up then. */
TEST_P(Stop, IsUsedUpByATurn)
{
    int ticks = 0;
    struct dgram_socket *socket = open_bound(loop);
    settle(loop);
    dgram_loop_stop(loop);
    EXPECT_EQ(dgram_loop_turn(loop, -1), 1); /* would sleep for ever */
    Tick tick([&](struct dgram_timer *) {
        ticks++;
        EXPECT_EQ(dgram_close(socket), 0);
    });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, 0), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(ticks, 1);
}

/* The callbacks of the turn under way run to the end. */
TEST_P(Stop, LetsTheOtherCallbacksOfTheTurnRun)
{
    int runs = 0;
    Job job([&](struct dgram_loop *which) {
        runs++;
        dgram_loop_stop(which);
    });
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    }
    EXPECT_EQ(dgram_loop_run(loop), 1);
    EXPECT_EQ(runs, 10);
}

TEST_P(Stop, FromAnotherThreadWakesTheLoop)
{
    struct dgram_socket *socket = open_bound(loop);
    ASSERT_NE(socket, nullptr);
    for (int i = 0; i < 100; i++) {
        std::atomic<bool> running{false};
        Job job([&](struct dgram_loop *) { running = true; });
        ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
        std::thread stopper([&] {
            wait_until([&] { return running.load(); });
            dgram_loop_stop(loop);
        });
        EXPECT_EQ(dgram_loop_run(loop), 1);
        stopper.join();
    }
}

struct dgram_loop *loop_of_the_signal;

void stop_in_signal(int)
{
    dgram_loop_stop(loop_of_the_signal);
}

TEST_P(Stop, FromASignalHandlerWakesTheLoop)
{
    loop_of_the_signal = loop;
    struct sigaction action = {}, before = {};
    action.sa_handler = stop_in_signal;
    ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
    struct dgram_socket *socket = open_bound(loop);
    ASSERT_NE(socket, nullptr);
    const pthread_t owner = pthread_self();
    for (int i = 0; i < 100; i++) {
        std::atomic<bool> running{false};
        Job job([&](struct dgram_loop *) {
            running = true;
            if (i % 3 == 0) {
                raise(SIGUSR1);
            }
        });
        ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
        std::thread killer([&] {
            wait_until([&] { return running.load(); });
            if (i % 3 == 1) {
                pthread_kill(owner, SIGUSR1); /* it interrupts the sleep */
            } else if (i % 3 == 2) {
                raise(SIGUSR1); /* it runs on another thread */
            }
        });
        EXPECT_EQ(dgram_loop_run(loop), 1);
        killer.join();
    }
    ASSERT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
    expect_echo(loop, socket);
}

/* A signal that is none of the library's business disturbs nothing. */
TEST_P(Stop, OtherSignalsAreNoError)
{
    struct sigaction action = {}, before = {};
    action.sa_handler = [](int) {};
    ASSERT_EQ(sigaction(SIGUSR2, &action, &before), 0);
    Plain peer;
    Inbox inbox;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    const struct dgram_addr to = address_of(socket);
    const pthread_t owner = pthread_self();
    std::thread killer([&] {
        for (int i = 0; i < 200; i++) {
            pthread_kill(owner, SIGUSR2);
            std::this_thread::yield();
        }
        peer.send("done", to);
    });
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    killer.join();
    ASSERT_EQ(sigaction(SIGUSR2, &before, nullptr), 0);
}

/* ---- Information and choice ---------------------------------------------------------------- */

TEST_P(Info, TellsTheEngineAndItsSettings)
{
    struct dgram_loop_info info = info_of(loop);
    EXPECT_EQ(info.engine, GetParam().number);
    EXPECT_STREQ(info.name, GetParam().name);
    EXPECT_EQ(info.slots, 64u);
    EXPECT_EQ(info.slot_size, 65536u);
    EXPECT_EQ(info.slots_free, 64u);
    EXPECT_GE(info.segments_max, 1u);
    EXPECT_LE(info.segments_max, 128u);
    EXPECT_EQ(info.refused_code, 0);
    EXPECT_EQ(info.turns, 0u);

    struct dgram_loop_options options = loop_options();
    options.slots = 100;
    options.slot_size = 2048;
    options.segments_max = 1;
    remake_loop(options);
    info = info_of(loop);
    EXPECT_EQ(info.slots, 100u);
    EXPECT_EQ(info.slot_size, 2048u);
    EXPECT_EQ(info.segments_max, 1u);
}

TEST_P(Info, CountsTurnsAndFlushes)
{
    struct dgram_socket *socket = open_bound(loop);
    for (uint64_t i = 1; i <= 5; i++) {
        ASSERT_EQ(dgram_loop_turn(loop, 0), 1);
        EXPECT_EQ(info_of(loop).turns, i);
    }
    const uint64_t flushes = info_of(loop).flushes;
    ASSERT_EQ(send_text(socket, "x", address_of(socket)), 0);
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    EXPECT_EQ(info_of(loop).flushes, flushes + 1);
}

TEST_P(Info, ProbeTellsThatItWorks)
{
    const struct dgram_engine_report report = probe(GetParam().number);
    EXPECT_EQ(report.size, sizeof(report));
    EXPECT_EQ(report.code, 0);
    EXPECT_EQ(report.engine, GetParam().number);
    EXPECT_STREQ(report.name, GetParam().name);
    EXPECT_STREQ(report.call, "");
    EXPECT_STREQ(report.advice, "");
}

/* ---- The loop slept ------------------------------------------------------------------------ */

/* What a callback sent before it stopped the loop is out when dgram_loop_run() returns: it may be
 * long until the next turn. */
TEST_P(Stop, SendIsOutWhenAStopEndsTheRun)
{
    Plain peer;
    const struct dgram_addr to = peer.address();
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        EXPECT_EQ(send_text(which, "last", to), 0);
        dgram_loop_stop(loop);
    };
    on.attach(socket);
    ASSERT_EQ(dgram_loop_run(loop), 1);
    ASSERT_TRUE(peer.readable()) << "it was accepted and not sent";
    EXPECT_EQ(peer.receive(), "last");
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
}

} /* namespace */
