/* SPDX-License-Identifier: MIT */
/*
 * plan.h: the plan: the options of one run. Every file of dgperf reads it, only options.c writes
 * it.
 *
 * Never holds anything that is found out while running.
 */
#ifndef DGPERF_PLAN_H
#define DGPERF_PLAN_H

#include <stdbool.h>
#include <stdint.h>

struct engine;

#define EXIT_GOOD 0        /* it ran, and every datagram came, once, in order and whole */
#define EXIT_BAD_RUN 1     /* it could not run to its end, or datagrams were lost or wrong */
#define EXIT_USAGE 2       /* the command line is wrong */
#define EXIT_UNAVAILABLE 3 /* the engine cannot run on this machine */

#define SIZE_LEAST 8u    /* room for the number that each datagram carries */
#define SIZE_STAMPED 16u /* room for its time, too */
#define SIZE_MOST 65507u /* the largest UDP payload over IPv4 */
#define WINDOW_MOST 1000000u
#define FANOUT_PEERS 64u
#define FLOOD_MOST 4096u /* a receive buffer holds so many, in trains or not */
#define SENDERS_MOST 1024u
#define IDLE_MOST 20000u /* of the 28,000 ports that Linux gives away by itself */

#define COUNT_UNKNOWN UINT64_MAX /* a count that nobody can tell */

/* The place in which one side lives. */
struct spot {
    char netns[64]; /* a network namespace, ip-netns(8); "": this one */
    const char *address;
};

struct plan {
    const struct engine *const *engines; /* all there are; ends with NULL */
    const struct engine *engine;
    const struct engine *server_engine; /* ping: of its own server */
    const char *scenario;               /* the subcommand's name */
    const char *host;     /* ping, send: the other side; others: where to bind; NULL: not given */
    const char *mode;     /* one of the engine's modes; NULL: the best */
    struct spot spots[2]; /* of the sender or client, and of the receiver or server */
    double seconds;       /* 0: until `count`, or until Ctrl-C */
    uint64_t count;       /* 0: until `seconds` are over */
    uint64_t rate;        /* send, collect: datagrams a second; 0: as fast as it goes */
    uint32_t size;
    uint32_t window;       /* 0: as many as half of the receive buffer holds */
    uint32_t busy_poll_us; /* how long to spin before sleeping; 0: as the engine likes */
    uint32_t max_delay_us; /* the library may hold datagrams back so long */
    uint32_t segments;     /* datagrams a train may hold; 0: as the engine likes */
    uint32_t flood;        /* ping: datagrams to a second socket before each request */
    uint32_t idle_sockets; /* at the receiving end, bound and silent */
    uint32_t peers;        /* receiving sockets: 1, for fanout FANOUT_PEERS */
    uint32_t senders;      /* collect: sending sockets; others: 0 */
    uint16_t port;
    bool never_spins; /* --busy-poll 0 was given */
    bool max_delay_given;
    bool distinct_sizes;
    bool borrow;
    bool no_gro;
    bool in_place, zero_copy; /* the second with the first only */
    bool json;
};

#endif
