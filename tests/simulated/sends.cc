/* SPDX-License-Identifier: MIT */
/*
 * sim_found.cc: what the simulator found: one small test for each defect, on a host where nothing
 * goes wrong by chance. What a seed does changes with the program of sim_test.cc, so it is these
 * tests that guard the mending. At the end, what a program cannot see but in time: how long replies
 * wait in a long dispatch.
 */
#include "tests/sim/sim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace
{

constexpr int64_t MILLISECOND = 1000000;

/* One loop and one bound socket on a host where nothing goes wrong by chance. */
class Found : public ::testing::Test
{
  protected:
    void open(const struct dgram_loop_options &wanted, uint64_t queue_limit = 0,
              const struct sim_faults &faults = {})
    {
        const struct sim_hooks hooks = {this, count_taken, nullptr, nullptr, on_rule};
        struct dgram_loop_options options = wanted;
        struct dgram_socket_options socket_options = {};
        options.size = sizeof(options);
        socket_options.size = sizeof(socket_options);
        socket_options.queue_limit = queue_limit;
        sim_open(1, &faults, &hooks);
        ASSERT_EQ(sim_loop_create(&options, &loop), 0);
        ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &socket_options, &socket), 0);
        number = sim_last_socket();
        dgram_on_drain(socket, count_drain, this);
        dgram_on_error(socket, count_error, this);
    }
    void TearDown() override
    {
        dgram_loop_free(loop);
        sim_close();
    }
    int send_plain(uint16_t port, size_t size)
    {
        static const char bytes[2000] = {};
        return dgram_send(socket, bytes, size, port, "127.0.0.1", nullptr, nullptr);
    }
    void turns(int count, int64_t timeout)
    {
        while (count-- > 0) {
            ASSERT_GE(dgram_loop_turn(loop, timeout), 0);
        }
    }

    static void count_taken(void *user, uint32_t, const struct dgram_addr *, const unsigned char *,
                            uint32_t)
    {
        static_cast<Found *>(user)->taken++;
    }
    static void on_rule(void *, const char *rule)
    {
        ADD_FAILURE() << "a rule of the boundary: " << rule;
    }
    static void count_result(struct dgram_socket *, int, void *user)
    {
        ++*static_cast<unsigned *>(user);
    }
    static void count_drain(struct dgram_socket *, void *user)
    {
        static_cast<Found *>(user)->drains++;
    }
    static void count_error(struct dgram_socket *, const struct dgram_error *error, void *user)
    {
        static_cast<Found *>(user)->errors.push_back(error->code);
    }
    static void ignore_message(struct dgram_socket *, const struct dgram_message *, void *)
    {
    }
    static void note_lookup(struct dgram_loop *, struct dgram_lookup *lookup, const char *, int,
                            void *user)
    {
        static_cast<Found *>(user)->asked.push_back(lookup);
    }
    struct dgram_loop_options with_lookup()
    {
        struct dgram_loop_options options = {};
        options.lookup = note_lookup;
        options.lookup_user = this;
        return options;
    }

    struct dgram_loop *loop = nullptr;
    struct dgram_socket *socket = nullptr;
    uint32_t number = 0;
    unsigned taken = 0, drains = 0;
    std::vector<int> errors;
    std::vector<struct dgram_lookup *> asked;
};

/* The refusal came between two turns, when the queue was below the half already, and nothing told
 * the outer loop when what was queued had left. */
TEST_F(Found, RefusedBetweenTurnsOfAnOuterLoopDrains)
{
    open({}, 1000);
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    int fd = dgram_loop_fd(loop);
    ASSERT_GE(fd, 0);
    sim_no_room(number, -EAGAIN, sim_now() + 3600000 * static_cast<uint64_t>(MILLISECOND));
    ASSERT_EQ(send_plain(9000, 100), 0);
    for (int i = 0; i < 10 && sim_readable(fd); i++) {
        turns(1, 0);
    }
    ASSERT_FALSE(sim_readable(fd));
    ASSERT_EQ(send_plain(9000, 950), -EAGAIN);
    turns(1, 0);
    EXPECT_EQ(drains, 0u) << "it would be refused again";
    sim_no_room(number, -EAGAIN, sim_now());
    for (int i = 0; i < 10 && sim_readable(fd); i++) {
        turns(1, 0);
    }
    EXPECT_EQ(drains, 1u);
    EXPECT_EQ(send_plain(9000, 950), 0);
}

/* A datagram that was refused below the half drained at once, and was refused again: 5 million
 * turns a second. */
TEST_F(Found, DrainMeansThatTheRefusedOneFits)
{
    open({}, 1000);
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    turns(2, 0);
    sim_no_room(number, -EAGAIN, sim_now() + 100 * static_cast<uint64_t>(MILLISECOND));
    ASSERT_EQ(send_plain(9000, 400), 0); /* below the half, and so it stays */
    ASSERT_EQ(send_plain(9000, 600), -EAGAIN);
    uint64_t start = sim_now();
    turns(5, 10 * MILLISECOND);
    EXPECT_EQ(drains, 0u);
    EXPECT_GE(sim_now() - start, static_cast<uint64_t>(40 * MILLISECOND)) << "it does not sleep";
    turns(10, 20 * MILLISECOND);
    EXPECT_EQ(drains, 1u);
    EXPECT_EQ(send_plain(9000, 600), 0);
}

/* Its send waited for a name of the other loop, which forgot it when the socket closed. */
TEST_F(Found, ADestinationOfAnotherLoopIsRefused)
{
    open(with_lookup());
    struct dgram_loop *other = nullptr;
    struct dgram_destination *handle = nullptr;
    ASSERT_EQ(sim_loop_create(nullptr, &other), 0);
    ASSERT_EQ(dgram_destination_create(other, DGRAM_UDP4, 9000, "127.0.0.1", &handle), 0);
    struct dgram_outgoing item = {};
    item.data = "x";
    item.size = 1;
    item.destination = handle;
    EXPECT_EQ(dgram_send_dest(socket, "x", 1, handle, nullptr, nullptr), DGRAM_EWRONGLOOP);
    EXPECT_EQ(dgram_send_many(socket, &item, 1, nullptr, nullptr), 0);
    EXPECT_EQ(item.status, DGRAM_EWRONGLOOP);
    dgram_destination_free(handle);
    dgram_loop_free(other);
}

/* A dead name was asked for with every send to it. */
TEST_F(Found, AFailureIsRememberedForASecond)
{
    open(with_lookup());
    std::vector<int> results;
    struct dgram_destination *handle = nullptr;
    auto sent = [](struct dgram_socket *, int result, void *user) {
        static_cast<std::vector<int> *>(user)->push_back(result);
    };
    ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9000, "dead.test", &handle), 0);
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    ASSERT_EQ(dgram_send_dest(socket, "x", 1, handle, sent, &results), 0);
    turns(2, 0);
    ASSERT_EQ(asked.size(), 1u);
    dgram_lookup_answer(asked[0], DGRAM_ENOTFOUND, nullptr, 0);
    turns(2, 0);
    for (int i = 0; i < 20; i++) {
        ASSERT_EQ(dgram_send_dest(socket, "x", 1, handle, sent, &results), 0);
        ASSERT_EQ(dgram_send(socket, "x", 1, 9000, "DEAD.test", sent, &results), 0);
        turns(2, 0);
    }
    EXPECT_EQ(results, std::vector<int>(41, DGRAM_ENOTFOUND));
    EXPECT_EQ(asked.size(), 1u);
    uint64_t over = sim_now() + 1001 * static_cast<uint64_t>(MILLISECOND);
    while (sim_now() < over) {
        turns(1, 100 * MILLISECOND);
    }
    struct dgram_addr address = {};
    ASSERT_EQ(dgram_addr_parse("127.0.0.1", 0, &address), 0);
    ASSERT_EQ(dgram_send_dest(socket, "x", 1, handle, sent, &results), 0);
    turns(2, 0);
    ASSERT_EQ(asked.size(), 2u);
    dgram_lookup_answer(asked[1], 0, &address, 60);
    turns(4, 0);
    EXPECT_EQ(results.back(), 1);
    dgram_destination_free(handle);
}

/* And its last good address served, but the name was asked for with every send. */
TEST_F(Found, AFailedRefreshIsRememberedToo)
{
    open(with_lookup());
    struct dgram_destination *handle = nullptr;
    struct dgram_addr address = {};
    ASSERT_EQ(dgram_addr_parse("127.0.0.1", 0, &address), 0);
    ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9000, "host.test", &handle), 0);
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    ASSERT_EQ(dgram_send_dest(socket, "x", 1, handle, nullptr, nullptr), 0);
    turns(2, 0);
    dgram_lookup_answer(asked.at(0), 0, &address, 1);
    uint64_t over = sim_now() + 1001 * static_cast<uint64_t>(MILLISECOND);
    while (sim_now() < over) {
        turns(1, 100 * MILLISECOND);
    }
    for (int i = 0; i < 20; i++) {
        ASSERT_EQ(dgram_send_dest(socket, "x", 1, handle, nullptr, nullptr), 0);
        turns(2, 0);
        if (i == 0) {
            dgram_lookup_answer(asked.at(1), DGRAM_EDNSFAILED, nullptr, 0);
        }
        turns(2, 0);
    }
    EXPECT_EQ(asked.size(), 2u);
    EXPECT_EQ(taken, 21u);
    EXPECT_EQ(errors.size(), 0u);
    dgram_destination_free(handle);
}

/* A send that got ENOBUFS in the busy wait was tried again only when the sleep that had been
 * planned before was over. */
TEST_F(Found, BusyPollingMindsTheRetry)
{
    struct dgram_loop_options options = {};
    options.busy_poll_us = 10;
    open(options);
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    turns(2, 0);
    uint64_t start = sim_now();
    sim_no_room(number, -ENOBUFS, start + 500000);
    ASSERT_EQ(send_plain(9000, 100), 0);
    turns(1, 1000 * MILLISECOND);
    turns(1, 0);
    EXPECT_EQ(taken, 1u);
    EXPECT_LT(sim_now() - start, static_cast<uint64_t>(10 * MILLISECOND));
}

/* When ENOBUFS became the result of the first of a train, those behind it had it, too, whatever
 * time they had had. Others of the socket are sent meanwhile. */
TEST_F(Found, HopelessDatagramsHaveASecondEach)
{
    constexpr unsigned COUNT = 3;
    struct Hopeless {
        uint64_t from, until;
        int result;
        static void on_sent(struct dgram_socket *, int result, void *user)
        {
            static_cast<Hopeless *>(user)->until = sim_now();
            static_cast<Hopeless *>(user)->result = result;
        }
    } hopeless[COUNT] = {};
    open({});
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    sim_no_room_for(7000);
    for (int tick = 0; tick < 500; tick++) { /* of 10 ms */
        if (tick % 60 == 0 && tick / 60 < static_cast<int>(COUNT)) {
            Hopeless *one = &hopeless[tick / 60];
            one->from = sim_now();
            ASSERT_EQ(dgram_send(socket, "hopeless", 8, 7000, "127.0.0.1", Hopeless::on_sent, one),
                      0);
        }
        ASSERT_EQ(send_plain(9000, 100), 0);
        const uint64_t until = sim_now() + 10 * static_cast<uint64_t>(MILLISECOND);
        while (sim_now() < until) {
            turns(1, MILLISECOND);
        }
    }
    for (const Hopeless &one : hopeless) {
        EXPECT_EQ(one.result, -ENOBUFS);
        EXPECT_GE(one.until - one.from, 990 * static_cast<uint64_t>(MILLISECOND));
    }
    EXPECT_EQ(taken, 500u);
}

/* A second without buffers was counted in refusals, so many peers made it a few milliseconds. */
TEST_F(Found, ManyPeersWaitForBuffersAsLongAsOne)
{
    open({});
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    turns(2, 0);
    uint64_t end = sim_now() + 100 * static_cast<uint64_t>(MILLISECOND);
    sim_no_room(number, -ENOBUFS, end);
    for (uint16_t peer = 0; peer < 100; peer++) {
        ASSERT_EQ(send_plain(static_cast<uint16_t>(9000 + peer), 100), 0);
    }
    while (sim_now() < end + 10 * MILLISECOND) {
        turns(1, MILLISECOND);
    }
    EXPECT_EQ(errors.size(), 0u) << dgram_error_name(errors[0]);
    EXPECT_EQ(taken, 100u);
}

/* What waited for the bind left all the same, from a port of the kernel's choice. */
TEST_F(Found, CloseDuringABindToANameSendsNothing)
{
    open(with_lookup());
    ASSERT_EQ(dgram_bind(socket, 5000, "host.test"), 0);
    ASSERT_EQ(send_plain(9000, 100), 0);
    turns(2, 0);
    ASSERT_EQ(dgram_close(socket), 0);
    turns(4, 0);
    EXPECT_EQ(taken, 0u);
    EXPECT_EQ(errors, std::vector<int>({-ECANCELED}));
    ASSERT_EQ(asked.size(), 1u);
    dgram_lookup_answer(asked[0], DGRAM_ENOTFOUND, nullptr, 0);
}

/* A receive that failed every time was started again at once: an `error` a turn, a turn at once.
 * Then it was tried and told a thousand times a second, for ever. */
TEST_F(Found, AReceiveThatAlwaysFailsIsNotTriedWithoutPause)
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

/* EAGAIN is back-pressure, unless the engine breaks with it: while a refused train was sent again,
 * one by one or what was behind it, that was not seen, and the rest was parked for good. */
TEST_F(Found, AnEngineThatBreaksDuringASecondAttemptParksNothing)
{
    for (int code : {-EAGAIN, -ENOBUFS, -EIO}) {
        for (uint32_t calls = 1; calls <= 20; calls++) {
            SCOPED_TRACE(testing::Message() << code << " at call " << calls);
            struct sim_faults faults = {};
            faults.refuse = 1000;
            open({}, 0, faults);
            ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
            turns(2, 0);
            unsigned results = 0;
            for (size_t i = 0; i < 12; i++) { /* two trains, the second behind the first */
                ASSERT_EQ(dgram_send(socket, "0123456789", i < 6 ? 5 : 10, 9000, "127.0.0.1",
                                     count_result, &results),
                          0);
            }
            sim_break(calls, code);
            const int flushed = dgram_loop_flush(loop);
            EXPECT_EQ(flushed, sim_broken());
            (void) dgram_loop_turn(loop, 0);
            EXPECT_EQ(results, 12u);
            TearDown();
        }
    }
    open({});
}

/* Closed while it waits for the next try. */
TEST_F(Found, CloseWhileAFailedReceiveWaits)
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

/* They were told EADDRNOTAVAIL, whatever bind(2) had said. */
TEST_F(Found, ABindThatFailsTellsSendsToOtherNamesWhy)
{
    open(with_lookup());
    struct dgram_addr address = {};
    struct dgram_socket *other = nullptr;
    ASSERT_EQ(dgram_addr_parse("127.0.0.1", 0, &address), 0);
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, nullptr, &other), 0);
    ASSERT_EQ(dgram_bind(other, 5000, "127.0.0.1"), 0);
    ASSERT_EQ(dgram_bind(socket, 5000, "local.test"), 0);
    ASSERT_EQ(dgram_send(socket, "x", 1, 9000, "peer.test", nullptr, nullptr), 0);
    turns(2, 0);
    ASSERT_EQ(asked.size(), 2u);
    dgram_lookup_answer(asked[0], 0, &address, 60);
    turns(4, 0);
    dgram_lookup_answer(asked[1], 0, &address, 60);
    turns(4, 0);
    EXPECT_EQ(errors, std::vector<int>({-EADDRINUSE, -EADDRINUSE}));
}

/* The same for sends that waited for another name when the bind failed. */
TEST_F(Found, AFailedBindToANameFailsSendsToOtherNames)
{
    open(with_lookup());
    struct dgram_addr address = {};
    ASSERT_EQ(dgram_addr_parse("127.0.0.1", 0, &address), 0);
    ASSERT_EQ(dgram_bind(socket, 5000, "local.test"), 0);
    ASSERT_EQ(dgram_send(socket, "x", 1, 9000, "peer.test", nullptr, nullptr), 0);
    turns(2, 0);
    ASSERT_EQ(asked.size(), 2u);
    dgram_lookup_answer(asked[0], DGRAM_ENOTFOUND, nullptr, 0);
    turns(2, 0);
    dgram_lookup_answer(asked[1], 0, &address, 60);
    turns(4, 0);
    EXPECT_EQ(taken, 0u);
    EXPECT_EQ(errors, std::vector<int>({DGRAM_ENOTFOUND, DGRAM_ENOTFOUND}));
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
}

/* ---- Replies in a long dispatch ------------------------------------------------------------ */

/* Sockets that receive, so that one dispatch holds more than one receive buffer does. */
class LongDispatch : public Found
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
