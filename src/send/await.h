/* SPDX-License-Identifier: MIT */
/*
 * await.h: datagrams to host names.
 *
 * Owns the waits of senders for names: one for each pair of them, in the lists of both, so that
 * either takes it out without a look at others.
 */
#ifndef DGRAM_SEND_AWAIT_H
#define DGRAM_SEND_AWAIT_H

#include "src/names/names.h"
#include "src/send/request.h"

/* Addresses that may be sent to at once. To a handle the last good address will do after its time,
 * too. */
enum use { USE_FRESH, USE_LAST_GOOD };

/* Sends to the name's address and this port (network order), or behind those who wait for it. */
int dg_send_to_name(struct sender *sender, struct name *name, enum use use, in_port_t port,
                    const struct payload *payload, dgram_sent_fn *fn, void *user);

/* The sender's datagrams that wait for names end with the code; in a forked child they are only
 * released. */
void dg_awaits_cancel(struct sender *sender, int code);
void dg_awaits_forget(struct sender *sender);

#endif
