/* SPDX-License-Identifier: MIT */
/*
 * socket.cc: sockets: creation, events and their handlers, ref and unref, what keeps a loop alive.
 */
#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Create : public EngineTest
{
};

class Events : public EngineTest
{
};

class Life : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Create);

INSTANTIATE_ON_ALL_ENGINES(Events);

INSTANTIATE_ON_ALL_ENGINES(Life);

/* ---- Create -------------------------------------------------------------------------------- */

/* S1 */
TEST_P(Create, RefusesUnknownTypes)
{
    for (uint32_t type : {0u, 1u, 2u, 5u, 7u, 10u, 46u, 0x104u, 0xffffffffu}) {
        SCOPED_TRACE(type);
        struct dgram_socket *const untouched = reinterpret_cast<struct dgram_socket *>(&type);
        struct dgram_socket *socket = untouched;
        EXPECT_EQ(dgram_create_socket(loop, type, nullptr, &socket), DGRAM_EBADTYPE);
        EXPECT_EQ(socket, untouched);
    }
    EXPECT_EQ(dgram_loop_turn(loop, 0), 0);
}

/* S1 */
TEST_P(Create, MakesBothTypes)
{
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        struct dgram_socket *socket = nullptr;
        ASSERT_EQ(dgram_create_socket(loop, type, nullptr, &socket), 0);
        ASSERT_NE(socket, nullptr);
        EXPECT_EQ(dgram_socket_loop(socket), loop);
        close_and_wait(loop, socket);
    }
}

TEST_P(Create, HandlerOfTheOptionsReceives)
{
    Inbox inbox;
    struct dgram_socket_options options = socket_options();
    options.on_message = Inbox::take;
    options.user = &inbox;
    struct dgram_socket *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
    options.on_message = nullptr; /* the options are not kept */
    options.user = nullptr;
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    ASSERT_EQ(send_text(socket, "to myself", address_of(socket)), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(inbox.payloads[0], "to myself");
}

/* S1, S33 */
TEST_P(Create, UnboundSocketDoesNotKeepTheLoopAlive)
{
    struct dgram_socket *socket = open_socket(loop);
    ASSERT_NE(socket, nullptr);
    EXPECT_EQ(dgram_loop_turn(loop, -1), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

TEST_P(Create, InsideACallbackWorks)
{
    Inbox inbox;
    struct dgram_socket *second = nullptr;
    struct dgram_socket *first = open_socket(loop);
    ASSERT_NE(first, nullptr);
    Handlers on;
    on.listening = [&](struct dgram_socket *) {
        second = open_inbox(loop, &inbox);
        ASSERT_NE(second, nullptr);
        EXPECT_EQ(send_text(first, "hello", address_of(second)), 0);
    };
    on.attach(first);
    ASSERT_EQ(dgram_bind(first, 0, "127.0.0.1"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(inbox.payloads[0], "hello");
}

TEST_P(Create, ManySocketsGetTheirOwnDatagrams)
{
    const size_t count = 200;
    std::vector<Inbox> inboxes(count);
    std::vector<struct dgram_socket *> sockets;
    struct dgram_socket *sender = open_socket(loop);
    for (size_t i = 0; i < count; i++) {
        sockets.push_back(open_inbox(loop, &inboxes[i]));
        ASSERT_NE(sockets[i], nullptr);
    }
    for (size_t i = 0; i < count; i++) {
        ASSERT_EQ(send_text(sender, "for " + std::to_string(i), address_of(sockets[i])), 0);
    }
    auto all = [&] {
        for (const Inbox &inbox : inboxes) {
            if (inbox.count() == 0) {
                return false;
            }
        }
        return true;
    };
    ASSERT_TRUE(run_until(loop, all));
    for (size_t i = 0; i < count; i++) {
        EXPECT_EQ(inboxes[i].payloads, std::vector<std::string>{"for " + std::to_string(i)});
    }
}

/* ---- Events -------------------------------------------------------------------------------- */

/* S4, L1 */
TEST_P(Events, ListeningComesAfterBindReturnedAndBeforeMessages)
{
    Recorder log;
    struct dgram_socket *socket = open_socket(loop);
    struct dgram_socket *sender = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        struct dgram_addr address = {};
        EXPECT_EQ(dgram_address(which, &address), 0);
        log.add("listening");
    };
    on.message = [&](struct dgram_socket *, const struct dgram_message *) { log.add("message"); };
    on.attach(socket);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    log.add("returned");
    ASSERT_EQ(send_text(sender, "x", address_of(socket)), 0);
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    log.add("flushed");
    ASSERT_TRUE(run_until(loop, [&] { return log.count("message") == 1; }));
    EXPECT_EQ(log.text(), "returned flushed listening message");
}

/* S4 */
TEST_P(Events, ListeningReachesAHandlerThatWasSetAfterBind)
{
    struct dgram_socket *socket = open_bound(loop);
    int listenings = 0;
    Handlers on;
    on.listening = [&](struct dgram_socket *) { listenings++; };
    on.attach(socket);
    ASSERT_TRUE(run_until(loop, [&] { return listenings == 1; }));
    settle(loop);
    EXPECT_EQ(listenings, 1);
}

TEST_P(Events, BindInsideACallbackEmitsListeningLater)
{
    Recorder log;
    struct dgram_socket *second = open_socket(loop);
    Handlers on_second;
    on_second.listening = [&](struct dgram_socket *) { log.add("second"); };
    on_second.attach(second);
    struct dgram_socket *first = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *) {
        log.add("first");
        EXPECT_EQ(dgram_bind(second, 0, "127.0.0.1"), 0);
        log.add("bound");
    };
    on.attach(first);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("second") == 1; }));
    EXPECT_EQ(log.text(), "first bound second");
}

/* S2: replaced in the middle of a burst that the kernel hands over as a whole. */
TEST_P(Events, MessageHandlerMayBeReplacedInsideItself)
{
    const size_t count = 64;
    std::vector<std::string> first, second;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on_first, on_second;
    on_second.message = [&](struct dgram_socket *, const struct dgram_message *message) {
        second.push_back(payload_of(message));
    };
    on_first.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        first.push_back(payload_of(message));
        if (first.size() == 10) {
            on_second.attach(which);
        }
    };
    on_first.attach(socket);
    std::vector<std::string> sent;
    for (size_t i = 0; i < count; i++) {
        sent.push_back(std::to_string(1000 + i));
        ASSERT_EQ(send_text(socket, sent[i], address_of(socket)), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return first.size() + second.size() == count; }));
    EXPECT_EQ(first, std::vector<std::string>(sent.begin(), sent.begin() + 10));
    EXPECT_EQ(second, std::vector<std::string>(sent.begin() + 10, sent.end()));
}

/* S2 */
TEST_P(Events, EveryHandlerMayBeReplacedInsideItself)
{
    Recorder log;
    struct dgram_socket *socket = open_limited(loop, 200);
    Handlers first, second;
    second.listening = [&](struct dgram_socket *) { log.add("listening-2"); };
    first.listening = [&](struct dgram_socket *which) {
        log.add("listening");
        EXPECT_EQ(dgram_on_listening(which, Handlers::on_listening, &second), 0);
    };
    second.drain = [&](struct dgram_socket *) { log.add("drain-2"); };
    first.drain = [&](struct dgram_socket *which) {
        log.add("drain");
        EXPECT_EQ(dgram_on_drain(which, Handlers::on_drain, &second), 0);
    };
    second.close = [&](struct dgram_socket *) { log.add("close-2"); };
    first.close = [&](struct dgram_socket *which) {
        log.add("close");
        EXPECT_EQ(dgram_on_close(which, Handlers::on_close, &second), DGRAM_ENOTRUNNING);
    };
    first.attach(socket);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    struct dgram_addr to = address_of(socket);
    for (size_t round = 1; round <= 2; round++) {
        int code = 0;
        for (int i = 0; i < 100 && code == 0; i++) {
            code = send_text(socket, pattern(100, 1), to);
        }
        ASSERT_EQ(code, -EAGAIN);
        const std::string event = round == 1 ? "drain" : "drain-2";
        ASSERT_TRUE(run_until(loop, [&] { return log.count(event) == 1; }));
    }
    ASSERT_EQ(dgram_close(socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    settle(loop);
    EXPECT_EQ(log.text(), "listening drain drain-2 close");
}

TEST_P(Events, UserPointersAreThoseOfEachHandler)
{
    int one = 0, two = 0;
    struct dgram_socket *socket = open_socket(loop);
    auto count = [](struct dgram_socket *, void *user) {
        if (!muted()) {
            ++*static_cast<int *>(user);
        }
    };
    ASSERT_EQ(dgram_on_listening(socket, count, &one), 0);
    ASSERT_EQ(dgram_on_close(socket, count, &two), 0);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return one == 1; }));
    EXPECT_EQ(two, 0);
    ASSERT_EQ(dgram_close(socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return two == 1; }));
    EXPECT_EQ(one, 1);
}

TEST_P(Events, WithoutHandlersNothingIsNeeded)
{
    struct dgram_socket *socket = open_bound(loop);
    ASSERT_EQ(send_text(socket, "unheard", address_of(socket)), 0);
    settle(loop);
    EXPECT_EQ(stats_of(socket).sent, 1u);
    ASSERT_EQ(dgram_close(socket), 0);
    ASSERT_EQ(dgram_loop_run(loop), 0);
}

/* ---- Ref, unref, liveness ------------------------------------------------------------------ */

/* S33: also without a message handler. */
TEST_P(Life, BoundSocketKeepsTheLoopAlive)
{
    struct dgram_socket *socket = open_bound(loop);
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(dgram_loop_turn(loop, 0), 1);
    }
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(dgram_loop_turn(loop, -1), 0);
}

/* S33, L37 */
TEST_P(Life, UnrefLetsTheLoopEndAndRefKeepsIt)
{
    struct dgram_socket *socket = open_socket(loop);
    EXPECT_EQ(dgram_unref(socket), 0); /* valid before bind, idempotent */
    EXPECT_EQ(dgram_unref(socket), 0);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(dgram_ref(socket), 0);
    EXPECT_EQ(dgram_ref(socket), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 1);
    EXPECT_EQ(dgram_unref(socket), 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 0);
    expect_echo(loop, socket);
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

/* L37: sends under way keep the loop running all the same. */
TEST_P(Life, AcceptedSendKeepsTheLoopOfAnUnrefdSocketAlive)
{
    Results results;
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    ASSERT_EQ(dgram_unref(sink), 0);
    ASSERT_EQ(dgram_unref(socket), 0);
    struct dgram_addr to = address_of(sink);
    ASSERT_EQ(dgram_send_to(socket, "abc", 3, &to, Results::take, &results), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(results.values, std::vector<int>{3});
}

TEST_P(Life, UnrefInsideACallbackEndsTheRun)
{
    int listenings = 0;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        listenings++;
        EXPECT_EQ(dgram_unref(which), 0);
    };
    on.attach(socket);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(listenings, 1);
}

TEST_P(Life, EmptyLoopEndsAtOnce)
{
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(dgram_loop_turn(loop, -1), 0);
    EXPECT_EQ(dgram_loop_turn(loop, HOUR), 0);
    EXPECT_EQ(dgram_loop_flush(loop), 0);
}

/* An unref'd socket receives while something else keeps the loop running. */
TEST_P(Life, UnrefdSocketStillReceives)
{
    Inbox inbox;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    ASSERT_EQ(dgram_unref(socket), 0);
    struct dgram_socket *sender = open_bound(loop);
    ASSERT_EQ(send_text(sender, "x", address_of(socket)), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
}

} /* namespace */
