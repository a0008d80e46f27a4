/* SPDX-License-Identifier: MIT */
/*
 * sim_names.cc: host names in the simulator's world: c-ares with a server, files and a clock of
 * that world (sim_dns.h, sim_clib.h). Whatever goes wrong for a while, the same names resolve when
 * it is over, and nothing is left behind.
 */
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <deque>
#include <string>
#include <vector>

#include "tests/sim.h"
#include "tests/sim_clib.h"
#include "tests/sim_dns.h"

extern "C" {
/* src/core.h is C only. */
uint64_t dg_dns_called(const struct dgram_loop *loop);
}

namespace
{

constexpr uint64_t SECOND = 1000000000;
constexpr int64_t MILLISECOND = 1000000;
constexpr const char *RESOLV_CONF = "/etc/resolv.conf";
constexpr const char *HOSTS = "/etc/hosts";
constexpr const char *BOTH_SERVERS = "nameserver 127.0.0.1\nnameserver ::1\n"
                                     "options timeout:1 attempts:2\n";
constexpr const char *NO_SERVER = "nameserver 127.0.0.9\noptions timeout:1 attempts:1\n";

/* Results of sends, each of which completes once. */
struct Sent {
    std::vector<int> results;

    static void take(struct dgram_socket *, int result, void *user)
    {
        static_cast<Sent *>(user)->results.push_back(result);
    }
};

void on_rule(void *, const char *rule)
{
    ADD_FAILURE() << "a rule of the boundary: " << rule;
}

/* A world with a name server; it says so if the library leaves something in it. */
class World
{
  public:
    World(uint64_t seed, const struct sim_faults &faults)
    {
        struct sim_hooks hooks = {};
        hooks.broken = on_rule;
        unsetenv("LOCALDOMAIN"); /* resolv.conf(5): they go before the file */
        unsetenv("RES_OPTIONS");
        sim_open(seed, &faults, &hooks);
        sim_clib_open(seed);
        sim_dns_open();
        sim_file(RESOLV_CONF, BOTH_SERVERS);
        sim_file(HOSTS, "127.0.0.1 localhost\n127.0.0.1 here.test\n::1 here.test\n");
    }
    ~World()
    {
        sim_clib_close();
        sim_close();
    }
    World(const World &) = delete;
    World &operator=(const World &) = delete;
};

/* A loop with a socket that sends by names, and one that receives. */
class Pair
{
  public:
    explicit Pair(uint32_t type = DGRAM_UDP4)
    {
        struct dgram_loop_options options = {};
        options.size = sizeof(options);
        EXPECT_EQ(sim_loop_create(&options, &loop), 0);
        EXPECT_EQ(dgram_create_socket(loop, type, nullptr, &receiver), 0);
        EXPECT_EQ(dgram_create_socket(loop, type, nullptr, &sender), 0);
        EXPECT_EQ(dgram_bind(receiver, 7000, nullptr), 0);
        EXPECT_EQ(dgram_bind(sender, 0, nullptr), 0);
        dgram_on_message(receiver, on_message, this);
        turn(0);
    }
    ~Pair()
    {
        dgram_loop_free(loop);
    }
    Pair(const Pair &) = delete;
    Pair &operator=(const Pair &) = delete;

    void turn(int64_t timeout) const
    {
        ASSERT_GE(dgram_loop_turn(loop, timeout), 0);
    }
    void let_pass(uint64_t time) const
    {
        for (const uint64_t until = sim_now() + time; sim_now() < until;) {
            turn(static_cast<int64_t>(until - sim_now()));
        }
    }
    int send(const std::string &host, Sent *sent) const
    {
        return dgram_send(sender, "abc", 3, 7000, host.c_str(), Sent::take, sent);
    }
    /* Turns until so many results are there, within a minute of the world's. */
    bool await(const Sent &sent, size_t count = 1) const
    {
        for (const uint64_t until = sim_now() + 60 * SECOND; sim_now() < until;) {
            if (sent.results.size() >= count) {
                return sent.results.size() == count;
            }
            turn(10 * MILLISECOND);
        }
        return false;
    }
    int result_of(const std::string &host)
    {
        sents_.emplace_back();
        int code = send(host, &sents_.back());
        if (code < 0) {
            return code;
        }
        return await(sents_.back()) ? sents_.back().results[0] : INT32_MIN;
    }
    void expect_arrival(const std::string &host)
    {
        const unsigned before = received;
        EXPECT_EQ(result_of(host), 3) << host;
        let_pass(SECOND / 100);
        EXPECT_EQ(received, before + 1) << host;
    }

    struct dgram_loop *loop = nullptr;
    struct dgram_socket *sender = nullptr, *receiver = nullptr;
    unsigned received = 0;

  private:
    static void on_message(struct dgram_socket *, const struct dgram_message *, void *user)
    {
        static_cast<Pair *>(user)->received++;
    }

    std::deque<Sent> sents_; /* callbacks may come when the loop is freed */
};

/* ---- A name resolves ----------------------------------------------------------------------- */

class SimNames : public ::testing::TestWithParam<uint32_t>
{
};

std::string type_name(const ::testing::TestParamInfo<uint32_t> &info)
{
    return info.param == DGRAM_UDP4 ? "udp4" : "udp6";
}

INSTANTIATE_TEST_SUITE_P(World, SimNames, ::testing::Values(DGRAM_UDP4, DGRAM_UDP6), type_name);

TEST_P(SimNames, AreAskedForOnceWhileTheirTimeLasts)
{
    World world(1, {});
    Pair pair(GetParam());
    pair.expect_arrival("one.test");
    pair.expect_arrival("one.test");
    EXPECT_EQ(sim_dns_asked(), 1u);
    pair.let_pass(61 * SECOND);
    pair.expect_arrival("one.test");
    EXPECT_EQ(sim_dns_asked(), 2u);
    EXPECT_EQ(pair.result_of("none.test"), DGRAM_ENOTFOUND);
    EXPECT_EQ(pair.result_of("v4.test"), GetParam() == DGRAM_UDP4 ? 3 : DGRAM_ENOTFOUND);
}

TEST_P(SimNames, OfTheHostsFileAreAskedOfNobody)
{
    World world(1, {});
    Pair pair(GetParam());
    pair.expect_arrival("here.test");
    EXPECT_EQ(sim_dns_asked(), 0u);
    sim_file(HOSTS, "127.0.0.1 other.test\n::1 other.test\n");
    pair.let_pass(2 * SECOND);
    pair.expect_arrival("other.test");
    EXPECT_EQ(sim_dns_asked(), 0u);
}

/* No server is at the first address; the question after the change goes to the second. */
TEST_P(SimNames, AreAskedOfTheServersOfTheNewFile)
{
    World world(1, {});
    Pair pair(GetParam());
    sim_file(RESOLV_CONF, NO_SERVER);
    EXPECT_LT(pair.result_of("one.test"), 0);
    sim_file(RESOLV_CONF, "nameserver ::1\noptions timeout:1 attempts:1\n");
    pair.let_pass(2 * SECOND);
    pair.expect_arrival("one.test");
    EXPECT_EQ(sim_dns_asked(), 1u);
}

/* ---- Each fault ---------------------------------------------------------------------------- */

/* What goes wrong, and the results that a send may have while it does. */
struct Fault {
    const char *name;
    void (*begin)(struct sim_faults *faults);
    std::vector<int> results;
};

void limit(struct sim_faults *)
{
    sim_limit(0);
}

const std::vector<Fault> all_faults = {
    {"NobodyAtThePort", [](struct sim_faults *f) { f->dns_down = 1000; }, {DGRAM_EDNSFAILED}},
    {"Silence", [](struct sim_faults *f) { f->dns_silent = 1000; }, {DGRAM_EDNSTIMEOUT}},
    {"ServerFails", [](struct sim_faults *f) { f->dns_fails = 1000; }, {DGRAM_EDNSFAILED}},
    {"ServerDenies", [](struct sim_faults *f) { f->dns_denies = 1000; }, {DGRAM_ENOTFOUND}},
    {"Truncated", [](struct sim_faults *f) { f->dns_truncates = 1000; }, {3}},
    {"HangsUp",
     [](struct sim_faults *f) { f->dns_truncates = f->dns_hangs_up = 1000; },
     {DGRAM_EDNSFAILED, DGRAM_EDNSTIMEOUT}},
    {"NoConnection",
     [](struct sim_faults *f) { f->dns_truncates = 1000, f->dns_down = 500; },
     {3, DGRAM_EDNSFAILED, DGRAM_EDNSTIMEOUT}},
    {"Late",
     [](struct sim_faults *f) { f->dns_late = 1000, f->dns_late_ns = 20 * SECOND; },
     {3, DGRAM_EDNSTIMEOUT}},
    {"Lost", [](struct sim_faults *f) { f->loss = 1000; }, {DGRAM_EDNSTIMEOUT}},
    {"SomeLost", [](struct sim_faults *f) { f->loss = 500; }, {3, DGRAM_EDNSTIMEOUT}},
    {"Delayed", [](struct sim_faults *f) { f->delay_ns = 100000000; }, {3}},
    {"Doubled", [](struct sim_faults *f) { f->duplicate = 1000; }, {3}},
    {"FullBuffers", [](struct sim_faults *f) { f->eagain = 500; }, {3, DGRAM_EDNSTIMEOUT}},
    {"NoRoom", [](struct sim_faults *f) { f->nobufs = 1000; }, {DGRAM_EDNSTIMEOUT}},
    {"NothingCanBeMade",
     [](struct sim_faults *f) { f->setup = 1000; },
     {-EMFILE, -ENFILE, -ENOMEM}},
    {"LittleCanBeMade",
     [](struct sim_faults *f) { f->setup = 300; },
     {3, -EMFILE, -ENFILE, -ENOMEM, -ENOBUFS, DGRAM_EDNSTIMEOUT, DGRAM_EDNSFAILED}},
    {"NoDescriptor", limit, {-EMFILE}},
    {"NoMemory", [](struct sim_faults *f) { f->memory = 1000; }, {-ENOMEM}},
    {"LittleMemory",
     [](struct sim_faults *f) { f->memory = 300; },
     {3, -ENOMEM, DGRAM_EDNSTIMEOUT, DGRAM_EDNSFAILED}},
    {"ForbiddenFile", [](struct sim_faults *) { sim_file_error(RESOLV_CONF, -EACCES); }, {-EACCES}},
    {"BrokenFile", [](struct sim_faults *) { sim_file_error(RESOLV_CONF, -EIO); }, {-EIO}},
    {"NoServers",
     [](struct sim_faults *) { sim_file(RESOLV_CONF, NO_SERVER); },
     {DGRAM_EDNSTIMEOUT, DGRAM_EDNSFAILED}},
    {"EarlyWaits", [](struct sim_faults *f) { f->early = 900; }, {3}},
    {"LateRecords", [](struct sim_faults *f) { f->postpone = 900; }, {3}},
};

class SimNamesFault : public ::testing::TestWithParam<Fault>
{
  protected:
    void begin() const
    {
        struct sim_faults faults = *sim_present_faults();
        GetParam().begin(&faults);
        sim_change_faults(&faults);
    }
    void end() const
    {
        sim_calm();
        sim_file_error(RESOLV_CONF, 0);
        sim_file(RESOLV_CONF, BOTH_SERVERS);
    }
    bool is_likely(int result) const
    {
        for (int likely : GetParam().results) {
            if (result == likely) {
                return true;
            }
        }
        return false;
    }
};

std::string fault_name(const ::testing::TestParamInfo<Fault> &info)
{
    return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(World, SimNamesFault, ::testing::ValuesIn(all_faults), fault_name);

/* gtest would print its bytes. */
void PrintTo(const Fault &fault, std::ostream *out)
{
    *out << fault.name;
}

/* The first question of a loop meets it. */
TEST_P(SimNamesFault, OfTheFirstQuestionPasses)
{
    for (uint64_t seed = 1; seed <= 10 && !HasFailure(); seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        World world(seed, {});
        Pair pair;
        begin();
        int result = pair.result_of("one.test");
        EXPECT_TRUE(is_likely(result)) << dgram_error_name(result) << " " << result;
        end();
        /* What was said of the name is remembered for a second; what this host lacked is not. */
        pair.let_pass(result <= DGRAM_ENULL ? 2 * SECOND : SECOND / 5);
        pair.expect_arrival("one.test");
        pair.expect_arrival("two.test");
    }
}

/* The loop has asked before, and has a channel; its names have a moment to live. */
TEST_P(SimNamesFault, OfALaterQuestionPasses)
{
    for (uint64_t seed = 1; seed <= 10 && !HasFailure(); seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        World world(seed, {});
        Pair pair;
        sim_dns_ttl(1);
        pair.expect_arrival("zero.test");
        pair.let_pass(2 * SECOND);
        begin();
        for (const char *name : {"zero.test", "one.test"}) {
            int result = pair.result_of(name);
            EXPECT_TRUE(is_likely(result))
                << name << " " << dgram_error_name(result) << " " << result;
        }
        end();
        pair.let_pass(2 * SECOND);
        pair.expect_arrival("zero.test");
        pair.expect_arrival("one.test");
        pair.expect_arrival("two.test");
    }
}

/* Whoever waits when it ends has a result, and there is one for each. */
TEST_P(SimNamesFault, EndsWhileSendsWait)
{
    for (uint64_t seed = 1; seed <= 10 && !HasFailure(); seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        World world(seed, {});
        Pair pair;
        Sent sent;
        size_t accepted = 0;
        begin();
        for (int i = 0; i < 20; i++) {
            accepted += pair.send("n" + std::to_string(i) + ".test", &sent) == 0;
            pair.turn(MILLISECOND / 10);
        }
        end();
        EXPECT_TRUE(pair.await(sent, accepted)) << sent.results.size() << " of " << accepted;
        for (int result : sent.results) {
            EXPECT_TRUE(result == 3 || is_likely(result)) << dgram_error_name(result);
        }
        pair.let_pass(2 * SECOND);
        for (int i = 0; i < 20; i++) {
            EXPECT_EQ(pair.result_of("n" + std::to_string(i) + ".test"), 3) << i;
        }
    }
}

} /* namespace */
