/* SPDX-License-Identifier: MIT */
/*
 * embed.cc: the descriptor for another event loop: it is readable whenever there is something to
 * do.
 */
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Embed : public EngineTest
{
  protected:
    void SetUp() override
    {
        EngineTest::SetUp();
        if (IsSkipped() || HasFatalFailure()) {
            return;
        }
        fd_ = dgram_loop_fd(loop);
        if (fd_ == -ENOTSUP) {
            GTEST_SKIP() << "this host has only poll(2)";
        }
        ASSERT_GE(fd_, 0) << dgram_error_name(fd_);
        epoll_ = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = {};
        event.events = EPOLLIN;
        ASSERT_EQ(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd_, &event), 0);
    }
    void TearDown() override
    {
        if (epoll_ >= 0) {
            close(epoll_);
        }
        EngineTest::TearDown();
    }

    bool readable() const
    {
        struct epoll_event event = {};
        return epoll_wait(epoll_, &event, 1, 0) == 1;
    }

    /* As another event loop would: sleeps on the descriptor only, then turns without sleeping. */
    bool drive(const std::function<bool()> &done)
    {
        while (!done()) {
            struct epoll_event event = {};
            int count;
            do {
                count = epoll_wait(epoll_, &event, 1, static_cast<int>(10000 * patience()));
            } while (count < 0 && errno == EINTR);
            if (count != 1) {
                ADD_FAILURE() << "the descriptor did not become readable";
                return false;
            }
            int code = dgram_loop_turn(loop, 0);
            if (code < 0) {
                ADD_FAILURE() << dgram_error_name(code);
                return false;
            }
        }
        return true;
    }

    /* Turns until the descriptor is not readable; it must not stay so with nothing to do. */
    void quiet()
    {
        for (int i = 0; i < 100 && readable(); i++) {
            ASSERT_GE(dgram_loop_turn(loop, 0), 0);
        }
        EXPECT_FALSE(readable()) << "readable though a turn has nothing to do";
    }

    int fd_ = -1, epoll_ = -1;
};

INSTANTIATE_ON_HOST_ENGINES(Embed);

/* ---- Embedding ----------------------------------------------------------------------------- */

TEST_P(Embed, DescriptorIsAlwaysTheSame)
{
    EXPECT_EQ(dgram_loop_fd(loop), fd_);
    ASSERT_EQ(dgram_loop_turn(loop, 0), 0);
    EXPECT_EQ(dgram_loop_fd(loop), fd_);
}

TEST_P(Embed, IdleLoopIsNotReadable)
{
    Inbox inbox;
    quiet();
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    ASSERT_NE(socket, nullptr);
    quiet();
    Tick tick([](struct dgram_timer *) {});
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, HOUR, 0), 0);
    quiet();
}

TEST_P(Embed, EveryEventWakesIt)
{
    Plain peer;
    Recorder log;
    Inbox inbox;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    Handlers on;
    on.listening = [&](struct dgram_socket *) { log.add("listening"); };
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(socket);
    ASSERT_TRUE(drive([&] { return log.count("listening") == 1; }));
    for (size_t round = 1; round <= 5; round++) {
        quiet();
        /* A datagram. */
        peer.send("hello", address_of(socket));
        ASSERT_TRUE(drive([&] { return inbox.count() == round; }));
        quiet();
        /* A queued send, without and with a callback. */
        ASSERT_EQ(send_text(socket, "reply", peer.address()), 0);
        ASSERT_TRUE(drive([&] { return peer.readable(); }));
        EXPECT_EQ(peer.receive(), "reply");
        quiet();
        Results results;
        struct dgram_addr to = peer.address();
        ASSERT_EQ(dgram_send_to(socket, "again", 5, &to, Results::take, &results), 0);
        ASSERT_TRUE(drive([&] { return results.values.size() == 1; }));
        EXPECT_EQ(peer.receive(), "again");
        quiet();
        /* A timer, not early. */
        int ticks = 0;
        Tick tick([&](struct dgram_timer *) { ticks++; });
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
        if (round % 2 == 0) {
            ASSERT_EQ(dgram_timer_unref(timer), 0);
        }
        const uint64_t before = monotonic_ns();
        ASSERT_EQ(dgram_timer_start(timer, 3 * MILLISECOND, 0), 0);
        ASSERT_TRUE(drive([&] { return ticks == 1; }));
        EXPECT_GE(monotonic_ns(), before + 3 * MILLISECOND);
        quiet();
        /* A post, of this thread and of another. */
        int runs = 0;
        Job job([&](struct dgram_loop *) { runs++; });
        ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
        ASSERT_TRUE(drive([&] { return runs == 1; }));
        quiet();
        std::thread poster([&] { EXPECT_EQ(dgram_loop_post(loop, Job::call, &job), 0); });
        EXPECT_TRUE(drive([&] { return runs == 2; }));
        poster.join();
        quiet();
        dgram_timer_free(timer);
    }
    ASSERT_EQ(dgram_close(socket), 0);
    ASSERT_TRUE(drive([&] { return log.count("close") == 1; }));
    quiet();
}

/* An earlier timer, a stopped one, one made inside a callback. */
TEST_P(Embed, TimersMayChange)
{
    Recorder log;
    Tick never([](struct dgram_timer *) { ADD_FAILURE() << "a stopped timer"; });
    Tick late([&](struct dgram_timer *) { log.add("late"); });
    struct dgram_timer *stopped = nullptr, *first = nullptr, *second = nullptr;
    Tick early([&](struct dgram_timer *) {
        log.add("early");
        EXPECT_EQ(dgram_timer_start(second, 2 * MILLISECOND, 0), 0);
    });
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &never, &stopped), 0);
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &early, &first), 0);
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &late, &second), 0);
    ASSERT_EQ(dgram_timer_start(first, HOUR, 0), 0);
    quiet();
    ASSERT_EQ(dgram_timer_start(stopped, MILLISECOND, 0), 0);
    ASSERT_EQ(dgram_timer_start(first, 3 * MILLISECOND, 0), 0);
    ASSERT_EQ(dgram_timer_stop(stopped), 0);
    ASSERT_TRUE(drive([&] { return log.count("late") == 1; }));
    EXPECT_EQ(log.text(), "early late");
    quiet();
}

/* More than one turn brings, more than the pool holds: readable until all of it was delivered. */
TEST_P(Embed, BacklogKeepsItReadable)
{
    Plain peer;
    for (uint32_t flags : {0u, DGRAM_NO_GRO}) {
        Inbox inbox;
        struct dgram_socket *socket = open_inbox(loop, &inbox, DGRAM_UDP4, flags);
        const size_t count = std::min<size_t>(300, room_of(socket));
        quiet();
        for (size_t i = 0; i < count; i++) {
            peer.send(numbered(static_cast<unsigned>(i)), address_of(socket));
        }
        ASSERT_TRUE(drive([&] { return inbox.count() == count; }));
        quiet();
    }
}

TEST_P(Embed, PausedAndResumedOutsideATurn)
{
    Plain peer;
    std::vector<std::string> got;
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    bool paused = false;
    on.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        got.push_back(payload_of(message));
        if (got.size() % 5 == 0) {
            paused = true;
            EXPECT_EQ(dgram_pause(which), 0);
        }
    };
    for (unsigned i = 0; i < 23; i++) {
        peer.send(numbered(i), address_of(socket));
    }
    quiet();
    on.attach(socket); /* with datagrams waiting in the kernel */
    while (got.size() < 23) {
        ASSERT_TRUE(drive([&] { return paused || got.size() == 23; }));
        quiet();
        paused = false;
        ASSERT_EQ(dgram_resume(socket), 0);
    }
    for (unsigned i = 0; i < 23; i++) {
        EXPECT_TRUE(got[i] == numbered(i));
    }
}

/* Work that callbacks leave for later turns keeps it readable too. */
TEST_P(Embed, WorkOfCallbacksKeepsItReadable)
{
    for (int round = 0; round < 5; round++) {
        Recorder log;
        struct dgram_socket *unbound = open_socket(loop), *closing = open_bound(loop);
        struct dgram_socket *sender = open_bound(loop), *paused = open_bound(loop);
        Handlers on;
        on.listening = [&](struct dgram_socket *which) {
            if (which == unbound) {
                log.add("listening");
            }
        };
        on.close = [&](struct dgram_socket *which) {
            if (which == closing) {
                log.add("close");
            }
        };
        on.error = [&](struct dgram_socket *, const struct dgram_error *) { log.add("error"); };
        for (struct dgram_socket *socket : {unbound, closing, sender}) {
            on.attach(socket);
        }
        size_t messages = 0;
        Handlers on_paused;
        on_paused.message = [&](struct dgram_socket *which, const struct dgram_message *) {
            if (++messages == 3) {
                EXPECT_EQ(dgram_pause(which), 0);
            }
        };
        on_paused.attach(paused);
        for (int i = 0; i < 10; i++) {
            ASSERT_EQ(send_text(sender, numbered(1), address_of(paused)), 0);
        }
        ASSERT_TRUE(drive([&] { return messages == 3; }));
        quiet();
        Sent sent([&](struct dgram_socket *, int) { log.add("sent"); });
        Tick tick([&](struct dgram_timer *) { log.add("tick"); });
        Job second([&](struct dgram_loop *) { log.add("post"); });
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
        const struct dgram_addr to = address_of(paused), refused = refused_address();
        Job first([&](struct dgram_loop *which) {
            EXPECT_EQ(dgram_bind(unbound, 0, "127.0.0.1"), 0);
            EXPECT_EQ(dgram_close(closing), 0);
            EXPECT_EQ(dgram_send_to(sender, "x", 1, &to, Sent::call, &sent), 0);
            EXPECT_EQ(dgram_timer_start(timer, 0, 0), 0);
            EXPECT_EQ(dgram_loop_post(which, Job::call, &second), 0);
            EXPECT_EQ(dgram_resume(paused), 0);
            if (refused_address_usable()) {
                EXPECT_EQ(send_text(sender, "x", refused), 0);
            }
        });
        ASSERT_EQ(dgram_loop_post(loop, Job::call, &first), 0);
        const size_t events = refused_address_usable() ? 6 : 5;
        ASSERT_TRUE(drive([&] { return log.events.size() == events && messages == 11; }));
        for (const char *event : {"listening", "close", "sent", "tick", "post"}) {
            EXPECT_EQ(log.count(event), 1u) << event;
        }
        quiet();
        dgram_timer_free(timer);
        ASSERT_EQ(dgram_close(unbound), 0);
        ASSERT_EQ(dgram_close(sender), 0);
        ASSERT_EQ(dgram_close(paused), 0);
        quiet();
    }
}

/* Each single kind of leftover by itself: nothing else makes the descriptor readable. */
TEST_P(Embed, EachKindOfLeftoverKeepsItReadable)
{
    int closes = 0, listenings = 0;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    on.listening = [&](struct dgram_socket *) { listenings++; };
    struct dgram_socket *one = open_bound(loop), *two = open_socket(loop);
    quiet();
    on.attach(one);
    on.attach(two);
    Tick close_one([&](struct dgram_timer *) { EXPECT_EQ(dgram_close(one), 0); });
    Tick bind_two([&](struct dgram_timer *) { EXPECT_EQ(dgram_bind(two, 0, "127.0.0.1"), 0); });
    Tick end_two([&](struct dgram_timer *) { EXPECT_EQ(dgram_end(two), 0); });
    struct dgram_timer *timers[3] = {};
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &close_one, &timers[0]), 0);
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &bind_two, &timers[1]), 0);
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &end_two, &timers[2]), 0);
    ASSERT_EQ(dgram_timer_start(timers[0], MILLISECOND, 0), 0);
    ASSERT_TRUE(drive([&] { return closes == 1; }));
    quiet();
    ASSERT_EQ(dgram_timer_start(timers[1], MILLISECOND, 0), 0);
    ASSERT_TRUE(drive([&] { return listenings == 1; }));
    quiet();
    ASSERT_EQ(dgram_timer_start(timers[2], MILLISECOND, 0), 0);
    ASSERT_TRUE(drive([&] { return closes == 2; }));
    quiet();
}

/* Sockets that starve for slots go on without another event. */
TEST_P(Embed, StarvedSocketsGoOn)
{
    close(epoll_);
    struct dgram_loop_options options = loop_options();
    options.slots = 4;
    remake_loop(options);
    fd_ = dgram_loop_fd(loop);
    ASSERT_GE(fd_, 0);
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {};
    event.events = EPOLLIN;
    ASSERT_EQ(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd_, &event), 0);
    Plain peer;
    std::vector<Inbox> inboxes(12);
    for (Inbox &inbox : inboxes) {
        struct dgram_socket *socket = open_inbox(loop, &inbox, DGRAM_UDP4, DGRAM_NO_GRO);
        for (unsigned i = 0; i < 40; i++) {
            peer.send(numbered(i), address_of(socket));
        }
    }
    ASSERT_TRUE(drive([&] {
        return std::all_of(inboxes.begin(), inboxes.end(),
                           [](const Inbox &inbox) { return inbox.count() == 40; });
    }));
    quiet();
}

/* A whole conversation driven by nothing but the descriptor. */
TEST_P(Embed, EchoThousandTimes)
{
    unsigned rounds = 0;
    struct dgram_socket *server = open_bound(loop), *client = open_bound(loop);
    const struct dgram_addr to = address_of(server);
    Handlers on_server, on_client;
    on_server.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        EXPECT_EQ(send_text(which, payload_of(message), *message->from), 0);
    };
    on_client.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        EXPECT_TRUE(payload_of(message) == numbered(rounds));
        if (++rounds < 1000) {
            EXPECT_EQ(send_text(which, numbered(rounds), to), 0);
        }
    };
    on_server.attach(server);
    on_client.attach(client);
    ASSERT_EQ(send_text(client, numbered(0), to), 0);
    ASSERT_TRUE(drive([&] { return rounds == 1000; }));
    quiet();
}

/* ---- The loop slept ------------------------------------------------------------------------ */

/* dgram_loop_run() now and then, another event loop in between: its descriptor knows of the timers
 * that the run has left behind, however it ended. */
TEST_P(Embed, RunLeavesTheDescriptorKnowingTheTimers)
{
    int fd = dgram_loop_fd(loop);
    if (fd == -ENOTSUP) {
        GTEST_SKIP() << "this host has only poll(2)";
    }
    ASSERT_GE(fd, 0);
    Plain peer;
    for (bool stops : {false, true}) {
        SCOPED_TRACE(stops);
        bool fired = false;
        struct dgram_timer *timer = nullptr;
        Tick tick([&](struct dgram_timer *) { fired = true; });
        Handlers on;
        on.message = [&](struct dgram_socket *which, const struct dgram_message *) {
            EXPECT_EQ(dgram_timer_start(timer, 30 * MILLISECOND, 0), 0);
            EXPECT_EQ(dgram_unref(which), 0);
            if (stops) {
                dgram_loop_stop(loop);
            }
        };
        struct dgram_socket *socket = open_bound(loop);
        on.attach(socket);
        ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
        ASSERT_EQ(dgram_timer_unref(timer), 0);
        settle(loop);
        ASSERT_GE(dgram_loop_turn(loop, 0), 0); /* nothing is left to tell */
        peer.send("go", address_of(socket));
        ASSERT_EQ(dgram_loop_run(loop), stops ? 1 : 0);
        ASSERT_FALSE(fired);
        while (!fired) {
            struct pollfd ready = {fd, POLLIN, 0};
            int count = poll(&ready, 1, static_cast<int>(5000 * patience()));
            ASSERT_EQ(count, 1) << "the descriptor does not know of the timer";
            ASSERT_GE(dgram_loop_turn(loop, 0), 0);
        }
        dgram_timer_free(timer);
        close_and_wait(loop, socket);
    }
}

} /* namespace */
