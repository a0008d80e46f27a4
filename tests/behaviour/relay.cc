/* SPDX-License-Identifier: MIT */
/*
 * relay.cc: what a `message` handler sends on is sent as it was, though the message is long over.
 */
#include <algorithm>
#include <vector>

#include "tests/support/questions.h"

using namespace harness;

namespace
{

class Relay : public QuestionsTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Relay);

enum class Way { SEND, SEND_TO, DESTINATION, MANY };

/* Sends a message on to "next.test", which is where the handle leads, too. */
void pass_on(Way way, struct dgram_socket *which, const struct dgram_message &message,
             uint16_t port, struct dgram_destination *next, Results *results)
{
    struct dgram_outgoing item = {};
    item.data = message.data;
    item.size = message.size;
    item.destination = next;
    if (way == Way::SEND) {
        EXPECT_EQ(dgram_send(which, message.data, message.size, port, "next.test", Results::take,
                             results),
                  0);
    } else if (way == Way::DESTINATION) {
        EXPECT_EQ(dgram_send_dest(which, message.data, message.size, next, Results::take, results),
                  0);
    } else {
        EXPECT_EQ(dgram_send_many(which, &item, 1, Results::take, results), 1);
    }
}

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
                relayed++;
                pass_on(way, which, *message, port, next, &results);
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

} /* namespace */
