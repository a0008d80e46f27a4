/* SPDX-License-Identifier: MIT */
/*
 * timer.cc: timers: order, intervals, what callbacks do with them, and that none is early.
 */
#include <algorithm>
#include <memory>
#include <random>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Timer : public EngineTest
{
  protected:
    struct dgram_timer *make(Tick *tick)
    {
        struct dgram_timer *timer = nullptr;
        EXPECT_EQ(dgram_timer_create(loop, Tick::call, tick, &timer), 0);
        return timer;
    }
};

/* They let time pass outside the loop. */
class HostTimer : public Timer
{
};

INSTANTIATE_ON_ALL_ENGINES(Timer);
INSTANTIATE_ON_HOST_ENGINES(HostTimer);

TEST_P(Timer, FiresOnceAndNeverEarly)
{
    for (int64_t delay : {int64_t(0), int64_t(1), int64_t(1000), MILLISECOND, 3 * MILLISECOND + 1,
                          20 * MILLISECOND}) {
        SCOPED_TRACE(delay);
        int ticks = 0;
        uint64_t fired = 0;
        struct dgram_timer *timer = nullptr;
        Tick tick([&](struct dgram_timer *which) {
            EXPECT_EQ(which, timer);
            fired = monotonic_ns();
            ticks++;
        });
        timer = make(&tick);
        const uint64_t before = monotonic_ns();
        ASSERT_EQ(dgram_timer_start(timer, delay, 0), 0);
        EXPECT_EQ(ticks, 0); /* never inside the call */
        EXPECT_EQ(dgram_loop_run(loop), 0);
        EXPECT_EQ(ticks, 1);
        EXPECT_GE(fired, before + static_cast<uint64_t>(delay));
        EXPECT_EQ(dgram_loop_run(loop), 0);
        EXPECT_EQ(ticks, 1);
        EXPECT_EQ(dgram_timer_free(timer), nullptr);
    }
}

/* "From now" is when it is started, not when the turn began. */
TEST_P(HostTimer, StartedLateInALongCallbackIsNotEarly)
{
    uint64_t started = 0, fired = 0;
    Tick second([&](struct dgram_timer *) { fired = monotonic_ns(); });
    struct dgram_timer *timer = make(&second);
    Tick first([&](struct dgram_timer *) {
        spend(10 * MILLISECOND);
        started = monotonic_ns();
        EXPECT_EQ(dgram_timer_start(timer, 5 * MILLISECOND, 0), 0);
    });
    struct dgram_timer *starter = make(&first);
    ASSERT_EQ(dgram_timer_start(starter, 0, 0), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_GE(fired, started + 5 * MILLISECOND);
}

TEST_P(Timer, OfNoDelayIsDueInTheNextTurn)
{
    int ticks = 0;
    Tick tick([&](struct dgram_timer *) { ticks++; });
    ASSERT_EQ(dgram_timer_start(make(&tick), 0, 0), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 0);
    EXPECT_EQ(ticks, 1);
}

TEST_P(Timer, FiresInTheOrderOfTheDeadlines)
{
    Recorder log;
    Tick a([&](struct dgram_timer *) { log.add("a"); });
    Tick b([&](struct dgram_timer *) { log.add("b"); });
    Tick c([&](struct dgram_timer *) { log.add("c"); });
    ASSERT_EQ(dgram_timer_start(make(&c), 300 * MILLISECOND, 0), 0);
    ASSERT_EQ(dgram_timer_start(make(&a), 1 * MILLISECOND, 0), 0);
    ASSERT_EQ(dgram_timer_start(make(&b), 150 * MILLISECOND, 0), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(log.text(), "a b c");
}

/* Many with random delays, some restarted, some stopped. Whatever the scheduler does: one whose
 * deadline surely lies before another's fires before it. */
TEST_P(Timer, ManyFireInTheOrderOfTheirDeadlines)
{
    struct Item {
        struct dgram_timer *timer = nullptr;
        uint64_t earliest = 0, latest = 0;
        bool stopped = false;
        int ticks = 0;
        std::unique_ptr<Tick> tick;
    };
    std::mt19937 random(7);
    std::vector<Item> items(1000);
    std::vector<Item *> fired;
    for (Item &item : items) {
        item.tick = std::make_unique<Tick>([&](struct dgram_timer *) {
            EXPECT_GE(monotonic_ns(), item.earliest);
            EXPECT_FALSE(item.stopped);
            item.ticks++;
            fired.push_back(&item);
        });
        item.timer = make(item.tick.get());
        for (int starts = random() % 4 == 0 ? 2 : 1; starts > 0; starts--) {
            const uint64_t delay = random() % (30 * MILLISECOND);
            item.earliest = monotonic_ns() + delay;
            ASSERT_EQ(dgram_timer_start(item.timer, static_cast<int64_t>(delay), 0), 0);
            item.latest = monotonic_ns() + delay;
        }
    }
    for (Item &item : items) {
        if (random() % 5 == 0) {
            item.stopped = true;
            ASSERT_EQ(dgram_timer_stop(item.timer), 0);
        }
    }
    EXPECT_EQ(dgram_loop_run(loop), 0);
    uint64_t latest_earliest = 0;
    for (Item *item : fired) {
        EXPECT_GE(item->latest, latest_earliest);
        latest_earliest = std::max(latest_earliest, item->earliest);
    }
    for (Item &item : items) {
        EXPECT_EQ(item.ticks, item.stopped ? 0 : 1);
    }
}

TEST_P(Timer, IntervalRepeatsAndIsNeverEarly)
{
    int ticks = 0;
    uint64_t before = 0;
    Tick tick([&](struct dgram_timer *timer) {
        EXPECT_GE(monotonic_ns(), before + (3 + 2 * static_cast<uint64_t>(ticks)) * MILLISECOND);
        if (++ticks == 10) {
            EXPECT_EQ(dgram_timer_stop(timer), 0);
        }
    });
    struct dgram_timer *timer = make(&tick);
    before = monotonic_ns();
    ASSERT_EQ(dgram_timer_start(timer, 3 * MILLISECOND, 2 * MILLISECOND), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(ticks, 10);
}

/* Periods that passed unserved are skipped: after a long callback no volley of calls follows. */
TEST_P(HostTimer, MissedPeriodsAreNotMadeUpFor)
{
    const uint64_t interval = 10 * MILLISECOND;
    uint64_t block_end = 0, calls_after = 0;
    Tick tick([&](struct dgram_timer *timer) {
        if (block_end == 0) {
            spend(85 * MILLISECOND);
            block_end = monotonic_ns();
            return;
        }
        calls_after++;
        /* At most the period under way and the one just missed come at once. */
        if (calls_after > 2) {
            EXPECT_GE(monotonic_ns(), block_end + (calls_after - 2) * interval);
        }
        if (calls_after == 6) {
            EXPECT_EQ(dgram_timer_stop(timer), 0);
        }
    });
    ASSERT_EQ(dgram_timer_start(make(&tick), 0, static_cast<int64_t>(interval)), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(calls_after, 6u);
}

TEST_P(Timer, RestartReplacesTheDeadline)
{
    Recorder log;
    Tick later([&](struct dgram_timer *) { log.add("later"); });
    Tick sooner([&](struct dgram_timer *) { log.add("sooner"); });
    Tick witness([&](struct dgram_timer *) { log.add("witness"); });
    struct dgram_timer *postponed = make(&later), *advanced = make(&sooner);
    ASSERT_EQ(dgram_timer_start(postponed, 0, 1), 0);
    ASSERT_EQ(dgram_timer_start(postponed, HOUR, 0), 0);
    ASSERT_EQ(dgram_timer_start(advanced, HOUR, 0), 0);
    ASSERT_EQ(dgram_timer_start(advanced, 0, 0), 0);
    ASSERT_EQ(dgram_timer_start(make(&witness), 20 * MILLISECOND, 0), 0);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("witness") == 1; }));
    EXPECT_EQ(log.text(), "sooner witness");
    EXPECT_EQ(dgram_loop_turn(loop, 0), 1); /* `postponed` still runs */
    ASSERT_EQ(dgram_timer_stop(postponed), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 0);
}

TEST_P(Timer, MayBeRestartedAndStoppedInItsCallback)
{
    int ticks = 0;
    Tick tick([&](struct dgram_timer *timer) {
        if (++ticks < 5) {
            EXPECT_EQ(dgram_timer_start(timer, 0, 0), 0);
        } else if (ticks == 5) {
            EXPECT_EQ(dgram_timer_start(timer, 0, MILLISECOND), 0);
        } else if (ticks == 8) {
            EXPECT_EQ(dgram_timer_stop(timer), 0);
            EXPECT_EQ(dgram_timer_stop(timer), 0);
        }
    });
    ASSERT_EQ(dgram_timer_start(make(&tick), 0, HOUR), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(ticks, 8);
}

/* A timer that restarts itself with no delay does not hold the turn. */
TEST_P(Timer, OfNoDelayRestartedForeverDoesNotHoldATurn)
{
    int ticks = 0;
    bool posted = false;
    Tick tick([&](struct dgram_timer *timer) {
        ticks++;
        EXPECT_EQ(dgram_timer_start(timer, 0, 0), 0);
    });
    struct dgram_timer *timer = make(&tick);
    ASSERT_EQ(dgram_timer_start(timer, 0, 0), 0);
    for (int i = 0; i < 10; i++) {
        EXPECT_EQ(dgram_loop_turn(loop, -1), 1);
    }
    EXPECT_GE(ticks, 9);
    Job job([&](struct dgram_loop *) { posted = true; });
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    ASSERT_TRUE(run_until(loop, [&] { return posted; }));
}

TEST_P(Timer, MayBeFreedInItsCallback)
{
    int ticks = 0;
    Tick tick([&](struct dgram_timer *timer) {
        ticks++;
        EXPECT_EQ(dgram_timer_free(timer), nullptr);
    });
    for (int64_t interval : {int64_t(0), int64_t(1), MILLISECOND}) {
        ASSERT_EQ(dgram_timer_start(make(&tick), 0, interval), 0);
    }
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(ticks, 3);
    EXPECT_EQ(dgram_timer_free(nullptr), nullptr);
}

/* Stopped or freed by another one that is due in the same turn: no call follows. */
TEST_P(HostTimer, StoppedByAnotherDueTimerIsNotCalled)
{
    for (bool free_it : {false, true}) {
        SCOPED_TRACE(free_it);
        int ticks = 0;
        bool done = false;
        struct dgram_timer *timers[2] = {};
        std::vector<std::unique_ptr<Tick>> fns;
        for (int i = 0; i < 2; i++) {
            fns.push_back(std::make_unique<Tick>([&, i](struct dgram_timer *) {
                ticks++;
                if (free_it) {
                    dgram_timer_free(timers[1 - i]);
                } else {
                    EXPECT_EQ(dgram_timer_stop(timers[1 - i]), 0);
                }
            }));
            timers[i] = make(fns.back().get());
            ASSERT_EQ(dgram_timer_start(timers[i], MILLISECOND, 0), 0);
        }
        Tick witness([&](struct dgram_timer *) { done = true; });
        ASSERT_EQ(dgram_timer_start(make(&witness), 2 * MILLISECOND, 0), 0);
        spend(3 * MILLISECOND);
        ASSERT_TRUE(run_until(loop, [&] { return done; }));
        EXPECT_EQ(ticks, 1);
    }
}

TEST_P(Timer, UnrefLetsTheLoopEnd)
{
    int ticks = 0;
    Tick tick([&](struct dgram_timer *) { ticks++; });
    struct dgram_timer *timer = make(&tick);
    EXPECT_EQ(dgram_timer_unref(timer), 0);
    EXPECT_EQ(dgram_timer_unref(timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, HOUR, 0), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(dgram_timer_ref(timer), 0);
    EXPECT_EQ(dgram_timer_ref(timer), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 1);
    EXPECT_EQ(dgram_timer_unref(timer), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 0);
    /* It fires all the same while something else keeps the loop running. */
    struct dgram_socket *socket = open_bound(loop);
    ASSERT_NE(socket, nullptr);
    ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, 0), 0);
    ASSERT_TRUE(run_until(loop, [&] { return ticks == 1; }));
}

TEST_P(Timer, StoppedOrFreedOneDoesNotKeepTheLoopAlive)
{
    Tick tick([](struct dgram_timer *) { ADD_FAILURE() << "called"; });
    struct dgram_timer *never = make(&tick), *stopped = make(&tick), *freed = make(&tick);
    ASSERT_NE(never, nullptr);
    ASSERT_EQ(dgram_timer_start(stopped, HOUR, HOUR), 0);
    ASSERT_EQ(dgram_timer_start(freed, HOUR, HOUR), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 1);
    EXPECT_EQ(dgram_timer_stop(stopped), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 1);
    EXPECT_EQ(dgram_timer_free(freed), nullptr);
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

TEST_P(Timer, RefusesNegativeTimesAndTakesHugeOnes)
{
    Tick tick([](struct dgram_timer *) { ADD_FAILURE() << "called"; });
    struct dgram_timer *timer = make(&tick);
    EXPECT_EQ(dgram_timer_start(timer, -1, 0), DGRAM_EBADTIME);
    EXPECT_EQ(dgram_timer_start(timer, 0, -1), DGRAM_EBADTIME);
    EXPECT_EQ(dgram_timer_start(timer, INT64_MIN, INT64_MIN), DGRAM_EBADTIME);
    EXPECT_EQ(dgram_loop_run(loop), 0); /* was not started */
    ASSERT_EQ(dgram_timer_start(timer, INT64_MAX, INT64_MAX), 0);
    EXPECT_EQ(dgram_timer_start(timer, -5, 0), DGRAM_EBADTIME);
    struct dgram_socket *socket = open_bound(loop);
    expect_echo(loop, socket); /* sleeps with that deadline */
    EXPECT_EQ(dgram_timer_stop(timer), 0);
}

} /* namespace */
