/* SPDX-License-Identifier: MIT */
/*
 * names_hook.cc: the program's own `lookup` hook: when it is asked, and what its answers do.
 */
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/names.h"

using namespace names;

namespace
{

class NameHook : public NamesTest
{
};

INSTANTIATE_ON_HOST_ENGINES(NameHook);

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
        const std::string host = "host" + std::to_string(-each) + ".test";
        code = each;
        EXPECT_EQ(result_of(host), each);
        failures.clear();
        ASSERT_EQ(send_plain("abc", host), 0);
        ASSERT_TRUE(run_until(loop, [&] { return failures.size() == 1; }));
        EXPECT_EQ(failures[0].code, each);
        EXPECT_EQ(failures[0].host, host);
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

/* The loop's clock stands still between turns; times to live go on. */
TEST_P(NameHook, TimeToLivePassesBetweenTurns)
{
    size_t count = 0;
    int code = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        count++;
        struct dgram_addr address = parse("127.0.0.1", 0);
        dgram_lookup_answer(lookup, code, &address, 1);
    };
    begin_with_hook(&hook);
    struct dgram_destination *destination = nullptr;
    ASSERT_EQ(
        dgram_destination_create(loop, DGRAM_UDP4, port_of(target), "handle.test", &destination),
        0);
    Results results;
    ASSERT_EQ(dgram_send_dest(sender, "abc", 3, destination, Results::take, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return !results.values.empty(); }));
    EXPECT_EQ(result_of("good.test"), 3);
    code = DGRAM_ENOTFOUND;
    EXPECT_EQ(result_of("bad.test"), DGRAM_ENOTFOUND);
    EXPECT_EQ(count, 3u);
    code = 0;
    usleep(static_cast<useconds_t>(TTL_OVER / 1000));
    EXPECT_EQ(result_of("good.test"), 3);
    EXPECT_EQ(count, 4u);
    EXPECT_EQ(result_of("bad.test"), 3);
    EXPECT_EQ(count, 5u);
    usleep(static_cast<useconds_t>(TTL_OVER / 1000));
    ASSERT_EQ(dgram_send_dest(sender, "abc", 3, destination, Results::take, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    EXPECT_EQ(count, 6u);
    usleep(static_cast<useconds_t>(TTL_OVER / 1000));
    struct dgram_addr address = {};
    EXPECT_EQ(dgram_destination_address(destination, &address), 0);
    ASSERT_GE(dgram_loop_turn(loop, 0), 0);
    EXPECT_EQ(count, 7u);
    dgram_destination_free(destination);
}

/* A child's answer is refused, and does not wake the parent, whose descriptor it shares. */
TEST_P(NameHook, ForkedChildCannotAnswer)
{
    struct dgram_lookup *question = nullptr;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) { question = lookup; };
    begin_with_hook(&hook);
    const int fd = dgram_loop_fd(loop);
    Results results;
    const struct dgram_addr answer = parse("127.0.0.1", 1);
    ASSERT_EQ(send_counted("host.test", &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return question != nullptr; }));
    settle(loop);
    struct pollfd ready = {fd, POLLIN, 0};
    ASSERT_TRUE(fd < 0 || spin_until(loop, [&] { return poll(&ready, 1, 0) == 0; }));
    fflush(nullptr);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        _exit(dgram_lookup_answer(question, 0, &answer, 1) == DGRAM_EFORKED ? 0 : 1);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_TRUE(fd < 0 || poll(&ready, 1, 0) == 0) << "the child woke the parent";
    EXPECT_EQ(dgram_lookup_answer(question, 0, &answer, 1), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    EXPECT_EQ(results.values, std::vector<int>{3});
}

/* What was answered before the hook forked is the parent's to act upon. */
TEST_P(NameHook, ForkAfterTheAnswerSendsOnce)
{
    constexpr unsigned COUNT =
        400; /* more than a submission, so that a child would not keep them */
    pid_t child = -1;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        const struct dgram_addr answer = parse("127.0.0.1", 1);
        EXPECT_EQ(dgram_lookup_answer(lookup, 0, &answer, 60), 0);
        fflush(nullptr);
        child = fork();
    };
    begin_with_hook(&hook);
    for (unsigned i = 0; i < COUNT; i++) {
        ASSERT_EQ(
            dgram_send(sender, "payload", i % 7, port_of(target), "host.test", nullptr, nullptr),
            0);
    }
    const int code = dgram_loop_turn(loop, 0);
    if (child == 0) {
        _exit(code == DGRAM_EFORKED && dgram_loop_free(loop) == nullptr ? 0 : 1);
    }
    int status = 1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() >= COUNT; }));
    settle(loop);
    EXPECT_EQ(inbox.count(), COUNT);
}

/* A failure that says nothing of the name is not remembered, but told. */
TEST_P(NameHook, HandleTellsEveryFailure)
{
    unsigned asked = 0;
    int failure = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        const struct dgram_addr wrong = parse("::1", 1);
        asked++;
        (void) dgram_lookup_answer(lookup, failure, &wrong, 60);
    };
    begin_with_hook(&hook);
    for (int expected : {-ENOMEM, static_cast<int>(DGRAM_EBADFAMILY)}) {
        failure = expected == -ENOMEM ? expected : 0;
        struct dgram_destination *handle = nullptr;
        struct dgram_addr address = {};
        const std::string host = "host" + std::to_string(-expected) + ".test";
        ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, host.c_str(), &handle), 0);
        EXPECT_EQ(dgram_destination_address(handle, &address), -EAGAIN);
        ASSERT_TRUE(run_until(loop, [&] { return asked > 0; }));
        EXPECT_EQ(dgram_destination_address(handle, &address), expected);
        dgram_destination_free(handle);
        asked = 0;
    }
}

TEST_P(NameHook, IsNotAskedWhenTheLoopIsFreed)
{
    struct dgram_loop_options options = loop_options();
    unsigned asked = 0;
    Hook hook;
    hook.fn = [&](struct dgram_lookup *lookup, const std::string &, int) {
        asked++;
        (void) dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 0);
    };
    options.lookup = Hook::call;
    options.lookup_user = &hook;
    for (const bool in_a_callback : {true, false}) {
        struct dgram_loop *doomed = make_loop(&options);
        struct dgram_socket *socket = open_bound(doomed);
        Results results;
        auto send_and_free = [&](struct dgram_timer *) {
            EXPECT_EQ(dgram_send(socket, "x", 1, 9, "host.test", Results::take, &results), 0);
            EXPECT_EQ(dgram_loop_free(doomed), nullptr);
        };
        Tick tick(send_and_free);
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(doomed, Tick::call, &tick, &timer), 0);
        ASSERT_EQ(dgram_timer_start(timer, 0, 0), 0);
        if (in_a_callback) {
            EXPECT_EQ(dgram_loop_run(doomed), 1);
        } else {
            send_and_free(timer);
        }
        EXPECT_EQ(results.values, std::vector<int>{-ECANCELED});
    }
    EXPECT_EQ(asked, 0u);
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

} /* namespace */
