/* SPDX-License-Identifier: MIT */
/*
 * receive.cc: messages: what they say, empty and truncated ones, arrays, handlers that come and go.
 */
#include <algorithm>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Message : public EngineTest
{
};

class Dropped : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Message);

INSTANTIATE_ON_HOST_ENGINES(Dropped);

/* S3, L47 */
TEST_P(Message, TellsPayloadAndSender)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        int messages = 0;
        struct dgram_socket *sender = open_bound(loop, type);
        struct dgram_socket *receiver = open_bound(loop, type);
        struct dgram_addr from = address_of(sender);
        Handlers on;
        on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
            messages++;
            EXPECT_EQ(socket, receiver);
            EXPECT_EQ(message->size, 5u);
            EXPECT_EQ(message->real_size, 5u);
            EXPECT_EQ(memcmp(message->data, "hello", 5), 0);
            EXPECT_EQ(message->flags, 0u);
            EXPECT_EQ(message->facts, nullptr);
            ASSERT_NE(message->from, nullptr);
            EXPECT_EQ(text_of(message->from), loopback(type));
            EXPECT_EQ(dgram_addr_port(message->from), dgram_addr_port(&from));
            EXPECT_STREQ(dgram_addr_family(message->from), type == DGRAM_UDP6 ? "IPv6" : "IPv4");
            EXPECT_EQ(message->from->size, type == DGRAM_UDP6 ? sizeof(struct sockaddr_in6)
                                                              : sizeof(struct sockaddr_in));
            EXPECT_TRUE(dgram_addr_equal(message->from, &from));
        };
        on.attach(receiver);
        ASSERT_EQ(send_text(sender, "hello", address_of(receiver)), 0);
        ASSERT_TRUE(run_until(loop, [&] { return messages == 1; }));
    }
}

/* T12: never inside the call that sent it. */
TEST_P(Message, ComesInATurnOnly)
{
    Inbox inbox;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    for (int i = 0; i < 300; i++) {
        ASSERT_EQ(send_text(socket, numbered(1), address_of(socket)), 0);
        ASSERT_EQ(inbox.count(), 0u);
    }
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    EXPECT_EQ(inbox.count(), 0u);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 300; }));
}

/* S7, L20 */
TEST_P(Message, MayBeEmpty)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        int messages = 0;
        struct dgram_socket *sender = open_bound(loop, type);
        struct dgram_socket *receiver = open_bound(loop, type);
        struct dgram_addr from = address_of(sender);
        Handlers on;
        on.message = [&](struct dgram_socket *, const struct dgram_message *message) {
            messages++;
            EXPECT_EQ(message->size, 0u);
            EXPECT_EQ(message->real_size, 0u);
            EXPECT_NE(message->data, nullptr);
            EXPECT_EQ(message->flags, 0u);
            EXPECT_TRUE(dgram_addr_equal(message->from, &from));
        };
        on.attach(receiver);
        ASSERT_EQ(send_text(sender, "", address_of(receiver)), 0);
        ASSERT_TRUE(run_until(loop, [&] { return messages == 1; }));
        settle(loop);
        EXPECT_EQ(messages, 1);
    }
}

/* L20: each one counts, many in a row and between others. */
TEST_P(Message, ManyMayBeEmptyInARow)
{
    Inbox inbox;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    std::vector<std::string> sent(60, "");
    for (unsigned i = 0; i < 60; i++) {
        sent.push_back(i % 3 == 0 ? numbered(i) : "");
    }
    sent.push_back("last");
    send_row(sender, sent, address_of(receiver));
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == sent.size(); }));
    EXPECT_EQ(inbox.payloads, sent);
    EXPECT_EQ(stats_of(receiver).received, sent.size());
}

/* L50: a slot that is too small cuts, says so and tells the real size. */
TEST_P(Message, IsTruncatedOnlyBySmallSlotsAndNeverSilently)
{
    struct dgram_loop_options options = loop_options();
    options.slot_size = 512;
    remake_loop(options);
    EXPECT_EQ(info_of(loop).slot_size, 512u);
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        const size_t sizes[] = {100, 511, 512, 513, 2000, 0, 65507, 512, 1};
        size_t messages = 0;
        struct dgram_socket *sender = open_socket(loop, type);
        struct dgram_socket *receiver = open_bound(loop, type);
        Handlers on;
        on.message = [&](struct dgram_socket *, const struct dgram_message *message) {
            size_t size = sizes[messages++];
            const std::string whole = numbered(static_cast<unsigned>(size), size);
            EXPECT_EQ(message->size, std::min<size_t>(size, 512)) << size;
            EXPECT_EQ(message->real_size, size);
            EXPECT_EQ(message->flags, size > 512 ? DGRAM_TRUNCATED : 0u) << size;
            EXPECT_TRUE(payload_of(message) == whole.substr(0, message->size)) << size;
        };
        on.attach(receiver);
        for (size_t size : sizes) {
            size_t before = messages;
            ASSERT_EQ(send_text(sender, numbered(static_cast<unsigned>(size), size),
                                address_of(receiver)),
                      0);
            ASSERT_TRUE(run_until(loop, [&] { return messages == before + 1; })) << size;
        }
        EXPECT_EQ(stats_of(receiver).truncated, 3u);
        EXPECT_EQ(stats_of(receiver).received, 9u);
    }
}

/* The default slots cut nothing, whatever comes. */
TEST_P(Message, OfAnySizeFitsTheDefaultSlots)
{
    for (uint32_t type : socket_types()) {
        Inbox inbox;
        struct dgram_socket *socket = open_inbox(loop, &inbox, type);
        const std::string largest = pattern(size_max(type), 5);
        for (size_t i = 1; i <= 3; i++) {
            ASSERT_EQ(send_text(socket, largest, address_of(socket)), 0);
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == i; }));
            EXPECT_TRUE(inbox.payloads.back() == largest);
        }
        EXPECT_EQ(stats_of(socket).truncated, 0u);
    }
}

/* A burst with small slots: no trains are received, nothing is lost. */
TEST_P(Message, BurstsFitSmallSlotsOneByOne)
{
    struct dgram_loop_options options = loop_options();
    options.slot_size = 512;
    options.slots = 4;
    remake_loop(options);
    Inbox inbox;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    const std::vector<std::string> sent = numbered_row(100, 400);
    send_row(sender, sent, address_of(receiver));
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 100; }));
    EXPECT_TRUE(inbox.payloads == sent);
    EXPECT_EQ(stats_of(receiver).truncated, 0u);
    EXPECT_EQ(stats_of(receiver).receives, 100u);
}

/* S34: without a handler datagrams stay in the kernel and come when there is one. */
TEST_P(Message, WaitsForAHandler)
{
    Inbox inbox;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    const std::vector<std::string> sent = numbered_row(50);
    send_row(sender, sent, address_of(receiver));
    settle(loop);
    EXPECT_EQ(stats_of(receiver).received, 0u);
    ASSERT_EQ(dgram_on_message(receiver, Inbox::take, &inbox), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 50; }));
    EXPECT_TRUE(inbox.payloads == sent);
}

/* Removed in the middle of a burst and set again: nothing comes meanwhile, nothing is lost. */
TEST_P(Message, HandlerMayBeRemovedAndSetAgain)
{
    std::vector<std::string> got;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    Handlers on;
    size_t stop_at = 10;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
        got.push_back(payload_of(message));
        if (got.size() == stop_at) {
            EXPECT_EQ(dgram_on_message(socket, nullptr, nullptr), 0);
        }
    };
    const std::vector<std::string> sent = numbered_row(64);
    on.attach(receiver);
    send_row(sender, sent, address_of(receiver));
    for (; stop_at < 64; stop_at += 10) {
        ASSERT_TRUE(run_until(loop, [&] { return got.size() == stop_at; }));
        settle(loop);
        EXPECT_EQ(got.size(), stop_at);
        on.attach(receiver);
    }
    ASSERT_TRUE(run_until(loop, [&] { return got.size() == 64; }));
    EXPECT_TRUE(got == sent);
}

/* `messages` gets arrays of 1 to 256 and takes the place of `message` while it is set. */
TEST_P(Message, ArraysHoldAtMost256InOrder)
{
    std::vector<std::string> got;
    size_t singles = 0, calls = 0;
    struct dgram_socket *sender = open_bound(loop);
    struct dgram_socket *receiver = open_bound(loop);
    const uint16_t port = port_of(sender);
    const size_t count = std::min<size_t>(1000, room_of(receiver));
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *) { singles++; };
    on.messages = [&](struct dgram_socket *socket, const struct dgram_message *messages,
                      size_t number) {
        calls++;
        EXPECT_EQ(socket, receiver);
        EXPECT_GE(number, 1u);
        EXPECT_LE(number, 256u);
        for (size_t i = 0; i < number; i++) {
            EXPECT_EQ(dgram_addr_port(messages[i].from), port);
            EXPECT_EQ(messages[i].real_size, messages[i].size);
            EXPECT_EQ(messages[i].flags, 0u);
            got.push_back(payload_of(&messages[i]));
        }
    };
    on.attach(receiver);
    const std::vector<std::string> sent = numbered_row(static_cast<unsigned>(count));
    send_row(sender, sent, address_of(receiver));
    ASSERT_TRUE(run_until(loop, [&] { return got.size() >= count; }));
    EXPECT_TRUE(got == sent);
    EXPECT_EQ(singles, 0u);
    EXPECT_LE(calls, count);
    EXPECT_EQ(stats_of(receiver).received, count);

    ASSERT_EQ(dgram_on_messages(receiver, nullptr, nullptr), 0);
    ASSERT_EQ(send_text(sender, "single again", address_of(receiver)), 0);
    ASSERT_TRUE(run_until(loop, [&] { return singles == 1; }));
    EXPECT_EQ(got.size(), count);
}

/* Datagrams that no train can hold come one by one from the kernel, and yet in arrays. */
TEST_P(Message, ArraysHoldWhatWasReceivedOneByOne)
{
    enum { PEERS = 3, ROUNDS = 8 };
    size_t calls = 0;
    std::vector<std::pair<uint16_t, std::string>> got, sent;
    std::vector<struct dgram_socket *> peers;
    for (int i = 0; i < PEERS; i++) {
        peers.push_back(open_bound(loop));
    }
    struct dgram_socket *receiver = open_bound(loop), *second = open_bound(loop);
    size_t others = 0;
    Handlers on;
    on.messages = [&](struct dgram_socket *socket, const struct dgram_message *messages,
                      size_t count) {
        if (socket == second) {
            for (size_t i = 0; i < count; i++) {
                EXPECT_EQ(payload_of(&messages[i]), "other");
            }
            others += count;
            return;
        }
        calls++;
        for (size_t i = 0; i < count; i++) {
            got.emplace_back(dgram_addr_port(messages[i].from), payload_of(&messages[i]));
        }
    };
    on.attach(receiver);
    on.attach(second);
    settle(loop); /* they receive */
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (struct dgram_socket *peer : peers) {
            const std::string payload = numbered(round, 20 + 10 * round);
            sent.emplace_back(port_of(peer), payload);
            ASSERT_EQ(send_text(peer, payload, address_of(receiver)), 0);
            ASSERT_EQ(dgram_loop_flush(loop), 0);
        }
        ASSERT_EQ(send_text(peers[0], "other", address_of(second)), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return got.size() == sent.size() && others == ROUNDS; }));
    EXPECT_EQ(stats_of(receiver).receives, sent.size());
    EXPECT_TRUE(std::is_permutation(got.begin(), got.end(), sent.begin()));
    EXPECT_LE(calls, sent.size() / 2);
}

/* What follows in the kernel's answers is held back like the rest of a train: lone datagrams, and
 * trains of 100, of which the third does not fit into the array. */
TEST_P(Message, ArrayHandlerThatPausesOrLeavesGetsNoMore)
{
    for (const unsigned way : {0u, 1u, 2u, 3u}) {
        const bool pauses = way % 2 == 0, trains = way / 2 == 1;
        SCOPED_TRACE(way);
        std::vector<std::string> got, sent;
        struct dgram_socket_options options = socket_options();
        options.segments_max = 100;
        struct dgram_socket *sender = nullptr, *receiver = open_bound(loop);
        ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &sender), 0);
        Handlers on;
        on.messages = [&](struct dgram_socket *socket, const struct dgram_message *messages,
                          size_t count) {
            for (size_t i = 0; i < count; i++) {
                got.push_back(payload_of(&messages[i]));
            }
            EXPECT_EQ(pauses ? dgram_pause(socket) : dgram_on_messages(socket, nullptr, nullptr),
                      0);
        };
        on.attach(receiver);
        const auto count = static_cast<unsigned>(std::min<size_t>(400, room_of(receiver)));
        for (unsigned i = 0; i < count; i++) {
            sent.push_back(numbered(i, trains ? 20 : 20 + i % 7));
            ASSERT_EQ(send_text(sender, sent.back(), address_of(receiver)), 0);
        }
        while (got.size() < sent.size()) {
            const size_t before = got.size();
            ASSERT_TRUE(run_until(loop, [&] { return got.size() > before; }));
            const size_t after = got.size();
            settle(loop);
            ASSERT_EQ(got.size(), after) << "more came, uncalled for";
            ASSERT_EQ(pauses ? dgram_resume(receiver)
                             : dgram_on_messages(receiver, Handlers::on_messages, &on),
                      0);
        }
        EXPECT_TRUE(got == sent);
        close_and_wait(loop, receiver);
    }
}

TEST_P(Message, ArraysMayHoldEmptyAndTruncatedDatagrams)
{
    struct dgram_loop_options options = loop_options();
    options.slot_size = 512;
    remake_loop(options);
    std::vector<std::string> got;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    Handlers on;
    on.messages = [&](struct dgram_socket *, const struct dgram_message *messages, size_t count) {
        for (size_t i = 0; i < count; i++) {
            EXPECT_NE(messages[i].data, nullptr);
            got.push_back(std::to_string(messages[i].size) + "/" +
                          std::to_string(messages[i].real_size) +
                          (messages[i].flags & DGRAM_TRUNCATED ? "!" : ""));
        }
    };
    on.attach(receiver);
    for (size_t size : {0u, 0u, 10u, 1000u, 0u, 512u, 600u}) {
        ASSERT_EQ(send_text(sender, pattern(size, 1), address_of(receiver)), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return got.size() == 7; }));
    EXPECT_EQ(got, (std::vector<std::string>{"0/0", "0/0", "10/10", "512/1000!", "0/0", "512/512",
                                             "512/600!"}));
}

/* What the kernel had no room for is counted, also when the socket is closed. */
TEST_P(Dropped, IsCounted)
{
#ifndef DGRAM_TEST_LINUX_HOST
    GTEST_SKIP() << "POSIX does not tell";
#endif
    enum { COUNT = 200 };
    struct dgram_socket_options options = socket_options();
    struct dgram_socket *receiver = nullptr;
    options.recv_buffer_size = 4096;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &receiver), 0);
    ASSERT_EQ(dgram_bind(receiver, 0, "127.0.0.1"), 0);
    EXPECT_EQ(stats_of(receiver).dropped, 0u);
    Plain peer;
    for (int i = 0; i < COUNT; i++) {
        peer.send(pattern(1000, 1), address_of(receiver));
    }
    const uint64_t dropped = stats_of(receiver).dropped;
    EXPECT_GT(dropped, 0u);
    Inbox inbox;
    ASSERT_EQ(dgram_on_message(receiver, Inbox::take, &inbox), 0);
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() + dropped == COUNT; }));
    uint64_t at_close = 0;
    Handlers on;
    on.close = [&](struct dgram_socket *socket) { at_close = stats_of(socket).dropped; };
    on.attach(receiver);
    ASSERT_EQ(dgram_close(receiver), 0);
    ASSERT_TRUE(run_until(loop, [&] { return at_close > 0; }));
    EXPECT_EQ(at_close, dropped);
}

/* From one handler to the other in the middle of a burst. */
TEST_P(Message, HandlersMayTakeTurnsInsideABurst)
{
    std::vector<std::string> got;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    Handlers on;
    bool arrays = false;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
        EXPECT_FALSE(arrays);
        got.push_back(payload_of(message));
        arrays = true;
        EXPECT_EQ(dgram_on_messages(socket, Handlers::on_messages, &on), 0);
    };
    on.messages = [&](struct dgram_socket *socket, const struct dgram_message *messages,
                      size_t count) {
        EXPECT_TRUE(arrays);
        for (size_t i = 0; i < count; i++) {
            got.push_back(payload_of(&messages[i]));
        }
        arrays = false;
        EXPECT_EQ(dgram_on_messages(socket, nullptr, nullptr), 0);
    };
    ASSERT_EQ(dgram_on_message(receiver, Handlers::on_message, &on), 0);
    const std::vector<std::string> sent = numbered_row(200);
    for (size_t first = 0; first < 200; first += 50) {
        send_row(
            sender,
            {sent.begin() + static_cast<long>(first), sent.begin() + static_cast<long>(first) + 50},
            address_of(receiver));
        ASSERT_TRUE(run_until(loop, [&] { return got.size() == first + 50; }));
    }
    EXPECT_TRUE(got == sent);
}

/* A long stream with a credit: every one is counted, in order, none is lost. */
TEST_P(Message, LongStreamLosesNothing)
{
    const unsigned count = patience() > 1 ? 10000 : 100000;
    unsigned next = 0, received = 0;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    const struct dgram_addr to = address_of(receiver);
    const unsigned window = static_cast<unsigned>(std::min<size_t>(room_of(receiver), 1024));
    Handlers on;
    auto pump = [&] {
        while (next < count && next - received < window) {
            ASSERT_EQ(dgram_send_to(sender, &next, sizeof(next), &to, nullptr, nullptr), 0);
            next++;
        }
    };
    on.message = [&](struct dgram_socket *, const struct dgram_message *message) {
        unsigned number = 0;
        ASSERT_EQ(message->size, sizeof(number));
        memcpy(&number, message->data, sizeof(number));
        EXPECT_EQ(number, received);
        received++;
        if (next - received <= window / 2) {
            pump();
        }
    };
    on.attach(receiver);
    pump();
    ASSERT_TRUE(run_until(loop, [&] { return received == count || HasFailure(); }));
    EXPECT_EQ(stats_of(receiver).received, count);
    EXPECT_EQ(stats_of(sender).sent, count);
    EXPECT_EQ(stats_of(receiver).discarded, 0u);
}

} /* namespace */
