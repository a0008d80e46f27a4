/* SPDX-License-Identifier: MIT */
/*
 * owner.c: which thread a loop belongs to, what becomes of the loop when that thread ends, and
 * where pthread_cancel(3) may end it.
 *
 * Owns the numbers of threads, each given once: a pthread_t is given to the next thread as soon as
 * its own has ended. Owns the list of loops that have an owner, behind a mutex, since the thread
 * that frees a loop may be another one. Calls no callback.
 */
#include "src/core.h"

static struct {
    pthread_mutex_t lock; /* guards the rest, and the loops' links and `attended` */
    struct node loops;
    uint64_t threads; /* numbers given so far */
} owners = {.lock = PTHREAD_MUTEX_INITIALIZER, .loops = {&owners.loops, &owners.loops}};

static _Thread_local uint64_t thread_number; /* 0: this thread has owned no loop yet */

/* Its destructor runs on each thread that ends and has owned a loop. Without it, for want of
 * memory, a loop that is freed elsewhere has to wait for its ring to be taken down. */
static pthread_key_t ending;
static bool has_ending;

static void owners_unlink(struct dgram_loop *loop)
{
    assert(loop->attended);
    loop->attended = false;
    node_remove(&loop->owned);
}

/* What the kernel does for a loop is bound to the thread that asked for it: that thread takes it
 * back while it can. Afterwards any thread may free the loop. */
static void thread_ends(void *mark)
{
    (void) mark;
    (void) pthread_mutex_lock(&owners.lock);
    for (struct node *node = owners.loops.next, *next; node != &owners.loops; node = next) {
        struct dgram_loop *loop = owner_of(node, struct dgram_loop, owned);
        next = node->next;
        if (loop->owner == thread_number) {
            owners_unlink(loop);
            if (loop->io.backend->rest != NULL) {
                loop->io.backend->rest(loop->io.engine);
            }
        }
    }
    (void) pthread_mutex_unlock(&owners.lock);
}

static void fork_begins(void)
{
    (void) pthread_mutex_lock(&owners.lock);
}

static void fork_in_parent(void)
{
    (void) pthread_mutex_unlock(&owners.lock);
}

/* The parent's loops have no owner in the child. */
static void fork_in_child(void)
{
    node_init(&owners.loops); /* they are the parent's */
    (void) pthread_mutex_unlock(&owners.lock);
}

static void owners_open(void)
{
    dg_fork_watch();
    /* If there is no memory for it, a child of a fork in another thread may find the lock held. */
    (void) pthread_atfork(fork_begins, fork_in_parent, fork_in_child);
    has_ending = pthread_key_create(&ending, thread_ends) == 0;
}

/* The library is unloaded: no thread may run into the destructor any more. */
__attribute__((destructor)) static void owners_close(void)
{
    if (has_ending) {
        (void) pthread_key_delete(ending);
    }
}

void dg_owners_open(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void) pthread_once(&once, owners_open);
}

bool dg_owner_is_other(const struct dgram_loop *loop)
{
    return loop->owner != 0 && loop->owner != thread_number;
}

void dg_owner_attend(struct dgram_loop *loop)
{
    assert(!dg_owner_is_other(loop) && !loop->attended);
    (void) pthread_mutex_lock(&owners.lock);
    if (thread_number == 0) {
        thread_number = ++owners.threads;
    }
    loop->owner = thread_number;
    loop->attended = true;
    node_append(&owners.loops, &loop->owned);
    (void) pthread_mutex_unlock(&owners.lock);
    if (has_ending) {
        (void) pthread_setspecific(ending, &owners); /* whatever is not NULL */
    }
}

void dg_owner_leave(struct dgram_loop *loop)
{
    (void) pthread_mutex_lock(&owners.lock);
    if (loop->attended) {
        owners_unlink(loop);
    }
    (void) pthread_mutex_unlock(&owners.lock);
}

int dg_cancel_hold(void)
{
    int state = PTHREAD_CANCEL_DISABLE;
    (void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state); /* the argument is valid */
    return state;
}

void dg_cancel_release(int state)
{
    (void) pthread_setcancelstate(state, NULL);
}
