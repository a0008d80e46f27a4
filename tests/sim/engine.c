/* SPDX-License-Identifier: MIT */
/*
 * engine.c: the engine: receives, watches, waits. What it may do late has a due time, or is there
 * and left for later by chance; a wait that would sleep takes it nevertheless.
 */
#include "tests/sim/world.h"

#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* ---- receiving ----------------------------------------------------------------------------- */

static void append_stopped(struct engine *engine, struct attached *a, int result)
{
    a->receiving = a->queued = false;
    a->stop_at = NEVER;
    sim_log("stopped", a->fd < 0 ? 0 : sim_descriptor_of(a->fd, SOCKET)->number,
            (uint64_t) -result);
    *completions_append(engine->completions) =
        (struct completion){.kind = COMPLETION_STOPPED, .endpoint = a->endpoint, .result = result};
}

static void append_detached(struct engine *engine, struct attached *a)
{
    struct attached **link = &engine->endpoints;
    while (*link != a) {
        link = &(*link)->next;
    }
    *link = a->next;
    struct descriptor *d = sim_descriptor_of(a->fd, SOCKET);
    d->attached = NULL;
    sim_log("detached", d->number, 0);
    a->endpoint->state = NULL;
    *completions_append(engine->completions) =
        (struct completion){.kind = COMPLETION_DETACHED, .endpoint = a->endpoint};
    dg_release(a);
}

static uint32_t slot_take(struct engine *engine)
{
    uint32_t skip = sim_below(engine->free_count), slot = 0;
    while (engine->states[slot] != SLOT_FREE || skip-- > 0) {
        slot++;
    }
    engine->states[slot] = SLOT_LENT;
    engine->free_count--;
    return slot;
}

/* Whether the next packet may join a train of `size` bytes, as a receive offload would do it. */
static bool may_merge(const struct descriptor *d, const struct packet *first, uint32_t size,
                      uint32_t segment, uint32_t room)
{
    const struct packet *next = d->head;
    return next != NULL && next->segment == 0 && next->source == first->source && next->size > 0 &&
           next->size <= segment && size % segment == 0 && size + next->size <= room &&
           size / segment < 64 && sim_chance(sim_world.faults.merge);
}

/* Fills the payload of a slot; returns the bytes that were there, which may not all have fitted. */
static uint32_t payload_write(struct descriptor *d, struct packet *packet, unsigned char *payload,
                              uint32_t room, uint32_t *ret_segment)
{
    uint32_t size = packet->size, segment = packet->segment;
    memcpy(payload, packet->bytes, size < room ? size : room);
    if (d->gro && size > 0 && size <= room) {
        uint32_t step = segment > 0 ? segment : size;
        while (may_merge(d, packet, size, step, room < 65535 ? room : 65535)) {
            struct packet *next = sim_packet_pop(d);
            memcpy(payload + size, next->bytes, next->size);
            size += next->size;
            segment = step;
            free(next);
        }
    }
    *ret_segment = segment;
    return size;
}

uint32_t sim_control_write(unsigned char *control, uint32_t segment)
{
    struct msghdr header = {.msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(int))};
    int value = (int) segment;
    if (segment == 0) {
        return 0;
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SIM_SOL_UDP;
    c->cmsg_type = SIM_UDP_GRO;
    c->cmsg_len = CMSG_LEN(sizeof(value));
    memcpy(CMSG_DATA(c), &value, sizeof(value));
    return CMSG_SPACE(sizeof(value));
}

static void append_received(struct engine *engine, struct attached *a)
{
    struct descriptor *d = sim_descriptor_of(a->fd, SOCKET);
    struct packet *packet = sim_packet_pop(d);
    uint32_t slot = slot_take(engine), segment;
    uint32_t before = SLOT_CONTROL_AT + a->endpoint->control_size;
    uint32_t room = engine->slots.stride - before;
    unsigned char *base = engine->slots.memory + (size_t) slot * engine->slots.stride;
    uint32_t size = payload_write(d, packet, base + before, room, &segment);
    uint32_t present = size < room ? size : room;
    memcpy(base + SLOT_NAME_AT, &packet->from.u, packet->from.size);
    engine->used[slot] = before + present;
    sim_log("received", ((uint64_t) d->number << 32) + size, slot);
    if (sim_world.hooks.handed != NULL) {
        sim_world.hooks.handed(sim_world.hooks.user, d->number, &packet->from, base + before,
                               present, size, segment);
    }
    *completions_append(engine->completions) = (struct completion){
        .kind = COMPLETION_RECEIVED,
        .truncated = present < size,
        .name_size = (uint16_t) packet->from.size,
        .slot = slot,
        .size = present,
        .real_size = size,
        .control_size = sim_control_write(base + SLOT_CONTROL_AT, segment),
        .endpoint = a->endpoint,
        .data = base + before,
        .name = base + SLOT_NAME_AT,
        .control = base + SLOT_CONTROL_AT,
    };
    free(packet);
}

/* ---- what is there ------------------------------------------------------------------------- */

enum step { STEP_NONE, STEP_RECEIVE, STEP_STARVE, STEP_STOP, STEP_DETACH };

static enum step attached_step(const struct engine *engine, const struct attached *a)
{
    if (a->detach_at != NEVER) {
        if (sim_world.now < a->detach_at) {
            return STEP_NONE;
        }
        return a->receiving && !a->silent ? STEP_STOP : STEP_DETACH;
    }
    if (!a->receiving) {
        return STEP_NONE;
    }
    if (sim_world.now >= a->stop_at) {
        return STEP_STOP;
    }
    bool has_data = sim_descriptor_of(a->fd, SOCKET)->head != NULL;
    if (engine->free_count > 0) {
        return has_data ? STEP_RECEIVE : STEP_NONE;
    }
    return has_data || sim_world.faults.starves ? STEP_STARVE : STEP_NONE;
}

/* What poll(2) would say to a watch; 0 if nothing. */
static short watch_revents(const struct watching *w)
{
    int index = w->watch->fd - DESCRIPTOR_FIRST;
    if (!w->armed || index < 0 || index >= DESCRIPTORS) {
        return 0;
    }
    const struct descriptor *d = &sim_world.descriptors[index];
    switch (d->kind) {
    case SOCKET:
        if (d->pending_error != 0) {
            return POLLERR;
        }
        if (w->watch->events == POLLIN) {
            return d->guest && d->head != NULL ? POLLIN : 0;
        }
        return sim_world.now >= d->full_until ? POLLOUT : 0;
    case WAKE:
        return d->signalled ? POLLIN : 0;
    case ALARM:
        return sim_world.now >= d->deadline ? POLLIN : 0;
    default:
        return 0;
    }
}

uint32_t sim_count_there(const struct engine *engine)
{
    uint32_t count = 0;
    for (const struct attached *a = engine->endpoints; a != NULL; a = a->next) {
        count += attached_step(engine, a) != STEP_NONE;
    }
    for (const struct watching *w = engine->watches; w != NULL; w = w->next) {
        count += watch_revents(w) != 0;
    }
    for (const struct lent *l = engine->lent; l != NULL; l = l->next) {
        count += sim_world.now >= l->until;
    }
    return count;
}

static void attached_go(struct engine *engine, struct attached *a)
{
    switch (attached_step(engine, a)) {
    case STEP_RECEIVE:
        append_received(engine, a);
        break;
    case STEP_STARVE:
        append_stopped(engine, a, -ENOBUFS);
        break;
    case STEP_STOP:
        append_stopped(engine, a, 0);
        break;
    case STEP_DETACH:
        append_detached(engine, a);
        break;
    case STEP_NONE:
        break;
    }
}

static void watch_go(struct engine *engine, struct watching *w)
{
    short revents = watch_revents(w);
    w->armed = false;
    sim_log("ready", (uint64_t) w->watch->fd, (uint64_t) revents);
    *completions_append(engine->completions) =
        (struct completion){.kind = COMPLETION_READY, .watch = w->watch, .result = revents};
}

static void go(struct engine *engine, uint32_t which)
{
    for (struct attached *a = engine->endpoints; a != NULL; a = a->next) {
        if (attached_step(engine, a) != STEP_NONE && which-- == 0) {
            attached_go(engine, a);
            return;
        }
    }
    for (struct watching *w = engine->watches; w != NULL; w = w->next) {
        if (watch_revents(w) != 0 && which-- == 0) {
            watch_go(engine, w);
            return;
        }
    }
    for (struct lent **link = &engine->lent; *link != NULL; link = &(*link)->next) {
        if (sim_world.now >= (*link)->until && which-- == 0) {
            sim_loan_end(engine, link);
            return;
        }
    }
}

/* A receive ends by itself: for no reason, for want of slots, or with an error. */
static void stop_some(struct engine *engine)
{
    static const int errors[] = {-ENETDOWN, -ECONNREFUSED, -EIO, -ENOMEM};
    for (struct attached *a = engine->endpoints; a != NULL; a = a->next) {
        if (!a->receiving || a->detach_at != NEVER || !sim_chance(sim_world.faults.stop)) {
            continue;
        }
        int result = engine->free_count == 0 && sim_chance(700) ? -ENOBUFS : 0;
        if (result == 0 && sim_chance(sim_world.faults.stop_error)) {
            result = errors[sim_below(4)];
        }
        append_stopped(engine, a, result);
    }
}

/* Appends what is there, in any order; not all of it unless `all`. */
static void collect(struct engine *engine, bool all)
{
    stop_some(engine);
    for (uint32_t count; (count = sim_count_there(engine)) > 0;) {
        if (!all && sim_chance(sim_world.faults.postpone)) {
            return;
        }
        go(engine, sim_below(count));
    }
}

uint64_t sim_due_next(bool with_alarms)
{
    uint64_t next = sim_world.heap_count > 0 ? sim_world.heap[0]->at : NEVER;
    for (int i = 0; i < DESCRIPTORS; i++) {
        const struct descriptor *d = &sim_world.descriptors[i];
        if (d->kind == SOCKET && d->full_until > sim_world.now && d->full_until < next) {
            next = d->full_until;
        }
        if (d->kind == ALARM && with_alarms && d->deadline > sim_world.now && d->deadline < next) {
            next = d->deadline;
        }
    }
    for (const struct engine *engine = sim_world.engines; engine != NULL; engine = engine->next) {
        for (const struct attached *a = engine->endpoints; a != NULL; a = a->next) {
            bool detaching = a->detach_at != NEVER;
            uint64_t due = detaching ? a->detach_at : a->receiving ? a->stop_at : NEVER;
            next = due > sim_world.now && due < next ? due : next;
        }
        for (const struct lent *l = engine->lent; l != NULL; l = l->next) {
            next = l->until > sim_world.now && l->until < next ? l->until : next;
        }
    }
    return next;
}

/* ---- waiting ------------------------------------------------------------------------------- */

static void sleep_until(struct engine *engine, uint64_t until)
{
    while (engine->completions->count == 0) {
        if (sim_count_there(engine) > 0) {
            collect(engine, true);
            return;
        }
        uint64_t next = sim_due_next(true);
        if (sim_world.hooks.sleeping != NULL) {
            sim_world.hooks.sleeping(sim_world.hooks.user, until);
        }
        if (sim_count_there(engine) > 0) {
            continue;
        }
        if (next == NEVER && until == NEVER) {
            sim_give_up("the loop sleeps, and nothing will ever wake it");
        }
        if (until <= next) {
            sim_time_passes_asleep(until);
            return;
        }
        sim_time_passes_asleep(next);
    }
}

static int engine_wait(struct engine *engine, int64_t timeout_ns, bool gathers)
{
    uint64_t until = timeout_ns < 0 ? NEVER : sim_world.now + (uint64_t) timeout_ns;
    sim_rule(!gathers || timeout_ns > 0, "wait() gathers without a limit");
    sim_world.gathered = gathers ? timeout_ns : sim_world.gathered;
    if (++sim_world.waits > WAITS_MAX) {
        sim_give_up("the loop spins");
    }
    int code = sim_submit(engine);
    bool failed = engine->failed;
    engine->failed = false;
    if (code < 0) {
        return code;
    }
    sim_log("wait", (uint64_t) timeout_ns, engine->completions->count);
    sim_time_passes(sim_world.now + 1 + sim_below(1000));
    if (engine->completions->count == 0 && !failed && gathers &&
        !sim_chance(sim_world.faults.early)) {
        sim_time_passes(until);
        timeout_ns = 0;
    }
    collect(engine, false);
    if (timeout_ns == 0 || engine->completions->count > 0 || failed) {
        return 0;
    }
    if (sim_chance(sim_world.faults.early)) {
        uint64_t left = until > sim_world.now ? until - sim_world.now : 0;
        sim_time_passes(sim_world.now + sim_below(left < 50000 ? (uint32_t) left + 1 : 50000));
        return 0;
    }
    sleep_until(engine, until);
    return 0;
}

/* Datagrams only, and not always those. A look takes time, or a busy loop would look for ever. */
static int engine_peek(struct engine *engine)
{
    sim_rule(!engine->sent, "peek() between send() and flush()");
    sim_world.peeks++;
    sim_world.now += 1 + sim_below(2000);
    sim_network_arrive();
    for (struct attached *a = engine->endpoints; a != NULL; a = a->next) {
        if (attached_step(engine, a) == STEP_RECEIVE && !sim_chance(sim_world.faults.postpone)) {
            append_received(engine, a);
        }
    }
    return sim_world.broken;
}

static int engine_flush(struct engine *engine)
{
    if (++sim_world.waits > WAITS_MAX) {
        sim_give_up("the loop spins");
    }
    int code = sim_submit(engine);
    engine->failed = false;
    if (code == 0 && sim_chance(sim_world.faults.in_flush)) {
        collect(engine, false);
    }
    return code;
}

/* ---- the rest of the boundary -------------------------------------------------------------- */

static int engine_open(const struct engine_config *config, struct engine **ret_engine,
                       const char **ret_call)
{
    struct engine *engine =
        sim_chance(sim_world.faults.setup) ? NULL : dg_allocate(sizeof(*engine));
    if (engine == NULL) {
        *ret_call = "sim";
        return -ENOMEM;
    }
    engine->completions = config->completions;
    engine->fd = -1;
    engine->next = sim_world.engines;
    sim_world.engines = engine;
    *ret_engine = engine;
    return 0;
}

static void engine_close(struct engine *engine, bool forked)
{
    struct engine **link = &sim_world.engines;
    (void) forked;
    while (*link != engine) {
        link = &(*link)->next;
    }
    *link = engine->next;
    for (struct attached *a = engine->endpoints, *next; a != NULL; a = next) {
        next = a->next;
        sim_rule(sim_world.broken < 0, "the engine is closed before a socket is detached");
        if (a->fd >= 0) {
            sim_descriptor_of(a->fd, SOCKET)->attached = NULL;
        }
        dg_release(a);
    }
    for (struct watching *w = engine->watches, *next; w != NULL; w = next) {
        next = w->next;
        dg_release(w);
    }
    while (engine->lent != NULL) { /* the memory is unmapped, but for the network it is there */
        struct lent *lent = engine->lent;
        engine->lent = lent->next;
        free(lent);
    }
    if (engine->fd >= 0) {
        sim_world.descriptors[engine->fd - DESCRIPTOR_FIRST] = (struct descriptor){.kind = FREE};
    }
    dg_release(engine->states);
    dg_release(engine->used);
    dg_release(engine);
}

static int engine_attach(struct engine *engine, struct endpoint *endpoint)
{
    struct descriptor *d = sim_descriptor_of(endpoint->fd, SOCKET);
    struct attached *a = sim_chance(sim_world.faults.setup) ? NULL : dg_allocate(sizeof(*a));
    if (a == NULL) {
        return -ENOMEM;
    }
    sim_rule(endpoint->state == NULL && d->attached == NULL, "attach() of what is attached");
    sim_rule(endpoint->control_size % 8 == 0 &&
                 endpoint->control_size <= SLOT_HEADROOM - SLOT_CONTROL_AT,
             "a control size that no slot has room for");
    a->endpoint = endpoint;
    a->fd = endpoint->fd;
    a->stop_at = a->detach_at = NEVER;
    struct attached **link = &engine->endpoints;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = a;
    d->attached = a;
    endpoint->state = a;
    return 0;
}

static struct attached *attached_of(struct endpoint *endpoint)
{
    struct attached *a = endpoint->state;
    if (a == NULL || a->endpoint != endpoint) {
        sim_give_up("an endpoint that is not attached");
    }
    sim_rule(a->detach_at == NEVER, "a call for an endpoint after its detach()");
    return a;
}

static uint64_t some_time_later(uint32_t permille)
{
    return sim_world.now + (sim_chance(permille) ? sim_below(sim_world.faults.late_ns) : 0);
}

static void engine_detach(struct engine *engine, struct endpoint *endpoint)
{
    struct attached *a = attached_of(endpoint);
    for (const struct watching *w = engine->watches; w != NULL; w = w->next) {
        sim_rule(w->watch->endpoint != endpoint, "detach() before unwatch()");
    }
    if (a->receiving && sim_chance(sim_world.faults.postpone)) { /* what was on its way */
        while (sim_descriptor_of(a->fd, SOCKET)->head != NULL && engine->free_count > 0) {
            append_received(engine, a);
        }
    }
    a->queued = false; /* nobody knows of it yet */
    a->silent = sim_chance(sim_world.faults.stop_silent);
    a->detach_at = some_time_later(1000);
}

static int engine_provide(struct engine *engine, const struct slots *slots, const char **ret_call)
{
    sim_rule(engine->states == NULL, "provide() twice");
    unsigned char *states = sim_chance(sim_world.faults.setup) ? NULL : dg_allocate(slots->count);
    uint32_t *used = states == NULL ? NULL : dg_allocate(slots->count * sizeof(*used));
    if (used == NULL) {
        dg_release(states);
        *ret_call = "sim";
        return -ENOMEM;
    }
    engine->states = states;
    engine->used = used;
    engine->slots = *slots;
    engine->free_count = slots->count;
    return 0;
}

static void engine_recv_start(struct engine *engine, struct endpoint *endpoint)
{
    struct attached *a = attached_of(endpoint);
    sim_rule(engine->states != NULL, "recv_start() before provide()");
    sim_rule(!a->queued && !a->receiving, "recv_start() before STOPPED");
    a->stop_at = NEVER;
    a->queued = sim_world.faults.deferred;
    a->receiving = !a->queued;
}

static void engine_recv_stop(struct engine *engine, struct endpoint *endpoint)
{
    struct attached *a = attached_of(endpoint);
    sim_rule(a->stop_at == NEVER, "recv_stop() twice");
    if (a->queued && sim_chance(500)) {
        append_stopped(engine, a, 0); /* taken back before anyone knew of it */
    } else if (a->queued || a->receiving) {
        a->receiving = true;
        a->queued = false;
        a->stop_at = some_time_later(sim_world.faults.stop_late);
    }
}

/* What a program that kept a message without retaining it would see. */
static void slot_spoil(const struct engine *engine, uint32_t slot)
{
    memset(engine->slots.memory + (size_t) slot * engine->slots.stride, 0xdb, engine->used[slot]);
}

static void engine_recycle(struct engine *engine, uint32_t slot)
{
    bool lent = slot < engine->slots.count && engine->states[slot] == SLOT_LENT;
    sim_rule(lent, "recycle() of a slot that is not lent");
    if (lent) {
        slot_spoil(engine, slot);
        engine->states[slot] = sim_world.faults.deferred ? SLOT_RETURNED : SLOT_FREE;
        engine->free_count += !sim_world.faults.deferred;
    }
}

static int engine_watch(struct engine *engine, struct watch *watch)
{
    struct watching *w = watch->state;
    if (w == NULL) {
        w = sim_chance(sim_world.faults.setup) ? NULL : dg_allocate(sizeof(*w));
        if (w == NULL) {
            return -ENOMEM;
        }
        w->watch = watch;
        w->next = engine->watches;
        engine->watches = w;
        watch->state = w;
    }
    sim_rule(w->watch == watch && !w->queued && !w->armed, "watch() of what is armed");
    w->queued = sim_world.faults.deferred;
    w->armed = !w->queued;
    return 0;
}

static void engine_unwatch(struct engine *engine, struct watch *watch)
{
    struct watching **link = &engine->watches;
    while (*link != NULL && (*link)->watch != watch) {
        link = &(*link)->next;
    }
    sim_rule(*link != NULL && watch->state == *link, "unwatch() of what is not watched");
    struct watching *w = *link;
    if (w != NULL) {
        *link = w->next;
        watch->state = NULL;
        dg_release(w);
    }
}

static int engine_fd(struct engine *engine)
{
    if (engine->fd < 0) {
        engine->fd =
            sim_chance(sim_world.faults.no_pollable) ? -ENOTSUP : sim_descriptor_open(ENGINE);
        if (engine->fd < 0) {
            int code = engine->fd;
            engine->fd = -1;
            return code;
        }
        sim_descriptor_of(engine->fd, ENGINE)->engine = engine;
    }
    return engine->fd;
}

const struct backend sim_backend = {
    .name = "sim",
    .open = engine_open,
    .close = engine_close,
    .attach = engine_attach,
    .detach = engine_detach,
    .provide = engine_provide,
    .recv_start = engine_recv_start,
    .recv_stop = engine_recv_stop,
    .recycle = engine_recycle,
    .send = sim_engine_send,
    .lend = sim_engine_lend,
    .reclaim = sim_engine_reclaim,
    .flush = engine_flush,
    .watch = engine_watch,
    .unwatch = engine_unwatch,
    .wait = engine_wait,
    .peek = engine_peek,
    .fd = engine_fd,
};
