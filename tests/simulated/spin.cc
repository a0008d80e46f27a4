/* SPDX-License-Identifier: MIT */
/*
 * spin.cc: when a loop spins before it sleeps, and when not: where its program has not decided,
 * trials decide, in which the CPU of a datagram is compared.
 */
#include <cerrno>

#include "tests/sim/pair.h"

namespace
{

constexpr int64_t MICROSECOND = 1000;
constexpr int64_t MILLISECOND = 1000000;
constexpr int64_t SECOND = 1000000000;
/* As in src/loop/wait.c: a spin, and the waits of a trial. */
constexpr int64_t SPIN = 40 * MICROSECOND;
constexpr unsigned EPOCH = 16, TRIAL = 8 * EPOCH;
constexpr int64_t HOLD = SECOND, REST_LEAST = 20 * MILLISECOND, REST_MOST = 2560 * MILLISECOND;

/* A wake-up costs 10 us of CPU in the simulator: spins of less pay, longer ones do not. */
constexpr uint32_t PAYS = 4 * MICROSECOND, PAYS_NOT = 60 * MICROSECOND;

/* The far loop asks, the near one answers. */
class Spin : public SimPair
{
  protected:
    void open(uint32_t busy_poll_us = 0, uint32_t delay_ns = PAYS)
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
    /* How many of so many waits for a question spin. */
    unsigned spins_of(unsigned waits)
    {
        unsigned spun = 0;
        for (unsigned i = 0; i < waits; i++) {
            const uint64_t before = sim_peeks();
            ask();
            spun += sim_peeks() > before;
        }
        return spun;
    }
    /* As many questions as it takes to find out that spinning pays. */
    void try_it()
    {
        spins_of(TRIAL + 2);
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

TEST_F(Spin, WhereATrialSaysThatItPays)
{
    open();
    EXPECT_FALSE(spins()) << "it has answered nobody yet";
    const unsigned tried = spins_of(TRIAL);
    EXPECT_GE(tried, TRIAL / 2 - 10) << "half of the trial, but for what the first look finds";
    EXPECT_LE(tried, TRIAL / 2);
    EXPECT_GE(spins_of(1000), 900u);
    ask();
    EXPECT_TRUE(spins(SPIN));
    EXPECT_FALSE(spins(SPIN)) << "nothing came in the wait before, though it was short";
    EXPECT_EQ(sim_relaxes(), 0u) << "beside a busy thread that may take milliseconds";
}

TEST_F(Spin, NotWhereItDoesNotPay)
{
    open(0, PAYS_NOT);
    spins_of(2 * TRIAL); /* the first trial, perhaps a hope, and the trial after it */
    EXPECT_EQ(spins_of(100), 0u);
}

/* Trials that fail come at growing intervals: they cost a fiftieth of the waits, and less later. */
TEST_F(Spin, TrialsAreFewAndFewer)
{
    open(0, PAYS_NOT);
    const uint64_t start = sim_now();
    unsigned spun = 0, waits = 0;
    while (sim_now() - start < static_cast<uint64_t>(2 * REST_MOST)) {
        spun += spins_of(100);
        waits += 100;
    }
    EXPECT_GE(spun, TRIAL / 2) << "it did try";
    EXPECT_LE(spun, waits / 50);
}

TEST_F(Spin, IsTriedAgainAndPaysNow)
{
    open(0, PAYS_NOT);
    spins_of(2 * TRIAL);
    sim_delay(PAYS);
    const uint64_t start = sim_now();
    while (spins_of(100) < 90) {
        ASSERT_LT(sim_now() - start, static_cast<uint64_t>(2 * REST_MOST));
    }
}

/* Such a trial was wrong, or is not true any more: a second of spins would be a core's. */
TEST_F(Spin, EndsWhenADatagramCostsMoreThanAsleep)
{
    open();
    try_it();
    EXPECT_GE(spins_of(100), 90u);
    sim_delay(SPIN - 4 * MICROSECOND); /* still found by a spin, which takes longer than a sleep */
    spins_of(3 * EPOCH);
    EXPECT_EQ(spins_of(4 * EPOCH), 0u);
}

/* One epoch asleep and one awake. Nothing is found by a spin, and all comes as late as it came. */
TEST_F(Spin, ATrialWithoutHopeIsAShortOne)
{
    open(0, PAYS_NOT);
    const unsigned spun = spins_of(2 * EPOCH + 2);
    EXPECT_GT(spun, 0u);
    EXPECT_LE(spun, EPOCH);
    EXPECT_EQ(spins_of(2 * EPOCH), 0u) << "the trial is over, and the next one not yet due";
}

/* Half as fast again as before: the other side spins, perhaps. */
TEST_F(Spin, IsTriedAtOnceWhenQuestionsComeFaster)
{
    open(0, PAYS_NOT);
    for (uint64_t start = sim_now(); sim_now() - start < static_cast<uint64_t>(REST_MOST);) {
        spins_of(100);
    }
    while (spins_of(16) > 0) { /* a trial that is under way, to its end */
    }
    const uint64_t start = sim_now();
    while (sim_now() - start < static_cast<uint64_t>(2 * REST_LEAST)) {
        ask();
    }
    sim_delay(PAYS);
    const uint64_t faster = sim_now();
    while (spins_of(16) < 14) {
        ASSERT_LT(sim_now() - faster, static_cast<uint64_t>(100 * MILLISECOND));
    }
}

/* What is known of sleeping is found out again. */
TEST_F(Spin, IsTriedAgainWhileItPays)
{
    open();
    try_it();
    unsigned slept = 0, waits = 0;
    for (uint64_t start = sim_now(); sim_now() - start < static_cast<uint64_t>(HOLD + HOLD / 5);) {
        slept += 100 - spins_of(100);
        waits += 100;
    }
    EXPECT_GE(slept, TRIAL / 2) << "a trial at least, asleep half of the time";
    EXPECT_LE(slept, waits / 10);
}

TEST_F(Spin, IsTriedAnewInTheNextConversation)
{
    open(0, PAYS_NOT);
    for (uint64_t start = sim_now(); sim_now() - start < static_cast<uint64_t>(REST_MOST);) {
        spins_of(100);
    }
    pass(2 * HOLD);
    EXPECT_GE(spins_of(TRIAL + 1), EPOCH - 4);
}

/* What the handlers of messages sent has left, and is told, in the turn that found them. */
TEST_F(Spin, WhatItFoundIsAnsweredBeforeTheRestOfTheTurn)
{
    open();
    try_it();
    asks = true;
    unsigned before = told;
    for (int i = 0; i < 10; i++) {
        const uint64_t peeks = sim_peeks();
        ask();
        if (sim_peeks() > peeks) {
            EXPECT_EQ(told, before + 1) << "in the same turn";
        }
        ASSERT_GE(dgram_loop_turn(near, 0), 0);
        before = told;
    }
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
    try_it();
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
    open();
    try_it();
    ask();
    EXPECT_TRUE(spins());
    sim_delay(5 * SPIN);
    while (ask() <= 2 * SPIN + 2 * MICROSECOND) { /* a wait(0), and what a turn does besides */
    }
    EXPECT_FALSE(spins());
}

TEST_F(Spin, NotInATurnThatMayNotWait)
{
    open();
    try_it();
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
    try_it();
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
    try_it();
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
    try_it();
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

/* The first wait of the spin that is a whole one: its turn says so, and so do all after it. */
TEST_F(Spin, EndsWhenTheEngineBreaks)
{
    open();
    try_it();
    ask();
    ask();
    const uint64_t before = sim_peeks();
    sim_break(2, -EIO); /* a flush comes first */
    EXPECT_EQ(dgram_loop_turn(near, SECOND), -EIO);
    EXPECT_GT(sim_peeks(), before);
    EXPECT_EQ(dgram_loop_turn(near, SECOND), -EIO);
}

} // namespace
