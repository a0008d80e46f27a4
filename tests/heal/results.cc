/* SPDX-License-Identifier: MIT */
/*
 * results.cc: one operation of a ring ends with an error: a send, a receive, a poll. Each send is
 * told its true result, whatever the kernel does for a moment is tried again, and no datagram is
 * lost or doubled by that.
 */
#include <algorithm>

#include "tests/heal/heal.h"

using namespace heal;

namespace
{

class HealResults : public EngineTest
{
  protected:
    void SetUp() override
    {
        EngineTest::SetUp();
        if (GetParam().number != DGRAM_ENGINE_URING) {
            GTEST_SKIP() << "this engine has no operations";
        }
    }

    /* Each errno that is likely for the operation, at so many of these in a row; the test says
     * from when on. */
    void with_each(Source source, const char *only, uint64_t length,
                   const std::function<void()> &test)
    {
        size_t choices = 1;
        for (unsigned e = 0; e < choices && !HasFatalFailure(); e++) {
            plan_ = Plan();
            plan_.source = source;
            plan_.only = only;
            plan_.first = 1;
            plan_.length = length;
            plan_.errnum = e;
            test();
            faults_end();
            const Injected injected = faults_injected();
            EXPECT_EQ(injected.failed, length) << only << ": not injected";
            choices = injected.choices;
        }
    }
    void begin_faults() const
    {
        faults_begin(plan_);
    }
    static std::string where()
    {
        return faults_injected().where;
    }
    static bool was(const char *name)
    {
        const std::string all = where();
        const size_t space = all.rfind(' ');
        return space != std::string::npos && all.compare(space + 1, std::string::npos, name) == 0;
    }

  private:
    Plan plan_ = {};
};

INSTANTIATE_ON_HOST_ENGINES(HealResults);

/* Two destinations are two operations, of which the first fails. What the kernel has no room for,
 * what may be another datagram's error, and what a signal interrupted, is tried again. */
TEST_P(HealResults, OfSends)
{
    Inbox one, two;
    struct dgram_socket *first = open_inbox(loop, &one), *second = open_inbox(loop, &two);
    struct dgram_socket *sender = open_bound(loop);
    const struct dgram_addr to_first = address_of(first), to_second = address_of(second);
    settle(loop);
    with_each(Source::RESULTS, "send", 1, [&] {
        one.payloads.clear();
        two.payloads.clear();
        Results of_first, of_second;
        begin_faults();
        ASSERT_EQ(dgram_send_to(sender, "one", 3, &to_first, Results::take, &of_first), 0);
        ASSERT_EQ(dgram_send_to(sender, "second", 6, &to_second, Results::take, &of_second), 0);
        ASSERT_TRUE(run_until(loop, [&] {
            return of_first.values.size() + of_second.values.size() == 2 && two.count() > 0;
        }));
        settle(loop);
        SCOPED_TRACE(where());
        const bool told = was("ENOMEM") || was("EPERM");
        ASSERT_EQ(of_first.values.size(), 1u);
        EXPECT_EQ(of_first.values[0] > 0, !told) << dgram_error_name(of_first.values[0]);
        EXPECT_EQ(one.count(), told ? 0u : 1u);
        EXPECT_EQ(of_second.values, std::vector<int>{6});
        EXPECT_EQ(two.count(), 1u);
    });
    expect_echo(loop, sender);
}

/* The socket's buffer is full, and the poll that waits for room fails: it is tried again. */
TEST_P(HealResults, OfThePollForRoom)
{
    Inbox inbox;
    struct dgram_socket *receiver = open_inbox(loop, &inbox), *sender = open_bound(loop);
    const struct dgram_addr to = address_of(receiver);
    settle(loop);
    for (uint64_t length : {1, 5}) {
        with_each(Source::RESULTS, "poll", length, [&] {
            inbox.payloads.clear();
            Results results;
            begin_faults();
            sends_get_no_room(static_cast<unsigned>(length));
            for (int i = 0; i < 6; i++) { /* enough for a system call */
                ASSERT_EQ(dgram_send_to(sender, &"abcdef"[i], 6u - static_cast<unsigned>(i), &to,
                                        Results::take, &results),
                          0);
            }
            ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 6; })) << where();
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 6; })) << where();
            sends_get_no_room(0);
            EXPECT_EQ(results.values, (std::vector<int>{6, 5, 4, 3, 2, 1})) << where();
            EXPECT_EQ(inbox.payloads,
                      (std::vector<std::string>{"abcdef", "bcdef", "cdef", "def", "ef", "f"}))
                << where();
            /* The posts' poll may be the one that failed. */
            bool posted = false;
            Job job([&](struct dgram_loop *) { posted = true; });
            EXPECT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
            ASSERT_TRUE(run_until(loop, [&] { return posted; })) << where();
            /* What is left of the plan is met by more posts. */
            while (faults_injected().failed < length && !HasFailure()) {
                posted = false;
                EXPECT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
                ASSERT_TRUE(run_until(loop, [&] { return posted; })) << where();
            }
        });
    }
}

/* Receives that end, at once or with datagrams behind them, lose none: these lie in the socket. */
TEST_P(HealResults, OfReceives)
{
    for (Source source : {Source::RESULTS, Source::ENDS}) {
        const char *only = source == Source::RESULTS ? "receive" : "receiving";
        for (uint64_t length : {1, 3, 20}) {
            with_each(source, only, length, [&] {
                begin_faults();
                Inbox inbox;
                struct dgram_socket *receiver = open_inbox(loop, &inbox);
                struct dgram_socket *sender = open_bound(loop);
                const struct dgram_addr to = address_of(receiver);
                for (unsigned i = 0; i < 30; i++) {
                    ASSERT_EQ(send_and_wait(loop, sender, numbered(i), to), 64);
                }
                ASSERT_TRUE(run_until(loop, [&] { return inbox.count() >= 30; })) << where();
                settle(loop);
                ASSERT_EQ(inbox.count(), 30u) << where();
                for (unsigned i = 0; i < 30; i++) {
                    EXPECT_EQ(inbox.payloads[i], numbered(i)) << where();
                }
                close_and_wait(loop, sender);
                close_and_wait(loop, receiver);
                settle(loop);
            });
        }
    }
}

/* A receive that is being cancelled ends with another error than that: the socket closes. */
TEST_P(HealResults, OfReceivesOfSocketsThatClose)
{
    with_each(Source::ENDS, "receiving", 1, [&] {
        Inbox inbox;
        struct dgram_socket *receiver = open_inbox(loop, &inbox), *sender = open_bound(loop);
        const struct dgram_addr to = address_of(receiver);
        settle(loop);
        begin_faults();
        Handlers on;
        bool closed = false;
        on.message = [&](struct dgram_socket *socket, const struct dgram_message *) {
            EXPECT_EQ(dgram_close(socket), 0);
        };
        on.close = [&](struct dgram_socket *) { closed = true; };
        on.attach(receiver);
        ASSERT_EQ(send_text(sender, "the last", to), 0);
        ASSERT_TRUE(run_until(loop, [&] { return closed; })) << where();
        struct dgram_socket *next = open_socket(loop);
        EXPECT_EQ(dgram_bind(next, dgram_addr_port(&to), "127.0.0.1"), 0) << where();
        expect_echo(loop, next);
        close_and_wait(loop, next);
        close_and_wait(loop, sender);
    });
}

/* Trains of buffers that were to go without a copy go with one. */
TEST_P(HealResults, OfLoans)
{
    Inbox inbox;
    struct dgram_socket *receiver = open_inbox(loop, &inbox), *sender = open_bound(loop);
    const struct dgram_addr to = address_of(receiver);
    const std::string payload = pattern(20000, 7);
    settle(loop);
    for (unsigned e = 0; e < 6; e++) {
        struct dgram_buffer *buffer = nullptr;
        struct dgram_buffer_options options = buffer_options(DGRAM_ZERO_COPY);
        ASSERT_EQ(dgram_buffer_create(loop, 65536, &options, &buffer), 0);
        memcpy(dgram_buffer_data(buffer), payload.data(), payload.size());
        Plan plan;
        plan.source = Source::RESULTS;
        plan.only = "lend";
        plan.first = plan.length = 1;
        plan.errnum = e;
        inbox.payloads.clear();
        faults_begin(plan);
        ASSERT_EQ(dgram_send_buffer(sender, buffer, 0, payload.size(), &to), 0);
        ASSERT_TRUE(
            run_until(loop, [&] { return inbox.count() > 0 && !dgram_buffer_in_use(buffer); }));
        faults_end();
        settle(loop);
        EXPECT_EQ(inbox.payloads, std::vector<std::string>{payload}) << where();
        EXPECT_EQ(dgram_buffer_free(buffer), nullptr);
    }
}

} /* namespace */
