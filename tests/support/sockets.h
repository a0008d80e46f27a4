/* SPDX-License-Identifier: MIT */
/*
 * sockets.h: sockets of the library as tests need them: made, bound, sent by, proved to work,
 * closed; options of the right size, payloads that can be told apart.
 */
#ifndef DGRAM_TESTS_SUPPORT_SOCKETS_H
#define DGRAM_TESTS_SUPPORT_SOCKETS_H

#include <dgram.h>

#include <string>
#include <vector>

#include "tests/support/handlers.h"

namespace harness
{

struct dgram_loop_options loop_options();
struct dgram_socket_options socket_options();
struct dgram_buffer_options buffer_options(uint32_t flags, dgram_buffer_fn *on_idle = nullptr,
                                           void *user = nullptr);

bool has_ipv6();
/* DGRAM_UDP4, and DGRAM_UDP6 where the host has IPv6. */
std::vector<uint32_t> socket_types();
const char *loopback(uint32_t type);
size_t size_max(uint32_t type);

/* An unbound socket; NULL after a failure, which fails the test. */
struct dgram_socket *open_socket(struct dgram_loop *loop, uint32_t type = DGRAM_UDP4,
                                 uint32_t flags = 0);
/* The same with this limit of its queue. */
struct dgram_socket *open_limited(struct dgram_loop *loop, uint64_t queue_limit);
/* Bound to a free port of the loopback address. */
struct dgram_socket *open_bound(struct dgram_loop *loop, uint32_t type = DGRAM_UDP4,
                                uint32_t flags = 0);
/* The same with the message handler of an inbox. */
struct dgram_socket *open_inbox(struct dgram_loop *loop, Inbox *inbox, uint32_t type = DGRAM_UDP4,
                                uint32_t flags = 0);

/* Where to send to so that this bound socket gets it. */
struct dgram_addr address_of(struct dgram_socket *socket);
uint16_t port_of(struct dgram_socket *socket);
struct dgram_addr parse(const std::string &text, uint16_t port);
std::string text_of(const struct dgram_addr *address);

/* dgram_send_to() of a string without a callback. */
int send_text(struct dgram_socket *socket, const std::string &payload,
              const struct dgram_addr &address);
/* Sends and waits for the completion: its result, or the refusal. */
int send_and_wait(struct dgram_loop *loop, struct dgram_socket *socket, const std::string &payload,
                  const struct dgram_addr &address);

std::string payload_of(const struct dgram_message *message);
/* `size` bytes that differ from place to place and from seed to seed. */
std::string pattern(size_t size, unsigned seed);
/* The same with the number in the first four bytes, as far as they fit. */
std::string numbered(unsigned number, size_t size = 64);

/* Small datagrams that surely fit into this socket's receive buffer at once. */
size_t room_of(struct dgram_socket *socket);

/* Proves that a socket works: binds it to loopback if it is unbound, has a datagram come in and
 * one go out. Takes its message handler away afterwards. */
void expect_echo(struct dgram_loop *loop, struct dgram_socket *socket);

/* Closes and waits for `close`. Takes the close handler. */
void close_and_wait(struct dgram_loop *loop, struct dgram_socket *socket);

struct dgram_loop_info info_of(struct dgram_loop *loop);
struct dgram_socket_stats stats_of(struct dgram_socket *socket);

/* Every function that takes a socket and returns a code, with arguments that are right for a udp4
 * socket: for what must be refused because of the socket itself. dgram_close() and dgram_end() come
 * last. */
struct SocketCall {
    const char *name;
    int (*call)(struct dgram_socket *socket);
};
std::vector<SocketCall> socket_calls();

/* An item of dgram_send_many(). */
struct dgram_outgoing outgoing(const std::string &payload, const struct dgram_addr *to);

/* numbered(0), numbered(1) and so on; and sending such a row, each without a callback. */
std::vector<std::string> numbered_row(unsigned count, size_t size = 64);
void send_row(struct dgram_socket *socket, const std::vector<std::string> &row,
              const struct dgram_addr &to);

} /* namespace harness */

#endif
