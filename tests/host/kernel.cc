/* SPDX-License-Identifier: MIT */
/*
 * kernel_test.cc: what the library takes for granted about the kernel, without the library.
 *
 * When a suite above fails on a new kernel, this one tells whether the ground moved. A test skips
 * when the ring or the option that it is about cannot be had here; it fails when they can and
 * behave differently.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
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

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

namespace
{

constexpr unsigned kDefer = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
constexpr int kWatchdogMs = 10000; /* for what must happen: generous, never reached */
constexpr int kGroup = 7;
constexpr size_t kNameSize = 32; /* keeps the control data behind it 8-aligned */
constexpr size_t kHeadroom = sizeof(io_uring_recvmsg_out) + kNameSize;

struct Fd {
    int fd = -1;

    explicit Fd(int number) : fd(number)
    {
    }
    Fd(const Fd &) = delete;
    Fd &operator=(const Fd &) = delete;
    ~Fd()
    {
        reset();
    }

    void reset(int number = -1)
    {
        if (fd >= 0) {
            close(fd);
        }
        fd = number;
    }
};

sockaddr_in loopback(uint16_t port, uint32_t host = INADDR_LOOPBACK)
{
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(host);
    return address;
}

int bind_to(int fd, const sockaddr_in &address)
{
    return bind(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) ? errno : 0;
}

/* A UDP socket on a free port of 127.0.0.1. */
int udp_socket(int flags = 0)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | flags, 0);
    EXPECT_EQ(0, bind_to(fd, loopback(0))) << strerror(errno);
    return fd;
}

sockaddr_in address_of(int fd)
{
    sockaddr_in address = {};
    socklen_t size = sizeof address;
    EXPECT_EQ(0, getsockname(fd, reinterpret_cast<sockaddr *>(&address), &size));
    return address;
}

void send_text(int fd, const sockaddr_in &to, const std::string &text)
{
    EXPECT_EQ(
        static_cast<ssize_t>(text.size()),
        sendto(fd, text.data(), text.size(), 0, reinterpret_cast<const sockaddr *>(&to), sizeof to))
        << strerror(errno);
}

/* Waits for one datagram; "(nothing)" when the socket stays empty for `timeout_ms`. */
std::string receive_text(int fd, int timeout_ms = kWatchdogMs)
{
    pollfd item = {fd, POLLIN, 0};
    if (poll(&item, 1, timeout_ms) != 1) {
        return "(nothing)";
    }
    char text[2048];
    ssize_t size = recv(fd, text, sizeof text, MSG_DONTWAIT);
    return size < 0 ? strerror(errno) : std::string(text, static_cast<size_t>(size));
}

struct Cqe {
    uint64_t user_data;
    int res;
    unsigned flags;

    bool more() const
    {
        return flags & IORING_CQE_F_MORE;
    }
    bool has_buffer() const
    {
        return flags & IORING_CQE_F_BUFFER;
    }
    unsigned buffer() const
    {
        return flags >> IORING_CQE_BUFFER_SHIFT;
    }
};

class Uring : public ::testing::Test
{
  protected:
    io_uring ring = {};
    bool ring_open = false;
    io_uring_buf_ring *buffers = nullptr;
    unsigned buffer_count = 0;
    size_t slot_size = 0;
    std::vector<unsigned char> memory;
    msghdr template_header = {}; /* of the armed receive: gives the sizes of name and control */

    int open_ring(unsigned flags)
    {
        io_uring_params params = {};
        params.flags = flags | IORING_SETUP_CQSIZE;
        params.cq_entries = 1024;
        int ret = io_uring_queue_init_params(256, &ring, &params);
        ring_open = ret == 0;
        return ret;
    }

    /* The buffer ring, filled with `count` (a power of two) slots for `payload` bytes each. */
    int open_buffers(unsigned count, size_t payload)
    {
        void *pages = nullptr;
        if (posix_memalign(&pages, 4096, count * sizeof(io_uring_buf))) {
            return -ENOMEM;
        }
        memset(pages, 0, count * sizeof(io_uring_buf));
        buffers = static_cast<io_uring_buf_ring *>(pages);
        buffer_count = count;
        slot_size = kHeadroom + payload;
        memory.assign(count * slot_size, 0);

        io_uring_buf_reg registration = {};
        registration.ring_addr = reinterpret_cast<uintptr_t>(pages);
        registration.ring_entries = count;
        registration.bgid = kGroup;
        int ret = io_uring_register_buf_ring(&ring, &registration, 0);
        if (ret) {
            return ret;
        }
        for (unsigned i = 0; i < count; i++) {
            io_uring_buf_ring_add(buffers, slot(i), static_cast<unsigned>(slot_size),
                                  static_cast<unsigned short>(i), io_uring_buf_ring_mask(count),
                                  static_cast<int>(i));
        }
        io_uring_buf_ring_advance(buffers, static_cast<int>(count));
        return 0;
    }

    unsigned char *slot(unsigned index)
    {
        return memory.data() + index * slot_size;
    }

    void arm(int fd, uint64_t user_data, int message_flags = 0)
    {
        template_header = {};
        template_header.msg_namelen = kNameSize;
        io_uring_sqe *sqe = io_uring_get_sqe(&ring);
        ASSERT_NE(nullptr, sqe);
        io_uring_prep_recvmsg_multishot(sqe, fd, &template_header,
                                        static_cast<unsigned>(message_flags));
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = kGroup;
        io_uring_sqe_set_data64(sqe, user_data);
        ASSERT_EQ(1, io_uring_submit(&ring));
    }

    void cancel(int fd, uint64_t user_data)
    {
        io_uring_sqe *sqe = io_uring_get_sqe(&ring);
        ASSERT_NE(nullptr, sqe);
        io_uring_prep_cancel_fd(sqe, fd, IORING_ASYNC_CANCEL_ALL);
        io_uring_sqe_set_data64(sqe, user_data);
        ASSERT_EQ(1, io_uring_submit(&ring));
    }

    /* What is complete now, without waiting. */
    std::vector<Cqe> reap()
    {
        std::vector<Cqe> list;
        EXPECT_GE(io_uring_get_events(&ring), 0);
        io_uring_cqe *cqe;
        while (io_uring_peek_cqe(&ring, &cqe) == 0) {
            list.push_back({cqe->user_data, cqe->res, cqe->flags});
            io_uring_cqe_seen(&ring, cqe);
        }
        return list;
    }

    /* Waits until `count` completions came, and takes what came with them. */
    std::vector<Cqe> reap(size_t count)
    {
        std::vector<Cqe> list;
        while (list.size() < count) {
            __kernel_timespec limit = {kWatchdogMs / 1000, 0};
            io_uring_cqe *cqe;
            int ret = io_uring_wait_cqe_timeout(&ring, &cqe, &limit);
            if (ret == -EINTR) {
                continue;
            }
            if (ret) {
                ADD_FAILURE() << list.size() << " of " << count
                              << " completions came: " << strerror(-ret);
                break;
            }
            for (const Cqe &each : reap()) {
                list.push_back(each);
            }
        }
        return list;
    }

    io_uring_recvmsg_out *parse(const Cqe &cqe)
    {
        return io_uring_recvmsg_validate(slot(cqe.buffer()), cqe.res, &template_header);
    }

    std::string payload(const Cqe &cqe)
    {
        io_uring_recvmsg_out *out = parse(cqe);
        if (!cqe.has_buffer() || !out) {
            return "(no message)";
        }
        return std::string(static_cast<char *>(io_uring_recvmsg_payload(out, &template_header)),
                           io_uring_recvmsg_payload_length(out, cqe.res, &template_header));
    }

    void TearDown() override
    {
        if (ring_open) {
            io_uring_queue_exit(&ring);
        }
        free(buffers);
    }
};

/* Opens what most tests need. A macro, since only the test itself can skip. */
#define NEED_RING(flags)                                                                           \
    do {                                                                                           \
        int need_ret = open_ring(flags);                                                           \
        if (need_ret) {                                                                            \
            GTEST_SKIP() << "io_uring_setup: " << strerror(-need_ret);                             \
        }                                                                                          \
    } while (0)
#define NEED_BUFFERS(count, payload)                                                               \
    do {                                                                                           \
        int need_ret = open_buffers(count, payload);                                               \
        if (need_ret) {                                                                            \
            GTEST_SKIP() << "IORING_REGISTER_PBUF_RING: " << strerror(-need_ret);                  \
        }                                                                                          \
    } while (0)

/* ---- Sends --------------------------------------------------------------------------------- */

/* One send with all that belongs to it in one block, so that overwriting it spares nothing. */
struct Outgoing {
    msghdr header;
    iovec vector;
    sockaddr_in to;
    alignas(cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int))];
    unsigned char payload[300];
};

size_t outgoing_size(unsigned index)
{
    return 1 + index;
}
unsigned char outgoing_byte(unsigned index)
{
    return static_cast<unsigned char>(index * 7 + 1);
}
int outgoing_tos(unsigned index)
{
    return static_cast<int>(index % 32) << 3;
}

void outgoing_fill(Outgoing &item, unsigned index, const sockaddr_in &to)
{
    item.to = to;
    item.vector = {item.payload, outgoing_size(index)};
    memset(item.payload, outgoing_byte(index), sizeof item.payload);
    item.header = {};
    item.header.msg_name = &item.to;
    item.header.msg_namelen = sizeof item.to;
    item.header.msg_iov = &item.vector;
    item.header.msg_iovlen = 1;
    item.header.msg_control = item.control;
    item.header.msg_controllen = sizeof item.control;
    cmsghdr *control = CMSG_FIRSTHDR(&item.header);
    int tos = outgoing_tos(index);
    control->cmsg_level = IPPROTO_IP;
    control->cmsg_type = IP_TOS;
    control->cmsg_len = CMSG_LEN(sizeof tos);
    memcpy(CMSG_DATA(control), &tos, sizeof tos);
}

/* The next datagram must be number `index`, whole, with its TOS. */
void expect_outgoing(int fd, unsigned index)
{
    unsigned char data[512];
    alignas(cmsghdr) unsigned char control[64];
    iovec vector = {data, sizeof data};
    msghdr header = {};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    pollfd item = {fd, POLLIN, 0};
    ASSERT_EQ(1, poll(&item, 1, kWatchdogMs)) << "datagram " << index << " is missing";
    ASSERT_EQ(static_cast<ssize_t>(outgoing_size(index)), recvmsg(fd, &header, MSG_DONTWAIT));
    for (size_t i = 0; i < outgoing_size(index); i++) {
        ASSERT_EQ(outgoing_byte(index), data[i]) << "datagram " << index << ", byte " << i;
    }
    cmsghdr *tos = CMSG_FIRSTHDR(&header);
    ASSERT_NE(nullptr, tos);
    ASSERT_EQ(IP_TOS, tos->cmsg_type);
    ASSERT_EQ(outgoing_tos(index), *CMSG_DATA(tos)) << "datagram " << index;
}

TEST_F(Uring, SendWithDontwaitAndCqeSkipIsDoneWithItsMemoryWhenSubmitReturns)
{
    NEED_RING(kDefer);
    if (!(ring.features & IORING_FEAT_CQE_SKIP)) {
        GTEST_SKIP() << "IOSQE_CQE_SKIP_SUCCESS needs Linux 5.17";
    }
    Fd sender(udp_socket()), receiver(udp_socket());
    int on = 1, room = 1 << 20;
    ASSERT_EQ(0, setsockopt(receiver.fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on));
    ASSERT_EQ(0, setsockopt(receiver.fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room));

    constexpr unsigned kSends = 256;
    auto bad = [](unsigned index) { return index % 50 == 49; };
    std::vector<Outgoing> items(kSends);
    for (unsigned i = 0; i < kSends; i++) {
        sockaddr_in to = address_of(receiver.fd);
        if (bad(i)) {
            to.sin_port = 0;
        }
        outgoing_fill(items[i], i, to);
        io_uring_sqe *sqe = io_uring_get_sqe(&ring);
        ASSERT_NE(nullptr, sqe);
        io_uring_prep_sendmsg(sqe, sender.fd, &items[i].header, MSG_DONTWAIT);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        io_uring_sqe_set_data64(sqe, i);
    }
    ASSERT_EQ(static_cast<int>(kSends), io_uring_submit(&ring));
    memset(static_cast<void *>(items.data()), 0xaa, items.size() * sizeof items[0]);

    /* Only the failures are told, each once. */
    std::vector<uint64_t> expected, told;
    for (unsigned i = 0; i < kSends; i++) {
        if (bad(i)) {
            expected.push_back(i);
        }
    }
    for (const Cqe &cqe : reap()) {
        EXPECT_EQ(-EINVAL, cqe.res);
        told.push_back(cqe.user_data);
    }
    EXPECT_EQ(expected, told);

    for (unsigned i = 0; i < kSends; i++) {
        if (!bad(i)) {
            ASSERT_NO_FATAL_FAILURE(expect_outgoing(receiver.fd, i));
        }
    }
    EXPECT_EQ("(nothing)", receive_text(receiver.fd, 0));
}

TEST(Sendmmsg, StopsAtTheFirstRefusalAndReturnsTheCount)
{
    Fd sender(udp_socket()), receiver(udp_socket());
    std::vector<Outgoing> items(8);
    std::vector<mmsghdr> batch(items.size());
    for (unsigned i = 0; i < items.size(); i++) {
        sockaddr_in to = address_of(receiver.fd);
        if (i == 3) {
            to.sin_port = 0;
        }
        outgoing_fill(items[i], i, to);
        batch[i] = {items[i].header, 0};
        batch[i].msg_hdr.msg_control = nullptr;
        batch[i].msg_hdr.msg_controllen = 0;
    }
    ASSERT_EQ(3, sendmmsg(sender.fd, batch.data(), 8, MSG_DONTWAIT));
    EXPECT_EQ(-1, sendmmsg(sender.fd, batch.data() + 3, 5, MSG_DONTWAIT));
    EXPECT_EQ(EINVAL, errno); /* the refusal is told by the call that begins with it */
    EXPECT_EQ(4, sendmmsg(sender.fd, batch.data() + 4, 4, MSG_DONTWAIT));
    for (unsigned i : {0u, 1u, 2u, 4u, 5u, 6u, 7u}) {
        EXPECT_EQ(std::string(outgoing_size(i), static_cast<char>(outgoing_byte(i))),
                  receive_text(receiver.fd));
    }
}

/* Loopback UDP never refuses with EAGAIN; sendmmsg is the same code for a unix socket, which does.
 */
TEST(Sendmmsg, StopsAtTheFirstEagain)
{
    int pair[2];
    ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair));
    Fd sender(pair[0]), receiver(pair[1]);
    constexpr unsigned kBatch = 1024; /* far more than a unix socket queues */
    std::vector<uint32_t> numbers(kBatch);
    std::vector<iovec> vectors(kBatch);
    std::vector<mmsghdr> batch(kBatch);
    for (unsigned i = 0; i < kBatch; i++) {
        numbers[i] = i;
        vectors[i] = {&numbers[i], sizeof numbers[i]};
        batch[i].msg_hdr.msg_iov = &vectors[i];
        batch[i].msg_hdr.msg_iovlen = 1;
    }
    int sent = sendmmsg(sender.fd, batch.data(), kBatch, MSG_DONTWAIT);
    if (sent == kBatch) {
        GTEST_SKIP() << "net.unix.max_dgram_qlen is above " << kBatch;
    }
    ASSERT_GT(sent, 0);
    EXPECT_EQ(-1, sendmmsg(sender.fd, &batch[static_cast<size_t>(sent)],
                           kBatch - static_cast<unsigned>(sent), MSG_DONTWAIT));
    EXPECT_EQ(EAGAIN, errno);
    for (int i = 0; i < sent; i++) {
        uint32_t number = 0;
        ASSERT_EQ(4, recv(receiver.fd, &number, sizeof number, MSG_DONTWAIT));
        ASSERT_EQ(static_cast<uint32_t>(i), number);
    }
    EXPECT_EQ(-1, recv(receiver.fd, pair, sizeof pair, MSG_DONTWAIT));
}

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

/* ---- Zero copy ----------------------------------------------------------------------------- */

constexpr unsigned kFixedBuffer = 1 << 2;    /* IORING_RECVSEND_FIXED_BUF */
constexpr unsigned kReportUsage = 1 << 3;    /* IORING_SEND_ZC_REPORT_USAGE */
constexpr unsigned kFeatureOf6_15 = 1 << 17; /* IORING_FEAT_NO_IOWAIT */
constexpr int kCopied = INT_MIN;             /* IORING_NOTIF_USAGE_ZC_COPIED */

/* A SENDMSG_ZC of all of `memory`, which is the first of the registered buffers. */
void zero_copy(io_uring *ring, int fd, msghdr *header, uint8_t sqe_flags = 0)
{
    io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_sendmsg_zc(sqe, fd, header, MSG_DONTWAIT);
    sqe->ioprio |= kFixedBuffer | kReportUsage;
    sqe->buf_index = 0;
    sqe->flags |= sqe_flags;
    sqe->user_data = 7;
}

TEST_F(Uring, ZeroCopyHasItsResultInTheSubmissionAndAnotherCompletionForTheMemory)
{
    NEED_RING(kDefer);
    if (int code = io_uring_register_buffers_sparse(&ring, 4)) {
        GTEST_SKIP() << "IORING_REGISTER_BUFFERS2: " << strerror(-code);
    }
    alignas(4096) static char pages[4096] = "from where it lies";
    iovec vector = {pages, sizeof pages};
    const __u64 tag = 0;
    ASSERT_EQ(1, io_uring_register_buffers_update_tag(&ring, 0, &vector, &tag, 1));
    Fd sender(udp_socket()), receiver(udp_socket());
    sockaddr_in to = address_of(receiver.fd);
    vector.iov_len = 18;
    msghdr header = {};
    header.msg_name = &to;
    header.msg_namelen = sizeof to;
    header.msg_iov = &vector;
    header.msg_iovlen = 1;

    zero_copy(&ring, sender.fd, &header);
    ASSERT_EQ(1, io_uring_submit(&ring));
    std::vector<Cqe> list = reap();
    ASSERT_GE(list.size(), 1u);
    EXPECT_EQ((ring.features & kFeatureOf6_15) != 0, list[0].res != -EINVAL);
    if (list[0].res == -EINVAL) { /* on 6.1 with F_MORE all the same */
        GTEST_SKIP() << "SENDMSG_ZC from registered buffers needs Linux 6.15";
    }
    EXPECT_EQ(18, list[0].res);
    EXPECT_TRUE(list[0].more());
    EXPECT_FALSE(list[0].flags & IORING_CQE_F_NOTIF);
    if (list.size() == 1) {
        list.push_back(reap(1)[0]);
    }
    EXPECT_TRUE(list[1].flags & IORING_CQE_F_NOTIF);
    EXPECT_FALSE(list[1].more());
    EXPECT_EQ(7u, list[1].user_data);
    EXPECT_EQ(kCopied, list[1].res); /* the receiver is on this host */
    EXPECT_EQ("from where it lies", receive_text(receiver.fd));

    /* Refused at the door: no second completion, and none is promised. */
    zero_copy(&ring, sender.fd, &header, IOSQE_CQE_SKIP_SUCCESS);
    ASSERT_EQ(1, io_uring_submit(&ring));
    list = reap(1);
    ASSERT_EQ(1u, list.size());
    EXPECT_EQ(-EINVAL, list[0].res);
    EXPECT_FALSE(list[0].more());

    /* The place in the table is emptied by an empty vector. */
    vector = {nullptr, 0};
    ASSERT_EQ(1, io_uring_register_buffers_update_tag(&ring, 0, &vector, &tag, 1));
    vector = {pages, 18};
    zero_copy(&ring, sender.fd, &header);
    ASSERT_EQ(1, io_uring_submit(&ring));
    list = reap(1);
    EXPECT_EQ(-EFAULT, list[0].res);
}

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

} // namespace
