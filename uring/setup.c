/* SPDX-License-Identifier: MIT */
/*
 * setup.c: the ring, the ring of provided buffers, the descriptor for outer loops.
 *
 * Owns these three, each of which is made once, and their end. Never submits, and never looks at a
 * completion.
 *
 * The flags form a ladder: each rung drops the flags that an older kernel refuses with EINVAL.
 * Features that no rung can do without are checked afterwards, by their bits. The ring is created
 * disabled, so that a loop can be made in one thread and run in another: with SINGLE_ISSUER the
 * thread that enables the ring owns it.
 *
 * Not used, and why: SQPOLL burns a core; the registered ring descriptor would keep the ring, and
 * with it bound ports, alive in a thread that no longer runs the loop; registered files measured no
 * gain; incremental buffers cut datagrams (seen on 6.18); bundles glue datagrams together.
 */
#include "uring/setup.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "src/base/memory.h"
#include "uring/object.h"
#include "uring/slot.h"

/* ---- The ring ------------------------------------------------------------------------------ */

enum {
    RING_ENTRIES = 256,     /* SQEs; more than a batch of trains, and submitted early when full */
    RING_COMPLETIONS = 1024 /* CQEs: 16 for each default slot. The kernel keeps those that do not
                               fit (FEAT_NODROP); larger rings are locked memory for nothing */
};

static const unsigned setup_ladder[] = {
    /* 6.1: completions run only inside our own wait: no interrupts, no preempted callbacks. */
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
        IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE |
        IORING_SETUP_CLAMP,
    /* 6.0 */
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL |
        IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
    /* 5.19 and whatever else says EINVAL to newer flags */
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_R_DISABLED |
        IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
    IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
};

unsigned ring_first_rung;

enum { SETUP_RUNGS = sizeof(setup_ladder) / sizeof(setup_ladder[0]) };

/* Waiting for data without a worker thread, no lost completions, timeouts as an argument of the
 * wait, silent success of sends. */
static const unsigned needed_features =
    IORING_FEAT_FAST_POLL | IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP;

static int ring_climb(struct io_uring *ring)
{
    int code = -EINVAL;
    for (size_t rung = ring_first_rung; rung < SETUP_RUNGS && code == -EINVAL; rung++) {
        struct io_uring_params params = {.flags = setup_ladder[rung],
                                         .cq_entries = RING_COMPLETIONS};
        code = io_uring_queue_init_params(RING_ENTRIES, ring, &params);
    }
    return code;
}

/* Returns true after a pause, when another attempt may have the memory. Rings and rings of buffers
 * count as locked memory of the user again (6.18; up to 5.11 before). A closed ring counts until
 * the kernel has taken it down, 8 to 13 ms later. So a program that makes and frees loops in quick
 * succession under the usual limit of 8 MiB only has to wait a moment. */
static bool memory_may_come(int code, int *tries)
{
    enum { MEMORY_TRIES = 16 };
    const struct timespec pause = {.tv_nsec = 2000000};
    if (code != -ENOMEM || (*tries)++ == MEMORY_TRIES) {
        return false;
    }
    (void) nanosleep(&pause, NULL);
    return true;
}

static int ring_setup(struct io_uring *ring, const char **ret_call)
{
    int code, tries = 0;
    do {
        code = ring_climb(ring);
    } while (memory_may_come(code, &tries));
    *ret_call = "io_uring_setup";
    if (code == 0 && (ring->features & needed_features) != needed_features) {
        io_uring_queue_exit(ring);
        *ret_call = "io_uring_setup (features)";
        code = -ENOTSUP;
    }
    return code;
}

int dg_ring_open(const struct engine_config *config, struct engine **ret_engine,
                 const char **ret_call)
{
    struct engine *engine = dg_allocate(sizeof(*engine));
    *ret_call = "malloc";
    if (engine == NULL) {
        return -ENOMEM;
    }
    node_init(&engine->queued);
    int code = ring_setup(&engine->ring, ret_call);
    if (code < 0) {
        dg_release(engine);
        return code;
    }
    engine->out = config->completions;
    engine->failed_call = config->failed_call;
    engine->event_fd = -1;
    engine->peeks = config->peeks;
    *ret_engine = engine;
    return 0;
}

/* liburing 2.3 declares io_uring_enable_rings() but Debian 12's does not export it. */
int dg_ring_enable(struct engine *engine)
{
    int code = 0;
    if (!engine->enabled) {
        code = io_uring_register((unsigned) engine->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS,
                                 NULL, 0);
        engine->enabled = code == 0;
    }
    if (code < 0) {
        *engine->failed_call = "io_uring_register (enable)";
    }
    return code;
}

static size_t buffer_ring_bytes(const struct engine *engine)
{
    return engine->buffer_entries * sizeof(struct io_uring_buf);
}

void dg_ring_close(struct engine *engine, bool forked)
{
    (void) forked; /* unmapping and closing a child's copy leaves the parent's ring alone */
    if (!engine->down) {
        io_uring_queue_exit(&engine->ring);
    }
    if (engine->buffers != NULL) {
        (void) munmap(engine->buffers, buffer_ring_bytes(engine));
    }
    if (engine->event_fd >= 0) {
        (void) close(engine->event_fd);
    }
    dg_ring_objects_free(engine);
    dg_release(engine);
}

/* ---- Provided buffers ---------------------------------------------------------------------- */

static uint32_t power_of_two(uint32_t least)
{
    uint32_t power = 1;
    while (power < least) {
        power *= 2;
    }
    return power;
}

int dg_ring_provide(struct engine *engine, const struct slots *slots, const char **ret_call)
{
    assert(engine->buffers == NULL);
    engine->buffer_entries = power_of_two(slots->count);
    void *memory = mmap(NULL, buffer_ring_bytes(engine), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *ret_call = "mmap";
    if (memory == MAP_FAILED) {
        return -ENOMEM;
    }
    struct io_uring_buf_reg registration = {.ring_addr = (uint64_t) (uintptr_t) memory,
                                            .ring_entries = engine->buffer_entries};
    int code, tries = 0;
    do {
        code = io_uring_register_buf_ring(&engine->ring, &registration, 0);
    } while (memory_may_come(code, &tries));
    *ret_call = "io_uring_register (buffer ring)";
    if (code < 0) {
        (void) munmap(memory, buffer_ring_bytes(engine));
        return code;
    }
    engine->buffers = memory;
    engine->slots = *slots;
    io_uring_buf_ring_init(engine->buffers);
    /* Raw receives beside an armed multishot keep their order only if the multishot cannot take a
     * datagram between two of our calls: with DEFER_TASKRUN (tests/host/kernel*.cc). */
    engine->has_spare = engine->peeks && (engine->ring.flags & IORING_SETUP_DEFER_TASKRUN);
    uint32_t count = slots->count - engine->has_spare;
    engine->spare = count;
    for (uint32_t slot = 0; slot < count; slot++) {
        ring_slot_add(engine, slot);
    }
    ring_slots_publish(engine);
    return 0;
}

/* A ring with DEFER_TASKRUN does not wake epoll by its own descriptor (6.18; 6.1 did); an eventfd
 * registered with it does, for 1.5 us of CPU a wake-up, so it is made only when asked for. It
 * starts readable: operations that were queued before are submitted by the turn that follows. */
int dg_ring_event_fd(struct engine *engine)
{
    if (engine->event_fd >= 0) {
        return engine->event_fd;
    }
    if (engine->inherited) {
        return -ENOTSUP;
    }
    int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    int code = io_uring_register_eventfd(&engine->ring, fd);
    if (code < 0) {
        (void) close(fd);
        return code;
    }
    engine->event_fd = fd;
    return fd;
}
