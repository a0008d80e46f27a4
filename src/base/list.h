/* SPDX-License-Identifier: MIT */
/*
 * list.h: lists whose links lie inside the objects that are listed.
 *
 * Owns nothing and never allocates, so joining and leaving cannot fail. There are two kinds:
 *
 * A list of nodes, which leave it from anywhere, at the same cost with 10,000 sockets as with one.
 * It is a ring that begins and ends with a node of its own; a node that is in no list is a ring of
 * one.
 *
 * A queue of links, which leave it at its head. It is a ring, too, and knows its last link; zeroed
 * memory is an empty queue.
 */
#ifndef DGRAM_BASE_LIST_H
#define DGRAM_BASE_LIST_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

/* ---- Nodes --------------------------------------------------------------------------------- */

struct node {
    struct node *next, *previous;
};

/* The object around one of its members. */
#define owner_of(pointer, type, member)                                                            \
    ((type *) (void *) ((unsigned char *) (pointer) -offsetof(type, member)))

static inline void node_init(struct node *node)
{
    node->next = node->previous = node;
}

/* Whether a node is in no list, or a list is empty. */
static inline bool node_alone(const struct node *node)
{
    assert((node->next == node) == (node->previous == node));
    return node->next == node;
}

static inline void node_append(struct node *list, struct node *node)
{
    assert(node_alone(node));
    node->next = list;
    node->previous = list->previous;
    node->previous->next = node;
    list->previous = node;
}

/* As the first. */
static inline void node_prepend(struct node *list, struct node *node)
{
    node_append(list->next, node);
}

/* Leaves the node alone; of a node that is alone already too. */
static inline void node_remove(struct node *node)
{
    node->previous->next = node->next;
    node->next->previous = node->previous;
    node_init(node);
}

/* The first node leaves the list, which is not empty. */
static inline struct node *node_take(struct node *list)
{
    struct node *first = list->next;
    assert(!node_alone(list));
    node_remove(first);
    return first;
}

/* All nodes of `from` go over to `list`, which is empty, so that others may join `from` while these
 * are worked off. */
static inline void node_take_all(struct node *list, struct node *from)
{
    node_init(list);
    if (!node_alone(from)) {
        *list = *from;
        list->next->previous = list->previous->next = list;
        node_init(from);
    }
}

/* ---- Queues -------------------------------------------------------------------------------- */

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
