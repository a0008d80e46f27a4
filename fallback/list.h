/* SPDX-License-Identifier: MIT */
/*
 * list.h: the doubly linked lists of the poll engine.
 *
 * Owns nothing and never allocates: a node lives inside the object that is listed, so joining and
 * leaving cannot fail and costs the same with 10,000 sockets as with one. A list is a ring that
 * begins and ends with a node of its own; a node that is in no list is a ring of one.
 */
#ifndef DGRAM_FALLBACK_LIST_H
#define DGRAM_FALLBACK_LIST_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

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

/* Of a node: it is in no list. Of a list: it is empty. */
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

/* Leaves the node alone; of a node that is alone already too. */
static inline void node_remove(struct node *node)
{
    node->previous->next = node->next;
    node->next->previous = node->previous;
    node_init(node);
}

#endif
