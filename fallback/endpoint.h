/* SPDX-License-Identifier: MIT */
/* endpoint.h: sockets, and their records that are due without the kernel. */
#ifndef DGRAM_FALLBACK_ENDPOINT_H
#define DGRAM_FALLBACK_ENDPOINT_H

#include "fallback/engine.h"

/* As in struct backend. */
int dg_poll_attach(struct engine *engine, struct endpoint *endpoint);
void dg_poll_detach(struct engine *engine, struct endpoint *endpoint);

/* Appends STOPPED now, or has the next wait() append it. */
void dg_poll_stopped(struct engine *engine, struct endpoint *endpoint, int result);
void dg_poll_stop_later(struct engine *engine, struct poll_endpoint *state, int result);

/* Appends the records of an endpoint that was due. */
void dg_poll_append(struct engine *engine, struct poll_endpoint *state);

/* Appends the records that are due. */
static inline void poll_append_due(struct engine *engine)
{
    while (!node_alone(&engine->due)) {
        dg_poll_append(engine, owner_of(node_take(&engine->due), struct poll_endpoint, due));
    }
}

/* Frees all of them, and looks at no object of the core. */
void dg_poll_endpoints_free(struct engine *engine);

static inline struct poll_endpoint *poll_endpoint_of(const struct endpoint *endpoint)
{
    struct poll_endpoint *state = endpoint->state;
    assert(state != NULL && state->endpoint == endpoint);
    return state;
}

#endif
