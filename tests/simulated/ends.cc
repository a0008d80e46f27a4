/* SPDX-License-Identifier: MIT */
/*
 * ends.cc: a child that frees its parent's loop while sends and questions wait, and an engine that
 * breaks while sockets starve, records wait and trains are tried again. The simulator knows what is
 * left behind.
 */
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tests/sim/fixture.h"
#include "tests/sim/sim.h"

namespace
{

class BrokenEngine : public SimOne
{
  protected:
    static void count_result(struct dgram_socket *, int, void *user)
    {
        ++*static_cast<unsigned *>(user);
    }
};

class SimEnd : public SimTest
{
  protected:
    void open(const struct dgram_loop_options &options, const struct sim_faults &faults = {})
    {
        ASSERT_NO_FATAL_FAILURE(open_world(options, faults));
        sender = open_socket();
    }
    struct dgram_socket *open_socket()
    {
        struct dgram_socket *made = nullptr;
        EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, nullptr, &made), 0);
        EXPECT_EQ(dgram_bind(made, 0, "127.0.0.1"), 0);
        EXPECT_EQ(dgram_on_close(made, on_close, this), 0);
        opened++;
        return made;
    }
    void send(struct dgram_socket *to, unsigned count, size_t size)
    {
        static const char bytes[1000] = {};
        struct dgram_addr address = {};
        ASSERT_EQ(dgram_address(to, &address), 0);
        while (count-- > 0) {
            ASSERT_EQ(dgram_send_to(sender, bytes, size, &address, nullptr, nullptr), 0);
            sent++;
        }
    }
    /* The simulator's rules count in the child, too: no memory is left, no descriptor. */
    void expect_child_frees()
    {
        fflush(nullptr);
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            end_child();
        }
        expect_child_ended(child);
    }
    void end_child()
    {
        const unsigned results_before = results;
        alarm(100);
        in_child = true;
        loop = dgram_loop_free(loop);
        sim_close();
        EXPECT_EQ(results, results_before) << "a callback in a child";
        EXPECT_EQ(closed, 0u) << "a callback in a child";
        fflush(nullptr);
        _exit(HasFailure() ? 1 : 0);
    }
    static void expect_child_ended(pid_t child)
    {
        int status = 1;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
        EXPECT_EQ(WEXITSTATUS(status), 0) << "the child's failures are above";
    }

    static void on_result(struct dgram_socket *, int result, void *user)
    {
        SimEnd *self = static_cast<SimEnd *>(user);
        self->results++;
        self->failures += result < 0;
    }
    static void on_close(struct dgram_socket *socket, void *user)
    {
        SimEnd *self = static_cast<SimEnd *>(user);
        struct dgram_socket_stats stats = {};
        stats.size = sizeof(stats);
        EXPECT_EQ(dgram_socket_stats(socket, &stats), 0);
        self->received += stats.received;
        self->discarded += stats.discarded;
        self->closed++;
    }
    /* The first one sends itself some more, has them received at once, and then nothing works. */
    static void flush_and_break(struct dgram_socket *socket, const struct dgram_message *,
                                void *user)
    {
        SimEnd *self = static_cast<SimEnd *>(user);
        if (self->flushed++ == 0) {
            self->send(socket, 5, 100);
            EXPECT_EQ(dgram_loop_flush(self->loop), 0);
            sim_burn(MILLISECOND); /* they arrive */
            EXPECT_EQ(dgram_loop_flush(self->loop), 0);
            sim_break(1, -EIO);
        }
    }
    void rule_broken(const char *rule) override
    {
        /* A child takes nothing from the engine, which it shares with its parent. */
        const bool is_about_engine =
            strcmp(rule, "a socket is closed before DETACHED") == 0 ||
            strcmp(rule, "the engine is closed before a socket is detached") == 0;
        if (!is_about_engine || !in_child) {
            SimTest::rule_broken(rule);
        }
    }

    struct dgram_socket *sender = nullptr;
    unsigned opened = 0, closed = 0, results = 0, failures = 0;
    uint64_t sent = 0, received = 0, discarded = 0;
    unsigned flushed = 0;
    bool in_child = false;
};

/* ---- Children ------------------------------------------------------------------------------ */

/* Sends that wait for room at two destinations, with callbacks and without. */
TEST_F(SimEnd, ChildFreesSendsThatStall)
{
    open({});
    turns(2, MILLISECOND);
    sim_no_room_for(DEAD);
    sim_no_room_for(ALSO_DEAD);
    for (unsigned i = 0; i < 20; i++) {
        const uint16_t port = i % 2 == 0 ? DEAD : ALSO_DEAD;
        ASSERT_EQ(dgram_send(sender, "payload", 7, port, "127.0.0.1",
                             i % 3 == 0 ? on_result : nullptr, this),
                  0);
        turns(1, MILLISECOND);
    }
    ASSERT_EQ(dgram_get_send_queue_count(sender), 20u);
    expect_child_frees();
    sim_room_for(DEAD);
    sim_room_for(ALSO_DEAD);
    turns(50, MILLISECOND);
    EXPECT_EQ(results, 7u);
    EXPECT_EQ(failures, 0u) << "the child took them from the parent";
    EXPECT_EQ(dgram_get_send_queue_count(sender), 0u);
}

/* A name was asked for by a call, and no turn has put the question yet. */
TEST_F(SimEnd, ChildFreesQuestionsThatWereNotPut)
{
    struct Hook {
        unsigned asked = 0;
        static void ask(struct dgram_loop *, struct dgram_lookup *lookup, const char *, int,
                        void *user)
        {
            static_cast<Hook *>(user)->asked++;
            EXPECT_EQ(dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 1), 0);
        }
    } hook;
    struct dgram_loop_options options = {};
    options.lookup = Hook::ask;
    options.lookup_user = &hook;
    open(options);
    turns(2, MILLISECOND);
    for (const char *name : {"one.test", "two.test"}) {
        ASSERT_EQ(dgram_send(sender, "payload", 7, 9, name, on_result, this), 0);
    }
    expect_child_frees();
    EXPECT_EQ(hook.asked, 0u);
    turns(5, MILLISECOND);
    EXPECT_EQ(hook.asked, 2u);
    EXPECT_EQ(results, 2u);
    EXPECT_EQ(failures, 2u);
}

/* A lookup hook that forks: the child puts no further question, and frees what it has. */
TEST_F(SimEnd, ChildOfALookupAsksNobody)
{
    struct Hook {
        unsigned asked = 0;
        pid_t child = -1;
        static void ask(struct dgram_loop *, struct dgram_lookup *lookup, const char *, int,
                        void *user)
        {
            Hook *self = static_cast<Hook *>(user);
            if (self->asked++ == 0) {
                fflush(nullptr);
                self->child = fork();
            }
            EXPECT_EQ(dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 1),
                      self->child == 0 ? DGRAM_EFORKED : 0);
        }
    } hook;
    struct dgram_loop_options options = {};
    options.lookup = Hook::ask;
    options.lookup_user = &hook;
    open(options);
    turns(2, MILLISECOND);
    for (const char *name : {"one.test", "two.test", "three.test"}) {
        ASSERT_EQ(dgram_send(sender, "payload", 7, 9, name, on_result, this), 0);
    }
    const int code = dgram_loop_turn(loop, 0);
    if (hook.child == 0) {
        EXPECT_EQ(code, DGRAM_EFORKED);
        EXPECT_EQ(hook.asked, 1u);
        end_child();
    }
    expect_child_ended(hook.child);
    turns(5, MILLISECOND);
    EXPECT_EQ(hook.asked, 3u);
    EXPECT_EQ(failures, 3u);
}

/* ---- Engines that break -------------------------------------------------------------------- */

/* One socket holds all slots, others starve for one: all are closed, and all is accounted for. */
TEST_F(SimEnd, BrokenEngineLeavesNobodyStarving)
{
    struct dgram_loop_options options = {};
    options.slots = 4;
    open(options);
    struct dgram_socket *flooded = open_socket(), *starving[3];
    const auto slow = [](struct dgram_socket *, const struct dgram_message *, void *) {
        sim_burn(2 * MILLISECOND);
    };
    for (struct dgram_socket *&one : starving) {
        one = open_socket();
        dgram_on_message(one, slow, this);
    }
    turns(2, MILLISECOND);
    for (unsigned train = 0; train < 4; train++) {
        send(flooded, 10, 100 + train);
    }
    turns(2, MILLISECOND);
    dgram_on_message(flooded, slow, this);
    turns(1, MILLISECOND);
    for (struct dgram_socket *one : starving) {
        send(one, 2, 50);
    }
    turns(1, MILLISECOND);
    sim_break(1, -EIO);
    EXPECT_EQ(dgram_loop_run(loop), -EIO);
    EXPECT_EQ(dgram_loop_turn(loop, 0), -EIO);
    loop = dgram_loop_free(loop);
    EXPECT_EQ(closed, opened);
    EXPECT_GT(received, 0u);
    EXPECT_LE(received + discarded, sent);
}

/* A flush in a handler had records appended; before a turn dispatches them the engine breaks. */
TEST_F(SimEnd, BrokenEngineCountsWhatItHadReceived)
{
    struct sim_faults faults = {};
    faults.in_flush = 1000;
    open({}, faults);
    struct dgram_socket *receiver = open_socket();
    dgram_on_message(receiver, flush_and_break, this);
    turns(2, MILLISECOND);
    send(receiver, 1, 100);
    int code = 0;
    for (unsigned i = 0; i < 20 && code >= 0; i++) {
        code = dgram_loop_turn(loop, MILLISECOND);
    }
    EXPECT_EQ(code, -EIO);
    loop = dgram_loop_free(loop);
    EXPECT_EQ(closed, opened);
    EXPECT_GT(received, 0u);
    EXPECT_EQ(received + discarded, sent);
}

/* EAGAIN is back-pressure, unless the engine breaks with it: while a refused train was sent again,
 * one by one or what was behind it, that was not seen, and the rest was parked for good. */
TEST_F(BrokenEngine, AnEngineThatBreaksDuringASecondAttemptParksNothing)
{
    for (int code : {-EAGAIN, -ENOBUFS, -EIO}) {
        for (uint32_t calls = 1; calls <= 20; calls++) {
            SCOPED_TRACE(testing::Message() << code << " at call " << calls);
            struct sim_faults faults = {};
            faults.refuse = 1000;
            open({}, 0, faults);
            ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
            turns(2, 0);
            unsigned results = 0;
            for (size_t i = 0; i < 12; i++) { /* two trains, the second behind the first */
                ASSERT_EQ(dgram_send(socket, "0123456789", i < 6 ? 5 : 10, 9000, "127.0.0.1",
                                     count_result, &results),
                          0);
            }
            sim_break(calls, code);
            const int flushed = dgram_loop_flush(loop);
            EXPECT_EQ(flushed, sim_broken());
            (void) dgram_loop_turn(loop, 0);
            EXPECT_EQ(results, 12u);
            TearDown();
        }
    }
    open({});
}

} /* namespace */
