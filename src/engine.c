/* SPDX-License-Identifier: MIT */
/*
 * engine.c: which engine runs, and why not the other.
 *
 * Owns the list of engines, in order of preference, and the probe. Knows engines only by their
 * exported tables; which of them exist is decided by the build.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "src/core.h"

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

struct failure {
    int code;
    const char *call;
};

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

static const char *advice_for(const struct failure *failure)
{
    switch (-failure->code) {
    case 0:
        return "";
    case ENOTSUP:
        return "this library was built without it, or the kernel lacks a feature that it needs: "
               "Linux 6.0 or later is required";
    case ENOSYS:
        return "the kernel was built without io_uring, or a seccomp filter hides it";
    case EPERM:
    case EACCES:
        return "not permitted: a container's seccomp profile denies io_uring, or the sysctl "
               "kernel.io_uring_disabled does; allow the io_uring system calls or set it to 0";
    case EINVAL:
        return "the kernel is too old: Linux 6.0 or later is required";
    case ENOMEM:
        return "no memory: rings count as locked memory up to Linux 5.11 and again on 6.18; raise "
               "the limit (ulimit -l)";
    case EMFILE:
    case ENFILE:
        return "no free descriptor: raise the limit of open files (ulimit -n)";
    default:
        return "";
    }
}

/* ---- The probe ----------------------------------------------------------------------------- */

/* Everything that one train through an engine needs, on its own: no loop. Where the host has no
 * UDP_SEGMENT and UDP_GRO it is one datagram. */
struct probe {
    const struct backend *backend;
    struct engine *engine;
    struct engine_config config;
    const char *failed_call;
    struct completions completions;
    struct completion records[SLOTS_MIN + 8];
    struct pool *pool;
    struct endpoint endpoint;
    struct sockaddr_in self;
    bool silent; /* there is no loopback address: set-up is all that can be tried */
    bool attached, arrived, detached;
};

static const char probe_payload[] = "probeprobe";

enum { PROBE_TRIES = 20, PROBE_SEGMENT = 5, PROBE_BYTES = 2 * PROBE_SEGMENT };
#define PROBE_WAIT_NS INT64_C(10000000)

static int probe_socket(struct probe *probe)
{
    const struct dg_system *system = &dg_system_host;
    socklen_t size = sizeof(probe->self);
    int fd = system->socket(AF_INET);
    if (fd < 0) {
        return fd;
    }
    probe->endpoint.fd = fd;
    probe->endpoint.control_size = dg_cmsg_ask_for_segments(system, fd);
    probe->self.sin_family = AF_INET;
    probe->self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int code = system->bind(fd, (struct sockaddr *) &probe->self, sizeof(probe->self));
    if (code == -EADDRNOTAVAIL) {
        probe->silent = true;
        return 0;
    }
    return code < 0 ? code : system->getsockname(fd, (struct sockaddr *) &probe->self, &size);
}

static void probe_harvest(struct probe *probe)
{
    for (uint32_t i = 0; i < probe->completions.count; i++) {
        const struct completion *record = &probe->records[i];
        if (record->kind == COMPLETION_RECEIVED) {
            uint32_t segment = dg_cmsg_segment(record->control, record->control_size);
            probe->arrived = record->size == PROBE_BYTES &&
                             memcmp(record->data, probe_payload, PROBE_BYTES) == 0 &&
                             segment == (probe->endpoint.control_size > 0 ? PROBE_SEGMENT : 0);
        }
        probe->detached = probe->detached || record->kind == COMPLETION_DETACHED;
    }
    probe->completions.count = 0;
}

static int probe_until(struct probe *probe, const bool *done)
{
    for (int tries = 0; !*done && tries < PROBE_TRIES; tries++) {
        int code = probe->backend->wait(probe->engine, PROBE_WAIT_NS, false);
        if (code < 0) {
            return code;
        }
        probe_harvest(probe);
    }
    return *done ? 0 : -ETIMEDOUT;
}

static int probe_datagram(struct probe *probe)
{
    _Alignas(size_t) unsigned char control[CMSG_SPACE(sizeof(uint16_t))];
    struct iovec vector = {(void *) (uintptr_t) probe_payload, PROBE_BYTES};
    struct train train = {
        .header = {.msg_name = &probe->self,
                   .msg_namelen = sizeof(probe->self),
                   .msg_iov = &vector,
                   .msg_iovlen = 1},
        .endpoint = &probe->endpoint,
    };
    struct train *list[] = {&train};
    if (probe->endpoint.control_size > 0) {
        train.header.msg_control = control;
        train.header.msg_controllen =
            (__typeof__(train.header.msg_controllen)) dg_cmsg_write_segment(
                control, sizeof(control), PROBE_SEGMENT);
    }
    probe->backend->recv_start(probe->engine, &probe->endpoint);
    probe->backend->send(probe->engine, list, 1);
    int code = probe->backend->wait(probe->engine, 0, false);
    if (code == 0 && train.result < 0) {
        code = train.result;
    }
    probe_harvest(probe);
    return code < 0 ? code : probe_until(probe, &probe->arrived);
}

/* No loopback to try with is no fault of the engine's: it says so, or swallows what was sent. What
 * an engine failed to see is still in the socket. */
static bool is_of_network(const struct probe *probe, int code)
{
    int waiting = 0; /* bytes of the next datagram, udp(7) */
    return code == -ENETUNREACH || code == -ENETDOWN ||
           (code == -ETIMEDOUT && ioctl(probe->endpoint.fd, FIONREAD, &waiting) == 0 &&
            waiting == 0);
}

/* Each step names itself as the call that failed; the engine's own are named by the engine. */
static struct failure probe_steps(struct probe *probe)
{
    struct failure failure = {0, "open"};
    failure.code = probe->backend->open(&probe->config, &probe->engine, &failure.call);
    if (failure.code < 0) {
        return failure;
    }
    failure.call = "socket";
    failure.code = probe_socket(probe);
    if (failure.code == 0) {
        failure.call = "mmap";
        failure.code = dg_pool_create(SLOTS_MIN, SLOT_SIZE_MIN, &probe->pool);
    }
    if (failure.code == 0) {
        failure.call = "provide buffers";
        failure.code = probe->backend->provide(probe->engine, dg_pool_slots(probe->pool));
    }
    if (failure.code == 0) {
        failure.call = "attach";
        failure.code = probe->backend->attach(probe->engine, &probe->endpoint);
        probe->attached = failure.code == 0;
    }
    if (failure.code == 0) {
        failure.call = "receive a train";
        failure.code = probe->silent ? 0 : probe_datagram(probe);
        if (failure.code < 0 && is_of_network(probe, failure.code)) {
            failure.code = 0;
        }
    }
    return failure;
}

static void probe_clean(struct probe *probe)
{
    if (probe->attached) {
        probe->backend->detach(probe->engine, &probe->endpoint);
        (void) probe_until(probe, &probe->detached); /* a broken engine is closed all the same */
    }
    if (probe->engine != NULL) {
        probe->backend->close(probe->engine, false);
    }
    if (probe->endpoint.fd >= 0) {
        (void) dg_system_host.close(probe->endpoint.fd);
    }
    dg_pool_abandon(probe->pool);
}

static struct failure backend_probe(const struct backend *backend)
{
    if (backend == NULL) {
        return (struct failure){-ENOTSUP, ""};
    }
    struct probe probe = {.backend = backend, .endpoint = {.fd = -1}};
    probe.completions.items = probe.records;
    probe.completions.capacity = sizeof(probe.records) / sizeof(probe.records[0]);
    probe.config.completions = &probe.completions;
    probe.config.failed_call = &probe.failed_call;
    struct failure failure = probe_steps(&probe);
    probe_clean(&probe);
    if (failure.code == 0) {
        failure.call = "";
    }
    return failure;
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
    struct failure failure = backend_probe(*row->backend);
    const struct dgram_engine_report ours = {
        .size = sizeof(ours),
        .code = failure.code,
        .engine = engine,
        .name = row->name,
        .call = failure.call,
        .advice = advice_for(&failure),
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
    struct failure failure = {-ENOTSUP, ""};
    if (backend != NULL) {
        failure.code = backend->open(&loop->config, &loop->engine, &failure.call);
    }
    if (failure.code == 0) {
        loop->backend = backend;
    }
    return failure;
}

/* Whether the preferred engine moves datagrams here: found out once per process. A race between two
 * threads probes twice and finds the same. */
static struct failure preferred_probe(const struct backend *backend)
{
    static _Atomic(const char *) known_call;
    static atomic_int known_code;
    const char *call = atomic_load(&known_call);
    if (call == NULL) {
        struct failure found = backend_probe(backend);
        /* What may pass is not remembered: descriptors and memory come back. */
        if (found.code == -EMFILE || found.code == -ENFILE || found.code == -ENOMEM) {
            return found;
        }
        atomic_store(&known_code, found.code);
        atomic_store(&known_call, found.call);
        return found;
    }
    return (struct failure){atomic_load(&known_code), call};
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
    loop->refused_code = failure.code;
    loop->refused_call = failure.call;
    loop->refused_advice = advice_for(&failure);
    return backend_open(loop, poll_backend).code;
}

int dg_engine_open(struct dgram_loop *loop, const struct backend *given, uint32_t engine)
{
    loop->refused_call = loop->refused_advice = "";
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
