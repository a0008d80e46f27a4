/* SPDX-License-Identifier: MIT */
/*
 * behaviour_waiting.cc: sends that wait, and whom they do not keep waiting: for a name that nobody
 * answers, for the `listening` handler; and what is sent on from a `message` handler, which has
 * ended long before the send has. At the end, numbers that are no ports, and addresses that were
 * chosen to meet in one bucket.
 */
#include <algorithm>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/support/harness.h"

extern "C" {
#include "src/net/peer.h"
}

using namespace harness;

namespace
{

/* The program's resolver: it answers when the test does. */
struct Questions {
    std::vector<std::pair<std::string, struct dgram_lookup *>> open;

    static void ask(struct dgram_loop *, struct dgram_lookup *lookup, const char *host, int,
                    void *user)
    {
        if (muted()) {
            dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 0);
        } else {
            static_cast<Questions *>(user)->open.emplace_back(host, lookup);
        }
    }
    bool answer(const std::string &host, const struct dgram_addr *address)
    {
        for (auto each = open.begin(); each != open.end(); ++each) {
            if (each->first == host) {
                struct dgram_lookup *lookup = each->second;
                open.erase(each);
                dgram_lookup_answer(lookup, address != nullptr ? 0 : DGRAM_EDNSTIMEOUT, address,
                                    60);
                return true;
            }
        }
        return false;
    }
};

class Waiting : public EngineTest
{
  protected:
    void SetUp() override
    {
        EngineTest::SetUp();
        if (!IsSkipped()) {
            struct dgram_loop_options options = loop_options();
            options.lookup = Questions::ask;
            options.lookup_user = &questions;
            remake_loop(options);
        }
    }
    void TearDown() override
    {
        for (const auto &each : questions.open) {
            dgram_lookup_answer(each.second, DGRAM_ENOTFOUND, nullptr, 0);
        }
        questions.open.clear();
        EngineTest::TearDown();
    }

    Questions questions;
};

class Fair : public Waiting
{
};
class Listening : public Waiting
{
};
class Relay : public Waiting
{
};

INSTANTIATE_ON_ALL_ENGINES(Fair);
INSTANTIATE_ON_ALL_ENGINES(Listening);
INSTANTIATE_ON_ALL_ENGINES(Relay);

/* ---- Names that nobody answers ------------------------------------------------------------- */

/* Reports to a name whose server is silent, from one socket and from many, and beside them one to
 * an address from the first of these sockets, and from another that knows no names. */
TEST_P(Fair, DeadNamesRefuseNobodyElse)
{
    for (unsigned count : {1u, 4u, 8u}) {
        SCOPED_TRACE(count);
        const std::string report(1000, 'r');
        Inbox inbox;
        struct dgram_socket *sink = open_inbox(loop, &inbox), *other = open_bound(loop);
        const struct dgram_addr to = address_of(sink);
        std::vector<struct dgram_socket *> sockets(count);
        unsigned refused = 0;
        for (struct dgram_socket *&socket : sockets) {
            socket = open_bound(loop);
        }
        for (unsigned tick = 0; tick < 100; tick++) {
            for (struct dgram_socket *socket : sockets) {
                for (int i = 0; i < 50; i++) {
                    refused += dgram_send(socket, report.data(), report.size(), 9, "dead.test",
                                          nullptr, nullptr) == -EAGAIN;
                }
            }
            ASSERT_EQ(send_text(sockets[0], "literal", to), 0) << tick;
            ASSERT_EQ(send_text(other, "other", to), 0) << tick;
            ASSERT_GE(dgram_loop_turn(loop, 0), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 200; }));
        EXPECT_GT(refused, 0u) << "what waits has no bound";
        for (struct dgram_socket *socket : sockets) {
            close_and_wait(loop, socket);
        }
        close_and_wait(loop, sink);
        close_and_wait(loop, other);
    }
}

/* Sockets that hold nothing for a name are refused since others hold so much: they are told when
 * that has changed, and not in each turn. */
TEST_P(Fair, DrainIsNotPromisedForWhatOthersHold)
{
    const std::string report(1000, 'r');
    struct dgram_socket *sockets[10];
    unsigned drains = 0, refused = 0;
    Handlers on;
    on.drain = [&](struct dgram_socket *) { drains++; };
    for (struct dgram_socket *&socket : sockets) {
        socket = open_bound(loop);
        on.attach(socket);
        int code = 0;
        for (int i = 0; i < 5000 && code == 0; i++) {
            code =
                dgram_send(socket, report.data(), report.size(), 9, "dead.test", nullptr, nullptr);
        }
        ASSERT_EQ(code, -EAGAIN);
        refused++;
    }
    for (int i = 0; i < 20; i++) {
        ASSERT_GE(dgram_loop_turn(loop, 0), 0);
    }
    EXPECT_EQ(drains, 0u) << "and each send would be refused again";
    ASSERT_TRUE(questions.answer("dead.test", nullptr));
    ASSERT_TRUE(run_until(loop, [&] { return drains == refused; }));
    for (struct dgram_socket *socket : sockets) {
        close_and_wait(loop, socket);
    }
}

/* A dead name has all that it may have, and a name that will be known soon has a place. */
TEST_P(Fair, ANameHasAPlaceBesideADeadOne)
{
    const std::string report(1000, 'r');
    Inbox inbox;
    struct dgram_socket *sink = open_inbox(loop, &inbox), *socket = open_bound(loop);
    const struct dgram_addr to = address_of(sink);
    auto send = [&](const char *host, const std::string &payload) {
        return dgram_send(socket, payload.data(), payload.size(), dgram_addr_port(&to), host,
                          nullptr, nullptr);
    };
    while (send("dead.test", report) == 0) {
    }
    for (unsigned i = 0; i < 20; i++) {
        ASSERT_EQ(send("alive.test", numbered(i)), 0) << i;
    }
    settle(loop);
    ASSERT_TRUE(questions.answer("alive.test", &to));
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 20; }));
    for (unsigned i = 0; i < 20; i++) {
        EXPECT_EQ(inbox.payloads[i], numbered(i));
    }
}

/* `drain` tells that a name that refused a send has room again, though another stays dead. */
TEST_P(Fair, DrainComesWhenTheNameHasRoomAgain)
{
    const std::string report(1000, 'r');
    int drains = 0;
    Handlers on;
    on.drain = [&](struct dgram_socket *) { drains++; };
    struct dgram_socket *socket = open_bound(loop);
    on.attach(socket);
    auto fill = [&](const char *host) {
        while (dgram_send(socket, report.data(), report.size(), 9, host, nullptr, nullptr) == 0) {
        }
    };
    fill("dead.test");
    fill("other.test");
    settle(loop);
    EXPECT_EQ(drains, 0);
    ASSERT_TRUE(questions.answer("other.test", nullptr));
    ASSERT_TRUE(run_until(loop, [&] { return drains > 0; }));
    settle(loop);
    EXPECT_EQ(drains, 1);
    EXPECT_EQ(dgram_send(socket, "x", 1, 9, "third.test", nullptr, nullptr), 0);
    ASSERT_TRUE(questions.answer("dead.test", nullptr));
    ASSERT_TRUE(run_until(loop, [&] { return drains > 1; }));
    settle(loop);
    EXPECT_EQ(drains, 2);
}

/* ---- `listening` comes before the first datagram ------------------------------------------- */

/* How a socket comes to be bound. */
enum class How { EXPLICIT, IMPLICIT, NAMED };

/* Sends before, in and after the handler leave in this order, and none before it is called. */
TEST_P(Listening, ComesBeforeTheFirstDatagram)
{
    for (How how : {How::EXPLICIT, How::IMPLICIT, How::NAMED}) {
        SCOPED_TRACE(static_cast<int>(how));
        Inbox inbox;
        const struct dgram_addr to = address_of(open_inbox(loop, &inbox)),
                                any = parse("0.0.0.0", 0);
        struct dgram_socket *socket = open_socket(loop);
        bool called = false;
        Results results;
        std::vector<std::string> payloads;
        Handlers on;
        for (unsigned i = 0; i <= 10; i++) {
            payloads.push_back(numbered(i));
        }
        on.listening = [&](struct dgram_socket *which) {
            called = true;
            EXPECT_EQ(stats_of(which).sent, 0u);
            EXPECT_EQ(send_text(which, payloads[10], to), 0);
            EXPECT_EQ(dgram_on_listening(which, nullptr, nullptr), 0);
        };
        on.attach(socket);
        if (how != How::IMPLICIT) {
            ASSERT_EQ(dgram_bind(socket, 0, how == How::NAMED ? "self.test" : nullptr), 0);
        }
        for (unsigned i = 0; i < 10; i++) {
            ASSERT_EQ(dgram_send_to(socket, payloads[i].data(), payloads[i].size(), &to,
                                    i % 3 == 0 ? Results::take : nullptr, &results),
                      0);
        }
        ASSERT_EQ(dgram_loop_flush(loop), 0);
        EXPECT_EQ(stats_of(socket).sent, 0u) << "before the handler was called";
        if (how == How::NAMED) {
            ASSERT_TRUE(run_until(loop, [&] { return questions.answer("self.test", &any); }));
        }
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 11; }));
        EXPECT_EQ(inbox.payloads, payloads);
        EXPECT_TRUE(called);
        EXPECT_EQ(stats_of(socket).parked, 0u) << "that is for want of room";
        close_and_wait(loop, socket);
    }
}

/* The end of a socket waits for the handler if a send does, and delivers all the same. */
TEST_P(Listening, ComesBeforeTheEnd)
{
    std::vector<std::string> events;
    Inbox inbox;
    struct dgram_socket *socket = open_bound(loop), *other = open_bound(loop);
    const struct dgram_addr to = address_of(open_inbox(loop, &inbox)), here = address_of(socket);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        events.push_back("listening");
        EXPECT_EQ(stats_of(which).sent, 0u);
    };
    on.message = [&](struct dgram_socket *, const struct dgram_message *) {
        events.push_back("message");
    };
    on.close = [&](struct dgram_socket *which) {
        events.push_back("close");
        EXPECT_EQ(stats_of(which).sent, 1u);
        EXPECT_EQ(stats_of(which).discarded, 0u);
    };
    on.attach(socket);
    ASSERT_EQ(send_text(other, "in", here), 0);
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    ASSERT_EQ(send_text(socket, "out", to), 0);
    ASSERT_EQ(dgram_end(socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return !events.empty() && events.back() == "close"; }));
    EXPECT_EQ(events, (std::vector<std::string>{"listening", "message", "close"}));
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
}

/* Though it is set when datagrams have been accepted already, by the fast way too. */
TEST_P(Listening, MayBeSetAfterTheFirstSends)
{
    Inbox inbox;
    const struct dgram_addr to = address_of(open_inbox(loop, &inbox));
    struct dgram_socket *socket = open_socket(loop);
    for (unsigned i = 0; i < 5; i++) {
        ASSERT_EQ(send_text(socket, numbered(i), to), 0);
    }
    bool called = false;
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        called = true;
        EXPECT_EQ(stats_of(which).sent, 0u);
    };
    on.attach(socket);
    for (unsigned i = 5; i < 10; i++) {
        ASSERT_EQ(send_text(socket, numbered(i), to), 0);
    }
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    for (unsigned i = 10; i < 12; i++) {
        ASSERT_EQ(send_text(socket, numbered(i), to), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 12; }));
    EXPECT_TRUE(called);
    for (unsigned i = 0; i < 12; i++) {
        EXPECT_EQ(inbox.payloads[i], numbered(i));
    }
}

/* Nothing waits for nobody: no handler, one that was called, one that was taken away. */
TEST_P(Listening, IsNotWaitedForWithoutAHandler)
{
    Inbox inbox;
    const struct dgram_addr to = address_of(open_inbox(loop, &inbox));
    struct dgram_socket *none = open_socket(loop), *removed = open_socket(loop);
    ASSERT_EQ(send_text(none, "none", to), 0);
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    EXPECT_EQ(stats_of(none).sent, 1u);
    Handlers on;
    on.listening = [](struct dgram_socket *) { ADD_FAILURE() << "it was taken away"; };
    on.attach(removed);
    ASSERT_EQ(send_text(removed, "removed", to), 0);
    ASSERT_EQ(dgram_on_listening(removed, nullptr, nullptr), 0);
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    EXPECT_EQ(stats_of(removed).sent, 1u);
    bool called = false;
    on.listening = [&](struct dgram_socket *) { called = true; };
    struct dgram_socket *told = open_socket(loop);
    on.attach(told);
    ASSERT_EQ(dgram_bind(told, 0, nullptr), 0);
    ASSERT_TRUE(run_until(loop, [&] { return called; }));
    ASSERT_EQ(send_text(told, "told", to), 0);
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    EXPECT_EQ(stats_of(told).sent, 1u);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 3; }));
}

/* What waits has its one attempt when the socket closes: before, or in the handler; and an end
 * waits for all of it. */
TEST_P(Listening, LosesNothingWhenTheSocketCloses)
{
    enum class End { CLOSE, END, CLOSE_IN_HANDLER, END_IN_HANDLER };
    for (End end : {End::CLOSE, End::END, End::CLOSE_IN_HANDLER, End::END_IN_HANDLER}) {
        for (bool flushes : {false, true}) {
            SCOPED_TRACE(static_cast<int>(end) * 2 + flushes);
            Inbox inbox;
            Results results;
            bool called = false, closed = false;
            const struct dgram_addr to = address_of(open_inbox(loop, &inbox));
            struct dgram_socket *socket = open_socket(loop);
            Handlers on;
            on.listening = [&](struct dgram_socket *which) {
                called = true;
                if (end >= End::CLOSE_IN_HANDLER) {
                    EXPECT_EQ(end == End::CLOSE_IN_HANDLER ? dgram_close(which) : dgram_end(which),
                              0);
                }
            };
            on.close = [&](struct dgram_socket *) { closed = true; };
            on.attach(socket);
            for (int i = 0; i < 3; i++) {
                ASSERT_EQ(dgram_send_to(socket, "three", 5, &to, Results::take, &results), 0);
            }
            if (flushes) {
                ASSERT_EQ(dgram_loop_flush(loop), 0);
            }
            if (end < End::CLOSE_IN_HANDLER) {
                ASSERT_EQ(end == End::CLOSE ? dgram_close(socket) : dgram_end(socket), 0);
            }
            ASSERT_TRUE(run_until(loop, [&] { return closed && inbox.count() == 3; }));
            EXPECT_EQ(results.values, std::vector<int>(3, 5));
            EXPECT_EQ(called, end != End::CLOSE);
        }
    }
}

/* Options of the handler hold for the first send: a broadcast was EACCES. */
class ListeningHost : public EngineTest
{
};
INSTANTIATE_ON_HOST_ENGINES(ListeningHost);

TEST_P(ListeningHost, AllowsTheFirstBroadcast)
{
    Results results;
    struct dgram_socket *socket = open_socket(loop);
    const struct dgram_addr everybody = parse("127.255.255.255", 9);
    Handlers on;
    on.listening = [](struct dgram_socket *which) {
        EXPECT_EQ(dgram_set_broadcast(which, true), 0);
    };
    on.attach(socket);
    ASSERT_EQ(dgram_send_to(socket, "x", 1, &everybody, Results::take, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    EXPECT_EQ(results.values, std::vector<int>{1});
}

/* The same for one that a timer sends: it lies in the submission when the handler is called. */
TEST_P(ListeningHost, AllowsTheFirstBroadcastOfATimer)
{
    Results results;
    struct dgram_socket *socket = open_socket(loop);
    const struct dgram_addr everybody = parse("127.255.255.255", 9);
    Handlers on;
    on.listening = [](struct dgram_socket *which) {
        EXPECT_EQ(dgram_set_broadcast(which, true), 0);
    };
    on.attach(socket);
    Tick tick([&](struct dgram_timer *) {
        EXPECT_EQ(dgram_send_to(socket, "x", 1, &everybody, Results::take, &results), 0);
    });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, 0, 0), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    EXPECT_EQ(results.values, std::vector<int>{1});
    dgram_timer_free(timer);
}

/* ---- What is sent on from a handler -------------------------------------------------------- */

enum class Way { SEND, SEND_TO, DESTINATION, MANY };

/* The messages of two bursts, sent on to a name with a callback, by each way: the first wait for
 * the name while the second come, into the same memory. Held back while paused, too. */
TEST_P(Relay, SendsOnWhatTheMessageWas)
{
    constexpr unsigned COUNT = 12;
    for (bool paused : {false, true}) {
        for (Way way : {Way::SEND, Way::DESTINATION, Way::MANY}) {
            SCOPED_TRACE(static_cast<int>(way) * 2 + paused);
            Inbox inbox;
            Results results;
            std::vector<int> codes;
            struct dgram_loop_options options = loop_options();
            options.lookup = Questions::ask;
            options.lookup_user = &questions;
            options.slots = 4;
            remake_loop(options);
            struct dgram_socket *sink = open_inbox(loop, &inbox), *relay = open_bound(loop);
            struct dgram_socket *source = open_bound(loop);
            const struct dgram_addr to = address_of(sink), between = address_of(relay);
            const uint16_t port = dgram_addr_port(&to);
            struct dgram_destination *next = nullptr;
            ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP4, port, "next.test", &next), 0);
            unsigned relayed = 0;
            Handlers on;
            on.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
                struct dgram_outgoing item = {};
                item.data = message->data;
                item.size = message->size;
                item.destination = next;
                relayed++;
                if (way == Way::SEND) {
                    EXPECT_EQ(dgram_send(which, message->data, message->size, port, "next.test",
                                         Results::take, &results),
                              0);
                } else if (way == Way::DESTINATION) {
                    EXPECT_EQ(dgram_send_dest(which, message->data, message->size, next,
                                              Results::take, &results),
                              0);
                } else {
                    EXPECT_EQ(dgram_send_many(which, &item, 1, Results::take, &results), 1);
                }
                if (paused && relayed == 1) {
                    EXPECT_EQ(dgram_pause(which), 0); /* the rest of the train is held back */
                }
            };
            on.attach(relay);
            for (unsigned burst = 0; burst < 3; burst++) {
                for (unsigned i = 0; i < COUNT; i++) {
                    ASSERT_EQ(send_text(source, numbered(burst * COUNT + i, 2500), between), 0);
                }
                ASSERT_TRUE(run_until(loop, [&] { return relayed > burst * COUNT; }));
                settle(loop);
                ASSERT_EQ(dgram_resume(relay), 0);
                ASSERT_TRUE(run_until(loop, [&] { return relayed == (burst + 1) * COUNT; }));
            }
            ASSERT_TRUE(questions.answer("next.test", &to));
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 3 * COUNT; }));
            for (unsigned i = 0; i < 3 * COUNT; i++) {
                EXPECT_EQ(inbox.payloads[i], numbered(i, 2500)) << i;
            }
            ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 3 * COUNT; }));
            dgram_destination_free(next);
        }
    }
}

/* An array of datagrams that were held back, each in a copy of its own. */
TEST_P(Relay, SendsOnAnArrayOfWhatWasHeldBack)
{
    constexpr unsigned COUNT = 12, BURSTS = 3;
    Inbox inbox;
    Results results;
    struct dgram_socket_options lone = {};
    lone.size = sizeof(lone);
    lone.segments_max = 1;
    struct dgram_socket *sink = open_inbox(loop, &inbox), *relay = open_bound(loop);
    struct dgram_socket *source = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &lone, &source), 0);
    const struct dgram_addr to = address_of(sink), between = address_of(relay);
    const uint16_t port = dgram_addr_port(&to);
    unsigned relayed = 0;
    size_t longest = 0;
    auto send_on = [&](struct dgram_socket *which, const struct dgram_message &message) {
        relayed++;
        EXPECT_EQ(dgram_send(which, message.data, message.size, port, "next.test", Results::take,
                             &results),
                  0);
    };
    Handlers on;
    on.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        send_on(which, *message);
        EXPECT_EQ(dgram_pause(which), 0); /* those that came with it are held back */
    };
    on.messages = [&](struct dgram_socket *which, const struct dgram_message *messages,
                      size_t count) {
        longest = std::max(longest, count);
        for (size_t i = 0; i < count; i++) {
            send_on(which, messages[i]);
        }
    };
    for (unsigned burst = 0; burst < BURSTS; burst++) {
        ASSERT_EQ(dgram_on_messages(relay, nullptr, nullptr), 0);
        ASSERT_EQ(dgram_on_message(relay, Handlers::on_message, &on), 0);
        for (unsigned i = 0; i < COUNT; i++) {
            ASSERT_EQ(send_text(source, numbered(burst * COUNT + i, 2500), between), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return relayed > burst * COUNT; }));
        settle(loop);
        EXPECT_EQ(relayed, burst * COUNT + 1);
        ASSERT_EQ(dgram_on_messages(relay, Handlers::on_messages, &on), 0);
        ASSERT_EQ(dgram_resume(relay), 0);
        ASSERT_TRUE(run_until(loop, [&] { return relayed == (burst + 1) * COUNT; }));
    }
    EXPECT_GT(longest, 1u);
    ASSERT_TRUE(questions.answer("next.test", &to));
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == BURSTS * COUNT; }));
    for (unsigned i = 0; i < BURSTS * COUNT; i++) {
        EXPECT_EQ(inbox.payloads[i], numbered(i, 2500)) << i;
    }
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == BURSTS * COUNT; }));
}

/* ---- Ports --------------------------------------------------------------------------------- */

/* 65,616 is not port 80, nor is -65,456. */
TEST_P(Waiting, NumbersAbove65535AreNoPorts)
{
    for (uint32_t port : {65616u, 65536u, UINT32_MAX, static_cast<uint32_t>(-65456)}) {
        SCOPED_TRACE(port);
        struct dgram_addr address = {};
        struct dgram_destination *destination = nullptr;
        struct dgram_socket *socket = open_socket(loop);
        EXPECT_EQ(dgram_addr_parse("127.0.0.1", port, &address), DGRAM_EBADPORT);
        EXPECT_EQ(dgram_addr_parse("::1", port, &address), DGRAM_EBADPORT);
        EXPECT_EQ(address.size, 0u);
        for (const char *host : {"127.0.0.1", "host.test", ""}) {
            EXPECT_EQ(dgram_bind(socket, port, host), DGRAM_EBADPORT);
            EXPECT_EQ(dgram_send(socket, "x", 1, port, host, nullptr, nullptr), DGRAM_EBADPORT);
            EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, port, host, &destination),
                      DGRAM_EBADPORT);
            EXPECT_EQ(destination, nullptr);
        }
        EXPECT_EQ(dgram_address(socket, &address), DGRAM_ENOTBOUND);
        EXPECT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
        settle(loop);
        EXPECT_TRUE(questions.open.empty());
    }
    struct dgram_addr last = {};
    EXPECT_EQ(dgram_addr_parse("127.0.0.1", 65535, &last), 0);
    EXPECT_EQ(dgram_addr_port(&last), 65535);
}

INSTANTIATE_ON_ALL_ENGINES(Waiting);

/* ---- Addresses that were chosen ------------------------------------------------------------ */

class Buckets : public HostTest
{
};

/* IPv6 addresses that a hash without a secret puts into one bucket, whatever the socket. */
TEST_F(Buckets, CannotBeChosenByPeers)
{
    constexpr uint64_t multiplier = 0x9e3779b97f4a7c15u;
    std::set<uint32_t> used[2];
    for (unsigned way = 0; way < 2; way++) {
        uint64_t secrets[3];
        dg_peer_secrets(way, secrets);
        for (uint64_t high = 1; high <= 1000; high++) {
            const uint64_t low = high * multiplier;
            union dg_peer peer = {};
            peer.in6.sin6_family = AF_INET6;
            peer.in6.sin6_port = htons(9);
            memcpy(&peer.in6.sin6_addr.s6_addr[0], &high, sizeof(high));
            memcpy(&peer.in6.sin6_addr.s6_addr[8], &low, sizeof(low));
            used[way].insert(dg_peer_hash(&peer, 0, secrets));
        }
        EXPECT_GT(used[way].size(), 200u) << "of 256";
    }
}

} /* namespace */
