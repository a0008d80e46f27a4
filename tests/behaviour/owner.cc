/* SPDX-License-Identifier: MIT */
/*
 * owner.cc: the thread of a loop: whom it lets in, who may free it, pthread_cancel(3).
 */
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

/* Threads are made with pthread_create() here: they are cancelled, or have to end in order. */
class Owner : public EngineTest
{
  protected:
    using Body = std::function<void()>;

    static pthread_t start(Body *body)
    {
        pthread_t thread = {};
        auto run = [](void *user) -> void * {
            (*static_cast<Body *>(user))();
            return nullptr;
        };
        EXPECT_EQ(pthread_create(&thread, nullptr, run, body), 0);
        return thread;
    }

    static void *join(pthread_t thread)
    {
        void *result = nullptr;
        EXPECT_EQ(pthread_join(thread, &result), 0);
        return result;
    }

    /* In a thread that has ended when this returns. */
    static void in_a_thread(Body body)
    {
        join(start(&body));
    }

    /* A bound socket that receives and notes in its `close` handler whether its port was free. */
    struct Guest {
        struct dgram_socket *socket = nullptr;
        struct dgram_addr at = {};
        Inbox inbox;
        int closes = 0, bind_error = -1;
        int spare = -1; /* a socket for that, where another cannot be had */

        static void closed(struct dgram_socket *, void *user)
        {
            if (!muted()) {
                Guest *guest = static_cast<Guest *>(user);
                guest->closes++;
                guest->bind_error = try_bind(guest->at, guest->spare);
                guest->spare = -1;
            }
        }
        void open(struct dgram_loop *in)
        {
            socket = open_inbox(in, &inbox);
            at = address_of(socket);
            ASSERT_EQ(dgram_on_close(socket, closed, this), 0);
        }
    };

    static int try_bind(const struct dgram_addr &at, int spare)
    {
        int fd = spare >= 0 ? spare : ::socket(at.u.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int error = bind(fd, &at.u.any, at.size) < 0 ? errno : 0;
        close(fd);
        return error;
    }

    /* A thread that has the guest receive in the fixture's loop, and then only lives on. */
    struct Resting {
        std::atomic<bool> done{false}, over{false};
        Body body;
        pthread_t thread;

        Resting(Owner *test, Guest *guest)
            : body([this, test, guest] {
                  guest->open(test->loop);
                  EXPECT_EQ(dgram_loop_turn(test->loop, 0), 1);
                  done = true;
                  EXPECT_TRUE(wait_until([this] { return over.load(); }));
              }),
              thread(start(&body))
        {
            EXPECT_TRUE(wait_until([this] { return done.load(); }));
        }
        void end()
        {
            over = true;
            join(thread);
        }
    };

    /* Frees the fixture's loop. */
    void free_now()
    {
        struct dgram_loop *going = loop;
        loop = nullptr;
        EXPECT_EQ(dgram_loop_free(going), nullptr);
    }
};

INSTANTIATE_ON_HOST_ENGINES(Owner);

/* glibc gives a pthread_t that was joined to the next thread. */
TEST_P(Owner, IsNotTheNextThreadOfTheSameHandle)
{
    pthread_t first = {}, next = {};
    int codes[3] = {};
    bool same = false;
    struct dgram_loop *before = make_loop();
    EXPECT_EQ(dgram_loop_turn(before, 0), 0);
    in_a_thread([&] {
        first = pthread_self();
        codes[0] = dgram_loop_turn(loop, 0);
    });
    for (int i = 0; i < 20; i++) {
        in_a_thread([&] {
            next = pthread_self();
            codes[1] = dgram_loop_turn(loop, 0);
            codes[2] = dgram_loop_run(loop);
        });
        same = same || pthread_equal(first, next) != 0;
        EXPECT_EQ(codes[1], DGRAM_EWRONGTHREAD);
        EXPECT_EQ(codes[2], DGRAM_EWRONGTHREAD);
    }
    EXPECT_EQ(codes[0], 0);
    EXPECT_EQ(dgram_loop_turn(loop, 0), DGRAM_EWRONGTHREAD);
    struct dgram_loop *after = make_loop();
    for (struct dgram_loop *own : {before, after, before, after}) {
        EXPECT_EQ(dgram_loop_turn(own, 0), 0);
    }
    dgram_loop_free(before);
    dgram_loop_free(after);
    if (!same) {
        GTEST_SKIP() << "this libc gave no handle twice";
    }
}

/* What it had accepted is sent, to the last datagram. */
TEST_P(Owner, EndsAndAnotherThreadFreesTheLoop)
{
    for (int round = 0; round < 20; round++) {
        SCOPED_TRACE(round);
        Plain peer;
        Guest guest, other;
        Results results;
        in_a_thread([&] {
            guest.open(loop);
            other.open(loop);
            ASSERT_EQ(send_text(other.socket, "to itself", guest.at), 0);
            ASSERT_TRUE(run_until(loop, [&] { return guest.inbox.count() == 1; }));
            const struct dgram_addr to = peer.address();
            EXPECT_EQ(dgram_send_to(guest.socket, "the last", 8, &to, Results::take, &results), 0);
        });
        free_now();
        EXPECT_EQ(results.values, std::vector<int>{8});
        EXPECT_EQ(peer.receive(), "the last");
        EXPECT_EQ(guest.closes, 1);
        EXPECT_EQ(guest.bind_error, 0) << strerror(guest.bind_error);
        EXPECT_EQ(other.bind_error, 0) << strerror(other.bind_error);
        loop = make_loop();
    }
}

TEST_P(Owner, RunsUntilItIsStoppedAndAnotherThreadFreesTheLoop)
{
    for (int round = 0; round < 20; round++) {
        SCOPED_TRACE(round);
        Guest guest;
        guest.open(loop);
        int code = -1;
        std::atomic<bool> runs{false};
        Job job([&](struct dgram_loop *) { runs = true; });
        ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
        Owner::Body body = [&] { code = dgram_loop_run(loop); };
        pthread_t thread = start(&body);
        EXPECT_TRUE(wait_until([&] { return runs.load(); }));
        dgram_loop_stop(loop);
        join(thread);
        EXPECT_EQ(code, 1);
        free_now();
        EXPECT_EQ(guest.closes, 1);
        EXPECT_EQ(guest.bind_error, 0) << strerror(guest.bind_error);
        loop = make_loop();
    }
}

/* It only has to be done with the loop, and is not even asked. */
TEST_P(Owner, LivesOnAndAnotherThreadFreesTheLoop)
{
    for (int round = 0; round < 20; round++) {
        SCOPED_TRACE(round);
        Plain peer;
        Guest guest;
        Results results;
        std::atomic<bool> done{false}, freed{false};
        Owner::Body body = [&] {
            guest.open(loop);
            EXPECT_EQ(dgram_loop_turn(loop, 0), 1);
            const struct dgram_addr to = peer.address();
            EXPECT_EQ(dgram_send_to(guest.socket, "the last", 8, &to, Results::take, &results), 0);
            done = true;
            EXPECT_TRUE(wait_until([&] { return freed.load(); }));
        };
        pthread_t thread = start(&body);
        EXPECT_TRUE(wait_until([&] { return done.load(); }));
        free_now();
        EXPECT_EQ(results.values, std::vector<int>{8});
        EXPECT_EQ(peer.receive(), "the last");
        EXPECT_EQ(guest.closes, 1);
        EXPECT_EQ(guest.bind_error, 0) << strerror(guest.bind_error);
        freed = true;
        join(thread);
        loop = make_loop();
    }
}

/* The wait for the end of its ring goes on when signals come, thousands a second. */
TEST_P(Owner, LivesOnAndSignalsComeWhileTheLoopIsFreed)
{
    struct sigaction action = {};
    action.sa_handler = [](int) {}; /* without SA_RESTART */
    for (int round = 0; round < 5; round++) {
        SCOPED_TRACE(round);
        Guest guest;
        Resting resting(this, &guest);
        struct sigaction before = {};
        ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
        std::atomic<bool> freed{false};
        const pthread_t self = pthread_self();
        std::thread nuisance([&] {
            while (!freed) {
                pthread_kill(self, SIGUSR1);
                usleep(20);
            }
        });
        free_now();
        freed = true;
        nuisance.join();
        ASSERT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
        EXPECT_EQ(guest.closes, 1);
        EXPECT_EQ(guest.bind_error, 0) << strerror(guest.bind_error);
        resting.end();
        loop = make_loop();
    }
}

/* The wait needs none. */
TEST_P(Owner, LivesOnAndTheLoopIsFreedWithoutDescriptors)
{
    for (int round = 0; round < 5; round++) {
        SCOPED_TRACE(round);
        Guest guest;
        Resting resting(this, &guest);
        guest.spare = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct dgram_loop *going = loop; /* a sanitizer needs a pipe to look at `this` */
        loop = nullptr;
        {
            NoDescriptors none;
            going = dgram_loop_free(going);
        }
        EXPECT_EQ(going, nullptr);
        EXPECT_EQ(guest.closes, 1);
        EXPECT_EQ(guest.bind_error, 0) << strerror(guest.bind_error);
        resting.end();
        loop = make_loop();
    }
}

/* Callbacks of the end may do what callbacks may. */
TEST_P(Owner, IsAnotherAndCallbacksOfTheEndStopAndSend)
{
    std::atomic<bool> done{false}, freed{false};
    Results results;
    struct Ending {
        struct dgram_loop *loop;
        int code;
        int taken[4]; /* descriptors that became free, or any */
    } ending = {loop, 0, {}};
    Owner::Body body = [&] {
        struct dgram_socket *socket = open_bound(loop);
        auto closed = [](struct dgram_socket *which, void *user) {
            Ending *end = static_cast<Ending *>(user);
            for (int &fd : end->taken) {
                fd = dup(0);
            }
            dgram_loop_stop(end->loop);
            end->code = dgram_send(which, "x", 1, 9, nullptr, nullptr, nullptr);
        };
        EXPECT_EQ(dgram_on_close(socket, closed, &ending), 0);
        EXPECT_EQ(dgram_loop_turn(loop, 0), 1);
        done = true;
        EXPECT_TRUE(wait_until([&] { return freed.load(); }));
    };
    pthread_t thread = start(&body);
    EXPECT_TRUE(wait_until([&] { return done.load(); }));
    free_now();
    EXPECT_EQ(ending.code, DGRAM_ENOTRUNNING);
    for (int fd : ending.taken) {
        EXPECT_EQ(close(fd), 0) << "the loop closed what was not its own";
    }
    freed = true;
    join(thread);
}

/* One of them it has freed itself. */
TEST_P(Owner, OfSeveralLoopsEnds)
{
    Guest guests[3];
    struct dgram_loop *loops[3] = {loop, make_loop(), make_loop()};
    in_a_thread([&] {
        for (int i = 0; i < 3; i++) {
            guests[i].open(loops[i]);
            EXPECT_EQ(dgram_loop_turn(loops[i], 0), 1);
        }
        dgram_loop_free(loops[1]);
    });
    EXPECT_EQ(guests[1].closes, 1);
    dgram_loop_free(loops[2]);
    free_now();
    for (const Guest &guest : guests) {
        EXPECT_EQ(guest.bind_error, 0) << strerror(guest.bind_error);
    }
}

/* ---- pthread_cancel ------------------------------------------------------------------------ */

/* Noticed between two turns: a loop that sleeps has to be woken. */
TEST_P(Owner, IsCancelledAndTheLoopCanBeFreed)
{
    for (int round = 0; round < 20; round++) {
        SCOPED_TRACE(round);
        Guest guest;
        std::atomic<bool> runs{false};
        guest.open(loop);
        Job job([&](struct dgram_loop *) { runs = true; });
        ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
        Owner::Body body = [&] { (void) dgram_loop_run(loop); };
        pthread_t thread = start(&body);
        EXPECT_TRUE(wait_until([&] { return runs.load(); }));
        ASSERT_EQ(pthread_cancel(thread), 0);
        dgram_loop_stop(loop);
        EXPECT_EQ(join(thread), PTHREAD_CANCELED);
        EXPECT_EQ(dgram_loop_turn(loop, 0), DGRAM_EWRONGTHREAD);
        free_now();
        EXPECT_EQ(guest.closes, 1);
        EXPECT_EQ(guest.bind_error, 0) << strerror(guest.bind_error);
        loop = make_loop();
    }
}

/* A callback that is full of cancellation points comes to its end, and so does its turn. One of its
 * datagrams has left when the thread ends, the other has not. */
TEST_P(Owner, IsCancelledInACallbackThatComesToItsEnd)
{
    Plain peer;
    Guest guest;
    Results results;
    int ends = 0;
    guest.open(loop);
    Job job([&](struct dgram_loop *) {
        EXPECT_EQ(pthread_cancel(pthread_self()), 0);
        pthread_testcancel();
        const struct dgram_addr to = peer.address();
        EXPECT_EQ(dgram_send_to(guest.socket, "first", 5, &to, Results::take, &results), 0);
        EXPECT_EQ(dgram_loop_flush(loop), 0);
        EXPECT_EQ(dgram_send_to(guest.socket, "second", 6, &to, Results::take, &results), 0);
        (void) sleep(0);
        ends++;
    });
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    Owner::Body body = [&] { (void) dgram_loop_run(loop); };
    EXPECT_EQ(join(start(&body)), PTHREAD_CANCELED);
    EXPECT_EQ(ends, 1);
    free_now();
    EXPECT_EQ(results.values, (std::vector<int>{5, 6}));
    EXPECT_EQ(peer.receive(), "first");
    EXPECT_EQ(peer.receive(), "second");
    EXPECT_EQ(guest.closes, 1);
    EXPECT_EQ(guest.bind_error, 0) << strerror(guest.bind_error);
}

/* As C++ programs do it: the thread's own clean-up frees the loop while it unwinds. */
TEST_P(Owner, IsCancelledAndFreesTheLoopWhileItUnwinds)
{
    struct Cleaner {
        struct dgram_loop *loop;
        ~Cleaner()
        {
            dgram_loop_free(loop);
        }
    };
    Guest guest;
    guest.open(loop);
    struct dgram_loop *going = loop;
    loop = nullptr;
    Job job([&](struct dgram_loop *) { EXPECT_EQ(pthread_cancel(pthread_self()), 0); });
    ASSERT_EQ(dgram_loop_post(going, Job::call, &job), 0);
    Owner::Body body = [&] {
        Cleaner cleaner{going};
        (void) dgram_loop_run(going);
    };
    EXPECT_EQ(join(start(&body)), PTHREAD_CANCELED);
    EXPECT_EQ(guest.closes, 1);
    EXPECT_EQ(guest.bind_error, 0) << strerror(guest.bind_error);
}

/* The program has switched cancellation off, and finds it as it has left it. */
TEST_P(Owner, IsNotCancelledWhereTheProgramForbidsIt)
{
    int before = -1, after = -1, code = -1, turn = -1;
    Job job([&](struct dgram_loop *which) {
        EXPECT_EQ(pthread_cancel(pthread_self()), 0);
        dgram_loop_stop(which);
    });
    ASSERT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    Owner::Body body = [&] {
        EXPECT_EQ(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr), 0);
        code = dgram_loop_run(loop);
        EXPECT_EQ(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before), 0);
        EXPECT_EQ(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr), 0);
        turn = dgram_loop_turn(loop, 0); /* a turn is none of the places where it acts */
        EXPECT_EQ(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &after), 0);
        pthread_testcancel();
        ADD_FAILURE() << "nothing was cancelled";
    };
    EXPECT_EQ(join(start(&body)), PTHREAD_CANCELED);
    EXPECT_EQ(code, 1);
    EXPECT_EQ(before, PTHREAD_CANCEL_DISABLE);
    EXPECT_GE(turn, 0);
    EXPECT_EQ(after, PTHREAD_CANCEL_ENABLE);
}

} /* namespace */
