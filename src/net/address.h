/* SPDX-License-Identifier: MIT */
/*
 * address.h: text to address and back.
 *
 * Owns nothing. Never asks a name server: only literals are read here (RFC 4291, RFC 4007 zones).
 */
#ifndef DGRAM_NET_ADDRESS_H
#define DGRAM_NET_ADDRESS_H

#include <dgram.h>
#include <stddef.h>

/* An address of the socket's family: text, or NULL and "" for `fallback`. 0, or the error of
 * dgram_addr_parse(), or DGRAM_EBADFAMILY. */
enum dg_fallback { DG_ANY, DG_LOOPBACK };
int dg_address_read(sa_family_t family, const char *text, uint32_t port, enum dg_fallback fallback,
                    struct dgram_addr *ret_address);

void dg_address_set(struct dgram_addr *address, const void *name, size_t size);

#endif
