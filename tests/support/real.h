/* SPDX-License-Identifier: MIT */
/*
 * real.h: for suites that define functions of the C library or of liburing themselves: the true one
 * behind each, which they pass calls on to.
 */
#ifndef DGRAM_TESTS_SUPPORT_REAL_H
#define DGRAM_TESTS_SUPPORT_REAL_H

#include <dlfcn.h>

template <class F> F *real_function(const char *name)
{
    return reinterpret_cast<F *>(dlsym(RTLD_NEXT, name));
}

/* The true function behind the one that is being defined, looked for once. */
#define REAL(name)                                                                                 \
    static decltype(::name) *const name##_real = real_function<decltype(::name)>(#name)

#endif
