/* SPDX-License-Identifier: MIT */
/*
 * sim.h: the third engine: a simulated kernel with the network below it, driven by one seed.
 *
 * Owns a world: a clock that only moves when a loop waits, descriptors and ports, datagrams under
 * way, the faults that hit them, and the allocator of the library. There is one world at a time,
 * because the functions of struct dg_system have no context. The engine implements src/backend.h,
 * goes to the limits of what that allows, and checks that the core keeps its own side.
 *
 * Guests, sockets of other people's code (c-ares), reach a service, which is a function of somebody
 * else's (dns.c). Files are somebody else's, too (clib.cc).
 *
 * Nothing here reads real time, opens a descriptor of the host, or decides by an address or a hash
 * of one: the same seed and the same calls give the same run, which sim_hash() proves. The world
 * never calls the library; who wants to know what happens gives it hooks.
 */
#ifndef DGRAM_TESTS_SIM_SIM_H
#define DGRAM_TESTS_SIM_SIM_H

#include <dgram.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Chance -------------------------------------------------------------------------------- */

/* One stream of numbers (splitmix64). Everything that is random comes from one of these. */
struct sim_random {
    uint64_t state;
};

uint64_t sim_random_next(struct sim_random *random);
/* 0 to `bound` - 1; 0 for a bound of 0. */
uint32_t sim_random_below(struct sim_random *random, uint32_t bound);
bool sim_random_chance(struct sim_random *random, uint32_t permille);

/* ---- Faults -------------------------------------------------------------------------------- */

/* How often things go wrong, in a thousand unless said otherwise. All zero: a perfect host. */
struct sim_faults {
    /* The network. */
    uint32_t loss, duplicate;
    uint32_t delay_ns; /* at most */
    bool reorder;      /* also within a flow; else each flow keeps its order */
    uint32_t recut;    /* a train arrives as single datagrams */
    uint32_t merge;    /* singles arrive as a train */
    uint32_t icmp;     /* of datagrams to a port that nobody has: the next send fails once */

    /* Results of sends. */
    uint32_t eagain, nobufs; /* for a while, and POLLOUT comes when the first is over */
    uint32_t transient;      /* -EPERM for one lone datagram of 8 bytes or more */
    uint32_t refuse;         /* a train is refused once, by a whim */
    uint32_t refusing;       /* of destinations: they refuse every train, or large ones */

    /* Loans of memory. */
    uint32_t loan_refused; /* the train fails because it was to go without a copy */
    uint32_t loan_unused;  /* it is copied, and nothing is lent */
    uint32_t loan_copied;  /* RELEASED says so */
    uint32_t loan_ns;      /* RELEASED comes up to so much later */

    /* The engine. */
    bool deferred;        /* acts upon starts, watches and sends at flush() and wait() only */
    uint32_t early;       /* a wait returns with nothing */
    uint32_t postpone;    /* a record that is there is left for later */
    uint32_t stop;        /* a receive ends by itself, with 0 or -ENOBUFS where that is true */
    uint32_t stop_error;  /* and of those, with an errno */
    bool starves;         /* without a free slot every receive ends, not only those with data */
    uint32_t stop_late;   /* at once, or up to late_ns after recv_stop() */
    uint32_t stop_silent; /* no STOPPED after detach() */
    uint32_t late_ns;     /* DETACHED and STOPPED come up to so much later */
    uint32_t in_flush;    /* a flush appends records, too */
    uint32_t no_pollable; /* fd() says -ENOTSUP */
    uint32_t breaks;      /* the engine breaks for good at this wait or flush; 0: never */

    /* Set-up, and memory. */
    uint32_t no_refusal; /* of sockets: arrivals cannot be kept out */
    uint32_t setup;      /* of socket(), setsockopt(), attach(), watch(), provide(), ...: fail */
    uint32_t bind;       /* of bind(): fail */
    uint32_t memory;     /* of allocations: fail */

    /* The name server (dns.h): of questions, unless said otherwise. */
    uint32_t dns_down;      /* of packets and connections: nobody is at its port, which says so */
    uint32_t dns_silent;    /* no answer */
    uint32_t dns_fails;     /* SERVFAIL */
    uint32_t dns_denies;    /* NXDOMAIN, whatever it knows */
    uint32_t dns_truncates; /* by UDP: ask again by TCP */
    uint32_t dns_hangs_up;  /* by TCP: the stream ends before the answer, or in the middle of it */
    uint32_t dns_late;      /* the answer comes up to dns_late_ns later */
    uint64_t dns_late_ns;
};

/* Some faults of random strength, and some of none. */
void sim_faults_random(struct sim_random *random, struct sim_faults *faults);

/* ---- The world ----------------------------------------------------------------------------- */

/* NULL: nobody wants to know; but `broken` must be there. */
struct sim_hooks {
    void *user;
    /* The kernel took one datagram of a socket. */
    void (*taken)(void *user, uint32_t socket, const struct dgram_addr *to,
                  const unsigned char *data, uint32_t size);
    /* A RECEIVED record: one datagram, or a train of `segment` bytes each. */
    void (*handed)(void *user, uint32_t socket, const struct dgram_addr *from,
                   const unsigned char *data, uint32_t size, uint32_t real_size, uint32_t segment);
    /* A wait is about to let time pass, at most until `until` (UINT64_MAX: no limit). May call what
     * the library allows to other threads. */
    void (*sleeping)(void *user, uint64_t until);
    /* The core broke a rule of src/backend.h or src/system.h. */
    void (*broken)(void *user, const char *rule);
};

void sim_open(uint64_t seed, const struct sim_faults *faults, const struct sim_hooks *hooks);
/* Ends the world, and checks that the library left nothing in it. */
void sim_close(void);

/* dgram_loop_create() in this world, on this engine. */
int sim_loop_create(const struct dgram_loop_options *options, struct dgram_loop **ret_loop);

/* The faults, and others from now on. */
const struct sim_faults *sim_present_faults(void);
void sim_change_faults(const struct sim_faults *faults);
/* From now on the host gives no more than so many descriptors. */
void sim_limit(uint32_t descriptors);
/* How many there are, and whether it would give one more. */
uint32_t sim_descriptors(void);
bool sim_descriptor_left(void);

/* From now on nothing goes wrong; what went wrong before is over soon. */
void sim_calm(void);

/* For a test that knows what it wants: sends of this socket get -EAGAIN or -ENOBUFS until then.
   A socket that is closed is left as it is. */
void sim_no_room(uint32_t socket, int code, uint64_t until);

/* The same for all that is sent to this port, -ENOBUFS, until the other is called. */
void sim_no_room_for(uint16_t port);
void sim_room_for(uint16_t port);
/* But so many datagrams to such ports are taken from now on: one slow device. */
void sim_room(uint32_t datagrams);

/* The engine breaks with this code at the n-th wait or flush from now. */
void sim_break(uint32_t calls, int code);

/* From now on datagrams take so long at most. */
void sim_delay(uint32_t ns);

uint64_t sim_now(void);
/* A handler takes its time. */
void sim_burn(uint64_t time_ns);
/* Waits and flushes so far. */
uint64_t sim_calls(void);
/* Looks of busy loops so far. */
uint64_t sim_peeks(void);
/* How often a busy loop would have given way on a host of one CPU. */
uint64_t sim_relaxes(void);
/* How long the last wait() that gathers was to sleep, if there was one since the last call. */
int64_t sim_gathered(void);

/* Appends to the log, of which only a hash is kept. With DGRAM_SIM_TRACE in the environment every
 * line is printed, too. */
void sim_log(const char *what, uint64_t one, uint64_t two);
uint64_t sim_hash(void);

/* ---- Services ------------------------------------------------------------------------------ */

/* A server at one port of the loopback, for guests (src/system.h): by datagrams, and by streams in
 * which each question stands behind its length. */
struct sim_question {
    const unsigned char *bytes; /* without the length */
    uint32_t size;
    bool stream;
    const void *packet; /* the world's */
};
typedef void sim_service_fn(const struct sim_question *question);

void sim_serve(uint16_t port, sim_service_fn *fn);
/* Only inside of the function. By a stream these are bytes as they are, and none is the end. */
void sim_reply(const struct sim_question *question, const unsigned char *bytes, uint32_t size,
               uint64_t delay_ns);

/* The world's own chance, for services. */
uint32_t sim_below(uint32_t bound);
bool sim_chance(uint32_t permille);

/* Who opens files for the library: a descriptor of the host, or a negated errno. Without one there
 * is no file. */
void sim_serve_files(int (*open)(const char *path));

/* getsockname(2) for a descriptor of this world. */
int sim_name_of(int fd, struct sockaddr *address, socklen_t *size);

/* ---- What is to be seen -------------------------------------------------------------------- */

/* Sockets are known by number, in the order of their creation, from 1. */
struct sim_socket {
    bool open;      /* its descriptor */
    bool attached;  /* to an engine */
    bool detaching; /* DETACHED is still to come */
    bool receiving; /* started, STOPPED not yet appended */
    bool has_data;  /* in its receive buffer */
    bool full;      /* a send would be -EAGAIN */
    bool watched;   /* POLLOUT is being waited for */
    bool slot_free; /* in the engine that it is attached to */
};

uint32_t sim_last_socket(void);
/* Datagrams that the core took out of the receive buffer itself, to count them; also when it is
 * closed. */
uint64_t sim_counted(uint32_t socket);
struct sim_socket sim_look(uint32_t socket);

/* What of a loop's queue waits for names, or for destinations that had no room. A look into the
 * library: which sends they are nobody is told. */
uint64_t sim_stalled(const struct dgram_loop *loop);

/* Slots that the engine has handed out and not got back. */
uint32_t sim_slots_lent(void);

/* Loans that are out. */
uint32_t sim_lent(void);

/* The error that every send to this destination gets, 0 if none. */
int sim_error_of(const struct dgram_addr *to);

/* Whether the engine broke, and the code that it gives since. */
int sim_broken(void);

/* Whether a wait would append nothing now or later, if nobody calls the library. */
bool sim_quiet(void);

/* For a loop that is embedded into another: its descriptor, and sleeping on it. sim_sleep() moves
 * the clock to the next event, but not past `until`; false if there is none. */
bool sim_readable(int fd);
uint64_t sim_next_event(void);
bool sim_sleep(uint64_t until);

#ifdef __cplusplus
}
#endif

#endif
