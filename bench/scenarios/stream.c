/* SPDX-License-Identifier: MIT */
/*
 * stream.c: `stream` and `fanout`: one sender, one receiver, a credit between them.
 *
 * Owns the credit window, the numbers' check and when a run is over. Never calls a socket: engines
 * send and receive.
 */
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "bench/harness/harness.h"
#include "bench/harness/process.h"
#include "bench/harness/report.h"
#include "bench/scenarios/scenarios.h"

#define WINDOW_DEFAULT_MOST 16384u
#define GRANTED_UNKNOWN 212992u /* the kernel's default */
#define TURN 1024u              /* sends per loop turn */
#define SPINS 256               /* looks at the credit before the first yield */
#define YIELDS 4096             /* yields before the first sleep: a few milliseconds */
#define TRIAL_SECONDS 0.15      /* of each mode, to find an engine's best */

struct run {
    const struct plan *plan;
    struct crew crew;
    struct side source;
    struct side sink_side;
    struct sizes sizes;
    struct dgram_addr peers[FANOUT_PEERS];
    uint32_t window;
    uint32_t turn; /* sends at a time: TURN, or fewer where the window is small */

    /* Written by the sender. */
    uint64_t sent;
    uint64_t sent_ns;      /* from the start until the last was handed over */
    uint64_t spinning_cpu; /* spent waiting for credit */

    /* Written by the receiver. */
    uint64_t received_ns; /* from the start until the last arrived */
    struct sink sink;

    struct credit credit;
};

/* ---- The check ----------------------------------------------------------------------------- */

static void stream_take_odd(struct sink *sink, uint32_t peer, const void *data, uint32_t size)
{
    uint64_t furthest = sink->expected[peer] + sink->window; /* the sender cannot be beyond it */

    if (size < SIZE_LEAST || number_read(data) > furthest) {
        sink->corrupt++;
        return;
    }
    sink_place(sink, peer, number_read(data), size);
}

/* ---- The receiver -------------------------------------------------------------------------- */

/* Receives until all that was sent has come, or nothing more comes. Returns 0, or -1. */
static int sink_work(struct side *side)
{
    struct run *run = side->run;
    struct sink *sink = &run->sink;
    uint64_t last = run->crew.started;
    uint64_t seen = 0;

    for (;;) {
        uint64_t now;

        if (side->end.engine->turn(&side->end, true) != 0) {
            return -1;
        }
        now = clock_now();
        if (sink->counted + sink->disordered + sink->corrupt != seen) {
            seen = sink->counted + sink->disordered + sink->corrupt;
            last = now;
            run->received_ns = now - run->crew.started;
            sink_publish(sink);
        }
        if (sink->counted >= atomic_load_explicit(&run->credit.total, memory_order_acquire)) {
            return 0;
        }
        if (now - last > SILENCE_NS) {
            atomic_store(&run->crew.stop, true); /* the sender may still hope for credit */
            return 0;
        }
    }
}

/* ---- The sender ---------------------------------------------------------------------------- */

/* Returns how many datagrams may be sent now, at most `wanted`. */
static uint32_t credit_left(struct run *run, uint32_t wanted)
{
    uint64_t counted = atomic_load_explicit(&run->credit.counted, memory_order_acquire);
    uint64_t left = run->window - (run->sent - counted);

    return left < wanted ? (uint32_t) left : wanted;
}

/* Spins, then yields, then sleeps, by `round`. With one CPU it yields at once: the receiver needs
 * the CPU. */
static void pause_for(unsigned round, bool own_cpu)
{
    if (round < SPINS && own_cpu) {
        CPU_RELAX();
    } else if (round < SPINS + YIELDS) {
        sched_yield();
    } else {
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
}

/* Lets the engine send datagrams that the kernel did not take at once. Returns 0, or -1. */
static int source_turn(struct end *end)
{
    if (end->engine->pending && end->engine->pending(end) > 0) {
        return end->engine->turn(end, false);
    }
    return 0;
}

/* Waits until `wanted` datagrams may be sent. Waiting for less would send short trains for ever. */
static int credit_await(struct run *run, uint32_t wanted, bool own_cpu)
{
    bool apart = run->source.end.engine->cpu != NULL; /* its process needs the CPU */
    uint64_t before = clock_thread_cpu();
    unsigned round = apart ? SPINS + YIELDS : 0;

    while (credit_left(run, wanted) < wanted && !crew_stopped(&run->crew)) {
        if (round >= SPINS && source_turn(&run->source.end) != 0) {
            return -1;
        }
        pause_for(round++, own_cpu);
    }
    run->spinning_cpu += apart ? 0 : clock_thread_cpu() - before;
    return 0;
}

/* Returns how many to send next, or 0 when the run is over. */
static uint32_t source_wanted(const struct run *run)
{
    uint64_t count = run->plan->count;
    uint64_t left = count > 0 ? count - run->sent : UINT64_MAX;

    if (crew_stopped(&run->crew) || crew_time_over(&run->crew, clock_now())) {
        return 0;
    }
    return left < run->turn ? (uint32_t) left : run->turn;
}

static int source_send(struct run *run, uint32_t wanted)
{
    struct end *end = &run->source.end;
    int64_t sent = end->engine->send(end, run->sent, wanted);

    if (sent < 0) {
        return -1;
    }
    run->sent += (uint64_t) sent;
    atomic_store_explicit(&run->credit.sent, run->sent, memory_order_relaxed);
    return 0;
}

static int source_work(struct side *side)
{
    struct run *run = side->run;
    bool own_cpu = cpus_usable() > 1;
    uint32_t wanted;
    int result = 0;

    while (result == 0 && (wanted = source_wanted(run)) > 0) {
        if (credit_left(run, wanted) < wanted) {
            result = credit_await(run, wanted, own_cpu);
        } else {
            result = source_send(run, wanted);
        }
    }
    if (result == 0) {
        result = end_drain(&side->end);
    }
    run->sent_ns = clock_now() - run->crew.started;
    side->cpu_wait_ns = run->spinning_cpu;
    atomic_store_explicit(&run->credit.total, run->sent, memory_order_release);
    return result;
}

/* ---- The window ---------------------------------------------------------------------------- */

/* Returns the bytes that the kernel charges to the receive buffer for one datagram, payload and
 * bookkeeping. The datagrams of a train share its bookkeeping. Measured on 6.18 by SO_MEMINFO. */
static uint64_t charge_of(uint32_t size, uint32_t train)
{
    uint32_t power = 512;

    if (train > 1) {
        return (832 + (uint64_t) size * train) / train;
    }
    if (size > 16384) {
        return 832 + size;
    }
    while (power < size + 400) {
        power *= 2;
    }
    return power <= 512 ? 832 : power + 256;
}

static uint32_t window_default(const struct run *run)
{
    const struct plan *plan = run->plan;
    uint32_t fits = TRAIN_BYTES / plan->size;
    uint32_t train = run->sink_side.end.train;
    uint64_t granted = run->sink_side.end.granted;
    uint64_t window;

    granted = granted > 0 ? granted : GRANTED_UNKNOWN;
    train = plan->distinct_sizes ? 1 : train < fits ? train : fits;
    window = granted / 2 / charge_of(plan->size, train) * plan->peers;
    if (window > WINDOW_DEFAULT_MOST) {
        return WINDOW_DEFAULT_MOST;
    }
    return window < plan->peers ? plan->peers : (uint32_t) window;
}

/* Returns a quarter of the window, so that the receiver has work while the sender prepares more. It
 * is in whole trains for all engines alike, so that no engine is forced to cut a train. */
static uint32_t turn_of(uint32_t window, uint32_t size)
{
    uint32_t turn = window / 4 < TURN ? window / 4 : TURN;
    uint32_t train = TRAIN_BYTES / size < TRAIN_SEGMENTS ? TRAIN_BYTES / size : TRAIN_SEGMENTS;

    if (train > 1 && turn < train) {
        turn = train <= window / 2 ? train : window / 2;
    } else if (train > 1) {
        turn -= turn % train;
    }
    return turn > 0 ? turn : 1;
}

static void run_set_window(struct run *run)
{
    const struct plan *plan = run->plan;
    uint64_t publish = 1;

    run->window = plan->window > 0 ? plan->window : window_default(run);
    run->turn =
        plan->peers > 1 && run->window >= 2 * TURN ? TURN : turn_of(run->window, plan->size);
    while (publish < 64 && publish * 16 <= run->window) {
        publish *= 2;
    }
    run->sink.publish_mask = publish - 1;
    run->sink.window = run->window;
}

/* ---- One run ------------------------------------------------------------------------------- */

static void run_init(struct run *run, const struct plan *plan, const char *mode)
{
    memset(run, 0, sizeof(*run));
    run->plan = plan;
    crew_init(&run->crew, plan);
    sizes_fill(&run->sizes, plan);
    atomic_init(&run->credit.counted, 0);
    atomic_init(&run->credit.sent, 0);
    atomic_init(&run->credit.missing, 0);
    atomic_init(&run->credit.total, plan->count > 0 ? plan->count : UINT64_MAX);
    run->sink.credit = &run->credit;
    run->sink.sizes = &run->sizes;
    run->sink.take_odd = stream_take_odd;

    end_init(&run->sink_side.end, &run->crew, plan->engine, ROLE_SINK);
    run->sink_side.end.mode = mode;
    run->sink_side.end.sockets = plan->peers;
    run->sink_side.end.sizes = &run->sizes;
    run->sink_side.end.sink = &run->sink;
    run->sink_side.work = sink_work;
    run->sink_side.run = run;
    run->sink_side.name = "receiver";
    run->sink_side.place = 1;

    end_init(&run->source.end, &run->crew, plan->engine, ROLE_SOURCE);
    run->source.end.mode = mode;
    run->source.end.peers = run->peers;
    run->source.end.sizes = &run->sizes;
    run->source.work = source_work;
    run->source.run = run;
    run->source.name = "sender";
}

static void run_live(void *user, double elapsed, char *text, size_t room)
{
    struct run *run = user;
    uint64_t counted = atomic_load_explicit(&run->credit.counted, memory_order_relaxed);
    uint64_t missing = atomic_load_explicit(&run->credit.missing, memory_order_relaxed);
    double rate = (double) (counted - missing) / (elapsed > 0 ? elapsed : 1);
    double left = crew_time_left(&run->crew, elapsed);

    if (left < 0) {
        left = rate > 0 ? (double) (run->plan->count - counted) / rate : 0;
    }
    snprintf(text, room, "%s %s: %.3f M/s received, %llu lost, %.0f s left", run->plan->scenario,
             run->sink_side.end.engine_name, rate / 1e6, (unsigned long long) missing, left);
}

static void run_result(const struct run *run, struct result *result)
{
    uint64_t received = sink_received(&run->sink);
    const struct side *source = &run->source;

    *result = (struct result){
        .engine = run->sink_side.end.engine_name,
        .mode = source->end.mode,
        .size = run->plan->size,
        .window = run->window,
        .segments = source->end.train,
        .sent = run->sent,
        .received = received,
        .bytes = run->sink.bytes,
        .lost = run->sent > received ? run->sent - received : 0,
        .disordered = run->sink.disordered,
        .corrupt = run->sink.corrupt,
        .kernel_sends = source->end.kernel_sends,
        .kernel_receives = run->sink_side.end.kernel_receives,
        .sender = {.seconds = (double) run->sent_ns / 1e9,
                   .cpu_ns = source->cpu_ns - source->cpu_wait_ns,
                   .wait_ns = source->cpu_wait_ns,
                   .known = true},
        .receiver = {.seconds = (double) run->received_ns / 1e9,
                     .cpu_ns = run->sink_side.cpu_ns,
                     .known = true},
    };
}

/* Starts the receiver first: it must be bound and receive before anything is sent. Returns 0, or -1
 * after saying why. */
static int run_start(struct run *run)
{
    if (side_start(&run->crew, &run->sink_side) != 0) {
        return -1;
    }
    memcpy(run->peers, run->sink_side.end.local, sizeof(run->peers));
    run_set_window(run);
    if (side_start(&run->crew, &run->source) != 0) {
        side_join(&run->sink_side);
        return -1;
    }
    crew_go(&run->crew);
    return 0;
}

/* Makes one run in one mode. Returns 0, or -1 after saying why. */
static int run_once(const struct plan *plan, const char *mode, live_fn *live, struct result *result)
{
    static struct run run; /* large, and aligned to cache lines */
    struct side *const sides[] = {&run.source, &run.sink_side};
    int failed;

    run_init(&run, plan, mode);
    failed = run_start(&run);
    if (failed == 0) {
        failed = crew_finish(&run.crew, sides, 2, live, &run);
    }
    run_result(&run, result);
    crew_destroy(&run.crew);
    return failed;
}

/* ---- The subcommands ----------------------------------------------------------------------- */

/* Tries each of the engine's ways to send and receive for a moment: an engine is shown at its best.
 * Returns the best way, or NULL after saying why none could run. */
static const char *mode_best(const struct plan *plan)
{
    struct plan trial = *plan;
    const char *best = NULL;
    double best_rate = -1;

    trial.count = 0;
    trial.seconds = TRIAL_SECONDS;
    for (const char *const *mode = plan->engine->modes; *mode; mode++) {
        struct result result;
        double rate;

        if (run_once(&trial, *mode, NULL, &result) != 0) {
            return NULL;
        }
        rate = (double) result.received / (result.receiver.seconds + 1e-9);
        if (result_verdict(&result) == EXIT_GOOD && rate > best_rate) {
            best = *mode;
            best_rate = rate;
        }
    }
    return best ? best : plan->engine->modes[0];
}

int stream_main(const struct plan *plan)
{
    const char *mode = plan->mode;
    struct result result;
    int code = engine_check(plan, plan->engine);

    if (code != 0) {
        return code;
    }
    interrupts_catch();
    if (plan->engine->modes && !mode) {
        mode = mode_best(plan);
        if (!mode) {
            return EXIT_BAD_RUN;
        }
    }
    if (run_once(plan, mode, run_live, &result) != 0) {
        return EXIT_BAD_RUN;
    }
    report(plan, &result);
    return result_verdict(&result);
}
