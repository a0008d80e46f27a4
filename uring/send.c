/* SPDX-License-Identifier: MIT */
/*
 * send.c: trains to the kernel.
 *
 * Decides for each train whether it goes by an SQE or by a system call, and in which order. Never
 * sleeps, and never looks at CQEs but for the result of a loan.
 *
 * Few trains, the replies of a turn, are one SENDMSG SQE each, part of the enter that waits anyway.
 * MSG_DONTWAIT makes the kernel try it inside the submission and never hold it, so that when the
 * submission returns all its memory is reusable; CQE_SKIP makes only failures speak. Trains without
 * a failure were taken. (tests/host/kernel*.cc pins all three.)
 *
 * Many go by sendmmsg(2), which costs 0.1 us less per train (6.18) and a system call. So do chains
 * (trains that follow each other: one destination), which must stop at the first refusal. SQEs of
 * one submission do not: later ones overtake a refused one, and links run one per enter.
 */
#include "uring/send.h"

#include "uring/enter.h"
#include "uring/lend.h"

enum {
    CALL_MAX = 64, /* messages of one sendmmsg(): 4 full trains as a rule, or many lone ones */
    RUN_LEAST = 4  /* trains that are worth the call: it is paid for by two or three */
};

static bool train_queue(struct engine *engine, uint32_t index)
{
    struct train *train = engine->sends[index];
    struct io_uring_sqe *sqe = dg_ring_sqe(engine);
    if (sqe == NULL) {
        return false;
    }
    train->result = 0;
    if (train->loan != 0) {
        dg_ring_loan_prepare(engine, sqe, index);
        return true;
    }
    io_uring_prep_sendmsg(sqe, train->endpoint->fd, &train->header, MSG_DONTWAIT);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = ring_user_data(OPERATION_SEND, engine->send_generation, index);
    return true;
}

static int lone_call(const struct train *train)
{
    ssize_t size;
    do {
        size = sendmsg(train->endpoint->fd, &train->header, MSG_DONTWAIT);
    } while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : 1;
}

/* Sends a train of a chain by a submission of its own: nothing less stops at a refusal. It costs
 * 0.4 us, which a loan saves many times over. */
static int lend_call(struct engine *engine, uint32_t index)
{
    if (!engine->enabled || !train_queue(engine, index)) {
        return lone_call(engine->sends[index]);
    }
    int code = dg_ring_reap(engine, io_uring_submit(&engine->ring), false);
    if (code < 0) {
        engine->broken = code;
        return code;
    }
    int result = engine->sends[index]->result;
    return result < 0 ? result : 1;
}

/* Makes one call for trains of one endpoint from `from` on, up to `to`: a loan, or a sendmmsg() of
 * those before the next loan. Returns how many were taken, or a negated errno for the first. */
static int run_call(struct engine *engine, uint32_t from, uint32_t to)
{
    struct mmsghdr messages[CALL_MAX];
    uint32_t count = 0;
    if (engine->sends[from]->loan != 0) {
        return lend_call(engine, from);
    }
    while (count < CALL_MAX && from + count < to && engine->sends[from + count]->loan == 0) {
        messages[count].msg_hdr = engine->sends[from + count]->header;
        count++;
    }
    if (count == 1) {
        return lone_call(engine->sends[from]);
    }
    int taken;
    do {
        taken = sendmmsg(engine->sends[from]->endpoint->fd, messages, count, MSG_DONTWAIT);
    } while (taken < 0 && errno == EINTR);
    return taken < 0 ? -errno : taken;
}

/* Trains that follow a failed one are not tried. Trains that only come after it are, unless a loan
 * broke the ring, or the failure was EAGAIN: the socket has no room for them either. */
static void run_send(struct engine *engine, uint32_t from, uint32_t to)
{
    for (uint32_t next = from; next < to && engine->broken == 0;) {
        int result = run_call(engine, next, to);
        for (int i = 0; i < result; i++) {
            engine->sends[next++]->result = 0;
        }
        if (result < 0) {
            engine->sends[next++]->result = result;
            engine->send_refused = true;
        }
        while (result < 0 && next < to && (result == -EAGAIN || engine->sends[next]->follows)) {
            struct train *train = engine->sends[next++];
            train->result = train->follows ? -ECANCELED : result;
        }
    }
}

/* Returns the end of the trains that go one way: a chain, or all trains of its endpoint up to the
 * next loan that follows none, if they are many. */
static uint32_t run_end(const struct engine *engine, uint32_t from)
{
    const struct endpoint *endpoint = engine->sends[from]->endpoint;
    uint32_t chain = from + 1, run;
    while (chain < engine->send_count && engine->sends[chain]->follows) {
        chain++;
    }
    for (run = chain; run < engine->send_count; run++) {
        const struct train *train = engine->sends[run];
        if (train->endpoint != endpoint || (train->loan != 0 && !train->follows)) {
            break;
        }
    }
    return run - from >= RUN_LEAST ? run : chain;
}

/* A disabled ring takes no submissions, and enabling it would make this thread its owner: sends
 * before the first turn go by system call. So does a lone train that no other submission is made
 * for: an enter for one SQE costs 0.35 us more than sendmsg. */
static bool by_call(const struct engine *engine, bool flush)
{
    return !engine->enabled || (flush && engine->send_count == 1 && node_alone(&engine->queued) &&
                                io_uring_sq_ready(&engine->ring) == 0);
}

void dg_ring_send_queue(struct engine *engine, bool flush)
{
    bool call = by_call(engine, flush);
    engine->send_generation++;
    /* A loan may have broken the ring: the trains behind it have their answer. */
    for (uint32_t from = 0; from < engine->send_count && engine->broken == 0;) {
        uint32_t to = run_end(engine, from);
        if (to > from + 1 || call || !train_queue(engine, from)) {
            run_send(engine, from, to);
        }
        from = to;
    }
}
