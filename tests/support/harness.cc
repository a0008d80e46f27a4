/* SPDX-License-Identifier: MIT */
/* harness.cc: see harness.h. */
#include "tests/support/harness.h"

#include "tests/sim/sim.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <ostream>

namespace harness
{

/* ---- Engines ------------------------------------------------------------------------------- */

/* Literals never reach a resolver, and no test asks a name server. A test of names sets its own. */
static void refuse_lookup(struct dgram_loop *, struct dgram_lookup *lookup, const char *host, int,
                          void *)
{
    ADD_FAILURE() << "\"" << host << "\" was to be looked up";
    dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 0);
}

static struct dgram_loop_options options_or_own(const struct dgram_loop_options *options,
                                                uint32_t engine)
{
    struct dgram_loop_options own = options != nullptr ? *options : loop_options();
    own.engine = engine;
    if (own.lookup == nullptr && own.dns_servers == nullptr && own.resolv_conf == nullptr) {
        own.lookup = refuse_lookup;
    }
    return own;
}

static int create_with_engine(uint32_t engine, const struct dgram_loop_options *options,
                              struct dgram_loop **ret_loop)
{
    struct dgram_loop_options own = options_or_own(options, engine);
    return patiently([&] { return dgram_loop_create(&own, ret_loop); });
}

static int create_uring(const struct dgram_loop_options *options, struct dgram_loop **ret_loop)
{
    return create_with_engine(DGRAM_ENGINE_URING, options, ret_loop);
}

static int create_poll(const struct dgram_loop_options *options, struct dgram_loop **ret_loop)
{
    return create_with_engine(DGRAM_ENGINE_POLL, options, ret_loop);
}

static int create_sim(const struct dgram_loop_options *options, struct dgram_loop **ret_loop)
{
    struct dgram_loop_options own = options_or_own(options, DGRAM_ENGINE_AUTO);
    return sim_loop_create(&own, ret_loop);
}

static bool simulated; /* a world is open: its clock is the one that counts */

/* A world of its own for each test, in which nothing goes wrong by chance. */
static void begin_sim()
{
    static const struct sim_faults none = {};
    static const struct sim_hooks hooks = {
        nullptr, nullptr, nullptr, nullptr,
        [](void *, const char *rule) { ADD_FAILURE() << "a rule of the boundary: " << rule; }};
    sim_open(1, &none, &hooks);
    simulated = true;
}

static void end_sim()
{
    simulated = false;
    sim_close();
}

static std::string missing_nothing()
{
    return "";
}

int patiently(const std::function<int()> &create, unsigned seconds)
{
    const uint64_t deadline = monotonic_ns() + static_cast<uint64_t>(seconds) * SECOND * patience();
    int code;
    while ((code = create()) == -ENOMEM && monotonic_ns() < deadline) {
        usleep(1000);
    }
    return code;
}

struct dgram_engine_report probe(uint32_t engine)
{
    struct dgram_engine_report report = {};
    (void) patiently(
        [&] {
            report.size = sizeof(report);
            int code = dgram_engine_probe(engine, &report);
            EXPECT_EQ(code, 0) << dgram_error_name(code);
            return report.code;
        },
        10);
    return report;
}

static std::string why_not(uint32_t engine)
{
    const struct dgram_engine_report report = probe(engine);
    if (report.code == 0) {
        return "";
    }
    return std::string(report.name) + ": " + report.call + ": " + dgram_strerror(report.code) +
           ". " + report.advice;
}

static std::string missing_uring()
{
    static const std::string reason = why_not(DGRAM_ENGINE_URING);
    return reason;
}

static std::string missing_poll()
{
    static const std::string reason = why_not(DGRAM_ENGINE_POLL);
    return reason;
}

std::ostream &operator<<(std::ostream &out, const Engine &engine)
{
    return out << engine.name;
}

std::vector<Engine> host_engines()
{
    return {{"uring", DGRAM_ENGINE_URING, create_uring, missing_uring, nullptr, nullptr},
            {"poll", DGRAM_ENGINE_POLL, create_poll, missing_poll, nullptr, nullptr}};
}

std::vector<Engine> all_engines()
{
    std::vector<Engine> engines = host_engines();
    engines.push_back({"sim", DGRAM_ENGINE_AUTO, create_sim, missing_nothing, begin_sim, end_sim});
    return engines;
}

std::string engine_name(const ::testing::TestParamInfo<Engine> &info)
{
    return info.param.name;
}

/* ---- Limits -------------------------------------------------------------------------------- */

unsigned patience()
{
    static const unsigned value = [] {
        const char *text = getenv("DGRAM_TEST_PATIENCE");
        int number = text != nullptr ? atoi(text) : 1;
        return static_cast<unsigned>(std::max(number, 1));
    }();
    return value;
}

uint64_t monotonic_ns()
{
    if (simulated) {
        return sim_now();
    }
    struct timespec now = {};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * SECOND + static_cast<uint64_t>(now.tv_nsec);
}

/* Nothing to wait for takes longer than this. */
static uint64_t wait_limit_ns()
{
    return 10ull * SECOND * patience();
}

/* A call of the library that never returns: say which test and end, a hung suite says nothing. */
static char alarm_text[256];

static void on_alarm(int)
{
    ssize_t ignored = write(STDERR_FILENO, alarm_text, strlen(alarm_text));
    (void) ignored;
    abort();
}

static void start_alarm()
{
    const ::testing::TestInfo *test = ::testing::UnitTest::GetInstance()->current_test_info();
    snprintf(alarm_text, sizeof(alarm_text), "watchdog: %s.%s hangs\n",
             test != nullptr ? test->test_suite_name() : "", test != nullptr ? test->name() : "");
    struct sigaction action = {};
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, nullptr);
    alarm(120 * patience());
}

/* ---- The fixtures -------------------------------------------------------------------------- */

static std::atomic<bool> callbacks_muted{false};

bool muted()
{
    return callbacks_muted.load(std::memory_order_acquire);
}

void set_muted(bool on)
{
    callbacks_muted.store(on, std::memory_order_release);
}

int descriptors()
{
    DIR *directory = opendir("/proc/self/fd");
    if (directory == nullptr) {
        return 0;
    }
    int count = 0;
    while (readdir(directory) != nullptr) {
        count++;
    }
    closedir(directory);
    return count;
}

NoDescriptors::NoDescriptors()
{
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    int highest = dup(0);
    struct rlimit fewer = before_;
    fewer.rlim_cur = static_cast<rlim_t>(highest) + 16;
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &fewer), 0);
    while (highest >= 0) {
        taken_.push_back(highest);
        highest = dup(0);
    }
    EXPECT_EQ(errno, EMFILE);
}

NoDescriptors::~NoDescriptors()
{
    for (int fd : taken_) {
        close(fd);
    }
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before_), 0);
}

void EngineTest::SetUp()
{
    start_alarm();
    set_muted(false);
    std::string reason = GetParam().missing();
    if (!reason.empty()) {
        GTEST_SKIP() << reason;
    }
    descriptors_before_ = descriptors();
    if (GetParam().begin != nullptr) {
        GetParam().begin();
    }
    loop = make_loop();
    ASSERT_NE(loop, nullptr);
}

void EngineTest::TearDown()
{
    set_muted(true);
    loop = dgram_loop_free(loop);
    EXPECT_EQ(loop, nullptr);
    if (GetParam().end != nullptr && descriptors_before_ >= 0) {
        GetParam().end();
    }
    if (descriptors_before_ >= 0) {
        EXPECT_EQ(descriptors(), descriptors_before_) << "descriptors were left open";
    }
    alarm(0);
}

struct dgram_loop *EngineTest::make_loop(const struct dgram_loop_options *options) const
{
    struct dgram_loop *made = nullptr;
    int code = GetParam().create(options, &made);
    EXPECT_EQ(code, 0) << dgram_strerror(code);
    return made;
}

void EngineTest::remake_loop(const struct dgram_loop_options &options)
{
    loop = dgram_loop_free(loop);
    loop = make_loop(&options);
    ASSERT_NE(loop, nullptr);
}

void HostTest::SetUp()
{
    start_alarm();
    set_muted(false);
    descriptors_before_ = descriptors();
}

void HostTest::TearDown()
{
    set_muted(true);
    EXPECT_EQ(descriptors(), descriptors_before_) << "descriptors were left open";
    alarm(0);
}

/* ---- Handlers as functions ----------------------------------------------------------------- */

void Handlers::attach(struct dgram_socket *socket)
{
    if (listening) {
        EXPECT_EQ(dgram_on_listening(socket, on_listening, this), 0);
    }
    if (error) {
        EXPECT_EQ(dgram_on_error(socket, on_error, this), 0);
    }
    if (drain) {
        EXPECT_EQ(dgram_on_drain(socket, on_drain, this), 0);
    }
    if (close) {
        EXPECT_EQ(dgram_on_close(socket, on_close, this), 0);
    }
    if (message) {
        EXPECT_EQ(dgram_on_message(socket, on_message, this), 0);
    }
    if (messages) {
        EXPECT_EQ(dgram_on_messages(socket, on_messages, this), 0);
    }
}

void Handlers::on_message(struct dgram_socket *socket, const struct dgram_message *message,
                          void *user)
{
    if (!muted()) {
        static_cast<Handlers *>(user)->message(socket, message);
    }
}

void Handlers::on_messages(struct dgram_socket *socket, const struct dgram_message *messages,
                           size_t count, void *user)
{
    if (!muted()) {
        static_cast<Handlers *>(user)->messages(socket, messages, count);
    }
}

void Handlers::on_listening(struct dgram_socket *socket, void *user)
{
    if (!muted()) {
        static_cast<Handlers *>(user)->listening(socket);
    }
}

void Handlers::on_error(struct dgram_socket *socket, const struct dgram_error *error, void *user)
{
    if (!muted()) {
        static_cast<Handlers *>(user)->error(socket, error);
    }
}

void Handlers::on_drain(struct dgram_socket *socket, void *user)
{
    if (!muted()) {
        static_cast<Handlers *>(user)->drain(socket);
    }
}

void Handlers::on_close(struct dgram_socket *socket, void *user)
{
    if (!muted()) {
        static_cast<Handlers *>(user)->close(socket);
    }
}

void Sent::call(struct dgram_socket *socket, int result, void *user)
{
    if (!muted()) {
        static_cast<Sent *>(user)->fn(socket, result);
    }
}

void Results::take(struct dgram_socket *, int result, void *user)
{
    if (!muted()) {
        static_cast<Results *>(user)->values.push_back(result);
    }
}

void Tick::call(struct dgram_timer *timer, void *user)
{
    if (!muted()) {
        static_cast<Tick *>(user)->fn(timer);
    }
}

void Job::call(struct dgram_loop *loop, void *user)
{
    if (!muted()) {
        static_cast<Job *>(user)->fn(loop);
    }
}

void Inbox::take(struct dgram_socket *, const struct dgram_message *message, void *user)
{
    if (!muted()) {
        Inbox *inbox = static_cast<Inbox *>(user);
        inbox->payloads.push_back(payload_of(message));
        inbox->from.push_back(*message->from);
    }
}

size_t Recorder::count(const std::string &event) const
{
    return static_cast<size_t>(std::count(events.begin(), events.end(), event));
}

std::string Recorder::text() const
{
    std::string all;
    for (const std::string &event : events) {
        all += all.empty() ? event : " " + event;
    }
    return all;
}

/* ---- Waiting ------------------------------------------------------------------------------- */

static bool turn_until(struct dgram_loop *loop, const std::function<bool()> &done, bool sleep)
{
    uint64_t deadline = monotonic_ns() + wait_limit_ns();
    while (!done()) {
        uint64_t now = monotonic_ns();
        if (now >= deadline) {
            ADD_FAILURE() << "what the test waits for did not happen";
            return false;
        }
        int code = dgram_loop_turn(loop, sleep ? static_cast<int64_t>(deadline - now) : 0);
        if (code < 0) {
            ADD_FAILURE() << "dgram_loop_turn: " << dgram_error_name(code);
            return false;
        }
        if (sleep && monotonic_ns() >= deadline) { /* even if it is there now */
            ADD_FAILURE() << "the loop slept, and nothing woke it";
            return false;
        }
        if (code == 0 || !sleep) {
            sched_yield();
        }
    }
    return true;
}

bool run_until(struct dgram_loop *loop, const std::function<bool()> &done)
{
    return turn_until(loop, done, true);
}

bool spin_until(struct dgram_loop *loop, const std::function<bool()> &done)
{
    return turn_until(loop, done, false);
}

bool wait_until(const std::function<bool()> &done)
{
    uint64_t deadline = monotonic_ns() + wait_limit_ns();
    for (unsigned tries = 0; !done(); tries++) {
        if (monotonic_ns() >= deadline) {
            ADD_FAILURE() << "what the test waits for did not happen";
            return false;
        }
        if (tries < 1000) {
            sched_yield();
        } else {
            usleep(200);
        }
    }
    return true;
}

void settle(struct dgram_loop *loop)
{
    Inbox inbox;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    ASSERT_NE(socket, nullptr);
    for (size_t round = 1; round <= 4; round++) {
        ASSERT_EQ(send_text(socket, "settle", address_of(socket)), 0);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == round; }));
    }
    close_and_wait(loop, socket);
}

/* ---- Sockets ------------------------------------------------------------------------------- */

struct dgram_loop_options loop_options()
{
    struct dgram_loop_options options = {};
    options.size = sizeof(options);
    return options;
}

struct dgram_socket_options socket_options()
{
    struct dgram_socket_options options = {};
    options.size = sizeof(options);
    return options;
}

struct dgram_buffer_options buffer_options(uint32_t flags, dgram_buffer_fn *on_idle, void *user)
{
    struct dgram_buffer_options options = {};
    options.size = sizeof(options);
    options.flags = flags;
    options.on_idle = on_idle;
    options.user = user;
    return options;
}

bool has_ipv6()
{
    static const bool value = [] {
        int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in6 name = {};
        name.sin6_family = AF_INET6;
        name.sin6_addr = in6addr_loopback;
        bool works =
            fd >= 0 && bind(fd, reinterpret_cast<struct sockaddr *>(&name), sizeof(name)) == 0;
        if (fd >= 0) {
            close(fd);
        }
        return works;
    }();
    return value;
}

std::vector<uint32_t> socket_types()
{
    std::vector<uint32_t> types = {DGRAM_UDP4};
    if (has_ipv6()) {
        types.push_back(DGRAM_UDP6);
    }
    return types;
}

const char *loopback(uint32_t type)
{
    return type == DGRAM_UDP6 ? "::1" : "127.0.0.1";
}

size_t size_max(uint32_t type)
{
    return type == DGRAM_UDP6 ? DGRAM_UDP6_SIZE_MAX : DGRAM_UDP4_SIZE_MAX;
}

struct dgram_socket *open_socket(struct dgram_loop *loop, uint32_t type, uint32_t flags)
{
    struct dgram_socket_options options = socket_options();
    options.flags = flags;
    struct dgram_socket *socket = nullptr;
    int code = dgram_create_socket(loop, type, &options, &socket);
    EXPECT_EQ(code, 0) << dgram_strerror(code);
    return code == 0 ? socket : nullptr;
}

struct dgram_socket *open_bound(struct dgram_loop *loop, uint32_t type, uint32_t flags)
{
    struct dgram_socket *socket = open_socket(loop, type, flags);
    if (socket != nullptr) {
        int code = dgram_bind(socket, 0, loopback(type));
        EXPECT_EQ(code, 0) << dgram_strerror(code);
    }
    return socket;
}

struct dgram_socket *open_inbox(struct dgram_loop *loop, Inbox *inbox, uint32_t type,
                                uint32_t flags)
{
    struct dgram_socket *socket = open_bound(loop, type, flags);
    if (socket != nullptr) {
        EXPECT_EQ(dgram_on_message(socket, Inbox::take, inbox), 0);
    }
    return socket;
}

struct dgram_addr address_of(struct dgram_socket *socket)
{
    struct dgram_addr address = {};
    int code = dgram_address(socket, &address);
    EXPECT_EQ(code, 0) << dgram_strerror(code);
    if (address.u.any.sa_family == AF_INET && address.u.in4.sin_addr.s_addr == INADDR_ANY) {
        address.u.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    if (address.u.any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address.u.in6.sin6_addr)) {
        address.u.in6.sin6_addr = in6addr_loopback;
    }
    return address;
}

uint16_t port_of(struct dgram_socket *socket)
{
    struct dgram_addr address = address_of(socket);
    return dgram_addr_port(&address);
}

struct dgram_addr parse(const std::string &text, uint16_t port)
{
    struct dgram_addr address = {};
    int code = dgram_addr_parse(text.c_str(), port, &address);
    EXPECT_EQ(code, 0) << text << ": " << dgram_strerror(code);
    return address;
}

std::string text_of(const struct dgram_addr *address)
{
    char text[DGRAM_ADDR_TEXT_MAX];
    return dgram_addr_text(address, text);
}

int send_text(struct dgram_socket *socket, const std::string &payload,
              const struct dgram_addr &address)
{
    return dgram_send_to(socket, payload.data(), payload.size(), &address, nullptr, nullptr);
}

int send_and_wait(struct dgram_loop *loop, struct dgram_socket *socket, const std::string &payload,
                  const struct dgram_addr &address)
{
    Results results;
    int code =
        dgram_send_to(socket, payload.data(), payload.size(), &address, Results::take, &results);
    if (code < 0) {
        return code;
    }
    if (!run_until(loop, [&] { return !results.values.empty(); })) {
        return -ETIMEDOUT;
    }
    EXPECT_EQ(results.values.size(), 1u);
    return results.values[0];
}

std::string payload_of(const struct dgram_message *message)
{
    return std::string(static_cast<const char *>(message->data), message->size);
}

std::string pattern(size_t size, unsigned seed)
{
    std::string bytes(size, '\0');
    uint32_t state = seed * 2654435761u + 12345u;
    for (char &byte : bytes) {
        state = state * 1664525u + 1013904223u;
        byte = static_cast<char>(state >> 24);
    }
    return bytes;
}

std::string numbered(unsigned number, size_t size)
{
    std::string payload = pattern(size, number);
    for (size_t i = 0; i < 4 && i < size; i++) {
        payload[i] = static_cast<char>(number >> (8 * i));
    }
    return payload;
}

size_t room_of(struct dgram_socket *socket)
{
    int bytes = dgram_get_recv_buffer_size(socket);
    EXPECT_GT(bytes, 0);
    /* Linux charges a small datagram less than 1 KiB; keep a reserve for what it batches. */
    return std::max<size_t>(static_cast<size_t>(std::max(bytes, 0)) / 2048, 1);
}

void expect_echo(struct dgram_loop *loop, struct dgram_socket *socket)
{
    struct dgram_addr bound = {};
    int code = dgram_address(socket, &bound);
    if (code == DGRAM_ENOTBOUND) {
        code = dgram_bind(socket, 0, nullptr);
        ASSERT_EQ(code, 0) << dgram_strerror(code);
        ASSERT_EQ(dgram_address(socket, &bound), 0);
    }
    ASSERT_EQ(code, 0) << dgram_strerror(code);
    uint32_t type = bound.u.any.sa_family == AF_INET6 ? DGRAM_UDP6 : DGRAM_UDP4;

    Inbox here, there;
    struct dgram_socket *peer = open_inbox(loop, &there, type);
    ASSERT_NE(peer, nullptr);
    ASSERT_EQ(dgram_on_message(socket, Inbox::take, &here), 0);
    const std::string ping = "ping of " + std::to_string(port_of(peer));
    ASSERT_EQ(send_text(peer, ping, address_of(socket)), 0);
    auto has = [](const Inbox &inbox, const std::string &text) {
        return std::count(inbox.payloads.begin(), inbox.payloads.end(), text) > 0;
    };
    EXPECT_TRUE(run_until(loop, [&] { return has(here, ping); }));
    EXPECT_EQ(send_text(socket, "pong", address_of(peer)), 0);
    EXPECT_TRUE(run_until(loop, [&] { return has(there, "pong"); }));
    EXPECT_EQ(dgram_on_message(socket, nullptr, nullptr), 0);
    close_and_wait(loop, peer);
}

void close_and_wait(struct dgram_loop *loop, struct dgram_socket *socket)
{
    bool closed = false;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closed = true; };
    on.attach(socket);
    ASSERT_EQ(dgram_close(socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
}

struct dgram_loop_info info_of(struct dgram_loop *loop)
{
    struct dgram_loop_info info = {};
    info.size = sizeof(info);
    EXPECT_EQ(dgram_loop_info(loop, &info), 0);
    return info;
}

struct dgram_socket_stats stats_of(struct dgram_socket *socket)
{
    struct dgram_socket_stats stats = {};
    stats.size = sizeof(stats);
    EXPECT_EQ(dgram_socket_stats(socket, &stats), 0);
    return stats;
}

static int call_address(struct dgram_socket *socket)
{
    struct dgram_addr address = {};
    return dgram_address(socket, &address);
}

static int call_send_to(struct dgram_socket *socket)
{
    struct dgram_addr address = {};
    dgram_addr_parse("127.0.0.1", 9, &address);
    return dgram_send_to(socket, "x", 1, &address, nullptr, nullptr);
}

static int call_send_buffer(struct dgram_socket *socket)
{
    struct dgram_addr to = parse("127.0.0.1", 9);
    struct dgram_buffer *buffer = nullptr;
    dgram_buffer_create(dgram_socket_loop(socket), 1, nullptr, &buffer);
    int code = dgram_send_buffer(socket, buffer, 0, 1, &to);
    dgram_buffer_free(buffer);
    return code;
}

std::vector<SocketCall> socket_calls()
{
    using Socket = struct dgram_socket *;
    return {
        {"bind", [](Socket s) { return dgram_bind(s, 0, "127.0.0.1"); }},
        {"address", call_address},
        {"ref", [](Socket s) { return dgram_ref(s); }},
        {"unref", [](Socket s) { return dgram_unref(s); }},
        {"on_message", [](Socket s) { return dgram_on_message(s, nullptr, nullptr); }},
        {"on_messages", [](Socket s) { return dgram_on_messages(s, nullptr, nullptr); }},
        {"on_listening", [](Socket s) { return dgram_on_listening(s, nullptr, nullptr); }},
        {"on_error", [](Socket s) { return dgram_on_error(s, nullptr, nullptr); }},
        {"on_drain", [](Socket s) { return dgram_on_drain(s, nullptr, nullptr); }},
        {"on_close", [](Socket s) { return dgram_on_close(s, nullptr, nullptr); }},
        {"send", [](Socket s) { return dgram_send(s, "x", 1, 9, nullptr, nullptr, nullptr); }},
        {"send_to", call_send_to},
        {"send_buffer", call_send_buffer},
        {"pause", [](Socket s) { return dgram_pause(s); }},
        {"resume", [](Socket s) { return dgram_resume(s); }},
        {"set_broadcast", [](Socket s) { return dgram_set_broadcast(s, true); }},
        {"set_ttl", [](Socket s) { return dgram_set_ttl(s, 64); }},
        {"set_multicast_ttl", [](Socket s) { return dgram_set_multicast_ttl(s, 1); }},
        {"set_multicast_loopback", [](Socket s) { return dgram_set_multicast_loopback(s, true); }},
        {"set_multicast_interface",
         [](Socket s) { return dgram_set_multicast_interface(s, "127.0.0.1"); }},
        {"add_membership", [](Socket s) { return dgram_add_membership(s, "239.1.2.3", "lo"); }},
        {"drop_membership", [](Socket s) { return dgram_drop_membership(s, "239.1.2.3", "lo"); }},
        {"set_recv_buffer_size", [](Socket s) { return dgram_set_recv_buffer_size(s, 10000); }},
        {"set_send_buffer_size", [](Socket s) { return dgram_set_send_buffer_size(s, 10000); }},
        {"get_recv_buffer_size", [](Socket s) { return dgram_get_recv_buffer_size(s); }},
        {"get_send_buffer_size", [](Socket s) { return dgram_get_send_buffer_size(s); }},
        {"end", [](Socket s) { return dgram_end(s); }},
        {"close", [](Socket s) { return dgram_close(s); }},
    };
}

/* ---- Plain peers --------------------------------------------------------------------------- */

Plain::Plain(uint32_t type, const char *address, uint16_t port)
{
    fd_ = socket(type == DGRAM_UDP6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT_GE(fd_, 0) << strerror(errno);
    struct dgram_addr name = parse(address != nullptr ? address : loopback(type), port);
    EXPECT_EQ(::bind(fd_, &name.u.any, name.size), 0) << strerror(errno);
}

Plain::~Plain()
{
    if (fd_ >= 0) {
        close(fd_);
    }
}

struct dgram_addr Plain::address() const
{
    struct dgram_addr name = {};
    socklen_t size = sizeof(name.u);
    EXPECT_EQ(getsockname(fd_, &name.u.any, &size), 0) << strerror(errno);
    name.size = size;
    return name;
}

void Plain::send(const std::string &payload, const struct dgram_addr &to)
{
    ssize_t sent = sendto(fd_, payload.data(), payload.size(), 0, &to.u.any, to.size);
    EXPECT_EQ(sent, static_cast<ssize_t>(payload.size())) << strerror(errno);
}

std::string Plain::receive(struct dgram_addr *ret_from)
{
    struct pollfd ready = {fd_, POLLIN, 0};
    int count;
    do {
        count = poll(&ready, 1, static_cast<int>(wait_limit_ns() / MILLISECOND));
    } while (count < 0 && errno == EINTR);
    if (count != 1) {
        ADD_FAILURE() << "no datagram came";
        return "";
    }
    std::string bytes(65536, '\0');
    struct dgram_addr from = {};
    socklen_t size = sizeof(from.u);
    ssize_t got = recvfrom(fd_, &bytes[0], bytes.size(), 0, &from.u.any, &size);
    EXPECT_GE(got, 0) << strerror(errno);
    bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    from.size = size;
    if (ret_from != nullptr) {
        *ret_from = from;
    }
    return bytes;
}

bool Plain::readable() const
{
    struct pollfd ready = {fd_, POLLIN, 0};
    return poll(&ready, 1, 0) == 1;
}

void Plain::set(int level, int name, int value)
{
    EXPECT_EQ(setsockopt(fd_, level, name, &value, sizeof(value)), 0) << strerror(errno);
}

/* Connected elsewhere, so no datagram of ours finds it, and yet its port is taken. */
void Plain::leave()
{
    struct dgram_addr own = address();
    struct dgram_addr elsewhere = parse(text_of(&own), 9);
    EXPECT_EQ(connect(fd_, &elsewhere.u.any, elsewhere.size), 0) << strerror(errno);
}

DeadPort::DeadPort(uint32_t type) : plain_(type)
{
    plain_.leave();
}

struct dgram_addr DeadPort::address() const
{
    return plain_.address();
}

struct dgram_addr refused_address()
{
    return parse("127.255.255.255", 9);
}

bool refused_address_usable()
{
    static const bool value = [] {
        struct dgram_addr to = refused_address();
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        bool refused = fd >= 0 && sendto(fd, "x", 1, 0, &to.u.any, to.size) < 0 && errno == EACCES;
        if (fd >= 0) {
            close(fd);
        }
        return refused;
    }();
    return value;
}

uint16_t private_port(uint32_t type)
{
    static unsigned calls = 0;
    unsigned low = 32768, first = 0, last = 0;
    std::ifstream file("/proc/sys/net/ipv4/ip_local_port_range");
    if (file >> first >> last && first > 12000) {
        low = first;
    }
    const unsigned base = 10240, span = low - base;
    for (unsigned tries = 0; tries < span; tries++) {
        unsigned mixed = static_cast<unsigned>(getpid()) * 2477u + calls++ * 31u;
        uint16_t port = static_cast<uint16_t>(base + mixed % span);
        int fd = socket(type == DGRAM_UDP6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct dgram_addr name = parse(type == DGRAM_UDP6 ? "::" : "0.0.0.0", port);
        bool works = ::bind(fd, &name.u.any, name.size) == 0;
        close(fd);
        if (works) {
            return port;
        }
    }
    ADD_FAILURE() << "no free port";
    return 0;
}

} /* namespace harness */
