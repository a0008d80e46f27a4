/* SPDX-License-Identifier: MIT */
/* fixtures.cc: see fixtures.h. */
#include "tests/support/fixtures.h"

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <ostream>
#include <random>
#include <thread>

#include "tests/sim/sim.h"
#include "tests/support/sockets.h"

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
uint64_t wait_limit_ns()
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

namespace
{

/* Stops a dgram_loop_run() that sleeps over what it ought to do. From another thread, because a
 * timer would be a reason to wake up. */
class Guard
{
  public:
    explicit Guard(struct dgram_loop *loop) : thread_([this, loop] { watch(loop); })
    {
    }
    ~Guard()
    {
        end();
    }
    Guard(const Guard &) = delete;
    Guard &operator=(const Guard &) = delete;

    bool fired()
    {
        end();
        return fired_;
    }

  private:
    void watch(struct dgram_loop *loop)
    {
        std::unique_lock<std::mutex> lock(mutex_);
        const std::chrono::seconds limit(5 * patience());
        if (!condition_.wait_for(lock, limit, [this] { return over_; })) {
            fired_ = true;
            dgram_loop_stop(loop);
        }
    }
    void end()
    {
        if (thread_.joinable()) {
            {
                std::lock_guard<std::mutex> lock(mutex_);
                over_ = true;
            }
            condition_.notify_one();
            thread_.join();
        }
    }

    std::mutex mutex_;
    std::condition_variable condition_;
    bool over_ = false, fired_ = false;
    std::thread thread_;
};

} /* namespace */

void run_awake(struct dgram_loop *loop)
{
    Guard guard(loop);
    EXPECT_EQ(dgram_loop_run(loop), 1);
    EXPECT_FALSE(guard.fired()) << "the loop slept over what it had to do";
}

void spend(int64_t nanoseconds)
{
    const uint64_t until = monotonic_ns() + static_cast<uint64_t>(nanoseconds);
    while (monotonic_ns() < until) {
    }
}

unsigned seed_of_this_run()
{
    const char *text = getenv("DGRAM_TEST_SEED");
    return text != nullptr ? static_cast<unsigned>(strtoul(text, nullptr, 0))
                           : std::random_device()();
}

} /* namespace harness */
