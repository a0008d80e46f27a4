/* SPDX-License-Identifier: MIT */
/*
 * errors.cc: error events: which failures are one, what they say, and that none is told late.
 */
#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Errors : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Errors);

/* ---- Errors -------------------------------------------------------------------------------- */

/* S6, L48 */
TEST_P(Errors, FailedSendWithoutCallbackIsAnErrorEvent)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    Recorder log;
    struct dgram_addr to = refused_address();
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.error = [&](struct dgram_socket *which, const struct dgram_error *error) {
        EXPECT_EQ(which, socket);
        EXPECT_EQ(error->code, -EACCES);
        EXPECT_STREQ(error->operation, "send");
        ASSERT_NE(error->address, nullptr);
        EXPECT_TRUE(dgram_addr_equal(error->address, &to)) << text_of(error->address);
        EXPECT_EQ(error->host, nullptr);
        EXPECT_GE(error->size, sizeof(struct dgram_error));
        log.add("error");
    };
    on.attach(socket);
    ASSERT_EQ(send_text(socket, "x", to), 0);
    log.add("returned");
    ASSERT_TRUE(run_until(loop, [&] { return log.count("error") == 1; }));
    settle(loop);
    EXPECT_EQ(log.text(), "returned error");
    EXPECT_EQ(stats_of(socket).send_errors, 1u);
    EXPECT_EQ(stats_of(socket).errors_lost, 0u);
    EXPECT_EQ(stats_of(socket).sent, 0u);
    expect_echo(loop, socket); /* usable after it */
}

/* S16: with a callback, the callback and nothing else. */
TEST_P(Errors, FailedSendWithCallbackIsNoErrorEvent)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    int errors = 0;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.error = [&](struct dgram_socket *, const struct dgram_error *) { errors++; };
    on.attach(socket);
    EXPECT_EQ(send_and_wait(loop, socket, "x", refused_address()), -EACCES);
    settle(loop);
    EXPECT_EQ(errors, 0);
    EXPECT_EQ(stats_of(socket).send_errors, 1u);
    EXPECT_EQ(stats_of(socket).errors_lost, 0u);
    expect_echo(loop, socket);
}

TEST_P(Errors, WithoutHandlerAreCounted)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    struct dgram_socket *socket = open_bound(loop);
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(send_text(socket, "x", refused_address()), 0);
    }
    settle(loop);
    EXPECT_EQ(stats_of(socket).send_errors, 10u);
    EXPECT_EQ(stats_of(socket).errors_lost, 10u);
    expect_echo(loop, socket);
}

/* 1,024 may wait; what comes above that is counted only. None is lost without a trace. */
TEST_P(Errors, AboveTheLimitAreCountedOnly)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    const uint64_t count = 3000;
    uint64_t errors = 0;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.error = [&](struct dgram_socket *, const struct dgram_error *) { errors++; };
    on.attach(socket);
    for (uint64_t i = 0; i < count; i++) {
        ASSERT_EQ(send_text(socket, "x", refused_address()), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return errors + stats_of(socket).errors_lost == count; }));
    EXPECT_GE(errors, 1024u);
    EXPECT_EQ(stats_of(socket).send_errors, count);
    expect_echo(loop, socket);
}

/* L27 */
TEST_P(Errors, SocketMayBeClosedInTheErrorHandler)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    Recorder log;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.error = [&](struct dgram_socket *which, const struct dgram_error *) {
        log.add("error");
        dgram_close(which);
    };
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(socket);
    ASSERT_EQ(send_text(socket, "x", refused_address()), 0);
    ASSERT_EQ(send_text(socket, "yy", refused_address()), 0);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    EXPECT_EQ(log.events.front(), "error");
    EXPECT_EQ(log.events.back(), "close");
    EXPECT_LE(log.count("error"), 2u);
}

TEST_P(Errors, HandlerMayBeReplacedInsideItself)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    Recorder log;
    struct dgram_socket *socket = open_bound(loop);
    Handlers first, second;
    second.error = [&](struct dgram_socket *, const struct dgram_error *) { log.add("second"); };
    first.error = [&](struct dgram_socket *which, const struct dgram_error *) {
        log.add("first");
        second.attach(which);
    };
    first.attach(socket);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(send_text(socket, "x", refused_address()), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return log.events.size() == 3; }));
    EXPECT_EQ(log.text(), "first second second");
}

/* ---- The loop slept ------------------------------------------------------------------------ */

/* Two sizes to one peer are two sends, of which the second depends on the first. When that one is
 * refused while it is being submitted, nothing else would end the sleep. */
TEST_P(Errors, RefusedChainIsToldAtOnce)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    std::vector<int> codes;
    const struct dgram_addr to = refused_address();
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        EXPECT_EQ(send_text(which, std::string(10, 'a'), to), 0);
        EXPECT_EQ(send_text(which, std::string(20, 'b'), to), 0);
    };
    on.error = [&](struct dgram_socket *, const struct dgram_error *error) {
        EXPECT_STREQ(error->operation, "send");
        codes.push_back(error->code);
        if (codes.size() == 2) {
            dgram_loop_stop(loop);
        }
    };
    on.attach(socket);
    run_awake(loop);
    EXPECT_EQ(codes, (std::vector<int>{-EACCES, -EACCES}));
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
}

} /* namespace */
