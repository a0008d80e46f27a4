/* SPDX-License-Identifier: MIT */
/* alarm.c: see alarm.h. */
#include "src/core/alarm.h"

#include <assert.h>

#include "src/base/array.h"
#include "src/base/fork.h"

static bool sooner(const struct alarm *one, const struct alarm *two)
{
    return one->deadline != two->deadline ? one->deadline < two->deadline : one->order < two->order;
}

static void heap_put(struct alarms *alarms, uint32_t index, struct alarm *alarm)
{
    alarms->heap[index] = alarm;
    alarm->position = index + 1;
}

static void heap_up(struct alarms *alarms, uint32_t index, struct alarm *alarm)
{
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        if (!sooner(alarm, alarms->heap[parent])) {
            break;
        }
        heap_put(alarms, index, alarms->heap[parent]);
        index = parent;
    }
    heap_put(alarms, index, alarm);
}

static void heap_down(struct alarms *alarms, uint32_t index, struct alarm *alarm)
{
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= alarms->count) {
            break;
        }
        if (child + 1 < alarms->count && sooner(alarms->heap[child + 1], alarms->heap[child])) {
            child++;
        }
        if (!sooner(alarms->heap[child], alarm)) {
            break;
        }
        heap_put(alarms, index, alarms->heap[child]);
        index = child;
    }
    heap_put(alarms, index, alarm);
}

int dg_alarms_reserve(struct alarms *alarms)
{
    if (alarms->reserved == alarms->capacity) {
        uint32_t capacity = array_doubled(alarms->capacity, 16u);
        int code = array_grow(&alarms->heap, alarms->count, capacity);
        if (code < 0) {
            return code;
        }
        alarms->capacity = capacity;
    }
    alarms->reserved++;
    return 0;
}

void dg_alarms_release(struct alarms *alarms)
{
    assert(alarms->reserved > alarms->count);
    alarms->reserved--;
}

void dg_alarms_close(struct alarms *alarms)
{
    dg_release(alarms->heap);
    *alarms = (struct alarms){0};
}

void dg_alarm_set(struct alarms *alarms, struct alarm *alarm, uint64_t deadline)
{
    dg_alarm_clear(alarms, alarm);
    assert(alarms->count < alarms->reserved);
    alarm->deadline = deadline;
    alarm->order = alarms->order++;
    heap_up(alarms, alarms->count++, alarm);
}

void dg_alarm_clear(struct alarms *alarms, struct alarm *alarm)
{
    if (!alarm_is_set(alarm)) {
        return;
    }
    uint32_t index = alarm->position - 1;
    assert(alarms->heap[index] == alarm);
    struct alarm *last = alarms->heap[--alarms->count];
    alarm->position = 0;
    if (last == alarm) {
        return;
    }
    if (index > 0 && sooner(last, alarms->heap[(index - 1) / 2])) {
        heap_up(alarms, index, last);
    } else {
        heap_down(alarms, index, last);
    }
}

void dg_alarms_run(struct alarms *alarms, uint64_t now)
{
    uint64_t set_before = alarms->order;
    while (alarms->count > 0 && alarms->heap[0]->deadline <= now &&
           alarms->heap[0]->order < set_before && !dg_forked(alarms->fork_generation)) {
        struct alarm *alarm = alarms->heap[0];
        dg_alarm_clear(alarms, alarm);
        alarm->run(alarm);
    }
}
