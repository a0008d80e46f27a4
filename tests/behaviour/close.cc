/* SPDX-License-Identifier: MIT */
/*
 * close.cc: close and end: what is still called and what is not, inside of every handler, and when
 * the port is free.
 */
#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Close : public EngineTest
{
};
class CloseHost : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Close);
INSTANTIATE_ON_HOST_ENGINES(CloseHost);

int no_callback_expected = 0;

/* ---- Close --------------------------------------------------------------------------------- */

/* S5, S23 */
TEST_P(Close, IsEmittedOnceAndNotInsideTheCall)
{
    for (bool bound : {false, true}) {
        SCOPED_TRACE(bound);
        Recorder log;
        struct dgram_socket *socket = bound ? open_bound(loop) : open_socket(loop);
        Handlers on;
        on.close = [&](struct dgram_socket *which) {
            EXPECT_EQ(which, socket);
            log.add("close");
        };
        on.attach(socket);
        ASSERT_EQ(dgram_close(socket), 0);
        log.add("returned");
        EXPECT_EQ(dgram_close(socket), DGRAM_ENOTRUNNING);
        ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
        EXPECT_EQ(log.text(), "returned close");
    }
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

/* A socket being closed keeps the loop alive until `close` was emitted. */
TEST_P(Close, IsEmittedBeforeTheLoopEnds)
{
    int closes = 0;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    for (int i = 0; i < 20; i++) {
        struct dgram_socket *socket = i % 2 == 0 ? open_bound(loop) : open_socket(loop);
        on.attach(socket);
        if (i % 3 == 0) {
            EXPECT_EQ(dgram_unref(socket), 0);
        }
        ASSERT_EQ(dgram_close(socket), 0);
    }
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(closes, 20);
}

/* The handle answers until the handler of `close` has returned. */
TEST_P(Close, HandleAnswersNotRunningInsideTheCloseHandler)
{
    bool closed = false;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *which) {
        struct dgram_addr address = {};
        EXPECT_EQ(dgram_close(which), DGRAM_ENOTRUNNING);
        EXPECT_EQ(dgram_bind(which, 0, nullptr), DGRAM_ENOTRUNNING);
        EXPECT_EQ(dgram_address(which, &address), DGRAM_ENOTRUNNING);
        EXPECT_EQ(dgram_send(which, "x", 1, 9, nullptr, nullptr, nullptr), DGRAM_ENOTRUNNING);
        EXPECT_EQ(dgram_set_ttl(which, 3), DGRAM_ENOTRUNNING);
        EXPECT_EQ(dgram_get_send_queue_count(which), 0u);
        EXPECT_EQ(dgram_socket_loop(which), loop);
        closed = true;
    };
    on.attach(socket);
    ASSERT_EQ(dgram_close(socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
}

TEST_P(Close, HandlerMayStillBeSetAfterTheCall)
{
    int closes = 0;
    struct dgram_socket *socket = open_bound(loop);
    ASSERT_EQ(dgram_close(socket), 0);
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    on.error = [&](struct dgram_socket *, const struct dgram_error *) {};
    on.attach(socket);
    ASSERT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(closes, 1);
}

/* S5: whatever was on its way, no message follows, also from the middle of a train. */
TEST_P(Close, InTheMiddleOfABurstEndsTheMessages)
{
    const uint32_t slots = info_of(loop).slots;
    for (size_t stop_after : {1u, 10u, 63u}) {
        SCOPED_TRACE(stop_after);
        size_t messages = 0;
        bool closed = false;
        struct dgram_socket *sender = open_bound(loop);
        struct dgram_socket *socket = open_bound(loop);
        Handlers on;
        on.message = [&](struct dgram_socket *which, const struct dgram_message *) {
            EXPECT_FALSE(closed);
            if (++messages == stop_after) {
                EXPECT_EQ(dgram_close(which), 0);
            }
        };
        on.close = [&](struct dgram_socket *) { closed = true; };
        on.attach(socket);
        for (size_t i = 0; i < 64; i++) {
            ASSERT_EQ(send_text(sender, pattern(100, 1), address_of(socket)), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return closed; }));
        settle(loop);
        EXPECT_EQ(messages, stop_after);
        EXPECT_EQ(info_of(loop).slots_free, slots) << "slots were lost";
        close_and_wait(loop, sender);
    }
}

TEST_P(Close, InTheMiddleOfMessagesArraysEndsThem)
{
    size_t calls = 0;
    bool closed = false;
    struct dgram_socket *sender = open_bound(loop);
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.messages = [&](struct dgram_socket *which, const struct dgram_message *, size_t) {
        calls++;
        EXPECT_EQ(dgram_close(which), 0);
    };
    on.close = [&](struct dgram_socket *) { closed = true; };
    on.attach(socket);
    for (size_t i = 0; i < 64; i++) {
        ASSERT_EQ(send_text(sender, pattern(1 + i, 1), address_of(socket)), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
    settle(loop);
    EXPECT_EQ(calls, 1u);
}

/* A socket closed by another one's handler gets none of the messages of the same turn. */
TEST_P(Close, OfAnotherSocketWithMessagesWaiting)
{
    struct dgram_socket *sender = open_bound(loop);
    struct dgram_socket *sockets[2] = {open_bound(loop), open_bound(loop)};
    size_t messages[2] = {0, 0};
    int survivor = -1;
    bool closed = false;
    Handlers on[2];
    for (int i = 0; i < 2; i++) {
        on[i].message = [&, i](struct dgram_socket *, const struct dgram_message *) {
            messages[i]++;
            if (survivor < 0) {
                survivor = i;
                EXPECT_EQ(dgram_close(sockets[1 - i]), 0);
            }
        };
        on[i].close = [&](struct dgram_socket *) { closed = true; };
        on[i].attach(sockets[i]);
    }
    for (int i = 0; i < 40; i++) {
        ASSERT_EQ(send_text(sender, pattern(100, 1), address_of(sockets[i % 2])), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return closed && messages[survivor] == 20; }));
    settle(loop);
    EXPECT_EQ(messages[1 - survivor], 0u);
    EXPECT_EQ(messages[survivor], 20u);
}

/* L27: close() inside each kind of callback. */
TEST_P(Close, InsideTheListeningHandler)
{
    Recorder log;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        log.add("listening");
        EXPECT_EQ(dgram_close(which), 0);
    };
    on.message = [&](struct dgram_socket *, const struct dgram_message *) { log.add("message"); };
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(socket);
    struct dgram_socket *sender = open_socket(loop);
    ASSERT_EQ(send_text(sender, "x", address_of(socket)), 0);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    settle(loop);
    EXPECT_EQ(log.text(), "listening close");
}

TEST_P(Close, InsideTheSentCallback)
{
    Recorder log;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(socket);
    bool first = true;
    Sent sent([&](struct dgram_socket *which, int result) {
        log.add("sent");
        EXPECT_EQ(result, 5);
        if (first) {
            first = false;
            EXPECT_EQ(dgram_close(which), 0);
        }
    });
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_addr to = address_of(sink);
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(dgram_send_to(socket, "hello", 5, &to, Sent::call, &sent), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    EXPECT_EQ(log.text(), "sent sent sent sent close");
}

TEST_P(Close, InsideTheDrainHandler)
{
    Recorder log;
    struct dgram_socket *socket = open_limited(loop, 200);
    Handlers on;
    on.drain = [&](struct dgram_socket *which) {
        log.add("drain");
        EXPECT_EQ(dgram_close(which), 0);
    };
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(socket);
    struct dgram_socket *sink = open_bound(loop);
    int code = 0;
    for (int i = 0; i < 100 && code == 0; i++) {
        code = send_text(socket, pattern(100, 1), address_of(sink));
    }
    ASSERT_EQ(code, -EAGAIN);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    EXPECT_EQ(log.text(), "drain close");
}

TEST_P(Close, InsideATimerAndAPostedFunction)
{
    int closes = 0;
    struct dgram_socket *one = open_bound(loop), *two = open_bound(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    on.attach(one);
    on.attach(two);
    Tick tick([&](struct dgram_timer *) { EXPECT_EQ(dgram_close(one), 0); });
    Job job([&](struct dgram_loop *) { EXPECT_EQ(dgram_close(two), 0); });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, 0), 0);
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(closes, 2);
}

TEST_P(Close, OfAnotherSocketInsideTheCloseHandler)
{
    Recorder log;
    struct dgram_socket *first = open_bound(loop), *second = open_bound(loop);
    struct dgram_socket *third = open_bound(loop);
    Handlers on_first, on_second, on_third;
    on_first.close = [&](struct dgram_socket *) {
        log.add("first");
        EXPECT_EQ(dgram_close(second), 0);
    };
    on_second.close = [&](struct dgram_socket *) {
        log.add("second");
        EXPECT_EQ(dgram_close(third), 0);
        struct dgram_socket *fourth = open_socket(loop);
        EXPECT_EQ(dgram_close(fourth), 0);
    };
    on_third.close = [&](struct dgram_socket *) { log.add("third"); };
    on_first.attach(first);
    on_second.attach(second);
    on_third.attach(third);
    ASSERT_EQ(dgram_close(first), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(log.text(), "first second third");
}

/* S23, L28: `close` is the last event, each send has completed by then. */
TEST_P(Close, ComesAfterEverySendHasCompleted)
{
    Recorder log;
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *which) {
        log.add("close");
        EXPECT_EQ(dgram_get_send_queue_count(which), 0u);
    };
    on.attach(socket);
    Sent sent([&](struct dgram_socket *which, int result) {
        log.add("sent");
        EXPECT_TRUE(result == 3 || result == -ECANCELED) << result;
        EXPECT_EQ(dgram_send(which, "x", 1, 9, nullptr, nullptr, nullptr), DGRAM_ENOTRUNNING);
    });
    struct dgram_addr to = address_of(sink);
    for (int i = 0; i < 100; i++) {
        ASSERT_EQ(dgram_send_to(socket, "abc", 3, &to, Sent::call, &sent), 0);
    }
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_send_to(socket, "abc", 3, &to, Sent::call, &no_callback_expected),
              DGRAM_ENOTRUNNING);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    EXPECT_EQ(log.count("sent"), 100u);
    EXPECT_EQ(log.events.back(), "close");
}

/* The port is free when `close` is emitted: bound again inside the handler. */
TEST_P(CloseHost, FreesThePortBeforeItIsEmitted)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        uint16_t port = private_port(type);
        Inbox inbox;
        int code = 1;
        struct dgram_socket *first = open_socket(loop, type), *second = open_socket(loop, type);
        ASSERT_EQ(dgram_on_message(first, Inbox::take, &inbox), 0);
        ASSERT_EQ(dgram_bind(first, port, loopback(type)), 0);
        settle(loop);
        Handlers on;
        on.close = [&](struct dgram_socket *) { code = dgram_bind(second, port, loopback(type)); };
        on.attach(first);
        ASSERT_EQ(dgram_close(first), 0);
        ASSERT_TRUE(run_until(loop, [&] { return code != 1; }));
        EXPECT_EQ(code, 0) << dgram_error_name(code);
        expect_echo(loop, second);
        EXPECT_EQ(inbox.count(), 0u);
        close_and_wait(loop, second);
    }
}

/* Ten thousand times the same port, with and without receives under way. */
TEST_P(CloseHost, BindCloseBindNeverFindsThePortInUse)
{
    const int cycles = patience() > 1 ? 1000 : 10000;
    uint16_t port = private_port(DGRAM_UDP4);
    int closes = 0;
    Inbox inbox;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    for (int i = 0; i < cycles; i++) {
        struct dgram_socket *socket = nullptr;
        ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, nullptr, &socket), 0);
        ASSERT_EQ(dgram_on_close(socket, Handlers::on_close, &on), 0);
        ASSERT_EQ(dgram_on_message(socket, Inbox::take, &inbox), 0);
        ASSERT_EQ(dgram_bind(socket, port, "127.0.0.1"), 0) << "cycle " << i;
        if (i % 3 == 0) {
            ASSERT_EQ(dgram_loop_turn(loop, 0), 1);
        } else if (i % 3 == 1) {
            size_t before = inbox.count();
            ASSERT_EQ(send_text(socket, "x", address_of(socket)), 0);
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() > before; }));
        }
        ASSERT_EQ(dgram_close(socket), 0);
        ASSERT_TRUE(run_until(loop, [&] { return closes == i + 1; }));
    }
}

/* S5: a flood that goes on while the socket is closed. */
TEST_P(CloseHost, UnderAFloodEndsTheMessages)
{
    Plain peer;
    size_t messages = 0;
    bool closed = false;
    struct dgram_socket *socket = open_bound(loop);
    struct dgram_addr to = address_of(socket);
    struct dgram_socket *other = open_bound(loop);
    Handlers on;
    on.message = [&](struct dgram_socket *which, const struct dgram_message *) {
        EXPECT_FALSE(closed);
        for (int i = 0; i < 3 && messages < 50; i++) {
            peer.send("more", to);
        }
        if (++messages == 50) {
            EXPECT_EQ(dgram_close(which), 0);
        }
    };
    on.close = [&](struct dgram_socket *) { closed = true; };
    on.attach(socket);
    for (int i = 0; i < 10; i++) {
        peer.send("start", to);
    }
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
    settle(loop);
    EXPECT_EQ(messages, 50u);
    expect_echo(loop, other);
}

/* ---- dgram_end ----------------------------------------------------------------------------- */

TEST_P(Close, EndOfAnIdleSocketClosesIt)
{
    for (bool bound : {false, true}) {
        Recorder log;
        struct dgram_socket *socket = bound ? open_bound(loop) : open_socket(loop);
        Handlers on;
        on.close = [&](struct dgram_socket *) { log.add("close"); };
        on.attach(socket);
        ASSERT_EQ(dgram_end(socket), 0);
        log.add("returned");
        EXPECT_EQ(dgram_end(socket), DGRAM_ENOTRUNNING);
        ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
        EXPECT_EQ(log.text(), "returned close");
    }
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

TEST_P(Close, EndSendsWhatIsQueuedAndRefusesMore)
{
    Inbox inbox;
    Results results;
    Recorder log;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    struct dgram_socket *socket = open_socket(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *) {
        EXPECT_EQ(results.values, std::vector<int>(100, 3));
        log.add("close");
    };
    on.attach(socket);
    struct dgram_addr to = address_of(receiver);
    for (int i = 0; i < 100; i++) {
        ASSERT_EQ(dgram_send_to(socket, "abc", 3, &to, Results::take, &results), 0);
    }
    ASSERT_EQ(dgram_end(socket), 0);
    EXPECT_EQ(send_text(socket, "late", to), DGRAM_ENOTRUNNING);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1 && inbox.count() == 100; }));
    settle(loop);
    EXPECT_EQ(inbox.count(), 100u);
    EXPECT_EQ(log.text(), "close");
}

TEST_P(Close, AfterEndCutsItShort)
{
    Results results;
    int closes = 0;
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    on.attach(socket);
    struct dgram_addr to = address_of(sink);
    ASSERT_EQ(dgram_send_to(socket, "abc", 3, &to, Results::take, &results), 0);
    ASSERT_EQ(dgram_end(socket), 0);
    EXPECT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_close(socket), DGRAM_ENOTRUNNING);
    ASSERT_TRUE(run_until(loop, [&] { return closes == 1; }));
    settle(loop);
    EXPECT_EQ(closes, 1);
    EXPECT_EQ(results.values, std::vector<int>{3});
}

/* ---- Errors -------------------------------------------------------------------------------- */

/* The last word on a socket. */
TEST_P(Close, CountersAreFinalInClose)
{
    struct dgram_socket_stats last = {};
    last.size = sizeof(last);
    int code = 1;
    Handlers on;
    struct dgram_socket *sender = open_bound(loop);
    struct dgram_addr to = address_of(open_bound(loop));
    on.close = [&](struct dgram_socket *socket) { code = dgram_socket_stats(socket, &last); };
    on.attach(sender);
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(send_text(sender, "count me", to), 0);
    }
    ASSERT_EQ(dgram_close(sender), 0);
    ASSERT_TRUE(run_until(loop, [&] { return code <= 0; }));
    EXPECT_EQ(code, 0);
    EXPECT_EQ(last.sent, 10u);
    EXPECT_EQ(last.sent_bytes, 80u);
}

} /* namespace */
