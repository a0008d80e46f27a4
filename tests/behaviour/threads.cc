/* SPDX-License-Identifier: MIT */
/*
 * threads.cc: a loop belongs to one thread: others are refused, and may have loops of their own.
 */
#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Threads : public EngineTest
{
};

INSTANTIATE_ON_HOST_ENGINES(Threads);

TEST_P(Threads, TurnOnAnotherThanTheOwningThreadIsRefused)
{
    struct dgram_socket *socket = open_bound(loop);
    ASSERT_EQ(dgram_loop_turn(loop, 0), 1); /* this thread owns it now */
    int turn = 0, run = 0;
    std::thread stranger([&] {
        turn = dgram_loop_turn(loop, 0);
        run = dgram_loop_run(loop);
    });
    stranger.join();
    EXPECT_EQ(turn, DGRAM_EWRONGTHREAD);
    EXPECT_EQ(run, DGRAM_EWRONGTHREAD);
    expect_echo(loop, socket);
}

/* Made here with all that belongs to it, run and freed there. */
TEST_P(Threads, LoopMayBeMadeInOneThreadAndRunInAnother)
{
    for (int round = 0; round < 10; round++) {
        struct dgram_loop *other = make_loop();
        Inbox inbox;
        int ticks = 0, runs = 0, code = 1;
        struct dgram_socket *socket = open_inbox(other, &inbox);
        Tick tick([&](struct dgram_timer *) { ticks++; });
        Job job([&](struct dgram_loop *) { runs++; });
        struct dgram_timer *timer = nullptr;
        ASSERT_EQ(dgram_timer_create(other, Tick::call, &tick, &timer), 0);
        ASSERT_EQ(dgram_timer_start(timer, MILLISECOND, 0), 0);
        ASSERT_EQ(dgram_loop_post(other, Job::call, &job), 0);
        ASSERT_EQ(send_text(socket, "hello", address_of(socket)), 0);
        std::thread runner([&] {
            if (run_until(other, [&] { return inbox.count() == 1 && ticks == 1 && runs == 1; })) {
                dgram_close(socket);
                code = dgram_loop_run(other);
            }
            dgram_loop_free(other);
        });
        runner.join();
        EXPECT_EQ(code, 0);
    }
}

/* A loop per thread: two of them exchange datagrams, with a credit, and lose none. */
TEST_P(Threads, TwoLoopsExchangeDatagrams)
{
    const unsigned count = patience() > 1 ? 2000 : 20000;
    struct dgram_loop *server_loop = make_loop(), *client_loop = make_loop();
    struct dgram_socket *server = open_bound(server_loop);
    struct dgram_socket *client = open_bound(client_loop);
    const struct dgram_addr to = address_of(server);
    const unsigned window =
        static_cast<unsigned>(std::min<size_t>(256, std::min(room_of(server), room_of(client))));
    Handlers on_server, on_client;
    on_server.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        EXPECT_EQ(
            dgram_send_to(which, message->data, message->size, message->from, nullptr, nullptr), 0);
        if (message->size == 0) {
            dgram_close(which); /* what is queued is delivered */
        }
    };
    on_server.attach(server);
    unsigned sent = 0, received = 0;
    on_client.message = [&](struct dgram_socket *which, const struct dgram_message *message) {
        unsigned number = 0;
        if (message->size == 0) {
            dgram_close(which);
            return;
        }
        memcpy(&number, message->data, sizeof(number));
        EXPECT_EQ(number, received);
        received++;
        while (sent < count && sent - received < window) {
            dgram_send_to(which, &sent, sizeof(sent), &to, nullptr, nullptr);
            sent++;
        }
        if (received == count) {
            EXPECT_EQ(dgram_send_to(which, nullptr, 0, &to, nullptr, nullptr), 0);
        }
    };
    on_client.attach(client);
    int codes[2] = {1, 1};
    std::atomic<int> finished{0};
    std::atomic<bool> over{false};
    auto run = [&](struct dgram_loop *which, int *code) {
        *code = dgram_loop_run(which);
        finished++;
        wait_until([&] { return over.load(); }); /* the other one may be stopped until then */
        dgram_loop_free(which);
    };
    std::thread server_thread([&] { run(server_loop, &codes[0]); });
    std::thread client_thread([&] {
        dgram_send_to(client, &sent, sizeof(sent), &to, nullptr, nullptr);
        sent++;
        run(client_loop, &codes[1]);
    });
    if (!wait_until([&] { return finished == 2; })) {
        dgram_loop_stop(server_loop);
        dgram_loop_stop(client_loop);
    }
    over = true;
    server_thread.join();
    client_thread.join();
    EXPECT_EQ(codes[0], 0);
    EXPECT_EQ(codes[1], 0);
    EXPECT_EQ(received, count);
}

} /* namespace */
