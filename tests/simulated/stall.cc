/* SPDX-License-Identifier: MIT */
/*
 * stall.cc: destinations for which the kernel has no memory (ENOBUFS), beside others that are well:
 * nobody else waits for them, nobody's queue is full because of them, and they take turns. Then one
 * socket that gets EAGAIN or ENOBUFS: when it is tried again, and when it drains. The device of
 * this host takes as much as the test lets it.
 */
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <vector>

#include "tests/sim/fixture.h"
#include "tests/sim/sim.h"

namespace
{

class NoRoom : public SimOne
{
};

class Stall : public SimTest
{
  protected:
    void SetUp() override
    {
        ASSERT_NO_FATAL_FAILURE(open_world({}));
        socket = open();
    }
    struct dgram_socket *open(uint64_t queue_limit = 0)
    {
        struct dgram_socket *made = nullptr;
        struct dgram_socket_options options = {};
        options.size = sizeof(options);
        options.queue_limit = queue_limit;
        EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &made), 0);
        EXPECT_EQ(dgram_bind(made, 0, ""), 0);
        dgram_on_drain(made, on_drain, this);
        turn(0);
        return made;
    }
    /* The next number to this port. */
    int send(struct dgram_socket *from, uint16_t port, size_t size = 1000,
             dgram_sent_fn *fn = nullptr)
    {
        static unsigned char bytes[2000];
        memcpy(bytes, &next[port], sizeof(next[port]));
        int code = dgram_send(from, bytes, size, port, "127.0.0.1", fn, this);
        next[port] += code == 0;
        return code;
    }
    void turn(int64_t timeout)
    {
        ASSERT_GE(dgram_loop_turn(loop, timeout), 0);
    }
    void let_pass(int64_t time)
    {
        const uint64_t until = sim_now() + static_cast<uint64_t>(time);
        while (sim_now() < until) {
            turn(MILLISECOND / 4);
        }
    }

    void take(const struct dgram_addr *to, const unsigned char *data, uint32_t size) override
    {
        const uint16_t port = ntohs(to->u.in4.sin_port);
        uint32_t number = 0;
        ASSERT_GE(size, sizeof(number));
        memcpy(&number, data, sizeof(number));
        taken[port].push_back(number);
        order.push_back(port);
    }
    static void on_drain(struct dgram_socket *, void *user)
    {
        static_cast<Stall *>(user)->drains++;
    }
    static void on_sent(struct dgram_socket *, int result, void *user)
    {
        static_cast<Stall *>(user)->results.push_back(result);
    }
    void expect_in_order(uint16_t port, size_t count)
    {
        ASSERT_EQ(taken[port].size(), count) << port;
        for (size_t i = 0; i < count; i++) {
            ASSERT_EQ(taken[port][i], i) << port;
        }
    }

    struct dgram_socket *socket = nullptr;
    std::map<uint16_t, uint32_t> next;
    std::map<uint16_t, std::vector<uint32_t>> taken;
    std::vector<uint16_t> order;
    std::vector<int> results;
    unsigned drains = 0;
};

/* The working one got nothing through while the other had no room, and then -EAGAIN. */
TEST_F(Stall, OfOneDestinationIsNoOthers)
{
    unsigned refused = 0;
    sim_no_room_for(DEAD);
    for (unsigned tick = 0; tick < 90; tick++) {
        for (int i = 0; i < 50; i++) {
            refused += send(socket, DEAD) == -EAGAIN;
        }
        ASSERT_EQ(send(socket, ALIVE), 0) << tick;
        turn(0);
        turn(0);
        ASSERT_EQ(taken[ALIVE].size(), tick + 1) << "it waits for another destination";
        let_pass(10 * MILLISECOND);
    }
    EXPECT_GT(refused, 0u) << "what waits for it has no bound";
    EXPECT_LT(dgram_get_send_queue_size(socket), 2u << 20) << "it has more than its half";
    EXPECT_GT(dgram_get_send_queue_size(socket), 1u << 20) << "it has no use of its half";
    EXPECT_EQ(drains, 0u);
    sim_room_for(DEAD);
    let_pass(10 * MILLISECOND);
    EXPECT_EQ(drains, 1u);
    ASSERT_NO_FATAL_FAILURE(expect_in_order(DEAD, next[DEAD]));
    ASSERT_NO_FATAL_FAILURE(expect_in_order(ALIVE, 90));
    ASSERT_EQ(send(socket, DEAD), 0);
    turn(0);
    EXPECT_EQ(taken[DEAD].size(), next[DEAD]);
}

/* A short queue, filled by one destination before anybody knew that it has no room. */
TEST_F(Stall, LeavesHalfOfAShortQueue)
{
    struct dgram_socket *narrow = open(20000);
    sim_no_room_for(DEAD);
    while (send(narrow, DEAD) == 0) {
    }
    turn(0);
    turn(0);
    for (unsigned i = 0; i < 9; i++) {
        ASSERT_EQ(send(narrow, ALIVE), 0) << i;
    }
    EXPECT_EQ(send(narrow, ALIVE), -EAGAIN) << "the limit";
}

/* With eight such sockets the loop's queue was full, too. */
TEST_F(Stall, OfManySocketsIsNoOtherSockets)
{
    std::vector<struct dgram_socket *> others;
    for (int i = 0; i < 8; i++) {
        others.push_back(open());
    }
    sim_no_room_for(DEAD);
    for (unsigned round = 0; round < 60; round++) {
        for (struct dgram_socket *other : others) {
            for (int i = 0; i < 50; i++) {
                send(other, DEAD);
            }
        }
        ASSERT_EQ(send(socket, ALIVE), 0) << round;
        turn(0);
    }
    turn(0);
    EXPECT_EQ(taken[ALIVE].size(), 60u);
}

/* A second destination without room still gets a place beside one that has all it may have. */
TEST_F(Stall, LeavesRoomForAnother)
{
    sim_no_room_for(DEAD);
    sim_no_room_for(ALSO_DEAD);
    for (int tick = 0; tick < 80; tick++) {
        for (int i = 0; i < 50; i++) {
            send(socket, DEAD);
        }
        turn(0);
    }
    ASSERT_EQ(send(socket, DEAD), -EAGAIN);
    for (unsigned i = 0; i < 100; i++) {
        ASSERT_EQ(send(socket, ALSO_DEAD), 0) << i;
        turn(0);
    }
}

/* One slow device before both: each gets its part of what it takes. */
TEST_F(Stall, TakesTurns)
{
    const uint16_t ports[] = {DEAD, ALSO_DEAD, 7002};
    for (uint16_t port : ports) {
        sim_no_room_for(port);
        for (int i = 0; i < 100; i++) {
            ASSERT_EQ(send(socket, port), 0);
        }
    }
    turn(0);
    for (int i = 0; i < 60; i++) {
        sim_room(1);
        let_pass(2 * MILLISECOND);
    }
    EXPECT_EQ(order.size(), 60u);
    for (uint16_t port : ports) {
        EXPECT_GE(taken[port].size(), 15u) << port;
        ASSERT_NO_FATAL_FAILURE(expect_in_order(port, taken[port].size()));
    }
}

/* More of them than are tried in one go. */
TEST_F(Stall, OfHundredsComesToTheLast)
{
    constexpr uint16_t COUNT = 200;
    for (uint16_t port = DEAD; port < DEAD + COUNT; port++) {
        sim_no_room_for(port);
        ASSERT_EQ(send(socket, port), 0);
    }
    let_pass(3 * MILLISECOND);
    EXPECT_EQ(order.size(), 0u);
    sim_room(COUNT);
    let_pass(20 * MILLISECOND);
    EXPECT_EQ(order.size(), COUNT);
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
}

/* Newer ones queue up behind, also when the socket's own buffer is full for a while. */
TEST_F(Stall, KeepsTheOrderOfItsDestination)
{
    const uint32_t number = sim_last_socket();
    sim_no_room_for(DEAD);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 5; i++) {
            ASSERT_EQ(send(socket, DEAD, 1000 - 10 * i), 0);
            ASSERT_EQ(send(socket, ALIVE, 100 + 10 * i), 0);
        }
        if (round % 3 == 1) {
            sim_no_room(number, -EAGAIN, sim_now() + 3 * MILLISECOND);
        }
        let_pass((round % 4) * MILLISECOND);
        if (round % 5 == 2) {
            sim_room(3);
        }
    }
    sim_room_for(DEAD);
    let_pass(20 * MILLISECOND);
    ASSERT_NO_FATAL_FAILURE(expect_in_order(DEAD, 100));
    ASSERT_NO_FATAL_FAILURE(expect_in_order(ALIVE, 100));
}

TEST_F(Stall, EndsWithItsSocket)
{
    for (bool room : {true, false}) {
        SCOPED_TRACE(room);
        results.clear();
        struct dgram_socket *closed = open();
        sim_no_room_for(DEAD);
        for (int i = 0; i < 3; i++) {
            ASSERT_EQ(send(closed, DEAD, 500, on_sent), 0);
        }
        let_pass(2 * MILLISECOND);
        EXPECT_EQ(results.size(), 0u);
        if (room) {
            sim_room_for(DEAD);
        }
        ASSERT_EQ(dgram_close(closed), 0);
        let_pass(2 * MILLISECOND);
        EXPECT_EQ(results, std::vector<int>(3, room ? 500 : -ECANCELED));
    }
}

/* What ends waits for it. */
TEST_F(Stall, IsWaitedForByEnd)
{
    sim_no_room_for(DEAD);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(send(socket, DEAD, 500, on_sent), 0);
    }
    turn(0);
    ASSERT_EQ(dgram_end(socket), 0);
    let_pass(5 * MILLISECOND);
    EXPECT_EQ(results.size(), 0u);
    sim_room_for(DEAD);
    let_pass(5 * MILLISECOND);
    EXPECT_EQ(results, std::vector<int>(3, 500));
}

/* A dead destination's datagrams fail after a second each, as they always did; then it is as any
 * other. */
TEST_F(Stall, IsOverWhenNothingWaits)
{
    sim_no_room_for(DEAD);
    ASSERT_EQ(send(socket, DEAD, 500, on_sent), 0);
    for (int i = 0; i < 150; i++) {
        ASSERT_EQ(send(socket, ALIVE), 0);
        let_pass(10 * MILLISECOND);
    }
    EXPECT_EQ(results, std::vector<int>{-ENOBUFS});
    sim_room_for(DEAD);
    ASSERT_EQ(send(socket, DEAD, 500, on_sent), 0);
    turn(0);
    EXPECT_EQ(results, (std::vector<int>{-ENOBUFS, 500}));
}

/* ---- Sent on without room ------------------------------------------------------------------ */

/* What a handler sends on with a callback waits for room in the relay's buffer, while later
 * messages come into the slots of the first. */
TEST_F(Stall, OfARelayLeavesItsMessagesAsTheyWere)
{
    constexpr uint32_t COUNT = 200; /* of more slots than there are */
    struct Relay {
        struct dgram_addr to;
        unsigned relayed, results;
        static void on_message(struct dgram_socket *which, const struct dgram_message *message,
                               void *user)
        {
            Relay *self = static_cast<Relay *>(user);
            self->relayed++;
            EXPECT_EQ(dgram_send_to(which, message->data, message->size, &self->to, on_sent, self),
                      0);
        }
        static void on_sent(struct dgram_socket *, int result, void *user)
        {
            EXPECT_EQ(result, 1000);
            static_cast<Relay *>(user)->results++;
        }
    } relay = {};
    struct dgram_socket *between = open();
    const uint32_t number = sim_last_socket();
    struct dgram_addr here = {};
    ASSERT_EQ(dgram_address(between, &here), 0);
    ASSERT_EQ(dgram_addr_parse("127.0.0.1", ALIVE, &relay.to), 0);
    ASSERT_EQ(dgram_on_message(between, Relay::on_message, &relay), 0);
    sim_no_room(number, -EAGAIN, sim_now() + 500 * MILLISECOND);
    for (uint32_t i = 0; i < COUNT; i++) {
        ASSERT_EQ(send(socket, dgram_addr_port(&here)), 0);
        turn(0);
        let_pass(MILLISECOND / 2);
    }
    ASSERT_EQ(relay.relayed, COUNT);
    EXPECT_EQ(taken[ALIVE].size(), 0u);
    let_pass(600 * MILLISECOND);
    EXPECT_EQ(relay.results, COUNT);
    ASSERT_NO_FATAL_FAILURE(expect_in_order(ALIVE, COUNT));
}

/* The refusal came between two turns, when the queue was below the half already, and nothing told
 * the outer loop when what was queued had left. */
TEST_F(NoRoom, RefusedBetweenTurnsOfAnOuterLoopDrains)
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
TEST_F(NoRoom, DrainMeansThatTheRefusedOneFits)
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

/* A send that got ENOBUFS in the busy wait was tried again only when the sleep that had been
 * planned before was over. */
TEST_F(NoRoom, BusyPollingMindsTheRetry)
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
TEST_F(NoRoom, HopelessDatagramsHaveASecondEach)
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

/* The retry of a socket that closed had stayed set, and ended the next sleep. */
TEST_F(NoRoom, NothingWakesTheLoopForASocketThatIsGone)
{
    open({});
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    struct dgram_socket *other = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, nullptr, &other), 0);
    ASSERT_EQ(dgram_bind(other, 0, ""), 0);
    turns(2, 0);
    sim_no_room_for(7000);
    ASSERT_EQ(send_plain(7000, 100), 0);
    turns(1, 0);
    ASSERT_EQ(dgram_close(socket), 0);
    for (int i = 0; i < 4; i++) {
        turns(1, 0);
    }
    const uint64_t start = sim_now();
    turns(1, 1000 * MILLISECOND);
    EXPECT_GE(sim_now() - start, 1000 * static_cast<uint64_t>(MILLISECOND));
}

/* Where nothing of the socket can be sent, each of them need not have a second of its own: a dead
 * device would hold a thousand datagrams for a quarter of an hour. */
TEST_F(NoRoom, ASecondIsEnoughForAllWhereNothingLeaves)
{
    constexpr unsigned COUNT = 100;
    struct Dead {
        unsigned failed;
        static void on_sent(struct dgram_socket *, int result, void *user)
        {
            EXPECT_EQ(result, -ENOBUFS);
            static_cast<Dead *>(user)->failed++;
        }
    } dead = {};
    open({});
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    sim_no_room_for(7000);
    const uint64_t start = sim_now();
    for (unsigned i = 0; i < COUNT; i++) {
        ASSERT_EQ(dgram_send(socket, "dead", 4, 7000, "127.0.0.1", Dead::on_sent, &dead), 0);
    }
    while (dead.failed < COUNT && sim_now() - start < 5000 * static_cast<uint64_t>(MILLISECOND)) {
        turns(1, MILLISECOND);
    }
    EXPECT_EQ(dead.failed, COUNT);
    EXPECT_GE(sim_now() - start, 990 * static_cast<uint64_t>(MILLISECOND));
    EXPECT_LT(sim_now() - start, 3000 * static_cast<uint64_t>(MILLISECOND));
}

/* A second without buffers was counted in refusals, so many peers made it a few milliseconds. */
TEST_F(NoRoom, ManyPeersWaitForBuffersAsLongAsOne)
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

} /* namespace */
