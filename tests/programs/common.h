/* SPDX-License-Identifier: MIT */
/*
 * common.h: what the library's ends of the conversations with other programs and other hosts share.
 * What cannot go on says why on stdout, where its driver reads, and ends.
 */
#ifndef DGRAM_TESTS_PROGRAMS_COMMON_H
#define DGRAM_TESTS_PROGRAMS_COMMON_H

#include <dgram.h>

#include <stdio.h>
#include <stdlib.h>

enum { PATIENCE_S = 20 }; /* for whatever must happen */

static inline void check(int code, const char *what)
{
    if (code < 0) {
        printf("%s: %s\n", what, dgram_error_name(code));
        exit(1);
    }
}

/* Zeroed memory. */
static inline void *allocate(size_t size)
{
    void *memory = calloc(1, size > 0 ? size : 1);
    if (memory == NULL) {
        puts("out of memory");
        exit(1);
    }
    return memory;
}

#endif
