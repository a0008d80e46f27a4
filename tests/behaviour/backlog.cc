/* SPDX-License-Identifier: MIT */
/*
 * backlog.cc: what handlers do in the middle of a backlog, when the turn before has left something:
 * fork, retain, change the handlers, pause, free the loop. Each datagram is delivered once or
 * counted, and nothing stays behind.
 */
#include <netinet/in.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>

#include "tests/sim/sim.h"
#include "tests/support/harness.h"
#include "tests/support/memory.h"

using namespace harness;
using namespace memory;

namespace
{

/* A handler of this length spends the millisecond of a turn with a few datagrams. */
void burn_a_third_of_a_turn()
{
    const uint64_t begin = monotonic_ns();
    while (monotonic_ns() - begin < static_cast<uint64_t>(MILLISECOND) / 3) {
    }
}

struct Case {
    unsigned count;
    size_t size;
    bool alone;  /* no trains: each has a slot */
    bool copied; /* the backlog lies in no slots any more */
    bool arrays; /* the `messages` handler gets the rest */
    bool quick;  /* the rest comes fast, so that many are delivered between two looks at the clock;
                    else one by one */

    /* The first array of a handler whose pace is not known is as large as arrays get. */
    bool is_more_than_an_array() const
    {
        return !arrays || count > 260;
    }
    /* After so many of the rest something is done. */
    unsigned when() const
    {
        return quick ? 20 : 1;
    }
};

std::ostream &operator<<(std::ostream &out, const Case &one)
{
    return out << one.size << (one.alone ? " alone" : "") << (one.copied ? " copied" : "")
               << (one.arrays ? " arrays" : "") << (one.quick ? " quick" : "");
}

/* Retaining pins the slot of large ones, and copies small ones. */
const Case cases[] = {
    {24, 64, false, false, false, false},   {24, 64, false, true, false, false},
    {12, 9000, false, false, false, false}, {12, 9000, false, false, true, false},
    {12, 9000, false, true, false, false},  {12, 9000, false, true, true, false},
    {12, 64, true, false, false, false},    {12, 64, true, false, true, false},
    {12, 64, true, true, false, false},     {300, 64, false, false, false, true},
    {300, 64, false, false, true, true},    {300, 64, false, true, false, true},
    {300, 64, false, true, true, true},
};

class InBacklog : public MemoryTest
{
  protected:
    /* `now` has been received, and a turn has delivered some of it, but not all. */
    void begin(const Case &now)
    {
        got = first = 0;
        is = now;
        closed = false;
        receiver = open_bound(loop);
        ASSERT_EQ(dgram_on_close(receiver, on_close, this), 0);
        use(false);
        ASSERT_GE(dgram_loop_turn(loop, 0), 0);
        ASSERT_NO_FATAL_FAILURE(fill());
        ASSERT_TRUE(run_until(loop, [&] { return got > 0; }));
        first = got;
        ASSERT_LT(first, now.count) << "there is no backlog";
        if (now.copied) {
            struct dgram_socket *other = open_socket(loop);
            ASSERT_EQ(dgram_pause(receiver), 0);
            ASSERT_GE(dgram_loop_turn(loop, 0), 0);
            for (int i = 0; i < 4; i++) { /* others have the slots meanwhile */
                expect_echo(loop, other);
            }
            close_and_wait(loop, other);
            ASSERT_EQ(dgram_resume(receiver), 0);
        }
        use(now.arrays);
    }

    /* The rest comes, each once, and the socket is as good as new. */
    void finish()
    {
        ASSERT_TRUE(run_until(loop, [&] { return got == is.count; }));
        EXPECT_EQ(stats_of(receiver).received, is.count);
        EXPECT_EQ(stats_of(receiver).discarded + stats_of(receiver).dropped, 0u);
        EXPECT_EQ(dgram_on_messages(receiver, nullptr, nullptr), 0);
        expect_echo(loop, receiver);
        EXPECT_EQ(got, is.count);
        dgram_close(receiver);
        ASSERT_TRUE(run_until(loop, [&] { return closed; }));
    }

    /* One handler, and not the other. */
    void use(bool arrays)
    {
        EXPECT_EQ(dgram_on_messages(receiver, arrays ? on_messages : nullptr, this), 0);
        EXPECT_EQ(dgram_on_message(receiver, arrays ? nullptr : on_message, this), 0);
    }

    /* All of the backlog is in `kept` then. */
    void begin_and_retain(const Case &now)
    {
        kept.clear();
        ASSERT_NO_FATAL_FAILURE(begin(now));
        each = [this](const struct dgram_message *message) {
            struct dgram_message one = {};
            EXPECT_EQ(dgram_message_retain(message, &one), 0);
            EXPECT_NE(one.owner, nullptr);
            kept.push_back(one);
        };
        ASSERT_TRUE(run_until(loop, [&] { return got == is.count; }));
        each = nullptr;
        ASSERT_EQ(kept.size(), is.count - first);
    }
    void expect_kept() const
    {
        for (unsigned i = 0; i < kept.size(); i++) {
            if (kept[i].owner != nullptr) {
                EXPECT_EQ(payload_of(&kept[i]), numbered(first + i, is.size)) << i;
                EXPECT_EQ(ntohs(kept[i].from->u.in4.sin_port), from_port_) << i;
            }
        }
    }
    void release_kept()
    {
        for (struct dgram_message &one : kept) {
            dgram_message_release(&one);
        }
    }

    struct dgram_socket *receiver = nullptr;
    std::vector<struct dgram_message> kept;
    Case is = {};
    unsigned got = 0, first = 0; /* in all, and when the backlog began */
    bool closed = false, in_child = false;
    /* In the handler: once, and with each message. */
    std::function<void()> deed;
    std::function<void(const struct dgram_message *)> each;
    struct dgram_socket_stats final = {};

  private:
    void fill()
    {
        struct dgram_loop_options options = loop_options();
        options.segments_max = is.alone ? 1 : 0;
        struct dgram_loop *other = make_loop(&options);
        ASSERT_NE(other, nullptr);
        struct dgram_socket *sender = open_socket(other);
        struct dgram_addr to = address_of(receiver);
        for (unsigned i = 0; i < is.count; i++) {
            ASSERT_EQ(send_text(sender, numbered(i, is.size), to), 0);
        }
        ASSERT_EQ(dgram_loop_flush(other), 0);
        from_port_ = port_of(sender);
        dgram_loop_free(other);
    }
    void take(const struct dgram_message *message)
    {
        EXPECT_EQ(payload_of(message), numbered(got, is.size)) << got;
        EXPECT_EQ(ntohs(message->from->u.in4.sin_port), from_port_) << got;
        got++;
        if (first == 0 || !is.quick) {
            burn_a_third_of_a_turn();
        }
        if (each) {
            each(message);
        }
        if (deed && got >= first + is.when()) {
            std::function<void()> once = std::move(deed);
            deed = nullptr;
            once();
        }
    }
    static void on_message(struct dgram_socket *, const struct dgram_message *message, void *user)
    {
        if (!muted()) {
            static_cast<InBacklog *>(user)->take(message);
        }
    }
    static void on_messages(struct dgram_socket *, const struct dgram_message *messages,
                            size_t count, void *user)
    {
        InBacklog *self = static_cast<InBacklog *>(user);
        for (size_t i = 0; i < count && !muted() && !self->in_child; i++) {
            self->take(&messages[i]);
        }
    }
    static void on_close(struct dgram_socket *socket, void *user)
    {
        if (!muted()) {
            InBacklog *self = static_cast<InBacklog *>(user);
            self->final = stats_of(socket);
            self->closed = true;
        }
    }

    uint16_t from_port_ = 0;
};

INSTANTIATE_ON_HOST_ENGINES(InBacklog);

/* The child's copy goes, in the handler or after it, while the parent waits for its end. */
TEST_P(InBacklog, AForkedChildLeavesTheRestToTheParent)
{
    for (const Case &now : cases) {
        for (bool frees : {false, true}) {
            SCOPED_TRACE(testing::Message() << now << (frees ? " inside" : ""));
            ASSERT_NO_FATAL_FAILURE(begin(now));
            const int descriptors_before = descriptors();
            pid_t child = -1;
            int status = -1, code = 1;
            unsigned got_by_child = 0;
            deed = [&] {
                fflush(nullptr);
                child = fork();
                in_child = child == 0;
                if (in_child) {
                    alarm(60 * patience());
                    got_by_child = got;
                    loop = frees ? dgram_loop_free(loop) : loop;
                } else {
                    EXPECT_EQ(waitpid(child, &status, 0), child);
                }
            };
            while (deed && code >= 0) {
                code = dgram_loop_turn(loop, SECOND);
            }
            if (in_child) {
                dgram_loop_free(loop);
                const bool well = code == (frees ? 0 : static_cast<int>(DGRAM_EFORKED)) &&
                                  got == got_by_child && !closed && live == 0;
                _exit(!well ? 1 : descriptors() >= descriptors_before ? 2 : 0);
            }
            EXPECT_EQ(status, 0);
            ASSERT_NO_FATAL_FAILURE(finish());
        }
    }
}

TEST_P(InBacklog, RetainedMessagesStay)
{
    struct dgram_loop_options few = loop_options();
    few.slots = 4;
    remake_loop(few);
    for (const Case &now : cases) {
        SCOPED_TRACE(now);
        ASSERT_NO_FATAL_FAILURE(begin_and_retain(now));
        ASSERT_NO_FATAL_FAILURE(finish());
        expect_kept();
        for (size_t i = 0; i < kept.size(); i += 2) {
            dgram_message_release(&kept[i]);
        }
        expect_kept();
        loop = dgram_loop_free(loop);
        expect_kept();
        release_kept();
        EXPECT_EQ(live, 0);
        loop = make_loop(&few);
    }
}

/* One that is not given back is missed soon, where there are four. */
TEST_P(InBacklog, RetainedMessagesGiveTheirSlotsBack)
{
    struct dgram_loop_options few = loop_options();
    few.slots = 4;
    remake_loop(few);
    for (int round = 0; round < 6; round++) {
        SCOPED_TRACE(round);
        for (const Case &now : cases) {
            SCOPED_TRACE(now);
            if (now.size > 64) { /* small ones are copied */
                ASSERT_NO_FATAL_FAILURE(begin_and_retain(now));
                ASSERT_NO_FATAL_FAILURE(finish());
                expect_kept();
                release_kept();
            }
        }
    }
}

/* What is answered is the message itself, which is gone before the answer has left. */
TEST_P(InBacklog, AnswersMayLieInTheMessage)
{
    for (const Case &now : cases) {
        SCOPED_TRACE(now);
        Inbox inbox;
        Results results;
        struct dgram_socket *peer = open_inbox(loop, &inbox);
        const struct dgram_addr to = address_of(peer);
        ASSERT_NO_FATAL_FAILURE(begin(now));
        each = [&](const struct dgram_message *message) {
            EXPECT_EQ(
                dgram_send_to(receiver, message->data, message->size, &to, Results::take, &results),
                0);
        };
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == now.count - first; }));
        each = nullptr;
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == now.count - first; }));
        for (unsigned i = 0; i < inbox.count(); i++) {
            EXPECT_EQ(results.values[i], static_cast<int>(now.size)) << i;
            EXPECT_EQ(inbox.payloads[i], numbered(first + i, now.size)) << i;
        }
        close_and_wait(loop, peer);
        ASSERT_NO_FATAL_FAILURE(finish());
    }
}

/* At every third datagram, in whichever handler it is. */
TEST_P(InBacklog, HandlersAreReplacedAgainAndAgain)
{
    for (const Case &now : cases) {
        SCOPED_TRACE(testing::Message()
                     << now.size << (now.copied ? " copied" : "") << (now.arrays ? " arrays" : ""));
        bool arrays = now.arrays;
        ASSERT_NO_FATAL_FAILURE(begin(now));
        each = [&](const struct dgram_message *) {
            if (got % 3 == 0) {
                use(arrays = !arrays);
            }
        };
        ASSERT_TRUE(run_until(loop, [&] { return got == now.count; }));
        each = nullptr;
        ASSERT_NO_FATAL_FAILURE(finish());
    }
}

/* What an array holds was delivered; the rest waits for the next handler. */
TEST_P(InBacklog, WithoutAHandlerTheRestWaits)
{
    for (const Case &now : cases) {
        SCOPED_TRACE(testing::Message()
                     << now.size << (now.copied ? " copied" : "") << (now.arrays ? " arrays" : ""));
        ASSERT_NO_FATAL_FAILURE(begin(now));
        deed = [&] {
            dgram_on_message(receiver, nullptr, nullptr);
            dgram_on_messages(receiver, nullptr, nullptr);
        };
        ASSERT_TRUE(run_until(loop, [&] { return deed == nullptr; }));
        const unsigned before = got;
        settle(loop);
        EXPECT_EQ(got, before);
        EXPECT_TRUE(before < now.count || !now.is_more_than_an_array());
        use(!now.arrays);
        ASSERT_NO_FATAL_FAILURE(finish());
    }
}

/* In the handler, and between two turns. */
TEST_P(InBacklog, TheLoopIsFreedAndTheRestIsCounted)
{
    for (const Case &now : cases) {
        for (bool inside : {false, true}) {
            SCOPED_TRACE(testing::Message() << now << (inside ? " inside" : ""));
            ASSERT_NO_FATAL_FAILURE(begin(now));
            if (inside) {
                deed = [&] { EXPECT_EQ(dgram_loop_free(loop), nullptr); };
                while (deed) {
                    const int alive = dgram_loop_turn(loop, SECOND);
                    ASSERT_EQ(alive, deed ? 1 : 0) << "a turn may bring nothing yet";
                }
            } else {
                dgram_loop_free(loop);
            }
            EXPECT_TRUE(closed);
            EXPECT_EQ(final.received, got);
            EXPECT_EQ(final.received + final.discarded, now.count);
            EXPECT_TRUE(final.discarded > 0 || !now.is_more_than_an_array());
            EXPECT_EQ(live, 0);
            loop = make_loop();
        }
    }
}

/* ---- The backlog --------------------------------------------------------------------------- */

/*
 * Two flooded sockets hold all slots with what their handlers, which are slow, have not taken yet;
 * each of their messages has a datagram sent to a third one, which starves until some of theirs is
 * copied away. Then they are paused, so the rest leaves the slots as well, and resumed: all of it
 * comes, in order.
 */
class BacklogInSlots : public EngineTest
{
  protected:
    enum { TRAINS = 2, LENGTH = 10, ALL = TRAINS * LENGTH };

    struct Flooded {
        struct dgram_socket *socket = nullptr;
        std::vector<std::string> sent, got;
        Handlers on;
    };

    void take_long() const
    {
        if (std::string(GetParam().name) == "sim") {
            sim_burn(2 * MILLISECOND);
            return;
        }
        const uint64_t end = monotonic_ns() + 2 * MILLISECOND;
        while (monotonic_ns() < end) {
        }
    }
    /* Its trains wait in the kernel until attach(). */
    void flood(Flooded *one, unsigned seed, const std::function<void()> &each)
    {
        one->socket = open_bound(loop);
        for (unsigned i = 0; i < ALL; i++) {
            one->sent.push_back(numbered(seed + i, 64 + i / LENGTH));
            ASSERT_EQ(send_text(sender, one->sent.back(), address_of(one->socket)), 0);
        }
        one->on.message = [=](struct dgram_socket *, const struct dgram_message *message) {
            one->got.push_back(payload_of(message));
            each();
            take_long();
        };
    }

    struct dgram_socket *sender = nullptr;
};

INSTANTIATE_ON_ALL_ENGINES(BacklogInSlots);

TEST_P(BacklogInSlots, ThatLeavesItsSlotsStaysInOrder)
{
    struct dgram_loop_options options = loop_options();
    options.slots = 4;
    remake_loop(options);
    Flooded flooded[2];
    Inbox served;
    sender = open_socket(loop);
    struct dgram_socket *third = open_inbox(loop, &served);
    const auto serve_third = [&] { ASSERT_EQ(send_text(sender, "served", address_of(third)), 0); };
    flood(&flooded[0], 1000, serve_third);
    flood(&flooded[1], 2000, serve_third);
    settle(loop);
    for (Flooded &one : flooded) {
        one.on.attach(one.socket);
    }
    ASSERT_TRUE(run_until(loop, [&] { return served.count() >= 3; }));
    size_t before[2];
    for (unsigned i = 0; i < 2; i++) {
        ASSERT_EQ(dgram_pause(flooded[i].socket), 0);
        before[i] = flooded[i].got.size();
    }
    EXPECT_LT(before[0] + before[1], 2u * ALL) << "the third had to wait for all of theirs";
    settle(loop);
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_EQ(flooded[i].got.size(), before[i]) << "paused";
        ASSERT_EQ(dgram_resume(flooded[i].socket), 0);
    }
    for (Flooded &one : flooded) {
        ASSERT_TRUE(run_until(loop, [&] { return one.got.size() == ALL; }));
        EXPECT_TRUE(one.got == one.sent);
    }
    ASSERT_TRUE(run_until(loop, [&] { return served.count() == size_t{2} * ALL; }));
    settle(loop);
    EXPECT_EQ(info_of(loop).slots_free, 4u);
}

} /* namespace */
