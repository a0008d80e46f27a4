/* SPDX-License-Identifier: MIT */
/*
 * report.h: the result of a run, and how it is shown: a short table for people, one line of JSON
 * for programs. Never measures.
 */
#ifndef DGPERF_REPORT_H
#define DGPERF_REPORT_H

#include "bench/harness/plan.h"
#include "bench/harness/times.h"

/* One side. */
struct tally {
    double seconds;   /* from the start to its last datagram; 0: not known */
    uint64_t cpu_ns;  /* its thread's, without `wait_ns` */
    uint64_t wait_ns; /* its thread's CPU while it waited for credit */
    bool known;       /* false: the side runs elsewhere */
};

struct result {
    const char *engine; /* the one that ran */
    const char *mode;   /* NULL: the engine has only one */
    const char *server; /* ping: the server's engine; NULL: not ours */
    uint32_t size;      /* of the largest datagram; 0: any */
    uint32_t window;    /* 0: there was none */
    uint32_t segments;  /* datagrams a train may hold */
    bool unseen;        /* only the other side knows `received` and `bytes` */
    uint64_t sent;
    uint64_t received;
    uint64_t bytes; /* payload received */
    uint64_t lost;
    uint64_t disordered;
    uint64_t corrupt;
    uint64_t kernel_sends; /* by the side that counts `sent`: datagrams or trains; COUNT_UNKNOWN */
    uint64_t kernel_receives; /* by the side that counts `received` */
    struct tally sender;
    struct tally receiver;
    uint64_t turns;      /* collect: how often the receiver's loop went round; COUNT_UNKNOWN */
    uint64_t wakeups;    /* collect: how often its thread slept; COUNT_UNKNOWN */
    struct times times;  /* ping: round trips; collect: from the sender's call to the receiver */
    bool loss_is_normal; /* the sender was told not to care */
};

/* Returns EXIT_GOOD or EXIT_BAD_RUN. */
int result_verdict(const struct result *result);

/* Prints the result as the plan wants it. */
void report(const struct plan *plan, const struct result *result);

/* Prints one object on one line, and frees it. Adds kernel, cpu and version. Takes a cJSON. */
struct cJSON;
void report_json(struct cJSON *object);

const char *kernel_release(void); /* "6.18.0" */
const char *cpu_name(void);       /* "AMD EPYC ..." */

#endif
