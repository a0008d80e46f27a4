/* SPDX-License-Identifier: MIT */
/*
 * fairness.cc: how long a turn may last, and the end of a socket that receives, on the host's
 * network; simulated/turn.cc has exact bounds.
 */
#include <gtest/gtest.h>

#include <ctime>
#include <string>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class FairTurn : public EngineTest
{
  protected:
    /* So many lone datagrams, or trains of them, lie in the kernel's buffer of `receiver` then. */
    void fill(struct dgram_socket *receiver, unsigned count, uint32_t segments)
    {
        struct dgram_loop_options options = {};
        options.size = sizeof(options);
        options.segments_max = segments;
        struct dgram_loop *other = make_loop(&options);
        ASSERT_NE(other, nullptr);
        struct dgram_socket *sender = open_socket(other);
        struct dgram_addr to = address_of(receiver);
        for (unsigned i = 0; i < count; i++) {
            ASSERT_EQ(dgram_send_to(sender, "datagram", 8, &to, nullptr, nullptr), 0);
        }
        ASSERT_EQ(dgram_loop_flush(other), 0);
        dgram_loop_free(other);
    }
};
INSTANTIATE_ON_HOST_ENGINES(FairTurn);

void burn(long microseconds)
{
    struct timespec now = {}, begin = {};
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000000 + (now.tv_nsec - begin.tv_nsec) / 1000 <
             microseconds);
}

/* Handlers of 200 us and a timer of 1 ms: it must fire again and again between the deliveries. */
TEST_P(FairTurn, TimersFireBetweenTheMessagesOfATrain)
{
    unsigned got = 0, ticks_between = 0;
    struct dgram_socket *receiver = open_bound(loop);
    struct dgram_timer *timer = nullptr;
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *) {
        got++;
        burn(200);
    };
    on.attach(receiver);
    struct Ticks {
        unsigned *got, *between;
    } ticks = {&got, &ticks_between};
    ASSERT_EQ(dgram_timer_create(
                  loop,
                  [](struct dgram_timer *, void *user) {
                      const Ticks *t = static_cast<Ticks *>(user);
                      *t->between += *t->got > 0 && *t->got < 128;
                  },
                  &ticks, &timer),
              0);
    ASSERT_EQ(dgram_timer_start(timer, 1, 1000000), 0);
    ASSERT_NO_FATAL_FAILURE(fill(receiver, 128, 0));
    ASSERT_TRUE(run_until(loop, [&] { return got == 128; }));
    EXPECT_GE(ticks_between, 3u);
    dgram_timer_free(timer);
    EXPECT_EQ(stats_of(receiver).discarded, 0u);
}

TEST_P(FairTurn, EndDeliversAndCloseCountsWhatTheKernelHolds)
{
    for (uint32_t segments : {1u, 0u}) {
        for (bool end : {true, false}) {
            SCOPED_TRACE(testing::Message() << segments << (end ? " end" : " close"));
            struct dgram_socket_stats final = {};
            struct dgram_socket *receiver = open_bound(loop);
            bool closed = false;
            uint64_t got = 0;
            Handlers on;
            on.message = [&](struct dgram_socket *, const struct dgram_message *) { got++; };
            on.close = [&](struct dgram_socket *socket) {
                final = stats_of(socket);
                closed = true;
            };
            on.attach(receiver);
            ASSERT_GE(dgram_loop_turn(loop, 0), 0);
            ASSERT_NO_FATAL_FAILURE(fill(receiver, 200, segments));
            ASSERT_EQ(end ? dgram_end(receiver) : dgram_close(receiver), 0);
            EXPECT_EQ(dgram_end(receiver), DGRAM_ENOTRUNNING);
            ASSERT_EQ(dgram_loop_run(loop), 0);
            ASSERT_TRUE(closed);
            EXPECT_EQ(got, end ? 200u : 0u);
            EXPECT_EQ(final.received, end ? 200u : 0u);
            EXPECT_EQ(final.discarded, end ? 0u : 200u);
            EXPECT_EQ(final.dropped, 0u);
        }
    }
}

/* Nothing was queued, and there was no turn yet: the handlers are called all the same. */
TEST_P(FairTurn, EndBeforeTheFirstTurnDelivers)
{
    std::string events;
    struct dgram_socket *receiver = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *) { events += "listening "; };
    on.message = [&](struct dgram_socket *, const struct dgram_message *) { events += "m"; };
    on.close = [&](struct dgram_socket *) { events += " close"; };
    on.attach(receiver);
    ASSERT_NO_FATAL_FAILURE(fill(receiver, 3, 1));
    ASSERT_EQ(dgram_end(receiver), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(events, "listening mmm close");
}

/* An unref'd socket that ends keeps the loop running until it is closed. */
TEST_P(FairTurn, EndOfAnUnrefdSocketIsAwaited)
{
    unsigned got = 0;
    struct dgram_socket *receiver = open_bound(loop);
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *) { got++; };
    on.attach(receiver);
    ASSERT_EQ(dgram_unref(receiver), 0);
    ASSERT_NO_FATAL_FAILURE(fill(receiver, 100, 1));
    ASSERT_EQ(dgram_end(receiver), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(got, 100u);
}

TEST_P(FairTurn, EndOfAPausedSocketCounts)
{
    struct dgram_socket_stats final = {};
    struct dgram_socket *receiver = open_bound(loop);
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *) { FAIL(); };
    on.close = [&](struct dgram_socket *socket) { final = stats_of(socket); };
    on.attach(receiver);
    ASSERT_EQ(dgram_pause(receiver), 0);
    ASSERT_NO_FATAL_FAILURE(fill(receiver, 100, 1));
    ASSERT_EQ(dgram_end(receiver), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(final.discarded, 100u);
}

} /* namespace */
