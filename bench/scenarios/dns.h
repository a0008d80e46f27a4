/* SPDX-License-Identifier: MIT */
/*
 * dns.h: as much of DNS (RFC 1035) as a server with one address needs. It is the work of `respond`,
 * the same for every engine.
 */
#ifndef DGPERF_DNS_H
#define DGPERF_DNS_H

#include <stdint.h>

#define DNS_ANSWER_MOST 512u

/* Answers a query: A of class IN with 127.0.0.1, other types with no data. `answer` has room for
 * DNS_ANSWER_MOST bytes. Returns the answer's size, or 0 if `query` is no query of one question. */
uint32_t dns_answer(const void *query, uint32_t size, void *answer);

#endif
