/* SPDX-License-Identifier: MIT */
/*
 * kernel_trains.cc: what the kernel does with trains (UDP_SEGMENT, UDP_GRO): whether there are any,
 * in which order a send is checked; and the filter that keeps arrivals out.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <string>
#include <thread>

#include "tests/host/kernel.h"

using namespace kernel;

namespace
{

/* ---- Trains -------------------------------------------------------------------------------- */

TEST(Train, OfUdpSegmentArrivesAsOneReceiveOfUdpGro)
{
    Fd sender(udp_socket()), receiver(udp_socket());
    int on = 1;
    if (setsockopt(receiver.fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on)) {
        GTEST_SKIP() << "UDP_GRO: " << strerror(errno);
    }
    constexpr size_t kSegments = 64, kSize = 100;
    std::string payload;
    for (size_t i = 0; i < kSegments; i++) {
        payload += std::string(kSize, static_cast<char>('0' + i));
    }
    payload.resize(payload.size() - 1); /* the last may be shorter */

    sockaddr_in to = address_of(receiver.fd);
    iovec vector = {&payload[0], payload.size()};
    alignas(cmsghdr) unsigned char control[64] = {};
    msghdr header = {};
    header.msg_name = &to;
    header.msg_namelen = sizeof to;
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(uint16_t));
    cmsghdr *segment = CMSG_FIRSTHDR(&header);
    uint16_t size = kSize;
    segment->cmsg_level = IPPROTO_UDP;
    segment->cmsg_type = UDP_SEGMENT;
    segment->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(segment), &size, sizeof size);
    ASSERT_EQ(static_cast<ssize_t>(payload.size()), sendmsg(sender.fd, &header, MSG_DONTWAIT))
        << strerror(errno);

    std::string received(65536, '\0');
    vector = {&received[0], received.size()};
    header.msg_controllen = sizeof control;
    pollfd item = {receiver.fd, POLLIN, 0};
    ASSERT_EQ(1, poll(&item, 1, kWatchdogMs));
    ASSERT_EQ(static_cast<ssize_t>(payload.size()), recvmsg(receiver.fd, &header, MSG_DONTWAIT));
    received.resize(payload.size());
    EXPECT_TRUE(payload == received);
    cmsghdr *gro = CMSG_FIRSTHDR(&header);
    ASSERT_NE(nullptr, gro);
    EXPECT_EQ(IPPROTO_UDP, gro->cmsg_level);
    EXPECT_EQ(UDP_GRO, gro->cmsg_type);
    ASSERT_EQ(CMSG_LEN(sizeof(int)), gro->cmsg_len);
    int segment_size = 0;
    memcpy(&segment_size, CMSG_DATA(gro), sizeof segment_size);
    EXPECT_EQ(static_cast<int>(kSize), segment_size);

    /* A lone datagram carries no mark. */
    send_text(sender.fd, address_of(receiver.fd), "alone");
    header.msg_controllen = sizeof control;
    ASSERT_EQ(1, poll(&item, 1, kWatchdogMs));
    ASSERT_EQ(5, recvmsg(receiver.fd, &header, MSG_DONTWAIT));
    EXPECT_EQ(nullptr, CMSG_FIRSTHDR(&header));
}

/* ---- A filter that lets nothing in --------------------------------------------------------- */

class Filter : public ::testing::TestWithParam<int>
{
};

/* What is in the receive buffer stays; what comes is dropped, once for a train, counted as the
 * socket's drops, and the sender is told nothing. A socket of a reuse_port group, too. */
TEST_P(Filter, DropsAndCountsArrivalsAndKeepsWhatIsThere)
{
    const bool in6 = GetParam() & 1, train = GetParam() & 2, group = GetParam() & 4;
    Fd receiver(socket(in6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    Fd sender(socket(in6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage to = {};
    socklen_t size = in6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    to.ss_family = in6 ? AF_INET6 : AF_INET;
    if (in6) {
        reinterpret_cast<sockaddr_in6 *>(&to)->sin6_addr = in6addr_loopback;
    } else {
        reinterpret_cast<sockaddr_in *>(&to)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    const int on = 1;
    if (receiver.fd < 0) {
        GTEST_SKIP() << "no such family";
    }
    if (group) {
        ASSERT_EQ(setsockopt(receiver.fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
    }
    if (train && setsockopt(receiver.fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)) < 0) {
        GTEST_SKIP() << "no UDP_GRO";
    }
    if (bind(receiver.fd, reinterpret_cast<sockaddr *>(&to), size) < 0) {
        GTEST_SKIP() << "no such address";
    }
    ASSERT_EQ(getsockname(receiver.fd, reinterpret_cast<sockaddr *>(&to), &size), 0);
    if (train) {
        const int segment = 4;
        ASSERT_EQ(setsockopt(sender.fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)), 0);
    }
    auto send_one = [&] {
        return sendto(sender.fd, "aaaabbbb", 8, 0, reinterpret_cast<sockaddr *>(&to), size);
    };
    ASSERT_EQ(send_one(), 8);
    sock_filter nothing = {BPF_RET | BPF_K, 0, 0, 0};
    const sock_fprog program = {1, &nothing};
    ASSERT_EQ(setsockopt(receiver.fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(send_one(), 8);
    }
    char bytes[16];
    EXPECT_EQ(recv(receiver.fd, bytes, 1, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC), 8);
    EXPECT_EQ(recv(receiver.fd, bytes, sizeof(bytes), MSG_DONTWAIT), 8);
    EXPECT_EQ(recv(receiver.fd, bytes, sizeof(bytes), MSG_DONTWAIT), -1);
    uint32_t numbers[SK_MEMINFO_VARS] = {};
    socklen_t length = sizeof(numbers);
    ASSERT_EQ(getsockopt(receiver.fd, SOL_SOCKET, SO_MEMINFO, numbers, &length), 0);
    EXPECT_EQ(numbers[SK_MEMINFO_DROPS], 3u);
}

INSTANTIATE_TEST_SUITE_P(Kernel, Filter, ::testing::Range(0, 8));

/* 0, or the errno of a train of `count` one-byte datagrams to itself; 0: one datagram alone. */
int train_errno(int fd, const sockaddr_in &to, uint16_t count)
{
    std::string payload(count > 0 ? count : 1, 'x');
    sockaddr_in name = to;
    iovec vector = {&payload[0], payload.size()};
    alignas(cmsghdr) unsigned char control[CMSG_SPACE(sizeof(uint16_t))] = {};
    msghdr header = {};
    header.msg_name = &name;
    header.msg_namelen = sizeof name;
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const uint16_t size = 1;
    cmsghdr *segment = CMSG_FIRSTHDR(&header);
    segment->cmsg_level = IPPROTO_UDP;
    segment->cmsg_type = UDP_SEGMENT;
    segment->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(segment), &size, sizeof size);
    if (count == 0) {
        header.msg_controllen = 0;
    }
    return sendmsg(fd, &header, MSG_DONTWAIT) < 0 ? errno : 0;
}

bool has_segments(int fd)
{
    const int off = 0;
    return setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &off, sizeof off) == 0;
}

/* UDP_SEGMENT of 0 tells whether there are trains, and sends nothing. */
TEST(Train, OptionTellsWhetherThereAreTrains)
{
    Fd fd(udp_socket());
    const sockaddr_in self = address_of(fd.fd);
    if (!has_segments(fd.fd)) {
        EXPECT_EQ(ENOPROTOOPT, errno) << strerror(errno);
        return;
    }
    EXPECT_EQ(0, train_errno(fd.fd, self, 64));
    EXPECT_EQ(EINVAL, train_errno(fd.fd, self, 1000));
    EXPECT_EQ(0, train_errno(fd.fd, self, 0));
}

/* Runs the body on a thread in a network namespace of its own, loopback down; false where there is
 * none to be had. */
bool elsewhere(void (*body)())
{
    bool there = false;
    std::thread([&] {
        there = unshare(CLONE_NEWNET) == 0;
        if (there) {
            body();
        }
    }).join();
    return there;
}

bool shell(const char *command)
{
    return system(command) == 0;
}

/* Without a route or a port nobody counts the segments. */
TEST(Train, RouteAndPortComeBeforeTheCountOfSegments)
{
    const bool there = elsewhere([] {
        Fd fd(udp_socket());
        const sockaddr_in self = address_of(fd.fd);
        EXPECT_EQ(ENETUNREACH, train_errno(fd.fd, self, 128));
        EXPECT_EQ(ENETUNREACH, train_errno(fd.fd, self, 1000));
        if (!shell("ip link set lo up") ||
            !shell("echo 50000 50000 > /proc/sys/net/ipv4/ip_local_port_range")) {
            return;
        }
        Fd holder(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        Fd late(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        EXPECT_EQ(0, bind_to(holder.fd, loopback(0, INADDR_ANY)));
        EXPECT_EQ(EADDRINUSE, bind_to(late.fd, loopback(0)));
        EXPECT_EQ(EAGAIN, train_errno(late.fd, self, 1000));
    });
    if (!there) {
        GTEST_SKIP() << "no network namespaces here";
    }
}

/* What netfilter refuses has been counted: a train that is too long never gets there. */
TEST(Train, NetfilterComesBehindTheCountOfSegments)
{
    static bool ruled;
    const bool there = elsewhere([] {
        ruled = shell("ip link set lo up && nft add table inet t && nft add chain inet t c "
                      "'{ type filter hook output priority 0; }' && nft add rule inet t c meta "
                      "l4proto udp drop");
        Fd fd(udp_socket());
        const sockaddr_in self = address_of(fd.fd);
        if (ruled && has_segments(fd.fd)) {
            EXPECT_EQ(EPERM, train_errno(fd.fd, self, 64));
            EXPECT_EQ(EPERM, train_errno(fd.fd, self, 0));
            EXPECT_EQ(EINVAL, train_errno(fd.fd, self, 1000));
        }
    });
    if (!there || !ruled) {
        GTEST_SKIP() << "no network namespaces or no nft (nftables) here";
    }
}

} /* namespace */
