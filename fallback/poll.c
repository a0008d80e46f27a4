/* SPDX-License-Identifier: MIT */
/*
 * poll.c: the poll engine. It waits for readiness, then receives and sends by system calls.
 *
 * Owns the wait, and the order in which ready descriptors get their turn. It never calls the user,
 * re-arms, re-sends or orders: it appends records and fills in results. How a host tells readiness
 * and moves datagrams is behind ready.h and transfer.h.
 */
#include "fallback/engine.h"

#include "src/base/memory.h"

#include "fallback/endpoint.h"
#include "fallback/interest.h"
#include "fallback/receive.h"
#include "fallback/send.h"
#include "fallback/watch.h"

#include <poll.h>
#include <time.h>

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
    node_init(&engine->watchers);
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
    dg_poll_endpoints_free(engine);
    dg_poll_watchers_free(engine);
    dg_ready_close(engine->ready);
    dg_release(engine->free);
    dg_release(engine->taken);
    dg_release(engine);
}

static void dispatch(struct engine *engine, const struct ready_event *event)
{
    struct entry *entry = owner_of(event->entry, struct entry, ready);
    if (entry->receiving && (event->revents & ~POLLOUT) != 0) {
        struct poll_endpoint *state = owner_of(entry, struct poll_endpoint, entry);
        poll_expect(state, dg_poll_receive(engine, state, state->expects));
    }
    if (!node_alone(&entry->watchers)) {
        dg_poll_fire(engine, entry, event->revents);
    }
    poll_interest_changed(engine, entry);
}

/*
 * Sleeps whatever becomes ready, until a signal or for most of `ns`. Returns false, and does not
 * sleep, if that is too short.
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
 * Each wait begins with another of the ready entries. epoll reports entries that stay ready in the
 * same order each time. With few slots the first entry would take all of them, in every wait.
 */
static int poll_wait(struct engine *engine, int64_t timeout_ns, bool gathers)
{
    poll_append_due(engine);
    poll_interest_lower(engine);
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

/* With more receiving sockets one epoll_wait costs less than a recvmsg for each; with more sockets,
 * less than the walk along those that only send. */
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
        (void) dg_poll_receive(engine, states[i], 1);
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
    .attach = dg_poll_attach,
    .detach = dg_poll_detach,
    .provide = dg_poll_provide,
    .recv_start = dg_poll_recv_start,
    .recv_stop = dg_poll_recv_stop,
    .recycle = dg_poll_recycle,
    .send = dg_poll_send,
    .flush = dg_poll_flush,
    .watch = dg_poll_watch,
    .unwatch = dg_poll_unwatch,
    .wait = poll_wait,
    .peek = poll_peek,
    .fd = poll_fd,
};
