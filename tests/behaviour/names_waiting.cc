/* SPDX-License-Identifier: MIT */
/*
 * names_waiting.cc: those who wait for a host name: where its errors go, queues and order.
 */
#include <map>

#include "tests/support/internals.h"
#include "tests/support/names.h"

using namespace names;

namespace
{

class NameError : public NamesTest
{
};

class NameQueue : public NamesTest
{
};

INSTANTIATE_ON_HOST_ENGINES(NameError);

INSTANTIATE_ON_HOST_ENGINES(NameQueue);

/* ---- Errors -------------------------------------------------------------------------------- */

TEST_P(NameError, GoesToTheCallbackOfTheSend)
{
    Results results;
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(send_counted("nowhere.test", &results), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 3; }));
    catch_up();
    EXPECT_EQ(results.values, repeated(DGRAM_ENOTFOUND, 3));
    EXPECT_EQ(failures.size(), 0u);
    EXPECT_EQ(stats_of(sender).send_errors, 3u);
    EXPECT_EQ(stats_of(sender).errors_lost, 0u);
    EXPECT_EQ(inbox.count(), 1u);
}

TEST_P(NameError, WithoutCallbackIsAnEventThatNamesTheHost)
{
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(send_plain("abc", "Nowhere.Test"), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return failures.size() == 3; }));
    catch_up();
    EXPECT_EQ(failures.size(), 3u);
    for (const Failure &failure : failures) {
        EXPECT_EQ(failure.code, DGRAM_ENOTFOUND);
        EXPECT_EQ(failure.operation, "send");
        EXPECT_EQ(strcasecmp(failure.host.c_str(), "nowhere.test"), 0) << failure.host;
        EXPECT_FALSE(failure.has_address);
    }
    EXPECT_EQ(stats_of(sender).send_errors, 3u);
    EXPECT_EQ(dgram_get_send_queue_count(sender), 0u);
}

TEST_P(NameError, MayBeAnsweredByAnotherTry)
{
    std::vector<int> values;
    Sent sent([&](struct dgram_socket *socket, int result) {
        values.push_back(result);
        if (values.size() == 1) {
            server->address("other.test", "127.0.0.1");
            EXPECT_EQ(
                dgram_send(socket, "abc", 3, port_of(target), "other.test", Sent::call, &sent), 0);
        }
    });
    ASSERT_EQ(dgram_send(sender, "abc", 3, port_of(target), "host.test", Sent::call, &sent), 0);
    ASSERT_TRUE(run_until(loop, [&] { return values.size() == 2; }));
    EXPECT_EQ(values, (std::vector<int>{DGRAM_ENOTFOUND, 3}));
}

TEST_P(NameError, WithoutHandlerIsCounted)
{
    ASSERT_EQ(dgram_on_error(sender, nullptr, nullptr), 0);
    ASSERT_EQ(send_plain("abc", "nowhere.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return dgram_get_send_queue_count(sender) == 0; }));
    settle(loop);
    EXPECT_EQ(stats_of(sender).errors_lost, 1u);
    EXPECT_EQ(stats_of(sender).send_errors, 1u);
}

/* Each socket hears of its own sends only, also when they wait for one name. */
TEST_P(NameError, ReachesEverySocketThatWaits)
{
    server->fail("host.test", dns::REFUSED);
    server->hold("host.test");
    Results results;
    std::vector<int> codes;
    struct dgram_socket *second = open_socket(loop);
    Handlers on;
    on.error = [&](struct dgram_socket *, const struct dgram_error *error) {
        codes.push_back(error->code);
    };
    on.attach(second);
    ASSERT_EQ(dgram_send(second, "x", 1, 9, "host.test", nullptr, nullptr), 0);
    ASSERT_EQ(dgram_send(second, "x", 1, 9, "host.test", Results::take, &results), 0);
    ASSERT_EQ(send_plain("abc", "host.test"), 0);
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return !codes.empty() && !failures.empty(); }));
    catch_up();
    EXPECT_EQ(codes, std::vector<int>{DGRAM_EDNSFAILED});
    EXPECT_EQ(results.values, std::vector<int>{DGRAM_EDNSFAILED});
    ASSERT_EQ(failures.size(), 1u);
    EXPECT_EQ(failures[0].code, DGRAM_EDNSFAILED);
}

/* What the kernel says of the address that was found is told of the address. */
TEST_P(NameError, OfTheAddressThatWasFoundNamesTheAddress)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "no address of loopback that is refused";
    }
    struct dgram_addr refused = refused_address();
    server->address("broadcast.test", text_of(&refused));
    ASSERT_EQ(send_plain("abc", "broadcast.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return failures.size() == 1; }));
    EXPECT_EQ(failures[0].code, -EACCES);
    EXPECT_EQ(failures[0].operation, "send");
    EXPECT_TRUE(failures[0].has_address);
    EXPECT_EQ(result_of("broadcast.test"), -EACCES);
}

/* ---- Cost ---------------------------------------------------------------------------------- */

/* c-ares is called when it has something to do, and not once a turn: old versions walk all that is
 * under way. */
TEST_P(NameQueue, WhatWaitsCostsOthersNothing)
{
    constexpr size_t NAMES = 500, TURNS = 20000;
    Results results;
    for (size_t n = 0; n < NAMES; n++) {
        server->silence(numbered_name(n));
        ASSERT_EQ(send_counted(numbered_name(n), &results), 0);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == NAMES; }));
    uint64_t before = dg_dns_called(loop), start = monotonic_ns();
    for (size_t i = 0; i < TURNS; i++) {
        ASSERT_GE(dgram_loop_turn(loop, 0), 0);
    }
    uint64_t seconds = (monotonic_ns() - start) / SECOND;
    EXPECT_LE(dg_dns_called(loop) - before, 5 * (seconds + 1));
    EXPECT_EQ(results.values.size(), 0u);
    EXPECT_EQ(server->asked(), NAMES);
}

/* ---- Queues and order ---------------------------------------------------------------------- */

/* Of half of the queue a name takes four fifths at most: others have room, and addresses all of the
 * other half. */
TEST_P(NameQueue, CountsWhatWaitsAndDrains)
{
    struct dgram_socket *socket = open_limited(loop, 20 * (100 + 64));
    Recorder log;
    Handlers on;
    on.drain = [&](struct dgram_socket *) { log.add("drain"); };
    on.attach(socket);
    Results results;
    const std::string payload(300, 'x');
    auto send = [&](const char *host, size_t size = 100) {
        return dgram_send(socket, payload.data(), size, port_of(target), host, Results::take,
                          &results);
    };
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    for (size_t i = 1; i <= 8; i++) {
        ASSERT_EQ(send("host.test"), 0);
        EXPECT_EQ(dgram_get_send_queue_count(socket), i);
        EXPECT_EQ(dgram_get_send_queue_size(socket), i * 100);
    }
    EXPECT_EQ(send("host.test"), -EAGAIN);
    EXPECT_EQ(send("refused.test", 300), -EAGAIN) << "what is left is less";
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(send("127.0.0.1"), 0) << "refused because of a name";
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") == 1; }));
    settle(loop);
    EXPECT_EQ(log.text(), "");
    EXPECT_EQ(inbox.count(), 10u);
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return log.count("drain") == 1 && inbox.count() == 18; }));
    EXPECT_EQ(results.values, repeated(100, 18));
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
    EXPECT_EQ(dgram_get_send_queue_size(socket), 0u);
    EXPECT_EQ(send("host.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 19; }));
    EXPECT_EQ(log.text(), "drain");
    catch_up();
    EXPECT_EQ(server->asked("refused.test"), 0u); /* nothing was kept of what was refused */
    EXPECT_EQ(server->asked("host.test"), 1u);
}

/* Nothing is kept of a send that was refused, nor is its name: hundreds of them push out no name
 * that is known, and when there is room they go to the same names. */
TEST_P(NameQueue, RefusedSendsLeaveNoNameBehind)
{
    constexpr size_t REFUSED = 400; /* names; the library remembers 256 */
    std::map<std::string, size_t> asked;
    struct dgram_lookup *slow = nullptr;
    const struct dgram_addr address = parse("127.0.0.1", 0);
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &host, int) {
        asked[host]++;
        if (host == "slow.test") {
            slow = lookup;
        } else {
            dgram_lookup_answer(lookup, 0, &address, 3600);
        }
    };
    begin_with_hook(&hook);
    EXPECT_EQ(result_of("known.test"), 3);
    struct dgram_socket *socket = open_limited(loop, 20 * (100 + 64));
    size_t drains = 0;
    Handlers on;
    on.drain = [&](struct dgram_socket *) { drains++; };
    on.attach(socket);
    Results results;
    const std::string payload(300, 'x');
    auto send = [&](const std::string &host, size_t size) {
        return dgram_send(socket, payload.data(), size, port_of(target), host.c_str(),
                          Results::take, &results);
    };
    for (size_t i = 0; i < 8; i++) {
        ASSERT_EQ(send("slow.test", 100), 0);
    }
    for (size_t i = 0; i < REFUSED; i++) {
        ASSERT_EQ(send(numbered_name(i), 300), -EAGAIN) << i;
    }
    ASSERT_TRUE(run_until(loop, [&] { return slow != nullptr; }));
    EXPECT_EQ(result_of("known.test"), 3);
    EXPECT_EQ(asked["known.test"], 1u) << "it was forgotten for the sake of those";
    EXPECT_EQ(asked.size(), 2u);
    dgram_lookup_answer(slow, 0, &address, 3600);
    ASSERT_TRUE(run_until(loop, [&] { return drains == 1 && results.values.size() == 8; }));
    for (size_t i = 0; i < 3; i++) {
        ASSERT_EQ(send(numbered_name(i), 300), 0) << i;
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 9 + i; }));
        EXPECT_EQ(results.values.back(), 300);
        EXPECT_EQ(asked[numbered_name(i)], 1u);
    }
}

TEST_P(NameQueue, DrainsWhenTheNameFails)
{
    struct dgram_socket *socket = open_limited(loop, 100);
    size_t drains = 0;
    Handlers on;
    on.drain = [&](struct dgram_socket *) { drains++; };
    on.attach(socket);
    ASSERT_EQ(dgram_send(socket, "abc", 3, 9, "nowhere.test", nullptr, nullptr), 0);
    EXPECT_EQ(dgram_send(socket, "abc", 3, 9, "nowhere.test", nullptr, nullptr), -EAGAIN);
    ASSERT_TRUE(run_until(loop, [&] { return drains == 1; }));
    settle(loop);
    EXPECT_EQ(drains, 1u);
}

/* Bytes without a callback are copied before the call returns, others are borrowed. */
TEST_P(NameQueue, BytesAreTheCallersAgainWhenTheyShouldBe)
{
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    std::string copied = pattern(700, 1), borrowed = pattern(700, 2);
    Results results;
    ASSERT_EQ(send_plain(copied, "host.test"), 0);
    copied.assign(700, '#');
    ASSERT_EQ(dgram_send(sender, borrowed.data(), borrowed.size(), port_of(target), "host.test",
                         Results::take, &results),
              0);
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 2 && !results.values.empty(); }));
    EXPECT_TRUE(inbox.payloads[0] == pattern(700, 1));
    EXPECT_TRUE(inbox.payloads[1] == pattern(700, 2));
    EXPECT_EQ(results.values, std::vector<int>{700});
}

/* With and without callbacks, before and after the answer. */
TEST_P(NameQueue, SendsToANameKeepTheirOrder)
{
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    Results results;
    std::vector<std::string> payloads;
    for (unsigned i = 0; i < 60; i++) {
        payloads.push_back(numbered(i, 20 + i % 3));
    }
    auto send = [&](size_t i) {
        ASSERT_EQ(dgram_send(sender, payloads[i].data(), payloads[i].size(), port_of(target),
                             "host.test", i % 2 == 0 ? Results::take : nullptr, &results),
                  0);
    };
    size_t next = 0;
    while (next < 30) {
        send(next++);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") == 1; }));
    Ticker ticker(loop, MILLISECOND, [&](size_t count) {
        if (count == 3) {
            server->release("host.test");
        }
        for (int i = 0; i < 3 && next < payloads.size(); i++) {
            send(next++);
        }
    });
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == payloads.size(); }));
    EXPECT_TRUE(inbox.payloads == payloads);
    EXPECT_EQ(server->asked("host.test"), 1u);
}

TEST_P(NameQueue, OtherDestinationsDoNotWait)
{
    server->address("slow.test", "127.0.0.1");
    server->address("fast.test", "127.0.0.1");
    server->hold("slow.test");
    ASSERT_EQ(send_plain("slow", "slow.test"), 0);
    ASSERT_EQ(send_plain("literal", "127.0.0.1"), 0);
    ASSERT_EQ(send_plain("fast", "fast.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 2; }));
    EXPECT_EQ(inbox.payloads, (std::vector<std::string>{"literal", "fast"}));
    server->release("slow.test");
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 3; }));
    EXPECT_EQ(inbox.payloads[2], "slow");
}

/* The datagram joins the order of its destination when the name is resolved: before what a callback
 * of the same turn sends there, and behind what was sent there earlier in it. */
TEST_P(NameQueue, ResolvedSendIsBeforeWhatIsSentLater)
{
    struct dgram_lookup *asked = nullptr;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) { asked = lookup; };
    begin_with_hook(&hook);
    struct dgram_addr to = address_of(target);
    ASSERT_EQ(send_plain("b", "host.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return asked != nullptr; }));
    Recorder log;
    Tick tick([&](struct dgram_timer *) {
        log.add("tick");
        EXPECT_EQ(send_text(sender, "a", to), 0);
        EXPECT_EQ(dgram_lookup_answer(asked, 0, &to, 60), 0);
    });
    Sent after([&](struct dgram_socket *, int) {
        log.add("sent");
        EXPECT_EQ(send_text(sender, "c", to), 0);
        EXPECT_EQ(send_plain("d", "host.test"), 0);
    });
    Plain elsewhere;
    struct dgram_addr other = elsewhere.address();
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, 0, 0), 0);
    ASSERT_EQ(dgram_send_to(sender, "x", 1, &other, Sent::call, &after), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 4; }));
    EXPECT_EQ(log.text(), "tick sent"); /* timers come before the callbacks of sends */
    EXPECT_EQ(inbox.payloads, (std::vector<std::string>{"a", "b", "c", "d"}));
    dgram_timer_free(timer);
}

/* A socket that is closed or ended in the turn of the answer takes nothing new for all that. */
TEST_P(NameQueue, ResolvedSendDoesNotOpenAClosedSocket)
{
    for (bool ends : {false, true}) {
        SCOPED_TRACE(ends ? "end" : "close");
        struct dgram_lookup *asked = nullptr;
        Hook hook;
        hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) { asked = lookup; };
        begin_with_hook(&hook);
        struct dgram_addr to = address_of(target);
        struct dgram_socket *other = open_socket(loop);
        ASSERT_EQ(send_plain("b", "host.test"), 0);
        ASSERT_TRUE(run_until(loop, [&] { return asked != nullptr; }));
        Tick tick([&](struct dgram_timer *) {
            EXPECT_EQ(send_text(sender, "a", to), 0);
            EXPECT_EQ(ends ? dgram_end(sender) : dgram_close(sender), 0);
            EXPECT_EQ(dgram_lookup_answer(asked, 0, &to, 60), 0);
        });
        Sent after([&](struct dgram_socket *, int) {
            EXPECT_EQ(send_text(sender, "c", to), DGRAM_ENOTRUNNING);
        });
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
        ASSERT_EQ(dgram_timer_start(timer, 0, 0), 0);
        ASSERT_EQ(dgram_send_to(other, "x", 1, &to, Sent::call, &after), 0);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 3; }));
        settle(loop);
        EXPECT_EQ(inbox.payloads, (std::vector<std::string>{"x", "a", "b"}));
        dgram_timer_free(timer);
    }
}

} /* namespace */
