/* SPDX-License-Identifier: MIT */
/* sockets.cc: see sockets.h. */
#include "tests/support/sockets.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "tests/support/fixtures.h"
#include "tests/support/peers.h"

namespace harness
{

struct dgram_loop_options loop_options()
{
    struct dgram_loop_options options = {};
    options.size = sizeof(options);
    return options;
}

struct dgram_socket_options socket_options()
{
    struct dgram_socket_options options = {};
    options.size = sizeof(options);
    return options;
}

struct dgram_buffer_options buffer_options(uint32_t flags, dgram_buffer_fn *on_idle, void *user)
{
    struct dgram_buffer_options options = {};
    options.size = sizeof(options);
    options.flags = flags;
    options.on_idle = on_idle;
    options.user = user;
    return options;
}

bool has_ipv6()
{
    static const bool value = [] {
        int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in6 name = {};
        name.sin6_family = AF_INET6;
        name.sin6_addr = in6addr_loopback;
        bool works =
            fd >= 0 && bind(fd, reinterpret_cast<struct sockaddr *>(&name), sizeof(name)) == 0;
        if (fd >= 0) {
            close(fd);
        }
        return works;
    }();
    return value;
}

std::vector<uint32_t> socket_types()
{
    std::vector<uint32_t> types = {DGRAM_UDP4};
    if (has_ipv6()) {
        types.push_back(DGRAM_UDP6);
    }
    return types;
}

const char *loopback(uint32_t type)
{
    return type == DGRAM_UDP6 ? "::1" : "127.0.0.1";
}

size_t size_max(uint32_t type)
{
    return type == DGRAM_UDP6 ? DGRAM_UDP6_SIZE_MAX : DGRAM_UDP4_SIZE_MAX;
}

struct dgram_socket *open_socket(struct dgram_loop *loop, uint32_t type, uint32_t flags)
{
    struct dgram_socket_options options = socket_options();
    options.flags = flags;
    struct dgram_socket *socket = nullptr;
    int code = dgram_create_socket(loop, type, &options, &socket);
    EXPECT_EQ(code, 0) << dgram_strerror(code);
    return code == 0 ? socket : nullptr;
}

struct dgram_socket *open_limited(struct dgram_loop *loop, uint64_t queue_limit)
{
    struct dgram_socket_options options = socket_options();
    struct dgram_socket *socket = nullptr;
    options.queue_limit = queue_limit;
    EXPECT_EQ(dgram_create_socket(loop, DGRAM_UDP4, &options, &socket), 0);
    return socket;
}

struct dgram_socket *open_bound(struct dgram_loop *loop, uint32_t type, uint32_t flags)
{
    struct dgram_socket *socket = open_socket(loop, type, flags);
    if (socket != nullptr) {
        int code = dgram_bind(socket, 0, loopback(type));
        EXPECT_EQ(code, 0) << dgram_strerror(code);
    }
    return socket;
}

struct dgram_socket *open_inbox(struct dgram_loop *loop, Inbox *inbox, uint32_t type,
                                uint32_t flags)
{
    struct dgram_socket *socket = open_bound(loop, type, flags);
    if (socket != nullptr) {
        EXPECT_EQ(dgram_on_message(socket, Inbox::take, inbox), 0);
    }
    return socket;
}

struct dgram_addr address_of(struct dgram_socket *socket)
{
    struct dgram_addr address = {};
    int code = dgram_address(socket, &address);
    EXPECT_EQ(code, 0) << dgram_strerror(code);
    if (address.u.any.sa_family == AF_INET && address.u.in4.sin_addr.s_addr == INADDR_ANY) {
        address.u.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    if (address.u.any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address.u.in6.sin6_addr)) {
        address.u.in6.sin6_addr = in6addr_loopback;
    }
    return address;
}

uint16_t port_of(struct dgram_socket *socket)
{
    struct dgram_addr address = address_of(socket);
    return dgram_addr_port(&address);
}

struct dgram_addr parse(const std::string &text, uint16_t port)
{
    struct dgram_addr address = {};
    int code = dgram_addr_parse(text.c_str(), port, &address);
    EXPECT_EQ(code, 0) << text << ": " << dgram_strerror(code);
    return address;
}

std::string text_of(const struct dgram_addr *address)
{
    char text[DGRAM_ADDR_TEXT_MAX];
    return dgram_addr_text(address, text);
}

int send_text(struct dgram_socket *socket, const std::string &payload,
              const struct dgram_addr &address)
{
    return dgram_send_to(socket, payload.data(), payload.size(), &address, nullptr, nullptr);
}

int send_and_wait(struct dgram_loop *loop, struct dgram_socket *socket, const std::string &payload,
                  const struct dgram_addr &address)
{
    Results results;
    int code =
        dgram_send_to(socket, payload.data(), payload.size(), &address, Results::take, &results);
    if (code < 0) {
        return code;
    }
    if (!run_until(loop, [&] { return !results.values.empty(); })) {
        return -ETIMEDOUT;
    }
    EXPECT_EQ(results.values.size(), 1u);
    return results.values[0];
}

std::string payload_of(const struct dgram_message *message)
{
    return std::string(static_cast<const char *>(message->data), message->size);
}

std::string pattern(size_t size, unsigned seed)
{
    std::string bytes(size, '\0');
    uint32_t state = seed * 2654435761u + 12345u;
    for (char &byte : bytes) {
        state = state * 1664525u + 1013904223u;
        byte = static_cast<char>(state >> 24);
    }
    return bytes;
}

std::string numbered(unsigned number, size_t size)
{
    std::string payload = pattern(size, number);
    for (size_t i = 0; i < 4 && i < size; i++) {
        payload[i] = static_cast<char>(number >> (8 * i));
    }
    return payload;
}

size_t room_of(struct dgram_socket *socket)
{
    int bytes = dgram_get_recv_buffer_size(socket);
    EXPECT_GT(bytes, 0);
    /* Linux charges a small datagram less than 1 KiB; keep a reserve for what it batches. */
    return std::max<size_t>(static_cast<size_t>(std::max(bytes, 0)) / 2048, 1);
}

void expect_echo(struct dgram_loop *loop, struct dgram_socket *socket)
{
    struct dgram_addr bound = {};
    int code = dgram_address(socket, &bound);
    if (code == DGRAM_ENOTBOUND) {
        code = dgram_bind(socket, 0, nullptr);
        ASSERT_EQ(code, 0) << dgram_strerror(code);
        ASSERT_EQ(dgram_address(socket, &bound), 0);
    }
    ASSERT_EQ(code, 0) << dgram_strerror(code);
    uint32_t type = bound.u.any.sa_family == AF_INET6 ? DGRAM_UDP6 : DGRAM_UDP4;

    Inbox here, there;
    struct dgram_socket *peer = open_inbox(loop, &there, type);
    ASSERT_NE(peer, nullptr);
    ASSERT_EQ(dgram_on_message(socket, Inbox::take, &here), 0);
    const std::string ping = "ping of " + std::to_string(port_of(peer));
    ASSERT_EQ(send_text(peer, ping, address_of(socket)), 0);
    auto has = [](const Inbox &inbox, const std::string &text) {
        return std::count(inbox.payloads.begin(), inbox.payloads.end(), text) > 0;
    };
    EXPECT_TRUE(run_until(loop, [&] { return has(here, ping); }));
    EXPECT_EQ(send_text(socket, "pong", address_of(peer)), 0);
    EXPECT_TRUE(run_until(loop, [&] { return has(there, "pong"); }));
    EXPECT_EQ(dgram_on_message(socket, nullptr, nullptr), 0);
    close_and_wait(loop, peer);
}

void close_and_wait(struct dgram_loop *loop, struct dgram_socket *socket)
{
    bool closed = false;
    Handlers on;
    on.close = [&](struct dgram_socket *) { closed = true; };
    on.attach(socket);
    ASSERT_EQ(dgram_close(socket), 0);
    ASSERT_TRUE(run_until(loop, [&] { return closed; }));
}

struct dgram_loop_info info_of(struct dgram_loop *loop)
{
    struct dgram_loop_info info = {};
    info.size = sizeof(info);
    EXPECT_EQ(dgram_loop_info(loop, &info), 0);
    return info;
}

struct dgram_socket_stats stats_of(struct dgram_socket *socket)
{
    struct dgram_socket_stats stats = {};
    stats.size = sizeof(stats);
    EXPECT_EQ(dgram_socket_stats(socket, &stats), 0);
    return stats;
}

static int call_address(struct dgram_socket *socket)
{
    struct dgram_addr address = {};
    return dgram_address(socket, &address);
}

static int call_send_to(struct dgram_socket *socket)
{
    struct dgram_addr address = {};
    dgram_addr_parse("127.0.0.1", 9, &address);
    return dgram_send_to(socket, "x", 1, &address, nullptr, nullptr);
}

static int call_send_buffer(struct dgram_socket *socket)
{
    struct dgram_addr to = parse("127.0.0.1", 9);
    struct dgram_buffer *buffer = nullptr;
    dgram_buffer_create(dgram_socket_loop(socket), 1, nullptr, &buffer);
    int code = dgram_send_buffer(socket, buffer, 0, 1, &to);
    dgram_buffer_free(buffer);
    return code;
}

std::vector<SocketCall> socket_calls()
{
    using Socket = struct dgram_socket *;
    return {
        {"bind", [](Socket s) { return dgram_bind(s, 0, "127.0.0.1"); }},
        {"address", call_address},
        {"ref", [](Socket s) { return dgram_ref(s); }},
        {"unref", [](Socket s) { return dgram_unref(s); }},
        {"on_message", [](Socket s) { return dgram_on_message(s, nullptr, nullptr); }},
        {"on_messages", [](Socket s) { return dgram_on_messages(s, nullptr, nullptr); }},
        {"on_listening", [](Socket s) { return dgram_on_listening(s, nullptr, nullptr); }},
        {"on_error", [](Socket s) { return dgram_on_error(s, nullptr, nullptr); }},
        {"on_drain", [](Socket s) { return dgram_on_drain(s, nullptr, nullptr); }},
        {"on_close", [](Socket s) { return dgram_on_close(s, nullptr, nullptr); }},
        {"send", [](Socket s) { return dgram_send(s, "x", 1, 9, nullptr, nullptr, nullptr); }},
        {"send_to", call_send_to},
        {"send_buffer", call_send_buffer},
        {"pause", [](Socket s) { return dgram_pause(s); }},
        {"resume", [](Socket s) { return dgram_resume(s); }},
        {"set_broadcast", [](Socket s) { return dgram_set_broadcast(s, true); }},
        {"set_ttl", [](Socket s) { return dgram_set_ttl(s, 64); }},
        {"set_multicast_ttl", [](Socket s) { return dgram_set_multicast_ttl(s, 1); }},
        {"set_multicast_loopback", [](Socket s) { return dgram_set_multicast_loopback(s, true); }},
        {"set_multicast_interface",
         [](Socket s) { return dgram_set_multicast_interface(s, "127.0.0.1"); }},
        {"add_membership", [](Socket s) { return dgram_add_membership(s, "239.1.2.3", "lo"); }},
        {"drop_membership", [](Socket s) { return dgram_drop_membership(s, "239.1.2.3", "lo"); }},
        {"set_recv_buffer_size", [](Socket s) { return dgram_set_recv_buffer_size(s, 10000); }},
        {"set_send_buffer_size", [](Socket s) { return dgram_set_send_buffer_size(s, 10000); }},
        {"get_recv_buffer_size", [](Socket s) { return dgram_get_recv_buffer_size(s); }},
        {"get_send_buffer_size", [](Socket s) { return dgram_get_send_buffer_size(s); }},
        {"end", [](Socket s) { return dgram_end(s); }},
        {"close", [](Socket s) { return dgram_close(s); }},
    };
}

struct dgram_outgoing outgoing(const std::string &payload, const struct dgram_addr *to)
{
    struct dgram_outgoing item = {};
    item.data = payload.data();
    item.size = payload.size();
    item.address = to;
    return item;
}

std::vector<std::string> numbered_row(unsigned count, size_t size)
{
    std::vector<std::string> row;
    for (unsigned i = 0; i < count; i++) {
        row.push_back(numbered(i, size));
    }
    return row;
}

void send_row(struct dgram_socket *socket, const std::vector<std::string> &row,
              const struct dgram_addr &to)
{
    for (const std::string &payload : row) {
        ASSERT_EQ(send_text(socket, payload, to), 0);
    }
}

} /* namespace harness */
