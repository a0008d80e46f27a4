/* SPDX-License-Identifier: MIT */
/*
 * memory.cc: no memory: a constructor, a send or a turn that gets none fails cleanly or does
 * without, and leaves nothing behind.
 */
#include <deque>

#include "tests/support/harness.h"
#include "tests/support/memory.h"

using namespace harness;
using namespace memory;

namespace
{

/* ---- The hooks ----------------------------------------------------------------------------- */

class NoMemory : public MemoryTest
{
  protected:
    /* Runs `scenario` again and again, each time with the next allocation failing, until none is
     * left to fail. It returns its code and cleans up what it made. */
    void fail_each(const std::function<int()> &scenario)
    {
        ASSERT_EQ(scenario(), 0) << "without any failure"; /* and whatever is made only once */
        for (uint64_t n = 1; n < 10000; n++) {
            SCOPED_TRACE(testing::Message() << "allocation " << n << " fails");
            const int64_t live_before = live;
            const int descriptors_before = descriptors();
            failed = false;
            fail_at = n; /* a scenario may suspend it */
            const int code = scenario();
            fail_at = 0;
            EXPECT_EQ(live, live_before) << "memory was left behind";
            EXPECT_EQ(descriptors(), descriptors_before);
            if (!failed) {
                EXPECT_EQ(code, 0);
                EXPECT_GT(n, 1u) << "nothing was allocated at all";
                return;
            }
            EXPECT_TRUE(code == -ENOMEM || code == 0) << dgram_error_name(code);
            if (HasFailure()) {
                return;
            }
        }
        FAIL() << "no end";
    }
};

INSTANTIATE_ON_HOST_ENGINES(NoMemory);

/* ---- No memory ----------------------------------------------------------------------------- */

TEST_P(NoMemory, ForALoop)
{
    struct dgram_loop_options options = loop_options();
    options.engine = GetParam().number;
    fail_each([&] {
        struct dgram_loop *const untouched = reinterpret_cast<struct dgram_loop *>(&loop);
        struct dgram_loop *made = untouched;
        const uint64_t failing = fail_at;
        int code;
        do { /* the kernel itself may have no memory for a ring: see patiently() */
            fail_at = failing;
            code = dgram_loop_create(&options, &made);
        } while (code == -ENOMEM && !failed);
        if (code < 0) {
            EXPECT_EQ(made, untouched);
        } else {
            EXPECT_EQ(dgram_loop_free(made), nullptr);
        }
        return code;
    });
}

/* Creation, bind and the first receive: one that fails is tried again without being asked. */
TEST_P(NoMemory, ForASocket)
{
    Plain peer;
    fail_each([&] {
        const uint64_t failing = fail_at;
        fail_at = 0;
        struct dgram_loop *made = nullptr;
        EXPECT_EQ(GetParam().create(nullptr, &made), 0);
        fail_at = failing;
        struct dgram_socket *const untouched = reinterpret_cast<struct dgram_socket *>(&loop);
        struct dgram_socket *socket = untouched;
        bool received = false, told = false;
        int code = dgram_create_socket(made, DGRAM_UDP4, nullptr, &socket);
        if (code < 0) {
            EXPECT_EQ(socket, untouched);
            fail_at = 0;
            EXPECT_EQ(dgram_loop_free(made), nullptr);
            return code;
        }
        Handlers on;
        on.message = [&](struct dgram_socket *, const struct dgram_message *) { received = true; };
        on.error = [&](struct dgram_socket *, const struct dgram_error *error) {
            EXPECT_EQ(error->code, -ENOMEM);
            told = true;
        };
        on.attach(socket);
        code = dgram_bind(socket, 0, "127.0.0.1");
        if (code == 0) {
            peer.send("hello", address_of(socket));
            EXPECT_TRUE(run_until(
                made, [&] { return received || told || stats_of(socket).errors_lost > 0; }));
        }
        fail_at = 0;
        if (code < 0) {
            EXPECT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
            peer.send("hello", address_of(socket));
        }
        EXPECT_TRUE(run_until(made, [&] { return received; }));
        EXPECT_EQ(dgram_loop_free(made), nullptr);
        return code;
    });
}

/* So many that every table grows. */
TEST_P(NoMemory, ForManySockets)
{
    fail_each([&] {
        int first = 0, created = 0, closed = 0;
        Handlers on;
        on.close = [&](struct dgram_socket *) { closed++; };
        for (int i = 0; i < 100; i++) {
            struct dgram_socket *socket = nullptr;
            int code = dgram_create_socket(loop, DGRAM_UDP4, nullptr, &socket);
            if (code < 0) {
                EXPECT_EQ(first, 0) << "one failure, one failed call";
                first = code;
                continue;
            }
            created++;
            on.attach(socket);
            EXPECT_EQ(dgram_close(socket), 0);
        }
        EXPECT_EQ(dgram_loop_run(loop), 0);
        EXPECT_EQ(closed, created);
        return first;
    });
}

/* A membership that cannot be remembered is not joined. */
TEST_P(NoMemory, ForAMembership)
{
    struct dgram_socket *socket = open_bound(loop);
    if (dgram_add_membership(socket, "239.1.2.3", "lo") == -ENODEV) {
        GTEST_SKIP() << "the loopback interface of this host takes no members";
    }
    ASSERT_EQ(dgram_drop_membership(socket, "239.1.2.3", "lo"), 0);
    fail_each([&] {
        int code = dgram_add_membership(socket, "239.1.2.3", "lo");
        fail_at = 0;
        EXPECT_EQ(dgram_drop_membership(socket, "239.1.2.3", "lo"), code == 0 ? 0 : -EADDRNOTAVAIL);
        return code;
    });
    ASSERT_EQ(dgram_add_membership(socket, "239.1.2.3", "lo"), 0); /* freed with the socket */
}

TEST_P(NoMemory, ForTimers)
{
    Tick tick([](struct dgram_timer *) {});
    fail_each([&] {
        std::vector<struct dgram_timer *> timers;
        struct dgram_loop *made = nullptr;
        const uint64_t failing = fail_at;
        fail_at = 0;
        EXPECT_EQ(GetParam().create(nullptr, &made), 0);
        fail_at = failing;
        int first = 0;
        for (int i = 0; i < 100; i++) {
            struct dgram_timer *timer = nullptr;
            int code = dgram_timer_create(made, Tick::call, &tick, &timer);
            if (code < 0) {
                EXPECT_EQ(timer, nullptr);
                first = code;
                continue;
            }
            EXPECT_EQ(dgram_timer_start(timer, i, 0), 0);
        }
        fail_at = 0;
        EXPECT_EQ(dgram_loop_run(made), 0);
        EXPECT_EQ(dgram_loop_free(made), nullptr);
        return first;
    });
}

/* The buffer itself, or what zero copy needs: without that it is a buffer all the same. */
TEST_P(NoMemory, ForABuffer)
{
    Plain peer;
    fail_each([&] {
        struct dgram_loop *made = nullptr;
        const uint64_t failing = fail_at;
        fail_at = 0;
        EXPECT_EQ(GetParam().create(nullptr, &made), 0);
        struct dgram_socket *sender = open_bound(made);
        EXPECT_GE(dgram_loop_turn(made, 0), 0);
        struct dgram_buffer *buffer = nullptr;
        fail_at = failing;
        const struct dgram_buffer_options options = buffer_options(DGRAM_ZERO_COPY);
        int code = dgram_buffer_create(made, 20 * 1000, &options, &buffer);
        fail_at = 0;
        EXPECT_EQ(code < 0, buffer == nullptr);
        if (code == 0) {
            code = dgram_buffer_zero_copy(buffer);
            code = code == -ENOMEM ? code : 0; /* there may be none for other reasons */
            const struct dgram_addr to = peer.address();
            for (size_t i = 0; i < 20; i++) {
                EXPECT_EQ(dgram_send_buffer(sender, buffer, i * 1000, 1000, &to), 0);
            }
            EXPECT_GE(dgram_loop_turn(made, 0), 0);
            for (size_t i = 0; i < 20; i++) {
                EXPECT_EQ(peer.receive().size(), 1000u);
            }
        }
        EXPECT_EQ(dgram_loop_free(made), nullptr);
        return code;
    });
}

/* What is accepted runs, once; what is not does not. */
TEST_P(NoMemory, ForPosts)
{
    fail_each([&] {
        struct dgram_loop *made = nullptr;
        const uint64_t failing = fail_at;
        fail_at = 0;
        EXPECT_EQ(GetParam().create(nullptr, &made), 0);
        fail_at = failing;
        int first = 0, accepted = 0, runs = 0;
        Job job([&](struct dgram_loop *) { runs++; });
        for (int i = 0; i < 500; i++) {
            int code = dgram_loop_post(made, Job::call, &job);
            accepted += code == 0;
            first = code < 0 ? code : first;
        }
        fail_at = 0;
        EXPECT_EQ(dgram_loop_run(made), 0);
        EXPECT_EQ(runs, accepted);
        EXPECT_EQ(dgram_loop_free(made), nullptr);
        return first;
    });
}

/* Each accepted send completes exactly once and arrives; a refused one kept nothing. */
TEST_P(NoMemory, ForSends)
{
    for (uint32_t flags : {0u, DGRAM_COPY}) {
        SCOPED_TRACE(flags);
        fail_each([&] {
            struct dgram_loop *made = nullptr;
            const uint64_t failing = fail_at;
            fail_at = 0;
            EXPECT_EQ(GetParam().create(nullptr, &made), 0);
            Inbox inbox;
            Results results;
            struct dgram_socket *receiver = open_inbox(made, &inbox);
            struct dgram_socket *sender = open_bound(made, DGRAM_UDP4, flags);
            const struct dgram_addr to = address_of(receiver);
            EXPECT_EQ(dgram_loop_turn(made, 0), 1); /* the pool is there */
            fail_at = failing;
            int first = 0;
            std::vector<std::string> accepted;
            std::deque<std::string> bytes;
            for (unsigned i = 0; i < 200; i++) {
                bytes.push_back(numbered(i, i % 7 == 0 ? 3000 : 64));
                int code = dgram_send_to(sender, bytes.back().data(), bytes.back().size(), &to,
                                         Results::take, &results);
                if (code == 0) {
                    accepted.push_back(bytes.back());
                } else {
                    first = code;
                }
                if (i % 40 == 39) {
                    EXPECT_TRUE(run_until(made, [&] { return inbox.count() == accepted.size(); }));
                }
            }
            EXPECT_TRUE(run_until(made, [&] {
                return inbox.count() == accepted.size() && results.values.size() == accepted.size();
            }));
            EXPECT_TRUE(inbox.payloads == accepted);
            fail_at = 0;
            EXPECT_EQ(dgram_loop_free(made), nullptr);
            return first;
        });
        if (HasFailure()) {
            break;
        }
    }
}

TEST_P(NoMemory, ForTheDescriptorOfAnotherLoop)
{
    const int fd = dgram_loop_fd(loop);
    if (fd == -ENOTSUP) {
        GTEST_SKIP() << "this host has only poll(2)";
    }
    for (uint64_t n = 1; n < 100; n++) {
        struct dgram_loop *made = make_loop();
        failed = false;
        fail_at = n;
        int code = dgram_loop_fd(made);
        fail_at = 0;
        if (code < 0) {
            EXPECT_EQ(code, -ENOMEM);
            EXPECT_GE(dgram_loop_fd(made), 0) << "the second attempt";
        }
        expect_echo(made, open_socket(made));
        dgram_loop_free(made);
        if (!failed) {
            EXPECT_GE(code, 0);
            break;
        }
    }
}

/* Nothing stays of a send that was refused, nor does its name; the next one to it goes. */
TEST_P(NoMemory, ForASendToAName)
{
    struct dgram_loop_options options = loop_options();
    options.lookup = [](struct dgram_loop *, struct dgram_lookup *lookup, const char *, int,
                        void *) {
        const struct dgram_addr address = parse("127.0.0.1", 0);
        dgram_lookup_answer(lookup, 0, &address, 3600);
    };
    uint64_t refused = 0;
    do {
        Inbox inbox;
        Results results;
        struct dgram_loop *made = make_loop(&options);
        struct dgram_socket *socket = open_inbox(made, &inbox);
        auto send = [&](const char *host) {
            return dgram_send(socket, "abc", 3, port_of(socket), host, Results::take, &results);
        };
        ASSERT_EQ(send("first.test"), 0); /* whatever is made only once */
        ASSERT_TRUE(run_until(made, [&] { return inbox.count() == 1; }));
        const int64_t live_before = live;
        failed = false;
        fail_at = refused + 1;
        const int code = send("host.test");
        fail_at = 0;
        EXPECT_EQ(code, failed ? -ENOMEM : 0);
        if (failed) {
            refused++;
            EXPECT_EQ(live, live_before) << "memory was left behind by allocation " << refused;
            EXPECT_EQ(send("host.test"), 0);
        }
        EXPECT_TRUE(run_until(made, [&] { return inbox.count() == 2; }));
        EXPECT_EQ(results.values, std::vector<int>({3, 3}));
        dgram_loop_free(made);
    } while (failed && !HasFailure());
    EXPECT_GE(refused, 3u) << "a name, a question, and who waits for it";
}

/* A small message is copied; without memory for that the call says so and gives nothing. */
TEST_P(NoMemory, ForARetainedMessage)
{
    struct dgram_socket *socket = open_bound(loop);
    int retained = 0, refused = 0;
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *message) {
        struct dgram_message kept = {};
        failed = false;
        fail_at = 1;
        int code = dgram_message_retain(message, &kept);
        fail_at = 0;
        if (code < 0) {
            EXPECT_EQ(code, -ENOMEM);
            EXPECT_TRUE(failed);
            EXPECT_EQ(kept.data, nullptr);
            EXPECT_EQ(kept.owner, nullptr);
            refused++;
        }
        if (code < 0) {
            code = dgram_message_retain(message, &kept);
        }
        ASSERT_EQ(code, 0);
        EXPECT_EQ(payload_of(&kept), payload_of(message));
        dgram_message_release(&kept);
        retained++;
    };
    on.attach(socket);
    int count = 0;
    for (size_t size : {0u, 10u, 64u, 1000u, 20000u, 65507u}) {
        ASSERT_EQ(send_text(socket, pattern(size, 1), address_of(socket)), 0);
        count++;
        ASSERT_TRUE(run_until(loop, [&] { return retained == count; }));
    }
    EXPECT_GT(refused, 0) << "the small ones are copied";
}

/* Paused in the middle of a burst without memory to hold the rest: discarded and counted, the
 * socket goes on. */
TEST_P(NoMemory, ForWhatAPausedSocketHolds)
{
    struct dgram_socket *sender = open_bound(loop), *receiver = open_bound(loop);
    uint64_t messages = 0;
    Handlers on;
    on.message = [&](struct dgram_socket *which, const struct dgram_message *) {
        if (++messages == 3) {
            EXPECT_EQ(dgram_pause(which), 0);
            fail_at = 1;
        }
    };
    on.attach(receiver);
    for (int i = 0; i < 50; i++) {
        ASSERT_EQ(send_text(sender, pattern(100, 1), address_of(receiver)), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return messages == 3; }));
    fail_at = 0;
    ASSERT_EQ(dgram_resume(receiver), 0);
    ASSERT_TRUE(run_until(loop, [&] { return messages + stats_of(receiver).discarded == 50; }));
    EXPECT_EQ(stats_of(receiver).received, messages);
    expect_echo(loop, receiver);
}

/* Without memory for an event the error is counted, as without a handler. */
TEST_P(NoMemory, ForErrorEvents)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    for (uint64_t n = 1; n < 10; n++) {
        uint64_t errors = 0;
        struct dgram_loop *made = make_loop();
        struct dgram_socket *socket = open_bound(made);
        Handlers on;
        on.error = [&](struct dgram_socket *, const struct dgram_error *) { errors++; };
        on.attach(socket);
        EXPECT_GE(dgram_loop_turn(made, 0), 0);
        fail_at = n;
        uint64_t accepted = 0;
        for (int i = 0; i < 20; i++) {
            accepted += send_text(socket, "x", refused_address()) == 0;
        }
        EXPECT_TRUE(
            run_until(made, [&] { return errors + stats_of(socket).errors_lost == accepted; }));
        fail_at = 0;
        EXPECT_EQ(stats_of(socket).send_errors, accepted);
        expect_echo(made, socket);
        dgram_loop_free(made);
    }
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

TEST_P(NoMemory, FailedSocketLeavesTheRoomWhole)
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

} /* namespace */
