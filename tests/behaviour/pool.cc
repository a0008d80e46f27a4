/* SPDX-License-Identifier: MIT */
/*
 * pool.cc: pools of slots that run dry: sockets starve by turns and none for good, and a flood does
 * not hold up the rest.
 */
#include <algorithm>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class PoolHost : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(PoolHost);

class Pool : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Pool);

/* ---- Pools that run dry -------------------------------------------------------------------- */

/* Many flooded sockets share four slots: all are served, and none only after the others. */
TEST_P(Pool, ThatIsTooSmallServesEverySocketInTurn)
{
    struct dgram_loop_options options = loop_options();
    options.slots = 4;
    remake_loop(options);
    const size_t count = 8, per_socket = 120;
    std::vector<std::vector<std::string>> got(count);
    std::vector<struct dgram_socket *> sockets;
    std::vector<Handlers> on(count);
    std::vector<size_t> when_first_finished;
    struct dgram_socket *sender = open_socket(loop);
    const std::vector<std::string> sent = numbered_row(per_socket);
    for (size_t i = 0; i < count; i++) {
        sockets.push_back(open_bound(loop, DGRAM_UDP4, DGRAM_NO_GRO));
        ASSERT_NE(sockets[i], nullptr);
        send_row(sender, sent, address_of(sockets[i]));
        on[i].message = [&, i](struct dgram_socket *, const struct dgram_message *message) {
            got[i].push_back(payload_of(message));
            if (got[i].size() == per_socket && when_first_finished.empty()) {
                for (const std::vector<std::string> &one : got) {
                    when_first_finished.push_back(one.size());
                }
            }
        };
    }
    settle(loop); /* nobody listens yet: all of it waits in the kernel */
    for (size_t i = 0; i < count; i++) {
        on[i].attach(sockets[i]);
    }
    ASSERT_TRUE(run_until(loop, [&] {
        return std::all_of(got.begin(), got.end(), [&](const std::vector<std::string> &one) {
            return one.size() == per_socket;
        });
    }));
    for (size_t i = 0; i < count; i++) {
        EXPECT_TRUE(got[i] == sent) << i;
        EXPECT_GE(when_first_finished[i], per_socket / 4) << i;
    }
    settle(loop);
    EXPECT_EQ(info_of(loop).slots_free, 4u);
}

/* The same with the default pool and twice as many sockets as it has slots. */
TEST_P(Pool, IsSharedByMoreSocketsThanSlots)
{
    const size_t count = 128, per_socket = 20;
    std::vector<Inbox> inboxes(count);
    std::vector<struct dgram_socket *> sockets;
    struct dgram_socket *sender = open_socket(loop);
    const std::vector<std::string> sent = numbered_row(per_socket);
    for (size_t i = 0; i < count; i++) {
        sockets.push_back(open_bound(loop, DGRAM_UDP4, DGRAM_NO_GRO));
        ASSERT_NE(sockets[i], nullptr);
        send_row(sender, sent, address_of(sockets[i]));
    }
    settle(loop);
    for (size_t i = 0; i < count; i++) {
        ASSERT_EQ(dgram_on_message(sockets[i], Inbox::take, &inboxes[i]), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] {
        return std::all_of(inboxes.begin(), inboxes.end(),
                           [&](const Inbox &inbox) { return inbox.count() >= per_socket; });
    }));
    for (const Inbox &inbox : inboxes) {
        EXPECT_TRUE(inbox.payloads == sent);
    }
    settle(loop);
    EXPECT_EQ(info_of(loop).slots_free, info_of(loop).slots);
}

/* A socket whose every message causes two more; and others, a timer, posts that want their turn. */
void flood(struct dgram_loop *loop)
{
    bool over = false;
    uint64_t messages = 0;
    int ticks = 0, posts = 0;
    Inbox inbox;
    struct dgram_socket *flooded = open_bound(loop);
    struct dgram_socket *other = open_inbox(loop, &inbox);
    const struct dgram_addr to = address_of(flooded);
    Handlers on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *) {
        messages++;
        send_text(socket, "more", to);
        send_text(socket, "and more", to);
    };
    on.attach(flooded);
    Tick tick([&](struct dgram_timer *) { ticks++; });
    Job job([&](struct dgram_loop *which) {
        posts++;
        if (!over) {
            EXPECT_EQ(dgram_loop_post(which, Job::call, &job), 0);
        }
    });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, MILLISECOND), 0);
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    ASSERT_EQ(send_text(flooded, "start", to), 0);
    ASSERT_TRUE(run_until(loop, [&] { return messages > 10000; }));
    for (size_t i = 1; i <= 10; i++) {
        ASSERT_EQ(send_text(flooded, "other", address_of(other)), 0);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == i; }));
    }
    const int ticks_before = ticks, posts_before = posts;
    ASSERT_TRUE(
        run_until(loop, [&] { return ticks > ticks_before + 5 && posts > posts_before + 5; }));
    over = true;
    const int posts_left = posts;
    ASSERT_TRUE(run_until(loop, [&] { return posts > posts_left; }));
    dgram_timer_free(timer);
    close_and_wait(loop, flooded);
    close_and_wait(loop, other);
}

/* S35: a flood that feeds itself holds up neither timers nor posts nor other sockets, whatever the
 * loop does before it sleeps: it never gets to that. */
TEST_P(Pool, FloodDoesNotHoldUpTheRestOfTheLoop)
{
    for (uint32_t busy_poll_us : {0u, 50u, DGRAM_BUSY_POLL_OFF}) {
        SCOPED_TRACE(busy_poll_us);
        struct dgram_loop_options options = loop_options();
        options.busy_poll_us = busy_poll_us;
        remake_loop(options);
        flood(loop);
    }
}

/* ---- The loop slept ------------------------------------------------------------------------ */

/* The flooded take all slots and starve; they go on as soon as slots are free. */
TEST_P(PoolHost, FewSlotsServeManySockets)
{
    const size_t sockets = 20, each = 10;
    for (size_t flooded : {size_t{1}, sockets}) {
        SCOPED_TRACE(flooded);
        struct dgram_loop_options options = loop_options();
        options.slots = 4;
        remake_loop(options);
        Plain peer;
        std::vector<Inbox> inboxes(sockets);
        std::vector<Handlers> on(sockets);
        size_t received = 0;
        for (size_t i = 0; i < sockets; i++) {
            struct dgram_socket *socket = open_bound(loop);
            on[i].message = [&, i](struct dgram_socket *which,
                                   const struct dgram_message *message) {
                Inbox::take(which, message, &inboxes[i]);
                if (++received == flooded * each) {
                    dgram_loop_stop(loop);
                }
            };
            on[i].attach(socket);
            for (unsigned n = 0; i < flooded && n < each; n++) {
                peer.send(numbered(n), address_of(socket));
            }
        }
        run_awake(loop);
        for (size_t i = 0; i < flooded; i++) {
            ASSERT_EQ(inboxes[i].count(), each) << "socket " << i;
            for (unsigned n = 0; n < each; n++) {
                EXPECT_EQ(inboxes[i].payloads[n], numbered(n)) << "socket " << i;
            }
        }
        EXPECT_EQ(info_of(loop).slots_free, 4u);
    }
}

} /* namespace */
