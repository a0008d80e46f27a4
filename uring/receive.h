/* SPDX-License-Identifier: MIT */
/* receive.h: endpoints, and the multishot receive of each. */
#ifndef DGRAM_URING_RECEIVE_H
#define DGRAM_URING_RECEIVE_H

#include "uring/ring.h"

/* As in struct backend. */
int dg_ring_attach(struct engine *engine, struct endpoint *endpoint);
void dg_ring_detach(struct engine *engine, struct endpoint *endpoint);
void dg_ring_recv_start(struct engine *engine, struct endpoint *endpoint);
void dg_ring_recv_stop(struct engine *engine, struct endpoint *endpoint);
void dg_ring_recycle(struct engine *engine, uint32_t slot);

/* Makes the SQE of a receive that is submitted now. */
void dg_ring_receive_prepare(struct engine *engine, struct object *object,
                             struct io_uring_sqe *sqe);

/* Takes a CQE of OPERATION_RECEIVE. */
void dg_ring_receive_completed(struct engine *engine, const struct io_uring_cqe *cqe);

/* Appends RECEIVED for the datagram in a slot. `header` is as the kernel writes it, and `present`
 * bytes of the payload lie in the slot. */
void dg_ring_receive_append(struct engine *engine, struct endpoint *endpoint, uint32_t slot,
                            const struct io_uring_recvmsg_out *header, uint32_t present);

#endif
