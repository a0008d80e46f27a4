/* SPDX-License-Identifier: MIT */
/*
 * queue.h: queues whose links lie inside the objects that are queued.
 *
 * Owns nothing and never allocates. A link leaves at the head only, and costs one pointer. A queue
 * is a ring that knows its last link; zeroed memory is an empty queue.
 */
#ifndef DGRAM_BASE_QUEUE_H
#define DGRAM_BASE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *next;
};

struct queue {
    struct link *last;
};

static inline bool queue_is_empty(const struct queue *queue)
{
    return queue->last == NULL;
}

/* NULL: it is empty. */
static inline struct link *queue_first(const struct queue *queue)
{
    return queue->last != NULL ? queue->last->next : NULL;
}

/* NULL: that was the last. */
static inline struct link *queue_after(const struct queue *queue, const struct link *link)
{
    return link != queue->last ? link->next : NULL;
}

/* As the first. */
static inline void queue_prepend(struct queue *queue, struct link *link)
{
    if (queue->last == NULL) {
        queue->last = link->next = link;
    } else {
        link->next = queue->last->next;
        queue->last->next = link;
    }
}

static inline void queue_append(struct queue *queue, struct link *link)
{
    queue_prepend(queue, link);
    queue->last = link;
}

/* NULL: it is empty. */
static inline struct link *queue_pop(struct queue *queue)
{
    struct link *last = queue->last;
    if (last == NULL) {
        return NULL;
    }
    struct link *first = last->next;
    if (first == last) {
        queue->last = NULL;
    } else {
        last->next = first->next;
    }
    return first;
}

/* All of `first` leave it, and come before those in the queue. */
static inline void queue_prepend_all(struct queue *queue, struct queue *first)
{
    if (first->last != NULL && queue->last != NULL) {
        struct link *head = first->last->next;
        first->last->next = queue->last->next;
        queue->last->next = head;
    } else if (first->last != NULL) {
        queue->last = first->last;
    }
    first->last = NULL;
}

/* All of them leave, so that others may join while these are worked off. */
static inline struct queue queue_take(struct queue *queue)
{
    struct queue all = *queue;
    queue->last = NULL;
    return all;
}

#endif
