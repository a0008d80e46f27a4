/* SPDX-License-Identifier: MIT */
/*
 * owner.h: the thread that a loop belongs to, and the fate of the loop when that thread ends.
 *
 * Owns the numbers of threads, each given once: a pthread_t is given to the next thread as soon as
 * its own has ended. Owns the list of loops that have an owner, behind a mutex, since the thread
 * that frees a loop may be another one. Calls no callback.
 */
#ifndef DGRAM_LOOP_OWNER_H
#define DGRAM_LOOP_OWNER_H

#include "src/base/list.h"
#include "src/core/core.h"

struct ownership {
    struct dgram_loop *loop;
    uint64_t owner;    /* the number of the thread of the first turn; 0: there was none yet */
    bool attended;     /* in the list of loops whose owner is to be looked after when it ends */
    struct node owned; /* in that list */
    int cancel_state;  /* of the thread, while it is in a turn: as the program had set it */
};

void dg_owners_open(void);
/* Whether the loop belongs to another thread than this one. */
bool dg_owner_is_other(const struct dgram_loop *loop);
/* The loop belongs to this thread, at whose end the engine is put to rest. */
void dg_owner_attend(struct dgram_loop *loop);
/* The loop is being freed: its owner has nothing to do with it any more. */
void dg_owner_leave(struct dgram_loop *loop);

#endif
