/* SPDX-License-Identifier: MIT */
/* path.c: see path.h. */
#include "src/send/path.h"

#include <errno.h>

#include "src/base/memory.h"

enum { PATHS = 256 };

/* Until such times, in the loop's clock. */
struct path {
    union dg_peer peer; /* without a port where all of the host's are meant */
    uint32_t trains_below;
    uint64_t refused_until, copies_until;
};

int dg_paths_open(struct outbox *outbox)
{
    outbox->paths = dg_allocate(PATHS * sizeof(struct path));
    return outbox->paths == NULL ? -ENOMEM : 0;
}

void dg_paths_close(struct outbox *outbox)
{
    dg_release(outbox->paths);
}

uint32_t dg_path_hash(const struct dgram_loop *loop, uintptr_t salt, const union dg_peer *peer)
{
    return dg_peer_hash(peer, salt, loop->outbox->secrets);
}

_Static_assert(BATCH_BUCKETS == 256 && PATHS == 256, "dg_peer_hash() gives 8 bits");

static struct path *place_of(const struct dgram_loop *loop, const union dg_peer *peer)
{
    return &loop->outbox->paths[dg_path_hash(loop, 0, peer)];
}

/* The path to this peer; one that is in its place is pushed out. */
static struct path *path_take(struct dgram_loop *loop, const union dg_peer *peer)
{
    struct path *path = place_of(loop, peer);
    if (!dg_peer_equal(&path->peer, peer)) {
        *path = (struct path){.peer = *peer};
    }
    return path;
}

/* ---- Trains -------------------------------------------------------------------------------- */

uint32_t dg_path_trains_below(const struct dgram_loop *loop, const union dg_peer *peer)
{
    const struct path *path = place_of(loop, peer);
    bool known = path->refused_until > loop->now && dg_peer_equal(&path->peer, peer);
    return known ? path->trains_below : UINT32_MAX;
}

bool dg_path_refused(struct dgram_loop *loop, const union dg_peer *peer, uint32_t size)
{
    uint32_t known = dg_path_trains_below(loop, peer);
    struct path *path = path_take(loop, peer);
    path->trains_below = size < known ? size : known;
    path->refused_until = loop->now + PATH_NS;
    return size < known;
}

/* ---- Copies -------------------------------------------------------------------------------- */

static union dg_peer host_of(const union dg_peer *peer)
{
    union dg_peer host = *peer;
    host.in4.sin_port = 0; /* at the same place in sockaddr_in6 */
    if (peer->any.sa_family == AF_INET6) {
        host.in6.sin6_flowinfo = 0;
    }
    return host;
}

bool dg_path_copies(const struct dgram_loop *loop, const union dg_peer *peer)
{
    const union dg_peer host = host_of(peer);
    const struct path *path = place_of(loop, &host);
    return path->copies_until > loop->now && dg_peer_equal(&path->peer, &host);
}

void dg_path_copied(struct dgram_loop *loop, const union dg_peer *peer)
{
    const union dg_peer host = host_of(peer);
    path_take(loop, &host)->copies_until = loop->now + PATH_NS;
}
