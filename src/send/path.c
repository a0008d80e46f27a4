/* SPDX-License-Identifier: MIT */
/* path.c: see path.h. */
#include "src/send/path.h"

uint32_t dg_path_hash(const struct dgram_loop *loop, uintptr_t salt, const union dg_peer *peer)
{
    return dg_peer_hash(peer, salt, loop->outbox->secrets);
}

_Static_assert(BATCH_BUCKETS == 256, "dg_peer_hash() gives 8 bits");

static struct refusal *refusal_of(const struct dgram_loop *loop, const union dg_peer *peer)
{
    return &loop->outbox->refusals[dg_path_hash(loop, 0, peer) % REFUSALS];
}

uint32_t dg_path_trains_below(const struct dgram_loop *loop, const union dg_peer *peer)
{
    const struct refusal *refusal = refusal_of(loop, peer);
    bool known = refusal->until > loop->now && dg_peer_equal(&refusal->peer, peer);
    return known ? refusal->size : UINT32_MAX;
}

bool dg_path_refused(struct dgram_loop *loop, const union dg_peer *peer, uint32_t size)
{
    struct refusal *refusal = refusal_of(loop, peer);
    uint32_t known = dg_path_trains_below(loop, peer);
    refusal->peer = *peer;
    refusal->size = size < known ? size : known;
    refusal->until = loop->now + REFUSAL_NS;
    return size < known;
}
