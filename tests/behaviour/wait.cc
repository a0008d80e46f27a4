/* SPDX-License-Identifier: MIT */
/*
 * wait.cc: how a turn waits: a loop with a delay budget sleeps on whatever comes, a busy one looks
 * before it sleeps. When a loop gathers is simulated/gather.cc's; here, that the engines do it, and
 * lose nothing by it.
 */
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <thread>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

constexpr uint32_t LONG_US = 5000;
constexpr int64_t LONG_NS = LONG_US * 1000;

/* A sleep of the poll engine is shorter than the budget by what sleeps may be late. */
constexpr int64_t NEARLY_NS = LONG_NS - 100000;

class GatherTest : public EngineTest
{
  protected:
    void SetUp() override
    {
        EngineTest::SetUp();
        if (!IsSkipped()) {
            begin(LONG_US);
        }
    }
    void begin(uint32_t max_delay_us)
    {
        struct dgram_loop_options options = loop_options();
        options.max_delay_us = max_delay_us;
        remake_loop(options);
        inbox = Inbox();
        receiver = open_inbox(loop, &inbox);
        to = address_of(receiver);
        settle(loop);
        inbox = Inbox();
    }
    void send(size_t count)
    {
        inbox = Inbox();
        for (size_t i = 0; i < count; i++) {
            peer.send(numbered(static_cast<unsigned>(i), 8 + i), to);
        }
    }
    /* So many at once that the loop gathers from now on. */
    void hurry()
    {
        for (int i = 0; i < 2; i++) {
            send(16);
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 16; }));
        }
    }
    /* How long a turn takes that finds a datagram. */
    int64_t turn_takes()
    {
        hurry();
        send(1);
        const uint64_t start = monotonic_ns();
        EXPECT_GE(dgram_loop_turn(loop, SECOND), 0);
        const int64_t taken = static_cast<int64_t>(monotonic_ns() - start);
        EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
        return taken;
    }

    Inbox inbox;
    Plain peer;
    uint64_t turns()
    {
        struct dgram_loop_info info = {};
        info.size = sizeof(info);
        EXPECT_EQ(dgram_loop_info(loop, &info), 0);
        return info.turns;
    }

    struct dgram_socket *receiver = nullptr;
    struct dgram_addr to = {};
};

TEST_P(GatherTest, TheSleepGoesOnAfterADatagram)
{
    if (getenv("DGRAM_TEST_RUNG") != nullptr) {
        GTEST_SKIP() << "without DEFER_TASKRUN the kernel wakes for each completion";
    }
    int whole =
        0; /* a signal ends it: the ring of the test before goes away now, and that is one */
    for (int i = 0; i < 50; i++) {
        whole += turn_takes() >= NEARLY_NS;
    }
    EXPECT_GE(whole, 40);
}

/* One that is slower than the budget proves nothing: this process may have had to wait. */
TEST_P(GatherTest, NotWithoutABudget)
{
    begin(0);
    bool quick = false;
    for (int i = 0; i < 1000 && !quick; i++) {
        quick = turn_takes() < NEARLY_NS;
    }
    EXPECT_TRUE(quick);
}

/* Those that come in one sleep are delivered by few turns. */
TEST_P(GatherTest, OneWakeUpForMany)
{
    if (getenv("DGRAM_TEST_RUNG") != nullptr) {
        GTEST_SKIP() << "without DEFER_TASKRUN the kernel wakes for each completion";
    }
    int gathered = 0;
    for (int i = 0; i < 20; i++) {
        hurry();
        inbox = Inbox();
        std::thread other([&] {
            for (unsigned k = 0; k < 10; k++) {
                peer.send(numbered(k, 8), to);
                std::this_thread::sleep_for(std::chrono::microseconds(50));
            }
        });
        const uint64_t before = turns();
        EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 10; }));
        gathered += turns() - before <= 5;
        other.join();
    }
    EXPECT_GE(gathered, 10);
}

/* More than the slots hold, more than a receive takes, more than the socket's buffer half holds. */
TEST_P(GatherTest, NothingIsLostByIt)
{
    for (size_t count : {1u, 31u, 32u, 33u, 64u, 65u, 130u, 200u}) {
        hurry();
        send(count);
        EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == count; })) << count;
    }
}

TEST_P(GatherTest, ATurnInWhichNothingComesLastsAsLongAsItMay)
{
    hurry();
    const uint64_t start = monotonic_ns();
    ASSERT_GE(dgram_loop_turn(loop, 20 * MILLISECOND), 0); /* may end early after a signal */
    ASSERT_GE(dgram_loop_turn(loop, 20 * MILLISECOND), 0);
    EXPECT_GE(monotonic_ns() - start, static_cast<uint64_t>(20 * MILLISECOND));
}

TEST_P(GatherTest, WhatComesAfterItEndsTheSleep)
{
    hurry();
    inbox = Inbox();
    std::thread later([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        peer.send("later", to);
    });
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    later.join();
}

TEST_P(GatherTest, AThreadIsHeard)
{
    bool heard = false;
    Job job([&](struct dgram_loop *) { heard = true; });
    for (int i = 0; i < 20; i++) {
        hurry();
        heard = false;
        std::thread other([&] { EXPECT_EQ(dgram_loop_post(loop, Job::call, &job), 0); });
        EXPECT_TRUE(run_until(loop, [&] { return heard; }));
        other.join();
    }
}

TEST_P(GatherTest, ATimerIsNotEarly)
{
    uint64_t fired = 0;
    Tick tick([&](struct dgram_timer *) { fired = monotonic_ns(); });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    for (int64_t delay : {LONG_NS / 2, LONG_NS, LONG_NS + LONG_NS / 2, 3 * LONG_NS}) {
        hurry();
        fired = 0;
        const uint64_t start = monotonic_ns();
        ASSERT_EQ(dgram_timer_start(timer, delay, 0), 0);
        EXPECT_TRUE(run_until(loop, [&] { return fired != 0; }));
        EXPECT_GE(fired - start, static_cast<uint64_t>(delay));
    }
    dgram_timer_free(timer);
}

/* A loop that answers gathers too, and its answers leave with the turn. */
TEST_P(GatherTest, AnswersLeave)
{
    dgram_on_message(
        receiver,
        [](struct dgram_socket *socket, const struct dgram_message *message, void *user) {
            Inbox::take(socket, message, user);
            EXPECT_EQ(dgram_send_to(socket, "yes", 3, message->from, nullptr, nullptr), 0);
        },
        &inbox);
    hurry();
    for (int i = 0; i < 32; i++) {
        EXPECT_EQ(peer.receive(), "yes");
    }
}

INSTANTIATE_ON_HOST_ENGINES(GatherTest);

class BusyPoll : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(BusyPoll);

/* ---- Busy polling -------------------------------------------------------------------------- */

/* The first turn of a loop may spin for a timer alone. */
TEST_P(BusyPoll, WaitsForATimerBeforeAnythingElse)
{
    for (uint32_t microseconds : {0u, 100u, 10000u}) {
        struct dgram_loop_options options = loop_options();
        options.busy_poll_us = microseconds;
        struct dgram_loop *busy = make_loop(&options);
        int ticks = 0;
        Tick tick([&](struct dgram_timer *) { ticks++; });
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(busy, Tick::call, &tick, &timer), 0);
        ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, 0), 0);
        EXPECT_EQ(dgram_loop_run(busy), 0);
        EXPECT_EQ(ticks, 1);
        dgram_loop_free(busy);
    }
}

/* Engines look at few sockets one by one, and at many, or beside many that only send, at once. */
TEST_P(BusyPoll, FindsTheOneAmongMany)
{
    struct dgram_loop_options options = loop_options();
    options.busy_poll_us = 1000000;
    struct dgram_loop *busy = make_loop(&options);
    Plain peer;
    for (size_t listening : {1u, 2u, 3u}) {
        std::deque<Inbox> inboxes(listening);
        std::vector<struct dgram_socket *> sockets;
        for (size_t i = 0; i < 20; i++) {
            sockets.push_back(open_bound(busy));
        }
        for (Inbox &inbox : inboxes) {
            sockets.push_back(open_inbox(busy, &inbox));
        }
        for (size_t i = 0; i < listening; i++) {
            peer.send("found", address_of(sockets[20 + i]));
            EXPECT_TRUE(run_until(busy, [&] { return inboxes[i].count() == 1; })) << i;
        }
        for (struct dgram_socket *socket : sockets) {
            close_and_wait(busy, socket);
        }
    }
    dgram_loop_free(busy);
}

/* The same behaviour: datagrams, timers, posts and stops of other threads all end a spin. */
TEST_P(BusyPoll, ChangesNothingButTheWaiting)
{
    for (uint32_t microseconds : {0u, 1u, 50u, 1000000u, DGRAM_BUSY_POLL_OFF}) {
        SCOPED_TRACE(microseconds);
        struct dgram_loop_options options = loop_options();
        options.busy_poll_us = microseconds;
        struct dgram_loop *busy = make_loop(&options);
        ASSERT_NE(busy, nullptr);
        expect_echo(busy, open_socket(busy));
        Plain peer;
        Inbox inbox;
        std::atomic<bool> running{false};
        int ticks = 0, runs = 0;
        struct dgram_socket *socket = open_inbox(busy, &inbox);
        const struct dgram_addr to = address_of(socket);
        for (size_t i = 1; i <= 20; i++) {
            std::thread sender([&] { peer.send(numbered(static_cast<unsigned>(i)), to); });
            EXPECT_TRUE(run_until(busy, [&] { return inbox.count() == i; }));
            sender.join();
        }
        Tick tick([&](struct dgram_timer *) { ticks++; });
        Job job([&](struct dgram_loop *) {
            runs++;
            running = true;
        });
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(busy, Tick::call, &tick, &timer), 0);
        const uint64_t before = monotonic_ns();
        ASSERT_EQ(dgram_timer_start(timer, 3 * MILLISECOND, 0), 0);
        ASSERT_TRUE(run_until(busy, [&] { return ticks == 1; }));
        EXPECT_GE(monotonic_ns(), before + 3 * MILLISECOND);
        std::thread other([&] {
            EXPECT_EQ(dgram_loop_post(busy, Job::call, &job), 0);
            wait_until([&] { return running.load(); });
            dgram_loop_stop(busy);
        });
        EXPECT_EQ(dgram_loop_run(busy), 1);
        other.join();
        EXPECT_EQ(runs, 1);
        close_and_wait(busy, socket);
        dgram_loop_free(busy);
    }
}

} /* namespace */
