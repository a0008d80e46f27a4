/* SPDX-License-Identifier: MIT */
/*
 * threads.cc: what other threads may do, all at once: post, stop, release messages, run loops of
 * their own, make loops, probe engines. ThreadSanitizer watches in a build of its own
 * (scripts/test); in every build the counts must be right.
 */
#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

constexpr unsigned THREADS = 4;

/* Runs `body` in as many threads, all beginning together. */
void in_threads(const std::function<void(unsigned)> &body)
{
    std::atomic<unsigned> waiting{THREADS};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < THREADS; i++) {
        threads.emplace_back([&, i] {
            waiting--;
            while (waiting > 0) {
                std::this_thread::yield();
            }
            body(i);
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
}

class Threads : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Threads);

/* The posts of each thread come in its order, each once. */
TEST_P(Threads, PostAtOnce)
{
    struct Posted {
        unsigned thread, number;
        std::vector<unsigned> *seen;
    };
    constexpr unsigned POSTS = 3000;
    std::vector<unsigned> seen(THREADS);
    std::vector<std::vector<Posted>> posts(THREADS);
    std::atomic<bool> over{false};
    std::thread posters([&] {
        in_threads([&](unsigned i) {
            for (unsigned n = 0; n < POSTS; n++) {
                posts[i].push_back({i, n, &seen});
            }
            for (Posted &post : posts[i]) {
                while (dgram_loop_post(
                           loop,
                           [](struct dgram_loop *, void *user) {
                               const Posted *posted = static_cast<Posted *>(user);
                               EXPECT_EQ((*posted->seen)[posted->thread]++, posted->number);
                           },
                           &post) == -EAGAIN) {
                    std::this_thread::yield();
                }
            }
        });
        over = true;
    });
    EXPECT_TRUE(spin_until(loop, [&] {
        return over &&
               std::all_of(seen.begin(), seen.end(), [](unsigned count) { return count == POSTS; });
    }));
    posters.join();
}

/* A stop ends a run that nothing else ends, however many come. */
TEST_P(Threads, StopAtOnce)
{
    Inbox inbox;
    open_inbox(loop, &inbox); /* keeps it running */
    for (int round = 0; round < 50; round++) {
        std::thread stoppers([&] { in_threads([&](unsigned) { dgram_loop_stop(loop); }); });
        EXPECT_EQ(dgram_loop_run(loop), 1);
        stoppers.join();
        EXPECT_GE(dgram_loop_turn(loop, 0), 0); /* spends what came too late */
    }
}

/* Retained messages are given back by other threads while the loop receives into the same pool. */
TEST_P(Threads, ReleaseWhileTheLoopReceives)
{
    struct dgram_loop_options options = loop_options();
    options.slots = 8;
    remake_loop(options);
    std::mutex lock;
    std::deque<struct dgram_message> kept;
    std::atomic<bool> over{false};
    size_t received = 0, taken = 0;
    std::atomic<size_t> released{0};
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *message) {
        struct dgram_message copy = {};
        received++;
        ASSERT_EQ(dgram_message_retain(message, &copy), 0);
        taken++;
        std::lock_guard<std::mutex> guard(lock);
        kept.push_back(copy);
    };
    struct dgram_socket *receiver = open_bound(loop), *sender = open_socket(loop);
    on.attach(receiver);
    const struct dgram_addr to = address_of(receiver);
    auto release_some = [&](unsigned) {
        for (bool empty = false; !over || !empty;) {
            struct dgram_message message = {};
            {
                std::lock_guard<std::mutex> guard(lock);
                empty = kept.empty();
                if (!empty) {
                    message = kept.front();
                    kept.pop_front();
                }
            }
            if (!empty) {
                EXPECT_EQ(static_cast<const char *>(message.data)[message.size - 1], 'z');
                dgram_message_release(&message);
                released++;
            } else {
                std::this_thread::yield();
            }
        }
    };
    std::thread releasers([&] { in_threads(release_some); });
    for (size_t n = 0; n < 600; n++) { /* every other one lies in a slot, the rest is copied */
        std::string payload((n & 1) != 0 ? 20000 : 100, 'a');
        payload.back() = 'z';
        EXPECT_EQ(send_and_wait(loop, sender, payload, to), static_cast<int>(payload.size()));
        EXPECT_TRUE(run_until(loop, [&] { return received == n + 1; }));
    }
    over = true;
    releasers.join();
    for (struct dgram_message &message : kept) { /* what came when they had looked */
        dgram_message_release(&message);
        released++;
    }
    EXPECT_EQ(released, taken);
    EXPECT_TRUE(spin_until(loop, [&] { return info_of(loop).slots_free == 8; }));
}

/* The last message is released after its loop is gone, by whichever thread is last. */
TEST_P(Threads, ReleaseAfterTheLoop)
{
    for (int round = 0; round < 20; round++) {
        struct dgram_loop *made = make_loop();
        std::vector<struct dgram_message> kept;
        Handlers on;
        on.message = [&](struct dgram_socket *, const struct dgram_message *message) {
            kept.emplace_back();
            ASSERT_EQ(dgram_message_retain(message, &kept.back()), 0);
        };
        struct dgram_socket *receiver = open_bound(made), *sender = open_socket(made);
        on.attach(receiver);
        const struct dgram_addr to = address_of(receiver);
        for (unsigned i = 0; i < THREADS; i++) {
            EXPECT_EQ(send_text(sender, std::string(20000, 'x'), to), 0);
        }
        EXPECT_TRUE(run_until(made, [&] { return kept.size() == THREADS; }));
        std::thread releasers(
            [&] { in_threads([&](unsigned i) { dgram_message_release(&kept[i]); }); });
        EXPECT_EQ(dgram_loop_free(made), nullptr);
        releasers.join();
    }
}

/* Loops share nothing: each thread makes some, sends itself datagrams, and frees them. */
TEST_P(Threads, RunLoopsOfTheirOwn)
{
    in_threads([&](unsigned) {
        for (int round = 0; round < 5; round++) {
            struct dgram_loop *made = nullptr;
            ASSERT_EQ(GetParam().create(nullptr, &made), 0);
            Inbox inbox;
            struct dgram_socket *socket = open_inbox(made, &inbox);
            for (size_t n = 1; n <= 20; n++) {
                EXPECT_EQ(send_text(socket, "own", address_of(socket)), 0);
                EXPECT_TRUE(run_until(made, [&] { return inbox.count() == n; }));
            }
            close_and_wait(made, socket);
            dgram_loop_free(made);
        }
    });
}

/* What is found out once per process, by several at once; and texts that any thread may ask for. */
TEST_P(Threads, ProbeAndChoose)
{
    in_threads([&](unsigned) {
        for (int round = 0; round < 3; round++) {
            EXPECT_EQ(probe(GetParam().number).code, 0);
            struct dgram_loop *made = nullptr;
            EXPECT_EQ(patiently([&] { return dgram_loop_create(nullptr, &made); }), 0);
            EXPECT_GT(info_of(made).segments_max, 0u);
            dgram_loop_free(made);
            EXPECT_STRNE(dgram_strerror(-EAGAIN), "");
            EXPECT_STREQ(dgram_error_name(DGRAM_EBADPORT), "DGRAM_EBADPORT");
            EXPECT_EQ(dgram_addr_port(std::make_unique<struct dgram_addr>(parse("::1", 7)).get()),
                      7u);
        }
    });
}

} // namespace
