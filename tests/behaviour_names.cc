/* SPDX-License-Identifier: MIT */
/*
 * behaviour_names.cc: host names: in sends, binds and destination handles, from a name server of the
 * tests' own and from a program's `lookup` hook. What never asks, what answers do, hostile answers,
 * who waits for a name and what becomes of him, how long an answer is used.
 */
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <thread>

#include "tests/dns_server.h"
#include "tests/harness.h"

using namespace harness;

namespace
{

/* No answer that a test waits for comes later than this; those that never come have their own. */
const char *const patient_options = "options timeout:30 attempts:1\n";

/* ---- The fixture --------------------------------------------------------------------------- */

struct Failure {
    int code;
    std::string operation, host;
    bool has_address;
};

/* A hook of a test; silent once the test is over, when it only gives the question back. */
struct Hook {
    std::function<void(struct dgram_lookup *, const std::string &, int)> fn;

    static void call(struct dgram_loop *, struct dgram_lookup *lookup, const char *host, int family,
                     void *user)
    {
        if (muted()) {
            dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 0);
        } else {
            static_cast<Hook *>(user)->fn(lookup, host, family);
        }
    }
};

/*
 * A name server, a resolv.conf that only the loop reads, a socket that receives what the names lead
 * to (`target`, on 127.0.0.1) and one that sends.
 */
class NamesTest : public EngineTest
{
  protected:
    void SetUp() override;
    void TearDown() override;

    /* Options of a loop that asks the server; they point into the fixture. */
    struct dgram_loop_options names_options() const;
    void write_resolv_conf(const std::string &options);
    /* The fixture's loop again, after which there are a new target and sender. */
    void begin(const struct dgram_loop_options &options);
    void begin_with_hook(Hook *hook);
    void watch_errors(struct dgram_socket *socket);

    /* A datagram to the target's port under this name. */
    int send_plain(const std::string &payload, const std::string &host);
    int send_counted(const std::string &host, Results *results);
    /* The same, waited for: its result. */
    int result_of(const std::string &host);
    /* What was asked before has reached the server when this returns. */
    void catch_up();

    std::unique_ptr<dns::Server> server;
    std::string servers, resolv_conf;
    struct dgram_socket *target = nullptr, *sender = nullptr;
    Inbox inbox;
    std::vector<Failure> failures;

  private:
    std::string directory_;
    Handlers on_error_;
    unsigned markers_ = 0;
};

void NamesTest::SetUp()
{
    EngineTest::SetUp();
    if (loop == nullptr) {
        return; /* skipped */
    }
    unsetenv("RES_OPTIONS");
    unsetenv("LOCALDOMAIN");
    server.reset(new dns::Server());
    servers = server->text();
    directory_ = ::testing::TempDir() + "names.XXXXXX";
    ASSERT_NE(mkdtemp(&directory_[0]), nullptr) << strerror(errno);
    resolv_conf = directory_ + "/resolv.conf";
    write_resolv_conf(patient_options);
    begin(names_options());
}

void NamesTest::TearDown()
{
    if (server != nullptr) {
        server->stop();
        unlink(resolv_conf.c_str());
        rmdir(directory_.c_str());
    }
    EngineTest::TearDown();
}

/* The search list is never empty: c-ares would take it from the host's name. */
void NamesTest::write_resolv_conf(const std::string &options)
{
    std::ofstream file(resolv_conf, std::ios::trunc);
    file << "nameserver 127.0.0.1\nlookup file bind\nsearch search.test\n" << options;
}

struct dgram_loop_options NamesTest::names_options() const
{
    struct dgram_loop_options options = loop_options();
    options.dns_servers = servers.c_str();
    options.resolv_conf = resolv_conf.c_str();
    return options;
}

void NamesTest::begin(const struct dgram_loop_options &options)
{
    remake_loop(options);
    inbox = Inbox();
    failures.clear();
    target = open_inbox(loop, &inbox);
    sender = open_socket(loop);
    watch_errors(sender);
}

void NamesTest::begin_with_hook(Hook *hook)
{
    struct dgram_loop_options options = names_options();
    options.lookup = Hook::call;
    options.lookup_user = hook;
    begin(options);
}

void NamesTest::watch_errors(struct dgram_socket *socket)
{
    on_error_.error = [this](struct dgram_socket *, const struct dgram_error *error) {
        EXPECT_EQ(error->size, sizeof(*error));
        failures.push_back({error->code, error->operation,
                            error->host != nullptr ? error->host : "", error->address != nullptr});
    };
    on_error_.attach(socket);
}

int NamesTest::send_plain(const std::string &payload, const std::string &host)
{
    return dgram_send(sender, payload.data(), payload.size(), port_of(target), host.c_str(),
                      nullptr, nullptr);
}

int NamesTest::send_counted(const std::string &host, Results *results)
{
    return dgram_send(sender, "abc", 3, port_of(target), host.c_str(), Results::take, results);
}

int NamesTest::result_of(const std::string &host)
{
    Results results;
    int code = send_counted(host, &results);
    if (code < 0) {
        return code;
    }
    EXPECT_TRUE(run_until(loop, [&] { return !results.values.empty(); })) << host;
    return results.values.size() == 1 ? results.values[0] : INT32_MIN;
}

void NamesTest::catch_up()
{
    std::string marker = "marker" + std::to_string(markers_++) + ".test";
    server->address(marker, "127.0.0.1");
    EXPECT_EQ(result_of(marker), 3);
    EXPECT_EQ(server->asked(marker), 1u);
}

unsigned seed_of_this_run()
{
    const char *text = getenv("DGRAM_TEST_SEED");
    return text != nullptr ? static_cast<unsigned>(strtoul(text, nullptr, 0))
                           : std::random_device()();
}

class NameText : public NamesTest
{
};
class NameAnswer : public NamesTest
{
};
class NameTcp : public NamesTest
{
};
class NameHostile : public NamesTest
{
  protected:
    std::vector<int> results_of_noise(bool disguise);

    /* Of the noise; printed, so that a failure can be had again. */
    const unsigned seed_ = seed_of_this_run();
};
class NameMemory : public NamesTest
{
};
class NameError : public NamesTest
{
};
class NameBind : public NamesTest
{
};
class NameEnd : public NamesTest
{
};
class NameQueue : public NamesTest
{
};
class NameHook : public NamesTest
{
};
class NameDestination : public NamesTest
{
};
class NameConfiguration : public NamesTest
{
};

INSTANTIATE_ON_HOST_ENGINES(NameText);
INSTANTIATE_ON_HOST_ENGINES(NameAnswer);
INSTANTIATE_ON_HOST_ENGINES(NameTcp);
INSTANTIATE_ON_HOST_ENGINES(NameHostile);
INSTANTIATE_ON_HOST_ENGINES(NameMemory);
INSTANTIATE_ON_HOST_ENGINES(NameError);
INSTANTIATE_ON_HOST_ENGINES(NameBind);
INSTANTIATE_ON_HOST_ENGINES(NameEnd);
INSTANTIATE_ON_HOST_ENGINES(NameQueue);
INSTANTIATE_ON_HOST_ENGINES(NameHook);
INSTANTIATE_ON_HOST_ENGINES(NameDestination);
INSTANTIATE_ON_HOST_ENGINES(NameConfiguration);

/* Counts ticks of a timer, and does something at each. */
struct Ticker {
    Tick tick;
    struct dgram_timer *timer = nullptr;
    size_t count = 0;

    Ticker(struct dgram_loop *loop, int64_t interval, std::function<void(size_t)> each)
        : tick([this, each](struct dgram_timer *) { each(++count); })
    {
        EXPECT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
        EXPECT_EQ(dgram_timer_start(timer, interval, interval), 0);
    }
    Ticker(struct dgram_loop *loop, int64_t interval) : Ticker(loop, interval, [](size_t) {})
    {
    }
    ~Ticker()
    {
        dgram_timer_free(timer);
    }
};

/* Lets this much time pass; only for what is about a time to live. */
void let_pass(struct dgram_loop *loop, int64_t time)
{
    bool over = false;
    Tick tick([&](struct dgram_timer *) { over = true; });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, time, 0), 0);
    EXPECT_TRUE(run_until(loop, [&] { return over; }));
    dgram_timer_free(timer);
}

constexpr int64_t TTL_OVER = 1100 * MILLISECOND; /* the least TTL is a second */

std::vector<int> repeated(int value, size_t count)
{
    return std::vector<int>(count, value);
}

dns::Script one_packet(std::function<std::string(const dns::Question &)> make)
{
    return [make](const dns::Question &question) {
        dns::Deed deed;
        deed.packets = {make(question)};
        return deed;
    };
}

/* ---- Text: what is a name, what is none, what never asks ----------------------------------- */

TEST_P(NameText, LiteralsAreNotAskedFor)
{
    for (uint32_t type : socket_types()) {
        Inbox own;
        struct dgram_socket *peer = open_inbox(loop, &own, type);
        struct dgram_socket *socket = open_socket(loop, type);
        std::vector<const char *> literals = {loopback(type), nullptr, ""};
        if (type == DGRAM_UDP6) {
            literals.insert(literals.end(), {"::1%lo", "0:0:0:0:0:0:0:1", "::0.0.0.1"});
        }
        for (const char *text : literals) {
            ASSERT_EQ(dgram_send(socket, "x", 1, port_of(peer), text, nullptr, nullptr), 0) << text;
        }
        EXPECT_TRUE(run_until(loop, [&] { return own.count() == literals.size(); }));
        struct dgram_destination *destination = nullptr;
        ASSERT_EQ(dgram_destination_create(loop, type, port_of(peer), loopback(type), &destination),
                  0);
        EXPECT_EQ(dgram_send_dest(socket, "x", 1, destination, nullptr, nullptr), 0);
        EXPECT_TRUE(run_until(loop, [&] { return own.count() == literals.size() + 1; }));
        dgram_destination_free(destination);
    }
    catch_up();
    EXPECT_EQ(server->asked(), 1u);
}

TEST_P(NameText, ZonesAreNotAskedFor)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6";
    }
    Results results;
    struct dgram_socket *socket = open_socket(loop, DGRAM_UDP6);
    for (const char *text : {"fe80::1%lo", "fe80::1%1", "ff02::1%lo"}) {
        ASSERT_EQ(dgram_send(socket, "x", 1, 9, text, Results::take, &results), 0) << text;
    }
    EXPECT_TRUE(run_until(loop, [&] { return results.values.size() == 3; }));
    for (const char *text :
         {"fe80::1%nosuch0", "fe80::1%", "fe80::1%0", "fe80::1%99999", "::1%-1"}) {
        struct dgram_destination *destination = nullptr;
        struct dgram_socket *unbound = open_socket(loop, DGRAM_UDP6);
        EXPECT_EQ(dgram_send(unbound, "x", 1, 9, text, Results::take, &results),
                  DGRAM_EBADINTERFACE)
            << text;
        EXPECT_EQ(dgram_bind(unbound, 0, text), DGRAM_EBADINTERFACE) << text;
        EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP6, 9, text, &destination),
                  DGRAM_EBADINTERFACE)
            << text;
    }
    catch_up();
    EXPECT_EQ(server->asked(), 1u);
    EXPECT_EQ(results.values.size(), 3u);
}

TEST_P(NameText, LiteralsNeverReachTheHook)
{
    size_t asked = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        asked++;
        dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 0);
    };
    begin_with_hook(&hook);
    struct dgram_socket *bound = open_socket(loop);
    EXPECT_EQ(dgram_bind(bound, 0, "127.0.0.1"), 0);
    EXPECT_EQ(result_of("127.0.0.1"), 3);
    EXPECT_EQ(result_of(""), 3);
    EXPECT_EQ(result_of("::1"), DGRAM_EBADFAMILY);
    EXPECT_EQ(result_of("256.1.1.1"), DGRAM_EBADADDRESS);
    EXPECT_EQ(asked, 0u);
}

std::string labels(size_t size)
{
    std::string text;
    while (text.size() < size) {
        text += text.size() % 64 == 63 ? '.' : 'a';
    }
    return text;
}

/* What is neither an address nor a well-formed name is told at once, changes nothing, asks nobody. */
TEST_P(NameText, BadTextIsToldAtOnce)
{
    const std::string bad[] = {
        /* too long: 253 characters are a name, the root's dot not counted */
        labels(254), labels(254) + ".", labels(255), labels(256), labels(300) + ".", labels(5000),
        std::string(64, 'a'), std::string(64, 'a') + ".test", "a." + std::string(64, 'b'),
        /* empty labels */
        ".", "..", ".a", "a..b", "a..", "..a", "a.b..c",
        /* more than a name */
        "host:53", "127.0.0.1:53", "[::1]", "[::1]:53", "[127.0.0.1]", "udp://host", "host/", "a@b",
        "host%lo", "127.0.0.1%lo", "%lo", "a,b", "a;b", "*.test", "a\\b", "'a'",
        /* blanks and control characters */
        " ", " a", "a ", "a b", "a\tb", "a\n", "\na", "a\r\n", "a\x01", "\x7f", "a\x1b[0m",
        /* not ASCII */
        "\xc3\xa4.test", "a\xff", "\x80",
        /* hyphens at an end of a label */
        "-", "-a", "a-", "a.-b", "a-.b", "a.b-",
        /* mistyped addresses */
        "256.1.1.1", "1.2.3", "1.2.3.", "1", "127.1", "1.2.3.4.5", "1.2.3.4.", "0x7f.1", "a.1",
        "host.007", "::g", ":::", "1:2", "fe80:1", "12345::", "::1::", "1.2.3.4:", "::ffff:1.2.3"};
    for (const std::string &text : bad) {
        SCOPED_TRACE("'" + text + "'");
        Results results;
        struct dgram_addr address = {};
        struct dgram_destination *destination = nullptr;
        struct dgram_socket *unbound = open_socket(loop);
        EXPECT_EQ(dgram_send(unbound, "x", 1, 9, text.c_str(), Results::take, &results),
                  DGRAM_EBADADDRESS);
        EXPECT_EQ(dgram_address(unbound, &address), DGRAM_ENOTBOUND);
        EXPECT_EQ(dgram_bind(unbound, 0, text.c_str()), DGRAM_EBADADDRESS);
        EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, text.c_str(), &destination),
                  DGRAM_EBADADDRESS);
        EXPECT_EQ(dgram_get_send_queue_count(unbound), 0u);
        EXPECT_EQ(dgram_bind(unbound, 0, "127.0.0.1"), 0);
        EXPECT_EQ(dgram_close(unbound), 0);
    }
    catch_up();
    EXPECT_EQ(server->asked(), 1u);
    EXPECT_EQ(failures.size(), 0u);
}

TEST_P(NameText, WellFormedNamesAreAskedFor)
{
    const std::string good[] = {labels(253),
                                "x." + std::string(63, 'b'),
                                "a",
                                "a.b",
                                "1a.test",
                                "1.2.3.x",
                                "_dns._udp.test",
                                "a--b.test",
                                "xn--4ca.test",
                                "0x7f.test",
                                "127.0.0.1.test"};
    for (const std::string &name : good) {
        server->address(name, "127.0.0.1");
        server->address(name + ".search.test", "127.0.0.1");
        EXPECT_EQ(result_of(name), 3) << name;
        EXPECT_EQ(server->asked(name) + server->asked(name + ".search.test"), 1u) << name;
    }
}

/* A name that ends with the root's dot is complete: nothing is appended to it. */
TEST_P(NameText, RootDotEndsAName)
{
    server->address("host", "127.0.0.1");
    server->address("host.search.test", "127.0.0.1");
    server->address(labels(253), "127.0.0.1");
    EXPECT_EQ(result_of("host."), 3);
    EXPECT_EQ(result_of(labels(253) + "."), 3);
    EXPECT_EQ(server->asked("host"), 1u);
    EXPECT_EQ(server->asked("host.search.test"), 0u);
    EXPECT_EQ(server->asked(labels(253)), 1u);
}

TEST_P(NameText, PortsAreCheckedBeforeNames)
{
    struct dgram_destination *destination = nullptr;
    EXPECT_EQ(dgram_send(sender, "x", 1, 0, "host.test", nullptr, nullptr), DGRAM_EBADPORT);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 0, "host.test", &destination),
              DGRAM_EBADPORT);
    catch_up();
    EXPECT_EQ(server->asked(), 1u);
}

/* RFC 6761: it is this host in both families, whatever files and servers say. */
TEST_P(NameText, LocalhostIsNotAskedFor)
{
    const char *const names[] = {"localhost", "LocalHost", "localhost.", "my.localhost",
                                 "a.b.LOCALHOST."};
    for (uint32_t type : socket_types()) {
        Inbox own;
        struct dgram_socket *peer = open_inbox(loop, &own, type), *socket = open_socket(loop, type);
        for (const char *name : names) {
            ASSERT_EQ(dgram_send(socket, "x", 1, port_of(peer), name, nullptr, nullptr), 0) << name;
        }
        ASSERT_TRUE(run_until(loop, [&] { return own.count() == std::size(names); }));
        struct dgram_socket *bound = open_socket(loop, type);
        bool listening = false;
        Handlers on;
        on.listening = [&](struct dgram_socket *) { listening = true; };
        on.attach(bound);
        ASSERT_EQ(dgram_bind(bound, 0, "localhost"), 0);
        ASSERT_TRUE(run_until(loop, [&] { return listening; }));
        struct dgram_addr address = {};
        ASSERT_EQ(dgram_address(bound, &address), 0);
        EXPECT_EQ(text_of(&address), loopback(type));
        close_and_wait(loop, bound);
    }
    catch_up();
    EXPECT_EQ(server->asked(), 1u);
}

/* What only looks like it. */
TEST_P(NameText, OtherNamesThatEndSoAreAskedFor)
{
    for (const char *name : {"notlocalhost", "localhost.test", "local.host"}) {
        server->address(name, "127.0.0.1");
        server->address(std::string(name) + ".search.test", "127.0.0.1");
        EXPECT_EQ(result_of(name), 3) << name;
        EXPECT_EQ(server->asked(name) + server->asked(std::string(name) + ".search.test"), 1u);
    }
}

/* A name of the host's own file that leads to 127.0.0.1, other than localhost; "" if there is none. */
std::string name_of_hosts_file()
{
    std::ifstream file("/etc/hosts");
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line.substr(0, line.find('#')));
        std::string address, name;
        words >> address;
        while (address == "127.0.0.1" && words >> name) {
            if (name.find("localhost") == std::string::npos) {
                return name;
            }
        }
    }
    return "";
}

TEST_P(NameText, NamesOfTheHostsFileAreNotAskedFor)
{
    std::string name = name_of_hosts_file();
    if (name.empty()) {
        GTEST_SKIP() << "the host's file names 127.0.0.1 only localhost";
    }
    EXPECT_EQ(result_of(name), 3);
    std::transform(name.begin(), name.end(), name.begin(), ::toupper);
    EXPECT_EQ(result_of(name), 3);
    catch_up();
    EXPECT_EQ(server->asked(), 1u);
}

/* ---- Answers ------------------------------------------------------------------------------- */

TEST_P(NameAnswer, IsWhereTheDatagramGoes)
{
    for (uint32_t type : socket_types()) {
        Inbox own;
        Results results;
        std::string host = type == DGRAM_UDP6 ? "six.test" : "four.test";
        server->address(host, loopback(type));
        struct dgram_socket *peer = open_inbox(loop, &own, type);
        struct dgram_socket *socket = open_socket(loop, type);
        ASSERT_EQ(
            dgram_send(socket, "hello", 5, port_of(peer), host.c_str(), Results::take, &results),
            0);
        EXPECT_EQ(results.values.size(), 0u); /* never inside the call */
        ASSERT_TRUE(run_until(loop, [&] { return own.count() == 1 && !results.values.empty(); }));
        EXPECT_EQ(own.payloads[0], "hello");
        EXPECT_EQ(results.values, std::vector<int>{5});
        EXPECT_EQ(server->asked(host), 1u);
    }
}

/* A send that waits for its name keeps dgram_loop_run() running, a name that is known does not. */
TEST_P(NameAnswer, KeepsTheLoopAliveWhileSomebodyWaits)
{
    Results results;
    server->address("host.test", "127.0.0.1");
    ASSERT_EQ(dgram_unref(target), 0);
    ASSERT_EQ(dgram_unref(sender), 0);
    ASSERT_EQ(send_counted("host.test", &results), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(results.values, std::vector<int>{3});
}

TEST_P(NameAnswer, EmptyDatagramGoesToAName)
{
    server->address("host.test", "127.0.0.1");
    ASSERT_EQ(dgram_send(sender, nullptr, 0, port_of(target), "host.test", nullptr, nullptr), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(inbox.payloads[0], "");
}

TEST_P(NameAnswer, FirstOfSeveralAddressesIsUsed)
{
    Inbox second;
    struct dgram_socket *other = open_socket(loop);
    if (dgram_bind(other, 0, "127.0.0.2") < 0) {
        GTEST_SKIP() << "127.0.0.2 is no address of this host";
    }
    ASSERT_EQ(dgram_on_message(other, Inbox::take, &second), 0);
    server->script("many.test", one_packet([](const dns::Question &question) {
                       dns::Reply reply(question);
                       for (const char *text : {"127.0.0.2", "127.0.0.1", "127.0.0.3"}) {
                           reply.address(text, 60);
                       }
                       return reply.bytes();
                   }));
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(dgram_send(sender, "x", 1, port_of(other), "many.test", nullptr, nullptr), 0);
    }
    EXPECT_TRUE(run_until(loop, [&] { return second.count() == 3; }));
    EXPECT_EQ(inbox.count(), 0u);
}

/* A server may add what nobody asked for. */
TEST_P(NameAnswer, AddressesOfTheOtherFamilyAreSkipped)
{
    server->script("mixed.test", one_packet([](const dns::Question &question) {
                       return dns::Reply(question)
                           .address("::1", 60)
                           .address("127.0.0.1", 60)
                           .address("::2", 60)
                           .bytes();
                   }));
    EXPECT_EQ(result_of("mixed.test"), 3);
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
}

TEST_P(NameAnswer, AliasesAreFollowed)
{
    server->script("www.test", one_packet([](const dns::Question &question) {
                       return dns::Reply(question)
                           .alias("www.test", "cdn.test", 60)
                           .alias("cdn.test", "edge.cdn.test", 60)
                           .alias("edge.cdn.test", "e1.edge.cdn.test", 60)
                           .address("127.0.0.1", 60, "e1.edge.cdn.test")
                           .bytes();
                   }));
    EXPECT_EQ(result_of("www.test"), 3);
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(server->asked("www.test"), 1u);
}

TEST_P(NameAnswer, AliasThatLeadsNowhereIsNotFound)
{
    server->script("dangling.test", one_packet([](const dns::Question &question) {
                       return dns::Reply(question).alias("dangling.test", "gone.test", 60).bytes();
                   }));
    EXPECT_EQ(result_of("dangling.test"), DGRAM_ENOTFOUND);
}

TEST_P(NameAnswer, MayComeOutOfOrder)
{
    Recorder log;
    const std::string names[] = {"one.test", "two.test", "three.test"};
    std::vector<Sent> sent;
    for (const std::string &name : names) {
        server->address(name, "127.0.0.1");
        server->hold(name);
        sent.emplace_back([&log, name](struct dgram_socket *, int result) {
            EXPECT_EQ(result, 1);
            log.add(name);
        });
    }
    for (size_t i = 0; i < 3; i++) {
        ASSERT_EQ(
            dgram_send(sender, "x", 1, port_of(target), names[i].c_str(), Sent::call, &sent[i]), 0);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == 3; }));
    for (size_t i : {2, 0, 1}) {
        size_t before = log.events.size();
        server->release(names[i]);
        ASSERT_TRUE(run_until(loop, [&] { return log.events.size() == before + 1; }));
        EXPECT_EQ(log.events.back(), names[i]);
    }
}

/* The answer comes because the timer lets it come: the loop cannot have waited for it. */
TEST_P(NameAnswer, TimersTickWhileItIsAwaited)
{
    Recorder log;
    server->address("slow.test", "127.0.0.1");
    server->hold("slow.test");
    Sent sent([&](struct dgram_socket *, int) { log.add("sent"); });
    ASSERT_EQ(dgram_send(sender, "x", 1, port_of(target), "slow.test", Sent::call, &sent), 0);
    Ticker ticker(loop, MILLISECOND, [&](size_t count) {
        if (count <= 20) {
            log.add("tick");
        }
        if (count == 20) {
            server->release("slow.test");
        }
    });
    ASSERT_TRUE(run_until(loop, [&] { return log.count("sent") == 1; }));
    EXPECT_EQ(log.count("tick"), 20u);
    EXPECT_EQ(log.events.back(), "sent");
}

TEST_P(NameAnswer, NameThatDoesNotExistIsNotFound)
{
    EXPECT_EQ(result_of("nowhere.test"), DGRAM_ENOTFOUND);
    EXPECT_EQ(failures.size(), 0u);
    EXPECT_EQ(server->asked("nowhere.test"), 1u);
}

/* A name may have addresses of one family only. */
TEST_P(NameAnswer, NameWithoutAnAddressOfTheFamilyIsNotFound)
{
    server->address("four.test", "127.0.0.1");
    server->address("six.test", "::1");
    EXPECT_EQ(result_of("six.test"), DGRAM_ENOTFOUND);
    EXPECT_EQ(result_of("four.test"), 3);
    if (!has_ipv6()) {
        return;
    }
    Results results;
    struct dgram_socket *socket = open_socket(loop, DGRAM_UDP6);
    for (const char *host : {"four.test", "six.test"}) {
        ASSERT_EQ(dgram_send(socket, "abc", 3, 9, host, Results::take, &results), 0);
        size_t expected = results.values.size() + 1;
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == expected; }));
    }
    EXPECT_EQ(results.values, (std::vector<int>{DGRAM_ENOTFOUND, 3}));
}

TEST_P(NameAnswer, ServerThatFailsIsTold)
{
    const std::pair<const char *, dns::Rcode> cases[] = {{"servfail.test", dns::SERVFAIL},
                                                         {"refused.test", dns::REFUSED},
                                                         {"notimp.test", dns::NOTIMP},
                                                         {"formerr.test", dns::FORMERR}};
    for (const auto &one : cases) {
        server->fail(one.first, one.second);
        EXPECT_EQ(result_of(one.first), DGRAM_EDNSFAILED) << one.first;
    }
    server->address("fine.test", "127.0.0.1");
    EXPECT_EQ(result_of("fine.test"), 3);
}

/* An error is not remembered: who sends again asks again. */
TEST_P(NameAnswer, FailureIsForgottenAtOnce)
{
    server->fail("host.test", dns::SERVFAIL);
    EXPECT_EQ(result_of("host.test"), DGRAM_EDNSFAILED);
    server->fail("host.test", dns::NXDOMAIN);
    EXPECT_EQ(result_of("host.test"), DGRAM_ENOTFOUND);
    server->address("host.test", "127.0.0.1");
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(server->asked("host.test"), 3u);
}

TEST_P(NameAnswer, ServerThatIsNotThereIsTold)
{
    DeadPort dead;
    servers =
        "127.0.0.1:" +
        std::to_string(dgram_addr_port(&static_cast<const struct dgram_addr &>(dead.address())));
    begin(names_options());
    int result = result_of("host.test");
    EXPECT_TRUE(result == DGRAM_EDNSFAILED || result == DGRAM_EDNSTIMEOUT) << result;
}

/* resolv.conf(5)'s `timeout` and `attempts` hold. Timers tick meanwhile. */
TEST_P(NameAnswer, SilenceTimesOut)
{
    write_resolv_conf("options timeout:1 attempts:1\n");
    begin(names_options());
    server->silence("silent.test");
    server->address("host.test", "127.0.0.1");
    Results results;
    Ticker ticker(loop, 10 * MILLISECOND);
    ASSERT_EQ(send_counted("silent.test", &results), 0);
    ASSERT_EQ(send_plain("abc", "silent.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return !results.values.empty() && !failures.empty(); }));
    EXPECT_GT(ticker.count, 10u); /* of a hundred */
    EXPECT_EQ(results.values, std::vector<int>{DGRAM_EDNSTIMEOUT});
    ASSERT_EQ(failures.size(), 1u);
    EXPECT_EQ(failures[0].code, DGRAM_EDNSTIMEOUT);
    EXPECT_EQ(server->asked("silent.test"), 1u);
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(results.values.size(), 1u);
}

TEST_P(NameAnswer, LostQuestionIsAskedAgain)
{
    write_resolv_conf("options attempts:3 timeout:1\n");
    begin(names_options());
    std::atomic<int> times{0};
    server->script("lossy.test", [&](const dns::Question &question) {
        dns::Deed deed;
        if (times++ > 0) {
            deed.packets = {dns::Reply(question).address("127.0.0.1", 60).bytes()};
        }
        return deed;
    });
    EXPECT_EQ(result_of("lossy.test"), 3);
    EXPECT_EQ(server->asked("lossy.test"), 2u);
}

TEST_P(NameAnswer, NextServerIsAskedWhenOneFails)
{
    dns::Server second;
    servers = server->text() + "," + second.text();
    begin(names_options());
    server->fail("host.test", dns::SERVFAIL);
    second.address("host.test", "127.0.0.1");
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(server->asked("host.test"), 1u);
    EXPECT_EQ(second.asked("host.test"), 1u);
    second.stop();
}

TEST_P(NameAnswer, ServerMayBeReachedByIpv6)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6";
    }
    dns::Server sixth("::1");
    sixth.address("host.test", "127.0.0.1");
    servers = sixth.text();
    begin(names_options());
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(sixth.asked("host.test"), 1u);
    sixth.stop();
}

/* The descriptor for other loops tells of answers and of the end of a resolver's patience. */
TEST_P(NameAnswer, WakesAnEmbeddedLoop)
{
    write_resolv_conf("options timeout:1 attempts:1\n");
    begin(names_options());
    server->address("host.test", "127.0.0.1");
    server->silence("silent.test");
    struct pollfd ready = {dgram_loop_fd(loop), POLLIN, 0};
    if (ready.fd == -ENOTSUP) {
        GTEST_SKIP() << "no descriptor on this host";
    }
    Results results;
    ASSERT_EQ(send_counted("host.test", &results), 0);
    ASSERT_EQ(send_counted("silent.test", &results), 0);
    while (results.values.size() < 2) {
        ASSERT_EQ(poll(&ready, 1, static_cast<int>(10000 * patience())), 1);
        ASSERT_GE(dgram_loop_turn(loop, 0), 0);
    }
    EXPECT_EQ(results.values, (std::vector<int>{3, DGRAM_EDNSTIMEOUT}));
}

/* ---- TCP ----------------------------------------------------------------------------------- */

/* By UDP truncated, by TCP whole. */
dns::Script by_tcp(std::function<dns::Deed(const dns::Question &)> deed_by_tcp)
{
    return [deed_by_tcp](const dns::Question &question) {
        if (question.tcp) {
            return deed_by_tcp(question);
        }
        dns::Deed deed;
        deed.packets = {dns::Reply(question).truncated().bytes()};
        return deed;
    };
}

dns::Deed true_answer(const dns::Question &question)
{
    dns::Deed deed;
    deed.packets = {dns::Reply(question).address("127.0.0.1", 60).bytes()};
    return deed;
}

TEST_P(NameTcp, IsAskedWhenAnAnswerIsTruncated)
{
    server->script("big.test", by_tcp(true_answer));
    EXPECT_EQ(result_of("big.test"), 3);
    EXPECT_EQ(server->asked("big.test"), 2u);
    EXPECT_EQ(server->asked_by_tcp(), 1u);
}

/* Byte by byte, one for each tick: the answer needs as many ticks as it has bytes. */
TEST_P(NameTcp, AnswerMayComeByteByByte)
{
    std::atomic<size_t> size{0};
    server->script("big.test", by_tcp([&](const dns::Question &question) {
                       dns::Deed deed = true_answer(question);
                       deed.stepwise = true;
                       size = 2 + deed.packets[0].size();
                       return deed;
                   }));
    Results results;
    Ticker ticker(loop, MILLISECOND, [&](size_t) { server->step(); });
    ASSERT_EQ(send_counted("big.test", &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return !results.values.empty(); }));
    EXPECT_EQ(results.values, std::vector<int>{3});
    EXPECT_GE(ticker.count, size);
    EXPECT_EQ(server->asked_by_tcp(), 1u);
}

TEST_P(NameTcp, LargeAnswerIsRead)
{
    server->script("big.test", by_tcp([](const dns::Question &question) {
                       dns::Reply reply(question);
                       reply.address("127.0.0.1", 60);
                       for (int i = 0; i < 3000; i++) {
                           reply.record(dns::pointer_to(dns::QUESTION_NAME), 16, dns::CLASS_IN, 60,
                                        5, std::string("\4text", 5));
                       }
                       dns::Deed deed;
                       deed.packets = {reply.bytes()};
                       return deed;
                   }));
    EXPECT_EQ(result_of("big.test"), 3);
}

/* Closed at every place of the answer: before, inside and behind the length word, and in the middle. */
TEST_P(NameTcp, ConnectionThatEndsHalfWayIsAFailure)
{
    for (size_t cut : {0, 1, 2, 3, 14, 40}) {
        std::string name = "cut" + std::to_string(cut) + ".test";
        server->script(name, by_tcp([cut](const dns::Question &question) {
                           dns::Deed deed = true_answer(question);
                           deed.cut = cut;
                           return deed;
                       }));
        EXPECT_EQ(result_of(name), DGRAM_EDNSFAILED) << name;
    }
    server->script("whole.test", by_tcp(true_answer));
    EXPECT_EQ(result_of("whole.test"), 3);
}

TEST_P(NameTcp, QuestionIsRepeatedOnANewConnection)
{
    write_resolv_conf("options timeout:30 attempts:3\n");
    begin(names_options());
    std::atomic<int> times{0};
    server->script("big.test", by_tcp([&](const dns::Question &question) {
                       dns::Deed deed = true_answer(question);
                       deed.cut = times++ == 0 ? 10 : SIZE_MAX;
                       return deed;
                   }));
    EXPECT_EQ(result_of("big.test"), 3);
    EXPECT_EQ(times, 2);
}

TEST_P(NameTcp, NonsenseIsAFailure)
{
    using Make = std::function<std::string(const dns::Question &)>;
    const std::pair<const char *, Make> cases[] = {
        {"empty.test", [](const dns::Question &) { return dns::number16(0); }},
        {"short.test", [](const dns::Question &) { return dns::number16(3) + "abc"; }},
        {"liar.test", [](const dns::Question &q) {
             return dns::number16(65535) + dns::Reply(q).address("127.0.0.1", 60).bytes();
         }}};
    for (const auto &one : cases) {
        const Make make = one.second;
        server->script(one.first, by_tcp([make](const dns::Question &question) {
                           dns::Deed deed;
                           deed.packets = {make(question)};
                           deed.unframed = true;
                           deed.cut = deed.packets[0].size();
                           return deed;
                       }));
        EXPECT_EQ(result_of(one.first), DGRAM_EDNSFAILED) << one.first;
    }
}

/* ---- Hostile answers ----------------------------------------------------------------------- */

/* A lie that does not belong to the question, then the truth: the lie is as if it had not come. */
TEST_P(NameHostile, AnswersToOtherQuestionsAreIgnored)
{
    using Make = std::function<std::string(const dns::Question &)>;
    auto lie = [](const dns::Question &question) {
        return dns::Reply(question).address("127.0.0.9", 60);
    };
    const std::pair<const char *, Make> cases[] = {
        {"id.test",
         [=](const dns::Question &q) {
             std::string id = q.id();
             id[1] = static_cast<char>(id[1] ^ 1);
             return lie(q).id(id).bytes();
         }},
        {"name.test",
         [=](const dns::Question &q) {
             return lie(q)
                 .section(dns::wire_name("evil.test") + dns::number16(dns::TYPE_A) +
                          dns::number16(dns::CLASS_IN))
                 .bytes();
         }},
        {"type.test",
         [=](const dns::Question &q) {
             return lie(q)
                 .section(dns::wire_name(q.name) + dns::number16(dns::TYPE_AAAA) +
                          dns::number16(dns::CLASS_IN))
                 .bytes();
         }},
        {"class.test",
         [=](const dns::Question &q) {
             return lie(q)
                 .section(dns::wire_name(q.name) + dns::number16(dns::TYPE_A) + dns::number16(3))
                 .bytes();
         }},
        {"loop.test",
         [=](const dns::Question &q) {
             return lie(q)
                 .section(dns::pointer_to(dns::QUESTION_NAME) + dns::number16(1) + dns::number16(1))
                 .bytes();
         }},
        {"header.test", [=](const dns::Question &q) { return lie(q).bytes().substr(0, 12); }},
        {"eleven.test", [=](const dns::Question &q) { return lie(q).bytes().substr(0, 11); }},
        {"one.test", [=](const dns::Question &q) { return q.id().substr(0, 1); }},
        {"half.test", [=](const dns::Question &q) { return lie(q).bytes().substr(0, 18); }}};
    for (const auto &one : cases) {
        const Make make = one.second;
        server->script(one.first, [make](const dns::Question &question) {
            dns::Deed deed = true_answer(question);
            deed.packets.insert(deed.packets.begin(), make(question));
            return deed;
        });
        EXPECT_EQ(result_of(one.first), 3) << one.first;
        EXPECT_EQ(server->asked(one.first), 1u) << one.first;
    }
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == std::size(cases); }));
}

TEST_P(NameHostile, AnswerFromAnotherPortIsIgnored)
{
    server->script("host.test", [](const dns::Question &question) {
        dns::Deed deed = true_answer(question);
        deed.from_elsewhere = dns::Reply(question).address("127.0.0.9", 60).bytes();
        return deed;
    });
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
}

/* Right id, right question, and then nonsense. */
TEST_P(NameHostile, MalformedAnswersFail)
{
    using dns::pointer_to;
    using Make = std::function<std::string(const dns::Question &)>;
    auto record = [](const std::string &owner, unsigned length, const std::string &data,
                     uint16_t type = dns::TYPE_A, uint16_t rclass = dns::CLASS_IN) {
        return [=](const dns::Question &q) {
            return dns::Reply(q).record(owner, type, rclass, 60, length, data).bytes();
        };
    };
    const std::string in4("\x7f\0\0\1", 4), self = pointer_to(dns::QUESTION_NAME);
    const std::vector<std::pair<std::string, Make>> cases = {
        /* owners: a pointer to itself, two that point at each other, beyond the end, cut off, a
         * reserved kind of label, a label longer than the packet */
        {"itself",
         [=](const dns::Question &q) {
             unsigned at = static_cast<unsigned>(12 + q.section().size());
             return dns::Reply(q).record(pointer_to(at), 1, 1, 60, 4, in4).bytes();
         }},
        {"each-other",
         [=](const dns::Question &q) {
             unsigned at = static_cast<unsigned>(12 + q.section().size());
             return dns::Reply(q)
                 .record(pointer_to(at + 2) + pointer_to(at), 1, 1, 60, 4, in4)
                 .bytes();
         }},
        {"beyond", record(pointer_to(0x3fff), 4, in4)},
        {"cut-pointer",
         [](const dns::Question &q) {
             return dns::Reply(q).append("\xc0").answer_count(1).bytes();
         }},
        {"reserved", record("\x80\x01", 4, in4)},
        {"long-label",
         [](const dns::Question &q) {
             return dns::Reply(q)
                 .append("\x3f"
                         "abc")
                 .answer_count(1)
                 .bytes();
         }},
        /* lengths: more than there is, less than an address, records that are missing */
        {"too-long", record(self, 500, in4)},
        {"max-long", record(self, 65535, in4)},
        {"three-bytes", record(self, 3, in4.substr(0, 3))},
        {"no-bytes", record(self, 0, "")},
        {"sixteen-bytes", record(self, 16, std::string(16, '\1'))},
        {"missing", [](const dns::Question &q) { return dns::Reply(q).answer_count(1).bytes(); }},
        {"many-missing",
         [](const dns::Question &q) { return dns::Reply(q).answer_count(65535).bytes(); }},
        {"cut-record",
         [=](const dns::Question &q) {
             return dns::Reply(q).append(self + dns::number16(1)).answer_count(1).bytes();
         }},
        /* aliases: to themselves, in a circle, to a looping name, to nothing */
        {"alias-self", record(self, 2, self, dns::TYPE_CNAME)},
        {"alias-loop",
         [=](const dns::Question &q) {
             unsigned at = static_cast<unsigned>(12 + q.section().size() + 12);
             return dns::Reply(q).record(self, dns::TYPE_CNAME, 1, 60, 2, pointer_to(at)).bytes();
         }},
        {"alias-empty", record(self, 0, "", dns::TYPE_CNAME)},
        {"alias-circle",
         [](const dns::Question &q) {
             return dns::Reply(q).alias(q.name, "b.test", 60).alias("b.test", q.name, 60).bytes();
         }},
        /* records that are no answer: another owner, another class, another type */
        {"other-owner", record(dns::wire_name("other.test"), 4, in4)},
        {"other-class", record(self, 4, in4, dns::TYPE_A, 3)},
        {"other-type", record(self, 4, in4, 16)},
        {"other-family", record(self, 16, std::string(15, '\0') + '\1', dns::TYPE_AAAA)}};
    for (const auto &one : cases) {
        std::string name = one.first + ".test";
        server->script(name, one_packet(one.second));
        int result = result_of(name);
        EXPECT_TRUE(result == DGRAM_EDNSFAILED || result == DGRAM_ENOTFOUND)
            << name << ": " << dgram_error_name(result);
        server->address(name, "127.0.0.1");
        EXPECT_EQ(result_of(name), 3) << name;
    }
}

bool is_an_outcome(int result)
{
    return result == 3 || result == DGRAM_EDNSFAILED || result == DGRAM_ENOTFOUND ||
           result == DGRAM_EDNSTIMEOUT;
}

/* Packets that c-ares is known to have stumbled over, or may well take for an answer. */
TEST_P(NameHostile, OddAnswersDoNoHarm)
{
    const std::pair<const char *, std::function<std::string(const dns::Question &)>> cases[] = {
        {"empty.test", [](const dns::Question &) { return std::string(); }},
        {"echo.test", [](const dns::Question &q) { return q.message; }},
        {"twice.test", [](const dns::Question &q) { return true_answer(q).packets[0]; }}};
    for (const auto &one : cases) {
        auto make = one.second;
        server->script(one.first, [make](const dns::Question &question) {
            dns::Deed deed = true_answer(question);
            deed.packets.insert(deed.packets.begin(), make(question));
            return deed;
        });
        int result = result_of(one.first);
        EXPECT_TRUE(is_an_outcome(result)) << one.first << ": " << result;
    }
    server->address("host.test", "127.0.0.1");
    EXPECT_EQ(result_of("host.test"), 3);
}

/* Larger than plain DNS allows: whatever is made of it, it is whole or not used. */
TEST_P(NameHostile, OversizedAnswersDoNoHarm)
{
    for (size_t size : {513, 1232, 4096, 4097, 9000, 65000}) {
        std::string name = "size" + std::to_string(size) + ".test";
        server->script(name, [size](const dns::Question &question) {
            dns::Deed deed = true_answer(question);
            if (!question.tcp) {
                deed.packets[0].resize(size, '\0');
            }
            return deed;
        });
        EXPECT_EQ(result_of(name), 3) << name;
    }
}

std::string random_bytes(std::mt19937 *random, size_t size)
{
    std::string bytes(size, '\0');
    for (char &byte : bytes) {
        byte = static_cast<char>((*random)());
    }
    return bytes;
}

/* Some packets of noise, then the truth. With a disguise they have the right id and question. */
dns::Script noise_and_truth(unsigned seed, bool disguise)
{
    return [=](const dns::Question &question) {
        std::mt19937 random(seed);
        dns::Deed deed = true_answer(question);
        for (int i = 0; i < 4 && !question.tcp; i++) {
            std::string bytes = random_bytes(&random, 1 + random() % 500);
            if (disguise) {
                bytes = question.id() + random_bytes(&random, 2) + dns::number16(1) +
                        random_bytes(&random, 6) + question.section() + bytes;
            }
            deed.packets.insert(deed.packets.begin(), bytes);
        }
        return deed;
    };
}

/* A few at a time: the socket of the resolver has room for all that comes. */
std::vector<int> NameHostile::results_of_noise(bool disguise)
{
    constexpr size_t at_once = 10;
    std::vector<int> all;
    for (size_t i = 0; i < 100; i += at_once) {
        Results results;
        for (size_t k = i; k < i + at_once; k++) {
            std::string name = "noise" + std::to_string(k) + ".test";
            server->script(name, noise_and_truth(seed_ + static_cast<unsigned>(k), disguise));
            EXPECT_EQ(send_counted(name, &results), 0);
        }
        EXPECT_TRUE(run_until(loop, [&] { return results.values.size() >= at_once; }));
        catch_up();
        EXPECT_EQ(results.values.size(), at_once);
        all.insert(all.end(), results.values.begin(), results.values.end());
    }
    return all;
}

TEST_P(NameHostile, RandomBytesAreIgnored)
{
    fprintf(stderr, "DGRAM_TEST_SEED=%u\n", seed_);
    SCOPED_TRACE(seed_);
    EXPECT_EQ(results_of_noise(false), repeated(3, 100));
}

/* Anything may come of it but a crash, a hang or two results. */
TEST_P(NameHostile, RandomBytesInDisguiseDoNoHarm)
{
    fprintf(stderr, "DGRAM_TEST_SEED=%u\n", seed_);
    SCOPED_TRACE(seed_);
    for (int result : results_of_noise(true)) {
        EXPECT_TRUE(is_an_outcome(result)) << result;
    }
}

/* ---- What is remembered -------------------------------------------------------------------- */

TEST_P(NameMemory, SendsThatWaitShareOneQuestion)
{
    Results results;
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    struct dgram_socket *second = open_socket(loop);
    for (const char *host : {"host.test", "HOST.test", "Host.Test"}) {
        for (struct dgram_socket *socket : {sender, second}) {
            for (int i = 0; i < 5; i++) {
                ASSERT_EQ(
                    dgram_send(socket, "abc", 3, port_of(target), host, Results::take, &results),
                    0);
            }
        }
        ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") >= 1; }));
    }
    EXPECT_EQ(results.values.size(), 0u);
    server->release("host.test");
    ASSERT_TRUE(
        run_until(loop, [&] { return results.values.size() == 30 && inbox.count() == 30; }));
    catch_up();
    EXPECT_EQ(results.values, repeated(3, 30));
    EXPECT_EQ(server->asked("host.test"), 1u);
}

TEST_P(NameMemory, AnswerServesWhoeverAsksLater)
{
    server->address("host.test", "127.0.0.1", 60);
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(result_of(i % 2 == 0 ? "host.test" : "HOST.TEST"), 3);
    }
    struct dgram_socket *second = open_socket(loop);
    ASSERT_EQ(dgram_send(second, "x", 1, port_of(target), "host.test", nullptr, nullptr), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 6; }));
    catch_up();
    EXPECT_EQ(server->asked("host.test"), 1u);
}

/* Sockets of both types ask for the same name on their own. */
TEST_P(NameMemory, FamiliesAreAskedForSeparately)
{
    if (!has_ipv6()) {
        GTEST_SKIP() << "no IPv6";
    }
    server->script("host.test", [](const dns::Question &question) {
        dns::Deed deed;
        bool in6 = question.type == dns::TYPE_AAAA;
        deed.packets = {dns::Reply(question).address(in6 ? "::1" : "127.0.0.1", 60).bytes()};
        return deed;
    });
    Inbox sixth;
    struct dgram_socket *peer = open_inbox(loop, &sixth, DGRAM_UDP6);
    struct dgram_socket *socket = open_socket(loop, DGRAM_UDP6);
    ASSERT_EQ(dgram_send(socket, "x", 1, port_of(peer), "host.test", nullptr, nullptr), 0);
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_TRUE(run_until(loop, [&] { return sixth.count() == 1 && inbox.count() == 1; }));
    EXPECT_EQ(server->asked("host.test"), 2u);
}

/* A TTL of 0 is taken for a second, and that of an alias counts as much as the address's. */
TEST_P(NameMemory, AnswerIsUsedForItsTtlOnly)
{
    const std::string names[] = {"zero.test", "one.test", "alias.test", "huge.test", "minute.test"};
    server->address("zero.test", "127.0.0.1", 0);
    server->address("one.test", "127.0.0.1", 1);
    server->address("minute.test", "127.0.0.1", 60);
    server->address("huge.test", "127.0.0.1", 0x7fffffff);
    server->script("alias.test", one_packet([](const dns::Question &question) {
                       return dns::Reply(question)
                           .alias("alias.test", "target.test", 1)
                           .address("127.0.0.1", 3600, "target.test")
                           .bytes();
                   }));
    for (int round = 0; round < 2; round++) {
        for (const std::string &name : names) {
            EXPECT_EQ(result_of(name), 3) << name;
        }
    }
    catch_up();
    EXPECT_EQ(server->asked("minute.test"), 1u);
    let_pass(loop, TTL_OVER);
    for (const std::string &name : names) {
        EXPECT_EQ(result_of(name), 3) << name;
    }
    catch_up();
    EXPECT_GE(server->asked("zero.test"), 2u);
    EXPECT_GE(server->asked("one.test"), 2u);
    EXPECT_GE(server->asked("alias.test"), 2u);
    EXPECT_EQ(server->asked("minute.test"), 1u);
    EXPECT_EQ(server->asked("huge.test"), 1u);
}

TEST_P(NameMemory, NewAddressIsUsedAfterTheTtl)
{
    server->address("host.test", "127.0.0.9", 1);
    EXPECT_EQ(result_of("host.test"), 3);
    server->address("host.test", "127.0.0.1", 1);
    let_pass(loop, TTL_OVER);
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
}

std::string numbered_name(size_t number)
{
    return "n" + std::to_string(number) + ".test";
}

/* 256 names are remembered; the one that was used longest ago goes first. */
TEST_P(NameMemory, ManyNamesAreRememberedAndTheOldestForgotten)
{
    constexpr size_t count = 300, at_once = 50;
    for (size_t i = 0; i < count; i++) {
        server->address(numbered_name(i), "127.0.0.1", 3600);
    }
    auto send_range = [&](size_t from, size_t to) {
        Results results;
        for (size_t i = from; i < to; i++) {
            ASSERT_EQ(send_counted(numbered_name(i), &results), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == to - from; }));
        EXPECT_EQ(results.values, repeated(3, to - from));
    };
    for (size_t i = 0; i < count; i += at_once) {
        send_range(i, i + at_once);
    }
    send_range(count - 200, count);
    catch_up();
    EXPECT_EQ(server->asked(), count + 1);
    send_range(0, at_once);
    catch_up();
    EXPECT_GE(server->asked(), count + 2 + (count - 256));
    EXPECT_LE(server->asked(), count + 2 + at_once);
}

/* More names than are remembered may be waited for; afterwards it is 256 again. */
TEST_P(NameMemory, ManyNamesMayBeWaitedForAtOnce)
{
    constexpr size_t count = 400, at_once = 50, later = 200;
    Results results;
    for (size_t i = 0; i < count; i++) {
        server->address(numbered_name(i), "127.0.0.1", 3600);
        server->hold(numbered_name(i));
        ASSERT_EQ(send_counted(numbered_name(i), &results), 0);
        if ((i + 1) % at_once == 0) {
            ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == i + 1; }));
        }
    }
    EXPECT_EQ(dgram_get_send_queue_count(sender), count);
    for (size_t i = 0; i < count; i++) {
        server->release(numbered_name(i));
        if ((i + 1) % at_once == 0) {
            ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == i + 1; }));
        }
    }
    EXPECT_EQ(results.values, repeated(3, count));
    for (size_t i = 0; i < later; i++) {
        catch_up();
    }
    /* The newest first, so that none is forgotten for the sake of another of them. */
    for (size_t i = count; i > count - later; i -= at_once) {
        results.values.clear();
        for (size_t k = i - at_once; k < i; k++) {
            ASSERT_EQ(send_counted(numbered_name(k), &results), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == at_once; }));
    }
    EXPECT_GE(server->asked(), count + later + (later - (256 - later)));
}

/* ---- Errors -------------------------------------------------------------------------------- */

TEST_P(NameError, GoesToTheCallbackOfTheSend)
{
    Results results;
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(send_counted("nowhere.test", &results), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 3; }));
    catch_up();
    EXPECT_EQ(results.values, repeated(DGRAM_ENOTFOUND, 3));
    EXPECT_EQ(failures.size(), 0u);
    EXPECT_EQ(stats_of(sender).send_errors, 3u);
    EXPECT_EQ(stats_of(sender).errors_lost, 0u);
    EXPECT_EQ(inbox.count(), 1u);
}

TEST_P(NameError, WithoutCallbackIsAnEventThatNamesTheHost)
{
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(send_plain("abc", "Nowhere.Test"), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return failures.size() == 3; }));
    catch_up();
    EXPECT_EQ(failures.size(), 3u);
    for (const Failure &failure : failures) {
        EXPECT_EQ(failure.code, DGRAM_ENOTFOUND);
        EXPECT_EQ(failure.operation, "send");
        EXPECT_EQ(strcasecmp(failure.host.c_str(), "nowhere.test"), 0) << failure.host;
        EXPECT_FALSE(failure.has_address);
    }
    EXPECT_EQ(stats_of(sender).send_errors, 3u);
    EXPECT_EQ(dgram_get_send_queue_count(sender), 0u);
}

TEST_P(NameError, MayBeAnsweredByAnotherTry)
{
    std::vector<int> values;
    Sent sent([&](struct dgram_socket *socket, int result) {
        values.push_back(result);
        if (values.size() == 1) {
            server->address("host.test", "127.0.0.1");
            EXPECT_EQ(dgram_send(socket, "abc", 3, port_of(target), "host.test", Sent::call, &sent),
                      0);
        }
    });
    ASSERT_EQ(dgram_send(sender, "abc", 3, port_of(target), "host.test", Sent::call, &sent), 0);
    ASSERT_TRUE(run_until(loop, [&] { return values.size() == 2; }));
    EXPECT_EQ(values, (std::vector<int>{DGRAM_ENOTFOUND, 3}));
}

TEST_P(NameError, WithoutHandlerIsCounted)
{
    ASSERT_EQ(dgram_on_error(sender, nullptr, nullptr), 0);
    ASSERT_EQ(send_plain("abc", "nowhere.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return dgram_get_send_queue_count(sender) == 0; }));
    settle(loop);
    EXPECT_EQ(stats_of(sender).errors_lost, 1u);
    EXPECT_EQ(stats_of(sender).send_errors, 1u);
}

/* Each socket hears of its own sends only, also when they wait for one name. */
TEST_P(NameError, ReachesEverySocketThatWaits)
{
    server->fail("host.test", dns::REFUSED);
    server->hold("host.test");
    Results results;
    std::vector<int> codes;
    struct dgram_socket *second = open_socket(loop);
    Handlers on;
    on.error = [&](struct dgram_socket *, const struct dgram_error *error) {
        codes.push_back(error->code);
    };
    on.attach(second);
    ASSERT_EQ(dgram_send(second, "x", 1, 9, "host.test", nullptr, nullptr), 0);
    ASSERT_EQ(dgram_send(second, "x", 1, 9, "host.test", Results::take, &results), 0);
    ASSERT_EQ(send_plain("abc", "host.test"), 0);
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return !codes.empty() && !failures.empty(); }));
    catch_up();
    EXPECT_EQ(codes, std::vector<int>{DGRAM_EDNSFAILED});
    EXPECT_EQ(results.values, std::vector<int>{DGRAM_EDNSFAILED});
    ASSERT_EQ(failures.size(), 1u);
    EXPECT_EQ(failures[0].code, DGRAM_EDNSFAILED);
}

/* What the kernel says of the address that was found is told of the address. */
TEST_P(NameError, OfTheAddressThatWasFoundNamesTheAddress)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "no address of loopback that is refused";
    }
    struct dgram_addr refused = refused_address();
    server->address("broadcast.test", text_of(&refused));
    ASSERT_EQ(send_plain("abc", "broadcast.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return failures.size() == 1; }));
    EXPECT_EQ(failures[0].code, -EACCES);
    EXPECT_EQ(failures[0].operation, "send");
    EXPECT_TRUE(failures[0].has_address);
    EXPECT_EQ(result_of("broadcast.test"), -EACCES);
}

/* ---- Bind ---------------------------------------------------------------------------------- */

/* A socket being bound to a name, with all that it says. */
struct Binding {
    struct dgram_socket *socket;
    Recorder log;
    Handlers on;
    std::vector<Failure> failures;
    bool closed = false;

    explicit Binding(struct dgram_loop *loop, uint32_t type = DGRAM_UDP4)
        : socket(open_socket(loop, type))
    {
        on.listening = [this](struct dgram_socket *) { log.add("listening"); };
        on.close = [this](struct dgram_socket *) {
            log.add("close");
            closed = true;
        };
        on.error = [this](struct dgram_socket *, const struct dgram_error *error) {
            log.add("error");
            failures.push_back({error->code, error->operation,
                                error->host != nullptr ? error->host : "",
                                error->address != nullptr});
        };
        on.attach(socket);
    }
    ~Binding()
    {
        if (!closed) {
            dgram_on_listening(socket, nullptr, nullptr);
            dgram_on_close(socket, nullptr, nullptr);
            dgram_on_error(socket, nullptr, nullptr);
        }
    }
};

TEST_P(NameBind, ListensWhenTheNameIsKnown)
{
    Binding binding(loop);
    struct dgram_addr address = {};
    server->address("self.test", "127.0.0.1");
    server->hold("self.test");
    ASSERT_EQ(dgram_bind(binding.socket, 0, "Self.test"), 0);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("self.test") == 1; }));
    settle(loop);
    EXPECT_EQ(binding.log.text(), "");
    EXPECT_EQ(dgram_address(binding.socket, &address), DGRAM_ENOTBOUND);
    EXPECT_EQ(dgram_bind(binding.socket, 0, "127.0.0.1"), DGRAM_EALREADYBOUND);
    EXPECT_EQ(dgram_bind(binding.socket, 0, "self.test"), DGRAM_EALREADYBOUND);
    server->release("self.test");
    ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("listening") == 1; }));
    ASSERT_EQ(dgram_address(binding.socket, &address), 0);
    EXPECT_EQ(text_of(&address), "127.0.0.1");
    EXPECT_NE(dgram_addr_port(&address), 0);
    EXPECT_EQ(dgram_bind(binding.socket, 0, "self.test"), DGRAM_EALREADYBOUND);
    expect_echo(loop, binding.socket);
    EXPECT_EQ(binding.log.text(), "listening");
}

TEST_P(NameBind, TakesThePortThatItWasGiven)
{
    for (uint32_t type : socket_types()) {
        Binding binding(loop, type);
        uint16_t port = private_port(type);
        std::string host = type == DGRAM_UDP6 ? "six.test" : "four.test";
        server->address(host, loopback(type));
        ASSERT_EQ(dgram_bind(binding.socket, port, host.c_str()), 0);
        ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("listening") == 1; }));
        EXPECT_EQ(port_of(binding.socket), port);
    }
}

/* A socket that waits for its name keeps the loop running, one whose bind failed does not. */
TEST_P(NameBind, KeepsTheLoopAliveWhileItWaits)
{
    Binding binding(loop);
    ASSERT_EQ(dgram_unref(target), 0);
    ASSERT_EQ(dgram_bind(binding.socket, 0, "nowhere.test"), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(binding.log.text(), "error");
}

TEST_P(NameBind, SendsWaitForIt)
{
    Binding binding(loop);
    Results results;
    server->address("self.test", "127.0.0.1");
    server->address("peer.test", "127.0.0.1");
    server->hold("self.test");
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    uint16_t port = port_of(target);
    for (const char *host : {"127.0.0.1", "peer.test", "127.0.0.1"}) {
        ASSERT_EQ(dgram_send(binding.socket, "abc", 3, port, host, Results::take, &results), 0);
        ASSERT_EQ(dgram_send(binding.socket, "abc", 3, port, host, nullptr, nullptr), 0);
    }
    EXPECT_EQ(result_of("peer.test"), 3); /* so that name is known, and yet they wait */
    settle(loop);
    EXPECT_EQ(results.values.size(), 0u);
    EXPECT_EQ(inbox.count(), 1u);
    EXPECT_EQ(dgram_get_send_queue_count(binding.socket), 6u);
    server->release("self.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 3 && inbox.count() == 7; }));
    EXPECT_EQ(results.values, repeated(3, 3));
    struct dgram_addr own = address_of(binding.socket);
    for (size_t i = 1; i < 7; i++) {
        EXPECT_TRUE(dgram_addr_equal(&inbox.from[i], &own)) << i;
    }
    EXPECT_EQ(binding.log.text(), "listening");
}

TEST_P(NameBind, UnknownNameIsAnErrorThatCompletesTheSendsAndMayBeRetried)
{
    Binding binding(loop);
    Results results;
    server->hold("self.test");
    struct dgram_addr to = address_of(target);
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, Results::take, &results), 0);
    ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, Results::take, &results), 0);
    ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, nullptr, nullptr), 0);
    server->release("self.test");
    ASSERT_TRUE(run_until(loop, [&] { return binding.failures.size() == 2; }));
    settle(loop);
    EXPECT_EQ(results.values, repeated(DGRAM_ENOTFOUND, 2));
    ASSERT_EQ(binding.failures.size(), 2u);
    EXPECT_EQ(binding.failures[0].operation, "bind");
    EXPECT_EQ(binding.failures[0].host, "self.test");
    EXPECT_EQ(binding.failures[0].code, DGRAM_ENOTFOUND);
    EXPECT_EQ(binding.failures[1].operation, "send");
    EXPECT_EQ(binding.failures[1].code, DGRAM_ENOTFOUND);
    EXPECT_EQ(inbox.count(), 0u);
    EXPECT_EQ(dgram_get_send_queue_count(binding.socket), 0u);
    EXPECT_EQ(dgram_address(binding.socket, &to), DGRAM_ENOTBOUND);

    server->address("self.test", "127.0.0.1");
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("listening") == 1; }));
    expect_echo(loop, binding.socket);
}

TEST_P(NameBind, MayBeRetriedInTheErrorHandler)
{
    Binding binding(loop);
    binding.on.error = [&](struct dgram_socket *which, const struct dgram_error *error) {
        binding.log.add("error");
        EXPECT_STREQ(error->host, "nowhere.test");
        EXPECT_EQ(dgram_bind(which, 0, "127.0.0.1"), 0);
    };
    ASSERT_EQ(dgram_bind(binding.socket, 0, "nowhere.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("listening") == 1; }));
    EXPECT_EQ(binding.log.text(), "error listening");
    expect_echo(loop, binding.socket);
}

/* The name is known, but its address is none of this host. */
TEST_P(NameBind, RefusedAddressIsAnErrorThatCompletesTheSends)
{
    Binding binding(loop);
    struct dgram_socket *probe = open_socket(loop);
    int refusal = dgram_bind(probe, 0, "203.0.113.1");
    if (refusal >= 0) {
        GTEST_SKIP() << "this host binds to foreign addresses";
    }
    Results results;
    struct dgram_addr to = address_of(target);
    server->address("foreign.test", "203.0.113.1");
    ASSERT_EQ(dgram_bind(binding.socket, 0, "foreign.test"), 0);
    ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, Results::take, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return !results.values.empty(); }));
    settle(loop);
    EXPECT_EQ(results.values, std::vector<int>{refusal});
    ASSERT_EQ(binding.failures.size(), 1u);
    EXPECT_EQ(binding.failures[0].operation, "bind");
    EXPECT_EQ(binding.failures[0].code, refusal);
    EXPECT_EQ(inbox.count(), 0u);
    expect_echo(loop, binding.socket);
}

/* Sends that wait for a name of their own wait for the bind as well: they must not leave a socket
 * that is bound nowhere, which the kernel would bind anywhere. */
TEST_P(NameBind, FailureCompletesSendsThatWaitForOtherNames)
{
    const std::pair<const char *, int> cases[] = {{"nowhere.test", DGRAM_ENOTFOUND},
                                                  {"foreign.test", -EADDRNOTAVAIL}};
    server->address("foreign.test", "203.0.113.1");
    server->address("peer.test", "127.0.0.1");
    for (const auto &one : cases) {
        SCOPED_TRACE(one.first);
        Binding binding(loop);
        Results results, of_others;
        server->hold("peer.test");
        ASSERT_EQ(dgram_bind(binding.socket, 0, one.first), 0);
        ASSERT_EQ(dgram_send(binding.socket, "abc", 3, port_of(target), "peer.test", Results::take,
                             &results),
                  0);
        ASSERT_EQ(send_counted("peer.test", &of_others), 0);
        ASSERT_TRUE(run_until(loop, [&] { return !binding.failures.empty(); }));
        settle(loop);
        EXPECT_EQ(results.values, std::vector<int>{one.second});
        EXPECT_EQ(of_others.values.size(), 0u);
        server->release("peer.test");
        ASSERT_TRUE(run_until(loop, [&] { return of_others.values.size() == 1; }));
        settle(loop);
        EXPECT_EQ(of_others.values[0], 3);
        EXPECT_EQ(results.values.size(), 1u);
        EXPECT_EQ(inbox.count(), 1u);
        EXPECT_EQ(dgram_bind(binding.socket, 0, "127.0.0.1"), 0);
        EXPECT_EQ(dgram_close(binding.socket), 0);
        ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("close") == 1; }));
        begin(names_options());
    }
}

TEST_P(NameBind, SocketsShareTheQuestion)
{
    server->address("self.test", "127.0.0.1");
    server->hold("self.test");
    Binding one(loop), two(loop), three(loop);
    Results results;
    for (Binding *binding : {&one, &two, &three}) {
        ASSERT_EQ(dgram_bind(binding->socket, 0, "self.test"), 0);
    }
    ASSERT_EQ(send_counted("self.test", &results), 0);
    ASSERT_EQ(dgram_close(two.socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return two.log.count("close") == 1; }));
    server->release("self.test");
    ASSERT_TRUE(run_until(loop, [&] {
        return one.log.count("listening") == 1 && three.log.count("listening") == 1 &&
               results.values.size() == 1;
    }));
    EXPECT_EQ(two.log.text(), "close");
    EXPECT_NE(port_of(one.socket), port_of(three.socket));
    EXPECT_EQ(results.values[0], 3);
    EXPECT_EQ(server->asked("self.test"), 1u);
}

/* Nothing leaves a socket that was never bound. */
TEST_P(NameBind, CloseWhileItWaitsCancelsTheSends)
{
    Binding binding(loop);
    Results results;
    struct dgram_addr to = address_of(target);
    server->address("self.test", "127.0.0.1");
    server->hold("self.test");
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("self.test") == 1; }));
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, Results::take, &results), 0);
    }
    ASSERT_EQ(dgram_close(binding.socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("close") == 1; }));
    EXPECT_EQ(results.values, repeated(-ECANCELED, 3));
    server->release("self.test");
    EXPECT_EQ(result_of("self.test"), 3); /* waits for the answer */
    settle(loop);
    EXPECT_EQ(results.values.size(), 3u);
    EXPECT_EQ(binding.log.text(), "close");
    EXPECT_EQ(inbox.payloads, std::vector<std::string>{"abc"}); /* the one that waited */
}

/* Closed in the turn in which the answer comes: one of the two wins, neither does harm. */
TEST_P(NameBind, CloseInTheTurnOfTheAnswer)
{
    struct dgram_lookup *asked = nullptr;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) { asked = lookup; };
    begin_with_hook(&hook);
    struct dgram_addr own = parse("127.0.0.1", 0);
    for (int code : {0, static_cast<int>(DGRAM_ENOTFOUND)}) {
        Binding binding(loop);
        Results results;
        asked = nullptr;
        struct dgram_addr to = address_of(target);
        ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
        ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, Results::take, &results), 0);
        ASSERT_TRUE(run_until(loop, [&] { return asked != nullptr; }));
        Ticker ticker(loop, MILLISECOND, [&](size_t count) {
            if (count == 1) {
                EXPECT_EQ(dgram_close(binding.socket), 0);
                EXPECT_EQ(dgram_lookup_answer(asked, code, &own, 60), 0);
            }
        });
        ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("close") == 1; }));
        EXPECT_EQ(binding.log.events.back(), "close");
        EXPECT_EQ(binding.log.count("listening"), 0u);
        ASSERT_EQ(results.values.size(), 1u);
        EXPECT_TRUE(results.values[0] == 3 || results.values[0] == -ECANCELED ||
                    results.values[0] == code);
    }
}

/* ---- The end of sockets and loops ---------------------------------------------------------- */

TEST_P(NameEnd, CloseCancelsWhatWaits)
{
    server->address("host.test", "127.0.0.1");
    server->address("other.test", "127.0.0.1");
    server->hold("host.test");
    server->hold("other.test");
    Recorder log;
    Handlers on;
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.error = [&](struct dgram_socket *, const struct dgram_error *error) {
        log.add(std::string("error ") + dgram_error_name(error->code) + " " + error->host);
    };
    Sent sent([&](struct dgram_socket *, int result) { log.add(dgram_error_name(result)); });
    Results of_others;
    struct dgram_socket *closing = open_socket(loop);
    on.attach(closing);
    uint16_t port = port_of(target);
    ASSERT_EQ(dgram_send(closing, "abc", 3, port, "host.test", Sent::call, &sent), 0);
    ASSERT_EQ(send_counted("host.test", &of_others), 0);
    ASSERT_EQ(dgram_send(closing, "abc", 3, port, "other.test", Sent::call, &sent), 0);
    ASSERT_EQ(dgram_send(closing, "abc", 3, port, "host.test", Sent::call, &sent), 0);
    ASSERT_EQ(dgram_send(closing, "abc", 3, port, "other.test", nullptr, nullptr), 0);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == 2; }));
    ASSERT_EQ(dgram_close(closing), 0);
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    EXPECT_EQ(log.text(), "ECANCELED ECANCELED ECANCELED error ECANCELED other.test close");
    server->release("host.test");
    server->release("other.test");
    ASSERT_TRUE(run_until(loop, [&] { return of_others.values.size() == 1; }));
    catch_up();
    EXPECT_EQ(of_others.values[0], 3);
    EXPECT_EQ(log.events.back(), "close");
    EXPECT_EQ(inbox.count(), 2u);
}

/* A question whose askers are all gone: its answer is remembered, or lost; nothing else. */
TEST_P(NameEnd, AnswerAfterTheLastSocketIsHarmless)
{
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    server->hold("nowhere.test");
    Results results;
    for (const char *host : {"host.test", "nowhere.test"}) {
        ASSERT_EQ(send_counted(host, &results), 0);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == 2; }));
    close_and_wait(loop, sender);
    EXPECT_EQ(results.values, repeated(-ECANCELED, 2));
    server->release("host.test");
    server->release("nowhere.test");
    sender = open_socket(loop);
    watch_errors(sender);
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(result_of("nowhere.test"), DGRAM_ENOTFOUND);
    EXPECT_EQ(results.values.size(), 2u);
    EXPECT_EQ(failures.size(), 0u);
}

TEST_P(NameEnd, EndWaitsForTheName)
{
    Recorder log;
    Handlers on;
    Sent sent([&](struct dgram_socket *, int result) { log.add(std::to_string(result)); });
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(sender);
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    for (int i = 0; i < 2; i++) {
        ASSERT_EQ(dgram_send(sender, "abc", 3, port_of(target), "host.test", Sent::call, &sent), 0);
    }
    ASSERT_EQ(dgram_end(sender), 0);
    EXPECT_EQ(send_plain("x", "host.test"), DGRAM_ENOTRUNNING);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") == 1; }));
    settle(loop);
    EXPECT_EQ(log.text(), "");
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1 && inbox.count() == 2; }));
    EXPECT_EQ(log.text(), "3 3 close");
}

TEST_P(NameEnd, EndFollowsWhenTheNameFails)
{
    Recorder log;
    Handlers on;
    Sent sent([&](struct dgram_socket *, int result) { log.add(dgram_error_name(result)); });
    on.close = [&](struct dgram_socket *) { log.add("close"); };
    on.attach(sender);
    server->hold("nowhere.test");
    ASSERT_EQ(dgram_send(sender, "abc", 3, port_of(target), "nowhere.test", Sent::call, &sent), 0);
    ASSERT_EQ(send_plain("abc", "nowhere.test"), 0);
    ASSERT_EQ(dgram_end(sender), 0);
    server->release("nowhere.test");
    ASSERT_TRUE(run_until(loop, [&] { return log.count("close") == 1; }));
    EXPECT_EQ(log.text(), "DGRAM_ENOTFOUND close");
    ASSERT_EQ(failures.size(), 1u);
    EXPECT_EQ(failures[0].code, DGRAM_ENOTFOUND);
}

TEST_P(NameEnd, EndWaitsForTheBind)
{
    Binding binding(loop);
    Results results;
    struct dgram_addr to = address_of(target);
    server->address("self.test", "127.0.0.1");
    server->hold("self.test");
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    ASSERT_EQ(dgram_send_to(binding.socket, "abc", 3, &to, Results::take, &results), 0);
    ASSERT_EQ(dgram_end(binding.socket), 0);
    server->release("self.test");
    ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("close") == 1; }));
    EXPECT_EQ(results.values, std::vector<int>{3});
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(binding.log.count("error"), 0u);
}

/* By UDP and by TCP, asked and not even asked yet. */
TEST_P(NameEnd, LoopFreeCompletesWhatWaits)
{
    server->address("slow.test", "127.0.0.1");
    server->hold("slow.test");
    server->script("big.test", by_tcp([](const dns::Question &question) {
                       dns::Deed deed = true_answer(question);
                       deed.stepwise = true;
                       return deed;
                   }));
    const struct dgram_loop_options options = names_options();
    for (int asked : {0, 1, 2}) {
        SCOPED_TRACE(asked);
        size_t before = server->asked();
        struct dgram_loop *doomed = make_loop(&options);
        Results results;
        Binding binding(doomed);
        struct dgram_socket *socket = open_socket(doomed);
        for (const char *host : {"slow.test", "big.test"}) {
            ASSERT_EQ(dgram_send(socket, "abc", 3, 9, host, Results::take, &results), 0);
            ASSERT_EQ(dgram_send(socket, "abc", 3, 9, host, nullptr, nullptr), 0);
        }
        ASSERT_EQ(dgram_bind(binding.socket, 0, "slow.test"), 0);
        if (asked > 0) {
            size_t questions = asked == 1 ? 2 : 3;
            ASSERT_TRUE(spin_until(doomed, [&] { return server->asked() >= before + questions; }));
        }
        EXPECT_EQ(dgram_loop_free(doomed), nullptr);
        EXPECT_EQ(results.values, repeated(-ECANCELED, 2));
        EXPECT_EQ(binding.log.events.back(), "close");
        EXPECT_EQ(binding.log.count("listening"), 0u);
        ASSERT_TRUE(wait_until([&] { return asked < 2 || server->asked() >= before + 3; }));
    }
}

TEST_P(NameEnd, LoopFreeInTheCallbackOfAName)
{
    const struct dgram_loop_options options = names_options();
    server->address("host.test", "127.0.0.1");
    server->silence("silent.test");
    struct dgram_loop *doomed = make_loop(&options);
    Results results;
    Sent sent([&](struct dgram_socket *, int) { dgram_loop_free(doomed); });
    struct dgram_socket *socket = open_socket(doomed);
    ASSERT_EQ(dgram_send(socket, "abc", 3, 9, "silent.test", Results::take, &results), 0);
    ASSERT_EQ(dgram_send(socket, "abc", 3, 9, "host.test", Sent::call, &sent), 0);
    EXPECT_EQ(dgram_loop_run(doomed), 1);
    EXPECT_EQ(results.values, std::vector<int>{-ECANCELED});
}

/* A handler of the error may free the loop, too, while the name is in use around it. */
TEST_P(NameEnd, LoopFreeInTheErrorHandler)
{
    const struct dgram_loop_options options = names_options();
    struct dgram_loop *doomed = make_loop(&options);
    size_t errors = 0;
    Handlers on;
    on.error = [&](struct dgram_socket *, const struct dgram_error *error) {
        EXPECT_STREQ(error->host, "nowhere.test");
        errors++;
        dgram_loop_free(doomed);
    };
    struct dgram_socket *socket = open_socket(doomed);
    on.attach(socket);
    for (int i = 0; i < 2; i++) {
        ASSERT_EQ(dgram_send(socket, "abc", 3, 9, "nowhere.test", nullptr, nullptr), 0);
    }
    EXPECT_EQ(dgram_loop_run(doomed), 1);
    EXPECT_EQ(errors, 2u);
}

/* A child frees its copy of a loop that waits for names: the parent is not woken and goes on. */
TEST_P(NameEnd, ForkedChildDoesNotDisturbTheParent)
{
    Results results;
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    server->script("big.test", by_tcp([](const dns::Question &question) {
                       dns::Deed deed = true_answer(question);
                       deed.stepwise = true;
                       return deed;
                   }));
    int fd = dgram_loop_fd(loop);
    ASSERT_EQ(send_counted("host.test", &results), 0);
    ASSERT_EQ(send_counted("big.test", &results), 0);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == 3; }));
    settle(loop);
    struct pollfd ready = {fd, POLLIN, 0};
    ASSERT_TRUE(fd < 0 || spin_until(loop, [&] { return poll(&ready, 1, 0) == 0; }));
    fflush(nullptr);
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        alarm(60 * patience());
        _exit(dgram_loop_free(loop) == nullptr ? 0 : 1);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_TRUE(fd < 0 || poll(&ready, 1, 0) == 0) << "the child woke the parent";
    server->release("host.test");
    Ticker ticker(loop, MILLISECOND, [&](size_t) { server->step(); });
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    EXPECT_EQ(results.values, repeated(3, 2));
}

/* ---- Queues and order ---------------------------------------------------------------------- */

TEST_P(NameQueue, CountsWhatWaitsAndDrains)
{
    struct dgram_socket_options options = socket_options();
    options.queue_limit = 6 * (100 + 64);
    struct dgram_socket *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
    Recorder log;
    Handlers on;
    on.drain = [&](struct dgram_socket *) { log.add("drain"); };
    on.attach(socket);
    Results results;
    const std::string payload(100, 'x');
    auto send = [&](const char *host) {
        return dgram_send(socket, payload.data(), payload.size(), port_of(target), host,
                          Results::take, &results);
    };
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    for (size_t i = 1; i <= 6; i++) {
        ASSERT_EQ(send("host.test"), 0);
        EXPECT_EQ(dgram_get_send_queue_count(socket), i);
        EXPECT_EQ(dgram_get_send_queue_size(socket), i * 100);
    }
    EXPECT_EQ(send("host.test"), -EAGAIN);
    EXPECT_EQ(send("127.0.0.1"), -EAGAIN);
    EXPECT_EQ(send("refused.test"), -EAGAIN);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") == 1; }));
    settle(loop);
    EXPECT_EQ(log.text(), "");
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return log.count("drain") == 1 && inbox.count() == 6; }));
    EXPECT_EQ(results.values, repeated(100, 6));
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
    EXPECT_EQ(dgram_get_send_queue_size(socket), 0u);
    EXPECT_EQ(send("host.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 7; }));
    EXPECT_EQ(log.text(), "drain");
    catch_up();
    EXPECT_EQ(server->asked("refused.test"), 0u); /* nothing was kept of what was refused */
    EXPECT_EQ(server->asked("host.test"), 1u);
}

TEST_P(NameQueue, DrainsWhenTheNameFails)
{
    struct dgram_socket_options options = socket_options();
    options.queue_limit = 100;
    struct dgram_socket *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
    size_t drains = 0;
    Handlers on;
    on.drain = [&](struct dgram_socket *) { drains++; };
    on.attach(socket);
    ASSERT_EQ(dgram_send(socket, "abc", 3, 9, "nowhere.test", nullptr, nullptr), 0);
    EXPECT_EQ(dgram_send(socket, "abc", 3, 9, "nowhere.test", nullptr, nullptr), -EAGAIN);
    ASSERT_TRUE(run_until(loop, [&] { return drains == 1; }));
    settle(loop);
    EXPECT_EQ(drains, 1u);
}

/* Bytes without a callback are copied before the call returns, others are borrowed. */
TEST_P(NameQueue, BytesAreTheCallersAgainWhenTheyShouldBe)
{
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    std::string copied = pattern(700, 1), borrowed = pattern(700, 2);
    Results results;
    ASSERT_EQ(send_plain(copied, "host.test"), 0);
    copied.assign(700, '#');
    ASSERT_EQ(dgram_send(sender, borrowed.data(), borrowed.size(), port_of(target), "host.test",
                         Results::take, &results),
              0);
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 2 && !results.values.empty(); }));
    EXPECT_TRUE(inbox.payloads[0] == pattern(700, 1));
    EXPECT_TRUE(inbox.payloads[1] == pattern(700, 2));
    EXPECT_EQ(results.values, std::vector<int>{700});
}

/* With and without callbacks, before and after the answer. */
TEST_P(NameQueue, SendsToANameKeepTheirOrder)
{
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    Results results;
    std::vector<std::string> payloads;
    for (unsigned i = 0; i < 60; i++) {
        payloads.push_back(numbered(i, 20 + i % 3));
    }
    auto send = [&](size_t i) {
        ASSERT_EQ(dgram_send(sender, payloads[i].data(), payloads[i].size(), port_of(target),
                             "host.test", i % 2 == 0 ? Results::take : nullptr, &results),
                  0);
    };
    size_t next = 0;
    while (next < 30) {
        send(next++);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") == 1; }));
    Ticker ticker(loop, MILLISECOND, [&](size_t count) {
        if (count == 3) {
            server->release("host.test");
        }
        for (int i = 0; i < 3 && next < payloads.size(); i++) {
            send(next++);
        }
    });
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == payloads.size(); }));
    EXPECT_TRUE(inbox.payloads == payloads);
    EXPECT_EQ(server->asked("host.test"), 1u);
}

TEST_P(NameQueue, OtherDestinationsDoNotWait)
{
    server->address("slow.test", "127.0.0.1");
    server->address("fast.test", "127.0.0.1");
    server->hold("slow.test");
    ASSERT_EQ(send_plain("slow", "slow.test"), 0);
    ASSERT_EQ(send_plain("literal", "127.0.0.1"), 0);
    ASSERT_EQ(send_plain("fast", "fast.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 2; }));
    EXPECT_EQ(inbox.payloads, (std::vector<std::string>{"literal", "fast"}));
    server->release("slow.test");
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 3; }));
    EXPECT_EQ(inbox.payloads[2], "slow");
}

/* The datagram joins the order of its destination when the name is resolved: before what a callback
 * of the same turn sends there, and behind what was sent there earlier in it. */
TEST_P(NameQueue, ResolvedSendIsBeforeWhatIsSentLater)
{
    struct dgram_lookup *asked = nullptr;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) { asked = lookup; };
    begin_with_hook(&hook);
    struct dgram_addr to = address_of(target);
    ASSERT_EQ(send_plain("b", "host.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return asked != nullptr; }));
    Recorder log;
    Tick tick([&](struct dgram_timer *) {
        log.add("tick");
        EXPECT_EQ(send_text(sender, "a", to), 0);
        EXPECT_EQ(dgram_lookup_answer(asked, 0, &to, 60), 0);
    });
    Sent after([&](struct dgram_socket *, int) {
        log.add("sent");
        EXPECT_EQ(send_text(sender, "c", to), 0);
        EXPECT_EQ(send_plain("d", "host.test"), 0);
    });
    Plain elsewhere;
    struct dgram_addr other = elsewhere.address();
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, 0, 0), 0);
    ASSERT_EQ(dgram_send_to(sender, "x", 1, &other, Sent::call, &after), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 4; }));
    EXPECT_EQ(log.text(), "tick sent"); /* timers come before the callbacks of sends */
    EXPECT_EQ(inbox.payloads, (std::vector<std::string>{"a", "b", "c", "d"}));
    dgram_timer_free(timer);
}

/* ---- The hook ------------------------------------------------------------------------------ */

struct Asked {
    struct dgram_lookup *lookup;
    std::string host;
    int family;
};

TEST_P(NameHook, IsAskedForTheNameInTheFamilyOfTheSocket)
{
    std::vector<Asked> asked;
    Hook hook;
    bool in_turn = false;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &host, int family) {
        EXPECT_TRUE(in_turn);
        asked.push_back({lookup, host, family});
        struct dgram_addr address = parse(family == 4 ? "127.0.0.1" : "::1", 1234);
        EXPECT_EQ(dgram_lookup_answer(lookup, 0, &address, 60), 0);
    };
    begin_with_hook(&hook);
    for (uint32_t type : socket_types()) {
        Inbox own;
        struct dgram_socket *peer = open_inbox(loop, &own, type), *socket = open_socket(loop, type);
        in_turn = false;
        for (int i = 0; i < 3; i++) {
            ASSERT_EQ(dgram_send(socket, "x", 1, port_of(peer), "host.test", nullptr, nullptr), 0);
        }
        in_turn = true;
        ASSERT_TRUE(run_until(loop, [&] { return own.count() == 3; }));
        ASSERT_EQ(asked.size(), type == DGRAM_UDP4 ? 1u : 2u);
        EXPECT_EQ(asked.back().host, "host.test");
        EXPECT_EQ(asked.back().family, type == DGRAM_UDP4 ? 4 : 6);
    }
    EXPECT_EQ(server->asked(), 0u);
}

/* Later in a callback, and between turns. One question for all that wait, one for each name. */
TEST_P(NameHook, MayBeAnsweredLater)
{
    std::vector<Asked> asked;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &host, int family) {
        asked.push_back({lookup, host, family});
    };
    begin_with_hook(&hook);
    Results one, two;
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(send_counted("one.test", &one), 0);
        ASSERT_EQ(send_counted("TWO.test", &two), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return asked.size() == 2; }));
    settle(loop);
    EXPECT_EQ(asked.size(), 2u);
    EXPECT_EQ(one.values.size() + two.values.size(), 0u);
    struct dgram_addr address = parse("127.0.0.1", 0);
    ASSERT_EQ(dgram_lookup_answer(asked[1].lookup, 0, &address, 60), 0);
    EXPECT_EQ(two.values.size(), 0u); /* never inside the call */
    ASSERT_TRUE(run_until(loop, [&] { return two.values.size() == 4; }));
    EXPECT_EQ(one.values.size(), 0u);
    Ticker ticker(loop, MILLISECOND, [&](size_t count) {
        if (count == 5) {
            EXPECT_EQ(dgram_lookup_answer(asked[0].lookup, 0, &address, 60), 0);
        }
    });
    ASSERT_TRUE(run_until(loop, [&] { return one.values.size() == 4 && inbox.count() == 8; }));
    EXPECT_EQ(one.values, repeated(3, 4));
    EXPECT_EQ(result_of("two.test"), 3);
    EXPECT_EQ(asked.size(), 2u);
}

TEST_P(NameHook, ItsErrorsAreTheResults)
{
    int code = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        EXPECT_EQ(dgram_lookup_answer(lookup, code, nullptr, 60), 0);
    };
    begin_with_hook(&hook);
    for (int each : {static_cast<int>(DGRAM_ENOTFOUND), static_cast<int>(DGRAM_EDNSTIMEOUT),
                     -EHOSTUNREACH, -ENOMEM}) {
        code = each;
        EXPECT_EQ(result_of("host.test"), each);
        failures.clear();
        ASSERT_EQ(send_plain("abc", "host.test"), 0);
        ASSERT_TRUE(run_until(loop, [&] { return failures.size() == 1; }));
        EXPECT_EQ(failures[0].code, each);
        EXPECT_EQ(failures[0].host, "host.test");
    }
}

TEST_P(NameHook, WrongAnswersAreTold)
{
    struct dgram_addr address = {};
    int expected = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        EXPECT_EQ(dgram_lookup_answer(lookup, 0, nullptr, 60), DGRAM_ENULL); /* still open */
        EXPECT_EQ(dgram_lookup_answer(lookup, 0, &address, 60), expected);
    };
    begin_with_hook(&hook);
    EXPECT_EQ(dgram_lookup_answer(nullptr, 0, &address, 60), DGRAM_ENULL);
    expected = DGRAM_EBADFAMILY;
    EXPECT_EQ(result_of("none.test"), DGRAM_EBADFAMILY);
    address = parse("::1", 0);
    EXPECT_EQ(result_of("six.test"), DGRAM_EBADFAMILY);
    address = parse("127.0.0.1", 0);
    address.size = 0; /* no address, whatever stands there */
    EXPECT_EQ(result_of("empty.test"), DGRAM_EBADFAMILY);
    address = parse("127.0.0.1", 0);
    expected = 0;
    EXPECT_EQ(result_of("six.test"), 3);
}

TEST_P(NameHook, AnswerLivesForItsTtl)
{
    size_t count = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &host, int) {
        count++;
        struct dgram_addr address = parse("127.0.0.1", 0);
        dgram_lookup_answer(lookup, 0, &address, host == "short.test" ? 0 : 0xffffffffu);
    };
    begin_with_hook(&hook);
    for (const char *host : {"short.test", "long.test"}) {
        EXPECT_EQ(result_of(host), 3);
        EXPECT_EQ(result_of(host), 3);
    }
    let_pass(loop, TTL_OVER);
    size_t before = count;
    EXPECT_EQ(result_of("long.test"), 3);
    EXPECT_EQ(count, before);
    EXPECT_EQ(result_of("short.test"), 3);
    EXPECT_EQ(count, before + 1);
}

TEST_P(NameHook, BindsAndHandlesAskIt)
{
    std::vector<std::string> hosts;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &host, int) {
        hosts.push_back(host);
        struct dgram_addr address = parse("127.0.0.1", 7);
        dgram_lookup_answer(lookup, host == "nowhere.test" ? DGRAM_ENOTFOUND : 0, &address, 60);
    };
    begin_with_hook(&hook);
    Binding binding(loop);
    ASSERT_EQ(dgram_bind(binding.socket, 0, "nowhere.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return binding.failures.size() == 1; }));
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    ASSERT_TRUE(run_until(loop, [&] { return binding.log.count("listening") == 1; }));
    EXPECT_NE(port_of(binding.socket), 7);
    struct dgram_destination *destination = nullptr;
    ASSERT_EQ(
        dgram_destination_create(loop, DGRAM_UDP4, port_of(target), "peer.test", &destination), 0);
    ASSERT_EQ(dgram_send_dest(sender, "x", 1, destination, nullptr, nullptr), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(hosts, (std::vector<std::string>{"nowhere.test", "self.test", "peer.test"}));
    dgram_destination_free(destination);
}

/* A callback may call anything: send to the same and to other names, bind, close. */
TEST_P(NameHook, MayUseTheLoop)
{
    size_t closes = 0, calls = 0;
    Results inner, cancelled;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    Hook hook;
    struct dgram_socket *victim = nullptr;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &host, int) {
        struct dgram_addr address = parse("127.0.0.1", 0);
        calls++;
        if (host == "first.test") {
            EXPECT_EQ(send_counted("first.test", &inner), 0);
            for (size_t i = 0; i < 300; i++) { /* more than are remembered */
                EXPECT_EQ(send_counted(numbered_name(i), &inner), 0);
            }
            EXPECT_EQ(dgram_close(victim), 0);
            EXPECT_EQ(dgram_loop_turn(loop, 0), DGRAM_EREENTERED);
        }
        EXPECT_EQ(host.empty(), false);
        dgram_lookup_answer(lookup, 0, &address, 60);
    };
    begin_with_hook(&hook);
    victim = open_socket(loop);
    on.attach(victim);
    ASSERT_EQ(dgram_send(victim, "x", 1, 9, "first.test", Results::take, &cancelled), 0);
    ASSERT_TRUE(run_until(loop, [&] { return closes == 1 && inner.values.size() == 301; }));
    EXPECT_EQ(inner.values, repeated(3, 301));
    EXPECT_EQ(cancelled.values.size(), 1u);
    EXPECT_EQ(calls, 301u);
}

TEST_P(NameHook, MayAnswerAfterTheLoopWasFreed)
{
    std::vector<struct dgram_lookup *> asked;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        asked.push_back(lookup);
    };
    struct dgram_loop_options options = names_options();
    options.lookup = Hook::call;
    options.lookup_user = &hook;
    struct dgram_loop *doomed = make_loop(&options);
    Results results;
    Binding binding(doomed);
    struct dgram_socket *socket = open_socket(doomed);
    for (const char *host : {"one.test", "two.test", "three.test", "four.test"}) {
        ASSERT_EQ(dgram_send(socket, "abc", 3, 9, host, Results::take, &results), 0);
    }
    ASSERT_EQ(dgram_bind(binding.socket, 0, "self.test"), 0);
    ASSERT_TRUE(run_until(doomed, [&] { return asked.size() == 5; }));
    struct dgram_addr address = parse("127.0.0.1", 0), sixth = parse("::1", 0);
    ASSERT_EQ(dgram_lookup_answer(asked[0], 0, &address, 60), 0); /* not acted upon any more */
    EXPECT_EQ(dgram_loop_free(doomed), nullptr);
    EXPECT_EQ(results.values.size(), 4u);
    EXPECT_EQ(binding.log.events.back(), "close");
    EXPECT_EQ(dgram_lookup_answer(asked[1], 0, &address, 60), 0);
    EXPECT_EQ(dgram_lookup_answer(asked[2], DGRAM_ENOTFOUND, nullptr, 0), 0);
    (void) dgram_lookup_answer(asked[3], 0, &sixth, 60);
    EXPECT_EQ(dgram_lookup_answer(asked[4], 0, nullptr, 60), DGRAM_ENULL);
    EXPECT_EQ(dgram_lookup_answer(asked[4], 0, &address, 60), 0);
    EXPECT_EQ(results.values.size(), 4u);
}

/* The loop is freed by the hook itself, before and after it answers. */
TEST_P(NameHook, MayFreeTheLoop)
{
    for (int answers : {0, 1, 2}) { /* never inside, before, after */
        SCOPED_TRACE(answers);
        struct dgram_loop *doomed = nullptr;
        std::vector<struct dgram_lookup *> late;
        Hook hook;
        hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
            struct dgram_addr address = parse("127.0.0.1", 0);
            if (answers == 0) {
                late.push_back(lookup);
            } else if (answers == 1) {
                dgram_lookup_answer(lookup, 0, &address, 60);
            }
            dgram_loop_free(doomed);
            if (answers == 2) {
                dgram_lookup_answer(lookup, 0, &address, 60);
            }
        };
        struct dgram_loop_options options = loop_options();
        options.lookup = Hook::call;
        options.lookup_user = &hook;
        doomed = make_loop(&options);
        Results results;
        struct dgram_socket *socket = open_socket(doomed);
        for (const char *host : {"one.test", "two.test"}) {
            ASSERT_EQ(dgram_send(socket, "abc", 3, port_of(target), host, Results::take, &results),
                      0);
        }
        EXPECT_EQ(dgram_loop_run(doomed), 1);
        EXPECT_EQ(results.values.size(), 2u);
        for (struct dgram_lookup *lookup : late) {
            EXPECT_EQ(dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 0), 0);
        }
    }
}

/* ---- Destinations -------------------------------------------------------------------------- */

/* A handle that is freed with the test. */
struct Destination {
    struct dgram_destination *handle = nullptr;

    Destination(struct dgram_loop *loop, uint16_t port, const char *host,
                uint32_t type = DGRAM_UDP4)
    {
        EXPECT_EQ(dgram_destination_create(loop, type, port, host, &handle), 0) << host;
    }
    ~Destination()
    {
        handle = dgram_destination_free(handle);
    }
    Destination(const Destination &) = delete;
    Destination &operator=(const Destination &) = delete;

    int send(struct dgram_socket *socket, Results *results = nullptr)
    {
        return dgram_send_dest(socket, "abc", 3, handle,
                               results != nullptr ? Results::take : nullptr, results);
    }
};

TEST_P(NameDestination, RefusesWhatIsWrong)
{
    struct dgram_destination *none = nullptr;
    EXPECT_EQ(dgram_destination_create(nullptr, DGRAM_UDP4, 9, "a.test", &none), DGRAM_ENULL);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, "a.test", nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_destination_create(loop, 5, 9, "a.test", &none), DGRAM_EBADTYPE);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 0, "a.test", &none), DGRAM_EBADPORT);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, "::1", &none), DGRAM_EBADFAMILY);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP6, 9, "127.0.0.1", &none), DGRAM_EBADFAMILY);
    EXPECT_EQ(none, nullptr);
    EXPECT_EQ(dgram_destination_free(nullptr), nullptr);

    struct dgram_addr address = {};
    Destination literal(loop, 9, "::1", DGRAM_UDP6), named(loop, 9, "host.test", DGRAM_UDP6);
    for (struct dgram_destination *handle : {literal.handle, named.handle}) {
        EXPECT_EQ(dgram_send_dest(sender, "x", 1, handle, nullptr, nullptr), DGRAM_EBADFAMILY);
        EXPECT_EQ(dgram_send_dest(nullptr, "x", 1, handle, nullptr, nullptr), DGRAM_ENULL);
    }
    EXPECT_EQ(dgram_send_dest(sender, "x", 1, nullptr, nullptr, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_address(sender, &address), DGRAM_ENOTBOUND) << "a refused send binds nothing";
    Destination fine(loop, 9, "127.0.0.1");
    EXPECT_EQ(dgram_send_dest(sender, nullptr, 1, fine.handle, nullptr, nullptr), DGRAM_ENULL);
    const std::string large(DGRAM_UDP4_SIZE_MAX + 1, 'x');
    EXPECT_EQ(dgram_send_dest(sender, large.data(), large.size(), fine.handle, nullptr, nullptr),
              -EMSGSIZE);
    ASSERT_EQ(dgram_close(sender), 0);
    EXPECT_EQ(fine.send(sender), DGRAM_ENOTRUNNING);
    EXPECT_EQ(server->asked(), 0u);
}

TEST_P(NameDestination, OfALiteralSendsThere)
{
    for (uint32_t type : socket_types()) {
        Inbox own;
        Results results;
        struct dgram_socket *peer = open_inbox(loop, &own, type), *socket = open_socket(loop, type);
        for (const char *text : {loopback(type), static_cast<const char *>(nullptr), ""}) {
            Destination destination(loop, port_of(peer), text, type);
            EXPECT_EQ(destination.send(socket, &results), 0);
            EXPECT_EQ(destination.send(socket), 0);
        }
        ASSERT_TRUE(
            run_until(loop, [&] { return own.count() == 6 && results.values.size() == 3; }));
        EXPECT_EQ(results.values, repeated(3, 3));
    }
}

TEST_P(NameDestination, LooksItsNameUpWithTheFirstSend)
{
    server->address("host.test", "127.0.0.1");
    Destination one(loop, port_of(target), "host.test"), two(loop, port_of(target), "HOST.test");
    settle(loop);
    catch_up();
    EXPECT_EQ(server->asked("host.test"), 0u);
    Results results;
    struct dgram_socket *second = open_socket(loop);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(one.send(sender, &results), 0);
        EXPECT_EQ(two.send(second, &results), 0);
        EXPECT_EQ(send_counted("host.test", &results), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 9 && inbox.count() == 10; }));
    EXPECT_EQ(one.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 11; }));
    EXPECT_EQ(results.values, repeated(3, 10));
    EXPECT_EQ(server->asked("host.test"), 1u);
}

TEST_P(NameDestination, FirstLookupThatFailsIsTold)
{
    Destination destination(loop, port_of(target), "nowhere.test");
    Results results;
    EXPECT_EQ(destination.send(sender, &results), 0);
    EXPECT_EQ(destination.send(sender), 0);
    ASSERT_TRUE(
        run_until(loop, [&] { return results.values.size() == 1 && failures.size() == 1; }));
    EXPECT_EQ(results.values[0], DGRAM_ENOTFOUND);
    EXPECT_EQ(failures[0].code, DGRAM_ENOTFOUND);
    EXPECT_EQ(failures[0].host, "nowhere.test");
    server->address("nowhere.test", "127.0.0.1");
    EXPECT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    EXPECT_EQ(results.values[1], 3);
}

TEST_P(NameDestination, FreedWhileSendsWait)
{
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    Results results;
    {
        Destination destination(loop, port_of(target), "host.test");
        EXPECT_EQ(destination.send(sender, &results), 0);
        EXPECT_EQ(destination.send(sender), 0);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") == 1; }));
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1 && inbox.count() == 2; }));
    EXPECT_EQ(results.values[0], 3);
}

/* After its TTL the old address serves while the new one is asked for, once. */
TEST_P(NameDestination, IsRefreshedInTheBackground)
{
    Results results;
    server->address("host.test", "127.0.0.1", 1);
    Destination destination(loop, port_of(target), "host.test");
    auto send = [&] {
        size_t before = results.values.size();
        ASSERT_EQ(destination.send(sender, &results), 0);
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == before + 1; }));
        EXPECT_EQ(results.values.back(), 3);
    };
    send();
    EXPECT_EQ(server->asked("host.test"), 1u);
    server->address("host.test", "127.0.0.9", 60);
    server->hold("host.test");
    let_pass(loop, TTL_OVER);
    for (int i = 0; i < 4; i++) {
        send(); /* though nobody answers */
    }
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 5; }));
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") == 2; }));
    server->release("host.test");
    EXPECT_EQ(result_of("host.test"), 3); /* waits for the answer */
    send();
    settle(loop);
    EXPECT_EQ(inbox.count(), 5u) << "the old address is still in use";
    EXPECT_EQ(server->asked("host.test"), 2u);
}

TEST_P(NameDestination, KeepsTheLastGoodAddressWhenARefreshFails)
{
    server->address("host.test", "127.0.0.1", 1);
    Results results;
    Destination destination(loop, port_of(target), "host.test");
    ASSERT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    let_pass(loop, TTL_OVER);
    const std::pair<dns::Rcode, int> cases[] = {{dns::NXDOMAIN, DGRAM_ENOTFOUND},
                                                {dns::SERVFAIL, DGRAM_EDNSFAILED},
                                                {dns::NOERROR, DGRAM_ENOTFOUND}};
    for (const auto &one : cases) {
        server->fail("host.test", one.first);
        ASSERT_EQ(destination.send(sender, &results), 0);
        EXPECT_EQ(result_of("host.test"), one.second); /* waits for the answer */
    }
    ASSERT_EQ(destination.send(sender), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 5; }));
    EXPECT_EQ(results.values, repeated(3, 4));
    EXPECT_EQ(failures.size(), 0u);
}

/* A handle's patience is the handle's: who sends to the name itself gets an answer that lives. */
TEST_P(NameDestination, DoesNotServeSendsToTheNameAfterItsTtl)
{
    server->address("host.test", "127.0.0.1", 1);
    Destination destination(loop, port_of(target), "host.test");
    Results results;
    ASSERT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    let_pass(loop, TTL_OVER);
    server->fail("host.test", dns::NXDOMAIN);
    EXPECT_EQ(result_of("host.test"), DGRAM_ENOTFOUND);
    EXPECT_EQ(server->asked("host.test"), 2u);
    ASSERT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    EXPECT_EQ(results.values, repeated(3, 2));
}

/* Who sends to the name waits for a new answer, and the handle's sends behind him; when there is
 * none, the handle still has its address. */
TEST_P(NameDestination, KeepsItsAddressBehindSendsThatFail)
{
    server->address("host.test", "127.0.0.1", 1);
    Destination destination(loop, port_of(target), "host.test");
    Results results, of_handle;
    ASSERT_EQ(destination.send(sender, &of_handle), 0);
    ASSERT_TRUE(run_until(loop, [&] { return of_handle.values.size() == 1; }));
    let_pass(loop, TTL_OVER);
    server->fail("host.test", dns::NXDOMAIN);
    server->hold("host.test");
    ASSERT_EQ(send_counted("host.test", &results), 0);
    ASSERT_EQ(destination.send(sender, &of_handle), 0);
    ASSERT_EQ(send_counted("host.test", &results), 0);
    ASSERT_EQ(destination.send(sender), 0);
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2 && inbox.count() == 3; }));
    EXPECT_EQ(results.values, repeated(DGRAM_ENOTFOUND, 2));
    EXPECT_EQ(of_handle.values, repeated(3, 2));
    EXPECT_EQ(failures.size(), 0u);
}

/* What others once knew of the name is no last good address of a new handle. */
TEST_P(NameDestination, DoesNotBeginWithAnExpiredAddress)
{
    server->address("host.test", "127.0.0.9", 1);
    EXPECT_EQ(result_of("host.test"), 3);
    server->address("host.test", "127.0.0.1", 60);
    let_pass(loop, TTL_OVER);
    Results results;
    Destination destination(loop, port_of(target), "host.test");
    ASSERT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    EXPECT_EQ(results.values[0], 3);
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(server->asked("host.test"), 2u);
}

/* Whole payloads and joined pieces, with callbacks and without, to handles whose names are not known
 * yet and to a literal. */
TEST_P(NameDestination, TakesPartInSendMany)
{
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    Destination named(loop, port_of(target), "host.test"), unknown(loop, 9, "nowhere.test");
    Destination literal(loop, port_of(target), "127.0.0.1"), sixth(loop, 9, "a.test", DGRAM_UDP6);
    std::string whole = "whole", head = "pie", tail = "ces";
    const struct iovec pieces[] = {{&head[0], head.size()}, {&tail[0], tail.size()}};
    struct dgram_destination *const handles[] = {named.handle, named.handle, literal.handle,
                                                 unknown.handle, sixth.handle};
    struct dgram_outgoing items[5] = {};
    for (size_t i = 0; i < 5; i++) {
        items[i].destination = handles[i];
        items[i].data = whole.data();
        items[i].size = whole.size();
    }
    items[1].pieces = pieces;
    items[1].piece_count = 2;
    Results results;
    EXPECT_EQ(dgram_send_many(sender, items, 5, Results::take, &results), 4);
    EXPECT_EQ(items[4].status, DGRAM_EBADFAMILY);
    head = tail = "###"; /* pieces are copied in the call */
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 4 && inbox.count() == 3; }));
    EXPECT_EQ(inbox.payloads, (std::vector<std::string>{"whole", "whole", "pieces"}));
    EXPECT_EQ(std::count(results.values.begin(), results.values.end(), DGRAM_ENOTFOUND), 1);
}

/* A handle whose address has expired does not keep the loop running for its sake. */
TEST_P(NameDestination, RefreshDoesNotKeepTheLoopAlive)
{
    server->address("host.test", "127.0.0.1", 1);
    Destination destination(loop, port_of(target), "host.test");
    ASSERT_EQ(destination.send(sender), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    let_pass(loop, TTL_OVER);
    server->silence("host.test");
    ASSERT_EQ(dgram_unref(sender), 0);
    ASSERT_EQ(dgram_unref(target), 0);
    ASSERT_EQ(destination.send(sender), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

/* Handles keep their names, however many others come and go. */
TEST_P(NameDestination, ManyHandlesKeepTheirNames)
{
    std::vector<std::unique_ptr<Destination>> handles;
    Results results;
    constexpr size_t count = 300, at_once = 50;
    for (size_t i = 0; i < count; i++) {
        server->address(numbered_name(i), "127.0.0.1", 3600);
        handles.emplace_back(new Destination(loop, port_of(target), numbered_name(i).c_str()));
    }
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < count; i++) {
            ASSERT_EQ(handles[i]->send(sender, &results), 0);
            if ((i + 1) % at_once == 0) {
                size_t expected = static_cast<size_t>(round) * count + i + 1;
                ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == expected; }));
            }
        }
    }
    catch_up();
    EXPECT_EQ(results.values, repeated(3, 2 * count));
    EXPECT_EQ(server->asked(), count + 1);
}

/* ---- The configuration --------------------------------------------------------------------- */

/* The strings of the options are not kept. */
TEST_P(NameConfiguration, OptionsAreCopied)
{
    std::string own_servers = servers, own_file = resolv_conf;
    struct dgram_loop_options options = loop_options();
    options.dns_servers = own_servers.c_str();
    options.resolv_conf = own_file.c_str();
    begin(options);
    std::fill(own_servers.begin(), own_servers.end(), '#');
    std::fill(own_file.begin(), own_file.end(), '#');
    server->address("host.test", "127.0.0.1");
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(server->asked("host.test"), 1u);
}

/* What cannot be read as servers, or a file that does not exist, spoils names and nothing else. */
TEST_P(NameConfiguration, ThatIsWrongSpoilsNamesOnly)
{
    for (const char *bad : {"nonsense", "127.0.0.1,nonsense", "256.1.1.1", ",", "host:53"}) {
        servers = bad;
        begin(names_options());
        EXPECT_EQ(result_of("host.test"), DGRAM_EDNSFAILED) << bad;
        EXPECT_EQ(result_of("127.0.0.1"), 3) << bad;
        Binding binding(loop);
        ASSERT_EQ(dgram_bind(binding.socket, 0, "host.test"), 0);
        ASSERT_TRUE(run_until(loop, [&] { return binding.failures.size() == 1; }));
    }
}

TEST_P(NameConfiguration, FileMayBeMissing)
{
    server->address("host.test", "127.0.0.1");
    unlink(resolv_conf.c_str());
    begin(names_options());
    EXPECT_EQ(result_of("host.test"), 3);
}

/* Rewritten in place, replaced by another file, deleted: the next question goes by what is there. The
 * search list shows it, because ports cannot be told in the file. */
TEST_P(NameConfiguration, ChangeOfTheFileIsNoticed)
{
    for (const char *list : {"one.test", "two.test", "three.test"}) {
        server->address(std::string("host.") + list, "127.0.0.1", 1);
    }
    auto write = [&](const std::string &path, const std::string &list) {
        std::ofstream file(path, std::ios::trunc);
        file << "search " << list << "\nlookup file bind\n" << patient_options;
    };
    auto expect_asked = [&](size_t one, size_t two, size_t three) {
        EXPECT_EQ(server->asked("host.one.test"), one);
        EXPECT_EQ(server->asked("host.two.test"), two);
        EXPECT_EQ(server->asked("host.three.test"), three);
    };
    write(resolv_conf, "one.test");
    begin(names_options());
    struct dgram_socket *first = open_socket(loop, DGRAM_UDP4);
    EXPECT_EQ(dgram_close(first), 0);
    EXPECT_EQ(result_of("host"), 3);
    expect_asked(1, 0, 0);
    let_pass(loop, TTL_OVER); /* also moves the file's time, whatever its grain */
    write(resolv_conf, "two.test");
    EXPECT_EQ(result_of("host"), 3);
    expect_asked(1, 1, 0);
    let_pass(loop, TTL_OVER);
    write(resolv_conf + ".new", "three.test");
    ASSERT_EQ(rename((resolv_conf + ".new").c_str(), resolv_conf.c_str()), 0);
    EXPECT_EQ(result_of("host"), 3);
    expect_asked(1, 1, 1);
}

/* Questions that are under way keep their servers; the change is seen when they are done. */
TEST_P(NameConfiguration, ChangeDoesNotDisturbQuestionsUnderWay)
{
    Results results;
    server->address("slow.test", "127.0.0.1");
    server->hold("slow.test");
    server->address("host.search.test", "127.0.0.1");
    server->address("host.other.test", "127.0.0.1");
    ASSERT_EQ(send_counted("slow.test", &results), 0);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("slow.test") == 1; }));
    {
        std::ofstream file(resolv_conf, std::ios::trunc);
        file << "search other.test\nlookup file bind\n# longer than before\n" << patient_options;
    }
    catch_up();
    server->release("slow.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    EXPECT_EQ(results.values[0], 3);
    EXPECT_EQ(result_of("host"), 3);
    EXPECT_EQ(server->asked("host.other.test"), 1u);
}

/* A network of this thread's own, where port 53 is free; false where that is not permitted. */
bool enter_own_network()
{
    if (unshare(CLONE_NEWNET) < 0) {
        return false;
    }
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {};
    strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    close(fd);
    return up;
}

/* `nameserver` lines have no port: this needs port 53 of two addresses. */
TEST_P(NameConfiguration, ServersOfTheFileAreAskedAndMayChange)
{
    bool permitted = true;
    auto write = [&](const std::string &address) {
        std::ofstream file(resolv_conf, std::ios::trunc);
        file << "nameserver " << address << "\nsearch search.test\n" << patient_options;
    };
    std::thread thread([&] {
        permitted = enter_own_network();
        if (!permitted) {
            return;
        }
        dns::Server one("127.0.0.2", 53), two("127.0.0.33", 53);
        one.address("a.test", "127.0.0.1");
        two.address("b.test", "127.0.0.1");
        write("127.0.0.2");
        struct dgram_loop_options options = names_options();
        options.dns_servers = nullptr;
        struct dgram_loop *own = make_loop(&options);
        struct dgram_socket *socket = open_socket(own);
        Results results;
        EXPECT_EQ(dgram_send(socket, "abc", 3, 9, "a.test", Results::take, &results), 0);
        EXPECT_TRUE(run_until(own, [&] { return results.values.size() == 1; }));
        write("127.0.0.33");
        EXPECT_EQ(dgram_send(socket, "abc", 3, 9, "b.test", Results::take, &results), 0);
        EXPECT_TRUE(run_until(own, [&] { return results.values.size() == 2; }));
        EXPECT_EQ(results.values, repeated(3, 2));
        EXPECT_EQ(one.asked("b.test"), 0u);
        EXPECT_EQ(two.asked(), 1u);
        dgram_loop_free(own);
    });
    thread.join();
    if (!permitted) {
        GTEST_SKIP() << "a network of its own, for port 53, is not permitted";
    }
}

} /* namespace */
