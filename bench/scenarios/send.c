/* SPDX-License-Identifier: MIT */
/*
 * send.c: `send`: the sending side alone, for a `recv` on another machine.
 *
 * Owns the pace and the end marker. Knows nothing of what arrives: there is no credit between two
 * machines, so without --rate it sends as fast as it goes, whatever is lost on the way.
 */
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "bench/harness/harness.h"
#include "bench/harness/process.h"
#include "bench/harness/report.h"
#include "bench/scenarios/oneway.h"
#include "bench/scenarios/scenarios.h"

#define TURN 1024u /* sends per loop turn */

struct send_run {
    const struct plan *plan;
    struct crew crew;
    struct side side;
    struct sizes sizes;
    struct dgram_addr peer;
    uint64_t mark; /* shifted: the high bits of every number */
    uint64_t sent;
    uint64_t bytes;
    uint64_t sent_ns; /* until the last was handed over */
    _Atomic uint64_t live_sent;
};

/* ---- The pace ------------------------------------------------------------------------------ */

/* Returns when datagram `index` is due, by clock_now(). */
static uint64_t due_at(const struct send_run *run, uint64_t index)
{
    double seconds = (double) index / (double) run->plan->rate;

    return run->crew.started + (uint64_t) (seconds * 1e9);
}

/* Returns how many datagrams are due now, at most TURN. */
static uint32_t due_now(const struct send_run *run, uint64_t now)
{
    uint64_t count = run->plan->count;
    uint64_t left = count > 0 ? count - run->sent : TURN;
    double due = TURN;

    if (run->plan->rate > 0) {
        due = (double) (now - run->crew.started) * (double) run->plan->rate / 1e9 + 1 -
              (double) run->sent;
    }
    if ((double) left < due) {
        due = (double) left;
    }
    return due < 1 ? 0 : due < TURN ? (uint32_t) due : TURN;
}

static void sleep_until(uint64_t when)
{
    struct timespec time = {.tv_sec = (time_t) (when / 1000000000u),
                            .tv_nsec = (long) (when % 1000000000u)};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

/* Lets the engine send datagrams that the kernel did not take at once. If there are none, sleeps
 * until the next datagram is due, a tick at most. Returns 0, or -1. */
static int pace(struct send_run *run, uint64_t now)
{
    struct end *end = &run->side.end;
    uint64_t due = due_at(run, run->sent);
    uint64_t tick = now + TICK_NS;

    if (end->engine->pending && end->engine->pending(end) > 0) {
        return end->engine->turn(end, false);
    }
    sleep_until(due < tick ? due : tick);
    return 0;
}

/* ---- Sending ------------------------------------------------------------------------------- */

static bool send_is_over(const struct send_run *run, uint64_t now)
{
    bool all = run->plan->count > 0 && run->sent >= run->plan->count;

    return all || crew_stopped(&run->crew) || crew_time_over(&run->crew, now);
}

static int send_some(struct send_run *run, uint32_t wanted)
{
    struct end *end = &run->side.end;
    int64_t sent = end->engine->send(end, run->mark | run->sent, wanted);

    if (sent < 0) {
        return -1;
    }
    for (int64_t i = 0; i < sent; i++) {
        run->bytes += sizes_of(&run->sizes, run->sent++, 0);
    }
    atomic_store_explicit(&run->live_sent, run->sent, memory_order_relaxed);
    return 0;
}

static int send_end(struct send_run *run)
{
    struct end *end = &run->side.end;

    for (int i = 0; i < END_TIMES; i++) {
        if (end->engine->send(end, NUMBER_END | run->mark | run->sent, 1) < 0 ||
            end_drain(end) != 0) {
            return -1;
        }
        sleep_until(clock_now() + END_PAUSE_NS);
    }
    return 0;
}

static int send_work(struct side *side)
{
    struct send_run *run = side->run;
    uint64_t now = clock_now();
    int result = 0;

    while (result == 0 && !send_is_over(run, now)) {
        uint32_t wanted = due_now(run, now);

        result = wanted > 0 ? send_some(run, wanted) : pace(run, now);
        now = clock_now();
    }
    if (result == 0) {
        result = end_drain(&side->end);
    }
    run->sent_ns = clock_now() - run->crew.started;
    return result == 0 ? send_end(run) : result;
}

/* ---- The run ------------------------------------------------------------------------------- */

static void send_live(void *user, double elapsed, char *text, size_t room)
{
    struct send_run *run = user;
    uint64_t sent = atomic_load_explicit(&run->live_sent, memory_order_relaxed);
    double rate = (double) sent / (elapsed > 0 ? elapsed : 1);
    double left = crew_time_left(&run->crew, elapsed);

    if (left < 0) {
        left = rate > 0 ? (double) (run->plan->count - sent) / rate : 0;
    }
    snprintf(text, room, "send %s: %.3f M/s sent, %.0f s left", run->side.end.engine_name,
             rate / 1e6, left);
}

static void send_result(const struct send_run *run, struct result *result)
{
    *result = (struct result){
        .engine = run->side.end.engine_name,
        .mode = run->side.end.mode,
        .size = run->plan->size,
        .segments = run->side.end.train,
        .sent = run->sent,
        .bytes = run->bytes,
        .unseen = true,
        .kernel_sends = run->side.end.kernel_sends,
        .kernel_receives = COUNT_UNKNOWN,
        .sender = {.seconds = (double) run->sent_ns / 1e9,
                   .cpu_ns = run->side.cpu_ns,
                   .known = true},
    };
}

/* Returns 0, or an exit code after saying why. */
static int send_init(struct send_run *run, const struct plan *plan)
{
    const char *host = plan->host ? plan->host : "127.0.0.1";
    uint16_t lot = 0;
    bool v6;

    if (dgram_addr_parse(host, plan->port, &run->peer) != 0) {
        complain("--host %s: must be the text of an IP address", host);
        return EXIT_USAGE;
    }
    if (getrandom(&lot, sizeof(lot), 0) != (ssize_t) sizeof(lot)) {
        lot = (uint16_t) clock_now();
    }
    run->plan = plan;
    run->mark = (uint64_t) (1 + lot % MARK_MOST) << MARK_SHIFT;
    crew_init(&run->crew, plan);
    sizes_fill(&run->sizes, plan);
    atomic_init(&run->live_sent, 0);
    end_init(&run->side.end, &run->crew, plan->engine, ROLE_SOURCE);
    v6 = run->peer.u.any.sa_family == AF_INET6;
    dgram_addr_parse(v6 ? "::" : "0.0.0.0", 0, &run->side.end.bind_to);
    run->side.end.mode = plan->mode ? plan->mode : run->side.end.mode;
    run->side.end.peers = &run->peer;
    run->side.end.sizes = &run->sizes;
    run->side.work = send_work;
    run->side.run = run;
    run->side.name = "sender";
    return 0;
}

int send_main(const struct plan *plan)
{
    static struct send_run run;
    struct side *const sides[] = {&run.side};
    struct result result;
    int code = engine_check(plan, plan->engine);

    if (code == 0) {
        code = send_init(&run, plan);
    }
    if (code != 0) {
        return code;
    }
    interrupts_catch();
    if (side_start(&run.crew, &run.side) != 0) {
        return EXIT_BAD_RUN;
    }
    crew_go(&run.crew);
    if (crew_finish(&run.crew, sides, 1, send_live, &run) != 0) {
        return EXIT_BAD_RUN;
    }
    send_result(&run, &result);
    report(plan, &result);
    crew_destroy(&run.crew);
    return result_verdict(&result);
}
