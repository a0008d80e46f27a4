/* SPDX-License-Identifier: MIT */
/*
 * sim_coalesce.cc: when a loop asks its engine for one wake-up for several datagrams, and when not.
 * Whether engines do it is behaviour_coalesce.cc's.
 */
#include <cerrno>
#include <vector>

#include "tests/sim_pair.h"

namespace
{

constexpr int64_t MICROSECOND = 1000;
constexpr int64_t SECOND = 1000000000;
constexpr int64_t DEFAULT = 20 * MICROSECOND;

class Coalesce : public SimPair
{
  protected:
    void open(uint32_t coalesce_us = 0, uint32_t busy_poll_us = 0, uint32_t slots = 0,
              const struct sim_faults &faults = {})
    {
        struct dgram_loop_options options = {};
        options.coalesce_us = coalesce_us;
        options.busy_poll_us = busy_poll_us;
        options.slots = slots;
        open_pair(options, faults);
    }
    /* Sizes that differ are records that differ. */
    void receive(const std::vector<size_t> &sizes, int64_t within_ns = SECOND)
    {
        static const char bytes[65507] = {};
        for (size_t size : sizes) {
            ASSERT_EQ(dgram_send_to(sender, bytes, size, &to, nullptr, nullptr), 0);
        }
        ASSERT_GE(dgram_loop_turn(far, 0), 0);
        unsigned wanted = received + static_cast<unsigned>(sizes.size());
        const uint64_t later = sim_now() + within_ns; /* all of them are there by then */
        while (sim_now() < later && sim_sleep(later)) {
        }
        for (int i = 0; i < 10 && received < wanted; i++) {
            ASSERT_GE(dgram_loop_turn(near, 0), 0);
        }
        ASSERT_EQ(received, wanted);
    }
    /* What the next wait is told. */
    int64_t asked(int64_t timeout_ns = SECOND)
    {
        EXPECT_GE(dgram_loop_turn(near, timeout_ns), 0);
        return sim_coalesced();
    }
};

TEST_F(Coalesce, AfterTwoDatagramsOfAWait)
{
    open();
    receive({10, 20});
    EXPECT_EQ(asked(), DEFAULT);
    EXPECT_EQ(asked(), 0) << "nothing came in the wait before";
}

TEST_F(Coalesce, WithoutALimitOfTheTurn)
{
    open();
    receive({10, 20});
    ASSERT_EQ(dgram_send_to(sender, "wakes it", 8, &to, nullptr, nullptr), 0);
    ASSERT_GE(dgram_loop_turn(far, 0), 0);
    EXPECT_EQ(asked(-1), DEFAULT);
}

/* Two sleeps, if nothing comes in the first; they last as long as the turn may. */
TEST_F(Coalesce, NothingComesAndTheTurnLastsAsLongAsItMay)
{
    open();
    receive({10, 20});
    uint64_t start = sim_now(), calls = sim_calls();
    EXPECT_EQ(asked(), DEFAULT);
    EXPECT_EQ(sim_calls() - calls, 3u) << "two waits, and the flush at the end";
    EXPECT_GE(sim_now() - start, static_cast<uint64_t>(SECOND));
    EXPECT_LT(sim_now() - start, static_cast<uint64_t>(SECOND + DEFAULT / 2)) << "and not longer";
}

/* Its caller may have waited for a signal, and that may have come. */
TEST_F(Coalesce, NothingComesAndATurnWithoutALimitEnds)
{
    open();
    receive({10, 20});
    uint64_t start = sim_now(), calls = sim_calls();
    EXPECT_EQ(asked(-1), DEFAULT);
    EXPECT_EQ(sim_calls() - calls, 2u) << "one wait, and the flush at the end";
    EXPECT_LT(sim_now() - start, static_cast<uint64_t>(SECOND));
}

/* The first sleep ends before its time, with nothing: so does the turn. */
TEST_F(Coalesce, ASignalEndsTheTurn)
{
    struct sim_faults faults = {};
    faults.early = 1000;
    open(0, 0, 0, faults);
    receive({10, 20});
    uint64_t start = sim_now(), calls = sim_calls();
    EXPECT_EQ(asked(), DEFAULT);
    EXPECT_EQ(sim_calls() - calls, 2u) << "one wait, and the flush at the end";
    EXPECT_LT(sim_now() - start, static_cast<uint64_t>(SECOND));
}

TEST_F(Coalesce, NotAfterOneDatagram)
{
    open();
    receive({10});
    EXPECT_EQ(asked(), 0);
}

/* However many are in it: the next train is as far away as the last. */
TEST_F(Coalesce, NotAfterOneTrain)
{
    open();
    receive(std::vector<size_t>(64, 10));
    EXPECT_EQ(asked(), 0);
}

TEST_F(Coalesce, NotWhenItAnswers)
{
    open();
    answers = true;
    receive({10, 20});
    answers = false;
    receive({10, 20}, SECOND / 1000);
    EXPECT_EQ(asked(), 0) << "it answered a millisecond ago";
    receive({10, 20}, SECOND / 1000);
    EXPECT_EQ(asked(), DEFAULT) << "a second ago";
}

/* The sockets' receive buffers are being filled faster than they are emptied. */
TEST_F(Coalesce, NotWhenItIsBehind)
{
    open();
    std::vector<size_t> sizes;
    for (size_t i = 0; i < 31; i++) {
        sizes.push_back(10 + i);
    }
    receive(sizes);
    EXPECT_EQ(asked(), DEFAULT);
    sizes.push_back(100);
    receive(sizes);
    EXPECT_EQ(asked(), 0) << "32 datagrams";
    receive({32767, 32768});
    EXPECT_EQ(asked(), DEFAULT);
    receive({32767, 32769});
    EXPECT_EQ(asked(), 0) << "64 KiB";
}

/* Few slots: a turn cannot bring more. */
TEST_F(Coalesce, NotWhenHalfTheSlotsAreFull)
{
    open(0, 0, 8);
    receive({10, 20, 30});
    EXPECT_EQ(asked(), DEFAULT);
    receive({10, 20, 30, 40});
    EXPECT_EQ(asked(), 0);
}

TEST_F(Coalesce, NotWithTheFewestSlots)
{
    open(0, 0, 4);
    receive({10, 20});
    EXPECT_EQ(asked(), 0);
}

/* What is queued waits for room, and nobody else would tell the loop of it. */
TEST_F(Coalesce, NotWhileSomethingWaitsToBeSent)
{
    open();
    sim_no_room(number, -EAGAIN, sim_now() + 10 * SECOND);
    ASSERT_EQ(dgram_send_to(receiver, "parked", 6, &to, nullptr, nullptr), 0);
    ASSERT_GE(dgram_loop_turn(near, 0), 0);
    receive({10, 20});
    EXPECT_EQ(asked(), 0);
}

TEST_F(Coalesce, NotInAShorterTurn)
{
    open();
    receive({10, 20});
    EXPECT_EQ(asked(DEFAULT), 0);
    receive({10, 20});
    EXPECT_EQ(asked(DEFAULT + 1), DEFAULT);
    receive({10, 20});
    EXPECT_EQ(asked(0), 0);
}

TEST_F(Coalesce, NotBeforeATimerIsDue)
{
    open();
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(
                  near, [](struct dgram_timer *, void *) {}, nullptr, &timer),
              0);
    receive({10, 20});
    ASSERT_EQ(dgram_timer_start(timer, DEFAULT / 2, 0), 0);
    EXPECT_EQ(asked(), 0);
    dgram_timer_free(timer);
}

TEST_F(Coalesce, ForAsLongAsWished)
{
    open(1000);
    receive({10, 20});
    EXPECT_EQ(asked(), 1000 * MICROSECOND);
}

TEST_F(Coalesce, NotWhenSwitchedOff)
{
    open(DGRAM_COALESCE_OFF);
    receive({10, 20});
    EXPECT_EQ(asked(), 0);
}

TEST_F(Coalesce, NotWhenItSpins)
{
    open(0, 1);
    receive({10, 20});
    EXPECT_EQ(asked(), 0);
}

} // namespace
