/* SPDX-License-Identifier: MIT */
/* path.c: see path.h. */
#include "src/send/path.h"

#include <assert.h>
#include <errno.h>

#include "src/base/memory.h"

/* Four to a set, so that a few peers whose hashes meet do not push each other out. */
enum { PATH_SETS = 64, PATH_WAYS = 4 };

/* Each fact holds until its time, in the loop's clock. */
struct path {
    union dg_peer peer; /* without a port where all peers of a host are meant */
    uint32_t trains_below;
    uint64_t refused_until, copies_until;
};

struct paths {
    struct path sets[PATH_SETS][PATH_WAYS];
};

int dg_paths_open(struct outbox *outbox)
{
    outbox->paths = dg_allocate(sizeof(*outbox->paths));
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

_Static_assert(BATCH_BUCKETS == 256, "dg_peer_hash() gives 8 bits");

static struct path *set_of(const struct dgram_loop *loop, const union dg_peer *peer)
{
    assert(loop->outbox->paths != NULL);
    return loop->outbox->paths->sets[dg_path_hash(loop, 0, peer) % PATH_SETS];
}

/* NULL: nothing is known. */
static struct path *path_find(const struct dgram_loop *loop, const union dg_peer *peer)
{
    struct path *set = set_of(loop, peer);
    for (int way = 0; way < PATH_WAYS; way++) {
        if (dg_peer_equal(&set[way].peer, peer)) {
            return &set[way];
        }
    }
    return NULL;
}

static uint64_t holds_until(const struct path *path)
{
    return path->refused_until > path->copies_until ? path->refused_until : path->copies_until;
}

/* The path to this peer; the one whose facts end first is pushed out for it. */
static struct path *path_take(struct dgram_loop *loop, const union dg_peer *peer)
{
    struct path *path = path_find(loop, peer), *set = set_of(loop, peer);
    if (path == NULL) {
        path = set;
        for (int way = 1; way < PATH_WAYS; way++) {
            path = holds_until(&set[way]) < holds_until(path) ? &set[way] : path;
        }
        *path = (struct path){.peer = *peer};
    }
    return path;
}

/* ---- Trains -------------------------------------------------------------------------------- */

uint32_t dg_path_trains_below(const struct dgram_loop *loop, const union dg_peer *peer)
{
    const struct path *path = path_find(loop, peer);
    return path != NULL && path->refused_until > loop->now ? path->trains_below : UINT32_MAX;
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
    const struct path *path = path_find(loop, &host);
    return path != NULL && path->copies_until > loop->now;
}

void dg_path_copied(struct dgram_loop *loop, const union dg_peer *peer)
{
    const union dg_peer host = host_of(peer);
    path_take(loop, &host)->copies_until = loop->now + PATH_NS;
}
