/* SPDX-License-Identifier: MIT */
/*
 * fixture.h: a loop in the simulator's world, for tests that arrange one situation: SimTest has the
 * loop, SimOne one socket as well. Nothing goes wrong there by chance, unless a test asks for it.
 */
#ifndef DGRAM_TESTS_SIM_FIXTURE_H
#define DGRAM_TESTS_SIM_FIXTURE_H

#include <gtest/gtest.h>

#include <vector>

#include "tests/sim/sim.h"

/* The hook `broken`. */
inline void sim_rule_broken(void *, const char *rule)
{
    ADD_FAILURE() << "a rule of the boundary: " << rule;
}

class SimTest : public ::testing::Test
{
  protected:
    static constexpr int64_t MILLISECOND = 1000000;
    static constexpr uint16_t DEAD = 7000, ALSO_DEAD = 7001, ALIVE = 9000; /* ports */

    void open_world(struct dgram_loop_options options, const struct sim_faults &faults = {})
    {
        const struct sim_hooks hooks = {this, on_taken, nullptr, nullptr, on_rule};
        options.size = sizeof(options);
        sim_open(1, &faults, &hooks);
        ASSERT_EQ(sim_loop_create(&options, &loop), 0);
    }
    void TearDown() override
    {
        loop = dgram_loop_free(loop);
        sim_close();
    }
    void turns(int count, int64_t timeout)
    {
        while (count-- > 0) {
            ASSERT_GE(dgram_loop_turn(loop, timeout), 0);
        }
    }

    /* The kernel took a datagram. */
    virtual void take(const struct dgram_addr *, const unsigned char *, uint32_t)
    {
    }
    /* The core broke a rule of its boundaries. */
    virtual void rule_broken(const char *rule)
    {
        sim_rule_broken(nullptr, rule);
    }

    struct dgram_loop *loop = nullptr;

  private:
    static void on_taken(void *user, uint32_t, const struct dgram_addr *to,
                         const unsigned char *data, uint32_t size)
    {
        static_cast<SimTest *>(user)->take(to, data, size);
    }
    static void on_rule(void *user, const char *rule)
    {
        static_cast<SimTest *>(user)->rule_broken(rule);
    }
};

/* One socket, and counts of all that is told about it. */
class SimOne : public SimTest
{
  protected:
    void open(const struct dgram_loop_options &wanted, uint64_t queue_limit = 0,
              const struct sim_faults &faults = {})
    {
        struct dgram_socket_options socket_options = {};
        socket_options.size = sizeof(socket_options);
        socket_options.queue_limit = queue_limit;
        ASSERT_NO_FATAL_FAILURE(open_world(wanted, faults));
        ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &socket_options, &socket), 0);
        number = sim_last_socket();
        dgram_on_drain(socket, count_drain, this);
        dgram_on_error(socket, count_error, this);
    }
    int send_plain(uint16_t port, size_t size)
    {
        static const char bytes[2000] = {};
        return dgram_send(socket, bytes, size, port, "127.0.0.1", nullptr, nullptr);
    }
    void take(const struct dgram_addr *, const unsigned char *, uint32_t) override
    {
        taken++;
    }

    static void ignore_message(struct dgram_socket *, const struct dgram_message *, void *)
    {
    }

    struct dgram_socket *socket = nullptr;
    uint32_t number = 0; /* in the simulator */
    unsigned taken = 0, drains = 0;
    std::vector<int> errors;

  private:
    static void count_drain(struct dgram_socket *, void *user)
    {
        static_cast<SimOne *>(user)->drains++;
    }
    static void count_error(struct dgram_socket *, const struct dgram_error *error, void *user)
    {
        static_cast<SimOne *>(user)->errors.push_back(error->code);
    }
};

#endif
