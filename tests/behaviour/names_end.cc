/* SPDX-License-Identifier: MIT */
/*
 * names_end.cc: the end of sockets and loops while names are being looked up.
 */
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>

#include "tests/support/names.h"

using namespace names;

namespace
{

class NameEnd : public NamesTest
{
};

INSTANTIATE_ON_HOST_ENGINES(NameEnd);

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

/* Those of a socket that closes leave the lists of several names; the others keep their order. */
TEST_P(NameEnd, CloseTakesOutItsOwnAndLeavesOthers)
{
    std::vector<struct dgram_socket *> sockets;
    std::vector<std::unique_ptr<Results>> results;
    std::vector<std::string> payloads(60); /* lent until the callback */
    for (size_t i = 0; i < 5; i++) {
        sockets.push_back(open_socket(loop));
        results.emplace_back(new Results);
    }
    for (size_t n = 0; n < 3; n++) {
        server->address(numbered_name(n), "127.0.0.1");
        server->hold(numbered_name(n));
    }
    for (unsigned k = 0; k < 60; k++) {
        size_t i = k % 5, n = k / 5 % 3;
        payloads[k] = numbered(k, 8);
        ASSERT_EQ(dgram_send(sockets[i], payloads[k].data(), 8, port_of(target),
                             numbered_name(n).c_str(), Results::take, results[i].get()),
                  0);
        run_until(loop, [] { return true; });
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked() == 3; }));
    for (size_t i : {0, 4, 2}) {
        close_and_wait(loop, sockets[i]);
        EXPECT_EQ(results[i]->values, repeated(-ECANCELED, 12));
    }
    for (size_t n = 0; n < 3; n++) {
        server->release(numbered_name(n));
    }
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 24; }));
    EXPECT_EQ(results[1]->values, repeated(8, 12));
    EXPECT_EQ(results[3]->values, repeated(8, 12));
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

} /* namespace */
