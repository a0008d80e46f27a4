/* SPDX-License-Identifier: MIT */
/*
 * names.cc: host names and their answers: good, late and missing ones, by UDP and by TCP.
 */
#include <poll.h>

#include <atomic>

#include "tests/support/names.h"

using namespace names;

namespace
{

class NameAnswer : public NamesTest
{
};
class NameTcp : public NamesTest
{
};

INSTANTIATE_ON_HOST_ENGINES(NameAnswer);
INSTANTIATE_ON_HOST_ENGINES(NameTcp);

/* ---- Answers ------------------------------------------------------------------------------- */

TEST_P(NameAnswer, IsWhereTheDatagramGoes)
{
    for (uint32_t type : socket_types()) {
        Inbox own;
        Results results;
        std::string host = type == DGRAM_UDP6 ? "six.test" : "four.test";
        server->address(host, loopback(type));
        struct dgram_socket *peer = open_inbox(loop, &own, type);
        struct dgram_socket *socket = open_socket(loop, type);
        ASSERT_EQ(
            dgram_send(socket, "hello", 5, port_of(peer), host.c_str(), Results::take, &results),
            0);
        EXPECT_EQ(results.values.size(), 0u); /* never inside the call */
        ASSERT_TRUE(run_until(loop, [&] { return own.count() == 1 && !results.values.empty(); }));
        EXPECT_EQ(own.payloads[0], "hello");
        EXPECT_EQ(results.values, std::vector<int>{5});
        EXPECT_EQ(server->asked(host), 1u);
    }
}

/* A send that waits for its name keeps dgram_loop_run() running, a name that is known does not. */
TEST_P(NameAnswer, KeepsTheLoopAliveWhileSomebodyWaits)
{
    Results results;
    server->address("host.test", "127.0.0.1");
    ASSERT_EQ(dgram_unref(target), 0);
    ASSERT_EQ(dgram_unref(sender), 0);
    ASSERT_EQ(send_counted("host.test", &results), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(results.values, std::vector<int>{3});
}

TEST_P(NameAnswer, EmptyDatagramGoesToAName)
{
    server->address("host.test", "127.0.0.1");
    ASSERT_EQ(dgram_send(sender, nullptr, 0, port_of(target), "host.test", nullptr, nullptr), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(inbox.payloads[0], "");
}

TEST_P(NameAnswer, FirstOfSeveralAddressesIsUsed)
{
    Inbox second;
    struct dgram_socket *other = open_socket(loop);
    if (dgram_bind(other, 0, "127.0.0.2") < 0) {
        GTEST_SKIP() << "127.0.0.2 is no address of this host";
    }
    ASSERT_EQ(dgram_on_message(other, Inbox::take, &second), 0);
    server->script("many.test", one_packet([](const dns::Question &question) {
                       dns::Reply reply(question);
                       for (const char *text : {"127.0.0.2", "127.0.0.1", "127.0.0.3"}) {
                           reply.address(text, 60);
                       }
                       return reply.bytes();
                   }));
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(dgram_send(sender, "x", 1, port_of(other), "many.test", nullptr, nullptr), 0);
    }
    EXPECT_TRUE(run_until(loop, [&] { return second.count() == 3; }));
    EXPECT_EQ(inbox.count(), 0u);
}

/* A server may add what nobody asked for. */
TEST_P(NameAnswer, AddressesOfTheOtherFamilyAreSkipped)
{
    server->script("mixed.test", one_packet([](const dns::Question &question) {
                       return dns::Reply(question)
                           .address("::1", 60)
                           .address("127.0.0.1", 60)
                           .address("::2", 60)
                           .bytes();
                   }));
    EXPECT_EQ(result_of("mixed.test"), 3);
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
}

TEST_P(NameAnswer, AliasesAreFollowed)
{
    server->script("www.test", one_packet([](const dns::Question &question) {
                       return dns::Reply(question)
                           .alias("www.test", "cdn.test", 60)
                           .alias("cdn.test", "edge.cdn.test", 60)
                           .alias("edge.cdn.test", "e1.edge.cdn.test", 60)
                           .address("127.0.0.1", 60, "e1.edge.cdn.test")
                           .bytes();
                   }));
    EXPECT_EQ(result_of("www.test"), 3);
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(server->asked("www.test"), 1u);
}

TEST_P(NameAnswer, AliasThatLeadsNowhereIsNotFound)
{
    server->script("dangling.test", one_packet([](const dns::Question &question) {
                       return dns::Reply(question).alias("dangling.test", "gone.test", 60).bytes();
                   }));
    EXPECT_EQ(result_of("dangling.test"), DGRAM_ENOTFOUND);
}

TEST_P(NameAnswer, MayComeOutOfOrder)
{
    Recorder log;
    const std::string names[] = {"one.test", "two.test", "three.test"};
    std::vector<Sent> sent;
    for (const std::string &name : names) {
        server->address(name, "127.0.0.1");
        server->hold(name);
        sent.emplace_back([&log, name](struct dgram_socket *, int result) {
            EXPECT_EQ(result, 1);
            log.add(name);
        });
    }
    for (size_t i = 0; i < 3; i++) {
        ASSERT_EQ(
            dgram_send(sender, "x", 1, port_of(target), names[i].c_str(), Sent::call, &sent[i]), 0);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == 3; }));
    for (size_t i : {2, 0, 1}) {
        size_t before = log.events.size();
        server->release(names[i]);
        ASSERT_TRUE(run_until(loop, [&] { return log.events.size() == before + 1; }));
        EXPECT_EQ(log.events.back(), names[i]);
    }
}

/* The answer comes because the timer lets it come: the loop cannot have waited for it. */
TEST_P(NameAnswer, TimersTickWhileItIsAwaited)
{
    Recorder log;
    server->address("slow.test", "127.0.0.1");
    server->hold("slow.test");
    Sent sent([&](struct dgram_socket *, int) { log.add("sent"); });
    ASSERT_EQ(dgram_send(sender, "x", 1, port_of(target), "slow.test", Sent::call, &sent), 0);
    Ticker ticker(loop, MILLISECOND, [&](size_t count) {
        if (count <= 20) {
            log.add("tick");
        }
        if (count == 20) {
            server->release("slow.test");
        }
    });
    ASSERT_TRUE(run_until(loop, [&] { return log.count("sent") == 1; }));
    EXPECT_EQ(log.count("tick"), 20u);
    EXPECT_EQ(log.events.back(), "sent");
}

TEST_P(NameAnswer, NameThatDoesNotExistIsNotFound)
{
    EXPECT_EQ(result_of("nowhere.test"), DGRAM_ENOTFOUND);
    EXPECT_EQ(failures.size(), 0u);
    EXPECT_EQ(server->asked("nowhere.test"), 1u);
}

/* A name may have addresses of one family only. */
TEST_P(NameAnswer, NameWithoutAnAddressOfTheFamilyIsNotFound)
{
    server->address("four.test", "127.0.0.1");
    server->address("six.test", "::1");
    EXPECT_EQ(result_of("six.test"), DGRAM_ENOTFOUND);
    EXPECT_EQ(result_of("four.test"), 3);
    if (!has_ipv6()) {
        return;
    }
    Results results;
    struct dgram_socket *socket = open_socket(loop, DGRAM_UDP6);
    for (const char *host : {"four.test", "six.test"}) {
        ASSERT_EQ(dgram_send(socket, "abc", 3, 9, host, Results::take, &results), 0);
        size_t expected = results.values.size() + 1;
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == expected; }));
    }
    EXPECT_EQ(results.values, (std::vector<int>{DGRAM_ENOTFOUND, 3}));
}

TEST_P(NameAnswer, ServerThatFailsIsTold)
{
    const std::pair<const char *, dns::Rcode> cases[] = {{"servfail.test", dns::SERVFAIL},
                                                         {"refused.test", dns::REFUSED},
                                                         {"notimp.test", dns::NOTIMP},
                                                         {"formerr.test", dns::FORMERR}};
    for (const auto &one : cases) {
        server->fail(one.first, one.second);
        EXPECT_EQ(result_of(one.first), DGRAM_EDNSFAILED) << one.first;
    }
    server->address("fine.test", "127.0.0.1");
    EXPECT_EQ(result_of("fine.test"), 3);
}

/* A dead name must not flood the name server; one that comes to life does not wait for long. */
TEST_P(NameAnswer, FailureIsRememberedForASecond)
{
    size_t questions = 0;
    for (auto one : {std::make_pair(dns::SERVFAIL, static_cast<int>(DGRAM_EDNSFAILED)),
                     std::make_pair(dns::NXDOMAIN, static_cast<int>(DGRAM_ENOTFOUND))}) {
        server->fail("host.test", one.first);
        EXPECT_EQ(result_of("host.test"), one.second);
        questions = server->asked("host.test");
        for (int i = 0; i < 10; i++) {
            EXPECT_EQ(result_of("host.test"), one.second);
        }
        EXPECT_EQ(server->asked("host.test"), questions);
        let_pass(loop, TTL_OVER);
    }
    server->address("host.test", "127.0.0.1");
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(server->asked("host.test"), questions + 1);
}

TEST_P(NameAnswer, ServerThatIsNotThereIsTold)
{
    DeadPort dead;
    const struct dgram_addr address = dead.address();
    servers = "127.0.0.1:" + std::to_string(dgram_addr_port(&address));
    begin(names_options());
    int result = result_of("host.test");
    EXPECT_TRUE(result == DGRAM_EDNSFAILED || result == DGRAM_EDNSTIMEOUT) << result;
}

/* resolv.conf(5)'s `timeout` and `attempts` hold. Timers tick meanwhile. */
TEST_P(NameAnswer, SilenceTimesOut)
{
    write_resolv_conf("options timeout:1 attempts:1\n");
    begin(names_options());
    server->silence("silent.test");
    server->address("host.test", "127.0.0.1");
    Results results;
    Ticker ticker(loop, 10 * MILLISECOND);
    ASSERT_EQ(send_counted("silent.test", &results), 0);
    ASSERT_EQ(send_plain("abc", "silent.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return !results.values.empty() && !failures.empty(); }));
    EXPECT_GT(ticker.count, 10u); /* of a hundred */
    EXPECT_EQ(results.values, std::vector<int>{DGRAM_EDNSTIMEOUT});
    ASSERT_EQ(failures.size(), 1u);
    EXPECT_EQ(failures[0].code, DGRAM_EDNSTIMEOUT);
    EXPECT_EQ(server->asked("silent.test"), 1u);
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(results.values.size(), 1u);
}

TEST_P(NameAnswer, LostQuestionIsAskedAgain)
{
    write_resolv_conf("options attempts:3 timeout:1\n");
    begin(names_options());
    std::atomic<int> times{0};
    server->script("lossy.test", [&](const dns::Question &question) {
        dns::Deed deed;
        if (times++ > 0) {
            deed.packets = {dns::Reply(question).address("127.0.0.1", 60).bytes()};
        }
        return deed;
    });
    EXPECT_EQ(result_of("lossy.test"), 3);
    EXPECT_EQ(server->asked("lossy.test"), 2u);
}

TEST_P(NameAnswer, NextServerIsAskedWhenOneFails)
{
    dns::Server second;
    servers = server->text() + "," + second.text();
    begin(names_options());
    server->fail("host.test", dns::SERVFAIL);
    second.address("host.test", "127.0.0.1");
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(server->asked("host.test"), 1u);
    EXPECT_EQ(second.asked("host.test"), 1u);
    second.stop();
}

TEST_P(NameAnswer, ServerMayBeReachedByIpv6)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6";
    }
    dns::Server sixth("::1");
    sixth.address("host.test", "127.0.0.1");
    servers = sixth.text();
    begin(names_options());
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(sixth.asked("host.test"), 1u);
    sixth.stop();
}

/* The descriptor for other loops tells of answers and of the end of a resolver's patience. */
TEST_P(NameAnswer, WakesAnEmbeddedLoop)
{
    write_resolv_conf("options timeout:1 attempts:1\n");
    begin(names_options());
    server->address("host.test", "127.0.0.1");
    server->silence("silent.test");
    struct pollfd ready = {dgram_loop_fd(loop), POLLIN, 0};
    if (ready.fd == -ENOTSUP) {
        GTEST_SKIP() << "no descriptor on this host";
    }
    Results results;
    ASSERT_EQ(send_counted("host.test", &results), 0);
    ASSERT_EQ(send_counted("silent.test", &results), 0);
    while (results.values.size() < 2) {
        ASSERT_EQ(poll(&ready, 1, static_cast<int>(10000 * patience())), 1);
        ASSERT_GE(dgram_loop_turn(loop, 0), 0);
    }
    EXPECT_EQ(results.values, (std::vector<int>{3, DGRAM_EDNSTIMEOUT}));
}

/* ---- TCP ----------------------------------------------------------------------------------- */

TEST_P(NameTcp, IsAskedWhenAnAnswerIsTruncated)
{
    server->script("big.test", by_tcp(true_answer));
    EXPECT_EQ(result_of("big.test"), 3);
    EXPECT_EQ(server->asked("big.test"), 2u);
    EXPECT_EQ(server->asked_by_tcp(), 1u);
}

/* Byte by byte, one for each tick: the answer needs as many ticks as it has bytes. */
TEST_P(NameTcp, AnswerMayComeByteByByte)
{
    std::atomic<size_t> size{0};
    server->script("big.test", by_tcp([&](const dns::Question &question) {
                       dns::Deed deed = true_answer(question);
                       deed.stepwise = true;
                       size = 2 + deed.packets[0].size();
                       return deed;
                   }));
    Results results;
    Ticker ticker(loop, MILLISECOND, [&](size_t) { server->step(); });
    ASSERT_EQ(send_counted("big.test", &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return !results.values.empty(); }));
    EXPECT_EQ(results.values, std::vector<int>{3});
    EXPECT_GE(ticker.count, size);
    EXPECT_EQ(server->asked_by_tcp(), 1u);
}

TEST_P(NameTcp, LargeAnswerIsRead)
{
    server->script("big.test", by_tcp([](const dns::Question &question) {
                       dns::Reply reply(question);
                       reply.address("127.0.0.1", 60);
                       for (int i = 0; i < 3000; i++) {
                           reply.record(dns::pointer_to(dns::QUESTION_NAME), 16, dns::CLASS_IN, 60,
                                        5, std::string("\4text", 5));
                       }
                       dns::Deed deed;
                       deed.packets = {reply.bytes()};
                       return deed;
                   }));
    EXPECT_EQ(result_of("big.test"), 3);
}

/* Closed at every place of the answer: before, inside and behind the length word, and in the
 * middle. */
TEST_P(NameTcp, ConnectionThatEndsHalfWayIsAFailure)
{
    for (size_t cut : {0, 1, 2, 3, 14, 40}) {
        std::string name = "cut" + std::to_string(cut) + ".test";
        server->script(name, by_tcp([cut](const dns::Question &question) {
                           dns::Deed deed = true_answer(question);
                           deed.cut = cut;
                           return deed;
                       }));
        EXPECT_EQ(result_of(name), DGRAM_EDNSFAILED) << name;
    }
    server->script("whole.test", by_tcp(true_answer));
    EXPECT_EQ(result_of("whole.test"), 3);
}

TEST_P(NameTcp, QuestionIsRepeatedOnANewConnection)
{
    write_resolv_conf("options timeout:30 attempts:3\n");
    begin(names_options());
    std::atomic<int> times{0};
    server->script("big.test", by_tcp([&](const dns::Question &question) {
                       dns::Deed deed = true_answer(question);
                       deed.cut = times++ == 0 ? 10 : SIZE_MAX;
                       return deed;
                   }));
    EXPECT_EQ(result_of("big.test"), 3);
    EXPECT_EQ(times, 2);
}

TEST_P(NameTcp, NonsenseIsAFailure)
{
    using Make = std::function<std::string(const dns::Question &)>;
    const std::pair<const char *, Make> cases[] = {
        {"empty.test", [](const dns::Question &) { return dns::number16(0); }},
        {"short.test", [](const dns::Question &) { return dns::number16(3) + "abc"; }},
        {"liar.test", [](const dns::Question &q) {
             return dns::number16(65535) + dns::Reply(q).address("127.0.0.1", 60).bytes();
         }}};
    for (const auto &one : cases) {
        const Make make = one.second;
        server->script(one.first, by_tcp([make](const dns::Question &question) {
                           dns::Deed deed;
                           deed.packets = {make(question)};
                           deed.unframed = true;
                           deed.cut = deed.packets[0].size();
                           return deed;
                       }));
        EXPECT_EQ(result_of(one.first), DGRAM_EDNSFAILED) << one.first;
    }
}

} /* namespace */
