/* SPDX-License-Identifier: MIT */
/*
 * names.cc: host names in the simulator's world: c-ares with a server, files and a clock of that
 * world (sim/dns.h, sim/clib.h). Whatever goes wrong for a while, the same names resolve when it is
 * over, and nothing is left behind.
 */
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "tests/sim/clib.h"
#include "tests/sim/dns.h"
#include "tests/sim/fixture.h"
#include "tests/sim/sim.h"
#include "tests/support/internals.h"

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

/* A world with a name server; it says so if the library leaves something in it. */
class World
{
  public:
    World(uint64_t seed, const struct sim_faults &faults)
    {
        struct sim_hooks hooks = {};
        hooks.broken = sim_rule_broken;
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

/* c-ares waits longer and longer between its tries; who sends meanwhile does not wait so long. */
TEST_P(SimNames, AreAskedAgainWhenTheServerMayBeBack)
{
    struct sim_faults faults = {};
    faults.dns_silent = 1000;
    World world(1, faults);
    Sent early, late;
    Pair pair(GetParam());
    sim_file(RESOLV_CONF, "nameserver 127.0.0.1\n"); /* so that c-ares tries for 14 s */
    EXPECT_EQ(pair.send("one.test", &early), 0);
    pair.let_pass(7 * SECOND);
    EXPECT_TRUE(early.results.empty());
    sim_calm();
    const uint64_t back = sim_now();
    EXPECT_EQ(pair.send("one.test", &late), 0);
    EXPECT_TRUE(pair.await(late));
    EXPECT_LT(sim_now() - back, SECOND);
    EXPECT_EQ(late.results.at(0), 3);
    EXPECT_EQ(early.results, std::vector<int>{3});
}

/* However many send to it: a dead name does not collect questions, and its sends end. */
TEST_P(SimNames, OfADeadServerFailThoughOthersAskAgain)
{
    struct sim_faults faults = {};
    faults.dns_silent = 1000;
    World world(1, faults);
    std::deque<Sent> sents; /* callbacks come until the loop is freed */
    Pair pair(GetParam());
    sim_file(RESOLV_CONF, "nameserver 127.0.0.1\n");
    for (int i = 0; i < 60; i++) {
        sents.emplace_back();
        EXPECT_EQ(pair.send("one.test", &sents.back()), 0);
        pair.let_pass(SECOND);
        EXPECT_TRUE(i < 16 || !sents.front().results.empty()) << "2, 4 and 8 s, not more";
    }
    size_t failed = 0;
    for (const Sent &sent : sents) {
        failed += sent.results == std::vector<int>{DGRAM_EDNSTIMEOUT};
    }
    EXPECT_GE(failed, 40u);
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

/* ---- What the host lacks ------------------------------------------------------------------- */

/* c-ares would take a hosts file that it cannot open for an empty one. */
TEST(SimNamesLack, OfDescriptorsHidesNoNameOfTheHostsFile)
{
    World world(1, {});
    Pair pair;
    pair.expect_arrival("one.test"); /* the loop has its descriptors now */
    sim_limit(sim_descriptors());
    pair.expect_arrival("here.test");
    EXPECT_EQ(pair.result_of("two.test"), -EMFILE);
    sim_calm();
    pair.expect_arrival("two.test");
}

/* A socket of c-ares that could not be watched is watched soon after: nothing waits for the time in
 * which servers answer, half a minute here. */
TEST(SimNamesLack, OfAMomentIsOverInAMoment)
{
    unsigned waited = 0;
    for (uint64_t seed = 1; seed <= 100 && !HasFailure(); seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        World world(seed, {});
        Pair pair;
        Sent sent;
        sim_file(RESOLV_CONF, "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n");
        struct sim_faults faults = {};
        faults.setup = 300;
        sim_change_faults(&faults);
        ASSERT_EQ(pair.send("one.test", &sent), 0);
        pair.turn(MILLISECOND / 10);
        sim_calm();
        waited += sent.results.empty();
        pair.let_pass(SECOND);
        ASSERT_EQ(sent.results.size(), 1u);
        EXPECT_NE(sent.results[0], DGRAM_EDNSTIMEOUT); /* others: it could not be asked at all */
    }
    EXPECT_GT(waited, 0u);
}

/* ---- Many ---------------------------------------------------------------------------------- */

/* What waits is not looked at in each turn: nothing of it is asked, timed or sent while two sockets
 * talk to each other. */
TEST(SimNamesMany, WaitWithoutSlowingATurn)
{
    constexpr size_t NAMES = 20000, TURNS = 1000;
    World world(1, {});
    Pair pair;
    Sent sent;
    sim_file(RESOLV_CONF, "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n");
    struct sim_faults silence = {};
    silence.dns_silent = 1000;
    sim_change_faults(&silence);
    for (size_t i = 0; i < NAMES; i++) {
        ASSERT_EQ(pair.send("n" + std::to_string(i) + ".test", &sent), 0) << i;
    }
    pair.turn(0);
    pair.let_pass(SECOND / 100);
    const uint64_t asked = sim_dns_asked(), calls = dg_dns_called(pair.loop), start = sim_now();
    EXPECT_GT(asked, 0u);
    for (size_t i = 0; i < TURNS; i++) {
        ASSERT_EQ(dgram_send(pair.sender, "abc", 3, 7000, "127.0.0.1", nullptr, nullptr), 0);
        pair.turn(0);
        pair.turn(MILLISECOND);
    }
    EXPECT_EQ(pair.received, TURNS);
    EXPECT_EQ(sim_dns_asked(), asked);
    const uint64_t quarters = (sim_now() - start) / (SECOND / 4) + 1;
    EXPECT_LE(dg_dns_called(pair.loop) - calls, quarters);
    EXPECT_EQ(sent.results.size(), 0u);
    sim_calm();
    EXPECT_TRUE(pair.await(sent, NAMES));
    for (int result : sent.results) {
        ASSERT_TRUE(result == 3 || result == DGRAM_EDNSTIMEOUT) << dgram_error_name(result);
    }
    pair.let_pass(2 * SECOND);
    pair.expect_arrival("n0.test");
}

/* ---- Lives --------------------------------------------------------------------------------- */

/* A loop after the other, with sockets that come, send to names and go, while everything may fail;
 * and the proof that all is well when it no longer does. */
class NamesLife
{
  public:
    explicit NamesLife(uint64_t seed) : world_(seed, {}), random_{seed}
    {
    }
    ~NamesLife()
    {
        end_loop();
    }
    NamesLife(const NamesLife &) = delete;
    NamesLife &operator=(const NamesLife &) = delete;

    void live()
    {
        for (uint32_t steps = 20 + below(200); steps > 0 && !testing::Test::HasFailure(); steps--) {
            step();
        }
    }
    void expect_well();

  private:
    struct Socket {
        NamesLife *life = nullptr;
        struct dgram_socket *socket = nullptr; /* NULL: not there, or closed */
        uint32_t type = DGRAM_UDP4;
    };
    enum { SOCKETS = 4, NAMES = 8 };

    static void on_sent(struct dgram_socket *, int, void *user)
    {
        static_cast<NamesLife *>(user)->completed_++;
    }
    static void on_message(struct dgram_socket *, const struct dgram_message *, void *user)
    {
        static_cast<NamesLife *>(user)->received_++;
    }
    static void on_close(struct dgram_socket *, void *user)
    {
        Socket *socket = static_cast<Socket *>(user);
        socket->life->closed_++;
        socket->socket = nullptr;
    }

    uint32_t below(uint32_t bound)
    {
        return sim_random_below(&random_, bound);
    }
    /* Names that exist, one that does not, one of IPv4 alone, one of the hosts file. */
    std::string name()
    {
        static const char *const odd[] = {"none.test", "v4.test", "here.test"};
        const uint32_t which = below(NAMES);
        return which < 3 ? odd[which] : "n" + std::to_string(which) + ".test";
    }
    void step();
    void make_loop();
    void end_loop();
    void open(Socket *socket);
    void send(Socket *socket);
    void change_faults();
    void change_files();
    void turn(int64_t timeout)
    {
        if (loop_ != nullptr) {
            ASSERT_GE(dgram_loop_turn(loop_, timeout), 0);
        }
    }
    bool turn_until(const std::function<bool()> &done)
    {
        for (const uint64_t until = sim_now() + 300 * SECOND; !done() && sim_now() < until;) {
            turn(50 * MILLISECOND);
        }
        return done();
    }
    void expect_names_of(const Socket &socket);

    World world_;
    struct sim_random random_;
    struct dgram_loop *loop_ = nullptr;
    Socket sockets_[SOCKETS];
    struct dgram_destination *destinations_[2] = {};
    size_t accepted_ = 0, completed_ = 0, created_ = 0, closed_ = 0;
    unsigned received_ = 0;
};

void NamesLife::make_loop()
{
    struct dgram_loop_options options = {};
    options.size = sizeof(options);
    (void) sim_loop_create(&options, &loop_);
}

/* Everything completes, everything closes, once. */
void NamesLife::end_loop()
{
    for (struct dgram_destination *&destination : destinations_) {
        destination = dgram_destination_free(destination);
    }
    loop_ = dgram_loop_free(loop_);
    EXPECT_EQ(completed_, accepted_);
    EXPECT_EQ(closed_, created_);
}

void NamesLife::open(Socket *socket)
{
    socket->life = this;
    socket->type = below(2) == 0 ? DGRAM_UDP4 : DGRAM_UDP6;
    if (dgram_create_socket(loop_, socket->type, nullptr, &socket->socket) == 0) {
        created_++;
        EXPECT_EQ(dgram_on_close(socket->socket, on_close, socket), 0);
    } else {
        socket->socket = nullptr;
    }
    if (socket->socket != nullptr && below(4) == 0) {
        (void) dgram_bind(socket->socket, 0, name().c_str());
    }
}

void NamesLife::send(Socket *socket)
{
    const uint32_t which = socket->type == DGRAM_UDP4 ? 0 : 1;
    struct dgram_destination **destination = &destinations_[which];
    int code;
    if (*destination == nullptr && below(3) == 0) {
        (void) dgram_destination_create(loop_, socket->type, 7000, name().c_str(), destination);
    }
    if (*destination != nullptr && below(2) == 0) {
        code = dgram_send_dest(socket->socket, "abc", 3, *destination, on_sent, this);
    } else {
        code = dgram_send(socket->socket, "abc", 3, 7000, name().c_str(), on_sent, this);
    }
    accepted_ += code == 0;
}

void NamesLife::change_faults()
{
    struct sim_faults faults;
    const auto some = [&](uint32_t most) { return below(3) == 0 ? below(most) : 0; };
    sim_faults_random(&random_, &faults);
    faults.breaks = 0;
    faults.deferred = sim_present_faults()->deferred;
    faults.dns_down = some(500);
    faults.dns_silent = some(500);
    faults.dns_fails = some(500);
    faults.dns_denies = some(300);
    faults.dns_truncates = some(1000);
    faults.dns_hangs_up = some(500);
    faults.dns_late = some(500);
    faults.dns_late_ns = below(8) * SECOND;
    sim_change_faults(&faults);
    sim_limit(below(4) == 0 ? below(20) : UINT32_MAX);
    sim_dns_ttl(below(3));
}

void NamesLife::change_files()
{
    static const char *const texts[] = {BOTH_SERVERS, NO_SERVER, "", nullptr,
                                        "nameserver ::1\noptions timeout:1 attempts:1\n"};
    static const int errors[] = {0, 0, -EACCES, -EIO, -EMFILE};
    sim_file(RESOLV_CONF, texts[below(5)]);
    sim_file_error(RESOLV_CONF, errors[below(5)]);
    sim_file_error(HOSTS, errors[below(5)]);
}

void NamesLife::step()
{
    Socket *socket = &sockets_[below(SOCKETS)];
    if (loop_ == nullptr) {
        make_loop();
    } else if (socket->socket == nullptr) {
        open(socket);
    } else if (below(100) < 50) {
        send(socket);
    } else if (below(100) < 10) {
        (void) dgram_close(socket->socket);
    } else if (below(100) < 20) {
        change_faults();
    } else if (below(100) < 10) {
        change_files();
    } else if (below(100) < 3) {
        end_loop();
    }
    if (below(2) == 0) {
        turn(below(2) == 0 ? 0 : static_cast<int64_t>(below(700)) * MILLISECOND);
    }
}

void NamesLife::expect_names_of(const Socket &socket)
{
    for (uint32_t i = 0; i < NAMES; i++) {
        const std::string host = i < 3 ? std::string(i == 0   ? "none.test"
                                                     : i == 1 ? "v4.test"
                                                              : "here.test")
                                       : "n" + std::to_string(i) + ".test";
        const bool exists = i != 0 && (i != 1 || socket.type == DGRAM_UDP4);
        const unsigned before = received_;
        Sent sent;
        ASSERT_EQ(dgram_send(socket.socket, "abc", 3, 7000, host.c_str(), Sent::take, &sent), 0);
        ASSERT_TRUE(turn_until([&] { return !sent.results.empty(); })) << host;
        EXPECT_EQ(sent.results, std::vector<int>{exists ? 3 : DGRAM_ENOTFOUND})
            << host << " " << dgram_error_name(sent.results[0]);
        if (exists) {
            EXPECT_TRUE(turn_until([&] { return received_ == before + 1; })) << host;
        }
    }
}

void NamesLife::expect_well()
{
    sim_calm();
    sim_file_error(RESOLV_CONF, 0);
    sim_file_error(HOSTS, 0);
    sim_file(RESOLV_CONF, BOTH_SERVERS);
    if (loop_ == nullptr) {
        make_loop();
    }
    ASSERT_NE(loop_, nullptr);
    struct dgram_socket *receivers[2] = {}; /* a loop without any does not sleep */
    for (uint32_t type : {DGRAM_UDP4, DGRAM_UDP6}) {
        struct dgram_socket **receiver = &receivers[type == DGRAM_UDP6];
        ASSERT_EQ(dgram_create_socket(loop_, type, nullptr, receiver), 0);
        ASSERT_EQ(dgram_bind(*receiver, 7000, nullptr), 0);
        EXPECT_EQ(dgram_on_message(*receiver, on_message, this), 0);
    }
    EXPECT_TRUE(turn_until([&] { return completed_ == accepted_; })) << "a send waits for ever";
    /* A question that nobody waits for may be under way; it is asked again when it is older. */
    for (const uint64_t until = sim_now() + 3 * SECOND; sim_now() < until;) {
        turn(static_cast<int64_t>(until - sim_now()));
    }
    for (Socket &socket : sockets_) {
        if (socket.socket == nullptr) {
            open(&socket);
        }
        ASSERT_NE(socket.socket, nullptr);
        expect_names_of(socket);
    }
}

uint64_t number_of(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text != nullptr ? strtoull(text, nullptr, 10) : otherwise;
}

/* DGRAM_SIM_SEED and DGRAM_SIM_SEEDS as for the other random runs. */
TEST(SimNamesLives, EndWell)
{
    const uint64_t first = number_of("DGRAM_SIM_SEED", 1),
                   count = number_of("DGRAM_SIM_SEEDS", 300);
    for (uint64_t seed = first; seed < first + count && !HasFailure(); seed++) {
        SCOPED_TRACE(testing::Message() << "DGRAM_SIM_SEED=" << seed);
        NamesLife life(seed);
        life.live();
        life.expect_well();
    }
}

/* Nothing of the host gets in: not its clock, not its files, not its chance. */
TEST(SimNamesLives, Replay)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t hashes[2];
        for (uint64_t &hash : hashes) {
            NamesLife life(seed);
            life.live();
            life.expect_well();
            hash = sim_hash();
        }
        EXPECT_EQ(hashes[0], hashes[1]) << "DGRAM_SIM_SEED=" << seed;
    }
}

} /* namespace */
