/* SPDX-License-Identifier: MIT */
/*
 * ending.h: the datagrams that the kernel holds when a receiver ends.
 *
 * Owns their fate. A receiver that is emptied lets nothing new in and delivers the datagrams that
 * are there, turn by turn as ever. One that is closed, or cannot deliver, throws it away and counts
 * it. No engine is known here: the receiver stops, and when STOPPED has come and all was delivered,
 * the kernel is asked whether it holds more.
 *
 * Where the host cannot keep arrivals out, a flood would never end: then it is as much as the
 * receive buffer holds.
 */
#ifndef DGRAM_RECEIVE_ENDING_H
#define DGRAM_RECEIVE_ENDING_H

#include "src/receive/receiver.h"

/* Begins to empty the receiver: false if it cannot deliver. A step of that: false when it is
 * over. */
bool dg_ending_begin(struct receiver *receiver);
bool dg_ending_step(struct receiver *receiver);
/* Takes the kernel's datagrams of a receiver that no engine has any more, and counts them. */
void dg_ending_count(struct receiver *receiver);

#endif
