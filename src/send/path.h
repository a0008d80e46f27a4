/* SPDX-License-Identifier: MIT */
/*
 * path.h: facts about the way to a peer: whether it takes trains, whether the kernel copies.
 *
 * Owns a table of the last paths of which something is known. Each fact holds for ten seconds,
 * since routes and tunnels change. A path that is pushed out of the table costs one attempt more.
 */
#ifndef DGRAM_SEND_PATH_H
#define DGRAM_SEND_PATH_H

#include "src/send/sender.h"

/* A fact about a path holds for so long. */
#define PATH_NS UINT64_C(10000000000)

int dg_paths_open(struct outbox *outbox);
void dg_paths_close(struct outbox *outbox);

/* Of 8 bits, and not to be foreseen by peers. `salt` is the rest of the key. */
uint32_t dg_path_hash(const struct dgram_loop *loop, uintptr_t salt, const union dg_peer *peer);

/* Datagrams of this size and more travel alone to the peer. */
uint32_t dg_path_trains_below(const struct dgram_loop *loop, const union dg_peer *peer);

/*
 * The peer refused a train of datagrams of `size` bytes; 0: it takes no trains at all. EMSGSIZE is
 * about the path's MTU, so smaller datagrams may still travel in trains. Other refusals (EIO:
 * IPsec, or no checksum offload; EPERM: a firewall) are about trains as such. Returns whether that
 * is news.
 */
bool dg_path_refused(struct dgram_loop *loop, const union dg_peer *peer, uint32_t size);

/* Trains to the host without a copy fail, or the kernel copies them. That depends on the device by
 * which the host is reached, and not on the port. */
bool dg_path_copies(const struct dgram_loop *loop, const union dg_peer *peer);
void dg_path_copied(struct dgram_loop *loop, const union dg_peer *peer);

#endif
