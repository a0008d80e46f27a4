/* SPDX-License-Identifier: MIT */
/*
 * names_config.cc: how long answers are remembered and which are forgotten; where the configuration
 * of lookups comes from, and its changes.
 */
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <thread>

#include "tests/support/names.h"

using namespace names;

namespace
{

class NameMemory : public NamesTest
{
};
class NameConfiguration : public NamesTest
{
};

INSTANTIATE_ON_HOST_ENGINES(NameMemory);
INSTANTIATE_ON_HOST_ENGINES(NameConfiguration);

/* ---- What is remembered -------------------------------------------------------------------- */

TEST_P(NameMemory, SendsThatWaitShareOneQuestion)
{
    Results results;
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    struct dgram_socket *second = open_socket(loop);
    for (const char *host : {"host.test", "HOST.test", "Host.Test"}) {
        for (struct dgram_socket *socket : {sender, second}) {
            for (int i = 0; i < 5; i++) {
                ASSERT_EQ(
                    dgram_send(socket, "abc", 3, port_of(target), host, Results::take, &results),
                    0);
            }
        }
        ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") >= 1; }));
    }
    EXPECT_EQ(results.values.size(), 0u);
    server->release("host.test");
    ASSERT_TRUE(
        run_until(loop, [&] { return results.values.size() == 30 && inbox.count() == 30; }));
    catch_up();
    EXPECT_EQ(results.values, repeated(3, 30));
    EXPECT_EQ(server->asked("host.test"), 1u);
}

TEST_P(NameMemory, AnswerServesWhoeverAsksLater)
{
    server->address("host.test", "127.0.0.1", 60);
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(result_of(i % 2 == 0 ? "host.test" : "HOST.TEST"), 3);
    }
    struct dgram_socket *second = open_socket(loop);
    ASSERT_EQ(dgram_send(second, "x", 1, port_of(target), "host.test", nullptr, nullptr), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 6; }));
    catch_up();
    EXPECT_EQ(server->asked("host.test"), 1u);
}

/* Sockets of both types ask for the same name on their own. */
TEST_P(NameMemory, FamiliesAreAskedForSeparately)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6";
    }
    server->script("host.test", [](const dns::Question &question) {
        dns::Deed deed;
        bool in6 = question.type == dns::TYPE_AAAA;
        deed.packets = {dns::Reply(question).address(in6 ? "::1" : "127.0.0.1", 60).bytes()};
        return deed;
    });
    Inbox sixth;
    struct dgram_socket *peer = open_inbox(loop, &sixth, DGRAM_UDP6);
    struct dgram_socket *socket = open_socket(loop, DGRAM_UDP6);
    ASSERT_EQ(dgram_send(socket, "x", 1, port_of(peer), "host.test", nullptr, nullptr), 0);
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_TRUE(run_until(loop, [&] { return sixth.count() == 1 && inbox.count() == 1; }));
    EXPECT_EQ(server->asked("host.test"), 2u);
}

/* A TTL of 0 is taken for a second, and that of an alias counts as much as the address's. */
TEST_P(NameMemory, AnswerIsUsedForItsTtlOnly)
{
    const std::string names[] = {"zero.test", "one.test", "alias.test", "huge.test", "minute.test"};
    server->address("zero.test", "127.0.0.1", 0);
    server->address("one.test", "127.0.0.1", 1);
    server->address("minute.test", "127.0.0.1", 60);
    server->address("huge.test", "127.0.0.1", 0x7fffffff);
    server->script("alias.test", one_packet([](const dns::Question &question) {
                       return dns::Reply(question)
                           .alias("alias.test", "target.test", 1)
                           .address("127.0.0.1", 3600, "target.test")
                           .bytes();
                   }));
    for (int round = 0; round < 2; round++) {
        for (const std::string &name : names) {
            EXPECT_EQ(result_of(name), 3) << name;
        }
    }
    catch_up();
    EXPECT_EQ(server->asked("minute.test"), 1u);
    let_pass(loop, TTL_OVER);
    for (const std::string &name : names) {
        EXPECT_EQ(result_of(name), 3) << name;
    }
    catch_up();
    EXPECT_GE(server->asked("zero.test"), 2u);
    EXPECT_GE(server->asked("one.test"), 2u);
    EXPECT_GE(server->asked("alias.test"), 2u);
    EXPECT_EQ(server->asked("minute.test"), 1u);
    EXPECT_EQ(server->asked("huge.test"), 1u);
}

TEST_P(NameMemory, NewAddressIsUsedAfterTheTtl)
{
    server->address("host.test", "127.0.0.9", 1);
    EXPECT_EQ(result_of("host.test"), 3);
    server->address("host.test", "127.0.0.1", 1);
    let_pass(loop, TTL_OVER);
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
}

/* 256 names are remembered; the one that was used longest ago goes first. */
TEST_P(NameMemory, ManyNamesAreRememberedAndTheOldestForgotten)
{
    constexpr size_t count = 300, at_once = 50;
    for (size_t i = 0; i < count; i++) {
        server->address(numbered_name(i), "127.0.0.1", 3600);
    }
    auto send_range = [&](size_t from, size_t to) {
        Results results;
        for (size_t i = from; i < to; i++) {
            ASSERT_EQ(send_counted(numbered_name(i), &results), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == to - from; }));
        EXPECT_EQ(results.values, repeated(3, to - from));
    };
    for (size_t i = 0; i < count; i += at_once) {
        send_range(i, i + at_once);
    }
    send_range(count - 200, count);
    catch_up();
    EXPECT_EQ(server->asked(), count + 1);
    send_range(0, at_once);
    catch_up();
    EXPECT_GE(server->asked(), count + 2 + (count - 256));
    EXPECT_LE(server->asked(), count + 2 + at_once);
}

/* More names than are remembered may be waited for; afterwards it is 256 again. */
TEST_P(NameMemory, ManyNamesMayBeWaitedForAtOnce)
{
    constexpr size_t count = 400, at_once = 50, later = 200;
    Results results;
    for (size_t i = 0; i < count; i++) {
        server->address(numbered_name(i), "127.0.0.1", 3600);
        server->hold(numbered_name(i));
        ASSERT_EQ(send_counted(numbered_name(i), &results), 0);
        if ((i + 1) % at_once == 0) {
            ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == i + 1; }));
        }
    }
    EXPECT_EQ(dgram_get_send_queue_count(sender), count);
    for (size_t i = 0; i < count; i++) {
        server->release(numbered_name(i));
        if ((i + 1) % at_once == 0) {
            ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == i + 1; }));
        }
    }
    EXPECT_EQ(results.values, repeated(3, count));
    for (size_t i = 0; i < later; i++) {
        catch_up();
    }
    /* The newest first, so that none is forgotten for the sake of another of them. */
    for (size_t i = count; i > count - later; i -= at_once) {
        results.values.clear();
        for (size_t k = i - at_once; k < i; k++) {
            ASSERT_EQ(send_counted(numbered_name(k), &results), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == at_once; }));
    }
    EXPECT_GE(server->asked(), count + later + (later - (256 - later)));
}

/* ---- The configuration --------------------------------------------------------------------- */

/* The strings of the options are not kept. */
TEST_P(NameConfiguration, OptionsAreCopied)
{
    std::string own_servers = servers, own_file = resolv_conf;
    struct dgram_loop_options options = loop_options();
    options.dns_servers = own_servers.c_str();
    options.resolv_conf = own_file.c_str();
    begin(options);
    std::fill(own_servers.begin(), own_servers.end(), '#');
    std::fill(own_file.begin(), own_file.end(), '#');
    server->address("host.test", "127.0.0.1");
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(server->asked("host.test"), 1u);
}

/* What cannot be read as servers is told at once. */
TEST_P(NameConfiguration, ServersMustBeAddresses)
{
    const char *bad[] = {"nonsense",
                         "127.0.0.1,nonsense",
                         "256.1.1.1",
                         ",",
                         "",
                         "host:53",
                         "127.0.0.1:0",
                         "127.0.0.1:65536",
                         "127.0.0.1:x",
                         "[::1",
                         "fe80::1%",
                         "fe80::1%0",
                         "fe80::1%nosuch0",
                         "[fe80::1%nosuch0]:53",
                         "fe80::1%lo%lo",
                         "127.0.0.1%lo",
                         "fe80::1%a-zone-that-is-longer-than-any-interface",
                         "fe80::1%lo,fe80::1%nosuch0"};
    for (const char *text : bad) {
        struct dgram_loop *none = nullptr;
        struct dgram_loop_options options = names_options();
        options.dns_servers = text;
        EXPECT_EQ(dgram_loop_create(&options, &none), DGRAM_EBADOPTIONS) << text;
        EXPECT_EQ(none, nullptr) << text;
    }
    const char *good[] = {"192.0.2.1",
                          "192.0.2.1:5353",
                          "[2001:db8::1]:53",
                          "2001:db8::1",
                          "192.0.2.1,[2001:db8::1]:53",
                          "[2001:db8::1]",
                          "fe80::1%lo",
                          "[fe80::1%lo]",
                          "fe80::1%1,[fe80::1%lo]:5353,192.0.2.1"};
    for (const char *text : good) {
        servers = text;
        begin(names_options());
    }
}

TEST_P(NameConfiguration, FileMayBeMissing)
{
    server->address("host.test", "127.0.0.1");
    unlink(resolv_conf.c_str());
    begin(names_options());
    EXPECT_EQ(result_of("host.test"), 3);
}

/* Rewritten in place, replaced by another file, deleted: the next question goes by what is there.
 * The search list shows it, because ports cannot be told in the file. */
TEST_P(NameConfiguration, ChangeOfTheFileIsNoticed)
{
    for (const char *list : {"one.test", "two.test", "three.test"}) {
        server->address(std::string("host.") + list, "127.0.0.1", 1);
    }
    auto write = [&](const std::string &path, const std::string &list) {
        std::ofstream file(path, std::ios::trunc);
        file << "search " << list << "\nlookup file bind\n" << patient_options;
    };
    auto expect_asked = [&](size_t one, size_t two, size_t three) {
        EXPECT_EQ(server->asked("host.one.test"), one);
        EXPECT_EQ(server->asked("host.two.test"), two);
        EXPECT_EQ(server->asked("host.three.test"), three);
    };
    write(resolv_conf, "one.test");
    begin(names_options());
    struct dgram_socket *first = open_socket(loop, DGRAM_UDP4);
    EXPECT_EQ(dgram_close(first), 0);
    EXPECT_EQ(result_of("host"), 3);
    expect_asked(1, 0, 0);
    let_pass(loop, TTL_OVER); /* also moves the file's time, whatever its grain */
    write(resolv_conf, "two.test");
    EXPECT_EQ(result_of("host"), 3);
    expect_asked(1, 1, 0);
    let_pass(loop, TTL_OVER);
    write(resolv_conf + ".new", "three.test");
    ASSERT_EQ(rename((resolv_conf + ".new").c_str(), resolv_conf.c_str()), 0);
    EXPECT_EQ(result_of("host"), 3);
    expect_asked(1, 1, 1);
}

/* Questions that are under way keep their servers; the change is seen when they are done. */
TEST_P(NameConfiguration, ChangeDoesNotDisturbQuestionsUnderWay)
{
    Results results;
    server->address("slow.test", "127.0.0.1");
    server->hold("slow.test");
    server->address("host.search.test", "127.0.0.1");
    server->address("host.other.test", "127.0.0.1");
    ASSERT_EQ(send_counted("slow.test", &results), 0);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("slow.test") == 1; }));
    {
        std::ofstream file(resolv_conf, std::ios::trunc);
        file << "search other.test\nlookup file bind\n# longer than before\n" << patient_options;
    }
    catch_up();
    server->release("slow.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    EXPECT_EQ(results.values[0], 3);
    EXPECT_EQ(result_of("host"), 3);
    EXPECT_EQ(server->asked("host.other.test"), 1u);
}

/* `nameserver` lines have no port: this needs port 53 of two addresses. */
TEST_P(NameConfiguration, ServersOfTheFileAreAskedAndMayChange)
{
    bool permitted = true;
    auto write = [&](const std::string &address) {
        std::ofstream file(resolv_conf, std::ios::trunc);
        file << "nameserver " << address << "\nsearch search.test\n" << patient_options;
    };
    std::thread thread([&] {
        permitted = enter_own_network();
        if (!permitted) {
            return;
        }
        dns::Server one("127.0.0.2", 53), two("127.0.0.33", 53);
        one.address("a.test", "127.0.0.1");
        two.address("b.test", "127.0.0.1");
        write("127.0.0.2");
        struct dgram_loop_options options = names_options();
        options.dns_servers = nullptr;
        struct dgram_loop *own = make_loop(&options);
        struct dgram_socket *socket = open_socket(own);
        Results results;
        EXPECT_EQ(dgram_send(socket, "abc", 3, 9, "a.test", Results::take, &results), 0);
        EXPECT_TRUE(run_until(own, [&] { return results.values.size() == 1; }));
        write("127.0.0.33");
        EXPECT_EQ(dgram_send(socket, "abc", 3, 9, "b.test", Results::take, &results), 0);
        EXPECT_TRUE(run_until(own, [&] { return results.values.size() == 2; }));
        EXPECT_EQ(results.values, repeated(3, 2));
        EXPECT_EQ(one.asked("b.test"), 0u);
        EXPECT_EQ(two.asked(), 1u);
        dgram_loop_free(own);
    });
    thread.join();
    if (!permitted) {
        GTEST_SKIP() << "a network of its own, for port 53, is not permitted";
    }
}

/* c-ares 1.18 takes no address in brackets that has no port. */
TEST_P(NameConfiguration, ServerInBracketsNeedsNoPort)
{
    begin(names_options());
    servers = "[::1],127.0.0.1" + servers.substr(servers.find(':'));
    write_resolv_conf("options timeout:1 attempts:1\n");
    server->address("host.test", "127.0.0.1");
    begin(names_options());
    EXPECT_EQ(result_of("host.test"), 3);
}

/* As routers advertise themselves: a link-local address and the interface that it is on. */
TEST_P(NameConfiguration, ServersMayHaveAZone)
{
    bool permitted = true;
    std::thread thread([&] {
        permitted = enter_own_network() && add_to_loopback("fe80::53");
        if (!permitted) {
            return;
        }
        dns::Server zoned("fe80::53%lo", 53);
        zoned.address("host.test", "127.0.0.1");
        zoned.script("big.test", by_tcp(true_answer));
        {
            std::ofstream file(resolv_conf, std::ios::trunc);
            file << "nameserver fe80::53%lo\nsearch search.test\n" << patient_options;
        }
        const char *const lists[] = {nullptr, "fe80::53%lo", "[fe80::53%1]:53", "[fe80::53%lo]"};
        size_t asked = 0;
        for (const char *list : lists) {
            SCOPED_TRACE(list != nullptr ? list : "the file");
            struct dgram_loop_options options = names_options();
            options.dns_servers = list;
            struct dgram_loop *own = make_loop(&options);
            struct dgram_socket *socket = open_socket(own);
            Results results;
            for (const char *name : {"host.test", "big.test"}) {
                EXPECT_EQ(dgram_send(socket, "abc", 3, 9, name, Results::take, &results), 0);
            }
            EXPECT_TRUE(run_until(own, [&] { return results.values.size() == 2; }));
            EXPECT_EQ(results.values, repeated(3, 2));
            EXPECT_EQ(zoned.asked("host.test"), ++asked);
            dgram_loop_free(own);
        }
    });
    thread.join();
    if (!permitted) {
        GTEST_SKIP() << "a network of its own, with IPv6, is not permitted";
    }
}

/* ---- Names --------------------------------------------------------------------------------- */

/* A file with two `nameserver` lines: where the first has no answer, the second is asked. */
TEST_P(NameConfiguration, SecondNameserverOfTheFileIsAskedWhereTheFirstFails)
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
TEST_P(NameConfiguration, NameserverThatIsNoAddressIsLeftOut)
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
