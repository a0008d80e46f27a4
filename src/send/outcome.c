/* SPDX-License-Identifier: MIT */
/* outcome.c: see outcome.h. */
#include "src/send/outcome.h"

#include <errno.h>

#include "src/core/io.h"
#include "src/send/buffer.h"
#include "src/send/park.h"
#include "src/send/path.h"

enum { REFUSALS_IN_A_ROW = 8 };

/* All datagrams of the train end alike. The common train has no requests: nothing is done per
 * datagram then. */
static void train_complete(struct dg_train *train, int result)
{
    struct sender *sender = train->flow->sender;
    uint64_t bytes = train->bytes, count = train->count;
    for (struct request *r; (r = requests_pop(&train->requests)) != NULL;) {
        bytes -= r->size;
        count--;
        dg_datagram_complete(train, r, r->size, result);
    }
    if (count == 0) {
        return;
    }
    if (result >= 0) {
        sender->sent += count;
        sender->sent_bytes += bytes;
    } else {
        sender->errors += count;
        dg_datagrams_failed(train->flow, result, (uint32_t) count);
    }
    dg_ledger_take(sender, bytes, count);
}

/* The engine may break at any hand-over, and gives its own code to all trains from then on. */
static void send_now(struct dgram_loop *loop, struct train *const *trains, size_t count)
{
    loop->io->backend->send(loop->io->engine, trains, count);
    int code = loop->io->backend->flush(loop->io->engine);
    if (code < 0) {
        loop->outbox->batch->code = code;
    }
}

/* An unfinished chain is handed over again from this train on. */
static void chain_again(struct dgram_loop *loop, struct dg_train *train)
{
    size_t count = 0;
    train->base.follows = false;
    for (; train != NULL; train = train_after(train)) {
        loop->outbox->batch->order[count++] = &train->base;
    }
    send_now(loop, loop->outbox->batch->order, count);
    loop->outbox->flushes++;
}

/* The kernel reports an ICMP error of an older datagram by failing the next send, and forgets it:
 * the same send tried again tells the truth. */
static bool error_may_be_old(int code)
{
    return code == -ECONNREFUSED || code == -EHOSTUNREACH || code == -ENETUNREACH ||
           code == -EHOSTDOWN || code == -EPROTO || code == -ENOPROTOOPT;
}

/* A firewall that looks at lengths, or at the rate, refuses the train and not its datagrams
 * (EPERM). The kernel's other objections to a large send are not for us to list. A broken engine's
 * code is everybody's. */
static bool train_is_refused(const struct dg_train *train)
{
    int code = train->base.result;
    return train->count > 1 && code != -ENOBUFS && !error_may_be_old(code) &&
           code != train->flow->sender->loop->outbox->batch->code;
}

/* The train was at fault. Where nobody takes any, as on a device without checksum offload, each new
 * peer costs a call. After so many in a row the socket makes none for a while. */
static void refusal_learn(struct dgram_loop *loop, const struct dg_train *train)
{
    struct sender *sender = train->flow->sender;
    bool too_big = train->base.result == -EMSGSIZE;
    bool news = dg_path_refused(loop, &train->flow->peer, too_big ? train->segment : 0);
    if (!too_big && news && ++sender->refused_trains >= REFUSALS_IN_A_ROW) {
        sender->refused_trains = 0;
        sender->alone_until = loop->now + PATH_NS;
    }
}

static int datagram_send_alone(struct dgram_loop *loop, const struct dg_train *train,
                               uint32_t index)
{
    struct iovec vector = dg_train_datagram(train, index);
    struct train alone = {.header = train->base.header, .endpoint = train->base.endpoint};
    struct train *list[] = {&alone};
    alone.header.msg_iov = &vector;
    alone.header.msg_iovlen = 1;
    alone.header.msg_control = NULL;
    alone.header.msg_controllen = 0;
    for (int tries = 0; tries < 2; tries++) {
        send_now(loop, list, 1);
        if (!error_may_be_old(alone.result)) {
            break;
        }
    }
    return alone.result;
}

/* ENOBUFS is back-pressure too. But a datagram that needs more fragments than the send buffer can
 * ever hold gets it for ever: after a thousand retries in vain it is the result. The code of a
 * broken engine is none, even if it is EAGAIN. */
static bool is_back_pressure(const struct dg_train *train, uint32_t index, int result)
{
    return result != train->flow->sender->loop->outbox->batch->code &&
           (result == -EAGAIN || (result == -ENOBUFS && !dg_park_is_hopeless(train, index)));
}

/* The datagrams of a train one by one, in order, each with its own true result. False when the
 * kernel had no room: then the rest and the trains behind it are parked. `*helps`: one of them at
 * least has met with something else than the train. */
static bool datagrams_send_alone(struct dgram_loop *loop, struct dg_train *train, bool *helps)
{
    for (uint32_t i = 0; i < train->count; i++) {
        int result = datagram_send_alone(loop, train, i);
        *helps |= result != train->base.result;
        if (is_back_pressure(train, i, result)) {
            dg_park_flow(train, i, result);
            return false;
        }
        if (result >= 0) {
            train->flow->sender->sends++;
            train->flow->sender->vain_retries = 0;
        }
        dg_datagram_complete(train, dg_train_pop_request(train, i),
                             dg_train_datagram_size(train, i), result);
    }
    return true;
}

/* A refused train. Nothing is learnt of it if its datagrams fail like it: an address that cannot be
 * sent to is EINVAL, too. Then each of its trains costs one call more than without trains; a guess
 * that the next train's datagrams fail as well would be wrong where a firewall counts the rate. */
static bool train_send_singly(struct dgram_loop *loop, struct dg_train *train)
{
    bool helps = false;
    train->flow->sender->trains_refused++;
    bool goes_on = datagrams_send_alone(loop, train, &helps);
    if (helps) {
        refusal_learn(loop, train);
    }
    return goes_on;
}

/* The train's result is that of its first datagram, which was tried in vain for long enough; the
 * others have their own time. */
static bool train_fail_first(struct dgram_loop *loop, struct dg_train *train)
{
    bool helps = false;
    return datagrams_send_alone(loop, train, &helps);
}

/* An attempt without a copy that failed (an older kernel, too many pages under way) says nothing
 * about the datagrams: they go again like any others. True if this was one. */
static bool lending_failed(struct dgram_loop *loop, struct dg_train *train)
{
    if (train->base.loan == 0) {
        return false;
    }
    dg_buffer_take_back(loop, train);
    if (train->base.result >= 0 || train->base.result == -EAGAIN) {
        return false;
    }
    dg_path_copied(loop, &train->flow->peer);
    return true;
}

static void train_taken(struct dg_train *train)
{
    struct sender *sender = train->flow->sender;
    sender->sends++;
    sender->vain_retries = 0;
    if (train->count > 1) {
        sender->refused_trains = 0;
    }
    train_complete(train, train->base.result);
}

/* Ends one train. False when the flow is parked from here on. */
static bool train_settle(struct dgram_loop *loop, struct dg_train *train)
{
    if (lending_failed(loop, train)) {
        chain_again(loop, train);
    }
    int result = train->base.result;
    if (result >= 0) {
        train_taken(train);
        return true;
    }
    if (is_back_pressure(train, 0, result)) {
        dg_park_flow(train, 0, result);
        return false;
    }
    bool goes_on = true;
    if (train_is_refused(train)) {
        goes_on = train_send_singly(loop, train);
    } else if (result == -ENOBUFS && train->count > 1) {
        goes_on = train_fail_first(loop, train);
    } else if (error_may_be_old(result) && !train->retried) {
        train->retried = true;
        chain_again(loop, train);
        return train_settle(loop, train);
    } else {
        train_complete(train, result);
    }
    if (goes_on && train_after(train) != NULL) {
        chain_again(loop, train_after(train)); /* the engine did not try trains behind a failure */
    }
    return goes_on;
}

void dg_flow_settle(struct dgram_loop *loop, struct flow *flow)
{
    struct dg_train *train = flow_first(flow);
    if (flow->sender->announces) {
        dg_park_chain(train); /* it was not handed over */
        return;
    }
    while (train != NULL && train_settle(loop, train)) {
        train = train_after(train);
    }
}
