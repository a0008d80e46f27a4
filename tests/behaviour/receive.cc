/* SPDX-License-Identifier: MIT */
/*
 * behaviour_receive.cc: receiving: what a message says, empty and truncated datagrams, trains taken
 * apart, pausing, handlers that come and go, retained messages, pools that run dry, fairness.
 */
#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Message : public EngineTest
{
};
class Pause : public EngineTest
{
};
class Retain : public EngineTest
{
};
class Pool : public EngineTest
{
};
class Train : public EngineTest
{
};
class Dropped : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Message);
INSTANTIATE_ON_ALL_ENGINES(Pause);
INSTANTIATE_ON_HOST_ENGINES(Retain);
INSTANTIATE_ON_ALL_ENGINES(Pool);
INSTANTIATE_ON_HOST_ENGINES(Train);
INSTANTIATE_ON_HOST_ENGINES(Dropped);

std::vector<std::string> numbered_row(unsigned count, size_t size = 64)
{
    std::vector<std::string> row;
    for (unsigned i = 0; i < count; i++) {
        row.push_back(numbered(i, size));
    }
    return row;
}

void send_row(struct dgram_socket *socket, const std::vector<std::string> &row,
              const struct dgram_addr &to)
{
    for (const std::string &payload : row) {
        ASSERT_EQ(send_text(socket, payload, to), 0);
    }
}

/* ---- What a message says ------------------------------------------------------------------- */

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

/* ---- Pause and resume ---------------------------------------------------------------------- */

TEST_P(Pause, DeliversNothingAndLosesNothing)
{
    Inbox inbox;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    const std::vector<std::string> sent = numbered_row(100);
    EXPECT_EQ(dgram_pause(receiver), 0);
    EXPECT_EQ(dgram_pause(receiver), 0); /* idempotent */
    send_row(sender, sent, address_of(receiver));
    settle(loop);
    EXPECT_EQ(inbox.count(), 0u);
    EXPECT_EQ(dgram_resume(receiver), 0);
    EXPECT_EQ(inbox.count(), 0u); /* not inside the call */
    EXPECT_EQ(dgram_resume(receiver), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 100; }));
    EXPECT_TRUE(inbox.payloads == sent);
    expect_echo(loop, receiver);
}

TEST_P(Pause, BeforeBindHolds)
{
    Inbox inbox;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_socket(loop);
    ASSERT_EQ(dgram_on_message(receiver, Inbox::take, &inbox), 0);
    EXPECT_EQ(dgram_pause(receiver), 0);
    ASSERT_EQ(dgram_bind(receiver, 0, "127.0.0.1"), 0);
    ASSERT_EQ(send_text(sender, "x", address_of(receiver)), 0);
    settle(loop);
    EXPECT_EQ(inbox.count(), 0u);
    EXPECT_EQ(dgram_resume(receiver), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
}

/* From the middle of a burst that is taken from the kernel already: the rest comes first on resume,
 * in order, before what arrived later. */
TEST_P(Pause, InTheMiddleOfABurstKeepsTheRestForLater)
{
    for (bool arrays : {false, true}) {
        SCOPED_TRACE(arrays);
        std::vector<std::string> got;
        size_t pauses = 0;
        bool paused = false;
        struct dgram_socket *sender = open_socket(loop);
        struct dgram_socket *receiver = open_bound(loop);
        Handlers on;
        auto maybe_pause = [&](struct dgram_socket *socket) {
            if (got.size() >= 10 * (pauses + 1)) {
                EXPECT_EQ(dgram_pause(socket), 0);
                paused = true;
                pauses++;
            }
        };
        if (arrays) {
            on.messages = [&](struct dgram_socket *socket, const struct dgram_message *messages,
                              size_t count) {
                EXPECT_FALSE(paused);
                for (size_t i = 0; i < count; i++) {
                    got.push_back(payload_of(&messages[i]));
                }
                maybe_pause(socket);
            };
        } else {
            on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
                EXPECT_FALSE(paused);
                got.push_back(payload_of(message));
                maybe_pause(socket);
            };
        }
        on.attach(receiver);
        std::vector<std::string> sent = numbered_row(64);
        send_row(sender, sent, address_of(receiver));
        ASSERT_TRUE(run_until(loop, [&] { return paused; }));
        for (unsigned more = 0; more < 5; more++) {
            sent.push_back("later " + std::to_string(more));
            ASSERT_EQ(send_text(sender, sent.back(), address_of(receiver)), 0);
        }
        while (got.size() < sent.size()) {
            size_t before = got.size();
            settle(loop);
            ASSERT_EQ(got.size(), before);
            paused = false;
            ASSERT_EQ(dgram_resume(receiver), 0);
            ASSERT_TRUE(run_until(loop, [&] { return paused || got.size() == sent.size(); }));
        }
        EXPECT_TRUE(got == sent);
        EXPECT_EQ(stats_of(receiver).received, sent.size());
        EXPECT_EQ(stats_of(receiver).discarded, 0u);
        EXPECT_GE(pauses, arrays ? 1u : 6u);
        close_and_wait(loop, receiver);
    }
}

/* Paused and resumed inside one handler: as if nothing had happened. */
TEST_P(Pause, AndResumeInsideAHandlerChangeNothing)
{
    std::vector<std::string> got;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    Handlers on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
        got.push_back(payload_of(message));
        EXPECT_EQ(dgram_pause(socket), 0);
        EXPECT_EQ(dgram_resume(socket), 0);
    };
    on.attach(receiver);
    const std::vector<std::string> sent = numbered_row(100);
    send_row(sender, sent, address_of(receiver));
    ASSERT_TRUE(run_until(loop, [&] { return got.size() == 100; }));
    EXPECT_TRUE(got == sent);
}

/* Again and again, resumed from a posted function. */
TEST_P(Pause, ManyTimesLosesNothing)
{
    std::vector<std::string> got;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    bool paused = false;
    Job resume([&](struct dgram_loop *) {
        paused = false;
        EXPECT_EQ(dgram_resume(receiver), 0);
    });
    Handlers on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
        EXPECT_FALSE(paused);
        got.push_back(payload_of(message));
        if (got.size() % 7 == 0) {
            EXPECT_EQ(dgram_pause(socket), 0);
            paused = true;
            EXPECT_EQ(dgram_loop_post(loop, Job::call, &resume), 0);
        }
    };
    on.attach(receiver);
    std::vector<std::string> sent;
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 50; i++) {
            sent.push_back(numbered(round * 50 + i, i % 10 == 3 ? 0 : 64 + i % 2));
            ASSERT_EQ(send_text(sender, sent.back(), address_of(receiver)), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return got.size() >= sent.size(); }));
    }
    EXPECT_TRUE(got == sent);
}

/* A paused socket does not hold up another one. */
TEST_P(Pause, LeavesOtherSocketsAlone)
{
    struct dgram_loop_options options = loop_options();
    options.slots = 4;
    remake_loop(options);
    Inbox inbox, other;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    struct dgram_socket *witness = open_inbox(loop, &other);
    Handlers on;
    size_t messages = 0;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *) {
        if (++messages == 1) {
            EXPECT_EQ(dgram_pause(socket), 0);
        }
    };
    on.attach(receiver);
    send_row(sender, numbered_row(40, 1000), address_of(receiver));
    ASSERT_TRUE(run_until(loop, [&] { return messages == 1; }));
    for (size_t i = 1; i <= 20; i++) {
        ASSERT_EQ(send_text(sender, "x", address_of(witness)), 0);
        ASSERT_TRUE(run_until(loop, [&] { return other.count() == i; }));
    }
    EXPECT_EQ(messages, 1u);
    ASSERT_EQ(dgram_resume(receiver), 0);
    ASSERT_TRUE(run_until(loop, [&] { return messages == 40; }));
}

/* Closed while paused: what was held is gone, silently. */
TEST_P(Pause, ThenCloseDeliversNothing)
{
    size_t messages = 0;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    const uint32_t slots = info_of(loop).slots;
    Handlers on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *) {
        if (++messages == 3) {
            EXPECT_EQ(dgram_pause(socket), 0);
        }
    };
    on.attach(receiver);
    send_row(sender, numbered_row(64), address_of(receiver));
    ASSERT_TRUE(run_until(loop, [&] { return messages == 3; }));
    settle(loop);
    close_and_wait(loop, receiver);
    settle(loop);
    EXPECT_EQ(messages, 3u);
    EXPECT_EQ(info_of(loop).slots_free, slots);
}

/* ---- Retained messages --------------------------------------------------------------------- */

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

/* ---- Pools that run dry -------------------------------------------------------------------- */

/* Many flooded sockets share four slots: all are served, and none only after the others. */
TEST_P(Pool, ThatIsTooSmallServesEverySocketInTurn)
{
    struct dgram_loop_options options = loop_options();
    options.slots = 4;
    remake_loop(options);
    const size_t count = 8, per_socket = 120;
    std::vector<std::vector<std::string>> got(count);
    std::vector<struct dgram_socket *> sockets;
    std::vector<Handlers> on(count);
    std::vector<size_t> when_first_finished;
    struct dgram_socket *sender = open_socket(loop);
    const std::vector<std::string> sent = numbered_row(per_socket);
    for (size_t i = 0; i < count; i++) {
        sockets.push_back(open_bound(loop, DGRAM_UDP4, DGRAM_NO_GRO));
        ASSERT_NE(sockets[i], nullptr);
        send_row(sender, sent, address_of(sockets[i]));
        on[i].message = [&, i](struct dgram_socket *, const struct dgram_message *message) {
            got[i].push_back(payload_of(message));
            if (got[i].size() == per_socket && when_first_finished.empty()) {
                for (const std::vector<std::string> &one : got) {
                    when_first_finished.push_back(one.size());
                }
            }
        };
    }
    settle(loop); /* nobody listens yet: all of it waits in the kernel */
    for (size_t i = 0; i < count; i++) {
        on[i].attach(sockets[i]);
    }
    ASSERT_TRUE(run_until(loop, [&] {
        return std::all_of(got.begin(), got.end(), [&](const std::vector<std::string> &one) {
            return one.size() == per_socket;
        });
    }));
    for (size_t i = 0; i < count; i++) {
        EXPECT_TRUE(got[i] == sent) << i;
        EXPECT_GE(when_first_finished[i], per_socket / 4) << i;
    }
    settle(loop);
    EXPECT_EQ(info_of(loop).slots_free, 4u);
}

/* The same with the default pool and twice as many sockets as it has slots. */
TEST_P(Pool, IsSharedByMoreSocketsThanSlots)
{
    const size_t count = 128, per_socket = 20;
    std::vector<Inbox> inboxes(count);
    std::vector<struct dgram_socket *> sockets;
    struct dgram_socket *sender = open_socket(loop);
    const std::vector<std::string> sent = numbered_row(per_socket);
    for (size_t i = 0; i < count; i++) {
        sockets.push_back(open_bound(loop, DGRAM_UDP4, DGRAM_NO_GRO));
        ASSERT_NE(sockets[i], nullptr);
        send_row(sender, sent, address_of(sockets[i]));
    }
    settle(loop);
    for (size_t i = 0; i < count; i++) {
        ASSERT_EQ(dgram_on_message(sockets[i], Inbox::take, &inboxes[i]), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] {
        return std::all_of(inboxes.begin(), inboxes.end(),
                           [&](const Inbox &inbox) { return inbox.count() >= per_socket; });
    }));
    for (const Inbox &inbox : inboxes) {
        EXPECT_TRUE(inbox.payloads == sent);
    }
    settle(loop);
    EXPECT_EQ(info_of(loop).slots_free, info_of(loop).slots);
}

/* A socket whose every message causes two more; and others, a timer, posts that want their turn. */
void flood(struct dgram_loop *loop)
{
    bool over = false;
    uint64_t messages = 0;
    int ticks = 0, posts = 0;
    Inbox inbox;
    struct dgram_socket *flooded = open_bound(loop);
    struct dgram_socket *other = open_inbox(loop, &inbox);
    const struct dgram_addr to = address_of(flooded);
    Handlers on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *) {
        messages++;
        send_text(socket, "more", to);
        send_text(socket, "and more", to);
    };
    on.attach(flooded);
    Tick tick([&](struct dgram_timer *) { ticks++; });
    Job job([&](struct dgram_loop *which) {
        posts++;
        if (!over) {
            EXPECT_EQ(dgram_loop_post(which, Job::call, &job), 0);
        }
    });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, MILLISECOND), 0);
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    ASSERT_EQ(send_text(flooded, "start", to), 0);
    ASSERT_TRUE(run_until(loop, [&] { return messages > 10000; }));
    for (size_t i = 1; i <= 10; i++) {
        ASSERT_EQ(send_text(flooded, "other", address_of(other)), 0);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == i; }));
    }
    const int ticks_before = ticks, posts_before = posts;
    ASSERT_TRUE(
        run_until(loop, [&] { return ticks > ticks_before + 5 && posts > posts_before + 5; }));
    over = true;
    const int posts_left = posts;
    ASSERT_TRUE(run_until(loop, [&] { return posts > posts_left; }));
    dgram_timer_free(timer);
    close_and_wait(loop, flooded);
    close_and_wait(loop, other);
}

/* S35: a flood that feeds itself holds up neither timers nor posts nor other sockets, whatever the
 * loop does before it sleeps: it never gets to that. */
TEST_P(Pool, FloodDoesNotHoldUpTheRestOfTheLoop)
{
    for (uint32_t busy_poll_us : {0u, 50u, DGRAM_BUSY_POLL_OFF}) {
        SCOPED_TRACE(busy_poll_us);
        struct dgram_loop_options options = loop_options();
        options.busy_poll_us = busy_poll_us;
        remake_loop(options);
        flood(loop);
    }
}

/* ---- Trains -------------------------------------------------------------------------------- */

/* One send of the kernel that it cuts into datagrams of `segment` bytes (UDP_SEGMENT, udp(7)).
 * False where the kernel cannot. */
bool send_train(const Plain &peer, const std::string &payload, uint16_t segment,
                const struct dgram_addr &to)
{
    constexpr int udp_level = 17, udp_segment = 103;
    struct dgram_addr name = to;
    struct iovec vector = {const_cast<char *>(payload.data()), payload.size()};
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint16_t))] = {};
    struct msghdr header = {};
    header.msg_name = &name.u;
    header.msg_namelen = name.size;
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    struct cmsghdr *item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = udp_level;
    item->cmsg_type = udp_segment;
    item->cmsg_len = CMSG_LEN(sizeof(segment));
    memcpy(CMSG_DATA(item), &segment, sizeof(segment));
    return sendmsg(peer.fd(), &header, 0) == static_cast<ssize_t>(payload.size());
}

std::vector<std::string> cut(const std::string &payload, size_t segment)
{
    std::vector<std::string> pieces;
    for (size_t at = 0; at < payload.size(); at += segment) {
        pieces.push_back(payload.substr(at, segment));
    }
    return pieces;
}

bool trains_work()
{
    Plain sender, receiver;
    return send_train(sender, "ab", 1, receiver.address());
}

#define NEED_TRAINS()                                                                              \
    if (!trains_work()) {                                                                          \
        GTEST_SKIP() << "this kernel has no UDP_SEGMENT";                                          \
    }

/* All that comes from one sender, by either kind of handler. */
struct Catcher {
    std::vector<std::string> got;
    struct dgram_addr from;
    Handlers on;

    explicit Catcher(const struct dgram_addr &sender) : from(sender)
    {
    }
    void take(const struct dgram_message *message)
    {
        EXPECT_TRUE(dgram_addr_equal(message->from, &from));
        EXPECT_EQ(message->flags, 0u);
        EXPECT_EQ(message->real_size, message->size);
        got.push_back(payload_of(message));
    }
    void attach(struct dgram_socket *receiver, bool arrays)
    {
        if (arrays) {
            on.messages = [this](struct dgram_socket *, const struct dgram_message *messages,
                                 size_t count) {
                EXPECT_LE(count, 256u);
                for (size_t i = 0; i < count; i++) {
                    take(&messages[i]);
                }
            };
        } else {
            on.message = [this](struct dgram_socket *, const struct dgram_message *message) {
                take(message);
            };
        }
        on.attach(receiver);
    }
};

/* Whether a socket that asks for UDP_GRO gets a train of this host in one receive. */
bool gro_works()
{
#ifndef DGRAM_TEST_LINUX_HOST
    return false; /* the library asks for none */
#endif
    constexpr int udp_level = 17, udp_gro = 104, on = 1;
    Plain sender, receiver;
    return setsockopt(receiver.fd(), udp_level, udp_gro, &on, sizeof(on)) == 0 &&
           send_train(sender, "ab", 1, receiver.address()) && receiver.receive() == "ab";
}

struct Shape {
    size_t size;
    uint16_t segment;
};

/* Whole segments, a shorter last one, one alone; by count and by bytes as long as a kernel takes
 * them: 128 segments since 6.9, 64 before. */
std::vector<Shape> shapes()
{
    Plain sender, receiver;
    const bool long_ones = send_train(sender, pattern(128 * 64, 1), 64, receiver.address());
    return {{1037, 100},       {1000, 100},   {64, 1},
            {100, 100},        {99, 100},     {101, 100},
            {54 * 1200, 1200}, {64 * 64, 64}, {(long_ones ? 128u : 64u) * 64, 64},
            {64000, 32000},    {65400, 1400}};
}

/* A train of another program is taken apart at the right places, however it is received: with GRO
 * by one receive, without by one for each datagram. */
TEST_P(Train, IsTakenApartIntoDatagrams)
{
    NEED_TRAINS();
    const bool gro = gro_works();
    for (uint32_t type : socket_types()) {
        for (uint32_t flags : {0u, DGRAM_NO_GRO}) {
            for (bool arrays : {false, true}) {
                SCOPED_TRACE(testing::Message() << type << " flags " << flags << " " << arrays);
                Plain peer(type);
                Catcher catcher(peer.address());
                struct dgram_socket *receiver = open_bound(loop, type, flags);
                catcher.attach(receiver, arrays);
                std::vector<std::string> sent;
                for (Shape shape : shapes()) {
                    SCOPED_TRACE(testing::Message() << shape.size << " by " << shape.segment);
                    const std::string payload =
                        pattern(shape.size, static_cast<unsigned>(shape.size));
                    ASSERT_TRUE(send_train(peer, payload, shape.segment, address_of(receiver)));
                    for (const std::string &piece : cut(payload, shape.segment)) {
                        sent.push_back(piece);
                    }
                    ASSERT_TRUE(run_until(loop, [&] { return catcher.got.size() >= sent.size(); }));
                    ASSERT_TRUE(catcher.got == sent);
                }
                EXPECT_EQ(stats_of(receiver).received, sent.size());
                EXPECT_EQ(stats_of(receiver).truncated, 0u);
                EXPECT_EQ(stats_of(receiver).receives,
                          gro && flags == 0 ? shapes().size() : sent.size());
                close_and_wait(loop, receiver);
            }
        }
    }
}

/* What waits for the loop is received as it was sent: trains as one each, and what lies between
 * them by itself, though it is from the same sender and of the same size. */
TEST_P(Train, IsOneReceiveAndALoneDatagramAnother)
{
    NEED_TRAINS();
    if (!gro_works()) {
        GTEST_SKIP() << "this kernel has no UDP_GRO";
    }
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        Plain peer(type);
        Inbox inbox;
        std::vector<std::string> sent;
        struct dgram_socket *receiver = open_inbox(loop, &inbox, type);
        const struct dgram_addr to = address_of(receiver);
        const std::string train = pattern(64 * 64, 7), lone = pattern(64, 8);
        for (int i = 0; i < 10; i++) {
            ASSERT_TRUE(send_train(peer, train, 64, to));
            peer.send(lone, to);
            for (const std::string &piece : cut(train, 64)) {
                sent.push_back(piece);
            }
            sent.push_back(lone);
        }
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() >= sent.size(); }));
        EXPECT_TRUE(inbox.payloads == sent);
        EXPECT_EQ(stats_of(receiver).received, sent.size());
        EXPECT_EQ(stats_of(receiver).receives, 20u);
    }
}

/* Trains, single datagrams and empty ones of several senders, mixed. */
TEST_P(Train, MixesWithSingleDatagrams)
{
    NEED_TRAINS();
    Plain peers[2];
    const struct dgram_addr from[2] = {peers[0].address(), peers[1].address()};
    std::vector<std::string> got[2], sent[2];
    size_t received = 0, expected = 0;
    struct dgram_socket *receiver = open_bound(loop);
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *message) {
        int which = dgram_addr_equal(message->from, &from[1]);
        EXPECT_TRUE(dgram_addr_equal(message->from, &from[which]));
        got[which].push_back(payload_of(message));
        received++;
    };
    on.attach(receiver);
    for (unsigned round = 0; round < 20; round++) {
        for (int which = 0; which < 2; which++) {
            const std::string payload = pattern(700 + round, round);
            ASSERT_TRUE(send_train(peers[which], payload, 100, address_of(receiver)));
            for (const std::string &piece : cut(payload, 100)) {
                sent[which].push_back(piece);
            }
            for (size_t size : {0u, 1u, 1400u}) {
                sent[which].push_back(numbered(round, size));
                peers[which].send(sent[which].back(), address_of(receiver));
            }
        }
        expected = sent[0].size() + sent[1].size();
        ASSERT_TRUE(run_until(loop, [&] { return received >= expected; }));
    }
    EXPECT_TRUE(got[0] == sent[0]);
    EXPECT_TRUE(got[1] == sent[1]);
}

/* A socket closed in the middle of a train, its slot is not lost; many times. */
TEST_P(Train, CloseInTheMiddleGivesTheSlotBack)
{
    NEED_TRAINS();
    struct dgram_loop_options options = loop_options();
    options.slots = 4;
    remake_loop(options);
    Plain peer;
    for (int i = 0; i < 50; i++) {
        size_t messages = 0;
        bool closed = false;
        struct dgram_socket *receiver = open_bound(loop);
        Handlers on;
        on.message = [&](struct dgram_socket *socket, const struct dgram_message *) {
            if (++messages == 5) {
                EXPECT_EQ(dgram_close(socket), 0);
            }
        };
        on.close = [&](struct dgram_socket *) { closed = true; };
        on.attach(receiver);
        ASSERT_TRUE(send_train(peer, pattern(2000, 1), 100, address_of(receiver)));
        ASSERT_TRUE(send_train(peer, pattern(2000, 1), 100, address_of(receiver)));
        ASSERT_TRUE(run_until(loop, [&] { return closed; }));
        EXPECT_EQ(messages, 5u);
    }
    settle(loop);
    EXPECT_EQ(info_of(loop).slots_free, 4u);
}

/* Paused in the middle of a train. */
TEST_P(Train, PauseInTheMiddleKeepsTheRest)
{
    NEED_TRAINS();
    Plain peer;
    std::vector<std::string> got;
    struct dgram_socket *receiver = open_bound(loop);
    bool paused = false;
    Handlers on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
        EXPECT_FALSE(paused);
        got.push_back(payload_of(message));
        if (got.size() % 6 == 0) {
            paused = true;
            EXPECT_EQ(dgram_pause(socket), 0);
        }
    };
    on.attach(receiver);
    const std::string payload = pattern(2030, 9);
    const std::vector<std::string> sent = cut(payload, 100);
    ASSERT_TRUE(send_train(peer, payload, 100, address_of(receiver)));
    while (got.size() < sent.size()) {
        ASSERT_TRUE(run_until(loop, [&] { return paused || got.size() == sent.size(); }));
        size_t before = got.size();
        settle(loop);
        ASSERT_EQ(got.size(), before);
        paused = false;
        ASSERT_EQ(dgram_resume(receiver), 0);
    }
    EXPECT_TRUE(got == sent);
}

/* Small slots switch UDP_GRO off by themselves: no train is ever cut. */
TEST_P(Train, IsNotCutBySmallSlots)
{
    NEED_TRAINS();
    struct dgram_loop_options options = loop_options();
    options.slot_size = 2048;
    remake_loop(options);
    Plain peer;
    Inbox inbox;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    const std::string payload = pattern(40 * 1200 + 7, 2);
    const std::vector<std::string> sent = cut(payload, 1200);
    ASSERT_TRUE(send_train(peer, payload, 1200, address_of(receiver)));
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == sent.size(); }));
    EXPECT_TRUE(inbox.payloads == sent);
    EXPECT_EQ(stats_of(receiver).truncated, 0u);
}

} /* namespace */
