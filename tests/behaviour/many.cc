/* SPDX-License-Identifier: MIT */
/*
 * many.cc: dgram_send_many(): each item is a send of its own, with a status of its own.
 */
#include <algorithm>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Many : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Many);

/* Each item is one send: in order, with a callback of its own, to any peer. */
TEST_P(Many, ItemsAreSendsOfTheirOwn)
{
    Inbox inboxes[2];
    Results of_call, of_item;
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_addr to[2];
    for (int i = 0; i < 2; i++) {
        to[i] = address_of(open_inbox(loop, &inboxes[i]));
    }
    std::vector<std::string> payloads, expected[2];
    std::vector<struct dgram_outgoing> items;
    for (unsigned i = 0; i < 100; i++) {
        payloads.push_back(numbered(i, i % 9 == 0 ? 0 : 40 + i));
        expected[i % 2].push_back(payloads[i]);
    }
    for (unsigned i = 0; i < 100; i++) {
        items.push_back(outgoing(payloads[i], &to[i % 2]));
        items[i].user = i % 4 == 0 ? &of_item : nullptr;
        items[i].status = 77;
    }
    EXPECT_EQ(dgram_send_many(socket, items.data(), items.size(), Results::take, &of_call), 100);
    for (const struct dgram_outgoing &item : items) {
        EXPECT_EQ(item.status, 0);
    }
    items.clear(); /* not kept */
    ASSERT_TRUE(run_until(loop, [&] {
        return inboxes[0].count() == 50 && inboxes[1].count() == 50 &&
               of_call.values.size() == 75 && of_item.values.size() == 25;
    }));
    EXPECT_TRUE(inboxes[0].payloads == expected[0]);
    EXPECT_TRUE(inboxes[1].payloads == expected[1]);
}

/* A bad one has its code and stops none of the others; with callbacks, and by the lanes. */
TEST_P(Many, BadItemsDoNotStopTheRest)
{
    for (dgram_sent_fn *fn : {Results::take, static_cast<dgram_sent_fn *>(nullptr)}) {
        SCOPED_TRACE(fn != nullptr ? "with callbacks" : "without");
        Inbox inbox;
        Results results;
        struct dgram_socket *receiver = open_inbox(loop, &inbox);
        struct dgram_socket *socket = open_socket(loop);
        const struct dgram_addr to = address_of(receiver), port0 = parse("127.0.0.1", 0);
        const struct dgram_addr in6 = parse("::1", 9), none = {};
        const std::string good = "good", large(65508, 'x');
        struct dgram_outgoing no_data = outgoing(good, &to);
        no_data.data = nullptr;
        struct dgram_outgoing items[] = {
            outgoing(good, &port0),  outgoing(good, &to),
            outgoing(good, &in6),    outgoing(large, &to),
            outgoing(good, &to),     outgoing(good, &none),
            outgoing(good, nullptr), no_data,
            outgoing(good, &to),
        };
        const int codes[] = {DGRAM_EBADPORT,    0,           DGRAM_EBADFAMILY, -EMSGSIZE, 0,
                             DGRAM_EBADADDRESS, DGRAM_ENULL, DGRAM_ENULL,      0};
        EXPECT_EQ(dgram_send_many(socket, items, 9, fn, &results), 3);
        for (int i = 0; i < 9; i++) {
            EXPECT_EQ(items[i].status, codes[i]) << i << ": " << dgram_error_name(items[i].status);
        }
        const size_t told = fn != nullptr ? 3 : 0;
        ASSERT_TRUE(
            run_until(loop, [&] { return inbox.count() == 3 && results.values.size() == told; }));
        settle(loop);
        EXPECT_EQ(results.values, std::vector<int>(told, 4));
        EXPECT_EQ(inbox.count(), 3u);
    }
}

/* What a later version may give a meaning is an error until then, and so is what has two. */
TEST_P(Many, ItemsThatMeanNothingAreRefusedAlone)
{
    Inbox inbox;
    Results results;
    struct dgram_destination *handle = nullptr;
    struct dgram_socket *receiver = open_inbox(loop, &inbox), *socket = open_socket(loop);
    const struct dgram_addr to = address_of(receiver);
    const std::string payload = "good";
    ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP4, dgram_addr_port(&to), loopback(DGRAM_UDP4),
                                       &handle),
              0);
    for (dgram_sent_fn *fn : {Results::take, static_cast<dgram_sent_fn *>(nullptr)}) {
        SCOPED_TRACE(fn != nullptr ? "with callbacks" : "without");
        std::vector<struct dgram_outgoing> items(6, outgoing(payload, &to));
        items[1].flags = 1;
        items[2].flags = DGRAM_COPY | 0x80000000u;
        items[3].flags = DGRAM_COPY;
        items[4].destination = handle;
        EXPECT_EQ(dgram_send_many(socket, items.data(), items.size(), fn, &results), 3);
        for (size_t i = 0; i < items.size(); i++) {
            bool bad = i == 1 || i == 2 || i == 4;
            EXPECT_EQ(items[i].status, bad ? DGRAM_EBADOPTIONS : 0) << i;
        }
    }
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 6 && results.values.size() == 3; }));
    settle(loop);
    EXPECT_EQ(inbox.count(), 6u);
    EXPECT_EQ(dgram_destination_free(handle), nullptr);
}

/* What is refused leaves no trace: no implicit bind, no `listening`. */
TEST_P(Many, RefusedItemsBindNothing)
{
    struct dgram_destination *handle = nullptr;
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_addr in6 = parse("::1", 9), local = {};
    ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP6, 9, "::1", &handle), 0);
    struct dgram_outgoing items[2] = {outgoing("x", &in6), outgoing("x", nullptr)};
    items[1].destination = handle;
    EXPECT_EQ(dgram_send_many(socket, items, 2, nullptr, nullptr), 0);
    EXPECT_EQ(items[0].status, DGRAM_EBADFAMILY);
    EXPECT_EQ(items[1].status, DGRAM_EBADFAMILY);
    EXPECT_EQ(dgram_address(socket, &local), DGRAM_ENOTBOUND);
    EXPECT_EQ(dgram_destination_free(handle), nullptr);
}

/* After the first -EAGAIN all others get it too, small ones included: none overtakes another. */
TEST_P(Many, FullQueueRefusesAllTheRest)
{
    Inbox inbox;
    int drains = 0;
    struct dgram_socket_options options = socket_options();
    options.queue_limit = 1700;
    struct dgram_socket *receiver = open_inbox(loop, &inbox), *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
    Handlers on;
    on.drain = [&](struct dgram_socket *) { drains++; };
    on.attach(socket);
    const struct dgram_addr to = address_of(receiver);
    std::vector<std::string> payloads;
    std::vector<struct dgram_outgoing> items;
    for (unsigned i = 0; i < 30; i++) {
        payloads.push_back(numbered(i, i < 20 ? 100 : 0));
    }
    for (const std::string &payload : payloads) {
        items.push_back(outgoing(payload, &to));
    }
    const int accepted = dgram_send_many(socket, items.data(), items.size(), nullptr, nullptr);
    EXPECT_GE(accepted, 10);
    EXPECT_LE(accepted, 11);
    for (int i = 0; i < 30; i++) {
        EXPECT_EQ(items[static_cast<size_t>(i)].status, i < accepted ? 0 : -EAGAIN) << i;
    }
    ASSERT_TRUE(run_until(
        loop, [&] { return inbox.count() == static_cast<size_t>(accepted) && drains == 1; }));
    EXPECT_EQ(inbox.payloads,
              std::vector<std::string>(payloads.begin(), payloads.begin() + accepted));
}

/* L18: pieces are joined into one datagram; the list of them is the caller's after the call, their
 * bytes after the callback, or at once with DGRAM_COPY. */
TEST_P(Many, PiecesAreJoined)
{
    for (uint32_t flags : {0u, DGRAM_COPY}) {
        SCOPED_TRACE(flags);
        Inbox inbox;
        Results results;
        struct dgram_socket *receiver = open_inbox(loop, &inbox);
        struct dgram_socket *socket = open_socket(loop);
        const struct dgram_addr to = address_of(receiver);
        std::string parts[4] = {"one ", "", pattern(3000, 4), " end"};
        const std::string whole = parts[0] + parts[1] + parts[2] + parts[3];
        struct iovec pieces[4];
        for (int i = 0; i < 4; i++) {
            pieces[i] = {&parts[i][0], parts[i].size()};
        }
        struct dgram_outgoing items[2] = {};
        for (struct dgram_outgoing &item : items) {
            item.pieces = pieces;
            item.address = &to;
            item.flags = flags;
        }
        items[0].piece_count = 4;
        items[1].piece_count = 0; /* an empty datagram */
        EXPECT_EQ(dgram_send_many(socket, items, 2, Results::take, &results), 2);
        memset(pieces, 0xff, sizeof(pieces));
        if (flags & DGRAM_COPY) {
            std::fill(parts[2].begin(), parts[2].end(), '#');
        }
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 2; }));
        EXPECT_TRUE(inbox.payloads[0] == whole);
        EXPECT_EQ(inbox.payloads[1], "");
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
        EXPECT_EQ(results.values, (std::vector<int>{static_cast<int>(whole.size()), 0}));
    }
}

TEST_P(Many, PiecesTogetherMayBeTooLarge)
{
    Inbox inbox;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *socket = open_socket(loop);
    const struct dgram_addr to = address_of(receiver);
    std::string half(32754, 'x');
    struct iovec pieces[3] = {{&half[0], 32754}, {&half[0], 32753}, {&half[0], 1}};
    struct iovec wrapping[2] = {{&half[0], SIZE_MAX}, {&half[0], 2}};
    struct dgram_outgoing items[3] = {};
    items[0].pieces = items[1].pieces = pieces;
    items[0].piece_count = 3;
    items[1].piece_count = 2;
    items[2].pieces = wrapping;
    items[2].piece_count = 2;
    items[0].address = items[1].address = items[2].address = &to;
    EXPECT_EQ(dgram_send_many(socket, items, 3, nullptr, nullptr), 1);
    EXPECT_EQ(items[0].status, -EMSGSIZE);
    EXPECT_EQ(items[1].status, 0);
    EXPECT_EQ(items[2].status, -EMSGSIZE);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(inbox.payloads[0].size(), 65507u);
}

/* What concerns the call as a whole sets no status. */
TEST_P(Many, BadCallsSetNoStatus)
{
    const struct dgram_addr to = parse("127.0.0.1", 9);
    const std::string payload = "x";
    struct dgram_outgoing item = outgoing(payload, &to);
    item.status = 77;
    struct dgram_socket *socket = open_socket(loop);
    EXPECT_EQ(dgram_send_many(nullptr, &item, 1, nullptr, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_send_many(socket, nullptr, 1, nullptr, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_send_many(socket, &item, 0, nullptr, nullptr), 0);
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_send_many(socket, &item, 1, nullptr, nullptr), DGRAM_ENOTRUNNING);
    EXPECT_EQ(item.status, 77);
}

} /* namespace */
