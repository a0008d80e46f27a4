/* SPDX-License-Identifier: MIT */
/* memory.c: the default allocator, and the two functions through which everything else goes. */
#include "src/base/memory.h"

#include <stdlib.h>

static void *memory_zeroed(size_t size)
{
    return calloc(1, size);
}

struct dg_memory_hooks dg_memory = {memory_zeroed, free};

void *dg_allocate(size_t size)
{
    return dg_memory.allocate(size);
}

void dg_release(void *memory)
{
    dg_memory.release(memory);
}
