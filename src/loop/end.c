/* SPDX-License-Identifier: MIT */
/* end.c: dgram_loop_free(): everything that was begun is completed, then all is taken down. */
#include <errno.h>

#include "src/base/cancel.h"
#include "src/base/list.h"
#include "src/core/agenda.h"
#include "src/core/check.h"
#include "src/core/io.h"
#include "src/loop/loop.h"
#include "src/loop/turn.h"
#include "src/receive/deliver.h"
#include "src/send/submit.h"
#include "src/socket/life.h"

/* From here on nothing begins any more: no message, no tick of a timer, no question, no new socket.
 * Accepted sends are still to be completed. */
static void loop_begin_end(struct dgram_loop *loop)
{
    loop->freeing = true;
    dg_inbox_end(loop);
    dg_timers_stop(loop);
    dg_sockets_close(loop);
}

/* Without the engine: it is broken. */
static void abandon_all(struct dgram_loop *loop, int code)
{
    dg_send_settle(loop, code);
    dg_sockets_abandon(loop, code);
    for (uint32_t i = 0; i < loop->io->pending.count; i++) {
        const struct completion *record = &loop->io->pending.items[i];
        uint64_t datagrams;
        if (record->kind == COMPLETION_RECEIVED) { /* counted only */
            (void) dg_deliver(&((struct dgram_socket *) record->endpoint)->receiver, record, 1,
                              &datagrams);
        }
    }
    loop->io->pending.count = 0;
    while (!node_alone(loop->sockets) && !loop_forked(loop)) {
        agenda_run(loop->agenda, PHASE_SENT);
        agenda_run(loop->agenda, PHASE_ERRORS);
        agenda_run(loop->agenda, PHASE_CLOSED);
    }
}

/* The child's copy: memory and descriptors go, nothing that the parent shares is touched. */
static void loop_free_forked(struct dgram_loop *loop)
{
    dg_outbox_forget(loop); /* its requests name senders */
    dg_sockets_forget(loop);
    dg_loop_forget(loop, true);
}

/* The owner has ended, or does not use the loop any more. */
static void loop_inherit(struct dgram_loop *loop)
{
    if (loop->io->backend->inherit != NULL &&
        loop->io->backend->inherit(loop->io->engine) == -EBUSY) {
        dg_inbox_await(loop);
    }
}

static void loop_destroy(struct dgram_loop *loop)
{
    int code = 0;
    loop->in_turn = true;
    if (dg_owner_is_other(loop)) {
        loop_inherit(loop);
    }
    while (!node_alone(loop->sockets) && code == 0) {
        code = dg_turn(loop, -1);
    }
    if (code < 0 && code != DGRAM_EFORKED) {
        abandon_all(loop, code);
    }
    dg_inbox_run(loop);
    agenda_run(loop->agenda, PHASE_SENT);
    if (loop_forked(loop)) { /* a callback forked */
        loop_free_forked(loop);
        return;
    }
    dg_watch_end(loop->io, &loop->inbox->watch);
    dg_loop_forget(loop, false);
}

struct dgram_loop *dgram_loop_free(struct dgram_loop *loop)
{
    if (loop == NULL) {
        return NULL;
    }
    int cancel_state = cancel_hold();
    bool forked = loop_forked(loop);
    if (!forked && !loop->in_turn) {
        dg_owner_leave(loop);
    }
    if (!forked) {
        loop_begin_end(loop);
    }
    if (loop->in_turn) {
        rooms_of(loop)->free_requested = true;
    } else if (forked) {
        loop_free_forked(loop);
    } else {
        loop_destroy(loop);
    }
    cancel_release(cancel_state);
    return NULL;
}
