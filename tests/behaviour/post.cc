/* SPDX-License-Identifier: MIT */
/*
 * post.cc: functions that threads post to a loop: each runs once, on the loop's thread, in order.
 */
#include <algorithm>
#include <atomic>
#include <deque>
#include <thread>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Post : public EngineTest
{
};
class PostHost : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Post);
INSTANTIATE_ON_HOST_ENGINES(PostHost);

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

/* ---- The end of a loop --------------------------------------------------------------------- */

/* What is posted before is called; nothing would call what is posted now. */
TEST_P(PostHost, PostWhileTheLoopIsFreedIsRefused)
{
    for (bool ran : {false, true}) {
        SCOPED_TRACE(ran);
        struct dgram_loop *made = make_loop();
        std::vector<int> codes;
        int late = 0;
        Job late_job([&](struct dgram_loop *) { late++; });
        Job job([&](struct dgram_loop *which) {
            codes.push_back(dgram_loop_post(which, Job::call, &late_job));
        });
        Handlers on;
        on.close = [&](struct dgram_socket *socket) {
            codes.push_back(dgram_loop_post(dgram_socket_loop(socket), Job::call, &late_job));
        };
        struct dgram_socket *socket = open_bound(made);
        on.attach(socket);
        if (ran) {
            settle(made);
        }
        ASSERT_EQ(dgram_loop_post(made, Job::call, &job), 0);
        EXPECT_EQ(dgram_loop_free(made), nullptr);
        EXPECT_EQ(codes, (std::vector<int>{DGRAM_ENOTRUNNING, DGRAM_ENOTRUNNING}));
        EXPECT_EQ(late, 0);
    }
}

} /* namespace */
