/* SPDX-License-Identifier: MIT */
/*
 * pair.h: two loops of the simulator with a socket each: the near one, which is tested, and the far
 * one, which sends to it, on a host where nothing goes wrong by chance.
 */
#ifndef DGRAM_TESTS_SIM_PAIR_H
#define DGRAM_TESTS_SIM_PAIR_H

#include "tests/sim/fixture.h"

class SimPair : public ::testing::Test
{
  protected:
    /* `wanted`: of the near loop. */
    void open_pair(struct dgram_loop_options wanted, const struct sim_faults &faults)
    {
        struct sim_hooks hooks = {};
        struct dgram_loop_options options = {};
        hooks.broken = sim_rule_broken;
        options.size = wanted.size = sizeof(options);
        sim_open(1, &faults, &hooks);
        ASSERT_EQ(sim_loop_create(&options, &far), 0);
        ASSERT_EQ(sim_loop_create(&wanted, &near), 0);
        ASSERT_EQ(dgram_create_socket(far, DGRAM_UDP4, nullptr, &sender), 0);
        ASSERT_EQ(dgram_create_socket(near, DGRAM_UDP4, nullptr, &receiver), 0);
        number = sim_last_socket();
        ASSERT_EQ(dgram_bind(receiver, 0, "127.0.0.1"), 0);
        ASSERT_EQ(dgram_bind(sender, 0, "127.0.0.1"), 0);
        ASSERT_EQ(dgram_address(receiver, &to), 0);
        dgram_on_message(receiver, on_message, this);
        ASSERT_GE(dgram_loop_turn(far, 0), 0);
        ASSERT_GE(dgram_loop_turn(near, 0), 0);
    }
    void TearDown() override
    {
        dgram_loop_free(near);
        dgram_loop_free(far);
        sim_close();
    }

    struct dgram_loop *far = nullptr, *near = nullptr;
    struct dgram_socket *sender = nullptr, *receiver = nullptr;
    struct dgram_addr to = {}; /* the receiver's */
    uint32_t number = 0;       /* and its number in the simulator */
    unsigned received = 0;
    unsigned told = 0;    /* answers of whose fate the receiver was told */
    bool answers = false; /* the receiver does, to each datagram, */
    bool asks = false;    /* and wants to be told */

  private:
    static void on_message(struct dgram_socket *socket, const struct dgram_message *message,
                           void *user)
    {
        SimPair *self = static_cast<SimPair *>(user);
        self->received++;
        if (self->answers) {
            EXPECT_EQ(dgram_send_to(socket, "yes", 3, message->from, self->asks ? on_told : nullptr,
                                    self),
                      0);
        }
    }
    static void on_told(struct dgram_socket *, int, void *user)
    {
        static_cast<SimPair *>(user)->told++;
    }
};

#endif
