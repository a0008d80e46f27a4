/* SPDX-License-Identifier: MIT */
/*
 * header_sized.c: DGRAM_SIZED() for each struct of the header that begins with `size`: the size is
 * set, all other bytes are zero, and no warning comes. header_dialects.sh builds it as C and as
 * C++.
 */
#include <dgram.h>

#include <assert.h>
#include <stdio.h>
#include <string.h>

#if defined(__cplusplus) && __cplusplus >= 201402L
static_assert(DGRAM_SIZED(struct dgram_loop_options).size == sizeof(struct dgram_loop_options),
              "a constant expression");
#endif

/* The way in which the header says that a program fills in its options. */
static const struct dgram_loop_options loop_defaults = DGRAM_SIZED(struct dgram_loop_options);
static const struct dgram_socket_options socket_defaults = DGRAM_SIZED(struct dgram_socket_options);

/* Designated initialisers, which C and C++20 have; g++ warns of what they leave out. */
#if !defined(__cplusplus) || (defined(__clang__) && __cplusplus >= 202002L)
static const struct dgram_loop_options designated = {.size = sizeof(designated),
                                                     .max_delay_us = 1000};
#else
static const struct dgram_loop_options designated = DGRAM_SIZED(struct dgram_loop_options);
#endif

static int failures;

static void check(const char *name, const void *bytes, size_t size)
{
    unsigned char byte[256];
    size_t told = 0;
    size_t at = sizeof(told);

    assert(size <= sizeof(byte));
    memcpy(byte, bytes, size);
    memcpy(&told, bytes, sizeof(told));
    while (at < size && byte[at] == 0) {
        at++;
    }
    if (told != size || at != size) {
        printf("%s: size %zu of %zu, byte %zu is not zero\n", name, told, size, at);
        failures++;
    }
}

#define CHECK(name)                                                                                \
    do {                                                                                           \
        struct name sized = DGRAM_SIZED(struct name);                                              \
        check(#name, &sized, sizeof(sized));                                                       \
    } while (0)

int main(void)
{
    struct dgram_loop_options options = DGRAM_SIZED(struct dgram_loop_options);

    options.max_delay_us = 1000;
    failures += options.size != loop_defaults.size || options.size != designated.size ||
                socket_defaults.flags != 0;
    CHECK(dgram_buffer_options);
    CHECK(dgram_engine_report);
    CHECK(dgram_error);
    CHECK(dgram_loop_info);
    CHECK(dgram_loop_options);
    CHECK(dgram_socket_options);
    CHECK(dgram_socket_stats);
    return failures != 0;
}
