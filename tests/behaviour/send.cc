/* SPDX-License-Identifier: MIT */
/*
 * send.cc: one datagram: sizes, results, order of callbacks, addresses that are refused, flushes,
 * peers that do not work.
 */
#include <algorithm>
#include <climits>

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

INSTANTIATE_ON_ALL_ENGINES(Send);
INSTANTIATE_ON_HOST_ENGINES(SendHost);

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
