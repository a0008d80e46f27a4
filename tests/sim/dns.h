/* SPDX-License-Identifier: MIT */
/*
 * dns.h: a name server in the simulator's world, on port 53 of its loopback.
 *
 * Owns the answers, and counts questions. Every name exists and has the loopback's addresses, but
 * for those whose first label begins with "none" (no such name) or "v4" (no address of IPv6). What
 * goes wrong is in struct sim_faults of the world. It keeps nothing between two questions, never
 * looks at a clock, and never calls the library.
 */
#ifndef DGRAM_TESTS_SIM_DNS_H
#define DGRAM_TESTS_SIM_DNS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In the world that is open, until that is closed. */
void sim_dns_open(void);

/* Of all answers from now on, in seconds; 60 at first. */
void sim_dns_ttl(uint32_t ttl);

/* Questions so far, and those by TCP. */
uint64_t sim_dns_asked(void);
uint64_t sim_dns_asked_by_tcp(void);

#ifdef __cplusplus
}
#endif

#endif
