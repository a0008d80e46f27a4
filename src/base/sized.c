/* SPDX-License-Identifier: MIT */
/* sized.c: see sized.h. */
#include "src/base/sized.h"

#include <dgram.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

static bool tail_is_zero(const unsigned char *bytes, size_t from, size_t size)
{
    for (size_t i = from; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

int dg_options_read(void *ours, size_t ours_size, const void *theirs, size_t least_size)
{
    size_t size;
    if (theirs == NULL) {
        return 0;
    }
    memcpy(&size, theirs, sizeof(size)); /* the first member of every sized struct */
    if (size < least_size) {
        return DGRAM_EBADOPTIONS;
    }
    if (size > ours_size && !tail_is_zero(theirs, ours_size, size)) {
        return -E2BIG;
    }
    memcpy(ours, theirs, size < ours_size ? size : ours_size);
    return 0;
}

int dg_result_write(void *theirs, const void *ours, size_t ours_size, size_t least_size)
{
    size_t size;
    if (theirs == NULL) {
        return DGRAM_ENULL;
    }
    memcpy(&size, theirs, sizeof(size));
    if (size < least_size) {
        return DGRAM_EBADOPTIONS;
    }
    size_t common = size < ours_size ? size : ours_size;
    memcpy((char *) theirs + sizeof(size), (const char *) ours + sizeof(size),
           common - sizeof(size));
    if (size > ours_size) {
        memset((char *) theirs + ours_size, 0, size - ours_size);
    }
    return 0;
}
