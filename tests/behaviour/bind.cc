/* SPDX-License-Identifier: MIT */
/*
 * bind.cc: bind: the address, the port, errors that may be retried, the implicit bind of the first
 * send.
 */
#include <fstream>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Bind : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Bind);

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

} /* namespace */
