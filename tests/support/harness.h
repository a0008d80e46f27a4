/* SPDX-License-Identifier: MIT */
/*
 * harness.h: what the behaviour suites share.
 *
 * The suites test include/dgram.h and nothing behind it, once per engine. There is no C++ wrapper
 * of a loop or a socket here: tests call the C API and see what a C program sees.
 */
#ifndef DGRAM_TESTS_SUPPORT_HARNESS_H
#define DGRAM_TESTS_SUPPORT_HARNESS_H

#include <dgram.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/fixtures.h"
#include "tests/support/handlers.h"
#include "tests/support/peers.h"
#include "tests/support/sockets.h"

#endif
