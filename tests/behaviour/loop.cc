/* SPDX-License-Identifier: MIT */
/*
 * behaviour_loop.cc: the loop: timers, posts, stop, turns, threads, fork, the descriptor for other
 * event loops, the choice of the engine.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <thread>

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
class Post : public EngineTest
{
};
class PostHost : public EngineTest
{
};
class Turn : public EngineTest
{
};

/* They let time pass outside the loop. */
class HostTurn : public Turn
{
};
class BusyPoll : public EngineTest
{
};
class Threads : public EngineTest
{
};
class Stop : public EngineTest
{
};
class Fork : public EngineTest
{
};
class Embed : public EngineTest
{
  protected:
    void SetUp() override
    {
        EngineTest::SetUp();
        if (IsSkipped() || HasFatalFailure()) {
            return;
        }
        fd_ = dgram_loop_fd(loop);
        if (fd_ == -ENOTSUP) {
            GTEST_SKIP() << "this host has only poll(2)";
        }
        ASSERT_GE(fd_, 0) << dgram_error_name(fd_);
        epoll_ = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = {};
        event.events = EPOLLIN;
        ASSERT_EQ(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd_, &event), 0);
    }
    void TearDown() override
    {
        if (epoll_ >= 0) {
            close(epoll_);
        }
        EngineTest::TearDown();
    }

    bool readable() const
    {
        struct epoll_event event = {};
        return epoll_wait(epoll_, &event, 1, 0) == 1;
    }

    /* As another event loop would: sleeps on the descriptor only, then turns without sleeping. */
    bool drive(const std::function<bool()> &done)
    {
        while (!done()) {
            struct epoll_event event = {};
            int count;
            do {
                count = epoll_wait(epoll_, &event, 1, static_cast<int>(10000 * patience()));
            } while (count < 0 && errno == EINTR);
            if (count != 1) {
                ADD_FAILURE() << "the descriptor did not become readable";
                return false;
            }
            int code = dgram_loop_turn(loop, 0);
            if (code < 0) {
                ADD_FAILURE() << dgram_error_name(code);
                return false;
            }
        }
        return true;
    }

    /* Turns until the descriptor is not readable; it must not stay so with nothing to do. */
    void quiet()
    {
        for (int i = 0; i < 100 && readable(); i++) {
            ASSERT_GE(dgram_loop_turn(loop, 0), 0);
        }
        EXPECT_FALSE(readable()) << "readable though a turn has nothing to do";
    }

    int fd_ = -1, epoll_ = -1;
};
class Info : public EngineTest
{
};
class EngineChoice : public HostTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Timer);
INSTANTIATE_ON_HOST_ENGINES(HostTimer);
INSTANTIATE_ON_ALL_ENGINES(Post);
INSTANTIATE_ON_HOST_ENGINES(PostHost);
INSTANTIATE_ON_ALL_ENGINES(Turn);
INSTANTIATE_ON_HOST_ENGINES(HostTurn);
INSTANTIATE_ON_HOST_ENGINES(BusyPoll);
INSTANTIATE_ON_HOST_ENGINES(Threads);
INSTANTIATE_ON_HOST_ENGINES(Stop);
INSTANTIATE_ON_HOST_ENGINES(Fork);
INSTANTIATE_ON_HOST_ENGINES(Embed);
INSTANTIATE_ON_HOST_ENGINES(Info);

/* Keeps the thread busy for real. */
void spend(int64_t nanoseconds)
{
    const uint64_t until = monotonic_ns() + static_cast<uint64_t>(nanoseconds);
    while (monotonic_ns() < until) {
    }
}

/* ---- Timers -------------------------------------------------------------------------------- */

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

/* ---- Posts --------------------------------------------------------------------------------- */

TEST_P(Post, RunsOnceInATurnAndKeepsTheLoopAlive)
{
    Recorder log;
    Job job([&](struct dgram_loop *which) {
        EXPECT_EQ(which, loop);
        log.add("ran");
    });
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    log.add("returned");
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(log.text(), "returned ran");
}

TEST_P(Post, FromAPostedFunctionRunsAndDoesNotHoldATurn)
{
    int runs = 0;
    bool nested = false;
    Job job([&](struct dgram_loop *which) {
        EXPECT_FALSE(nested);
        nested = true;
        runs++;
        if (runs < 1000) {
            EXPECT_EQ(dgram_loop_post(which, Job::call, &job), 0);
        }
        nested = false;
    });
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 1);
    EXPECT_LT(runs, 1000);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(runs, 1000);
}

TEST_P(Post, RunsInOrder)
{
    std::vector<int> order;
    std::deque<Job> jobs;
    for (int i = 0; i < 1000; i++) {
        jobs.emplace_back([&order, i](struct dgram_loop *) { order.push_back(i); });
        ASSERT_EQ(dgram_loop_post(loop, Job::call, &jobs.back()), 0);
    }
    EXPECT_EQ(dgram_loop_run(loop), 0);
    ASSERT_EQ(order.size(), 1000u);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_P(Post, IsLimited)
{
    size_t runs = 0, accepted = 0;
    Job job([&](struct dgram_loop *) { runs++; });
    int code = 0;
    while (accepted < 100000) {
        code = dgram_loop_post(loop, Job::call, &job);
        if (code < 0) {
            break;
        }
        accepted++;
    }
    EXPECT_EQ(code, -EAGAIN);
    EXPECT_EQ(accepted, 65536u);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(runs, accepted);
    EXPECT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(runs, accepted + 1);
}

TEST_P(PostHost, FromThreadsRunsOnTheLoopsThreadInOrderPerThread)
{
    const int threads = 4, per_thread = 5000;
    struct Item {
        PostHost *test;
        std::vector<std::vector<int>> *seen;
        std::thread::id owner;
        int thread, number;
    };
    std::vector<std::vector<int>> seen(threads);
    std::deque<Item> items;
    for (int t = 0; t < threads; t++) {
        for (int i = 0; i < per_thread; i++) {
            items.push_back({this, &seen, std::this_thread::get_id(), t, i});
        }
    }
    auto run = [](struct dgram_loop *, void *user) {
        if (!muted()) {
            Item *item = static_cast<Item *>(user);
            EXPECT_EQ(std::this_thread::get_id(), item->owner);
            (*item->seen)[static_cast<size_t>(item->thread)].push_back(item->number);
        }
    };
    struct dgram_socket *socket = open_bound(loop); /* the loop sleeps between posts */
    ASSERT_NE(socket, nullptr);
    std::vector<std::thread> posters;
    for (int t = 0; t < threads; t++) {
        posters.emplace_back([&, t] {
            for (int i = 0; i < per_thread; i++) {
                Item *item = &items[static_cast<size_t>(t * per_thread + i)];
                int code;
                while ((code = dgram_loop_post(loop, run, item)) == -EAGAIN) {
                    std::this_thread::yield();
                }
                EXPECT_EQ(code, 0);
            }
        });
    }
    EXPECT_TRUE(run_until(loop, [&] {
        return std::all_of(seen.begin(), seen.end(), [&](const std::vector<int> &one) {
            return one.size() >= static_cast<size_t>(per_thread);
        });
    }));
    for (std::thread &poster : posters) {
        poster.join();
    }
    for (const std::vector<int> &one : seen) {
        ASSERT_EQ(one.size(), static_cast<size_t>(per_thread));
        for (int i = 0; i < per_thread; i++) {
            ASSERT_EQ(one[static_cast<size_t>(i)], i);
        }
    }
}

/* One post at a time, each to a loop that is about to sleep: none of the wake-ups is lost. */
TEST_P(PostHost, WakesASleepingLoopEveryTime)
{
    const int count = patience() > 1 ? 200 : 2000;
    std::atomic<int> runs{0};
    struct dgram_socket *socket = open_bound(loop);
    ASSERT_NE(socket, nullptr);
    Job job([&](struct dgram_loop *) { runs++; });
    std::thread poster([&] {
        for (int i = 0; i < count; i++) {
            EXPECT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
            wait_until([&] { return runs == i + 1; });
        }
    });
    EXPECT_TRUE(run_until(loop, [&] { return runs == count; }));
    poster.join();
}

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

/* ---- Threads ------------------------------------------------------------------------------- */

TEST_P(Threads, TurnOnAnotherThanTheOwningThreadIsRefused)
{
    struct dgram_socket *socket = open_bound(loop);
    ASSERT_EQ(dgram_loop_turn(loop, 0), 1); /* this thread owns it now */
    int turn = 0, run = 0;
    std::thread stranger([&] {
        turn = dgram_loop_turn(loop, 0);
        run = dgram_loop_run(loop);
    });
    stranger.join();
    EXPECT_EQ(turn, DGRAM_EWRONGTHREAD);
    EXPECT_EQ(run, DGRAM_EWRONGTHREAD);
    expect_echo(loop, socket);
}

/* Made here with all that belongs to it, run and freed there. */
TEST_P(Threads, LoopMayBeMadeInOneThreadAndRunInAnother)
{
    for (int round = 0; round < 10; round++) {
        struct dgram_loop *other = make_loop();
        Inbox inbox;
        int ticks = 0, runs = 0, code = 1;
        struct dgram_socket *socket = open_inbox(other, &inbox);
        Tick tick([&](struct dgram_timer *) { ticks++; });
        Job job([&](struct dgram_loop *) { runs++; });
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(other, Tick::call, &tick, &timer), 0);
        ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, 0), 0);
        ASSERT_EQ(dgram_loop_post(other, Job::call, &job), 0);
        ASSERT_EQ(send_text(socket, "hello", address_of(socket)), 0);
        std::thread runner([&] {
            if (run_until(other, [&] { return inbox.count() == 1 && ticks == 1 && runs == 1; })) {
                dgram_close(socket);
                code = dgram_loop_run(other);
            }
            dgram_loop_free(other);
        });
        runner.join();
        EXPECT_EQ(code, 0);
    }
}

/* A loop per thread: two of them exchange datagrams, with a credit, and lose none. */
TEST_P(Threads, TwoLoopsExchangeDatagrams)
{
    const unsigned count = patience() > 1 ? 2000 : 20000;
    struct dgram_loop *server_loop = make_loop(), *client_loop = make_loop();
    struct dgram_socket *server = open_bound(server_loop);
    struct dgram_socket *client = open_bound(client_loop);
    const struct dgram_addr to = address_of(server);
    const unsigned window =
        static_cast<unsigned>(std::min<size_t>(256, std::min(room_of(server), room_of(client))));
    Handlers on_server, on_client;
    on_server.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        EXPECT_EQ(
            dgram_send_to(which, message->data, message->size, message->from, nullptr, nullptr), 0);
        if (message->size == 0) {
            dgram_close(which); /* what is queued is delivered */
        }
    };
    on_server.attach(server);
    unsigned sent = 0, received = 0;
    on_client.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        unsigned number = 0;
        if (message->size == 0) {
            dgram_close(which);
            return;
        }
        memcpy(&number, message->data, sizeof(number));
        EXPECT_EQ(number, received);
        received++;
        while (sent < count && sent - received < window) {
            dgram_send_to(which, &sent, sizeof(sent), &to, nullptr, nullptr);
            sent++;
        }
        if (received == count) {
            EXPECT_EQ(dgram_send_to(which, nullptr, 0, &to, nullptr, nullptr), 0);
        }
    };
    on_client.attach(client);
    int codes[2] = {1, 1};
    std::atomic<int> finished{0};
    std::atomic<bool> over{false};
    auto run = [&](struct dgram_loop *which, int *code) {
        *code = dgram_loop_run(which);
        finished++;
        wait_until([&] { return over.load(); }); /* the other one may be stopped until then */
        dgram_loop_free(which);
    };
    std::thread server_thread([&] { run(server_loop, &codes[0]); });
    std::thread client_thread([&] {
        dgram_send_to(client, &sent, sizeof(sent), &to, nullptr, nullptr);
        sent++;
        run(client_loop, &codes[1]);
    });
    if (!wait_until([&] { return finished == 2; })) {
        dgram_loop_stop(server_loop);
        dgram_loop_stop(client_loop);
    }
    over = true;
    server_thread.join();
    client_thread.join();
    EXPECT_EQ(codes[0], 0);
    EXPECT_EQ(codes[1], 0);
    EXPECT_EQ(received, count);
}

/* ---- Fork ---------------------------------------------------------------------------------- */

/* Runs `fn` in a child process; it adds what is wrong to the text. */
void in_child(const std::function<void(std::string *)> &fn)
{
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    fflush(nullptr);
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        alarm(60 * patience());
        std::string wrong;
        fn(&wrong);
        if (!wrong.empty() && write(ends[1], wrong.data(), wrong.size()) < 0) {
            _exit(2);
        }
        _exit(0);
    }
    close(ends[1]);
    std::string wrong;
    char buffer[4096];
    ssize_t got;
    while ((got = read(ends[0], buffer, sizeof(buffer))) > 0 || (got < 0 && errno == EINTR)) {
        wrong.append(buffer, got > 0 ? static_cast<size_t>(got) : 0);
    }
    close(ends[0]);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
    EXPECT_EQ(wrong, "");
}

#define IN_CHILD(wrong, value, expected)                                                           \
    do {                                                                                           \
        long long is_ = static_cast<long long>(value);                                             \
        if (is_ != static_cast<long long>(expected)) {                                             \
            *(wrong) += std::string(#value) + " is " + std::to_string(is_) + "\n";                 \
        }                                                                                          \
    } while (0)

/* In one of the callbacks of dgram_loop_free(): the child's copy ends there, too. */
TEST_P(Fork, WhileTheLoopIsFreed)
{
    for (int which : {0, 1}) {
        struct dgram_loop *doomed = make_loop();
        pid_t child = -1;
        int closes = 0;
        Handlers on;
        on.close = [&](struct dgram_socket *) {
            if (closes++ == which) {
                fflush(nullptr);
                child = fork();
                alarm(child == 0 ? 60 * patience() : 0);
            }
        };
        for (int i = 0; i < 2; i++) {
            on.attach(open_bound(doomed));
        }
        EXPECT_EQ(dgram_loop_free(doomed), nullptr);
        if (child == 0) {
            _exit(closes == which + 1 ? 0 : 1);
        }
        int status = 1;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
        EXPECT_EQ(closes, 2);
    }
}

TEST_P(Fork, ChildIsToldByEveryFunction)
{
    struct dgram_socket *socket = open_bound(loop);
    Tick tick([](struct dgram_timer *) {});
    Job job([](struct dgram_loop *) {});
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    struct dgram_buffer *buffer = nullptr;
    ASSERT_EQ(dgram_buffer_create(loop, 20, nullptr, &buffer), 0);
    struct dgram_destination *destination = nullptr;
    ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, "127.0.0.1", &destination), 0);
    struct dgram_addr here = address_of(socket);
    expect_echo(loop, socket);
    ASSERT_EQ(dgram_send_buffer(socket, buffer, 0, 10, &here), 0); /* its lane is open */
    in_child([&](std::string *wrong) {
        for (const SocketCall &one : socket_calls()) {
            int code = one.call(socket);
            if (code != DGRAM_EFORKED) {
                *wrong += std::string(one.name) + " gives " + std::to_string(code) + "\n";
            }
        }
        struct dgram_socket *made = nullptr;
        struct dgram_timer *timed = nullptr;
        struct dgram_loop_info info = {};
        info.size = sizeof(info);
        IN_CHILD(wrong, dgram_loop_turn(loop, 0), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_loop_run(loop), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_loop_flush(loop), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_loop_fd(loop), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_loop_info(loop, &info), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_loop_post(loop, Job::call, &job), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_create_socket(loop, DGRAM_UDP4, nullptr, &made), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_timer_create(loop, Tick::call, &tick, &timed), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_timer_start(timer, 0, 0), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_timer_stop(timer), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_timer_ref(timer), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_timer_unref(timer), DGRAM_EFORKED);
        struct dgram_buffer *other = nullptr;
        IN_CHILD(wrong, dgram_buffer_create(loop, 1, nullptr, &other), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_on_idle(buffer, nullptr, nullptr), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_destination_address(destination, &here), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_send_buffer(socket, buffer, 10, 10, &here), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_buffer_zero_copy(buffer), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_buffer_free(buffer) == nullptr, true);
        IN_CHILD(wrong, dgram_loop_free(loop) == nullptr, true);
    });
    expect_echo(loop, socket);
    dgram_destination_free(destination);
}

/* In the child: memory and descriptors only; no callback, nothing sent. The parent goes on. */
TEST_P(Fork, ChildMayFreeTheLoopAndTheParentIsUnharmed)
{
    Plain peer;
    Inbox inbox;
    Results results;
    int closes = 0, ticks = 0, runs = 0;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    on.attach(socket);
    Tick tick([&](struct dgram_timer *) { ticks++; });
    Job job([&](struct dgram_loop *) { runs++; });
    struct dgram_timer *timer = nullptr;
    struct dgram_addr to = peer.address();
    ASSERT_EQ(send_text(socket, "before", address_of(socket)), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    (void) dgram_loop_fd(loop);
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, 0), 0);
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    ASSERT_EQ(dgram_send_to(socket, "queued", 6, &to, Results::take, &results), 0);
    peer.send("waiting", address_of(socket));
    in_child([&](std::string *wrong) {
        IN_CHILD(wrong, dgram_loop_free(loop) == nullptr, true);
        IN_CHILD(wrong, closes + ticks + runs, 0);
        IN_CHILD(wrong, results.values.size(), 0);
        IN_CHILD(wrong, inbox.count(), 1);
    });
    EXPECT_FALSE(peer.readable()) << "the child sent what the parent had queued";
    ASSERT_TRUE(run_until(loop, [&] {
        return inbox.count() == 2 && results.values.size() == 1 && ticks == 1 && runs == 1;
    }));
    EXPECT_EQ(inbox.payloads[1], "waiting");
    EXPECT_EQ(results.values[0], 6);
    EXPECT_EQ(peer.receive(), "queued");
    EXPECT_FALSE(peer.readable());
    for (int i = 0; i < 20; i++) {
        expect_echo(loop, socket);
    }
    close_and_wait(loop, socket);
}

/* A stop in the child is not one of the parent; a child that does nothing may just end. */
TEST_P(Fork, ChildDoesNotStopTheParent)
{
    struct dgram_socket *socket = open_bound(loop);
    expect_echo(loop, socket);
    in_child([&](std::string *) { dgram_loop_stop(loop); });
    in_child([](std::string *) {});
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

TEST_P(Fork, ChildMayUseALoopOfItsOwn)
{
    Inbox inbox;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    const struct dgram_addr to = address_of(socket);
    ASSERT_EQ(dgram_loop_turn(loop, 0), 1);
    in_child([&](std::string *wrong) {
        struct dgram_loop *own = nullptr;
        struct dgram_socket *there = nullptr;
        Results results;
        dgram_loop_free(loop);
        IN_CHILD(wrong, GetParam().create(nullptr, &own), 0);
        IN_CHILD(wrong, dgram_create_socket(own, DGRAM_UDP4, nullptr, &there), 0);
        IN_CHILD(wrong, dgram_send_to(there, "child", 5, &to, Results::take, &results), 0);
        IN_CHILD(wrong, dgram_unref(there), 0);
        IN_CHILD(wrong, dgram_loop_run(own), 0);
        IN_CHILD(wrong, results.values.size(), 1);
        dgram_loop_free(own);
    });
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(inbox.payloads[0], "child");
}

/* The parent may end while a child still holds copies of its descriptors... and the other way
 * round: after the child closed its copies, the parent's close frees the port. */
TEST_P(Fork, PortIsFreeAfterTheParentsCloseWhenTheChildIsGone)
{
    uint16_t port = private_port(DGRAM_UDP4);
    for (int i = 0; i < 5; i++) {
        struct dgram_socket *socket = open_socket(loop);
        ASSERT_EQ(dgram_bind(socket, port, "127.0.0.1"), 0) << i;
        expect_echo(loop, socket);
        in_child([&](std::string *) { dgram_loop_free(loop); });
        close_and_wait(loop, socket);
    }
}

/* ---- Embedding ----------------------------------------------------------------------------- */

TEST_P(Embed, DescriptorIsAlwaysTheSame)
{
    EXPECT_EQ(dgram_loop_fd(loop), fd_);
    ASSERT_EQ(dgram_loop_turn(loop, 0), 0);
    EXPECT_EQ(dgram_loop_fd(loop), fd_);
}

TEST_P(Embed, IdleLoopIsNotReadable)
{
    Inbox inbox;
    quiet();
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    ASSERT_NE(socket, nullptr);
    quiet();
    Tick tick([](struct dgram_timer *) {});
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, HOUR, 0), 0);
    quiet();
}

TEST_P(Embed, EveryEventWakesIt)
{
    Plain peer;
    Recorder log;
    Inbox inbox;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    Handlers on;
    on.listening = [&](struct dgram_socket *) { log.add("listening"); };
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(socket);
    ASSERT_TRUE(drive([&] { return log.count("listening") == 1; }));
    for (size_t round = 1; round <= 5; round++) {
        quiet();
        /* A datagram. */
        peer.send("hello", address_of(socket));
        ASSERT_TRUE(drive([&] { return inbox.count() == round; }));
        quiet();
        /* A queued send, without and with a callback. */
        ASSERT_EQ(send_text(socket, "reply", peer.address()), 0);
        ASSERT_TRUE(drive([&] { return peer.readable(); }));
        EXPECT_EQ(peer.receive(), "reply");
        quiet();
        Results results;
        struct dgram_addr to = peer.address();
        ASSERT_EQ(dgram_send_to(socket, "again", 5, &to, Results::take, &results), 0);
        ASSERT_TRUE(drive([&] { return results.values.size() == 1; }));
        EXPECT_EQ(peer.receive(), "again");
        quiet();
        /* A timer, not early. */
        int ticks = 0;
        Tick tick([&](struct dgram_timer *) { ticks++; });
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
        if (round % 2 == 0) {
            ASSERT_EQ(dgram_timer_unref(timer), 0);
        }
        const uint64_t before = monotonic_ns();
        ASSERT_EQ(dgram_timer_start(timer, 3 * MILLISECOND, 0), 0);
        ASSERT_TRUE(drive([&] { return ticks == 1; }));
        EXPECT_GE(monotonic_ns(), before + 3 * MILLISECOND);
        quiet();
        /* A post, of this thread and of another. */
        int runs = 0;
        Job job([&](struct dgram_loop *) { runs++; });
        ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
        ASSERT_TRUE(drive([&] { return runs == 1; }));
        quiet();
        std::thread poster([&] { EXPECT_EQ(dgram_loop_post(loop, Job::call, &job), 0); });
        EXPECT_TRUE(drive([&] { return runs == 2; }));
        poster.join();
        quiet();
        dgram_timer_free(timer);
    }
    ASSERT_EQ(dgram_close(socket), 0);
    ASSERT_TRUE(drive([&] { return log.count("close") == 1; }));
    quiet();
}

/* An earlier timer, a stopped one, one made inside a callback. */
TEST_P(Embed, TimersMayChange)
{
    Recorder log;
    Tick never([](struct dgram_timer *) { ADD_FAILURE() << "a stopped timer"; });
    Tick late([&](struct dgram_timer *) { log.add("late"); });
    struct dgram_timer *stopped = nullptr, *first = nullptr, *second = nullptr;
    Tick early([&](struct dgram_timer *) {
        log.add("early");
        EXPECT_EQ(dgram_timer_start(second, 2 * MILLISECOND, 0), 0);
    });
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &never, &stopped), 0);
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &early, &first), 0);
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &late, &second), 0);
    ASSERT_EQ(dgram_timer_start(first, HOUR, 0), 0);
    quiet();
    ASSERT_EQ(dgram_timer_start(stopped, MILLISECOND, 0), 0);
    ASSERT_EQ(dgram_timer_start(first, 3 * MILLISECOND, 0), 0);
    ASSERT_EQ(dgram_timer_stop(stopped), 0);
    ASSERT_TRUE(drive([&] { return log.count("late") == 1; }));
    EXPECT_EQ(log.text(), "early late");
    quiet();
}

/* More than one turn brings, more than the pool holds: readable until all of it was delivered. */
TEST_P(Embed, BacklogKeepsItReadable)
{
    Plain peer;
    for (uint32_t flags : {0u, DGRAM_NO_GRO}) {
        Inbox inbox;
        struct dgram_socket *socket = open_inbox(loop, &inbox, DGRAM_UDP4, flags);
        const size_t count = std::min<size_t>(300, room_of(socket));
        quiet();
        for (size_t i = 0; i < count; i++) {
            peer.send(numbered(static_cast<unsigned>(i)), address_of(socket));
        }
        ASSERT_TRUE(drive([&] { return inbox.count() == count; }));
        quiet();
    }
}

TEST_P(Embed, PausedAndResumedOutsideATurn)
{
    Plain peer;
    std::vector<std::string> got;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    bool paused = false;
    on.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        got.push_back(payload_of(message));
        if (got.size() % 5 == 0) {
            paused = true;
            EXPECT_EQ(dgram_pause(which), 0);
        }
    };
    for (unsigned i = 0; i < 23; i++) {
        peer.send(numbered(i), address_of(socket));
    }
    quiet();
    on.attach(socket); /* with datagrams waiting in the kernel */
    while (got.size() < 23) {
        ASSERT_TRUE(drive([&] { return paused || got.size() == 23; }));
        quiet();
        paused = false;
        ASSERT_EQ(dgram_resume(socket), 0);
    }
    for (unsigned i = 0; i < 23; i++) {
        EXPECT_TRUE(got[i] == numbered(i));
    }
}

/* Work that callbacks leave for later turns keeps it readable too. */
TEST_P(Embed, WorkOfCallbacksKeepsItReadable)
{
    for (int round = 0; round < 5; round++) {
        Recorder log;
        struct dgram_socket *unbound = open_socket(loop), *closing = open_bound(loop);
        struct dgram_socket *sender = open_bound(loop), *paused = open_bound(loop);
        Handlers on;
        on.listening = [&](struct dgram_socket *which) {
            if (which == unbound) {
                log.add("listening");
            }
        };
        on.close = [&](struct dgram_socket *which) {
            if (which == closing) {
                log.add("close");
            }
        };
        on.error = [&](struct dgram_socket *, const struct dgram_error *) { log.add("error"); };
        for (struct dgram_socket *socket : {unbound, closing, sender}) {
            on.attach(socket);
        }
        size_t messages = 0;
        Handlers on_paused;
        on_paused.message = [&](struct dgram_socket *which, const struct dgram_message *) {
            if (++messages == 3) {
                EXPECT_EQ(dgram_pause(which), 0);
            }
        };
        on_paused.attach(paused);
        for (int i = 0; i < 10; i++) {
            ASSERT_EQ(send_text(sender, numbered(1), address_of(paused)), 0);
        }
        ASSERT_TRUE(drive([&] { return messages == 3; }));
        quiet();
        Sent sent([&](struct dgram_socket *, int) { log.add("sent"); });
        Tick tick([&](struct dgram_timer *) { log.add("tick"); });
        Job second([&](struct dgram_loop *) { log.add("post"); });
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
        const struct dgram_addr to = address_of(paused), refused = refused_address();
        Job first([&](struct dgram_loop *which) {
            EXPECT_EQ(dgram_bind(unbound, 0, "127.0.0.1"), 0);
            EXPECT_EQ(dgram_close(closing), 0);
            EXPECT_EQ(dgram_send_to(sender, "x", 1, &to, Sent::call, &sent), 0);
            EXPECT_EQ(dgram_timer_start(timer, 0, 0), 0);
            EXPECT_EQ(dgram_loop_post(which, Job::call, &second), 0);
            EXPECT_EQ(dgram_resume(paused), 0);
            if (refused_address_usable()) {
                EXPECT_EQ(send_text(sender, "x", refused), 0);
            }
        });
        ASSERT_EQ(dgram_loop_post(loop, Job::call, &first), 0);
        const size_t events = refused_address_usable() ? 6 : 5;
        ASSERT_TRUE(drive([&] { return log.events.size() == events && messages == 11; }));
        for (const char *event : {"listening", "close", "sent", "tick", "post"}) {
            EXPECT_EQ(log.count(event), 1u) << event;
        }
        quiet();
        dgram_timer_free(timer);
        ASSERT_EQ(dgram_close(unbound), 0);
        ASSERT_EQ(dgram_close(sender), 0);
        ASSERT_EQ(dgram_close(paused), 0);
        quiet();
    }
}

/* Each single kind of leftover by itself: nothing else makes the descriptor readable. */
TEST_P(Embed, EachKindOfLeftoverKeepsItReadable)
{
    int closes = 0, listenings = 0;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    on.listening = [&](struct dgram_socket *) { listenings++; };
    struct dgram_socket *one = open_bound(loop), *two = open_socket(loop);
    quiet();
    on.attach(one);
    on.attach(two);
    Tick close_one([&](struct dgram_timer *) { EXPECT_EQ(dgram_close(one), 0); });
    Tick bind_two([&](struct dgram_timer *) { EXPECT_EQ(dgram_bind(two, 0, "127.0.0.1"), 0); });
    Tick end_two([&](struct dgram_timer *) { EXPECT_EQ(dgram_end(two), 0); });
    struct dgram_timer *timers[3] = {};
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &close_one, &timers[0]), 0);
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &bind_two, &timers[1]), 0);
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &end_two, &timers[2]), 0);
    ASSERT_EQ(dgram_timer_start(timers[0], MILLISECOND, 0), 0);
    ASSERT_TRUE(drive([&] { return closes == 1; }));
    quiet();
    ASSERT_EQ(dgram_timer_start(timers[1], MILLISECOND, 0), 0);
    ASSERT_TRUE(drive([&] { return listenings == 1; }));
    quiet();
    ASSERT_EQ(dgram_timer_start(timers[2], MILLISECOND, 0), 0);
    ASSERT_TRUE(drive([&] { return closes == 2; }));
    quiet();
}

/* Sockets that starve for slots go on without another event. */
TEST_P(Embed, StarvedSocketsGoOn)
{
    close(epoll_);
    struct dgram_loop_options options = loop_options();
    options.slots = 4;
    remake_loop(options);
    fd_ = dgram_loop_fd(loop);
    ASSERT_GE(fd_, 0);
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {};
    event.events = EPOLLIN;
    ASSERT_EQ(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd_, &event), 0);
    Plain peer;
    std::vector<Inbox> inboxes(12);
    for (Inbox &inbox : inboxes) {
        struct dgram_socket *socket = open_inbox(loop, &inbox, DGRAM_UDP4, DGRAM_NO_GRO);
        for (unsigned i = 0; i < 40; i++) {
            peer.send(numbered(i), address_of(socket));
        }
    }
    ASSERT_TRUE(drive([&] {
        return std::all_of(inboxes.begin(), inboxes.end(),
                           [](const Inbox &inbox) { return inbox.count() == 40; });
    }));
    quiet();
}

/* A whole conversation driven by nothing but the descriptor. */
TEST_P(Embed, EchoThousandTimes)
{
    unsigned rounds = 0;
    struct dgram_socket *server = open_bound(loop), *client = open_bound(loop);
    const struct dgram_addr to = address_of(server);
    Handlers on_server, on_client;
    on_server.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        EXPECT_EQ(send_text(which, payload_of(message), *message->from), 0);
    };
    on_client.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        EXPECT_TRUE(payload_of(message) == numbered(rounds));
        if (++rounds < 1000) {
            EXPECT_EQ(send_text(which, numbered(rounds), to), 0);
        }
    };
    on_server.attach(server);
    on_client.attach(client);
    ASSERT_EQ(send_text(client, numbered(0), to), 0);
    ASSERT_TRUE(drive([&] { return rounds == 1000; }));
    quiet();
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

TEST_F(EngineChoice, ProbeRefusesWhatIsNoEngine)
{
    struct dgram_engine_report report = {};
    report.size = sizeof(report);
    for (uint32_t engine : {0u, 3u, 100u, 0xffffffffu}) {
        EXPECT_EQ(dgram_engine_probe(engine, &report), DGRAM_EBADENGINE) << engine;
    }
    EXPECT_EQ(report.name, nullptr);
    EXPECT_EQ(dgram_engine_probe(DGRAM_ENGINE_POLL, nullptr), DGRAM_ENULL);
    report.size = sizeof(size_t) - 1;
    EXPECT_EQ(dgram_engine_probe(DGRAM_ENGINE_POLL, &report), DGRAM_EBADOPTIONS);
    EXPECT_EQ(report.name, nullptr);
}

/* Each engine is either usable or says what to do about it. */
TEST_F(EngineChoice, ReportAndLoopAgree)
{
    for (uint32_t engine : {DGRAM_ENGINE_URING, DGRAM_ENGINE_POLL}) {
        const struct dgram_engine_report report = probe(engine);
        struct dgram_loop_options options = loop_options();
        options.engine = engine;
        struct dgram_loop *loop = nullptr;
        int code = report.code == 0 ? patiently([&] { return dgram_loop_create(&options, &loop); })
                                    : dgram_loop_create(&options, &loop);
        if (report.code == 0) {
            EXPECT_EQ(code, 0);
        } else {
            EXPECT_EQ(code, report.code);
            EXPECT_EQ(loop, nullptr);
            EXPECT_STRNE(report.advice, "");
        }
        dgram_loop_free(loop);
    }
}

/* The environment as it was, after each test. */
class EngineEnvironment : public HostTest
{
  protected:
    void SetUp() override
    {
        HostTest::SetUp();
        const char *text = getenv("DGRAM_ENGINE");
        had_ = text != nullptr;
        before_ = had_ ? text : "";
    }
    void TearDown() override
    {
        if (had_) {
            setenv("DGRAM_ENGINE", before_.c_str(), 1);
        } else {
            unsetenv("DGRAM_ENGINE");
        }
        HostTest::TearDown();
    }
    /* The engine of a loop made with `engine`, or the code. */
    static int engine_of(uint32_t engine)
    {
        struct dgram_loop_options options = loop_options();
        options.engine = engine;
        struct dgram_loop *loop = nullptr;
        int code = patiently([&] { return dgram_loop_create(&options, &loop); });
        if (code == 0) {
            code = static_cast<int>(info_of(loop).engine);
        } else {
            EXPECT_EQ(loop, nullptr);
        }
        dgram_loop_free(loop);
        return code;
    }
    static bool works(uint32_t engine)
    {
        return probe(engine).code == 0;
    }

  private:
    bool had_ = false;
    std::string before_;
};

TEST_F(EngineEnvironment, ChoosesWhereTheOptionIsAuto)
{
    setenv("DGRAM_ENGINE", "poll", 1);
    EXPECT_EQ(engine_of(DGRAM_ENGINE_AUTO), DGRAM_ENGINE_POLL);
    struct dgram_loop *loop = nullptr;
    ASSERT_EQ(dgram_loop_create(nullptr, &loop), 0);
    EXPECT_STREQ(info_of(loop).name, "poll");
    dgram_loop_free(loop);
    setenv("DGRAM_ENGINE", "uring", 1);
    if (works(DGRAM_ENGINE_URING)) {
        EXPECT_EQ(engine_of(DGRAM_ENGINE_AUTO), DGRAM_ENGINE_URING);
    } else {
        EXPECT_LT(engine_of(DGRAM_ENGINE_AUTO), 0);
    }
}

TEST_F(EngineEnvironment, UnknownNameIsAnError)
{
    for (const char *name : {"nonsense", "POLL", "poll ", "urin", "poll,uring", "2"}) {
        setenv("DGRAM_ENGINE", name, 1);
        EXPECT_EQ(engine_of(DGRAM_ENGINE_AUTO), DGRAM_EBADENGINE) << name;
        EXPECT_EQ(engine_of(DGRAM_ENGINE_POLL), DGRAM_ENGINE_POLL) << name;
    }
}

TEST_F(EngineEnvironment, OptionGoesFirst)
{
    setenv("DGRAM_ENGINE", "uring", 1);
    EXPECT_EQ(engine_of(DGRAM_ENGINE_POLL), DGRAM_ENGINE_POLL);
    if (works(DGRAM_ENGINE_URING)) {
        setenv("DGRAM_ENGINE", "poll", 1);
        EXPECT_EQ(engine_of(DGRAM_ENGINE_URING), DGRAM_ENGINE_URING);
    }
}

TEST_F(EngineEnvironment, AutoTakesTheBestAndTellsWhatItPassedOver)
{
    unsetenv("DGRAM_ENGINE");
    const bool best_works = works(DGRAM_ENGINE_URING);
    struct dgram_loop *loop = nullptr;
    ASSERT_EQ(dgram_loop_create(nullptr, &loop), 0);
    struct dgram_loop_info info = info_of(loop);
    if (best_works && info.refused_code == -ENOMEM) {
        dgram_loop_free(loop);
        GTEST_SKIP() << "no memory for a ring just now";
    }
    if (best_works) {
        EXPECT_EQ(info.engine, static_cast<uint32_t>(DGRAM_ENGINE_URING));
        EXPECT_EQ(info.refused_code, 0);
    } else {
        EXPECT_EQ(info.engine, static_cast<uint32_t>(DGRAM_ENGINE_POLL));
        EXPECT_LT(info.refused_code, 0);
        ASSERT_NE(info.refused_call, nullptr);
        ASSERT_NE(info.refused_advice, nullptr);
        EXPECT_STRNE(info.refused_advice, "");
    }
    dgram_loop_free(loop);
}

TEST_F(EngineEnvironment, NumberThatIsNoEngineIsRefused)
{
    for (uint32_t engine : {3u, 99u, 0xffffffffu}) {
        EXPECT_EQ(engine_of(engine), DGRAM_EBADENGINE) << engine;
    }
}

} /* namespace */
