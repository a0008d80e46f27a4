/* SPDX-License-Identifier: MIT */
/*
 * slot.h: the layout of a slot, and its way back to the kernel.
 *
 * Owns nothing: the slots are the core's, the buffer ring is the engine's. It never reads a slot.
 */
#ifndef DGRAM_URING_SLOT_H
#define DGRAM_URING_SLOT_H

#include "uring/ring.h"

/* A slot: header, name, control, payload. The name has 32 bytes because 28 would put the control
 * messages 4 bytes off their alignment. */
enum { SLOT_NAME_OFFSET = sizeof(struct io_uring_recvmsg_out) };
enum { SLOT_CONTROL_OFFSET = SLOT_NAME_OFFSET + SLOT_NAME_SIZE };
_Static_assert(SLOT_NAME_OFFSET == 16, "the kernel's header");
_Static_assert(SLOT_CONTROL_OFFSET % 8 == 0, "control messages are aligned");

static inline unsigned char *ring_slot(const struct engine *engine, uint32_t slot)
{
    return engine->slots.memory + (size_t) slot * engine->slots.stride;
}

/* Writes the slot into the buffer ring. The kernel sees it when the slots are published. */
static inline void ring_slot_add(struct engine *engine, uint32_t slot)
{
    assert(slot < engine->slots.count);
    io_uring_buf_ring_add(engine->buffers, ring_slot(engine, slot), engine->slots.stride,
                          (unsigned short) slot, io_uring_buf_ring_mask(engine->buffer_entries),
                          (int) engine->recycled);
    engine->recycled++;
}

static inline void ring_slots_publish(struct engine *engine)
{
    if (engine->recycled > 0) {
        io_uring_buf_ring_advance(engine->buffers, (int) engine->recycled);
        engine->recycled = 0;
    }
}

#endif
