/* SPDX-License-Identifier: MIT */
/*
 * behaviour_coalesce.cc: one wake-up for several datagrams. When a loop asks for it is
 * sim_coalesce.cc's; here, that the engines do it, and lose nothing by it.
 */
#include <algorithm>
#include <chrono>
#include <thread>

#include "tests/harness.h"

using namespace harness;

namespace
{

/* As long as may be: it is looked for in the time that turns take. */
constexpr uint32_t LONG_US = 1000;
constexpr int64_t LONG_NS = LONG_US * 1000;

class CoalesceTest : public EngineTest
{
  protected:
    void SetUp() override
    {
        EngineTest::SetUp();
        if (!IsSkipped()) {
            begin(LONG_US);
        }
    }
    void begin(uint32_t coalesce_us)
    {
        struct dgram_loop_options options = loop_options();
        options.coalesce_us = coalesce_us;
        options.busy_poll_us = DGRAM_BUSY_POLL_OFF; /* a loop that answers would not sleep at all */
        remake_loop(options);
        inbox = Inbox();
        receiver = open_inbox(loop, &inbox);
        to = address_of(receiver);
        settle(loop);
        dgram_loop_turn(loop, 0);
        std::this_thread::sleep_for(std::chrono::milliseconds(15)); /* it has sent, until then */
        inbox = Inbox();
    }
    /* poll(2) has no sleep that is short enough, and its hosts no descriptor for a loop. */
    bool possible()
    {
        struct dgram_loop *other = make_loop();
        bool found = dgram_loop_fd(other) >= 0;
        dgram_loop_free(other);
        return found;
    }
    void send(size_t count)
    {
        inbox = Inbox();
        for (size_t i = 0; i < count; i++) {
            peer.send(numbered(static_cast<unsigned>(i), 8 + i), to);
        }
    }
    /* A turn that receives two. A multishot receive pauses after every 32 (Linux 6.18), so not each
     * turn takes all that is there. */
    void receive_two()
    {
        for (int i = 0; i < 10; i++) {
            send(2);
            ASSERT_GE(dgram_loop_turn(loop, SECOND), 0);
            if (inbox.count() == 2) {
                return;
            }
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 2; }));
        }
        FAIL() << "no turn took two datagrams that were there";
    }
    /* How long a turn takes that finds `count` datagrams, after one that found two. */
    int64_t turn_takes(size_t count)
    {
        receive_two();
        receive_two(); /* in the second turn even the poll engine asks for more than two */
        send(count);
        const uint64_t start = monotonic_ns();
        EXPECT_GE(dgram_loop_turn(loop, SECOND), 0);
        const int64_t taken = static_cast<int64_t>(monotonic_ns() - start);
        EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == count; }));
        return taken;
    }
    /* Whether any of many such turns was quicker than a sleep: one that is slower proves nothing,
     * since this process may have had to wait. */
    bool some_turn_is_quick(size_t count)
    {
        for (int i = 0; i < 1000; i++) {
            if (turn_takes(count) < LONG_NS) {
                return true;
            }
        }
        return false;
    }

    Inbox inbox;
    Plain peer;
    struct dgram_socket *receiver = nullptr;
    struct dgram_addr to = {};
};

TEST_P(CoalesceTest, TheSleepGoesOnAfterADatagram)
{
    if (!possible()) {
        GTEST_SKIP() << "poll(2) has no sleep as short as that";
    }
    if (getenv("DGRAM_TEST_RUNG") != nullptr) {
        GTEST_SKIP() << "without DEFER_TASKRUN the kernel wakes for each completion";
    }
    int whole =
        0; /* a signal ends it: the ring of the test before goes away now, and that is one */
    for (int i = 0; i < 100; i++) {
        whole += turn_takes(1) >= LONG_NS;
    }
    EXPECT_GE(whole, 90);
}

TEST_P(CoalesceTest, NotWhenSwitchedOff)
{
    begin(DGRAM_COALESCE_OFF);
    EXPECT_TRUE(some_turn_is_quick(1));
}

/* Those who ask wait for an answer. */
TEST_P(CoalesceTest, NotInALoopThatAnswers)
{
    dgram_on_message(
        receiver,
        [](struct dgram_socket *socket, const struct dgram_message *message, void *user) {
            Inbox::take(socket, message, user);
            EXPECT_EQ(dgram_send_to(socket, "yes", 3, message->from, nullptr, nullptr), 0);
        },
        &inbox);
    EXPECT_TRUE(some_turn_is_quick(1));
}

/* The ring counts; epoll cannot. */
TEST_P(CoalesceTest, ManyEndTheSleep)
{
    if (GetParam().number != DGRAM_ENGINE_URING) {
        GTEST_SKIP() << "the poll engine sleeps for the whole time";
    }
    EXPECT_TRUE(some_turn_is_quick(32));
}

/* Or until a signal. */
/* The poll engine asks for twice as many as came last; a turn that gets what it asked for is no
 * sign that there is nothing more. */
TEST_P(CoalesceTest, NotWhileMoreIsThere)
{
    if (GetParam().number != DGRAM_ENGINE_POLL) {
        GTEST_SKIP() << "the ring takes all at once, but for its pauses";
    }
    bool left = false, quick = false;
    for (int i = 0; i < 1000 && !quick; i++) {
        send(1);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
        send(4);
        ASSERT_GE(dgram_loop_turn(loop, SECOND), 0);
        if (inbox.count() == 2) {
            const uint64_t start = monotonic_ns();
            ASSERT_GE(dgram_loop_turn(loop, SECOND), 0);
            quick = monotonic_ns() - start < LONG_NS;
            left = true;
        }
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 4; }));
    }
    EXPECT_TRUE(left);
    EXPECT_TRUE(quick);
}

TEST_P(CoalesceTest, ATurnInWhichNothingComesLastsAsLongAsItMay)
{
    uint64_t longest = 0;
    for (int i = 0; i < 50 && longest < 5 * MILLISECOND; i++) {
        receive_two();
        const uint64_t start = monotonic_ns();
        ASSERT_GE(dgram_loop_turn(loop, 5 * MILLISECOND), 0);
        longest = std::max(longest, monotonic_ns() - start);
        EXPECT_EQ(inbox.count(), 2u);
    }
    EXPECT_GE(longest, static_cast<uint64_t>(5 * MILLISECOND));
}

TEST_P(CoalesceTest, WhatComesAfterItEndsTheSleep)
{
    receive_two();
    std::thread later([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        peer.send("later", to);
    });
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 3; }));
    later.join();
}

TEST_P(CoalesceTest, AThreadIsHeard)
{
    bool heard = false;
    Job job([&](struct dgram_loop *) { heard = true; });
    for (int i = 0; i < 20; i++) {
        receive_two();
        heard = false;
        std::thread other([&] { EXPECT_EQ(dgram_loop_post(loop, Job::call, &job), 0); });
        EXPECT_TRUE(run_until(loop, [&] { return heard; }));
        other.join();
    }
}

TEST_P(CoalesceTest, ATimerIsNotEarly)
{
    uint64_t fired = 0;
    Tick tick([&](struct dgram_timer *) { fired = monotonic_ns(); });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    for (int64_t delay : {LONG_NS / 2, LONG_NS, LONG_NS + LONG_NS / 2, 3 * LONG_NS}) {
        receive_two();
        fired = 0;
        const uint64_t start = dgram_loop_now(loop);
        ASSERT_EQ(dgram_timer_start(timer, delay, 0), 0);
        EXPECT_TRUE(run_until(loop, [&] { return fired != 0; }));
        EXPECT_GE(fired - start, static_cast<uint64_t>(delay));
    }
    dgram_timer_free(timer);
}

INSTANTIATE_ON_HOST_ENGINES(CoalesceTest);

} // namespace
