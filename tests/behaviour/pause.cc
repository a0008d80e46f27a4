/* SPDX-License-Identifier: MIT */
/*
 * pause.cc: pause and resume: nothing is delivered meanwhile, and nothing is lost.
 */
#include "tests/support/harness.h"

using namespace harness;

namespace
{

class PauseHost : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(PauseHost);

class Pause : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Pause);

/* ---- Pause and resume ---------------------------------------------------------------------- */

TEST_P(Pause, DeliversNothingAndLosesNothing)
{
    Inbox inbox;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    const std::vector<std::string> sent = numbered_row(100);
    EXPECT_EQ(dgram_pause(receiver), 0);
    EXPECT_EQ(dgram_pause(receiver), 0); /* idempotent */
    send_row(sender, sent, address_of(receiver));
    settle(loop);
    EXPECT_EQ(inbox.count(), 0u);
    EXPECT_EQ(dgram_resume(receiver), 0);
    EXPECT_EQ(inbox.count(), 0u); /* not inside the call */
    EXPECT_EQ(dgram_resume(receiver), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 100; }));
    EXPECT_TRUE(inbox.payloads == sent);
    expect_echo(loop, receiver);
}

TEST_P(Pause, BeforeBindHolds)
{
    Inbox inbox;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_socket(loop);
    ASSERT_EQ(dgram_on_message(receiver, Inbox::take, &inbox), 0);
    EXPECT_EQ(dgram_pause(receiver), 0);
    ASSERT_EQ(dgram_bind(receiver, 0, "127.0.0.1"), 0);
    ASSERT_EQ(send_text(sender, "x", address_of(receiver)), 0);
    settle(loop);
    EXPECT_EQ(inbox.count(), 0u);
    EXPECT_EQ(dgram_resume(receiver), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
}

/* From the middle of a burst that is taken from the kernel already: the rest comes first on resume,
 * in order, before what arrived later. */
TEST_P(Pause, InTheMiddleOfABurstKeepsTheRestForLater)
{
    for (bool arrays : {false, true}) {
        SCOPED_TRACE(arrays);
        std::vector<std::string> got;
        size_t pauses = 0;
        bool paused = false;
        struct dgram_socket *sender = open_socket(loop);
        struct dgram_socket *receiver = open_bound(loop);
        Handlers on;
        auto maybe_pause = [&](struct dgram_socket *socket) {
            if (got.size() >= 10 * (pauses + 1)) {
                EXPECT_EQ(dgram_pause(socket), 0);
                paused = true;
                pauses++;
            }
        };
        if (arrays) {
            on.messages = [&](struct dgram_socket *socket, const struct dgram_message *messages,
                              size_t count) {
                EXPECT_FALSE(paused);
                for (size_t i = 0; i < count; i++) {
                    got.push_back(payload_of(&messages[i]));
                }
                maybe_pause(socket);
            };
        } else {
            on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
                EXPECT_FALSE(paused);
                got.push_back(payload_of(message));
                maybe_pause(socket);
            };
        }
        on.attach(receiver);
        std::vector<std::string> sent = numbered_row(64);
        send_row(sender, sent, address_of(receiver));
        ASSERT_TRUE(run_until(loop, [&] { return paused; }));
        for (unsigned more = 0; more < 5; more++) {
            sent.push_back("later " + std::to_string(more));
            ASSERT_EQ(send_text(sender, sent.back(), address_of(receiver)), 0);
        }
        while (got.size() < sent.size()) {
            size_t before = got.size();
            settle(loop);
            ASSERT_EQ(got.size(), before);
            paused = false;
            ASSERT_EQ(dgram_resume(receiver), 0);
            ASSERT_TRUE(run_until(loop, [&] { return paused || got.size() == sent.size(); }));
        }
        EXPECT_TRUE(got == sent);
        EXPECT_EQ(stats_of(receiver).received, sent.size());
        EXPECT_EQ(stats_of(receiver).discarded, 0u);
        EXPECT_GE(pauses, arrays ? 1u : 6u);
        close_and_wait(loop, receiver);
    }
}

/* Paused and resumed inside one handler: as if nothing had happened. */
TEST_P(Pause, AndResumeInsideAHandlerChangeNothing)
{
    std::vector<std::string> got;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    Handlers on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
        got.push_back(payload_of(message));
        EXPECT_EQ(dgram_pause(socket), 0);
        EXPECT_EQ(dgram_resume(socket), 0);
    };
    on.attach(receiver);
    const std::vector<std::string> sent = numbered_row(100);
    send_row(sender, sent, address_of(receiver));
    ASSERT_TRUE(run_until(loop, [&] { return got.size() == 100; }));
    EXPECT_TRUE(got == sent);
}

/* Again and again, resumed from a posted function. */
TEST_P(Pause, ManyTimesLosesNothing)
{
    std::vector<std::string> got;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    bool paused = false;
    Job resume([&](struct dgram_loop *) {
        paused = false;
        EXPECT_EQ(dgram_resume(receiver), 0);
    });
    Handlers on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
        EXPECT_FALSE(paused);
        got.push_back(payload_of(message));
        if (got.size() % 7 == 0) {
            EXPECT_EQ(dgram_pause(socket), 0);
            paused = true;
            EXPECT_EQ(dgram_loop_post(loop, Job::call, &resume), 0);
        }
    };
    on.attach(receiver);
    std::vector<std::string> sent;
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 50; i++) {
            sent.push_back(numbered(round * 50 + i, i % 10 == 3 ? 0 : 64 + i % 2));
            ASSERT_EQ(send_text(sender, sent.back(), address_of(receiver)), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return got.size() >= sent.size(); }));
    }
    EXPECT_TRUE(got == sent);
}

/* A paused socket does not hold up another one. */
TEST_P(Pause, LeavesOtherSocketsAlone)
{
    struct dgram_loop_options options = loop_options();
    options.slots = 4;
    remake_loop(options);
    Inbox inbox, other;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    struct dgram_socket *witness = open_inbox(loop, &other);
    Handlers on;
    size_t messages = 0;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *) {
        if (++messages == 1) {
            EXPECT_EQ(dgram_pause(socket), 0);
        }
    };
    on.attach(receiver);
    send_row(sender, numbered_row(40, 1000), address_of(receiver));
    ASSERT_TRUE(run_until(loop, [&] { return messages == 1; }));
    for (size_t i = 1; i <= 20; i++) {
        ASSERT_EQ(send_text(sender, "x", address_of(witness)), 0);
        ASSERT_TRUE(run_until(loop, [&] { return other.count() == i; }));
    }
    EXPECT_EQ(messages, 1u);
    ASSERT_EQ(dgram_resume(receiver), 0);
    ASSERT_TRUE(run_until(loop, [&] { return messages == 40; }));
}

/* Closed while paused: what was held is gone, silently. */
TEST_P(Pause, ThenCloseDeliversNothing)
{
    size_t messages = 0;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_socket *receiver = open_bound(loop);
    const uint32_t slots = info_of(loop).slots;
    Handlers on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *) {
        if (++messages == 3) {
            EXPECT_EQ(dgram_pause(socket), 0);
        }
    };
    on.attach(receiver);
    send_row(sender, numbered_row(64), address_of(receiver));
    ASSERT_TRUE(run_until(loop, [&] { return messages == 3; }));
    settle(loop);
    close_and_wait(loop, receiver);
    settle(loop);
    EXPECT_EQ(messages, 3u);
    EXPECT_EQ(info_of(loop).slots_free, slots);
}

/* ---- Pausing ------------------------------------------------------------------------------- */

/* Flow control by the message: what was taken from the kernel and not delivered is held back. No
 * more is taken before that is out, or memory would fill instead of the kernel's buffer. */
TEST_P(PauseHost, PauseAfterEveryMessageHoldsLittleBack)
{
    Plain peer;
    struct dgram_socket *socket = open_socket(loop);
    ASSERT_EQ(dgram_set_recv_buffer_size(socket, 200000), 0);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    const struct dgram_addr to = address_of(socket);
    Inbox inbox;
    bool pauses = true;
    Handlers on;
    on.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        Inbox::take(which, message, &inbox);
        if (pauses) {
            EXPECT_EQ(dgram_pause(which), 0);
        }
    };
    on.attach(socket);
    const uint64_t pool = info_of(loop).slots;
    unsigned sent = 0;
    for (size_t round = 1; round <= 200; round++) {
        for (int i = 0; i < 20; i++) {
            peer.send(numbered(sent++, 1000), to); /* most find the buffer full */
        }
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() >= round; }));
        ASSERT_EQ(inbox.count(), round) << "a message came while the socket was paused";
        const struct dgram_socket_stats stats = stats_of(socket);
        ASSERT_LT(stats.receives - stats.received, pool) << "round " << round;
        ASSERT_EQ(dgram_resume(socket), 0);
    }
    pauses = false; /* what was held back is not lost, and comes first */
    settle(loop);
    settle(loop);
    peer.send("end", to);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.payloads.back() == "end"; }));
    inbox.payloads.pop_back();
    const struct dgram_socket_stats stats = stats_of(socket);
    EXPECT_EQ(stats.receives, stats.received);
    EXPECT_EQ(stats.discarded, 0u);
    unsigned next = 0;
    for (const std::string &payload : inbox.payloads) {
        while (next < sent && payload != numbered(next, 1000)) {
            next++;
        }
        ASSERT_LT(next++, sent) << "not what was sent, or not in this order";
    }
}

} /* namespace */
