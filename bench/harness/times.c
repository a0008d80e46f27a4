/* SPDX-License-Identifier: MIT */
/*
 * times.c: the histogram of times. No other file knows HdrHistogram.
 */
#include "bench/harness/times.h"

/* An installed library has a folder for it, its source has none (meson.build). */
#ifndef DGPERF_HDR_HEADER
#define DGPERF_HDR_HEADER <hdr_histogram.h>
#endif
#include DGPERF_HDR_HEADER

#define TIME_MOST UINT64_C(10000000000) /* nothing that is measured waits longer */
#define TIME_DIGITS 3                   /* each value is kept to a thousandth */

const double percentiles[PERCENTILES] = {10, 20, 30, 40,   50,   60,   70,    80,    90,
                                         95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.98, 99.99};

struct hdr_histogram *times_open(void)
{
    struct hdr_histogram *histogram = NULL;

    hdr_init(1, (int64_t) TIME_MOST, TIME_DIGITS, &histogram);
    return histogram;
}

void times_close(struct hdr_histogram *histogram)
{
    if (histogram) {
        hdr_close(histogram);
    }
}

void times_add(struct hdr_histogram *histogram, uint64_t nanoseconds)
{
    hdr_record_value(histogram, (int64_t) (nanoseconds < TIME_MOST ? nanoseconds : TIME_MOST));
}

struct times times_read(const struct hdr_histogram *histogram)
{
    struct times times;

    if (histogram->total_count == 0) {
        return (struct times){.samples = 0};
    }
    times = (struct times){
        .samples = (uint64_t) histogram->total_count,
        .min = (uint64_t) hdr_min(histogram),
        .p50 = (uint64_t) hdr_value_at_percentile(histogram, 50),
        .p90 = (uint64_t) hdr_value_at_percentile(histogram, 90),
        .p99 = (uint64_t) hdr_value_at_percentile(histogram, 99),
        .p999 = (uint64_t) hdr_value_at_percentile(histogram, 99.9),
        .max = (uint64_t) hdr_max(histogram),
    };
    for (size_t i = 0; i < PERCENTILES; i++) {
        times.series[i] = (uint64_t) hdr_value_at_percentile(histogram, percentiles[i]);
    }
    return times;
}
