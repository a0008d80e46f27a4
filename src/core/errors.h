/* SPDX-License-Identifier: MIT */
/*
 * errors.h: `error` events that wait for the dispatch.
 *
 * Owns their queue, which is bounded per loop. A program may send ten million datagrams nowhere in
 * one callback: it gets as many events as fit, and a count of the rest. Equal errors in a row share
 * one record. It never formats text.
 */
#ifndef DGRAM_CORE_ERRORS_H
#define DGRAM_CORE_ERRORS_H

#include <dgram.h>

#include "src/core/agenda.h"

struct errors;

/* Where the errors of a socket go. */
struct error_sink {
    struct errors *errors;
    struct dgram_socket *socket; /* for the handler */
    dgram_error_fn *fn;          /* NULL: they are counted only */
    void *user;
    uint64_t lost;
    uint32_t waiting; /* records in the queue: the socket must not be freed */
};

/* An error, `repeat` times. */
struct dg_error {
    const char *operation; /* a static string */
    int code;
    uint32_t repeat;
    const void *peer; /* a socket address, */
    size_t peer_size; /* 0: there is none */
    const char *host; /* copied; NULL: there is none */
};

int dg_errors_open(struct agenda *agenda, struct errors **ret_errors);
void dg_errors_close(struct errors *errors); /* NULL is accepted */

void dg_error_queue(struct error_sink *sink, const struct dg_error *error);

#endif
