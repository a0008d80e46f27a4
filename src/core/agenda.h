/* SPDX-License-Identifier: MIT */
/*
 * agenda.h: work that is due now, by the phases of a turn.
 *
 * Owns the lists of tasks. A task lies in the object that it is about, so that adding one cannot
 * fail. The agenda knows nobody: a module adds its task, and the turn runs the phases in order
 * without knowing whose tasks they are.
 */
#ifndef DGRAM_CORE_AGENDA_H
#define DGRAM_CORE_AGENDA_H

#include <stdbool.h>
#include <stdint.h>

#include "src/base/list.h"

/* In the order of a turn. */
enum phase {
    PHASE_ENDING,  /* a step of sockets that deliver the last datagrams */
    PHASE_PREPARE, /* binds and closes */
    PHASE_RECEIVE, /* receives start and stop; no reason for a loop to live */
    PHASE_EVENTS,  /* `listening` and `drain`; the phases before this one end before the wait */
    PHASE_NAMES,   /* questions and answers */
    PHASE_SENT,    /* callbacks of sends */
    PHASE_IDLE,    /* of buffers */
    PHASE_ERRORS,
    PHASE_CLOSED, /* frees sockets: nothing names them any more */
    PHASES
};

struct task {
    struct node node;
    void (*run)(struct task *task);
    enum phase phase;
};

struct agenda {
    uint32_t due; /* phases that have tasks: bit 1 << phase */
    unsigned fork_generation;
    struct node phases[PHASES];
    /* Work came up, perhaps outside of a turn. NULL: nobody sleeps elsewhere. */
    void (*kick)(struct agenda *agenda);
};

void dg_agenda_open(struct agenda *agenda);

void dg_task_init(struct task *task, enum phase phase, void (*run)(struct task *task));

/* Adds the task, unless it is there already. */
void dg_agenda_add(struct agenda *agenda, struct task *task);
/* Takes it back, if it is there. */
void dg_agenda_drop(struct agenda *agenda, struct task *task);

static inline bool task_is_due(const struct task *task)
{
    return !node_alone(&task->node);
}

/* Runs the tasks of a phase that are there now; those that are added meanwhile wait for the next
 * time. Stops in a forked child. */
void dg_agenda_run(struct agenda *agenda, enum phase phase);

/* The same for a phase that is rarely due, without a call if it is not. */
static inline void agenda_run(struct agenda *agenda, enum phase phase)
{
    if (agenda->due & (UINT32_C(1) << phase)) {
        dg_agenda_run(agenda, phase);
    }
}

/* There is work that is no task: a queued send, a started timer. */
static inline void agenda_wake(struct agenda *agenda)
{
    if (agenda->kick != NULL) {
        agenda->kick(agenda);
    }
}

#endif
