/* SPDX-License-Identifier: MIT */
/*
 * trains.c: how the engine sends: trains are taken, refused, parked or lent, as the faults will
 * have it.
 */
#include "tests/sim/world.h"

#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

/* ---- sending ------------------------------------------------------------------------------- */

/* A train as the kernel reads it. */
struct reading {
    struct dgram_addr to;
    uint32_t size, segment, count;
    unsigned char bytes[DATAGRAM_MAX];
};

static uint32_t segment_read(const struct msghdr *header)
{
    uint16_t segment = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL;
         c = CMSG_NXTHDR((struct msghdr *) (uintptr_t) header, c)) {
        sim_rule(c->cmsg_level == SIM_SOL_UDP && c->cmsg_type == SIM_UDP_SEGMENT &&
                     c->cmsg_len == CMSG_LEN(sizeof(segment)),
                 "a train has a control message that is not UDP_SEGMENT");
        memcpy(&segment, CMSG_DATA(c), sizeof(segment));
        sim_rule(segment > 0, "a segment size of 0");
    }
    return segment;
}

static void train_read(const struct train *train, struct reading *reading)
{
    const struct msghdr *header = &train->header;
    reading->to = sim_address_read(header->msg_name, header->msg_namelen);
    reading->segment = segment_read(header);
    reading->size = 0;
    for (size_t i = 0; i < header->msg_iovlen; i++) {
        size_t length = header->msg_iov[i].iov_len;
        bool fits = length <= DATAGRAM_MAX - reading->size;
        sim_rule(fits, "a train is larger than a datagram");
        if (fits && length > 0) {
            memcpy(reading->bytes + reading->size, header->msg_iov[i].iov_base, length);
            reading->size += (uint32_t) length;
        }
    }
    reading->count = 1;
    if (reading->segment > 0) {
        reading->count = (reading->size + reading->segment - 1) / reading->segment;
        sim_rule(reading->count >= 2, "UDP_SEGMENT for a lone datagram");
        sim_rule(reading->size <= TRAIN_MAX, "a train that the stack cuts in software");
        sim_rule(reading->count <= sim_segments_max(), "more segments than the kernel takes");
    }
}

static void train_check(const struct engine *engine, struct train *const *trains, size_t index)
{
    const struct train *train = trains[index];
    const struct attached *a = train->endpoint->state;
    sim_rule(a != NULL && a->endpoint == train->endpoint, "a send for what is not attached");
    sim_rule(a == NULL || a->detach_at == NEVER, "a send after detach()");
    if (a != NULL && a->fd >= 0) {
        sim_rule(sim_descriptor_of(a->fd, SOCKET)->bound, "a send from a socket that is not bound");
    }
    if (train->follows) {
        bool shape = index > 0 && trains[index - 1]->endpoint == train->endpoint &&
                     trains[index - 1]->header.msg_namelen == train->header.msg_namelen &&
                     memcmp(trains[index - 1]->header.msg_name, train->header.msg_name, 8) == 0;
        sim_rule(shape, "a train follows one of another flow");
    }
    (void) engine;
}

int sim_send_room(struct descriptor *d)
{
    if (sim_world.now >= d->full_until && sim_chance(sim_world.faults.eagain)) {
        d->full_until = sim_world.now + 1 + sim_below(30000);
    }
    if (sim_world.now < d->full_until) {
        return -EAGAIN;
    }
    if (sim_world.now >= d->nobufs_until && sim_chance(sim_world.faults.nobufs)) {
        d->nobufs_until = sim_world.now + 1 + sim_below(1500000);
    }
    return sim_world.now < d->nobufs_until ? -ENOBUFS : 0;
}

static int whim(const struct reading *reading)
{
    static const int refusals[] = {-EIO, -EINVAL, -EMSGSIZE, -EPERM, -ENOMEM};
    if (reading->count > 1 && sim_chance(sim_world.faults.refuse)) {
        return refusals[sim_below(5)];
    }
    /* Tiny ones cannot be told from each other, so the checks could not say which one failed. */
    if (reading->count == 1 && reading->size >= 8 && sim_chance(sim_world.faults.transient)) {
        return -EPERM;
    }
    return 0;
}

int sim_pending_error_take(struct descriptor *d)
{
    int code = d->pending_error;
    d->pending_error = 0;
    if (code < 0) {
        d->error_from = sim_world.now + ERROR_PAUSE_NS;
    }
    return code;
}

/* The device to the ports that have no room, which takes what the test lets it. */
static bool device_is_full(const struct reading *reading)
{
    if (!sim_world.no_room[sim_port_of(&reading->to)]) {
        return false;
    }
    if (sim_world.room < reading->count) {
        return true;
    }
    sim_world.room -= reading->count;
    return false;
}

static int train_result(struct descriptor *d, const struct reading *reading)
{
    int code = sim_pending_error_take(d);
    if (code == 0) {
        code = sim_send_room(d);
    }
    if (code == 0 && device_is_full(reading)) {
        code = -ENOBUFS;
    }
    if (code == 0) {
        code = sim_error_of(&reading->to);
    }
    if (code == 0 && reading->count > 1) {
        code = sim_refusal_of(&reading->to, reading->segment);
    }
    return code == 0 ? whim(reading) : code;
}

static void train_taken(struct descriptor *d, const struct reading *reading)
{
    struct packet like = {.source = d->number, .to = reading->to, .segment = reading->segment};
    like.from = d->local;
    if (sim_host_is_any(&like.from)) {
        like.from = sim_loopback_of(d->family);
        sim_set_port(&like.from, sim_port_of(&d->local));
    }
    uint32_t step = reading->segment > 0 ? reading->segment : reading->size;
    uint32_t at = 0;
    do {
        uint32_t size = reading->size - at < step ? reading->size - at : step;
        if (sim_world.hooks.taken != NULL) {
            sim_world.hooks.taken(sim_world.hooks.user, d->number, &reading->to,
                                  reading->bytes + at, size);
        }
        at += size;
    } while (at < reading->size);
    sim_network_send(&like, reading->bytes, reading->size);
}

/* ---- loans --------------------------------------------------------------------------------- */

/* An attempt without a copy fails in ways of its own, and may leave a loan all the same. */
static int loan_refusal(const struct train *train)
{
    static const int codes[] = {-EINVAL, -EFAULT, -ENOMEM, -EMSGSIZE, -EOPNOTSUPP};
    return train->loan != 0 && sim_chance(sim_world.faults.loan_refused) ? codes[sim_below(5)] : 0;
}

static void loan_make(struct engine *engine, struct train *train, const struct reading *reading)
{
    const struct iovec *vector = train->header.msg_iov;
    const unsigned char *memory = train->region->memory;
    const unsigned char *start = vector->iov_base;
    sim_rule(train->header.msg_iovlen == 1 && start >= memory &&
                 start + vector->iov_len <= memory + train->region->size,
             "a loan that is not one piece of its region");
    if (sim_chance(sim_world.faults.loan_unused) || (train->result < 0 && sim_chance(700))) {
        return;
    }
    for (const struct lent *l = engine->lent; l != NULL; l = l->next) {
        sim_rule(l->number != train->loan, "a number of a loan that is not over");
    }
    struct lent *lent = sim_allocate(sizeof(*lent) + reading->size);
    lent->number = train->loan;
    lent->until = sim_world.now + sim_below(sim_world.faults.loan_ns);
    lent->copied = sim_chance(sim_world.faults.loan_copied);
    lent->memory = start;
    lent->size = reading->size;
    memcpy(lent->copy, reading->bytes, reading->size);
    lent->next = engine->lent;
    engine->lent = lent;
    train->kept = true;
    sim_log("lent", lent->number, lent->size);
}

void sim_loan_end(struct engine *engine, struct lent **link)
{
    struct lent *lent = *link;
    *link = lent->next;
    sim_rule(memcmp(lent->memory, lent->copy, lent->size) == 0, "lent memory changed");
    sim_log("released", lent->number, lent->copied);
    *completions_append(engine->completions) = (struct completion){
        .kind = COMPLETION_RELEASED, .loan = lent->number, .result = lent->copied};
    free(lent);
}

int sim_engine_lend(struct engine *engine, struct region *region)
{
    if (sim_chance(sim_world.faults.setup)) {
        return -ENOMEM;
    }
    region->number = ++engine->regions;
    return 0;
}

void sim_engine_reclaim(struct engine *engine, const struct region *region)
{
    sim_rule(region->number > 0 && region->number <= engine->regions,
             "reclaim() of what is not lent");
}

static int train_try(struct engine *engine, struct train *const *trains, size_t index)
{
    static struct reading reading;
    struct train *train = trains[index];
    const struct attached *a = train->endpoint->state;
    train_check(engine, trains, index);
    if (train->follows && index > 0 && trains[index - 1]->result < 0) {
        return -ECANCELED;
    }
    if (a == NULL || a->fd < 0) {
        return -EBADF;
    }
    struct descriptor *d = sim_descriptor_of(a->fd, SOCKET);
    train_read(train, &reading);
    int code = loan_refusal(train);
    if (code == 0) {
        code = train_result(d, &reading);
    }
    sim_log(code < 0 ? "refused" : "taken", ((uint64_t) d->number << 32) + reading.size,
            code < 0 ? (uint64_t) -code : reading.count);
    if (code == 0) {
        train_taken(d, &reading);
        code = sim_chance(500) ? 0 : (int) reading.size;
    }
    if (train->loan != 0) {
        train->result = code;
        loan_make(engine, train, &reading);
    }
    return code;
}

static void trains_go(struct engine *engine, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        engine->trains[i]->result = train_try(engine, engine->trains, i);
        engine->failed = engine->failed || engine->trains[i]->result < 0;
    }
}

void sim_engine_send(struct engine *engine, struct train *const *trains, size_t count)
{
    sim_rule(!engine->sent, "send() twice before a flush() or wait()");
    engine->sent = true;
    engine->trains = trains;
    engine->train_count = count;
    for (size_t i = 0; i < count; i++) {
        trains[i]->result = -ENOTRECOVERABLE; /* whoever looks now, looks too early */
    }
    if (!sim_world.faults.deferred && sim_world.broken == 0) {
        trains_go(engine, 0, count);
    }
}

int sim_submit(struct engine *engine)
{
    bool breaks = sim_world.broken == 0 && sim_world.faults.breaks > 0 &&
                  ++sim_world.engine_calls >= sim_world.faults.breaks;
    size_t from = engine->sent && sim_world.faults.deferred ? 0 : engine->train_count;
    size_t to = breaks || sim_world.broken < 0 ? from : engine->train_count;
    if (breaks) {
        static const int codes[] = {-EBADF, -EIO, -EINVAL, -ENXIO, -EAGAIN, -ENOBUFS};
        sim_world.broken = sim_world.break_code < 0 ? sim_world.break_code : codes[sim_below(6)];
        sim_log("breaks", (uint64_t) -sim_world.broken, 0);
        to = from + sim_below((uint32_t) (engine->train_count - from) + 1);
    } else if (sim_world.broken < 0 && !sim_world.faults.deferred) {
        from = to = 0;
    }
    trains_go(engine, from, to);
    for (size_t i = to; i < engine->train_count; i++) {
        engine->trains[i]->result = sim_world.broken;
    }
    engine->sent = false;
    engine->train_count = 0;
    for (struct attached *a = engine->endpoints; a != NULL; a = a->next) {
        a->receiving = a->receiving || a->queued;
        a->queued = false;
    }
    for (struct watching *w = engine->watches; w != NULL; w = w->next) {
        w->armed = w->armed || w->queued;
        w->queued = false;
    }
    for (uint32_t i = 0; i < engine->slots.count; i++) {
        if (engine->states[i] == SLOT_RETURNED) {
            engine->states[i] = SLOT_FREE;
            engine->free_count++;
        }
    }
    return sim_world.broken;
}
