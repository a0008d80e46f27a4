/* SPDX-License-Identifier: MIT */
/*
 * dns_config.h: whom to ask for names, and how: resolv.conf(5), the option dns_servers.
 *
 * Owns nothing. c-ares reads the file as well. This reads it before, to know that it can be read,
 * and adds for c-ares zones of name servers, and two options by their names of
 * resolv.conf(5).
 *
 * A server with a zone is given to c-ares as one of 100::/64, the prefix that is never routed (RFC
 * 6666); the functions of its sockets put the true address in its place.
 */
#ifndef DGRAM_NAMES_DNS_CONFIG_H
#define DGRAM_NAMES_DNS_CONFIG_H

#include <dgram.h>
#include <sys/stat.h>

#include "src/net/peer.h"
#include "src/system.h"

/* A comma-separated list of IP addresses, with a port or without. */
bool dg_dns_servers_are_well_formed(const char *text);

/* Where a configuration is read. */
struct dns_source {
    const struct dg_system *system;
    const char *servers, *resolv_conf; /* options of the loop, or NULL */
};

/* A name server with a zone (fe80::1%eth0), which c-ares cannot name: it knows the address of a
 * stand-in. */
struct zoned_server {
    char text[DGRAM_ADDR_TEXT_MAX]; /* the address with its zone */
    struct sockaddr_in6 peer;       /* as it was last connected to */
};

/* The configuration of the host and of the loop's options. */
struct dns_configuration {
    struct stat file; /* resolv.conf when it was read; all zero: there was none */
    int timeout_ms;   /* options of the file; 0: not there */
    int attempts;
    char *servers; /* as c-ares takes them; NULL: as it finds them itself */
    struct zoned_server *zoned;
    uint32_t zoned_count;
};

/* Returns 0, or the errno why the file cannot be read: that is no configuration. A file that does
 * not exist is an empty one, resolv.conf(5). */
int dg_dns_configuration_read(const struct dns_source *source,
                              struct dns_configuration *ret_configuration);
void dg_dns_configuration_release(struct dns_configuration *configuration);

/* Whether there is another file now. */
bool dg_dns_configuration_changed(const struct dns_source *source,
                                  const struct dns_configuration *configuration);

/* The name of a server as connect(2) takes it, from that which c-ares knows: 0, or an errno where
 * the zone is no interface any more. And the way back. */
int dg_dns_peer_of_server(struct dns_configuration *configuration, union dg_peer *peer);
void dg_dns_peer_for_cares(const struct dns_configuration *configuration, union dg_peer *peer);

#endif
