/* SPDX-License-Identifier: MIT */
/*
 * endpoint.c: sockets, and their records that are due without the kernel.
 *
 * Owns an endpoint from attach() to DETACHED, and the list of endpoints with a STOPPED or a
 * DETACHED that the next wait() appends. Never receives or sends.
 */
#include "fallback/endpoint.h"

#include "src/base/memory.h"

#include "fallback/interest.h"
#include "fallback/slot.h"

static void make_due(struct engine *engine, struct poll_endpoint *state)
{
    if (node_alone(&state->due)) {
        node_append(&engine->due, &state->due);
        dg_ready_signal(engine->ready);
    }
}

void dg_poll_stop_later(struct engine *engine, struct poll_endpoint *state, int result)
{
    assert(!state->stop_due);
    state->stop_due = true;
    state->stop_result = result;
    make_due(engine, state);
}

void dg_poll_stopped(struct engine *engine, struct endpoint *endpoint, int result)
{
    *completions_append(engine->completions) =
        (struct completion){.kind = COMPLETION_STOPPED, .result = result, .endpoint = endpoint};
}

static void append_detached(struct engine *engine, struct poll_endpoint *state)
{
    struct endpoint *endpoint = state->endpoint;
    node_remove(&state->all);
    dg_release(state);
    endpoint->state = NULL;
    *completions_append(engine->completions) =
        (struct completion){.kind = COMPLETION_DETACHED, .endpoint = endpoint};
}

void dg_poll_append(struct engine *engine, struct poll_endpoint *state)
{
    if (state->stop_due) {
        state->stop_due = false;
        dg_poll_stopped(engine, state->endpoint, state->stop_result);
    }
    if (state->detach_due) {
        append_detached(engine, state);
    }
}

void dg_poll_endpoints_free(struct engine *engine)
{
    while (!node_alone(&engine->endpoints)) {
        dg_release(owner_of(node_take(&engine->endpoints), struct poll_endpoint, all));
    }
}

int dg_poll_attach(struct engine *engine, struct endpoint *endpoint)
{
    assert(endpoint->state == NULL && endpoint->control_size % 8 == 0);
    assert(endpoint->control_size <= SLOT_HEADROOM - CONTROL_OFFSET);
    struct poll_endpoint *state = dg_allocate(sizeof *state);
    if (state == NULL) {
        return -ENOMEM;
    }
    dg_poll_entry_open(&state->entry, endpoint->fd);
    node_init(&state->due);
    node_init(&state->all);
    node_append(&engine->endpoints, &state->all);
    state->endpoint = endpoint;
    state->expects = RECEIVE_LEAST;
    endpoint->state = state;
    return 0;
}

/* No operation outlives its system call here, so DETACHED waits for nothing but the next wait().
 * Watches that looked at the endpoint stay the core's to forget, and never fire again. */
void dg_poll_detach(struct engine *engine, struct endpoint *endpoint)
{
    struct poll_endpoint *state = poll_endpoint_of(endpoint);
    assert(!state->detach_due);
    if (state->entry.receiving) {
        state->entry.receiving = false;
        dg_poll_stop_later(engine, state, 0);
    }
    assert(node_alone(&state->entry.watchers)); /* unwatch() comes before */
    dg_poll_entry_close(engine, &state->entry);
    state->detach_due = true;
    make_due(engine, state);
}
