/* SPDX-License-Identifier: MIT */
/*
 * peer.h: the address of a peer, as sendmsg(2) takes it.
 *
 * Owns nothing and knows no text: address.h reads and writes that.
 */
#ifndef DGRAM_NET_PEER_H
#define DGRAM_NET_PEER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

union dg_peer {
    struct sockaddr any;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
};

bool dg_peer_equal(const union dg_peer *one, const union dg_peer *two);

/* Three odd numbers for dg_peer_hash(), made of 64 bits that nobody else knows. */
void dg_peer_secrets(uint64_t random, uint64_t ret_secrets[3]);

/* 8 bits. `salt` is the rest of the key; the secrets are three odd numbers. */
uint32_t dg_peer_hash(const union dg_peer *peer, uint64_t salt, const uint64_t secrets[3]);

#endif
