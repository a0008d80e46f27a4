/* SPDX-License-Identifier: MIT */
/*
 * behaviour_names_waiting.cc: those who wait for a host name: where its errors go, binds, the end
 * of sockets and loops meanwhile, queues and order, the program's own `lookup` hook, destination
 * handles.
 */
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>

#include "tests/support/names.h"

extern "C" {
/* src/core.h is C only. */
uint64_t dg_dns_called(const struct dgram_loop *loop);
}

using namespace names;

namespace
{

class NameError : public NamesTest
{
};
class NameBind : public NamesTest
{
};
class NameEnd : public NamesTest
{
};
class NameQueue : public NamesTest
{
};
class NameHook : public NamesTest
{
};
class NameDestination : public NamesTest
{
};

INSTANTIATE_ON_HOST_ENGINES(NameError);
INSTANTIATE_ON_HOST_ENGINES(NameBind);
INSTANTIATE_ON_HOST_ENGINES(NameEnd);
INSTANTIATE_ON_HOST_ENGINES(NameQueue);
INSTANTIATE_ON_HOST_ENGINES(NameHook);
INSTANTIATE_ON_HOST_ENGINES(NameDestination);

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

/* ---- Bind ---------------------------------------------------------------------------------- */

TEST_P(NameBind, ListensWhenTheNameIsKnown)
{
    Binding binding(loop);
    struct dgram_addr address = {};
    server->address("self.test", "127.0.0.1");
    server->hold("self.test");
    ASSERT_EQ(dgram_bind(binding.socket, 0, "Self.test"), 0);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("self.test") == 1; }));
    settle(loop);
    EXPECT_EQ(binding.log.text(), "");
    EXPECT_EQ(dgram_address(binding.socket, &address), DGRAM_ENOTBOUND);
    EXPECT_EQ(dgram_bind(binding.socket, 0, "127.0.0.1"), DGRAM_EALREADYBOUND);
    EXPECT_EQ(dgram_bind(binding.socket, 0, "self.test"), DGRAM_EALREADYBOUND);
    server->release("self.test");
    ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("listening") == 1; }));
    ASSERT_EQ(dgram_address(binding.socket, &address), 0);
    EXPECT_EQ(text_of(&address), "127.0.0.1");
    EXPECT_NE(dgram_addr_port(&address), 0);
    EXPECT_EQ(dgram_bind(binding.socket, 0, "self.test"), DGRAM_EALREADYBOUND);
    expect_echo(loop, binding.socket);
    EXPECT_EQ(binding.log.text(), "listening");
}

TEST_P(NameBind, TakesThePortThatItWasGiven)
{
    for (uint32_t type : socket_types()) {
        Binding binding(loop, type);
        uint16_t port = private_port(type);
        std::string host = type == DGRAM_UDP6 ? "six.test" : "four.test";
        server->address(host, loopback(type));
        ASSERT_EQ(dgram_bind(binding.socket, port, host.c_str()), 0);
        ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("listening") == 1; }));
        EXPECT_EQ(port_of(binding.socket), port);
    }
}

/* A socket that waits for its name keeps the loop running, one whose bind failed does not. */
TEST_P(NameBind, KeepsTheLoopAliveWhileItWaits)
{
    Binding binding(loop);
    ASSERT_EQ(dgram_unref(target), 0);
    ASSERT_EQ(dgram_bind(binding.socket, 0, "nowhere.test"), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(binding.log.text(), "error");
}

TEST_P(NameBind, SendsWaitForIt)
{
    Binding binding(loop);
    Results results;
    server->address("self.test", "127.0.0.1");
    server->address("peer.test", "127.0.0.1");
    server->hold("self.test");
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    uint16_t port = port_of(target);
    for (const char *host : {"127.0.0.1", "peer.test", "127.0.0.1"}) {
        ASSERT_EQ(dgram_send(binding.socket, "abc", 3, port, host, Results::take, &results), 0);
        ASSERT_EQ(dgram_send(binding.socket, "abc", 3, port, host, nullptr, nullptr), 0);
    }
    EXPECT_EQ(result_of("peer.test"), 3); /* so that name is known, and yet they wait */
    settle(loop);
    EXPECT_EQ(results.values.size(), 0u);
    EXPECT_EQ(inbox.count(), 1u);
    EXPECT_EQ(dgram_get_send_queue_count(binding.socket), 6u);
    server->release("self.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 3 && inbox.count() == 7; }));
    EXPECT_EQ(results.values, repeated(3, 3));
    struct dgram_addr own = address_of(binding.socket);
    for (size_t i = 1; i < 7; i++) {
        EXPECT_TRUE(dgram_addr_equal(&inbox.from[i], &own)) << i;
    }
    EXPECT_EQ(binding.log.text(), "listening");
    EXPECT_EQ(stats_of(binding.socket).parked, 0u) << "they did not wait for room";
}

TEST_P(NameBind, UnknownNameIsAnErrorThatCompletesTheSendsAndMayBeRetried)
{
    Binding binding(loop);
    Results results;
    server->hold("self.test");
    struct dgram_addr to = address_of(target);
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, Results::take, &results), 0);
    ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, Results::take, &results), 0);
    ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, nullptr, nullptr), 0);
    server->release("self.test");
    ASSERT_TRUE(run_until(loop, [&] { return binding.failures.size() == 2; }));
    settle(loop);
    EXPECT_EQ(results.values, repeated(DGRAM_ENOTFOUND, 2));
    ASSERT_EQ(binding.failures.size(), 2u);
    EXPECT_EQ(binding.failures[0].operation, "bind");
    EXPECT_EQ(binding.failures[0].host, "self.test");
    EXPECT_EQ(binding.failures[0].code, DGRAM_ENOTFOUND);
    EXPECT_EQ(binding.failures[1].operation, "send");
    EXPECT_EQ(binding.failures[1].code, DGRAM_ENOTFOUND);
    EXPECT_EQ(inbox.count(), 0u);
    EXPECT_EQ(dgram_get_send_queue_count(binding.socket), 0u);
    EXPECT_EQ(dgram_address(binding.socket, &to), DGRAM_ENOTBOUND);

    server->address("self.test", "127.0.0.1");
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("listening") == 1; }));
    expect_echo(loop, binding.socket);
}

TEST_P(NameBind, MayBeRetriedInTheErrorHandler)
{
    Binding binding(loop);
    binding.on.error = [&](struct dgram_socket *which, const struct dgram_error *error) {
        binding.log.add("error");
        EXPECT_STREQ(error->host, "nowhere.test");
        EXPECT_EQ(dgram_bind(which, 0, "127.0.0.1"), 0);
    };
    ASSERT_EQ(dgram_bind(binding.socket, 0, "nowhere.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("listening") == 1; }));
    EXPECT_EQ(binding.log.text(), "error listening");
    expect_echo(loop, binding.socket);
}

/* The name is known, but its address is none of this host. */
TEST_P(NameBind, RefusedAddressIsAnErrorThatCompletesTheSends)
{
    Binding binding(loop);
    struct dgram_socket *probe = open_socket(loop);
    int refusal = dgram_bind(probe, 0, "203.0.113.1");
    if (refusal >= 0) {
        GTEST_SKIP() << "this host binds to foreign addresses";
    }
    Results results;
    struct dgram_addr to = address_of(target);
    server->address("foreign.test", "203.0.113.1");
    ASSERT_EQ(dgram_bind(binding.socket, 0, "foreign.test"), 0);
    ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, Results::take, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return !results.values.empty(); }));
    settle(loop);
    EXPECT_EQ(results.values, std::vector<int>{refusal});
    ASSERT_EQ(binding.failures.size(), 1u);
    EXPECT_EQ(binding.failures[0].operation, "bind");
    EXPECT_EQ(binding.failures[0].code, refusal);
    EXPECT_EQ(inbox.count(), 0u);
    expect_echo(loop, binding.socket);
}

/* Sends that wait for a name of their own wait for the bind as well: they must not leave a socket
 * that is bound nowhere, which the kernel would bind anywhere. */
TEST_P(NameBind, FailureCompletesSendsThatWaitForOtherNames)
{
    const std::pair<const char *, int> cases[] = {{"nowhere.test", DGRAM_ENOTFOUND},
                                                  {"foreign.test", -EADDRNOTAVAIL}};
    server->address("foreign.test", "203.0.113.1");
    server->address("peer.test", "127.0.0.1");
    for (const auto &one : cases) {
        SCOPED_TRACE(one.first);
        Binding binding(loop);
        Results results, of_others;
        server->hold("peer.test");
        ASSERT_EQ(dgram_bind(binding.socket, 0, one.first), 0);
        ASSERT_EQ(dgram_send(binding.socket, "abc", 3, port_of(target), "peer.test", Results::take,
                             &results),
                  0);
        ASSERT_EQ(send_counted("peer.test", &of_others), 0);
        ASSERT_TRUE(run_until(loop, [&] { return !binding.failures.empty(); }));
        settle(loop);
        EXPECT_EQ(results.values, std::vector<int>{one.second});
        EXPECT_EQ(of_others.values.size(), 0u);
        server->release("peer.test");
        ASSERT_TRUE(run_until(loop, [&] { return of_others.values.size() == 1; }));
        settle(loop);
        EXPECT_EQ(of_others.values[0], 3);
        EXPECT_EQ(results.values.size(), 1u);
        EXPECT_EQ(inbox.count(), 1u);
        EXPECT_EQ(dgram_bind(binding.socket, 0, "127.0.0.1"), 0);
        EXPECT_EQ(dgram_close(binding.socket), 0);
        ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("close") == 1; }));
        begin(names_options());
    }
}

TEST_P(NameBind, SocketsShareTheQuestion)
{
    server->address("self.test", "127.0.0.1");
    server->hold("self.test");
    Binding one(loop), two(loop), three(loop);
    Results results;
    for (Binding *binding : {&one, &two, &three}) {
        ASSERT_EQ(dgram_bind(binding->socket, 0, "self.test"), 0);
    }
    ASSERT_EQ(send_counted("self.test", &results), 0);
    ASSERT_EQ(dgram_close(two.socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return two.log.count("close") == 1; }));
    server->release("self.test");
    ASSERT_TRUE(run_until(loop, [&] {
        return one.log.count("listening") == 1 && three.log.count("listening") == 1 &&
               results.values.size() == 1;
    }));
    EXPECT_EQ(two.log.text(), "close");
    EXPECT_NE(port_of(one.socket), port_of(three.socket));
    EXPECT_EQ(results.values[0], 3);
    EXPECT_EQ(server->asked("self.test"), 1u);
}

/* Nothing leaves a socket that was never bound. */
TEST_P(NameBind, CloseWhileItWaitsCancelsTheSends)
{
    Binding binding(loop);
    Results results;
    struct dgram_addr to = address_of(target);
    server->address("self.test", "127.0.0.1");
    server->hold("self.test");
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("self.test") == 1; }));
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, Results::take, &results), 0);
    }
    ASSERT_EQ(dgram_close(binding.socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("close") == 1; }));
    EXPECT_EQ(results.values, repeated(-ECANCELED, 3));
    server->release("self.test");
    EXPECT_EQ(result_of("self.test"), 3); /* waits for the answer */
    settle(loop);
    EXPECT_EQ(results.values.size(), 3u);
    EXPECT_EQ(binding.log.text(), "close");
    EXPECT_EQ(inbox.payloads, std::vector<std::string>{"abc"}); /* the one that waited */
}

/* Closed in the turn in which the answer comes: one of the two wins, neither does harm. */
TEST_P(NameBind, CloseInTheTurnOfTheAnswer)
{
    struct dgram_lookup *asked = nullptr;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) { asked = lookup; };
    begin_with_hook(&hook);
    struct dgram_addr own = parse("127.0.0.1", 0);
    for (int code : {0, static_cast<int>(DGRAM_ENOTFOUND)}) {
        Binding binding(loop);
        Results results;
        asked = nullptr;
        struct dgram_addr to = address_of(target);
        ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
        ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, Results::take, &results), 0);
        ASSERT_TRUE(run_until(loop, [&] { return asked != nullptr; }));
        Ticker ticker(loop, MILLISECOND, [&](size_t count) {
            if (count == 1) {
                EXPECT_EQ(dgram_close(binding.socket), 0);
                EXPECT_EQ(dgram_lookup_answer(asked, code, &own, 60), 0);
            }
        });
        ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("close") == 1; }));
        EXPECT_EQ(binding.log.events.back(), "close");
        EXPECT_EQ(binding.log.count("listening"), 0u);
        ASSERT_EQ(results.values.size(), 1u);
        EXPECT_TRUE(results.values[0] == 3 || results.values[0] == -ECANCELED ||
                    results.values[0] == code);
    }
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

/* ---- The end of sockets and loops ---------------------------------------------------------- */

TEST_P(NameEnd, CloseCancelsWhatWaits)
{
    server->address("host.test", "127.0.0.1");
    server->address("other.test", "127.0.0.1");
    server->hold("host.test");
    server->hold("other.test");
    Recorder log;
    Handlers on;
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.error = [&](struct dgram_socket *, const struct dgram_error *error) {
        log.add(std::string("error ") + dgram_error_name(error->code) + " " + error->host);
    };
    Sent sent([&](struct dgram_socket *, int result) { log.add(dgram_error_name(result)); });
    Results of_others;
    struct dgram_socket *closing = open_socket(loop);
    on.attach(closing);
    uint16_t port = port_of(target);
    ASSERT_EQ(dgram_send(closing, "abc", 3, port, "host.test", Sent::call, &sent), 0);
    ASSERT_EQ(send_counted("host.test", &of_others), 0);
    ASSERT_EQ(dgram_send(closing, "abc", 3, port, "other.test", Sent::call, &sent), 0);
    ASSERT_EQ(dgram_send(closing, "abc", 3, port, "host.test", Sent::call, &sent), 0);
    ASSERT_EQ(dgram_send(closing, "abc", 3, port, "other.test", nullptr, nullptr), 0);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == 2; }));
    ASSERT_EQ(dgram_close(closing), 0);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    EXPECT_EQ(log.text(), "ECANCELED ECANCELED ECANCELED error ECANCELED other.test close");
    server->release("host.test");
    server->release("other.test");
    ASSERT_TRUE(run_until(loop, [&] { return of_others.values.size() == 1; }));
    catch_up();
    EXPECT_EQ(of_others.values[0], 3);
    EXPECT_EQ(log.events.back(), "close");
    EXPECT_EQ(inbox.count(), 2u);
}

/* Those of a socket that closes leave the lists of several names; the others keep their order. */
TEST_P(NameEnd, CloseTakesOutItsOwnAndLeavesOthers)
{
    std::vector<struct dgram_socket *> sockets;
    std::vector<std::unique_ptr<Results>> results;
    std::vector<std::string> payloads(60); /* lent until the callback */
    for (size_t i = 0; i < 5; i++) {
        sockets.push_back(open_socket(loop));
        results.emplace_back(new Results);
    }
    for (size_t n = 0; n < 3; n++) {
        server->address(numbered_name(n), "127.0.0.1");
        server->hold(numbered_name(n));
    }
    for (unsigned k = 0; k < 60; k++) {
        size_t i = k % 5, n = k / 5 % 3;
        payloads[k] = numbered(k, 8);
        ASSERT_EQ(dgram_send(sockets[i], payloads[k].data(), 8, port_of(target),
                             numbered_name(n).c_str(), Results::take, results[i].get()),
                  0);
        run_until(loop, [] { return true; });
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == 3; }));
    for (size_t i : {0, 4, 2}) {
        close_and_wait(loop, sockets[i]);
        EXPECT_EQ(results[i]->values, repeated(-ECANCELED, 12));
    }
    for (size_t n = 0; n < 3; n++) {
        server->release(numbered_name(n));
    }
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 24; }));
    EXPECT_EQ(results[1]->values, repeated(8, 12));
    EXPECT_EQ(results[3]->values, repeated(8, 12));
}

/* A question whose askers are all gone: its answer is remembered, or lost; nothing else. */
TEST_P(NameEnd, AnswerAfterTheLastSocketIsHarmless)
{
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    server->hold("nowhere.test");
    Results results;
    for (const char *host : {"host.test", "nowhere.test"}) {
        ASSERT_EQ(send_counted(host, &results), 0);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == 2; }));
    close_and_wait(loop, sender);
    EXPECT_EQ(results.values, repeated(-ECANCELED, 2));
    server->release("host.test");
    server->release("nowhere.test");
    sender = open_socket(loop);
    watch_errors(sender);
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(result_of("nowhere.test"), DGRAM_ENOTFOUND);
    EXPECT_EQ(results.values.size(), 2u);
    EXPECT_EQ(failures.size(), 0u);
}

TEST_P(NameEnd, EndWaitsForTheName)
{
    Recorder log;
    Handlers on;
    Sent sent([&](struct dgram_socket *, int result) { log.add(std::to_string(result)); });
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(sender);
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    for (int i = 0; i < 2; i++) {
        ASSERT_EQ(dgram_send(sender, "abc", 3, port_of(target), "host.test", Sent::call, &sent), 0);
    }
    ASSERT_EQ(dgram_end(sender), 0);
    EXPECT_EQ(send_plain("x", "host.test"), DGRAM_ENOTRUNNING);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") == 1; }));
    settle(loop);
    EXPECT_EQ(log.text(), "");
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1 && inbox.count() == 2; }));
    EXPECT_EQ(log.text(), "3 3 close");
}

TEST_P(NameEnd, EndFollowsWhenTheNameFails)
{
    Recorder log;
    Handlers on;
    Sent sent([&](struct dgram_socket *, int result) { log.add(dgram_error_name(result)); });
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(sender);
    server->hold("nowhere.test");
    ASSERT_EQ(dgram_send(sender, "abc", 3, port_of(target), "nowhere.test", Sent::call, &sent), 0);
    ASSERT_EQ(send_plain("abc", "nowhere.test"), 0);
    ASSERT_EQ(dgram_end(sender), 0);
    server->release("nowhere.test");
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    EXPECT_EQ(log.text(), "DGRAM_ENOTFOUND close");
    ASSERT_EQ(failures.size(), 1u);
    EXPECT_EQ(failures[0].code, DGRAM_ENOTFOUND);
}

TEST_P(NameEnd, EndWaitsForTheBind)
{
    Binding binding(loop);
    Results results;
    struct dgram_addr to = address_of(target);
    server->address("self.test", "127.0.0.1");
    server->hold("self.test");
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, Results::take, &results), 0);
    ASSERT_EQ(dgram_end(binding.socket), 0);
    server->release("self.test");
    ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("close") == 1; }));
    EXPECT_EQ(results.values, std::vector<int>{3});
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(binding.log.count("error"), 0u);
}

/* By UDP and by TCP, asked and not even asked yet. */
TEST_P(NameEnd, LoopFreeCompletesWhatWaits)
{
    server->address("slow.test", "127.0.0.1");
    server->hold("slow.test");
    server->script("big.test", by_tcp([](const dns::Question &question) {
                       dns::Deed deed = true_answer(question);
                       deed.stepwise = true;
                       return deed;
                   }));
    const struct dgram_loop_options options = names_options();
    for (int asked : {0, 1, 2}) {
        SCOPED_TRACE(asked);
        size_t before = server->asked();
        struct dgram_loop *doomed = make_loop(&options);
        Results results;
        Binding binding(doomed);
        struct dgram_socket *socket = open_socket(doomed);
        for (const char *host : {"slow.test", "big.test"}) {
            ASSERT_EQ(dgram_send(socket, "abc", 3, 9, host, Results::take, &results), 0);
            ASSERT_EQ(dgram_send(socket, "abc", 3, 9, host, nullptr, nullptr), 0);
        }
        ASSERT_EQ(dgram_bind(binding.socket, 0, "slow.test"), 0);
        if (asked > 0) {
            size_t questions = asked == 1 ? 2 : 3;
            ASSERT_TRUE(spin_until(doomed, [&] { return server->asked() >= before + questions; }));
        }
        EXPECT_EQ(dgram_loop_free(doomed), nullptr);
        EXPECT_EQ(results.values, repeated(-ECANCELED, 2));
        EXPECT_EQ(binding.log.events.back(), "close");
        EXPECT_EQ(binding.log.count("listening"), 0u);
        ASSERT_TRUE(wait_until([&] { return asked < 2 || server->asked() >= before + 3; }));
    }
}

TEST_P(NameEnd, LoopFreeInTheCallbackOfAName)
{
    const struct dgram_loop_options options = names_options();
    server->address("host.test", "127.0.0.1");
    server->silence("silent.test");
    struct dgram_loop *doomed = make_loop(&options);
    Results results;
    Sent sent([&](struct dgram_socket *, int) { dgram_loop_free(doomed); });
    struct dgram_socket *socket = open_socket(doomed);
    ASSERT_EQ(dgram_send(socket, "abc", 3, 9, "silent.test", Results::take, &results), 0);
    ASSERT_EQ(dgram_send(socket, "abc", 3, 9, "host.test", Sent::call, &sent), 0);
    EXPECT_EQ(dgram_loop_run(doomed), 1);
    EXPECT_EQ(results.values, std::vector<int>{-ECANCELED});
}

/* A handler of the error may free the loop, too, while the name is in use around it. */
TEST_P(NameEnd, LoopFreeInTheErrorHandler)
{
    const struct dgram_loop_options options = names_options();
    struct dgram_loop *doomed = make_loop(&options);
    size_t errors = 0;
    Handlers on;
    on.error = [&](struct dgram_socket *, const struct dgram_error *error) {
        EXPECT_STREQ(error->host, "nowhere.test");
        errors++;
        dgram_loop_free(doomed);
    };
    struct dgram_socket *socket = open_socket(doomed);
    on.attach(socket);
    for (int i = 0; i < 2; i++) {
        ASSERT_EQ(dgram_send(socket, "abc", 3, 9, "nowhere.test", nullptr, nullptr), 0);
    }
    EXPECT_EQ(dgram_loop_run(doomed), 1);
    EXPECT_EQ(errors, 2u);
}

/* A child frees its copy of a loop that waits for names: the parent is not woken and goes on. */
TEST_P(NameEnd, ForkedChildDoesNotDisturbTheParent)
{
    Results results;
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    server->script("big.test", by_tcp([](const dns::Question &question) {
                       dns::Deed deed = true_answer(question);
                       deed.stepwise = true;
                       return deed;
                   }));
    int fd = dgram_loop_fd(loop);
    ASSERT_EQ(send_counted("host.test", &results), 0);
    ASSERT_EQ(send_counted("big.test", &results), 0);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == 3; }));
    settle(loop);
    struct pollfd ready = {fd, POLLIN, 0};
    ASSERT_TRUE(fd < 0 || spin_until(loop, [&] { return poll(&ready, 1, 0) == 0; }));
    fflush(nullptr);
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        alarm(60 * patience());
        _exit(dgram_loop_free(loop) == nullptr ? 0 : 1);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_TRUE(fd < 0 || poll(&ready, 1, 0) == 0) << "the child woke the parent";
    server->release("host.test");
    Ticker ticker(loop, MILLISECOND, [&](size_t) { server->step(); });
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    EXPECT_EQ(results.values, repeated(3, 2));
}

/* ---- Queues and order ---------------------------------------------------------------------- */

/* Of half of the queue a name takes four fifths at most: others have room, and addresses all of the
 * other half. */
TEST_P(NameQueue, CountsWhatWaitsAndDrains)
{
    struct dgram_socket_options options = socket_options();
    options.queue_limit = 20 * (100 + 64);
    struct dgram_socket *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
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
    struct dgram_socket_options options = socket_options();
    options.queue_limit = 20 * (100 + 64);
    struct dgram_socket *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
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
    struct dgram_socket_options options = socket_options();
    options.queue_limit = 100;
    struct dgram_socket *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
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

/* ---- The hook ------------------------------------------------------------------------------ */

struct Asked {
    struct dgram_lookup *lookup;
    std::string host;
    int family;
};

TEST_P(NameHook, IsAskedForTheNameInTheFamilyOfTheSocket)
{
    std::vector<Asked> asked;
    Hook hook;
    bool in_turn = false;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &host, int family) {
        EXPECT_TRUE(in_turn);
        asked.push_back({lookup, host, family});
        struct dgram_addr address = parse(family == 4 ? "127.0.0.1" : "::1", 1234);
        EXPECT_EQ(dgram_lookup_answer(lookup, 0, &address, 60), 0);
    };
    begin_with_hook(&hook);
    for (uint32_t type : socket_types()) {
        Inbox own;
        struct dgram_socket *peer = open_inbox(loop, &own, type), *socket = open_socket(loop, type);
        in_turn = false;
        for (int i = 0; i < 3; i++) {
            ASSERT_EQ(dgram_send(socket, "x", 1, port_of(peer), "host.test", nullptr, nullptr), 0);
        }
        in_turn = true;
        ASSERT_TRUE(run_until(loop, [&] { return own.count() == 3; }));
        ASSERT_EQ(asked.size(), type == DGRAM_UDP4 ? 1u : 2u);
        EXPECT_EQ(asked.back().host, "host.test");
        EXPECT_EQ(asked.back().family, type == DGRAM_UDP4 ? 4 : 6);
    }
    EXPECT_EQ(server->asked(), 0u);
}

/* Later in a callback, and between turns. One question for all that wait, one for each name. */
TEST_P(NameHook, MayBeAnsweredLater)
{
    std::vector<Asked> asked;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &host, int family) {
        asked.push_back({lookup, host, family});
    };
    begin_with_hook(&hook);
    Results one, two;
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(send_counted("one.test", &one), 0);
        ASSERT_EQ(send_counted("TWO.test", &two), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return asked.size() == 2; }));
    settle(loop);
    EXPECT_EQ(asked.size(), 2u);
    EXPECT_EQ(one.values.size() + two.values.size(), 0u);
    struct dgram_addr address = parse("127.0.0.1", 0);
    ASSERT_EQ(dgram_lookup_answer(asked[1].lookup, 0, &address, 60), 0);
    EXPECT_EQ(two.values.size(), 0u); /* never inside the call */
    ASSERT_TRUE(run_until(loop, [&] { return two.values.size() == 4; }));
    EXPECT_EQ(one.values.size(), 0u);
    Ticker ticker(loop, MILLISECOND, [&](size_t count) {
        if (count == 5) {
            EXPECT_EQ(dgram_lookup_answer(asked[0].lookup, 0, &address, 60), 0);
        }
    });
    ASSERT_TRUE(run_until(loop, [&] { return one.values.size() == 4 && inbox.count() == 8; }));
    EXPECT_EQ(one.values, repeated(3, 4));
    EXPECT_EQ(result_of("two.test"), 3);
    EXPECT_EQ(asked.size(), 2u);
}

TEST_P(NameHook, ItsErrorsAreTheResults)
{
    int code = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        EXPECT_EQ(dgram_lookup_answer(lookup, code, nullptr, 60), 0);
    };
    begin_with_hook(&hook);
    for (int each : {static_cast<int>(DGRAM_ENOTFOUND), static_cast<int>(DGRAM_EDNSTIMEOUT),
                     -EHOSTUNREACH, -ENOMEM}) {
        const std::string host = "host" + std::to_string(-each) + ".test";
        code = each;
        EXPECT_EQ(result_of(host), each);
        failures.clear();
        ASSERT_EQ(send_plain("abc", host), 0);
        ASSERT_TRUE(run_until(loop, [&] { return failures.size() == 1; }));
        EXPECT_EQ(failures[0].code, each);
        EXPECT_EQ(failures[0].host, host);
    }
}

TEST_P(NameHook, WrongAnswersAreTold)
{
    struct dgram_addr address = {};
    int expected = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        EXPECT_EQ(dgram_lookup_answer(lookup, 0, nullptr, 60), DGRAM_ENULL); /* still open */
        EXPECT_EQ(dgram_lookup_answer(lookup, 0, &address, 60), expected);
    };
    begin_with_hook(&hook);
    EXPECT_EQ(dgram_lookup_answer(nullptr, 0, &address, 60), DGRAM_ENULL);
    expected = DGRAM_EBADFAMILY;
    EXPECT_EQ(result_of("none.test"), DGRAM_EBADFAMILY);
    address = parse("::1", 0);
    EXPECT_EQ(result_of("six.test"), DGRAM_EBADFAMILY);
    address = parse("127.0.0.1", 0);
    address.size = 0; /* no address, whatever stands there */
    EXPECT_EQ(result_of("empty.test"), DGRAM_EBADFAMILY);
    address = parse("127.0.0.1", 0);
    expected = 0;
    EXPECT_EQ(result_of("six.test"), 3);
}

TEST_P(NameHook, AnswerLivesForItsTtl)
{
    size_t count = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &host, int) {
        count++;
        struct dgram_addr address = parse("127.0.0.1", 0);
        dgram_lookup_answer(lookup, 0, &address, host == "short.test" ? 0 : 0xffffffffu);
    };
    begin_with_hook(&hook);
    for (const char *host : {"short.test", "long.test"}) {
        EXPECT_EQ(result_of(host), 3);
        EXPECT_EQ(result_of(host), 3);
    }
    let_pass(loop, TTL_OVER);
    size_t before = count;
    EXPECT_EQ(result_of("long.test"), 3);
    EXPECT_EQ(count, before);
    EXPECT_EQ(result_of("short.test"), 3);
    EXPECT_EQ(count, before + 1);
}

/* The loop's clock stands still between turns; times to live go on. */
TEST_P(NameHook, TimeToLivePassesBetweenTurns)
{
    size_t count = 0;
    int code = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        count++;
        struct dgram_addr address = parse("127.0.0.1", 0);
        dgram_lookup_answer(lookup, code, &address, 1);
    };
    begin_with_hook(&hook);
    struct dgram_destination *destination = nullptr;
    ASSERT_EQ(
        dgram_destination_create(loop, DGRAM_UDP4, port_of(target), "handle.test", &destination),
        0);
    Results results;
    ASSERT_EQ(dgram_send_dest(sender, "abc", 3, destination, Results::take, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return !results.values.empty(); }));
    EXPECT_EQ(result_of("good.test"), 3);
    code = DGRAM_ENOTFOUND;
    EXPECT_EQ(result_of("bad.test"), DGRAM_ENOTFOUND);
    EXPECT_EQ(count, 3u);
    code = 0;
    usleep(static_cast<useconds_t>(TTL_OVER / 1000));
    EXPECT_EQ(result_of("good.test"), 3);
    EXPECT_EQ(count, 4u);
    EXPECT_EQ(result_of("bad.test"), 3);
    EXPECT_EQ(count, 5u);
    usleep(static_cast<useconds_t>(TTL_OVER / 1000));
    ASSERT_EQ(dgram_send_dest(sender, "abc", 3, destination, Results::take, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    EXPECT_EQ(count, 6u);
    usleep(static_cast<useconds_t>(TTL_OVER / 1000));
    struct dgram_addr address = {};
    EXPECT_EQ(dgram_destination_address(destination, &address), 0);
    ASSERT_GE(dgram_loop_turn(loop, 0), 0);
    EXPECT_EQ(count, 7u);
    dgram_destination_free(destination);
}

/* A child's answer is refused, and does not wake the parent, whose descriptor it shares. */
TEST_P(NameHook, ForkedChildCannotAnswer)
{
    struct dgram_lookup *question = nullptr;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) { question = lookup; };
    begin_with_hook(&hook);
    const int fd = dgram_loop_fd(loop);
    Results results;
    const struct dgram_addr answer = parse("127.0.0.1", 1);
    ASSERT_EQ(send_counted("host.test", &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return question != nullptr; }));
    settle(loop);
    struct pollfd ready = {fd, POLLIN, 0};
    ASSERT_TRUE(fd < 0 || spin_until(loop, [&] { return poll(&ready, 1, 0) == 0; }));
    fflush(nullptr);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        _exit(dgram_lookup_answer(question, 0, &answer, 1) == DGRAM_EFORKED ? 0 : 1);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_TRUE(fd < 0 || poll(&ready, 1, 0) == 0) << "the child woke the parent";
    EXPECT_EQ(dgram_lookup_answer(question, 0, &answer, 1), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    EXPECT_EQ(results.values, std::vector<int>{3});
}

/* What was answered before the hook forked is the parent's to act upon. */
TEST_P(NameHook, ForkAfterTheAnswerSendsOnce)
{
    constexpr unsigned COUNT =
        400; /* more than a submission, so that a child would not keep them */
    pid_t child = -1;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        const struct dgram_addr answer = parse("127.0.0.1", 1);
        EXPECT_EQ(dgram_lookup_answer(lookup, 0, &answer, 60), 0);
        fflush(nullptr);
        child = fork();
    };
    begin_with_hook(&hook);
    for (unsigned i = 0; i < COUNT; i++) {
        ASSERT_EQ(
            dgram_send(sender, "payload", i % 7, port_of(target), "host.test", nullptr, nullptr),
            0);
    }
    const int code = dgram_loop_turn(loop, 0);
    if (child == 0) {
        _exit(code == DGRAM_EFORKED && dgram_loop_free(loop) == nullptr ? 0 : 1);
    }
    int status = 1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() >= COUNT; }));
    settle(loop);
    EXPECT_EQ(inbox.count(), COUNT);
}

/* A failure that says nothing of the name is not remembered, but told. */
TEST_P(NameHook, HandleTellsEveryFailure)
{
    unsigned asked = 0;
    int failure = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        const struct dgram_addr wrong = parse("::1", 1);
        asked++;
        (void) dgram_lookup_answer(lookup, failure, &wrong, 60);
    };
    begin_with_hook(&hook);
    for (int expected : {-ENOMEM, static_cast<int>(DGRAM_EBADFAMILY)}) {
        failure = expected == -ENOMEM ? expected : 0;
        struct dgram_destination *handle = nullptr;
        struct dgram_addr address = {};
        const std::string host = "host" + std::to_string(-expected) + ".test";
        ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, host.c_str(), &handle), 0);
        EXPECT_EQ(dgram_destination_address(handle, &address), -EAGAIN);
        ASSERT_TRUE(run_until(loop, [&] { return asked > 0; }));
        EXPECT_EQ(dgram_destination_address(handle, &address), expected);
        dgram_destination_free(handle);
        asked = 0;
    }
}

TEST_P(NameHook, IsNotAskedWhenTheLoopIsFreed)
{
    struct dgram_loop_options options = loop_options();
    unsigned asked = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        asked++;
        (void) dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 0);
    };
    options.lookup = Hook::call;
    options.lookup_user = &hook;
    for (const bool in_a_callback : {true, false}) {
        struct dgram_loop *doomed = make_loop(&options);
        struct dgram_socket *socket = open_bound(doomed);
        Results results;
        auto send_and_free = [&](struct dgram_timer *) {
            EXPECT_EQ(dgram_send(socket, "x", 1, 9, "host.test", Results::take, &results), 0);
            EXPECT_EQ(dgram_loop_free(doomed), nullptr);
        };
        Tick tick(send_and_free);
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(doomed, Tick::call, &tick, &timer), 0);
        ASSERT_EQ(dgram_timer_start(timer, 0, 0), 0);
        if (in_a_callback) {
            EXPECT_EQ(dgram_loop_run(doomed), 1);
        } else {
            send_and_free(timer);
        }
        EXPECT_EQ(results.values, std::vector<int>{-ECANCELED});
    }
    EXPECT_EQ(asked, 0u);
}

TEST_P(NameHook, BindsAndHandlesAskIt)
{
    std::vector<std::string> hosts;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &host, int) {
        hosts.push_back(host);
        struct dgram_addr address = parse("127.0.0.1", 7);
        dgram_lookup_answer(lookup, host == "nowhere.test" ? DGRAM_ENOTFOUND : 0, &address, 60);
    };
    begin_with_hook(&hook);
    Binding binding(loop);
    ASSERT_EQ(dgram_bind(binding.socket, 0, "nowhere.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return binding.failures.size() == 1; }));
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("listening") == 1; }));
    EXPECT_NE(port_of(binding.socket), 7);
    struct dgram_destination *destination = nullptr;
    ASSERT_EQ(
        dgram_destination_create(loop, DGRAM_UDP4, port_of(target), "peer.test", &destination), 0);
    ASSERT_EQ(dgram_send_dest(sender, "x", 1, destination, nullptr, nullptr), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(hosts, (std::vector<std::string>{"nowhere.test", "self.test", "peer.test"}));
    dgram_destination_free(destination);
}

/* A callback may call anything: send to the same and to other names, bind, close. */
TEST_P(NameHook, MayUseTheLoop)
{
    size_t closes = 0, calls = 0;
    Results inner, cancelled;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    Hook hook;
    struct dgram_socket *victim = nullptr;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &host, int) {
        struct dgram_addr address = parse("127.0.0.1", 0);
        calls++;
        if (host == "first.test") {
            EXPECT_EQ(send_counted("first.test", &inner), 0);
            for (size_t i = 0; i < 300; i++) { /* more than are remembered */
                EXPECT_EQ(send_counted(numbered_name(i), &inner), 0);
            }
            EXPECT_EQ(dgram_close(victim), 0);
            EXPECT_EQ(dgram_loop_turn(loop, 0), DGRAM_EREENTERED);
        }
        EXPECT_EQ(host.empty(), false);
        dgram_lookup_answer(lookup, 0, &address, 60);
    };
    begin_with_hook(&hook);
    victim = open_socket(loop);
    on.attach(victim);
    ASSERT_EQ(dgram_send(victim, "x", 1, 9, "first.test", Results::take, &cancelled), 0);
    ASSERT_TRUE(run_until(loop, [&] { return closes == 1 && inner.values.size() == 301; }));
    EXPECT_EQ(inner.values, repeated(3, 301));
    EXPECT_EQ(cancelled.values.size(), 1u);
    EXPECT_EQ(calls, 301u);
}

TEST_P(NameHook, MayAnswerAfterTheLoopWasFreed)
{
    std::vector<struct dgram_lookup *> asked;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        asked.push_back(lookup);
    };
    struct dgram_loop_options options = names_options();
    options.lookup = Hook::call;
    options.lookup_user = &hook;
    struct dgram_loop *doomed = make_loop(&options);
    Results results;
    Binding binding(doomed);
    struct dgram_socket *socket = open_socket(doomed);
    for (const char *host : {"one.test", "two.test", "three.test", "four.test"}) {
        ASSERT_EQ(dgram_send(socket, "abc", 3, 9, host, Results::take, &results), 0);
    }
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    ASSERT_TRUE(run_until(doomed, [&] { return asked.size() == 5; }));
    struct dgram_addr address = parse("127.0.0.1", 0), sixth = parse("::1", 0);
    ASSERT_EQ(dgram_lookup_answer(asked[0], 0, &address, 60), 0); /* not acted upon any more */
    EXPECT_EQ(dgram_loop_free(doomed), nullptr);
    EXPECT_EQ(results.values.size(), 4u);
    EXPECT_EQ(binding.log.events.back(), "close");
    EXPECT_EQ(dgram_lookup_answer(asked[1], 0, &address, 60), 0);
    EXPECT_EQ(dgram_lookup_answer(asked[2], DGRAM_ENOTFOUND, nullptr, 0), 0);
    (void) dgram_lookup_answer(asked[3], 0, &sixth, 60);
    EXPECT_EQ(dgram_lookup_answer(asked[4], 0, nullptr, 60), DGRAM_ENULL);
    EXPECT_EQ(dgram_lookup_answer(asked[4], 0, &address, 60), 0);
    EXPECT_EQ(results.values.size(), 4u);
}

/* The loop is freed by the hook itself, before and after it answers. */
TEST_P(NameHook, MayFreeTheLoop)
{
    for (int answers : {0, 1, 2}) { /* never inside, before, after */
        SCOPED_TRACE(answers);
        struct dgram_loop *doomed = nullptr;
        std::vector<struct dgram_lookup *> late;
        Hook hook;
        hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
            struct dgram_addr address = parse("127.0.0.1", 0);
            if (answers == 0) {
                late.push_back(lookup);
            } else if (answers == 1) {
                dgram_lookup_answer(lookup, 0, &address, 60);
            }
            dgram_loop_free(doomed);
            if (answers == 2) {
                dgram_lookup_answer(lookup, 0, &address, 60);
            }
        };
        struct dgram_loop_options options = loop_options();
        options.lookup = Hook::call;
        options.lookup_user = &hook;
        doomed = make_loop(&options);
        Results results;
        struct dgram_socket *socket = open_socket(doomed);
        for (const char *host : {"one.test", "two.test"}) {
            ASSERT_EQ(dgram_send(socket, "abc", 3, port_of(target), host, Results::take, &results),
                      0);
        }
        EXPECT_EQ(dgram_loop_run(doomed), 1);
        EXPECT_EQ(results.values.size(), 2u);
        for (struct dgram_lookup *lookup : late) {
            EXPECT_EQ(dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 0), 0);
        }
    }
}

/* ---- Destinations -------------------------------------------------------------------------- */

/* A handle that is freed with the test. */
struct Destination {
    struct dgram_destination *handle = nullptr;

    Destination(struct dgram_loop *loop, uint16_t port, const char *host,
                uint32_t type = DGRAM_UDP4)
    {
        EXPECT_EQ(dgram_destination_create(loop, type, port, host, &handle), 0) << host;
    }
    ~Destination()
    {
        handle = dgram_destination_free(handle);
    }
    Destination(const Destination &) = delete;
    Destination &operator=(const Destination &) = delete;

    int send(struct dgram_socket *socket, Results *results = nullptr)
    {
        return dgram_send_dest(socket, "abc", 3, handle,
                               results != nullptr ? Results::take : nullptr, results);
    }
};

TEST_P(NameDestination, RefusesWhatIsWrong)
{
    struct dgram_destination *none = nullptr;
    EXPECT_EQ(dgram_destination_create(nullptr, DGRAM_UDP4, 9, "a.test", &none), DGRAM_ENULL);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, "a.test", nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_destination_create(loop, 5, 9, "a.test", &none), DGRAM_EBADTYPE);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 0, "a.test", &none), DGRAM_EBADPORT);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, "::1", &none), DGRAM_EBADFAMILY);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP6, 9, "127.0.0.1", &none), DGRAM_EBADFAMILY);
    EXPECT_EQ(none, nullptr);
    EXPECT_EQ(dgram_destination_free(nullptr), nullptr);

    struct dgram_addr address = {};
    Destination literal(loop, 9, "::1", DGRAM_UDP6), named(loop, 9, "host.test", DGRAM_UDP6);
    for (struct dgram_destination *handle : {literal.handle, named.handle}) {
        EXPECT_EQ(dgram_send_dest(sender, "x", 1, handle, nullptr, nullptr), DGRAM_EBADFAMILY);
        EXPECT_EQ(dgram_send_dest(nullptr, "x", 1, handle, nullptr, nullptr), DGRAM_ENULL);
    }
    EXPECT_EQ(dgram_send_dest(sender, "x", 1, nullptr, nullptr, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_address(sender, &address), DGRAM_ENOTBOUND) << "a refused send binds nothing";
    Destination fine(loop, 9, "127.0.0.1");
    EXPECT_EQ(dgram_send_dest(sender, nullptr, 1, fine.handle, nullptr, nullptr), DGRAM_ENULL);
    const std::string large(DGRAM_UDP4_SIZE_MAX + 1, 'x');
    EXPECT_EQ(dgram_send_dest(sender, large.data(), large.size(), fine.handle, nullptr, nullptr),
              -EMSGSIZE);
    ASSERT_EQ(dgram_close(sender), 0);
    EXPECT_EQ(fine.send(sender), DGRAM_ENOTRUNNING);
    EXPECT_EQ(server->asked(), 0u);
}

TEST_P(NameDestination, OfALiteralSendsThere)
{
    for (uint32_t type : socket_types()) {
        Inbox own;
        Results results;
        struct dgram_socket *peer = open_inbox(loop, &own, type), *socket = open_socket(loop, type);
        for (const char *text : {loopback(type), static_cast<const char *>(nullptr), ""}) {
            Destination destination(loop, port_of(peer), text, type);
            EXPECT_EQ(destination.send(socket, &results), 0);
            EXPECT_EQ(destination.send(socket), 0);
        }
        ASSERT_TRUE(
            run_until(loop, [&] { return own.count() == 6 && results.values.size() == 3; }));
        EXPECT_EQ(results.values, repeated(3, 3));
    }
}

TEST_P(NameDestination, LooksItsNameUpWithTheFirstSend)
{
    server->address("host.test", "127.0.0.1");
    Destination one(loop, port_of(target), "host.test"), two(loop, port_of(target), "HOST.test");
    settle(loop);
    catch_up();
    EXPECT_EQ(server->asked("host.test"), 0u);
    Results results;
    struct dgram_socket *second = open_socket(loop);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(one.send(sender, &results), 0);
        EXPECT_EQ(two.send(second, &results), 0);
        EXPECT_EQ(send_counted("host.test", &results), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 9 && inbox.count() == 10; }));
    EXPECT_EQ(one.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 11; }));
    EXPECT_EQ(results.values, repeated(3, 10));
    EXPECT_EQ(server->asked("host.test"), 1u);
}

TEST_P(NameDestination, FirstLookupThatFailsIsTold)
{
    Destination destination(loop, port_of(target), "nowhere.test");
    Results results;
    EXPECT_EQ(destination.send(sender, &results), 0);
    EXPECT_EQ(destination.send(sender), 0);
    ASSERT_TRUE(
        run_until(loop, [&] { return results.values.size() == 1 && failures.size() == 1; }));
    EXPECT_EQ(results.values[0], DGRAM_ENOTFOUND);
    EXPECT_EQ(failures[0].code, DGRAM_ENOTFOUND);
    EXPECT_EQ(failures[0].host, "nowhere.test");
    server->address("nowhere.test", "127.0.0.1");
    let_pass(loop, TTL_OVER);
    EXPECT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    EXPECT_EQ(results.values[1], 3);
}

TEST_P(NameDestination, FreedWhileSendsWait)
{
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    Results results;
    {
        Destination destination(loop, port_of(target), "host.test");
        EXPECT_EQ(destination.send(sender, &results), 0);
        EXPECT_EQ(destination.send(sender), 0);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") == 1; }));
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1 && inbox.count() == 2; }));
    EXPECT_EQ(results.values[0], 3);
}

TEST_P(NameDestination, TellsWhereItLeads)
{
    server->address("host.test", "127.0.0.1", 1);
    Destination named(loop, port_of(target), "host.test"), literal(loop, 9, "127.0.0.5");
    Destination dead(loop, 9, "nowhere.test");
    struct dgram_addr address = {};
    EXPECT_EQ(dgram_destination_address(nullptr, &address), DGRAM_ENULL);
    EXPECT_EQ(dgram_destination_address(named.handle, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_destination_address(literal.handle, &address), 0);
    EXPECT_EQ(text_of(&address) + ":" + std::to_string(dgram_addr_port(&address)), "127.0.0.5:9");
    for (int i = 0; i < 3; i++) { /* asks, once */
        EXPECT_EQ(dgram_destination_address(named.handle, &address), -EAGAIN);
        EXPECT_EQ(dgram_destination_address(dead.handle, &address), -EAGAIN);
    }
    EXPECT_EQ(dgram_addr_port(&address), 9u) << "written on success only";
    int code = 0;
    ASSERT_TRUE(run_until(loop, [&] {
        code = dgram_destination_address(named.handle, &address);
        return code != -EAGAIN;
    }));
    EXPECT_EQ(code, 0);
    const struct dgram_addr to = address_of(target);
    EXPECT_TRUE(dgram_addr_equal(&address, &to));
    ASSERT_TRUE(run_until(loop, [&] {
        code = dgram_destination_address(dead.handle, &address);
        return code != -EAGAIN;
    }));
    EXPECT_EQ(code, DGRAM_ENOTFOUND);
    EXPECT_EQ(server->asked("host.test"), 1u);

    server->address("host.test", "127.0.0.9", 60);
    let_pass(loop, TTL_OVER);
    EXPECT_EQ(dgram_destination_address(named.handle, &address), 0);
    EXPECT_EQ(text_of(&address), "127.0.0.1") << "the last good one serves meanwhile";
    ASSERT_TRUE(run_until(loop, [&] {
        return dgram_destination_address(named.handle, &address) == 0 &&
               text_of(&address) == "127.0.0.9";
    }));
}

/* After its TTL the old address serves while the new one is asked for, once. */
TEST_P(NameDestination, IsRefreshedInTheBackground)
{
    Results results;
    server->address("host.test", "127.0.0.1", 1);
    Destination destination(loop, port_of(target), "host.test");
    auto send = [&] {
        size_t before = results.values.size();
        ASSERT_EQ(destination.send(sender, &results), 0);
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == before + 1; }));
        EXPECT_EQ(results.values.back(), 3);
    };
    send();
    EXPECT_EQ(server->asked("host.test"), 1u);
    server->address("host.test", "127.0.0.9", 60);
    server->hold("host.test");
    let_pass(loop, TTL_OVER);
    for (int i = 0; i < 4; i++) {
        send(); /* though nobody answers */
    }
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 5; }));
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") == 2; }));
    server->release("host.test");
    EXPECT_EQ(result_of("host.test"), 3); /* waits for the answer */
    send();
    settle(loop);
    EXPECT_EQ(inbox.count(), 5u) << "the old address is still in use";
    EXPECT_EQ(server->asked("host.test"), 2u);
}

TEST_P(NameDestination, KeepsTheLastGoodAddressWhenARefreshFails)
{
    server->address("host.test", "127.0.0.1", 1);
    Results results;
    Destination destination(loop, port_of(target), "host.test");
    ASSERT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    let_pass(loop, TTL_OVER);
    const std::pair<dns::Rcode, int> cases[] = {{dns::NXDOMAIN, DGRAM_ENOTFOUND},
                                                {dns::SERVFAIL, DGRAM_EDNSFAILED},
                                                {dns::NOERROR, DGRAM_ENOTFOUND}};
    for (const auto &one : cases) {
        server->fail("host.test", one.first);
        ASSERT_EQ(destination.send(sender, &results), 0);
        EXPECT_EQ(result_of("host.test"), one.second); /* waits for the answer */
        ASSERT_EQ(destination.send(sender, &results), 0);
        let_pass(loop, TTL_OVER);
    }
    ASSERT_EQ(destination.send(sender), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 8; }));
    EXPECT_EQ(results.values, repeated(3, 7));
    EXPECT_EQ(failures.size(), 0u);
}

/* A handle's patience is the handle's: who sends to the name itself gets an answer that lives. */
TEST_P(NameDestination, DoesNotServeSendsToTheNameAfterItsTtl)
{
    server->address("host.test", "127.0.0.1", 1);
    Destination destination(loop, port_of(target), "host.test");
    Results results;
    ASSERT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    let_pass(loop, TTL_OVER);
    server->fail("host.test", dns::NXDOMAIN);
    EXPECT_EQ(result_of("host.test"), DGRAM_ENOTFOUND);
    EXPECT_EQ(server->asked("host.test"), 2u);
    ASSERT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    EXPECT_EQ(results.values, repeated(3, 2));
}

/* Who sends to the name waits for a new answer, and the handle's sends behind him; when there is
 * none, the handle still has its address. */
TEST_P(NameDestination, KeepsItsAddressBehindSendsThatFail)
{
    server->address("host.test", "127.0.0.1", 1);
    Destination destination(loop, port_of(target), "host.test");
    Results results, of_handle;
    ASSERT_EQ(destination.send(sender, &of_handle), 0);
    ASSERT_TRUE(run_until(loop, [&] { return of_handle.values.size() == 1; }));
    let_pass(loop, TTL_OVER);
    server->fail("host.test", dns::NXDOMAIN);
    server->hold("host.test");
    ASSERT_EQ(send_counted("host.test", &results), 0);
    ASSERT_EQ(destination.send(sender, &of_handle), 0);
    ASSERT_EQ(send_counted("host.test", &results), 0);
    ASSERT_EQ(destination.send(sender), 0);
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2 && inbox.count() == 3; }));
    EXPECT_EQ(results.values, repeated(DGRAM_ENOTFOUND, 2));
    EXPECT_EQ(of_handle.values, repeated(3, 2));
    EXPECT_EQ(failures.size(), 0u);
}

/* What others once knew of the name is no last good address of a new handle. */
TEST_P(NameDestination, DoesNotBeginWithAnExpiredAddress)
{
    server->address("host.test", "127.0.0.9", 1);
    EXPECT_EQ(result_of("host.test"), 3);
    server->address("host.test", "127.0.0.1", 60);
    let_pass(loop, TTL_OVER);
    Results results;
    Destination destination(loop, port_of(target), "host.test");
    ASSERT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    EXPECT_EQ(results.values[0], 3);
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(server->asked("host.test"), 2u);
}

/* Whole payloads and joined pieces, with callbacks and without, to handles whose names are not
 * known yet and to a literal. */
TEST_P(NameDestination, TakesPartInSendMany)
{
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    Destination named(loop, port_of(target), "host.test"), unknown(loop, 9, "nowhere.test");
    Destination literal(loop, port_of(target), "127.0.0.1"), sixth(loop, 9, "a.test", DGRAM_UDP6);
    std::string whole = "whole", head = "pie", tail = "ces";
    const struct iovec pieces[] = {{&head[0], head.size()}, {&tail[0], tail.size()}};
    struct dgram_destination *const handles[] = {named.handle, named.handle, literal.handle,
                                                 unknown.handle, sixth.handle};
    struct dgram_outgoing items[5] = {};
    for (size_t i = 0; i < 5; i++) {
        items[i].destination = handles[i];
        items[i].data = whole.data();
        items[i].size = whole.size();
    }
    items[1].pieces = pieces;
    items[1].piece_count = 2;
    Results results;
    EXPECT_EQ(dgram_send_many(sender, items, 5, Results::take, &results), 4);
    EXPECT_EQ(items[4].status, DGRAM_EBADFAMILY);
    head = tail = "###"; /* pieces are copied in the call */
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 4 && inbox.count() == 3; }));
    EXPECT_EQ(inbox.payloads, (std::vector<std::string>{"whole", "whole", "pieces"}));
    EXPECT_EQ(std::count(results.values.begin(), results.values.end(), DGRAM_ENOTFOUND), 1);
}

/* A handle whose address has expired does not keep the loop running for its sake. */
TEST_P(NameDestination, RefreshDoesNotKeepTheLoopAlive)
{
    server->address("host.test", "127.0.0.1", 1);
    Destination destination(loop, port_of(target), "host.test");
    ASSERT_EQ(destination.send(sender), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    let_pass(loop, TTL_OVER);
    server->silence("host.test");
    ASSERT_EQ(dgram_unref(sender), 0);
    ASSERT_EQ(dgram_unref(target), 0);
    ASSERT_EQ(destination.send(sender), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

/* Handles keep their names, however many others come and go. */
TEST_P(NameDestination, ManyHandlesKeepTheirNames)
{
    std::vector<std::unique_ptr<Destination>> handles;
    Results results;
    constexpr size_t count = 300, at_once = 50;
    for (size_t i = 0; i < count; i++) {
        server->address(numbered_name(i), "127.0.0.1", 3600);
        handles.emplace_back(new Destination(loop, port_of(target), numbered_name(i).c_str()));
    }
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < count; i++) {
            ASSERT_EQ(handles[i]->send(sender, &results), 0);
            if ((i + 1) % at_once == 0) {
                size_t expected = static_cast<size_t>(round) * count + i + 1;
                ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == expected; }));
            }
        }
    }
    catch_up();
    EXPECT_EQ(results.values, repeated(3, 2 * count));
    EXPECT_EQ(server->asked(), count + 1);
}

} /* namespace */
