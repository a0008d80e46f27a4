/* SPDX-License-Identifier: MIT */
/* io.c: see io.h. */
#include "src/core/io.h"

#include <assert.h>
#include <errno.h>

#include "src/base/array.h"

void dg_io_open(struct io *io)
{
    io->config.completions = &io->pending;
    io->config.failed_call = &io->failed_call;
    io->failed_call = "";
}

void dg_io_close(struct io *io)
{
    dg_release(io->pending.items);
    dg_release(io->dispatching.items);
    dg_release(io->spare.items);
}

/* ---- Records ------------------------------------------------------------------------------- */

static int list_grow(struct completions *list, uint32_t capacity)
{
    int code = array_grow(&list->items, list->count, capacity);
    list->capacity = code == 0 ? capacity : list->capacity;
    return code;
}

/* Both lists, because they take turns. The one that is being walked must stay where it is: its
 * successor waits in `spare` until the walk ends. */
int dg_io_reserve(struct io *io, int records)
{
    uint32_t needed = io->needed + (uint32_t) records;
    uint32_t doubled = io->pending.capacity * 2;
    uint32_t capacity = doubled > needed ? doubled : needed;
    struct completions *other = io->dispatches ? &io->spare : &io->dispatching;
    if (io->dispatches && io->spare.capacity == 0) {
        io->spare.capacity = io->dispatching.capacity; /* it stands for that one */
    }
    if ((needed > other->capacity && list_grow(other, capacity) < 0) ||
        (needed > io->pending.capacity && list_grow(&io->pending, capacity) < 0)) {
        return -ENOMEM;
    }
    io->needed = needed;
    return 0;
}

struct completions dg_io_take(struct io *io)
{
    struct completions list = io->pending;
    assert(!io->dispatches);
    io->pending = io->dispatching;
    io->pending.count = 0;
    io->dispatching = list;
    io->dispatches = true;
    return list;
}

void dg_io_done(struct io *io)
{
    assert(io->dispatches);
    io->dispatches = false;
    io->dispatching.count = 0;
    if (io->spare.items != NULL) {
        dg_release(io->dispatching.items);
        io->dispatching = io->spare;
    }
    io->spare = (struct completions){0};
}

void dg_io_note(struct io *io, int code)
{
    io->failed_code = code < 0 ? code : io->failed_code;
}

/* ---- Watches ------------------------------------------------------------------------------- */

int dg_watch_arm(struct io *io, struct dg_watch *watch)
{
    assert(!watch->armed);
    int code = io->backend->watch(io->engine, &watch->base);
    io->arms = true;
    watch->armed = code == 0;
    watch->known = watch->known || code == 0;
    return code;
}

static void records_forget(const struct completions *list, const struct dg_watch *watch)
{
    for (uint32_t i = 0; i < list->count; i++) {
        struct completion *record = &list->items[i];
        if (record->kind == COMPLETION_READY && record->watch == &watch->base) {
            record->watch = NULL;
        }
    }
}

void dg_watch_end(struct io *io, struct dg_watch *watch)
{
    if (watch->known) {
        io->backend->unwatch(io->engine, &watch->base);
        watch->armed = watch->known = false;
        records_forget(&io->pending, watch);
        records_forget(&io->dispatching, watch);
    }
}

void dg_watch_fired(struct watch *base)
{
    struct dg_watch *watch = (struct dg_watch *) base;
    if (watch != NULL) {
        assert(watch->armed);
        watch->armed = false;
        watch->fn(watch);
    }
}
