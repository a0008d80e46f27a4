/* SPDX-License-Identifier: MIT */
/*
 * wait.c: how a turn waits.
 *
 * Owns the choice between sleeping, spinning, and gathering (a sleep that lasts whatever comes, so
 * that one wake-up serves several datagrams), and the figures from which it chooses. It calls nobody
 * back: loop.c dispatches what came.
 */
#include "src/core.h"

/* ---- Settings ------------------------------------------------------------------------------ */

enum { BUSY_POLL_US_MAX = 1000000 };
enum { MAX_DELAY_US_MAX = 100000 };

/*
 * What a spin may last, and what the wake-up is worth that it saves. Here (KVM, two cores) a
 * wake-up costs the one who sends 8-11 us and the one who wakes 3-5, and takes 30. The limit is
 * longer, or two loops that both sleep would never find out: as long as the other one sleeps, an
 * answer takes a wake-up and some (20 us: no pair began to spin; 30: most; 40: all).
 */
enum { SPIN_NS = 40000, SPIN_WORTH_NS = 10000 };
/* Spins that do not pay use up the credit, and then one part in so many of the time. */
enum { SPIN_CREDIT_NS = 1000000, SPIN_ALLOWANCE = 64 };

bool dg_wait_options_are_good(const struct dgram_loop_options *options)
{
    bool busy =
        options->busy_poll_us <= BUSY_POLL_US_MAX || options->busy_poll_us == DGRAM_BUSY_POLL_OFF;
    return busy && options->max_delay_us <= MAX_DELAY_US_MAX;
}

void dg_wait_set(struct dgram_loop *loop, const struct dgram_loop_options *options)
{
    bool spins = options->busy_poll_us != DGRAM_BUSY_POLL_OFF;
    loop->busy_poll_ns = spins ? (int64_t) options->busy_poll_us * 1000 : 0;
    loop->gathering.budget_ns = (int64_t) options->max_delay_us * 1000;
    loop->gathering.since = loop->now;
    loop->spinning.adapts = options->busy_poll_us == 0 && options->max_delay_us == 0;
    loop->spinning.credit = SPIN_CREDIT_NS;
    loop->spinning.judged_at = loop->now;
    loop->config.peeks = loop->busy_poll_ns > 0 || loop->spinning.adapts;
}

/* ---- Patience ------------------------------------------------------------------------------ */

/* Whether the loop has a reason to sleep. Sends that are handed over now are none: they do not
 * wait, and when nothing else is left the program wants to end. */
static bool loop_may_sleep(struct dgram_loop *loop)
{
    bool stopped = atomic_load(&loop->inbox.stop) && !loop->freeing; /* that goes to its end */
    if (dg_loop_has_work(loop) || stopped) {
        return false;
    }
    bool leaving = loop->batch->train_count > 0;
    return loop->keeping > 0 || loop->timers.keeping > 0 || loop->lent > 0 ||
           (loop->queue_charge > 0 && !leaving);
}

/* How long the turn may sleep: not at all if there is work, else until the first deadline. */
int64_t dg_wait_patience(struct dgram_loop *loop, int64_t timeout_ns)
{
    if (timeout_ns == 0 || !loop_may_sleep(loop)) {
        return 0;
    }
    uint64_t deadline = dg_loop_deadline(loop);
    if (deadline == UINT64_MAX) {
        return timeout_ns;
    }
    uint64_t now = loop->system->now();
    uint64_t left = deadline > now ? deadline - now : 0;
    left = left > INT64_MAX ? INT64_MAX : left;
    return timeout_ns < 0 || (int64_t) left < timeout_ns ? (int64_t) left : timeout_ns;
}

/* ---- Spinning ------------------------------------------------------------------------------ */

/* Every so many looks a whole wait(0) looks for what is no datagram: wake-ups, names, POLLOUT. */
enum { LOOKS_PER_WAIT = 32 };

/* Waits, and reads the clock: nothing of this file ends without knowing the time. */
static int wait_for(struct dgram_loop *loop, int64_t time_ns, bool gathers)
{
    int code = loop->backend->wait(loop->engine, time_ns, gathers);
    loop->now = loop->system->now();
    return code;
}

static bool time_is_left(struct dgram_loop *loop, int64_t limit_ns)
{
    loop->now = loop->system->now();
    return (int64_t) (loop->now - loop->spinning.start) < limit_ns;
}

/*
 * Looks until something is there or so much time has passed. What was handed over is submitted, and
 * settled before the spin: it may have to be parked, or told.
 *
 * Where there is one CPU only, a spin that the program wants gives way to those for whom it looks.
 * One that has to pay does not: beside a busy thread that takes milliseconds, and a sleep would end
 * when a datagram comes. It keeps them away, finds nothing, and so the loop sleeps soon.
 *
 * Peeking is for datagrams that come one by one, and not fair. If the last spin found something at
 * once, there may be more, and more of others: then it begins with a whole wait.
 *
 * The clock is read before a look and not after it: what was found is to be answered, and the time
 * of the last look is half a microsecond old.
 */
static int look(struct dgram_loop *loop, int64_t limit_ns)
{
    const struct backend *backend = loop->backend;
    struct spinning *spinning = &loop->spinning;
    bool whole = backend->peek == NULL || spinning->at_once;
    unsigned looks = whole;
    int code = whole ? backend->wait(loop->engine, 0, false) : backend->flush(loop->engine);
    code = dg_send_settle(loop, code);
    loop->now = spinning->start = loop->system->now();
    while (code == 0 && !(spinning->found = dg_loop_has_work(loop)) &&
           time_is_left(loop, limit_ns)) {
        if (!spinning->adapts) {
            loop->system->relax();
        }
        whole = backend->peek == NULL || ++spinning->looks % LOOKS_PER_WAIT == 0;
        code = whole ? backend->wait(loop->engine, 0, false) : backend->peek(loop->engine);
        looks++;
    }
    spinning->at_once = spinning->found && looks <= 1;
    return code;
}

/* Looks for a while before it sleeps, if it is to sleep at all. */
static int spin_wait(struct dgram_loop *loop, int64_t patience, int64_t spin_ns, bool sleeps)
{
    int code = look(loop, patience >= 0 && patience < spin_ns ? patience : spin_ns);
    if (code < 0 || !sleeps || loop->spinning.found) {
        return code;
    }
    int64_t left = patience;
    if (patience >= 0) {
        int64_t spent = (int64_t) (loop->now - loop->spinning.start);
        left = patience > spent ? patience - spent : 0;
    }
    left = dg_wait_patience(loop, left); /* there may be a retry by now */
    return left != 0 ? wait_for(loop, left, false) : 0;
}

/* ---- In a loop that answers ---------------------------------------------------------------- */

/* It has sent something lately: others may wait for what it will send. */
static bool loop_answers(const struct dgram_loop *loop)
{
    enum { LATELY_NS = 10000000 };
    return loop->now - loop->sent_at < LATELY_NS;
}

/* A spin costs what it lasted (no more than it may last: another thread may have had the CPU), and
 * has saved a wake-up if it found something that was not there anyway. */
static void spin_judge(struct dgram_loop *loop, bool spun)
{
    struct spinning *spinning = &loop->spinning;
    int64_t lasted = (int64_t) (loop->now - spinning->start);
    spinning->credit += (int64_t) (loop->now - spinning->judged_at) / SPIN_ALLOWANCE;
    if (spun && !spinning->at_once) {
        int64_t cost = lasted < SPIN_NS ? lasted : SPIN_NS;
        spinning->credit += (spinning->found ? SPIN_WORTH_NS : 0) - cost;
    }
    if (spinning->credit > SPIN_CREDIT_NS) {
        spinning->credit = SPIN_CREDIT_NS;
    }
    spinning->judged_at = loop->now;
    /* A sleep of twice the limit is a spin of half of it and more, and a wake-up. */
    spinning->promises = loop->pending.count > 0 && lasted <= (int64_t) 2 * SPIN_NS;
}

/*
 * Spins if the last wait was short and spins have not cost more than the wake-ups that they saved:
 * two loops that talk to each other then answer within 5 us instead of 70, and requests of some
 * thousand a second that come whenever they come still find a loop that sleeps.
 *
 * Nothing came while it spun: a turn that has a limit sleeps on until then, since its caller may
 * take the end for a timeout. One without a limit ends: its caller may wait for a signal, and that
 * may have come meanwhile.
 */
static int answering_wait(struct dgram_loop *loop, int64_t patience, bool limited)
{
    struct spinning *spinning = &loop->spinning;
    bool spins = spinning->promises && spinning->credit > 0;
    spinning->start = spins ? 0 : loop->system->now();
    int code =
        spins ? spin_wait(loop, patience, SPIN_NS, limited) : wait_for(loop, patience, false);
    spin_judge(loop, spins);
    return code;
}

/* ---- Gathering ----------------------------------------------------------------------------- */

/*
 * A wake-up by the clock costs twice as much as one by a datagram (KVM: 22 us of CPU against 11, for
 * the timer is programmed twice), so gathering pays from three datagrams a sleep on. The rate that
 * counts is that of the last 16, or of the time in which so many would have to come.
 */
enum { GATHER_LEAST = 3, WINDOW_RECORDS = 16 };

/* A datagram is charged this in the receive buffer beside 5/4 of its size: the kernel's own account
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
    struct gathering *gathering = &loop->gathering;
    if (gathering->buffer == 0) {
        gathering->buffer = dg_sockets_receive_buffer(loop);
    }
    return gathering->buffer;
}

/* At this rate half of a receive buffer is full by then. */
static int64_t until_half_full(struct dgram_loop *loop)
{
    const struct gathering *gathering = &loop->gathering;
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
    struct gathering *gathering = &loop->gathering;
    uint32_t came = gathering->came;
    gathering->came = 0;
    window_judge(gathering, loop->now);
    bool sends = loop->queue_charge > 0 || loop->lent > 0;
    bool left = came >= loop->slots / 2;
    if (!gathering->pays || gathering->in_vain || left || sends || loop->freeing) {
        gathering->in_vain = false;
        return 0;
    }
    int64_t longest = until_half_full(loop);
    return patience >= 0 && patience < longest ? patience : longest;
}

void dg_wait_received(struct dgram_loop *loop, const struct completion *records, uint32_t count)
{
    struct gathering *gathering = &loop->gathering;
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
 * may take the end for a timeout. One without a limit ends, and so does one that a signal woke
 * before its time: their callers may wait for a signal, and it may have come between two sleeps.
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
    loop->gathering.in_vain = !found;
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
    if (loop->busy_poll_ns > 0) {
        return spin_wait(loop, patience, loop->busy_poll_ns, true);
    }
    if (loop->gathering.budget_ns > 0) {
        return gathering_wait(loop, patience, limited);
    }
    return loop->spinning.adapts && loop_answers(loop) ? answering_wait(loop, patience, limited)
                                                       : wait_for(loop, patience, false);
}

int dg_wait(struct dgram_loop *loop, int64_t patience, bool limited)
{
    loop->spinning.found = false;
    return wait_somehow(loop, patience, limited);
}
