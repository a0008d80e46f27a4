/* SPDX-License-Identifier: MIT */
/* probe.c: see probe.h. */
#include "src/loop/probe.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

#include "src/net/cmsg.h"
#include "src/system.h"

enum { PROBE_SLOTS = 4, PROBE_SLOT_SIZE = 512 };

/* ---- Advice -------------------------------------------------------------------------------- */

/* The trial itself failed, once everything was set up. */
static const char trial_call[] = "receive a train";

struct advice {
    const char *call; /* how the failed call begins; "": any */
    int error;
    const char *text;
};

/* The first row that fits. The sysctl acts in io_uring_setup(2) alone, a seccomp filter may deny
 * any call, and in other calls the same errno has another cause. */
static const struct advice advices[] = {
    {"io_uring", ENOTSUP,
     "the kernel lacks a feature that it needs: Linux 6.0 or later is required"},
    {"io_uring", EINVAL, "the kernel is too old: Linux 6.0 or later is required"},
    {"io_uring", ENOSYS, "the kernel was built without io_uring, or a seccomp filter hides it"},
    {"io_uring_setup", EPERM,
     "not permitted: a container's seccomp profile denies io_uring, or the sysctl "
     "kernel.io_uring_disabled does; allow the io_uring system calls or set it to 0"},
    {"io_uring", EPERM,
     "not permitted: a container's seccomp profile denies this call; allow the io_uring system "
     "calls"},
    {"io_uring", EACCES,
     "not permitted: a container's seccomp profile or security module denies this call; allow the "
     "io_uring system calls"},
    {"io_uring", ENOMEM,
     "no memory: rings and their lists of buffers count as locked memory up to Linux 5.11 and "
     "again on 6.18; raise the limit (ulimit -l)"},
    {trial_call, EINVAL, "the kernel cannot receive this way: Linux 6.0 or later is required"},
    {trial_call, EPROTO, "what was sent over loopback arrived damaged: a fault of this kernel"},
    {trial_call, ETIMEDOUT, "what arrived over loopback was not received: a fault of this kernel"},
    {"", EMFILE, "no free descriptor: raise the limit of open files (ulimit -n)"},
    {"", ENFILE, "no free descriptor on this host: raise the sysctl fs.file-max"},
    {"", ENOMEM, "no memory: the host, the container or the process (ulimit -v) is at its limit"},
};

const char *dg_probe_advice(const struct failure *failure)
{
    if (failure->code == -ENOTSUP && failure->call[0] == '\0') {
        return "this library was built without it";
    }
    for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++) {
        const struct advice *advice = &advices[i];
        if (advice->error == -failure->code &&
            strncmp(failure->call, advice->call, strlen(advice->call)) == 0) {
            return advice->text;
        }
    }
    return "";
}

bool dg_probe_is_verdict(const struct failure *failure)
{
    return failure->call == trial_call;
}

/* ---- Opening ------------------------------------------------------------------------------- */

/* A lack of the host is found out while there still is a choice. */
struct failure dg_engine_start(const struct backend *backend, const struct engine_config *config,
                               const struct pool *pool, struct engine **ret_engine)
{
    struct failure failure = {-ENOTSUP, ""};
    struct engine *engine = NULL;
    if (backend == NULL) {
        return failure;
    }
    failure.code = backend->open(config, &engine, &failure.call);
    if (failure.code < 0) {
        return failure;
    }
    failure.code = backend->provide(engine, dg_pool_slots(pool), &failure.call);
    if (failure.code < 0) {
        backend->close(engine, false);
        return failure;
    }
    *ret_engine = engine;
    return (struct failure){0, ""};
}

/* ---- The probe ----------------------------------------------------------------------------- */

/*
 * Everything that one train through an engine needs, on its own: no loop. Where the host has no
 * UDP_SEGMENT and UDP_GRO it is one datagram.
 *
 * The network's doings are no fault of the engine. No port may be free (EADDRINUSE), there may be
 * no loopback (EADDRNOTAVAIL, ENETUNREACH). A rule of the firewall may refuse the train (EPERM) or
 * swallow it, a device may cut it up. Then the set-up was tried, and that the receive begins.
 */
struct probe {
    const struct backend *backend;
    struct engine *engine;
    struct engine_config config;
    const char *failed_call;
    struct completions completions;
    struct completion records[PROBE_SLOTS + 8];
    struct pool *pool;
    struct endpoint endpoint;
    struct sockaddr_in self;
    bool silent;       /* nothing can be sent */
    uint32_t received; /* bytes */
    int stopped;       /* why the receive ended, if that was an error */
    bool attached, damaged, leaving, detached;
};

static const char probe_payload[] = "probeprobe"; /* two equal datagrams */

/* A datagram that lies in the socket has to be seen: 200 ms for that. One that does not lie there
 * has arrived within the send itself, or the firewall has it: loopback delivers at once, and a busy
 * host within some milliseconds. */
enum {
    PROBE_TRIES = 200,
    PROBE_TRIES_IN_VAIN = 10,
    PROBE_SEGMENT = 5,
    PROBE_BYTES = 2 * PROBE_SEGMENT
};
#define PROBE_WAIT_NS INT64_C(1000000)

/* A program may be denied IPv4 (RestrictAddressFamilies of systemd.exec(5)). */
static int probe_socket(struct probe *probe)
{
    const struct dg_system *system = &dg_system_host;
    socklen_t size = sizeof(probe->self);
    int fd = system->socket(AF_INET);
    if (fd == -EAFNOSUPPORT || fd == -EPERM || fd == -EACCES) {
        fd = system->socket(AF_INET6);
        probe->silent = true;
    }
    if (fd < 0) {
        return fd;
    }
    probe->endpoint.fd = fd;
    probe->endpoint.control_size = dg_cmsg_ask_for_segments(system, fd);
    probe->self.sin_family = AF_INET;
    probe->self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    probe->silent = probe->silent ||
                    system->bind(fd, (struct sockaddr *) &probe->self, sizeof(probe->self)) < 0 ||
                    system->getsockname(fd, (struct sockaddr *) &probe->self, &size) < 0;
    return 0;
}

/* Any process of the host may send to the port. */
static bool is_from_probe(const struct probe *probe, const struct completion *record)
{
    struct sockaddr_in from = {0};
    memcpy(&from, record->name,
           record->name_size < sizeof(from) ? record->name_size : sizeof(from));
    return from.sin_port == probe->self.sin_port &&
           from.sin_addr.s_addr == probe->self.sin_addr.s_addr;
}

/* A train arrives as it was sent or, where a device on the way makes no trains, in two parts. */
static void probe_received(struct probe *probe, const struct completion *record)
{
    uint32_t segment = dg_cmsg_segment(record->control, record->control_size);
    bool trains = probe->endpoint.control_size > 0;
    bool whole = record->size == PROBE_BYTES && segment == (trains ? PROBE_SEGMENT : 0);
    bool part = record->size == PROBE_SEGMENT && trains;
    if ((whole || part) && memcmp(record->data, probe_payload, record->size) == 0) {
        probe->received += record->size;
    } else {
        probe->damaged = true;
    }
}

static void probe_harvest(struct probe *probe)
{
    bool starves = false; /* strangers' datagrams took the slots */
    for (uint32_t i = 0; i < probe->completions.count; i++) {
        const struct completion *record = &probe->records[i];
        if (record->kind == COMPLETION_RECEIVED) {
            if (is_from_probe(probe, record)) {
                probe_received(probe, record);
            }
            probe->backend->recycle(probe->engine, record->slot);
        } else if (record->kind == COMPLETION_STOPPED && record->result != -ENOBUFS) {
            probe->stopped = record->result;
        } else if (record->kind == COMPLETION_STOPPED) {
            starves = true;
        }
        probe->detached = probe->detached || record->kind == COMPLETION_DETACHED;
    }
    probe->completions.count = 0;
    if (starves && !probe->leaving) {
        probe->backend->recv_start(probe->engine, &probe->endpoint);
    }
}

static int probe_wait(struct probe *probe, int64_t timeout_ns)
{
    int code = probe->backend->wait(probe->engine, timeout_ns, false);
    if (code == 0) {
        probe_harvest(probe);
    }
    return code;
}

static int probe_send(struct probe *probe, int *ret_result)
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
    if (!probe->silent) {
        probe->backend->send(probe->engine, list, 1);
    }
    int code = probe_wait(probe, 0);
    *ret_result = train.result;
    return code;
}

/* An engine whose own call does not exist; every other refusal is the network's. */
static bool send_is_unknown(int result)
{
    return result == -EINVAL || result == -ENOSYS || result == -EOPNOTSUPP;
}

static bool probe_lies_in_socket(const struct probe *probe)
{
    int waiting = 0; /* bytes of the next datagram, udp(7) */
    return ioctl(probe->endpoint.fd, FIONREAD, &waiting) == 0 && waiting > 0;
}

static bool probe_has_verdict(const struct probe *probe)
{
    return probe->received >= PROBE_BYTES || probe->damaged || probe->stopped < 0;
}

static int probe_await(struct probe *probe)
{
    int code = 0;
    for (int tries = 0; code == 0 && tries < PROBE_TRIES && !probe_has_verdict(probe); tries++) {
        if (tries >= PROBE_TRIES_IN_VAIN && !probe_lies_in_socket(probe)) {
            break;
        }
        code = probe_wait(probe, PROBE_WAIT_NS);
    }
    return code;
}

/* Of what was set up: does it receive what it sends? */
static struct failure probe_train(struct probe *probe)
{
    int result = 0;
    probe->backend->recv_start(probe->engine, &probe->endpoint);
    int code = probe_send(probe, &result);
    if (code == 0 && result < 0) {
        if (send_is_unknown(result)) {
            return (struct failure){result, "send a train"};
        }
        probe->silent = true;
    }
    if (code == 0 && !probe->silent) {
        code = probe_await(probe);
    }
    if (code < 0) {
        return (struct failure){code, probe->failed_call};
    }
    code = probe->damaged                                             ? -EPROTO
           : probe->stopped < 0                                       ? probe->stopped
           : !probe_has_verdict(probe) && probe_lies_in_socket(probe) ? -ETIMEDOUT
                                                                      : 0;
    return (struct failure){code, trial_call};
}

/* Each step names itself as the call that failed; the engine's own are named by the engine. */
static struct failure probe_steps(struct probe *probe)
{
    struct failure failure = {0, "mmap"};
    failure.code = dg_pool_create(PROBE_SLOTS, PROBE_SLOT_SIZE, &probe->pool);
    if (failure.code == 0) {
        failure = dg_engine_start(probe->backend, &probe->config, probe->pool, &probe->engine);
    }
    if (failure.code == 0) {
        failure.call = "socket";
        failure.code = probe_socket(probe);
    }
    if (failure.code == 0) {
        failure.call = "attach";
        failure.code = probe->backend->attach(probe->engine, &probe->endpoint);
        probe->attached = failure.code == 0;
    }
    return failure.code == 0 ? probe_train(probe) : failure;
}

static void probe_clean(struct probe *probe)
{
    if (probe->attached) {
        probe->leaving = true;
        probe->backend->detach(probe->engine, &probe->endpoint);
        for (int tries = 0; !probe->detached && tries < PROBE_TRIES; tries++) {
            if (probe_wait(probe, PROBE_WAIT_NS) < 0) {
                break; /* a broken engine is closed all the same */
            }
        }
    }
    if (probe->engine != NULL) {
        probe->backend->close(probe->engine, false);
    }
    if (probe->endpoint.fd >= 0) {
        (void) dg_system_host.close(probe->endpoint.fd);
    }
    dg_pool_abandon(probe->pool);
}

struct failure dg_probe(const struct backend *backend)
{
    struct probe probe = {.backend = backend, .endpoint = {.fd = -1}, .failed_call = ""};
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
