/* SPDX-License-Identifier: MIT */
/* send.h: trains to the kernel. */
#ifndef DGRAM_URING_SEND_H
#define DGRAM_URING_SEND_H

#include "uring/ring.h"

/* Sends each train of the list by a system call, or makes an SQE for it. `flush`: the submission
 * that follows will not wait. */
void dg_ring_send_queue(struct engine *engine, bool flush);

#endif
