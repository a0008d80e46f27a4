/* SPDX-License-Identifier: MIT */
/*
 * accept.h: a datagram into the batch, or into the queue.
 *
 * Owns nothing. While a sender has parked datagrams, new ones queue up behind them; while a
 * destination has, those to it do. The caller has checked the arguments.
 */
#ifndef DGRAM_SEND_ACCEPT_H
#define DGRAM_SEND_ACCEPT_H

#include "src/base/queue.h"
#include "src/send/request.h"

int dg_send_accept(struct sender *sender, const union dg_peer *peer, const struct payload *payload,
                   dgram_sent_fn *fn, void *user);

/* Accepts a datagram into the list of a name that is being looked up, as part of that share. */
int dg_send_accept_later(struct sender *sender, struct queue *queue, struct share *share,
                         in_port_t port, const struct payload *payload, dgram_sent_fn *fn,
                         void *user);
/* The wait is over: to this address, or with this code; an `error` event names the host. */
void dg_send_resolved(struct request *request, const union dg_peer *address);
void dg_send_unresolved(struct request *request, int code, const char *host);

#endif
