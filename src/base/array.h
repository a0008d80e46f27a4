/* SPDX-License-Identifier: MIT */
/*
 * array.h: arrays that grow.
 *
 * Owns nothing. A grown array lies elsewhere, so nobody keeps a pointer into one. It never shrinks.
 */
#ifndef DGRAM_BASE_ARRAY_H
#define DGRAM_BASE_ARRAY_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "src/base/memory.h"

/* Room for twice as many items as there were, or for `first`. */
#define array_doubled(capacity, first) ((capacity) == 0 ? (first) : 2 * (capacity))

/* A copy of the first `count` items, of `size` bytes each, with room for `capacity`; zeroed behind
 * them. NULL: there is no memory. */
static inline void *array_copy(const void *items, size_t count, size_t capacity, size_t size)
{
    void *copy = dg_allocate(capacity * size);
    if (copy != NULL && count > 0) {
        memcpy(copy, items, count * size);
    }
    return copy;
}

/* Moves the items to where there is room for `capacity`: 0, or -ENOMEM with all as it was. */
#define array_grow(items, count, capacity)                                                         \
    array_grow_bytes((void **) (items), count, capacity, sizeof(**(items)))

static inline int array_grow_bytes(void **items, size_t count, size_t capacity, size_t size)
{
    void *copy = array_copy(*items, count, capacity, size);
    if (copy == NULL) {
        return -ENOMEM;
    }
    dg_release(*items);
    *items = copy;
    return 0;
}

#endif
