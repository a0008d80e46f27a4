/* SPDX-License-Identifier: MIT */
/*
 * sim_stall.cc: destinations for which the kernel has no memory (ENOBUFS), beside others that are
 * well: nobody else waits for them, nobody's queue is full because of them, and they take turns. In
 * the simulator, whose device takes what the test lets it.
 */
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <vector>

#include "tests/sim/sim.h"

namespace
{

constexpr int64_t MILLISECOND = 1000000;
constexpr uint16_t DEAD = 7000, ALSO_DEAD = 7001, ALIVE = 9000;

class Stall : public ::testing::Test
{
  protected:
    void SetUp() override
    {
        const struct sim_faults faults = {};
        const struct sim_hooks hooks = {this, note, nullptr, nullptr, on_rule};
        struct dgram_loop_options options = {};
        options.size = sizeof(options);
        sim_open(1, &faults, &hooks);
        ASSERT_EQ(sim_loop_create(&options, &loop), 0);
        socket = open();
    }
    void TearDown() override
    {
        loop = dgram_loop_free(loop);
        sim_close();
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

    static void note(void *user, uint32_t, const struct dgram_addr *to, const unsigned char *data,
                     uint32_t size)
    {
        Stall *self = static_cast<Stall *>(user);
        const uint16_t port = ntohs(to->u.in4.sin_port);
        uint32_t number = 0;
        ASSERT_GE(size, sizeof(number));
        memcpy(&number, data, sizeof(number));
        self->taken[port].push_back(number);
        self->order.push_back(port);
    }
    static void on_drain(struct dgram_socket *, void *user)
    {
        static_cast<Stall *>(user)->drains++;
    }
    static void on_sent(struct dgram_socket *, int result, void *user)
    {
        static_cast<Stall *>(user)->results.push_back(result);
    }
    static void on_rule(void *, const char *rule)
    {
        ADD_FAILURE() << "a rule of the boundary: " << rule;
    }
    void expect_in_order(uint16_t port, size_t count)
    {
        ASSERT_EQ(taken[port].size(), count) << port;
        for (size_t i = 0; i < count; i++) {
            ASSERT_EQ(taken[port][i], i) << port;
        }
    }

    struct dgram_loop *loop = nullptr;
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

} /* namespace */
