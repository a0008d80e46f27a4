/* SPDX-License-Identifier: MIT */
/* peers.cc: see peers.h. */
#include "tests/support/peers.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "tests/support/fixtures.h"
#include "tests/support/sockets.h"

namespace harness
{

Plain::Plain(uint32_t type, const char *address, uint16_t port)
{
    fd_ = socket(type == DGRAM_UDP6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT_GE(fd_, 0) << strerror(errno);
    struct dgram_addr name = parse(address != nullptr ? address : loopback(type), port);
    EXPECT_EQ(::bind(fd_, &name.u.any, name.size), 0) << strerror(errno);
}

Plain::~Plain()
{
    if (fd_ >= 0) {
        close(fd_);
    }
}

struct dgram_addr Plain::address() const
{
    struct dgram_addr name = {};
    socklen_t size = sizeof(name.u);
    EXPECT_EQ(getsockname(fd_, &name.u.any, &size), 0) << strerror(errno);
    name.size = size;
    return name;
}

void Plain::send(const std::string &payload, const struct dgram_addr &to)
{
    ssize_t sent = sendto(fd_, payload.data(), payload.size(), 0, &to.u.any, to.size);
    EXPECT_EQ(sent, static_cast<ssize_t>(payload.size())) << strerror(errno);
}

std::string Plain::receive(struct dgram_addr *ret_from)
{
    struct pollfd ready = {fd_, POLLIN, 0};
    int count;
    do {
        count = poll(&ready, 1, static_cast<int>(wait_limit_ns() / MILLISECOND));
    } while (count < 0 && errno == EINTR);
    if (count != 1) {
        ADD_FAILURE() << "no datagram came";
        return "";
    }
    std::string bytes(65536, '\0');
    struct dgram_addr from = {};
    socklen_t size = sizeof(from.u);
    ssize_t got = recvfrom(fd_, &bytes[0], bytes.size(), 0, &from.u.any, &size);
    EXPECT_GE(got, 0) << strerror(errno);
    bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    from.size = size;
    if (ret_from != nullptr) {
        *ret_from = from;
    }
    return bytes;
}

bool Plain::readable() const
{
    struct pollfd ready = {fd_, POLLIN, 0};
    return poll(&ready, 1, 0) == 1;
}

void Plain::set(int level, int name, int value)
{
    EXPECT_EQ(setsockopt(fd_, level, name, &value, sizeof(value)), 0) << strerror(errno);
}

/* Connected elsewhere, so no datagram of ours finds it, and yet its port is taken. */
void Plain::leave()
{
    struct dgram_addr own = address();
    struct dgram_addr elsewhere = parse(text_of(&own), 9);
    EXPECT_EQ(connect(fd_, &elsewhere.u.any, elsewhere.size), 0) << strerror(errno);
}

DeadPort::DeadPort(uint32_t type) : plain_(type)
{
    plain_.leave();
}

struct dgram_addr DeadPort::address() const
{
    return plain_.address();
}

struct dgram_addr refused_address()
{
    return parse("127.255.255.255", 9);
}

bool refused_address_usable()
{
    static const bool value = [] {
        struct dgram_addr to = refused_address();
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        bool refused = fd >= 0 && sendto(fd, "x", 1, 0, &to.u.any, to.size) < 0 && errno == EACCES;
        if (fd >= 0) {
            close(fd);
        }
        return refused;
    }();
    return value;
}

uint16_t private_port(uint32_t type)
{
    static unsigned calls = 0;
    unsigned low = 32768, first = 0, last = 0;
    std::ifstream file("/proc/sys/net/ipv4/ip_local_port_range");
    if (file >> first >> last && first > 12000) {
        low = first;
    }
    const unsigned base = 10240, span = low - base;
    for (unsigned tries = 0; tries < span; tries++) {
        unsigned mixed = static_cast<unsigned>(getpid()) * 2477u + calls++ * 31u;
        uint16_t port = static_cast<uint16_t>(base + mixed % span);
        int fd = socket(type == DGRAM_UDP6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct dgram_addr name = parse(type == DGRAM_UDP6 ? "::" : "0.0.0.0", port);
        bool works = ::bind(fd, &name.u.any, name.size) == 0;
        close(fd);
        if (works) {
            return port;
        }
    }
    ADD_FAILURE() << "no free port";
    return 0;
}

int ttl_of(const Plain &peer, const std::string &payload)
{
    for (int tries = 0; !peer.readable(); tries++) {
        if (tries > 10000) {
            ADD_FAILURE() << "no datagram came";
            return -1;
        }
        usleep(1000);
    }
    char bytes[256];
    alignas(struct cmsghdr) char control[256];
    struct iovec vector = {bytes, sizeof(bytes)};
    struct msghdr header = {};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    ssize_t got = recvmsg(peer.fd(), &header, 0);
    EXPECT_EQ(std::string(bytes, got > 0 ? static_cast<size_t>(got) : 0), payload);
    for (struct cmsghdr *item = CMSG_FIRSTHDR(&header); item != nullptr;
         item = CMSG_NXTHDR(&header, item)) {
        if ((item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_TTL) ||
            (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_HOPLIMIT)) {
            int value = 0;
            memcpy(&value, CMSG_DATA(item), sizeof(value));
            return value;
        }
    }
    return -1;
}

void ask_for_ttl(Plain *peer, uint32_t type)
{
    if (type == DGRAM_UDP6) {
        peer->set(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    } else {
        peer->set(IPPROTO_IP, IP_RECVTTL, 1);
    }
}

} /* namespace harness */
