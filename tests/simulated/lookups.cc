/* SPDX-License-Identifier: MIT */
/*
 * lookups.cc: host names that the program's own hook resolves, on the simulator's clock: what is
 * remembered and for how long, binds to names that fail or are closed, handles of another loop.
 */
#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

#include "tests/sim/fixture.h"
#include "tests/sim/sim.h"

namespace
{

class Lookups : public SimOne
{
  protected:
    struct dgram_loop_options with_lookup()
    {
        struct dgram_loop_options options = {};
        options.lookup = note_lookup;
        options.lookup_user = this;
        return options;
    }

    std::vector<struct dgram_lookup *> asked;

  private:
    static void note_lookup(struct dgram_loop *, struct dgram_lookup *lookup, const char *, int,
                            void *user)
    {
        static_cast<Lookups *>(user)->asked.push_back(lookup);
    }
};

/* A hook that answered inside its call left work behind that was done already: the loop turned once
 * more for nothing, and an outer loop was woken for it. */
TEST_F(Lookups, AnswerInsideTheHookIsAllTheWorkThereIs)
{
    struct dgram_loop_options options = {};
    options.lookup = [](struct dgram_loop *, struct dgram_lookup *lookup, const char *, int,
                        void *) {
        struct dgram_addr address;
        ASSERT_EQ(dgram_addr_parse("127.0.0.1", 0, &address), 0);
        ASSERT_EQ(dgram_lookup_answer(lookup, 0, &address, 60), 0);
    };
    open(options);
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    turns(2, 0);
    ASSERT_EQ(dgram_send(socket, "x", 1, 9000, "host.test", nullptr, nullptr), 0);
    turns(1, 0);
    EXPECT_EQ(taken, 1u);
    const uint64_t start = sim_now();
    turns(1, 100 * MILLISECOND);
    EXPECT_GE(sim_now() - start, 100 * static_cast<uint64_t>(MILLISECOND));
}

/* Its send waited for a name of the other loop, which forgot it when the socket closed. */
TEST_F(Lookups, ADestinationOfAnotherLoopIsRefused)
{
    open(with_lookup());
    struct dgram_loop *other = nullptr;
    struct dgram_destination *handle = nullptr;
    ASSERT_EQ(sim_loop_create(nullptr, &other), 0);
    ASSERT_EQ(dgram_destination_create(other, DGRAM_UDP4, 9000, "127.0.0.1", &handle), 0);
    struct dgram_outgoing item = {};
    item.data = "x";
    item.size = 1;
    item.destination = handle;
    EXPECT_EQ(dgram_send_dest(socket, "x", 1, handle, nullptr, nullptr), DGRAM_EWRONGLOOP);
    EXPECT_EQ(dgram_send_many(socket, &item, 1, nullptr, nullptr), 0);
    EXPECT_EQ(item.status, DGRAM_EWRONGLOOP);
    dgram_destination_free(handle);
    dgram_loop_free(other);
}

/* A dead name was asked for with every send to it. */
TEST_F(Lookups, AFailureIsRememberedForASecond)
{
    open(with_lookup());
    std::vector<int> results;
    struct dgram_destination *handle = nullptr;
    auto sent = [](struct dgram_socket *, int result, void *user) {
        static_cast<std::vector<int> *>(user)->push_back(result);
    };
    ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9000, "dead.test", &handle), 0);
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    ASSERT_EQ(dgram_send_dest(socket, "x", 1, handle, sent, &results), 0);
    turns(2, 0);
    ASSERT_EQ(asked.size(), 1u);
    dgram_lookup_answer(asked[0], DGRAM_ENOTFOUND, nullptr, 0);
    turns(2, 0);
    for (int i = 0; i < 20; i++) {
        ASSERT_EQ(dgram_send_dest(socket, "x", 1, handle, sent, &results), 0);
        ASSERT_EQ(dgram_send(socket, "x", 1, 9000, "DEAD.test", sent, &results), 0);
        turns(2, 0);
    }
    EXPECT_EQ(results, std::vector<int>(41, DGRAM_ENOTFOUND));
    EXPECT_EQ(asked.size(), 1u);
    uint64_t over = sim_now() + 1001 * static_cast<uint64_t>(MILLISECOND);
    while (sim_now() < over) {
        turns(1, 100 * MILLISECOND);
    }
    struct dgram_addr address = {};
    ASSERT_EQ(dgram_addr_parse("127.0.0.1", 0, &address), 0);
    ASSERT_EQ(dgram_send_dest(socket, "x", 1, handle, sent, &results), 0);
    turns(2, 0);
    ASSERT_EQ(asked.size(), 2u);
    dgram_lookup_answer(asked[1], 0, &address, 60);
    turns(4, 0);
    EXPECT_EQ(results.back(), 1);
    dgram_destination_free(handle);
}

/* And its last good address served, but the name was asked for with every send. */
TEST_F(Lookups, AFailedRefreshIsRememberedToo)
{
    open(with_lookup());
    struct dgram_destination *handle = nullptr;
    struct dgram_addr address = {};
    ASSERT_EQ(dgram_addr_parse("127.0.0.1", 0, &address), 0);
    ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9000, "host.test", &handle), 0);
    ASSERT_EQ(dgram_bind(socket, 0, ""), 0);
    ASSERT_EQ(dgram_send_dest(socket, "x", 1, handle, nullptr, nullptr), 0);
    turns(2, 0);
    dgram_lookup_answer(asked.at(0), 0, &address, 1);
    uint64_t over = sim_now() + 1001 * static_cast<uint64_t>(MILLISECOND);
    while (sim_now() < over) {
        turns(1, 100 * MILLISECOND);
    }
    for (int i = 0; i < 20; i++) {
        ASSERT_EQ(dgram_send_dest(socket, "x", 1, handle, nullptr, nullptr), 0);
        turns(2, 0);
        if (i == 0) {
            dgram_lookup_answer(asked.at(1), DGRAM_EDNSFAILED, nullptr, 0);
        }
        turns(2, 0);
    }
    EXPECT_EQ(asked.size(), 2u);
    EXPECT_EQ(taken, 21u);
    EXPECT_EQ(errors.size(), 0u);
    dgram_destination_free(handle);
}

/* What waited for the bind left all the same, from a port of the kernel's choice. */
TEST_F(Lookups, CloseDuringABindToANameSendsNothing)
{
    open(with_lookup());
    ASSERT_EQ(dgram_bind(socket, 5000, "host.test"), 0);
    ASSERT_EQ(send_plain(9000, 100), 0);
    turns(2, 0);
    ASSERT_EQ(dgram_close(socket), 0);
    turns(4, 0);
    EXPECT_EQ(taken, 0u);
    EXPECT_EQ(errors, std::vector<int>({-ECANCELED}));
    ASSERT_EQ(asked.size(), 1u);
    dgram_lookup_answer(asked[0], DGRAM_ENOTFOUND, nullptr, 0);
}

/* They were told EADDRNOTAVAIL, whatever bind(2) had said. */
TEST_F(Lookups, ABindThatFailsTellsSendsToOtherNamesWhy)
{
    open(with_lookup());
    struct dgram_addr address = {};
    struct dgram_socket *other = nullptr;
    ASSERT_EQ(dgram_addr_parse("127.0.0.1", 0, &address), 0);
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, nullptr, &other), 0);
    ASSERT_EQ(dgram_bind(other, 5000, "127.0.0.1"), 0);
    ASSERT_EQ(dgram_bind(socket, 5000, "local.test"), 0);
    ASSERT_EQ(dgram_send(socket, "x", 1, 9000, "peer.test", nullptr, nullptr), 0);
    turns(2, 0);
    ASSERT_EQ(asked.size(), 2u);
    dgram_lookup_answer(asked[0], 0, &address, 60);
    turns(4, 0);
    dgram_lookup_answer(asked[1], 0, &address, 60);
    turns(4, 0);
    EXPECT_EQ(errors, std::vector<int>({-EADDRINUSE, -EADDRINUSE}));
}

/* The same for sends that waited for another name when the bind failed. */
TEST_F(Lookups, AFailedBindToANameFailsSendsToOtherNames)
{
    open(with_lookup());
    struct dgram_addr address = {};
    ASSERT_EQ(dgram_addr_parse("127.0.0.1", 0, &address), 0);
    ASSERT_EQ(dgram_bind(socket, 5000, "local.test"), 0);
    ASSERT_EQ(dgram_send(socket, "x", 1, 9000, "peer.test", nullptr, nullptr), 0);
    turns(2, 0);
    ASSERT_EQ(asked.size(), 2u);
    dgram_lookup_answer(asked[0], DGRAM_ENOTFOUND, nullptr, 0);
    turns(2, 0);
    dgram_lookup_answer(asked[1], 0, &address, 60);
    turns(4, 0);
    EXPECT_EQ(taken, 0u);
    EXPECT_EQ(errors, std::vector<int>({DGRAM_ENOTFOUND, DGRAM_ENOTFOUND}));
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
}

} /* namespace */
