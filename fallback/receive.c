/* SPDX-License-Identifier: MIT */
/*
 * receive.c: datagrams from the kernel into slots.
 *
 * Owns the free slots. Never waits: poll.c says when an endpoint is ready.
 *
 * An endpoint is ready, its receive fills free slots, a RECEIVED hands each slot to the core, and
 * recycle() brings the slot back.
 */
#include "fallback/receive.h"

#include "src/base/memory.h"

#include "fallback/endpoint.h"
#include "fallback/interest.h"
#include "fallback/slot.h"

int dg_poll_provide(struct engine *engine, const struct slots *slots, const char **ret_call)
{
    assert(engine->free == NULL && slots->count > 0 && slots->stride > SLOT_HEADROOM);
    engine->free = dg_allocate(slots->count * sizeof *engine->free);
    engine->taken = dg_allocate(slots->count);
    if (engine->free == NULL || engine->taken == NULL) {
        dg_release(engine->free);
        dg_release(engine->taken);
        engine->free = NULL;
        engine->taken = NULL;
        *ret_call = "malloc";
        return -ENOMEM;
    }
    engine->slots = *slots;
    while (engine->free_count < slots->count) {
        engine->free[engine->free_count] = slots->count - 1 - engine->free_count;
        engine->free_count++;
    }
    return 0;
}

void dg_poll_recycle(struct engine *engine, uint32_t slot)
{
    assert(slot < engine->slots.count && engine->taken[slot]);
    assert(engine->free_count < engine->slots.count);
    engine->taken[slot] = false;
    engine->free[engine->free_count++] = slot;
}

void dg_poll_recv_start(struct engine *engine, struct endpoint *endpoint)
{
    struct poll_endpoint *state = poll_endpoint_of(endpoint);
    assert(engine->free != NULL && !state->entry.receiving);
    assert(!state->stop_due && !state->detach_due);
    int result = engine->free_count > 0 ? dg_poll_entry_register(engine, &state->entry) : -ENOBUFS;
    if (result < 0) {
        dg_poll_stop_later(engine, state, result);
        return;
    }
    state->entry.receiving = true;
    poll_interest_changed(engine, &state->entry);
}

/* An endpoint that stopped by itself has its STOPPED already, appended or due. */
void dg_poll_recv_stop(struct engine *engine, struct endpoint *endpoint)
{
    struct poll_endpoint *state = poll_endpoint_of(endpoint);
    if (!state->entry.receiving) {
        return;
    }
    state->entry.receiving = false;
    poll_interest_changed(engine, &state->entry);
    dg_poll_stop_later(engine, state, 0);
}

/* Returns the i-th of the slots to be filled next. It stays free until something lies in it. */
static uint32_t next_slot(const struct engine *engine, uint32_t i)
{
    assert(i < engine->free_count);
    return engine->free[engine->free_count - 1 - i];
}

/* The kernel overwrites the sizes of name and control, so each receive starts from fresh ones. */
static void prepare(struct engine *engine, const struct endpoint *endpoint, uint32_t count)
{
    uint32_t control_size = endpoint->control_size;
    for (uint32_t i = 0; i < count; i++) {
        unsigned char *slot = slot_memory(engine, next_slot(engine, i));
        engine->rooms[i] = (struct iovec){.iov_base = slot + CONTROL_OFFSET + control_size,
                                          .iov_len = slot_room(engine, endpoint)};
        engine->incoming[i].header =
            (struct msghdr){.msg_name = slot + NAME_OFFSET,
                            .msg_namelen = SLOT_NAME_SIZE,
                            .msg_iov = &engine->rooms[i],
                            .msg_iovlen = 1,
                            .msg_control = control_size > 0 ? slot + CONTROL_OFFSET : NULL,
                            .msg_controllen = control_size};
    }
}

static void append_received(struct engine *engine, struct endpoint *endpoint,
                            const struct transfer *item, uint32_t slot)
{
    unsigned char *memory = slot_memory(engine, slot);
    uint32_t room = slot_room(engine, endpoint);
    uint32_t name_size = (uint32_t) item->header.msg_namelen;
    assert(!engine->taken[slot]);
    engine->taken[slot] = true;
    *completions_append(engine->completions) = (struct completion){
        .kind = COMPLETION_RECEIVED,
        .truncated = item->size > room,
        .name_size = (uint16_t) (name_size < SLOT_NAME_SIZE ? name_size : SLOT_NAME_SIZE),
        .slot = slot,
        .size = item->size < room ? item->size : room,
        .real_size = item->size,
        .control_size = (uint32_t) item->header.msg_controllen,
        .endpoint = endpoint,
        .data = memory + CONTROL_OFFSET + endpoint->control_size,
        .name = memory + NAME_OFFSET,
        .control = memory + CONTROL_OFFSET};
}

uint32_t dg_poll_receive(struct engine *engine, struct poll_endpoint *state, uint32_t most)
{
    struct endpoint *endpoint = state->endpoint;
    uint32_t asked = engine->free_count < most ? engine->free_count : most, count = 0;
    int error = -ENOBUFS;
    if (asked > 0) {
        prepare(engine, endpoint, asked);
        count = dg_transfer_receive(endpoint->fd, engine->incoming, asked, &error);
    }
    engine->more = engine->more || count == asked;
    for (uint32_t i = 0; i < count; i++) {
        append_received(engine, endpoint, &engine->incoming[i], next_slot(engine, i));
    }
    engine->free_count -= count;
    if (error != 0 && error != -EAGAIN) {
        state->entry.receiving = false;
        dg_poll_stopped(engine, endpoint, error);
    }
    return count;
}
