/* SPDX-License-Identifier: MIT */
/*
 * behaviour_socket.cc: sockets and their events: creation, bind, address, handlers, the rules of
 * close, end, ref and unref, what keeps a loop alive, and dgram_loop_free().
 */
#include <fstream>
#include <memory>
#include <set>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Create : public EngineTest
{
};
class Bind : public EngineTest
{
};
class Events : public EngineTest
{
};
class Close : public EngineTest
{
};
class CloseHost : public EngineTest
{
};
class Life : public EngineTest
{
};
class LoopFree : public EngineTest
{
};
class LoopFreeHost : public EngineTest
{
};
class Errors : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Create);
INSTANTIATE_ON_HOST_ENGINES(Bind);
INSTANTIATE_ON_ALL_ENGINES(Events);
INSTANTIATE_ON_ALL_ENGINES(Close);
INSTANTIATE_ON_HOST_ENGINES(CloseHost);
INSTANTIATE_ON_ALL_ENGINES(Life);
INSTANTIATE_ON_ALL_ENGINES(LoopFree);
INSTANTIATE_ON_HOST_ENGINES(LoopFreeHost);
INSTANTIATE_ON_HOST_ENGINES(Errors);

int no_callback_expected = 0;

/* ---- Create -------------------------------------------------------------------------------- */

/* S1 */
TEST_P(Create, RefusesUnknownTypes)
{
    for (uint32_t type : {0u, 1u, 2u, 5u, 7u, 10u, 46u, 0x104u, 0xffffffffu}) {
        SCOPED_TRACE(type);
        struct dgram_socket *const untouched = reinterpret_cast<struct dgram_socket *>(&type);
        struct dgram_socket *socket = untouched;
        EXPECT_EQ(dgram_create_socket(loop, type, nullptr, &socket), DGRAM_EBADTYPE);
        EXPECT_EQ(socket, untouched);
    }
    EXPECT_EQ(dgram_loop_turn(loop, 0), 0);
}

/* S1 */
TEST_P(Create, MakesBothTypes)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        struct dgram_socket *socket = nullptr;
        ASSERT_EQ(dgram_create_socket(loop, type, nullptr, &socket), 0);
        ASSERT_NE(socket, nullptr);
        EXPECT_EQ(dgram_socket_loop(socket), loop);
        close_and_wait(loop, socket);
    }
}

TEST_P(Create, HandlerOfTheOptionsReceives)
{
    Inbox inbox;
    struct dgram_socket_options options = socket_options();
    options.on_message = Inbox::take;
    options.user = &inbox;
    struct dgram_socket *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
    options.on_message = nullptr; /* the options are not kept */
    options.user = nullptr;
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    ASSERT_EQ(send_text(socket, "to myself", address_of(socket)), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(inbox.payloads[0], "to myself");
}

/* S1, S33 */
TEST_P(Create, UnboundSocketDoesNotKeepTheLoopAlive)
{
    struct dgram_socket *socket = open_socket(loop);
    ASSERT_NE(socket, nullptr);
    EXPECT_EQ(dgram_loop_turn(loop, -1), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

TEST_P(Create, InsideACallbackWorks)
{
    Inbox inbox;
    struct dgram_socket *second = nullptr;
    struct dgram_socket *first = open_socket(loop);
    ASSERT_NE(first, nullptr);
    Handlers on;
    on.listening = [&](struct dgram_socket *) {
        second = open_inbox(loop, &inbox);
        ASSERT_NE(second, nullptr);
        EXPECT_EQ(send_text(first, "hello", address_of(second)), 0);
    };
    on.attach(first);
    ASSERT_EQ(dgram_bind(first, 0, "127.0.0.1"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(inbox.payloads[0], "hello");
}

TEST_P(Create, ManySocketsGetTheirOwnDatagrams)
{
    const size_t count = 200;
    std::vector<Inbox> inboxes(count);
    std::vector<struct dgram_socket *> sockets;
    struct dgram_socket *sender = open_socket(loop);
    for (size_t i = 0; i < count; i++) {
        sockets.push_back(open_inbox(loop, &inboxes[i]));
        ASSERT_NE(sockets[i], nullptr);
    }
    for (size_t i = 0; i < count; i++) {
        ASSERT_EQ(send_text(sender, "for " + std::to_string(i), address_of(sockets[i])), 0);
    }
    auto all = [&] {
        for (const Inbox &inbox : inboxes) {
            if (inbox.count() == 0) {
                return false;
            }
        }
        return true;
    };
    ASSERT_TRUE(run_until(loop, all));
    for (size_t i = 0; i < count; i++) {
        EXPECT_EQ(inboxes[i].payloads, std::vector<std::string>{"for " + std::to_string(i)});
    }
}

/* ---- Bind ---------------------------------------------------------------------------------- */

/* S20 */
TEST_P(Bind, WithoutAddressTakesAllInterfacesAndAFreePort)
{
    for (uint32_t type : socket_types()) {
        for (const char *text : {static_cast<const char *>(nullptr), ""}) {
            SCOPED_TRACE(type);
            struct dgram_socket *socket = open_socket(loop, type);
            ASSERT_EQ(dgram_bind(socket, 0, text), 0);
            struct dgram_addr address = {};
            ASSERT_EQ(dgram_address(socket, &address), 0);
            EXPECT_EQ(text_of(&address), type == DGRAM_UDP6 ? "::" : "0.0.0.0");
            EXPECT_STREQ(dgram_addr_family(&address), type == DGRAM_UDP6 ? "IPv6" : "IPv4");
            EXPECT_GT(dgram_addr_port(&address), 0);
            close_and_wait(loop, socket);
        }
    }
}

/* S20, S25 */
TEST_P(Bind, TakesTheAddressAndPortThatItWasGiven)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        uint16_t port = private_port(type);
        struct dgram_socket *socket = open_socket(loop, type);
        ASSERT_EQ(dgram_bind(socket, port, loopback(type)), 0);
        struct dgram_addr address = {};
        ASSERT_EQ(dgram_address(socket, &address), 0);
        EXPECT_EQ(text_of(&address), loopback(type));
        EXPECT_EQ(dgram_addr_port(&address), port);
        expect_echo(loop, socket);
    }
}

TEST_P(Bind, RefusesWhatIsNoLocalAddressAndMayBeRetried)
{
    struct dgram_socket *udp4 = open_socket(loop);
    for (const char *text : {"256.0.0.1", "127.0.0.1 ", " 127.0.0.1", "127.0.1", "2130706433",
                             "127.0.0.1:80", "*", "fe80:::1", "a..b", "-a.example"}) {
        EXPECT_EQ(dgram_bind(udp4, 0, text), DGRAM_EBADADDRESS) << text;
    }
    for (const char *text : {"::1", "::", "::ffff:127.0.0.1"}) {
        EXPECT_EQ(dgram_bind(udp4, 0, text), DGRAM_EBADFAMILY) << text;
    }
    struct dgram_addr address = {};
    EXPECT_EQ(dgram_address(udp4, &address), DGRAM_ENOTBOUND);
    expect_echo(loop, udp4);
    if (has_ipv6()) {
        struct dgram_socket *udp6 = open_socket(loop, DGRAM_UDP6);
        EXPECT_EQ(dgram_bind(udp6, 0, "::1 "), DGRAM_EBADADDRESS);
        EXPECT_EQ(dgram_bind(udp6, 0, "[::1]"), DGRAM_EBADADDRESS);
        EXPECT_EQ(dgram_bind(udp6, 0, "127.0.0.1"), DGRAM_EBADFAMILY);
        EXPECT_EQ(dgram_bind(udp6, 0, "fe80::1%no-such-if"), DGRAM_EBADINTERFACE);
        expect_echo(loop, udp6);
    }
}

TEST_P(Bind, ForeignAddressIsNotAvailable)
{
    std::ifstream file("/proc/sys/net/ipv4/ip_nonlocal_bind");
    int nonlocal = 0;
    if (file >> nonlocal && nonlocal != 0) {
        GTEST_SKIP() << "net.ipv4.ip_nonlocal_bind is on";
    }
    struct dgram_socket *socket = open_socket(loop);
    EXPECT_EQ(dgram_bind(socket, 0, "192.0.2.1"), -EADDRNOTAVAIL);
    expect_echo(loop, socket);
}

/* S22 */
TEST_P(Bind, TwiceIsAlreadyBound)
{
    struct dgram_socket *socket = open_bound(loop);
    uint16_t port = port_of(socket);
    EXPECT_EQ(dgram_bind(socket, 0, "127.0.0.1"), DGRAM_EALREADYBOUND);
    ASSERT_EQ(dgram_loop_turn(loop, 0), 1);
    EXPECT_EQ(dgram_bind(socket, 0, nullptr), DGRAM_EALREADYBOUND);
    EXPECT_EQ(port_of(socket), port);
    expect_echo(loop, socket);
}

/* S21, L2: SO_REUSEADDR is off by default; a failed bind may be tried again and again. */
TEST_P(Bind, PortInUseIsAnErrorAndMayBeRetried)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        struct dgram_socket *first = open_bound(loop, type);
        struct dgram_socket *second = open_socket(loop, type);
        int listenings = 0;
        Handlers on;
        on.listening = [&](struct dgram_socket *) { listenings++; };
        on.attach(second);
        for (int i = 0; i < 20; i++) {
            ASSERT_EQ(dgram_bind(second, port_of(first), loopback(type)), -EADDRINUSE);
        }
        settle(loop);
        EXPECT_EQ(listenings, 0);
        ASSERT_EQ(dgram_bind(second, 0, loopback(type)), 0);
        ASSERT_TRUE(run_until(loop, [&] { return listenings > 0; }));
        expect_echo(loop, second);
        expect_echo(loop, first);
        EXPECT_EQ(listenings, 1);
        close_and_wait(loop, second);
    }
}

/* L2 */
TEST_P(Bind, MayBeRetriedInsideACallback)
{
    struct dgram_socket *first = open_bound(loop);
    struct dgram_socket *second = open_socket(loop);
    bool bound = false;
    Handlers on;
    on.listening = [&](struct dgram_socket *) {
        EXPECT_EQ(dgram_bind(second, port_of(first), "127.0.0.1"), -EADDRINUSE);
        EXPECT_EQ(dgram_bind(second, 0, "127.0.0.1"), 0);
        bound = true;
    };
    on.attach(first);
    ASSERT_TRUE(run_until(loop, [&] { return bound; }));
    expect_echo(loop, second);
}

/* S25 */
TEST_P(Bind, AddressOfAnUnboundSocketIsNotBound)
{
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_addr address = parse("192.0.2.7", 7);
    EXPECT_EQ(dgram_address(socket, &address), DGRAM_ENOTBOUND);
    EXPECT_EQ(text_of(&address), "192.0.2.7");
}

/* S17 */
TEST_P(Bind, FirstSendBindsToAllInterfaces)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        Inbox inbox;
        struct dgram_socket *receiver = open_inbox(loop, &inbox, type);
        struct dgram_socket *sender = open_socket(loop, type);
        int listenings = 0;
        Handlers on;
        on.listening = [&](struct dgram_socket *socket) {
            listenings++;
            EXPECT_GT(port_of(socket), 0);
        };
        on.attach(sender);
        for (int i = 0; i < 3; i++) {
            ASSERT_EQ(send_text(sender, "x", address_of(receiver)), 0);
        }
        struct dgram_addr address = {};
        ASSERT_EQ(dgram_address(sender, &address), 0);
        EXPECT_EQ(text_of(&address), type == DGRAM_UDP6 ? "::" : "0.0.0.0");
        uint16_t port = dgram_addr_port(&address);
        EXPECT_GT(port, 0);
        EXPECT_EQ(listenings, 0);
        EXPECT_EQ(dgram_bind(sender, 0, nullptr), DGRAM_EALREADYBOUND);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 3; }));
        EXPECT_EQ(dgram_addr_port(&inbox.from[0]), port);
        EXPECT_EQ(dgram_addr_port(&inbox.from[2]), port);
        ASSERT_EQ(send_text(sender, "x", address_of(receiver)), 0);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 4; }));
        EXPECT_EQ(listenings, 1);
    }
}

/* S17: replies to the port that the first send took are received. */
TEST_P(Bind, ImplicitlyBoundSocketReceivesReplies)
{
    Inbox replies;
    struct dgram_socket *server = open_bound(loop);
    Handlers on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
        EXPECT_EQ(send_text(socket, "re: " + payload_of(message), *message->from), 0);
    };
    on.attach(server);
    struct dgram_socket *client = open_socket(loop);
    ASSERT_EQ(dgram_on_message(client, Inbox::take, &replies), 0);
    ASSERT_EQ(dgram_send(client, "hi", 2, port_of(server), "127.0.0.1", nullptr, nullptr), 0);
    ASSERT_TRUE(run_until(loop, [&] { return replies.count() == 1; }));
    EXPECT_EQ(replies.payloads[0], "re: hi");
    EXPECT_EQ(dgram_addr_port(&replies.from[0]), port_of(server));
}

/* ---- Events -------------------------------------------------------------------------------- */

/* S4, L1 */
TEST_P(Events, ListeningComesAfterBindReturnedAndBeforeMessages)
{
    Recorder log;
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_socket *sender = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        struct dgram_addr address = {};
        EXPECT_EQ(dgram_address(which, &address), 0);
        log.add("listening");
    };
    on.message = [&](struct dgram_socket *, const struct dgram_message *) { log.add("message"); };
    on.attach(socket);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    log.add("returned");
    ASSERT_EQ(send_text(sender, "x", address_of(socket)), 0);
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    log.add("flushed");
    ASSERT_TRUE(run_until(loop, [&] { return log.count("message") == 1; }));
    EXPECT_EQ(log.text(), "returned flushed listening message");
}

/* S4 */
TEST_P(Events, ListeningReachesAHandlerThatWasSetAfterBind)
{
    struct dgram_socket *socket = open_bound(loop);
    int listenings = 0;
    Handlers on;
    on.listening = [&](struct dgram_socket *) { listenings++; };
    on.attach(socket);
    ASSERT_TRUE(run_until(loop, [&] { return listenings == 1; }));
    settle(loop);
    EXPECT_EQ(listenings, 1);
}

TEST_P(Events, BindInsideACallbackEmitsListeningLater)
{
    Recorder log;
    struct dgram_socket *second = open_socket(loop);
    Handlers on_second;
    on_second.listening = [&](struct dgram_socket *) { log.add("second"); };
    on_second.attach(second);
    struct dgram_socket *first = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *) {
        log.add("first");
        EXPECT_EQ(dgram_bind(second, 0, "127.0.0.1"), 0);
        log.add("bound");
    };
    on.attach(first);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("second") == 1; }));
    EXPECT_EQ(log.text(), "first bound second");
}

/* S2: replaced in the middle of a burst that the kernel hands over as a whole. */
TEST_P(Events, MessageHandlerMayBeReplacedInsideItself)
{
    const size_t count = 64;
    std::vector<std::string> first, second;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on_first, on_second;
    on_second.message = [&](struct dgram_socket *, const struct dgram_message *message) {
        second.push_back(payload_of(message));
    };
    on_first.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        first.push_back(payload_of(message));
        if (first.size() == 10) {
            on_second.attach(which);
        }
    };
    on_first.attach(socket);
    std::vector<std::string> sent;
    for (size_t i = 0; i < count; i++) {
        sent.push_back(std::to_string(1000 + i));
        ASSERT_EQ(send_text(socket, sent[i], address_of(socket)), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return first.size() + second.size() == count; }));
    EXPECT_EQ(first, std::vector<std::string>(sent.begin(), sent.begin() + 10));
    EXPECT_EQ(second, std::vector<std::string>(sent.begin() + 10, sent.end()));
}

/* S2 */
TEST_P(Events, EveryHandlerMayBeReplacedInsideItself)
{
    Recorder log;
    struct dgram_socket_options options = socket_options();
    options.queue_limit = 200;
    struct dgram_socket *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
    Handlers first, second;
    second.listening = [&](struct dgram_socket *) { log.add("listening-2"); };
    first.listening = [&](struct dgram_socket *which) {
        log.add("listening");
        EXPECT_EQ(dgram_on_listening(which, Handlers::on_listening, &second), 0);
    };
    second.drain = [&](struct dgram_socket *) { log.add("drain-2"); };
    first.drain = [&](struct dgram_socket *which) {
        log.add("drain");
        EXPECT_EQ(dgram_on_drain(which, Handlers::on_drain, &second), 0);
    };
    second.close = [&](struct dgram_socket *) { log.add("close-2"); };
    first.close = [&](struct dgram_socket *which) {
        log.add("close");
        EXPECT_EQ(dgram_on_close(which, Handlers::on_close, &second), DGRAM_ENOTRUNNING);
    };
    first.attach(socket);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    struct dgram_addr to = address_of(socket);
    for (size_t round = 1; round <= 2; round++) {
        int code = 0;
        for (int i = 0; i < 100 && code == 0; i++) {
            code = send_text(socket, pattern(100, 1), to);
        }
        ASSERT_EQ(code, -EAGAIN);
        const std::string event = round == 1 ? "drain" : "drain-2";
        ASSERT_TRUE(run_until(loop, [&] { return log.count(event) == 1; }));
    }
    ASSERT_EQ(dgram_close(socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    settle(loop);
    EXPECT_EQ(log.text(), "listening drain drain-2 close");
}

TEST_P(Events, UserPointersAreThoseOfEachHandler)
{
    int one = 0, two = 0;
    struct dgram_socket *socket = open_socket(loop);
    auto count = [](struct dgram_socket *, void *user) {
        if (!muted()) {
            ++*static_cast<int *>(user);
        }
    };
    ASSERT_EQ(dgram_on_listening(socket, count, &one), 0);
    ASSERT_EQ(dgram_on_close(socket, count, &two), 0);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return one == 1; }));
    EXPECT_EQ(two, 0);
    ASSERT_EQ(dgram_close(socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return two == 1; }));
    EXPECT_EQ(one, 1);
}

TEST_P(Events, WithoutHandlersNothingIsNeeded)
{
    struct dgram_socket *socket = open_bound(loop);
    ASSERT_EQ(send_text(socket, "unheard", address_of(socket)), 0);
    settle(loop);
    EXPECT_EQ(stats_of(socket).sent, 1u);
    ASSERT_EQ(dgram_close(socket), 0);
    ASSERT_EQ(dgram_loop_run(loop), 0);
}

/* ---- Close --------------------------------------------------------------------------------- */

/* S5, S23 */
TEST_P(Close, IsEmittedOnceAndNotInsideTheCall)
{
    for (bool bound : {false, true}) {
        SCOPED_TRACE(bound);
        Recorder log;
        struct dgram_socket *socket = bound ? open_bound(loop) : open_socket(loop);
        Handlers on;
        on.close = [&](struct dgram_socket *which) {
            EXPECT_EQ(which, socket);
            log.add("close");
        };
        on.attach(socket);
        ASSERT_EQ(dgram_close(socket), 0);
        log.add("returned");
        EXPECT_EQ(dgram_close(socket), DGRAM_ENOTRUNNING);
        ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
        EXPECT_EQ(log.text(), "returned close");
    }
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

/* A socket being closed keeps the loop alive until `close` was emitted. */
TEST_P(Close, IsEmittedBeforeTheLoopEnds)
{
    int closes = 0;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    for (int i = 0; i < 20; i++) {
        struct dgram_socket *socket = i % 2 == 0 ? open_bound(loop) : open_socket(loop);
        on.attach(socket);
        if (i % 3 == 0) {
            EXPECT_EQ(dgram_unref(socket), 0);
        }
        ASSERT_EQ(dgram_close(socket), 0);
    }
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(closes, 20);
}

/* The handle answers until the handler of `close` has returned. */
TEST_P(Close, HandleAnswersNotRunningInsideTheCloseHandler)
{
    bool closed = false;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *which) {
        struct dgram_addr address = {};
        EXPECT_EQ(dgram_close(which), DGRAM_ENOTRUNNING);
        EXPECT_EQ(dgram_bind(which, 0, nullptr), DGRAM_ENOTRUNNING);
        EXPECT_EQ(dgram_address(which, &address), DGRAM_ENOTRUNNING);
        EXPECT_EQ(dgram_send(which, "x", 1, 9, nullptr, nullptr, nullptr), DGRAM_ENOTRUNNING);
        EXPECT_EQ(dgram_set_ttl(which, 3), DGRAM_ENOTRUNNING);
        EXPECT_EQ(dgram_get_send_queue_count(which), 0u);
        EXPECT_EQ(dgram_socket_loop(which), loop);
        closed = true;
    };
    on.attach(socket);
    ASSERT_EQ(dgram_close(socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
}

TEST_P(Close, HandlerMayStillBeSetAfterTheCall)
{
    int closes = 0;
    struct dgram_socket *socket = open_bound(loop);
    ASSERT_EQ(dgram_close(socket), 0);
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    on.error = [&](struct dgram_socket *, const struct dgram_error *) {};
    on.attach(socket);
    ASSERT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(closes, 1);
}

/* S5: whatever was on its way, no message follows, also from the middle of a train. */
TEST_P(Close, InTheMiddleOfABurstEndsTheMessages)
{
    const uint32_t slots = info_of(loop).slots;
    for (size_t stop_after : {1u, 10u, 63u}) {
        SCOPED_TRACE(stop_after);
        size_t messages = 0;
        bool closed = false;
        struct dgram_socket *sender = open_bound(loop);
        struct dgram_socket *socket = open_bound(loop);
        Handlers on;
        on.message = [&](struct dgram_socket *which, const struct dgram_message *) {
            EXPECT_FALSE(closed);
            if (++messages == stop_after) {
                EXPECT_EQ(dgram_close(which), 0);
            }
        };
        on.close = [&](struct dgram_socket *) { closed = true; };
        on.attach(socket);
        for (size_t i = 0; i < 64; i++) {
            ASSERT_EQ(send_text(sender, pattern(100, 1), address_of(socket)), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return closed; }));
        settle(loop);
        EXPECT_EQ(messages, stop_after);
        EXPECT_EQ(info_of(loop).slots_free, slots) << "slots were lost";
        close_and_wait(loop, sender);
    }
}

TEST_P(Close, InTheMiddleOfMessagesArraysEndsThem)
{
    size_t calls = 0;
    bool closed = false;
    struct dgram_socket *sender = open_bound(loop);
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.messages = [&](struct dgram_socket *which, const struct dgram_message *, size_t) {
        calls++;
        EXPECT_EQ(dgram_close(which), 0);
    };
    on.close = [&](struct dgram_socket *) { closed = true; };
    on.attach(socket);
    for (size_t i = 0; i < 64; i++) {
        ASSERT_EQ(send_text(sender, pattern(1 + i, 1), address_of(socket)), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
    settle(loop);
    EXPECT_EQ(calls, 1u);
}

/* A socket closed by another one's handler gets none of the messages of the same turn. */
TEST_P(Close, OfAnotherSocketWithMessagesWaiting)
{
    struct dgram_socket *sender = open_bound(loop);
    struct dgram_socket *sockets[2] = {open_bound(loop), open_bound(loop)};
    size_t messages[2] = {0, 0};
    int survivor = -1;
    bool closed = false;
    Handlers on[2];
    for (int i = 0; i < 2; i++) {
        on[i].message = [&, i](struct dgram_socket *, const struct dgram_message *) {
            messages[i]++;
            if (survivor < 0) {
                survivor = i;
                EXPECT_EQ(dgram_close(sockets[1 - i]), 0);
            }
        };
        on[i].close = [&](struct dgram_socket *) { closed = true; };
        on[i].attach(sockets[i]);
    }
    for (int i = 0; i < 40; i++) {
        ASSERT_EQ(send_text(sender, pattern(100, 1), address_of(sockets[i % 2])), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return closed && messages[survivor] == 20; }));
    settle(loop);
    EXPECT_EQ(messages[1 - survivor], 0u);
    EXPECT_EQ(messages[survivor], 20u);
}

/* L27: close() inside each kind of callback. */
TEST_P(Close, InsideTheListeningHandler)
{
    Recorder log;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        log.add("listening");
        EXPECT_EQ(dgram_close(which), 0);
    };
    on.message = [&](struct dgram_socket *, const struct dgram_message *) { log.add("message"); };
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(socket);
    struct dgram_socket *sender = open_socket(loop);
    ASSERT_EQ(send_text(sender, "x", address_of(socket)), 0);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    settle(loop);
    EXPECT_EQ(log.text(), "listening close");
}

TEST_P(Close, InsideTheSentCallback)
{
    Recorder log;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(socket);
    bool first = true;
    Sent sent([&](struct dgram_socket *which, int result) {
        log.add("sent");
        EXPECT_EQ(result, 5);
        if (first) {
            first = false;
            EXPECT_EQ(dgram_close(which), 0);
        }
    });
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_addr to = address_of(sink);
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(dgram_send_to(socket, "hello", 5, &to, Sent::call, &sent), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    EXPECT_EQ(log.text(), "sent sent sent sent close");
}

TEST_P(Close, InsideTheDrainHandler)
{
    Recorder log;
    struct dgram_socket_options options = socket_options();
    options.queue_limit = 200;
    struct dgram_socket *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
    Handlers on;
    on.drain = [&](struct dgram_socket *which) {
        log.add("drain");
        EXPECT_EQ(dgram_close(which), 0);
    };
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(socket);
    struct dgram_socket *sink = open_bound(loop);
    int code = 0;
    for (int i = 0; i < 100 && code == 0; i++) {
        code = send_text(socket, pattern(100, 1), address_of(sink));
    }
    ASSERT_EQ(code, -EAGAIN);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    EXPECT_EQ(log.text(), "drain close");
}

TEST_P(Close, InsideATimerAndAPostedFunction)
{
    int closes = 0;
    struct dgram_socket *one = open_bound(loop), *two = open_bound(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    on.attach(one);
    on.attach(two);
    Tick tick([&](struct dgram_timer *) { EXPECT_EQ(dgram_close(one), 0); });
    Job job([&](struct dgram_loop *) { EXPECT_EQ(dgram_close(two), 0); });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, 0), 0);
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(closes, 2);
}

TEST_P(Close, OfAnotherSocketInsideTheCloseHandler)
{
    Recorder log;
    struct dgram_socket *first = open_bound(loop), *second = open_bound(loop);
    struct dgram_socket *third = open_bound(loop);
    Handlers on_first, on_second, on_third;
    on_first.close = [&](struct dgram_socket *) {
        log.add("first");
        EXPECT_EQ(dgram_close(second), 0);
    };
    on_second.close = [&](struct dgram_socket *) {
        log.add("second");
        EXPECT_EQ(dgram_close(third), 0);
        struct dgram_socket *fourth = open_socket(loop);
        EXPECT_EQ(dgram_close(fourth), 0);
    };
    on_third.close = [&](struct dgram_socket *) { log.add("third"); };
    on_first.attach(first);
    on_second.attach(second);
    on_third.attach(third);
    ASSERT_EQ(dgram_close(first), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(log.text(), "first second third");
}

/* S23, L28: `close` is the last event, each send has completed by then. */
TEST_P(Close, ComesAfterEverySendHasCompleted)
{
    Recorder log;
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *which) {
        log.add("close");
        EXPECT_EQ(dgram_get_send_queue_count(which), 0u);
    };
    on.attach(socket);
    Sent sent([&](struct dgram_socket *which, int result) {
        log.add("sent");
        EXPECT_TRUE(result == 3 || result == -ECANCELED) << result;
        EXPECT_EQ(dgram_send(which, "x", 1, 9, nullptr, nullptr, nullptr), DGRAM_ENOTRUNNING);
    });
    struct dgram_addr to = address_of(sink);
    for (int i = 0; i < 100; i++) {
        ASSERT_EQ(dgram_send_to(socket, "abc", 3, &to, Sent::call, &sent), 0);
    }
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_send_to(socket, "abc", 3, &to, Sent::call, &no_callback_expected),
              DGRAM_ENOTRUNNING);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    EXPECT_EQ(log.count("sent"), 100u);
    EXPECT_EQ(log.events.back(), "close");
}

/* The port is free when `close` is emitted: bound again inside the handler. */
TEST_P(CloseHost, FreesThePortBeforeItIsEmitted)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        uint16_t port = private_port(type);
        Inbox inbox;
        int code = 1;
        struct dgram_socket *first = open_socket(loop, type), *second = open_socket(loop, type);
        ASSERT_EQ(dgram_on_message(first, Inbox::take, &inbox), 0);
        ASSERT_EQ(dgram_bind(first, port, loopback(type)), 0);
        settle(loop);
        Handlers on;
        on.close = [&](struct dgram_socket *) { code = dgram_bind(second, port, loopback(type)); };
        on.attach(first);
        ASSERT_EQ(dgram_close(first), 0);
        ASSERT_TRUE(run_until(loop, [&] { return code != 1; }));
        EXPECT_EQ(code, 0) << dgram_error_name(code);
        expect_echo(loop, second);
        EXPECT_EQ(inbox.count(), 0u);
        close_and_wait(loop, second);
    }
}

/* Ten thousand times the same port, with and without receives under way. */
TEST_P(CloseHost, BindCloseBindNeverFindsThePortInUse)
{
    const int cycles = patience() > 1 ? 1000 : 10000;
    uint16_t port = private_port(DGRAM_UDP4);
    int closes = 0;
    Inbox inbox;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    for (int i = 0; i < cycles; i++) {
        struct dgram_socket *socket = nullptr;
        ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, nullptr, &socket), 0);
        ASSERT_EQ(dgram_on_close(socket, Handlers::on_close, &on), 0);
        ASSERT_EQ(dgram_on_message(socket, Inbox::take, &inbox), 0);
        ASSERT_EQ(dgram_bind(socket, port, "127.0.0.1"), 0) << "cycle " << i;
        if (i % 3 == 0) {
            ASSERT_EQ(dgram_loop_turn(loop, 0), 1);
        } else if (i % 3 == 1) {
            size_t before = inbox.count();
            ASSERT_EQ(send_text(socket, "x", address_of(socket)), 0);
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() > before; }));
        }
        ASSERT_EQ(dgram_close(socket), 0);
        ASSERT_TRUE(run_until(loop, [&] { return closes == i + 1; }));
    }
}

/* S5: a flood that goes on while the socket is closed. */
TEST_P(CloseHost, UnderAFloodEndsTheMessages)
{
    Plain peer;
    size_t messages = 0;
    bool closed = false;
    struct dgram_socket *socket = open_bound(loop);
    struct dgram_addr to = address_of(socket);
    struct dgram_socket *other = open_bound(loop);
    Handlers on;
    on.message = [&](struct dgram_socket *which, const struct dgram_message *) {
        EXPECT_FALSE(closed);
        for (int i = 0; i < 3 && messages < 50; i++) {
            peer.send("more", to);
        }
        if (++messages == 50) {
            EXPECT_EQ(dgram_close(which), 0);
        }
    };
    on.close = [&](struct dgram_socket *) { closed = true; };
    on.attach(socket);
    for (int i = 0; i < 10; i++) {
        peer.send("start", to);
    }
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
    settle(loop);
    EXPECT_EQ(messages, 50u);
    expect_echo(loop, other);
}

/* ---- dgram_end ----------------------------------------------------------------------------- */

TEST_P(Close, EndOfAnIdleSocketClosesIt)
{
    for (bool bound : {false, true}) {
        Recorder log;
        struct dgram_socket *socket = bound ? open_bound(loop) : open_socket(loop);
        Handlers on;
        on.close = [&](struct dgram_socket *) { log.add("close"); };
        on.attach(socket);
        ASSERT_EQ(dgram_end(socket), 0);
        log.add("returned");
        EXPECT_EQ(dgram_end(socket), DGRAM_ENOTRUNNING);
        ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
        EXPECT_EQ(log.text(), "returned close");
    }
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

TEST_P(Close, EndSendsWhatIsQueuedAndRefusesMore)
{
    Inbox inbox;
    Results results;
    Recorder log;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *socket = open_socket(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *) {
        EXPECT_EQ(results.values, std::vector<int>(100, 3));
        log.add("close");
    };
    on.attach(socket);
    struct dgram_addr to = address_of(receiver);
    for (int i = 0; i < 100; i++) {
        ASSERT_EQ(dgram_send_to(socket, "abc", 3, &to, Results::take, &results), 0);
    }
    ASSERT_EQ(dgram_end(socket), 0);
    EXPECT_EQ(send_text(socket, "late", to), DGRAM_ENOTRUNNING);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1 && inbox.count() == 100; }));
    settle(loop);
    EXPECT_EQ(inbox.count(), 100u);
    EXPECT_EQ(log.text(), "close");
}

TEST_P(Close, AfterEndCutsItShort)
{
    Results results;
    int closes = 0;
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    on.attach(socket);
    struct dgram_addr to = address_of(sink);
    ASSERT_EQ(dgram_send_to(socket, "abc", 3, &to, Results::take, &results), 0);
    ASSERT_EQ(dgram_end(socket), 0);
    EXPECT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_close(socket), DGRAM_ENOTRUNNING);
    ASSERT_TRUE(run_until(loop, [&] { return closes == 1; }));
    settle(loop);
    EXPECT_EQ(closes, 1);
    EXPECT_EQ(results.values, std::vector<int>{3});
}

/* ---- Ref, unref, liveness ------------------------------------------------------------------ */

/* S33: also without a message handler. */
TEST_P(Life, BoundSocketKeepsTheLoopAlive)
{
    struct dgram_socket *socket = open_bound(loop);
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(dgram_loop_turn(loop, 0), 1);
    }
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(dgram_loop_turn(loop, -1), 0);
}

/* S33, L37 */
TEST_P(Life, UnrefLetsTheLoopEndAndRefKeepsIt)
{
    struct dgram_socket *socket = open_socket(loop);
    EXPECT_EQ(dgram_unref(socket), 0); /* valid before bind, idempotent */
    EXPECT_EQ(dgram_unref(socket), 0);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(dgram_ref(socket), 0);
    EXPECT_EQ(dgram_ref(socket), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 1);
    EXPECT_EQ(dgram_unref(socket), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 0);
    expect_echo(loop, socket);
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

/* L37: sends under way keep the loop running all the same. */
TEST_P(Life, AcceptedSendKeepsTheLoopOfAnUnrefdSocketAlive)
{
    Results results;
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    ASSERT_EQ(dgram_unref(sink), 0);
    ASSERT_EQ(dgram_unref(socket), 0);
    struct dgram_addr to = address_of(sink);
    ASSERT_EQ(dgram_send_to(socket, "abc", 3, &to, Results::take, &results), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(results.values, std::vector<int>{3});
}

TEST_P(Life, UnrefInsideACallbackEndsTheRun)
{
    int listenings = 0;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        listenings++;
        EXPECT_EQ(dgram_unref(which), 0);
    };
    on.attach(socket);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(listenings, 1);
}

TEST_P(Life, EmptyLoopEndsAtOnce)
{
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(dgram_loop_turn(loop, -1), 0);
    EXPECT_EQ(dgram_loop_turn(loop, HOUR), 0);
    EXPECT_EQ(dgram_loop_flush(loop), 0);
}

/* An unref'd socket receives while something else keeps the loop running. */
TEST_P(Life, UnrefdSocketStillReceives)
{
    Inbox inbox;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    ASSERT_EQ(dgram_unref(socket), 0);
    struct dgram_socket *sender = open_bound(loop);
    ASSERT_EQ(send_text(sender, "x", address_of(socket)), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
}

/* ---- dgram_loop_free ----------------------------------------------------------------------- */

TEST_P(LoopFree, AcceptsNullAndAFreshLoop)
{
    EXPECT_EQ(dgram_loop_free(nullptr), nullptr);
    struct dgram_loop *fresh = make_loop();
    EXPECT_EQ(dgram_loop_free(fresh), nullptr);
}

TEST_P(LoopFree, WithEverythingOpenClosesAndCompletesInsideTheCall)
{
    for (bool ran : {false, true}) {
        SCOPED_TRACE(ran);
        struct dgram_loop *doomed = make_loop();
        Recorder log;
        Inbox inbox;
        Results results;
        Handlers on;
        on.close = [&](struct dgram_socket *which) {
            log.add("close");
            EXPECT_EQ(dgram_close(which), DGRAM_ENOTRUNNING);
        };
        struct dgram_socket *bound = open_inbox(doomed, &inbox), *unbound = open_socket(doomed);
        struct dgram_socket *sender = open_socket(doomed), *closing = open_bound(doomed);
        for (struct dgram_socket *socket : {bound, unbound, sender, closing}) {
            on.attach(socket);
        }
        Tick tick([&](struct dgram_timer *) { log.add("tick"); });
        struct dgram_timer *started = nullptr, *stopped = nullptr;
        ASSERT_EQ(dgram_timer_create(doomed, Tick::call, &tick, &started), 0);
        ASSERT_EQ(dgram_timer_create(doomed, Tick::call, &tick, &stopped), 0);
        ASSERT_EQ(dgram_timer_start(started, HOUR, 0), 0);
        if (ran) {
            ASSERT_EQ(send_text(sender, "first", address_of(bound)), 0);
            ASSERT_TRUE(run_until(doomed, [&] { return inbox.count() == 1; }));
        }
        Job job([&](struct dgram_loop *) { log.add("post"); });
        ASSERT_EQ(dgram_loop_post(doomed, Job::call, &job), 0);
        struct dgram_addr to = address_of(bound);
        for (int i = 0; i < 30; i++) {
            ASSERT_EQ(dgram_send_to(sender, "abc", 3, &to, Results::take, &results), 0);
            ASSERT_EQ(send_text(sender, "abc", to), 0);
        }
        ASSERT_EQ(dgram_close(closing), 0);
        EXPECT_EQ(log.text(), "");
        EXPECT_EQ(dgram_loop_free(doomed), nullptr);
        EXPECT_EQ(log.count("close"), 4u);
        EXPECT_EQ(log.count("post"), 1u);
        EXPECT_EQ(log.count("tick"), 0u);
        EXPECT_EQ(results.values, std::vector<int>(30, 3)) << "queued sends get one attempt";
    }
}

/* Callbacks run inside dgram_loop_free() and may call anything. */
TEST_P(LoopFree, CallbacksInsideItMayUseTheLoop)
{
    struct dgram_loop *doomed = make_loop();
    Recorder log;
    struct dgram_socket *one = open_bound(doomed), *two = open_bound(doomed);
    struct dgram_addr to = address_of(two);
    Handlers on;
    on.close = [&](struct dgram_socket *which) {
        log.add("close");
        EXPECT_EQ(dgram_send_to(which, "x", 1, &to, nullptr, nullptr), DGRAM_ENOTRUNNING);
        EXPECT_EQ(dgram_loop_free(doomed), nullptr); /* again: nothing more happens */
        EXPECT_EQ(dgram_loop_turn(doomed, 0), DGRAM_EREENTERED);
        struct dgram_socket *more = nullptr; /* nothing new begins */
        EXPECT_EQ(dgram_create_socket(doomed, DGRAM_UDP4, nullptr, &more), DGRAM_ENOTRUNNING);
        struct dgram_destination *handle = nullptr;
        EXPECT_EQ(dgram_destination_create(doomed, DGRAM_UDP4, 9, "127.0.0.1", &handle),
                  DGRAM_ENOTRUNNING);
        EXPECT_EQ(more, nullptr);
        EXPECT_EQ(dgram_loop_post(doomed, Job::call, &no_callback_expected), DGRAM_ENOTRUNNING);
    };
    on.attach(one);
    on.attach(two);
    Sent sent([&](struct dgram_socket *, int result) {
        log.add("sent");
        EXPECT_EQ(result, 1);
        dgram_close(one);
        dgram_close(two);
    });
    ASSERT_EQ(dgram_send_to(one, "x", 1, &to, Sent::call, &sent), 0);
    EXPECT_EQ(dgram_loop_free(doomed), nullptr);
    EXPECT_EQ(log.text(), "sent close close");
}

/* In a callback of its loop: the work is done when the turn unwinds and run returns 1. */
TEST_P(LoopFree, InsideEachKindOfCallback)
{
    for (const std::string kind :
         {"listening", "message", "messages", "sent", "timer", "post", "close", "drain"}) {
        SCOPED_TRACE(kind);
        struct dgram_loop *doomed = make_loop();
        Recorder log;
        bool freed = false;
        auto free_now = [&](const char *where) {
            if (kind == where && !freed) {
                freed = true;
                EXPECT_EQ(dgram_loop_free(doomed), nullptr);
                log.add("freed");
            }
        };
        struct dgram_socket_options options = socket_options();
        options.queue_limit = 200;
        struct dgram_socket *receiver = open_bound(doomed), *other = open_bound(doomed);
        struct dgram_socket *sender = nullptr;
        ASSERT_EQ(dgram_create_socket(doomed, DGRAM_UDP4, &options, &sender), 0);
        Handlers on;
        on.listening = [&](struct dgram_socket *) { free_now("listening"); };
        on.drain = [&](struct dgram_socket *) { free_now("drain"); };
        if (kind == "messages") {
            on.messages = [&](struct dgram_socket *, const struct dgram_message *, size_t) {
                free_now("messages");
            };
        } else {
            on.message = [&](struct dgram_socket *which, const struct dgram_message *) {
                if (kind == "close" && which == receiver && log.events.empty()) {
                    log.add("closing");
                    dgram_close(other);
                }
                free_now("message");
            };
        }
        on.close = [&](struct dgram_socket *) {
            log.add("close");
            free_now("close");
        };
        for (struct dgram_socket *socket : {receiver, other, sender}) {
            on.attach(socket);
        }
        Sent sent([&](struct dgram_socket *, int) { free_now("sent"); });
        Tick tick([&](struct dgram_timer *) { free_now("timer"); });
        Job job([&](struct dgram_loop *) { free_now("post"); });
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(doomed, Tick::call, &tick, &timer), 0);
        ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, MILLISECOND), 0);
        ASSERT_EQ(dgram_loop_post(doomed, Job::call, &job), 0);
        struct dgram_addr to = address_of(receiver);
        const std::string payload = pattern(100, 1); /* lent until the callback */
        int code = 0;
        for (int i = 0; i < 100 && code == 0; i++) {
            code = dgram_send_to(sender, payload.data(), 100, &to,
                                 kind == "drain" ? nullptr : Sent::call, &sent);
            if (kind != "drain") {
                break;
            }
        }
        EXPECT_EQ(dgram_loop_run(doomed), 1);
        EXPECT_TRUE(freed);
        EXPECT_EQ(log.count("close"), 3u) << log.text();
    }
}

/* Who frees the loop has freed what its handlers use, or is about to. */
TEST_P(LoopFree, InsideACallbackEndsMessagesAndTimers)
{
    for (const std::string kind : {"message", "messages", "timer", "post"}) {
        SCOPED_TRACE(kind);
        struct dgram_loop *doomed = make_loop();
        struct dgram_socket *receiver = open_bound(doomed), *sender = open_bound(doomed);
        struct dgram_timer *first = nullptr, *second = nullptr;
        bool freed = false;
        auto visit = [&](const char *where) {
            EXPECT_FALSE(freed) << where << " after the loop was freed";
            if (kind == where) {
                freed = true;
                EXPECT_EQ(dgram_loop_free(doomed), nullptr);
                EXPECT_EQ(send_text(sender, "late", parse("127.0.0.1", 9)), DGRAM_ENOTRUNNING);
                EXPECT_EQ(dgram_timer_start(first, 0, 0), DGRAM_ENOTRUNNING);
            }
        };
        Handlers on;
        on.message = [&](struct dgram_socket *, const struct dgram_message *) { visit("message"); };
        if (kind == "messages") {
            on.messages = [&](struct dgram_socket *, const struct dgram_message *, size_t) {
                visit("messages");
            };
        }
        on.attach(receiver);
        Tick tick([&](struct dgram_timer *) { visit("timer"); });
        Job job([&](struct dgram_loop *) { visit("post"); });
        for (struct dgram_timer **timer : {&first, &second}) {
            ASSERT_EQ(dgram_timer_create(doomed, Tick::call, &tick, timer), 0);
            ASSERT_EQ(dgram_timer_start(*timer, kind == "timer" ? 0 : MILLISECOND, 0), 0);
        }
        for (unsigned i = 0; i < 20; i++) { /* no train holds them all */
            ASSERT_EQ(send_text(sender, pattern(10 + i % 3, i), address_of(receiver)), 0);
        }
        if (kind == "post") {
            ASSERT_EQ(dgram_loop_post(doomed, Job::call, &job), 0);
        }
        EXPECT_EQ(dgram_loop_run(doomed), 1);
        EXPECT_TRUE(freed);
    }
}

/* What the handler queued before it freed the loop is delivered. */
TEST_P(LoopFreeHost, InsideACallbackDeliversWhatWasQueued)
{
    Plain peer;
    struct dgram_loop *doomed = make_loop();
    Results results;
    struct dgram_socket *socket = open_bound(doomed);
    struct dgram_addr to = peer.address();
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        EXPECT_EQ(dgram_send_to(which, "last words", 10, &to, Results::take, &results), 0);
        EXPECT_EQ(dgram_loop_free(dgram_socket_loop(which)), nullptr);
    };
    on.attach(socket);
    EXPECT_EQ(dgram_loop_run(doomed), 1);
    EXPECT_EQ(results.values, std::vector<int>{10});
    EXPECT_EQ(peer.receive(), "last words");
}

/* Sockets are closed before the engine, so the port is free when the call returns. */
TEST_P(LoopFreeHost, FreesThePortBeforeItReturns)
{
    uint16_t port = private_port(DGRAM_UDP4);
    for (int i = 0; i < 100; i++) {
        struct dgram_loop *doomed = make_loop();
        ASSERT_NE(doomed, nullptr);
        Inbox inbox;
        struct dgram_socket *socket = open_socket(doomed);
        ASSERT_EQ(dgram_on_message(socket, Inbox::take, &inbox), 0);
        ASSERT_EQ(dgram_bind(socket, port, "127.0.0.1"), 0) << "cycle " << i;
        if (i % 2 == 0) {
            ASSERT_EQ(send_text(socket, "x", address_of(socket)), 0);
            ASSERT_TRUE(run_until(doomed, [&] { return inbox.count() == 1; }));
        }
        EXPECT_EQ(dgram_loop_free(doomed), nullptr);
    }
}

TEST_P(LoopFreeHost, WithUnreadAndPausedDatagramsLosesNoMemoryOfTheirs)
{
    struct dgram_loop *doomed = make_loop();
    Plain peer;
    size_t messages = 0;
    struct dgram_socket *paused = open_bound(doomed), *deaf = open_bound(doomed);
    Handlers on;
    on.message = [&](struct dgram_socket *which, const struct dgram_message *) {
        if (++messages == 3) {
            EXPECT_EQ(dgram_pause(which), 0);
        }
    };
    on.attach(paused);
    for (int i = 0; i < 40; i++) {
        peer.send(pattern(200, 1), address_of(paused));
        peer.send(pattern(200, 1), address_of(deaf));
    }
    ASSERT_TRUE(run_until(doomed, [&] { return messages == 3; }));
    settle(doomed);
    EXPECT_EQ(dgram_loop_free(doomed), nullptr);
    EXPECT_EQ(messages, 3u);
}

/* ---- Errors -------------------------------------------------------------------------------- */

/* S6, L48 */
TEST_P(Errors, FailedSendWithoutCallbackIsAnErrorEvent)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    Recorder log;
    struct dgram_addr to = refused_address();
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.error = [&](struct dgram_socket *which, const struct dgram_error *error) {
        EXPECT_EQ(which, socket);
        EXPECT_EQ(error->code, -EACCES);
        EXPECT_STREQ(error->operation, "send");
        ASSERT_NE(error->address, nullptr);
        EXPECT_TRUE(dgram_addr_equal(error->address, &to)) << text_of(error->address);
        EXPECT_EQ(error->host, nullptr);
        EXPECT_GE(error->size, sizeof(struct dgram_error));
        log.add("error");
    };
    on.attach(socket);
    ASSERT_EQ(send_text(socket, "x", to), 0);
    log.add("returned");
    ASSERT_TRUE(run_until(loop, [&] { return log.count("error") == 1; }));
    settle(loop);
    EXPECT_EQ(log.text(), "returned error");
    EXPECT_EQ(stats_of(socket).send_errors, 1u);
    EXPECT_EQ(stats_of(socket).errors_lost, 0u);
    EXPECT_EQ(stats_of(socket).sent, 0u);
    expect_echo(loop, socket); /* usable after it */
}

/* S16: with a callback, the callback and nothing else. */
TEST_P(Errors, FailedSendWithCallbackIsNoErrorEvent)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    int errors = 0;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.error = [&](struct dgram_socket *, const struct dgram_error *) { errors++; };
    on.attach(socket);
    EXPECT_EQ(send_and_wait(loop, socket, "x", refused_address()), -EACCES);
    settle(loop);
    EXPECT_EQ(errors, 0);
    EXPECT_EQ(stats_of(socket).send_errors, 1u);
    EXPECT_EQ(stats_of(socket).errors_lost, 0u);
    expect_echo(loop, socket);
}

TEST_P(Errors, WithoutHandlerAreCounted)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    struct dgram_socket *socket = open_bound(loop);
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(send_text(socket, "x", refused_address()), 0);
    }
    settle(loop);
    EXPECT_EQ(stats_of(socket).send_errors, 10u);
    EXPECT_EQ(stats_of(socket).errors_lost, 10u);
    expect_echo(loop, socket);
}

/* 1,024 may wait; what comes above that is counted only. None is lost without a trace. */
TEST_P(Errors, AboveTheLimitAreCountedOnly)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    const uint64_t count = 3000;
    uint64_t errors = 0;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.error = [&](struct dgram_socket *, const struct dgram_error *) { errors++; };
    on.attach(socket);
    for (uint64_t i = 0; i < count; i++) {
        ASSERT_EQ(send_text(socket, "x", refused_address()), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return errors + stats_of(socket).errors_lost == count; }));
    EXPECT_GE(errors, 1024u);
    EXPECT_EQ(stats_of(socket).send_errors, count);
    expect_echo(loop, socket);
}

/* L27 */
TEST_P(Errors, SocketMayBeClosedInTheErrorHandler)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    Recorder log;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.error = [&](struct dgram_socket *which, const struct dgram_error *) {
        log.add("error");
        dgram_close(which);
    };
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(socket);
    ASSERT_EQ(send_text(socket, "x", refused_address()), 0);
    ASSERT_EQ(send_text(socket, "yy", refused_address()), 0);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    EXPECT_EQ(log.events.front(), "error");
    EXPECT_EQ(log.events.back(), "close");
    EXPECT_LE(log.count("error"), 2u);
}

TEST_P(Errors, HandlerMayBeReplacedInsideItself)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    Recorder log;
    struct dgram_socket *socket = open_bound(loop);
    Handlers first, second;
    second.error = [&](struct dgram_socket *, const struct dgram_error *) { log.add("second"); };
    first.error = [&](struct dgram_socket *which, const struct dgram_error *) {
        log.add("first");
        second.attach(which);
    };
    first.attach(socket);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(send_text(socket, "x", refused_address()), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return log.events.size() == 3; }));
    EXPECT_EQ(log.text(), "first second second");
}

/* The last word on a socket. */
TEST_P(Close, CountersAreFinalInClose)
{
    struct dgram_socket_stats last = {};
    last.size = sizeof(last);
    int code = 1;
    Handlers on;
    struct dgram_socket *sender = open_bound(loop);
    struct dgram_addr to = address_of(open_bound(loop));
    on.close = [&](struct dgram_socket *socket) { code = dgram_socket_stats(socket, &last); };
    on.attach(sender);
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(send_text(sender, "count me", to), 0);
    }
    ASSERT_EQ(dgram_close(sender), 0);
    ASSERT_TRUE(run_until(loop, [&] { return code <= 0; }));
    EXPECT_EQ(code, 0);
    EXPECT_EQ(last.sent, 10u);
    EXPECT_EQ(last.sent_bytes, 80u);
}

} /* namespace */
