/* SPDX-License-Identifier: MIT */
/* buffer.c: see buffer.h. */
#include "src/send/buffer.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/base/sized.h"
#include "src/core/agenda.h"
#include "src/core/check.h"
#include "src/core/io.h"
#include "src/send/path.h"

#define BUFFER_SIZE_MAX (UINT64_C(1) << 30) /* the kernel registers no more in one piece */

enum {
    /* Of a train that is worth a loan: below, the notification costs more than the copy. */
    ZERO_COPY_BYTES = 16 * 1024
};

/* Trains that may be on loan at a time: 16 MiB behind a slow queue. Trains beyond that are copied.
 * */
enum { LOANS = 256 };

/* One train that is on loan; known by number, since the train itself is gone by the end of it. */
struct loan {
    struct dgram_buffer *buffer; /* NULL: free */
    union dg_peer peer;
    bool failed;        /* the train went another way, or not at all */
    uint16_t next_free; /* number, 0: none */
};

struct loans {
    struct loan items[LOANS + 1]; /* by number, from 1 */
    uint16_t free;                /* number, 0: none */
};

struct buffers {
    struct node all;
    struct loans *loans; /* NULL until a buffer wants zero copy */
    uint64_t sends, copied, spared;
};

int dg_buffers_open(struct dgram_loop *loop)
{
    loop->buffers = dg_allocate(sizeof(*loop->buffers));
    if (loop->buffers == NULL) {
        return -ENOMEM;
    }
    node_init(&loop->buffers->all);
    return 0;
}

void dg_buffers_info(const struct dgram_loop *loop, struct dgram_loop_info *info)
{
    info->zero_copy_sends = loop->buffers->sends;
    info->zero_copy_copied = loop->buffers->copied;
    info->zero_copy_spared = loop->buffers->spared;
}

/* ---- Use ----------------------------------------------------------------------------------- */

static void buffer_release(struct dgram_buffer *buffer)
{
    struct dgram_loop *loop = buffer->loop;
    if (buffer->zero_copy == 0) {
        loop->io->backend->reclaim(loop->io->engine, &buffer->region);
    }
    node_remove(&buffer->all);
    (void) munmap(buffer->region.memory, buffer->region.size);
    dg_release(buffer);
}

void dg_buffer_due(struct dgram_buffer *buffer)
{
    if (buffer->uses == 0) {
        dg_agenda_add(buffer->loop->agenda, &buffer->idle);
    }
}

static void buffer_unuse(struct dgram_buffer *buffer)
{
    assert(buffer->uses > 0);
    buffer->uses--;
    dg_buffer_due(buffer);
}

/* Not while the loop is being freed: loans are not waited for then, so `idle` could not come for
 * all. */
static void idle_emit(struct dgram_buffer *buffer)
{
    if (buffer->on_idle != NULL && !buffer->loop->freeing) {
        buffer->on_idle(buffer, buffer->user);
    }
}

static void idle_run(struct task *task)
{
    struct dgram_buffer *buffer = owner_of(task, struct dgram_buffer, idle);
    if (buffer->freed && buffer->uses == 0) {
        buffer_release(buffer);
    } else if (buffer->uses == 0) {
        idle_emit(buffer);
    }
}

/* ---- Loans --------------------------------------------------------------------------------- */

static int loans_create(struct dgram_loop *loop)
{
    if (loop->buffers->loans != NULL) {
        return 0;
    }
    struct loans *loans = dg_allocate(sizeof(*loans));
    if (loans == NULL || dg_io_reserve(loop->io, LOANS) < 0) {
        dg_release(loans);
        return -ENOMEM;
    }
    for (uint16_t number = LOANS; number > 0; number--) {
        loans->items[number].next_free = loans->free;
        loans->free = number;
    }
    loop->buffers->loans = loans;
    return 0;
}

static void loan_end(struct loans *loans, uint16_t number)
{
    loans->items[number].buffer = NULL;
    loans->items[number].next_free = loans->free;
    loans->free = number;
}

void dg_buffer_lend(struct dgram_loop *loop, struct dg_train *train)
{
    struct dgram_buffer *buffer = train->buffer;
    struct loans *loans = loop->buffers->loans;
    if (buffer->zero_copy < 0 || train->bytes < ZERO_COPY_BYTES || loans->free == 0 ||
        dg_path_copies(loop, &train->flow->peer)) {
        return;
    }
    struct loan *loan = &loans->items[loans->free];
    train->base.loan = loans->free;
    train->base.region = &buffer->region;
    loans->free = loan->next_free;
    loan->buffer = buffer;
    loan->peer = train->flow->peer;
}

void dg_buffer_take_back(struct dgram_loop *loop, struct dg_train *train)
{
    if (train->base.loan == 0) {
        return;
    }
    if (train->base.kept) {
        train->buffer->uses++;
        loop->outbox->loans_out++;
        loop->buffers->loans->items[train->base.loan].failed = train->base.result < 0;
        loop->buffers->sends += train->base.result >= 0;
    } else {
        loan_end(loop->buffers->loans, train->base.loan);
    }
    train->base.loan = 0;
    train->base.kept = false;
}

void dg_buffer_left(struct dgram_loop *loop, struct dg_train *train)
{
    dg_buffer_take_back(loop, train);
    buffer_unuse(train->buffer);
    train->buffer = NULL;
}

void dg_buffer_released(struct dgram_loop *loop, uint32_t number, bool copied)
{
    assert(number > 0 && number <= LOANS && loop->outbox->loans_out > 0);
    struct loan *loan = &loop->buffers->loans->items[number];
    assert(loan->buffer != NULL);
    loop->outbox->loans_out--;
    if (!loan->failed) {
        loop->buffers->copied += copied;
        loop->buffers->spared += !copied;
    }
    if (copied && !loan->failed) {
        dg_path_copied(loop, &loan->peer);
    }
    buffer_unuse(loan->buffer);
    loan_end(loop->buffers->loans, (uint16_t) number);
}

/* ---- The public functions ------------------------------------------------------------------ */

static int buffer_check(const struct dgram_buffer *buffer)
{
    if (buffer == NULL) {
        return DGRAM_ENULL;
    }
    return loop_forked(buffer->loop) ? DGRAM_EFORKED : 0;
}

/* Why trains from the buffer will be copied, or 0. A wish that the host does not grant is no
 * error of the buffer. */
static int buffer_register(struct dgram_buffer *buffer)
{
    struct dgram_loop *loop = buffer->loop;
    if (loop->io->backend->lend == NULL) {
        return -ENOTSUP;
    }
    if (buffer->region.size < ZERO_COPY_BYTES) {
        return DGRAM_EBADBUFFERSIZE; /* it would be pinned for nothing */
    }
    int code = loans_create(loop);
    return code < 0 ? code : loop->io->backend->lend(loop->io->engine, &buffer->region);
}

static struct dgram_buffer *buffer_make(size_t size)
{
    struct dgram_buffer *buffer = dg_allocate(sizeof(*buffer));
    if (buffer == NULL) {
        return NULL;
    }
    /* A mapping of its own: a network card may read from it when it is long gone from here. Its
     * pages must not have become somebody else's memory by then. */
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        dg_release(buffer);
        return NULL;
    }
    buffer->region.memory = memory;
    buffer->region.size = size;
    return buffer;
}

int dgram_buffer_create(struct dgram_loop *loop, size_t bytes,
                        const struct dgram_buffer_options *options,
                        struct dgram_buffer **ret_buffer)
{
    struct dgram_buffer_options read = {0};
    if (loop == NULL || ret_buffer == NULL) {
        return DGRAM_ENULL;
    }
    if (loop_forked(loop)) {
        return DGRAM_EFORKED;
    }
    if (bytes == 0 || bytes > BUFFER_SIZE_MAX) {
        return DGRAM_EBADBUFFERSIZE;
    }
    int code =
        dg_options_read(&read, sizeof(read), options, offsetof(struct dgram_buffer_options, flags));
    if (code == 0 && ((read.flags & ~DGRAM_ZERO_COPY) != 0 || read.reserved0 != 0)) {
        code = DGRAM_EBADOPTIONS;
    }
    if (code == 0 && loop->freeing) {
        code = DGRAM_ENOTRUNNING;
    }
    if (code < 0) {
        return code;
    }
    struct dgram_buffer *buffer = buffer_make(bytes);
    if (buffer == NULL) {
        return -ENOMEM;
    }
    buffer->loop = loop;
    buffer->on_idle = read.on_idle;
    buffer->user = read.user;
    node_init(&buffer->all);
    dg_task_init(&buffer->idle, PHASE_IDLE, idle_run);
    node_prepend(&loop->buffers->all, &buffer->all);
    buffer->zero_copy = (read.flags & DGRAM_ZERO_COPY) ? buffer_register(buffer) : -ENOTSUP;
    *ret_buffer = buffer;
    return 0;
}

void *dgram_buffer_data(struct dgram_buffer *buffer)
{
    return buffer == NULL ? NULL : buffer->region.memory;
}

int dgram_buffer_zero_copy(const struct dgram_buffer *buffer)
{
    int code = buffer_check(buffer);
    return code < 0 ? code : buffer->zero_copy;
}

bool dgram_buffer_in_use(const struct dgram_buffer *buffer)
{
    bool idle_is_due = buffer != NULL && task_is_due(&buffer->idle) && buffer->on_idle != NULL;
    return buffer_check(buffer) == 0 && (buffer->uses > 0 || idle_is_due);
}

int dgram_on_idle(struct dgram_buffer *buffer, dgram_buffer_fn *fn, void *user)
{
    int code = buffer_check(buffer);
    if (code == 0) {
        buffer->on_idle = fn;
        buffer->user = user;
    }
    return code;
}

struct dgram_buffer *dgram_buffer_free(struct dgram_buffer *buffer)
{
    if (buffer_check(buffer) < 0) {
        return NULL; /* a child's copy goes with its loop */
    }
    buffer->freed = true;
    if (buffer->uses == 0 && !task_is_due(&buffer->idle)) {
        buffer_release(buffer);
    }
    return NULL;
}

void dg_buffers_close(struct dgram_loop *loop)
{
    struct buffers *buffers = loop->buffers;
    if (buffers == NULL) {
        return;
    }
    while (!node_alone(&buffers->all)) {
        struct dgram_buffer *buffer = owner_of(node_take(&buffers->all), struct dgram_buffer, all);
        (void) munmap(buffer->region.memory, buffer->region.size);
        dg_release(buffer);
    }
    dg_release(buffers->loans);
    dg_release(buffers);
}
