/* SPDX-License-Identifier: MIT */
/* embed.c: see embed.h. */
#include "src/loop/embed.h"

#include "src/base/list.h"
#include "src/core/agenda.h"
#include "src/core/alarm.h"
#include "src/core/check.h"
#include "src/core/io.h"
#include "src/loop/loop.h"
#include "src/loop/work.h"
#include "src/system.h"

/* Work came up outside a turn: makes the descriptor readable. */
static void embedding_kick(struct agenda *agenda)
{
    struct dgram_loop *loop = &owner_of(agenda, struct loop_rooms, agenda)->loop;
    struct embedding *embedding = loop->embedding;
    if (!loop->in_turn && !embedding->kicked) {
        embedding->kicked = true;
        loop->system->wake_signal(embedding->kick[1]);
    }
}

void dg_embedding_clear(struct dgram_loop *loop)
{
    struct embedding *embedding = loop->embedding;
    if (embedding->fd < 0) {
        return;
    }
    if (embedding->kicked) {
        embedding->kicked = false;
        loop->system->wake_clear(embedding->kick[0]);
    }
    /* Its time has come, but perhaps not yet its signal (6.1, a slow machine): clearing would find
     * nothing, and a signal that comes later would stay. So the turn's end sets it anew in any
     * case, which takes back a signal that is there or on its way. */
    if (embedding->deadline <= loop->system->now()) {
        embedding->deadline = 0;
    }
}

/* Between turns the alarm stands at the next deadline, and the kick says whether there is work. */
void dg_embedding_set(struct dgram_loop *loop)
{
    struct embedding *embedding = loop->embedding;
    if (embedding->fd < 0 || loop_forked(loop)) {
        return;
    }
    uint64_t deadline = alarms_next(loop->alarms);
    if (deadline != embedding->deadline) {
        loop->system->alarm_set(embedding->alarm, deadline);
        embedding->deadline = deadline;
    }
    if (dg_loop_has_work(loop)) {
        agenda_wake(loop->agenda);
    }
}

void dg_embedding_close(struct dgram_loop *loop)
{
    struct embedding *embedding = loop->embedding;
    if (embedding->fd >= 0) {
        (void) loop->system->close(embedding->fd);
        (void) loop->system->close(embedding->alarm);
        (void) loop->system->close(embedding->kick[1]);
        (void) loop->system->close(embedding->kick[0]);
        embedding->fd = -1;
        loop->agenda->kick = NULL;
    }
}

static int embedding_open(struct dgram_loop *loop)
{
    const struct dg_system *system = loop->system;
    struct embedding embedding = {.deadline = UINT64_MAX};
    int engine_fd = loop->io->backend->fd(loop->io->engine);
    if (engine_fd < 0) {
        return engine_fd;
    }
    int code = system->wake_open(embedding.kick);
    if (code < 0) {
        return code;
    }
    code = embedding.alarm = system->alarm_open();
    if (code >= 0) {
        const int fds[] = {engine_fd, embedding.kick[0], embedding.alarm};
        code = embedding.fd = system->gather_open(fds, sizeof(fds) / sizeof(fds[0]));
        if (code < 0) {
            (void) system->close(embedding.alarm);
        }
    }
    if (code < 0) {
        (void) system->close(embedding.kick[1]);
        (void) system->close(embedding.kick[0]);
        return code;
    }
    *loop->embedding = embedding;
    loop->agenda->kick = embedding_kick;
    return 0;
}

int dgram_loop_fd(struct dgram_loop *loop)
{
    if (loop == NULL) {
        return DGRAM_ENULL;
    }
    if (loop_forked(loop)) {
        return DGRAM_EFORKED;
    }
    if (loop->embedding->fd < 0) {
        int code = embedding_open(loop);
        if (code < 0) {
            return code;
        }
        agenda_wake(loop->agenda); /* the first turn arms and submits operations from before */
    }
    return loop->embedding->fd;
}
