/* SPDX-License-Identifier: MIT */
/*
 * test.cc: each fault is over some time, and then everything works again.
 *
 * A life (life.cc) is lived again and again; its first call fails, then its second and so on, once
 * or for a stretch of calls. In a normal run each place fails with one of its errnos; with
 * DGRAM_HEAL_ALL in the environment with every one, and at every place for a stretch.
 */
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "tests/heal/heal.h"

using namespace heal;

namespace
{

bool everything()
{
    return getenv("DGRAM_HEAL_ALL") != nullptr;
}

class Heal : public EngineTest
{
  protected:
    /* The fixture's loop is of no use here, and its memory would be counted. */
    void SetUp() override
    {
        EngineTest::SetUp();
        loop = dgram_loop_free(loop);
    }

    uint32_t engine() const
    {
        return GetParam().number;
    }

    /* One life with this plan. Returns what was injected. */
    Injected live_with(const Plan &plan, bool spins = false) const
    {
        alarm(120 * patience());
        const int descriptors_before = descriptors();
        const int64_t memory_before = live_memory();
        Life life(engine(), spins);
        faults_begin(plan);
        life.live();
        faults_pause(true);
        Injected injected = faults_injected();
        SCOPED_TRACE(testing::Message() << "call " << plan.first << " and " << plan.length - 1
                                        << " more: " << injected.where);
        life.expect_well();
        faults_pause(false);
        life.end();
        injected = faults_injected();
        faults_end();
        SCOPED_TRACE(injected.where);
        life.expect_accounts();
        if (plan.source == Source::RESULTS || plan.source == Source::ENDS) {
            EXPECT_FALSE(life.has_broken()) << "one operation breaks the ring";
        }
        EXPECT_EQ(descriptors(), descriptors_before) << "a descriptor was left open";
        EXPECT_EQ(live_memory(), memory_before) << "memory was left behind";
        return injected;
    }

    /* How many of these calls a life makes when nothing fails. */
    uint64_t calls_of_a_life(Source source, bool spins) const
    {
        Plan plan;
        plan.source = source;
        return live_with(plan, spins).calls;
    }

    /* Every place, `step` apart, with stretches of this length. */
    void fail_each(Source source, uint64_t length, uint64_t step, bool spins = false) const
    {
        const uint64_t calls = calls_of_a_life(source, spins);
        ASSERT_GT(calls, 20u) << "nothing is counted";
        uint64_t failed = 0;
        for (uint64_t n = 1; n <= calls; n += step) {
            size_t choices = 1;
            for (unsigned e = 0; e < choices; e++) {
                Plan plan;
                plan.source = source;
                plan.first = n;
                plan.length = length;
                plan.errnum = everything() ? e : static_cast<unsigned>(n / step);
                const Injected injected = live_with(plan, spins);
                failed += injected.failed > 0;
                choices = everything() ? injected.choices : 1;
                if (!HasFailure()) {
                    SCOPED_TRACE(injected.where);
                    expect_new_loop_works(engine());
                }
                ASSERT_FALSE(HasFailure()) << "call " << n << ": " << injected.where;
            }
        }
        EXPECT_GT(failed, calls / step / 2) << "the faults were not met";
    }
};

INSTANTIATE_ON_HOST_ENGINES(Heal);

/* The life itself is right: else nothing below shows anything. */
TEST_P(Heal, WithoutAnyFault)
{
    live_with(Plan());
    expect_new_loop_works(engine());
}

TEST_P(Heal, AfterAnAllocation)
{
    fail_each(Source::MEMORY, 1, 1);
}

TEST_P(Heal, AfterAStretchOfAllocations)
{
    fail_each(Source::MEMORY, 7, everything() ? 1 : 3);
    fail_each(Source::MEMORY, 40, everything() ? 1 : 11);
}

TEST_P(Heal, AfterACall)
{
    fail_each(Source::CALLS, 1, 1);
}

TEST_P(Heal, AfterAStretchOfCalls)
{
    fail_each(Source::CALLS, 5, everything() ? 1 : 5);
    fail_each(Source::CALLS, 60, everything() ? 1 : 17);
}

/* ---- Single operations of a ring ----------------------------------------------------------- */

TEST_P(Heal, AfterAResultOfTheRing)
{
    if (engine() != DGRAM_ENGINE_URING) {
        GTEST_SKIP() << "this engine has no operations";
    }
    fail_each(Source::RESULTS, 1, 1);
    fail_each(Source::ENDS, 1, 1);
}

/* One that spins takes datagrams out of the sockets by itself, beside the receives that end. */
TEST_P(Heal, AfterAResultOfARingThatSpins)
{
    if (engine() != DGRAM_ENGINE_URING) {
        GTEST_SKIP() << "this engine has no operations";
    }
    fail_each(Source::RESULTS, 1, everything() ? 1 : 2, true);
    fail_each(Source::RESULTS, 4, everything() ? 1 : 5, true);
    fail_each(Source::ENDS, 1, 1, true);
}

TEST_P(Heal, AfterAStretchOfResultsOfTheRing)
{
    if (engine() != DGRAM_ENGINE_URING) {
        GTEST_SKIP() << "this engine has no operations";
    }
    fail_each(Source::RESULTS, 4, everything() ? 1 : 3);
    fail_each(Source::ENDS, 4, everything() ? 1 : 3);
    fail_each(Source::RESULTS, 20, everything() ? 1 : 7);
}

/* ---- Limits -------------------------------------------------------------------------------- */

/* A soft limit that is lower for the life than before and after it. */
class Limit
{
  public:
    Limit(__rlimit_resource_t which, rlim_t value) : which_(which)
    {
        EXPECT_EQ(getrlimit(which, &before_), 0);
        struct rlimit low = before_;
        low.rlim_cur = std::min(value, before_.rlim_cur);
        EXPECT_EQ(setrlimit(which, &low), 0);
    }
    ~Limit()
    {
        EXPECT_EQ(setrlimit(which_, &before_), 0);
    }
    Limit(const Limit &) = delete;
    Limit &operator=(const Limit &) = delete;

  private:
    __rlimit_resource_t which_;
    struct rlimit before_ = {};
};

/* A life under a limit that is lifted when the life has been lived. True if there was a loop. */
bool live_under(uint32_t engine, __rlimit_resource_t which, rlim_t value)
{
    SCOPED_TRACE(testing::Message() << "a limit of " << value);
    const int descriptors_before = descriptors();
    const int64_t memory_before = live_memory();
    Life life(engine);
    bool lived;
    {
        Limit limit(which, value);
        lived = life.live();
    }
    life.expect_well();
    life.end();
    life.expect_accounts();
    EXPECT_EQ(descriptors(), descriptors_before) << "a descriptor was left open";
    EXPECT_EQ(live_memory(), memory_before) << "memory was left behind";
    expect_new_loop_works(engine);
    return lived;
}

TEST_P(Heal, AfterALackOfDescriptors)
{
    const int free_one = dup(0);
    ASSERT_GE(free_one, 0);
    close(free_one);
    bool lived = false;
    for (int more = 0; more < 30 && !HasFailure(); more++) {
        lived = live_under(engine(), RLIMIT_NOFILE, static_cast<rlim_t>(free_one + more));
        EXPECT_TRUE(more > 0 || !lived) << "the limit limits nothing";
    }
    EXPECT_TRUE(lived) << "no life was possible with so many";
}

/* Sanitizers have no room under such a limit. */
TEST_P(Heal, AfterALackOfAddressSpace)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || DGRAM_TEST_SANITIZED
    GTEST_SKIP() << "a sanitizer needs the address space";
#endif
    live_with(Plan());
    bool lived = false;
    for (rlim_t more = 0; more < 64 && !HasFailure(); more += everything() ? 1 : 3) {
        uint64_t pages = 0;
        std::ifstream("/proc/self/statm") >> pages;
        ASSERT_GT(pages, 0u);
        const uint64_t bytes = pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
        lived = live_under(engine(), RLIMIT_AS, bytes + more * 131072);
    }
    EXPECT_TRUE(lived) << "no life was possible with so much";
}

/* Locked memory limits those without rights alone, so the lives are a child's, as nobody. */
TEST_P(Heal, AfterALackOfLockedMemory)
{
    if (getuid() != 0) {
        GTEST_SKIP() << "needs root, to become somebody whose locked memory is his own";
    }
    fflush(nullptr);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        alarm(100 * patience());
        const uid_t somebody = 61234; /* whose memory nobody else counts in */
        EXPECT_EQ(setresgid(somebody, somebody, somebody), 0);
        EXPECT_EQ(setresuid(somebody, somebody, somebody), 0);
        for (rlim_t kib = 0; kib <= 1024 && !HasFailure(); kib = kib == 0 ? 16 : kib * 2) {
            live_under(engine(), RLIMIT_MEMLOCK, kib * 1024);
        }
        fflush(nullptr);
        _exit(HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "the child's failures are above";
}

/* ---- The probe ----------------------------------------------------------------------------- */

/* Strangers know the port of a probe before it receives: their datagrams take all its slots, again
 * and again. They are no train of its own, and not damaged. */
TEST_P(Heal, ProbeAmongStrangers)
{
    for (unsigned count : {1u, 4u, 5u, 30u}) {
        SCOPED_TRACE(count);
        Plain stranger;
        unsigned sent = 0;
        tell_the_next_name([&](const struct sockaddr *name) {
            for (; sent < count; sent++) {
                EXPECT_EQ(sendto(stranger.fd(), "stranger", 8, 0, name, sizeof(sockaddr_in)), 8);
            }
        });
        struct dgram_engine_report report = {};
        report.size = sizeof(report);
        EXPECT_EQ(dgram_engine_probe(engine(), &report), 0);
        EXPECT_EQ(report.code, 0) << report.call << ": " << report.advice;
        EXPECT_EQ(sent, count) << "the probe's port was not known";
    }
}

/* ---- The first loop of a process ----------------------------------------------------------- */

/*
 * What is found out once per process must be right also if the first attempt met a fault: which
 * engine works, how long trains may be. Each place needs a process of its own, which main() turns
 * into before any test has asked: this program again, with DGRAM_HEAL_FIRST in its environment.
 */
struct First {
    uint32_t engine = 0, segments = 0;
    unsigned long calls = 0, failed = 0, choices = 0;
    std::string where;

    /* A filter denies the ring: that does not pass, and may be remembered. */
    bool is_forbidden() const
    {
        return where.compare(0, 8, "io_uring") == 0 && where.find("EPERM") != std::string::npos;
    }
    bool same(const First &other) const
    {
        return engine == other.engine && segments == other.segments;
    }
};

/* In the child: a first loop with the fault, then one without. */
void first_of_a_process(const char *text)
{
    Plan plan;
    plan.source = Source::CALLS;
    unsigned long first = 0, length = 0;
    if (sscanf(text, "%lu %lu %u", &first, &length, &plan.errnum) != 3) {
        _exit(2);
    }
    plan.first = first;
    plan.length = length;
    alarm(100 * patience());
    struct dgram_loop *loop = nullptr;
    faults_begin(plan);
    (void) dgram_loop_create(nullptr, &loop);
    faults_end();
    const Injected injected = faults_injected();
    dgram_loop_free(loop);
    struct dgram_loop *second = nullptr;
    if (dgram_loop_create(nullptr, &second) != 0) {
        _exit(3);
    }
    const struct dgram_loop_info info = info_of(second);
    printf("FIRST %u %u %lu %lu %lu %s\n", info.engine, info.segments_max,
           static_cast<unsigned long>(injected.calls), static_cast<unsigned long>(injected.failed),
           static_cast<unsigned long>(injected.choices), injected.where.c_str());
    dgram_loop_free(second);
    fflush(nullptr);
    _exit(0);
}

class FirstEnvironment : public ::testing::Environment
{
    void SetUp() override
    {
        const char *text = getenv("DGRAM_HEAL_FIRST");
        if (text != nullptr) {
            first_of_a_process(text);
        }
    }
};

const ::testing::Environment *const first_environment =
    ::testing::AddGlobalTestEnvironment(new FirstEnvironment);

First first_with(unsigned long n, unsigned long length, unsigned errnum)
{
    First first;
    char program[4096] = "";
    EXPECT_GT(readlink("/proc/self/exe", program, sizeof(program) - 1), 0);
    const std::string command = "env -u DGRAM_ENGINE DGRAM_HEAL_FIRST='" + std::to_string(n) + " " +
                                std::to_string(length) + " " + std::to_string(errnum) + "' '" +
                                program + "'";
    FILE *output = popen(command.c_str(), "r");
    char line[256], where[128] = "";
    bool found = false;
    while (output != nullptr && fgets(line, sizeof(line), output) != nullptr) {
        found = found ||
                sscanf(line, "FIRST %u %u %lu %lu %lu %127[^\n]", &first.engine, &first.segments,
                       &first.calls, &first.failed, &first.choices, where) >= 5;
    }
    EXPECT_TRUE(output != nullptr && pclose(output) == 0 && found)
        << "call " << n << " of the first loop of a process";
    first.where = where;
    return first;
}

TEST(FirstOfAProcess, LeavesNoVerdictOfAFault)
{
    ASSERT_NE(first_environment, nullptr);
    const First without = first_with(0, 1, 0);
    ASSERT_GT(without.calls, 10u);
    for (unsigned long length : {1ul, 6ul}) {
        for (unsigned long n = 1; n <= without.calls; n += length) {
            unsigned long choices = 1;
            for (unsigned e = 0; e < choices; e++) {
                const First first = first_with(n, length, everything() ? e : n);
                EXPECT_TRUE(first.same(without) || first.is_forbidden())
                    << "after " << first.where << ": engine " << first.engine << " and trains of "
                    << first.segments << ", not " << without.engine << " and " << without.segments;
                choices = everything() ? first.choices : 1;
            }
        }
    }
}

} /* namespace */
