/* SPDX-License-Identifier: MIT */
/*
 * spin.cc: what a loop asks the kernel while it spins, and when it gives way.
 *
 * This program's own recvmsg() and sched_yield() stand before the C library's and count.
 */
#include <gtest/gtest.h>

#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

unsigned long receives, yields;

} // namespace

extern "C" int sched_yield()
{
    yields++;
    return 0;
}

#ifdef SYS_recvmsg
extern "C" ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    receives++;
    return syscall(SYS_recvmsg, fd, message, flags);
}
#endif

namespace
{

struct Counts {
    unsigned long receives, yields;
};

/* A spin of a whole turn, in which nothing comes. */
class Spin : public EngineTest
{
  protected:
    Counts spin() const
    {
        struct dgram_loop_options options = loop_options();
        options.busy_poll_us = 1000000;
        struct dgram_loop *busy = make_loop(&options);
        Inbox inbox;
        open_inbox(busy, &inbox);
        for (int i = 0; i < 3; i++) {
            EXPECT_EQ(dgram_loop_turn(busy, 0), 1); /* it receives now */
        }
        receives = yields = 0;
        EXPECT_EQ(dgram_loop_turn(busy, 20 * MILLISECOND), 1);
        EXPECT_EQ(inbox.count(), 0u);
        return {receives, yields};
    }

    /* How many CPUs there are is asked once in a process, so each has one of its own. */
    Counts spin_in_child(bool one_cpu) const
    {
        int pipe_fds[2];
        EXPECT_EQ(pipe(pipe_fds), 0);
        fflush(nullptr);
        const pid_t child = fork();
        if (child == 0) {
            alarm(60 * patience());
            if (one_cpu) {
                stay_here();
            }
            const Counts counts = spin();
            const bool told =
                write(pipe_fds[1], &counts, sizeof(counts)) == static_cast<ssize_t>(sizeof(counts));
            _exit(told && !HasFailure() ? 0 : 1);
        }
        int status = 1;
        Counts counts = {};
        EXPECT_EQ(waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
        EXPECT_EQ(read(pipe_fds[0], &counts, sizeof(counts)),
                  static_cast<ssize_t>(status == 0 ? sizeof(counts) : 0));
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        return counts;
    }

  private:
    static void stay_here()
    {
        cpu_set_t here;
        CPU_ZERO(&here);
        CPU_SET(static_cast<size_t>(sched_getcpu()), &here);
        EXPECT_EQ(sched_setaffinity(0, sizeof(here), &here), 0);
    }
};

INSTANTIATE_ON_HOST_ENGINES(Spin);

/* Datagrams are looked for where they are found soonest, each time: in the socket. */
TEST_P(Spin, IsOneReceiveAfterTheOther)
{
#ifndef SYS_recvmsg
    GTEST_SKIP() << "this host's recvmsg() is no system call of its own";
#endif
    EXPECT_GT(spin_in_child(false).receives, 100u) << "of some 20,000";
}

/* Whoever is to send what the spin looks for may need the only CPU. */
TEST_P(Spin, GivesWayOnTheOnlyCpu)
{
    EXPECT_GT(spin_in_child(true).yields, 100u);
    cpu_set_t allowed;
    ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    if (CPU_COUNT(&allowed) > 1) {
        EXPECT_EQ(spin_in_child(false).yields, 0u);
    }
}

} // namespace
