/* SPDX-License-Identifier: MIT */
/*
 * multicast.cc: multicast groups: joins and leaves in every form, interfaces, TTL, loopback.
 *
 * Nothing leaves the host: IPv4 groups are used on the loopback interface or with a TTL of 0, IPv6
 * groups have interface-local scope (ff11::/16), which no interface transmits.
 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <unistd.h>

#include <memory>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Multicast : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Multicast);

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

} /* namespace */
