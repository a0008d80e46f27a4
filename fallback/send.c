/* SPDX-License-Identifier: MIT */
/*
 * send.c: trains to the kernel.
 *
 * Fills in the result of each train, in order. Never keeps a train, sends one again, or waits for
 * room.
 */
#include "fallback/send.h"

#include "fallback/endpoint.h"

/* Returns why a train is not to be tried, or 0. After an EAGAIN the socket's buffer is full,
 * whomever a later train is for. */
static int untried(const struct engine *engine, struct train *const *trains, size_t index)
{
    const struct train *train = trains[index];
    if (train->follows && index > 0 && trains[index - 1]->result < 0) {
        return -ECANCELED;
    }
    return poll_endpoint_of(train->endpoint)->full == engine->lists ? -EAGAIN : 0;
}

static void refuse(struct engine *engine, struct train *train, int result)
{
    if (result == -EAGAIN) {
        poll_endpoint_of(train->endpoint)->full = engine->lists;
    }
    train->result = result;
    engine->refused = true;
}

/* Returns the end of the run that starts at `first`: trains of one endpoint, as many as one call
 * takes. */
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
 * Each call stops at the first refusal, so each train that it takes followed a train that was
 * taken. The next call begins at the refused train and learns its errno. Only then it is known
 * whether the trains behind it are to be tried.
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

/* Sends at once. The contract wants results by the end of flush() or wait(), but here a send is a
 * system call either way, and there is nothing to gather until then. So no list can outlive its
 * trains. */
void dg_poll_send(struct engine *engine, struct train *const *trains, size_t count)
{
    engine->lists++;
    size_t end;
    for (size_t first = 0; first < count; first = end) {
        end = run_end(trains, first, count);
        assert(!poll_endpoint_of(trains[first]->endpoint)->detach_due);
        send_run(engine, trains, first, end);
    }
}

int dg_poll_flush(struct engine *engine)
{
    engine->refused = false;
    return 0;
}
