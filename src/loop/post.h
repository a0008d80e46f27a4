/* SPDX-License-Identifier: MIT */
/*
 * post.h: calls and stops that reach the loop from other threads and signal handlers.
 *
 * Owns the inbox: a bounded array behind a mutex, and a wake-up descriptor that the engine watches.
 * The loop takes the whole array at once and calls it without the lock. So a post from inside a
 * posted function waits for the next turn, and cannot hold this one for ever.
 */
#ifndef DGRAM_LOOP_POST_H
#define DGRAM_LOOP_POST_H

#include <pthread.h>
#include <stdatomic.h>

#include "src/core/core.h"
#include "src/core/io.h"

struct post {
    dgram_post_fn *fn;
    void *user;
};

struct inbox {
    struct dgram_loop *loop;
    pthread_mutex_t lock; /* guards the arrays and their posts */
    struct post *posts, *running;
    size_t capacity, running_capacity;
    bool closed;         /* the loop is being freed */
    atomic_size_t count; /* written under the lock */
    atomic_bool stop;
    int fds[2]; /* wake-up: read end, write end; -1: nobody is to be woken any more */
    struct dg_watch watch;
};

int dg_inbox_open(struct dgram_loop *loop);
void dg_inbox_end(struct dgram_loop *loop); /* takes no more */
void dg_inbox_close(struct dgram_loop *loop);
/* Waits until the kernel has let go of everything that the engine watched. */
void dg_inbox_await(struct dgram_loop *loop);
void dg_inbox_run(struct dgram_loop *loop);
bool dg_inbox_waiting(struct dgram_loop *loop);

#endif
