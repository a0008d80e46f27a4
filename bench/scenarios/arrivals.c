/* SPDX-License-Identifier: MIT */
/*
 * arrivals.c: lone datagrams at random times.
 *
 * The gaps between datagrams are exponential, as of many senders that know nothing of each other
 * (Poisson arrivals), and the same in every run. The thread never sleeps: a wake-up takes longer
 * than the times that are measured. A sender that is late sends at once until it has caught up.
 */
#include "bench/scenarios/arrivals.h"
#include "bench/harness/process.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define SEED UINT64_C(42)

struct crowd {
    uint8_t *payload;
    uint32_t count;
    int fds[];
};

/* ---- Open and close ------------------------------------------------------------------------ */

static int socket_open(struct end *end, int *ret_fd)
{
    struct timeval tick = {.tv_usec = TICK_MS * 1000L};
    int fd = socket(end->bind_to.u.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return end_fail(end, "socket", -errno);
    }
    *ret_fd = fd;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tick, sizeof(tick)) != 0 ||
        bind(fd, &end->bind_to.u.any, end->bind_to.size) != 0) {
        return end_fail(end, "bind", -errno);
    }
    return 0;
}

static int crowd_open(struct end *end)
{
    uint32_t wanted = end->plan->senders;
    struct crowd *crowd = calloc(1, sizeof(*crowd) + wanted * sizeof(crowd->fds[0]));

    if (!crowd) {
        return end_fail(end, "memory", -ENOMEM);
    }
    end->state = crowd;
    crowd->payload = calloc(1, end->plan->size);
    if (!crowd->payload) {
        return end_fail(end, "memory", -ENOMEM);
    }
    descriptors_allow();
    while (crowd->count < wanted) {
        crowd->fds[crowd->count++] = -1;
        if (socket_open(end, &crowd->fds[crowd->count - 1]) != 0) {
            return -1;
        }
    }
    return 0;
}

static void crowd_close(struct end *end)
{
    struct crowd *crowd = end->state;

    for (uint32_t i = 0; crowd && i < crowd->count; i++) {
        if (crowd->fds[i] >= 0) {
            close(crowd->fds[i]);
        }
    }
    if (crowd) {
        free(crowd->payload);
    }
    free(crowd);
    end->state = NULL;
}

/* This engine only sends, and for this scenario only: so it is not in the table of engines. */
static const struct engine plain_sockets = {
    .name = "plain sockets",
    .open = crowd_open,
    .close = crowd_close,
};

/* ---- When ---------------------------------------------------------------------------------- */

/* Returns a number above 0, at most 1. */
static double lot_draw(struct arrivals *arrivals)
{
    arrivals->lot = arrivals->lot * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double) ((arrivals->lot >> 11) + 1) / 9007199254740992.0;
}

static bool arrivals_are_over(const struct arrivals *arrivals, uint64_t now)
{
    const struct plan *plan = arrivals->side.crew->plan;
    bool all = plan->count > 0 && arrivals->sent >= plan->count;

    return all || crew_stopped(arrivals->side.crew) || crew_time_over(arrivals->side.crew, now);
}

/* Waits until the next datagram is due. Returns the time, or 0 when the run is over. */
static uint64_t arrivals_await(struct arrivals *arrivals, bool own_cpu)
{
    const struct crew *crew = arrivals->side.crew;
    uint64_t before = clock_now(), now = before;
    uint64_t rate = crew->plan->rate;

    if (rate > 0) {
        arrivals->due += -log(lot_draw(arrivals)) * 1e9 / (double) rate;
    }
    while (!arrivals_are_over(arrivals, now)) {
        if ((double) (now - crew->started) >= arrivals->due) {
            arrivals->waited_ns += now - before;
            return now;
        }
        if (own_cpu) {
            CPU_RELAX();
        } else {
            sched_yield();
        }
        now = clock_now();
    }
    return 0;
}

/* ---- Sending ------------------------------------------------------------------------------- */

/* Sends one datagram. Returns 0, 1 if the kernel has no room for it now, or -1. */
static int arrivals_send(struct arrivals *arrivals, uint64_t now)
{
    struct end *end = &arrivals->side.end;
    const struct crowd *sockets = end->state;
    int fd = sockets->fds[arrivals->sent % sockets->count];

    number_write(sockets->payload, arrivals->sent);
    stamp_write(sockets->payload, now);
    if (sendto(fd, sockets->payload, end->plan->size, 0, &arrivals->to->u.any,
               arrivals->to->size) >= 0) {
        return 0;
    }
    if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS) {
        return 1;
    }
    return end_fail(end, "sendto", -errno);
}

/* Returns the part of its CPU time that the sender spent waiting. The sender never sleeps, and a
 * thread that takes the CPU away takes it from waiting and from sending alike. */
static uint64_t waiting_share(const struct arrivals *arrivals, uint64_t cpu)
{
    double share = (double) arrivals->waited_ns / (double) arrivals->sent_ns;

    return (uint64_t) ((double) cpu * (share < 1 ? share : 1));
}

static int arrivals_work(struct side *side)
{
    struct arrivals *arrivals = side->run;
    bool own_cpu = cpus_usable() > 1;
    uint64_t cpu = clock_thread_cpu(), now;
    int result = 0;

    while (result >= 0 && (now = arrivals_await(arrivals, own_cpu)) > 0) {
        do {
            result = arrivals_send(arrivals, now);
            now = clock_now();
        } while (result > 0 && !arrivals_are_over(arrivals, now));
        if (result == 0) {
            arrivals->sent++;
            atomic_store_explicit(&arrivals->credit->sent, arrivals->sent, memory_order_relaxed);
        }
    }
    arrivals->sent_ns = clock_now() - side->crew->started;
    side->cpu_wait_ns = waiting_share(arrivals, clock_thread_cpu() - cpu);
    atomic_store_explicit(&arrivals->credit->total, arrivals->sent, memory_order_release);
    return result < 0 ? -1 : 0;
}

void arrivals_init(struct arrivals *arrivals, struct crew *crew, const struct dgram_addr *to,
                   struct credit *credit)
{
    memset(arrivals, 0, sizeof(*arrivals));
    end_init(&arrivals->side.end, crew, &plain_sockets, ROLE_SOURCE);
    arrivals->side.work = arrivals_work;
    arrivals->side.run = arrivals;
    arrivals->side.name = "sender";
    arrivals->side.place = 1;
    arrivals->to = to;
    arrivals->credit = credit;
    arrivals->lot = SEED;
}
