/* SPDX-License-Identifier: MIT */
/* pool.c: see pool.h. */
#include "src/receive/pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "src/base/memory.h"
#include "src/net/address.h"

struct slot {
    struct pool *pool;
    atomic_uint messages; /* retained ones, plus one during the dispatch */
    uint32_t next_returned;
    struct dgram_addr from;
    struct backlog_item item; /* loop thread */
};

struct pool {
    struct slots slots;
    uint32_t payload;
    uint32_t taken;     /* loop thread: with the core, or pinned */
    atomic_uint pinned; /* retained messages that were not copied */
    atomic_uint users;  /* the loop and each of these */

    pthread_mutex_t lock; /* guards the members that releasing threads and the loop share: */
    atomic_uint returned; /* list of released slots, index plus one */

    struct slot states[];
};

/* A retained message that was copied; `owner` points to it with the lowest bit set. */
struct kept {
    struct dgram_addr from;
    unsigned char bytes[];
};

enum { KEPT_BIT = 1, PIN_SHARE = 4, PIN_LEAST_PART = 8 };

int dg_pool_create(uint32_t slots, uint32_t slot_size, struct pool **ret_pool)
{
    struct pool *pool = dg_allocate(sizeof(*pool) + slots * sizeof(struct slot));
    if (pool == NULL) {
        return -ENOMEM;
    }
    pool->slots.count = slots;
    pool->slots.stride = (slot_size + SLOT_HEADROOM + 63) / 64 * 64;
    /* Untouched slots cost no memory: the mapping is filled page by page as datagrams come. */
    void *memory = mmap(NULL, (size_t) slots * pool->slots.stride, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        dg_release(pool);
        return -ENOMEM;
    }
    pool->slots.memory = memory;
    pool->payload = slot_size;
    atomic_init(&pool->users, 1);
    (void) pthread_mutex_init(&pool->lock, NULL); /* a default mutex: cannot fail on this libc */
    *ret_pool = pool;
    return 0;
}

static void pool_unuse(struct pool *pool)
{
    if (atomic_fetch_sub(&pool->users, 1) != 1) {
        return;
    }
    (void) munmap(pool->slots.memory, (size_t) pool->slots.count * pool->slots.stride);
    (void) pthread_mutex_destroy(&pool->lock);
    dg_release(pool);
}

const struct slots *dg_pool_slots(const struct pool *pool)
{
    return &pool->slots;
}

bool dg_pool_contains(const struct pool *pool, const void *data)
{
    uintptr_t offset = (uintptr_t) data - (uintptr_t) pool->slots.memory;
    return offset < (uintptr_t) pool->slots.count * pool->slots.stride;
}

uint32_t dg_pool_free_count(const struct pool *pool)
{
    return pool->slots.count - pool->taken;
}

void *dg_pool_take(struct pool *pool, uint32_t slot, struct dgram_addr **ret_from)
{
    struct slot *state = &pool->states[slot];
    assert(slot < pool->slots.count);
    assert(atomic_load_explicit(&state->messages, memory_order_relaxed) == 0);
    atomic_store_explicit(&state->messages, 1, memory_order_relaxed);
    state->pool = pool; /* here, so that slots that are not used cost no memory */
    pool->taken++;
    *ret_from = &state->from;
    return state;
}

struct backlog_item *dg_pool_backlog_item(struct pool *pool, uint32_t slot)
{
    assert(slot < pool->slots.count);
    return &pool->states[slot].item;
}

bool dg_pool_done(struct pool *pool, uint32_t slot)
{
    struct slot *state = &pool->states[slot];
    assert(atomic_load_explicit(&state->messages, memory_order_relaxed) > 0);
    /* Nobody else can raise a count of one: only this thread retains, and only during dispatch. */
    if (atomic_load_explicit(&state->messages, memory_order_acquire) == 1) {
        atomic_store_explicit(&state->messages, 0, memory_order_relaxed);
    } else if (atomic_fetch_sub(&state->messages, 1) != 1) {
        return false;
    }
    pool->taken--;
    return true;
}

bool dg_pool_returned(struct pool *pool, uint32_t *ret_slot)
{
    if (atomic_load(&pool->returned) == 0) { /* asked in every turn, so without the lock */
        return false;
    }
    (void) pthread_mutex_lock(&pool->lock);
    uint32_t first = pool->returned; /* others put slots in front of it, and take none out */
    pool->returned = pool->states[first - 1].next_returned;
    (void) pthread_mutex_unlock(&pool->lock);
    assert(pool->taken > 0);
    pool->taken--;
    *ret_slot = first - 1;
    return true;
}

void dg_pool_abandon(struct pool *pool)
{
    if (pool != NULL) {
        pool_unuse(pool);
    }
}

/* ---- Retained messages --------------------------------------------------------------------- */

static int message_copy(const struct dgram_message *message, struct dgram_message *ret_kept)
{
    struct kept *kept = dg_allocate(sizeof(*kept) + message->size);
    if (kept == NULL) {
        return -ENOMEM;
    }
    dg_address_set(&kept->from, &message->from->u, message->from->size);
    memcpy(kept->bytes, message->data, message->size);
    *ret_kept = *message;
    ret_kept->data = kept->bytes;
    ret_kept->from = &kept->from;
    ret_kept->owner = (char *) kept + KEPT_BIT;
    return 0;
}

static void message_pin(const struct dgram_message *message, struct slot *slot,
                        struct dgram_message *ret_kept)
{
    atomic_fetch_add(&slot->messages, 1);
    atomic_fetch_add(&slot->pool->pinned, 1);
    atomic_fetch_add(&slot->pool->users, 1);
    *ret_kept = *message;
}

int dgram_message_retain(const struct dgram_message *message, struct dgram_message *ret_kept)
{
    if (message == NULL || ret_kept == NULL || message->owner == NULL) {
        return DGRAM_ENULL;
    }
    struct slot *slot = message->owner;
    /* Messages of a copied backlog lie in no slot, and a message that is retained twice is copied.
     * */
    if ((uintptr_t) message->owner & KEPT_BIT) {
        return message_copy(message, ret_kept);
    }
    struct pool *pool = slot->pool;
    bool pinned = atomic_load(&slot->messages) > 1;
    bool plenty = atomic_load(&pool->pinned) < pool->slots.count / PIN_SHARE;
    if (message->size < pool->payload / PIN_LEAST_PART || (!pinned && !plenty)) {
        return message_copy(message, ret_kept);
    }
    message_pin(message, slot, ret_kept);
    return 0;
}

static void slot_return(struct pool *pool, struct slot *slot)
{
    uint32_t index = (uint32_t) (slot - pool->states);
    (void) pthread_mutex_lock(&pool->lock);
    slot->next_returned = pool->returned;
    pool->returned = index + 1;
    (void) pthread_mutex_unlock(&pool->lock);
}

void dgram_message_release(struct dgram_message *kept)
{
    if (kept == NULL || kept->owner == NULL) {
        return;
    }
    if ((uintptr_t) kept->owner & KEPT_BIT) {
        dg_release((char *) kept->owner - KEPT_BIT);
    } else {
        struct slot *slot = kept->owner;
        struct pool *pool = slot->pool;
        if (atomic_fetch_sub(&slot->messages, 1) == 1) {
            slot_return(pool, slot);
        }
        atomic_fetch_sub(&pool->pinned, 1); /* after the slot is back: PIN_SHARE holds */
        pool_unuse(pool);
    }
    kept->owner = NULL;
}
