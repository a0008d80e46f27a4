/* SPDX-License-Identifier: MIT */
/*
 * names_bind.cc: binds to host names, and what waits for them.
 */
#include "tests/support/names.h"

using namespace names;

namespace
{

class NameBind : public NamesTest
{
};

INSTANTIATE_ON_HOST_ENGINES(NameBind);

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

} /* namespace */
