/* SPDX-License-Identifier: MIT */
/*
 * options.cc: broadcast, TTL, sharing of ports, IPv6 and its IPv4 peers, the kernel's buffers.
 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>

#include <memory>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Broadcast : public EngineTest
{
};
class Ttl : public EngineTest
{
};

class Sharing : public EngineTest
{
};
class Families : public EngineTest
{
};
class Buffers : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Broadcast);
INSTANTIATE_ON_HOST_ENGINES(Ttl);

INSTANTIATE_ON_HOST_ENGINES(Sharing);
INSTANTIATE_ON_HOST_ENGINES(Families);
INSTANTIATE_ON_HOST_ENGINES(Buffers);

/* ---- Broadcast ----------------------------------------------------------------------------- */

/* S26 */
TEST_P(Broadcast, NeedsToBeSwitchedOn)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    Plain peer(DGRAM_UDP4, "0.0.0.0");
    struct dgram_addr bound = peer.address();
    const struct dgram_addr to = parse("127.255.255.255", dgram_addr_port(&bound));
    struct dgram_socket *socket = open_socket(loop);
    EXPECT_EQ(send_and_wait(loop, socket, "off", to), -EACCES);
    EXPECT_EQ(dgram_set_broadcast(socket, true), 0);
    EXPECT_EQ(send_and_wait(loop, socket, "on", to), 2);
    EXPECT_EQ(peer.receive(), "on");
    EXPECT_EQ(dgram_set_broadcast(socket, false), 0);
    EXPECT_EQ(send_and_wait(loop, socket, "off", to), -EACCES);
    EXPECT_FALSE(peer.readable());
    expect_echo(loop, socket);
}

/* L41: works before bind. */
/* What was allowed when it was accepted is sent. */
TEST_P(Broadcast, SwitchedOffHoldsForLaterSends)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "no broadcast address of loopback here";
    }
    struct dgram_socket *socket = open_bound(loop);
    const struct dgram_addr to = refused_address();
    Results results;
    ASSERT_EQ(dgram_set_broadcast(socket, true), 0);
    ASSERT_EQ(dgram_send_to(socket, "yes", 3, &to, Results::take, &results), 0);
    ASSERT_EQ(dgram_set_broadcast(socket, false), 0);
    ASSERT_EQ(dgram_send_to(socket, "no", 2, &to, Results::take, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    EXPECT_EQ(results.values, (std::vector<int>{3, -EACCES}));
}

TEST_P(Broadcast, MayBeSwitchedOnBeforeBind)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    Plain peer(DGRAM_UDP4, "0.0.0.0");
    struct dgram_addr bound = peer.address();
    struct dgram_socket *socket = open_socket(loop);
    ASSERT_EQ(dgram_set_broadcast(socket, true), 0);
    ASSERT_EQ(dgram_send(socket, "first", 5, dgram_addr_port(&bound), "127.255.255.255", nullptr,
                         nullptr),
              0);
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    EXPECT_EQ(peer.receive(), "first");
}

/* ---- TTL ----------------------------------------------------------------------------------- */

/* S27 */
TEST_P(Ttl, IsCheckedAndSeenByThePeer)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        Plain peer(type);
        ask_for_ttl(&peer, type);
        struct dgram_socket *socket = open_socket(loop, type);
        for (int bad : {0, -1, 256, 1000, 65536 + 64, INT32_MIN, INT32_MAX}) {
            EXPECT_EQ(dgram_set_ttl(socket, bad), DGRAM_EBADTTL) << bad;
        }
        for (int ttl : {64, 1, 255, 17}) { /* the first before the implicit bind */
            ASSERT_EQ(dgram_set_ttl(socket, ttl), 0);
            EXPECT_EQ(dgram_set_ttl(socket, 0), DGRAM_EBADTTL); /* changes nothing */
            ASSERT_EQ(send_and_wait(loop, socket, "ttl", peer.address()), 3);
            EXPECT_EQ(ttl_of(peer, "ttl"), ttl);
        }
        expect_echo(loop, socket);
    }
}

/* An option of sending holds for what is sent after it, though all leave with the turn. */
TEST_P(Ttl, HoldsFromTheCallOn)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        Plain peer(type);
        ask_for_ttl(&peer, type);
        struct dgram_socket *socket = open_socket(loop, type), *other = open_socket(loop, type);
        for (int ttl : {5, 99, 1}) {
            ASSERT_EQ(dgram_set_ttl(socket, ttl), 0);
            for (int i = 0; i < 3; i++) {
                ASSERT_EQ(send_text(socket, "ttl" + std::to_string(ttl), peer.address()), 0);
            }
        }
        ASSERT_EQ(dgram_set_ttl(socket, 77), 0);
        ASSERT_EQ(dgram_set_ttl(other, 78), 0);
        ASSERT_EQ(dgram_loop_turn(loop, 0), 1);
        for (int ttl : {5, 99, 1}) {
            for (int i = 0; i < 3; i++) {
                EXPECT_EQ(ttl_of(peer, "ttl" + std::to_string(ttl)), ttl);
            }
        }
    }
}

/* S27: on udp6 for IPv4 peers too. */
TEST_P(Ttl, OfAUdp6SocketCountsForMappedPeers)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6 here";
    }
    Plain peer;
    ask_for_ttl(&peer, DGRAM_UDP4);
    struct dgram_addr bound = peer.address();
    struct dgram_socket *socket = open_socket(loop, DGRAM_UDP6);
    ASSERT_EQ(dgram_set_ttl(socket, 33), 0);
    ASSERT_EQ(
        send_and_wait(loop, socket, "ttl", parse("::ffff:127.0.0.1", dgram_addr_port(&bound))), 3);
    EXPECT_EQ(ttl_of(peer, "ttl"), 33);
}

/* S28: 0 is legal here. */
TEST_P(Ttl, OfMulticastsIsChecked)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        struct dgram_socket *socket = open_socket(loop, type);
        for (bool bound : {false, true}) {
            for (int bad : {-1, 256, 1000, 65536, INT32_MIN, INT32_MAX}) {
                EXPECT_EQ(dgram_set_multicast_ttl(socket, bad), DGRAM_EBADTTL) << bad;
            }
            for (int good : {0, 1, 128, 255}) {
                EXPECT_EQ(dgram_set_multicast_ttl(socket, good), 0) << good;
            }
            if (!bound) {
                ASSERT_EQ(dgram_bind(socket, 0, loopback(type)), 0);
            }
        }
        expect_echo(loop, socket);
    }
}

/* ---- Sharing a port ------------------------------------------------------------------------ */

/* L6 */
TEST_P(Sharing, ReuseAddrLetsSocketsShareAPort)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        struct dgram_socket *first = open_socket(loop, type, DGRAM_REUSE_ADDR);
        struct dgram_socket *second = open_socket(loop, type, DGRAM_REUSE_ADDR);
        struct dgram_socket *without = open_socket(loop, type);
        ASSERT_EQ(dgram_bind(first, 0, loopback(type)), 0);
        ASSERT_EQ(dgram_bind(second, port_of(first), loopback(type)), 0);
        EXPECT_EQ(port_of(second), port_of(first));
        EXPECT_EQ(dgram_bind(without, port_of(first), loopback(type)), -EADDRINUSE);
        expect_echo(loop, second); /* unicasts go to the last one */
        close_and_wait(loop, second);
        expect_echo(loop, first);
    }
}

/* L7: the kernel spreads 64 flows over the sockets; each gets some, none is lost. */
TEST_P(Sharing, ReusePortSpreadsFlows)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        struct dgram_loop *other = make_loop(); /* a loop of its own, as on another core */
        Inbox inboxes[2];
        struct dgram_socket *first = open_socket(loop, type, DGRAM_REUSE_PORT);
        struct dgram_socket *second = open_socket(other, type, DGRAM_REUSE_PORT);
        struct dgram_socket *without = open_socket(loop, type);
        ASSERT_EQ(dgram_on_message(first, Inbox::take, &inboxes[0]), 0);
        ASSERT_EQ(dgram_on_message(second, Inbox::take, &inboxes[1]), 0);
        ASSERT_EQ(dgram_bind(first, 0, loopback(type)), 0);
        ASSERT_EQ(dgram_bind(second, port_of(first), loopback(type)), 0);
        EXPECT_EQ(dgram_bind(without, port_of(first), loopback(type)), -EADDRINUSE);
        const struct dgram_addr to = address_of(first);
        std::vector<std::unique_ptr<Plain>> peers;
        for (unsigned i = 0; i < 64; i++) {
            peers.push_back(std::make_unique<Plain>(type));
            peers.back()->send(numbered(i), to);
            peers.back()->send(numbered(1000 + i), to);
        }
        EXPECT_TRUE(spin_until(loop, [&] {
            EXPECT_GE(dgram_loop_turn(other, 0), 0);
            return inboxes[0].count() + inboxes[1].count() == 128;
        }));
        EXPECT_GT(inboxes[0].count(), 0u);
        EXPECT_GT(inboxes[1].count(), 0u);
        dgram_loop_free(other);
    }
}

/* ---- Families ------------------------------------------------------------------------------ */

/* L9: an IPv4 peer of a udp6 socket shows as ::ffff:a.b.c.d, and replies reach it. */
TEST_P(Families, DualStackSocketTalksToIpv4Peers)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6 here";
    }
    Inbox replies;
    std::string from;
    struct dgram_socket *server = open_socket(loop, DGRAM_UDP6);
    struct dgram_socket *client = open_inbox(loop, &replies);
    Handlers on;
    on.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        from = text_of(message->from);
        EXPECT_STREQ(dgram_addr_family(message->from), "IPv6");
        EXPECT_EQ(dgram_addr_port(message->from), port_of(client));
        EXPECT_EQ(send_text(which, "binary", *message->from), 0);
        EXPECT_EQ(dgram_send(which, "text", 4, dgram_addr_port(message->from), from.c_str(),
                             nullptr, nullptr),
                  0);
    };
    on.attach(server);
    ASSERT_EQ(dgram_bind(server, 0, "::"), 0);
    ASSERT_EQ(dgram_send(client, "hello", 5, port_of(server), "127.0.0.1", nullptr, nullptr), 0);
    ASSERT_TRUE(run_until(loop, [&] { return replies.count() == 2; }));
    EXPECT_EQ(from, "::ffff:127.0.0.1");
    EXPECT_EQ(replies.payloads, (std::vector<std::string>{"binary", "text"}));
    EXPECT_EQ(text_of(&replies.from[0]), "127.0.0.1");
}

/* L9 */
TEST_P(Families, Udp6MayBindToAMappedAddress)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6 here";
    }
    Inbox inbox;
    Plain peer;
    struct dgram_socket *socket = open_socket(loop, DGRAM_UDP6);
    ASSERT_EQ(dgram_on_message(socket, Inbox::take, &inbox), 0);
    ASSERT_EQ(dgram_bind(socket, 0, "::ffff:127.0.0.1"), 0);
    peer.send("hello", parse("127.0.0.1", port_of(socket)));
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(text_of(&inbox.from[0]), "::ffff:127.0.0.1");
}

/* L8: without the flag "::" takes the IPv4 port too, with it it does not. */
TEST_P(Families, Ipv6OnlyLeavesTheIpv4PortFree)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6 here";
    }
    const uint16_t port = private_port(DGRAM_UDP6);
    struct dgram_socket *dual = open_socket(loop, DGRAM_UDP6), *udp4 = open_socket(loop);
    ASSERT_EQ(dgram_bind(dual, port, "::"), 0);
    EXPECT_EQ(dgram_bind(udp4, port, "0.0.0.0"), -EADDRINUSE);
    close_and_wait(loop, dual);
    struct dgram_socket *only = open_socket(loop, DGRAM_UDP6, DGRAM_IPV6_ONLY);
    ASSERT_EQ(dgram_bind(only, port, "::"), 0);
    EXPECT_EQ(dgram_bind(udp4, port, "0.0.0.0"), 0);
    EXPECT_LT(send_and_wait(loop, only, "x", parse("::ffff:127.0.0.1", port)), 0);
    expect_echo(loop, only);
    expect_echo(loop, udp4);
}

TEST_P(Families, Ipv6OnlyIsRefusedForUdp4)
{
    struct dgram_socket_options options = socket_options();
    options.flags = DGRAM_IPV6_ONLY;
    struct dgram_socket *socket = nullptr;
    EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), DGRAM_EBADOPTIONS);
    EXPECT_EQ(socket, nullptr);
}

/* L46: a zone is part of the literal. */
TEST_P(Families, LiteralsMayCarryAZone)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6 here";
    }
    /* A link-local address of this host, if it has one. */
    struct ifaddrs *list = nullptr;
    ASSERT_EQ(getifaddrs(&list), 0);
    std::string text;
    for (struct ifaddrs *item = list; item != nullptr; item = item->ifa_next) {
        if (item->ifa_addr != nullptr && item->ifa_addr->sa_family == AF_INET6 &&
            (item->ifa_flags & IFF_UP)) {
            struct sockaddr_in6 *in6 = reinterpret_cast<struct sockaddr_in6 *>(item->ifa_addr);
            if (IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr)) {
                char buffer[INET6_ADDRSTRLEN];
                inet_ntop(AF_INET6, &in6->sin6_addr, buffer, sizeof(buffer));
                text = std::string(buffer) + "%" + item->ifa_name;
            }
        }
    }
    freeifaddrs(list);
    if (text.empty()) {
        GTEST_SKIP() << "no link-local address here";
    }
    Inbox inbox;
    struct dgram_socket *socket = open_socket(loop, DGRAM_UDP6);
    ASSERT_EQ(dgram_on_message(socket, Inbox::take, &inbox), 0);
    ASSERT_EQ(dgram_bind(socket, 0, text.c_str()), 0);
    struct dgram_addr bound = {};
    ASSERT_EQ(dgram_address(socket, &bound), 0);
    EXPECT_EQ(text_of(&bound), text);
    ASSERT_EQ(
        dgram_send(socket, "zone", 4, dgram_addr_port(&bound), text.c_str(), nullptr, nullptr), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(text_of(&inbox.from[0]), text);
    EXPECT_TRUE(dgram_addr_equal(&inbox.from[0], &bound));
}

/* ---- The kernel's buffers ------------------------------------------------------------------ */

/* What a plain socket is granted; 0 asks for nothing. */
int granted(int name, int asked)
{
    Plain peer;
    if (asked > 0) {
        peer.set(SOL_SOCKET, name, asked);
    }
    int value = 0;
    socklen_t size = sizeof(value);
    EXPECT_EQ(getsockopt(peer.fd(), SOL_SOCKET, name, &value, &size), 0);
    return value;
}

/* L11, L12 */
TEST_P(Buffers, GrantedSizesAreThoseOfTheKernel)
{
    for (uint32_t type : socket_types()) {
        struct dgram_socket *socket = open_socket(loop, type);
        EXPECT_EQ(dgram_get_recv_buffer_size(socket), granted(SO_RCVBUF, 4 << 20));
        EXPECT_EQ(dgram_get_send_buffer_size(socket), granted(SO_SNDBUF, 0));
        for (bool bound : {false, true}) {
            SCOPED_TRACE(bound);
            EXPECT_EQ(dgram_set_recv_buffer_size(socket, 10000), 0);
            EXPECT_EQ(dgram_set_send_buffer_size(socket, 12000), 0);
            EXPECT_EQ(dgram_get_recv_buffer_size(socket), granted(SO_RCVBUF, 10000));
            EXPECT_EQ(dgram_get_send_buffer_size(socket), granted(SO_SNDBUF, 12000));
            EXPECT_EQ(dgram_set_recv_buffer_size(socket, 20000), 0);
            EXPECT_EQ(dgram_get_recv_buffer_size(socket), granted(SO_RCVBUF, 20000));
            if (!bound) {
                ASSERT_EQ(dgram_bind(socket, 0, loopback(type)), 0);
            }
        }
        expect_echo(loop, socket);
    }
}

/* L12: 0 is no size here, and neither is what an int does not hold. */
TEST_P(Buffers, BadSizesAreRefused)
{
    struct dgram_socket *socket = open_socket(loop);
    const int receive = dgram_get_recv_buffer_size(socket);
    const int send = dgram_get_send_buffer_size(socket);
    for (uint32_t size : {0u, 0x80000000u, 0xfffffffeu, 0xffffffffu}) {
        EXPECT_EQ(dgram_set_recv_buffer_size(socket, size), DGRAM_EBADBUFFERSIZE) << size;
        EXPECT_EQ(dgram_set_send_buffer_size(socket, size), DGRAM_EBADBUFFERSIZE) << size;
    }
    EXPECT_EQ(dgram_get_recv_buffer_size(socket), receive);
    EXPECT_EQ(dgram_get_send_buffer_size(socket), send);
    expect_echo(loop, socket);
}

/* More than the host grants is no error: it is cut, as socket(7) says. */
TEST_P(Buffers, HugeSizesAreCutByTheKernel)
{
    struct dgram_socket *socket = open_socket(loop);
    EXPECT_EQ(dgram_set_recv_buffer_size(socket, INT32_MAX), 0);
    EXPECT_EQ(dgram_get_recv_buffer_size(socket), granted(SO_RCVBUF, INT32_MAX));
    EXPECT_EQ(dgram_set_send_buffer_size(socket, INT32_MAX), 0);
    EXPECT_EQ(dgram_get_send_buffer_size(socket), granted(SO_SNDBUF, INT32_MAX));
    expect_echo(loop, socket);
}

/* L11 */
TEST_P(Buffers, SizesMayBeGivenAtCreation)
{
    struct dgram_socket_options options = socket_options();
    options.recv_buffer_size = 10000;
    options.send_buffer_size = 12000;
    struct dgram_socket *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
    EXPECT_EQ(dgram_get_recv_buffer_size(socket), granted(SO_RCVBUF, 10000));
    EXPECT_EQ(dgram_get_send_buffer_size(socket), granted(SO_SNDBUF, 12000));
    expect_echo(loop, socket);
    options.recv_buffer_size = DGRAM_KERNEL_DEFAULT;
    options.send_buffer_size = DGRAM_KERNEL_DEFAULT;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
    EXPECT_EQ(dgram_get_recv_buffer_size(socket), granted(SO_RCVBUF, 0));
    EXPECT_EQ(dgram_get_send_buffer_size(socket), granted(SO_SNDBUF, 0));
    expect_echo(loop, socket);
}

} /* namespace */
