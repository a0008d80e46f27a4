/* SPDX-License-Identifier: MIT */
/*
 * object.c: endpoints and watches, as the operations of the kernel name them.
 *
 * Owns the table by which user_data finds an object, and the list of objects with something to
 * submit. Frees an object when the kernel holds nothing of it. Never submits.
 */
#include "uring/object.h"

#include "src/base/array.h"

static int objects_grow(struct engine *engine)
{
    uint32_t old = engine->object_capacity, capacity = array_doubled(old, 16u);
    assert(engine->free_count == 0);
    if (array_grow(&engine->objects, old, capacity) < 0 ||
        array_grow(&engine->free_places, 0, capacity) < 0) {
        return -ENOMEM; /* one may be longer than it has to be */
    }
    engine->object_capacity = capacity;
    for (uint32_t index = capacity; index > old; index--) {
        engine->free_places[engine->free_count++] = index - 1;
    }
    return 0;
}

struct object *dg_ring_object_make(struct engine *engine)
{
    if (engine->free_count == 0 && objects_grow(engine) < 0) {
        return NULL;
    }
    struct object *object = dg_allocate(sizeof(*object));
    if (object != NULL) {
        node_init(&object->queued);
        object->index = engine->free_places[--engine->free_count];
        object->generation = ++engine->generation & 0xffffffu;
        engine->objects[object->index] = object;
    }
    return object;
}

void dg_ring_object_end(struct engine *engine, struct object *object)
{
    node_remove(&object->queued);
    assert(!object->armed && engine->objects[object->index] == object);
    engine->objects[object->index] = NULL;
    engine->free_places[engine->free_count++] = object->index;
    dg_release(object);
}

void dg_ring_object_detached(struct engine *engine, struct object *object)
{
    if (!object->detaching || object->armed || object->polls > 0) {
        return;
    }
    struct endpoint *endpoint = object->endpoint;
    endpoint->state = NULL;
    dg_ring_object_end(engine, object);
    *completions_append(engine->out) =
        (struct completion){.kind = COMPLETION_DETACHED, .endpoint = endpoint};
}

void dg_ring_object_dropped(struct engine *engine, struct object *object)
{
    object->armed = object->cancel = object->start = false;
    object->polls = 0;
    if (object->forgotten) {
        dg_ring_object_end(engine, object);
    } else {
        dg_ring_object_detached(engine, object);
    }
}

void dg_ring_objects_free(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->object_capacity; i++) {
        dg_release(engine->objects[i]);
    }
    dg_release(engine->objects);
    dg_release(engine->free_places);
}
