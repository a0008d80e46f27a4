/* SPDX-License-Identifier: MIT */
/*
 * clib.h: the C library as c-ares finds it in the simulator's world.
 *
 * c-ares reads clocks, files and chance by itself, behind the back of struct dg_system. Between
 * sim_clib_open() and sim_clib_close() this program's own functions, which stand before the C
 * library's, give it the world's: its clock, numbers of its seed, and files of which the test says
 * what is in them. There is no other file then, for the whole program. Outside of that they do what
 * the true ones do.
 */
#ifndef DGRAM_TESTS_SIM_CLIB_H
#define DGRAM_TESTS_SIM_CLIB_H

#include <cstdint>

/* Behind sim_open(), and before sim_close(). */
void sim_clib_open(uint64_t seed);
void sim_clib_close(void);

/* There is a file of this name with this text from now on; NULL: none. */
void sim_file(const char *path, const char *text);
/* It cannot be opened, for this reason (a negated errno); 0: it can. */
void sim_file_error(const char *path, int code);

#endif
