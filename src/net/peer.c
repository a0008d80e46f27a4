/* SPDX-License-Identifier: MIT */
/* peer.c: see peer.h. */
#include "src/net/peer.h"

#include <string.h>

/* Family, port and address fill the first 8 bytes of sockaddr_in; IPv6 adds address and scope. */
bool dg_peer_equal(const union dg_peer *one, const union dg_peer *two)
{
    uint64_t first, second;
    memcpy(&first, one, sizeof(first));
    memcpy(&second, two, sizeof(second));
    if (first != second) {
        return false;
    }
    return one->any.sa_family == AF_INET || memcmp(&one->in6, &two->in6, sizeof(one->in6)) == 0;
}

/* splitmix64 */
static uint64_t number_next(uint64_t *state)
{
    uint64_t number = *state += 0x9e3779b97f4a7c15u;
    number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9u;
    number = (number ^ (number >> 27)) * 0x94d049bb133111ebu;
    return number ^ (number >> 31);
}

void dg_peer_secrets(uint64_t random, uint64_t ret_secrets[3])
{
    for (int i = 0; i < 3; i++) {
        ret_secrets[i] = number_next(&random) | 1;
    }
}

/* Whoever knew the secrets could choose addresses that all have one hash. With odd ones that nobody
 * knows, two addresses share a hash once in 128 times at most, whatever they are. */
uint32_t dg_peer_hash(const union dg_peer *peer, uint64_t salt, const uint64_t secrets[3])
{
    uint64_t first;
    memcpy(&first, peer, sizeof(first));
    uint64_t hash = (first ^ salt) * secrets[0];
    if (peer->any.sa_family == AF_INET6) {
        uint64_t high, low;
        memcpy(&high, &peer->in6.sin6_addr.s6_addr[0], sizeof(high));
        memcpy(&low, &peer->in6.sin6_addr.s6_addr[8], sizeof(low));
        hash += high * secrets[1] + low * secrets[2];
    }
    return (uint32_t) (hash >> 56);
}
