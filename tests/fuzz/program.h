/* SPDX-License-Identifier: MIT */
/*
 * program.h: bytes as a program of public calls.
 *
 * Each byte is a call, those behind it are its arguments; callbacks go on with the same bytes. What
 * must hold of any program is checked: each accepted send completes once, each socket closes once,
 * each post is called once, and no code comes that the library does not know.
 */
#ifndef DGRAM_TESTS_FUZZ_PROGRAM_H
#define DGRAM_TESTS_FUZZ_PROGRAM_H

#include <dgram.h>

#ifdef __cplusplus
extern "C" {
#endif

struct bytes {
    const uint8_t *data;
    size_t size;
};

uint32_t bytes_take(struct bytes *bytes); /* 0 when none is left */
uint32_t bytes_take_two(struct bytes *bytes);

/* What a program runs on. */
struct world {
    int (*create)(const struct dgram_loop_options *options, struct dgram_loop **ret_loop);
    /* Something goes wrong from the `n`-th call on, for `length` of them. */
    void (*fail)(uint32_t kind, uint32_t n, uint32_t length);
    /* Nothing goes wrong any more. */
    void (*calm)(void);
    bool knows_groups; /* leaving one that was never joined fails */
};

void program_run(const struct world *world, struct bytes bytes);

/* Ends the process, with the text, if it does not hold. */
void must(bool holds, const char *text);

#ifdef __cplusplus
}
#endif

#endif
