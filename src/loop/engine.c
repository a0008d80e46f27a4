/* SPDX-License-Identifier: MIT */
/*
 * engine.c: see engine.h.
 *
 * Owns the list of engines, in order of preference. Knows engines only by their exported tables;
 * which of them exist is decided by the build.
 */
#include "src/loop/engine.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/sized.h"
#include "src/core/io.h"
#include "src/loop/probe.h"
#include "src/receive/receiver.h"

extern const struct backend dg_backend_poll;
#if DGRAM_HAVE_URING
extern const struct backend dg_backend_uring;
static const struct backend *const uring_backend = &dg_backend_uring;
#else
static const struct backend *const uring_backend;
#endif

struct engine_row {
    uint32_t number;
    const char *name;
    const struct backend *const *backend; /* points to NULL where it is not built in */
};

static const struct backend *const poll_backend = &dg_backend_poll;

static const struct engine_row engine_rows[] = {
    {DGRAM_ENGINE_URING, "uring", &uring_backend},
    {DGRAM_ENGINE_POLL, "poll", &poll_backend},
};

enum { ENGINE_ROWS = sizeof(engine_rows) / sizeof(engine_rows[0]) };

static const struct engine_row *row_of(uint32_t number)
{
    for (size_t i = 0; i < ENGINE_ROWS; i++) {
        if (engine_rows[i].number == number) {
            return &engine_rows[i];
        }
    }
    return NULL;
}

uint32_t dg_engine_number(const struct backend *backend)
{
    for (size_t i = 0; i < ENGINE_ROWS; i++) {
        if (*engine_rows[i].backend == backend) {
            return engine_rows[i].number;
        }
    }
    return DGRAM_ENGINE_AUTO; /* the simulated one of tests */
}

int dgram_engine_probe(uint32_t engine, struct dgram_engine_report *report)
{
    const struct engine_row *row = row_of(engine);
    if (report == NULL) {
        return DGRAM_ENULL;
    }
    if (row == NULL) {
        return DGRAM_EBADENGINE;
    }
    struct failure failure = dg_probe(*row->backend);
    const struct dgram_engine_report ours = {
        .size = sizeof(ours),
        .code = failure.code,
        .engine = engine,
        .name = row->name,
        .call = failure.call,
        .advice = dg_probe_advice(&failure),
    };
    return dg_result_write(report, &ours, sizeof(ours),
                           offsetof(struct dgram_engine_report, engine));
}

/* ---- The choice ---------------------------------------------------------------------------- */

/* The option, else the environment, else AUTO. */
static int choice_read(uint32_t *engine)
{
    if (*engine != DGRAM_ENGINE_AUTO) {
        return row_of(*engine) != NULL ? 0 : DGRAM_EBADENGINE;
    }
    const char *name = getenv("DGRAM_ENGINE");
    if (name == NULL || name[0] == '\0' || strcmp(name, "auto") == 0) {
        return 0;
    }
    for (size_t i = 0; i < ENGINE_ROWS; i++) {
        if (strcmp(name, engine_rows[i].name) == 0) {
            *engine = engine_rows[i].number;
            return 0;
        }
    }
    return DGRAM_EBADENGINE;
}

static struct failure backend_open(struct dgram_loop *loop, const struct backend *backend)
{
    struct failure failure =
        dg_engine_start(backend, &loop->io->config, dg_inlet_pool(loop), &loop->io->engine);
    if (failure.code == 0) {
        loop->io->backend = backend;
    }
    return failure;
}

/*
 * The kernel's own facts stay as they are: an engine that worked once, a receive that it does not
 * know, a train that it damaged or did not see. (That takes 200 ms to find out, so it must not be
 * asked again.) Everything else may pass: limits, memory and descriptors, a sysctl, even a seccomp
 * filter, which is the thread's. A refused set-up is asked again for the price of a system call;
 * one for want of memory, for the 32 ms in which rings that were just closed may give some back.
 */
static bool is_for_life(const struct failure *failure)
{
    bool trial = dg_probe_is_verdict(failure);
    int code = failure->code;
    return code == 0 || (trial && (code == -EINVAL || code == -EPROTO || code == -ETIMEDOUT));
}

/* Whether the preferred engine moves datagrams here. A race between two threads probes twice and
 * finds the same. */
static struct failure preferred_probe(const struct backend *backend)
{
    static _Atomic(const char *) known_call;
    static atomic_int known_code;
    const char *call = atomic_load(&known_call);
    if (call != NULL) {
        return (struct failure){atomic_load(&known_code), call};
    }
    struct failure found = dg_probe(backend);
    if (is_for_life(&found)) {
        atomic_store(&known_code, found.code);
        atomic_store(&known_call, found.call);
    }
    return found;
}

static int open_best(struct dgram_loop *loop)
{
    struct failure failure = preferred_probe(uring_backend);
    if (failure.code == 0) {
        failure = backend_open(loop, uring_backend);
        if (failure.code == 0) {
            return 0;
        }
    }
    loop->choice->refused_code = failure.code;
    loop->choice->refused_call = failure.call;
    loop->choice->refused_advice = dg_probe_advice(&failure);
    return backend_open(loop, poll_backend).code;
}

int dg_engine_open(struct dgram_loop *loop, const struct backend *given, uint32_t engine)
{
    loop->choice->refused_call = loop->choice->refused_advice = "";
    if (given != NULL) {
        return backend_open(loop, given).code;
    }
    int code = choice_read(&engine);
    if (code < 0) {
        return code;
    }
    if (engine == DGRAM_ENGINE_AUTO) {
        return open_best(loop);
    }
    const struct backend *backend = *row_of(engine)->backend;
    struct failure failure = {0, ""};
    if (backend != NULL && backend == uring_backend) {
        failure = preferred_probe(backend); /* refuse now rather than fail at the first receive */
    }
    return failure.code < 0 ? failure.code : backend_open(loop, backend).code;
}
