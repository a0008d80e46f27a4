/* SPDX-License-Identifier: MIT */
/*
 * wait.c: how a turn waits.
 *
 * Owns the choice between sleeping, spinning, and sleeping until several datagrams are there, and
 * what the choice is made from. Calls nobody back: what came is for loop.c to dispatch.
 */
#include "src/core.h"

/* ---- Settings ------------------------------------------------------------------------------ */

enum { BUSY_POLL_US_MAX = 1000000 };
enum { COALESCE_US_DEFAULT = 20, COALESCE_US_MAX = 1000 };

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
    bool coalesce =
        options->coalesce_us <= COALESCE_US_MAX || options->coalesce_us == DGRAM_COALESCE_OFF;
    return busy && coalesce;
}

void dg_wait_set(struct dgram_loop *loop, const struct dgram_loop_options *options)
{
    bool spins = options->busy_poll_us != DGRAM_BUSY_POLL_OFF;
    uint32_t coalesce_us = options->coalesce_us != 0 ? options->coalesce_us : COALESCE_US_DEFAULT;
    loop->busy_poll_ns = spins ? (int64_t) options->busy_poll_us * 1000 : 0;
    loop->coalesce_ns = coalesce_us != DGRAM_COALESCE_OFF ? (int64_t) coalesce_us * 1000 : 0;
    loop->spinning.adapts = options->busy_poll_us == 0;
    loop->spinning.credit = SPIN_CREDIT_NS;
    loop->spinning.judged_at = loop->now;
    loop->config.peeks = spins;
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
static int wait_for(struct dgram_loop *loop, int64_t time_ns, bool coalesce)
{
    int code = loop->backend->wait(loop->engine, time_ns, coalesce);
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

/* ---- In a loop that listens ---------------------------------------------------------------- */

/*
 * How long a sleep may go on whatever happens, so that one wake-up serves several datagrams: each
 * costs the sender 11 us here (KVM), and as much the receiver. 0 unless they came in quick
 * succession, two or more in the last wait; the loop is not behind, so that what waits in the
 * kernel is no danger to receive buffers; and it sends nothing and has not for 10 ms: nobody waits
 * for its answers. (Requests behind a flood to another socket of the loop: 25 us, and 75 if only
 * the last turn counts.)
 */
static int64_t loop_coalesce(const struct dgram_loop *loop, int64_t patience)
{
    enum { RECORDS_LEAST = 2, RECORDS_MAX = 32, BYTES_MAX = 65536 };
    const struct intake *intake = &loop->intake;
    uint32_t records_max = loop->slots / 2 < RECORDS_MAX ? loop->slots / 2 : RECORDS_MAX;
    bool behind = intake->records >= records_max || intake->bytes >= BYTES_MAX;
    bool sends = loop->queue_charge > 0 || loop->lent > 0;
    bool long_enough = patience < 0 || patience > loop->coalesce_ns;
    bool may = intake->records >= RECORDS_LEAST && !behind && !sends && long_enough;
    return may && !loop->freeing ? loop->coalesce_ns : 0;
}

/*
 * Nothing came while it coalesced: a turn that has a limit sleeps on until then, since its caller
 * may take the end for a timeout. One without a limit ends, and so does one that a signal woke
 * before its time: their callers may wait for a signal, and it may have come between two sleeps.
 */
static int listening_wait(struct dgram_loop *loop, int64_t patience, bool limited)
{
    int64_t coalesce = loop_coalesce(loop, patience);
    if (coalesce == 0) {
        return wait_for(loop, patience, false);
    }
    uint64_t start = loop->system->now();
    int code = wait_for(loop, coalesce, true);
    int64_t spent = (int64_t) (loop->now - start);
    if (code < 0 || dg_loop_has_work(loop) || spent < coalesce || !limited) {
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
    if (!loop_answers(loop)) {
        return listening_wait(loop, patience, limited);
    }
    return loop->spinning.adapts ? answering_wait(loop, patience, limited)
                                 : wait_for(loop, patience, false);
}

int dg_wait(struct dgram_loop *loop, int64_t patience, bool limited)
{
    loop->spinning.found = false;
    int code = wait_somehow(loop, patience, limited);
    loop->intake = (struct intake){0};
    return code;
}
