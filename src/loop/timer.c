/* SPDX-License-Identifier: MIT */
/* timer.c: see timer.h. */
#include "src/loop/timer.h"

#include <errno.h>

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/core/agenda.h"
#include "src/core/alarm.h"
#include "src/core/check.h"
#include "src/system.h"

struct dgram_timer {
    struct alarm alarm; /* first, so that the two convert */
    struct dgram_loop *loop;
    struct node all; /* the loop's */
    dgram_timer_fn *fn;
    void *user;
    uint64_t interval;
    bool unreffed;
};

static int timer_check(const struct dgram_timer *timer)
{
    if (timer == NULL) {
        return DGRAM_ENULL;
    }
    return loop_forked(timer->loop) ? DGRAM_EFORKED : 0;
}

static void timer_clear(struct dgram_timer *timer)
{
    if (alarm_is_set(&timer->alarm)) {
        dg_alarm_clear(timer->loop->alarms, &timer->alarm);
        timer->loop->timers->keeping -= !timer->unreffed;
    }
}

static void timer_set(struct dgram_timer *timer, uint64_t deadline)
{
    timer_clear(timer);
    dg_alarm_set(timer->loop->alarms, &timer->alarm, deadline);
    timer->loop->timers->keeping += !timer->unreffed;
}

static void timer_ring(struct alarm *alarm)
{
    struct dgram_timer *timer = (struct dgram_timer *) alarm;
    timer->loop->timers->keeping -= !timer->unreffed;
    if (timer->interval > 0) {
        uint64_t late = timer->loop->now - alarm->deadline;
        timer_set(timer, alarm->deadline + timer->interval * (late / timer->interval + 1));
    }
    timer->fn(timer, timer->user);
}

int dgram_timer_create(struct dgram_loop *loop, dgram_timer_fn *fn, void *user,
                       struct dgram_timer **ret_timer)
{
    if (loop == NULL || fn == NULL || ret_timer == NULL) {
        return DGRAM_ENULL;
    }
    if (loop_forked(loop)) {
        return DGRAM_EFORKED;
    }
    if (loop->freeing) {
        return DGRAM_ENOTRUNNING;
    }
    struct dgram_timer *timer = dg_allocate(sizeof(*timer));
    if (timer == NULL || dg_alarms_reserve(loop->alarms) < 0) {
        dg_release(timer);
        return -ENOMEM;
    }
    *timer = (struct dgram_timer){.alarm.run = timer_ring, .loop = loop, .fn = fn, .user = user};
    node_init(&timer->all);
    node_prepend(&loop->timers->all, &timer->all);
    *ret_timer = timer;
    return 0;
}

int dgram_timer_start(struct dgram_timer *timer, int64_t delay_ns, int64_t interval_ns)
{
    int code = timer_check(timer);
    if (code < 0) {
        return code;
    }
    if (delay_ns < 0 || interval_ns < 0) {
        return DGRAM_EBADTIME;
    }
    struct dgram_loop *loop = timer->loop;
    if (loop->freeing) {
        return DGRAM_ENOTRUNNING;
    }
    timer->interval = (uint64_t) interval_ns;
    timer_set(timer, loop->system->now() + (uint64_t) delay_ns);
    agenda_wake(
        loop->agenda); /* an embedded loop sets its alarm at the end of the turn that follows */
    return 0;
}

int dgram_timer_stop(struct dgram_timer *timer)
{
    int code = timer_check(timer);
    if (code == 0) {
        timer_clear(timer);
    }
    return code;
}

static int timer_keep(struct dgram_timer *timer, bool keep)
{
    int code = timer_check(timer);
    if (code == 0 && timer->unreffed == keep) {
        timer->unreffed = !keep;
        if (alarm_is_set(&timer->alarm)) {
            timer->loop->timers->keeping += keep ? 1u : -1u;
        }
    }
    return code;
}

int dgram_timer_ref(struct dgram_timer *timer)
{
    return timer_keep(timer, true);
}

int dgram_timer_unref(struct dgram_timer *timer)
{
    return timer_keep(timer, false);
}

struct dgram_timer *dgram_timer_free(struct dgram_timer *timer)
{
    if (timer == NULL || loop_forked(timer->loop)) {
        return NULL;
    }
    timer_clear(timer);
    node_remove(&timer->all);
    dg_alarms_release(timer->loop->alarms);
    dg_release(timer);
    return NULL;
}

void dg_timers_stop(struct dgram_loop *loop)
{
    struct node *list = &loop->timers->all;
    for (struct node *node = list->next; node != list; node = node->next) {
        timer_clear(owner_of(node, struct dgram_timer, all));
    }
}

void dg_timers_free(struct dgram_loop *loop)
{
    while (!node_alone(&loop->timers->all)) {
        dg_release(owner_of(node_take(&loop->timers->all), struct dgram_timer, all));
    }
}
