/* SPDX-License-Identifier: MIT */
/*
 * receive.cc: receives that fail every time, and how long replies wait in a long dispatch.
 */
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "tests/sim/fixture.h"
#include "tests/sim/sim.h"

namespace
{

class FailedReceive : public SimOne
{
};

/* A receive that failed every time was started again at once: an `error` a turn, a turn at once.
 * Then it was tried and told a thousand times a second, for ever. */
TEST_F(FailedReceive, AReceiveThatAlwaysFailsIsNotTriedWithoutPause)
{
    struct sim_faults faults = {};
    faults.stop = faults.stop_error = 1000;
    open({}, 0, faults);
    ASSERT_EQ(dgram_on_message(socket, ignore_message, nullptr), 0);
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    uint64_t start = sim_now();
    uint64_t pause = 0;
    while (sim_now() - start < 3500 * static_cast<uint64_t>(MILLISECOND) && pause < 100000) {
        turns(1, 1000 * MILLISECOND);
        pause++;
    }
    EXPECT_GT(pause, 1000u) << "not tried every millisecond";
    EXPECT_EQ(errors.size(), 16u + 3u) << "at once, and once a second";
    struct dgram_socket_stats stats = {};
    stats.size = sizeof(stats);
    ASSERT_EQ(dgram_socket_stats(socket, &stats), 0);
    EXPECT_GT(stats.errors_lost, 1000u);
    sim_calm();
    turns(10, MILLISECOND);
    size_t before = errors.size();
    struct dgram_addr self = {};
    ASSERT_EQ(dgram_address(socket, &self), 0);
    ASSERT_EQ(send_plain(dgram_addr_port(&self), 10), 0);
    turns(10, 10 * MILLISECOND);
    EXPECT_EQ(errors.size(), before) << "it recovers";
    ASSERT_EQ(dgram_socket_stats(socket, &stats), 0);
    EXPECT_EQ(stats.received, 1u) << "and hears";
}

/* Closed while it waits for the next try. */
TEST_F(FailedReceive, CloseWhileAFailedReceiveWaits)
{
    struct sim_faults faults = {};
    faults.stop = faults.stop_error = 1000;
    open({}, 0, faults);
    ASSERT_EQ(dgram_on_message(socket, ignore_message, nullptr), 0);
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    turns(50, 0);
    ASSERT_EQ(dgram_pause(socket), 0);
    turns(2, 0);
    ASSERT_EQ(dgram_resume(socket), 0);
    turns(50, 0);
    ASSERT_EQ(dgram_close(socket), 0);
    turns(20, MILLISECOND);
    EXPECT_EQ(sim_slots_lent(), 0u);
}

/* ---- Replies in a long dispatch ------------------------------------------------------------ */

/* Sockets that receive, so that one dispatch holds more than one receive buffer does. */
class LongDispatch : public SimOne
{
  protected:
    static constexpr uint64_t PROMISED = 256; /* deliveries between two submissions */
    static constexpr uint64_t TRAIN = 64;     /* at most so many are delivered at once */
    static constexpr unsigned RECEIVERS = 8, EACH = 400;

    void fill_buffers()
    {
        struct dgram_addr to[RECEIVERS] = {};
        for (struct dgram_addr &address : to) {
            struct dgram_socket *receiver = nullptr;
            ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, nullptr, &receiver), 0);
            ASSERT_EQ(dgram_bind(receiver, 0, "127.0.0.1"), 0);
            ASSERT_EQ(dgram_on_message(receiver, reply, this), 0);
            ASSERT_EQ(dgram_address(receiver, &address), 0);
        }
        turns(2, 0);
        for (const struct dgram_addr &address : to) {
            for (unsigned i = 0; i < EACH; i++) {
                ASSERT_EQ(dgram_send_to(socket, "0123456789", 10, &address, nullptr, nullptr), 0);
            }
        }
        ASSERT_EQ(dgram_loop_flush(loop), 0);
        taken = 0;
    }
    /* To nobody. The next one leaves no earlier than the last has been taken. */
    static void reply(struct dgram_socket *receiver, const struct dgram_message *, void *user)
    {
        LongDispatch *self = static_cast<LongDispatch *>(user);
        if (self->taken == self->replies) {
            struct dgram_addr nobody = {};
            ASSERT_EQ(dgram_addr_parse("127.0.0.1", 9, &nobody), 0);
            ASSERT_EQ(dgram_send_to(receiver, "yes", 3, &nobody, nullptr, nullptr), 0);
            self->replies++;
            self->sent_at = self->delivered;
        }
        self->longest = std::max(self->longest, self->delivered++ - self->sent_at);
    }

    unsigned replies = 0;
    uint64_t delivered = 0, sent_at = 0;
    uint64_t longest = 0; /* deliveries between a reply and its hand-over */
};

/* At the end of the turn, the first would have waited for thousands. A test of the behaviour suite
 * watches the same from outside; here it is exact, and the same on every host. */
TEST_F(LongDispatch, HandsRepliesOverAfterEach256Deliveries)
{
    struct dgram_loop_options options = {};
    struct sim_faults faults = {};
    options.segments_max = TRAIN;
    faults.merge = 1000; /* what a wire had cut is a train again */
    open(options, 0, faults);
    fill_buffers();
    turns(1, MILLISECOND);
    EXPECT_LE(longest, PROMISED + 2 * TRAIN) << "the rest of the request's train, and of the last";
    EXPECT_GE(longest, PROMISED) << "a submission costs as much as some hundred deliveries";
    EXPECT_GT(delivered, 8 * PROMISED) << "that was no long dispatch";
}

} /* namespace */
