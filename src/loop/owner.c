/* SPDX-License-Identifier: MIT */
/* owner.c: see owner.h. */
#include "src/loop/owner.h"

#include <assert.h>
#include <pthread.h>

#include "src/base/fork.h"
#include "src/base/list.h"
#include "src/core/io.h"

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

static void owners_unlink(struct ownership *ownership)
{
    assert(ownership->attended);
    ownership->attended = false;
    node_remove(&ownership->owned);
}

/* The kernel's operations for a loop are bound to the thread that asked for them: that thread takes
 * them back while it can. Afterwards any thread may free the loop. */
static void thread_ends(void *mark)
{
    (void) mark;
    (void) pthread_mutex_lock(&owners.lock);
    for (struct node *node = owners.loops.next, *next; node != &owners.loops; node = next) {
        struct ownership *ownership = owner_of(node, struct ownership, owned);
        const struct dgram_loop *loop = ownership->loop;
        next = node->next;
        if (ownership->owner == thread_number) {
            owners_unlink(ownership);
            if (loop->io->backend->rest != NULL) {
                loop->io->backend->rest(loop->io->engine);
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
    return loop->ownership->owner != 0 && loop->ownership->owner != thread_number;
}

void dg_owner_attend(struct dgram_loop *loop)
{
    assert(!dg_owner_is_other(loop) && !loop->ownership->attended);
    (void) pthread_mutex_lock(&owners.lock);
    if (thread_number == 0) {
        thread_number = ++owners.threads;
    }
    loop->ownership->owner = thread_number;
    loop->ownership->attended = true;
    node_append(&owners.loops, &loop->ownership->owned);
    (void) pthread_mutex_unlock(&owners.lock);
    if (has_ending) {
        (void) pthread_setspecific(ending, &owners); /* whatever is not NULL */
    }
}

void dg_owner_leave(struct dgram_loop *loop)
{
    (void) pthread_mutex_lock(&owners.lock);
    if (loop->ownership->attended) {
        owners_unlink(loop->ownership);
    }
    (void) pthread_mutex_unlock(&owners.lock);
}
