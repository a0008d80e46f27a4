/* SPDX-License-Identifier: MIT */
/*
 * names_text.cc: what is a host name and what is none, and what is never asked for.
 */
#include <algorithm>

#include "tests/support/names.h"

using namespace names;

namespace
{

class NameText : public NamesTest
{
};

INSTANTIATE_ON_HOST_ENGINES(NameText);

TEST_P(NameText, LiteralsAreNotAskedFor)
{
    for (uint32_t type : socket_types()) {
        Inbox own;
        struct dgram_socket *peer = open_inbox(loop, &own, type);
        struct dgram_socket *socket = open_socket(loop, type);
        std::vector<const char *> literals = {loopback(type), nullptr, ""};
        if (type == DGRAM_UDP6) {
            literals.insert(literals.end(), {"::1%lo", "0:0:0:0:0:0:0:1", "::0.0.0.1"});
        }
        for (const char *text : literals) {
            ASSERT_EQ(dgram_send(socket, "x", 1, port_of(peer), text, nullptr, nullptr), 0) << text;
        }
        EXPECT_TRUE(run_until(loop, [&] { return own.count() == literals.size(); }));
        struct dgram_destination *destination = nullptr;
        ASSERT_EQ(dgram_destination_create(loop, type, port_of(peer), loopback(type), &destination),
                  0);
        EXPECT_EQ(dgram_send_dest(socket, "x", 1, destination, nullptr, nullptr), 0);
        EXPECT_TRUE(run_until(loop, [&] { return own.count() == literals.size() + 1; }));
        dgram_destination_free(destination);
    }
    catch_up();
    EXPECT_EQ(server->asked(), 1u);
}

TEST_P(NameText, ZonesAreNotAskedFor)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6";
    }
    Results results;
    struct dgram_socket *socket = open_socket(loop, DGRAM_UDP6);
    for (const char *text : {"fe80::1%lo", "fe80::1%1", "ff02::1%lo"}) {
        ASSERT_EQ(dgram_send(socket, "x", 1, 9, text, Results::take, &results), 0) << text;
    }
    EXPECT_TRUE(run_until(loop, [&] { return results.values.size() == 3; }));
    for (const char *text :
         {"fe80::1%nosuch0", "fe80::1%", "fe80::1%0", "fe80::1%99999", "::1%-1"}) {
        struct dgram_destination *destination = nullptr;
        struct dgram_socket *unbound = open_socket(loop, DGRAM_UDP6);
        EXPECT_EQ(dgram_send(unbound, "x", 1, 9, text, Results::take, &results),
                  DGRAM_EBADINTERFACE)
            << text;
        EXPECT_EQ(dgram_bind(unbound, 0, text), DGRAM_EBADINTERFACE) << text;
        EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP6, 9, text, &destination),
                  DGRAM_EBADINTERFACE)
            << text;
    }
    catch_up();
    EXPECT_EQ(server->asked(), 1u);
    EXPECT_EQ(results.values.size(), 3u);
}

TEST_P(NameText, LiteralsNeverReachTheHook)
{
    size_t asked = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        asked++;
        dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 0);
    };
    begin_with_hook(&hook);
    struct dgram_socket *bound = open_socket(loop);
    EXPECT_EQ(dgram_bind(bound, 0, "127.0.0.1"), 0);
    EXPECT_EQ(result_of("127.0.0.1"), 3);
    EXPECT_EQ(result_of(""), 3);
    EXPECT_EQ(result_of("::1"), DGRAM_EBADFAMILY);
    EXPECT_EQ(result_of("256.1.1.1"), DGRAM_EBADADDRESS);
    EXPECT_EQ(asked, 0u);
}

std::string labels(size_t size)
{
    std::string text;
    while (text.size() < size) {
        text += text.size() % 64 == 63 ? '.' : 'a';
    }
    return text;
}

/* What is neither an address nor a well-formed name is told at once, changes nothing, asks
 * nobody. */
TEST_P(NameText, BadTextIsToldAtOnce)
{
    const std::string bad[] = {
        /* too long: 253 characters are a name, the root's dot not counted */
        labels(254), labels(254) + ".", labels(255), labels(256), labels(300) + ".", labels(5000),
        std::string(64, 'a'), std::string(64, 'a') + ".test", "a." + std::string(64, 'b'),
        /* empty labels */
        ".", "..", ".a", "a..b", "a..", "..a", "a.b..c",
        /* more than a name */
        "host:53", "127.0.0.1:53", "[::1]", "[::1]:53", "[127.0.0.1]", "udp://host", "host/", "a@b",
        "host%lo", "127.0.0.1%lo", "%lo", "a,b", "a;b", "*.test", "a\\b", "'a'",
        /* blanks and control characters */
        " ", " a", "a ", "a b", "a\tb", "a\n", "\na", "a\r\n", "a\x01", "\x7f", "a\x1b[0m",
        /* not ASCII */
        "\xc3\xa4.test", "a\xff", "\x80",
        /* hyphens at an end of a label */
        "-", "-a", "a-", "a.-b", "a-.b", "a.b-",
        /* mistyped addresses */
        "256.1.1.1", "1.2.3", "1.2.3.", "1", "127.1", "1.2.3.4.5", "1.2.3.4.", "0x7f.1", "a.1",
        "host.007", "::g", ":::", "1:2", "fe80:1", "12345::", "::1::", "1.2.3.4:", "::ffff:1.2.3"};
    for (const std::string &text : bad) {
        SCOPED_TRACE("'" + text + "'");
        Results results;
        struct dgram_addr address = {};
        struct dgram_destination *destination = nullptr;
        struct dgram_socket *unbound = open_socket(loop);
        EXPECT_EQ(dgram_send(unbound, "x", 1, 9, text.c_str(), Results::take, &results),
                  DGRAM_EBADADDRESS);
        EXPECT_EQ(dgram_address(unbound, &address), DGRAM_ENOTBOUND);
        EXPECT_EQ(dgram_bind(unbound, 0, text.c_str()), DGRAM_EBADADDRESS);
        EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, text.c_str(), &destination),
                  DGRAM_EBADADDRESS);
        EXPECT_EQ(dgram_get_send_queue_count(unbound), 0u);
        EXPECT_EQ(dgram_bind(unbound, 0, "127.0.0.1"), 0);
        EXPECT_EQ(dgram_close(unbound), 0);
    }
    catch_up();
    EXPECT_EQ(server->asked(), 1u);
    EXPECT_EQ(failures.size(), 0u);
}

TEST_P(NameText, WellFormedNamesAreAskedFor)
{
    const std::string good[] = {labels(253),
                                "x." + std::string(63, 'b'),
                                "a",
                                "a.b",
                                "1a.test",
                                "1.2.3.x",
                                "_dns._udp.test",
                                "a--b.test",
                                "xn--4ca.test",
                                "0x7f.test",
                                "127.0.0.1.test"};
    for (const std::string &name : good) {
        server->address(name, "127.0.0.1");
        server->address(name + ".search.test", "127.0.0.1");
        EXPECT_EQ(result_of(name), 3) << name;
        EXPECT_EQ(server->asked(name) + server->asked(name + ".search.test"), 1u) << name;
    }
}

/* A name that ends with the root's dot is complete: nothing is appended to it. */
TEST_P(NameText, RootDotEndsAName)
{
    server->address("host", "127.0.0.1");
    server->address("host.search.test", "127.0.0.1");
    server->address(labels(253), "127.0.0.1");
    EXPECT_EQ(result_of("host."), 3);
    EXPECT_EQ(result_of(labels(253) + "."), 3);
    EXPECT_EQ(server->asked("host"), 1u);
    EXPECT_EQ(server->asked("host.search.test"), 0u);
    EXPECT_EQ(server->asked(labels(253)), 1u);
}

TEST_P(NameText, PortsAreCheckedBeforeNames)
{
    struct dgram_destination *destination = nullptr;
    EXPECT_EQ(dgram_send(sender, "x", 1, 0, "host.test", nullptr, nullptr), DGRAM_EBADPORT);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 0, "host.test", &destination),
              DGRAM_EBADPORT);
    catch_up();
    EXPECT_EQ(server->asked(), 1u);
}

/* RFC 6761: it is this host in both families, whatever files and servers say. */
TEST_P(NameText, LocalhostIsNotAskedFor)
{
    const char *const names[] = {"localhost", "LocalHost", "localhost.", "my.localhost",
                                 "a.b.LOCALHOST."};
    for (uint32_t type : socket_types()) {
        Inbox own;
        struct dgram_socket *peer = open_inbox(loop, &own, type), *socket = open_socket(loop, type);
        for (const char *name : names) {
            ASSERT_EQ(dgram_send(socket, "x", 1, port_of(peer), name, nullptr, nullptr), 0) << name;
        }
        ASSERT_TRUE(run_until(loop, [&] { return own.count() == std::size(names); }));
        struct dgram_socket *bound = open_socket(loop, type);
        bool listening = false;
        Handlers on;
        on.listening = [&](struct dgram_socket *) { listening = true; };
        on.attach(bound);
        ASSERT_EQ(dgram_bind(bound, 0, "localhost"), 0);
        ASSERT_TRUE(run_until(loop, [&] { return listening; }));
        struct dgram_addr address = {};
        ASSERT_EQ(dgram_address(bound, &address), 0);
        EXPECT_EQ(text_of(&address), loopback(type));
        close_and_wait(loop, bound);
    }
    catch_up();
    EXPECT_EQ(server->asked(), 1u);
}

/* What only looks like it. */
TEST_P(NameText, OtherNamesThatEndSoAreAskedFor)
{
    for (const char *name : {"notlocalhost", "localhost.test", "local.host"}) {
        server->address(name, "127.0.0.1");
        server->address(std::string(name) + ".search.test", "127.0.0.1");
        EXPECT_EQ(result_of(name), 3) << name;
        EXPECT_EQ(server->asked(name) + server->asked(std::string(name) + ".search.test"), 1u);
    }
}

TEST_P(NameText, NamesOfTheHostsFileAreNotAskedFor)
{
    std::string name = name_of_hosts_file();
    if (name.empty()) {
        GTEST_SKIP() << "the host's file has only localhost";
    }
    EXPECT_EQ(result_of(name), 3);
    std::transform(name.begin(), name.end(), name.begin(), ::toupper);
    EXPECT_EQ(result_of(name), 3);
    catch_up();
    EXPECT_EQ(server->asked(), 1u);
}

} /* namespace */
