/* SPDX-License-Identifier: MIT */
/*
 * kernel.h: what the library takes for granted about the kernel, without the library: sockets, and
 * a ring with buffers.
 *
 * When a suite above fails on a new kernel, the kernel suite tells whether the ground moved. A test
 * skips when the ring or the option that it is about cannot be had here; it fails when they can and
 * behave differently.
 */
#ifndef DGRAM_TESTS_HOST_KERNEL_H
#define DGRAM_TESTS_HOST_KERNEL_H

#include <arpa/inet.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

namespace kernel
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

inline sockaddr_in loopback(uint16_t port, uint32_t host = INADDR_LOOPBACK)
{
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(host);
    return address;
}

inline int bind_to(int fd, const sockaddr_in &address)
{
    return bind(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) ? errno : 0;
}

/* A UDP socket on a free port of 127.0.0.1. */
inline int udp_socket(int flags = 0)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | flags, 0);
    EXPECT_EQ(0, bind_to(fd, loopback(0))) << strerror(errno);
    return fd;
}

inline sockaddr_in address_of(int fd)
{
    sockaddr_in address = {};
    socklen_t size = sizeof address;
    EXPECT_EQ(0, getsockname(fd, reinterpret_cast<sockaddr *>(&address), &size));
    return address;
}

inline void send_text(int fd, const sockaddr_in &to, const std::string &text)
{
    EXPECT_EQ(
        static_cast<ssize_t>(text.size()),
        sendto(fd, text.data(), text.size(), 0, reinterpret_cast<const sockaddr *>(&to), sizeof to))
        << strerror(errno);
}

/* Waits for one datagram; "(nothing)" when the socket stays empty for `timeout_ms`. */
inline std::string receive_text(int fd, int timeout_ms = kWatchdogMs)
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

} /* namespace kernel */

#endif
