/* SPDX-License-Identifier: MIT */
/*
 * sized.h: public structs that may grow: they begin with their `size`, as the caller's header has
 * it.
 *
 * Knows none of these structs. A program that was compiled with an older header has shorter ones,
 * and one with a newer header has longer ones.
 */
#ifndef DGRAM_BASE_SIZED_H
#define DGRAM_BASE_SIZED_H

#include <stddef.h>

/* Copies an options struct of the caller's size into ours: 0, DGRAM_EBADOPTIONS or -E2BIG. */
int dg_options_read(void *ours, size_t ours_size, const void *theirs, size_t least_size);

/* Copies a result struct into the caller's, as much as its `size` member says: 0, DGRAM_ENULL or
 * DGRAM_EBADOPTIONS. */
int dg_result_write(void *theirs, const void *ours, size_t ours_size, size_t least_size);

#endif
