/* SPDX-License-Identifier: MIT */
/* loop.h: a loop and all of its rooms: made, and taken down. */
#ifndef DGRAM_LOOP_LOOP_H
#define DGRAM_LOOP_LOOP_H

#include "src/core/agenda.h"
#include "src/core/alarm.h"
#include "src/core/core.h"
#include "src/core/io.h"
#include "src/loop/embed.h"
#include "src/loop/engine.h"
#include "src/loop/owner.h"
#include "src/loop/post.h"
#include "src/loop/timer.h"

/* The rooms of this floor and of the core lie beside the loop. */
struct loop_rooms {
    struct dgram_loop loop; /* first, so that the two convert */
    struct agenda agenda;
    struct alarms alarms;
    struct io io;
    struct node sockets;
    struct timers timers;
    struct inbox inbox;
    struct embedding embedding;
    struct ownership ownership;
    struct choice choice;
    uint32_t slots, slot_size;
    bool free_requested; /* by a callback: the turn's end frees the loop */
};

static inline struct loop_rooms *rooms_of(struct dgram_loop *loop)
{
    return (struct loop_rooms *) loop;
}

/* dgram_loop_create() on another system and engine, for tests; NULL: as the options say. */
int dg_loop_create_on(const struct dgram_loop_options *options, const struct dg_system *system,
                      const struct backend *backend, struct dgram_loop **ret_loop);

/* Takes all rooms down; sockets and callbacks are gone. */
void dg_loop_forget(struct dgram_loop *loop, bool forked);

#endif
