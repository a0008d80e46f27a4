/* SPDX-License-Identifier: MIT */
/* object.h: the table of endpoints and watches, and the list of those with something to submit. */
#ifndef DGRAM_URING_OBJECT_H
#define DGRAM_URING_OBJECT_H

#include "uring/ring.h"

/* Returns a zeroed object with an index and a generation of its own, or NULL without memory. */
struct object *dg_ring_object_make(struct engine *engine);

/* Frees an object of which the kernel holds nothing. Its requests that were not submitted go with
 * it. */
void dg_ring_object_end(struct engine *engine, struct object *object);

/* Ends an endpoint that is detaching, with DETACHED, if the kernel holds nothing of it any more. */
void dg_ring_object_detached(struct engine *engine, struct object *object);

/* The ring is gone, and with it all that the kernel held of the object: does the rest of a detach
 * or an unwatch. */
void dg_ring_object_dropped(struct engine *engine, struct object *object);

/* Frees the whole table, and looks at no endpoint and no watch. */
void dg_ring_objects_free(struct engine *engine);

/* Has the next submission look at the object. */
static inline void ring_object_queue(struct engine *engine, struct object *object)
{
    if (node_alone(&object->queued)) {
        node_append(&engine->queued, &object->queued);
    }
}

/* Returns the object that was given this user_data: it lives until its operation's last CQE. */
static inline struct object *ring_object_of(const struct engine *engine, uint64_t user_data)
{
    uint32_t index = (uint32_t) user_data;
    assert(index < engine->object_capacity && engine->objects[index] != NULL);
    assert(engine->objects[index]->generation == ((user_data >> 32) & 0xffffffu));
    assert(engine->objects[index]->armed);
    return engine->objects[index];
}

#endif
