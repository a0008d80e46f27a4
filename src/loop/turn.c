/* SPDX-License-Identifier: MIT */
/* turn.c: see turn.h. */
#include "src/loop/turn.h"

#include "src/core/agenda.h"
#include "src/core/alarm.h"
#include "src/core/check.h"
#include "src/core/io.h"
#include "src/loop/post.h"
#include "src/loop/wait.h"
#include "src/receive/deliver.h"
#include "src/send/buffer.h"
#include "src/send/ledger.h"
#include "src/send/submit.h"
#include "src/socket/life.h"

static void prepare(struct dgram_loop *loop)
{
    agenda_run(loop->agenda, PHASE_PREPARE);
    agenda_run(loop->agenda, PHASE_RECEIVE);
    dg_inlet_prepare(loop);
    ledger_check_drains(loop); /* a socket that closes leaves room to others */
    if (!loop->inbox->watch.armed) {
        (void) dg_watch_arm(loop->io, &loop->inbox->watch); /* only the first arming can fail */
    }
}

/*
 * A turn may hold 64 trains of 128 datagrams, a quarter of a millisecond of handlers and more.
 * Datagrams that the first handler sent do not wait for the last. So many datagrams, two full
 * trains, are delivered between two submissions; replies to as many are still a cheap submission
 * each.
 */
enum { DELIVERIES_PER_FLUSH = 256 };

/* Submits the datagrams that handlers have sent long enough ago. */
struct answers {
    uint64_t unanswered; /* delivered since a handler sent datagrams that have not left yet */
};

static void answers_leave(struct dgram_loop *loop, struct answers *answers, bool sent,
                          uint64_t delivered)
{
    answers->unanswered = sent ? answers->unanswered + delivered : 0;
    if (answers->unanswered >= DELIVERIES_PER_FLUSH && !loop_forked(loop)) {
        answers->unanswered = 0;
        (void) dg_send_flush(loop); /* a broken engine shows in the results */
    }
}

/* Returns how many records are done with: delivered, or in the backlog. */
static uint32_t received(struct dgram_loop *loop, struct answers *answers,
                         const struct completion *records, uint32_t count)
{
    struct receiver *receiver = &((struct dgram_socket *) records->endpoint)->receiver;
    bool sent = send_is_queued(loop);
    uint64_t datagrams;
    uint32_t taken = dg_deliver(receiver, records, count, &datagrams);
    dg_wait_received(loop, records, taken, datagrams);
    answers_leave(loop, answers, sent, datagrams);
    return taken;
}

/* Sockets in turn, as long as the turn may last. Their records were counted as they came. */
static void serve_backlogs(struct dgram_loop *loop, struct answers *answers)
{
    for (;;) {
        bool sent = send_is_queued(loop);
        uint64_t datagrams = dg_deliver_backlog(loop);
        if (datagrams == 0) {
            return;
        }
        dg_wait_received(loop, NULL, 0, datagrams);
        answers_leave(loop, answers, sent, datagrams);
    }
}

/* Returns how many records are done with. */
static uint32_t dispatch_records(struct dgram_loop *loop, struct answers *answers,
                                 const struct completion *records, uint32_t count)
{
    switch ((enum completion_kind) records->kind) {
    case COMPLETION_RECEIVED:
        return received(loop, answers, records, count);
    case COMPLETION_READY:
        dg_watch_fired(records->watch);
        break;
    case COMPLETION_STOPPED:
        dg_receiver_stopped(&((struct dgram_socket *) records->endpoint)->receiver,
                            records->result);
        break;
    case COMPLETION_DETACHED:
        dg_socket_detached((struct dgram_socket *) records->endpoint);
        break;
    case COMPLETION_RELEASED:
        dg_buffer_released(loop, records->loan, records->result > 0);
        break;
    }
    return 1;
}

/* If the last wait found its datagram by spinning, a peer is waiting for the reply. The reply is
 * submitted before the rest of the dispatch, which would add about 50 ns to a round trip of 4 us. A
 * loop that sleeps submits and sleeps in one system call, so it would only lose. */
static void reply_at_once(struct dgram_loop *loop)
{
    if (dg_wait_found(loop) && send_is_queued(loop) && !loop_forked(loop)) {
        (void) dg_send_flush(loop); /* a broken engine shows in the results */
    }
}

static void dispatch_completions(struct dgram_loop *loop, bool late)
{
    struct answers answers = {0};
    struct completions list = dg_io_take(loop->io);
    dg_deliver_begin(loop, late);
    for (uint32_t i = 0; i < list.count && !loop_forked(loop);) {
        i += dispatch_records(loop, &answers, &list.items[i], list.count - i);
    }
    dg_io_done(loop->io);
    if (!loop_forked(loop)) {
        serve_backlogs(loop, &answers);
    }
    reply_at_once(loop);
}

/*
 * Sockets are freed in the last phase only, when no record and no request names them any more. A
 * callback that forks returns in the child as well: nothing more of the parent's runs there.
 *
 * A phase that has nothing to do is not called. After a sleep its code has left the cache, and most
 * of the cost of a turn for one datagram is that.
 */
static void dispatch(struct dgram_loop *loop)
{
    struct agenda *agenda = loop->agenda;
    bool rings = alarms_next(loop->alarms) <= loop->now;
    bool late = (agenda->due & UINT32_C(1) << PHASE_EVENTS) != 0 || rings;
    if (rings) {
        dg_alarms_run(loop->alarms, loop->now);
    }
    agenda_run(agenda, PHASE_EVENTS);
    dispatch_completions(loop, late);
    agenda_run(agenda, PHASE_NAMES);
    agenda_run(agenda, PHASE_SENT);
    if (!loop_forked(loop)) {
        ledger_check_drains(loop); /* an outer loop may sleep after this turn */
    }
    agenda_run(agenda, PHASE_IDLE);
    agenda_run(agenda, PHASE_ERRORS);
    agenda_run(agenda, PHASE_CLOSED);
}

int dg_turn(struct dgram_loop *loop, int64_t timeout_ns)
{
    loop->turns++;
    agenda_run(loop->agenda, PHASE_ENDING);
    prepare(loop);
    int64_t patience = dg_wait_patience(loop, timeout_ns);
    dg_send_hand_over(loop);
    loop->io->arms = false;
    int code = dg_send_settle(loop, dg_wait(loop, patience, timeout_ns > 0));
    dg_io_note(loop->io, code);
    dispatch(loop);
    return loop_forked(loop) ? DGRAM_EFORKED : code;
}

int dg_turn_leave(struct dgram_loop *loop)
{
    prepare(loop);
    return dg_send_flush(loop);
}
