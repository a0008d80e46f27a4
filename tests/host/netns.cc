/* SPDX-License-Identifier: MIT */
/*
 * netns.cc: what only a real host shows: a device that is slower than the program, one that wants
 * fragments, a packet filter, a host without loopback. In network namespaces of its own, which are
 * gone with the process. Exits with 77, "skipped", where they cannot be made.
 */
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "tests/support/harness.h"
#include "tests/support/memory.h"

using namespace harness;
using namespace memory;

namespace
{

/* ---- Namespaces ---------------------------------------------------------------------------- */

enum { EXIT_SKIPPED = 77 };

const char *const NEAR_ADDRESS = "10.77.0.1", *const FAR_ADDRESS = "10.77.0.2";

/* near: where the tests run, with a device of 20 Mbit/s to far. */
int near_fd = -1, far_fd = -1;

/* This thread is elsewhere as long as the object lives. Sockets stay where they were made. */
class Elsewhere
{
  public:
    explicit Elsewhere(int fd)
    {
        EXPECT_EQ(setns(fd, CLONE_NEWNET), 0) << strerror(errno);
    }
    /* In a new namespace, whose loopback is down and has never been up. */
    Elsewhere()
    {
        EXPECT_EQ(unshare(CLONE_NEWNET), 0) << strerror(errno);
    }
    ~Elsewhere()
    {
        EXPECT_EQ(setns(near_fd, CLONE_NEWNET), 0) << strerror(errno);
    }
    Elsewhere(const Elsewhere &) = delete;
    Elsewhere &operator=(const Elsewhere &) = delete;
};

bool run(const std::string &command)
{
    return system((command + " >/dev/null 2>&1").c_str()) == 0;
}

int new_namespace()
{
    return unshare(CLONE_NEWNET) == 0 ? open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC) : -1;
}

/* Why the namespaces cannot be made; "" if they are there now. */
std::string make_namespaces()
{
    if (geteuid() != 0) {
        return "only root may make network namespaces";
    }
    for (const char *tool : {"ip", "tc"}) {
        if (!run(std::string("command -v ") + tool)) {
            return std::string(tool) + " (iproute2) is not here";
        }
    }
    far_fd = new_namespace();
    near_fd = new_namespace();
    if (far_fd < 0 || near_fd < 0) {
        return std::string("unshare: ") + strerror(errno);
    }
    const std::string far_name =
        "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(far_fd);
    const std::string near_net = std::string(NEAR_ADDRESS) + "/24";
    const std::string far_net = std::string(FAR_ADDRESS) + "/24";
    for (const std::string &command :
         {std::string("ip link set lo up"),
          std::string("ip link add slow type veth peer name fast"),
          "ip link set fast netns " + far_name, "ip addr add " + near_net + " dev slow",
          std::string("ip link set slow up"),
          std::string("tc qdisc add dev slow root tbf rate 20mbit burst 20k limit 4m")}) {
        if (!run(command)) {
            return "\"" + command + "\" fails";
        }
    }
    bool there = setns(far_fd, CLONE_NEWNET) == 0 && run("ip link set lo up") &&
                 run("ip addr add " + far_net + " dev fast") && run("ip link set fast up");
    there = setns(near_fd, CLONE_NEWNET) == 0 && there;
    return there ? "" : "the far side cannot be set up";
}

/* ---- Fixtures ------------------------------------------------------------------------------ */

class SlowDevice : public MemoryTest
{
  protected:
    void SetUp() override
    {
        {
            Elsewhere far(far_fd);
            peer_.reset(new Plain(DGRAM_UDP4, FAR_ADDRESS));
        }
        MemoryTest::SetUp();
    }

    Plain &far_peer()
    {
        return *peer_;
    }

    /* With the least send buffer: a few datagrams in the device's queue fill it. */
    struct dgram_socket *open_narrow()
    {
        struct dgram_socket_options options = socket_options();
        options.send_buffer_size = 1;
        struct dgram_socket *socket = nullptr;
        EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
        return socket;
    }

  private:
    std::unique_ptr<Plain> peer_;
};

class BareHost : public EngineTest
{
};

/* What near sends to far is authenticated (IPsec's AH, RFC 4302; ESP is as good): the kernel makes
 * no trains of it and answers EIO. */
class Encrypted : public EngineTest
{
  protected:
    void SetUp() override
    {
        EngineTest::SetUp();
        if (IsSkipped()) {
            return;
        }
        const std::string between = std::string(" src ") + NEAR_ADDRESS + " dst " + FAR_ADDRESS;
        const std::string key(64, '7');
        const std::string state = "ip xfrm state add" + between +
                                  " proto ah spi 0x77 mode transport auth 'hmac(sha256)' 0x" + key;
        bool there = run(state);
        {
            Elsewhere far(far_fd);
            there = there && run(state);
        }
        if (!there) {
            GTEST_SKIP() << "no IPsec in this kernel (CONFIG_XFRM_USER, CONFIG_INET_AH)";
        }
        ASSERT_TRUE(run("ip xfrm policy add dir out" + between + " tmpl proto ah mode transport"));
    }
    void TearDown() override
    {
        {
            Elsewhere far(far_fd);
            run("ip xfrm state flush");
        }
        run("ip xfrm policy flush");
        run("ip xfrm state flush");
        EngineTest::TearDown();
    }

    /* So many datagrams, a train and more, to a peer that was sent nothing before. */
    void expect_all_arrive(struct dgram_socket *socket, unsigned count, bool flushes)
    {
        std::unique_ptr<Plain> peer;
        {
            Elsewhere far(far_fd);
            peer.reset(new Plain(DGRAM_UDP4, FAR_ADDRESS));
        }
        const struct dgram_addr to = peer->address();
        Results results;
        for (unsigned i = 0; i < count; i++) {
            const std::string payload = numbered(i);
            ASSERT_EQ(
                dgram_send_to(socket, payload.data(), payload.size(), &to, Results::take, &results),
                0);
        }
        if (flushes) {
            ASSERT_EQ(dgram_loop_flush(loop), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == count; }));
        EXPECT_EQ(results.values, std::vector<int>(count, 64));
        for (unsigned i = 0; i < count; i++) {
            ASSERT_EQ(peer->receive(), numbered(i));
        }
    }
};

/* A packet filter of the kernel's looks at what this host sends. It sees a train as one packet. */
class Filtered : public EngineTest
{
  protected:
    void SetUp() override
    {
        EngineTest::SetUp();
        if (IsSkipped()) {
            return;
        }
        if (!run("command -v nft")) {
            GTEST_SKIP() << "nft (nftables) is not here";
        }
        if (!run("nft 'add table inet dgram; add chain inet dgram out "
                 "{ type filter hook output priority 0; }'")) {
            GTEST_SKIP() << "no nf_tables in this kernel (CONFIG_NF_TABLES_INET)";
        }
    }
    void TearDown() override
    {
        run("nft delete table inet dgram");
        EngineTest::TearDown();
    }

    bool rule(const std::string &text)
    {
        return run("nft 'add rule inet dgram out meta l4proto udp " + text + " drop'");
    }
    /* By a call of its own, or by the turn's submission. */
    Results send_burst(struct dgram_socket *socket, const struct dgram_addr &to, unsigned count,
                       bool flushes)
    {
        Results results;
        for (unsigned i = 0; i < count; i++) {
            const std::string payload = numbered(i);
            EXPECT_EQ(
                dgram_send_to(socket, payload.data(), payload.size(), &to, Results::take, &results),
                0);
        }
        EXPECT_EQ(flushes ? dgram_loop_flush(loop) : 0, 0);
        EXPECT_TRUE(run_until(loop, [&] { return results.values.size() == count; }));
        return results;
    }
};

INSTANTIATE_ON_HOST_ENGINES(SlowDevice);
INSTANTIATE_ON_HOST_ENGINES(Filtered);
INSTANTIATE_ON_HOST_ENGINES(BareHost);
INSTANTIATE_ON_HOST_ENGINES(Encrypted);

/* ---- A full send buffer -------------------------------------------------------------------- */

const unsigned BURST = 60;

/* Sizes grow, so that none shares a train with another. */
std::string burst_payload(unsigned number)
{
    return numbered(number, 700 + number);
}

/* Sends the burst in the `listening` event. */
struct Burst {
    std::vector<std::string> payloads;
    Results results;
    Handlers on;

    Burst(struct dgram_socket *socket, const struct dgram_addr &to, bool asked)
    {
        for (unsigned i = 0; i < BURST; i++) {
            payloads.push_back(burst_payload(i));
        }
        on.listening = [this, to, asked](struct dgram_socket *which) {
            for (const std::string &payload : payloads) {
                EXPECT_EQ(dgram_send_to(which, payload.data(), payload.size(), &to,
                                        asked ? Results::take : nullptr, &results),
                          0);
            }
        };
        on.attach(socket);
        EXPECT_EQ(dgram_bind(socket, 0, NEAR_ADDRESS), 0);
    }
};

/* All arrive, in order. */
void expect_burst(Plain &peer)
{
    for (unsigned i = 0; i < BURST; i++) {
        const std::string payload = peer.receive();
        ASSERT_EQ(payload, burst_payload(i)) << "datagram " << i;
    }
}

/* dgram_loop_run() sleeps for whatever was parked, and for nothing that was not submitted. */
TEST_P(SlowDevice, BurstLeavesARunningLoop)
{
    for (bool asked : {false, true}) {
        SCOPED_TRACE(asked);
        Plain &peer = far_peer();
        struct dgram_socket *socket = open_narrow();
        Burst burst(socket, peer.address(), asked);
        std::thread reader([&] {
            expect_burst(peer);
            dgram_loop_stop(loop);
        });
        EXPECT_EQ(dgram_loop_run(loop), 1);
        reader.join();
        const struct dgram_socket_stats stats = stats_of(socket);
        EXPECT_EQ(stats.sent, BURST);
        EXPECT_GT(stats.parked, 0u) << "the device is not slow";
        EXPECT_EQ(burst.results.values.size(), asked ? BURST : 0u);
        close_and_wait(loop, socket);
    }
}

/* The same with an outer loop, which turns this one when the descriptor says so and only then. */
TEST_P(SlowDevice, BurstLeavesAnEmbeddedLoop)
{
    int fd = dgram_loop_fd(loop);
    if (fd == -ENOTSUP) {
        GTEST_SKIP() << "this host has only poll(2)";
    }
    ASSERT_GE(fd, 0);
    for (bool asked : {false, true}) {
        SCOPED_TRACE(asked);
        Plain &peer = far_peer();
        struct dgram_socket *socket = open_narrow();
        Burst burst(socket, peer.address(), asked);
        while (stats_of(socket).sent < BURST) {
            struct pollfd ready = {fd, POLLIN, 0};
            int count = poll(&ready, 1, static_cast<int>(5000 * patience()));
            ASSERT_EQ(count, 1) << "the descriptor does not know of what was parked; sent "
                                << stats_of(socket).sent;
            ASSERT_EQ(dgram_loop_turn(loop, 0), 1);
        }
        expect_burst(peer);
        EXPECT_GT(stats_of(socket).parked, 0u) << "the device is not slow";
        ASSERT_TRUE(
            run_until(loop, [&] { return burst.results.values.size() == (asked ? BURST : 0u); }));
        close_and_wait(loop, socket);
    }
}

/* However often it is tried again. */
TEST_P(SlowDevice, ParkedDatagramIsCountedOnce)
{
    Plain &peer = far_peer();
    struct dgram_socket *socket = open_narrow();
    Burst burst(socket, peer.address(), true);
    ASSERT_TRUE(run_until(loop, [&] { return burst.results.values.size() == BURST; }));
    EXPECT_LE(stats_of(socket).parked, BURST);
    EXPECT_GT(stats_of(socket).parked, 0u) << "the device is not slow";
    expect_burst(peer);
}

/* ---- No room, ever ------------------------------------------------------------------------- */

/* Fragments of one datagram that need more than the whole send buffer: -ENOBUFS again and again.
 * It must neither block its socket for ever nor hurt what goes elsewhere. */
TEST_P(SlowDevice, DatagramThatNeverFitsFailsInTheEnd)
{
    Plain &peer = far_peer();
    Plain other;
    const struct dgram_addr to = peer.address(), to_other = other.address();
    struct dgram_socket *socket = open_narrow();
    const std::string big = pattern(65000, 1);
    std::vector<int> results_of_big;
    int result_of_small = 0;
    bool closed = false;
    Sent on_big([&](struct dgram_socket *, int result) { results_of_big.push_back(result); });
    Sent on_small([&](struct dgram_socket *, int result) { result_of_small = result; });
    Handlers on;
    on.close = [&](struct dgram_socket *) { closed = true; };
    on.attach(socket);
    ASSERT_EQ(dgram_send_to(socket, big.data(), big.size(), &to, Sent::call, &on_big), 0);
    ASSERT_EQ(dgram_send_to(socket, "small", 5, &to_other, Sent::call, &on_small), 0);
    ASSERT_EQ(dgram_end(socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
    EXPECT_EQ(results_of_big, (std::vector<int>{-ENOBUFS}));
    EXPECT_EQ(result_of_small, 5);
    EXPECT_EQ(other.receive(), "small");
}

/* Meanwhile what goes elsewhere from the same socket leaves with the call that submits it. */
TEST_P(SlowDevice, DatagramThatNeverFitsHoldsNobodyBack)
{
    Plain &peer = far_peer();
    Plain other;
    const struct dgram_addr to = peer.address(), to_other = other.address();
    struct dgram_socket *socket = open_narrow();
    const std::string big = pattern(65000, 1);
    ASSERT_EQ(dgram_bind(socket, 0, nullptr), 0);
    ASSERT_EQ(send_text(socket, big, to), 0);
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    ASSERT_EQ(stats_of(socket).parked, 1u) << "it has room here";
    for (unsigned i = 0; i < 50; i++) {
        ASSERT_EQ(send_text(socket, numbered(i), to_other), 0);
        ASSERT_EQ(dgram_loop_flush(loop), 0);
        ASSERT_EQ(other.receive(), numbered(i)) << "it waits for the other";
    }
    EXPECT_EQ(stats_of(socket).parked, 1u);
    close_and_wait(loop, socket);
}

/* Neither memory to park in nor to wait for POLLOUT with: the datagrams fail, and the socket can be
 * closed while it still waits for a moment. */
TEST_P(SlowDevice, NothingParkedAndClosed)
{
    Plain &peer = far_peer();
    const struct dgram_addr to = peer.address();
    struct dgram_socket *socket = open_narrow();
    bool closed = false;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closed = true; };
    on.attach(socket);
    ASSERT_EQ(dgram_bind(socket, 0, NEAR_ADDRESS), 0);
    settle(loop);
    for (unsigned i = 0; i < 40; i++) {
        ASSERT_EQ(send_text(socket, burst_payload(i), to), 0);
    }
    ASSERT_EQ(dgram_end(socket), 0);
    fail_always = true;
    for (int i = 0; i < 6; i++) {
        ASSERT_GE(dgram_loop_turn(loop, 0), 0);
    }
    fail_always = false;
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
    usleep(5000); /* beyond that moment */
    settle(loop);
}

/* ---- Packet filters ------------------------------------------------------------------------ */

/* The rule lets each datagram through and no train of them: EPERM. */
TEST_P(Filtered, DatagramsThatTheRuleAllowsArrive)
{
    ASSERT_TRUE(rule("meta length gt 1500"));
    const bool trains = info_of(loop).segments_max > 1;
    struct dgram_socket *socket = open_socket(loop);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    uint64_t refused = 0;
    for (bool flushes : {false, true}) {
        SCOPED_TRACE(flushes);
        Plain peer; /* another each time: nothing is known of it */
        refused += trains;
        for (unsigned round = 0; round < 2; round++) {
            const Results results = send_burst(socket, peer.address(), 50, flushes);
            EXPECT_EQ(results.values, std::vector<int>(50, 64));
            for (unsigned i = 0; i < 50; i++) {
                ASSERT_EQ(peer.receive(), numbered(i));
            }
            EXPECT_EQ(stats_of(socket).trains_refused, refused) << "asked again at once";
        }
    }
    EXPECT_EQ(stats_of(socket).send_errors, 0u);
}

/* A rule that counts bytes has no room for the train and some for its first datagrams. */
TEST_P(Filtered, ARateIsUsedByTheDatagramsThatFitIntoIt)
{
    for (bool flushes : {false, true}) {
        SCOPED_TRACE(flushes);
        Plain peer;
        const struct dgram_addr to = peer.address();
        ASSERT_TRUE(rule("udp dport " + std::to_string(dgram_addr_port(&to)) +
                         " limit rate over 1 bytes/second burst 2000 bytes"));
        struct dgram_socket *socket = open_socket(loop);
        ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
        const Results results = send_burst(socket, to, 60, flushes);
        unsigned taken = 0;
        for (unsigned i = 0; i < results.values.size(); i++) {
            if (results.values[i] == -EPERM) {
                continue;
            }
            EXPECT_EQ(results.values[i], 64);
            ASSERT_EQ(peer.receive(), numbered(i)) << "a callback said that it has left";
            taken++;
        }
        EXPECT_GE(taken, 15u) << "of 92 bytes each with their headers";
        EXPECT_LT(taken, 60u) << "the rule was not there";
        EXPECT_EQ(stats_of(socket).send_errors, 60 - taken);
    }
}

/* Whom the filter allows nothing: each datagram fails, and when the filter is gone trains leave. */
TEST_P(Filtered, NothingIsLearntWhereAllFail)
{
    Plain peer;
    ASSERT_TRUE(rule("meta mark 0"));
    struct dgram_socket *socket = open_socket(loop);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    EXPECT_EQ(send_burst(socket, peer.address(), 50, true).values, std::vector<int>(50, -EPERM));
    ASSERT_TRUE(run("nft flush chain inet dgram out"));
    EXPECT_EQ(send_burst(socket, peer.address(), 50, true).values, std::vector<int>(50, 64));
    const uint32_t longest = info_of(loop).segments_max;
    EXPECT_EQ(stats_of(socket).sends, (50 + longest - 1) / longest);
}

/* ---- No loopback --------------------------------------------------------------------------- */

/* An engine is tried with a datagram over loopback. That there is none is no fault of the engine's,
 * and it may come up later. */
TEST_P(BareHost, EngineNeedsNoLoopback)
{
    Elsewhere bare;
    struct dgram_engine_report report = {};
    report.size = sizeof(report);
    ASSERT_EQ(dgram_engine_probe(GetParam().number, &report), 0);
    EXPECT_EQ(report.code, 0) << report.call << ": " << dgram_error_name(report.code);
    struct dgram_loop *made = make_loop();
    ASSERT_NE(made, nullptr);
    ASSERT_TRUE(run("ip link set lo up"));
    expect_echo(made, open_socket(made));
    EXPECT_EQ(dgram_loop_free(made), nullptr);
}

/* ---- Interfaces that come and go ----------------------------------------------------------- */

/* A tunnel, a container's veth, an adapter. */
void interface_comes(const char *route)
{
    ASSERT_TRUE(run("ip link add vpn0 type veth peer name vpn1 && ip addr add 10.9.0.1/24 dev vpn0 "
                    "&& ip -6 addr add fd00::1/64 dev vpn0 nodad && ip link set vpn1 up && ip link "
                    "set vpn0 up" +
                    std::string(route)));
}

void interface_goes()
{
    ASSERT_TRUE(run("ip link del vpn0"));
}

/* How a program goes on when its interface has vanished. */
enum class Then { LEAVES_GONE, LEAVES_RETURNED, JOINS_ANEW };

void expect_rounds(struct dgram_socket *socket, const char *group, const char *where,
                   const char *leave, Then then, const char *route)
{
    const int rounds = 3;
    for (int round = 0; round < rounds; round++) {
        SCOPED_TRACE(round);
        ASSERT_NO_FATAL_FAILURE(interface_comes(route));
        const std::string number = std::to_string(if_nametoindex("vpn0"));
        const char *text = leave != nullptr && leave[0] == '#' ? number.c_str() : leave;
        int code = -ENODEV; /* until the kernel has found out that the link is up */
        ASSERT_TRUE(wait_until(
            [&] { return (code = dgram_add_membership(socket, group, where)) != -ENODEV; }));
        ASSERT_EQ(code, 0);
        EXPECT_EQ(dgram_add_membership(socket, group, where), -EADDRINUSE);
        ASSERT_NO_FATAL_FAILURE(interface_goes());
        if (then == Then::LEAVES_RETURNED) {
            ASSERT_NO_FATAL_FAILURE(interface_comes(route));
        }
        if (then != Then::JOINS_ANEW || round == rounds - 1) {
            EXPECT_EQ(dgram_drop_membership(socket, group, text), 0);
            EXPECT_NE(dgram_drop_membership(socket, group, text), 0);
        }
        if (then == Then::LEAVES_RETURNED) {
            ASSERT_NO_FATAL_FAILURE(interface_goes());
        }
    }
}

/* The kernel keeps what was joined on an interface that is gone, and counts it: one is all here. */
TEST_P(BareHost, GroupsOfVanishedInterfacesCanBeLeft)
{
    static const struct {
        uint32_t type;
        const char *group, *where, *leave, *route;
    } ways[] = {
        {DGRAM_UDP4, "239.7.7.7", "vpn0", "vpn0", ""},
        {DGRAM_UDP4, "239.7.7.7", "vpn0", "#", ""},
        {DGRAM_UDP4, "239.7.7.7", "vpn0", nullptr, ""},
        {DGRAM_UDP4, "239.7.7.7", "10.9.0.1", "10.9.0.1", ""},
        {DGRAM_UDP4, "239.7.7.7", nullptr, nullptr, " && ip route add 224.0.0.0/4 dev vpn0"},
        {DGRAM_UDP6, "ff15::77", "vpn0", "::%vpn0", ""},
        {DGRAM_UDP6, "ff15::77", nullptr, nullptr, ""},
        {DGRAM_UDP6, "ff12::77%vpn0", nullptr, nullptr, ""},
        {DGRAM_UDP6, "239.7.7.7", "vpn0", "vpn0", ""},
    };
    Elsewhere bare;
    ASSERT_TRUE(run("ip link set lo up; echo 1 > /proc/sys/net/ipv4/igmp_max_memberships"));
    struct dgram_loop *made = make_loop();
    for (const auto &way : ways) {
        for (Then then : {Then::LEAVES_GONE, Then::LEAVES_RETURNED, Then::JOINS_ANEW}) {
            SCOPED_TRACE(testing::Message()
                         << way.group << " " << (way.where != nullptr ? way.where : "any") << " "
                         << static_cast<int>(then));
            struct dgram_socket *socket = open_bound(made, way.type);
            expect_rounds(socket, way.group, way.where, way.leave, then, way.route);
            dgram_close(socket);
        }
    }
    EXPECT_EQ(dgram_loop_free(made), nullptr);
}

/* What another socket has joined on the interface that came back is not left with the old one. */
TEST_P(BareHost, StaleMembershipsAreLeftAloneByOthers)
{
    Elsewhere bare;
    ASSERT_TRUE(run("ip link set lo up"));
    struct dgram_loop *made = make_loop();
    Inbox inbox;
    struct dgram_socket *stale = open_socket(made), *heard = open_socket(made);
    ASSERT_NO_FATAL_FAILURE(interface_comes(""));
    ASSERT_EQ(dgram_add_membership(stale, "239.7.7.7", "10.9.0.1"), 0);
    ASSERT_NO_FATAL_FAILURE(interface_goes());
    ASSERT_NO_FATAL_FAILURE(interface_comes(""));
    ASSERT_EQ(dgram_on_message(heard, Inbox::take, &inbox), 0);
    ASSERT_EQ(dgram_bind(heard, 0, nullptr), 0);
    ASSERT_EQ(dgram_add_membership(heard, "239.7.7.7", "vpn0"), 0);
    EXPECT_EQ(dgram_drop_membership(stale, "239.7.7.7", "10.9.0.1"), 0);
    ASSERT_EQ(dgram_set_multicast_interface(stale, "vpn0"), 0);
    EXPECT_EQ(send_and_wait(made, stale, "still", parse("239.7.7.7", port_of(heard))), 5);
    EXPECT_TRUE(run_until(made, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(dgram_loop_free(made), nullptr);
    ASSERT_NO_FATAL_FAILURE(interface_goes());
}

/* ---- IPsec --------------------------------------------------------------------------------- */

/* One train by the ring's own submission, one by a call, and a chain of them. */
TEST_P(Encrypted, TrainsAreRefusedAndEveryDatagramArrives)
{
    const uint32_t longest = info_of(loop).segments_max;
    struct dgram_socket *socket = open_socket(loop);
    ASSERT_EQ(dgram_bind(socket, 0, NEAR_ADDRESS), 0);
    expect_all_arrive(socket, 40, false);
    EXPECT_EQ(stats_of(socket).trains_refused, longest > 1 ? 1u : 0u);
    expect_all_arrive(socket, 40, true);
    EXPECT_EQ(stats_of(socket).trains_refused, longest > 1 ? 2u : 0u);
    expect_all_arrive(socket, 200, false);
    EXPECT_EQ(stats_of(socket).sends, 280u);
    EXPECT_EQ(stats_of(socket).send_errors, 0u);
}

} /* namespace */

int main(int argc, char **argv)
{
    ::testing::InitGoogleTest(&argc, argv);
    const std::string reason = make_namespaces();
    if (!reason.empty()) {
        printf("skipped: %s\n", reason.c_str());
        return EXIT_SKIPPED;
    }
    return RUN_ALL_TESTS();
}
