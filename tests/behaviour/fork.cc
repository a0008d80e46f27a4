/* SPDX-License-Identifier: MIT */
/*
 * fork.cc: a forked child: every function refuses it, a callback that forks is the last one that
 * runs in the child, and the parent is unharmed.
 */
#include <netinet/udp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Fork : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Fork);

/* ---- Fork ---------------------------------------------------------------------------------- */

/* Runs `fn` in a child process; it adds what is wrong to the text. */
void in_child(const std::function<void(std::string *)> &fn)
{
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    fflush(nullptr);
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        alarm(60 * patience());
        std::string wrong;
        fn(&wrong);
        if (!wrong.empty() && write(ends[1], wrong.data(), wrong.size()) < 0) {
            _exit(2);
        }
        _exit(0);
    }
    close(ends[1]);
    std::string wrong;
    char buffer[4096];
    ssize_t got;
    while ((got = read(ends[0], buffer, sizeof(buffer))) > 0 || (got < 0 && errno == EINTR)) {
        wrong.append(buffer, got > 0 ? static_cast<size_t>(got) : 0);
    }
    close(ends[0]);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
    EXPECT_EQ(wrong, "");
}

#define IN_CHILD(wrong, value, expected)                                                           \
    do {                                                                                           \
        long long is_ = static_cast<long long>(value);                                             \
        if (is_ != static_cast<long long>(expected)) {                                             \
            *(wrong) += std::string(#value) + " is " + std::to_string(is_) + "\n";                 \
        }                                                                                          \
    } while (0)

/* In one of the callbacks of dgram_loop_free(): the child's copy ends there, too. */
TEST_P(Fork, WhileTheLoopIsFreed)
{
    for (int which : {0, 1}) {
        struct dgram_loop *doomed = make_loop();
        pid_t child = -1;
        int closes = 0;
        Handlers on;
        on.close = [&](struct dgram_socket *) {
            if (closes++ == which) {
                fflush(nullptr);
                child = fork();
                alarm(child == 0 ? 60 * patience() : 0);
            }
        };
        for (int i = 0; i < 2; i++) {
            on.attach(open_bound(doomed));
        }
        EXPECT_EQ(dgram_loop_free(doomed), nullptr);
        if (child == 0) {
            _exit(closes == which + 1 ? 0 : 1);
        }
        int status = 1;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
        EXPECT_EQ(closes, 2);
    }
}

TEST_P(Fork, ChildIsToldByEveryFunction)
{
    struct dgram_socket *socket = open_bound(loop);
    Tick tick([](struct dgram_timer *) {});
    Job job([](struct dgram_loop *) {});
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    struct dgram_buffer *buffer = nullptr;
    ASSERT_EQ(dgram_buffer_create(loop, 20, nullptr, &buffer), 0);
    struct dgram_destination *destination = nullptr;
    ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, "127.0.0.1", &destination), 0);
    struct dgram_addr here = address_of(socket);
    expect_echo(loop, socket);
    ASSERT_EQ(dgram_send_buffer(socket, buffer, 0, 10, &here), 0); /* its lane is open */
    in_child([&](std::string *wrong) {
        for (const SocketCall &one : socket_calls()) {
            int code = one.call(socket);
            if (code != DGRAM_EFORKED) {
                *wrong += std::string(one.name) + " gives " + std::to_string(code) + "\n";
            }
        }
        struct dgram_socket *made = nullptr;
        struct dgram_timer *timed = nullptr;
        struct dgram_loop_info info = {};
        info.size = sizeof(info);
        IN_CHILD(wrong, dgram_loop_turn(loop, 0), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_loop_run(loop), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_loop_flush(loop), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_loop_fd(loop), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_loop_info(loop, &info), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_loop_post(loop, Job::call, &job), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_create_socket(loop, DGRAM_UDP4, nullptr, &made), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_timer_create(loop, Tick::call, &tick, &timed), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_timer_start(timer, 0, 0), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_timer_stop(timer), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_timer_ref(timer), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_timer_unref(timer), DGRAM_EFORKED);
        struct dgram_buffer *other = nullptr;
        IN_CHILD(wrong, dgram_buffer_create(loop, 1, nullptr, &other), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_on_idle(buffer, nullptr, nullptr), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_destination_address(destination, &here), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_send_buffer(socket, buffer, 10, 10, &here), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_buffer_zero_copy(buffer), DGRAM_EFORKED);
        IN_CHILD(wrong, dgram_buffer_free(buffer) == nullptr, true);
        IN_CHILD(wrong, dgram_loop_free(loop) == nullptr, true);
    });
    expect_echo(loop, socket);
    dgram_destination_free(destination);
}

/* In the child: memory and descriptors only; no callback, nothing sent. The parent goes on. */
TEST_P(Fork, ChildMayFreeTheLoopAndTheParentIsUnharmed)
{
    Plain peer;
    Inbox inbox;
    Results results;
    int closes = 0, ticks = 0, runs = 0;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    Handlers on;
    on.close = [&](struct dgram_socket *) { closes++; };
    on.attach(socket);
    Tick tick([&](struct dgram_timer *) { ticks++; });
    Job job([&](struct dgram_loop *) { runs++; });
    struct dgram_timer *timer = nullptr;
    struct dgram_addr to = peer.address();
    ASSERT_EQ(send_text(socket, "before", address_of(socket)), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    (void) dgram_loop_fd(loop);
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, 0), 0);
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    ASSERT_EQ(dgram_send_to(socket, "queued", 6, &to, Results::take, &results), 0);
    peer.send("waiting", address_of(socket));
    in_child([&](std::string *wrong) {
        IN_CHILD(wrong, dgram_loop_free(loop) == nullptr, true);
        IN_CHILD(wrong, closes + ticks + runs, 0);
        IN_CHILD(wrong, results.values.size(), 0);
        IN_CHILD(wrong, inbox.count(), 1);
    });
    EXPECT_FALSE(peer.readable()) << "the child sent what the parent had queued";
    ASSERT_TRUE(run_until(loop, [&] {
        return inbox.count() == 2 && results.values.size() == 1 && ticks == 1 && runs == 1;
    }));
    EXPECT_EQ(inbox.payloads[1], "waiting");
    EXPECT_EQ(results.values[0], 6);
    EXPECT_EQ(peer.receive(), "queued");
    EXPECT_FALSE(peer.readable());
    for (int i = 0; i < 20; i++) {
        expect_echo(loop, socket);
    }
    close_and_wait(loop, socket);
}

/* A stop in the child is not one of the parent; a child that does nothing may just end. */
TEST_P(Fork, ChildDoesNotStopTheParent)
{
    struct dgram_socket *socket = open_bound(loop);
    expect_echo(loop, socket);
    in_child([&](std::string *) { dgram_loop_stop(loop); });
    in_child([](std::string *) {});
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

TEST_P(Fork, ChildMayUseALoopOfItsOwn)
{
    Inbox inbox;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    const struct dgram_addr to = address_of(socket);
    ASSERT_EQ(dgram_loop_turn(loop, 0), 1);
    in_child([&](std::string *wrong) {
        struct dgram_loop *own = nullptr;
        struct dgram_socket *there = nullptr;
        Results results;
        dgram_loop_free(loop);
        IN_CHILD(wrong, GetParam().create(nullptr, &own), 0);
        IN_CHILD(wrong, dgram_create_socket(own, DGRAM_UDP4, nullptr, &there), 0);
        IN_CHILD(wrong, dgram_send_to(there, "child", 5, &to, Results::take, &results), 0);
        IN_CHILD(wrong, dgram_unref(there), 0);
        IN_CHILD(wrong, dgram_loop_run(own), 0);
        IN_CHILD(wrong, results.values.size(), 1);
        dgram_loop_free(own);
    });
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(inbox.payloads[0], "child");
}

/* The parent may end while a child still holds copies of its descriptors... and the other way
 * round: after the child closed its copies, the parent's close frees the port. */
TEST_P(Fork, PortIsFreeAfterTheParentsCloseWhenTheChildIsGone)
{
    uint16_t port = private_port(DGRAM_UDP4);
    for (int i = 0; i < 5; i++) {
        struct dgram_socket *socket = open_socket(loop);
        ASSERT_EQ(dgram_bind(socket, port, "127.0.0.1"), 0) << i;
        expect_echo(loop, socket);
        in_child([&](std::string *) { dgram_loop_free(loop); });
        close_and_wait(loop, socket);
    }
}

/* ---- Fixtures ------------------------------------------------------------------------------ */

/*
 * Tests in which the first of several callbacks forks. The child returns from it and from
 * dgram_loop_run(), and ends there; its exit status tells what was wrong.
 */
class ForkInCallback : public EngineTest
{
  protected:
    enum Wrong { CALLBACK_RAN = 1, WRONG_CODE = 2, TURNED_AGAIN = 4, LEFT_OPEN = 8 };

    void SetUp() override
    {
        peer_.reset(new Plain);
        before_ = descriptors();
        EngineTest::SetUp();
    }

    /* What every callback does. */
    void visit()
    {
        if (in_child_) {
            visits_of_child_++;
            return;
        }
        visits_++;
        if (visits_ == expected_) {
            dgram_loop_stop(loop);
        }
        if (visits_ == 1) {
            split();
        }
    }

    /* Prepares so many visits and runs the loop: the child frees it in its callback, or later. */
    void each_way(int visits, const std::function<void()> &prepare)
    {
        for (bool frees : {false, true}) {
            SCOPED_TRACE(frees ? "the child frees the loop in the callback" : "and returns");
            visits_ = 0;
            expected_ = visits;
            child_frees_ = frees;
            ASSERT_NO_FATAL_FAILURE(prepare());
            ASSERT_NO_FATAL_FAILURE(split_run());
        }
    }

    Plain &peer()
    {
        return *peer_;
    }

  private:
    void split_run()
    {
        int code = dgram_loop_run(loop);
        if (in_child_) {
            end_child(code);
        }
        EXPECT_EQ(code, 1);
        EXPECT_EQ(visits_, expected_) << "callbacks of the parent";
        ASSERT_TRUE(WIFEXITED(status_)) << "status " << status_;
        const int wrong = WEXITSTATUS(status_);
        EXPECT_FALSE(wrong & CALLBACK_RAN) << "another callback ran in the child";
        EXPECT_FALSE(wrong & WRONG_CODE) << "what dgram_loop_run() returned in the child";
        EXPECT_FALSE(wrong & TURNED_AGAIN) << "the child could turn the loop";
        EXPECT_FALSE(wrong & LEFT_OPEN) << "the child's copies of descriptors";
        for (int i = 0; i < 5; i++) {
            struct dgram_socket *socket = open_bound(loop);
            expect_echo(loop, socket);
            close_and_wait(loop, socket);
        }
    }

    void split()
    {
        pid_t child = fork();
        if (child == 0) {
            in_child_ = true;
            alarm(20 * patience());
            if (child_frees_) {
                loop = dgram_loop_free(loop);
            }
            return;
        }
        ASSERT_GT(child, 0);
        while (waitpid(child, &status_, 0) < 0 && errno == EINTR) {
        }
    }

    [[noreturn]] void end_child(int code)
    {
        int wrong = 0;
        if (child_frees_) {
            wrong |= code != 1 ? WRONG_CODE : 0; /* as ever when a callback frees the loop */
        } else {
            wrong |= code != DGRAM_EFORKED ? WRONG_CODE : 0;
            wrong |= dgram_loop_turn(loop, 0) != DGRAM_EFORKED ? TURNED_AGAIN : 0;
            dgram_loop_free(loop);
        }
        wrong |= visits_of_child_ > 0 ? CALLBACK_RAN : 0;
        wrong |= descriptors() != before_ ? LEFT_OPEN : 0;
        _exit(wrong);
    }

    std::unique_ptr<Plain> peer_;
    int before_ = 0;
    int visits_ = 0, expected_ = 0, visits_of_child_ = 0;
    bool in_child_ = false, child_frees_ = false;
    int status_ = -1;
};

INSTANTIATE_ON_HOST_ENGINES(ForkInCallback);

/* ---- Fork inside a callback ---------------------------------------------------------------- */

/* Whatever else is due in that turn stays the parent's. */
TEST_P(ForkInCallback, ChildLeavesOtherKindsOfEventsToTheParent)
{
    Tick tick([&](struct dgram_timer *) { visit(); });
    Job job([&](struct dgram_loop *) { visit(); });
    Sent sent([&](struct dgram_socket *, int) { visit(); });
    Handlers on, on_other;
    on.message = [&](struct dgram_socket *, const struct dgram_message *) { visit(); };
    on.listening = [&](struct dgram_socket *) { visit(); };
    on_other.close = [&](struct dgram_socket *) { visit(); };
    each_way(6, [&] {
        struct dgram_timer *timer = nullptr;
        struct dgram_socket *socket = open_bound(loop), *other = open_bound(loop);
        const struct dgram_addr to = peer().address();
        ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
        ASSERT_EQ(dgram_timer_start(timer, 0, 0), 0);
        on.attach(socket);
        on_other.attach(other);
        peer().send("hello", address_of(socket));
        ASSERT_EQ(dgram_send_to(socket, "x", 1, &to, Sent::call, &sent), 0);
        ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
        ASSERT_EQ(dgram_close(other), 0);
    });
}

TEST_P(ForkInCallback, ChildLeavesOtherTimersToTheParent)
{
    Tick tick([&](struct dgram_timer *) { visit(); });
    each_way(3, [&] {
        for (int i = 0; i < 3; i++) {
            struct dgram_timer *timer = nullptr;
            ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
            ASSERT_EQ(dgram_timer_start(timer, 0, 0), 0);
        }
    });
}

TEST_P(ForkInCallback, ChildLeavesOtherPostsToTheParent)
{
    Job job([&](struct dgram_loop *) { visit(); });
    each_way(3, [&] {
        for (int i = 0; i < 3; i++) {
            ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
        }
    });
}

TEST_P(ForkInCallback, ChildLeavesOtherSocketsToTheParent)
{
    Handlers on;
    on.listening = [&](struct dgram_socket *) { visit(); };
    each_way(3, [&] {
        for (int i = 0; i < 3; i++) {
            on.attach(open_bound(loop));
        }
    });
}

/* Single datagrams, then a train, which one receive brings. */
TEST_P(ForkInCallback, ChildLeavesOtherMessagesToTheParent)
{
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *) { visit(); };
    for (bool train : {false, true}) {
        SCOPED_TRACE(train);
        each_way(3, [&] {
            struct dgram_socket *socket = open_bound(loop);
            on.attach(socket);
            const std::string bytes(3, 'x');
#ifdef UDP_SEGMENT
            if (train) {
                peer().set(IPPROTO_UDP, UDP_SEGMENT, 1);
                peer().send(bytes, address_of(socket));
                peer().set(IPPROTO_UDP, UDP_SEGMENT, 0);
                return;
            }
#endif
            for (char byte : bytes) {
                peer().send(std::string(1, byte), address_of(socket));
            }
        });
    }
}

TEST_P(ForkInCallback, ChildLeavesOtherSendsToTheParent)
{
    Sent sent([&](struct dgram_socket *, int) { visit(); });
    each_way(3, [&] {
        const struct dgram_addr to = peer().address();
        struct dgram_socket *socket = open_bound(loop);
        for (int i = 0; i < 3; i++) {
            ASSERT_EQ(dgram_send_to(socket, "x", 1, &to, Sent::call, &sent), 0);
        }
    });
}

TEST_P(ForkInCallback, ChildLeavesOtherErrorsToTheParent)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    Handlers on;
    on.error = [&](struct dgram_socket *, const struct dgram_error *) { visit(); };
    each_way(3, [&] {
        for (const char *payload : {"one", "two", "longer"}) { /* alike, and not */
            struct dgram_socket *socket = open_bound(loop);
            on.attach(socket);
            ASSERT_EQ(send_text(socket, payload, refused_address()), 0);
        }
    });
    each_way(3, [&] {
        struct dgram_socket *socket = open_bound(loop);
        on.attach(socket);
        for (int i = 0; i < 3; i++) {
            ASSERT_EQ(send_text(socket, "x", refused_address()), 0);
        }
    });
}

TEST_P(ForkInCallback, ChildLeavesOtherClosesToTheParent)
{
    Handlers on;
    on.close = [&](struct dgram_socket *) { visit(); };
    each_way(3, [&] {
        for (int i = 0; i < 3; i++) {
            struct dgram_socket *socket = open_bound(loop);
            on.attach(socket);
            ASSERT_EQ(dgram_close(socket), 0);
        }
    });
}

} /* namespace */
