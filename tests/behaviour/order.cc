/* SPDX-License-Identifier: MIT */
/*
 * order.cc: the order of datagrams, the lifetime of their bytes, and bursts of all sorts.
 */
#include <algorithm>
#include <random>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Order : public EngineTest
{
};
class Lifetime : public EngineTest
{
};

class Burst : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Order);
INSTANTIATE_ON_ALL_ENGINES(Lifetime);

INSTANTIATE_ON_ALL_ENGINES(Burst);

/* Bytes that live until the callback of their send. */
struct Borrowed {
    std::string bytes;
    Results *results;

    static void give_back(struct dgram_socket *socket, int result, void *user)
    {
        Borrowed *item = static_cast<Borrowed *>(user);
        Results::take(socket, result, item->results);
        delete item;
    }
};

/* ---- Order --------------------------------------------------------------------------------- */

/* S18: first in, first out per socket and destination: interleaved destinations, mixed sizes, empty
 * datagrams, with and without callbacks. Each round is received before the next: none is lost. */
TEST_P(Order, IsKeptPerDestination)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        const size_t peers = 5, rounds = 8, per_round = 40;
        const size_t sizes[] = {0, 1, 3, 8, 64, 64, 64, 65, 100, 512, 1200, 1200, 0, 1199};
        std::mt19937 random(1234 + type);
        std::vector<Inbox> inboxes(peers);
        std::vector<std::vector<std::string>> expected(peers);
        std::vector<struct dgram_addr> to;
        for (size_t i = 0; i < peers; i++) {
            struct dgram_socket *receiver = open_inbox(loop, &inboxes[i], type);
            ASSERT_NE(receiver, nullptr);
            to.push_back(address_of(receiver));
        }
        struct dgram_socket *sender = open_socket(loop, type);
        unsigned number = 0;
        size_t callbacks = 0;
        for (size_t round = 0; round < rounds; round++) {
            Results results;
            callbacks = 0;
            for (size_t i = 0; i < per_round * peers; i++) {
                size_t peer = random() % peers;
                if (expected[peer].size() >= (round + 1) * per_round) {
                    continue;
                }
                const std::string payload =
                    numbered(number++, sizes[random() % (sizeof(sizes) / sizeof(sizes[0]))]);
                expected[peer].push_back(payload);
                if (random() % 3 == 0) {
                    Borrowed *item = new Borrowed{payload, &results};
                    ASSERT_EQ(dgram_send_to(sender, item->bytes.data(), item->bytes.size(),
                                            &to[peer], Borrowed::give_back, item),
                              0);
                    callbacks++;
                } else {
                    ASSERT_EQ(send_text(sender, payload, to[peer]), 0);
                }
            }
            ASSERT_TRUE(run_until(loop, [&] {
                for (size_t i = 0; i < peers; i++) {
                    if (inboxes[i].count() < expected[i].size()) {
                        return false;
                    }
                }
                return results.values.size() == callbacks;
            }));
        }
        for (size_t i = 0; i < peers; i++) {
            EXPECT_TRUE(inboxes[i].payloads == expected[i]) << "peer " << i;
        }
        struct dgram_socket_stats stats = stats_of(sender);
        EXPECT_EQ(stats.sent, number);
        EXPECT_EQ(stats.send_errors, 0u);
    }
}

/* No two neighbours of the same size, and then a long run of one size. */
TEST_P(Order, IsKeptOverDistinctSizes)
{
    Inbox inbox;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_addr to = address_of(receiver);
    std::vector<std::string> sent;
    for (unsigned i = 0; i < 400; i++) {
        size_t size = i < 200 ? (i * 37) % 200 : (i < 300 ? 300 - i : 64);
        sent.push_back(numbered(i, size));
        ASSERT_EQ(send_text(sender, sent.back(), to), 0);
        if (sent.size() % 40 == 0) {
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == sent.size(); }));
        }
    }
    EXPECT_TRUE(inbox.payloads == sent);
}

/* Sends from inside sent callbacks and message handlers join the order behind what is queued. */
TEST_P(Order, IsKeptForSendsFromCallbacks)
{
    Inbox inbox;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_addr to = address_of(receiver);
    std::vector<std::string> sent;
    const unsigned count = 1000;
    size_t callbacks = 0;
    auto send_next = [&](dgram_sent_fn *fn, void *user) {
        if (sent.size() < count) {
            sent.push_back(numbered(static_cast<unsigned>(sent.size()), 4 + sent.size() % 3 * 50));
            EXPECT_EQ(dgram_send_to(sender, sent.back().data(), sent.back().size(), &to, fn, user),
                      0);
        }
    };
    sent.reserve(count);
    Sent again;
    again.fn = [&](struct dgram_socket *, int) {
        callbacks++;
        send_next(nullptr, nullptr);
        send_next(Sent::call, &again);
    };
    for (int i = 0; i < 10; i++) {
        send_next(Sent::call, &again);
    }
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == count; }));
    EXPECT_TRUE(inbox.payloads == sent);
    EXPECT_GT(callbacks, 400u);
}

/* The order is per socket: two sockets to one peer each keep theirs. */
TEST_P(Order, IsKeptForEachOfTwoSocketsWithOnePeer)
{
    struct dgram_socket *receiver = open_bound(loop);
    struct dgram_socket *senders[2] = {open_bound(loop), open_bound(loop)};
    const uint16_t ports[2] = {port_of(senders[0]), port_of(senders[1])};
    std::vector<std::string> got[2], sent[2];
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *message) {
        int which = dgram_addr_port(message->from) == ports[1];
        EXPECT_EQ(dgram_addr_port(message->from), ports[which]);
        got[which].push_back(payload_of(message));
    };
    on.attach(receiver);
    for (unsigned i = 0; i < 60; i++) {
        sent[i % 2].push_back(numbered(i, 64));
        ASSERT_EQ(send_text(senders[i % 2], sent[i % 2].back(), address_of(receiver)), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return got[0].size() + got[1].size() == 60; }));
    EXPECT_EQ(got[0], sent[0]);
    EXPECT_EQ(got[1], sent[1]);
}

/* ---- Lifetime of the bytes ----------------------------------------------------------------- */

/* Without a callback the bytes are the caller's when the call returns. */
TEST_P(Lifetime, BytesAreCopiedWithoutACallback)
{
    Inbox inbox;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_addr to = address_of(receiver);
    for (size_t size : {1u, 64u, 1400u, 9000u, 65507u}) {
        inbox.payloads.clear();
        std::string bytes = pattern(size, 7);
        struct dgram_addr scratch = to;
        ASSERT_EQ(dgram_send_to(sender, bytes.data(), size, &scratch, nullptr, nullptr), 0);
        std::fill(bytes.begin(), bytes.end(), '#');
        memset(&scratch, 0xff, sizeof(scratch)); /* the address is not kept either */
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
        EXPECT_TRUE(inbox.payloads[0] == pattern(size, 7)) << size;
    }
}

/* S13: with one they are the caller's again inside it: scribbled over there, the receiver sees what
 * was sent. */
TEST_P(Lifetime, BytesAreTheCallersAgainInTheCallback)
{
    Inbox inbox;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_addr to = address_of(receiver);
    for (size_t size : {1u, 64u, 1400u, 9000u, 65507u}) {
        inbox.payloads.clear();
        std::string bytes = pattern(size, 7);
        bool done = false;
        Sent sent([&](struct dgram_socket *, int result) {
            EXPECT_EQ(result, static_cast<int>(size));
            std::fill(bytes.begin(), bytes.end(), '#');
            std::string().swap(bytes);
            done = true;
        });
        ASSERT_EQ(dgram_send_to(sender, bytes.data(), size, &to, Sent::call, &sent), 0);
        ASSERT_TRUE(run_until(loop, [&] { return done && inbox.count() == 1; }));
        EXPECT_TRUE(inbox.payloads[0] == pattern(size, 7)) << size;
    }
}

/* DGRAM_COPY asks for the copy also where there is a callback. */
TEST_P(Lifetime, BytesAreCopiedWhereTheSocketAsksForIt)
{
    Inbox inbox;
    Results results;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *sender = open_socket(loop, DGRAM_UDP4, DGRAM_COPY);
    struct dgram_addr to = address_of(receiver);
    for (size_t size : {0u, 1u, 64u, 1400u, 9000u, 65507u}) {
        inbox.payloads.clear();
        results.values.clear();
        std::string bytes = pattern(size, 7);
        ASSERT_EQ(dgram_send_to(sender, bytes.data(), size, &to, Results::take, &results), 0);
        std::fill(bytes.begin(), bytes.end(), '#');
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1 && !results.values.empty(); }));
        EXPECT_EQ(results.values, std::vector<int>{static_cast<int>(size)});
        EXPECT_TRUE(inbox.payloads[0] == pattern(size, 7)) << size;
    }
}

/* Borrowed bytes of many sends at once, freed in their callbacks. */
TEST_P(Lifetime, ManyBorrowedPayloadsAreIntact)
{
    Inbox inbox;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_addr to = address_of(receiver);
    const size_t sizes[] = {9000, 64, 1500, 1400, 20000};
    for (int round = 0; round < 10; round++) {
        inbox.payloads.clear();
        size_t done = 0;
        std::vector<std::string> bytes, sent;
        for (unsigned i = 0; i < 5; i++) {
            sent.push_back(pattern(sizes[(i + static_cast<unsigned>(round)) % 5], i));
        }
        bytes = sent;
        std::vector<Sent> callbacks(5);
        for (size_t i = 0; i < 5; i++) {
            callbacks[i].fn = [&, i](struct dgram_socket *, int result) {
                EXPECT_EQ(result, static_cast<int>(sent[i].size()));
                std::fill(bytes[i].begin(), bytes[i].end(), '#');
                done++;
            };
            ASSERT_EQ(dgram_send_to(sender, bytes[i].data(), bytes[i].size(), &to, Sent::call,
                                    &callbacks[i]),
                      0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return done == 5 && inbox.count() == 5; }));
        EXPECT_TRUE(inbox.payloads == sent);
    }
}

/* ---- Bursts -------------------------------------------------------------------------------- */

/* Around every batch size that some implementation has: 20 (libuv), 64 and 128 (trains), ... */
TEST_P(Burst, OfAnyCountArrivesWhole)
{
    for (size_t size : {64u, 0u, 1200u}) {
        for (size_t count : {1u, 2u, 19u, 20u, 21u, 63u, 64u, 65u, 127u, 128u, 129u, 1000u}) {
            for (bool asked : {false, true}) {
                SCOPED_TRACE(testing::Message() << count << " x " << size << (asked ? " cb" : ""));
                Inbox inbox;
                Results results;
                struct dgram_socket *receiver = open_inbox(loop, &inbox);
                struct dgram_socket *sender = open_socket(loop);
                struct dgram_addr to = address_of(receiver);
                size_t room = room_of(receiver);
                if (size > 1000) {
                    room = std::max<size_t>(room / 2, 1);
                }
                std::vector<std::string> sent;
                sent.reserve(count);
                while (sent.size() < count) {
                    for (size_t i = 0; i < room && sent.size() < count; i++) {
                        sent.push_back(numbered(static_cast<unsigned>(sent.size()), size));
                        ASSERT_EQ(dgram_send_to(sender, sent.back().data(), size, &to,
                                                asked ? Results::take : nullptr, &results),
                                  0);
                    }
                    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() >= sent.size(); }));
                }
                ASSERT_TRUE(
                    run_until(loop, [&] { return results.values.size() >= (asked ? count : 0); }));
                EXPECT_EQ(inbox.count(), count);
                EXPECT_TRUE(inbox.payloads == sent);
                EXPECT_EQ(results.values,
                          std::vector<int>(asked ? count : 0, static_cast<int>(size)));
                EXPECT_EQ(stats_of(receiver).received, count);
                EXPECT_EQ(stats_of(sender).sent, count);
                close_and_wait(loop, sender);
                close_and_wait(loop, receiver);
            }
        }
    }
}

/* One datagram to each of many peers in turn, several times over. */
TEST_P(Burst, ToManyPeersInTurnArrivesWhole)
{
    const size_t peers = 150, rounds = 20; /* more peers than a submission holds trains */
    std::vector<Inbox> inboxes(peers);
    std::vector<struct dgram_addr> to;
    for (size_t i = 0; i < peers; i++) {
        struct dgram_socket *receiver = open_inbox(loop, &inboxes[i]);
        ASSERT_NE(receiver, nullptr);
        to.push_back(address_of(receiver));
    }
    struct dgram_socket *sender = open_socket(loop);
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < peers; i++) {
            ASSERT_EQ(send_text(sender, numbered(round, 64), to[i]), 0);
        }
    }
    ASSERT_TRUE(run_until(loop, [&] {
        return std::all_of(inboxes.begin(), inboxes.end(),
                           [&](const Inbox &inbox) { return inbox.count() >= rounds; });
    }));
    for (size_t i = 0; i < peers; i++) {
        ASSERT_EQ(inboxes[i].count(), rounds);
        for (unsigned round = 0; round < rounds; round++) {
            EXPECT_TRUE(inboxes[i].payloads[round] == numbered(round, 64)) << i << " " << round;
        }
    }
}

/* Large ones: a full train holds one or two of them. */
TEST_P(Burst, OfLargeDatagramsArrivesWhole)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        Inbox inbox;
        struct dgram_socket *receiver = open_inbox(loop, &inbox, type);
        struct dgram_socket *sender = open_socket(loop, type);
        struct dgram_addr to = address_of(receiver);
        std::vector<std::string> sent;
        for (size_t size : {16384u, 21824u, 32736u, 32737u, 40000u, 60000u, 65507u}) {
            for (int i = 0; i < 10; i += 2) {
                for (int j = 0; j < 2; j++) { /* two at a time fit any receive buffer */
                    sent.push_back(numbered(static_cast<unsigned>(sent.size()), size));
                    ASSERT_EQ(send_text(sender, sent.back(), to), 0);
                }
                ASSERT_TRUE(run_until(loop, [&] { return inbox.count() >= sent.size(); })) << size;
            }
        }
        EXPECT_TRUE(inbox.payloads == sent);
    }
}

} /* namespace */
