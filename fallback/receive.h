/* SPDX-License-Identifier: MIT */
/* receive.h: datagrams from the kernel into slots. */
#ifndef DGRAM_FALLBACK_RECEIVE_H
#define DGRAM_FALLBACK_RECEIVE_H

#include "fallback/engine.h"

/* As in struct backend. */
int dg_poll_provide(struct engine *engine, const struct slots *slots, const char **ret_call);
void dg_poll_recycle(struct engine *engine, uint32_t slot);
void dg_poll_recv_start(struct engine *engine, struct endpoint *endpoint);
void dg_poll_recv_stop(struct engine *engine, struct endpoint *endpoint);

/* Takes at most `most` of the queued datagrams; the rest is still readable in the next wait.
 * Returns how many it took. */
uint32_t dg_poll_receive(struct engine *engine, struct poll_endpoint *state, uint32_t most);

/*
 * After a receive that took `taken`, prepares the next one for twice of the most that came of late.
 * Datagrams that come at random are one now and seven then, and each receive that leaves some costs
 * another turn. So the number falls by an eighth at a time (400,000 a second: 0.12 turns a
 * datagram, and 0.18 with twice of the last number).
 */
static inline void poll_expect(struct poll_endpoint *state, uint32_t taken)
{
    uint32_t twice = taken < RECEIVE_MAX / 2 ? 2 * taken : RECEIVE_MAX;
    uint32_t less = state->expects - (state->expects + 7) / 8;
    uint32_t expects = twice > less ? twice : less;
    state->expects = expects > RECEIVE_LEAST ? expects : RECEIVE_LEAST;
}

#endif
