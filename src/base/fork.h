/* SPDX-License-Identifier: MIT */
/*
 * fork.h: which process this is.
 *
 * Owns the generation of the process: it grows with every fork, in the child. An object of another
 * generation belongs to the parent, which goes on using the kernel's objects that both share.
 */
#ifndef DGRAM_BASE_FORK_H
#define DGRAM_BASE_FORK_H

#include <stdbool.h>

extern unsigned dg_fork_generation;

/* From now on forks are counted. If there is no memory for it they are not: that costs the
 * protection of a child that misuses a loop, nothing else. */
void dg_fork_watch(void);

static inline bool dg_forked(unsigned generation)
{
    return generation != dg_fork_generation;
}

#endif
