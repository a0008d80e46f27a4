/* SPDX-License-Identifier: MIT */
/*
 * timer.c: timers in a binary heap of the loop.
 *
 * Owns the heap and every timer. Room in the heap is made when a timer is created, so that starting
 * one allocates nothing and cannot fail. Reads the clock itself on start, because the loop's `now`
 * may be a long callback old and a timer must never be early.
 */
#include <string.h>

#include "src/core.h"

static bool sooner(const struct dgram_timer *one, const struct dgram_timer *two)
{
    return one->deadline != two->deadline ? one->deadline < two->deadline : one->order < two->order;
}

static void heap_put(struct timers *timers, uint32_t index, struct dgram_timer *timer)
{
    timers->heap[index] = timer;
    timer->position = index + 1;
}

static void heap_up(struct timers *timers, uint32_t index, struct dgram_timer *timer)
{
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        if (!sooner(timer, timers->heap[parent])) {
            break;
        }
        heap_put(timers, index, timers->heap[parent]);
        index = parent;
    }
    heap_put(timers, index, timer);
}

static void heap_down(struct timers *timers, uint32_t index, struct dgram_timer *timer)
{
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= timers->count) {
            break;
        }
        if (child + 1 < timers->count && sooner(timers->heap[child + 1], timers->heap[child])) {
            child++;
        }
        if (!sooner(timers->heap[child], timer)) {
            break;
        }
        heap_put(timers, index, timers->heap[child]);
        index = child;
    }
    heap_put(timers, index, timer);
}

static void heap_insert(struct timers *timers, struct dgram_timer *timer)
{
    assert(timer->position == 0 && timers->count < timers->capacity);
    timer->order = timers->order++;
    timers->keeping += !timer->unreffed;
    heap_up(timers, timers->count++, timer);
}

static void heap_remove(struct timers *timers, struct dgram_timer *timer)
{
    assert(timer->position > 0 && timers->heap[timer->position - 1] == timer);
    uint32_t index = timer->position - 1;
    struct dgram_timer *last = timers->heap[--timers->count];
    timer->position = 0;
    timers->keeping -= !timer->unreffed;
    if (last == timer) {
        return;
    }
    if (index > 0 && sooner(last, timers->heap[(index - 1) / 2])) {
        heap_up(timers, index, last);
    } else {
        heap_down(timers, index, last);
    }
}

static int timer_check(const struct dgram_timer *timer)
{
    if (timer == NULL) {
        return DGRAM_ENULL;
    }
    return dg_loop_forked(timer->loop) ? DGRAM_EFORKED : 0;
}

static int heap_reserve(struct timers *timers)
{
    if (timers->total < timers->capacity) {
        return 0;
    }
    uint32_t capacity = array_doubled(timers->capacity, 16u);
    int code = array_grow(&timers->heap, timers->count, capacity);
    timers->capacity = code == 0 ? capacity : timers->capacity;
    return code;
}

int dgram_timer_create(struct dgram_loop *loop, dgram_timer_fn *fn, void *user,
                       struct dgram_timer **ret_timer)
{
    if (loop == NULL || fn == NULL || ret_timer == NULL) {
        return DGRAM_ENULL;
    }
    if (dg_loop_forked(loop)) {
        return DGRAM_EFORKED;
    }
    if (loop->freeing) {
        return DGRAM_ENOTRUNNING;
    }
    struct dgram_timer *timer = dg_allocate(sizeof(*timer));
    if (timer == NULL || heap_reserve(&loop->timers) < 0) {
        dg_release(timer);
        return -ENOMEM;
    }
    *timer = (struct dgram_timer){.loop = loop, .fn = fn, .user = user};
    node_init(&timer->all);
    node_prepend(&loop->timers.all, &timer->all);
    loop->timers.total++;
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
    if (timer->position > 0) {
        heap_remove(&loop->timers, timer);
    }
    timer->deadline = loop->system->now() + (uint64_t) delay_ns;
    timer->interval = (uint64_t) interval_ns;
    heap_insert(&loop->timers, timer);
    dg_loop_touch(loop); /* an embedded loop sets its alarm at the end of the turn that follows */
    return 0;
}

int dgram_timer_stop(struct dgram_timer *timer)
{
    int code = timer_check(timer);
    if (code == 0 && timer->position > 0) {
        heap_remove(&timer->loop->timers, timer);
    }
    return code;
}

static int timer_keep(struct dgram_timer *timer, bool keep)
{
    int code = timer_check(timer);
    if (code == 0 && timer->unreffed == keep) {
        timer->unreffed = !keep;
        if (timer->position > 0) {
            timer->loop->timers.keeping += keep ? 1u : -1u;
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
    if (timer == NULL || dg_loop_forked(timer->loop)) {
        return NULL;
    }
    struct timers *timers = &timer->loop->timers;
    if (timer->position > 0) {
        heap_remove(timers, timer);
    }
    node_remove(&timer->all);
    timers->total--;
    dg_release(timer);
    return NULL;
}

/* What is due now, and was started before now: a callback that starts a timer of no delay again and
 * again must not hold the turn for ever. */
void dg_timers_run(struct dgram_loop *loop)
{
    struct timers *timers = &loop->timers;
    uint64_t started_before = timers->order;
    while (timers->count > 0 && timers->heap[0]->deadline <= loop->now &&
           timers->heap[0]->order < started_before && !dg_loop_forked(loop)) {
        struct dgram_timer *timer = timers->heap[0];
        heap_remove(timers, timer);
        if (timer->interval > 0) {
            uint64_t late = loop->now - timer->deadline;
            timer->deadline += timer->interval * (late / timer->interval + 1);
            heap_insert(timers, timer);
        }
        timer->fn(timer, timer->user);
    }
}

uint64_t dg_timers_deadline(const struct timers *timers)
{
    return timers->count > 0 ? timers->heap[0]->deadline : UINT64_MAX;
}

void dg_timers_stop(struct dgram_loop *loop)
{
    struct timers *timers = &loop->timers;
    while (timers->count > 0) {
        heap_remove(timers, timers->heap[timers->count - 1]);
    }
}

void dg_timers_free(struct dgram_loop *loop)
{
    while (!node_alone(&loop->timers.all)) {
        dg_release(owner_of(node_take(&loop->timers.all), struct dgram_timer, all));
    }
    dg_release(loop->timers.heap);
    loop->timers = (struct timers){0};
}
