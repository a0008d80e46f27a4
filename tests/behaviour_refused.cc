/* SPDX-License-Identifier: MIT */
/*
 * behaviour_refused.cc: the kernel refuses one of many datagrams of a turn: those behind it to the
 * same peer wait for it, those to others do not. This program's own sendmmsg() and sendmsg() stand
 * before the C library's and fail on demand, so with the static library only. What the io_uring
 * engine submits by the ring (three trains and fewer) is not seen here.
 */
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <deque>
#include <map>

#include "tests/harness.h"

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
        if (IsSkipped()) {
            return;
        }
        for (Inbox &inbox : inboxes) {
            peers.push_back(address_of(open_inbox(loop, &inbox)));
        }
        socket = open_bound(loop);
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

INSTANTIATE_ON_HOST_ENGINES(Refused);

} // namespace
