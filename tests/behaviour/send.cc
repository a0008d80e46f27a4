/* SPDX-License-Identifier: MIT */
/*
 * behaviour_send.cc: sending: sizes, results, order, the lifetime of bytes, queues and limits,
 * bursts of all sorts, destinations that do not work.
 */
#include <algorithm>
#include <climits>
#include <deque>
#include <random>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Send : public EngineTest
{
};
class SendHost : public EngineTest
{
};
class Order : public EngineTest
{
};
class Lifetime : public EngineTest
{
};
class Queue : public EngineTest
{
};
class Burst : public EngineTest
{
};
class Many : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Send);
INSTANTIATE_ON_HOST_ENGINES(SendHost);
INSTANTIATE_ON_ALL_ENGINES(Order);
INSTANTIATE_ON_ALL_ENGINES(Lifetime);
INSTANTIATE_ON_ALL_ENGINES(Queue);
INSTANTIATE_ON_ALL_ENGINES(Burst);
INSTANTIATE_ON_ALL_ENGINES(Many);

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

struct dgram_outgoing outgoing(const std::string &payload, const struct dgram_addr *to)
{
    struct dgram_outgoing item = {};
    item.data = payload.data();
    item.size = payload.size();
    item.address = to;
    return item;
}

/* ---- One datagram -------------------------------------------------------------------------- */

/* S7 */
TEST_P(Send, AndReplyGoRound)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        Inbox replies;
        struct dgram_socket *server = open_bound(loop, type);
        struct dgram_socket *client = open_inbox(loop, &replies, type);
        Handlers on;
        on.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
            EXPECT_TRUE(dgram_addr_equal(message->from, message->from));
            EXPECT_EQ(dgram_addr_port(message->from), port_of(client));
            EXPECT_EQ(send_text(which, payload_of(message) + "!", *message->from), 0);
        };
        on.attach(server);
        ASSERT_EQ(dgram_send(client, "hello", 5, port_of(server), loopback(type), nullptr, nullptr),
                  0);
        ASSERT_TRUE(run_until(loop, [&] { return replies.count() == 1; }));
        EXPECT_EQ(replies.payloads[0], "hello!");
        EXPECT_EQ(dgram_addr_port(&replies.from[0]), port_of(server));
    }
}

/* S19, L20: every size that is special somewhere, one at a time. */
TEST_P(Send, EverySizeArrivesWhole)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        Inbox inbox;
        Results results;
        struct dgram_socket *receiver = open_inbox(loop, &inbox, type);
        struct dgram_socket *sender = open_socket(loop, type);
        struct dgram_addr to = address_of(receiver);
        std::vector<size_t> sizes = {0,     1,     2,     7,     8,     63,    64,    65,
                                     511,   512,   1023,  1024,  1452,  1453,  1472,  1473,
                                     2048,  4096,  8192,  16384, 32000, 32768, 65472, 65473,
                                     65474, 65493, 65494, 65506, 65507};
        if (type == DGRAM_UDP6) {
            sizes.insert(sizes.end(), {65508, 65526, 65527});
        }
        for (size_t size : sizes) {
            for (bool asked : {false, true}) {
                inbox.payloads.clear();
                results.values.clear();
                const std::string payload = numbered(static_cast<unsigned>(size), size);
                ASSERT_EQ(dgram_send_to(sender, payload.data(), size, &to,
                                        asked ? Results::take : nullptr, &results),
                          0)
                    << size;
                ASSERT_TRUE(run_until(loop, [&] {
                    return inbox.count() == 1 && results.values.size() == (asked ? 1u : 0u);
                })) << size;
                EXPECT_TRUE(inbox.payloads[0] == payload) << size;
                if (asked) {
                    EXPECT_EQ(results.values[0], static_cast<int>(size));
                }
            }
        }
    }
}

/* S14, S19: nothing is ever cut; told at once, and then nowhere else. */
TEST_P(Send, TooLargeIsRefusedAtOnce)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        int events = 0;
        Results results;
        struct dgram_socket *socket = open_bound(loop, type);
        Handlers on;
        on.error = [&](struct dgram_socket *, const struct dgram_error *) { events++; };
        on.attach(socket);
        std::vector<char> bytes(1 << 18);
        struct dgram_addr to = address_of(socket);
        /* Of 64 bits, the last one looks like 10 to who takes it for 32. */
        std::vector<size_t> sizes = {size_max(type) + 1, 65535, 65536, 65537, 1 << 18};
        sizes.insert(sizes.end(), {INT_MAX, SIZE_MAX / 2 + 1, SIZE_MAX - 100, SIZE_MAX,
                                   std::max<size_t>(SIZE_MAX - UINT32_MAX + 10, 1 << 18)});
        for (size_t size : sizes) {
            EXPECT_EQ(dgram_send_to(socket, bytes.data(), size, &to, Results::take, &results),
                      -EMSGSIZE)
                << size;
            EXPECT_EQ(dgram_send_to(socket, bytes.data(), size, &to, nullptr, nullptr), -EMSGSIZE)
                << size;
            EXPECT_EQ(dgram_send(socket, bytes.data(), size, port_of(socket), loopback(type),
                                 Results::take, &results),
                      -EMSGSIZE)
                << size;
        }
        EXPECT_EQ(dgram_get_send_queue_size(socket), 0u);
        EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
        settle(loop);
        EXPECT_EQ(events, 0);
        EXPECT_EQ(results.values.size(), 0u);
        expect_echo(loop, socket);
    }
}

/* S19: through a udp6 socket to an IPv4 peer the IPv4 limit counts. */
TEST_P(SendHost, TooLargeForAMappedPeerFailsAndNothingIsCut)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6 here";
    }
    Plain peer;
    struct dgram_socket *socket = open_socket(loop, DGRAM_UDP6);
    struct dgram_addr to = parse("::ffff:127.0.0.1", [&] {
        struct dgram_addr address = peer.address();
        return dgram_addr_port(&address);
    }());
    EXPECT_EQ(send_and_wait(loop, socket, pattern(65507, 1), to), 65507);
    EXPECT_EQ(peer.receive(), pattern(65507, 1));
    EXPECT_EQ(send_and_wait(loop, socket, pattern(65508, 1), to), -EMSGSIZE);
    EXPECT_EQ(send_and_wait(loop, socket, pattern(65527, 1), to), -EMSGSIZE);
    EXPECT_EQ(send_and_wait(loop, socket, "short", to), 5);
    EXPECT_EQ(peer.receive(), "short");
}

/* S14 */
TEST_P(Send, ResultIsTheSizeOfThePayload)
{
    Results results;
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_addr to = address_of(sink);
    const std::string bytes = pattern(256, 1);
    ASSERT_EQ(dgram_send_to(socket, bytes.data() + 20, 236, &to, Results::take, &results), 0);
    ASSERT_EQ(dgram_send_to(socket, nullptr, 0, &to, Results::take, &results), 0);
    ASSERT_EQ(dgram_send_to(socket, bytes.data(), 1, &to, Results::take, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 3; }));
    EXPECT_EQ(results.values, (std::vector<int>{236, 0, 1}));
    settle(loop);
    EXPECT_EQ(results.values.size(), 3u);
}

/* L23: completion is never inside the call, and on the socket that sent. */
TEST_P(Send, CallbackComesAfterTheCallReturned)
{
    Recorder log;
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_addr to = address_of(sink);
    Sent sent([&](struct dgram_socket *which, int) {
        EXPECT_EQ(which, socket);
        log.add("sent");
    });
    ASSERT_EQ(dgram_send_to(socket, "x", 1, &to, Sent::call, &sent), 0);
    log.add("returned");
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    log.add("flushed");
    ASSERT_TRUE(run_until(loop, [&] { return log.count("sent") == 1; }));
    EXPECT_EQ(log.text(), "returned flushed sent");
}

/* S12, L21 */
TEST_P(Send, WithoutAddressGoesToThisHost)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        Inbox inbox;
        struct dgram_socket *receiver = open_inbox(loop, &inbox, type);
        struct dgram_socket *sender = open_socket(loop, type);
        uint16_t port = port_of(receiver);
        ASSERT_EQ(dgram_send(sender, "null", 4, port, nullptr, nullptr, nullptr), 0);
        ASSERT_EQ(dgram_send(sender, "empty", 5, port, "", nullptr, nullptr), 0);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 2; }));
        EXPECT_EQ(inbox.payloads, (std::vector<std::string>{"null", "empty"}));
        EXPECT_EQ(text_of(&inbox.from[0]), loopback(type));
    }
}

/* L10: refused before the kernel, which would deliver some of them. */
TEST_P(Send, ToTheOtherFamilyIsRefused)
{
    struct dgram_socket *udp4 = open_socket(loop);
    struct dgram_addr in6 = parse("::1", 9), mapped = parse("::ffff:127.0.0.1", 9);
    EXPECT_EQ(dgram_send(udp4, "x", 1, 9, "::1", nullptr, nullptr), DGRAM_EBADFAMILY);
    EXPECT_EQ(dgram_send(udp4, "x", 1, 9, "::ffff:127.0.0.1", nullptr, nullptr), DGRAM_EBADFAMILY);
    EXPECT_EQ(send_text(udp4, "x", in6), DGRAM_EBADFAMILY);
    EXPECT_EQ(send_text(udp4, "x", mapped), DGRAM_EBADFAMILY);
    struct dgram_addr unused = {};
    EXPECT_EQ(dgram_address(udp4, &unused), DGRAM_ENOTBOUND) << "a refused send binds nothing";
    expect_echo(loop, udp4);
    if (has_ipv6()) {
        struct dgram_socket *udp6 = open_socket(loop, DGRAM_UDP6);
        EXPECT_EQ(dgram_send(udp6, "x", 1, 9, "127.0.0.1", nullptr, nullptr), DGRAM_EBADFAMILY);
        EXPECT_EQ(send_text(udp6, "x", parse("127.0.0.1", 9)), DGRAM_EBADFAMILY);
        expect_echo(loop, udp6);
    }
}

/* S9 */
TEST_P(Send, ToPortZeroIsRefused)
{
    for (uint32_t type : socket_types()) {
        struct dgram_socket *socket = open_socket(loop, type);
        EXPECT_EQ(dgram_send(socket, "x", 1, 0, loopback(type), nullptr, nullptr), DGRAM_EBADPORT);
        EXPECT_EQ(dgram_send(socket, "x", 1, 0, nullptr, nullptr, nullptr), DGRAM_EBADPORT);
        EXPECT_EQ(send_text(socket, "x", parse(loopback(type), 0)), DGRAM_EBADPORT);
        expect_echo(loop, socket);
    }
}

/* S10: text that is neither a literal nor a well-formed name is refused at once. */
TEST_P(Send, ToTextThatIsNoAddressIsRefused)
{
    struct dgram_socket *socket = open_socket(loop);
    const std::string long_label(64, 'a'), long_name = std::string(260, '.');
    for (const char *text :
         {"127.0.0.1 ", " 127.0.0.1", "127.0.0.256", "127.1", "12345", "a b", "::g", "[::1]", "%lo",
          "-a", "a-", "a..b", ".", "127.0.0.1:9", "a.123", long_label.c_str(), long_name.c_str()}) {
        EXPECT_EQ(dgram_send(socket, "x", 1, 9, text, nullptr, nullptr), DGRAM_EBADADDRESS) << text;
    }
    struct dgram_addr unused = {};
    EXPECT_EQ(dgram_address(socket, &unused), DGRAM_ENOTBOUND) << "a refused send binds nothing";
    if (has_ipv6()) {
        struct dgram_socket *udp6 = open_socket(loop, DGRAM_UDP6);
        EXPECT_EQ(dgram_send(udp6, "x", 1, 9, "fe80::1%no-such-if", nullptr, nullptr),
                  DGRAM_EBADINTERFACE);
        EXPECT_EQ(dgram_send(udp6, "x", 1, 9, "fe80::1%", nullptr, nullptr), DGRAM_EBADINTERFACE);
        expect_echo(loop, udp6);
    }
    expect_echo(loop, socket);
}

TEST_P(Send, ToAnUnusableBinaryAddressIsRefused)
{
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_addr none = {};
    EXPECT_EQ(send_text(socket, "x", none), DGRAM_EBADADDRESS);
    struct dgram_addr shortened = parse("127.0.0.1", 9);
    shortened.size = 8;
    EXPECT_EQ(send_text(socket, "x", shortened), DGRAM_EBADADDRESS);
    struct dgram_addr local = {};
    local.u.un.sun_family = AF_UNIX;
    strcpy(local.u.un.sun_path, "/nowhere");
    local.size = sizeof(local.u.un);
    int code = send_text(socket, "x", local);
    EXPECT_TRUE(code == DGRAM_EBADADDRESS || code == DGRAM_EBADFAMILY) << code;
    struct dgram_addr huge = parse("127.0.0.1", 9);
    huge.size = 0xffffffffu;
    EXPECT_EQ(send_text(socket, "x", huge), DGRAM_EBADADDRESS);
    expect_echo(loop, socket);
}

/* S23, L26: on a fresh, unbound socket, with and without callbacks. */
TEST_P(Send, ThenCloseDelivers)
{
    for (size_t count : {1u, 19u, 64u, 129u}) {
        SCOPED_TRACE(count);
        Inbox inbox;
        Results results;
        bool closed = false;
        struct dgram_socket *receiver = open_inbox(loop, &inbox);
        struct dgram_socket *socket = open_socket(loop);
        struct dgram_addr to = address_of(receiver);
        Handlers on;
        on.close = [&](struct dgram_socket *) {
            closed = true;
            EXPECT_EQ(results.values, std::vector<int>((count + 1) / 2, 100));
        };
        on.attach(socket);
        std::vector<std::string> sent;
        for (size_t i = 0; i < count; i++) {
            sent.push_back(numbered(static_cast<unsigned>(i), 100));
            ASSERT_EQ(dgram_send_to(socket, sent[i].data(), sent[i].size(), &to,
                                    i % 2 == 0 ? Results::take : nullptr, &results),
                      0);
        }
        ASSERT_EQ(dgram_close(socket), 0);
        ASSERT_TRUE(run_until(loop, [&] { return closed && inbox.count() == count; }));
        EXPECT_EQ(inbox.payloads, sent);
        close_and_wait(loop, receiver);
    }
}

TEST_P(Send, CountersTell)
{
    Inbox inbox;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(send_text(socket, pattern(100, 1), address_of(socket)), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 10; }));
    struct dgram_socket_stats stats = stats_of(socket);
    EXPECT_EQ(stats.sent, 10u);
    EXPECT_EQ(stats.sent_bytes, 1000u);
    EXPECT_GE(stats.sends, 1u);
    EXPECT_LE(stats.sends, 10u);
    EXPECT_EQ(stats.send_errors, 0u);
    EXPECT_EQ(stats.received, 10u);
    EXPECT_EQ(stats.received_bytes, 1000u);
    EXPECT_EQ(stats.truncated, 0u);
    EXPECT_EQ(stats.discarded, 0u);
}

/* segments_max 1: no trains, by the loop's option and by the socket's. */
TEST_P(Send, WithoutTrainsEachDatagramIsASendOfItsOwn)
{
    struct dgram_loop_options options = loop_options();
    options.segments_max = 1;
    struct dgram_loop *single = make_loop(&options);
    EXPECT_EQ(info_of(single).segments_max, 1u);
    for (struct dgram_loop *which : {single, loop}) {
        Inbox inbox;
        struct dgram_socket_options of_socket = socket_options();
        of_socket.segments_max = which == loop ? 1 : 0;
        struct dgram_socket *socket = nullptr;
        ASSERT_EQ(dgram_create_socket(which, DGRAM_UDP4, &of_socket, &socket), 0);
        ASSERT_EQ(dgram_on_message(socket, Inbox::take, &inbox), 0);
        ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
        std::vector<std::string> sent;
        for (unsigned i = 0; i < 50; i++) {
            sent.push_back(numbered(i, 64));
            ASSERT_EQ(send_text(socket, sent[i], address_of(socket)), 0);
        }
        ASSERT_TRUE(run_until(which, [&] { return inbox.count() == 50; }));
        EXPECT_EQ(inbox.payloads, sent);
        EXPECT_EQ(stats_of(socket).sends, 50u);
        EXPECT_EQ(stats_of(socket).sent, 50u);
        dgram_close(socket);
        EXPECT_EQ(dgram_loop_run(which), 0);
    }
    dgram_loop_free(single);
}

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
    struct dgram_socket_options options = socket_options();
    options.queue_limit = 20 * 164;
    struct dgram_socket *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
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

/* ---- dgram_send_many ----------------------------------------------------------------------- */

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

/* ---- With plain peers ---------------------------------------------------------------------- */

/* What the library sends as trains is plain datagrams to any receiver. */
TEST_P(SendHost, PlainReceiverGetsSingleDatagrams)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        Plain peer(type);
        struct dgram_socket *socket = open_bound(loop, type);
        struct dgram_addr to = peer.address();
        std::vector<std::string> sent;
        for (unsigned i = 0; i < 60; i++) {
            sent.push_back(numbered(i, i % 20 == 19 ? 0 : 200));
            ASSERT_EQ(send_text(socket, sent[i], to), 0);
        }
        settle(loop);
        for (unsigned i = 0; i < 60; i++) {
            struct dgram_addr from = {};
            EXPECT_TRUE(peer.receive(&from) == sent[i]) << i;
            EXPECT_EQ(dgram_addr_port(&from), port_of(socket));
        }
        EXPECT_FALSE(peer.readable());
    }
}

/* A reply does not wait for the thousands of datagrams that are dispatched behind its request: 256
 * at most, and what a train has more. The poll engine begins with small turns, so the first reply
 * alone would tell little of it. */
TEST_P(SendHost, RepliesLeaveDuringALongTurn)
{
    Plain peer;
    const struct dgram_addr to_peer = peer.address();
    struct dgram_socket *sender = open_socket(loop), *receiver = open_bound(loop);
    const struct dgram_addr to = address_of(receiver);
    uint64_t count = 0, replies = 0, sent_at = 0, longest = 0;
    Handlers on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *) {
        if (stats_of(socket).sends == replies) { /* the last one has left */
            ASSERT_EQ(send_text(socket, "reply", to_peer), 0);
            replies++;
            sent_at = count;
        }
        longest = std::max(longest, count++ - sent_at);
    };
    on.attach(receiver);
    ASSERT_EQ(dgram_pause(receiver), 0);
    settle(loop);
    for (unsigned i = 0; i < 4000; i++) { /* some 30 trains, if the kernel makes trains */
        ASSERT_EQ(send_text(sender, "0123456789abcdef", to), 0);
    }
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    ASSERT_EQ(dgram_resume(receiver), 0);
    ASSERT_TRUE(run_until(loop, [&] { return count == 4000; }));
    EXPECT_LE(longest, 256 + 2 * info_of(loop).segments_max);
    EXPECT_EQ(peer.receive(), "reply");
}

TEST_P(SendHost, FlushSendsWithoutATurn)
{
    for (bool turned : {true, false}) {
        SCOPED_TRACE(turned);
        struct dgram_loop *other = make_loop();
        Plain peer;
        Results results;
        struct dgram_socket *socket = open_bound(other);
        if (turned) {
            ASSERT_EQ(dgram_loop_turn(other, 0), 1);
        }
        struct dgram_addr to = peer.address();
        for (int i = 0; i < 20; i++) {
            ASSERT_EQ(dgram_send_to(socket, "now", 3, &to, Results::take, &results), 0);
        }
        ASSERT_EQ(dgram_loop_flush(other), 0);
        for (int i = 0; i < 20; i++) {
            EXPECT_EQ(peer.receive(), "now");
        }
        EXPECT_EQ(results.values.size(), 0u) << "flush runs no callback";
        ASSERT_TRUE(run_until(other, [&] { return results.values.size() == 20; }));
        EXPECT_EQ(results.values, std::vector<int>(20, 3));
        EXPECT_EQ(dgram_loop_flush(other), 0);
        EXPECT_FALSE(peer.readable());
        dgram_loop_free(other);
    }
}

TEST_P(SendHost, FlushInsideACallbackSendsAtOnce)
{
    Plain peer;
    bool listened = false;
    std::string got;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        EXPECT_EQ(send_text(which, "inside", peer.address()), 0);
        EXPECT_EQ(dgram_loop_flush(loop), 0);
        got = peer.receive();
        listened = true;
    };
    on.attach(socket);
    ASSERT_TRUE(run_until(loop, [&] { return listened; }));
    EXPECT_EQ(got, "inside");
}

/* What the callbacks of a turn queued is submitted before the turn returns. */
TEST_P(SendHost, TurnSubmitsWhatItsCallbacksQueued)
{
    Plain peer;
    bool listened = false;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        EXPECT_EQ(send_text(which, "queued", peer.address()), 0);
        listened = true;
    };
    on.attach(socket);
    while (!listened) {
        ASSERT_EQ(dgram_loop_turn(loop, 0), 1);
    }
    EXPECT_EQ(peer.receive(), "queued"); /* and no further turn */
}

/* L36: a peer that is not there disturbs neither sends to others nor receives. */
TEST_P(SendHost, DeadPeerDoesNotDisturbOthers)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        DeadPort dead(type);
        Inbox inboxes[2], own;
        Results live_results, dead_results;
        int errors = 0;
        struct dgram_socket *receivers[2] = {open_inbox(loop, &inboxes[0], type),
                                             open_inbox(loop, &inboxes[1], type)};
        struct dgram_socket *socket = open_inbox(loop, &own, type);
        Handlers on;
        on.error = [&](struct dgram_socket *, const struct dgram_error *) { errors++; };
        on.attach(socket);
        const struct dgram_addr nowhere = dead.address();
        std::vector<std::string> sent;
        sent.reserve(50);
        for (unsigned round = 0; round < 50; round++) {
            sent.push_back(numbered(round, 64));
            for (int i = 0; i < 2; i++) {
                struct dgram_addr to = address_of(receivers[i]);
                ASSERT_EQ(dgram_send_to(socket, "dead", 4, &nowhere, Results::take, &dead_results),
                          0);
                ASSERT_EQ(send_text(socket, "dead", nowhere), 0);
                ASSERT_EQ(dgram_send_to(socket, sent.back().data(), 64, &to, Results::take,
                                        &live_results),
                          0);
            }
            ASSERT_EQ(send_text(receivers[0], "own", address_of(socket)), 0);
            if (round % 5 == 0) {
                ASSERT_TRUE(run_until(loop, [&] { return inboxes[1].count() == sent.size(); }));
            }
        }
        ASSERT_TRUE(run_until(loop, [&] {
            return inboxes[0].count() == 50 && inboxes[1].count() == 50 && own.count() == 50 &&
                   live_results.values.size() == 100 && dead_results.values.size() == 100;
        }));
        EXPECT_TRUE(inboxes[0].payloads == sent);
        EXPECT_TRUE(inboxes[1].payloads == sent);
        EXPECT_EQ(live_results.values, std::vector<int>(100, 64));
        EXPECT_EQ(dead_results.values, std::vector<int>(100, 4));
        EXPECT_EQ(errors, 0);
    }
}

/* A destination that the kernel refuses fails alone; the others keep order and results. */
TEST_P(SendHost, RefusedDestinationDoesNotDisturbOthers)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    Inbox inbox;
    Results good, bad;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_addr to = address_of(receiver), refused = refused_address();
    std::vector<std::string> sent;
    sent.reserve(100);
    for (unsigned i = 0; i < 100; i++) {
        sent.push_back(numbered(i, 64));
        ASSERT_EQ(dgram_send_to(socket, sent[i].data(), 64, &to, Results::take, &good), 0);
        ASSERT_EQ(dgram_send_to(socket, "x", 1, &refused, Results::take, &bad), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] {
        return inbox.count() == 100 && good.values.size() == 100 && bad.values.size() == 100;
    }));
    EXPECT_TRUE(inbox.payloads == sent);
    EXPECT_EQ(good.values, std::vector<int>(100, 64));
    EXPECT_EQ(bad.values, std::vector<int>(100, -EACCES));
    EXPECT_EQ(stats_of(socket).send_errors, 100u);
    EXPECT_EQ(stats_of(socket).sent, 100u);
}

/* L36: a receiver that goes away in the middle of the conversation. */
TEST_P(SendHost, PeerThatGoesAwayDoesNotDisturbOthers)
{
    Inbox inbox;
    Results results;
    Plain leaving;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *socket = open_bound(loop);
    struct dgram_addr to = address_of(receiver), left = leaving.address();
    EXPECT_EQ(send_and_wait(loop, socket, "bye", left), 3);
    EXPECT_EQ(leaving.receive(), "bye");
    leaving.leave();
    for (int i = 0; i < 20; i++) {
        ASSERT_EQ(dgram_send_to(socket, "left", 4, &left, Results::take, &results), 0);
        ASSERT_EQ(dgram_send_to(socket, "live", 4, &to, Results::take, &results), 0);
        if (i % 4 == 0) {
            const size_t sent = static_cast<size_t>(i) + 1;
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == sent; }));
        }
    }
    ASSERT_TRUE(
        run_until(loop, [&] { return inbox.count() == 20 && results.values.size() == 40; }));
    EXPECT_EQ(results.values, std::vector<int>(40, 4));
    expect_echo(loop, socket);
}

} /* namespace */
