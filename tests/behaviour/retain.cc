/* SPDX-License-Identifier: MIT */
/*
 * retain.cc: retained messages outlive handler, socket and loop, and never stop the receiving.
 */
#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Retain : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Retain);

struct Kept {
    struct dgram_message message;
    std::string payload;
    struct dgram_addr from;
    uint32_t flags, real_size;
};

/* A handler that keeps every message, with a copy to compare with. */
Handlers keeping(std::vector<Kept> *kept)
{
    Handlers on;
    on.message = [kept](struct dgram_socket *, const struct dgram_message *message) {
        Kept one = {};
        ASSERT_EQ(dgram_message_retain(message, &one.message), 0);
        one.payload = payload_of(message);
        one.from = *message->from;
        one.flags = message->flags;
        one.real_size = message->real_size;
        kept->push_back(one);
    };
    return on;
}

void expect_intact(const std::vector<Kept> &kept)
{
    for (const Kept &one : kept) {
        EXPECT_TRUE(payload_of(&one.message) == one.payload);
        ASSERT_NE(one.message.from, nullptr);
        EXPECT_TRUE(dgram_addr_equal(one.message.from, &one.from));
        EXPECT_EQ(one.message.flags, one.flags);
        EXPECT_EQ(one.message.real_size, one.real_size);
        EXPECT_NE(one.message.data, nullptr);
    }
}

void release_all(std::vector<Kept> *kept)
{
    for (Kept &one : *kept) {
        dgram_message_release(&one.message);
    }
    kept->clear();
}

/* Large and small ones, full and empty, survive the handler, later traffic, socket and loop. */
TEST_P(Retain, OutlivesHandlerSocketAndLoop)
{
    const size_t sizes[] = {0, 1, 64, 1400, 9000, 40000, 65507};
    std::vector<Kept> kept;
    size_t later = 0;
    struct dgram_loop *mortal = make_loop();
    struct dgram_socket *sender = open_socket(mortal);
    struct dgram_socket *receiver = open_bound(mortal);
    Handlers keep = keeping(&kept), forget;
    forget.message = [&](struct dgram_socket *, const struct dgram_message *) { later++; };
    keep.attach(receiver);
    for (size_t size : sizes) {
        size_t before = kept.size();
        ASSERT_EQ(
            send_text(sender, numbered(static_cast<unsigned>(size), size), address_of(receiver)),
            0);
        ASSERT_TRUE(run_until(mortal, [&] { return kept.size() == before + 1; }));
    }
    forget.attach(receiver);
    for (size_t i = 1; i <= 200; i++) { /* more than the pool has slots */
        ASSERT_EQ(send_text(sender, pattern(30000, 99), address_of(receiver)), 0);
        ASSERT_TRUE(run_until(mortal, [&] { return later == i; }));
    }
    expect_intact(kept);
    close_and_wait(mortal, receiver);
    expect_intact(kept);
    EXPECT_EQ(dgram_loop_free(mortal), nullptr);
    expect_intact(kept);
    for (size_t i = 0; i < kept.size(); i++) {
        EXPECT_TRUE(kept[i].payload == numbered(static_cast<unsigned>(sizes[i]), sizes[i]));
    }
    release_all(&kept);
}

/* Copying is for those that fill little of a slot, and when many slots are pinned already. */
TEST_P(Retain, LargeOnesStayWhereTheyAre)
{
    std::vector<bool> stayed;
    std::vector<struct dgram_message> kept;
    struct dgram_socket *sender = open_socket(loop), *receiver = open_bound(loop);
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *message) {
        struct dgram_message one = {};
        ASSERT_EQ(dgram_message_retain(message, &one), 0);
        stayed.push_back(one.data == message->data);
        kept.push_back(one);
    };
    on.attach(receiver);
    auto retain = [&](size_t size) {
        size_t count = kept.size() + 1;
        EXPECT_EQ(send_text(sender, pattern(size, 1), address_of(receiver)), 0);
        EXPECT_TRUE(run_until(loop, [&] { return kept.size() == count; }));
        return stayed.back();
    };
    EXPECT_FALSE(retain(64));
    EXPECT_TRUE(retain(40000));
    EXPECT_TRUE(retain(65507));
    const uint32_t slots = info_of(loop).slots;
    unsigned pinned = 2;
    while (pinned <= slots && retain(40000)) {
        pinned++;
    }
    EXPECT_EQ(pinned, slots / 4);
    for (struct dgram_message &one : kept) {
        dgram_message_release(&one);
    }
    EXPECT_TRUE(retain(40000)) << "released ones count no more";
    dgram_message_release(&kept.back());
}

/* One train, some of its datagrams kept: each on its own. */
TEST_P(Retain, PartsOfABurstAreIndependent)
{
    std::vector<Kept> kept;
    size_t messages = 0;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    const uint32_t slots = info_of(loop).slots;
    Handlers keep = keeping(&kept), on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
        if (messages++ % 3 == 0) {
            keep.message(socket, message);
        }
    };
    on.attach(receiver);
    for (size_t size : {64u, 1200u, 20000u}) {
        const std::vector<std::string> row = numbered_row(size == 64 ? 60 : 3, size);
        size_t before = messages;
        send_row(sender, row, address_of(receiver));
        ASSERT_TRUE(run_until(loop, [&] { return messages == before + row.size(); }));
    }
    EXPECT_EQ(kept.size(), 22u);
    expect_intact(kept);
    release_all(&kept);
    settle(loop);
    EXPECT_EQ(info_of(loop).slots_free, slots);
    expect_echo(loop, receiver);
}

TEST_P(Retain, ReleaseAcceptsNullAndWhatIsReleased)
{
    std::vector<Kept> kept;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    Handlers keep = keeping(&kept);
    keep.attach(receiver);
    for (size_t size : {10u, 60000u}) {
        size_t before = kept.size();
        ASSERT_EQ(send_text(sender, pattern(size, 1), address_of(receiver)), 0);
        ASSERT_TRUE(run_until(loop, [&] { return kept.size() == before + 1; }));
    }
    dgram_message_release(nullptr);
    for (Kept &one : kept) {
        struct dgram_message copy = one.message; /* copied by value; released once */
        memset(&one.message, 0, sizeof(one.message));
        dgram_message_release(&copy);
        dgram_message_release(&copy);
        dgram_message_release(&one.message);
    }
    struct dgram_message zero = {};
    dgram_message_release(&zero);
    expect_echo(loop, receiver);
}

/* More than the pool has slots, all large: receiving goes on, and every one is intact. */
TEST_P(Retain, MoreThanThePoolHoldsNeverStopsReceiving)
{
    struct dgram_loop_options options = loop_options();
    options.slots = 4;
    remake_loop(options);
    std::vector<Kept> kept;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    Handlers keep = keeping(&kept);
    keep.attach(receiver);
    for (unsigned i = 0; i < 100; i++) {
        ASSERT_EQ(send_text(sender, numbered(i, 50000 + i), address_of(receiver)), 0);
        ASSERT_TRUE(run_until(loop, [&] { return kept.size() == i + 1; })) << i;
    }
    expect_intact(kept);
    release_all(&kept);
    settle(loop);
    EXPECT_EQ(info_of(loop).slots_free, 4u);
    expect_echo(loop, receiver);
}

TEST_P(Retain, InsideAMessagesHandler)
{
    std::vector<Kept> kept;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    Handlers keep = keeping(&kept), on;
    on.messages = [&](struct dgram_socket *socket, const struct dgram_message *messages,
                      size_t count) {
        for (size_t i = 0; i < count; i++) {
            keep.message(socket, &messages[i]);
        }
    };
    on.attach(receiver);
    const std::vector<std::string> sent = numbered_row(100, 1000);
    for (unsigned i = 0; i < 100; i += 20) {
        send_row(sender, {sent.begin() + i, sent.begin() + i + 20}, address_of(receiver));
        ASSERT_TRUE(run_until(loop, [&] { return kept.size() == i + 20; }));
    }
    expect_intact(kept);
    for (size_t i = 0; i < 100; i++) {
        EXPECT_TRUE(kept[i].payload == sent[i]);
    }
    release_all(&kept);
}

/* Closed inside the handler that retained. */
TEST_P(Retain, SurvivesCloseInsideTheHandler)
{
    std::vector<Kept> kept;
    bool closed = false;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    const uint32_t slots = info_of(loop).slots;
    Handlers keep = keeping(&kept), on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
        keep.message(socket, message);
        if (kept.size() == 2) {
            EXPECT_EQ(dgram_close(socket), 0);
        }
    };
    on.close = [&](struct dgram_socket *) { closed = true; };
    on.attach(receiver);
    send_row(sender, numbered_row(3, 20000), address_of(receiver));
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
    settle(loop);
    EXPECT_EQ(kept.size(), 2u);
    expect_intact(kept);
    release_all(&kept);
    settle(loop);
    EXPECT_EQ(info_of(loop).slots_free, slots);
}

/* Released by another thread while the loop receives, and after the loop is gone. */
TEST_P(Retain, ReleasedFromAnotherThread)
{
    struct dgram_loop_options options = loop_options();
    options.slots = 8;
    struct dgram_loop *mortal = make_loop(&options);
    const unsigned count = patience() > 1 ? 300 : 3000;
    std::vector<Kept> kept, shared;
    std::mutex lock;
    std::condition_variable changed;
    bool finished = false;
    size_t released = 0;
    bool intact = true;
    std::thread releaser([&] {
        std::unique_lock<std::mutex> guard(lock);
        while (!finished || !shared.empty()) {
            if (shared.empty()) {
                changed.wait(guard);
                continue;
            }
            Kept one = shared.back();
            shared.pop_back();
            guard.unlock();
            intact = intact && payload_of(&one.message) == one.payload;
            dgram_message_release(&one.message);
            released++;
            guard.lock();
        }
    });
    struct dgram_socket *sender = open_socket(mortal);
    struct dgram_socket *receiver = open_bound(mortal);
    Handlers keep = keeping(&kept);
    keep.attach(receiver);
    unsigned sent = 0, received = 0;
    bool failed = false;
    while (sent < count && !failed) {
        for (int i = 0; i < 2; i++, sent++) {
            EXPECT_EQ(send_text(sender, numbered(sent, 20000 + sent % 7), address_of(receiver)), 0);
        }
        failed = !run_until(mortal, [&] { return received + kept.size() == sent; });
        received += static_cast<unsigned>(kept.size());
        std::lock_guard<std::mutex> guard(lock);
        shared.insert(shared.end(), kept.begin(), kept.end());
        kept.clear();
        changed.notify_one();
    }
    EXPECT_FALSE(failed);
    dgram_loop_free(mortal);
    {
        std::lock_guard<std::mutex> guard(lock);
        finished = true;
        changed.notify_one();
    }
    releaser.join();
    EXPECT_EQ(released, count);
    EXPECT_TRUE(intact);
}

} /* namespace */
