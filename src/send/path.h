/* SPDX-License-Identifier: MIT */
/*
 * path.h: what is learnt of the way to a peer, for ten seconds: whether it takes trains.
 *
 * Owns the refusals. It asks nobody: outcome.c tells of each refusal.
 */
#ifndef DGRAM_SEND_PATH_H
#define DGRAM_SEND_PATH_H

#include "src/send/sender.h"

/* Of 8 bits, and not to be foreseen by peers. `salt` sets apart what else belongs to the key. */
uint32_t dg_path_hash(const struct dgram_loop *loop, uintptr_t salt, const union dg_peer *peer);

/* Datagrams of this size and more travel alone to the peer. */
uint32_t dg_path_trains_below(const struct dgram_loop *loop, const union dg_peer *peer);

/* The peer refused a train of datagrams of `size` bytes; 0: it takes no trains at all. Returns
 * whether that is news. */
bool dg_path_refused(struct dgram_loop *loop, const union dg_peer *peer, uint32_t size);

#endif
