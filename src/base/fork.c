/* SPDX-License-Identifier: MIT */
/* fork.c: see fork.h. */
#include "src/base/fork.h"

#include <pthread.h>

unsigned dg_fork_generation = 1;

static void fork_in_child(void)
{
    dg_fork_generation++;
}

static void watch_once(void)
{
    (void) pthread_atfork(NULL, NULL, fork_in_child);
}

void dg_fork_watch(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void) pthread_once(&once, watch_once);
}
