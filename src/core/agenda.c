/* SPDX-License-Identifier: MIT */
/* agenda.c: see agenda.h. */
#include "src/core/agenda.h"

#include "src/base/fork.h"
#include "src/base/list.h"

static uint32_t bit_of(enum phase phase)
{
    return UINT32_C(1) << phase;
}

void dg_agenda_open(struct agenda *agenda)
{
    agenda->fork_generation = dg_fork_generation;
    for (int phase = 0; phase < PHASES; phase++) {
        node_init(&agenda->phases[phase]);
    }
}

void dg_task_init(struct task *task, enum phase phase, void (*run)(struct task *task))
{
    node_init(&task->node);
    task->run = run;
    task->phase = phase;
}

void dg_agenda_add(struct agenda *agenda, struct task *task)
{
    if (node_alone(&task->node)) {
        node_append(&agenda->phases[task->phase], &task->node);
        agenda->due |= bit_of(task->phase);
    }
    agenda_wake(agenda);
}

void dg_agenda_drop(struct agenda *agenda, struct task *task)
{
    node_remove(&task->node);
    if (node_alone(&agenda->phases[task->phase])) {
        agenda->due &= ~bit_of(task->phase);
    }
}

void dg_agenda_run(struct agenda *agenda, enum phase phase)
{
    struct node list;
    node_take_all(&list, &agenda->phases[phase]);
    agenda->due &= ~bit_of(phase);
    while (!node_alone(&list) && !dg_forked(agenda->fork_generation)) {
        struct task *task = owner_of(node_take(&list), struct task, node);
        task->run(task);
    }
    while (!node_alone(&list)) { /* a child's: to be released with the loop */
        node_append(&agenda->phases[phase], node_take(&list));
        agenda->due |= bit_of(phase);
    }
}
