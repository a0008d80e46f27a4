/* SPDX-License-Identifier: MIT */
/*
 * behaviour_options.cc: broadcast, TTL, multicast, sharing of ports, IPv6 and its IPv4 peers, the
 * kernel's buffers.
 *
 * Nothing leaves the host: IPv4 groups are used on the loopback interface or with a TTL of 0, IPv6
 * groups have interface-local scope (ff11::/16), which no interface transmits.
 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <unistd.h>

#include <algorithm>
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
class Multicast : public EngineTest
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
INSTANTIATE_ON_HOST_ENGINES(Multicast);
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

/* The TTL or hop limit of the next datagram, which must be `payload`. */
int ttl_of(const Plain &peer, const std::string &payload)
{
    for (int tries = 0; !peer.readable(); tries++) {
        if (tries > 10000) {
            ADD_FAILURE() << "no datagram came";
            return -1;
        }
        usleep(1000);
    }
    char bytes[256];
    alignas(struct cmsghdr) char control[256];
    struct iovec vector = {bytes, sizeof(bytes)};
    struct msghdr header = {};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    ssize_t got = recvmsg(peer.fd(), &header, 0);
    EXPECT_EQ(std::string(bytes, got > 0 ? static_cast<size_t>(got) : 0), payload);
    for (struct cmsghdr *item = CMSG_FIRSTHDR(&header); item != nullptr;
         item = CMSG_NXTHDR(&header, item)) {
        if ((item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_TTL) ||
            (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_HOPLIMIT)) {
            int value = 0;
            memcpy(&value, CMSG_DATA(item), sizeof(value));
            return value;
        }
    }
    return -1;
}

void ask_for_ttl(Plain *peer, uint32_t type)
{
    if (type == DGRAM_UDP6) {
        peer->set(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    } else {
        peer->set(IPPROTO_IP, IP_RECVTTL, 1);
    }
}

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

/* ---- Multicast: where it is possible ------------------------------------------------------- */

/* A group of this process, so that tests that run beside it do not hear each other. */
std::string group_of(uint32_t type)
{
    const unsigned pid = static_cast<unsigned>(getpid());
    char text[DGRAM_ADDR_TEXT_MAX];
    if (type == DGRAM_UDP6) {
        snprintf(text, sizeof(text), "ff11::%x:%x", 0x1000 + (pid >> 16), pid & 0xffff);
    } else {
        snprintf(text, sizeof(text), "239.%u.%u.%u", 64 + ((pid >> 16) & 63), (pid >> 8) & 255,
                 pid & 255);
    }
    return text;
}

/* An interface for groups, as text for the library and for plain sockets. */
struct Place {
    uint32_t type;
    std::string name;    /* "lo" */
    std::string address; /* udp4: one of its addresses */
    unsigned index;
    std::string text() const /* as Node writes it */
    {
        return type == DGRAM_UDP6 ? "::%" + name : address;
    }
};

bool plain_join(const Plain &peer, const Place &place, const std::string &group)
{
    if (place.type == DGRAM_UDP6) {
        struct ipv6_mreq request = {};
        inet_pton(AF_INET6, group.c_str(), &request.ipv6mr_multiaddr);
        request.ipv6mr_interface = place.index;
        return setsockopt(peer.fd(), IPPROTO_IPV6, IPV6_JOIN_GROUP, &request, sizeof(request)) == 0;
    }
    struct ip_mreqn request = {};
    inet_pton(AF_INET, group.c_str(), &request.imr_multiaddr);
    request.imr_ifindex = static_cast<int>(place.index);
    return setsockopt(peer.fd(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof(request)) == 0;
}

bool plain_outgoing(const Plain &peer, const Place &place)
{
    if (place.type == DGRAM_UDP6) {
        return setsockopt(peer.fd(), IPPROTO_IPV6, IPV6_MULTICAST_IF, &place.index,
                          sizeof(place.index)) == 0;
    }
    const int ttl = 0; /* it does not leave the host */
    struct ip_mreqn request = {};
    request.imr_ifindex = static_cast<int>(place.index);
    return setsockopt(peer.fd(), IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof(request)) == 0 &&
           setsockopt(peer.fd(), IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof(ttl)) == 0;
}

/* Whether plain sockets hear each other there. */
bool works(const Place &place)
{
    const std::string group = group_of(place.type);
    Plain receiver(place.type, place.type == DGRAM_UDP6 ? "::" : "0.0.0.0");
    Plain sender(place.type, place.type == DGRAM_UDP6 ? "::" : "0.0.0.0");
    struct dgram_addr bound = receiver.address();
    struct dgram_addr to = parse(group, dgram_addr_port(&bound));
    if (!plain_join(receiver, place, group) || !plain_outgoing(sender, place) ||
        sendto(sender.fd(), "probe", 5, 0, &to.u.any, to.size) != 5) {
        return false;
    }
    for (int tries = 0; tries < 300 && !receiver.readable(); tries++) {
        usleep(1000);
    }
    return receiver.readable() && receiver.receive() == "probe";
}

/* A working place of the type, on the loopback interface or on another one. */
std::unique_ptr<Place> find_place(uint32_t type, bool on_loopback)
{
    std::unique_ptr<Place> found;
    struct ifaddrs *list = nullptr;
    if (getifaddrs(&list) != 0) {
        return found;
    }
    const int family = type == DGRAM_UDP6 ? AF_INET6 : AF_INET;
    for (struct ifaddrs *item = list; item != nullptr && !found; item = item->ifa_next) {
        if (item->ifa_addr == nullptr || item->ifa_addr->sa_family != family ||
            !(item->ifa_flags & IFF_UP) || ((item->ifa_flags & IFF_LOOPBACK) != 0) != on_loopback) {
            continue;
        }
        Place place = {type, item->ifa_name, "", if_nametoindex(item->ifa_name)};
        if (type == DGRAM_UDP4) {
            char text[INET_ADDRSTRLEN] = "";
            inet_ntop(AF_INET, &reinterpret_cast<struct sockaddr_in *>(item->ifa_addr)->sin_addr,
                      text, sizeof(text));
            place.address = text;
        }
        if (works(place)) {
            found = std::make_unique<Place>(place);
        }
    }
    freeifaddrs(list);
    return found;
}

/* Where groups of this type can be tried: loopback for IPv4; Linux has no IPv6 multicast there. */
const Place *place_of(uint32_t type)
{
    static const std::unique_ptr<Place> udp4 = find_place(DGRAM_UDP4, true);
    static const std::unique_ptr<Place> udp6 = find_place(DGRAM_UDP6, false);
    return type == DGRAM_UDP6 ? udp6.get() : udp4.get();
}

std::vector<const Place *> places()
{
    std::vector<const Place *> usable;
    for (uint32_t type : socket_types()) {
        if (place_of(type) != nullptr) {
            usable.push_back(place_of(type));
        }
    }
    return usable;
}

#define NEED_PLACES()                                                                              \
    if (places().empty()) {                                                                        \
        GTEST_SKIP() << "plain sockets hear no multicast on this host";                            \
    }

/* A socket that sends to groups there. */
struct dgram_socket *open_sender(struct dgram_loop *loop, const Place &place)
{
    struct dgram_socket *socket = open_socket(loop, place.type);
    EXPECT_EQ(dgram_set_multicast_interface(socket, place.text().c_str()), 0);
    EXPECT_EQ(dgram_set_multicast_ttl(socket, 0), 0);
    return socket;
}

/* ---- Multicast ----------------------------------------------------------------------------- */

/* S30, S31: join hears, leave does not; joined again hears again. */
TEST_P(Multicast, IsHeardBetweenJoinAndLeave)
{
    NEED_PLACES();
    for (const Place *place : places()) {
        for (const std::string &text : {place->text(), place->name}) {
            SCOPED_TRACE(testing::Message() << place->type << " " << text);
            Inbox inbox;
            const std::string group = group_of(place->type);
            struct dgram_socket *receiver = open_socket(loop, place->type);
            ASSERT_EQ(dgram_on_message(receiver, Inbox::take, &inbox), 0);
            ASSERT_EQ(dgram_bind(receiver, 0, nullptr), 0);
            struct dgram_socket *sender = open_sender(loop, *place);
            const struct dgram_addr to = parse(group, port_of(receiver));
            auto send_both = [&](const std::string &payload) {
                EXPECT_EQ(send_and_wait(loop, sender, payload, to),
                          static_cast<int>(payload.size()));
                EXPECT_EQ(send_text(sender, "marker", address_of(receiver)), 0);
            };
            send_both("before");
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
            ASSERT_EQ(dgram_add_membership(receiver, group.c_str(), text.c_str()), 0);
            send_both("joined");
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 3; }));
            ASSERT_EQ(dgram_drop_membership(receiver, group.c_str(), text.c_str()), 0);
            send_both("left");
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 4; }));
            ASSERT_EQ(dgram_add_membership(receiver, group.c_str(), text.c_str()), 0);
            send_both("again");
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 6; }));
            settle(loop);
            EXPECT_EQ(inbox.payloads, (std::vector<std::string>{"marker", "joined", "marker",
                                                                "marker", "again", "marker"}));
            close_and_wait(loop, receiver);
        }
    }
}

/* S30, S31 */
TEST_P(Multicast, JoinTwiceAndLeaveUnjoinedAreErrors)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        const std::string group = group_of(type);
        struct dgram_socket *socket = open_bound(loop, type);
        EXPECT_EQ(dgram_drop_membership(socket, group.c_str(), "lo"), -EADDRNOTAVAIL);
        int code = dgram_add_membership(socket, group.c_str(), "lo");
        if (code == -ENODEV) {
            GTEST_SKIP() << "the loopback interface of this host takes no members";
        }
        ASSERT_EQ(code, 0);
        EXPECT_EQ(dgram_add_membership(socket, group.c_str(), "lo"), -EADDRINUSE);
        EXPECT_EQ(dgram_drop_membership(socket, group.c_str(), "lo"), 0);
        EXPECT_EQ(dgram_drop_membership(socket, group.c_str(), "lo"), -EADDRNOTAVAIL);
        EXPECT_EQ(dgram_add_membership(socket, group.c_str(), "lo"), 0);
        expect_echo(loop, socket);
    }
}

/* S30: the kernel picks an interface, or has none to pick. */
TEST_P(Multicast, WithoutInterfaceTheKernelPicksOne)
{
    for (uint32_t type : socket_types()) {
        const std::string group = group_of(type);
        struct dgram_socket *socket = open_bound(loop, type);
        for (const char *text : {static_cast<const char *>(nullptr), ""}) {
            int code = dgram_add_membership(socket, group.c_str(), text);
            EXPECT_TRUE(code == 0 || code == -ENODEV) << dgram_error_name(code);
            int dropped = dgram_drop_membership(socket, group.c_str(), text);
            EXPECT_EQ(dropped == 0, code == 0) << dgram_error_name(dropped);
        }
        expect_echo(loop, socket);
    }
}

/* S30 */
TEST_P(Multicast, RefusesWhatIsNoGroup)
{
    struct dgram_socket *udp4 = open_bound(loop);
    for (const char *text :
         {"", "all", "127.0.0.1", "223.255.255.255", "240.0.0.1", "255.255.255.255", "0.0.0.0",
          "ff02::1", "239.1.2", "239.1.2.3 ", "239.1.2.3%lo"}) {
        EXPECT_EQ(dgram_add_membership(udp4, text, "lo"), DGRAM_EBADGROUP) << text;
        EXPECT_EQ(dgram_drop_membership(udp4, text, "lo"), DGRAM_EBADGROUP) << text;
    }
    EXPECT_EQ(dgram_add_membership(udp4, nullptr, "lo"), DGRAM_ENULL);
    EXPECT_EQ(dgram_drop_membership(udp4, nullptr, nullptr), DGRAM_ENULL);
    expect_echo(loop, udp4);
    if (has_ipv6()) {
        struct dgram_socket *udp6 = open_bound(loop, DGRAM_UDP6);
        struct dgram_socket *only = open_bound(loop, DGRAM_UDP6, DGRAM_IPV6_ONLY);
        for (const char *text : {"", "::1", "fe80::1", "127.0.0.1", "::ffff:127.0.0.1",
                                 "239.1.2.3%lo", "::ffff:239.1.2.3%lo", "[ff02::1]"}) {
            EXPECT_EQ(dgram_add_membership(udp6, text, "lo"), DGRAM_EBADGROUP) << text;
            EXPECT_EQ(dgram_drop_membership(udp6, text, "lo"), DGRAM_EBADGROUP) << text;
        }
        for (const char *text : {"239.1.2.3", "::ffff:239.1.2.3"}) {
            EXPECT_EQ(dgram_add_membership(only, text, "lo"), DGRAM_EBADGROUP) << text;
            EXPECT_EQ(dgram_drop_membership(only, text, "lo"), DGRAM_EBADGROUP) << text;
        }
        expect_echo(loop, udp6);
    }
}

/* S30, T9: text that is no interface never means "the default". */
TEST_P(Multicast, RefusesWhatIsNoInterface)
{
    struct dgram_socket *udp4 = open_bound(loop);
    for (const char *text :
         {"no-such-if", "300.0.0.1", "127.0.0.1 ", "::%no-such-if", "::%lo", "garbage%lo", "::1",
          "%", "::", "lo:1", "lo:", "lo ", " lo", "lo/24", "01", "0", "1 ", "4294967297"}) {
        EXPECT_EQ(dgram_set_multicast_interface(udp4, text), DGRAM_EBADINTERFACE) << text;
        EXPECT_EQ(dgram_add_membership(udp4, "239.1.2.3", text), DGRAM_EBADINTERFACE) << text;
        EXPECT_EQ(dgram_drop_membership(udp4, "239.1.2.3", text), DGRAM_EBADINTERFACE) << text;
    }
    for (int code : {dgram_set_multicast_interface(udp4, "192.0.2.77"),
                     dgram_add_membership(udp4, "239.1.2.3", "192.0.2.77")}) {
        EXPECT_TRUE(code == DGRAM_EBADINTERFACE || code == -EADDRNOTAVAIL || code == -ENODEV)
            << dgram_error_name(code);
    }
    expect_echo(loop, udp4);
    if (has_ipv6()) {
        struct dgram_socket *udp6 = open_bound(loop, DGRAM_UDP6);
        struct dgram_socket *only = open_socket(loop, DGRAM_UDP6, DGRAM_IPV6_ONLY);
        for (const char *text :
             {"no-such-if", "::%no-such-if", "::%", "127.0.0.1", "0.0.0.0", "garbage%lo", "::1",
              "127.0.0.1%lo", "lo:1", "::%lo:1", "::%lo ", "::%lo/64", "::%1:5353", "1:", "::%0"}) {
            const bool in4 = strcmp(text, "127.0.0.1") == 0 || strcmp(text, "0.0.0.0") == 0;
            EXPECT_EQ(dgram_set_multicast_interface(udp6, text), in4 ? 0 : DGRAM_EBADINTERFACE)
                << text;
            EXPECT_EQ(dgram_set_multicast_interface(only, text), DGRAM_EBADINTERFACE) << text;
            EXPECT_EQ(dgram_add_membership(udp6, "ff11::1:2", text), DGRAM_EBADINTERFACE) << text;
            EXPECT_EQ(dgram_drop_membership(udp6, "ff11::1:2", text), DGRAM_EBADINTERFACE) << text;
        }
        for (const char *text : {"::", "::%lo", "::1"}) {
            EXPECT_EQ(dgram_add_membership(udp6, "239.1.2.3", text), DGRAM_EBADINTERFACE) << text;
        }
        expect_echo(loop, udp6);
    }
}

/* The mistyped drop leaves nothing of what is joined. */
TEST_P(Multicast, IsNotLeftByWhatNamesAnother)
{
    NEED_PLACES();
    const Place &place = *places().front();
    const std::string group = group_of(place.type), number = std::to_string(place.index);
    struct dgram_socket *socket = open_bound(loop, place.type);
    ASSERT_EQ(dgram_add_membership(socket, group.c_str(), place.name.c_str()), 0);
    const bool in4 = place.type == DGRAM_UDP4;
    for (const std::string &text :
         {"garbage%" + place.name, "::%" + place.name + ":1", place.name + ":1", number + ":"}) {
        EXPECT_EQ(dgram_drop_membership(socket, group.c_str(), text.c_str()), DGRAM_EBADINTERFACE)
            << text;
    }
    const std::string zoned = group + "%", wrong = group + "%no-such-if";
    const int code = in4 ? DGRAM_EBADGROUP : DGRAM_EBADINTERFACE;
    EXPECT_EQ(dgram_drop_membership(socket, zoned.c_str(), nullptr), code);
    EXPECT_EQ(dgram_drop_membership(socket, wrong.c_str(), place.name.c_str()), code);
    EXPECT_EQ(dgram_add_membership(socket, group.c_str(), number.c_str()), -EADDRINUSE);
    EXPECT_EQ(dgram_drop_membership(socket, group.c_str(), number.c_str()), 0);
    EXPECT_EQ(dgram_drop_membership(socket, group.c_str(), number.c_str()), -EADDRNOTAVAIL);
    ASSERT_EQ(dgram_add_membership(socket, group.c_str(), number.c_str()), 0);
    EXPECT_EQ(dgram_drop_membership(socket, group.c_str(), nullptr), 0);
    EXPECT_EQ(dgram_drop_membership(socket, group.c_str(), nullptr), -EADDRNOTAVAIL);
}

/* One socket for mDNS, SSDP or CoAP: it hears the groups of both families, and sends to them. */
TEST_P(Multicast, Udp6JoinsGroupsOfIpv4)
{
    const Place *place = place_of(DGRAM_UDP4);
    if (place == nullptr || !has_ipv6()) {
        GTEST_SKIP() << "plain sockets hear no multicast on this host, or there is no IPv6";
    }
    const std::string group = group_of(DGRAM_UDP4), mapped = "::ffff:" + group;
    struct dgram_socket *sender = open_sender(loop, *place);
    Inbox inbox;
    struct dgram_socket *receiver = open_socket(loop, DGRAM_UDP6);
    ASSERT_EQ(dgram_on_message(receiver, Inbox::take, &inbox), 0);
    ASSERT_EQ(dgram_bind(receiver, 0, nullptr), 0);
    const struct dgram_addr to = parse(group, port_of(receiver));
    size_t heard = 0;
    for (const std::string &text : {group, mapped}) {
        for (const std::string &where :
             {place->text(), place->name, std::to_string(place->index)}) {
            SCOPED_TRACE(text + " " + where);
            const std::string &other = text == group ? mapped : group;
            ASSERT_EQ(dgram_add_membership(receiver, text.c_str(), where.c_str()), 0);
            EXPECT_EQ(dgram_add_membership(receiver, other.c_str(), where.c_str()), -EADDRINUSE);
            EXPECT_EQ(send_and_wait(loop, sender, "both", to), 4);
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == heard + 1; }));
            EXPECT_EQ(text_of(&inbox.from[heard]).compare(0, 7, "::ffff:"), 0);
            heard++;
            EXPECT_EQ(dgram_drop_membership(receiver, other.c_str(), where.c_str()), 0);
        }
    }
    /* And the other way. */
    Inbox plain;
    struct dgram_socket *udp4 = open_socket(loop);
    ASSERT_EQ(dgram_on_message(udp4, Inbox::take, &plain), 0);
    ASSERT_EQ(dgram_bind(udp4, 0, nullptr), 0);
    ASSERT_EQ(dgram_add_membership(udp4, group.c_str(), place->name.c_str()), 0);
    const struct dgram_addr back = parse(mapped, port_of(udp4));
    ASSERT_EQ(dgram_set_multicast_ttl(receiver, 0), 0);
    size_t sent = 0;
    for (const std::string &where : {place->text(), place->name}) {
        ASSERT_EQ(dgram_set_multicast_interface(receiver, where.c_str()), 0);
        EXPECT_EQ(send_and_wait(loop, receiver, "back", back), 4);
        ASSERT_TRUE(run_until(loop, [&] { return plain.count() > sent; })) << where;
        sent = plain.count();
        ASSERT_EQ(dgram_set_multicast_interface(receiver, nullptr), 0);
    }
}

/* A group may carry its zone; one that is not the interface that is given was a mistake. */
TEST_P(Multicast, ZoneOfAGroupIsItsInterface)
{
    const unsigned other = if_nametoindex("lo") + 1;
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6";
    }
    struct dgram_socket *socket = open_bound(loop, DGRAM_UDP6);
    const std::string elsewhere = "ff12::1:2%" + std::to_string(other);
    char name[IF_NAMESIZE];
    if (if_indextoname(other, name) != nullptr) {
        EXPECT_EQ(dgram_add_membership(socket, elsewhere.c_str(), "lo"), DGRAM_EBADINTERFACE);
        EXPECT_EQ(dgram_drop_membership(socket, elsewhere.c_str(), "lo"), DGRAM_EBADINTERFACE);
    }
    EXPECT_EQ(dgram_add_membership(socket, "ff12::1:2%no-such-if", nullptr), DGRAM_EBADINTERFACE);
    EXPECT_EQ(dgram_add_membership(socket, "ff12::1:2%lo", "lo"), 0);
    EXPECT_EQ(dgram_drop_membership(socket, "ff12::1:2%lo", nullptr), 0);
    EXPECT_EQ(dgram_add_membership(socket, "ff12::1:2%lo", nullptr), 0);
    EXPECT_EQ(dgram_drop_membership(socket, "ff12::1:2", "::%lo"), 0);
    expect_echo(loop, socket);
}

/* L38: every form that names an interface is accepted; NULL and "" give the choice back. */
TEST_P(Multicast, InterfaceMayBeNamedInEveryForm)
{
    struct dgram_socket *udp4 = open_socket(loop);
    const std::string lo = std::to_string(if_nametoindex("lo"));
    for (const char *text :
         {"127.0.0.1", "lo", lo.c_str(), "0.0.0.0", static_cast<const char *>(nullptr), ""}) {
        EXPECT_EQ(dgram_set_multicast_interface(udp4, text), 0) << (text ? text : "NULL");
    }
    if (has_ipv6()) {
        struct dgram_socket *udp6 = open_socket(loop, DGRAM_UDP6);
        const std::string number = "::%" + std::to_string(if_nametoindex("lo"));
        for (const char *text :
             {"::%lo", "lo", number.c_str(), lo.c_str(), "fe80::1%lo", "127.0.0.1", "0.0.0.0",
              "::", static_cast<const char *>(nullptr), ""}) {
            EXPECT_EQ(dgram_set_multicast_interface(udp6, text), 0) << (text ? text : "NULL");
        }
    }
}

/* L40: membership of an unbound socket, which the program binds afterwards. */
TEST_P(Multicast, JoinThenBindReceives)
{
    NEED_PLACES();
    for (const Place *place : places()) {
        SCOPED_TRACE(place->type);
        Inbox inbox;
        int listenings = 0;
        const std::string group = group_of(place->type);
        const uint16_t port = private_port(place->type);
        struct dgram_socket *receiver = open_socket(loop, place->type);
        Handlers on;
        on.listening = [&](struct dgram_socket *) { listenings++; };
        on.attach(receiver);
        ASSERT_EQ(dgram_on_message(receiver, Inbox::take, &inbox), 0);
        ASSERT_EQ(dgram_add_membership(receiver, group.c_str(), place->text().c_str()), 0);
        struct dgram_addr address = {};
        EXPECT_EQ(dgram_address(receiver, &address), DGRAM_ENOTBOUND);
        ASSERT_EQ(dgram_bind(receiver, port, nullptr), 0);
        EXPECT_EQ(port_of(receiver), port);
        struct dgram_socket *sender = open_sender(loop, *place);
        EXPECT_EQ(send_and_wait(loop, sender, "hello", parse(group, port)), 5);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
        settle(loop);
        EXPECT_EQ(listenings, 1);
        EXPECT_EQ(port_of(receiver), port);
        close_and_wait(loop, receiver);
    }
}

/* L40: one that the program does not bind: it is bound with the next turn. */
TEST_P(Multicast, JoinWithoutBindBindsWithTheNextTurn)
{
    NEED_PLACES();
    for (const Place *place : places()) {
        SCOPED_TRACE(place->type);
        Inbox inbox;
        Recorder log;
        const std::string group = group_of(place->type);
        struct dgram_socket *receiver = open_socket(loop, place->type);
        Handlers on;
        on.listening = [&](struct dgram_socket *) { log.add("listening"); };
        on.attach(receiver);
        ASSERT_EQ(dgram_on_message(receiver, Inbox::take, &inbox), 0);
        ASSERT_EQ(dgram_add_membership(receiver, group.c_str(), place->text().c_str()), 0);
        log.add("joined");
        ASSERT_TRUE(run_until(loop, [&] { return log.count("listening") == 1; }));
        EXPECT_EQ(log.text(), "joined listening");
        struct dgram_addr address = {};
        ASSERT_EQ(dgram_address(receiver, &address), 0);
        EXPECT_EQ(text_of(&address), place->type == DGRAM_UDP6 ? "::" : "0.0.0.0");
        EXPECT_EQ(dgram_bind(receiver, 0, nullptr), DGRAM_EALREADYBOUND);
        struct dgram_socket *sender = open_sender(loop, *place);
        EXPECT_EQ(send_and_wait(loop, sender, "hello", parse(group, port_of(receiver))), 5);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
        expect_echo(loop, receiver);
        EXPECT_EQ(log.count("listening"), 1u);
        close_and_wait(loop, receiver);
    }
}

/* The loop lives on with such a socket: a program that only joins and runs the loop receives. */
TEST_P(Multicast, JoinWithoutBindKeepsTheLoopAlive)
{
    struct dgram_socket *socket = open_socket(loop);
    int listenings = 0;
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        listenings++;
        EXPECT_EQ(dgram_close(which), 0);
    };
    on.attach(socket);
    int code = dgram_add_membership(socket, group_of(DGRAM_UDP4).c_str(), "127.0.0.1");
    if (code == -ENODEV) {
        GTEST_SKIP() << "the loopback interface of this host takes no members";
    }
    ASSERT_EQ(code, 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(listenings, 1);
}

/* A send in between binds, once. */
TEST_P(Multicast, JoinThenSendBindsOnce)
{
    Inbox inbox;
    int listenings = 0;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *socket = open_socket(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *) { listenings++; };
    on.attach(socket);
    int code = dgram_add_membership(socket, group_of(DGRAM_UDP4).c_str(), "127.0.0.1");
    if (code == -ENODEV) {
        GTEST_SKIP() << "the loopback interface of this host takes no members";
    }
    ASSERT_EQ(code, 0);
    ASSERT_EQ(send_text(socket, "x", address_of(receiver)), 0);
    const uint16_t port = port_of(socket);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    settle(loop);
    EXPECT_EQ(dgram_addr_port(&inbox.from[0]), port);
    EXPECT_EQ(port_of(socket), port);
    EXPECT_EQ(listenings, 1);
}

/* Closed before the implicit bind came: no `listening`, no harm. */
TEST_P(Multicast, JoinThenCloseBindsNothing)
{
    Recorder log;
    struct dgram_socket *socket = open_socket(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *) { log.add("listening"); };
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(socket);
    int code = dgram_add_membership(socket, group_of(DGRAM_UDP4).c_str(), "127.0.0.1");
    if (code == -ENODEV) {
        GTEST_SKIP() << "the loopback interface of this host takes no members";
    }
    ASSERT_EQ(code, 0);
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(log.text(), "close");
}

TEST_P(Multicast, JoinThenLeaveBindsNothing)
{
    const std::string one = group_of(DGRAM_UDP4), two = "239.7.7.7";
    struct dgram_socket *socket = open_socket(loop);
    if (dgram_add_membership(socket, one.c_str(), "127.0.0.1") == -ENODEV) {
        GTEST_SKIP() << "the loopback interface of this host takes no members";
    }
    ASSERT_EQ(dgram_drop_membership(socket, one.c_str(), "127.0.0.1"), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 0) << "nothing keeps it alive";
    struct dgram_addr address = {};
    EXPECT_EQ(dgram_address(socket, &address), DGRAM_ENOTBOUND);
    ASSERT_EQ(dgram_add_membership(socket, one.c_str(), "127.0.0.1"), 0);
    ASSERT_EQ(dgram_add_membership(socket, two.c_str(), "127.0.0.1"), 0);
    ASSERT_EQ(dgram_drop_membership(socket, one.c_str(), "127.0.0.1"), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 1) << "the other group is still to be heard";
    EXPECT_EQ(dgram_address(socket, &address), 0);
}

/* S28: the hops of multicasts are their own. */
TEST_P(Multicast, TtlIsSeenByTheReceiver)
{
    const Place *place = place_of(DGRAM_UDP4);
    if (place == nullptr) {
        GTEST_SKIP() << "plain sockets hear no multicast on loopback";
    }
    Plain peer(DGRAM_UDP4, "0.0.0.0");
    const std::string group = group_of(DGRAM_UDP4);
    ASSERT_TRUE(plain_join(peer, *place, group));
    ask_for_ttl(&peer, DGRAM_UDP4);
    struct dgram_addr bound = peer.address();
    struct dgram_socket *socket = open_sender(loop, *place);
    ASSERT_EQ(dgram_set_ttl(socket, 99), 0);
    for (int ttl : {1, 0, 200, 255}) {
        ASSERT_EQ(dgram_set_multicast_ttl(socket, ttl), 0);
        ASSERT_EQ(send_and_wait(loop, socket, "ttl", parse(group, dgram_addr_port(&bound))), 3);
        EXPECT_EQ(ttl_of(peer, "ttl"), ttl);
    }
}

/* S29: seen where the interface is not the loopback one, which has no say in it. */
TEST_P(Multicast, LoopbackMaySwitchOffOwnMulticasts)
{
    int tried = 0;
    for (uint32_t type : socket_types()) {
        std::unique_ptr<Place> place = find_place(type, false);
        struct dgram_socket *socket = open_socket(loop, type);
        EXPECT_EQ(dgram_set_multicast_loopback(socket, false), 0);
        EXPECT_EQ(dgram_set_multicast_loopback(socket, true), 0);
        if (!place) {
            continue;
        }
        SCOPED_TRACE(type);
        tried++;
        Inbox inbox;
        const std::string group = group_of(type);
        struct dgram_socket *receiver = open_socket(loop, type);
        ASSERT_EQ(dgram_on_message(receiver, Inbox::take, &inbox), 0);
        ASSERT_EQ(dgram_bind(receiver, 0, nullptr), 0);
        ASSERT_EQ(dgram_add_membership(receiver, group.c_str(), place->text().c_str()), 0);
        struct dgram_socket *sender = open_sender(loop, *place);
        const struct dgram_addr to = parse(group, port_of(receiver));
        EXPECT_EQ(send_and_wait(loop, sender, "default on", to), 10);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
        ASSERT_EQ(dgram_set_multicast_loopback(sender, false), 0);
        EXPECT_EQ(send_and_wait(loop, sender, "off", to), 3);
        ASSERT_EQ(dgram_set_multicast_loopback(sender, true), 0);
        EXPECT_EQ(send_and_wait(loop, sender, "on", to), 2);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 2; }));
        settle(loop);
        EXPECT_EQ(inbox.payloads, (std::vector<std::string>{"default on", "on"}));
    }
    if (tried == 0) {
        GTEST_SKIP() << "no interface but loopback hears multicasts on this host";
    }
}

/* S36: several sockets on one multicast port all get every datagram. */
TEST_P(Multicast, IsReceivedByEverySocketOfAPort)
{
    NEED_PLACES();
    for (const Place *place : places()) {
        SCOPED_TRACE(place->type);
        const std::string group = group_of(place->type);
        const uint16_t port = private_port(place->type);
        Inbox inboxes[3];
        struct dgram_socket *receivers[3];
        for (int i = 0; i < 3; i++) {
            receivers[i] = open_socket(loop, place->type, DGRAM_REUSE_ADDR);
            ASSERT_EQ(dgram_on_message(receivers[i], Inbox::take, &inboxes[i]), 0);
            ASSERT_EQ(dgram_bind(receivers[i], port, nullptr), 0);
            ASSERT_EQ(dgram_add_membership(receivers[i], group.c_str(), place->text().c_str()), 0);
        }
        struct dgram_socket *sender = open_sender(loop, *place);
        std::vector<std::string> sent;
        for (unsigned i = 0; i < 4; i++) {
            sent.push_back(numbered(i));
            ASSERT_EQ(send_text(sender, sent[i], parse(group, port)), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] {
            return inboxes[0].count() == 4 && inboxes[1].count() == 4 && inboxes[2].count() == 4;
        }));
        for (int i = 0; i < 3; i++) {
            EXPECT_EQ(inboxes[i].payloads, sent);
            close_and_wait(loop, receivers[i]);
        }
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
