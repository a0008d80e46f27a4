/* SPDX-License-Identifier: MIT */
/*
 * alarm.h: work that is due later, by deadline.
 *
 * Owns a binary heap. An alarm lies in the object that it is about. Room in the heap is reserved
 * when that object is made, so that setting an alarm allocates nothing and cannot fail. It never
 * reads the clock.
 */
#ifndef DGRAM_CORE_ALARM_H
#define DGRAM_CORE_ALARM_H

#include <stdbool.h>
#include <stdint.h>

struct alarm {
    uint64_t deadline, order;
    uint32_t position; /* in the heap, plus one; 0: not set */
    void (*run)(struct alarm *alarm);
};

struct alarms {
    struct alarm **heap;
    uint32_t count, capacity, reserved;
    uint64_t order; /* equal deadlines ring in the order in which they were set */
    unsigned fork_generation;
};

/* Room for one alarm more: 0 or -ENOMEM; and one less. */
int dg_alarms_reserve(struct alarms *alarms);
void dg_alarms_release(struct alarms *alarms);
void dg_alarms_close(struct alarms *alarms);

static inline bool alarm_is_set(const struct alarm *alarm)
{
    return alarm->position > 0;
}

/* Sets the alarm, or sets it anew. */
void dg_alarm_set(struct alarms *alarms, struct alarm *alarm, uint64_t deadline);
void dg_alarm_clear(struct alarms *alarms, struct alarm *alarm);

/* The first deadline; UINT64_MAX: none. */
static inline uint64_t alarms_next(const struct alarms *alarms)
{
    return alarms->count > 0 ? alarms->heap[0]->deadline : UINT64_MAX;
}

/* Runs the alarms that are due at `now`. An alarm that is set meanwhile waits for the next time: a
 * callback that starts a timer of no delay again and again must not hold the turn for ever. */
void dg_alarms_run(struct alarms *alarms, uint64_t now);

#endif
