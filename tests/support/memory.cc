/* SPDX-License-Identifier: MIT */
/* memory.cc: see memory.h. */
#include <atomic>

#include "tests/support/memory.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>

extern "C" {
#include "src/base/memory.h"
}

namespace memory
{

std::atomic<uint64_t> allocations{0};
std::atomic<int64_t> live{0};
std::atomic<uint64_t> fail_at{0};
std::atomic<bool> fail_always{false}, failed{false};

/* Before each block, for the overwriting. */
static constexpr size_t SIZE_BYTES = alignof(std::max_align_t);
static_assert(SIZE_BYTES >= sizeof(size_t), "there is room for the size");

static struct dg_memory_hooks before;

static bool is_to_fail()
{
    uint64_t left = fail_at.load();
    while (left > 0 && !fail_at.compare_exchange_weak(left, left - 1)) {
    }
    return left == 1 || fail_always;
}

static void *counted_allocate(size_t size)
{
    allocations++;
    if (is_to_fail()) {
        failed = true;
        return nullptr;
    }
    unsigned char *block = static_cast<unsigned char *>(calloc(1, SIZE_BYTES + size));
    if (block == nullptr) {
        return nullptr;
    }
    live++;
    memcpy(block, &size, sizeof(size));
    return block + SIZE_BYTES;
}

static void counted_release(void *memory)
{
    if (memory != nullptr) {
        unsigned char *block = static_cast<unsigned char *>(memory) - SIZE_BYTES;
        size_t size = 0;
        live--;
        memcpy(&size, block, sizeof(size));
        memset(memory, 0xdd, size);
        free(block);
    }
}

void MemoryTest::SetUp()
{
    before = dg_memory;
    fail_at = 0;
    fail_always = false;
    live = 0;
    dg_memory = {counted_allocate, counted_release};
    EngineTest::SetUp();
}

void MemoryTest::TearDown()
{
    fail_at = 0;
    fail_always = false;
    EngineTest::TearDown();
    EXPECT_EQ(live, 0) << "memory was left behind";
    dg_memory = before;
}

} /* namespace memory */
