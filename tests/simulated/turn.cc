/* SPDX-License-Identifier: MIT */
/*
 * turn.cc: how long a turn may last, and how a socket that receives ends, on a clock that only
 * handlers and waits move.
 */
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "tests/sim/pair.h"

namespace
{

constexpr uint64_t MILLISECOND = 1000000;

class SimTurn : public SimPair
{
  protected:
    void open(const struct sim_faults &faults = {}, uint32_t slots = 0)
    {
        struct dgram_loop_options options = {};
        options.slots = slots;
        ASSERT_NO_FATAL_FAILURE(open_pair(options, faults));
        dgram_on_message(receiver, on_slow, this);
        dgram_on_close(receiver, on_close, this);
    }
    /* Numbered datagrams, which are in the receiver's buffer then. */
    void flood(uint32_t count)
    {
        for (uint32_t i = 0; i < count; i++, sent++) {
            ASSERT_EQ(dgram_send_to(sender, &sent, sizeof(sent), &to, nullptr, nullptr), 0);
        }
        ASSERT_GE(dgram_loop_turn(far, 0), 0);
        sim_burn(MILLISECOND);
    }
    void turn()
    {
        ASSERT_GE(dgram_loop_turn(near, 0), 0);
    }
    void turn_until_closed()
    {
        for (int i = 0; i < 10000 && !closed; i++) {
            turn();
        }
        ASSERT_TRUE(closed);
    }

    uint64_t cost = 400000; /* of the handler */
    uint32_t sent = 0, got = 0, close_at = 0, pause_at = 0, end_at = 0;
    bool ordered = true, closed = false, feeds = false;
    struct dgram_socket_stats final = {};

  private:
    static void on_slow(struct dgram_socket *socket, const struct dgram_message *message,
                        void *user)
    {
        SimTurn *self = static_cast<SimTurn *>(user);
        uint32_t number = 0;
        memcpy(&number, message->data, sizeof(number));
        self->ordered = self->ordered && number == self->got;
        self->got++;
        sim_burn(self->cost);
        if (self->got == self->close_at) {
            dgram_close(socket);
        }
        if (self->got == self->pause_at) {
            dgram_pause(socket);
        }
        if (self->got == self->end_at) {
            EXPECT_EQ(dgram_end(socket), 0);
            EXPECT_EQ(dgram_end(socket), DGRAM_ENOTRUNNING);
        }
        if (self->feeds) { /* a flood that does not end */
            self->flood(2);
        }
    }
    static void on_close(struct dgram_socket *socket, void *user)
    {
        SimTurn *self = static_cast<SimTurn *>(user);
        self->closed = true;
        self->final.size = sizeof(self->final);
        EXPECT_EQ(dgram_socket_stats(socket, &self->final), 0);
    }
};

struct Tick {
    uint64_t next, late;
    unsigned ticks;
};

void on_tick(struct dgram_timer *, void *user)
{
    Tick *tick = static_cast<Tick *>(user);
    uint64_t late = sim_now() > tick->next ? sim_now() - tick->next : 0;
    tick->late = late > tick->late ? late : tick->late;
    tick->next += 10 * MILLISECOND;
    tick->ticks++;
}

/* A tenth of a second of handlers. */
TEST_F(SimTurn, TimersAreOnTimeBehindSlowHandlers)
{
    open();
    struct dgram_timer *timer = nullptr;
    flood(250);
    Tick tick = {sim_now() + 10 * MILLISECOND, 0, 0};
    ASSERT_EQ(dgram_timer_create(near, on_tick, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, 10 * MILLISECOND, 10 * MILLISECOND), 0);
    for (int turns = 0; turns < 1000 && got < sent; turns++) {
        uint64_t before = sim_now();
        turn();
        EXPECT_LE(sim_now() - before, 2 * MILLISECOND);
    }
    EXPECT_EQ(got, sent);
    EXPECT_TRUE(ordered);
    EXPECT_GE(tick.ticks, 9u);
    EXPECT_LE(tick.late, 3 * MILLISECOND);
}

void on_other(struct dgram_socket *, const struct dgram_message *, void *user)
{
    *static_cast<uint64_t *>(user) = sim_now();
}

/* With few slots, all of them wait for the slow one: a slot must become free all the same. */
class SimTurnSlots : public SimTurn, public ::testing::WithParamInterface<uint32_t>
{
};

TEST_P(SimTurnSlots, AnotherSocketIsServedBehindSlowHandlers)
{
    open({}, GetParam());
    struct dgram_socket *other = nullptr;
    struct dgram_addr there = {};
    uint64_t came = 0;
    ASSERT_EQ(dgram_create_socket(near, DGRAM_UDP4, nullptr, &other), 0);
    ASSERT_EQ(dgram_bind(other, 0, "127.0.0.1"), 0);
    ASSERT_EQ(dgram_address(other, &there), 0);
    ASSERT_EQ(dgram_on_message(other, on_other, &came), 0);
    turn();
    flood(250);
    turn();
    turn();
    ASSERT_EQ(dgram_send_to(sender, "x", 1, &there, nullptr, nullptr), 0);
    ASSERT_GE(dgram_loop_turn(far, 0), 0);
    uint64_t begin = sim_now();
    for (int turns = 0; turns < 100 && came == 0; turns++) {
        turn();
    }
    EXPECT_GT(came, 0u);
    EXPECT_LE(came - begin, 10 * MILLISECOND);
    EXPECT_LT(got, sent);
}

INSTANTIATE_TEST_SUITE_P(Sim, SimTurnSlots, ::testing::Values(4u, 64u));

TEST_F(SimTurn, APausedBacklogKeepsNoSlotAndComesFirst)
{
    open();
    flood(250);
    pause_at = 5;
    while (got < pause_at) {
        turn();
    }
    turn();
    EXPECT_EQ(sim_slots_lent(), 0u);
    EXPECT_EQ(got, 5u);
    ASSERT_EQ(dgram_resume(receiver), 0);
    for (int turns = 0; turns < 1000 && got < sent; turns++) {
        turn();
    }
    EXPECT_EQ(got, sent);
    EXPECT_TRUE(ordered);
}

TEST_F(SimTurn, ClosedWithABacklogEverythingIsCounted)
{
    open();
    flood(250);
    close_at = 25;
    turn_until_closed();
    EXPECT_EQ(final.received, 25u);
    EXPECT_EQ(final.discarded, 225u);
    EXPECT_EQ(sim_slots_lent(), 0u);
}

/* Nothing was taken from the kernel yet. */
TEST_F(SimTurn, CloseCountsWhatTheKernelHolds)
{
    open();
    flood(250);
    ASSERT_EQ(dgram_close(receiver), 0);
    turn_until_closed();
    EXPECT_EQ(final.received, 0u);
    EXPECT_EQ(final.discarded + final.dropped, 250u);
}

TEST_F(SimTurn, EndDeliversWhatTheKernelHolds)
{
    open();
    cost = 1000;
    flood(250);
    ASSERT_EQ(dgram_end(receiver), 0);
    turn_until_closed();
    EXPECT_EQ(final.received, 250u);
    EXPECT_TRUE(ordered);
    EXPECT_EQ(final.discarded + final.dropped, 0u);
}

TEST_F(SimTurn, EndInAHandlerEndsUnderAFlood)
{
    open();
    feeds = true;
    end_at = 10;
    flood(100);
    turn_until_closed();
    EXPECT_GE(final.received, 100u);
    EXPECT_GT(final.dropped, 0u);
    feeds = false;
}

TEST_F(SimTurn, EndEndsUnderAFloodThatCannotBeKeptOut)
{
    struct sim_faults faults = {};
    faults.no_refusal = 1000;
    open(faults);
    feeds = true;
    end_at = 10;
    flood(100);
    turn_until_closed();
    EXPECT_GE(final.received, 100u);
    feeds = false;
}

/* Whoever cannot deliver counts. */
TEST_F(SimTurn, EndOfAPausedSocketCounts)
{
    open();
    flood(250);
    ASSERT_EQ(dgram_pause(receiver), 0);
    ASSERT_EQ(dgram_end(receiver), 0);
    turn_until_closed();
    EXPECT_EQ(final.received, 0u);
    EXPECT_EQ(final.discarded + final.dropped, 250u);
}

TEST_F(SimTurn, CloseDuringTheEndIsAtOnce)
{
    open();
    flood(250);
    ASSERT_EQ(dgram_end(receiver), 0);
    turn();
    turn();
    uint32_t before = got;
    ASSERT_EQ(dgram_close(receiver), 0);
    turn_until_closed();
    EXPECT_EQ(final.received, before);
    EXPECT_EQ(final.received + final.discarded + final.dropped, 250u);
}

/* ---- Two of them --------------------------------------------------------------------------- */

/* Who was served, in order: 'a' and 'b' have slow handlers. */
class SimTurnTwo : public SimTurn
{
  protected:
    void open_two()
    {
        open();
        a = {this, 'a'};
        b = {this, 'b'};
        ASSERT_EQ(dgram_create_socket(near, DGRAM_UDP4, nullptr, &second), 0);
        ASSERT_EQ(dgram_bind(second, 0, "127.0.0.1"), 0);
        ASSERT_EQ(dgram_address(second, &to_second), 0);
        ASSERT_EQ(dgram_on_message(receiver, on_served, &a), 0);
        ASSERT_EQ(dgram_on_message(second, on_served, &b), 0);
        turn();
    }
    void send(const struct dgram_addr &where, unsigned count)
    {
        for (unsigned i = 0; i < count; i++) {
            ASSERT_EQ(dgram_send_to(sender, "x", 1, &where, nullptr, nullptr), 0);
        }
        ASSERT_GE(dgram_loop_turn(far, 0), 0);
        sim_burn(MILLISECOND);
    }
    size_t served(char who) const
    {
        return static_cast<size_t>(std::count(log.begin(), log.end(), who));
    }

    void feed_the_second()
    {
        send(to, 100);
        turn();
        for (int turns = 0; turns < 100; turns++) {
            send(to_second, 3);
            turn();
        }
        EXPECT_EQ(served('a'), 100u);
        EXPECT_GE(served('b'), 50u);
    }
    static void on_array(struct dgram_socket *, const struct dgram_message *, size_t count,
                         void *user)
    {
        SimTurnTwo *self = static_cast<SimTurnTwo *>(user);
        self->log.append(count, 'b');
        sim_burn(self->cost * count);
    }

    struct dgram_socket *second = nullptr;
    struct dgram_addr to_second = {};
    std::string log;

  private:
    struct Who {
        SimTurnTwo *self;
        char name;
    };
    static void on_served(struct dgram_socket *, const struct dgram_message *, void *user)
    {
        const Who *who = static_cast<Who *>(user);
        who->self->log += who->name;
        sim_burn(who->self->cost);
    }
    Who a = {}, b = {};
};

/* Each datagram is longer than a quantum, so nobody is served twice in a row. All fit the slots. */
TEST_F(SimTurnTwo, BacklogsAreServedByTurns)
{
    open_two();
    send(to, 30);
    send(to_second, 30);
    for (int turns = 0; turns < 1000 && log.size() < 60; turns++) {
        turn();
    }
    EXPECT_EQ(served('a'), 30u);
    EXPECT_EQ(served('b'), 30u);
    const size_t begin = log.find_first_not_of(log[0]); /* the first ones found no backlog */
    const size_t end = std::min(log.rfind('a'), log.rfind('b'));
    ASSERT_GE(end, begin + 40) << log;
    for (size_t i = begin + 1; i < end; i++) {
        EXPECT_NE(log[i], log[i - 1]) << i << " of " << log;
    }
}

/* What comes anew for another socket would take every turn as a whole. */
TEST_F(SimTurnTwo, ABacklogComesBeforeWhatIsNew)
{
    open_two();
    feed_the_second();
}

TEST_F(SimTurnTwo, ABacklogComesBeforeNewArrays)
{
    open_two();
    ASSERT_EQ(dgram_on_messages(second, on_array, this), 0);
    feed_the_second();
}

} /* namespace */
