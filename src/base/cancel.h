/* SPDX-License-Identifier: MIT */
/*
 * cancel.h: where pthread_cancel(3) may not end a thread.
 *
 * Between the two calls the thread goes on, whatever is called: no change of ours stays half made.
 */
#ifndef DGRAM_BASE_CANCEL_H
#define DGRAM_BASE_CANCEL_H

#include <pthread.h>

/* Returns the state that cancel_release() restores. */
static inline int cancel_hold(void)
{
    int state = PTHREAD_CANCEL_DISABLE;
    (void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state); /* the argument is valid */
    return state;
}

static inline void cancel_release(int state)
{
    (void) pthread_setcancelstate(state, NULL);
}

#endif
