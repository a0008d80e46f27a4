/* SPDX-License-Identifier: MIT */
/*
 * memory.h: where all memory of the library comes from.
 *
 * Constructors allocate, turns do not. Tests replace the hooks to count allocations and to make the
 * n-th one fail; a program never sees them.
 */
#ifndef DGRAM_BASE_MEMORY_H
#define DGRAM_BASE_MEMORY_H

#include <stddef.h>

struct dg_memory_hooks {
    void *(*allocate)(size_t size); /* zeroed memory or NULL */
    void (*release)(void *memory);  /* NULL is accepted */
};

extern struct dg_memory_hooks dg_memory;

/* Zeroed memory, or NULL. */
void *dg_allocate(size_t size);
/* NULL is accepted. */
void dg_release(void *memory);

#endif
