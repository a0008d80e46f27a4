/* SPDX-License-Identifier: MIT */
/* post.c: see post.h. */
#include "src/loop/post.h"

#include <errno.h>
#include <poll.h>

#include "src/base/array.h"
#include "src/base/list.h"
#include "src/core/check.h"
#include "src/system.h"

enum { POSTS_MAX = 65536 };

static void inbox_woken(struct dg_watch *watch)
{
    struct dgram_loop *loop = owner_of(watch, struct inbox, watch)->loop;
    loop->system->wake_clear(loop->inbox->fds[0]);
    dg_inbox_run(loop);
}

int dg_inbox_open(struct dgram_loop *loop)
{
    struct inbox *inbox = loop->inbox;
    int code = loop->system->wake_open(inbox->fds);
    if (code < 0) {
        return code;
    }
    (void) pthread_mutex_init(&inbox->lock, NULL); /* a default mutex: cannot fail on this libc */
    inbox->loop = loop;
    inbox->watch = (struct dg_watch){
        .base = {.fd = inbox->fds[0], .events = POLLIN},
        .fn = inbox_woken,
    };
    return 0;
}

void dg_inbox_close(struct dgram_loop *loop)
{
    struct inbox *inbox = loop->inbox;
    if (inbox->fds[0] >= 0) {
        (void) loop->system->close(inbox->fds[1]);
        (void) loop->system->close(inbox->fds[0]);
    }
    (void) pthread_mutex_destroy(&inbox->lock);
    dg_release(inbox->posts);
    dg_release(inbox->running);
}

/* The engine has watched the inbox's wake-up as long as it watched or received anything. Nobody
 * waits for a post any more, so no other wake-up takes its place, for which there may be no
 * descriptor. Callbacks of the end, and signal handlers, may still stop the loop: a write to no
 * descriptor does nothing, one to a pipe without a reader would raise SIGPIPE. */
void dg_inbox_await(struct dgram_loop *loop)
{
    struct inbox *inbox = loop->inbox;
    const int old[2] = {inbox->fds[0], inbox->fds[1]};
    inbox->fds[0] = inbox->fds[1] = -1;
    loop->system->wake_outlast(old);
}

/* Doubles the array. The caller holds the lock. */
static int inbox_grow(struct inbox *inbox)
{
    size_t capacity = array_doubled(inbox->capacity, (size_t) 64);
    int code = array_grow(&inbox->posts, inbox->count, capacity);
    inbox->capacity = code == 0 ? capacity : inbox->capacity;
    return code;
}

static int inbox_put(struct inbox *inbox, struct post post)
{
    if (inbox->count == POSTS_MAX) {
        return -EAGAIN;
    }
    if (inbox->count == inbox->capacity) {
        int code = inbox_grow(inbox);
        if (code < 0) {
            return code;
        }
    }
    inbox->posts[inbox->count++] = post;
    return 0;
}

int dgram_loop_post(struct dgram_loop *loop, dgram_post_fn *fn, void *user)
{
    if (loop == NULL || fn == NULL) {
        return DGRAM_ENULL;
    }
    if (loop_forked(loop)) {
        return DGRAM_EFORKED;
    }
    struct inbox *inbox = loop->inbox;
    (void) pthread_mutex_lock(&inbox->lock);
    bool first = inbox->count == 0;
    int code = inbox->closed ? (int) DGRAM_ENOTRUNNING : inbox_put(inbox, (struct post){fn, user});
    (void) pthread_mutex_unlock(&inbox->lock);
    if (code == 0 && first) {
        loop->system->wake_signal(inbox->fds[1]);
    }
    return code;
}

void dg_inbox_end(struct dgram_loop *loop)
{
    (void) pthread_mutex_lock(&loop->inbox->lock);
    loop->inbox->closed = true;
    (void) pthread_mutex_unlock(&loop->inbox->lock);
}

void dgram_loop_stop(struct dgram_loop *loop)
{
    if (loop != NULL && !loop_forked(loop)) {
        atomic_store(&loop->inbox->stop, true);
        loop->system->wake_signal(loop->inbox->fds[1]);
    }
}

bool dg_inbox_waiting(struct dgram_loop *loop)
{
    return atomic_load_explicit(&loop->inbox->count, memory_order_acquire) > 0;
}

void dg_inbox_run(struct dgram_loop *loop)
{
    struct inbox *inbox = loop->inbox;
    (void) pthread_mutex_lock(&inbox->lock);
    struct post *posts = inbox->posts;
    size_t count = inbox->count, capacity = inbox->capacity;
    inbox->posts = inbox->running;
    inbox->capacity = inbox->running_capacity;
    inbox->count = 0;
    inbox->running = posts;
    inbox->running_capacity = capacity;
    (void) pthread_mutex_unlock(&inbox->lock);
    for (size_t i = 0; i < count && !loop_forked(loop); i++) {
        posts[i].fn(loop, posts[i].user);
    }
}
