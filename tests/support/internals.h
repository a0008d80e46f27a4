/* SPDX-License-Identifier: MIT */
/*
 * internals.h: the few functions of src/ that suites in C++ call, declared once: their headers are
 * C only. The structs stay unknown.
 */
#ifndef DGRAM_TESTS_SUPPORT_INTERNALS_H
#define DGRAM_TESTS_SUPPORT_INTERNALS_H

#include <dgram.h>

extern "C" {
#include "src/system.h"

struct backend;
int dg_loop_create_on(const struct dgram_loop_options *options, const struct dg_system *system,
                      const struct backend *backend, struct dgram_loop **ret_loop);

/* How often this loop has called into c-ares. */
uint64_t dg_dns_called(const struct dgram_loop *loop);
}

#endif
