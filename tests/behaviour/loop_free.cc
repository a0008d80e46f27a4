/* SPDX-License-Identifier: MIT */
/*
 * loop_free.cc: dgram_loop_free(): whatever is open is closed and completes inside of the call.
 */
#include "tests/support/harness.h"

using namespace harness;

namespace
{

class LoopFree : public EngineTest
{
};
class LoopFreeHost : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(LoopFree);
INSTANTIATE_ON_HOST_ENGINES(LoopFreeHost);

int no_callback_expected = 0;

TEST_P(LoopFree, AcceptsNullAndAFreshLoop)
{
    EXPECT_EQ(dgram_loop_free(nullptr), nullptr);
    struct dgram_loop *fresh = make_loop();
    EXPECT_EQ(dgram_loop_free(fresh), nullptr);
}

TEST_P(LoopFree, WithEverythingOpenClosesAndCompletesInsideTheCall)
{
    for (bool ran : {false, true}) {
        SCOPED_TRACE(ran);
        struct dgram_loop *doomed = make_loop();
        Recorder log;
        Inbox inbox;
        Results results;
        Handlers on;
        on.close = [&](struct dgram_socket *which) {
            log.add("close");
            EXPECT_EQ(dgram_close(which), DGRAM_ENOTRUNNING);
        };
        struct dgram_socket *bound = open_inbox(doomed, &inbox), *unbound = open_socket(doomed);
        struct dgram_socket *sender = open_socket(doomed), *closing = open_bound(doomed);
        for (struct dgram_socket *socket : {bound, unbound, sender, closing}) {
            on.attach(socket);
        }
        Tick tick([&](struct dgram_timer *) { log.add("tick"); });
        struct dgram_timer *started = nullptr, *stopped = nullptr;
        ASSERT_EQ(dgram_timer_create(doomed, Tick::call, &tick, &started), 0);
        ASSERT_EQ(dgram_timer_create(doomed, Tick::call, &tick, &stopped), 0);
        ASSERT_EQ(dgram_timer_start(started, HOUR, 0), 0);
        if (ran) {
            ASSERT_EQ(send_text(sender, "first", address_of(bound)), 0);
            ASSERT_TRUE(run_until(doomed, [&] { return inbox.count() == 1; }));
        }
        Job job([&](struct dgram_loop *) { log.add("post"); });
        ASSERT_EQ(dgram_loop_post(doomed, Job::call, &job), 0);
        struct dgram_addr to = address_of(bound);
        for (int i = 0; i < 30; i++) {
            ASSERT_EQ(dgram_send_to(sender, "abc", 3, &to, Results::take, &results), 0);
            ASSERT_EQ(send_text(sender, "abc", to), 0);
        }
        ASSERT_EQ(dgram_close(closing), 0);
        EXPECT_EQ(log.text(), "");
        EXPECT_EQ(dgram_loop_free(doomed), nullptr);
        EXPECT_EQ(log.count("close"), 4u);
        EXPECT_EQ(log.count("post"), 1u);
        EXPECT_EQ(log.count("tick"), 0u);
        EXPECT_EQ(results.values, std::vector<int>(30, 3)) << "queued sends get one attempt";
    }
}

/* Callbacks run inside dgram_loop_free() and may call anything. */
TEST_P(LoopFree, CallbacksInsideItMayUseTheLoop)
{
    struct dgram_loop *doomed = make_loop();
    Recorder log;
    struct dgram_socket *one = open_bound(doomed), *two = open_bound(doomed);
    struct dgram_addr to = address_of(two);
    Handlers on;
    on.close = [&](struct dgram_socket *which) {
        log.add("close");
        EXPECT_EQ(dgram_send_to(which, "x", 1, &to, nullptr, nullptr), DGRAM_ENOTRUNNING);
        EXPECT_EQ(dgram_loop_free(doomed), nullptr); /* again: nothing more happens */
        EXPECT_EQ(dgram_loop_turn(doomed, 0), DGRAM_EREENTERED);
        struct dgram_socket *more = nullptr; /* nothing new begins */
        EXPECT_EQ(dgram_create_socket(doomed, DGRAM_UDP4, nullptr, &more), DGRAM_ENOTRUNNING);
        struct dgram_destination *handle = nullptr;
        EXPECT_EQ(dgram_destination_create(doomed, DGRAM_UDP4, 9, "127.0.0.1", &handle),
                  DGRAM_ENOTRUNNING);
        EXPECT_EQ(more, nullptr);
        EXPECT_EQ(dgram_loop_post(doomed, Job::call, &no_callback_expected), DGRAM_ENOTRUNNING);
    };
    on.attach(one);
    on.attach(two);
    Sent sent([&](struct dgram_socket *, int result) {
        log.add("sent");
        EXPECT_EQ(result, 1);
        dgram_close(one);
        dgram_close(two);
    });
    ASSERT_EQ(dgram_send_to(one, "x", 1, &to, Sent::call, &sent), 0);
    EXPECT_EQ(dgram_loop_free(doomed), nullptr);
    EXPECT_EQ(log.text(), "sent close close");
}

/* In a callback of its loop: the work is done when the turn unwinds and run returns 1. */
TEST_P(LoopFree, InsideEachKindOfCallback)
{
    for (const std::string kind :
         {"listening", "message", "messages", "sent", "timer", "post", "close", "drain"}) {
        SCOPED_TRACE(kind);
        struct dgram_loop *doomed = make_loop();
        Recorder log;
        bool freed = false;
        auto free_now = [&](const char *where) {
            if (kind == where && !freed) {
                freed = true;
                EXPECT_EQ(dgram_loop_free(doomed), nullptr);
                log.add("freed");
            }
        };
        struct dgram_socket_options options = socket_options();
        options.queue_limit = 200;
        struct dgram_socket *receiver = open_bound(doomed), *other = open_bound(doomed);
        struct dgram_socket *sender = nullptr;
        ASSERT_EQ(dgram_create_socket(doomed, DGRAM_UDP4, &options, &sender), 0);
        Handlers on;
        on.listening = [&](struct dgram_socket *) { free_now("listening"); };
        on.drain = [&](struct dgram_socket *) { free_now("drain"); };
        if (kind == "messages") {
            on.messages = [&](struct dgram_socket *, const struct dgram_message *, size_t) {
                free_now("messages");
            };
        } else {
            on.message = [&](struct dgram_socket *which, const struct dgram_message *) {
                if (kind == "close" && which == receiver && log.events.empty()) {
                    log.add("closing");
                    dgram_close(other);
                }
                free_now("message");
            };
        }
        on.close = [&](struct dgram_socket *) {
            log.add("close");
            free_now("close");
        };
        for (struct dgram_socket *socket : {receiver, other, sender}) {
            on.attach(socket);
        }
        Sent sent([&](struct dgram_socket *, int) { free_now("sent"); });
        Tick tick([&](struct dgram_timer *) { free_now("timer"); });
        Job job([&](struct dgram_loop *) { free_now("post"); });
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(doomed, Tick::call, &tick, &timer), 0);
        ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, MILLISECOND), 0);
        ASSERT_EQ(dgram_loop_post(doomed, Job::call, &job), 0);
        struct dgram_addr to = address_of(receiver);
        const std::string payload = pattern(100, 1); /* lent until the callback */
        int code = 0;
        for (int i = 0; i < 100 && code == 0; i++) {
            code = dgram_send_to(sender, payload.data(), 100, &to,
                                 kind == "drain" ? nullptr : Sent::call, &sent);
            if (kind != "drain") {
                break;
            }
        }
        EXPECT_EQ(dgram_loop_run(doomed), 1);
        EXPECT_TRUE(freed);
        EXPECT_EQ(log.count("close"), 3u) << log.text();
    }
}

/* Who frees the loop has freed what its handlers use, or is about to. */
TEST_P(LoopFree, InsideACallbackEndsMessagesAndTimers)
{
    for (const std::string kind : {"message", "messages", "timer", "post"}) {
        SCOPED_TRACE(kind);
        struct dgram_loop *doomed = make_loop();
        struct dgram_socket *receiver = open_bound(doomed), *sender = open_bound(doomed);
        struct dgram_timer *first = nullptr, *second = nullptr;
        bool freed = false;
        auto visit = [&](const char *where) {
            EXPECT_FALSE(freed) << where << " after the loop was freed";
            if (kind == where) {
                freed = true;
                EXPECT_EQ(dgram_loop_free(doomed), nullptr);
                EXPECT_EQ(send_text(sender, "late", parse("127.0.0.1", 9)), DGRAM_ENOTRUNNING);
                EXPECT_EQ(dgram_timer_start(first, 0, 0), DGRAM_ENOTRUNNING);
            }
        };
        Handlers on;
        on.message = [&](struct dgram_socket *, const struct dgram_message *) { visit("message"); };
        if (kind == "messages") {
            on.messages = [&](struct dgram_socket *, const struct dgram_message *, size_t) {
                visit("messages");
            };
        }
        on.attach(receiver);
        Tick tick([&](struct dgram_timer *) { visit("timer"); });
        Job job([&](struct dgram_loop *) { visit("post"); });
        for (struct dgram_timer **timer : {&first, &second}) {
            ASSERT_EQ(dgram_timer_create(doomed, Tick::call, &tick, timer), 0);
            ASSERT_EQ(dgram_timer_start(*timer, kind == "timer" ? 0 : MILLISECOND, 0), 0);
        }
        for (unsigned i = 0; i < 20; i++) { /* no train holds them all */
            ASSERT_EQ(send_text(sender, pattern(10 + i % 3, i), address_of(receiver)), 0);
        }
        if (kind == "post") {
            ASSERT_EQ(dgram_loop_post(doomed, Job::call, &job), 0);
        }
        EXPECT_EQ(dgram_loop_run(doomed), 1);
        EXPECT_TRUE(freed);
    }
}

/* What the handler queued before it freed the loop is delivered. */
TEST_P(LoopFreeHost, InsideACallbackDeliversWhatWasQueued)
{
    Plain peer;
    struct dgram_loop *doomed = make_loop();
    Results results;
    struct dgram_socket *socket = open_bound(doomed);
    struct dgram_addr to = peer.address();
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        EXPECT_EQ(dgram_send_to(which, "last words", 10, &to, Results::take, &results), 0);
        EXPECT_EQ(dgram_loop_free(dgram_socket_loop(which)), nullptr);
    };
    on.attach(socket);
    EXPECT_EQ(dgram_loop_run(doomed), 1);
    EXPECT_EQ(results.values, std::vector<int>{10});
    EXPECT_EQ(peer.receive(), "last words");
}

/* Sockets are closed before the engine, so the port is free when the call returns. */
TEST_P(LoopFreeHost, FreesThePortBeforeItReturns)
{
    uint16_t port = private_port(DGRAM_UDP4);
    for (int i = 0; i < 100; i++) {
        struct dgram_loop *doomed = make_loop();
        ASSERT_NE(doomed, nullptr);
        Inbox inbox;
        struct dgram_socket *socket = open_socket(doomed);
        ASSERT_EQ(dgram_on_message(socket, Inbox::take, &inbox), 0);
        ASSERT_EQ(dgram_bind(socket, port, "127.0.0.1"), 0) << "cycle " << i;
        if (i % 2 == 0) {
            ASSERT_EQ(send_text(socket, "x", address_of(socket)), 0);
            ASSERT_TRUE(run_until(doomed, [&] { return inbox.count() == 1; }));
        }
        EXPECT_EQ(dgram_loop_free(doomed), nullptr);
    }
}

TEST_P(LoopFreeHost, WithUnreadAndPausedDatagramsLosesNoMemoryOfTheirs)
{
    struct dgram_loop *doomed = make_loop();
    Plain peer;
    size_t messages = 0;
    struct dgram_socket *paused = open_bound(doomed), *deaf = open_bound(doomed);
    Handlers on;
    on.message = [&](struct dgram_socket *which, const struct dgram_message *) {
        if (++messages == 3) {
            EXPECT_EQ(dgram_pause(which), 0);
        }
    };
    on.attach(paused);
    for (int i = 0; i < 40; i++) {
        peer.send(pattern(200, 1), address_of(paused));
        peer.send(pattern(200, 1), address_of(deaf));
    }
    ASSERT_TRUE(run_until(doomed, [&] { return messages == 3; }));
    settle(doomed);
    EXPECT_EQ(dgram_loop_free(doomed), nullptr);
    EXPECT_EQ(messages, 3u);
}

} /* namespace */
