/* SPDX-License-Identifier: MIT */
/*
 * sim_spin.cc: when a loop spins before it sleeps, and when not: what its program has not decided
 * is decided by what spins have saved and cost.
 */
#include <cerrno>

#include "tests/sim_pair.h"

namespace
{

constexpr int64_t MICROSECOND = 1000;
constexpr int64_t MILLISECOND = 1000000;
constexpr int64_t SECOND = 1000000000;
/* As in src/wait.c. */
constexpr int64_t SPIN = 40 * MICROSECOND, WORTH = 10 * MICROSECOND, CREDIT = MILLISECOND;
constexpr int64_t ALLOWANCE = 64;

/* The far loop asks, the near one answers. */
class Spin : public SimPair
{
  protected:
    void open(uint32_t busy_poll_us = 0, uint32_t delay_ns = 0)
    {
        struct dgram_loop_options options = {};
        struct sim_faults faults = {};
        options.busy_poll_us = busy_poll_us;
        faults.delay_ns = delay_ns;
        answers = true;
        open_pair(options, faults);
    }
    /* A question, and what the loop waits for it. */
    int64_t ask()
    {
        EXPECT_EQ(dgram_send_to(sender, "what", 4, &to, nullptr, nullptr), 0);
        EXPECT_GE(dgram_loop_turn(far, 0), 0);
        const unsigned wanted = received + 1;
        const uint64_t start = sim_now();
        EXPECT_GE(dgram_loop_turn(near, SECOND), 0);
        EXPECT_EQ(received, wanted);
        EXPECT_LE(sim_now() - dgram_loop_now(near), static_cast<uint64_t>(2 * MICROSECOND))
            << "the loop's clock is that of an earlier wait";
        return static_cast<int64_t>(sim_now() - start);
    }
    /* Until a wait took no longer, or longer, than that. */
    void ask_quickly()
    {
        while (ask() > 2 * SPIN) {
        }
    }
    void ask_slowly()
    {
        while (ask() <= 2 * SPIN + 2 * MICROSECOND) { /* a wait(0), and what a turn does besides */
        }
    }
    /* How many of 1,000 waits for a question spin. */
    unsigned spins_of_thousand()
    {
        unsigned spun = 0;
        for (int i = 0; i < 1000; i++) {
            const uint64_t before = sim_peeks();
            ask();
            spun += sim_peeks() > before;
        }
        return spun;
    }
    /* Whether the next turn, in which nothing comes, spins. */
    bool spins(int64_t timeout_ns = MILLISECOND)
    {
        const uint64_t before = sim_peeks();
        EXPECT_GE(dgram_loop_turn(near, timeout_ns), 0);
        return sim_peeks() > before;
    }
    void pass(int64_t ns)
    {
        const uint64_t until = sim_now() + static_cast<uint64_t>(ns);
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(
                      far, [](struct dgram_timer *, void *) {}, nullptr, &timer),
                  0);
        ASSERT_EQ(dgram_timer_start(timer, ns, 0), 0);
        while (sim_now() < until) {
            ASSERT_GE(dgram_loop_turn(far, -1), 0);
        }
        dgram_timer_free(timer);
    }
};

TEST_F(Spin, AfterAShortWaitInALoopThatAnswers)
{
    open();
    EXPECT_FALSE(spins()) << "it has answered nobody yet";
    ask();
    ask();
    EXPECT_TRUE(spins(SPIN));
    EXPECT_FALSE(spins(SPIN)) << "nothing came in the wait before, though it was short";
}

/* What the handlers of messages sent has left, and is told, in the turn that found them. */
TEST_F(Spin, WhatItFoundIsAnsweredBeforeTheRestOfTheTurn)
{
    open();
    asks = true;
    for (unsigned slept = 0; slept < 2; slept++) {
        ask();
        EXPECT_EQ(told, slept) << "the next turn tells of what was sent in a turn that slept";
        ASSERT_GE(dgram_loop_turn(near, 0), 0);
        EXPECT_EQ(told, slept + 1);
    }
    const uint64_t before = sim_peeks();
    ask();
    ASSERT_GT(sim_peeks(), before) << "it did not spin";
    EXPECT_EQ(told, 3u);
}

TEST_F(Spin, NotInALoopThatOnlyListens)
{
    open();
    answers = false;
    for (int i = 0; i < 10; i++) {
        ask();
        EXPECT_FALSE(spins());
    }
}

TEST_F(Spin, NotWhenItsLastAnswerIsLongAgo)
{
    open();
    for (bool lately : {true, false}) {
        answers = true;
        ask();
        answers = false;
        pass(lately ? 9 * MILLISECOND : 11 * MILLISECOND);
        ask();
        EXPECT_EQ(spins(), lately);
    }
}

TEST_F(Spin, NotAfterALongWait)
{
    open(0, 200 * MICROSECOND);
    ask();
    ask_quickly();
    EXPECT_TRUE(spins());
    ask_slowly();
    EXPECT_FALSE(spins());
}

TEST_F(Spin, NotInATurnThatMayNotWait)
{
    open();
    ask();
    ask();
    EXPECT_FALSE(spins(0));
}

TEST_F(Spin, NotWhenSwitchedOff)
{
    open(DGRAM_BUSY_POLL_OFF);
    for (int i = 0; i < 10; i++) {
        ask();
        ask();
        EXPECT_FALSE(spins());
    }
}

/* Whatever it costs, and in a loop that answers nobody. */
TEST_F(Spin, AlwaysIfTheProgramSaysSo)
{
    open(500);
    answers = false;
    for (int i = 0; i < 100; i++) {
        const uint64_t start = sim_now();
        EXPECT_TRUE(spins(SECOND));
        EXPECT_GE(sim_now() - start, static_cast<uint64_t>(SECOND)) << "and it sleeps, then";
    }
    EXPECT_GT(sim_relaxes(), 100u) << "the only CPU may be needed by those for whom it looks";
}

TEST_F(Spin, NothingComesAndTheTurnLastsAsLongAsItMay)
{
    open();
    ask();
    ask();
    const uint64_t start = sim_now();
    EXPECT_TRUE(spins(SECOND));
    EXPECT_GE(sim_now() - start, static_cast<uint64_t>(SECOND));
    EXPECT_LT(sim_now() - start, static_cast<uint64_t>(SECOND + SPIN / 2)) << "and not longer";
}

/* Its caller may have waited for a signal, and that may have come while it looked. */
TEST_F(Spin, NothingComesAndATurnWithoutALimitEnds)
{
    open();
    ask();
    ask();
    const uint64_t start = sim_now();
    EXPECT_TRUE(spins(-1));
    EXPECT_GE(sim_now() - start, static_cast<uint64_t>(SPIN));
    EXPECT_LT(sim_now() - start, static_cast<uint64_t>(2 * SPIN));
}

TEST_F(Spin, NoLongerThanUntilATimerIsDue)
{
    open();
    uint64_t fired = 0;
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(
        dgram_timer_create(
            near,
            [](struct dgram_timer *, void *user) { *static_cast<uint64_t *>(user) = sim_now(); },
            &fired, &timer),
        0);
    ask();
    ask();
    const uint64_t due = sim_now() + SPIN / 4;
    ASSERT_EQ(dgram_timer_start(timer, SPIN / 4, 0), 0);
    EXPECT_TRUE(spins());
    EXPECT_GE(fired, due);
    EXPECT_LT(fired, due + SPIN / 4);
    dgram_timer_free(timer);
}

/* A wait of less than a wake-up's worth earns, and so it may go on. */
TEST_F(Spin, ForEverIfItPays)
{
    open(0, 2 * WORTH - 4 * MICROSECOND);
    ask();
    ask();
    EXPECT_GE(spins_of_thousand(), 980u)
        << "but for what the first look finds, which is a whole wait then";
    EXPECT_TRUE(spins());
    EXPECT_EQ(sim_relaxes(), 0u) << "beside a busy thread that may take milliseconds";
}

/* A wait of more costs more than it saves, and so it ends. */
TEST_F(Spin, NotForLongIfItDoesNotPay)
{
    open(0, 6 * WORTH);
    ask();
    ask();
    const unsigned spun = spins_of_thousand();
    EXPECT_GE(spun, CREDIT / SPIN);
    EXPECT_LE(spun, 200u);
}

/* The first wait of the spin that is a whole one: its turn says so, and so do all after it. */
TEST_F(Spin, EndsWhenTheEngineBreaks)
{
    open();
    ask();
    ask();
    const uint64_t before = sim_peeks();
    sim_break(2, -EIO); /* a flush comes first */
    EXPECT_EQ(dgram_loop_turn(near, SECOND), -EIO);
    EXPECT_GT(sim_peeks(), before);
    EXPECT_EQ(dgram_loop_turn(near, SECOND), -EIO);
}

/* That was there already: no wake-up is saved, and nothing is earned. */
TEST_F(Spin, EarnsNothingByWhatItFindsAtOnce)
{
    open();
    ask();
    ask();
    unsigned spun = 0;
    for (int i = 0; i < 400; i++) {
        for (int64_t earned = 0; earned <= SPIN; earned += WORTH) {
            ask();
        }
        spun += spins(2 * SPIN);
    }
    EXPECT_LE(spun, 100u);
}

/* Every second wait is short and the others are not: each spin is in vain. */
TEST_F(Spin, NotBeyondWhatWakeUpsCost)
{
    open();
    ask();
    const uint64_t start = sim_now();
    int64_t spent = 0;
    unsigned refused = 0;
    for (int i = 0; i < 2000; i++) {
        ask();
        if (spins(2 * SPIN)) {
            spent += SPIN;
        } else {
            refused++;
        }
        const int64_t elapsed = static_cast<int64_t>(sim_now() - start);
        ASSERT_LE(spent, CREDIT + elapsed / ALLOWANCE + SPIN) << i;
    }
    const int64_t elapsed = static_cast<int64_t>(sim_now() - start);
    EXPECT_GE(spent, (CREDIT + elapsed / ALLOWANCE) / 2) << "most of the credit is used";
    EXPECT_GE(refused, 1800u);
}

TEST_F(Spin, AgainAfterAWhile)
{
    open();
    ask();
    ask();
    while (spins(2 * SPIN)) {
        ask();
    }
    pass(SECOND);
    ask();
    ask(); /* the pause was a long wait */
    unsigned spun = 0;
    while (spins(2 * SPIN)) {
        spun++;
        ask();
    }
    EXPECT_GE(spun, CREDIT / SPIN) << "the whole credit is back";
    EXPECT_LE(spun, 2 * CREDIT / (SPIN - WORTH)) << "and not more of it";
}

} // namespace
