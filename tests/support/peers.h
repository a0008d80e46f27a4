/* SPDX-License-Identifier: MIT */
/*
 * peers.h: sockets of the host, not of the library, to talk to; addresses and ports that nobody
 * else has, or to which a send fails.
 */
#ifndef DGRAM_TESTS_SUPPORT_PEERS_H
#define DGRAM_TESTS_SUPPORT_PEERS_H

#include <dgram.h>

#include <string>

namespace harness
{

/* A UDP socket of the host, not of the library. Closed with the object. */
class Plain
{
  public:
    /* Bound to `port` of `address`, the loopback address of the type if NULL. */
    explicit Plain(uint32_t type = DGRAM_UDP4, const char *address = nullptr, uint16_t port = 0);
    ~Plain();
    Plain(const Plain &) = delete;
    Plain &operator=(const Plain &) = delete;

    int fd() const
    {
        return fd_;
    }
    struct dgram_addr address() const;
    void send(const std::string &payload, const struct dgram_addr &to);
    /* The next datagram; fails the test and returns "" when none comes. */
    std::string receive(struct dgram_addr *ret_from = nullptr);
    /* Whether a datagram waits now. */
    bool readable() const;
    void set(int level, int name, int value);
    /* Listens no more and yet keeps its port: whoever sends to it is told "port unreachable". */
    void leave();

  private:
    int fd_;
};

/* A port of loopback that nobody listens on and that nobody else can be given meanwhile: datagrams
 * to it make the kernel answer "port unreachable". */
class DeadPort
{
  public:
    explicit DeadPort(uint32_t type = DGRAM_UDP4);
    struct dgram_addr address() const;

  private:
    Plain plain_;
};

/* An address of loopback to which a send fails later with -EACCES while broadcast is off: the way
 * to an error that no call can know at once. `refused_address_usable()` is false where the host has
 * no such address. */
struct dgram_addr refused_address();
bool refused_address_usable();

/* A free port outside of the range of which the kernel takes ports for "port 0", so no other test
 * comes by it between two binds. */
uint16_t private_port(uint32_t type);

/* The TTL or hop limit of the next datagram, which must be `payload`; it was asked for before. */
void ask_for_ttl(Plain *peer, uint32_t type);
int ttl_of(const Plain &peer, const std::string &payload);

} /* namespace harness */

#endif
