/* SPDX-License-Identifier: MIT */
/*
 * trains.cc: how sends are grouped into trains: by peer and size, as many as the kernel takes,
 * whatever the way of sending.
 */
#include <algorithm>
#include <deque>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class GroupingHost : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(GroupingHost);

/* ---- Trains -------------------------------------------------------------------------------- */

/* A way to send one datagram and another, without a buffer. */
enum class Call { SEND, SEND_TO, SEND_DEST, SEND_MANY };

struct Way {
    const char *name;
    Call call;
    bool asks; /* for a callback each */
};

const Way ways[] = {
    {"dgram_send", Call::SEND, false},
    {"dgram_send with callbacks", Call::SEND, true},
    {"dgram_send_to", Call::SEND_TO, false},
    {"dgram_send_to with callbacks", Call::SEND_TO, true},
    {"dgram_send_dest", Call::SEND_DEST, false},
    {"dgram_send_dest with callbacks", Call::SEND_DEST, true},
    {"dgram_send_many", Call::SEND_MANY, false},
    {"dgram_send_many with callbacks", Call::SEND_MANY, true},
};

uint64_t ceiling(uint64_t count, uint64_t by)
{
    return (count + by - 1) / by;
}

/* One sender and its peers. What is sent is seen in the number of sends that the kernel gets. */
class Grouping : public EngineTest
{
  protected:
    void TearDown() override
    {
        close_all();
        EngineTest::TearDown();
    }
    void open(unsigned peers, uint32_t segments_max = 0)
    {
        struct dgram_socket_options options = socket_options();
        options.segments_max = segments_max;
        close_all();
        ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &sender), 0);
        inboxes.resize(peers);
        for (Inbox &inbox : inboxes) {
            receivers.push_back(open_inbox(loop, &inbox));
            to.push_back(address_of(receivers.back()));
            destinations.push_back(nullptr);
            ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP4, dgram_addr_port(&to.back()),
                                               loopback(DGRAM_UDP4), &destinations.back()),
                      0);
        }
    }
    void close_all()
    {
        for (struct dgram_destination *destination : destinations) {
            dgram_destination_free(destination);
        }
        for (struct dgram_socket *receiver : receivers) {
            EXPECT_EQ(dgram_close(receiver), 0);
        }
        if (sender != nullptr) {
            close_and_wait(loop, sender);
        }
        sender = nullptr;
        destinations.clear();
        receivers.clear();
        to.clear();
        inboxes.clear();
        payloads.clear();
        results.values.clear();
    }
    int send_one(const Way &way, const std::string &payload, unsigned peer)
    {
        dgram_sent_fn *fn = way.asks ? Results::take : nullptr;
        const void *data = payload.data();
        switch (way.call) {
        case Call::SEND:
            return dgram_send(sender, data, payload.size(), dgram_addr_port(&to[peer]),
                              loopback(DGRAM_UDP4), fn, &results);
        case Call::SEND_TO:
            return dgram_send_to(sender, data, payload.size(), &to[peer], fn, &results);
        case Call::SEND_DEST:
            return dgram_send_dest(sender, data, payload.size(), destinations[peer], fn, &results);
        case Call::SEND_MANY:
            items.push_back(outgoing(payload, peer % 2 == 0 ? &to[peer] : nullptr));
            items.back().destination = peer % 2 == 0 ? nullptr : destinations[peer];
            return 0;
        }
        return -EINVAL;
    }
    /* `count` numbered ones to each peer, one to each in turn, all in one turn of the loop. */
    void send_in_turn(const Way &way, unsigned count, size_t size)
    {
        for (unsigned i = 0; i < count; i++) {
            for (unsigned peer = 0; peer < to.size(); peer++) {
                payloads.push_back(numbered(i, size));
                ASSERT_EQ(send_one(way, payloads.back(), peer), 0);
            }
        }
        if (way.call == Call::SEND_MANY) {
            EXPECT_EQ(dgram_send_many(sender, items.data(), items.size(),
                                      way.asks ? Results::take : nullptr, &results),
                      static_cast<int>(items.size()));
            items.clear();
        }
    }
    void expect_all(const Way &way, unsigned count, size_t size)
    {
        size_t told = way.asks ? count * to.size() : 0;
        ASSERT_TRUE(run_until(loop, [&] {
            return results.values.size() == told &&
                   std::all_of(inboxes.begin(), inboxes.end(),
                               [&](const Inbox &inbox) { return inbox.count() >= count; });
        }));
        for (const Inbox &inbox : inboxes) {
            ASSERT_EQ(inbox.count(), count);
            for (unsigned i = 0; i < count; i++) {
                ASSERT_TRUE(inbox.payloads[i] == numbered(i, size)) << i;
            }
        }
        EXPECT_EQ(results.values, std::vector<int>(told, static_cast<int>(size)));
        EXPECT_EQ(stats_of(sender).sent, count * to.size());
    }

    struct dgram_socket *sender = nullptr;
    std::vector<struct dgram_socket *> receivers;
    std::vector<Inbox> inboxes;
    std::vector<struct dgram_addr> to;
    std::vector<struct dgram_destination *> destinations;
    std::vector<struct dgram_outgoing> items;
    std::deque<std::string> payloads; /* lent: they must not move */
    Results results;
};

INSTANTIATE_ON_ALL_ENGINES(Grouping);

/* Trains are what makes sending cheap: nothing else shows it when they are not made. */
TEST_P(Grouping, MakesFullTrainsOfATurnToOnePeer)
{
    const unsigned count = 128;
    for (const Way &way : ways) {
        SCOPED_TRACE(way.name);
        ASSERT_NO_FATAL_FAILURE(open(1));
        ASSERT_NO_FATAL_FAILURE(send_in_turn(way, count, 64));
        ASSERT_NO_FATAL_FAILURE(expect_all(way, count, 64));
        EXPECT_EQ(stats_of(sender).sends, ceiling(count, info_of(loop).segments_max));
    }
}

/* A datagram to another peer ends no train. */
TEST_P(Grouping, OutlastsTheChangeOfPeer)
{
    const unsigned peers = 8, each = 30;
    for (const Way &way : ways) {
        for (size_t size : {64u, 500u}) {
            SCOPED_TRACE(testing::Message() << way.name << ", " << size << " bytes");
            ASSERT_NO_FATAL_FAILURE(open(peers));
            ASSERT_NO_FATAL_FAILURE(send_in_turn(way, each, size));
            ASSERT_NO_FATAL_FAILURE(expect_all(way, each, size));
            EXPECT_EQ(stats_of(sender).sends, peers * ceiling(each, info_of(loop).segments_max));
        }
    }
}

/* The smaller of the loop's segments_max and the socket's counts, if the kernel takes so many. */
TEST_P(Grouping, HoldsAsManyAsTheOptionsSay)
{
    const unsigned count = 131;
    const uint32_t kernel = info_of(loop).segments_max;
    const struct {
        uint32_t of_loop, of_socket, least;
    } cases[] = {{2, 0, 2},   {8, 0, 8},  {64, 0, 64}, {0, 2, 2},    {0, 8, 8},
                 {0, 64, 64}, {8, 64, 8}, {64, 8, 8},  {64, 128, 64}};
    for (const auto &limits : cases) {
        struct dgram_loop_options options = loop_options();
        options.segments_max = limits.of_loop;
        close_all();
        remake_loop(options);
        EXPECT_EQ(info_of(loop).segments_max,
                  limits.of_loop > 0 ? std::min(limits.of_loop, kernel) : kernel);
        for (const Way &way : ways) {
            SCOPED_TRACE(testing::Message() << way.name << ": loop " << limits.of_loop
                                            << ", socket " << limits.of_socket);
            ASSERT_NO_FATAL_FAILURE(open(1, limits.of_socket));
            ASSERT_NO_FATAL_FAILURE(send_in_turn(way, count, 64));
            ASSERT_NO_FATAL_FAILURE(expect_all(way, count, 64));
            EXPECT_EQ(stats_of(sender).sends, ceiling(count, std::min(limits.least, kernel)));
        }
    }
}

/* One byte more than 65,473, and the stack cuts IPv6 trains in software. Of these sizes, some just
 * fit so often, and some would fit once more into the 65,507 bytes of a datagram. */
TEST_P(Grouping, EndsBeforeTheStackCutsInSoftware)
{
    const size_t train_bytes = 65473;
    const size_t sizes[] = {1110, 1200, 1399, 1400, 1424, 9358, 13101, 32736, 32737};
    for (uint32_t type : socket_types()) {
        struct dgram_addr address = address_of(open_bound(loop, type)); /* nobody reads there */
        for (size_t size : sizes) {
            for (bool asked : {false, true}) {
                SCOPED_TRACE(testing::Message() << type << ": " << size << (asked ? " cb" : ""));
                struct dgram_socket *socket = open_socket(loop, type);
                const std::string payload = pattern(size, 1);
                uint64_t each = std::min<uint64_t>(info_of(loop).segments_max, train_bytes / size);
                for (uint64_t i = 0; i < 2 * each + 1; i++) {
                    ASSERT_EQ(dgram_send_to(socket, payload.data(), size, &address,
                                            asked ? Results::take : nullptr, &results),
                              0);
                }
                ASSERT_EQ(dgram_loop_flush(loop), 0);
                EXPECT_EQ(stats_of(socket).sends, 3u);
                close_and_wait(loop, socket);
            }
        }
    }
}

/* ---- Sends that wait ----------------------------------------------------------------------- */

/* A wrong address is refused whether in a train or alone: no reason to make none. */
TEST_P(GroupingHost, AddressThatCannotBeSentToLeavesTrainsToOthers)
{
    const uint32_t longest = info_of(loop).segments_max;
    Plain peer;
    struct dgram_socket *socket = open_bound(loop);
    for (int i = 1; i <= 10; i++) { /* from 127.0.0.1 nothing can be sent there: EINVAL */
        const struct dgram_addr far = parse("203.0.113." + std::to_string(i), 9);
        ASSERT_EQ(send_text(socket, "one", far), 0);
        ASSERT_EQ(send_text(socket, "two", far), 0);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return stats_of(socket).send_errors == 20; }));
    const uint64_t before = stats_of(socket).sends;
    for (unsigned i = 0; i < 64; i++) {
        ASSERT_EQ(send_text(socket, "near", peer.address()), 0);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return stats_of(socket).sent == 64; }));
    EXPECT_EQ(stats_of(socket).sends - before, (64 + longest - 1) / longest);
}

} /* namespace */
