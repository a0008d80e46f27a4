/* SPDX-License-Identifier: MIT */
/*
 * parked.cc: datagrams that the kernel has no room for: they wait on the heap, are counted once,
 * and fail in the end where they never fit. A datagram beyond the smallest send buffer stands for a
 * slow device (host/netns.cc has a true one).
 */
#include <unistd.h>

#include <memory>

#include "tests/support/harness.h"
#include "tests/support/memory.h"

using namespace harness;
using namespace memory;

namespace
{

class Parked : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Parked);

class ParkedNoMemory : public MemoryTest
{
};

INSTANTIATE_ON_HOST_ENGINES(ParkedNoMemory);

/* ---- Fixtures ------------------------------------------------------------------------------ */

/* Larger than the one IPv6 packet that fits loopback, so the kernel makes fragments, and they need
 * more than the smallest send buffer: -ENOBUFS for ever, without any device being slow. */
const size_t NEVER_FITS = DGRAM_UDP6_SIZE_MAX;

bool never_fits_usable()
{
    static const bool value = [] {
        if (!has_ipv6()) {
            return false;
        }
        Plain sender(DGRAM_UDP6), receiver(DGRAM_UDP6);
        sender.set(SOL_SOCKET, SO_SNDBUF, 1);
        const std::string bytes(NEVER_FITS, 'x');
        const struct dgram_addr to = receiver.address();
        ssize_t sent =
            sendto(sender.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT, &to.u.any, to.size);
        return sent < 0 && errno == ENOBUFS;
    }();
    return value;
}

struct dgram_socket *open_narrow(struct dgram_loop *loop)
{
    struct dgram_socket_options options = socket_options();
    options.send_buffer_size = 1; /* the kernel's least */
    struct dgram_socket *socket = nullptr;
    EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP6, &options, &socket), 0);
    EXPECT_EQ(dgram_bind(socket, 0, "::1"), 0);
    return socket;
}

/* ---- Sends that wait ----------------------------------------------------------------------- */

/* A datagram that never fits, sent, and another peer of its socket. */
class NeverFits : public EngineTest
{
  protected:
    void SetUp() override
    {
        EngineTest::SetUp();
        if (!IsSkipped() && !never_fits_usable()) {
            GTEST_SKIP() << "loopback takes any datagram whole";
        }
        if (!IsSkipped()) {
            peer_.reset(new Plain(DGRAM_UDP6));
            other.reset(new Plain(DGRAM_UDP6));
            socket = open_narrow(loop);
            const struct dgram_addr to = peer_->address();
            ASSERT_EQ(dgram_send_to(socket, big_.data(), big_.size(), &to, Results::take, &bigs),
                      0);
        }
    }
    void TearDown() override
    {
        peer_.reset();
        other.reset();
        EngineTest::TearDown();
    }
    int send_small()
    {
        const struct dgram_addr to = other->address();
        return dgram_send_to(socket, "small", 5, &to, Results::take, &smalls);
    }

    std::unique_ptr<Plain> other;
    struct dgram_socket *socket = nullptr;
    Results bigs, smalls;

  private:
    std::unique_ptr<Plain> peer_;
    const std::string big_ = pattern(NEVER_FITS, 1);
};

INSTANTIATE_ON_HOST_ENGINES(NeverFits);

/* -ENOBUFS means "later" - unless it says so for a second in which nothing could be sent. */
TEST_P(NeverFits, AndFailsInTheEnd)
{
    bool closed = false;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closed = true; };
    on.attach(socket);
    ASSERT_EQ(send_small(), 0);
    ASSERT_EQ(dgram_end(socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
    EXPECT_EQ(bigs.values, std::vector<int>{-ENOBUFS});
    EXPECT_EQ(smalls.values, std::vector<int>{5});
    EXPECT_EQ(other->receive(), "small");
}

/* Also while others of the socket are sent: those showed that "something can be sent". */
TEST_P(NeverFits, AndFailsBesideOthersThatDo)
{
    Tick tick([&](struct dgram_timer *) { EXPECT_EQ(send_small(), 0); });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, 0, 50 * MILLISECOND), 0);
    ASSERT_TRUE(run_until(loop, [&] { return !bigs.values.empty(); }));
    EXPECT_EQ(bigs.values, std::vector<int>{-ENOBUFS});
    dgram_timer_free(timer);
    ASSERT_TRUE(run_until(loop, [&] { return dgram_get_send_queue_count(socket) == 0; }));
    EXPECT_GT(smalls.values.size(), 1u);
    EXPECT_EQ(smalls.values, std::vector<int>(smalls.values.size(), 5));
}

/* Each retry counted it again. */
TEST_P(Parked, ParkedDatagramIsCountedOnce)
{
    if (!never_fits_usable()) {
        GTEST_SKIP() << "loopback takes any datagram whole";
    }
    Plain peer(DGRAM_UDP6);
    const struct dgram_addr to = peer.address();
    struct dgram_socket *socket = open_narrow(loop);
    Results results;
    const std::string big = pattern(NEVER_FITS, 1);
    ASSERT_EQ(send_text(socket, big, to), 0);
    ASSERT_EQ(dgram_send_to(socket, big.data(), big.size(), &to, Results::take, &results), 0);
    const uint64_t before = info_of(loop).flushes;
    ASSERT_TRUE(run_until(loop, [&] { return info_of(loop).flushes > before + 30; }));
    EXPECT_EQ(dgram_get_send_queue_count(socket), 2u);
    EXPECT_EQ(stats_of(socket).parked, 2u);
    close_and_wait(loop, socket);
    EXPECT_EQ(results.values.size(), 1u);
}

/* ---- No memory ----------------------------------------------------------------------------- */

/* Neither parked nor sent, and the socket waits for a moment all the same: it may close then. */
TEST_P(ParkedNoMemory, NothingParkedAndClosed)
{
    if (!never_fits_usable()) {
        GTEST_SKIP() << "loopback takes any datagram whole";
    }
    Plain peer(DGRAM_UDP6);
    const struct dgram_addr to = peer.address();
    const std::string big = pattern(NEVER_FITS, 1);
    for (bool ends : {true, false}) {
        SCOPED_TRACE(ends);
        bool closed = false;
        struct dgram_socket *socket = open_narrow(loop);
        Handlers on;
        on.close = [&](struct dgram_socket *) { closed = true; };
        on.attach(socket);
        settle(loop);
        ASSERT_EQ(send_text(socket, big, to), 0);
        if (ends) {
            ASSERT_EQ(dgram_end(socket), 0);
        }
        fail_always = true;
        for (int i = 0; i < 4; i++) {
            ASSERT_GE(dgram_loop_turn(loop, 0), 0);
        }
        fail_always = false;
        if (!ends) {
            EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
            ASSERT_EQ(dgram_close(socket), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return closed; }));
        usleep(5000); /* beyond that moment */
        settle(loop);
    }
}

} /* namespace */
