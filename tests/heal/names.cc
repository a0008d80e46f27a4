/* SPDX-License-Identifier: MIT */
/*
 * names.cc: looking up names, with a true name server. A fault in a lookup, in a call of the
 * library's or of c-ares', fails that lookup at most: the next name is found.
 */
#include <deque>

#include "tests/heal/heal.h"
#include "tests/support/names.h"

using namespace heal;

namespace
{

class HealNames : public names::NamesTest
{
  protected:
    void SetUp() override
    {
        NamesTest::SetUp();
        if (server != nullptr) {
            write_resolv_conf("options timeout:1 attempts:1\n");
        }
    }

    /* A loop of its own, whose first lookup meets the fault, and a later one, another. */
    Injected look_up_with(const Plan &plan, bool later)
    {
        alarm(120 * patience());
        begin(names_options());
        broke_ = false;
        const std::string number = std::to_string(names_++);
        const std::string one = "one" + number + ".test", two = "two" + number + ".test",
                          zero = "zero" + number + ".test";
        for (const std::string &name : {zero, one, two}) {
            server->address(name, "127.0.0.1");
        }
        if (later) {
            EXPECT_EQ(send_to(zero, port_of(target)), 3);
        }
        const uint16_t port = port_of(target);
        faults_begin(plan);
        const int result = send_to(one, port);
        faults_end();
        const Injected injected = faults_injected();
        SCOPED_TRACE(testing::Message() << "call " << plan.first << ": " << injected.where);
        EXPECT_TRUE(result == 3 || result < 0) << result;
        EXPECT_TRUE(injected.failed > 0 || result == 3) << dgram_error_name(result);
        if (broke_ && dgram_loop_turn(loop, 0) < 0) {
            EXPECT_STREQ(GetParam().name, "uring");
            begin(names_options());
        }
        EXPECT_EQ(send_to(two, port_of(target)), 3) << "after the fault";
        return injected;
    }

    void fail_each(Source source, uint64_t length, bool later)
    {
        Plan count;
        count.source = source;
        const uint64_t calls = look_up_with(count, later).calls;
        EXPECT_GT(calls, source == Source::RESULTS ? 0u : 1u);
        for (uint64_t n = 1; n <= calls && !HasFailure(); n++) {
            size_t choices = 1;
            for (unsigned e = 0; e < choices && !HasFailure(); e++) {
                Plan plan;
                plan.source = source;
                plan.first = n;
                plan.length = length;
                plan.errnum = all_ ? e : static_cast<unsigned>(n);
                const Injected injected = look_up_with(plan, later);
                choices = all_ ? injected.choices : 1;
            }
        }
    }

  private:
    /* The result of a send, or the code with which the engine broke: another loop is next then. */
    int send_to(const std::string &name, uint16_t port)
    {
        results_.emplace_back();
        std::vector<int> &values = results_.back().values;
        int code =
            dgram_send(sender, "abc", 3, port, name.c_str(), Results::take, &results_.back());
        const uint64_t deadline = monotonic_ns() + 20 * SECOND * patience();
        while (code >= 0 && values.empty() && monotonic_ns() < deadline) {
            code = dgram_loop_turn(loop, SECOND);
            broke_ = code < 0;
        }
        EXPECT_TRUE(code < 0 || !values.empty()) << name << " is looked up for ever";
        return code < 0 || values.empty() ? code : values[0];
    }

    std::deque<Results> results_; /* callbacks may come when the loop is freed */
    bool broke_ = false;
    unsigned names_ = 0;
    const bool all_ = getenv("DGRAM_HEAL_ALL") != nullptr;
};

INSTANTIATE_ON_HOST_ENGINES(HealNames);

TEST_P(HealNames, AfterAFaultOfTheFirstLookup)
{
    fail_each(Source::CALLS, 1, false);
    fail_each(Source::MEMORY, 1, false);
}

TEST_P(HealNames, AfterAStretchOfTheFirstLookup)
{
    fail_each(Source::CALLS, 5, false);
    fail_each(Source::MEMORY, 3, false);
}

TEST_P(HealNames, AfterAResultOfTheRing)
{
    if (GetParam().number != DGRAM_ENGINE_URING) {
        GTEST_SKIP() << "this engine has no operations";
    }
    for (bool later : {false, true}) {
        fail_each(Source::RESULTS, 1, later);
        fail_each(Source::RESULTS, 3, later);
    }
}

TEST_P(HealNames, AfterAFaultOfALaterLookup)
{
    fail_each(Source::CALLS, 1, true);
    fail_each(Source::MEMORY, 1, true);
}

} /* namespace */
