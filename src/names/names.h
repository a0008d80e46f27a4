/* SPDX-License-Identifier: MIT */
/*
 * names.h: host names: their addresses, and who waits for an answer.
 *
 * Owns the names of a loop, their questions and answers. It knows no name server: a question goes
 * to the program's hook or to dns.c, and comes back by dgram_lookup_answer(), which only appends;
 * the dispatch acts upon it. Concurrent waiters for one name share one question. It does not know
 * its waiters either: each brings the function that is called.
 */
#ifndef DGRAM_NAMES_NAMES_H
#define DGRAM_NAMES_NAMES_H

#include <dgram.h>

#include "src/base/list.h"
#include "src/core/core.h"
#include "src/net/peer.h"

/* A host name in one family. */
struct name;

/* Waits for the answer of a name, and lies in the object that does. */
struct waiter {
    struct node node; /* in the name's list, in the order in which they came */
    struct name *name;
    /* The waiter has left the list. `address`: the last good one, NULL where there is none; `code`
     * is that of the last question. */
    void (*answered)(struct waiter *waiter, int code, const union dg_peer *address);
};

/* `spare_of` points to a descriptor of which a copy is kept: see guest.h. */
int dg_names_open(struct dgram_loop *loop, const struct dgram_loop_options *options,
                  const int *spare_of);
/* Nobody waits any more. */
void dg_names_close(struct dgram_loop *loop, bool forked);

/* Finds or makes the name; NULL: there is no memory. */
struct name *dg_name_get(struct dgram_loop *loop, const char *host, sa_family_t family);
/* Of a call that failed nothing stays behind: a name that was only looked up for it goes. */
void dg_name_drop(struct dgram_loop *loop, struct name *name);

const char *dg_name_host(const struct name *name);
/* The last good address; NULL: there is none. */
const union dg_peer *dg_name_address(const struct name *name);
/* There is an address, and its time is not over. */
bool dg_name_is_fresh(const struct dgram_loop *loop, const struct name *name);
/* The last question failed a moment ago. */
bool dg_name_failed_lately(const struct dgram_loop *loop, const struct name *name);
/* 0, or the code with which the last question failed. */
int dg_name_failed_code(const struct name *name);

/* Asks, unless a question is under way: 0 or -ENOMEM. */
int dg_name_ask(struct dgram_loop *loop, struct name *name);

/* The same in two steps, of which the second cannot fail. The first makes a question if one is
 * wanted, else *ret_lookup is NULL: 0 or -ENOMEM. The second asks it, or repeats the failure of a
 * moment ago; drop() throws it away. */
int dg_lookup_prepare(struct dgram_loop *loop, struct name *name, struct dgram_lookup **ret_lookup);
void dg_lookup_ask(struct dgram_lookup *lookup);
void dg_lookup_drop(struct dgram_lookup *lookup);

/* Joins those who wait; `first`: before them. Leaves them again. */
void dg_name_await(struct name *name, struct waiter *waiter, bool first);
void dg_name_leave(struct dgram_loop *loop, struct waiter *waiter);
/* The waiters of a name, to look for one. */
const struct node *dg_name_waiters(const struct name *name);
/* A number that waiters may keep for all of them: the bytes that wait. */
uint64_t *dg_name_waiting(struct name *name);

/* A handle names it, and does not any more. The name of a first handle that is not fresh forgets
 * its address, which was nobody's last good one. */
void dg_name_hold(struct dgram_loop *loop, struct name *name);
void dg_name_release(struct dgram_loop *loop, struct name *name);

/* How often c-ares has looked at its timeouts or sockets so far: for tests. */
uint64_t dg_dns_called(const struct dgram_loop *loop);

#endif
