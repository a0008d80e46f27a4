/* SPDX-License-Identifier: MIT */
/*
 * listening.cc: `listening` comes before the first datagram leaves, so its handler may set options
 * for that one.
 */
#include <string>
#include <vector>

#include "tests/support/questions.h"

using namespace harness;

namespace
{

class Listening : public QuestionsTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Listening);

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
  protected:
    void SetUp() override
    {
        EngineTest::SetUp();
        if (!IsSkipped()) {
            on_.listening = [](struct dgram_socket *which) {
                EXPECT_EQ(dgram_set_broadcast(which, true), 0);
            };
            socket_ = open_socket(loop);
            on_.attach(socket_);
        }
    }
    int send()
    {
        const struct dgram_addr everybody = parse("127.255.255.255", 9);
        return dgram_send_to(socket_, "x", 1, &everybody, Results::take, &results_);
    }
    void expect_sent()
    {
        ASSERT_TRUE(run_until(loop, [&] { return results_.values.size() == 1; }));
        EXPECT_EQ(results_.values, std::vector<int>{1});
    }

  private:
    struct dgram_socket *socket_ = nullptr;
    Handlers on_;
    Results results_;
};

INSTANTIATE_ON_HOST_ENGINES(ListeningHost);

TEST_P(ListeningHost, AllowsTheFirstBroadcast)
{
    ASSERT_EQ(send(), 0);
    expect_sent();
}

/* The same for one that a timer sends: it lies in the submission when the handler is called. */
TEST_P(ListeningHost, AllowsTheFirstBroadcastOfATimer)
{
    Tick tick([&](struct dgram_timer *) { EXPECT_EQ(send(), 0); });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, 0, 0), 0);
    expect_sent();
    dgram_timer_free(timer);
}

} /* namespace */
