/* SPDX-License-Identifier: MIT */
/*
 * core.h: the directory of a loop: the members that its modules share, and where each keeps its
 * own.
 *
 * It has no functions. A room is a struct that only its own folder opens; whoever is below tells
 * whoever is above by a task, an alarm, a watch or a function that was handed in, never by name.
 */
#ifndef DGRAM_CORE_CORE_H
#define DGRAM_CORE_CORE_H

#include <dgram.h>

#include "src/core/agenda.h"
#include "src/core/alarm.h"
#include "src/core/errors.h"
#include "src/core/io.h"
#include "src/system.h"

struct dgram_loop {
    const struct dg_system *system;
    uint64_t now; /* read when a turn begins, and after each wait */
    uint64_t turns;
    bool in_turn;
    bool freeing;         /* nothing new begins */
    struct agenda agenda; /* work that is due now, */
    struct alarms alarms; /* and later */
    struct io io;         /* the engine, its records and watches */

    struct node sockets;      /* the newest first */
    uint32_t keeping;         /* sockets that keep the loop alive */
    uint32_t buffers_changed; /* how often a socket came, went, or changed its receive buffer */

    struct errors *errors;       /* core/errors.c */
    struct names *names;         /* names/ */
    struct outbox *outbox;       /* send/ */
    struct buffers *buffers;     /* send/buffer.c */
    struct inlet *inlet;         /* receive/ */
    unsigned char *pieces;       /* socket/many.c: pieces become one payload here */
    struct timers *timers;       /* loop/timer.c */
    struct inbox *inbox;         /* loop/post.c */
    struct embedding *embedding; /* loop/embed.c */
    struct waiting *waiting;     /* loop/wait.c */
    struct ownership *ownership; /* loop/owner.c */
    struct choice *choice;       /* loop/engine.c */
};

#endif
