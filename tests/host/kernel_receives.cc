/* SPDX-License-Identifier: MIT */
/*
 * kernel_receives.cc: what the kernel does with receives and rings: how a multishot receive ends
 * and what it tells, when a port is free, who wakes whom, what a wait brings.
 */
#include <errno.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/host/kernel.h"

using namespace kernel;

namespace
{

/* ---- Multishot receives -------------------------------------------------------------------- */

TEST_F(Uring, MultishotEndsWithAnEmptyDatagram)
{
    NEED_RING(kDefer);
    NEED_BUFFERS(8, 256);
    Fd sender(udp_socket()), receiver(udp_socket());
    arm(receiver.fd, 1);
    send_text(sender.fd, address_of(receiver.fd), "one");
    std::vector<Cqe> list = reap(1);
    ASSERT_EQ(1u, list.size());
    if (list[0].res == -EINVAL) {
        GTEST_SKIP() << "multishot recvmsg needs Linux 6.0";
    }
    EXPECT_TRUE(list[0].more());
    EXPECT_EQ("one", payload(list[0]));

    send_text(sender.fd, address_of(receiver.fd), "");
    list = reap(1);
    ASSERT_EQ(1u, list.size());
    EXPECT_FALSE(list[0].more());
    EXPECT_TRUE(list[0].has_buffer());
    EXPECT_EQ(static_cast<int>(kHeadroom), list[0].res);
    EXPECT_EQ("", payload(list[0]));

    /* What comes later waits in the socket for the next arming. */
    send_text(sender.fd, address_of(receiver.fd), "two");
    EXPECT_TRUE(reap().empty());
    arm(receiver.fd, 2);
    list = reap(1);
    ASSERT_EQ(1u, list.size());
    EXPECT_EQ(2u, list[0].user_data);
    EXPECT_TRUE(list[0].more());
    EXPECT_EQ("two", payload(list[0]));
}

TEST_F(Uring, MultishotEndsWithEnobufsWhenThePoolRunsDryAndLosesNothing)
{
    NEED_RING(kDefer);
    NEED_BUFFERS(4, 256);
    Fd sender(udp_socket()), receiver(udp_socket());
    arm(receiver.fd, 1);
    std::vector<Cqe> list = reap();
    if (!list.empty() && list[0].res == -EINVAL) {
        GTEST_SKIP() << "multishot recvmsg needs Linux 6.0";
    }
    for (int i = 0; i < 6; i++) {
        send_text(sender.fd, address_of(receiver.fd), std::to_string(i));
    }
    list = reap(5);
    ASSERT_EQ(5u, list.size());
    for (size_t i = 0; i < 4; i++) {
        EXPECT_TRUE(list[i].more());
        EXPECT_EQ(std::to_string(i), payload(list[i]));
    }
    EXPECT_EQ(-ENOBUFS, list[4].res);
    EXPECT_FALSE(list[4].more());
    EXPECT_FALSE(list[4].has_buffer());
    EXPECT_EQ("4", receive_text(receiver.fd));
    EXPECT_EQ("5", receive_text(receiver.fd));

    /* Arming on an empty pool fails at once, also with nothing queued. */
    arm(receiver.fd, 2);
    list = reap(1);
    ASSERT_EQ(1u, list.size());
    EXPECT_EQ(-ENOBUFS, list[0].res);
}

TEST_F(Uring, MultishotTellsTheRealLengthWithMsgTrunc)
{
    NEED_RING(kDefer);
    NEED_BUFFERS(4, 64);
    Fd sender(udp_socket()), receiver(udp_socket());
    arm(receiver.fd, 1, MSG_TRUNC);
    send_text(sender.fd, address_of(receiver.fd), std::string(200, 'x'));
    send_text(sender.fd, address_of(receiver.fd), "next");
    std::vector<Cqe> list = reap(1);
    if (!list.empty() && list[0].res == -EINVAL) {
        GTEST_SKIP() << "multishot recvmsg needs Linux 6.0";
    }
    while (list.size() == 1) {
        list.push_back(reap(1).at(0));
    }
    ASSERT_EQ(2u, list.size());
    ASSERT_EQ(static_cast<int>(kHeadroom + 64), list[0].res);
    ASSERT_NE(nullptr, parse(list[0]));
    EXPECT_EQ(200u, parse(list[0])->payloadlen);
    EXPECT_TRUE(parse(list[0])->flags & MSG_TRUNC);
    EXPECT_EQ(std::string(64, 'x'), payload(list[0]));
    /* One slot was used, and the next datagram is whole. */
    EXPECT_EQ("next", payload(list[1]));
    EXPECT_FALSE(parse(list[1])->flags & MSG_TRUNC);
}

/* O_NONBLOCK is no matter for recvmsg in a ring: only MSG_DONTWAIT makes it give up. */
TEST_F(Uring, MultishotWaitsOnBlockingAndNonblockingSocketsUnlessToldMsgDontwait)
{
    NEED_RING(kDefer);
    NEED_BUFFERS(8, 256);
    Fd sender(udp_socket()), blocking(udp_socket()), nonblocking(udp_socket(SOCK_NONBLOCK));
    arm(blocking.fd, 1, MSG_DONTWAIT);
    std::vector<Cqe> list = reap(1);
    ASSERT_EQ(1u, list.size());
    if (list[0].res == -EINVAL) {
        GTEST_SKIP() << "multishot recvmsg needs Linux 6.0";
    }
    EXPECT_EQ(-EAGAIN, list[0].res);
    EXPECT_FALSE(list[0].more());

    for (int fd : {blocking.fd, nonblocking.fd}) {
        arm(fd, 2);
        EXPECT_TRUE(reap().empty());
        send_text(sender.fd, address_of(fd), "waited");
        list = reap(1);
        ASSERT_EQ(1u, list.size());
        EXPECT_EQ("waited", payload(list[0]));
        EXPECT_TRUE(list[0].more());
    }
}

/* ---- Closing ------------------------------------------------------------------------------- */

/* A free port below those that bind(0) gives, so that no test beside this one takes it between a
 * close and the next bind. 0 when there is none. */
uint16_t quiet_port(uint32_t host)
{
    unsigned first = 32768;
    std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> first;
    unsigned start = first > 2048 ? 1024 + static_cast<unsigned>(getpid()) % (first - 1024) : first;
    for (unsigned port = start; port < first; port++) {
        Fd probe(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        if (bind_to(probe.fd, loopback(static_cast<uint16_t>(port), host)) == 0) {
            return static_cast<uint16_t>(port);
        }
    }
    return 0;
}

/* An address of loopback that other runs of this test do not use. */
uint32_t quiet_host()
{
    return (127u << 24) | (64u << 16) | (static_cast<uint32_t>(getpid()) & 0x7fff) << 1;
}

TEST_F(Uring, PortIsFreeAtOnceAfterCancelReapAndClose)
{
    NEED_RING(kDefer);
    NEED_BUFFERS(4, 256);
    uint16_t port = quiet_port(quiet_host());
    if (!port) {
        GTEST_SKIP() << "no port outside of net.ipv4.ip_local_port_range";
    }
    for (int cycle = 0; cycle < 1000; cycle++) {
        Fd receiver(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        ASSERT_EQ(0, bind_to(receiver.fd, loopback(port, quiet_host()))) << "cycle " << cycle;
        ASSERT_NO_FATAL_FAILURE(arm(receiver.fd, 1));
        ASSERT_NO_FATAL_FAILURE(cancel(receiver.fd, 2));
        std::vector<Cqe> list = reap(2);
        ASSERT_EQ(2u, list.size());
        if (list[0].res == -EINVAL || list[1].res == -EINVAL) {
            GTEST_SKIP() << "multishot recvmsg needs Linux 6.0";
        }
        for (const Cqe &cqe : list) {
            ASSERT_EQ(cqe.user_data == 1 ? -ECANCELED : 1, cqe.res);
            ASSERT_FALSE(cqe.more());
        }
    }
}

TEST_F(Uring, PortStaysTakenUntilTheReceiveIsReaped)
{
    NEED_RING(kDefer);
    NEED_BUFFERS(4, 256);
    uint16_t port = quiet_port(quiet_host());
    if (!port) {
        GTEST_SKIP() << "no port outside of net.ipv4.ip_local_port_range";
    }
    Fd receiver(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    Fd next(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(0, bind_to(receiver.fd, loopback(port, quiet_host())));
    arm(receiver.fd, 1);
    if (!reap().empty()) {
        GTEST_SKIP() << "multishot recvmsg needs Linux 6.0";
    }
    io_uring_sync_cancel_reg request = {};
    request.fd = receiver.fd;
    request.flags = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL;
    request.timeout = {-1, -1};
    int ret = io_uring_register_sync_cancel(&ring, &request);
    if (ret == -EINVAL) {
        GTEST_SKIP() << "IORING_REGISTER_SYNC_CANCEL needs Linux 6.0";
    }
    EXPECT_GE(ret, 0);
    receiver.reset();
    EXPECT_EQ(EADDRINUSE, bind_to(next.fd, loopback(port, quiet_host())));

    std::vector<Cqe> list = reap(1);
    ASSERT_EQ(1u, list.size());
    EXPECT_EQ(-ECANCELED, list[0].res);
    EXPECT_EQ(0, bind_to(next.fd, loopback(port, quiet_host())));
}

/* ---- Rings and threads --------------------------------------------------------------------- */

TEST_F(Uring, DisabledRingIsSetUpAnywhereAndBelongsToTheThreadThatEnablesIt)
{
    NEED_RING(kDefer | IORING_SETUP_R_DISABLED);
    NEED_BUFFERS(4, 256);
    io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    ASSERT_NE(nullptr, sqe);
    io_uring_prep_nop(sqe);
    io_uring_sqe_set_data64(sqe, 42);
    EXPECT_EQ(-EBADFD, io_uring_submit(&ring));

    std::thread([this] {
        /* io_uring_enable_rings() is declared by liburing 2.3 but Debian 12's shared library does
         * not export it. */
        ASSERT_EQ(0, io_uring_register(static_cast<unsigned>(ring.ring_fd),
                                       IORING_REGISTER_ENABLE_RINGS, nullptr, 0));
        ASSERT_EQ(1, io_uring_submit(&ring)); /* the one that was refused before */
        std::vector<Cqe> list = reap(1);
        ASSERT_EQ(1u, list.size());
        EXPECT_EQ(42u, list[0].user_data);
        EXPECT_EQ(0, list[0].res);
    }).join();

    sqe = io_uring_get_sqe(&ring);
    ASSERT_NE(nullptr, sqe);
    io_uring_prep_nop(sqe);
    EXPECT_EQ(-EEXIST, io_uring_submit(&ring));
    EXPECT_EQ(-EEXIST, io_uring_get_events(&ring));
}

/* Sends one datagram as soon as the thread `tid`, having set `ready`, sleeps. */
void send_when_asleep(const std::atomic<bool> &ready, long tid, int fd, const sockaddr_in &to)
{
    auto limit = std::chrono::steady_clock::now() + std::chrono::milliseconds(kWatchdogMs);
    std::string path = "/proc/self/task/" + std::to_string(tid) + "/stat";
    char state = '?';
    while (state != 'S' && std::chrono::steady_clock::now() < limit) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        std::string line;
        std::ifstream stat(path);
        if (ready && std::getline(stat, line) && line.rfind(") ") != std::string::npos) {
            state = line[line.rfind(") ") + 2];
        }
    }
    send_text(fd, to, "wake");
}

/* The milliseconds that poll(2) slept on `fd` while a datagram came for an armed receive. */
long sleep_on(int fd, int timeout_ms, int sender, const sockaddr_in &to)
{
    std::atomic<bool> ready(false);
    long tid = syscall(SYS_gettid);
    std::thread thread([&] { send_when_asleep(ready, tid, sender, to); });
    pollfd item = {fd, POLLIN, 0};
    auto start = std::chrono::steady_clock::now();
    ready = true;
    poll(&item, 1, timeout_ms);
    auto end = std::chrono::steady_clock::now();
    thread.join();
    return static_cast<long>(
        std::chrono::duration_cast<std::chrono::milliseconds>(end - start).count());
}

/* By its own descriptor it does not, on 6.18; on 6.1 it does. */
TEST_F(Uring, DeferredRingWakesPollByARegisteredEventfd)
{
    /* A thread of its own: the kernel takes rings of earlier tests down late and in their thread,
     * which makes poll(2) look again. */
    std::thread([this] {
        NEED_RING(kDefer);
        NEED_BUFFERS(4, 256);
        Fd sender(udp_socket()), receiver(udp_socket());
        arm(receiver.fd, 1);
        if (!reap().empty()) {
            GTEST_SKIP() << "multishot recvmsg needs Linux 6.0";
        }
        sockaddr_in to = address_of(receiver.fd);
        Fd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        ASSERT_EQ(0, io_uring_register_eventfd(&ring, event.fd));
        EXPECT_LT(sleep_on(event.fd, kWatchdogMs, sender.fd, to), kWatchdogMs);
        uint64_t count = 0;
        EXPECT_EQ(8, read(event.fd, &count, sizeof count));
        std::vector<Cqe> list = reap();
        ASSERT_EQ(1u, list.size());
        EXPECT_EQ("wake", payload(list[0]));
    }).join();
}

/* ---- One wake-up for several --------------------------------------------------------------- */

/* A wait for more completions than come ends with its time, and what came is there: with
 * DEFER_TASKRUN somebody has to run it. */
TEST_F(Uring, AWaitForManyThatRunsOutOfTimeHasWhatCame)
{
    NEED_RING(kDefer);
    ASSERT_EQ(0, open_buffers(8, 64));
    Fd sender(udp_socket()), receiver(udp_socket());
    arm(receiver.fd, 1);
    ASSERT_TRUE(reap().empty());
    send_text(sender.fd, address_of(receiver.fd), "one");
    send_text(sender.fd, address_of(receiver.fd), "two");

    bool slept = false; /* a ring of another test that goes away now ends it like a signal */
    for (int i = 0; i < 10 && !slept; i++) {
        __kernel_timespec limit = {0, 20 * 1000 * 1000};
        io_uring_cqe *cqe = nullptr;
        const auto start = std::chrono::steady_clock::now();
        int ret = io_uring_submit_and_wait_timeout(&ring, &cqe, 3, &limit, nullptr);
        EXPECT_TRUE(ret == 0 || ret == -ETIME || ret == -EINTR) << strerror(-ret);
        slept = std::chrono::steady_clock::now() - start >= std::chrono::milliseconds(20);
    }
    EXPECT_TRUE(slept);
    EXPECT_EQ(2u, io_uring_cq_ready(&ring));
}

} /* namespace */
