/* SPDX-License-Identifier: MIT */
/*
 * kernel_sends.cc: what the kernel does with sends: when the kernel is done with the memory of one,
 * at which refusal sendmmsg(2) stops, what zero copy tells.
 */
#include <errno.h>
#include <gtest/gtest.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "tests/host/kernel.h"

using namespace kernel;

namespace
{

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

} /* namespace */
