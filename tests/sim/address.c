/* SPDX-License-Identifier: MIT */
/*
 * address.c: addresses of this world, whose hosts are the loopback and nobody else.
 */
#include "tests/sim/world.h"

#include <string.h>

uint16_t sim_port_of(const struct dgram_addr *address)
{
    return ntohs(address->u.in4.sin_port); /* at the same place in sockaddr_in6 */
}

void sim_set_port(struct dgram_addr *address, uint16_t port)
{
    address->u.in4.sin_port = htons(port);
}

struct dgram_addr sim_address_read(const void *name, size_t size)
{
    struct dgram_addr address = {.size = (uint32_t) size};
    memcpy(&address.u, name, size < sizeof(address.u) ? size : sizeof(address.u));
    return address;
}

bool sim_host_equal(const struct dgram_addr *one, const struct dgram_addr *two)
{
    if (one->u.any.sa_family == AF_INET) {
        return one->u.in4.sin_addr.s_addr == two->u.in4.sin_addr.s_addr;
    }
    return memcmp(&one->u.in6.sin6_addr, &two->u.in6.sin6_addr, 16) == 0;
}

bool sim_host_is_any(const struct dgram_addr *address)
{
    static const struct dgram_addr none;
    struct dgram_addr any = none;
    any.u.any.sa_family = address->u.any.sa_family;
    return sim_host_equal(address, &any);
}

struct dgram_addr sim_loopback_of(sa_family_t family)
{
    struct dgram_addr address = {.size = sizeof(struct sockaddr_in)};
    address.u.any.sa_family = family;
    if (family == AF_INET) {
        address.u.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        address.size = sizeof(struct sockaddr_in6);
        address.u.in6.sin6_addr = in6addr_loopback;
    }
    return address;
}

bool sim_host_is_here(const struct dgram_addr *address)
{
    struct dgram_addr loopback = sim_loopback_of(address->u.any.sa_family);
    return sim_host_equal(address, &loopback);
}
