/* SPDX-License-Identifier: MIT */
/* wait.c: see wait.h. */
#include "src/loop/wait.h"

#include <errno.h>

#include "src/base/memory.h"
#include "src/core/alarm.h"
#include "src/core/io.h"
#include "src/loop/post.h"
#include "src/loop/timer.h"
#include "src/loop/work.h"
#include "src/receive/pool.h"
#include "src/receive/receiver.h"
#include "src/send/submit.h"
#include "src/socket/life.h"
#include "src/system.h"

/* The rate of datagrams, and whether gathering pays at that rate. A train counts once. */
struct gathering {
    int64_t budget_ns;        /* the longest delay that the program allows; 0: none */
    uint64_t since;           /* when the window began, */
    uint32_t records;         /* and the datagrams in it, */
    uint64_t bytes;           /* as receive buffers are charged for them */
    uint64_t bytes_in_budget; /* the same in the time of the budget, at the last window's rate */
    uint64_t buffer;          /* the least receive buffer of a socket, as it was asked for */
    uint32_t buffers_seen;    /* when loop->buffers_changed was this */
    uint32_t came;            /* datagrams since the last wait */
    bool pays;                /* at the last window's rate */
    bool in_vain;             /* the last sleep brought nothing */
};

/* The cost of datagrams: nanoseconds of the thread's CPU, and of time. */
struct price {
    uint64_t cpu, time, datagrams;
};

enum spin_state {
    SPIN_TRIES, /* by turns asleep and awake */
    SPIN_HOLDS, /* awake, since that pays */
    SPIN_RESTS  /* asleep, since it does not */
};

/* Whether spinning pays, which is tried out by epochs of some waits. */
struct spinning {
    struct price epoch;     /* CPU, clock and datagrams when it began */
    unsigned epoch_waits;   /* in it, so far */
    unsigned epochs;        /* of the trial, so far, */
    struct price prices[2]; /* and the cost of its datagrams, asleep and awake */
    uint64_t until;         /* the next trial; of HOLDS and RESTS, */
    uint64_t held_at;       /* which began then */
    uint64_t rest_ns;       /* of the next RESTS */
    uint64_t answered_at;   /* the last wait of a loop that answers */
    uint64_t start;         /* of the last wait or, if it was one, spin */
    unsigned looks;         /* so far */
    uint8_t state;          /* enum spin_state */
    bool adapts;            /* it is tried; else the program has decided */
    bool awake;             /* it spins */
    bool hoped;             /* the last trial saved no CPU, but the other side may try, too */
    bool promises;          /* the last wait was short */
    bool found;             /* something, the last spin, */
    bool at_once;           /* and with its first look */
};

struct waiting {
    struct gathering gathering;
    struct spinning spinning;
    int64_t busy_poll_ns; /* 0: never */
    uint64_t delivered;   /* datagrams, to handlers */
};

/* ---- Settings ------------------------------------------------------------------------------ */

enum { BUSY_POLL_US_MAX = 1000000 };
enum { MAX_DELAY_US_MAX = 100000 };

/*
 * The longest spin. A wake-up takes 30 us here (KVM, two cores). The limit is longer, or two loops
 * that both sleep would never find out. As long as the other one sleeps, an answer takes a wake-up
 * and some (20 us: no pair began to spin; 30: most; 40: all).
 */
enum { SPIN_NS = 40000 };
/* From a trial that failed to the next, at least and at most; and from one that did not. */
#define REST_LEAST_NS UINT64_C(20000000)
#define REST_MOST_NS UINT64_C(2560000000)
#define AWAKE_MOST_NS UINT64_C(1000000000)

bool dg_wait_options_are_good(const struct dgram_loop_options *options)
{
    bool busy =
        options->busy_poll_us <= BUSY_POLL_US_MAX || options->busy_poll_us == DGRAM_BUSY_POLL_OFF;
    return busy && options->max_delay_us <= MAX_DELAY_US_MAX;
}

int dg_wait_open(struct dgram_loop *loop, const struct dgram_loop_options *options)
{
    struct waiting *waiting = dg_allocate(sizeof(*waiting));
    if (waiting == NULL) {
        return -ENOMEM;
    }
    bool spins = options->busy_poll_us != DGRAM_BUSY_POLL_OFF;
    loop->waiting = waiting;
    waiting->busy_poll_ns = spins ? (int64_t) options->busy_poll_us * 1000 : 0;
    waiting->gathering.budget_ns = (int64_t) options->max_delay_us * 1000;
    waiting->gathering.since = loop->now;
    waiting->spinning.adapts = options->busy_poll_us == 0 && options->max_delay_us == 0;
    waiting->spinning.rest_ns = REST_LEAST_NS;
    loop->io->config.peeks = waiting->busy_poll_ns > 0 || waiting->spinning.adapts;
    return 0;
}

void dg_wait_close(struct dgram_loop *loop)
{
    dg_release(loop->waiting);
}

/* ---- Patience ------------------------------------------------------------------------------ */

int64_t dg_wait_patience(struct dgram_loop *loop, int64_t timeout_ns)
{
    if (timeout_ns == 0 || !dg_loop_may_sleep(loop)) {
        return 0;
    }
    uint64_t deadline = alarms_next(loop->alarms);
    if (deadline == UINT64_MAX) {
        return timeout_ns;
    }
    uint64_t now = loop->system->now();
    uint64_t left = deadline > now ? deadline - now : 0;
    left = left > INT64_MAX ? INT64_MAX : left;
    return timeout_ns < 0 || (int64_t) left < timeout_ns ? (int64_t) left : timeout_ns;
}

/* ---- Spinning ------------------------------------------------------------------------------ */

/* Every so many looks a whole wait(0) looks for other events than datagrams: wake-ups, names,
 * POLLOUT. */
enum { LOOKS_PER_WAIT = 32 };

/* Waits, and reads the clock: nothing of this file ends without knowing the time. */
static int wait_for(struct dgram_loop *loop, int64_t time_ns, bool gathers)
{
    int code = loop->io->backend->wait(loop->io->engine, time_ns, gathers);
    loop->now = loop->system->now();
    return code;
}

static bool time_is_left(struct dgram_loop *loop, int64_t limit_ns)
{
    loop->now = loop->system->now();
    return (int64_t) (loop->now - loop->waiting->spinning.start) < limit_ns;
}

/*
 * Looks until something is there or so much time has passed. Trains that were handed over are
 * submitted, and settled before the spin: they may have to be parked, or told.
 *
 * Where there is one CPU only, a spin that the program wants gives way to those for whom it looks.
 * One that has to pay does not: beside a busy thread that takes milliseconds, and a sleep would end
 * when a datagram comes. It keeps them away, finds nothing, and so the loop sleeps soon.
 *
 * Peeking is for datagrams that come one by one, and not fair. If the last spin found something at
 * once, there may be more, and more of others: then it begins with a whole wait.
 *
 * The clock is read before a look and not after it: a found datagram is to be answered, and the
 * time of the last look is half a microsecond old.
 */
static int look(struct dgram_loop *loop, int64_t limit_ns)
{
    const struct backend *backend = loop->io->backend;
    struct spinning *spinning = &loop->waiting->spinning;
    bool whole = backend->peek == NULL || spinning->at_once;
    unsigned looks = whole;
    int code = whole ? backend->wait(loop->io->engine, 0, false) : backend->flush(loop->io->engine);
    code = dg_send_settle(loop, code);
    loop->now = spinning->start = loop->system->now();
    while (code == 0 && !(spinning->found = dg_loop_has_work(loop)) &&
           time_is_left(loop, limit_ns)) {
        if (!spinning->adapts) {
            loop->system->relax();
        }
        whole = backend->peek == NULL || ++spinning->looks % LOOKS_PER_WAIT == 0;
        code = whole ? backend->wait(loop->io->engine, 0, false) : backend->peek(loop->io->engine);
        looks++;
    }
    spinning->at_once = spinning->found && looks <= 1;
    return code;
}

/* Looks for a while before it sleeps, if it is to sleep at all. */
static int spin_wait(struct dgram_loop *loop, int64_t patience, int64_t spin_ns, bool sleeps)
{
    int code = look(loop, patience >= 0 && patience < spin_ns ? patience : spin_ns);
    if (code < 0 || !sleeps || loop->waiting->spinning.found) {
        return code;
    }
    int64_t left = patience;
    if (patience >= 0) {
        int64_t spent = (int64_t) (loop->now - loop->waiting->spinning.start);
        left = patience > spent ? patience - spent : 0;
    }
    left = dg_wait_patience(loop, left); /* there may be a retry by now */
    return left != 0 ? wait_for(loop, left, false) : 0;
}

/* ---- In a loop that answers ---------------------------------------------------------------- */

/* An epoch is so many waits that brought something. */
enum { EPOCH_WAITS = 16, TRIAL_EPOCHS = 8 };
#define ANSWERS_NS UINT64_C(10000000)

/* It has sent something lately: others may wait for its next datagrams. */
static bool loop_answers(const struct dgram_loop *loop)
{
    return loop->now - loop->outbox->sent_at < ANSWERS_NS;
}

/* Returns the price of the epoch's datagrams, and begins the next epoch. */
static struct price epoch_end(struct dgram_loop *loop)
{
    struct spinning *spinning = &loop->waiting->spinning;
    struct price now = {
        .cpu = loop->system->cpu(), .time = loop->now, .datagrams = loop->waiting->delivered};
    struct price price = {.cpu = now.cpu - spinning->epoch.cpu,
                          .time = now.time - spinning->epoch.time,
                          .datagrams = now.datagrams - spinning->epoch.datagrams};
    spinning->epoch = now;
    spinning->epoch_waits = 0;
    return price;
}

/* Whether `one`, divided by its count, is so many eighths of `two` at the most. */
static bool is_less(uint64_t one, uint64_t one_count, uint64_t two, uint64_t two_count,
                    unsigned eighths)
{
    return one_count > 0 && two_count > 0 &&
           (double) one * (double) two_count * 8 <= (double) two * (double) one_count * eighths;
}

static void trial_begin(struct spinning *spinning)
{
    spinning->state = SPIN_TRIES;
    spinning->epochs = 0;
    spinning->awake = false;
    spinning->prices[0] = spinning->prices[1] = (struct price){0};
}

static void spin_hold(struct dgram_loop *loop, bool awake, uint64_t ns)
{
    loop->waiting->spinning.state = awake ? SPIN_HOLDS : SPIN_RESTS;
    loop->waiting->spinning.awake = awake;
    loop->waiting->spinning.until = loop->now + ns;
    loop->waiting->spinning.held_at = loop->now;
}

/* After a trial that failed the next comes later and later. */
static void spin_rest(struct dgram_loop *loop)
{
    struct spinning *spinning = &loop->waiting->spinning;
    spinning->hoped = false;
    spin_hold(loop, false, spinning->rest_ns);
    spinning->rest_ns = spinning->rest_ns < REST_MOST_NS ? 2 * spinning->rest_ns : REST_MOST_NS;
}

/*
 * Awake the CPU of a datagram has to be less by an eighth. Once it is enough that datagrams come a
 * quarter faster: the other side sees that, tries too, and then it is.
 */
static void trial_judge(struct dgram_loop *loop)
{
    struct spinning *spinning = &loop->waiting->spinning;
    const struct price *asleep = &spinning->prices[0], *awake = &spinning->prices[1];
    bool is_measured = asleep->cpu > 0 && awake->cpu > 0; /* a sandbox may refuse that clock */
    if (is_measured && is_less(awake->cpu, awake->datagrams, asleep->cpu, asleep->datagrams, 7)) {
        spinning->hoped = false;
        spin_hold(loop, true, AWAKE_MOST_NS);
    } else if (!spinning->hoped &&
               is_less(awake->time, awake->datagrams, asleep->time, asleep->datagrams, 6)) {
        spinning->hoped = true;
        spin_hold(loop, true, REST_LEAST_NS);
    } else {
        spin_rest(loop);
    }
}

/* Two epochs of a trial say enough where awake a datagram costs half as much again and comes no
 * sooner: a whole trial takes 64 spins in vain. */
static bool is_hopeless(const struct spinning *spinning)
{
    const struct price *asleep = &spinning->prices[0], *awake = &spinning->prices[1];
    return spinning->epochs % 2 == 0 && asleep->cpu > 0 && /* a sandbox may refuse that clock */
           is_less(asleep->cpu, asleep->datagrams, awake->cpu, awake->datagrams, 5) &&
           !is_less(awake->time, awake->datagrams, asleep->time, asleep->datagrams, 6);
}

/* Awake a datagram costs more than it did asleep: the trial was wrong, as one is whose datagrams
 * came in bursts, or it is not true any more. */
static bool is_dearer(const struct spinning *spinning, const struct price *price)
{
    const struct price *asleep = &spinning->prices[0];
    return !spinning->hoped &&
           is_less(asleep->cpu, asleep->datagrams, price->cpu, price->datagrams, 7);
}

/* Datagrams come half as fast again as in the trial that failed: the other side may spin now. */
static bool is_faster(const struct dgram_loop *loop, const struct price *price)
{
    const struct price *then = &loop->waiting->spinning.prices[0];
    return loop->now - loop->waiting->spinning.held_at >= REST_LEAST_NS &&
           is_less(price->time, price->datagrams, then->time, then->datagrams, 5);
}

/* Sleeping and spinning take turns in a trial, because the traffic changes meanwhile. */
static void epoch_count(struct dgram_loop *loop)
{
    struct spinning *spinning = &loop->waiting->spinning;
    if (++spinning->epoch_waits < EPOCH_WAITS) {
        return;
    }
    struct price price = epoch_end(loop);
    if (spinning->state == SPIN_TRIES) {
        struct price *sum = &spinning->prices[spinning->awake];
        sum->cpu += price.cpu;
        sum->time += price.time;
        sum->datagrams += price.datagrams;
        spinning->awake = !spinning->awake;
        if (++spinning->epochs == TRIAL_EPOCHS) {
            trial_judge(loop);
        } else if (is_hopeless(spinning)) {
            spin_rest(loop);
        }
    } else if (spinning->state == SPIN_HOLDS && is_dearer(spinning, &price)) {
        spin_rest(loop);
    } else if (loop->now >= spinning->until) {
        spinning->rest_ns = spinning->awake && !spinning->hoped ? REST_LEAST_NS : spinning->rest_ns;
        trial_begin(spinning);
    } else if (spinning->state == SPIN_RESTS && is_faster(loop, &price)) {
        trial_begin(spinning);
    }
}

/* A conversation begins: the verdict of the one before holds if that was a moment ago. */
static void conversation_begin(struct dgram_loop *loop)
{
    struct spinning *spinning = &loop->waiting->spinning;
    if (loop->now - spinning->answered_at >= AWAKE_MOST_NS) {
        spinning->rest_ns = REST_LEAST_NS;
        spinning->hoped = false;
        trial_begin(spinning);
    }
    (void) epoch_end(loop);
}

/*
 * In a loop that answers it is tried out whether spinning pays. Two loops that talk to each other
 * without a pause answer within 5 us instead of 70, for a fifth of the CPU. Requests that come at
 * random are answered no sooner by it, and would cost up to a core. A loop that serves those
 * sleeps, and spins for 16 to 64 waits every 2.5 s to find out.
 *
 * Nothing came while it spun: a turn that has a limit sleeps on until then, since its caller may
 * take the end for a timeout. One without a limit ends: its caller may wait for a signal, and that
 * may have come meanwhile. After a wait in vain, or a long one, no spin begins.
 */
static int answering_wait(struct dgram_loop *loop, int64_t patience, bool limited)
{
    struct spinning *spinning = &loop->waiting->spinning;
    if (loop->now - spinning->answered_at >= ANSWERS_NS) {
        conversation_begin(loop);
    }
    bool spins = spinning->awake && spinning->promises;
    spinning->start = loop->system->now();
    int code =
        spins ? spin_wait(loop, patience, SPIN_NS, limited) : wait_for(loop, patience, false);
    spinning->answered_at = loop->now;
    bool found = loop->io->pending.count > 0;
    /* A sleep of twice the limit is a spin of half of it and more, and a wake-up. */
    spinning->promises = found && loop->now - spinning->start <= (uint64_t) 2 * SPIN_NS;
    if (found) {
        epoch_count(loop);
    }
    return code;
}

/* ---- Gathering ----------------------------------------------------------------------------- */

/*
 * A wake-up by the clock costs twice as much as one by a datagram (KVM: 22 us of CPU against 11,
 * for the timer is programmed twice), so gathering pays from three datagrams a sleep on. The rate
 * that counts is that of the last 16, or of the time in which so many would have to come.
 */
enum { GATHER_LEAST = 3, WINDOW_RECORDS = 16 };

/* A datagram is charged this in the receive buffer beside 5/4 of its size. The kernel's own account
 * is 768 bytes for a small one and 2,304 for one of 1,200 bytes (Linux 6.18). */
enum { RECORD_OVERHEAD = 1024 };

/* Closes the window if it is full or over, and so follows the rate within 16 datagrams. */
static void window_judge(struct gathering *gathering, uint64_t now)
{
    uint64_t budget = (uint64_t) gathering->budget_ns, lasted = now - gathering->since;
    uint64_t longest = budget * WINDOW_RECORDS / GATHER_LEAST;
    if (gathering->records < WINDOW_RECORDS && lasted < longest) {
        return;
    }
    gathering->pays = gathering->records >= WINDOW_RECORDS && lasted < longest;
    gathering->bytes_in_budget = lasted > 0 ? gathering->bytes * budget / lasted : UINT64_MAX;
    gathering->since = now;
    gathering->records = 0;
    gathering->bytes = 0;
}

/* The least receive buffer of the loop's bound sockets. Asked again when a socket came or went. */
static uint64_t buffer_least(struct dgram_loop *loop)
{
    struct gathering *gathering = &loop->waiting->gathering;
    if (gathering->buffers_seen != loop->buffers_changed) {
        gathering->buffers_seen = loop->buffers_changed;
        gathering->buffer = dg_sockets_receive_buffer(loop);
    }
    return gathering->buffer;
}

/* At this rate half of a receive buffer is full by then. */
static int64_t until_half_full(struct dgram_loop *loop)
{
    const struct gathering *gathering = &loop->waiting->gathering;
    uint64_t half = buffer_least(loop) / 2, bytes = gathering->bytes_in_budget;
    if (bytes <= half) {
        return gathering->budget_ns;
    }
    return (int64_t) ((double) gathering->budget_ns * (double) half / (double) bytes);
}

/*
 * How long the next sleep goes on whatever comes; 0: it ends with the first thing that comes. It
 * does not go on if the last one brought nothing, or so much that more may be left in the kernel.
 * While sends wait for room, POLLOUT has to end the sleep.
 */
static int64_t loop_gathers(struct dgram_loop *loop, int64_t patience)
{
    struct gathering *gathering = &loop->waiting->gathering;
    uint32_t came = gathering->came;
    gathering->came = 0;
    window_judge(gathering, loop->now);
    bool sends = loop->outbox->queue_charge > 0 || loop->outbox->loans_out > 0;
    bool left = came >= dg_pool_slots(dg_inlet_pool(loop))->count / 2;
    if (!gathering->pays || gathering->in_vain || left || sends || loop->freeing) {
        gathering->in_vain = false;
        return 0;
    }
    int64_t longest = until_half_full(loop);
    return patience >= 0 && patience < longest ? patience : longest;
}

void dg_wait_received(struct dgram_loop *loop, const struct completion *records, uint32_t count,
                      uint64_t datagrams)
{
    struct gathering *gathering = &loop->waiting->gathering;
    loop->waiting->delivered += datagrams;
    if (gathering->budget_ns == 0) {
        return;
    }
    gathering->came += count;
    gathering->records += count;
    for (uint32_t i = 0; i < count; i++) {
        gathering->bytes += RECORD_OVERHEAD + records[i].size + records[i].size / 4;
    }
}

/*
 * Nothing came while it gathered: a turn that has a limit sleeps on until then, since its caller
 * may take the end for a timeout. A turn without a limit ends, and so does one that a signal woke
 * before its time. Their callers may wait for a signal, and the signal may have come between two
 * sleeps.
 */
static int gathering_wait(struct dgram_loop *loop, int64_t patience, bool limited)
{
    int64_t longest = loop_gathers(loop, patience);
    if (longest == 0) {
        return wait_for(loop, patience, false);
    }
    uint64_t start = loop->system->now();
    int code = wait_for(loop, longest, true);
    int64_t spent = (int64_t) (loop->now - start);
    bool found = dg_loop_has_work(loop);
    loop->waiting->gathering.in_vain = !found;
    if (code < 0 || found || spent < longest || !limited) {
        return code;
    }
    return wait_for(loop, patience > spent ? patience - spent : 0, false);
}

/* ---- The wait ------------------------------------------------------------------------------ */

static int wait_somehow(struct dgram_loop *loop, int64_t patience, bool limited)
{
    if (patience == 0) {
        return wait_for(loop, 0, false);
    }
    if (loop->waiting->busy_poll_ns > 0) {
        return spin_wait(loop, patience, loop->waiting->busy_poll_ns, true);
    }
    if (loop->waiting->gathering.budget_ns > 0) {
        return gathering_wait(loop, patience, limited);
    }
    return loop->waiting->spinning.adapts && loop_answers(loop)
               ? answering_wait(loop, patience, limited)
               : wait_for(loop, patience, false);
}

int dg_wait(struct dgram_loop *loop, int64_t patience, bool limited)
{
    loop->waiting->spinning.found = false;
    return wait_somehow(loop, patience, limited);
}

bool dg_wait_found(const struct dgram_loop *loop)
{
    return loop->waiting->spinning.found;
}
