/* SPDX-License-Identifier: MIT */
/*
 * faults.cc: the n-th system call fails. Through the table of src/system.h, so with the static
 * library only. Every constructor and setter then fails with that errno or works all the same;
 * nothing is lost, nothing hangs, and the second attempt works.
 */
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "tests/support/harness.h"
#include "tests/support/internals.h"

using namespace harness;

namespace
{

/* ---- The faulty table ---------------------------------------------------------------------- */

struct {
    uint64_t calls;     /* so far */
    uint64_t first;     /* the first one that fails; 0: none does */
    uint64_t last;      /* the last one */
    int code;           /* a negated errno */
    const char *failed; /* which call did, or NULL */
} faults;

/* Counts a call; a code below zero if it is to fail. */
int fault(const char *name)
{
    faults.calls++;
    if (faults.first == 0 || faults.calls < faults.first || faults.calls > faults.last) {
        return 0;
    }
    faults.failed = name;
    return faults.code;
}

int faulty_socket(int family)
{
    int code = fault("socket");
    return code < 0 ? code : dg_system_host.socket(family);
}

int faulty_bind(int fd, const struct sockaddr *address, socklen_t size)
{
    int code = fault("bind");
    return code < 0 ? code : dg_system_host.bind(fd, address, size);
}

int faulty_setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    int code = fault("setsockopt");
    return code < 0 ? code : dg_system_host.setsockopt(fd, level, name, value, size);
}

int faulty_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    int code = fault("getsockopt");
    return code < 0 ? code : dg_system_host.getsockopt(fd, level, name, value, size);
}

int faulty_getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    int code = fault("getsockname");
    return code < 0 ? code : dg_system_host.getsockname(fd, address, size);
}

/* On Linux the descriptor is gone even if close(2) fails. */
int faulty_close(int fd)
{
    int code = fault("close");
    int closed = dg_system_host.close(fd);
    return code < 0 ? code : closed;
}

int faulty_wake_open(int ret_fds[2])
{
    int code = fault("wake_open");
    return code < 0 ? code : dg_system_host.wake_open(ret_fds);
}

int faulty_alarm_open(void)
{
    int code = fault("alarm_open");
    return code < 0 ? code : dg_system_host.alarm_open();
}

/* A machine that is slow to tell that a time has come. */
uint64_t alarm_delay_ns;

void slow_alarm_set(int fd, uint64_t deadline)
{
    dg_system_host.alarm_set(fd, deadline == UINT64_MAX ? deadline : deadline + alarm_delay_ns);
}

const struct dg_system *faulty_system()
{
    static const struct dg_system table = [] {
        struct dg_system made = dg_system_host; /* what cannot fail stays */
        made.socket = faulty_socket;
        made.bind = faulty_bind;
        made.setsockopt = faulty_setsockopt;
        made.getsockopt = faulty_getsockopt;
        made.getsockname = faulty_getsockname;
        made.close = faulty_close;
        made.wake_open = faulty_wake_open;
        made.alarm_open = faulty_alarm_open;
        made.alarm_set = slow_alarm_set;
        return made;
    }();
    return &table;
}

void fail_call(uint64_t first, uint64_t last, int code)
{
    faults = {0, first, last, code, nullptr};
}

void fail_nothing()
{
    faults.first = 0;
}

class Faults : public EngineTest
{
  protected:
    void SetUp() override
    {
        faults = {};
        alarm_delay_ns = 0;
        EngineTest::SetUp();
    }

    int create(struct dgram_loop **ret_loop)
    {
        struct dgram_loop_options options = loop_options();
        options.engine = GetParam().number;
        int code;
        do { /* the kernel itself may have no memory for a ring: see patiently() */
            faults.calls = 0;
            code = dg_loop_create_on(&options, faulty_system(), nullptr, ret_loop);
        } while (code == -ENOMEM && faults.failed == nullptr);
        return code;
    }

    /* Calls `attempt` with its first call failing, then its second and so on, until it makes no
     * more calls. What fails must fail with the injected errno, and work when tried again. */
    void fail_each(const char *what, int errnum, const std::function<int()> &attempt)
    {
        for (uint64_t n = 1; n < 1000; n++) {
            SCOPED_TRACE(testing::Message()
                         << what << ": call " << n << " fails with " << dgram_error_name(-errnum));
            const int before = descriptors();
            fail_call(n, n, -errnum);
            int code = attempt();
            const bool made_enough_calls = faults.failed != nullptr;
            const std::string failed = made_enough_calls ? faults.failed : "";
            fail_nothing();
            if (!made_enough_calls) {
                EXPECT_GE(code, 0) << dgram_error_name(code);
                return;
            }
            SCOPED_TRACE(failed);
            if (code < 0) {
                EXPECT_EQ(code, -errnum) << dgram_error_name(code);
                EXPECT_EQ(descriptors(), before) << "a descriptor was left open";
                code = attempt();
                EXPECT_GE(code, 0) << "the second attempt: " << dgram_error_name(code);
            }
            if (HasFailure()) {
                return;
            }
        }
        FAIL() << what << ": no end";
    }

    static const std::vector<int> &errnos()
    {
        static const std::vector<int> list = {EPERM, ENOMEM, EMFILE, EINVAL, ENOPROTOOPT};
        return list;
    }
};

INSTANTIATE_ON_HOST_ENGINES(Faults);

/* ---- One call at a time -------------------------------------------------------------------- */

TEST_P(Faults, OfLoopCreation)
{
    for (int errnum : errnos()) {
        fail_each("loop", errnum, [&] {
            struct dgram_loop *made = nullptr;
            int code = create(&made);
            fail_nothing();
            if (code < 0) {
                EXPECT_EQ(made, nullptr);
                return code;
            }
            expect_echo(made, open_socket(made));
            EXPECT_EQ(dgram_loop_free(made), nullptr);
            return code;
        });
    }
}

/* With every option that a socket may have. */
TEST_P(Faults, OfSocketCreation)
{
    struct dgram_loop *made = nullptr;
    ASSERT_EQ(create(&made), 0);
    for (uint32_t type : socket_types()) {
        for (int errnum : errnos()) {
            fail_each(type == DGRAM_UDP6 ? "udp6" : "udp4", errnum, [&] {
                struct dgram_socket_options options = socket_options();
                options.flags = DGRAM_REUSE_ADDR | DGRAM_REUSE_PORT |
                                (type == DGRAM_UDP6 ? DGRAM_IPV6_ONLY : 0u);
                options.recv_buffer_size = 100000;
                options.send_buffer_size = 100000;
                struct dgram_socket *socket = nullptr;
                int code = dgram_create_socket(made, type, &options, &socket);
                fail_nothing();
                if (code < 0) {
                    EXPECT_EQ(socket, nullptr);
                    return code;
                }
                expect_echo(made, socket);
                close_and_wait(made, socket);
                return code;
            });
            fail_each("defaults", errnum, [&] {
                struct dgram_socket *socket = nullptr;
                int code = dgram_create_socket(made, type, nullptr, &socket);
                fail_nothing();
                if (code == 0) {
                    expect_echo(made, socket);
                    close_and_wait(made, socket);
                }
                return code;
            });
        }
    }
    EXPECT_EQ(dgram_loop_turn(made, 0), 0) << "a socket was left behind";
    dgram_loop_free(made);
}

TEST_P(Faults, OfBindAndAddress)
{
    struct dgram_loop *made = nullptr;
    ASSERT_EQ(create(&made), 0);
    for (uint32_t type : socket_types()) {
        for (int errnum : errnos()) {
            struct dgram_socket *socket = open_socket(made, type);
            int listenings = 0;
            Handlers on;
            on.listening = [&](struct dgram_socket *) { listenings++; };
            on.attach(socket);
            fail_call(1, 1, -errnum);
            EXPECT_EQ(dgram_bind(socket, 0, loopback(type)), -errnum);
            EXPECT_STREQ(faults.failed, "bind");
            fail_nothing();
            struct dgram_addr address = parse("192.0.2.1", 1);
            EXPECT_EQ(dgram_address(socket, &address), DGRAM_ENOTBOUND);
            settle(made);
            EXPECT_EQ(listenings, 0);
            EXPECT_EQ(dgram_bind(socket, 0, loopback(type)), 0);
            fail_call(1, 1, -errnum);
            EXPECT_EQ(dgram_address(socket, &address), -errnum);
            EXPECT_EQ(text_of(&address), "192.0.2.1");
            fail_nothing();
            expect_echo(made, socket);
            EXPECT_EQ(listenings, 1);
            close_and_wait(made, socket);
        }
    }
    dgram_loop_free(made);
}

/* The errno of the implicit bind is the send's; nothing was accepted, the next one works. */
TEST_P(Faults, OfTheImplicitBind)
{
    struct dgram_loop *made = nullptr;
    ASSERT_EQ(create(&made), 0);
    Inbox inbox;
    struct dgram_socket *receiver = open_inbox(made, &inbox);
    const struct dgram_addr to = address_of(receiver);
    size_t received = 0;
    for (int errnum : errnos()) {
        Results results;
        struct dgram_socket *socket = open_socket(made);
        fail_call(1, 1, -errnum);
        EXPECT_EQ(dgram_send_to(socket, "x", 1, &to, Results::take, &results), -errnum);
        fail_nothing();
        EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
        EXPECT_EQ(dgram_send_to(socket, "y", 1, &to, Results::take, &results), 0);
        received++;
        EXPECT_TRUE(run_until(
            made, [&] { return inbox.count() == received && results.values.size() == 1; }));
        EXPECT_EQ(inbox.payloads.back(), "y");
        expect_echo(made, socket);
    }
    dgram_loop_free(made);
}

/* The bind that a membership causes has no call to return its errno: it is an `error` event. */
TEST_P(Faults, OfTheBindOfAMembership)
{
    for (int errnum : errnos()) {
        struct dgram_loop *made = nullptr;
        ASSERT_EQ(create(&made), 0);
        Recorder log;
        struct dgram_socket *socket = open_socket(made);
        Handlers on;
        on.listening = [&](struct dgram_socket *) { log.add("listening"); };
        on.error = [&](struct dgram_socket *, const struct dgram_error *error) {
            EXPECT_EQ(error->code, -errnum);
            EXPECT_STREQ(error->operation, "bind");
            log.add("error");
        };
        on.attach(socket);
        int code = dgram_add_membership(socket, "239.1.2.3", "lo");
        if (code == -ENODEV) {
            dgram_loop_free(made);
            GTEST_SKIP() << "the loopback interface of this host takes no members";
        }
        ASSERT_EQ(code, 0);
        fail_call(1, 1, -errnum);
        EXPECT_TRUE(run_until(made, [&] { return !log.events.empty(); }));
        fail_nothing();
        EXPECT_EQ(log.text(), "error");
        expect_echo(made, socket); /* binds it */
        EXPECT_EQ(log.text(), "error listening");
        dgram_loop_free(made);
    }
}

TEST_P(Faults, OfSetters)
{
    struct dgram_loop *made = nullptr;
    ASSERT_EQ(create(&made), 0);
    for (uint32_t type : socket_types()) {
        const char *group = type == DGRAM_UDP6 ? "ff11::1:2:3" : "239.1.2.3";
        struct dgram_socket *socket = open_bound(made, type);
        struct Setter {
            const char *name;
            std::function<int()> call;
        };
        const std::vector<Setter> setters = {
            {"broadcast", [&] { return dgram_set_broadcast(socket, true); }},
            {"ttl", [&] { return dgram_set_ttl(socket, 7); }},
            {"multicast ttl", [&] { return dgram_set_multicast_ttl(socket, 0); }},
            {"loopback", [&] { return dgram_set_multicast_loopback(socket, true); }},
            {"interface", [&] { return dgram_set_multicast_interface(socket, "lo"); }},
            {"no interface", [&] { return dgram_set_multicast_interface(socket, nullptr); }},
            {"recv buffer", [&] { return dgram_set_recv_buffer_size(socket, 100000); }},
            {"send buffer", [&] { return dgram_set_send_buffer_size(socket, 100000); }},
            {"get recv buffer", [&] { return dgram_get_recv_buffer_size(socket); }},
            {"get send buffer", [&] { return dgram_get_send_buffer_size(socket); }},
            {"add membership",
             [&] {
                 int code = dgram_add_membership(socket, group, "lo");
                 const bool on = faults.first != 0;
                 fail_nothing();
                 if (code == 0) {
                     EXPECT_EQ(dgram_drop_membership(socket, group, "lo"), 0);
                 }
                 return code == -ENODEV && !on ? 0 : code;
             }},
            {"drop membership",
             [&] {
                 const auto kept = faults;
                 fail_nothing();
                 int code = dgram_add_membership(socket, group, "lo");
                 EXPECT_TRUE(code == 0 || code == -EADDRINUSE || code == -ENODEV);
                 faults = kept;
                 return code == -ENODEV ? 0 : dgram_drop_membership(socket, group, "lo");
             }},
        };
        for (const Setter &setter : setters) {
            for (int errnum : errnos()) {
                fail_each(setter.name, errnum, setter.call);
            }
            expect_echo(made, socket);
        }
    }
    dgram_loop_free(made);
}

TEST_P(Faults, OfTheDescriptorForAnotherLoop)
{
    for (int errnum : errnos()) {
        struct dgram_loop *made = nullptr;
        ASSERT_EQ(create(&made), 0);
        int probe = dgram_loop_fd(made);
        dgram_loop_free(made);
        if (probe == -ENOTSUP) {
            GTEST_SKIP() << "this host has only poll(2)";
        }
        ASSERT_EQ(create(&made), 0);
        fail_call(1, 1, -errnum);
        int code = dgram_loop_fd(made);
        const bool failing = faults.failed != nullptr;
        fail_nothing();
        if (failing && code < 0) {
            EXPECT_EQ(code, -errnum);
            EXPECT_GE(dgram_loop_fd(made), 0) << "the second attempt";
        }
        expect_echo(made, open_socket(made));
        dgram_loop_free(made);
    }
}

/* A turn runs a timer before the alarm for it rings: it must not ring any more then, since no later
 * turn would have a reason to silence it (seen on 6.1, emulated). */
TEST_P(Faults, OfAnAlarmThatComesLate)
{
    struct dgram_loop *made = nullptr;
    ASSERT_EQ(create(&made), 0);
    struct pollfd waiting = {dgram_loop_fd(made), POLLIN, 0};
    if (waiting.fd == -ENOTSUP) {
        dgram_loop_free(made);
        GTEST_SKIP() << "this host has only poll(2)";
    }
    alarm_delay_ns = 50 * MILLISECOND;
    int ticks = 0;
    Tick tick([&](struct dgram_timer *) { ticks++; });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(made, Tick::call, &tick, &timer), 0);
    ASSERT_GE(dgram_loop_turn(made, 0), 0); /* the first one is long */
    ASSERT_EQ(dgram_timer_start(timer, 5 * MILLISECOND, 0), 0);
    while (ticks == 0) {
        ASSERT_GE(dgram_loop_turn(made, 0), 0);
        usleep(10000);
    }
    for (int i = 0; i < 5; i++) {
        poll(&waiting, 1, 100);
        ASSERT_GE(dgram_loop_turn(made, 0), 0);
    }
    EXPECT_EQ(poll(&waiting, 1, 0), 0) << "readable though a turn has nothing to do";
    dgram_loop_free(made);
}

/* close(2) fails: `close` is emitted all the same, and the port is free. */
TEST_P(Faults, OfClose)
{
    struct dgram_loop *made = nullptr;
    ASSERT_EQ(create(&made), 0);
    uint16_t port = private_port(DGRAM_UDP4);
    for (int errnum : {EIO, EINTR, EBADF}) {
        struct dgram_socket *socket = open_socket(made);
        ASSERT_EQ(dgram_bind(socket, port, "127.0.0.1"), 0);
        expect_echo(made, socket);
        const int before = descriptors();
        fail_call(1, UINT64_MAX, -errnum);
        close_and_wait(made, socket);
        EXPECT_STREQ(faults.failed, "close");
        fail_nothing();
        EXPECT_EQ(descriptors(), before - 1);
    }
    dgram_loop_free(made);
}

/* ---- A whole life -------------------------------------------------------------------------- */

/* What happened in a life; filled by its handlers. */
struct Life {
    size_t created = 0, closed = 0, accepted = 0, completed = 0;
};

/* Goes on whatever fails, as a careless program would, and only checks what must always hold. */
void live(const std::function<int(struct dgram_loop **)> &create, int errnum)
{
    struct dgram_loop *loop = nullptr;
    int code = create(&loop);
    if (code < 0) {
        EXPECT_EQ(code, -errnum);
        EXPECT_EQ(loop, nullptr);
        return;
    }
    Life life;
    std::vector<struct dgram_socket *> sockets;
    Sent sent([&](struct dgram_socket *, int) { life.completed++; });
    Handlers on;
    on.message = [](struct dgram_socket *which, const struct dgram_message *message) {
        dgram_send_to(which, message->data, message->size / 2, message->from, nullptr, nullptr);
    };
    on.error = [](struct dgram_socket *, const struct dgram_error *) {};
    on.close = [&](struct dgram_socket *) { life.closed++; };
    Tick tick([](struct dgram_timer *) {});
    Job job([](struct dgram_loop *) {});
    for (uint32_t type : socket_types()) {
        for (int i = 0; i < 2; i++) {
            struct dgram_socket *socket = nullptr;
            if (dgram_create_socket(loop, type, nullptr, &socket) == 0) {
                life.created++;
                sockets.push_back(socket);
                on.attach(socket);
            }
        }
    }
    (void) dgram_loop_fd(loop);
    struct dgram_timer *timer = nullptr;
    EXPECT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    EXPECT_EQ(dgram_timer_start(timer, 0, MILLISECOND), 0);
    EXPECT_EQ(dgram_loop_post(loop, Job::call, &job), 0);
    for (size_t i = 0; i < sockets.size(); i++) {
        struct dgram_addr own = {};
        (void) dgram_set_ttl(sockets[i], 9);
        if (i % 2 == 0) {
            (void) dgram_bind(sockets[i], 0, nullptr);
        } else {
            (void) dgram_add_membership(sockets[i], "239.1.2.3", "lo");
        }
        if (dgram_address(sockets[i], &own) == 0) {
            life.accepted += dgram_send(sockets[i], "hello", 5, dgram_addr_port(&own), nullptr,
                                        Sent::call, &sent) == 0;
        }
        life.accepted += dgram_send(sockets[i], "world", 5, 9, nullptr, Sent::call, &sent) == 0;
    }
    for (int turn = 0; turn < 10; turn++) {
        code = dgram_loop_turn(loop, MILLISECOND);
        if (turn == 5 && !sockets.empty()) {
            EXPECT_EQ(dgram_close(sockets[0]), 0);
        }
    }
    EXPECT_EQ(dgram_loop_free(loop), nullptr);
    EXPECT_EQ(life.closed, life.created);
    EXPECT_EQ(life.completed, life.accepted);
}

/* One fault anywhere, in every place that a life has. */
TEST_P(Faults, AnywhereInALifeLoseNothing)
{
    for (int errnum : {EPERM, EMFILE}) {
        for (uint64_t n = 1;; n++) {
            const int before = descriptors();
            fail_call(n, n, -errnum);
            live([&](struct dgram_loop **made) { return create(made); }, errnum);
            const bool over = faults.failed == nullptr;
            SCOPED_TRACE(testing::Message() << "call " << n << ": " << (over ? "" : faults.failed));
            fail_nothing();
            ASSERT_EQ(descriptors(), before) << "a descriptor was left open";
            ASSERT_FALSE(HasFailure());
            ASSERT_LT(n, 10000u);
            if (over) {
                break;
            }
        }
    }
}

/* From one call on all of them fail: still it ends, still everything completes and closes. */
TEST_P(Faults, FromACallOnLoseNothing)
{
    for (uint64_t n = 1;; n++) {
        const int before = descriptors();
        fail_call(n, UINT64_MAX, -EPERM);
        live([&](struct dgram_loop **made) { return create(made); }, EPERM);
        const bool over = faults.failed == nullptr;
        SCOPED_TRACE(testing::Message() << "from call " << n << " on");
        fail_nothing();
        ASSERT_EQ(descriptors(), before) << "a descriptor was left open";
        ASSERT_FALSE(HasFailure());
        ASSERT_LT(n, 10000u);
        if (over) {
            break;
        }
    }
}

} /* namespace */
