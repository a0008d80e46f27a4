/* SPDX-License-Identifier: MIT */
/*
 * world.c: the one world: its beginning and end, its allocator, its clock, and what tests see of
 * it.
 */
#include "tests/sim/world.h"

#include <stdlib.h>
#include <string.h>

#include "src/loop/loop.h"
#include "src/send/sender.h"

struct world sim_world;

uint64_t sim_now(void)
{
    return sim_world.now;
}

void sim_burn(uint64_t time_ns)
{
    sim_time_passes(sim_world.now + time_ns);
}

uint64_t sim_calls(void)
{
    return sim_world.waits;
}

uint64_t sim_relaxes(void)
{
    return sim_world.relaxes;
}

uint64_t sim_peeks(void)
{
    return sim_world.peeks;
}

int64_t sim_gathered(void)
{
    int64_t gathered = sim_world.gathered;
    sim_world.gathered = 0;
    return gathered;
}

static void *memory_allocate(size_t size)
{
    if (sim_chance(sim_world.faults.memory)) {
        sim_log("no memory", size, 0);
        return NULL;
    }
    void *memory = calloc(1, size);
    if (memory == NULL) {
        sim_give_up("the host has no memory");
    }
    sim_world.live++;
    return memory;
}

static void memory_release(void *memory)
{
    sim_world.live -= memory != NULL;
    free(memory);
}

void *sim_allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (memory == NULL) {
        sim_give_up("the host has no memory");
    }
    return memory;
}

void sim_time_passes(uint64_t to)
{
    sim_world.now = to > sim_world.now ? to : sim_world.now;
    sim_network_arrive();
}

void sim_time_passes_asleep(uint64_t to)
{
    uint64_t from = sim_world.now;
    sim_time_passes(to);
    sim_world.asleep += sim_world.now - from;
    sim_world.wakes++;
}

void sim_open(uint64_t seed, const struct sim_faults *faults, const struct sim_hooks *hooks)
{
    if (sim_world.exists) {
        sim_give_up("two worlds at a time");
    }
    memset(&sim_world, 0, sizeof(sim_world));
    sim_world.exists = true;
    sim_world.trace = getenv("DGRAM_SIM_TRACE") != NULL;
    sim_world.seed = seed;
    sim_world.random.state = seed ^ 0x5eed;
    sim_world.hash = 0xcbf29ce484222325u;
    sim_world.now = 1000000000u + sim_below(1000000000);
    sim_world.faults = *faults;
    sim_world.limit = DESCRIPTORS;
    sim_world.hooks = *hooks;
    sim_world.memory_before = dg_memory;
    dg_memory = (struct dg_memory_hooks){memory_allocate, memory_release};
}

void sim_close(void)
{
    sim_rule(sim_world.engines == NULL, "an engine is left open");
    for (int i = 0; i < DESCRIPTORS; i++) {
        struct descriptor *d = &sim_world.descriptors[i];
        sim_rule(d->kind == FREE, "a descriptor is left open");
        while (d->head != NULL) {
            free(sim_packet_pop(d));
        }
    }
    sim_rule(sim_world.live == 0, "memory is left allocated");
    while (sim_world.heap_count > 0) {
        free(sim_world.heap[--sim_world.heap_count]);
    }
    free(sim_world.heap);
    dg_memory = sim_world.memory_before;
    sim_world.exists = false;
}

int sim_loop_create(const struct dgram_loop_options *options, struct dgram_loop **ret_loop)
{
    return dg_loop_create_on(options, &sim_system, &sim_backend, ret_loop);
}

uint64_t sim_stalled(const struct dgram_loop *loop)
{
    return loop->outbox->stalled;
}

uint64_t sim_counted(uint32_t socket)
{
    return sim_world.counted[socket % SOCKETS_COUNTED];
}

uint32_t sim_last_socket(void)
{
    return sim_world.sockets;
}

struct sim_socket sim_look(uint32_t socket)
{
    struct sim_socket seen = {0};
    const struct descriptor *d = sim_socket_numbered(socket);
    if (d == NULL) {
        return seen;
    }
    seen.open = true;
    seen.has_data = d->head != NULL;
    seen.full = sim_world.now < d->full_until;
    seen.attached = d->attached != NULL;
    for (const struct engine *e = sim_world.engines; e != NULL && seen.attached; e = e->next) {
        for (const struct watching *w = e->watches; w != NULL; w = w->next) {
            bool own = w->watch->endpoint == d->attached->endpoint;
            seen.watched = seen.watched || (own && (w->queued || w->armed));
        }
        for (const struct attached *a = e->endpoints; a != NULL; a = a->next) {
            seen.slot_free = seen.slot_free || (a == d->attached && e->free_count > 0);
        }
    }
    seen.detaching = seen.attached && d->attached->detach_at != NEVER;
    seen.receiving = seen.attached && (d->attached->queued || d->attached->receiving);
    return seen;
}

uint32_t sim_slots_lent(void)
{
    uint32_t count = 0;
    for (const struct engine *e = sim_world.engines; e != NULL; e = e->next) {
        for (uint32_t i = 0; i < e->slots.count; i++) {
            count += e->states[i] == SLOT_LENT;
        }
    }
    return count;
}

uint32_t sim_lent(void)
{
    uint32_t count = 0;
    for (const struct engine *e = sim_world.engines; e != NULL; e = e->next) {
        for (const struct lent *l = e->lent; l != NULL; l = l->next) {
            count++;
        }
    }
    return count;
}

static bool anything_there(void)
{
    for (const struct engine *engine = sim_world.engines; engine != NULL; engine = engine->next) {
        if (sim_count_there(engine) > 0) {
            return true;
        }
    }
    return false;
}

bool sim_quiet(void)
{
    return !anything_there() && sim_due_next(false) == NEVER;
}

bool sim_readable(int fd)
{
    const struct descriptor *d = &sim_world.descriptors[(fd - DESCRIPTOR_FIRST) % DESCRIPTORS];
    switch (d->kind) {
    case WAKE:
        return d->signalled;
    case ALARM:
        return sim_world.now >= d->deadline;
    case ENGINE:
        return sim_count_there(d->engine) > 0;
    case GATHER:
        for (size_t i = 0; i < d->gathered_count; i++) {
            if (sim_readable(d->gathered[i])) {
                return true;
            }
        }
        return false;
    default:
        sim_rule(false, "a descriptor that nothing can be read from");
        return false;
    }
}

uint64_t sim_next_event(void)
{
    return sim_due_next(true);
}

bool sim_sleep(uint64_t until)
{
    uint64_t next = sim_due_next(true);
    if (next == NEVER && until == NEVER) {
        return false;
    }
    sim_time_passes_asleep(next < until ? next : until);
    return true;
}
