/* SPDX-License-Identifier: MIT */
/*
 * oneway.h: how `send` and `recv` on two machines understand each other.
 *
 * They share nothing but the number in each datagram. Its low bits count from 0. Above them stands
 * the run's mark, which `send` draws at random, so that a sender started anew is no disorder. At
 * the end `send` repeats a datagram whose top bit is set: its low bits are the count of all.
 */
#ifndef DGPERF_ONEWAY_H
#define DGPERF_ONEWAY_H

#include <stdint.h>

#define NUMBER_END (UINT64_C(1) << 63)
#define MARK_SHIFT 48
#define MARK_MOST 0x7fffu
#define COUNT_MASK ((UINT64_C(1) << MARK_SHIFT) - 1)

/* How often the end is told, and how far apart: by the next time a full receive buffer has room. */
#define END_TIMES 3
#define END_PAUSE_NS 20000000L

/* A receiver without --seconds takes so long a silence for the end, if none was told. */
#define QUIET_SECONDS 5

#endif
