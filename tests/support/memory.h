/* SPDX-License-Identifier: MIT */
/*
 * memory.h: the library's memory in the hands of a test, by the hooks of src/base/memory.h, so with
 * the static library only. Allocations are counted and fail on demand. What is released is
 * overwritten first: nobody may read it any more.
 */
#ifndef DGRAM_TESTS_SUPPORT_MEMORY_H
#define DGRAM_TESTS_SUPPORT_MEMORY_H

#include <atomic>
#include <cstdint>

#include "tests/support/fixtures.h"

namespace memory
{

extern std::atomic<uint64_t> allocations; /* so far */
extern std::atomic<int64_t> live;         /* blocks */
extern std::atomic<uint64_t> fail_at;     /* counts down; the allocation that meets 1 fails */
extern std::atomic<bool> fail_always;     /* every one fails */
extern std::atomic<bool> failed;          /* one has */

/* With the hooks in place for as long as the test lasts, which must leave no memory behind. */
class MemoryTest : public harness::EngineTest
{
  protected:
    void SetUp() override;
    void TearDown() override;
};

} /* namespace memory */

#endif
