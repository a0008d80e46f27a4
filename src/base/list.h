/* SPDX-License-Identifier: MIT */
/*
 * list.h: lists whose nodes lie inside the objects that are listed.
 *
 * Owns nothing and never allocates, so joining and leaving cannot fail. A node leaves its list from
 * anywhere, at the same cost with 10,000 sockets as with one. A list is a ring that begins and ends
 * with a node of its own; a node that is in no list is a ring of one.
 */
#ifndef DGRAM_BASE_LIST_H
#define DGRAM_BASE_LIST_H

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

#endif
