/* SPDX-License-Identifier: MIT */
/*
 * recv.c: `recv`: the receiving side alone, for a `send` on another machine.
 *
 * Owns which run a datagram belongs to, and when the run is over. Expects one sender at a time: a
 * new mark (oneway.h) begins a new run, and datagrams of the run before it are disordered.
 */
#include <inttypes.h>
#include <stdio.h>

#include "bench/harness/harness.h"
#include "bench/harness/process.h"
#include "bench/harness/report.h"
#include "bench/scenarios/oneway.h"
#include "bench/scenarios/scenarios.h"

#define NO_MARK UINT64_MAX

struct recv_run {
    const struct plan *plan;
    struct crew crew;
    struct side side;
    struct sizes sizes;
    struct sink sink;
    struct credit credit;

    uint64_t mark;     /* of the run that comes in */
    uint64_t before;   /* of the run before it */
    uint64_t total;    /* sent by the run's sender; UINT64_MAX: not told yet */
    uint64_t sent;     /* by the runs before */
    uint64_t first_at; /* clock_now() of the first datagram that is no end; 0: none yet */
    uint64_t last_at;  /* of the last turn that brought one; 0: none yet */
    uint32_t odd_size; /* of a datagram that was not of the expected size; 0: none */
    _Atomic uint64_t live_first;
};

/* ---- Runs ---------------------------------------------------------------------------------- */

static uint64_t mark_of(uint64_t number)
{
    return number >> MARK_SHIFT;
}

/* Returns how far the run that comes in has got. */
static uint64_t run_reached(const struct recv_run *run)
{
    return run->mark == NO_MARK ? 0 : run->sink.expected[0] & COUNT_MASK;
}

/* Counts datagrams as lost that were sent after the last one that came. Only the end marker tells
 * how many there were. */
static void run_close(struct recv_run *run)
{
    uint64_t reached = run_reached(run);

    if (run->total != UINT64_MAX && run->total > reached) {
        sink_skip(&run->sink, run->total - reached);
        reached = run->total;
    }
    run->sent += reached;
}

static void run_begin(struct recv_run *run, uint64_t mark)
{
    run_close(run);
    run->before = run->mark;
    run->mark = mark;
    run->total = UINT64_MAX;
    run->sink.expected[0] = mark << MARK_SHIFT;
}

static void end_told(struct recv_run *run, uint64_t number)
{
    if (mark_of(number) == run->mark) {
        run->total = number & COUNT_MASK;
    }
}

/* Begins a run only with a datagram of the right size for its number: a stranger's must not. */
static void recv_take_odd(struct sink *sink, uint32_t peer, const void *data, uint32_t size)
{
    struct recv_run *run = sink->user;
    uint64_t number = size < SIZE_LEAST ? 0 : number_read(data);

    if (size == sizes_of(sink->sizes, number, peer) && (number & NUMBER_END)) {
        end_told(run, number & ~NUMBER_END);
        return;
    }
    if (run->first_at == 0) {
        run->first_at = clock_now();
        atomic_store_explicit(&run->live_first, run->first_at, memory_order_relaxed);
    }
    if (size != sizes_of(sink->sizes, number, peer)) {
        run->odd_size = size;
        sink->corrupt++;
    } else if (mark_of(number) == run->before) {
        sink->disordered++;
    } else {
        if (mark_of(number) != run->mark) {
            run_begin(run, mark_of(number));
        }
        sink_place(sink, peer, number, size);
    }
}

/* ---- The receiver -------------------------------------------------------------------------- */

/* Returns whether --seconds are over. Without --seconds: whether --count have come or are lost, or
 * the run's end was told or guessed. */
static bool recv_is_over(const struct recv_run *run, uint64_t now)
{
    const struct plan *plan = run->plan;
    bool told = run->total != UINT64_MAX;
    uint64_t patience = told ? SILENCE_NS : QUIET_SECONDS * UINT64_C(1000000000);

    if (crew_stopped(&run->crew) || crew_time_over(&run->crew, now)) {
        return true;
    }
    if (plan->seconds > 0 || run->last_at == 0) {
        return false;
    }
    return (plan->count > 0 && run->sink.counted >= plan->count) ||
           (told && run_reached(run) >= run->total) || now - run->last_at > patience;
}

static int recv_work(struct side *side)
{
    struct recv_run *run = side->run;
    const struct sink *sink = &run->sink;
    uint64_t seen = 0;
    uint64_t now;

    do {
        if (side->end.engine->turn(&side->end, true) != 0) {
            return -1;
        }
        now = clock_now();
        if (sink->counted + sink->disordered + sink->corrupt != seen) {
            seen = sink->counted + sink->disordered + sink->corrupt;
            run->last_at = now;
            sink_publish(&run->sink);
        }
    } while (!recv_is_over(run, now));
    if (side->end.engine->turn(&side->end, false) != 0) { /* datagrams from before Ctrl-C count */
        return -1;
    }
    run_close(run);
    return 0;
}

/* ---- The run ------------------------------------------------------------------------------- */

static void recv_live(void *user, double elapsed, char *text, size_t room)
{
    struct recv_run *run = user;
    uint64_t counted = atomic_load_explicit(&run->credit.counted, memory_order_relaxed);
    uint64_t missing = atomic_load_explicit(&run->credit.missing, memory_order_relaxed);
    uint64_t first = atomic_load_explicit(&run->live_first, memory_order_relaxed);
    double seconds = first > 0 ? (double) (clock_now() - first) / 1e9 : 0;
    double rate = seconds > 0 ? (double) (counted - missing) / seconds : 0;
    double left = crew_time_left(&run->crew, elapsed);

    if (left < 0 && run->plan->count > 0 && rate > 0) {
        left = counted < run->plan->count ? (double) (run->plan->count - counted) / rate : 0;
    }
    snprintf(text, room, "recv %s: %.3f M/s received, %" PRIu64 " lost%s",
             run->side.end.engine_name, rate / 1e6, missing, first > 0 ? "" : ", waiting");
    live_add_left(text, room, left);
}

static void recv_result(const struct recv_run *run, struct result *result)
{
    uint64_t received = sink_received(&run->sink);
    uint64_t span =
        run->first_at > 0 && run->last_at > run->first_at ? run->last_at - run->first_at : 0;

    *result = (struct result){
        .engine = run->side.end.engine_name,
        .mode = run->side.end.mode,
        .size = run->plan->size,
        .segments = run->side.end.train,
        .sent = run->sent,
        .received = received,
        .bytes = run->sink.bytes,
        .lost = run->sent > received ? run->sent - received : 0,
        .disordered = run->sink.disordered,
        .corrupt = run->sink.corrupt,
        .kernel_sends = COUNT_UNKNOWN,
        .kernel_receives = run->side.end.kernel_receives,
        .receiver = {.seconds = (double) span / 1e9, .cpu_ns = run->side.cpu_ns, .known = true},
    };
}

/* Returns 0, or an exit code after saying why. */
static int recv_init(struct recv_run *run, const struct plan *plan)
{
    const char *host = plan->host ? plan->host : "0.0.0.0";
    struct end *end = &run->side.end;

    run->plan = plan;
    run->mark = NO_MARK;
    run->before = NO_MARK;
    run->total = UINT64_MAX;
    crew_init(&run->crew, plan);
    sizes_fill(&run->sizes, plan);
    atomic_init(&run->credit.counted, 0);
    atomic_init(&run->credit.missing, 0);
    atomic_init(&run->live_first, 0);
    run->sink.credit = &run->credit;
    run->sink.sizes = &run->sizes;
    run->sink.take_odd = recv_take_odd;
    run->sink.user = run;
    run->sink.publish_mask = 1023; /* the live line only */
    run->sink.expected[0] = UINT64_MAX;
    end_init(end, &run->crew, plan->engine, ROLE_SINK);
    end->mode = plan->mode ? plan->mode : end->mode;
    end->sizes = &run->sizes;
    end->sink = &run->sink;
    run->side.work = recv_work;
    run->side.run = run;
    run->side.name = "receiver";
    run->side.place = 1;
    if (dgram_addr_parse(host, plan->port, &end->bind_to) != 0) {
        complain("--host %s: must be the text of an IP address", host);
        return EXIT_USAGE;
    }
    return 0;
}

static int recv_run(struct recv_run *run, struct result *result)
{
    struct side *const sides[] = {&run->side};

    if (side_start(&run->crew, &run->side) != 0) {
        return -1;
    }
    if (end_announce(&run->side.end) == 0) {
        crew_go(&run->crew);
        crew_watch(&run->crew, sides, 1, recv_live, run);
    }
    if (side_join(&run->side) != 0) {
        return -1;
    }
    recv_result(run, result);
    if (run->odd_size > 0 && result->received == 0) {
        complain("datagrams of %" PRIu32 " bytes came: --size must be the sender's", run->odd_size);
    }
    return 0;
}

int recv_main(const struct plan *plan)
{
    static struct recv_run run; /* large, and aligned to cache lines */
    struct result result;
    int code = engine_check(plan, plan->engine);

    if (code == 0) {
        code = recv_init(&run, plan);
    }
    if (code != 0) {
        return code;
    }
    interrupts_catch();
    if (recv_run(&run, &result) != 0) {
        return EXIT_BAD_RUN;
    }
    report(plan, &result);
    crew_destroy(&run.crew);
    return result_verdict(&result);
}
