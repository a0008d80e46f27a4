/* SPDX-License-Identifier: MIT */
/*
 * retry.h: parked datagrams are tried again.
 *
 * Owns the turns that stalled destinations take. Their results are outcome.h's to judge.
 */
#ifndef DGRAM_SEND_RETRY_H
#define DGRAM_SEND_RETRY_H

#include "src/send/sender.h"

/* Parked datagrams are tried again; stalled ones, too, each destination once. */
void dg_send_retry(struct sender *sender);
void dg_send_retry_stalls(struct sender *sender);
/* Parked and stalled ones are completed with a code; in a forked child they are only released. */
void dg_send_cancel(struct sender *sender, int code);
void dg_send_forget(struct sender *sender);

/* For sender.c: the watch and the alarm end here. */
void dg_retry_woken(struct dg_watch *watch);
void dg_retry_ring(struct alarm *alarm);

#endif
