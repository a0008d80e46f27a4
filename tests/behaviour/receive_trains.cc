/* SPDX-License-Identifier: MIT */
/*
 * receive_trains.cc: trains that come in are taken apart into datagrams, in whatever shape they
 * come.
 */
#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Train : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Train);

/* One send of the kernel that it cuts into datagrams of `segment` bytes (UDP_SEGMENT, udp(7)).
 * False where the kernel cannot. */
bool send_train(const Plain &peer, const std::string &payload, uint16_t segment,
                const struct dgram_addr &to)
{
    constexpr int udp_level = 17, udp_segment = 103;
    struct dgram_addr name = to;
    struct iovec vector = {const_cast<char *>(payload.data()), payload.size()};
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint16_t))] = {};
    struct msghdr header = {};
    header.msg_name = &name.u;
    header.msg_namelen = name.size;
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    struct cmsghdr *item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = udp_level;
    item->cmsg_type = udp_segment;
    item->cmsg_len = CMSG_LEN(sizeof(segment));
    memcpy(CMSG_DATA(item), &segment, sizeof(segment));
    return sendmsg(peer.fd(), &header, 0) == static_cast<ssize_t>(payload.size());
}

std::vector<std::string> cut(const std::string &payload, size_t segment)
{
    std::vector<std::string> pieces;
    for (size_t at = 0; at < payload.size(); at += segment) {
        pieces.push_back(payload.substr(at, segment));
    }
    return pieces;
}

bool trains_work()
{
    Plain sender, receiver;
    return send_train(sender, "ab", 1, receiver.address());
}

#define NEED_TRAINS()                                                                              \
    if (!trains_work()) {                                                                          \
        GTEST_SKIP() << "this kernel has no UDP_SEGMENT";                                          \
    }

/* All that comes from one sender, by either kind of handler. */
struct Catcher {
    std::vector<std::string> got;
    struct dgram_addr from;
    Handlers on;

    explicit Catcher(const struct dgram_addr &sender) : from(sender)
    {
    }
    void take(const struct dgram_message *message)
    {
        EXPECT_TRUE(dgram_addr_equal(message->from, &from));
        EXPECT_EQ(message->flags, 0u);
        EXPECT_EQ(message->real_size, message->size);
        got.push_back(payload_of(message));
    }
    void attach(struct dgram_socket *receiver, bool arrays)
    {
        if (arrays) {
            on.messages = [this](struct dgram_socket *, const struct dgram_message *messages,
                                 size_t count) {
                EXPECT_LE(count, 256u);
                for (size_t i = 0; i < count; i++) {
                    take(&messages[i]);
                }
            };
        } else {
            on.message = [this](struct dgram_socket *, const struct dgram_message *message) {
                take(message);
            };
        }
        on.attach(receiver);
    }
};

/* Whether a socket that asks for UDP_GRO gets a train of this host in one receive. */
bool gro_works()
{
#ifndef DGRAM_TEST_LINUX_HOST
    return false; /* the library asks for none */
#endif
    constexpr int udp_level = 17, udp_gro = 104, on = 1;
    Plain sender, receiver;
    return setsockopt(receiver.fd(), udp_level, udp_gro, &on, sizeof(on)) == 0 &&
           send_train(sender, "ab", 1, receiver.address()) && receiver.receive() == "ab";
}

struct Shape {
    size_t size;
    uint16_t segment;
};

/* Whole segments, a shorter last one, one alone; by count and by bytes as long as a kernel takes
 * them: 128 segments since 6.9, 64 before. */
std::vector<Shape> shapes()
{
    Plain sender, receiver;
    const bool long_ones = send_train(sender, pattern(128 * 64, 1), 64, receiver.address());
    return {{1037, 100},       {1000, 100},   {64, 1},
            {100, 100},        {99, 100},     {101, 100},
            {54 * 1200, 1200}, {64 * 64, 64}, {(long_ones ? 128u : 64u) * 64, 64},
            {64000, 32000},    {65400, 1400}};
}

/* A train of another program is taken apart at the right places, however it is received: with GRO
 * by one receive, without by one for each datagram. */
TEST_P(Train, IsTakenApartIntoDatagrams)
{
    NEED_TRAINS();
    const bool gro = gro_works();
    for (uint32_t type : socket_types()) {
        for (uint32_t flags : {0u, DGRAM_NO_GRO}) {
            for (bool arrays : {false, true}) {
                SCOPED_TRACE(testing::Message() << type << " flags " << flags << " " << arrays);
                Plain peer(type);
                Catcher catcher(peer.address());
                struct dgram_socket *receiver = open_bound(loop, type, flags);
                catcher.attach(receiver, arrays);
                std::vector<std::string> sent;
                for (Shape shape : shapes()) {
                    SCOPED_TRACE(testing::Message() << shape.size << " by " << shape.segment);
                    const std::string payload =
                        pattern(shape.size, static_cast<unsigned>(shape.size));
                    ASSERT_TRUE(send_train(peer, payload, shape.segment, address_of(receiver)));
                    for (const std::string &piece : cut(payload, shape.segment)) {
                        sent.push_back(piece);
                    }
                    ASSERT_TRUE(run_until(loop, [&] { return catcher.got.size() >= sent.size(); }));
                    ASSERT_TRUE(catcher.got == sent);
                }
                EXPECT_EQ(stats_of(receiver).received, sent.size());
                EXPECT_EQ(stats_of(receiver).truncated, 0u);
                EXPECT_EQ(stats_of(receiver).receives,
                          gro && flags == 0 ? shapes().size() : sent.size());
                close_and_wait(loop, receiver);
            }
        }
    }
}

/* What waits for the loop is received as it was sent: trains as one each, and what lies between
 * them by itself, though it is from the same sender and of the same size. */
TEST_P(Train, IsOneReceiveAndALoneDatagramAnother)
{
    NEED_TRAINS();
    if (!gro_works()) {
        GTEST_SKIP() << "this kernel has no UDP_GRO";
    }
    for (uint32_t type : socket_types()) {
        SCOPED_TRACE(type);
        Plain peer(type);
        Inbox inbox;
        std::vector<std::string> sent;
        struct dgram_socket *receiver = open_inbox(loop, &inbox, type);
        const struct dgram_addr to = address_of(receiver);
        const std::string train = pattern(64 * 64, 7), lone = pattern(64, 8);
        for (int i = 0; i < 10; i++) {
            ASSERT_TRUE(send_train(peer, train, 64, to));
            peer.send(lone, to);
            for (const std::string &piece : cut(train, 64)) {
                sent.push_back(piece);
            }
            sent.push_back(lone);
        }
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() >= sent.size(); }));
        EXPECT_TRUE(inbox.payloads == sent);
        EXPECT_EQ(stats_of(receiver).received, sent.size());
        EXPECT_EQ(stats_of(receiver).receives, 20u);
    }
}

/* Trains, single datagrams and empty ones of several senders, mixed. */
TEST_P(Train, MixesWithSingleDatagrams)
{
    NEED_TRAINS();
    Plain peers[2];
    const struct dgram_addr from[2] = {peers[0].address(), peers[1].address()};
    std::vector<std::string> got[2], sent[2];
    size_t received = 0, expected = 0;
    struct dgram_socket *receiver = open_bound(loop);
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *message) {
        int which = dgram_addr_equal(message->from, &from[1]);
        EXPECT_TRUE(dgram_addr_equal(message->from, &from[which]));
        got[which].push_back(payload_of(message));
        received++;
    };
    on.attach(receiver);
    for (unsigned round = 0; round < 20; round++) {
        for (int which = 0; which < 2; which++) {
            const std::string payload = pattern(700 + round, round);
            ASSERT_TRUE(send_train(peers[which], payload, 100, address_of(receiver)));
            for (const std::string &piece : cut(payload, 100)) {
                sent[which].push_back(piece);
            }
            for (size_t size : {0u, 1u, 1400u}) {
                sent[which].push_back(numbered(round, size));
                peers[which].send(sent[which].back(), address_of(receiver));
            }
        }
        expected = sent[0].size() + sent[1].size();
        ASSERT_TRUE(run_until(loop, [&] { return received >= expected; }));
    }
    EXPECT_TRUE(got[0] == sent[0]);
    EXPECT_TRUE(got[1] == sent[1]);
}

/* A socket closed in the middle of a train, its slot is not lost; many times. */
TEST_P(Train, CloseInTheMiddleGivesTheSlotBack)
{
    NEED_TRAINS();
    struct dgram_loop_options options = loop_options();
    options.slots = 4;
    remake_loop(options);
    Plain peer;
    for (int i = 0; i < 50; i++) {
        size_t messages = 0;
        bool closed = false;
        struct dgram_socket *receiver = open_bound(loop);
        Handlers on;
        on.message = [&](struct dgram_socket *socket, const struct dgram_message *) {
            if (++messages == 5) {
                EXPECT_EQ(dgram_close(socket), 0);
            }
        };
        on.close = [&](struct dgram_socket *) { closed = true; };
        on.attach(receiver);
        ASSERT_TRUE(send_train(peer, pattern(2000, 1), 100, address_of(receiver)));
        ASSERT_TRUE(send_train(peer, pattern(2000, 1), 100, address_of(receiver)));
        ASSERT_TRUE(run_until(loop, [&] { return closed; }));
        EXPECT_EQ(messages, 5u);
    }
    settle(loop);
    EXPECT_EQ(info_of(loop).slots_free, 4u);
}

/* Paused in the middle of a train. */
TEST_P(Train, PauseInTheMiddleKeepsTheRest)
{
    NEED_TRAINS();
    Plain peer;
    std::vector<std::string> got;
    struct dgram_socket *receiver = open_bound(loop);
    bool paused = false;
    Handlers on;
    on.message = [&](struct dgram_socket *socket, const struct dgram_message *message) {
        EXPECT_FALSE(paused);
        got.push_back(payload_of(message));
        if (got.size() % 6 == 0) {
            paused = true;
            EXPECT_EQ(dgram_pause(socket), 0);
        }
    };
    on.attach(receiver);
    const std::string payload = pattern(2030, 9);
    const std::vector<std::string> sent = cut(payload, 100);
    ASSERT_TRUE(send_train(peer, payload, 100, address_of(receiver)));
    while (got.size() < sent.size()) {
        ASSERT_TRUE(run_until(loop, [&] { return paused || got.size() == sent.size(); }));
        size_t before = got.size();
        settle(loop);
        ASSERT_EQ(got.size(), before);
        paused = false;
        ASSERT_EQ(dgram_resume(receiver), 0);
    }
    EXPECT_TRUE(got == sent);
}

/* Small slots switch UDP_GRO off by themselves: no train is ever cut. */
TEST_P(Train, IsNotCutBySmallSlots)
{
    NEED_TRAINS();
    struct dgram_loop_options options = loop_options();
    options.slot_size = 2048;
    remake_loop(options);
    Plain peer;
    Inbox inbox;
    struct dgram_socket *receiver = open_inbox(loop, &inbox);
    const std::string payload = pattern(40 * 1200 + 7, 2);
    const std::vector<std::string> sent = cut(payload, 1200);
    ASSERT_TRUE(send_train(peer, payload, 1200, address_of(receiver)));
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == sent.size(); }));
    EXPECT_TRUE(inbox.payloads == sent);
    EXPECT_EQ(stats_of(receiver).truncated, 0u);
}

} /* namespace */
