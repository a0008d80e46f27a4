/* SPDX-License-Identifier: MIT */
/*
 * slot.h: the layout of a slot.
 *
 * Owns nothing: the slots are the core's. It never reads one.
 */
#ifndef DGRAM_FALLBACK_SLOT_H
#define DGRAM_FALLBACK_SLOT_H

#include "fallback/engine.h"

/* A slot: a header that is left to engines, the sender's name, control data, payload. */
#define NAME_OFFSET 16u
#define CONTROL_OFFSET (NAME_OFFSET + SLOT_NAME_SIZE)
_Static_assert(CONTROL_OFFSET % 8 == 0, "control data wants 8-alignment");
_Static_assert(SLOT_NAME_SIZE >= 28, "a sockaddr_in6 must fit");

static inline unsigned char *slot_memory(const struct engine *engine, uint32_t slot)
{
    assert(slot < engine->slots.count);
    return engine->slots.memory + (size_t) slot * engine->slots.stride;
}

/* The bytes of payload that fit a slot of this endpoint. */
static inline uint32_t slot_room(const struct engine *engine, const struct endpoint *endpoint)
{
    return engine->slots.stride - CONTROL_OFFSET - endpoint->control_size;
}

#endif
