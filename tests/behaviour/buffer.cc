/* SPDX-License-Identifier: MIT */
/*
 * buffer.cc: buffers: datagrams that are sent from where they lie, when the memory is the program's
 * again, and that nothing of it depends on who reads the memory.
 */
#include <algorithm>
#include <memory>
#include <random>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Buffer : public EngineTest
{
};
class BufferHost : public EngineTest
{
};
class ZeroCopy : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Buffer);
INSTANTIATE_ON_HOST_ENGINES(BufferHost);
INSTANTIATE_ON_HOST_ENGINES(ZeroCopy);

const uint32_t both_flags[] = {0, DGRAM_ZERO_COPY};

/* The handler of a buffer. */
struct Idle {
    int count = 0;
    std::function<void(struct dgram_buffer *)> fn;

    static void call(struct dgram_buffer *buffer, void *user)
    {
        Idle *idle = static_cast<Idle *>(user);
        if (muted()) {
            return;
        }
        idle->count++;
        EXPECT_FALSE(dgram_buffer_in_use(buffer));
        if (idle->fn) {
            idle->fn(buffer);
        }
    }
};

struct dgram_buffer *make_buffer(struct dgram_loop *loop, size_t size, uint32_t flags, Idle *idle)
{
    struct dgram_buffer *buffer = nullptr;
    const struct dgram_buffer_options options =
        buffer_options(flags, idle != nullptr ? Idle::call : nullptr, idle);
    EXPECT_EQ(dgram_buffer_create(loop, size, &options, &buffer), 0);
    return buffer;
}

char *bytes_of(struct dgram_buffer *buffer)
{
    return static_cast<char *>(dgram_buffer_data(buffer));
}

void write(struct dgram_buffer *buffer, size_t offset, const std::string &payload)
{
    std::copy(payload.begin(), payload.end(), bytes_of(buffer) + offset);
}

/* `count` numbered datagrams behind each other, the first being number `first`. */
void fill(struct dgram_buffer *buffer, unsigned first, unsigned count, size_t size)
{
    for (unsigned i = 0; i < count; i++) {
        write(buffer, i * size, numbered(first + i, size));
    }
}

void send_all(struct dgram_socket *socket, struct dgram_buffer *buffer, unsigned count, size_t size,
              const struct dgram_addr &to)
{
    for (unsigned i = 0; i < count; i++) {
        ASSERT_EQ(dgram_send_buffer(socket, buffer, i * size, size, &to), 0) << i;
    }
}

void expect_numbers(const Inbox &inbox, unsigned count, size_t size)
{
    ASSERT_EQ(inbox.count(), count);
    for (unsigned i = 0; i < count; i++) {
        ASSERT_TRUE(inbox.payloads[i] == numbered(i, size)) << i;
    }
}

/* ---- Sending ------------------------------------------------------------------------------- */

TEST_P(Buffer, IsSentFromWhereItLies)
{
    for (uint32_t flags : both_flags) {
        for (uint32_t type : socket_types()) {
            SCOPED_TRACE(testing::Message() << "flags " << flags << " type " << type);
            Inbox inbox;
            Idle idle;
            struct dgram_socket *receiver = open_inbox(loop, &inbox, type);
            struct dgram_socket *sender = open_socket(loop, type);
            struct dgram_addr to = address_of(receiver);
            struct dgram_buffer *buffer = make_buffer(loop, 200 * 1200, flags, &idle);
            EXPECT_EQ(bytes_of(buffer)[0], 0);
            EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes_of(buffer)) % 4096, 0u);
            fill(buffer, 0, 200, 1200);
            ASSERT_TRUE(run_until(loop, [&] { return dgram_loop_turn(loop, 0) >= 0; }));
            EXPECT_FALSE(dgram_buffer_in_use(buffer));
            send_all(sender, buffer, 200, 1200, to);
            EXPECT_TRUE(dgram_buffer_in_use(buffer));
            if (info_of(loop).segments_max > 64) { /* else some have been submitted already */
                EXPECT_EQ(dgram_get_send_queue_count(sender), 200u);
                EXPECT_EQ(dgram_get_send_queue_size(sender), 200u * 1200);
            }
            EXPECT_EQ(idle.count, 0);
            ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 200 && idle.count > 0; }));
            settle(loop);
            EXPECT_EQ(idle.count, 1);
            EXPECT_FALSE(dgram_buffer_in_use(buffer));
            expect_numbers(inbox, 200, 1200);
            EXPECT_EQ(stats_of(sender).sent, 200u);
            EXPECT_EQ(stats_of(sender).sent_bytes, 200u * 1200);
            if (info_of(loop).segments_max > 64) {
                EXPECT_LE(stats_of(sender).sends, 4u);
            }
            dgram_buffer_free(buffer);
        }
    }
}

/* Each round overwrites what the one before has sent. */
TEST_P(Buffer, MayBeFilledAgainWhenItIsIdle)
{
    for (uint32_t flags : both_flags) {
        SCOPED_TRACE(flags);
        const unsigned rounds = 20, each = 30;
        unsigned filled = 0;
        Inbox inbox;
        Idle idle;
        struct dgram_socket *sender = open_socket(loop);
        struct dgram_addr to = address_of(open_inbox(loop, &inbox));
        auto next = [&](struct dgram_buffer *buffer) {
            if (filled < rounds * each) {
                fill(buffer, filled, each, 700);
                filled += each;
                send_all(sender, buffer, each, 700, to);
            }
        };
        idle.fn = next;
        struct dgram_buffer *buffer = make_buffer(loop, each * 700, flags, &idle);
        next(buffer);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == rounds * each; }));
        settle(loop);
        EXPECT_EQ(idle.count, static_cast<int>(rounds));
        expect_numbers(inbox, rounds * each, 700);
        dgram_buffer_free(buffer);
    }
}

/* Two buffers in turn, as a program does that never waits. */
TEST_P(Buffer, TakesTurnsWithAnother)
{
    const unsigned each = 20, total = 400;
    unsigned filled = 0;
    Inbox inbox;
    Idle idle;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_addr to = address_of(open_inbox(loop, &inbox));
    idle.fn = [&](struct dgram_buffer *buffer) {
        if (filled < total) {
            fill(buffer, filled, each, 1000);
            filled += each;
            send_all(sender, buffer, each, 1000, to);
        }
    };
    idle.fn(make_buffer(loop, each * 1000, DGRAM_ZERO_COPY, &idle));
    idle.fn(make_buffer(loop, each * 1000, 0, &idle));
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == total; }));
    expect_numbers(inbox, total, 1000);
}

/* Each peer has a part of the buffer, and the sends go round. */
TEST_P(Buffer, MakesTrainsForInterleavedPeers)
{
    const unsigned peers = 8, each = 30;
    std::vector<Inbox> inboxes(peers);
    std::vector<struct dgram_addr> to;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_buffer *buffer = make_buffer(loop, peers * each * 500, 0, nullptr);
    for (Inbox &inbox : inboxes) {
        to.push_back(address_of(open_inbox(loop, &inbox)));
    }
    for (unsigned i = 0; i < each; i++) {
        for (unsigned peer = 0; peer < peers; peer++) {
            size_t offset = (peer * each + i) * 500;
            write(buffer, offset, numbered(i, 500));
            ASSERT_EQ(dgram_send_buffer(sender, buffer, offset, 500, &to[peer]), 0);
        }
    }
    ASSERT_TRUE(run_until(loop, [&] {
        return std::all_of(inboxes.begin(), inboxes.end(),
                           [&](const Inbox &inbox) { return inbox.count() == each; });
    }));
    for (const Inbox &inbox : inboxes) {
        expect_numbers(inbox, each, 500);
    }
    if (info_of(loop).segments_max >= each) {
        EXPECT_EQ(stats_of(sender).sends, peers);
    }
}

/* Gaps, other sizes, reversed places, copies and borrowed bytes between: one order per peer. */
TEST_P(Buffer, KeepsTheOrderAmongAllWaysToSend)
{
    std::mt19937 random(4711);
    for (uint32_t flags : both_flags) {
        Inbox inboxes[3];
        struct dgram_addr to[3];
        unsigned next[3] = {};
        std::vector<std::unique_ptr<std::string>> lent;
        struct dgram_socket *sender = open_socket(loop);
        struct dgram_buffer *buffers[] = {make_buffer(loop, 1 << 18, flags, nullptr),
                                          make_buffer(loop, 1 << 18, 0, nullptr)};
        size_t used[2] = {};
        for (int i = 0; i < 3; i++) {
            to[i] = address_of(open_inbox(loop, &inboxes[i]));
        }
        for (int i = 0; i < 600; i++) {
            size_t size = random() % 4 == 0 ? 4 + random() % 900 : 512;
            unsigned peer = random() % 8 < 6 ? 0 : random() % 3, way = random() % 6;
            std::string payload = numbered(next[peer]++, size);
            if (way < 4) {
                unsigned which = way == 3;
                used[which] += random() % 8 == 0 ? random() % 100 : 0;
                if (used[which] + size > 1 << 18) {
                    next[peer]--;
                    continue;
                }
                write(buffers[which], used[which], payload);
                ASSERT_EQ(dgram_send_buffer(sender, buffers[which], used[which], size, &to[peer]),
                          0);
                used[which] += size;
            } else if (way == 4) {
                ASSERT_EQ(send_text(sender, payload, to[peer]), 0);
            } else {
                Results *none = new Results;
                lent.push_back(std::make_unique<std::string>(payload));
                ASSERT_EQ(dgram_send_to(sender, lent.back()->data(), size, &to[peer], Results::take,
                                        none),
                          0);
                ASSERT_TRUE(run_until(loop, [&] { return none->values.size() == 1; }));
                delete none;
            }
        }
        ASSERT_TRUE(run_until(loop, [&] {
            return inboxes[0].count() + inboxes[1].count() + inboxes[2].count() ==
                   next[0] + next[1] + next[2];
        }));
        for (int i = 0; i < 3; i++) {
            ASSERT_EQ(inboxes[i].count(), next[i]);
            for (unsigned n = 0; n < next[i]; n++) {
                const std::string &payload = inboxes[i].payloads[n];
                ASSERT_TRUE(payload == numbered(n, payload.size())) << i << " " << n;
            }
        }
        dgram_buffer_free(buffers[0]);
        dgram_buffer_free(buffers[1]);
    }
}

TEST_P(Buffer, SendsEverySize)
{
    for (size_t size : {0u, 1u, 15u, 16u, 17u, 1472u, 32768u, 65507u}) {
        Inbox inbox;
        struct dgram_socket *sender = open_socket(loop);
        struct dgram_addr to = address_of(open_inbox(loop, &inbox));
        struct dgram_buffer *buffer = make_buffer(loop, 3 * 65507, DGRAM_ZERO_COPY, nullptr);
        fill(buffer, 0, 3, size);
        send_all(sender, buffer, 3, size, to);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 3; })) << size;
        expect_numbers(inbox, 3, size);
        dgram_buffer_free(buffer);
    }
}

/* The last byte can be sent, and an empty datagram from behind it. */
TEST_P(Buffer, ReachesToItsEnd)
{
    Inbox inbox;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_addr to = address_of(open_inbox(loop, &inbox));
    struct dgram_buffer *buffer = make_buffer(loop, 10, 0, nullptr);
    write(buffer, 0, "0123456789");
    EXPECT_EQ(dgram_send_buffer(sender, buffer, 9, 1, &to), 0);
    EXPECT_EQ(dgram_send_buffer(sender, buffer, 10, 0, &to), 0);
    EXPECT_EQ(dgram_send_buffer(sender, buffer, 0, 10, &to), 0);
    EXPECT_EQ(dgram_send_buffer(sender, buffer, 0, 5, &to), 0);
    EXPECT_EQ(dgram_send_buffer(sender, buffer, 5, 5, &to), 0);
    EXPECT_EQ(dgram_send_buffer(sender, buffer, 10, 1, &to), DGRAM_EBADRANGE);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 5; }));
    EXPECT_EQ(inbox.payloads, (std::vector<std::string>{"9", "", "0123456789", "01234", "56789"}));
}

/* Each peer has its own part of the buffer, and the sends take turns: trains all the same. */
TEST_P(Buffer, SubmitsInterleavedPeersLate)
{
    const unsigned peers = 64, each = 48;
    const size_t size = 64;
    if (info_of(loop).segments_max < each) {
        GTEST_SKIP() << "no trains here";
    }
    struct dgram_socket *sender = open_bound(loop);
    struct dgram_buffer *buffer = make_buffer(loop, peers * each * size, 0, nullptr);
    std::vector<struct dgram_addr> to;
    for (unsigned peer = 0; peer < peers; peer++) {
        to.push_back(parse("127.77.0." + std::to_string(1 + peer), 9));
    }
    for (unsigned i = 0; i < each; i++) {
        for (unsigned peer = 0; peer < peers; peer++) {
            ASSERT_EQ(dgram_send_buffer(sender, buffer, (peer * each + i) * size, size, &to[peer]),
                      0);
        }
    }
    EXPECT_EQ(dgram_get_send_queue_count(sender), peers * each) << "submitted early";
}

/* ---- When it is idle ----------------------------------------------------------------------- */

TEST_P(Buffer, IsIdleAfterAFlushOutsideOfTurns)
{
    Idle idle;
    Inbox inbox;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_addr to = address_of(open_inbox(loop, &inbox));
    struct dgram_buffer *buffer = make_buffer(loop, 100, 0, &idle);
    send_all(sender, buffer, 1, 100, to);
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    EXPECT_EQ(idle.count, 0); /* callbacks run in turns only */
    EXPECT_TRUE(dgram_buffer_in_use(buffer));
    ASSERT_TRUE(run_until(loop, [&] { return idle.count == 1; }));
    EXPECT_FALSE(dgram_buffer_in_use(buffer));

    EXPECT_EQ(dgram_on_idle(buffer, nullptr, nullptr), 0);
    send_all(sender, buffer, 1, 100, to);
    EXPECT_TRUE(dgram_buffer_in_use(buffer));
    ASSERT_EQ(dgram_loop_flush(loop), 0);
    EXPECT_FALSE(dgram_buffer_in_use(buffer)); /* nobody is to be told */
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 2; }));
    EXPECT_EQ(idle.count, 1);
}

TEST_P(Buffer, AreIdleInTheirOrder)
{
    std::vector<struct dgram_buffer *> buffers, idle;
    Idle handler;
    handler.fn = [&](struct dgram_buffer *buffer) { idle.push_back(buffer); };
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_addr to = address_of(open_bound(loop));
    for (int i = 0; i < 5; i++) {
        buffers.push_back(make_buffer(loop, 100, 0, nullptr));
        EXPECT_EQ(dgram_on_idle(buffers.back(), Idle::call, &handler), 0);
        send_all(sender, buffers.back(), 1, 100, to);
    }
    ASSERT_TRUE(run_until(loop, [&] { return idle.size() == 5; }));
    EXPECT_EQ(idle, buffers);
}

TEST_P(Buffer, AreNotToldOfWhenTheirLoopIsFreed)
{
    for (uint32_t flags : both_flags) {
        Idle idle;
        struct dgram_loop *other = nullptr;
        ASSERT_EQ(GetParam().create(nullptr, &other), 0);
        struct dgram_socket *sender = open_bound(other);
        struct dgram_buffer *buffer = make_buffer(other, 30 * 1000, flags, &idle);
        struct dgram_addr to = address_of(sender);
        bool refused = false;
        Handlers on;
        on.close = [&](struct dgram_socket *) {
            struct dgram_buffer *late = nullptr;
            refused = dgram_buffer_create(other, 1, nullptr, &late) == DGRAM_ENOTRUNNING;
        };
        on.attach(sender);
        send_all(sender, buffer, 30, 1000, to);
        dgram_loop_free(other);
        EXPECT_EQ(idle.count, 0);
        EXPECT_TRUE(refused);
    }
}

/* The turn that hands the datagrams over does not sleep on it. */
TEST_P(BufferHost, IsToldToBeIdleThoughNothingElseHappens)
{
    Plain peer;
    Idle idle;
    Tick tick([](struct dgram_timer *) {});
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, HOUR, 0), 0);
    struct dgram_socket *sender = open_bound(loop);
    settle(loop);
    struct dgram_buffer *buffer = make_buffer(loop, 100, 0, &idle);
    send_all(sender, buffer, 1, 100, peer.address());
    ASSERT_TRUE(run_until(loop, [&] { return idle.count == 1; }));
}

/* Nothing else keeps the loop running. */
TEST_P(Buffer, KeepsTheLoopRunningUntilIdleWasCalled)
{
    for (uint32_t flags : both_flags) {
        Idle idle;
        struct dgram_socket *receiver = open_bound(loop), *sender = open_socket(loop);
        struct dgram_addr to = address_of(receiver);
        dgram_unref(receiver);
        dgram_unref(sender);
        struct dgram_buffer *buffer = make_buffer(loop, 40 * 1200, flags, &idle);
        send_all(sender, buffer, 40, 1200, to);
        EXPECT_EQ(dgram_loop_run(loop), 0);
        EXPECT_EQ(idle.count, 1);
        dgram_buffer_free(buffer);
        EXPECT_EQ(dgram_loop_run(loop), 0); /* an idle one does not */
    }
}

TEST_P(Buffer, IsIdleWhenItsDatagramsFailed)
{
    if (GetParam().number != 0 && !refused_address_usable()) {
        GTEST_SKIP() << "no address here to which sends fail";
    }
    Idle idle;
    int errors = 0;
    Handlers on;
    on.error = [&](struct dgram_socket *, const struct dgram_error *error) {
        EXPECT_STREQ(error->operation, "send");
        errors++;
    };
    struct dgram_socket *sender = open_socket(loop);
    on.attach(sender);
    struct dgram_addr to = refused_address();
    struct dgram_buffer *buffer = make_buffer(loop, 3000, 0, &idle);
    send_all(sender, buffer, 3, 1000, to);
    ASSERT_TRUE(run_until(loop, [&] { return errors == 3 && idle.count == 1; }));
}

/* What has to wait is copied, so the buffer does not wait with it. */
TEST_P(Buffer, IsCopiedByASocketThatWaitsForItsName)
{
    struct Question {
        struct dgram_lookup *lookup = nullptr;
        static void ask(struct dgram_loop *, struct dgram_lookup *lookup, const char *, int,
                        void *user)
        {
            static_cast<Question *>(user)->lookup = lookup;
        }
    } question;
    struct dgram_loop_options options = loop_options();
    options.lookup = Question::ask;
    options.lookup_user = &question;
    remake_loop(options);
    Idle idle;
    Inbox inbox;
    struct dgram_addr to = address_of(open_inbox(loop, &inbox));
    struct dgram_socket *sender = open_socket(loop);
    ASSERT_EQ(dgram_bind(sender, 0, "here.example"), 0);
    struct dgram_buffer *buffer = make_buffer(loop, 3 * 64, DGRAM_ZERO_COPY, &idle);
    fill(buffer, 0, 3, 64);
    send_all(sender, buffer, 3, 64, to);
    ASSERT_TRUE(run_until(loop, [&] { return idle.count == 1 && question.lookup != nullptr; }));
    fill(buffer, 1000, 3, 64);
    struct dgram_addr local = parse("127.0.0.1", 0);
    ASSERT_EQ(dgram_lookup_answer(question.lookup, 0, &local, 1), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 3; }));
    expect_numbers(inbox, 3, 64);
    EXPECT_EQ(idle.count, 1);
}

/* ---- The end ------------------------------------------------------------------------------- */

TEST_P(Buffer, FreedWhileInUseStaysUntilItHasLeft)
{
    for (uint32_t flags : both_flags) {
        Idle idle;
        Inbox inbox;
        struct dgram_socket *sender = open_socket(loop);
        struct dgram_addr to = address_of(open_inbox(loop, &inbox));
        struct dgram_buffer *buffer = make_buffer(loop, 100 * 600, flags, &idle);
        fill(buffer, 0, 100, 600);
        send_all(sender, buffer, 100, 600, to);
        EXPECT_EQ(dgram_buffer_free(buffer), nullptr);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 100; }));
        settle(loop);
        expect_numbers(inbox, 100, 600);
        EXPECT_EQ(idle.count, 0);
    }
}

TEST_P(Buffer, MayBeFreedInAnIdleHandler)
{
    Idle first, second;
    Inbox inbox;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_addr to = address_of(open_inbox(loop, &inbox));
    struct dgram_buffer *one = make_buffer(loop, 64, 0, &first);
    struct dgram_buffer *other = make_buffer(loop, 64, 0, &second);
    first.fn = second.fn = [&](struct dgram_buffer *) {
        dgram_buffer_free(one); /* itself and one that may be due behind it */
        dgram_buffer_free(other);
        one = other = nullptr;
    };
    send_all(sender, one, 1, 64, to);
    send_all(sender, other, 1, 64, to);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 2; }));
    settle(loop);
    EXPECT_EQ(first.count + second.count, 1);
}

TEST_P(Buffer, OutlivesItsSocket)
{
    for (uint32_t flags : both_flags) {
        Idle idle;
        Inbox inbox;
        struct dgram_socket *sender = open_bound(loop);
        struct dgram_addr to = address_of(open_inbox(loop, &inbox));
        struct dgram_buffer *buffer = make_buffer(loop, 60 * 1000, flags, &idle);
        fill(buffer, 0, 60, 1000);
        send_all(sender, buffer, 60, 1000, to);
        close_and_wait(loop, sender);
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 60 && idle.count == 1; }));
        expect_numbers(inbox, 60, 1000);
        dgram_buffer_free(buffer);
    }
}

TEST_P(BufferHost, IsSentBeforeItsLoopIsFreed)
{
    for (uint32_t flags : both_flags) {
        Plain peer;
        struct dgram_loop *other = make_loop();
        struct dgram_socket *sender = open_socket(other);
        struct dgram_buffer *buffer = make_buffer(other, 40 * 1200, flags, nullptr);
        fill(buffer, 0, 40, 1200);
        ASSERT_GE(dgram_loop_turn(other, 0), 0);
        send_all(sender, buffer, 40, 1200, peer.address());
        dgram_loop_free(other);
        for (unsigned i = 0; i < 40; i++) {
            ASSERT_TRUE(peer.receive() == numbered(i, 1200)) << i;
        }
    }
}

/* ---- Bad input ----------------------------------------------------------------------------- */

TEST_P(Buffer, RefusesWhatItCannotBe)
{
    struct dgram_buffer *buffer = nullptr;
    EXPECT_EQ(dgram_buffer_create(nullptr, 1, nullptr, &buffer), DGRAM_ENULL);
    EXPECT_EQ(dgram_buffer_create(loop, 1, nullptr, nullptr), DGRAM_ENULL);
    for (size_t size : {size_t{0}, (size_t{1} << 30) + 1, SIZE_MAX}) {
        EXPECT_EQ(dgram_buffer_create(loop, size, nullptr, &buffer), DGRAM_EBADBUFFERSIZE);
    }
    struct dgram_buffer_options options = buffer_options(2);
    EXPECT_EQ(dgram_buffer_create(loop, 1, &options, &buffer), DGRAM_EBADOPTIONS);
    options = buffer_options(0);
    options.reserved0 = 1;
    EXPECT_EQ(dgram_buffer_create(loop, 1, &options, &buffer), DGRAM_EBADOPTIONS);
    options.size = sizeof(size_t) - 1;
    EXPECT_EQ(dgram_buffer_create(loop, 1, &options, &buffer), DGRAM_EBADOPTIONS);
    EXPECT_EQ(buffer, nullptr);
    EXPECT_EQ(dgram_on_idle(nullptr, Idle::call, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_buffer_data(nullptr), nullptr);
    EXPECT_EQ(dgram_buffer_zero_copy(nullptr), DGRAM_ENULL);
    EXPECT_FALSE(dgram_buffer_in_use(nullptr));
    EXPECT_EQ(dgram_buffer_free(nullptr), nullptr);
}

TEST_P(Buffer, RefusesWhatCannotBeSent)
{
    Idle idle;
    struct dgram_socket *socket = open_bound(loop);
    struct dgram_addr to = address_of(socket);
    struct dgram_buffer *buffer = make_buffer(loop, 100000, 0, &idle);
    EXPECT_EQ(dgram_send_buffer(nullptr, buffer, 0, 1, &to), DGRAM_ENULL);
    EXPECT_EQ(dgram_send_buffer(socket, nullptr, 0, 1, &to), DGRAM_ENULL);
    EXPECT_EQ(dgram_send_buffer(socket, buffer, 0, 1, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_send_buffer(socket, buffer, 100001, 0, &to), DGRAM_EBADRANGE);
    EXPECT_EQ(dgram_send_buffer(socket, buffer, 99999, 2, &to), DGRAM_EBADRANGE);
    EXPECT_EQ(dgram_send_buffer(socket, buffer, SIZE_MAX, 2, &to), DGRAM_EBADRANGE);
    EXPECT_EQ(dgram_send_buffer(socket, buffer, 1, SIZE_MAX, &to), DGRAM_EBADRANGE);
    EXPECT_EQ(dgram_send_buffer(socket, buffer, 0, DGRAM_UDP4_SIZE_MAX + 1, &to), -EMSGSIZE);
    struct dgram_addr wrong = parse("::1", 9);
    EXPECT_EQ(dgram_send_buffer(socket, buffer, 0, 1, &wrong), DGRAM_EBADFAMILY);
    wrong = parse("127.0.0.1", 0);
    EXPECT_EQ(dgram_send_buffer(socket, buffer, 0, 1, &wrong), DGRAM_EBADPORT);
    struct dgram_loop *other = make_loop();
    EXPECT_EQ(dgram_send_buffer(open_socket(other), buffer, 0, 1, &to), DGRAM_EWRONGLOOP);
    dgram_loop_free(other);
    EXPECT_FALSE(dgram_buffer_in_use(buffer));
    dgram_close(socket);
    EXPECT_EQ(dgram_send_buffer(socket, buffer, 0, 1, &to), DGRAM_ENOTRUNNING);
    EXPECT_FALSE(dgram_buffer_in_use(buffer));
    while (dgram_loop_turn(loop, 0) > 0) {
    }
    EXPECT_EQ(idle.count, 0);
}

/* The fast way has no checks of its own: it must not be open where they would refuse. */
TEST_P(Buffer, RefusesBesideAnOpenLane)
{
    struct dgram_socket *socket = open_bound(loop);
    struct dgram_addr to = address_of(socket);
    struct dgram_buffer *buffer = make_buffer(loop, 1050, 0, nullptr);
    struct dgram_buffer *other = make_buffer(loop, 1050, 0, nullptr);
    send_all(socket, buffer, 10, 100, to);
    EXPECT_EQ(dgram_send_buffer(socket, buffer, 1000, 100, &to), DGRAM_EBADRANGE);
    EXPECT_EQ(dgram_send_buffer(socket, buffer, 1000, 50, &to), 0);
    EXPECT_EQ(dgram_send_buffer(socket, other, 0, 100, &to), 0);
    EXPECT_EQ(dgram_send_buffer(socket, other, 100, 100, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_send_buffer(socket, nullptr, 100, 100, &to), DGRAM_ENULL);
    dgram_end(socket);
    EXPECT_EQ(dgram_send_buffer(socket, other, 100, 100, &to), DGRAM_ENOTRUNNING);
}

/* An offset that leads from one buffer to the open lane in another, and one that overflows. */
TEST_P(Buffer, RefusesOffsetsIntoAnothersLane)
{
    struct dgram_socket *socket = open_bound(loop);
    struct dgram_addr to = address_of(socket);
    struct dgram_buffer *one = make_buffer(loop, 4096, 0, nullptr);
    struct dgram_buffer *other = make_buffer(loop, 4096, 0, nullptr);
    size_t distance =
        reinterpret_cast<uintptr_t>(bytes_of(one)) - reinterpret_cast<uintptr_t>(bytes_of(other));
    send_all(socket, one, 4, 100, to);
    EXPECT_EQ(dgram_send_buffer(socket, other, distance + 400, 100, &to), DGRAM_EBADRANGE);
    EXPECT_EQ(dgram_send_buffer(socket, one, SIZE_MAX, 100, &to), DGRAM_EBADRANGE);
    EXPECT_EQ(dgram_send_buffer(socket, one, 400, 100, &to), 0);
    EXPECT_EQ(dgram_get_send_queue_count(socket), 5u);
}

TEST_P(Buffer, RespectsTheQueueLimit)
{
    struct dgram_socket *socket = open_limited(loop, 64 * 1024);
    Inbox inbox;
    struct dgram_addr to = address_of(open_inbox(loop, &inbox));
    struct dgram_buffer *buffer = make_buffer(loop, 100 * 1000, 0, nullptr);
    fill(buffer, 0, 100, 1000);
    unsigned accepted = 0;
    int code = 0;
    while (accepted < 100 &&
           (code = dgram_send_buffer(socket, buffer, accepted * 1000, 1000, &to)) == 0) {
        accepted++;
    }
    EXPECT_EQ(code, -EAGAIN);
    EXPECT_EQ(accepted, 64u * 1024 / 1064);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == accepted; }));
    expect_numbers(inbox, accepted, 1000);
}

/* Lanes in buffers take no arena; they hold no more unaccounted for all that. Looking accounts for
 * them, so each number of peers begins anew. */
TEST_P(Buffer, RespectsTheQueueLimitWithManyLanesOpen)
{
    const unsigned each = 50;
    struct dgram_socket_options options = socket_options();
    options.queue_limit = 3 << 20;
    struct dgram_buffer *buffer = make_buffer(loop, 120 * each * 1000, 0, nullptr);
    for (unsigned peers = 40; peers <= 120; peers += 5) {
        struct dgram_socket *socket = nullptr;
        ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
        int code = 0;
        for (unsigned i = 0; i < peers * each && code == 0; i++) {
            struct dgram_addr to = parse("127.77.0." + std::to_string(1 + i / each), 9);
            code = dgram_send_buffer(socket, buffer, i * 1000, 1000, &to);
        }
        EXPECT_TRUE(code == 0 || code == -EAGAIN) << code;
        EXPECT_LE(dgram_get_send_queue_size(socket) + 64 * dgram_get_send_queue_count(socket),
                  options.queue_limit)
            << peers;
        close_and_wait(loop, socket);
    }
}

/* ---- Zero copy ----------------------------------------------------------------------------- */

/* The kernel copies for receivers of this host, and says so: then it is not asked again at once. */
TEST_P(ZeroCopy, IsGivenUpWhereTheKernelCopies)
{
    Inbox inbox;
    Idle idle;
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_addr to = address_of(open_inbox(loop, &inbox));
    struct dgram_buffer *buffer = make_buffer(loop, 50 * 1200, DGRAM_ZERO_COPY, &idle);
    int granted = dgram_buffer_zero_copy(buffer);
    fill(buffer, 0, 50, 1200);
    for (int round = 1; round <= 3; round++) {
        send_all(sender, buffer, 50, 1200, to);
        ASSERT_TRUE(run_until(loop, [&] {
            return inbox.count() == 50u * static_cast<unsigned>(round) && idle.count == round;
        }));
    }
    struct dgram_loop_info info = info_of(loop);
    EXPECT_EQ(info.zero_copy_copied, info.zero_copy_sends);
    EXPECT_LE(info.zero_copy_sends, 1u); /* none on kernels before 6.15 */
    if (GetParam().number == DGRAM_ENGINE_POLL) {
        EXPECT_EQ(granted, -ENOTSUP);
        EXPECT_EQ(info.zero_copy_sends, 0u);
    }
}

/* A host is known by its address, not by its ports, and as many are known as anybody may have. */
TEST_P(ZeroCopy, IsTriedOnceForEachHost)
{
    struct dgram_socket *sender = open_socket(loop);
    struct dgram_buffer *buffer = make_buffer(loop, 20 * 1200, DGRAM_ZERO_COPY, nullptr);
    auto round = [&](const std::string &host, uint16_t port) {
        struct dgram_addr to = parse(host, port);
        send_all(sender, buffer, 20, 1200, to);
        ASSERT_TRUE(run_until(loop, [&] { return !dgram_buffer_in_use(buffer); }));
    };
    for (int repeated = 0; repeated < 3; repeated++) {
        for (uint16_t port = 1; port < 100; port++) {
            ASSERT_NO_FATAL_FAILURE(round("127.77.0.1", port));
        }
    }
    EXPECT_LE(info_of(loop).zero_copy_sends, 1u);
    for (int repeated = 0; repeated < 3; repeated++) {
        for (int host = 1; host <= 100; host++) {
            ASSERT_NO_FATAL_FAILURE(round("127.77.0." + std::to_string(host), 9));
        }
    }
    struct dgram_loop_info info = info_of(loop);
    EXPECT_LE(info.zero_copy_sends, 100u);
    EXPECT_EQ(info.zero_copy_copied, info.zero_copy_sends);
    EXPECT_EQ(info.zero_copy_spared, 0u);
}

TEST_P(ZeroCopy, IsNotWantedForBuffersThatNeverHoldSoMuch)
{
    struct dgram_buffer *small = make_buffer(loop, 16383, DGRAM_ZERO_COPY, nullptr);
    struct dgram_buffer *large = make_buffer(loop, 16384, DGRAM_ZERO_COPY, nullptr);
    if (dgram_buffer_zero_copy(large) == 0) {
        EXPECT_EQ(dgram_buffer_zero_copy(small), DGRAM_EBADBUFFERSIZE);
    }
}

/* Registered memory has 64 places; a buffer without one is a buffer all the same. */
TEST_P(ZeroCopy, HasManyBuffersAndReusesTheirPlaces)
{
    int granted = 0;
    for (int round = 0; round < 3; round++) {
        std::vector<struct dgram_buffer *> buffers;
        for (int i = 0; i < 70; i++) {
            buffers.push_back(make_buffer(loop, 16384, DGRAM_ZERO_COPY, nullptr));
        }
        granted = round == 0 ? dgram_buffer_zero_copy(buffers[0]) : granted;
        EXPECT_EQ(dgram_buffer_zero_copy(buffers[0]), granted);
        EXPECT_EQ(dgram_buffer_zero_copy(buffers[63]), granted);
        EXPECT_EQ(dgram_buffer_zero_copy(buffers[64]), granted == 0 ? -ENOBUFS : granted);
        Inbox inbox;
        struct dgram_socket *sender = open_socket(loop);
        struct dgram_addr to = address_of(open_inbox(loop, &inbox));
        for (size_t i = 0; i < buffers.size(); i++) {
            write(buffers[i], 0, numbered(static_cast<unsigned>(i)));
            ASSERT_EQ(dgram_send_buffer(sender, buffers[i], 0, 64, &to), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == buffers.size(); }));
        expect_numbers(inbox, 70, 64);
        for (struct dgram_buffer *buffer : buffers) {
            dgram_buffer_free(buffer);
        }
    }
}

} /* namespace */
