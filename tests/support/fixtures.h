/* SPDX-License-Identifier: MIT */
/*
 * fixtures.h: on which engines a test runs, how long anything may take, a fixture that owns a loop
 * and watches for lost descriptors, and waiting until something is true.
 *
 * Nothing depends on timing. A test waits for an event, a count or a state and fails when a
 * generous limit has passed; DGRAM_TEST_PATIENCE multiplies the limits (valgrind, slow hosts).
 */
#ifndef DGRAM_TESTS_SUPPORT_FIXTURES_H
#define DGRAM_TESTS_SUPPORT_FIXTURES_H

#include <dgram.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

namespace harness
{

/* ---- Engines ------------------------------------------------------------------------------- */

struct Engine {
    const char *name;
    uint32_t number;
    /* dgram_loop_create() with this engine, patiently(). `options` may be NULL; its `engine` is
     * replaced. */
    int (*create)(const struct dgram_loop_options *options, struct dgram_loop **ret_loop);
    /* Why it cannot be used here, "" if it can. */
    std::string (*missing)();
    /* Around each test, or NULL. */
    void (*begin)(), (*end)();
};

/*
 * Calls `create` again while it gives -ENOMEM, for a long time. An unprivileged process may lock
 * little memory (ulimit -l), rings are counted against it, and the kernel gives the memory of a
 * ring back some time after the ring is gone: after a hundred loops in a row it has none.
 */
int patiently(const std::function<int()> &create, unsigned seconds = 60);
/* dgram_engine_probe() of an engine that exists, patiently for some seconds. */
struct dgram_engine_report probe(uint32_t engine);

std::ostream &operator<<(std::ostream &out, const Engine &engine);

/* Every engine: for tests whose sockets only talk to each other. */
std::vector<Engine> all_engines();
/* Those on the host's network: for tests with plain sockets, threads, processes, descriptors. */
std::vector<Engine> host_engines();

std::string engine_name(const ::testing::TestParamInfo<Engine> &info);

#define INSTANTIATE_ON_ALL_ENGINES(suite)                                                          \
    INSTANTIATE_TEST_SUITE_P(Engine, suite, ::testing::ValuesIn(::harness::all_engines()),         \
                             ::harness::engine_name)
#define INSTANTIATE_ON_HOST_ENGINES(suite)                                                         \
    INSTANTIATE_TEST_SUITE_P(Engine, suite, ::testing::ValuesIn(::harness::host_engines()),        \
                             ::harness::engine_name)

/* ---- Limits -------------------------------------------------------------------------------- */

/* How much longer than usual everything may take, from DGRAM_TEST_PATIENCE; 1 or more. */
unsigned patience();

/* For how long a test waits for anything. */
uint64_t wait_limit_ns();

/* The clock of the loop under test: the simulator's while it runs. */
uint64_t monotonic_ns();

constexpr int64_t MILLISECOND = 1000000;
constexpr int64_t SECOND = 1000000000;
constexpr int64_t HOUR = 3600 * SECOND;

/* ---- The fixture --------------------------------------------------------------------------- */

/*
 * Gives each test a loop of its engine, frees it afterwards and checks that no descriptor is left
 * open. Handlers made with the helpers below are silent from the end of the test body on, so that
 * the loop may be freed after the variables that they refer to are gone.
 */
class EngineTest : public ::testing::TestWithParam<Engine>
{
  protected:
    void SetUp() override;
    void TearDown() override;

    /* A loop beside the fixture's; the caller frees it. NULL after a failure. */
    struct dgram_loop *make_loop(const struct dgram_loop_options *options = nullptr) const;
    /* The fixture's loop again, with other options. */
    void remake_loop(const struct dgram_loop_options &options);

    struct dgram_loop *loop = nullptr;

  private:
    int descriptors_before_ = -1;
};

/* The same without an engine: for functions that need no loop, and for tests of the choice. */
class HostTest : public ::testing::Test
{
  protected:
    void SetUp() override;
    void TearDown() override;

  private:
    int descriptors_before_ = -1;
};

/* Open descriptors of this process; a constant where /proc is missing. */
int descriptors();

/* All descriptors but those that are open are taken, for as long as this lives. */
class NoDescriptors
{
  public:
    NoDescriptors();
    ~NoDescriptors();
    NoDescriptors(const NoDescriptors &) = delete;
    NoDescriptors &operator=(const NoDescriptors &) = delete;

  private:
    struct rlimit before_ = {};
    std::vector<int> taken_;
};

/* ---- Waiting ------------------------------------------------------------------------------- */

/* Turns the loop, asleep between events, until `done`. Fails the test and returns false when the
 * limit passes, so a wake-up that never comes is a failure and not a delay. */
bool run_until(struct dgram_loop *loop, const std::function<bool()> &done);

/* The same without sleeping in the loop: for what other threads and processes do. */
bool spin_until(struct dgram_loop *loop, const std::function<bool()> &done);

/* Waits for a state that no loop of this thread changes. */
bool wait_until(const std::function<bool()> &done);

/* Turns until everything that was on its way has surely been seen: datagrams of a socket of its own
 * have gone round a few times. What did not happen until then does not happen. */
void settle(struct dgram_loop *loop);

/* dgram_loop_run() until a handler stops it; fails if the loop sleeps over what it ought to do. */
void run_awake(struct dgram_loop *loop);

/* Keeps the thread busy for real. */
void spend(int64_t nanoseconds);

/* DGRAM_TEST_SEED, else a new one each time: whoever uses it prints it when a test fails. */
unsigned seed_of_this_run();

} /* namespace harness */

#endif
