/* SPDX-License-Identifier: MIT */
/*
 * destination.cc: destination handles: looked up with the first send, refreshed in the background,
 * good as long as one has them.
 */
#include <algorithm>
#include <memory>

#include "tests/support/names.h"

using namespace names;

namespace
{

class NameDestination : public NamesTest
{
};

INSTANTIATE_ON_HOST_ENGINES(NameDestination);

/* A handle that is freed with the test. */
struct Destination {
    struct dgram_destination *handle = nullptr;

    Destination(struct dgram_loop *loop, uint16_t port, const char *host,
                uint32_t type = DGRAM_UDP4)
    {
        EXPECT_EQ(dgram_destination_create(loop, type, port, host, &handle), 0) << host;
    }
    ~Destination()
    {
        handle = dgram_destination_free(handle);
    }
    Destination(const Destination &) = delete;
    Destination &operator=(const Destination &) = delete;

    int send(struct dgram_socket *socket, Results *results = nullptr)
    {
        return dgram_send_dest(socket, "abc", 3, handle,
                               results != nullptr ? Results::take : nullptr, results);
    }
};

TEST_P(NameDestination, RefusesWhatIsWrong)
{
    struct dgram_destination *none = nullptr;
    EXPECT_EQ(dgram_destination_create(nullptr, DGRAM_UDP4, 9, "a.test", &none), DGRAM_ENULL);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, "a.test", nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_destination_create(loop, 5, 9, "a.test", &none), DGRAM_EBADTYPE);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 0, "a.test", &none), DGRAM_EBADPORT);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, "::1", &none), DGRAM_EBADFAMILY);
    EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP6, 9, "127.0.0.1", &none), DGRAM_EBADFAMILY);
    EXPECT_EQ(none, nullptr);
    EXPECT_EQ(dgram_destination_free(nullptr), nullptr);

    struct dgram_addr address = {};
    Destination literal(loop, 9, "::1", DGRAM_UDP6), named(loop, 9, "host.test", DGRAM_UDP6);
    for (struct dgram_destination *handle : {literal.handle, named.handle}) {
        EXPECT_EQ(dgram_send_dest(sender, "x", 1, handle, nullptr, nullptr), DGRAM_EBADFAMILY);
        EXPECT_EQ(dgram_send_dest(nullptr, "x", 1, handle, nullptr, nullptr), DGRAM_ENULL);
    }
    EXPECT_EQ(dgram_send_dest(sender, "x", 1, nullptr, nullptr, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_address(sender, &address), DGRAM_ENOTBOUND) << "a refused send binds nothing";
    Destination fine(loop, 9, "127.0.0.1");
    EXPECT_EQ(dgram_send_dest(sender, nullptr, 1, fine.handle, nullptr, nullptr), DGRAM_ENULL);
    const std::string large(DGRAM_UDP4_SIZE_MAX + 1, 'x');
    EXPECT_EQ(dgram_send_dest(sender, large.data(), large.size(), fine.handle, nullptr, nullptr),
              -EMSGSIZE);
    ASSERT_EQ(dgram_close(sender), 0);
    EXPECT_EQ(fine.send(sender), DGRAM_ENOTRUNNING);
    EXPECT_EQ(server->asked(), 0u);
}

TEST_P(NameDestination, OfALiteralSendsThere)
{
    for (uint32_t type : socket_types()) {
        Inbox own;
        Results results;
        struct dgram_socket *peer = open_inbox(loop, &own, type), *socket = open_socket(loop, type);
        for (const char *text : {loopback(type), static_cast<const char *>(nullptr), ""}) {
            Destination destination(loop, port_of(peer), text, type);
            EXPECT_EQ(destination.send(socket, &results), 0);
            EXPECT_EQ(destination.send(socket), 0);
        }
        ASSERT_TRUE(
            run_until(loop, [&] { return own.count() == 6 && results.values.size() == 3; }));
        EXPECT_EQ(results.values, repeated(3, 3));
    }
}

TEST_P(NameDestination, LooksItsNameUpWithTheFirstSend)
{
    server->address("host.test", "127.0.0.1");
    Destination one(loop, port_of(target), "host.test"), two(loop, port_of(target), "HOST.test");
    settle(loop);
    catch_up();
    EXPECT_EQ(server->asked("host.test"), 0u);
    Results results;
    struct dgram_socket *second = open_socket(loop);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(one.send(sender, &results), 0);
        EXPECT_EQ(two.send(second, &results), 0);
        EXPECT_EQ(send_counted("host.test", &results), 0);
    }
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 9 && inbox.count() == 10; }));
    EXPECT_EQ(one.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 11; }));
    EXPECT_EQ(results.values, repeated(3, 10));
    EXPECT_EQ(server->asked("host.test"), 1u);
}

TEST_P(NameDestination, FirstLookupThatFailsIsTold)
{
    Destination destination(loop, port_of(target), "nowhere.test");
    Results results;
    EXPECT_EQ(destination.send(sender, &results), 0);
    EXPECT_EQ(destination.send(sender), 0);
    ASSERT_TRUE(
        run_until(loop, [&] { return results.values.size() == 1 && failures.size() == 1; }));
    EXPECT_EQ(results.values[0], DGRAM_ENOTFOUND);
    EXPECT_EQ(failures[0].code, DGRAM_ENOTFOUND);
    EXPECT_EQ(failures[0].host, "nowhere.test");
    server->address("nowhere.test", "127.0.0.1");
    let_pass(loop, TTL_OVER);
    EXPECT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    EXPECT_EQ(results.values[1], 3);
}

TEST_P(NameDestination, FreedWhileSendsWait)
{
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    Results results;
    {
        Destination destination(loop, port_of(target), "host.test");
        EXPECT_EQ(destination.send(sender, &results), 0);
        EXPECT_EQ(destination.send(sender), 0);
    }
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") == 1; }));
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1 && inbox.count() == 2; }));
    EXPECT_EQ(results.values[0], 3);
}

TEST_P(NameDestination, TellsWhereItLeads)
{
    server->address("host.test", "127.0.0.1", 1);
    Destination named(loop, port_of(target), "host.test"), literal(loop, 9, "127.0.0.5");
    Destination dead(loop, 9, "nowhere.test");
    struct dgram_addr address = {};
    EXPECT_EQ(dgram_destination_address(nullptr, &address), DGRAM_ENULL);
    EXPECT_EQ(dgram_destination_address(named.handle, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_destination_address(literal.handle, &address), 0);
    EXPECT_EQ(text_of(&address) + ":" + std::to_string(dgram_addr_port(&address)), "127.0.0.5:9");
    for (int i = 0; i < 3; i++) { /* asks, once */
        EXPECT_EQ(dgram_destination_address(named.handle, &address), -EAGAIN);
        EXPECT_EQ(dgram_destination_address(dead.handle, &address), -EAGAIN);
    }
    EXPECT_EQ(dgram_addr_port(&address), 9u) << "written on success only";
    int code = 0;
    ASSERT_TRUE(run_until(loop, [&] {
        code = dgram_destination_address(named.handle, &address);
        return code != -EAGAIN;
    }));
    EXPECT_EQ(code, 0);
    const struct dgram_addr to = address_of(target);
    EXPECT_TRUE(dgram_addr_equal(&address, &to));
    ASSERT_TRUE(run_until(loop, [&] {
        code = dgram_destination_address(dead.handle, &address);
        return code != -EAGAIN;
    }));
    EXPECT_EQ(code, DGRAM_ENOTFOUND);
    EXPECT_EQ(server->asked("host.test"), 1u);

    server->address("host.test", "127.0.0.9", 60);
    let_pass(loop, TTL_OVER);
    EXPECT_EQ(dgram_destination_address(named.handle, &address), 0);
    EXPECT_EQ(text_of(&address), "127.0.0.1") << "the last good one serves meanwhile";
    ASSERT_TRUE(run_until(loop, [&] {
        return dgram_destination_address(named.handle, &address) == 0 &&
               text_of(&address) == "127.0.0.9";
    }));
}

/* After its TTL the old address serves while the new one is asked for, once. */
TEST_P(NameDestination, IsRefreshedInTheBackground)
{
    Results results;
    server->address("host.test", "127.0.0.1", 1);
    Destination destination(loop, port_of(target), "host.test");
    auto send = [&] {
        size_t before = results.values.size();
        ASSERT_EQ(destination.send(sender, &results), 0);
        ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == before + 1; }));
        EXPECT_EQ(results.values.back(), 3);
    };
    send();
    EXPECT_EQ(server->asked("host.test"), 1u);
    server->address("host.test", "127.0.0.9", 60);
    server->hold("host.test");
    let_pass(loop, TTL_OVER);
    for (int i = 0; i < 4; i++) {
        send(); /* though nobody answers */
    }
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 5; }));
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("host.test") == 2; }));
    server->release("host.test");
    EXPECT_EQ(result_of("host.test"), 3); /* waits for the answer */
    send();
    settle(loop);
    EXPECT_EQ(inbox.count(), 5u) << "the old address is still in use";
    EXPECT_EQ(server->asked("host.test"), 2u);
}

TEST_P(NameDestination, KeepsTheLastGoodAddressWhenARefreshFails)
{
    server->address("host.test", "127.0.0.1", 1);
    Results results;
    Destination destination(loop, port_of(target), "host.test");
    ASSERT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    let_pass(loop, TTL_OVER);
    const std::pair<dns::Rcode, int> cases[] = {{dns::NXDOMAIN, DGRAM_ENOTFOUND},
                                                {dns::SERVFAIL, DGRAM_EDNSFAILED},
                                                {dns::NOERROR, DGRAM_ENOTFOUND}};
    for (const auto &one : cases) {
        server->fail("host.test", one.first);
        ASSERT_EQ(destination.send(sender, &results), 0);
        EXPECT_EQ(result_of("host.test"), one.second); /* waits for the answer */
        ASSERT_EQ(destination.send(sender, &results), 0);
        let_pass(loop, TTL_OVER);
    }
    ASSERT_EQ(destination.send(sender), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 8; }));
    EXPECT_EQ(results.values, repeated(3, 7));
    EXPECT_EQ(failures.size(), 0u);
}

/* A handle's patience is the handle's: who sends to the name itself gets an answer that lives. */
TEST_P(NameDestination, DoesNotServeSendsToTheNameAfterItsTtl)
{
    server->address("host.test", "127.0.0.1", 1);
    Destination destination(loop, port_of(target), "host.test");
    Results results;
    ASSERT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    let_pass(loop, TTL_OVER);
    server->fail("host.test", dns::NXDOMAIN);
    EXPECT_EQ(result_of("host.test"), DGRAM_ENOTFOUND);
    EXPECT_EQ(server->asked("host.test"), 2u);
    ASSERT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    EXPECT_EQ(results.values, repeated(3, 2));
}

/* Who sends to the name waits for a new answer, and the handle's sends behind him; when there is
 * none, the handle still has its address. */
TEST_P(NameDestination, KeepsItsAddressBehindSendsThatFail)
{
    server->address("host.test", "127.0.0.1", 1);
    Destination destination(loop, port_of(target), "host.test");
    Results results, of_handle;
    ASSERT_EQ(destination.send(sender, &of_handle), 0);
    ASSERT_TRUE(run_until(loop, [&] { return of_handle.values.size() == 1; }));
    let_pass(loop, TTL_OVER);
    server->fail("host.test", dns::NXDOMAIN);
    server->hold("host.test");
    ASSERT_EQ(send_counted("host.test", &results), 0);
    ASSERT_EQ(destination.send(sender, &of_handle), 0);
    ASSERT_EQ(send_counted("host.test", &results), 0);
    ASSERT_EQ(destination.send(sender), 0);
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2 && inbox.count() == 3; }));
    EXPECT_EQ(results.values, repeated(DGRAM_ENOTFOUND, 2));
    EXPECT_EQ(of_handle.values, repeated(3, 2));
    EXPECT_EQ(failures.size(), 0u);
}

/* What others once knew of the name is no last good address of a new handle. */
TEST_P(NameDestination, DoesNotBeginWithAnExpiredAddress)
{
    server->address("host.test", "127.0.0.9", 1);
    EXPECT_EQ(result_of("host.test"), 3);
    server->address("host.test", "127.0.0.1", 60);
    let_pass(loop, TTL_OVER);
    Results results;
    Destination destination(loop, port_of(target), "host.test");
    ASSERT_EQ(destination.send(sender, &results), 0);
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 1; }));
    EXPECT_EQ(results.values[0], 3);
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    EXPECT_EQ(server->asked("host.test"), 2u);
}

/* Whole payloads and joined pieces, with callbacks and without, to handles whose names are not
 * known yet and to a literal. */
TEST_P(NameDestination, TakesPartInSendMany)
{
    server->address("host.test", "127.0.0.1");
    server->hold("host.test");
    Destination named(loop, port_of(target), "host.test"), unknown(loop, 9, "nowhere.test");
    Destination literal(loop, port_of(target), "127.0.0.1"), sixth(loop, 9, "a.test", DGRAM_UDP6);
    std::string whole = "whole", head = "pie", tail = "ces";
    const struct iovec pieces[] = {{&head[0], head.size()}, {&tail[0], tail.size()}};
    struct dgram_destination *const handles[] = {named.handle, named.handle, literal.handle,
                                                 unknown.handle, sixth.handle};
    struct dgram_outgoing items[5] = {};
    for (size_t i = 0; i < 5; i++) {
        items[i].destination = handles[i];
        items[i].data = whole.data();
        items[i].size = whole.size();
    }
    items[1].pieces = pieces;
    items[1].piece_count = 2;
    Results results;
    EXPECT_EQ(dgram_send_many(sender, items, 5, Results::take, &results), 4);
    EXPECT_EQ(items[4].status, DGRAM_EBADFAMILY);
    head = tail = "###"; /* pieces are copied in the call */
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 2; }));
    server->release("host.test");
    ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == 4 && inbox.count() == 3; }));
    EXPECT_EQ(inbox.payloads, (std::vector<std::string>{"whole", "whole", "pieces"}));
    EXPECT_EQ(std::count(results.values.begin(), results.values.end(), DGRAM_ENOTFOUND), 1);
}

/* A handle whose address has expired does not keep the loop running for its sake. */
TEST_P(NameDestination, RefreshDoesNotKeepTheLoopAlive)
{
    server->address("host.test", "127.0.0.1", 1);
    Destination destination(loop, port_of(target), "host.test");
    ASSERT_EQ(destination.send(sender), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
    let_pass(loop, TTL_OVER);
    server->silence("host.test");
    ASSERT_EQ(dgram_unref(sender), 0);
    ASSERT_EQ(dgram_unref(target), 0);
    ASSERT_EQ(destination.send(sender), 0);
    EXPECT_EQ(dgram_loop_run(loop), 0);
}

/* Handles keep their names, however many others come and go. */
TEST_P(NameDestination, ManyHandlesKeepTheirNames)
{
    std::vector<std::unique_ptr<Destination>> handles;
    Results results;
    constexpr size_t count = 300, at_once = 50;
    for (size_t i = 0; i < count; i++) {
        server->address(numbered_name(i), "127.0.0.1", 3600);
        handles.emplace_back(new Destination(loop, port_of(target), numbered_name(i).c_str()));
    }
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < count; i++) {
            ASSERT_EQ(handles[i]->send(sender, &results), 0);
            if ((i + 1) % at_once == 0) {
                size_t expected = static_cast<size_t>(round) * count + i + 1;
                ASSERT_TRUE(run_until(loop, [&] { return results.values.size() == expected; }));
            }
        }
    }
    catch_up();
    EXPECT_EQ(results.values, repeated(3, 2 * count));
    EXPECT_EQ(server->asked(), count + 1);
}

} /* namespace */
