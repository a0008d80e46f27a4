/* SPDX-License-Identifier: MIT */
/*
 * interface.h: interfaces of this host, by name, number, zone or address (RFC 4007).
 *
 * Owns nothing: interfaces come and go, so each text is read anew.
 */
#ifndef DGRAM_NET_INTERFACE_H
#define DGRAM_NET_INTERFACE_H

#include <netinet/in.h>
#include <stdbool.h>

/* The interface by which multicasts come or leave. */
struct dg_interface {
    unsigned index;       /* 0: the kernel chooses, unless `local` says */
    struct in_addr local; /* an address of the interface, for groups of IPv4; INADDR_ANY: none */
    bool in6_only;        /* the choice is the kernel's for groups of IPv6 only */
};

/* Reads the text of one, for groups of this family. 0 or DGRAM_EBADINTERFACE. */
int dg_interface_read(sa_family_t family, const char *text, struct dg_interface *ret_interface);
/* The index of the interface that a zone names, 0 if it names none. */
unsigned dg_zone_read(const char *zone);
/* Whether it is written as an IPv4 address. */
bool dg_interface_is_in4(const char *text);

#endif
