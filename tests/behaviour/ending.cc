/* SPDX-License-Identifier: MIT */
/*
 * ending.cc: the end of a program that collects datagrams, on the host's network: every datagram is
 * delivered or counted, and nothing new is let in. simulated/turn.cc has the end of sockets under
 * faults.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/harness.h"
#include "tests/support/internals.h"

using namespace harness;

namespace
{

/* ---- A collector that is stopped and continued --------------------------------------------- */

/* How a program ends, when a signal has made dgram_loop_run() return: the recipe of the header, and
 * the quicker ones. */
enum class Way { ENDS, CLOSES, FREES };

/* A child that does nothing but collect. It tells where it is to be reached, and when it has ended
 * what it has got. */
struct Place {
    struct dgram_addr address;
    uint64_t room;  /* small datagrams that surely fit into its receive buffer */
    uint64_t bytes; /* of that buffer */
};

struct Account {
    int first_run, end, last_run;
    unsigned closes;
    uint64_t delivered;
    struct dgram_socket_stats stats;
};

struct dgram_loop *collecting; /* of the signal handler */

void on_sigterm(int)
{
    dgram_loop_stop(collecting);
}

void count_message(struct dgram_socket *, const struct dgram_message *, void *user)
{
    static_cast<Account *>(user)->delivered++;
}

void take_stats(struct dgram_socket *socket, void *user)
{
    Account *account = static_cast<Account *>(user);
    account->closes++;
    account->stats.size = sizeof(account->stats);
    (void) dgram_socket_stats(socket, &account->stats);
}

template <class T> bool tell(int fd, const T &what)
{
    return write(fd, &what, sizeof(what)) == static_cast<ssize_t>(sizeof(what));
}

template <class T> bool hear(int fd, T *ret_what)
{
    return read(fd, ret_what, sizeof(*ret_what)) == static_cast<ssize_t>(sizeof(*ret_what));
}

struct dgram_socket *collector_open(const Engine &engine, Account *account)
{
    struct dgram_socket *socket = nullptr;
    struct sigaction action = {};
    action.sa_handler = on_sigterm;
    bool well = engine.create(nullptr, &collecting) == 0 &&
                dgram_create_socket(collecting, DGRAM_UDP4, nullptr, &socket) == 0 &&
                dgram_set_recv_buffer_size(socket, 65536) == 0 &&
                dgram_on_message(socket, count_message, account) == 0 &&
                dgram_on_close(socket, take_stats, account) == 0 &&
                dgram_bind(socket, 0, "127.0.0.1") == 0 &&
                sigaction(SIGTERM, &action, nullptr) == 0;
    for (int i = 0; i < 2; i++) { /* it receives */
        well = well && dgram_loop_turn(collecting, 0) >= 0;
    }
    return well ? socket : nullptr;
}

[[noreturn]] void collect(const Engine &engine, Way way, int out)
{
    alarm(60 * patience());
    static Account account; /* its handlers run until the last turn */
    Place place = {};
    struct dgram_socket *socket = collector_open(engine, &account);
    if (socket == nullptr || dgram_address(socket, &place.address) < 0) {
        _exit(1);
    }
    place.room = room_of(socket);
    place.bytes = static_cast<uint64_t>(dgram_get_recv_buffer_size(socket));
    if (!tell(out, place)) {
        _exit(1);
    }
    account.first_run = dgram_loop_run(collecting);
    if (way != Way::FREES) {
        account.end = way == Way::ENDS ? dgram_end(socket) : dgram_close(socket);
        account.last_run = dgram_loop_run(collecting);
    }
    dgram_loop_free(collecting);
    _exit(tell(out, account) ? 0 : 1);
}

class Collector : public EngineTest
{
  protected:
    /* No loop of the parent's is there when it forks. */
    void SetUp() override
    {
        EngineTest::SetUp();
        loop = dgram_loop_free(loop);
    }
    void TearDown() override
    {
        if (child_ > 0) {
            kill(child_, SIGKILL);
            waitpid(child_, nullptr, 0);
        }
        close_pipe();
        EngineTest::TearDown();
    }

    void start(Way way)
    {
        int ends[2];
        ASSERT_EQ(pipe(ends), 0);
        fflush(nullptr);
        child_ = fork();
        ASSERT_GE(child_, 0);
        if (child_ == 0) {
            close(ends[0]);
            collect(GetParam(), way, ends[1]);
        }
        close(ends[1]);
        in_ = ends[0];
        ASSERT_TRUE(hear(in_, &place)) << "the child could not collect";
    }
    /* It is stopped, surely, when this returns. */
    void stop()
    {
        int status = 0;
        ASSERT_EQ(kill(child_, SIGSTOP), 0);
        ASSERT_EQ(waitpid(child_, &status, WUNTRACED), child_);
        ASSERT_TRUE(WIFSTOPPED(status));
    }
    /* It is to end as soon as it goes on. */
    void go_on_and_end()
    {
        int status = 0;
        ASSERT_EQ(kill(child_, SIGTERM), 0);
        ASSERT_EQ(kill(child_, SIGCONT), 0);
        ASSERT_TRUE(hear(in_, &account)) << "the child did not end";
        ASSERT_EQ(waitpid(child_, &status, 0), child_);
        child_ = -1;
        EXPECT_EQ(status, 0);
        close_pipe();
    }
    void send_singly(uint64_t count) const
    {
        Plain sender;
        for (uint64_t i = 0; i < count; i++) {
            sender.send("datagram", place.address);
        }
    }
    void send_in_trains(uint64_t count) const
    {
        struct dgram_loop *other = make_loop();
        ASSERT_NE(other, nullptr);
        struct dgram_socket *sender = open_socket(other);
        for (uint64_t i = 0; i < count; i++) {
            ASSERT_EQ(send_text(sender, "datagram", place.address), 0);
        }
        ASSERT_EQ(dgram_loop_flush(other), 0);
        dgram_loop_free(other);
    }
    /* Whatever became of them. */
    void expect_all(uint64_t count, Way way) const
    {
        EXPECT_EQ(account.first_run, 1);
        EXPECT_EQ(account.end, 0);
        EXPECT_EQ(account.last_run, 0);
        EXPECT_EQ(account.closes, 1u);
        EXPECT_EQ(account.stats.received, account.delivered);
        EXPECT_EQ(account.stats.received + account.stats.discarded + account.stats.dropped, count);
        EXPECT_TRUE(way != Way::ENDS || account.stats.discarded == 0);
    }

    Place place = {};
    Account account = {};

  private:
    void close_pipe()
    {
        if (in_ >= 0) {
            close(in_);
        }
        in_ = -1;
    }
    pid_t child_ = -1;
    int in_ = -1;
};

INSTANTIATE_ON_HOST_ENGINES(Collector);

/* What came while it was stopped and had room is delivered by dgram_end(), to the last. */
TEST_P(Collector, LosesNothingThatTheKernelHolds)
{
    for (bool trains : {false, true}) {
        for (Way way : {Way::ENDS, Way::CLOSES, Way::FREES}) {
            SCOPED_TRACE(testing::Message() << trains << " way " << static_cast<int>(way));
            ASSERT_NO_FATAL_FAILURE(start(way));
            ASSERT_NO_FATAL_FAILURE(stop());
            const uint64_t count = trains ? 100 : place.room;
            ASSERT_NO_FATAL_FAILURE(trains ? send_in_trains(count) : send_singly(count));
            ASSERT_NO_FATAL_FAILURE(go_on_and_end());
            expect_all(count, way);
            EXPECT_EQ(account.stats.dropped, 0u);
            EXPECT_TRUE(way != Way::ENDS || account.delivered == count);
        }
    }
}

#ifdef DGRAM_TEST_LINUX_HOST /* others do not tell what the kernel drops */
/* Not even a byte of each has room: the kernel drops the most, and that is counted. */
TEST_P(Collector, CountsWhatHadNoRoom)
{
    for (Way way : {Way::ENDS, Way::CLOSES, Way::FREES}) {
        SCOPED_TRACE(testing::Message() << "way " << static_cast<int>(way));
        ASSERT_NO_FATAL_FAILURE(start(way));
        ASSERT_NO_FATAL_FAILURE(stop());
        const uint64_t count = place.bytes / 64;
        ASSERT_NO_FATAL_FAILURE(send_singly(count));
        ASSERT_NO_FATAL_FAILURE(go_on_and_end());
        expect_all(count, way);
        EXPECT_GT(account.stats.dropped, 0u);
        EXPECT_GE(account.stats.received + account.stats.discarded, place.room);
    }
}

/* ---- What comes during the end ------------------------------------------------------------- */

class Ending : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Ending);

/* Each delivery is answered by one datagram more: without an end of the arrivals, there would be
 * none of the socket. */
TEST_P(Ending, WhatComesMeanwhileIsKeptOutAndCounted)
{
    constexpr unsigned COUNT = 20, MOST = 500;
    Plain peer;
    unsigned got = 0, more = 0;
    struct dgram_socket_stats final = {};
    struct dgram_socket *receiver = open_bound(loop);
    const struct dgram_addr to = address_of(receiver);
    Handlers on;
    on.message = [&](struct dgram_socket *, const struct dgram_message *) {
        got++;
        if (more < MOST) {
            more++;
            peer.send("one more", to);
        }
    };
    on.close = [&](struct dgram_socket *socket) { final = stats_of(socket); };
    on.attach(receiver);
    for (unsigned i = 0; i < COUNT; i++) {
        peer.send("datagram", to);
    }
    ASSERT_EQ(dgram_end(receiver), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    EXPECT_EQ(got, COUNT);
    EXPECT_EQ(final.received, COUNT);
    EXPECT_EQ(final.discarded, 0u);
    EXPECT_EQ(final.dropped, more);
}

/* A close reads what the kernel holds. After each datagram that it has read one more comes. */
struct {
    Plain *peer;
    struct dgram_addr to;
    unsigned more;
} feed;

int feeding_receive(int fd, struct msghdr *header, int flags)
{
    const int size = dg_system_host.receive(fd, header, flags);
    if (size >= 0 && feed.peer != nullptr && feed.more < 500) {
        feed.more++;
        feed.peer->send("one more", feed.to);
    }
    return size;
}

const struct dg_system *feeding_system()
{
    static const struct dg_system table = [] {
        struct dg_system made = dg_system_host;
        made.receive = feeding_receive;
        return made;
    }();
    return &table;
}

TEST_P(Ending, WhatComesDuringACloseIsKeptOutAndCounted)
{
    constexpr unsigned COUNT = 20;
    Plain peer;
    struct dgram_socket_stats final = {};
    struct dgram_loop_options options = loop_options();
    options.engine = GetParam().number;
    loop = dgram_loop_free(loop);
    ASSERT_EQ(
        patiently([&] { return dg_loop_create_on(&options, feeding_system(), nullptr, &loop); }),
        0);
    struct dgram_socket *receiver = open_bound(loop);
    Handlers on;
    on.close = [&](struct dgram_socket *socket) { final = stats_of(socket); };
    on.attach(receiver);
    feed = {&peer, address_of(receiver), 0};
    for (unsigned i = 0; i < COUNT; i++) {
        peer.send("datagram", feed.to);
    }
    ASSERT_EQ(dgram_close(receiver), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
    feed.peer = nullptr;
    EXPECT_GE(feed.more, COUNT);
    EXPECT_EQ(final.discarded, COUNT + 1u) << "the first comes before the filter is there";
    EXPECT_EQ(final.discarded + final.dropped, COUNT + feed.more);
}
#endif

} /* namespace */
