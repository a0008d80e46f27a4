/* SPDX-License-Identifier: MIT */
/*
 * header_test.c: the header before all others, and once more, in strict modes: built as C11, C17
 * and C++17.
 */
#include <dgram.h>

#include <assert.h>
#include <dgram.h>

/* Arrays of it are handed out, so its size is for ever. */
static_assert(sizeof(void *) != 8 || sizeof(struct dgram_message) == 64, "dgram_message changed");

static_assert(DGRAM_ADDR_TEXT_MAX >= INET6_ADDRSTRLEN, "a zone needs room too");

int main(void)
{
    struct dgram_loop_options options;
    options.size = sizeof options;
    return options.size == sizeof(struct dgram_loop_options) ? 0 : 1;
}
