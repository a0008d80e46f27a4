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

struct dgram_loop {
    unsigned fork_generation; /* see base/fork.h */
    bool in_turn;
    bool freeing; /* nothing new begins */
    uint64_t now; /* read when a turn begins, and after each wait */
    uint64_t turns;
    uint32_t keeping;         /* sockets that keep the loop alive */
    uint32_t buffers_changed; /* how often a socket came, went, or changed its receive buffer */

    const struct dg_system *system;
    struct agenda *agenda; /* work that is due now, */
    struct alarms *alarms; /* and later */
    struct io *io;         /* the engine, its records and watches */
    struct errors *errors; /* core/errors.c */

    struct node *sockets;        /* socket/: the newest first */
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
