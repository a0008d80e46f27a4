/* SPDX-License-Identifier: MIT */
/*
 * names_fair.cc: what waits for a name that nobody answers has its share of a queue, and others
 * have theirs.
 */
#include <string>
#include <vector>

#include "tests/support/questions.h"

using namespace harness;

namespace
{

class Fair : public QuestionsTest
{
};

INSTANTIATE_ON_ALL_ENGINES(Fair);

/* Reports to a name whose server is silent, from one socket and from many, and beside them one to
 * an address from the first of these sockets, and from another that knows no names. */
TEST_P(Fair, DeadNamesRefuseNobodyElse)
{
    for (unsigned count : {1u, 4u, 8u}) {
        SCOPED_TRACE(count);
        const std::string report(1000, 'r');
        Inbox inbox;
        struct dgram_socket *sink = open_inbox(loop, &inbox), *other = open_bound(loop);
        const struct dgram_addr to = address_of(sink);
        std::vector<struct dgram_socket *> sockets(count);
        unsigned refused = 0;
        for (struct dgram_socket *&socket : sockets) {
            socket = open_bound(loop);
        }
        for (unsigned tick = 0; tick < 100; tick++) {
            for (struct dgram_socket *socket : sockets) {
                for (int i = 0; i < 50; i++) {
                    refused += dgram_send(socket, report.data(), report.size(), 9, "dead.test",
                                          nullptr, nullptr) == -EAGAIN;
                }
            }
            ASSERT_EQ(send_text(sockets[0], "literal", to), 0) << tick;
            ASSERT_EQ(send_text(other, "other", to), 0) << tick;
            ASSERT_GE(dgram_loop_turn(loop, 0), 0);
        }
        ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 200; }));
        EXPECT_GT(refused, 0u) << "what waits has no bound";
        for (struct dgram_socket *socket : sockets) {
            close_and_wait(loop, socket);
        }
        close_and_wait(loop, sink);
        close_and_wait(loop, other);
    }
}

/* Sockets that hold nothing for a name are refused since others hold so much: they are told when
 * that has changed, and not in each turn. */
TEST_P(Fair, DrainIsNotPromisedForWhatOthersHold)
{
    const std::string report(1000, 'r');
    struct dgram_socket *sockets[10];
    unsigned drains = 0, refused = 0;
    Handlers on;
    on.drain = [&](struct dgram_socket *) { drains++; };
    for (struct dgram_socket *&socket : sockets) {
        socket = open_bound(loop);
        on.attach(socket);
        int code = 0;
        for (int i = 0; i < 5000 && code == 0; i++) {
            code =
                dgram_send(socket, report.data(), report.size(), 9, "dead.test", nullptr, nullptr);
        }
        ASSERT_EQ(code, -EAGAIN);
        refused++;
    }
    for (int i = 0; i < 20; i++) {
        ASSERT_GE(dgram_loop_turn(loop, 0), 0);
    }
    EXPECT_EQ(drains, 0u) << "and each send would be refused again";
    ASSERT_TRUE(questions.answer("dead.test", nullptr));
    ASSERT_TRUE(run_until(loop, [&] { return drains == refused; }));
    for (struct dgram_socket *socket : sockets) {
        close_and_wait(loop, socket);
    }
}

/* A dead name has all that it may have, and a name that will be known soon has a place. */
TEST_P(Fair, ANameHasAPlaceBesideADeadOne)
{
    const std::string report(1000, 'r');
    Inbox inbox;
    struct dgram_socket *sink = open_inbox(loop, &inbox), *socket = open_bound(loop);
    const struct dgram_addr to = address_of(sink);
    auto send = [&](const char *host, const std::string &payload) {
        return dgram_send(socket, payload.data(), payload.size(), dgram_addr_port(&to), host,
                          nullptr, nullptr);
    };
    while (send("dead.test", report) == 0) {
    }
    for (unsigned i = 0; i < 20; i++) {
        ASSERT_EQ(send("alive.test", numbered(i)), 0) << i;
    }
    settle(loop);
    ASSERT_TRUE(questions.answer("alive.test", &to));
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 20; }));
    for (unsigned i = 0; i < 20; i++) {
        EXPECT_EQ(inbox.payloads[i], numbered(i));
    }
}

/* `drain` tells that a name that refused a send has room again, though another stays dead. */
TEST_P(Fair, DrainComesWhenTheNameHasRoomAgain)
{
    const std::string report(1000, 'r');
    int drains = 0;
    Handlers on;
    on.drain = [&](struct dgram_socket *) { drains++; };
    struct dgram_socket *socket = open_bound(loop);
    on.attach(socket);
    auto fill = [&](const char *host) {
        while (dgram_send(socket, report.data(), report.size(), 9, host, nullptr, nullptr) == 0) {
        }
    };
    fill("dead.test");
    fill("other.test");
    settle(loop);
    EXPECT_EQ(drains, 0);
    ASSERT_TRUE(questions.answer("other.test", nullptr));
    ASSERT_TRUE(run_until(loop, [&] { return drains > 0; }));
    settle(loop);
    EXPECT_EQ(drains, 1);
    EXPECT_EQ(dgram_send(socket, "x", 1, 9, "third.test", nullptr, nullptr), 0);
    ASSERT_TRUE(questions.answer("dead.test", nullptr));
    ASSERT_TRUE(run_until(loop, [&] { return drains > 1; }));
    settle(loop);
    EXPECT_EQ(drains, 2);
}

} /* namespace */
