/* SPDX-License-Identifier: MIT */
/*
 * queues.cc: queues: what they count, their limits, and `drain`.
 */
#include <algorithm>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class QueueHost : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(QueueHost);

class Queue : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Queue);

/* ---- Queues -------------------------------------------------------------------------------- */

/* L42 */
TEST_P(Queue, SizeAndCountTellWhatHasNotCompleted)
{
    Results results;
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_addr to = address_of(sink);
    EXPECT_EQ(dgram_get_send_queue_size(socket), 0u);
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
    for (int i = 0; i < 2; i++) {
        ASSERT_EQ(dgram_send_to(socket, "hello", 5, &to, Results::take, &results), 0);
    }
    EXPECT_EQ(dgram_get_send_queue_size(socket), 10u);
    EXPECT_EQ(dgram_get_send_queue_count(socket), 2u);
    EXPECT_EQ(dgram_get_send_queue_count(sink), 0u);
    ASSERT_EQ(dgram_send_to(socket, nullptr, 0, &to, nullptr, nullptr), 0);
    EXPECT_EQ(dgram_get_send_queue_size(socket), 10u);
    EXPECT_EQ(dgram_get_send_queue_count(socket), 3u);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    settle(loop);
    EXPECT_EQ(dgram_get_send_queue_size(socket), 0u);
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
}

/* Over the limit: -EAGAIN, nothing kept; then one `drain`, and all that was accepted completes
 * exactly once. A datagram is charged its size plus 64 bytes. */
TEST_P(Queue, LimitRefusesAndDrainComesOnce)
{
    for (bool asked : {true, false}) {
        SCOPED_TRACE(asked);
        const size_t limit = 1700; /* ten of 100 + 64 bytes, and a bit */
        Inbox inbox;
        Results results;
        int drains = 0;
        struct dgram_socket_options options = socket_options();
        options.queue_limit = limit;
        struct dgram_socket *receiver = open_inbox(loop, &inbox), *socket = nullptr;
        ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
        Handlers on;
        on.drain = [&](struct dgram_socket *which) {
            EXPECT_EQ(which, socket);
            EXPECT_LE(dgram_get_send_queue_size(which), limit / 2);
            drains++;
            EXPECT_EQ(send_text(which, "after drain", address_of(receiver)), 0);
        };
        on.attach(socket);
        struct dgram_addr to = address_of(receiver);
        std::vector<std::string> accepted;
        accepted.reserve(100);
        int code = 0;
        while (code == 0 && accepted.size() < 100) {
            accepted.push_back(numbered(static_cast<unsigned>(accepted.size()), 100));
            code = dgram_send_to(socket, accepted.back().data(), 100, &to,
                                 asked ? Results::take : nullptr, &results);
        }
        ASSERT_EQ(code, -EAGAIN);
        accepted.pop_back();
        EXPECT_GE(accepted.size(), 10u);
        EXPECT_LE(accepted.size(), 11u);
        for (int i = 0; i < 5; i++) {
            EXPECT_EQ(dgram_send_to(socket, accepted[0].data(), 100, &to,
                                    asked ? Results::take : nullptr, &results),
                      -EAGAIN);
        }
        EXPECT_EQ(dgram_get_send_queue_count(socket), accepted.size());
        EXPECT_EQ(dgram_get_send_queue_size(socket), accepted.size() * 100);
        EXPECT_EQ(drains, 0);
        const size_t count = accepted.size();
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == count + 1; }));
        settle(loop);
        EXPECT_EQ(drains, 1);
        accepted.push_back("after drain");
        EXPECT_TRUE(inbox.payloads == accepted);
        EXPECT_EQ(results.values, std::vector<int>(asked ? count : 0, 100));
        EXPECT_EQ(stats_of(socket).sent, count + 1);
        close_and_wait(loop, socket);
    }
}

TEST_P(Queue, NoDrainWithoutARefusal)
{
    int drains = 0;
    Results results;
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    Handlers on;
    on.drain = [&](struct dgram_socket *) { drains++; };
    on.attach(socket);
    struct dgram_addr to = address_of(sink);
    for (int i = 0; i < 500; i++) {
        ASSERT_EQ(dgram_send_to(socket, "x", 1, &to, Results::take, &results), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 500; }));
    settle(loop);
    EXPECT_EQ(drains, 0);
}

/* The loop's limit counts all sockets; each one that was refused gets its `drain`. */
TEST_P(Queue, LimitOfTheLoopIsSharedByItsSockets)
{
    struct dgram_loop_options options = loop_options();
    options.queue_limit = 3300; /* twenty of 164 */
    remake_loop(options);
    Inbox inbox;
    Recorder log;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *one = open_socket(loop), *two = open_socket(loop);
    Handlers on_one, on_two;
    on_one.drain = [&](struct dgram_socket *) { log.add("one"); };
    on_two.drain = [&](struct dgram_socket *) { log.add("two"); };
    on_one.attach(one);
    on_two.attach(two);
    const struct dgram_addr to = address_of(receiver);
    for (int i = 0; i < 15; i++) {
        ASSERT_EQ(send_text(one, pattern(100, 1), to), 0);
    }
    size_t accepted = 15;
    int code = 0;
    while (code == 0 && accepted < 100) {
        code = send_text(two, pattern(100, 1), to);
        accepted += code == 0;
    }
    EXPECT_EQ(code, -EAGAIN);
    EXPECT_GE(accepted, 20u);
    EXPECT_LE(accepted, 21u);
    ASSERT_TRUE(run_until(loop, [&] { return !log.events.empty() && inbox.count() == accepted; }));
    settle(loop);
    EXPECT_EQ(log.text(), "two");
    EXPECT_EQ(inbox.count(), accepted);
}

/* A pump that keeps the queue full: every drain follows a refusal, everything arrives in order. */
TEST_P(Queue, PumpingOnDrainDeliversEverythingOnceInOrder)
{
    const size_t count = 5000;
    struct dgram_socket *socket = open_limited(loop, 20 * 164);
    struct dgram_socket *receiver = open_bound(loop);
    const struct dgram_addr to = address_of(receiver);
    const size_t window = std::min<size_t>(room_of(receiver), 64);
    size_t next = 0, received = 0, completed = 0, refused = 0, drains = 0, refused_since = 0;
    Sent sent([&](struct dgram_socket *, int result) {
        EXPECT_EQ(result, 100);
        completed++;
    });
    std::vector<std::string> payloads;
    for (unsigned i = 0; i < count; i++) {
        payloads.push_back(numbered(i, 100));
    }
    auto pump = [&] {
        while (next < count && next - received < window) {
            int code = dgram_send_to(socket, payloads[next].data(), 100, &to, Sent::call, &sent);
            if (code < 0) {
                EXPECT_EQ(code, -EAGAIN);
                refused++;
                refused_since++;
                break;
            }
            next++;
        }
    };
    Handlers on_socket, on_receiver;
    on_socket.drain = [&](struct dgram_socket *) {
        EXPECT_GT(refused_since, 0u);
        refused_since = 0;
        drains++;
        pump();
    };
    on_receiver.message = [&](struct dgram_socket *, const struct dgram_message *message) {
        ASSERT_LT(received, count);
        EXPECT_TRUE(payload_of(message) == payloads[received]) << received;
        received++;
        pump();
    };
    on_socket.attach(socket);
    on_receiver.attach(receiver);
    pump();
    ASSERT_TRUE(run_until(
        loop, [&] { return received == count && completed == count && refused_since == 0; }));
    settle(loop);
    EXPECT_EQ(received, count);
    EXPECT_EQ(completed, count);
    EXPECT_GT(refused, 0u);
    EXPECT_GT(drains, 0u);
    EXPECT_LE(drains, refused);
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
}

/* L23: recursion through callbacks grows no stack. */
TEST_P(Queue, SendingFromTheSentCallbackDoesNotGrowTheStack)
{
    const int count = 100000;
    int done = 0;
    uintptr_t lowest = UINTPTR_MAX, highest = 0;
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_addr to = address_of(sink);
    Sent again;
    again.fn = [&](struct dgram_socket *which, int result) {
        volatile char here = 0;
        uintptr_t place = reinterpret_cast<uintptr_t>(&here);
        lowest = std::min(lowest, place);
        highest = std::max(highest, place);
        EXPECT_EQ(result, 4);
        if (++done < count) {
            ASSERT_EQ(dgram_send_to(which, "next", 4, &to, Sent::call, &again), 0);
        }
    };
    ASSERT_EQ(dgram_send_to(socket, "next", 4, &to, Sent::call, &again), 0);
    ASSERT_TRUE(run_until(loop, [&] { return done == count; }));
    EXPECT_LT(highest - lowest, 16384u);
}

/* A chain of sends that never ends holds neither a turn nor the other work of the loop. */
TEST_P(Queue, EndlessChainOfSendsDoesNotHoldATurn)
{
    uint64_t done = 0;
    bool posted = false, ticked = false;
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_addr to = address_of(sink);
    Sent again;
    again.fn = [&](struct dgram_socket *which, int result) {
        done++;
        if (result >= 0) {
            dgram_send_to(which, "next", 4, &to, Sent::call, &again);
        }
    };
    ASSERT_EQ(dgram_send_to(socket, "next", 4, &to, Sent::call, &again), 0);
    for (int i = 0; i < 100; i++) {
        ASSERT_EQ(dgram_loop_turn(loop, 0), 1);
    }
    EXPECT_GT(done, 0u);
    Job job([&](struct dgram_loop *) { posted = true; });
    Tick tick([&](struct dgram_timer *) { ticked = true; });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, 0), 0);
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    ASSERT_TRUE(run_until(loop, [&] { return posted && ticked; }));
}

/* Queued beyond what is submitted at once: no callback inside a send, and each exactly once. */
TEST_P(Queue, LongBacklogCompletesEachSendOnce)
{
    const size_t count = 20000;
    std::vector<unsigned char> completed(count, 0);
    size_t done = 0;
    struct Item {
        std::vector<unsigned char> *completed;
        size_t *done;
        size_t index;
    };
    std::vector<Item> items;
    items.reserve(count);
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_addr to = address_of(sink);
    const std::string payload = pattern(64, 3);
    auto callback = [](struct dgram_socket *, int result, void *user) {
        if (!muted()) {
            Item *item = static_cast<Item *>(user);
            EXPECT_EQ(result, 64);
            ++(*item->completed)[item->index];
            ++*item->done;
        }
    };
    for (size_t i = 0; i < count; i++) {
        items.push_back({&completed, &done, i});
        ASSERT_EQ(dgram_send_to(socket, payload.data(), 64, &to, callback, &items[i]), 0) << i;
    }
    EXPECT_EQ(done, 0u) << "a callback ran inside a call";
    EXPECT_EQ(dgram_get_send_queue_count(socket), count);
    ASSERT_TRUE(run_until(loop, [&] { return done == count; }));
    EXPECT_EQ(completed, std::vector<unsigned char>(count, 1));
    EXPECT_EQ(stats_of(socket).sent, count);
}

/* ---- The loop slept ------------------------------------------------------------------------ */

/* A limit below what a submission may hold: nothing was submitted yet when the queue was full. */
TEST_P(QueueHost, DrainComesBelowASubmission)
{
    if (info_of(loop).segments_max == 1) {
        GTEST_SKIP() << "without trains a submission is full before the queue is";
    }
    Plain sink;
    const struct dgram_addr to = sink.address();
    int drains = 0;
    struct dgram_socket *socket = open_limited(loop, 64 * 1024);
    auto fill = [&](struct dgram_socket *which) {
        int code, accepted = 0;
        while ((code = send_text(which, std::string(300, 'x'), to)) == 0) {
            accepted++;
        }
        EXPECT_EQ(code, -EAGAIN);
        EXPECT_GE(accepted, 80) << "half of the queue was free";
    };
    Handlers on;
    on.listening = fill;
    on.drain = [&](struct dgram_socket *which) {
        if (++drains == 3) {
            dgram_loop_stop(loop);
        } else {
            fill(which);
        }
    };
    on.attach(socket);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    run_awake(loop);
    EXPECT_EQ(drains, 3);
    EXPECT_EQ(stats_of(socket).send_errors, 0u);
}

/* ---- Sends that wait ----------------------------------------------------------------------- */

/* A closed socket told of what it had queued before. */
TEST_P(QueueHost, QueueIsEmptyForAClosedSocket)
{
    Plain peer;
    Results results;
    const struct dgram_addr to = peer.address();
    struct dgram_socket *socket = open_bound(loop);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(send_text(socket, "plain", to), 0);
        ASSERT_EQ(dgram_send_to(socket, "asked", 5, &to, Results::take, &results), 0);
    }
    ASSERT_EQ(dgram_get_send_queue_count(socket), 6u);
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_get_send_queue_size(socket), 0u);
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
    ASSERT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(results.values, (std::vector<int>{5, 5, 5}));
}

} /* namespace */
