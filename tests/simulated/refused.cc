/* SPDX-License-Identifier: MIT */
/*
 * refused.cc: what is learnt of a refused train, for how long, and of whom; in the simulator, where
 * ten seconds cost nothing and a destination's whims are a function of its address.
 */
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/sim/fixture.h"

namespace
{

constexpr unsigned BURST = 40;
constexpr int64_t SECOND = 1000000000;

class Refused : public SimTest
{
  protected:
    void open_refusing(uint32_t refusing)
    {
        struct sim_faults faults = {};
        faults.refusing = refusing;
        ASSERT_NO_FATAL_FAILURE(open_world({}, faults));
        ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, nullptr, &socket), 0);
        ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    }
    struct Cost {
        uint64_t sends, refused, errors;
    };

    struct dgram_socket_stats stats() const
    {
        struct dgram_socket_stats stats = {};
        stats.size = sizeof(stats);
        EXPECT_EQ(dgram_socket_stats(socket, &stats), 0);
        return stats;
    }

    /* So many datagrams of one size to a host: one train, if it takes trains. */
    Cost burst(const std::string &host, unsigned count = BURST)
    {
        const struct dgram_socket_stats before = stats();
        for (unsigned i = 0; i < count; i++) {
            EXPECT_EQ(dgram_send(socket, "payload", 7, 7000, host.c_str(), nullptr, nullptr), 0);
        }
        EXPECT_GE(dgram_loop_turn(loop, 0), 0);
        EXPECT_GE(dgram_loop_turn(loop, 0), 0);
        const struct dgram_socket_stats after = stats();
        return {after.sends - before.sends, after.trains_refused - before.trains_refused,
                after.send_errors - before.send_errors};
    }

    static void on_timer(struct dgram_timer *, void *)
    {
    }

    void let_pass(int64_t time)
    {
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(loop, on_timer, nullptr, &timer), 0);
        ASSERT_EQ(dgram_timer_start(timer, time, 0), 0);
        const uint64_t until = sim_now() + static_cast<uint64_t>(time);
        while (sim_now() < until) {
            ASSERT_GE(dgram_loop_turn(loop, -1), 0);
        }
        dgram_timer_free(timer);
    }

    /* Hosts that refuse every train, and hosts that take them; it takes a while to forget. */
    void find_hosts(size_t bad_wanted)
    {
        for (int i = 1; i < 250 && (good.empty() || bad.size() < bad_wanted); i++) {
            const std::string host = "10.9.0." + std::to_string(i);
            const Cost cost = burst(host);
            if (cost.refused == 1 && cost.errors == 0) {
                bad.push_back(host);
            } else if (cost.sends == 1) {
                good = host;
            }
        }
        ASSERT_EQ(bad.size(), bad_wanted);
        let_pass(11 * SECOND);
    }

    struct dgram_socket *socket = nullptr;
    std::vector<std::string> bad;
    std::string good;
};

TEST_F(Refused, IsRememberedPerDestinationForTenSeconds)
{
    open_refusing(500);
    ASSERT_NO_FATAL_FAILURE(find_hosts(1));
    for (int round = 0; round < 12; round++) { /* more than it takes to switch trains off */
        EXPECT_EQ(burst(bad[0]).refused, 1u) << "it was forgotten, or is never asked again";
        const Cost again = burst(bad[0]);
        EXPECT_EQ(again.refused, 0u);
        EXPECT_EQ(again.sends, BURST);
        EXPECT_EQ(burst(good).sends, 1u) << "another destination's refusals";
        let_pass(11 * SECOND);
    }
}

/* As on a device that takes no trains: the ninth is not asked, and nobody is for ten seconds. */
TEST_F(Refused, ByEightInARowEndsTrainsForAWhile)
{
    open_refusing(500);
    ASSERT_NO_FATAL_FAILURE(find_hosts(10));
    EXPECT_EQ(burst(good).sends, 1u); /* what was counted in the search counts no more */
    for (size_t i = 0; i < bad.size(); i++) {
        const Cost cost = burst(bad[i]);
        EXPECT_EQ(cost.refused, i < 8 ? 1u : 0u) << i;
        EXPECT_EQ(cost.sends, BURST);
    }
    EXPECT_EQ(burst(good).sends, BURST);
    let_pass(11 * SECOND);
    EXPECT_EQ(burst(good).sends, 1u) << "a while is not for ever";
    EXPECT_EQ(burst(bad[9]).refused, 1u);
}

/* Of a whole submission to one peer every train is refused: that is one peer. */
TEST_F(Refused, OftenByOneIsNoReason)
{
    open_refusing(500);
    ASSERT_NO_FATAL_FAILURE(find_hosts(1));
    EXPECT_EQ(burst(good).sends, 1u);
    EXPECT_GE(burst(bad[0], 12 * 128).refused, 12u);
    EXPECT_EQ(burst(good).sends, 1u);
}

TEST_F(Refused, ByManyIsNoReasonWhereOthersTakeTrains)
{
    open_refusing(500);
    ASSERT_NO_FATAL_FAILURE(find_hosts(8));
    for (int round = 0; round < 2; round++) {
        for (const std::string &host : bad) {
            EXPECT_EQ(burst(host).refused, 1u);
            EXPECT_EQ(burst(good).sends, 1u);
        }
        let_pass(11 * SECOND);
    }
}

} /* namespace */
