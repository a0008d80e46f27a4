/* SPDX-License-Identifier: MIT */
/*
 * buckets.cc: addresses that were chosen to meet in one bucket: a secret keeps them apart.
 */
#include <set>

#include "tests/support/harness.h"

extern "C" {
#include "src/net/peer.h"
}

using namespace harness;

namespace
{

class Buckets : public HostTest
{
};

/* IPv6 addresses that a hash without a secret puts into one bucket, whatever the socket. */
TEST_F(Buckets, CannotBeChosenByPeers)
{
    constexpr uint64_t multiplier = 0x9e3779b97f4a7c15u;
    std::set<uint32_t> used[2];
    for (unsigned way = 0; way < 2; way++) {
        uint64_t secrets[3];
        dg_peer_secrets(way, secrets);
        for (uint64_t high = 1; high <= 1000; high++) {
            const uint64_t low = high * multiplier;
            union dg_peer peer = {};
            peer.in6.sin6_family = AF_INET6;
            peer.in6.sin6_port = htons(9);
            memcpy(&peer.in6.sin6_addr.s6_addr[0], &high, sizeof(high));
            memcpy(&peer.in6.sin6_addr.s6_addr[8], &low, sizeof(low));
            used[way].insert(dg_peer_hash(&peer, 0, secrets));
        }
        EXPECT_GT(used[way].size(), 200u) << "of 256";
    }
}

} /* namespace */
