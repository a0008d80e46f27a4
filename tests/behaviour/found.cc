/* SPDX-License-Identifier: MIT */
/*
 * behaviour_found.cc: what reviews found: defects that the other suites had let through, one test
 * each. Those that need a slow device are in found_netns.cc.
 */
#include <netinet/udp.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>

#include "tests/support/harness.h"

extern "C" {
#include "src/base/memory.h"
}

using namespace harness;

namespace
{

/* ---- The hooks ----------------------------------------------------------------------------- */

std::atomic<uint64_t> fail_at{0};     /* counts down; the allocation that meets 1 fails */
std::atomic<bool> fail_always{false}; /* every one fails */

void *scarce_allocate(size_t size)
{
    uint64_t left = fail_at.load();
    while (left > 0 && !fail_at.compare_exchange_weak(left, left - 1)) {
    }
    return left == 1 || fail_always ? nullptr : calloc(1, size > 0 ? size : 1);
}

/* ---- Fixtures ------------------------------------------------------------------------------ */

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

class Found : public EngineTest
{
  protected:
    /* Until a handler stops it. */
    void run_awake()
    {
        Guard guard(loop);
        EXPECT_EQ(dgram_loop_run(loop), 1);
        EXPECT_FALSE(guard.fired()) << "the loop slept over what it had to do";
    }
};

class FoundNoMemory : public EngineTest
{
  protected:
    void SetUp() override
    {
        before_ = dg_memory;
        fail_at = 0;
        fail_always = false;
        dg_memory = {scarce_allocate, free};
        EngineTest::SetUp();
    }
    void TearDown() override
    {
        fail_at = 0;
        fail_always = false;
        EngineTest::TearDown();
        dg_memory = before_;
    }

  private:
    struct dg_memory_hooks before_ = {};
};

/*
 * Tests in which the first of several callbacks forks. The child returns from it and from
 * dgram_loop_run(), and ends there; its exit status tells what was wrong.
 */
class FoundFork : public EngineTest
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

INSTANTIATE_ON_HOST_ENGINES(Found);
INSTANTIATE_ON_HOST_ENGINES(FoundNoMemory);
INSTANTIATE_ON_HOST_ENGINES(FoundFork);

/* Larger than the one IPv6 packet that fits loopback, so the kernel makes fragments, and they need
 * more than the smallest send buffer: -ENOBUFS for ever, without any device being slow. */
const size_t NEVER_FITS = DGRAM_UDP6_SIZE_MAX;

bool never_fits_usable()
{
    static const bool value = [] {
        if (!has_ipv6()) {
            return false;
        }
        Plain sender(DGRAM_UDP6), receiver(DGRAM_UDP6);
        sender.set(SOL_SOCKET, SO_SNDBUF, 1);
        const std::string bytes(NEVER_FITS, 'x');
        const struct dgram_addr to = receiver.address();
        ssize_t sent =
            sendto(sender.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT, &to.u.any, to.size);
        return sent < 0 && errno == ENOBUFS;
    }();
    return value;
}

struct dgram_socket *open_narrow(struct dgram_loop *loop)
{
    struct dgram_socket_options options = socket_options();
    options.send_buffer_size = 1; /* the kernel's least */
    struct dgram_socket *socket = nullptr;
    EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP6, &options, &socket), 0);
    EXPECT_EQ(dgram_bind(socket, 0, "::1"), 0);
    return socket;
}

/* ---- The loop slept ------------------------------------------------------------------------ */

/* Two sizes to one peer are two sends, of which the second depends on the first. When that one is
 * refused while it is being submitted, nothing else would end the sleep. */
TEST_P(Found, RefusedChainIsToldAtOnce)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    std::vector<int> codes;
    const struct dgram_addr to = refused_address();
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        EXPECT_EQ(send_text(which, std::string(10, 'a'), to), 0);
        EXPECT_EQ(send_text(which, std::string(20, 'b'), to), 0);
    };
    on.error = [&](struct dgram_socket *, const struct dgram_error *error) {
        EXPECT_STREQ(error->operation, "send");
        codes.push_back(error->code);
        if (codes.size() == 2) {
            dgram_loop_stop(loop);
        }
    };
    on.attach(socket);
    run_awake();
    EXPECT_EQ(codes, (std::vector<int>{-EACCES, -EACCES}));
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
}

/* The flooded take all slots and starve; they go on as soon as slots are free. */
TEST_P(Found, FewSlotsServeManySockets)
{
    const size_t sockets = 20, each = 10;
    for (size_t flooded : {size_t{1}, sockets}) {
        SCOPED_TRACE(flooded);
        struct dgram_loop_options options = loop_options();
        options.slots = 4;
        remake_loop(options);
        Plain peer;
        std::vector<Inbox> inboxes(sockets);
        std::vector<Handlers> on(sockets);
        size_t received = 0;
        for (size_t i = 0; i < sockets; i++) {
            struct dgram_socket *socket = open_bound(loop);
            on[i].message = [&, i](struct dgram_socket *which,
                                   const struct dgram_message *message) {
                Inbox::take(which, message, &inboxes[i]);
                if (++received == flooded * each) {
                    dgram_loop_stop(loop);
                }
            };
            on[i].attach(socket);
            for (unsigned n = 0; i < flooded && n < each; n++) {
                peer.send(numbered(n), address_of(socket));
            }
        }
        run_awake();
        for (size_t i = 0; i < flooded; i++) {
            ASSERT_EQ(inboxes[i].count(), each) << "socket " << i;
            for (unsigned n = 0; n < each; n++) {
                EXPECT_EQ(inboxes[i].payloads[n], numbered(n)) << "socket " << i;
            }
        }
        EXPECT_EQ(info_of(loop).slots_free, 4u);
    }
}

/* A limit below what a submission may hold: nothing was submitted yet when the queue was full. */
TEST_P(Found, DrainComesBelowASubmission)
{
    if (info_of(loop).segments_max == 1) {
        GTEST_SKIP() << "without trains a submission is full before the queue is";
    }
    Plain sink;
    const struct dgram_addr to = sink.address();
    int drains = 0;
    struct dgram_socket_options options = socket_options();
    options.queue_limit = 64 * 1024;
    struct dgram_socket *socket = nullptr;
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
    auto fill = [&](struct dgram_socket *which) {
        int code, accepted = 0;
        while ((code = send_text(which, std::string(300, 'x'), to)) == 0) {
            accepted++;
        }
        EXPECT_EQ(code, -EAGAIN);
        EXPECT_GE(accepted, 80) << "half of the queue was free";
    };
    Handlers on;
    on.listening = fill;
    on.drain = [&](struct dgram_socket *which) {
        if (++drains == 3) {
            dgram_loop_stop(loop);
        } else {
            fill(which);
        }
    };
    on.attach(socket);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    run_awake();
    EXPECT_EQ(drains, 3);
    EXPECT_EQ(stats_of(socket).send_errors, 0u);
}

/* What a callback sent before it stopped the loop is out when dgram_loop_run() returns: it may be
 * long until the next turn. */
TEST_P(Found, SendIsOutWhenAStopEndsTheRun)
{
    Plain peer;
    const struct dgram_addr to = peer.address();
    struct dgram_socket *socket = open_bound(loop);
    Handlers on;
    on.listening = [&](struct dgram_socket *which) {
        EXPECT_EQ(send_text(which, "last", to), 0);
        dgram_loop_stop(loop);
    };
    on.attach(socket);
    ASSERT_EQ(dgram_loop_run(loop), 1);
    ASSERT_TRUE(peer.readable()) << "it was accepted and not sent";
    EXPECT_EQ(peer.receive(), "last");
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
}

/* dgram_loop_run() now and then, another event loop in between: its descriptor knows of the timers
 * that the run has left behind, however it ended. */
TEST_P(Found, RunLeavesTheDescriptorKnowingTheTimers)
{
    int fd = dgram_loop_fd(loop);
    if (fd == -ENOTSUP) {
        GTEST_SKIP() << "this host has only poll(2)";
    }
    ASSERT_GE(fd, 0);
    Plain peer;
    for (bool stops : {false, true}) {
        SCOPED_TRACE(stops);
        bool fired = false;
        struct dgram_timer *timer = nullptr;
        Tick tick([&](struct dgram_timer *) { fired = true; });
        Handlers on;
        on.message = [&](struct dgram_socket *which, const struct dgram_message *) {
            EXPECT_EQ(dgram_timer_start(timer, 30 * MILLISECOND, 0), 0);
            EXPECT_EQ(dgram_unref(which), 0);
            if (stops) {
                dgram_loop_stop(loop);
            }
        };
        struct dgram_socket *socket = open_bound(loop);
        on.attach(socket);
        ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
        ASSERT_EQ(dgram_timer_unref(timer), 0);
        settle(loop);
        ASSERT_GE(dgram_loop_turn(loop, 0), 0); /* nothing is left to tell */
        peer.send("go", address_of(socket));
        ASSERT_EQ(dgram_loop_run(loop), stops ? 1 : 0);
        ASSERT_FALSE(fired);
        while (!fired) {
            struct pollfd ready = {fd, POLLIN, 0};
            int count = poll(&ready, 1, static_cast<int>(5000 * patience()));
            ASSERT_EQ(count, 1) << "the descriptor does not know of the timer";
            ASSERT_GE(dgram_loop_turn(loop, 0), 0);
        }
        dgram_timer_free(timer);
        close_and_wait(loop, socket);
    }
}

/* ---- Sends that wait ----------------------------------------------------------------------- */

/* A datagram that never fits, sent, and another peer of its socket. */
class NeverFits : public Found
{
  protected:
    void SetUp() override
    {
        Found::SetUp();
        if (!IsSkipped() && !never_fits_usable()) {
            GTEST_SKIP() << "loopback takes any datagram whole";
        }
        if (!IsSkipped()) {
            peer_.reset(new Plain(DGRAM_UDP6));
            other.reset(new Plain(DGRAM_UDP6));
            socket = open_narrow(loop);
            const struct dgram_addr to = peer_->address();
            ASSERT_EQ(dgram_send_to(socket, big_.data(), big_.size(), &to, Results::take, &bigs),
                      0);
        }
    }
    void TearDown() override
    {
        peer_.reset();
        other.reset();
        Found::TearDown();
    }
    int send_small()
    {
        const struct dgram_addr to = other->address();
        return dgram_send_to(socket, "small", 5, &to, Results::take, &smalls);
    }

    std::unique_ptr<Plain> other;
    struct dgram_socket *socket = nullptr;
    Results bigs, smalls;

  private:
    std::unique_ptr<Plain> peer_;
    const std::string big_ = pattern(NEVER_FITS, 1);
};

INSTANTIATE_ON_HOST_ENGINES(NeverFits);

/* -ENOBUFS means "later" - unless it says so for a second in which nothing could be sent. */
TEST_P(NeverFits, AndFailsInTheEnd)
{
    bool closed = false;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closed = true; };
    on.attach(socket);
    ASSERT_EQ(send_small(), 0);
    ASSERT_EQ(dgram_end(socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
    EXPECT_EQ(bigs.values, std::vector<int>{-ENOBUFS});
    EXPECT_EQ(smalls.values, std::vector<int>{5});
    EXPECT_EQ(other->receive(), "small");
}

/* Also while others of the socket are sent: those showed that "something can be sent". */
TEST_P(NeverFits, AndFailsBesideOthersThatDo)
{
    Tick tick([&](struct dgram_timer *) { EXPECT_EQ(send_small(), 0); });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, 0, 50 * MILLISECOND), 0);
    ASSERT_TRUE(run_until(loop, [&] { return !bigs.values.empty(); }));
    EXPECT_EQ(bigs.values, std::vector<int>{-ENOBUFS});
    dgram_timer_free(timer);
    ASSERT_TRUE(run_until(loop, [&] { return dgram_get_send_queue_count(socket) == 0; }));
    EXPECT_GT(smalls.values.size(), 1u);
    EXPECT_EQ(smalls.values, std::vector<int>(smalls.values.size(), 5));
}

/* A wrong address is refused whether in a train or alone: no reason to make none. */
TEST_P(Found, AddressThatCannotBeSentToLeavesTrainsToOthers)
{
    const uint32_t longest = info_of(loop).segments_max;
    Plain peer;
    struct dgram_socket *socket = open_bound(loop);
    for (int i = 1; i <= 10; i++) { /* from 127.0.0.1 nothing can be sent there: EINVAL */
        const struct dgram_addr far = parse("203.0.113." + std::to_string(i), 9);
        ASSERT_EQ(send_text(socket, "one", far), 0);
        ASSERT_EQ(send_text(socket, "two", far), 0);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return stats_of(socket).send_errors == 20; }));
    const uint64_t before = stats_of(socket).sends;
    for (unsigned i = 0; i < 64; i++) {
        ASSERT_EQ(send_text(socket, "near", peer.address()), 0);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return stats_of(socket).sent == 64; }));
    EXPECT_EQ(stats_of(socket).sends - before, (64 + longest - 1) / longest);
}

TEST_P(Found, ParkedDatagramIsCountedOnce)
{
    if (!never_fits_usable()) {
        GTEST_SKIP() << "loopback takes any datagram whole";
    }
    Plain peer(DGRAM_UDP6);
    const struct dgram_addr to = peer.address();
    struct dgram_socket *socket = open_narrow(loop);
    Results results;
    const std::string big = pattern(NEVER_FITS, 1);
    ASSERT_EQ(send_text(socket, big, to), 0);
    ASSERT_EQ(dgram_send_to(socket, big.data(), big.size(), &to, Results::take, &results), 0);
    const uint64_t before = info_of(loop).flushes;
    ASSERT_TRUE(run_until(loop, [&] { return info_of(loop).flushes > before + 30; }));
    EXPECT_EQ(dgram_get_send_queue_count(socket), 2u);
    EXPECT_EQ(stats_of(socket).parked, 2u);
    close_and_wait(loop, socket);
    EXPECT_EQ(results.values.size(), 1u);
}

TEST_P(Found, QueueIsEmptyForAClosedSocket)
{
    Plain peer;
    Results results;
    const struct dgram_addr to = peer.address();
    struct dgram_socket *socket = open_bound(loop);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(send_text(socket, "plain", to), 0);
        ASSERT_EQ(dgram_send_to(socket, "asked", 5, &to, Results::take, &results), 0);
    }
    ASSERT_EQ(dgram_get_send_queue_count(socket), 6u);
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_get_send_queue_size(socket), 0u);
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
    ASSERT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(results.values, (std::vector<int>{5, 5, 5}));
}

/* ---- Pausing ------------------------------------------------------------------------------- */

/* Flow control by the message: what was taken from the kernel and not delivered is held back. No
 * more is taken before that is out, or memory would fill instead of the kernel's buffer. */
TEST_P(Found, PauseAfterEveryMessageHoldsLittleBack)
{
    Plain peer;
    struct dgram_socket *socket = open_socket(loop);
    ASSERT_EQ(dgram_set_recv_buffer_size(socket, 200000), 0);
    ASSERT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
    const struct dgram_addr to = address_of(socket);
    Inbox inbox;
    bool pauses = true;
    Handlers on;
    on.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        Inbox::take(which, message, &inbox);
        if (pauses) {
            EXPECT_EQ(dgram_pause(which), 0);
        }
    };
    on.attach(socket);
    const uint64_t pool = info_of(loop).slots;
    unsigned sent = 0;
    for (size_t round = 1; round <= 200; round++) {
        for (int i = 0; i < 20; i++) {
            peer.send(numbered(sent++, 1000), to); /* most find the buffer full */
        }
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() >= round; }));
        ASSERT_EQ(inbox.count(), round) << "a message came while the socket was paused";
        const struct dgram_socket_stats stats = stats_of(socket);
        ASSERT_LT(stats.receives - stats.received, pool) << "round " << round;
        ASSERT_EQ(dgram_resume(socket), 0);
    }
    pauses = false; /* what was held back is not lost, and comes first */
    settle(loop);
    settle(loop);
    peer.send("end", to);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.payloads.back() == "end"; }));
    inbox.payloads.pop_back();
    const struct dgram_socket_stats stats = stats_of(socket);
    EXPECT_EQ(stats.receives, stats.received);
    EXPECT_EQ(stats.discarded, 0u);
    unsigned next = 0;
    for (const std::string &payload : inbox.payloads) {
        while (next < sent && payload != numbered(next, 1000)) {
            next++;
        }
        ASSERT_LT(next++, sent) << "not what was sent, or not in this order";
    }
}

/* ---- Fork inside a callback ---------------------------------------------------------------- */

/* Whatever else is due in that turn stays the parent's. */
TEST_P(FoundFork, ChildLeavesOtherKindsOfEventsToTheParent)
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

TEST_P(FoundFork, ChildLeavesOtherTimersToTheParent)
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

TEST_P(FoundFork, ChildLeavesOtherPostsToTheParent)
{
    Job job([&](struct dgram_loop *) { visit(); });
    each_way(3, [&] {
        for (int i = 0; i < 3; i++) {
            ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
        }
    });
}

TEST_P(FoundFork, ChildLeavesOtherSocketsToTheParent)
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
TEST_P(FoundFork, ChildLeavesOtherMessagesToTheParent)
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

TEST_P(FoundFork, ChildLeavesOtherSendsToTheParent)
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

TEST_P(FoundFork, ChildLeavesOtherErrorsToTheParent)
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

TEST_P(FoundFork, ChildLeavesOtherClosesToTheParent)
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

/* ---- No memory ----------------------------------------------------------------------------- */

/*
 * Each socket makes room for its events in lists that take turns. One that could not be made must
 * not leave half of that: later ones would count on it, and the events of all of them in one turn
 * find no room. Wherever the sockets are made, and however many turns pass in between.
 */
class SocketsWithoutMemory
{
  public:
    enum Where { OUTSIDE, POSTED, MESSAGE };

    explicit SocketsWithoutMemory(struct dgram_loop *loop) : loop_(loop)
    {
        on_.message = [this](struct dgram_socket *, const struct dgram_message *) { received_++; };
        on_.close = [this](struct dgram_socket *) { closed_++; };
    }

    /* Makes sockets in that place with the n-th allocation failing. Returns whether one failed. */
    bool make(Where where, uint64_t n)
    {
        bool made = false;
        auto scarce = [&] {
            fail_at = n;
            int code = 0;
            for (size_t i = 0; i < count() && code == 0; i++) {
                code = make_one();
            }
            failed_ = fail_at == 0;
            fail_at = 0;
            made = true;
        };
        Job job([&](struct dgram_loop *) { scarce(); });
        Handlers on;
        on.message = [&](struct dgram_socket *, const struct dgram_message *) { scarce(); };
        if (where == OUTSIDE) {
            scarce();
        } else if (where == POSTED) {
            EXPECT_EQ(dgram_loop_post(loop_, Job::call, &job), 0);
        } else {
            struct dgram_socket *socket = open_bound(loop_);
            on.attach(socket);
            peer_.send("go", address_of(socket));
        }
        run_until(loop_, [&] { return made; });
        return failed_;
    }

    /* As many as the room is for that one failed attempt may have left: no allocation fails now. */
    void fill(size_t turns)
    {
        for (size_t i = 0; i < turns; i++) {
            EXPECT_GE(dgram_loop_turn(loop_, 0), 0);
        }
        while (sockets_.size() < count()) {
            ASSERT_EQ(make_one(), 0);
        }
    }

    /* As many events in one turn as there can be: all slots, all who want more, all who close. */
    void flood()
    {
        const size_t receivers = 8, slots = info_of(loop_).slots, each = slots / receivers + 1;
        EXPECT_GE(dgram_loop_turn(loop_, 0), 0);
        for (size_t i = 0; i < sockets_.size(); i++) {
            if (i >= receivers) {
                ASSERT_EQ(dgram_close(sockets_[i]), 0);
                continue;
            }
            ASSERT_EQ(dgram_bind(sockets_[i], 0, "127.0.0.1"), 0);
            for (size_t n = 0; n < each; n++) {
                peer_.send("hello", address_of(sockets_[i]));
            }
        }
        ASSERT_TRUE(run_until(loop_, [&] { return received_ == receivers * each; }));
        for (size_t i = 0; i < receivers; i++) {
            ASSERT_EQ(dgram_close(sockets_[i]), 0);
        }
        ASSERT_TRUE(run_until(loop_, [&] { return closed_ == sockets_.size(); }));
    }

  private:
    size_t count() const
    {
        return (info_of(loop_).slots + 1) / 3;
    }

    int make_one()
    {
        struct dgram_socket *socket = nullptr;
        int code = dgram_create_socket(loop_, DGRAM_UDP4, nullptr, &socket);
        if (code == 0) {
            on_.attach(socket);
            sockets_.push_back(socket);
        } else {
            EXPECT_EQ(code, -ENOMEM);
        }
        return code;
    }

    struct dgram_loop *loop_;
    Plain peer_;
    Handlers on_;
    std::vector<struct dgram_socket *> sockets_;
    size_t received_ = 0, closed_ = 0;
    bool failed_ = false;
};

TEST_P(FoundNoMemory, FailedSocketLeavesTheRoomWhole)
{
    for (auto where : {SocketsWithoutMemory::OUTSIDE, SocketsWithoutMemory::POSTED,
                       SocketsWithoutMemory::MESSAGE}) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            for (size_t turns = 0; turns < 3; turns++) {
                SCOPED_TRACE(testing::Message() << "place " << where << ", allocation " << n
                                                << " fails, " << turns << " turns");
                remake_loop(loop_options());
                SocketsWithoutMemory sockets(loop);
                failed = sockets.make(where, n);
                ASSERT_NO_FATAL_FAILURE(sockets.fill(turns));
                ASSERT_NO_FATAL_FAILURE(sockets.flood());
            }
            ASSERT_LT(n, 1000u);
        }
    }
}

/* Neither parked nor sent, and the socket waits for a moment all the same: it may close then. */
TEST_P(FoundNoMemory, NothingParkedAndClosed)
{
    if (!never_fits_usable()) {
        GTEST_SKIP() << "loopback takes any datagram whole";
    }
    Plain peer(DGRAM_UDP6);
    const struct dgram_addr to = peer.address();
    const std::string big = pattern(NEVER_FITS, 1);
    for (bool ends : {true, false}) {
        SCOPED_TRACE(ends);
        bool closed = false;
        struct dgram_socket *socket = open_narrow(loop);
        Handlers on;
        on.close = [&](struct dgram_socket *) { closed = true; };
        on.attach(socket);
        settle(loop);
        ASSERT_EQ(send_text(socket, big, to), 0);
        if (ends) {
            ASSERT_EQ(dgram_end(socket), 0);
        }
        fail_always = true;
        for (int i = 0; i < 4; i++) {
            ASSERT_GE(dgram_loop_turn(loop, 0), 0);
        }
        fail_always = false;
        if (!ends) {
            EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
            ASSERT_EQ(dgram_close(socket), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return closed; }));
        usleep(5000); /* beyond that moment */
        settle(loop);
    }
}

/* ---- The end of a loop --------------------------------------------------------------------- */

/* What is posted before is called; nothing would call what is posted now. */
TEST_P(Found, PostWhileTheLoopIsFreedIsRefused)
{
    for (bool ran : {false, true}) {
        SCOPED_TRACE(ran);
        struct dgram_loop *made = make_loop();
        std::vector<int> codes;
        int late = 0;
        Job late_job([&](struct dgram_loop *) { late++; });
        Job job([&](struct dgram_loop *which) {
            codes.push_back(dgram_loop_post(which, Job::call, &late_job));
        });
        Handlers on;
        on.close = [&](struct dgram_socket *socket) {
            codes.push_back(dgram_loop_post(dgram_socket_loop(socket), Job::call, &late_job));
        };
        struct dgram_socket *socket = open_bound(made);
        on.attach(socket);
        if (ran) {
            settle(made);
        }
        ASSERT_EQ(dgram_loop_post(made, Job::call, &job), 0);
        EXPECT_EQ(dgram_loop_free(made), nullptr);
        EXPECT_EQ(codes, (std::vector<int>{DGRAM_ENOTRUNNING, DGRAM_ENOTRUNNING}));
        EXPECT_EQ(late, 0);
    }
}

} /* namespace */
