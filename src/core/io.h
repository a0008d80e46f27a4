/* SPDX-License-Identifier: MIT */
/*
 * io.h: the core's side of the boundary to an engine.
 *
 * Owns the lists of completion records with the room for them, and the watches. It decides nothing:
 * the turn takes the records and tells whom they are for.
 *
 * The engine appends to `pending`. The dispatch swaps that list out and walks the old one, so that
 * records which a callback causes wait for the next turn, and nothing recurses.
 */
#ifndef DGRAM_CORE_IO_H
#define DGRAM_CORE_IO_H

#include "src/backend.h"

/* A watch of the core, and the function that is called when it fires. */
struct dg_watch {
    struct watch base; /* first, so that the two convert */
    void (*fn)(struct dg_watch *watch);
    bool armed, known;
};

struct io {
    const struct backend *backend;
    struct engine *engine;
    struct engine_config config;
    struct completions pending;     /* the engine appends here */
    struct completions dispatching; /* swapped with `pending` for the dispatch */
    struct completions spare;       /* a larger one, for after the dispatch */
    uint32_t needed;                /* records that can be outstanding */
    bool dispatches;                /* `dispatching` is being walked */
    bool arms;                      /* a watch was armed since the engine last submitted */
    int failed_code;                /* of the engine, in a turn or flush; 0: never */
    const char *failed_call;
};

void dg_io_open(struct io *io);
void dg_io_close(struct io *io); /* releases the lists; the engine is closed already */

/* Room for `records` more outstanding completions; negative gives it back. 0 or -ENOMEM. */
int dg_io_reserve(struct io *io, int records);

/* The records that are there, to be walked until dg_io_done(). */
struct completions dg_io_take(struct io *io);
void dg_io_done(struct io *io);

/* Notes the code with which a turn or a flush of the engine ended. */
void dg_io_note(struct io *io, int code);

/* Arms a watch; disarms and forgets it. The caller may free the watch then, or arm it anew: no
 * record names it any more. */
int dg_watch_arm(struct io *io, struct dg_watch *watch);
void dg_watch_end(struct io *io, struct dg_watch *watch);
/* READY came: calls its function, unless it was forgotten meanwhile (NULL). */
void dg_watch_fired(struct watch *watch);

#endif
