/* SPDX-License-Identifier: MIT */
/*
 * denied_network.cc: hosts whose network says no: no loopback, firewalls, no free port, trains that
 * are cut up or refused. Nothing of that is a verdict on an engine or a kernel.
 */
#include <dgram.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>

#include "tests/host/denied.h"

using namespace denied;

namespace
{

/* ---- No loopback --------------------------------------------------------------------------- */

/* An ioctl of netdevice(7) on "lo". */
void loopback(unsigned long request, struct ifreq change)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    strcpy(change.ifr_name, "lo");
    EXPECT_EQ(ioctl(fd, request, &change), 0) << strerror(errno);
    close(fd);
}

void expect_ring(const char *when)
{
    Program program;
    EXPECT_EQ(program.create(DGRAM_ENGINE_URING), 0) << when;
}

/* A host whose loopback is not up cannot try an engine on it, and that is no fault of the engine:
 * fresh network namespaces are such hosts. */
TEST(NoLoopback, RingIsChosenAllTheSame)
{
    SKIP_WITHOUT_RING();
    for (int state = 0; state < 3; state++) {
        in_child([state] {
            struct ifreq up = {}, down = {}, no_address = {};
            up.ifr_flags = IFF_UP;
            no_address.ifr_addr.sa_family = AF_INET;
            if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
                printf("no network namespaces here: nothing is shown\n");
                return;
            }
            if (state == 0) {
                expect_ring("never up: sends find no route");
                return;
            }
            loopback(SIOCSIFFLAGS, up);
            loopback(state == 1 ? SIOCSIFFLAGS : SIOCSIFADDR, state == 1 ? down : no_address);
            expect_ring(state == 1 ? "down again" : "without its address: bind(2) fails");
        });
    }
}

/* ---- Firewalls ----------------------------------------------------------------------------- */

/* A namespace of its own with loopback up; false where there is none to be had. */
bool enter_namespace()
{
    struct ifreq up = {};
    up.ifr_flags = IFF_UP;
    if (unshare(CLONE_NEWNET) != 0) {
        return false;
    }
    loopback(SIOCSIFFLAGS, up);
    return true;
}

/* What is not said by a rule is dropped, but for the port of a service. */
constexpr uint16_t SERVICE = 9999;

bool firewall(const std::string &hook)
{
    const std::string rules = "add table inet t\n"
                              "add chain inet t c { type filter hook " +
                              hook +
                              " priority 0; }\n"
                              "add rule inet t c udp dport != 9999 drop\n";
    FILE *nft = popen("nft -f - >/dev/null 2>&1", "w");
    return nft != nullptr && fputs(rules.c_str(), nft) >= 0 && pclose(nft) == 0;
}

/* Why rules cannot be tried here; "" if they can. */
std::string no_firewall()
{
    static const std::string reason = [] {
        if (geteuid() != 0) {
            return "only root may make network namespaces with rules";
        }
        if (system("command -v nft >/dev/null 2>&1") != 0) {
            return "nft (nftables) is not here";
        }
        pid_t child = fork();
        if (child == 0) {
            _exit(enter_namespace() && firewall("output") ? 0 : 1);
        }
        int status = 1;
        waitpid(child, &status, 0);
        return status == 0 ? "" : "this kernel has no nftables or no namespaces";
    }();
    return reason;
}

#define SKIP_WITHOUT_FIREWALL()                                                                    \
    SKIP_WITHOUT_RING();                                                                           \
    if (!no_firewall().empty()) {                                                                  \
        GTEST_SKIP() << no_firewall();                                                             \
    }

/* A loop that talks to itself by the service's port. */
void serves(uint32_t engine, const char *name, unsigned segments_max)
{
    SCOPED_TRACE(testing::Message() << "engine " << engine);
    Program program;
    ASSERT_EQ(program.create(engine), 0);
    const struct dgram_loop_info info = program.info();
    EXPECT_STREQ(info.name, name);
    EXPECT_EQ(info.refused_code, 0) << info.refused_call << ": " << info.refused_advice;
    EXPECT_EQ(info.segments_max, segments_max);
    ASSERT_EQ(dgram_create_socket(program.loop, DGRAM_UDP4, nullptr, &program.receiver), 0);
    ASSERT_EQ(dgram_on_message(program.receiver, Program::count_message, &program), 0);
    ASSERT_EQ(dgram_bind(program.receiver, SERVICE, "127.0.0.1"), 0);
    program.sender = program.receiver;
    program.send(20);
    EXPECT_EQ(program.run_until(20, 5000), 0);
    EXPECT_EQ(program.messages, 20u);
}

bool trains_go(uint16_t count);
unsigned longest_train()
{
    return trains_go(128) ? 128 : trains_go(64) ? 64 : 1;
}

void expect_probe(uint32_t engine)
{
    struct dgram_engine_report report = {};
    report.size = sizeof(report);
    ASSERT_EQ(dgram_engine_probe(engine, &report), 0);
    EXPECT_EQ(report.code, 0) << report.call << ": " << report.advice;
}

/* A child in a namespace of its own; the body gets the longest train that left before. */
void in_namespace(const std::function<void(unsigned longest)> &body)
{
    in_child([&] {
        const unsigned longest = longest_train();
        unsetenv("DGRAM_ENGINE");
        if (!enter_namespace()) {
            printf("no network namespaces here: nothing is shown\n");
            return;
        }
        body(longest);
    });
}

/* Both engines pass their probe, are chosen and serve as on any other host. */
void expect_both_engines(unsigned longest)
{
    expect_probe(DGRAM_ENGINE_URING);
    expect_probe(DGRAM_ENGINE_POLL);
    serves(DGRAM_ENGINE_AUTO, "uring", longest);
    serves(DGRAM_ENGINE_URING, "uring", longest);
    serves(DGRAM_ENGINE_POLL, "poll", longest);
    setenv("DGRAM_ENGINE", "uring", 1);
    serves(DGRAM_ENGINE_AUTO, "uring", longest);
}

class Firewall : public ::testing::TestWithParam<const char *>
{
};

INSTANTIATE_TEST_SUITE_P(Hook, Firewall, ::testing::Values("output", "input"),
                         [](const ::testing::TestParamInfo<const char *> &info) {
                             return std::string(info.param);
                         });

/* It refuses the trial datagrams (EPERM), or swallows them. That is neither the engine's fault nor
 * a limit of the kernel, and the same host has a port that is open. */
TEST_P(Firewall, SaysNothingOfEngineOrKernel)
{
    SKIP_WITHOUT_FIREWALL();
    in_namespace([](unsigned longest) {
        ASSERT_TRUE(firewall(GetParam()));
        expect_both_engines(longest);
    });
}

/* Turns every feature of the loopback device off that can be: it makes no trains any more. */
void switch_features_off()
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    for (unsigned bit = 0; bit < 64; bit++) {
        alignas(struct ethtool_sfeatures) unsigned char memory[64] = {};
        auto *change = reinterpret_cast<struct ethtool_sfeatures *>(memory);
        struct ifreq request = {};
        change->cmd = ETHTOOL_SFEATURES;
        change->size = 2;
        change->features[bit / 32].valid = 1u << bit % 32;
        strcpy(request.ifr_name, "lo");
        request.ifr_data = reinterpret_cast<char *>(memory);
        (void) ioctl(fd, SIOCETHTOOL, &request);
    }
    close(fd);
}

/* The kernel cuts the trial train up and delivers its datagrams one by one: that is no damage. */
TEST(CutUp, TrainIsNotTakenForDamaged)
{
    SKIP_WITHOUT_RING();
    if (geteuid() != 0) {
        GTEST_SKIP() << "only root may change devices";
    }
    in_namespace([](unsigned longest) {
        switch_features_off();
        expect_both_engines(longest);
    });
}

/* All ports that the kernel gives away are taken: no trial can be made. */
TEST(NoPort, SaysNothingOfEngineOrKernel)
{
    SKIP_WITHOUT_RING();
    if (geteuid() != 0) {
        GTEST_SKIP() << "only root may make network namespaces";
    }
    in_namespace([](unsigned longest) {
        FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "w");
        ASSERT_NE(range, nullptr);
        EXPECT_GT(fputs("50000 50000", range), 0);
        ASSERT_EQ(fclose(range), 0);
        struct sockaddr_in name = {};
        name.sin_family = AF_INET;
        name.sin_port = htons(50000);
        int holder = socket(AF_INET, SOCK_DGRAM, 0);
        ASSERT_EQ(bind(holder, reinterpret_cast<struct sockaddr *>(&name), sizeof(name)), 0);
        expect_probe(DGRAM_ENGINE_URING);
        expect_probe(DGRAM_ENGINE_POLL);
        serves(DGRAM_ENGINE_AUTO, "uring", 64); /* the guess */
        serves(DGRAM_ENGINE_URING, "uring", 64);
        close(holder);
        serves(DGRAM_ENGINE_POLL, "poll", longest);
        serves(DGRAM_ENGINE_AUTO, "uring", longest);
    });
}

/* ---- Trains -------------------------------------------------------------------------------- */

/* Whether this kernel takes a train of so many datagrams; asked without the library. */
bool trains_go(uint16_t count)
{
    constexpr int udp_level = 17, udp_segment = 103, one = 1;
    struct sockaddr_in name = {};
    socklen_t size = sizeof(name);
    const std::string payload(count, 'x');
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto *address = reinterpret_cast<struct sockaddr *>(&name);
    bool go = bind(fd, address, size) == 0 && getsockname(fd, address, &size) == 0 &&
              setsockopt(fd, udp_level, udp_segment, &one, sizeof(one)) == 0 &&
              sendto(fd, payload.data(), count, 0, address, size) == count;
    close(fd);
    return go;
}

struct Probed {
    const char *name;
    unsigned refused; /* of the first sends, which ask: 128, far too many, 64, one datagram */
    int error;
    uint32_t segments_max;
    uint32_t later; /* of the next loop, when nothing is refused any more */
};

class SegmentsMax : public ::testing::TestWithParam<Probed>
{
};

INSTANTIATE_TEST_SUITE_P(Kernel, SegmentsMax,
                         ::testing::Values(/* The kernel's answers, for good. */
                                           Probed{"LongOnesEINVAL", 1, EINVAL, 64, 64},
                                           Probed{"AllTrainsEINVAL", 3, EINVAL, 1, 1},
                                           /* Refused behind the count of segments. */
                                           Probed{"CountedEIO", 1, EIO, 128, 128},
                                           Probed{"CountedEPERM", 1, EPERM, 128, 128},
                                           Probed{"CountedENOBUFS", 1, ENOBUFS, 128, 128},
                                           /* Refused before it: a guess, until the next loop. */
                                           Probed{"AllEINVAL", 4, EINVAL, 64, 128},
                                           Probed{"AllEIO", 2, EIO, 64, 128},
                                           Probed{"AllEPERM", 2, EPERM, 64, 128},
                                           Probed{"AllEAGAIN", 2, EAGAIN, 64, 128},
                                           Probed{"NothingNow", 2, ENETUNREACH, 64, 128}),
                         [](const ::testing::TestParamInfo<Probed> &info) {
                             return info.param.name;
                         });

void probe_and_send(uint32_t segments_max)
{
    const uint64_t count = 300;
    Program program;
    ASSERT_EQ(program.create(DGRAM_ENGINE_POLL), 0);
    EXPECT_EQ(program.info().segments_max, segments_max);
    ASSERT_EQ(program.open(), 0);
    program.send(count);
    EXPECT_EQ(program.run_until(count, 5000), 0);
    EXPECT_EQ(program.messages, count);
    struct dgram_socket_stats stats = {};
    stats.size = sizeof(stats);
    ASSERT_EQ(dgram_socket_stats(program.sender, &stats), 0);
    EXPECT_EQ(stats.sends, (count + segments_max - 1) / segments_max);
    EXPECT_EQ(stats.trains_refused, 0u);
}

/* The kernel is asked with a train of 128; where that is refused, the refusals of others tell
 * whether it was the kernel's limit. Where there is no network to ask on, 64 is the guess. */
TEST_P(SegmentsMax, AreThoseThatTheKernelTakes)
{
    in_child([] {
        const Probed &probed = GetParam();
        Supervisor supervisor({SYS_sendmsg}, probed.error,
                              [&](unsigned number) { return number <= probed.refused; });
        if (!trains_go(128)) {
            printf("this kernel takes no trains of 128\n");
            return;
        }
        int calls = supervisor.supervise([&] {
            Program first;
            ASSERT_EQ(first.create(DGRAM_ENGINE_POLL), 0);
            EXPECT_EQ(first.info().segments_max, probed.segments_max);
            probe_and_send(probed.later);
        });
        if (calls < 0) {
            printf("no seccomp notifications here\n");
        }
    });
}

/* Without a refusal, what it takes. */
TEST(SegmentsMaxOfTheKernel, AreAsManyAsGo)
{
    in_child([] { probe_and_send(longest_train()); });
}

} /* namespace */
