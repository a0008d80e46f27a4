/* SPDX-License-Identifier: MIT */
/*
 * badinput.cc: what a program should not do: NULL handles, closed sockets, structs of the wrong
 * size, values out of range. Each gets its code, changes nothing, and the socket works on.
 */
#include <net/if.h>

#include <cstddef>
#include <string>
#include <vector>

#include "tests/support/questions.h"

using namespace harness;

namespace
{

class BadPort : public QuestionsTest
{
};

INSTANTIATE_ON_ALL_ENGINES(BadPort);

class BadHandle : public EngineTest
{
};
class BadOptions : public EngineTest
{
};

/* They ask for their engine by number. */
class HostBadOptions : public BadOptions
{
};
class BadArgument : public EngineTest
{
};

INSTANTIATE_ON_ALL_ENGINES(BadHandle);
INSTANTIATE_ON_ALL_ENGINES(BadOptions);
INSTANTIATE_ON_HOST_ENGINES(HostBadOptions);
INSTANTIATE_ON_ALL_ENGINES(BadArgument);

/* ---- Handles ------------------------------------------------------------------------------- */

TEST_P(BadHandle, NullSocketIsTold)
{
    for (const SocketCall &one : socket_calls()) {
        EXPECT_EQ(one.call(nullptr), DGRAM_ENULL) << one.name;
    }
    EXPECT_EQ(dgram_socket_loop(nullptr), nullptr);
    EXPECT_EQ(dgram_get_send_queue_size(nullptr), 0u);
    EXPECT_EQ(dgram_get_send_queue_count(nullptr), 0u);
}

TEST_P(BadHandle, NullLoopIsTold)
{
    struct dgram_loop_info info = {};
    info.size = sizeof(info);
    struct dgram_socket *socket = nullptr;
    struct dgram_timer *timer = nullptr;
    auto post = [](struct dgram_loop *, void *) {};
    auto tick = [](struct dgram_timer *, void *) {};
    EXPECT_EQ(dgram_loop_run(nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_loop_turn(nullptr, 0), DGRAM_ENULL);
    EXPECT_EQ(dgram_loop_flush(nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_loop_post(nullptr, post, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_loop_fd(nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_loop_info(nullptr, &info), DGRAM_ENULL);
    EXPECT_EQ(dgram_loop_now(nullptr), 0u);
    EXPECT_EQ(dgram_create_socket(nullptr, DGRAM_UDP4, nullptr, &socket), DGRAM_ENULL);
    EXPECT_EQ(dgram_timer_create(nullptr, tick, nullptr, &timer), DGRAM_ENULL);
    EXPECT_EQ(dgram_loop_free(nullptr), nullptr);
    EXPECT_EQ(dgram_loop_create(nullptr, nullptr), DGRAM_ENULL);
    EXPECT_EQ(socket, nullptr);
    EXPECT_EQ(timer, nullptr);
    dgram_loop_stop(nullptr); /* harmless */
}

TEST_P(BadHandle, NullTimerIsTold)
{
    EXPECT_EQ(dgram_timer_start(nullptr, 0, 0), DGRAM_ENULL);
    EXPECT_EQ(dgram_timer_stop(nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_timer_ref(nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_timer_unref(nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_timer_free(nullptr), nullptr);
}

TEST_P(BadHandle, OtherNullsAreTold)
{
    struct dgram_socket *socket = open_bound(loop);
    struct dgram_timer *timer = nullptr;
    struct dgram_message message = {};
    const struct dgram_addr to = address_of(socket);
    Results results;
    auto tick = [](struct dgram_timer *, void *) {};
    EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, nullptr, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_address(socket, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_send(socket, nullptr, 1, 9, nullptr, Results::take, &results), DGRAM_ENULL);
    EXPECT_EQ(dgram_send_to(socket, nullptr, 1, &to, Results::take, &results), DGRAM_ENULL);
    EXPECT_EQ(dgram_send_to(socket, "x", 1, nullptr, Results::take, &results), DGRAM_ENULL);
    EXPECT_EQ(dgram_socket_stats(socket, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_loop_info(loop, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_loop_post(loop, nullptr, nullptr), DGRAM_ENULL);
    EXPECT_EQ(dgram_timer_create(loop, nullptr, nullptr, &timer), DGRAM_ENULL);
    EXPECT_EQ(dgram_timer_create(loop, tick, nullptr, nullptr), DGRAM_ENULL);
    EXPECT_EQ(timer, nullptr);
    EXPECT_EQ(dgram_message_retain(nullptr, &message), DGRAM_ENULL);
    settle(loop);
    EXPECT_EQ(results.values.size(), 0u);
    expect_echo(loop, socket);
}

/* S24: uniformly, until `close` was emitted; the handlers of `error` and `close` may change. */
TEST_P(BadHandle, ClosedSocketAnswersNotRunning)
{
    for (bool bound : {false, true}) {
        SCOPED_TRACE(bound);
        struct dgram_socket *socket = bound ? open_bound(loop) : open_socket(loop);
        if (bound) {
            settle(loop);
        }
        ASSERT_EQ(dgram_close(socket), 0);
        for (const SocketCall &one : socket_calls()) {
            const bool allowed =
                strcmp(one.name, "on_error") == 0 || strcmp(one.name, "on_close") == 0;
            EXPECT_EQ(one.call(socket), allowed ? 0 : DGRAM_ENOTRUNNING) << one.name;
        }
        struct dgram_addr address = parse("192.0.2.1", 1);
        EXPECT_EQ(dgram_address(socket, &address), DGRAM_ENOTRUNNING);
        EXPECT_EQ(text_of(&address), "192.0.2.1");
        EXPECT_EQ(dgram_get_send_queue_size(socket), 0u);
        EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
        EXPECT_EQ(dgram_socket_loop(socket), loop);
        EXPECT_EQ(dgram_loop_run(loop), 0);
    }
}

/* A socket whose sends are queued, then closed, counts none of them. */
TEST_P(BadHandle, ClosedSocketHasNoQueue)
{
    struct dgram_socket *sink = open_bound(loop);
    struct dgram_socket *socket = open_socket(loop);
    ASSERT_EQ(send_text(socket, "hello", address_of(sink)), 0);
    ASSERT_EQ(dgram_close(socket), 0);
    EXPECT_EQ(dgram_get_send_queue_size(socket), 0u);
    EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
}

/* ---- Structs that may grow ----------------------------------------------------------------- */

/* A struct as a program would have it that was built against another version: `size` bytes with
 * ours in front. */
template <typename T> struct Resized {
    alignas(T) unsigned char bytes[sizeof(T) + 64];

    Resized(const T &ours, size_t size)
    {
        memset(bytes, 0, sizeof(bytes));
        memcpy(bytes, &ours, sizeof(ours));
        memcpy(bytes, &size, sizeof(size)); /* `size` is the first member of all of them */
    }
    const T *get() const
    {
        return reinterpret_cast<const T *>(bytes);
    }
};

TEST_P(HostBadOptions, LoopOptionsOfAnySizeAreChecked)
{
    struct dgram_loop *const untouched = reinterpret_cast<struct dgram_loop *>(&loop);
    struct dgram_loop *made = untouched;
    const size_t size = sizeof(struct dgram_loop_options);
    struct dgram_loop_options options = loop_options();
    options.engine = GetParam().number;
    for (size_t small : {size_t(0), size_t(1), sizeof(size_t) - 1}) {
        EXPECT_EQ(dgram_loop_create(Resized<dgram_loop_options>(options, small).get(), &made),
                  DGRAM_EBADOPTIONS)
            << small;
        EXPECT_EQ(made, untouched);
    }
    /* Of an earlier version, which had fewer members: what lies behind them is not looked at. */
    Resized<dgram_loop_options> earlier(options, offsetof(struct dgram_loop_options, slots));
    memset(earlier.bytes + offsetof(struct dgram_loop_options, slots), 0xff,
           sizeof(earlier.bytes) - offsetof(struct dgram_loop_options, slots));
    ASSERT_EQ(patiently([&] { return dgram_loop_create(earlier.get(), &made); }), 0);
    EXPECT_EQ(info_of(made).engine, GetParam().number);
    EXPECT_EQ(info_of(made).slots, 64u);
    dgram_loop_free(made);
    made = untouched;
    for (size_t large : {size + 1, size + 8, size + 64}) {
        Resized<dgram_loop_options> grown(options, large);
        for (size_t byte = size; byte < large; byte += 7) {
            grown.bytes[byte] = 1;
            EXPECT_EQ(dgram_loop_create(grown.get(), &made), -E2BIG) << large << " " << byte;
            EXPECT_EQ(made, untouched);
            grown.bytes[byte] = 0;
        }
        grown.bytes[large - 1] = 0x80;
        EXPECT_EQ(dgram_loop_create(grown.get(), &made), -E2BIG) << large;
        EXPECT_EQ(made, untouched);
        grown.bytes[large - 1] = 0;
        ASSERT_EQ(patiently([&] { return dgram_loop_create(grown.get(), &made); }), 0) << large;
        EXPECT_EQ(info_of(made).engine, GetParam().number);
        dgram_loop_free(made);
        made = untouched;
    }
}

TEST_P(BadOptions, SocketOptionsOfAnySizeAreChecked)
{
    struct dgram_socket *const untouched = reinterpret_cast<struct dgram_socket *>(&loop);
    struct dgram_socket *made = untouched;
    const size_t size = sizeof(struct dgram_socket_options);
    struct dgram_socket_options options = socket_options();
    for (size_t small : {size_t(0), size_t(1), sizeof(size_t) - 1}) {
        EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4,
                                      Resized<dgram_socket_options>(options, small).get(), &made),
                  DGRAM_EBADOPTIONS)
            << small;
        EXPECT_EQ(made, untouched);
    }
    Resized<dgram_socket_options> earlier(options,
                                          offsetof(struct dgram_socket_options, segments_max));
    memset(earlier.bytes + offsetof(struct dgram_socket_options, segments_max), 0xff,
           sizeof(earlier.bytes) - offsetof(struct dgram_socket_options, segments_max));
    ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, earlier.get(), &made), 0);
    expect_echo(loop, made);
    made = untouched;
    for (size_t large : {size + 1, size + 8, size + 64}) {
        Resized<dgram_socket_options> grown(options, large);
        for (size_t byte : {size, large - 1}) {
            grown.bytes[byte] = 1;
            EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, grown.get(), &made), -E2BIG) << large;
            EXPECT_EQ(made, untouched);
            grown.bytes[byte] = 0;
        }
        ASSERT_EQ(dgram_create_socket(loop, DGRAM_UDP4, grown.get(), &made), 0) << large;
        expect_echo(loop, made);
        made = untouched;
    }
}

TEST_P(BadOptions, LoopValuesOutOfRangeAreRefused)
{
    struct dgram_loop *made = nullptr;
    auto create = [&](uint32_t dgram_loop_options::*member, uint32_t value) {
        struct dgram_loop_options options = loop_options();
        options.*member = value;
        return GetParam().create(&options, &made);
    };
    for (uint32_t slots : {1u, 3u, 4097u, 0xffffffffu}) {
        EXPECT_EQ(create(&dgram_loop_options::slots, slots), DGRAM_EBADOPTIONS) << slots;
    }
    for (uint32_t size : {1u, 511u, 65537u, 0xffffffffu}) {
        EXPECT_EQ(create(&dgram_loop_options::slot_size, size), DGRAM_EBADOPTIONS) << size;
    }
    for (uint32_t segments : {129u, 0xffffffffu}) {
        EXPECT_EQ(create(&dgram_loop_options::segments_max, segments), DGRAM_EBADOPTIONS)
            << segments;
    }
    EXPECT_EQ(create(&dgram_loop_options::busy_poll_us, 1000001), DGRAM_EBADOPTIONS);
    for (uint32_t delay : {100001u, 0xffffffffu}) {
        EXPECT_EQ(create(&dgram_loop_options::max_delay_us, delay), DGRAM_EBADOPTIONS);
    }
    EXPECT_EQ(made, nullptr);
}

/* The ends of the ranges work. */
TEST_P(BadOptions, LoopValuesAtTheEndsOfTheirRangesWork)
{
    const struct {
        uint32_t slots, slot_size, segments_max;
    } corners[] = {{4, 512, 1}, {4, 65536, 128}, {4096, 512, 128}, {5, 513, 2}, {4095, 1000, 127}};
    for (const auto &corner : corners) {
        SCOPED_TRACE(testing::Message() << corner.slots << " x " << corner.slot_size);
        struct dgram_loop_options options = loop_options();
        options.slots = corner.slots;
        options.slot_size = corner.slot_size;
        options.segments_max = corner.segments_max;
        struct dgram_loop *made = make_loop(&options);
        ASSERT_NE(made, nullptr);
        EXPECT_EQ(info_of(made).slots, corner.slots);
        EXPECT_EQ(info_of(made).slot_size, corner.slot_size);
        EXPECT_LE(info_of(made).segments_max, corner.segments_max);
        Inbox inbox;
        struct dgram_socket *socket = open_inbox(made, &inbox);
        std::vector<std::string> sent;
        for (unsigned i = 0; i < 50; i++) {
            sent.push_back(numbered(i, 400));
            ASSERT_EQ(send_text(socket, sent[i], address_of(socket)), 0);
        }
        ASSERT_TRUE(run_until(made, [&] { return inbox.count() == 50; }));
        EXPECT_TRUE(inbox.payloads == sent);
        dgram_loop_free(made);
    }
}

TEST_P(BadOptions, SocketValuesOutOfRangeAreRefused)
{
    struct dgram_socket *made = nullptr;
    struct dgram_socket_options options = socket_options();
    for (uint32_t flags : {0x20u, 0x80000000u, 0xffffffffu}) {
        options.flags = flags;
        EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &made), DGRAM_EBADOPTIONS)
            << flags;
    }
    options = socket_options();
    options.segments_max = 129;
    EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &made), DGRAM_EBADOPTIONS);
    for (uint32_t size : {0x80000000u, 0xfffffffeu}) {
        options = socket_options();
        options.recv_buffer_size = size;
        EXPECT_LT(dgram_create_socket(loop, DGRAM_UDP4, &options, &made), 0) << size;
        options = socket_options();
        options.send_buffer_size = size;
        EXPECT_LT(dgram_create_socket(loop, DGRAM_UDP4, &options, &made), 0) << size;
    }
    EXPECT_EQ(made, nullptr);
    EXPECT_EQ(dgram_loop_turn(loop, 0), 0); /* nothing was left behind */
}

/* Results that the library fills: too small is refused and untouched; of a later version, with
 * more room, is filled as far as it is known. */
TEST_P(HostBadOptions, ResultsOfAnySizeAreChecked)
{
    struct dgram_socket *socket = open_bound(loop);
    const auto unchanged = [](const unsigned char *bytes, size_t size) {
        for (size_t i = sizeof(size_t); i < size; i++) {
            if (bytes[i] != 0xa5) {
                return false;
            }
        }
        return true;
    };
    unsigned char room[512];
    auto prepare = [&](size_t size) {
        memset(room, 0xa5, sizeof(room));
        memcpy(room, &size, sizeof(size));
    };
    for (size_t small : {size_t(0), size_t(1), sizeof(size_t) - 1}) {
        prepare(small);
        EXPECT_EQ(dgram_loop_info(loop, reinterpret_cast<struct dgram_loop_info *>(room)),
                  DGRAM_EBADOPTIONS);
        EXPECT_EQ(dgram_socket_stats(socket, reinterpret_cast<struct dgram_socket_stats *>(room)),
                  DGRAM_EBADOPTIONS);
        EXPECT_EQ(dgram_engine_probe(GetParam().number,
                                     reinterpret_cast<struct dgram_engine_report *>(room)),
                  DGRAM_EBADOPTIONS);
        EXPECT_TRUE(unchanged(room, sizeof(room)));
    }
    /* Of an earlier version: nothing is written behind its end. */
    prepare(offsetof(struct dgram_loop_info, slots));
    ASSERT_EQ(dgram_loop_info(loop, reinterpret_cast<struct dgram_loop_info *>(room)), 0);
    EXPECT_EQ(reinterpret_cast<struct dgram_loop_info *>(room)->engine, GetParam().number);
    EXPECT_EQ(room[offsetof(struct dgram_loop_info, slots)], 0xa5);
    EXPECT_TRUE(unchanged(room + offsetof(struct dgram_loop_info, name),
                          sizeof(room) - offsetof(struct dgram_loop_info, name)));
    prepare(sizeof(struct dgram_loop_info) + 64);
    ASSERT_EQ(dgram_loop_info(loop, reinterpret_cast<struct dgram_loop_info *>(room)), 0);
    EXPECT_STREQ(reinterpret_cast<struct dgram_loop_info *>(room)->name, GetParam().name);
    EXPECT_EQ(room[sizeof(struct dgram_loop_info) + 64], 0xa5) << "written beyond its size";
    prepare(sizeof(struct dgram_socket_stats) + 64);
    ASSERT_EQ(dgram_socket_stats(socket, reinterpret_cast<struct dgram_socket_stats *>(room)), 0);
    EXPECT_EQ(reinterpret_cast<struct dgram_socket_stats *>(room)->received, 0u);
    EXPECT_EQ(room[sizeof(struct dgram_socket_stats) + 64], 0xa5) << "written beyond its size";
    prepare(sizeof(struct dgram_engine_report));
    ASSERT_EQ(
        dgram_engine_probe(GetParam().number, reinterpret_cast<struct dgram_engine_report *>(room)),
        0);
    EXPECT_EQ(reinterpret_cast<struct dgram_engine_report *>(room)->code, 0);
    EXPECT_EQ(room[sizeof(struct dgram_engine_report)], 0xa5) << "written beyond its size";
    expect_echo(loop, socket);
}

/* ---- Values -------------------------------------------------------------------------------- */

/* All at once on one socket, bound and not; afterwards it works. */
TEST_P(BadArgument, ChangesNothing)
{
    for (bool bound : {false, true}) {
        SCOPED_TRACE(bound);
        Results results;
        struct dgram_socket *socket = bound ? open_bound(loop) : open_socket(loop);
        struct dgram_addr nowhere = {};
        std::vector<char> large(70000);
        EXPECT_EQ(dgram_set_ttl(socket, 0), DGRAM_EBADTTL);
        EXPECT_EQ(dgram_set_multicast_ttl(socket, 256), DGRAM_EBADTTL);
        EXPECT_EQ(dgram_set_recv_buffer_size(socket, 0), DGRAM_EBADBUFFERSIZE);
        EXPECT_EQ(dgram_set_send_buffer_size(socket, 0), DGRAM_EBADBUFFERSIZE);
        EXPECT_EQ(dgram_set_multicast_interface(socket, "no such"), DGRAM_EBADINTERFACE);
        EXPECT_EQ(dgram_add_membership(socket, "no such", nullptr), DGRAM_EBADGROUP);
        EXPECT_EQ(dgram_drop_membership(socket, "no such", nullptr), DGRAM_EBADGROUP);
        EXPECT_EQ(dgram_send(socket, "x", 1, 0, nullptr, Results::take, &results), DGRAM_EBADPORT);
        EXPECT_EQ(dgram_send(socket, "x", 1, 9, "no such", Results::take, &results),
                  DGRAM_EBADADDRESS);
        EXPECT_EQ(dgram_send(socket, "x", 1, 9, "::1", Results::take, &results), DGRAM_EBADFAMILY);
        EXPECT_EQ(
            dgram_send(socket, large.data(), large.size(), 9, nullptr, Results::take, &results),
            -EMSGSIZE);
        EXPECT_EQ(dgram_send_to(socket, "x", 1, &nowhere, Results::take, &results),
                  DGRAM_EBADADDRESS);
        EXPECT_EQ(dgram_get_send_queue_count(socket), 0u);
        struct dgram_addr address = {};
        EXPECT_EQ(dgram_address(socket, &address), bound ? 0 : DGRAM_ENOTBOUND);
        settle(loop);
        EXPECT_EQ(results.values.size(), 0u);
        expect_echo(loop, socket);
    }
}

/* An empty datagram may have a NULL payload, in both forms. */
/* A zone is not an interface and something: what is behind it would be lost. */
TEST_P(BadArgument, TextBehindAZoneIsRefused)
{
    if (!has_ipv6() || if_nametoindex("lo") == 0) {
        GTEST_SKIP() << "no IPv6, or no interface lo";
    }
    struct dgram_socket *socket = open_socket(loop, DGRAM_UDP6);
    for (const char *text : {"::1%lo:8125", "::1%lo:", "::1%lo/64", "::1%1:53"}) {
        struct dgram_destination *destination = nullptr;
        EXPECT_EQ(dgram_bind(socket, 0, text), DGRAM_EBADINTERFACE) << text;
        EXPECT_EQ(dgram_send(socket, "x", 1, 9, text, nullptr, nullptr), DGRAM_EBADINTERFACE)
            << text;
        EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP6, 9, text, &destination),
                  DGRAM_EBADINTERFACE)
            << text;
        EXPECT_EQ(destination, nullptr);
    }
    for (const char *text : {"127.0.0.1:80", "[::1]:80", "[::1]", "[::1%lo]"}) {
        struct dgram_destination *destination = nullptr;
        EXPECT_EQ(dgram_bind(socket, 0, text), DGRAM_EBADADDRESS) << text;
        EXPECT_EQ(dgram_send(socket, "x", 1, 9, text, nullptr, nullptr), DGRAM_EBADADDRESS) << text;
        EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP6, 9, text, &destination),
                  DGRAM_EBADADDRESS)
            << text;
        EXPECT_EQ(destination, nullptr);
    }
    expect_echo(loop, socket);
}

TEST_P(BadArgument, NullPayloadIsFineWhereTheSizeIsZero)
{
    Inbox inbox;
    struct dgram_socket *socket = open_inbox(loop, &inbox);
    struct dgram_addr to = address_of(socket);
    EXPECT_EQ(dgram_send_to(socket, nullptr, 0, &to, nullptr, nullptr), 0);
    EXPECT_EQ(dgram_send(socket, nullptr, 0, port_of(socket), nullptr, nullptr, nullptr), 0);
    ASSERT_TRUE(run_until(loop, [&] { return inbox.count() == 2; }));
}

/* ---- Texts --------------------------------------------------------------------------------- */

/* Longer than any literal: refused, and not cut to one. */
TEST_P(BadArgument, TextThatIsTooLongIsNoAddress)
{
    const std::string zeros(300, '0'), address = "ff02::" + zeros + "1";
    struct dgram_socket *socket = open_socket(loop, has_ipv6() ? DGRAM_UDP6 : DGRAM_UDP4);
    for (const std::string &text : {address, address + "%lo"}) {
        EXPECT_EQ(dgram_add_membership(socket, text.c_str(), nullptr), DGRAM_EBADGROUP);
        EXPECT_EQ(dgram_drop_membership(socket, text.c_str(), nullptr), DGRAM_EBADGROUP);
        EXPECT_EQ(dgram_set_multicast_interface(socket, text.c_str()), DGRAM_EBADINTERFACE);
        EXPECT_EQ(dgram_add_membership(socket, "ff02::1234", text.c_str()),
                  has_ipv6() ? DGRAM_EBADINTERFACE : DGRAM_EBADGROUP);
        EXPECT_EQ(dgram_send(socket, "x", 1, 9, text.c_str(), nullptr, nullptr), DGRAM_EBADADDRESS);
    }
    expect_echo(loop, socket);
}

TEST_P(BadOptions, ServerWithATextThatIsTooLongIsNone)
{
    const std::string zeros(300, '0');
    struct dgram_loop *none = nullptr;
    struct dgram_loop_options options = loop_options();
    for (const std::string &text :
         {"127.0.0.1" + zeros, "[::" + zeros + "1]:53", std::string("[::1"), std::string("[::1]53"),
          std::string("127.0.0.1:0"), std::string("127.0.0.1:65536"), "127.0.0.1:53" + zeros}) {
        options.dns_servers = text.c_str();
        EXPECT_EQ(GetParam().create(&options, &none), DGRAM_EBADOPTIONS) << text;
    }
    EXPECT_EQ(none, nullptr);
}

/* ---- Ports --------------------------------------------------------------------------------- */

/* 65,616 is not port 80, nor is -65,456. */
TEST_P(BadPort, NumbersAbove65535AreNoPorts)
{
    for (uint32_t port : {65616u, 65536u, UINT32_MAX, static_cast<uint32_t>(-65456)}) {
        SCOPED_TRACE(port);
        struct dgram_addr address = {};
        struct dgram_destination *destination = nullptr;
        struct dgram_socket *socket = open_socket(loop);
        EXPECT_EQ(dgram_addr_parse("127.0.0.1", port, &address), DGRAM_EBADPORT);
        EXPECT_EQ(dgram_addr_parse("::1", port, &address), DGRAM_EBADPORT);
        EXPECT_EQ(address.size, 0u);
        for (const char *host : {"127.0.0.1", "host.test", ""}) {
            EXPECT_EQ(dgram_bind(socket, port, host), DGRAM_EBADPORT);
            EXPECT_EQ(dgram_send(socket, "x", 1, port, host, nullptr, nullptr), DGRAM_EBADPORT);
            EXPECT_EQ(dgram_destination_create(loop, DGRAM_UDP4, port, host, &destination),
                      DGRAM_EBADPORT);
            EXPECT_EQ(destination, nullptr);
        }
        EXPECT_EQ(dgram_address(socket, &address), DGRAM_ENOTBOUND);
        EXPECT_EQ(dgram_bind(socket, 0, "127.0.0.1"), 0);
        settle(loop);
        EXPECT_TRUE(questions.open.empty());
    }
    struct dgram_addr last = {};
    EXPECT_EQ(dgram_addr_parse("127.0.0.1", 65535, &last), 0);
    EXPECT_EQ(dgram_addr_port(&last), 65535);
}

} /* namespace */
