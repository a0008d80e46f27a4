/* SPDX-License-Identifier: MIT */
/*
 * collect.c: `collect`: one receiver of lone datagrams, as a collector of telemetry sees them.
 *
 * Owns the delays and when a run is over. arrivals.c sends. This file measures the receiver: its
 * CPU, how often its loop went round and its thread slept, and how late datagrams came.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "bench/harness/process.h"
#include "bench/harness/report.h"
#include "bench/scenarios/arrivals.h"
#include "bench/scenarios/scenarios.h"

#define QUIET_NS (UINT64_C(200) * 1000000) /* after such a silence nothing more comes */
#define TRIAL_SECONDS 0.3                  /* of each mode, to find an engine's best */

struct collect {
    const struct plan *plan;
    struct crew crew;
    struct side side; /* the receiver */
    struct arrivals arrivals;
    struct sizes sizes;
    struct sink sink;
    struct credit credit;
    struct hdr_histogram *delays;
    uint64_t turns, wakeups;
    uint64_t last_at; /* clock_now() of the last that came; 0: none has */
};

/* ---- The receiver -------------------------------------------------------------------------- */

static void collect_take(struct end *end, const struct dgram_addr *from, const void *data,
                         uint32_t size)
{
    struct collect *collect = end->user;

    (void) from;
    collect->last_at = clock_now();
    if (size >= SIZE_STAMPED) {
        uint64_t own = collect->last_at - stamp_read(data);

        times_add(collect->delays, end->engine->cpu ? end->elapsed_ns : own);
    }
    sink_take(&collect->sink, 0, data, size);
}

static void collect_take_odd(struct sink *sink, uint32_t peer, const void *data, uint32_t size)
{
    uint64_t sent = atomic_load_explicit(&sink->credit->sent, memory_order_relaxed);

    /* The sender counts a datagram after it has sent it. */
    if (size < SIZE_STAMPED || number_read(data) > sent) {
        sink->corrupt++;
        return;
    }
    sink_place(sink, peer, number_read(data), size);
}

/* Returns whether all has come, or nothing more does. */
static bool collect_is_over(const struct collect *collect)
{
    uint64_t total = atomic_load_explicit(&collect->credit.total, memory_order_acquire);
    uint64_t since = collect->last_at > 0 ? collect->last_at : collect->crew.started;
    uint64_t sent_at;

    if (total == UINT64_MAX || collect->sink.counted >= total) {
        return total != UINT64_MAX;
    }
    sent_at = collect->crew.started + collect->arrivals.sent_ns;
    since = sent_at > since ? sent_at : since;
    return clock_now() > since + QUIET_NS;
}

/* Returns how often the calling thread has slept. */
static uint64_t wakeups_so_far(void)
{
    struct rusage usage = {.ru_nvcsw = 0};

    getrusage(RUSAGE_THREAD, &usage);
    return (uint64_t) usage.ru_nvcsw;
}

static int collect_work(struct side *side)
{
    struct collect *collect = side->run;
    uint64_t before = wakeups_so_far();

    do {
        if (side->end.engine->turn(&side->end, true) != 0) {
            return -1;
        }
        collect->turns++;
    } while (!collect_is_over(collect));
    collect->wakeups = wakeups_so_far() - before;
    return 0;
}

/* ---- One run ------------------------------------------------------------------------------- */

static void collect_init(struct collect *collect, const struct plan *plan, const char *mode)
{
    struct end *end = &collect->side.end;

    memset(collect, 0, sizeof(*collect));
    collect->plan = plan;
    crew_init(&collect->crew, plan);
    sizes_fill(&collect->sizes, plan);
    atomic_init(&collect->credit.counted, 0);
    atomic_init(&collect->credit.sent, 0);
    atomic_init(&collect->credit.missing, 0);
    atomic_init(&collect->credit.total, UINT64_MAX);
    collect->sink.credit = &collect->credit;
    collect->sink.sizes = &collect->sizes;
    collect->sink.take_odd = collect_take_odd;
    collect->sink.publish_mask = 1023; /* the live line only */

    end_init(end, &collect->crew, plan->engine, ROLE_COLLECTOR);
    end->mode = mode;
    end->sizes = &collect->sizes;
    end->on_datagram = collect_take;
    end->user = collect;
    collect->side.work = collect_work;
    collect->side.run = collect;
    collect->side.name = "receiver";
    arrivals_init(&collect->arrivals, &collect->crew, &end->local[0], &collect->credit);
}

static void collect_live(void *user, double elapsed, char *text, size_t room)
{
    struct collect *collect = user;
    uint64_t sent = atomic_load_explicit(&collect->credit.sent, memory_order_relaxed);
    uint64_t missing = atomic_load_explicit(&collect->credit.missing, memory_order_relaxed);
    double rate = (double) sent / (elapsed > 0 ? elapsed : 1);
    double left = crew_time_left(&collect->crew, elapsed);

    if (left < 0) {
        left = rate > 0 ? (double) (collect->plan->count - sent) / rate : 0;
    }
    snprintf(text, room, "collect %s: %.1f k/s sent, %llu lost, %.0f s left",
             collect->side.end.engine_name, rate / 1e3, (unsigned long long) missing, left);
}

static void collect_result(const struct collect *collect, struct result *result)
{
    const struct side *side = &collect->side, *sender = &collect->arrivals.side;
    uint64_t received = sink_received(&collect->sink);
    bool apart = side->end.engine->cpu != NULL;
    uint64_t until = collect->last_at > 0 ? collect->last_at : collect->crew.started;

    *result = (struct result){
        .engine = side->end.engine_name,
        .mode = side->end.mode,
        .size = collect->plan->size,
        .segments = 1,
        .sent = collect->arrivals.sent,
        .received = received,
        .bytes = collect->sink.bytes,
        .lost = collect->arrivals.sent > received ? collect->arrivals.sent - received : 0,
        .disordered = collect->sink.disordered,
        .corrupt = collect->sink.corrupt,
        .kernel_sends = collect->arrivals.sent,
        .kernel_receives = side->end.kernel_receives,
        .sender = {.seconds = (double) collect->arrivals.sent_ns / 1e9,
                   .cpu_ns = sender->cpu_ns - sender->cpu_wait_ns,
                   .wait_ns = sender->cpu_wait_ns,
                   .known = true},
        .receiver = {.seconds = (double) (until - collect->crew.started) / 1e9,
                     .cpu_ns = side->cpu_ns,
                     .known = true},
        .turns = apart ? COUNT_UNKNOWN : collect->turns,
        .wakeups = apart ? COUNT_UNKNOWN : collect->wakeups,
        .times = times_read(collect->delays),
        .loss_is_normal = collect->plan->rate == 0,
    };
}

/* Starts the receiver first: it must be bound and receive before anything is sent. Returns 0, or -1
 * after saying why. */
static int collect_start(struct collect *collect)
{
    if (side_start(&collect->crew, &collect->side) != 0) {
        return -1;
    }
    if (side_start(&collect->crew, &collect->arrivals.side) != 0) {
        atomic_store(&collect->credit.total, 0);
        side_join(&collect->side);
        return -1;
    }
    crew_go(&collect->crew);
    return 0;
}

/* Makes one run in one mode. Returns 0, or -1 after saying why. */
static int collect_once(const struct plan *plan, const char *mode, live_fn *live,
                        struct result *result)
{
    static struct collect collect; /* large, and aligned to cache lines */
    struct side *const sides[] = {&collect.arrivals.side, &collect.side};
    int failed;

    collect_init(&collect, plan, mode);
    collect.delays = times_open();
    if (!collect.delays) {
        complain("not enough memory");
        return -1;
    }
    failed = collect_start(&collect);
    if (failed == 0) {
        failed = crew_finish(&collect.crew, sides, 2, live, &collect);
    }
    collect_result(&collect, result);
    times_close(collect.delays);
    crew_destroy(&collect.crew);
    return failed;
}

/* ---- The subcommand ------------------------------------------------------------------------ */

/* Tries each of the engine's ways to receive. Returns the way that costs least CPU, or NULL after
 * saying why none ran. */
static const char *mode_best(const struct plan *plan)
{
    struct plan trial = *plan;
    const char *best = NULL;
    double best_cost = 0;

    trial.count = 0;
    trial.seconds = TRIAL_SECONDS;
    for (const char *const *mode = plan->engine->receive_modes; *mode; mode++) {
        struct result result;
        double cost;

        if (collect_once(&trial, *mode, NULL, &result) != 0) {
            return NULL;
        }
        cost = (double) result.receiver.cpu_ns / ((double) result.received + 1e-9);
        if (!best || cost < best_cost) {
            best = *mode;
            best_cost = cost;
        }
    }
    return best;
}

int collect_main(const struct plan *plan)
{
    const char *mode = plan->mode;
    struct result result;
    int code = engine_check(plan, plan->engine);

    if (code != 0) {
        return code;
    }
    interrupts_catch();
    if (plan->engine->receive_modes && !mode) {
        mode = mode_best(plan);
        if (!mode) {
            return EXIT_BAD_RUN;
        }
    }
    if (collect_once(plan, mode, collect_live, &result) != 0) {
        return EXIT_BAD_RUN;
    }
    report(plan, &result);
    return result_verdict(&result);
}
