/* SPDX-License-Identifier: MIT */
/*
 * buffer.h: memory in which a program composes datagrams, and who still reads it.
 *
 * Owns the buffers and the loans. A buffer is in use while a train of the submission lies in it. It
 * is in use, too, while an engine that sent such a train without a copy still reads it. That is a
 * *loan*, which ends with a RELEASED record, long after its train was settled. Never submits, and
 * never looks at results of sends.
 */
#ifndef DGRAM_SEND_BUFFER_H
#define DGRAM_SEND_BUFFER_H

#include "src/backend.h"
#include "src/base/list.h"
#include "src/core/agenda.h"
#include "src/send/train.h"

struct dgram_buffer {
    struct region region;
    struct dgram_loop *loop;
    struct node all;  /* the loop's */
    struct task idle; /* `idle` is to be called, or the buffer to be freed */
    dgram_buffer_fn *on_idle;
    void *user;
    uint32_t uses; /* trains of the submission that lie here, and loans */
    int zero_copy; /* 0, or why its trains are copied */
    bool freed;
};

int dg_buffers_open(struct dgram_loop *loop);
void dg_buffers_close(struct dgram_loop *loop);
/* Fills in the counters of zero copy. */
void dg_buffers_info(const struct dgram_loop *loop, struct dgram_loop_info *info);

/* Unless it is in use, `idle` is called in the next dispatch. */
void dg_buffer_due(struct dgram_buffer *buffer);

/* A train that is about to be handed over may go without a copy, if that pays. */
void dg_buffer_lend(struct dgram_loop *loop, struct dg_train *train);
/* It was tried. A buffer that the engine still reads is on loan; from now on the train is like any
 * other. */
void dg_buffer_take_back(struct dgram_loop *loop, struct dg_train *train);
/* A train leaves the submission: its buffer is no longer in use by it. */
void dg_buffer_left(struct dgram_loop *loop, struct dg_train *train);
/* A loan is over. */
void dg_buffer_released(struct dgram_loop *loop, uint32_t number, bool copied);

#endif
