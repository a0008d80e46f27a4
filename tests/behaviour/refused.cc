/* SPDX-License-Identifier: MIT */
/*
 * refused.cc: the kernel refuses one of many datagrams of a turn: those behind it to the same peer
 * wait for it, those to others do not; or it refuses trains, which are sent one by one.
 *
 * This program's own sendmmsg() and sendmsg() stand before the C library's and fail on demand, so
 * with the static library only. What the io_uring engine submits by the ring is not seen here: in a
 * turn, lone trains to three peers and fewer. A flush sends one train by sendmsg(), and chains to
 * one peer go by sendmmsg() always. For the ring there is the kernel's own refusal of trains, which
 * two socket options bring about without privileges, as EINVAL and EMSGSIZE. EIO takes IPsec and
 * EPERM a firewall: host/netns.cc has both.
 */
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <deque>
#include <map>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

/* 0, or the errno with which the kernel refuses this message. Asked once for each attempt. */
std::function<int(const struct msghdr *)> verdict;
/* Of the message at which a sendmmsg() stopped: the next call begins with it, and gets it. */
int pending;

} // namespace

#ifdef SYS_sendmmsg
extern "C" int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    int code = pending;
    pending = 0;
    unsigned taken = 0;
    while (verdict && code == 0 && taken < count) {
        code = verdict(&messages[taken].msg_hdr);
        taken += code == 0;
    }
    if (code != 0 && taken == 0) {
        errno = code;
        return -1;
    }
    pending = code;
    return static_cast<int>(syscall(SYS_sendmmsg, fd, messages, verdict ? taken : count, flags));
}
#endif

#ifdef SYS_sendmsg
extern "C" ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    int code = pending != 0 ? pending : verdict ? verdict(message) : 0;
    pending = 0;
    if (code != 0) {
        errno = code;
        return -1;
    }
    return syscall(SYS_sendmsg, fd, message, flags);
}
#endif

namespace
{

size_t size_of(const struct msghdr *message)
{
    size_t size = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        size += message->msg_iov[i].iov_len;
    }
    return size;
}

class Refused : public EngineTest
{
  protected:
    static constexpr unsigned PEERS = 8;

    void SetUp() override
    {
        EngineTest::SetUp();
        if (!IsSkipped()) {
            renew();
        }
    }
    /* Peers and a sender that nothing was learned of, in the same loop. The old ones stay open: a
     * port that is free again may be the next one's, and the loop remembers what it refused. */
    void renew(uint32_t type = DGRAM_UDP4)
    {
        verdict = nullptr;
        peers.clear();
        sent.clear();
        for (unsigned peer = 0; peer < PEERS; peer++) {
            inboxes[peer] = Inbox();
            results[peer] = Results();
            peers.push_back(address_of(open_inbox(loop, &inboxes[peer], type)));
        }
        socket = open_bound(loop, type);
        settle(loop);
    }
    void TearDown() override
    {
        verdict = nullptr;
        EngineTest::TearDown();
    }
    bool is_to(const struct msghdr *message, unsigned peer) const
    {
        const struct sockaddr_in *name = static_cast<const struct sockaddr_in *>(message->msg_name);
        return name->sin_port == htons(dgram_addr_port(&peers[peer]));
    }
    /* Sizes that grow never share a train. */
    void send(unsigned peer, size_t size)
    {
        sent[peer].push_back(numbered(peer, size));
        ASSERT_EQ(dgram_send_to(socket, sent[peer].back().data(), size, &peers[peer], Results::take,
                                &results[peer]),
                  0);
    }
    bool all_came()
    {
        return run_until(loop, [&] {
            for (unsigned peer = 0; peer < PEERS; peer++) {
                if (inboxes[peer].count() < sent[peer].size() ||
                    results[peer].values.size() < sent[peer].size()) {
                    return false;
                }
            }
            return true;
        });
    }
    void expect_order()
    {
        for (unsigned peer = 0; peer < PEERS; peer++) {
            const auto &wanted = sent[peer];
            EXPECT_EQ(inboxes[peer].payloads,
                      std::vector<std::string>(wanted.begin(), wanted.end()));
            for (size_t i = 0; i < sent[peer].size(); i++) {
                EXPECT_EQ(results[peer].values[i], static_cast<int>(sent[peer][i].size()));
            }
        }
    }

    Inbox inboxes[PEERS];
    Results results[PEERS];
    std::map<unsigned, std::deque<std::string>> sent; /* lent: they must not move */
    std::vector<struct dgram_addr> peers;
    struct dgram_socket *socket = nullptr;
};

TEST_P(Refused, OneOfManyPeersHasItsErrorAndTheOthersTheirDatagrams)
{
    unsigned refusals = 0;
    verdict = [&](const struct msghdr *message) {
        refusals += is_to(message, 3);
        return is_to(message, 3) ? EACCES : 0;
    };
    for (unsigned peer = 0; peer < PEERS; peer++) {
        send(peer, 20);
    }
    sent[3].clear();
    ASSERT_TRUE(all_came());
    ASSERT_TRUE(run_until(loop, [&] { return !results[3].values.empty(); }));
    EXPECT_EQ(results[3].values, std::vector<int>{-EACCES});
    EXPECT_EQ(refusals, 1u);
    EXPECT_EQ(inboxes[3].count(), 0u);
    expect_order();
}

/* The refused one of six to a peer, whichever it is. */
TEST_P(Refused, ForAMomentHoldsBackWhatFollowsIt)
{
    for (size_t refused = 10; refused <= 15; refused++) {
        SCOPED_TRACE(refused);
        bool once = true;
        unsigned attempts = 0;
        verdict = [&](const struct msghdr *message) {
            attempts++;
            if (once && size_of(message) == refused) {
                once = false;
                return EAGAIN;
            }
            return 0;
        };
        for (size_t size = 10; size <= 15; size++) {
            send(0, size);
        }
        ASSERT_TRUE(all_came());
        EXPECT_EQ(attempts, 7u) << "each once, and the refused one twice";
    }
    expect_order();
}

/* EAGAIN is about the socket, which has no room for others either: nobody else is tried. */
TEST_P(Refused, ForAMomentKeepsTheOrderOfEachPeer)
{
    bool once = true;
    unsigned attempts = 0;
    verdict = [&](const struct msghdr *message) {
        attempts++;
        if (once && is_to(message, 1) && size_of(message) == 11) {
            once = false;
            return EAGAIN;
        }
        return 0;
    };
    for (unsigned peer = 0; peer < PEERS; peer++) {
        for (size_t size = 10; size <= 15; size++) {
            send(peer, size);
        }
    }
    ASSERT_TRUE(all_came());
    expect_order();
    EXPECT_EQ(attempts, 6 * PEERS + 1);
}

/* Another error is about the one peer: the others are tried in the same turn. */
TEST_P(Refused, ForGoodHoldsBackNobody)
{
    verdict = [&](const struct msghdr *message) {
        return is_to(message, 1) && size_of(message) == 11 ? EACCES : 0;
    };
    for (unsigned peer = 0; peer < PEERS; peer++) {
        for (size_t size = 10; size <= 15; size++) {
            send(peer, size);
        }
    }
    ASSERT_GE(dgram_loop_flush(loop), 0);
    verdict = [](const struct msghdr *) {
        ADD_FAILURE() << "all were sent by the flush";
        return 0;
    };
    sent[1].erase(sent[1].begin() + 1);
    ASSERT_TRUE(all_came());
    ASSERT_EQ(results[1].values.size(), 6u);
    EXPECT_EQ(results[1].values[1], -EACCES);
    results[1].values.erase(results[1].values.begin() + 1);
    expect_order();
}

/* Each socket sends from its own port, however many have something to send in one turn. */
TEST_P(Refused, NotAndFromTheRightSocket)
{
    std::vector<struct dgram_socket *> senders;
    std::vector<uint16_t> ports;
    std::map<uint16_t, unsigned> got;
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *message) {
        EXPECT_EQ(payload_of(message), std::to_string(dgram_addr_port(message->from)));
        got[dgram_addr_port(message->from)]++;
    };
    std::vector<struct dgram_addr> receivers;
    for (unsigned i = 0; i < 6; i++) {
        struct dgram_socket *receiver = open_bound(loop);
        on.attach(receiver);
        receivers.push_back(address_of(receiver));
        senders.push_back(open_bound(loop));
        ports.push_back(port_of(senders.back()));
    }
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned to = 0; to <= i; to++) { /* one train, two, ... six */
            ASSERT_EQ(send_text(senders[i], std::to_string(ports[i]), receivers[to]), 0);
        }
    }
    ASSERT_TRUE(run_until(loop, [&] {
        unsigned sum = 0;
        for (const auto &each : got) {
            sum += each.second;
        }
        return sum == 21;
    }));
    for (unsigned i = 0; i < 6; i++) {
        EXPECT_EQ(got[ports[i]], i + 1);
    }
}

/* ---- Trains -------------------------------------------------------------------------------- */

bool is_train(const struct msghdr *message)
{
    constexpr int udp_level = 17, udp_segment = 103;
    const struct cmsghdr *item = CMSG_FIRSTHDR(message);
    return item != nullptr && item->cmsg_level == udp_level && item->cmsg_type == udp_segment;
}

/* Each test has peers that nothing was learned of. */
class RefusedTrains : public Refused
{
  protected:
    static constexpr unsigned EACH = 3; /* datagrams of a train */

    void SetUp() override
    {
        Refused::SetUp();
        if (!IsSkipped() && info_of(loop).segments_max < EACH) {
            GTEST_SKIP() << "no trains here";
        }
    }
    /* Larger ones begin a train of their own. After each train a single one, if `mixed`. */
    void send_trains(unsigned peer, unsigned trains, bool mixed)
    {
        for (unsigned i = 0; i < trains; i++) {
            for (unsigned j = 0; j < EACH; j++) {
                send(peer, 100 + 10 * i);
            }
            if (mixed) {
                send(peer, 105 + 10 * i);
            }
        }
    }
    /* All came one by one. */
    void expect_refused(uint64_t trains)
    {
        uint64_t datagrams = 0;
        for (const auto &each : sent) {
            datagrams += each.second.size();
        }
        ASSERT_TRUE(all_came());
        expect_order();
        const struct dgram_socket_stats stats = stats_of(socket);
        EXPECT_EQ(stats.trains_refused, trains);
        EXPECT_EQ(stats.sent, datagrams);
        EXPECT_EQ(stats.sends, datagrams);
        EXPECT_EQ(stats.send_errors, 0u);
    }
};

/* One train, a few, and more than the ring would take one by one; alone, and with single datagrams
 * between them, which the kernel takes. */
TEST_P(RefusedTrains, AreSentOneByOneInOrder)
{
    const int codes[] = {EIO, EINVAL, EMSGSIZE, EPERM, ENOMEM};
    for (int code : codes) {
        for (unsigned trains : {1u, 3u, 5u, 7u}) {
            for (bool mixed : {false, true}) {
                SCOPED_TRACE(testing::Message() << strerror(code) << ": " << trains << mixed);
                unsigned attempts = 0;
                renew();
                verdict = [&](const struct msghdr *message) {
                    attempts++;
                    return is_train(message) ? code : 0;
                };
                send_trains(0, trains, mixed);
                ASSERT_EQ(dgram_loop_flush(loop), 0);
                ASSERT_NO_FATAL_FAILURE(expect_refused(trains));
                EXPECT_EQ(attempts, trains + sent[0].size());
            }
        }
    }
}

/* The same of a turn, and without callbacks: nobody hears of it. */
TEST_P(RefusedTrains, ArriveWithoutCallbacks)
{
    for (int code : {EIO, EINVAL, EMSGSIZE, EPERM}) {
        SCOPED_TRACE(strerror(code));
        renew();
        verdict = [&](const struct msghdr *message) { return is_train(message) ? code : 0; };
        for (unsigned i = 0; i < 5 * EACH; i++) {
            sent[0].push_back(numbered(i, 100 + 10 * (i / EACH)));
            ASSERT_EQ(send_text(socket, sent[0].back(), peers[0]), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return inboxes[0].count() == 5 * EACH; }));
        EXPECT_EQ(inboxes[0].payloads, std::vector<std::string>(sent[0].begin(), sent[0].end()));
        EXPECT_EQ(stats_of(socket).trains_refused, 5u);
        EXPECT_EQ(stats_of(socket).sends, 5 * EACH);
        EXPECT_EQ(stats_of(socket).send_errors, 0u);
    }
}

/* Datagrams that fail like their train were not harmed by it: nothing is learnt, and the next train
 * is tried. */
TEST_P(RefusedTrains, AreNotThoseThatFail)
{
    unsigned attempts = 0;
    verdict = [&](const struct msghdr *) {
        attempts++;
        return EACCES;
    };
    for (unsigned round = 1; round <= 2; round++) {
        send_trains(0, 1, false);
        ASSERT_EQ(dgram_loop_flush(loop), 0);
        ASSERT_TRUE(run_until(loop, [&] { return results[0].values.size() == round * EACH; }));
        EXPECT_EQ(results[0].values, std::vector<int>(round * EACH, -EACCES));
        EXPECT_EQ(attempts, round * (1 + EACH)) << "each its own try";
        EXPECT_EQ(stats_of(socket).trains_refused, round);
    }
}

/* A firewall that counts: each datagram has its own result, and each callback its own. */
TEST_P(RefusedTrains, HaveAResultForEachDatagram)
{
    unsigned alone = 0;
    verdict = [&](const struct msghdr *message) {
        return is_train(message) || ++alone % 2 == 0 ? EPERM : 0;
    };
    send_trains(0, 1, false);
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results[0].values.size() == EACH; }));
    EXPECT_EQ(results[0].values, (std::vector<int>{100, -EPERM, 100}));
    ASSERT_TRUE(run_until(loop, [&] { return inboxes[0].count() == 2; }));
    EXPECT_EQ(inboxes[0].payloads, (std::vector<std::string>{sent[0][0], sent[0][2]}));
    EXPECT_EQ(stats_of(socket).trains_refused, 1u);
    EXPECT_EQ(stats_of(socket).send_errors, 1u);
}

/* What is learned of a peer: EMSGSIZE is about larger ones, the others about trains as such. */
TEST_P(RefusedTrains, AreNotTriedAgainAtOnce)
{
    for (int code : {EIO, EINVAL, EMSGSIZE, EPERM}) {
        SCOPED_TRACE(strerror(code));
        renew();
        unsigned trains = 0;
        verdict = [&](const struct msghdr *message) {
            trains += is_train(message);
            return is_train(message) && size_of(message) >= EACH * 100 ? code : 0;
        };
        for (size_t size : {100u, 120u, 100u, 80u}) {
            for (unsigned i = 0; i < EACH; i++) {
                send(0, size);
            }
            ASSERT_EQ(dgram_loop_flush(loop), 0);
        }
        ASSERT_TRUE(all_came());
        expect_order();
        EXPECT_EQ(stats_of(socket).trains_refused, 1u);
        EXPECT_EQ(trains, code == EMSGSIZE ? 2u : 1u) << "smaller ones may fit the path";
    }
}

/* A socket whose trains so many refused in a row makes none (for a while: simulated/refused.cc). */
TEST_P(RefusedTrains, AreNotMadeAfterEightInARow)
{
    verdict = [&](const struct msghdr *message) { return is_train(message) ? EIO : 0; };
    for (unsigned peer = 0; peer < PEERS; peer++) {
        send_trains(peer, 1, false);
        ASSERT_EQ(dgram_loop_flush(loop), 0);
    }
    Inbox inbox;
    const struct dgram_addr ninth = address_of(open_inbox(loop, &inbox));
    for (unsigned i = 0; i < EACH; i++) {
        ASSERT_EQ(send_text(socket, numbered(i), ninth), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == EACH; }));
    EXPECT_EQ(stats_of(socket).trains_refused, PEERS);
    EXPECT_EQ(stats_of(socket).sends, (PEERS + 1) * EACH);
}

/* ---- Refused by the kernel itself ---------------------------------------------------------- */

/* The library's descriptor of a socket, which has the port to itself. */
int descriptor_of(struct dgram_socket *socket)
{
    const struct dgram_addr wanted = address_of(socket);
    for (int fd = 0; fd < 1024; fd++) {
        struct dgram_addr name = {};
        socklen_t size = sizeof(name.u);
        if (getsockname(fd, &name.u.any, &size) == 0) {
            name.size = size;
            if (dgram_addr_equal(&name, &wanted)) {
                return fd;
            }
        }
    }
    ADD_FAILURE() << "no descriptor has this address";
    return -1;
}

#ifdef SO_NO_CHECK
/* Datagrams without a checksum are not cut by the kernel: EINVAL. One train each to one,
 * three and more peers: the ring takes the first two. */
TEST_P(RefusedTrains, ByTheKernelForWantOfChecksumsArrive)
{
    const int on = 1;
    for (unsigned count : {1u, 3u, 8u}) {
        SCOPED_TRACE(count);
        renew();
        ASSERT_EQ(setsockopt(descriptor_of(socket), SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)), 0);
        settle(loop);
        for (unsigned peer = 0; peer < count; peer++) {
            send_trains(peer, 1, false);
        }
        ASSERT_NO_FATAL_FAILURE(expect_refused(count));
    }
}
#endif

/* Nor what exceeds the MTU: EMSGSIZE, or EINVAL of older ones. Single datagrams are fragmented. */
TEST_P(RefusedTrains, ByTheKernelForTheMtuArrive)
{
    constexpr int ipv6_mtu = 24, mtu = 1280;
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6 here";
    }
    for (unsigned count : {1u, 3u, 8u}) {
        SCOPED_TRACE(count);
        renew(DGRAM_UDP6);
        ASSERT_EQ(setsockopt(descriptor_of(socket), IPPROTO_IPV6, ipv6_mtu, &mtu, sizeof(mtu)), 0);
        settle(loop);
        for (unsigned peer = 0; peer < count; peer++) {
            for (unsigned i = 0; i < EACH; i++) {
                send(peer, 1400);
            }
        }
        ASSERT_NO_FATAL_FAILURE(expect_refused(count));
    }
}

INSTANTIATE_ON_HOST_ENGINES(Refused);
INSTANTIATE_ON_HOST_ENGINES(RefusedTrains);

} // namespace
