/* SPDX-License-Identifier: MIT */
/*
 * numbers.h: the content of a datagram: its size, its number and, of `collect`, its time.
 */
#ifndef DGPERF_NUMBERS_H
#define DGPERF_NUMBERS_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* ---- Sizes --------------------------------------------------------------------------------- */

/* A power of two, so that a size costs a mask and a load for fixed and for distinct sizes alike. */
#define SIZES 1024u

struct sizes {
    uint32_t at[SIZES];
};

/* Returns the size of datagram `number` to peer `peer`. With --distinct-sizes the sizes of
 * neighbours in number and in peer differ. */
static inline uint32_t sizes_of(const struct sizes *sizes, uint64_t number, uint32_t peer)
{
    return sizes->at[(number + peer) & (SIZES - 1)];
}

/* ---- Numbers ------------------------------------------------------------------------------- */

/* Datagrams are sent one by one to each peer in turn; each peer's are numbered from 0. */
struct cursor {
    uint64_t number;
    uint32_t peer;
    uint32_t peers;
};

static inline struct cursor cursor_at(uint64_t index, uint32_t peers)
{
    return (struct cursor){
        .number = index / peers, .peer = (uint32_t) (index % peers), .peers = peers};
}

static inline void cursor_next(struct cursor *cursor)
{
    if (++cursor->peer == cursor->peers) {
        cursor->peer = 0;
        cursor->number++;
    }
}

static inline void number_write(void *payload, uint64_t number)
{
    uint64_t little = htole64(number);
    memcpy(payload, &little, sizeof(little));
}

static inline uint64_t number_read(const void *payload)
{
    uint64_t little;
    memcpy(&little, payload, sizeof(little));
    return le64toh(little);
}

/* A datagram of `collect` carries its time, CLOCK_MONOTONIC in nanoseconds, behind its number. */
static inline void stamp_write(void *payload, uint64_t now)
{
    number_write((uint8_t *) payload + sizeof(now), now);
}

static inline uint64_t stamp_read(const void *payload)
{
    return number_read((const uint8_t *) payload + sizeof(uint64_t));
}

#endif
