/* SPDX-License-Identifier: MIT */
/*
 * times.h: the times of round trips, or of the way to a receiver. They are kept in a histogram, so
 * that a run may be long, and read as percentiles when the run is over.
 */
#ifndef DGPERF_TIMES_H
#define DGPERF_TIMES_H

#include <stdint.h>

#define PERCENTILES 18u

struct hdr_histogram;

struct times {
    uint64_t samples;                       /* 0: none */
    uint64_t min, p50, p90, p99, p999, max; /* nanoseconds */
    uint64_t series[PERCENTILES];           /* at each of `percentiles` */
};

/* From 10 to 99.99, ever denser. */
extern const double percentiles[PERCENTILES];

/* Returns NULL without memory. */
struct hdr_histogram *times_open(void);
void times_close(struct hdr_histogram *histogram); /* takes NULL */

/* A time of more than ten seconds counts as ten seconds. */
void times_add(struct hdr_histogram *histogram, uint64_t nanoseconds);

struct times times_read(const struct hdr_histogram *histogram);

#endif
