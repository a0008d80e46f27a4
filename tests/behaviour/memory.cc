/* SPDX-License-Identifier: MIT */
/*
 * behaviour_memory.cc: memory: a steady turn allocates nothing, and a constructor that gets none
 * fails cleanly. Through the hooks of src/memory.h, so with the static library only.
 */
#include <atomic>
#include <cstdlib>
#include <deque>

#include "tests/support/harness.h"

extern "C" {
#include "src/base/memory.h"
}

using namespace harness;

namespace
{

/* ---- The hooks ----------------------------------------------------------------------------- */

std::atomic<uint64_t> allocations{0};
std::atomic<int64_t> live{0};
std::atomic<uint64_t> fail_at{0}; /* counts down; the allocation that meets 1 fails */
std::atomic<bool> failed{false};

void *counted_allocate(size_t size)
{
    allocations++;
    uint64_t left = fail_at.load();
    while (left > 0 && !fail_at.compare_exchange_weak(left, left - 1)) {
    }
    if (left == 1) {
        failed = true;
        return nullptr;
    }
    void *memory = calloc(1, size > 0 ? size : 1);
    live += memory != nullptr;
    return memory;
}

void counted_release(void *memory)
{
    live -= memory != nullptr;
    free(memory);
}

class MemoryTest : public EngineTest
{
  protected:
    void SetUp() override
    {
        before_ = dg_memory;
        fail_at = 0;
        live = 0;
        dg_memory = {counted_allocate, counted_release};
        EngineTest::SetUp();
    }
    void TearDown() override
    {
        fail_at = 0;
        EngineTest::TearDown();
        EXPECT_EQ(live, 0) << "memory was left behind";
        dg_memory = before_;
    }

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

  private:
    struct dg_memory_hooks before_ = {};
};

class Steady : public MemoryTest
{
};
class NoMemory : public MemoryTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Steady);
INSTANTIATE_ON_HOST_ENGINES(NoMemory);

/* ---- Steady turns -------------------------------------------------------------------------- */

/* Turns until the workload has settled, then counts. */
void expect_no_allocation(struct dgram_loop *loop, const uint64_t *progress)
{
    for (int i = 0; i < 500; i++) {
        ASSERT_EQ(dgram_loop_turn(loop, 10 * SECOND), 1);
    }
    const uint64_t progress_before = *progress, allocations_before = allocations;
    for (int i = 0; i < 1000; i++) {
        ASSERT_EQ(dgram_loop_turn(loop, 10 * SECOND), 1);
    }
    EXPECT_EQ(allocations, allocations_before) << "allocated in steady turns";
    EXPECT_GE(*progress, progress_before + 1000) << "nothing was going on";
}

struct Workload {
    size_t size;
    bool asked;  /* a callback with each send */
    bool copies; /* DGRAM_COPY */
    bool arrays; /* the `messages` handler */
};

/* Datagrams that go round between two sockets for ever; each sent callback may queue one more. */
void echo_workload(struct dgram_loop *loop, const Workload &work)
{
    const uint32_t flags = work.copies ? DGRAM_COPY : 0;
    uint64_t received = 0, sent_callbacks = 0;
    bool over = false;
    const std::string payload = pattern(work.size, 5);
    struct dgram_socket *sockets[2] = {open_bound(loop, DGRAM_UDP4, flags),
                                       open_bound(loop, DGRAM_UDP4, flags)};
    struct dgram_socket *sink = open_bound(loop);
    const struct dgram_addr to_sink = address_of(sink);
    Sent sent([&](struct dgram_socket *which, int result) {
        EXPECT_GE(result, 0);
        if (++sent_callbacks % 4 == 0 && !over) {
            EXPECT_EQ(dgram_send_to(which, "extra", 5, &to_sink, nullptr, nullptr), 0);
        }
    });
    auto reply = [&](struct dgram_socket *which, const struct dgram_message *message) {
        received++;
        if (over) {
            return;
        }
        EXPECT_EQ(dgram_send_to(which, payload.data(), payload.size(), message->from,
                                work.asked ? Sent::call : nullptr, &sent),
                  0);
    };
    Handlers on, on_sink;
    if (work.arrays) {
        on.messages = [&](struct dgram_socket *which, const struct dgram_message *messages,
                          size_t count) {
            for (size_t i = 0; i < count; i++) {
                reply(which, &messages[i]);
            }
        };
    } else {
        on.message = reply;
    }
    on_sink.message = [&](struct dgram_socket *, const struct dgram_message *) { received++; };
    on.attach(sockets[0]);
    on.attach(sockets[1]);
    on_sink.attach(sink);
    const struct dgram_addr to = address_of(sockets[1]);
    for (int i = 0; i < (work.size > 20000 ? 2 : 20); i++) {
        ASSERT_EQ(dgram_send_to(sockets[0], payload.data(), payload.size(), &to, nullptr, nullptr),
                  0);
    }
    expect_no_allocation(loop, &received);
    over = true;
    for (struct dgram_socket *socket : {sockets[0], sockets[1], sink}) {
        close_and_wait(loop, socket);
    }
}

TEST_P(Steady, EchoAllocatesNothing)
{
    for (const Workload &work :
         {Workload{64, false, false, false}, Workload{64, true, false, false},
          Workload{64, true, true, false}, Workload{0, true, false, true},
          Workload{1400, true, false, true}, Workload{9000, true, false, false},
          Workload{60000, true, false, false}, Workload{60000, false, false, false}}) {
        SCOPED_TRACE(testing::Message()
                     << work.size << (work.asked ? " asked" : "") << (work.copies ? " copied" : "")
                     << (work.arrays ? " arrays" : ""));
        ASSERT_NO_FATAL_FAILURE(echo_workload(loop, work));
    }
}

/* Many destinations in turn, sizes that change with each datagram. */
TEST_P(Steady, FanOutAllocatesNothing)
{
    const size_t peers = 40;
    uint64_t received = 0;
    std::vector<struct dgram_addr> to;
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *) { received++; };
    for (size_t i = 0; i < peers; i++) {
        struct dgram_socket *socket = open_bound(loop);
        on.attach(socket);
        to.push_back(address_of(socket));
    }
    struct dgram_socket *sender = open_socket(loop);
    const std::string bytes = pattern(1500, 1);
    size_t size = 0;
    Job job([&](struct dgram_loop *which) {
        for (size_t i = 0; i < peers; i++) {
            size = (size + 37) % 1500;
            EXPECT_EQ(dgram_send_to(sender, bytes.data(), size, &to[i], nullptr, nullptr), 0);
        }
        EXPECT_EQ(dgram_loop_post(which, Job::call, &job), 0);
    });
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    expect_no_allocation(loop, &received);
}

/* Two buffers in turn, one of them on loan where the engine can. */
TEST_P(Steady, BuffersAllocateNothing)
{
    struct Filler {
        struct dgram_socket *sender;
        struct dgram_addr to;
        static void fill(struct dgram_buffer *buffer, void *user)
        {
            const Filler *filler = static_cast<const Filler *>(user);
            for (size_t i = 0; i < 30 && !muted(); i++) {
                EXPECT_EQ(dgram_send_buffer(filler->sender, buffer, i * 1000, 1000, &filler->to),
                          0);
            }
        }
    } filler;
    uint64_t received = 0;
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *) { received++; };
    struct dgram_socket *receiver = open_bound(loop);
    on.attach(receiver);
    filler.sender = open_socket(loop);
    filler.to = address_of(receiver);
    for (uint32_t flags : {0u, DGRAM_ZERO_COPY}) {
        struct dgram_buffer *buffer = nullptr;
        const struct dgram_buffer_options options = buffer_options(flags, Filler::fill, &filler);
        ASSERT_EQ(dgram_buffer_create(loop, 30000, &options, &buffer), 0);
        Filler::fill(buffer, &filler);
    }
    expect_no_allocation(loop, &received);
}

/* Timers are started and stopped, functions posted, handlers changed in every turn. */
TEST_P(Steady, TimersPostsAndHandlersAllocateNothing)
{
    uint64_t ticks = 0;
    struct dgram_socket *socket = open_bound(loop);
    struct dgram_timer *timer = nullptr, *other = nullptr;
    Handlers on;
    on.message = [](struct dgram_socket *, const struct dgram_message *) {};
    Tick tick([&](struct dgram_timer *which) {
        ticks++;
        EXPECT_EQ(dgram_timer_start(which, 0, 0), 0);
        EXPECT_EQ(dgram_timer_start(other, HOUR, 1), 0);
        EXPECT_EQ(dgram_timer_stop(other), 0);
        EXPECT_EQ(dgram_on_message(socket, ticks % 2 ? nullptr : Handlers::on_message, &on), 0);
        EXPECT_EQ(ticks % 3 ? dgram_pause(socket) : dgram_resume(socket), 0);
    });
    Job job(
        [&](struct dgram_loop *which) { EXPECT_EQ(dgram_loop_post(which, Job::call, &job), 0); });
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &other), 0);
    ASSERT_EQ(dgram_timer_start(timer, 0, 0), 0);
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    expect_no_allocation(loop, &ticks);
}

/* Failing sends are told without memory of their own: to callbacks and to the error handler. */
TEST_P(Steady, FailingSendsAllocateNothing)
{
    if (!refused_address_usable()) {
        GTEST_SKIP() << "this host refuses no broadcast address of loopback";
    }
    uint64_t results = 0;
    struct dgram_socket *socket = open_bound(loop);
    const struct dgram_addr to = refused_address();
    Sent again;
    again.fn = [&](struct dgram_socket *which, int result) {
        EXPECT_EQ(result, -EACCES);
        results++;
        EXPECT_EQ(dgram_send_to(which, "x", 1, &to, Sent::call, &again), 0);
        EXPECT_EQ(dgram_send_to(which, "x", 1, &to, nullptr, nullptr), 0);
    };
    Handlers on;
    on.error = [&](struct dgram_socket *, const struct dgram_error *error) {
        EXPECT_EQ(error->code, -EACCES);
        results++;
    };
    on.attach(socket);
    ASSERT_EQ(dgram_send_to(socket, "x", 1, &to, Sent::call, &again), 0);
    expect_no_allocation(loop, &results);
}

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

} /* namespace */
