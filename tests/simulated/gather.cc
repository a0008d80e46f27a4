/* SPDX-License-Identifier: MIT */
/*
 * gather.cc: when a loop with a delay budget asks its engine to sleep on whatever comes, for how
 * long, and when not. Whether engines do it is behaviour/wait.cc's.
 */
#include <cerrno>
#include <vector>

#include "tests/sim/pair.h"

namespace
{

constexpr int64_t MICROSECOND = 1000;
constexpr int64_t MILLISECOND = 1000 * MICROSECOND;
constexpr int64_t SECOND = 1000 * MILLISECOND;
constexpr int64_t BUDGET = MILLISECOND;

/* As wait.c has them: the datagrams of a window, and how many of them a budget must bring. */
constexpr unsigned WINDOW = 16;
constexpr unsigned LEAST = 3;

class Gather : public SimPair
{
  protected:
    void open(int64_t budget_ns = BUDGET, uint32_t busy_poll_us = 0, uint32_t slots = 0,
              const struct sim_faults &faults = {})
    {
        struct dgram_loop_options options = {};
        options.max_delay_us = static_cast<uint32_t>(budget_ns / MICROSECOND);
        options.busy_poll_us = busy_poll_us;
        options.slots = slots;
        open_pair(options, faults);
    }
    /* One datagram arrives, and is received by turns that do not sleep. */
    void receive(size_t size)
    {
        static const char bytes[65507] = {};
        const unsigned wanted = received + 1;
        ASSERT_EQ(dgram_send_to(sender, bytes, size, &to, nullptr, nullptr), 0);
        ASSERT_GE(dgram_loop_turn(far, 0), 0);
        for (int i = 0; i < 100 && received < wanted; i++) {
            ASSERT_GE(dgram_loop_turn(near, 0), 0);
        }
        ASSERT_EQ(received, wanted);
    }
    void pass(int64_t ns)
    {
        const uint64_t until = sim_now() + static_cast<uint64_t>(ns);
        while (sim_now() < until && sim_sleep(until)) {
        }
    }
    /* One datagram after the other, so far apart. The loop sleeps after each, and sleeps on after
     * some of them: then time passes there. */
    void traffic(unsigned count, int64_t gap_ns, size_t size = 10)
    {
        for (unsigned i = 0; i < count; i++) {
            const uint64_t due = sim_now() + static_cast<uint64_t>(gap_ns);
            receive(size);
            judge();
            if (sim_now() < due) {
                pass(static_cast<int64_t>(due - sim_now()));
            }
        }
    }
    /* Turns that may sleep, but have no time to: one that sleeps on does so in vain, and the one
     * after it does not, so that the next may again. */
    void judge()
    {
        do {
            ASSERT_GE(dgram_loop_turn(near, 1), 0);
        } while (sim_gathered() != 0);
    }
    /* For how long the next wait sleeps on. */
    int64_t asked(int64_t timeout_ns = SECOND)
    {
        EXPECT_GE(dgram_loop_turn(near, timeout_ns), 0);
        return sim_gathered();
    }
    /* Enough of them for the loop to know, and quick enough for it to gather. */
    void quick(size_t size = 10)
    {
        traffic(2 * WINDOW, BUDGET / 10, size);
    }
};

TEST_F(Gather, WithoutABudgetEverySleepEndsWithWhatComes)
{
    open(0);
    traffic(4 * WINDOW, MICROSECOND);
    EXPECT_EQ(asked(), 0);
}

TEST_F(Gather, TheSleepLastsAsLongAsTheBudget)
{
    open();
    quick();
    EXPECT_EQ(asked(), BUDGET);
}

TEST_F(Gather, AnyBudget)
{
    open(100 * MILLISECOND);
    traffic(2 * WINDOW, 10 * MILLISECOND);
    EXPECT_EQ(asked(), 100 * MILLISECOND);
}

/* Which saves nothing: a wake-up by the clock costs more than one by a datagram. */
TEST_F(Gather, NotForTooFew)
{
    open();
    traffic(4 * WINDOW, BUDGET / 2);
    EXPECT_EQ(asked(), 0);
    traffic(2 * WINDOW, BUDGET / (LEAST + 1));
    EXPECT_EQ(asked(), BUDGET);
    traffic(2 * WINDOW, BUDGET / 2);
    EXPECT_EQ(asked(), 0);
}

/* The first of a burst after a long silence is not delayed. */
TEST_F(Gather, SilenceEndsIt)
{
    open();
    quick();
    pass(SECOND);
    receive(10);
    EXPECT_EQ(asked(), 0);
}

/* A sleep in vain is followed by one that ends with what comes, and that by another that lasts. */
TEST_F(Gather, TwoSleepsInARowAreNotInVain)
{
    open();
    quick();
    EXPECT_EQ(asked(BUDGET), BUDGET) << "and brought nothing";
    ASSERT_EQ(dgram_send_to(sender, "x", 1, &to, nullptr, nullptr), 0);
    ASSERT_GE(dgram_loop_turn(far, 0), 0);
    EXPECT_EQ(asked(), 0);
    EXPECT_EQ(asked(), BUDGET);
}

/* Two sleeps, if nothing comes in the first; they last as long as the turn may. */
TEST_F(Gather, NothingComesAndTheTurnLastsAsLongAsItMay)
{
    open();
    quick();
    uint64_t start = sim_now(), calls = sim_calls();
    EXPECT_EQ(asked(), BUDGET);
    EXPECT_EQ(sim_calls() - calls, 3u) << "two waits, and the flush at the end";
    EXPECT_GE(sim_now() - start, static_cast<uint64_t>(SECOND));
    EXPECT_LT(sim_now() - start, static_cast<uint64_t>(SECOND + BUDGET / 2)) << "and not longer";
}

/* Its caller may have waited for a signal, and that may have come. */
TEST_F(Gather, NothingComesAndATurnWithoutALimitEnds)
{
    open();
    quick();
    uint64_t start = sim_now(), calls = sim_calls();
    EXPECT_EQ(asked(-1), BUDGET);
    EXPECT_EQ(sim_calls() - calls, 2u) << "one wait, and the flush at the end";
    EXPECT_LT(sim_now() - start, static_cast<uint64_t>(SECOND));
}

/* The first sleep ends before its time, with nothing: so does the turn. */
TEST_F(Gather, ASignalEndsTheTurn)
{
    struct sim_faults faults = {};
    faults.early = 1000;
    open(BUDGET, 0, 0, faults);
    quick();
    uint64_t start = sim_now(), calls = sim_calls();
    EXPECT_EQ(asked(), BUDGET);
    EXPECT_EQ(sim_calls() - calls, 2u) << "one wait, and the flush at the end";
    EXPECT_LT(sim_now() - start, static_cast<uint64_t>(SECOND));
}

/* A loop that answers has promised no less. */
TEST_F(Gather, WhenItAnswersToo)
{
    open();
    answers = true;
    quick();
    EXPECT_EQ(asked(), BUDGET);
    EXPECT_EQ(sim_peeks(), 0u) << "nor does it spin";
}

/* At this rate half of the receive buffer, 212,992 bytes here, is full before. */
TEST_F(Gather, NotLongerThanTheReceiveBufferBears)
{
    open();
    traffic(2 * WINDOW, BUDGET / 10, 60000);
    int64_t longest = asked();
    EXPECT_GT(longest, 0);
    /* Ten in the time of the budget, each charged 1,024 bytes and 5/4 of its size. */
    EXPECT_NEAR(static_cast<double>(longest),
                static_cast<double>(BUDGET) * 106496 / (10 * (1024 + 75000)), BUDGET / 50);
}

/* More may be left in the kernel than slots could take. */
TEST_F(Gather, NotWhenHalfTheSlotsWereFilled)
{
    static const char bytes[10] = {};
    open(BUDGET, 0, 8);
    quick();
    for (size_t size = 1; size <= 4; size++) { /* of different sizes: no train */
        ASSERT_EQ(dgram_send_to(sender, bytes, size, &to, nullptr, nullptr), 0);
    }
    ASSERT_GE(dgram_loop_turn(far, 0), 0);
    pass(BUDGET);
    const unsigned before = received;
    ASSERT_GE(dgram_loop_turn(near, 0), 0);
    ASSERT_EQ(received, before + 4);
    EXPECT_EQ(asked(), 0);
}

/* POLLOUT would come too late. */
TEST_F(Gather, NotWhileSomethingWaitsToBeSent)
{
    open();
    quick();
    sim_no_room(number, -EAGAIN, sim_now() + 10 * SECOND);
    ASSERT_EQ(dgram_send_to(receiver, "parked", 6, &to, nullptr, nullptr), 0);
    ASSERT_GE(dgram_loop_turn(near, 0), 0);
    EXPECT_EQ(asked(), 0);
}

TEST_F(Gather, NoLongerThanTheTurn)
{
    open();
    quick();
    EXPECT_EQ(asked(BUDGET / 3), BUDGET / 3);
    EXPECT_EQ(asked(0), 0);
}

TEST_F(Gather, NoLongerThanUntilATimer)
{
    open();
    struct dgram_timer *timer = nullptr;
    uint64_t fired = 0;
    ASSERT_EQ(
        dgram_timer_create(
            near,
            [](struct dgram_timer *, void *user) { *static_cast<uint64_t *>(user) = sim_now(); },
            &fired, &timer),
        0);
    quick();
    const uint64_t due = sim_now() + BUDGET / 2;
    ASSERT_EQ(dgram_timer_start(timer, BUDGET / 2, 0), 0);
    int64_t longest = asked();
    EXPECT_GT(longest, 0);
    EXPECT_LE(longest, BUDGET / 2);
    EXPECT_GE(fired, due);
    EXPECT_LT(fired, due + 10 * MICROSECOND);
    dgram_timer_free(timer);
}

TEST_F(Gather, NotWhenItSpins)
{
    open(BUDGET, 1);
    quick();
    EXPECT_EQ(asked(), 0);
}

/* What a datagram waits for is the budget, and no more: it came when the sleep had just begun. */
TEST_F(Gather, ADatagramIsDeliveredWithinTheBudget)
{
    open();
    quick();
    ASSERT_EQ(dgram_send_to(sender, "x", 1, &to, nullptr, nullptr), 0);
    ASSERT_GE(dgram_loop_turn(far, 0), 0);
    const unsigned before = received;
    const uint64_t start = sim_now();
    while (received == before) {
        ASSERT_GE(dgram_loop_turn(near, SECOND), 0);
    }
    EXPECT_LE(sim_now() - start, static_cast<uint64_t>(BUDGET + 10 * MICROSECOND));
}

} // namespace
