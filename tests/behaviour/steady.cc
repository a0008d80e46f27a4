/* SPDX-License-Identifier: MIT */
/*
 * steady.cc: a steady turn allocates nothing, whatever its callbacks do.
 */
#include "tests/support/harness.h"
#include "tests/support/memory.h"

using namespace harness;
using namespace memory;

namespace
{

class Steady : public MemoryTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Steady);

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

} /* namespace */
