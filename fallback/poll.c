/* SPDX-License-Identifier: MIT */
/*
 * poll.c: the poll engine. It waits for readiness, then receives and sends by system calls.
 *
 * Owns the free slots, the interest in each descriptor, and the records that are due without the
 * kernel (STOPPED on request, DETACHED). It never calls the user, re-arms, re-sends or orders: it
 * appends records and fills in results. How a host tells readiness and moves datagrams is behind
 * ready.h and transfer.h.
 *
 * A datagram takes the way: wait() reports an entry, receive() fills free slots, a RECEIVED lends
 * each to the core, recycle() brings it back.
 */
#include "src/backend.h"
#include "src/base/list.h"
#include "src/base/memory.h"

#include "fallback/ready.h"
#include "fallback/transfer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Datagrams or trains that one endpoint may take from the pool in one wait. recvmmsg has all of its
 * gain by then (Linux 6.18: 1.08 us a datagram alone, 0.84 in batches). */
#define RECEIVE_MAX 32u
/* Preparing for 32 costs 0.15 us, so a receive is prepared for no more than expect() says. */
#define RECEIVE_LEAST 2u

/* Trains handed over in one call. Eight have all of sendmmsg's gain (Linux 6.18: 2.6 us a train of
 * 64 datagrams of 64 bytes, against 3.3 alone), and lone datagrams have it by 64. */
#define SEND_MAX 64u

/* Ready descriptors dealt with in one wait. */
#define EVENTS_MAX 256u

/* A slot: a header that is left to engines, the sender's name, control data, payload. */
#define NAME_OFFSET 16u
#define CONTROL_OFFSET (NAME_OFFSET + SLOT_NAME_SIZE)
_Static_assert(CONTROL_OFFSET % 8 == 0, "control data wants 8-alignment");
_Static_assert(SLOT_NAME_SIZE >= 28, "a sockaddr_in6 must fit");

/* poll(2) reports these to everyone. */
#define REVENTS_ALWAYS (POLLERR | POLLHUP | POLLNVAL)

/* One descriptor and all who look at it. An endpoint has one, which its own watches share, because
 * epoll knows a descriptor once; a watch of a foreign descriptor has one for itself. */
struct entry {
    struct ready_entry ready;
    struct node lowered;      /* in engine->lowered while more is registered than wanted */
    struct poll_watch *first; /* the watches that look at it */
    bool registered;          /* with `ready` */
    bool receiving;           /* between recv_start() and the reason for STOPPED */
};

struct poll_endpoint {
    struct entry entry;
    struct endpoint *endpoint;
    struct node all;  /* in engine->endpoints */
    struct node due;  /* in engine->due while a record is to be appended */
    uint64_t full;    /* the list of trains in which the kernel had no more room */
    uint32_t expects; /* how many datagrams or trains the next receive is prepared for */
    int stop_result;
    bool stop_due, detach_due;
};

struct poll_watch {
    struct entry own;    /* of a foreign descriptor: a duplicate that belongs to the engine */
    struct entry *entry; /* &own, or the endpoint's */
    struct watch *watch;
    struct poll_watch *next; /* who looks at the same entry */
    struct node all;         /* in engine->watches */
    bool armed;
};

struct engine {
    const char **failed_call;
    struct completions *completions;
    struct ready *ready;
    struct slots slots;
    uint32_t *free;      /* a stack: the slot that came back last is the one still in the cache */
    unsigned char *lent; /* by slot: a RECEIVED has named it */
    uint32_t free_count;
    uint32_t turns; /* where the rotation among ready entries begins */
    uint64_t lists; /* lists of trains so far */
    bool refused;   /* a train failed since the last flush() or wait() */
    bool more;      /* the last wait() left datagrams in the kernel, perhaps */
    struct node endpoints, watches;
    struct node due;     /* endpoints, in the order in which their records became due */
    struct node lowered; /* entries */
    struct ready_event events[EVENTS_MAX];
    struct transfer incoming[RECEIVE_MAX];
    struct iovec rooms[RECEIVE_MAX];
    struct transfer outgoing[SEND_MAX];
};

/* ---- Interest ------------------------------------------------------------------------------ */

static short interest_of(const struct entry *entry)
{
    int events = entry->receiving ? POLLIN : 0;
    for (const struct poll_watch *watch = entry->first; watch != NULL; watch = watch->next) {
        events |= watch->armed ? watch->watch->events : 0;
    }
    return (short) events;
}

/*
 * Follows a change of what an entry is wanted for. More interest is registered at once, since the
 * program may be sleeping on fd() before the next wait(). Less waits until then: nearly always the
 * core has armed the same again by that time, and a turn costs no epoll_ctl.
 */
static void interest_changed(struct engine *engine, struct entry *entry)
{
    short interest = interest_of(entry);
    short known = entry->ready.interest;
    node_remove(&entry->lowered);
    if ((interest & ~known) != 0) {
        dg_ready_set(engine->ready, &entry->ready, interest);
    } else if (interest != known) {
        node_append(&engine->lowered, &entry->lowered);
    }
}

/*
 * Registers an endpoint when it is first of interest: 0 or a negated errno. One that only sends
 * never is: epoll is called for every buffer that a registered socket gets back, whatever it was
 * asked for (Linux 6.18: 40 of 1,200 ns of a lone datagram).
 */
static int entry_register(struct engine *engine, struct entry *entry)
{
    int result = 0;
    if (!entry->registered) {
        result = dg_ready_add(engine->ready, &entry->ready);
        entry->registered = result == 0;
    }
    return result;
}

static void lower_interest(struct engine *engine)
{
    while (!node_alone(&engine->lowered)) {
        struct entry *entry = owner_of(engine->lowered.next, struct entry, lowered);
        node_remove(&entry->lowered);
        dg_ready_set(engine->ready, &entry->ready, interest_of(entry));
    }
}

static void entry_open(struct entry *entry, int fd)
{
    assert(fd >= 0);
    node_init(&entry->lowered);
    entry->ready.fd = fd;
}

static void entry_close(struct engine *engine, struct entry *entry)
{
    node_remove(&entry->lowered);
    if (entry->registered) {
        dg_ready_remove(engine->ready, &entry->ready);
    }
}

/* ---- Records due without the kernel -------------------------------------------------------- */

static struct poll_endpoint *state_of(const struct endpoint *endpoint)
{
    struct poll_endpoint *state = endpoint->state;
    assert(state != NULL && state->endpoint == endpoint);
    return state;
}

static void make_due(struct engine *engine, struct poll_endpoint *state)
{
    if (node_alone(&state->due)) {
        node_append(&engine->due, &state->due);
        dg_ready_signal(engine->ready);
    }
}

static void stop_later(struct engine *engine, struct poll_endpoint *state, int result)
{
    assert(!state->stop_due);
    state->stop_due = true;
    state->stop_result = result;
    make_due(engine, state);
}

static void append_stopped(struct engine *engine, struct endpoint *endpoint, int result)
{
    *completions_append(engine->completions) =
        (struct completion){.kind = COMPLETION_STOPPED, .result = result, .endpoint = endpoint};
}

static void append_detached(struct engine *engine, struct poll_endpoint *state)
{
    struct endpoint *endpoint = state->endpoint;
    node_remove(&state->all);
    dg_release(state);
    endpoint->state = NULL;
    *completions_append(engine->completions) =
        (struct completion){.kind = COMPLETION_DETACHED, .endpoint = endpoint};
}

static void append_due(struct engine *engine)
{
    while (!node_alone(&engine->due)) {
        struct poll_endpoint *state = owner_of(engine->due.next, struct poll_endpoint, due);
        node_remove(&state->due);
        if (state->stop_due) {
            state->stop_due = false;
            append_stopped(engine, state->endpoint, state->stop_result);
        }
        if (state->detach_due) {
            append_detached(engine, state);
        }
    }
}

/* ---- Opening and closing ------------------------------------------------------------------- */

static int poll_open(const struct engine_config *config, struct engine **ret_engine,
                     const char **ret_call)
{
    assert(config->completions != NULL);
    struct engine *engine = dg_allocate(sizeof *engine);
    if (engine == NULL) {
        *ret_call = "malloc";
        return -ENOMEM;
    }
    int result = dg_ready_open(&engine->ready, ret_call);
    if (result < 0) {
        dg_release(engine);
        return result;
    }
    engine->completions = config->completions;
    engine->failed_call = config->failed_call;
    node_init(&engine->endpoints);
    node_init(&engine->watches);
    node_init(&engine->due);
    node_init(&engine->lowered);
    *ret_engine = engine;
    return 0;
}

/*
 * Frees without a look at the core's objects, which may be gone, and without a change to the
 * readiness mechanism, which a child shares with its parent. So one way serves both. Endpoints and
 * watches may still be here: in a child, where taking them out is the parent's business, and when
 * the core gives an engine up.
 */
static void poll_close(struct engine *engine, bool forked)
{
    (void) forked;
    while (!node_alone(&engine->endpoints)) {
        struct poll_endpoint *state = owner_of(engine->endpoints.next, struct poll_endpoint, all);
        node_remove(&state->all);
        dg_release(state);
    }
    while (!node_alone(&engine->watches)) {
        struct poll_watch *watch = owner_of(engine->watches.next, struct poll_watch, all);
        node_remove(&watch->all);
        if (watch->entry == &watch->own) {
            (void) close(watch->own.ready.fd);
        }
        dg_release(watch);
    }
    dg_ready_close(engine->ready);
    dg_release(engine->free);
    dg_release(engine->lent);
    dg_release(engine);
}

static int poll_attach(struct engine *engine, struct endpoint *endpoint)
{
    assert(endpoint->state == NULL && endpoint->control_size % 8 == 0);
    assert(endpoint->control_size <= SLOT_HEADROOM - CONTROL_OFFSET);
    struct poll_endpoint *state = dg_allocate(sizeof *state);
    if (state == NULL) {
        return -ENOMEM;
    }
    entry_open(&state->entry, endpoint->fd);
    node_init(&state->due);
    node_init(&state->all);
    node_append(&engine->endpoints, &state->all);
    state->endpoint = endpoint;
    state->expects = RECEIVE_LEAST;
    endpoint->state = state;
    return 0;
}

/* No operation outlives its system call here, so DETACHED waits for nothing but the next wait().
 * Watches that looked at the endpoint stay the core's to forget, and never fire again. */
static void poll_detach(struct engine *engine, struct endpoint *endpoint)
{
    struct poll_endpoint *state = state_of(endpoint);
    assert(!state->detach_due);
    if (state->entry.receiving) {
        state->entry.receiving = false;
        stop_later(engine, state, 0);
    }
    assert(state->entry.first == NULL); /* unwatch() comes before */
    entry_close(engine, &state->entry);
    state->detach_due = true;
    make_due(engine, state);
}

/* ---- Receiving ----------------------------------------------------------------------------- */

static int poll_provide(struct engine *engine, const struct slots *slots, const char **ret_call)
{
    assert(engine->free == NULL && slots->count > 0 && slots->stride > SLOT_HEADROOM);
    engine->free = dg_allocate(slots->count * sizeof *engine->free);
    engine->lent = dg_allocate(slots->count);
    if (engine->free == NULL || engine->lent == NULL) {
        dg_release(engine->free);
        dg_release(engine->lent);
        engine->free = NULL;
        engine->lent = NULL;
        *ret_call = "malloc";
        return -ENOMEM;
    }
    engine->slots = *slots;
    while (engine->free_count < slots->count) {
        engine->free[engine->free_count] = slots->count - 1 - engine->free_count;
        engine->free_count++;
    }
    return 0;
}

static void poll_recycle(struct engine *engine, uint32_t slot)
{
    assert(slot < engine->slots.count && engine->lent[slot]);
    assert(engine->free_count < engine->slots.count);
    engine->lent[slot] = false;
    engine->free[engine->free_count++] = slot;
}

static void poll_recv_start(struct engine *engine, struct endpoint *endpoint)
{
    struct poll_endpoint *state = state_of(endpoint);
    assert(engine->free != NULL && !state->entry.receiving);
    assert(!state->stop_due && !state->detach_due);
    int result = engine->free_count > 0 ? entry_register(engine, &state->entry) : -ENOBUFS;
    if (result < 0) {
        stop_later(engine, state, result);
        return;
    }
    state->entry.receiving = true;
    interest_changed(engine, &state->entry);
}

/* One that has stopped by itself has its STOPPED already, on the way or due. */
static void poll_recv_stop(struct engine *engine, struct endpoint *endpoint)
{
    struct poll_endpoint *state = state_of(endpoint);
    if (!state->entry.receiving) {
        return;
    }
    state->entry.receiving = false;
    interest_changed(engine, &state->entry);
    stop_later(engine, state, 0);
}

/* The i-th of the next slots to be filled; it stays free until something lies in it. */
static uint32_t next_slot(const struct engine *engine, uint32_t i)
{
    assert(i < engine->free_count);
    return engine->free[engine->free_count - 1 - i];
}

static unsigned char *slot_memory(const struct engine *engine, uint32_t slot)
{
    assert(slot < engine->slots.count);
    return engine->slots.memory + (size_t) slot * engine->slots.stride;
}

static uint32_t payload_room(const struct engine *engine, const struct endpoint *endpoint)
{
    return engine->slots.stride - CONTROL_OFFSET - endpoint->control_size;
}

/* The kernel overwrites the sizes of name and control, so each receive starts from fresh ones. */
static void prepare(struct engine *engine, const struct endpoint *endpoint, uint32_t count)
{
    uint32_t control_size = endpoint->control_size;
    for (uint32_t i = 0; i < count; i++) {
        unsigned char *slot = slot_memory(engine, next_slot(engine, i));
        engine->rooms[i] = (struct iovec){.iov_base = slot + CONTROL_OFFSET + control_size,
                                          .iov_len = payload_room(engine, endpoint)};
        engine->incoming[i].header =
            (struct msghdr){.msg_name = slot + NAME_OFFSET,
                            .msg_namelen = SLOT_NAME_SIZE,
                            .msg_iov = &engine->rooms[i],
                            .msg_iovlen = 1,
                            .msg_control = control_size > 0 ? slot + CONTROL_OFFSET : NULL,
                            .msg_controllen = control_size};
    }
}

static void append_received(struct engine *engine, struct endpoint *endpoint,
                            const struct transfer *item, uint32_t slot)
{
    unsigned char *memory = slot_memory(engine, slot);
    uint32_t room = payload_room(engine, endpoint);
    uint32_t name_size = (uint32_t) item->header.msg_namelen;
    assert(!engine->lent[slot]);
    engine->lent[slot] = true;
    *completions_append(engine->completions) = (struct completion){
        .kind = COMPLETION_RECEIVED,
        .truncated = item->size > room,
        .name_size = (uint16_t) (name_size < SLOT_NAME_SIZE ? name_size : SLOT_NAME_SIZE),
        .slot = slot,
        .size = item->size < room ? item->size : room,
        .real_size = item->size,
        .control_size = (uint32_t) item->header.msg_controllen,
        .endpoint = endpoint,
        .data = memory + CONTROL_OFFSET + endpoint->control_size,
        .name = memory + NAME_OFFSET,
        .control = memory + CONTROL_OFFSET};
}

/*
 * Twice of the most that came of late. Datagrams that come at random are one now and seven then,
 * and those that a receive leaves cost another turn. So the number falls by an eighth at a time
 * (400,000 a second: 0.12 turns a datagram, and 0.18 when twice of the last was expected).
 */
static void expect(struct poll_endpoint *state, uint32_t taken)
{
    uint32_t twice = taken < RECEIVE_MAX / 2 ? 2 * taken : RECEIVE_MAX;
    uint32_t less = state->expects - (state->expects + 7) / 8;
    uint32_t expects = twice > less ? twice : less;
    state->expects = expects > RECEIVE_LEAST ? expects : RECEIVE_LEAST;
}

/* Takes the queued datagrams, up to `most`; the rest is still readable in the next wait. Returns
 * how many it took. */
static uint32_t receive(struct engine *engine, struct poll_endpoint *state, uint32_t most)
{
    struct endpoint *endpoint = state->endpoint;
    uint32_t asked = engine->free_count < most ? engine->free_count : most, count = 0;
    int error = -ENOBUFS;
    if (asked > 0) {
        prepare(engine, endpoint, asked);
        count = dg_transfer_receive(endpoint->fd, engine->incoming, asked, &error);
    }
    engine->more = engine->more || count == asked;
    for (uint32_t i = 0; i < count; i++) {
        append_received(engine, endpoint, &engine->incoming[i], next_slot(engine, i));
    }
    engine->free_count -= count;
    if (error != 0 && error != -EAGAIN) {
        state->entry.receiving = false;
        append_stopped(engine, endpoint, error);
    }
    return count;
}

/* ---- Sending ------------------------------------------------------------------------------- */

/* Why a train is not to be tried, or 0. After an EAGAIN the socket's buffer is full, whomever a
 * later train is for. */
static int untried(const struct engine *engine, struct train *const *trains, size_t index)
{
    const struct train *train = trains[index];
    if (train->follows && index > 0 && trains[index - 1]->result < 0) {
        return -ECANCELED;
    }
    return state_of(train->endpoint)->full == engine->lists ? -EAGAIN : 0;
}

static void refuse(struct engine *engine, struct train *train, int result)
{
    if (result == -EAGAIN) {
        state_of(train->endpoint)->full = engine->lists;
    }
    train->result = result;
    engine->refused = true;
}

/* The end of the run that starts at `first`: trains of one endpoint, as many as one call takes. */
static size_t run_end(struct train *const *trains, size_t first, size_t count)
{
    size_t end = first + 1;
    while (end < count && end - first < SEND_MAX &&
           trains[end]->endpoint == trains[first]->endpoint) {
        end++;
    }
    return end;
}

/*
 * Each call stops at the first refusal, so whatever it takes followed a train that was taken. The
 * next call begins at the refused one and so learns its errno; only then it is known whether those
 * behind it are to be tried.
 */
static void send_run(struct engine *engine, struct train *const *trains, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        engine->outgoing[i - first].header = trains[i]->header;
    }
    size_t next = first;
    while (next < end) {
        int result = untried(engine, trains, next);
        if (result == 0) {
            result = dg_transfer_send(trains[next]->endpoint->fd, &engine->outgoing[next - first],
                                      (unsigned int) (end - next));
        }
        if (result < 0) {
            refuse(engine, trains[next++], result);
        }
        for (int taken = 0; taken < result; taken++) {
            assert(next < end);
            trains[next]->result = (int) engine->outgoing[next - first].size;
            next++;
        }
    }
}

/* Sends at once. The contract wants results by the end of flush() or wait(); here a send is a
 * system call either way, and there is nothing to gather until then. So no list is kept, and none
 * can outlive its trains. */
static void poll_send(struct engine *engine, struct train *const *trains, size_t count)
{
    engine->lists++;
    size_t end;
    for (size_t first = 0; first < count; first = end) {
        end = run_end(trains, first, count);
        assert(!state_of(trains[first]->endpoint)->detach_due);
        send_run(engine, trains, first, end);
    }
}

static int poll_flush(struct engine *engine)
{
    engine->refused = false;
    return 0;
}

/* ---- Watching ------------------------------------------------------------------------------ */

/*
 * A foreign descriptor is registered by a duplicate of it. So two watches may name one descriptor,
 * which epoll would refuse (c-ares reads and writes one by two objects), and if its owner closes it
 * early, whoever gets the number next is not mistaken for it.
 */
static int open_foreign(struct engine *engine, struct poll_watch *state)
{
    int fd = fcntl(state->watch->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    entry_open(&state->own, fd);
    int result = entry_register(engine, &state->own);
    if (result < 0) {
        (void) close(fd);
        return result;
    }
    state->entry = &state->own;
    return 0;
}

static int open_own(struct engine *engine, struct poll_watch *state)
{
    struct poll_endpoint *owner = state_of(state->watch->endpoint);
    assert(state->watch->fd == state->watch->endpoint->fd && !owner->detach_due);
    state->entry = &owner->entry;
    return entry_register(engine, state->entry);
}

static int watch_first(struct engine *engine, struct watch *watch)
{
    struct poll_watch *state = dg_allocate(sizeof *state);
    if (state == NULL) {
        return -ENOMEM;
    }
    state->watch = watch;
    int result = watch->endpoint != NULL ? open_own(engine, state) : open_foreign(engine, state);
    if (result < 0) {
        dg_release(state);
        return result;
    }
    state->next = state->entry->first;
    state->entry->first = state;
    node_init(&state->all);
    node_append(&engine->watches, &state->all);
    watch->state = state;
    return 0;
}

static int poll_watch(struct engine *engine, struct watch *watch)
{
    assert(watch->events == POLLIN || watch->events == POLLOUT);
    if (watch->state == NULL) {
        int result = watch_first(engine, watch);
        if (result < 0) {
            return result;
        }
    }
    struct poll_watch *state = watch->state;
    assert(state->watch == watch && state->entry != NULL);
    state->armed = true;
    interest_changed(engine, state->entry);
    return 0;
}

static void unlink_watch(struct engine *engine, struct poll_watch *state)
{
    struct poll_watch **place = &state->entry->first;
    while (*place != state) {
        place = &(*place)->next;
    }
    *place = state->next;
    if (state->entry == &state->own) {
        entry_close(engine, &state->own);
        (void) close(state->own.ready.fd);
    } else {
        interest_changed(engine, state->entry);
    }
}

static void poll_unwatch(struct engine *engine, struct watch *watch)
{
    struct poll_watch *state = watch->state;
    if (state == NULL) {
        return;
    }
    assert(state->watch == watch);
    unlink_watch(engine, state);
    node_remove(&state->all);
    dg_release(state);
    watch->state = NULL;
}

/* ---- Waiting ------------------------------------------------------------------------------- */

static void fire(struct engine *engine, struct entry *entry, short revents)
{
    for (struct poll_watch *watch = entry->first; watch != NULL; watch = watch->next) {
        int result = revents & (watch->watch->events | REVENTS_ALWAYS);
        if (watch->armed && result != 0) {
            watch->armed = false;
            *completions_append(engine->completions) = (struct completion){
                .kind = COMPLETION_READY, .result = result, .watch = watch->watch};
        }
    }
}

static void dispatch(struct engine *engine, const struct ready_event *event)
{
    struct entry *entry = owner_of(event->entry, struct entry, ready);
    if (entry->receiving && (event->revents & ~POLLOUT) != 0) {
        struct poll_endpoint *state = owner_of(entry, struct poll_endpoint, entry);
        expect(state, receive(engine, state, state->expects));
    }
    fire(engine, entry, event->revents);
    interest_changed(engine, entry);
}

/*
 * Sleeps whatever becomes ready, until a signal or for most of `ns`. False if that is too short.
 *
 * A sleep may end later than asked by the thread's timer slack, prctl(2), usually 50 us; so it is
 * asked to be shorter by as much. A timerfd has no slack, but costs two calls more.
 */
static bool nap(int64_t ns)
{
    const int64_t slack_ns = 50000;
    if (ns < 2 * slack_ns) {
        return false;
    }
    ns -= slack_ns;
    const struct timespec time = {.tv_sec = (time_t) (ns / 1000000000),
                                  .tv_nsec = (long) (ns % 1000000000)};
    (void) nanosleep(&time, NULL);
    return true;
}

/*
 * Each wait begins with another of the ready entries. epoll reports those that stay ready in one
 * and the same order, and with few slots the first would take them all, every time.
 */
static int poll_wait(struct engine *engine, int64_t timeout_ns, bool gathers)
{
    append_due(engine);
    lower_interest(engine);
    if (engine->completions->count > 0 || engine->refused) {
        timeout_ns = 0;
    }
    engine->refused = false;
    if (gathers && timeout_ns > 0 && !engine->more && nap(timeout_ns)) {
        timeout_ns = 0;
    }
    engine->more = false;
    int result = dg_ready_wait(engine->ready, timeout_ns, engine->events, EVENTS_MAX);
    if (result < 0) {
        *engine->failed_call = dg_ready_wait_call;
        return result;
    }
    uint32_t count = (uint32_t) result;
    uint32_t first = count > 0 ? engine->turns++ % count : 0;
    for (uint32_t i = 0; i < count; i++) {
        dispatch(engine, &engine->events[first + i < count ? first + i : first + i - count]);
    }
    return 0;
}

/* Beyond so many sockets one epoll_wait costs less than a recvmsg for each, and than a walk along
 * those that only send. */
enum { PEEK_MAX = 2, PEEK_WALK_MAX = 16 };

static int poll_peek(struct engine *engine)
{
    struct poll_endpoint *states[PEEK_MAX];
    uint32_t count = 0, walked = 0;
    for (struct node *node = engine->endpoints.next; node != &engine->endpoints;
         node = node->next) {
        struct poll_endpoint *state = owner_of(node, struct poll_endpoint, all);
        if ((state->entry.receiving && count == PEEK_MAX) || ++walked > PEEK_WALK_MAX) {
            return poll_wait(engine, 0, false);
        }
        if (state->entry.receiving) {
            states[count++] = state;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        (void) receive(engine, states[i], 1);
    }
    return 0;
}

static int poll_fd(struct engine *engine)
{
    int fd = dg_ready_fd(engine->ready);
    if (fd >= 0 && !node_alone(&engine->due)) {
        dg_ready_signal(engine->ready);
    }
    return fd;
}

const struct backend dg_backend_poll = {
    .name = "poll",
    .open = poll_open,
    .close = poll_close,
    .attach = poll_attach,
    .detach = poll_detach,
    .provide = poll_provide,
    .recv_start = poll_recv_start,
    .recv_stop = poll_recv_stop,
    .recycle = poll_recycle,
    .send = poll_send,
    .flush = poll_flush,
    .watch = poll_watch,
    .unwatch = poll_unwatch,
    .wait = poll_wait,
    .peek = poll_peek,
    .fd = poll_fd,
};
