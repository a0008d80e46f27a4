/* SPDX-License-Identifier: MIT */
/*
 * embed.h: the descriptor by which an outer loop learns that a turn has something to do.
 *
 * Owns that descriptor, which gathers the engine's, a kick and an alarm. A turn clears the kick
 * when it begins; when it ends, the alarm is set to the next deadline and the kick says whether
 * there is work. Work that comes up outside a turn kicks, whatever the engine has armed.
 */
#ifndef DGRAM_LOOP_EMBED_H
#define DGRAM_LOOP_EMBED_H

#include "src/core/core.h"

struct embedding {
    int fd;      /* -1 until dgram_loop_fd() */
    int kick[2]; /* as wake_open() makes it */
    int alarm;
    uint64_t deadline; /* for which the alarm is set; 0: passed */
    bool kicked;
};

/* A turn begins, and ends. */
void dg_embedding_clear(struct dgram_loop *loop);
void dg_embedding_set(struct dgram_loop *loop);
void dg_embedding_close(struct dgram_loop *loop);

#endif
