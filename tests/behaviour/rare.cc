/* SPDX-License-Identifier: MIT */
/*
 * behaviour_rare.cc: ways that programs seldom go and that no other suite happens to take: the
 * coverage (scripts/coverage) told of them.
 */
#include <cstddef>
#include <fstream>

#include "tests/support/names.h"
#include "tests/sim/sim.h"

using namespace names;

namespace
{

/* ---- Addresses ----------------------------------------------------------------------------- */

class RareAddress : public HostTest
{
};

/* The interface of a received datagram may be gone when the program writes its sender's address. */
TEST_F(RareAddress, ZoneOfNoInterfaceIsWrittenAsItsNumber)
{
    char text[DGRAM_ADDR_TEXT_MAX];
    struct dgram_addr address = {};
    address.size = sizeof(address.u.in6);
    address.u.in6.sin6_family = AF_INET6;
    address.u.in6.sin6_addr.s6_addr[0] = 0xfe;
    address.u.in6.sin6_addr.s6_addr[1] = 0x80;
    address.u.in6.sin6_addr.s6_addr[15] = 1;
    address.u.in6.sin6_scope_id = 2147483632;
    EXPECT_STREQ(dgram_addr_text(&address, text), "fe80::1%2147483632");
}

struct dgram_addr unix_address(const std::string &path)
{
    struct dgram_addr address = {};
    address.size = static_cast<uint32_t>(offsetof(struct sockaddr_un, sun_path) + path.size() + 1);
    address.u.un.sun_family = AF_UNIX;
    memcpy(address.u.un.sun_path, path.c_str(), path.size() + 1);
    return address;
}

TEST_F(RareAddress, OfAnotherFamilyIsComparedByItsBytes)
{
    const struct dgram_addr one = unix_address("one"), same = unix_address("one");
    const struct dgram_addr two = unix_address("two"), longer = unix_address("one more");
    EXPECT_TRUE(dgram_addr_equal(&one, &same));
    EXPECT_FALSE(dgram_addr_equal(&one, &two));
    EXPECT_FALSE(dgram_addr_equal(&one, &longer));
}

TEST_F(RareAddress, EachPartCounts)
{
    const struct dgram_addr one = parse("fd00::1", 1), other = parse("fd00::2", 1);
    const struct dgram_addr port = parse("fd00::1", 2), in4 = parse("127.0.0.1", 1);
    struct dgram_addr zone = one;
    zone.u.in6.sin6_scope_id = 7;
    EXPECT_TRUE(dgram_addr_equal(&one, &one));
    for (const struct dgram_addr &differs : {other, port, in4, zone}) {
        EXPECT_FALSE(dgram_addr_equal(&one, &differs));
        EXPECT_FALSE(dgram_addr_equal(&differs, &one));
    }
}

/* ---- Texts --------------------------------------------------------------------------------- */

class Rare : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Rare);

/* Longer than any literal: refused, and not cut to one. */
TEST_P(Rare, TextThatIsTooLongIsNoAddress)
{
    const std::string zeros(300, '0'), address = "ff02::" + zeros + "1";
    struct dgram_socket *socket = open_socket(loop, has_ipv6() ? DGRAM_UDP6 : DGRAM_UDP4);
    for (const std::string &text : {address, address + "%lo"}) {
        EXPECT_EQ(dgram_add_membership(socket, text.c_str(), nullptr), DGRAM_EBADGROUP);
        EXPECT_EQ(dgram_drop_membership(socket, text.c_str(), nullptr), DGRAM_EBADGROUP);
        EXPECT_EQ(dgram_set_multicast_interface(socket, text.c_str()), DGRAM_EBADINTERFACE);
        EXPECT_EQ(dgram_add_membership(socket, "ff02::1234", text.c_str()),
                  has_ipv6() ? DGRAM_EBADINTERFACE : DGRAM_EBADGROUP);
        EXPECT_EQ(dgram_send(socket, "x", 1, 9, text.c_str(), nullptr, nullptr), DGRAM_EBADADDRESS);
    }
    expect_echo(loop, socket);
}

TEST_P(Rare, ServerWithATextThatIsTooLongIsNone)
{
    const std::string zeros(300, '0');
    struct dgram_loop *none = nullptr;
    struct dgram_loop_options options = loop_options();
    for (const std::string &text :
         {"127.0.0.1" + zeros, "[::" + zeros + "1]:53", std::string("[::1"), std::string("[::1]53"),
          std::string("127.0.0.1:0"), std::string("127.0.0.1:65536"), "127.0.0.1:53" + zeros}) {
        options.dns_servers = text.c_str();
        EXPECT_EQ(GetParam().create(&options, &none), DGRAM_EBADOPTIONS) << text;
    }
    EXPECT_EQ(none, nullptr);
}

/* ---- The backlog --------------------------------------------------------------------------- */

/*
 * Two flooded sockets hold all slots with what their handlers, which are slow, have not taken yet;
 * each of their messages has a datagram sent to a third one, which starves until some of theirs is
 * copied away. Then they are paused, so the rest leaves the slots as well, and resumed: all of it
 * comes, in order.
 */
class RareBacklog : public EngineTest
{
  protected:
    enum { TRAINS = 2, LENGTH = 10, ALL = TRAINS * LENGTH };

    struct Flooded {
        struct dgram_socket *socket = nullptr;
        std::vector<std::string> sent, got;
        Handlers on;
    };

    void take_long() const
    {
        if (std::string(GetParam().name) == "sim") {
            sim_burn(2 * MILLISECOND);
            return;
        }
        const uint64_t end = monotonic_ns() + 2 * MILLISECOND;
        while (monotonic_ns() < end) {
        }
    }
    /* Its trains wait in the kernel until attach(). */
    void flood(Flooded *one, unsigned seed, const std::function<void()> &each)
    {
        one->socket = open_bound(loop);
        for (unsigned i = 0; i < ALL; i++) {
            one->sent.push_back(numbered(seed + i, 64 + i / LENGTH));
            ASSERT_EQ(send_text(sender, one->sent.back(), address_of(one->socket)), 0);
        }
        one->on.message = [=](struct dgram_socket *, const struct dgram_message *message) {
            one->got.push_back(payload_of(message));
            each();
            take_long();
        };
    }

    struct dgram_socket *sender = nullptr;
};

INSTANTIATE_ON_ALL_ENGINES(RareBacklog);

TEST_P(RareBacklog, ThatLeavesItsSlotsStaysInOrder)
{
    struct dgram_loop_options options = loop_options();
    options.slots = 4;
    remake_loop(options);
    Flooded flooded[2];
    Inbox served;
    sender = open_socket(loop);
    struct dgram_socket *third = open_inbox(loop, &served);
    const auto serve_third = [&] { ASSERT_EQ(send_text(sender, "served", address_of(third)), 0); };
    flood(&flooded[0], 1000, serve_third);
    flood(&flooded[1], 2000, serve_third);
    settle(loop);
    for (Flooded &one : flooded) {
        one.on.attach(one.socket);
    }
    ASSERT_TRUE(run_until(loop, [&] { return served.count() >= 3; }));
    size_t before[2];
    for (unsigned i = 0; i < 2; i++) {
        ASSERT_EQ(dgram_pause(flooded[i].socket), 0);
        before[i] = flooded[i].got.size();
    }
    EXPECT_LT(before[0] + before[1], 2u * ALL) << "the third had to wait for all of theirs";
    settle(loop);
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_EQ(flooded[i].got.size(), before[i]) << "paused";
        ASSERT_EQ(dgram_resume(flooded[i].socket), 0);
    }
    for (Flooded &one : flooded) {
        ASSERT_TRUE(run_until(loop, [&] { return one.got.size() == ALL; }));
        EXPECT_TRUE(one.got == one.sent);
    }
    ASSERT_TRUE(run_until(loop, [&] { return served.count() == size_t{2} * ALL; }));
    settle(loop);
    EXPECT_EQ(info_of(loop).slots_free, 4u);
}

/* ---- Names --------------------------------------------------------------------------------- */

class RareNames : public NamesTest
{
};

INSTANTIATE_ON_HOST_ENGINES(RareNames);

/* A file with two `nameserver` lines: where the first has no answer, the second is asked. */
TEST_P(RareNames, SecondNameserverOfTheFileIsAskedWhereTheFirstFails)
{
    dns::Server second;
    std::ofstream(resolv_conf, std::ios::trunc)
        << "nameserver " << server->text() << "\nnameserver " << second.text() << "\n"
        << patient_options;
    server->fail("host.test", dns::SERVFAIL);
    second.address("host.test", "127.0.0.1");
    struct dgram_loop_options options = names_options();
    options.dns_servers = nullptr;
    begin(options);
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(server->asked("host.test"), 1u);
    EXPECT_EQ(second.asked("host.test"), 1u);
}

/* A line that is no server is none; the others count. */
TEST_P(RareNames, NameserverThatIsNoAddressIsLeftOut)
{
    std::ofstream(resolv_conf, std::ios::trunc)
        << "nameserver nonsense\nnameserver 1" << std::string(300, '0') << "\nnameserver [::1\n"
        << "nameserver " << server->text() << "\n"
        << patient_options;
    server->address("host.test", "127.0.0.1");
    struct dgram_loop_options options = names_options();
    options.dns_servers = nullptr;
    begin(options);
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(server->asked("host.test"), 1u);
}

} /* namespace */
