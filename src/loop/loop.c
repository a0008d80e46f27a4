/* SPDX-License-Identifier: MIT */
/* loop.c: see loop.h. */
#include "src/loop/loop.h"

#include <errno.h>

#include "src/base/fork.h"
#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/base/sized.h"
#include "src/core/agenda.h"
#include "src/core/alarm.h"
#include "src/core/errors.h"
#include "src/core/io.h"
#include "src/loop/wait.h"
#include "src/names/dns_config.h"
#include "src/names/names.h"
#include "src/receive/receiver.h"
#include "src/send/buffer.h"
#include "src/system.h"

enum {
    SLOTS_DEFAULT = 64,
    SLOTS_MIN = 4,
    SLOTS_MAX = 4096,
    SLOT_SIZE_DEFAULT = 65536,
    SLOT_SIZE_MIN = 512
};

/* READY of the inbox. */
enum { RECORDS_PER_LOOP = 1 };
#define LOOP_QUEUE_LIMIT (UINT64_C(16) * 1024 * 1024)

static int check_loop_options(const struct dgram_loop_options *options)
{
    bool slots =
        options->slots == 0 || (options->slots >= SLOTS_MIN && options->slots <= SLOTS_MAX);
    bool size = options->slot_size == 0 ||
                (options->slot_size >= SLOT_SIZE_MIN && options->slot_size <= SLOT_SIZE_DEFAULT);
    bool servers =
        options->dns_servers == NULL || dg_dns_servers_are_well_formed(options->dns_servers);
    bool segments = options->segments_max <= SEGMENTS_LIMIT;
    bool waits = dg_wait_options_are_good(options);
    return slots && size && waits && segments && servers ? 0 : DGRAM_EBADOPTIONS;
}

static void loop_fill(struct loop_rooms *rooms, const struct dgram_loop_options *options,
                      const struct dg_system *system)
{
    struct dgram_loop *loop = &rooms->loop;
    loop->system = system;
    loop->now = system->now();
    loop->fork_generation = dg_fork_generation;
    loop->agenda = &rooms->agenda;
    loop->alarms = &rooms->alarms;
    loop->io = &rooms->io;
    loop->sockets = &rooms->sockets;
    dg_agenda_open(loop->agenda);
    loop->alarms->fork_generation = dg_fork_generation;
    dg_io_open(loop->io);
    node_init(loop->sockets);
    loop->timers = &rooms->timers;
    loop->inbox = &rooms->inbox;
    loop->embedding = &rooms->embedding;
    loop->ownership = &rooms->ownership;
    loop->choice = &rooms->choice;
    node_init(&rooms->timers.all);
    node_init(&rooms->ownership.owned);
    rooms->ownership.loop = loop;
    rooms->embedding.fd = -1;
    rooms->inbox.fds[0] = rooms->inbox.fds[1] = -1;
    rooms->slots = options->slots != 0 ? options->slots : SLOTS_DEFAULT;
    rooms->slot_size = options->slot_size != 0 ? options->slot_size : SLOT_SIZE_DEFAULT;
}

static int outbox_open(struct dgram_loop *loop, const struct dgram_loop_options *options)
{
    uint32_t segments = loop->system->segments_max();
    if (options->segments_max != 0 && options->segments_max < segments) {
        segments = options->segments_max;
    }
    return dg_outbox_open(loop, segments,
                          options->queue_limit != 0 ? options->queue_limit : LOOP_QUEUE_LIMIT);
}

/* The rooms, in the order of their floors. */
static int rooms_open(struct loop_rooms *rooms, const struct dgram_loop_options *options)
{
    struct dgram_loop *loop = &rooms->loop;
    int code = dg_errors_open(loop->agenda, &loop->errors);
    if (code == 0) {
        code = dg_names_open(loop, options, &rooms->inbox.fds[1]);
    }
    if (code == 0) {
        code = outbox_open(loop, options);
    }
    if (code == 0) {
        code = dg_buffers_open(loop);
    }
    if (code == 0) {
        code = dg_inlet_open(loop, rooms->slots, rooms->slot_size);
    }
    if (code == 0) {
        loop->pieces = dg_allocate(DGRAM_UDP6_SIZE_MAX);
        code = loop->pieces == NULL ? -ENOMEM : dg_wait_open(loop, options);
    }
    return code < 0 ? code : dg_io_reserve(loop->io, RECORDS_PER_LOOP);
}

static void rooms_close(struct dgram_loop *loop, bool forked)
{
    dg_names_close(loop, forked);
    dg_buffers_close(loop);
    dg_outbox_close(loop);
    dg_inlet_close(loop);
    dg_wait_close(loop);
    dg_release(loop->pieces);
    dg_errors_close(loop->errors);
    dg_alarms_close(loop->alarms);
    dg_io_close(loop->io);
    dg_release(loop);
}

void dg_loop_forget(struct dgram_loop *loop, bool forked)
{
    dg_names_close(loop, forked); /* its sockets are watched by the engine */
    loop->names = NULL;
    loop->io->backend->close(loop->io->engine, forked);
    dg_embedding_close(loop);
    dg_inbox_close(loop);
    dg_timers_free(loop);
    rooms_close(loop, forked);
}

static int engine_open(struct dgram_loop *loop, const struct dgram_loop_options *options,
                       const struct backend *backend)
{
    int code = dg_inbox_open(loop);
    if (code < 0) {
        return code;
    }
    code = dg_engine_open(loop, backend, options->engine);
    if (code == 0) {
        code = dg_watch_arm(loop->io, &loop->inbox->watch);
        if (code < 0) {
            loop->io->backend->close(loop->io->engine, false);
        }
    }
    if (code < 0) {
        dg_inbox_close(loop);
    }
    return code;
}

int dg_loop_create_on(const struct dgram_loop_options *options, const struct dg_system *system,
                      const struct backend *backend, struct dgram_loop **ret_loop)
{
    struct dgram_loop_options read = {0};
    if (ret_loop == NULL) {
        return DGRAM_ENULL;
    }
    int code =
        dg_options_read(&read, sizeof(read), options, offsetof(struct dgram_loop_options, engine));
    if (code == 0) {
        code = check_loop_options(&read);
    }
    if (code < 0) {
        return code;
    }
    dg_owners_open();
    struct loop_rooms *rooms = dg_allocate(sizeof(*rooms));
    if (rooms == NULL) {
        return -ENOMEM;
    }
    loop_fill(rooms, &read, system);
    code = rooms_open(rooms, &read);
    if (code == 0) {
        code = engine_open(&rooms->loop, &read, backend);
    }
    if (code < 0) {
        rooms_close(&rooms->loop, false);
        return code;
    }
    *ret_loop = &rooms->loop;
    return 0;
}

int dgram_loop_create(const struct dgram_loop_options *options, struct dgram_loop **ret_loop)
{
    return dg_loop_create_on(options, &dg_system_host, NULL, ret_loop);
}
