/* SPDX-License-Identifier: MIT */
/*
 * dns.h: c-ares, driven by the loop: no thread, nothing that blocks, no signal.
 *
 * Owns the channels; guest.h has their sockets. c-ares calls back inside its
 * own functions, even inside the one that asks; so its callbacks here only note answers and the
 * wishes of its sockets. It knows no names, only questions.
 *
 * A channel has the configuration of the moment when it was made. When the file has changed, or
 * this host lacked something for which c-ares may blame its servers, the next question makes a new
 * one; questions that are under way run out on the old one.
 */
#ifndef DGRAM_NAMES_DNS_H
#define DGRAM_NAMES_DNS_H

#include <dgram.h>

#include "src/core/core.h"

struct dns;
struct channel;

struct question {
    const char *host; /* stays until the answer */
    sa_family_t family;
    struct channel *channel; /* that was asked, */
    uint32_t lacks;          /* and how often this host had lacked something then */
    /* Once. Not when the loop ends. */
    void (*answered)(struct question *question, int code, const struct dgram_addr *address,
                     uint32_t ttl);
};

/* The servers and the path are the options' or NULL, and stay. */
int dg_dns_open(struct dgram_loop *loop, const char *servers, const char *resolv_conf,
                const int *spare_of, struct dns **ret_dns);
void dg_dns_ask(struct dns *dns, struct question *question);
void dg_dns_close(struct dns *dns, bool forked); /* NULL is accepted */
/* How often c-ares has looked at its timeouts or sockets so far. */
uint64_t dg_dns_calls(const struct dns *dns);

#endif
