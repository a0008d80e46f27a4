/* SPDX-License-Identifier: MIT */
/*
 * older_ring.cc: rings as older kernels have them: DGRAM_TEST_RUNG in the environment says how far
 * down the ladder of set-up flags (uring/setup.c) every ring of this program begins. 1: Linux 6.0.
 */
#include <cstdlib>

extern "C" unsigned ring_first_rung;

namespace
{

[[maybe_unused]] const bool set = [] {
    const char *rung = std::getenv("DGRAM_TEST_RUNG");
    if (rung != nullptr) {
        ring_first_rung = static_cast<unsigned>(std::strtoul(rung, nullptr, 10));
    }
    return true;
}();

} // namespace
