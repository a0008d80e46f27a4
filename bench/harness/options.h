/* SPDX-License-Identifier: MIT */
/*
 * options.h: the subcommands, as options see them, and the way from a command line to a plan.
 */
#ifndef DGPERF_OPTIONS_H
#define DGPERF_OPTIONS_H

#include "bench/harness/plan.h"

struct command {
    const char *name;
    const char *summary;
    int (*run)(const struct plan *plan); /* returns one of EXIT_... */
    uint32_t bit;                        /* which options apply: options.c */
};

/* Reads the arguments after the subcommand. `engines` is the table to choose from; it ends with
 * NULL, and its first is the default. Returns 0, an exit code after saying why, or -1 after
 * help. */
int options_read(const struct command *command, const struct engine *const *engines, int argc,
                 char **argv, struct plan *plan);

/* The bits of struct command. */
#define FOR_STREAM 0x1u
#define FOR_FANOUT 0x2u
#define FOR_ECHO 0x4u
#define FOR_PING 0x8u
#define FOR_PEERS 0x10u
#define FOR_SEND 0x20u
#define FOR_RECV 0x40u
#define FOR_COLLECT 0x80u
#define FOR_RESPOND 0x100u

#endif
