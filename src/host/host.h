/* SPDX-License-Identifier: MIT */
/*
 * host.h: the system calls of system.c that differ by host.
 *
 * The build takes one of host_linux.c and host_posix.c (any POSIX host: macOS, the BSDs). Same
 * results as in system.h: 0 or more, or a negated errno.
 */
#ifndef DGRAM_HOST_H
#define DGRAM_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A blocking UDP socket, close-on-exec. */
int dg_host_socket(int family);

/* As in struct dg_system. */
int dg_host_guest_socket(int family, int type);

/* A pipe whose ends neither block nor survive an exec. */
int dg_host_pipe(int ret_fds[2]);

/* The flag by which recvmsg(2) tells the real size; 0: there is none. */
extern const int dg_host_real_size;

/* As in struct dg_system. */
int dg_host_refuse(int fd);
uint32_t dg_host_drops(int fd);

/* Whether this process may use one CPU only. */
bool dg_host_only_one_cpu(void);

/* As in struct dg_system. */
int dg_host_gather_open(const int *fds, size_t count);
int dg_host_alarm_open(void);
void dg_host_alarm_set(int fd, uint64_t deadline);

/* Fills in 64 random bits, or says no: 0 or a negated errno. */
int dg_host_random(uint64_t *ret_random);

/* Asks the kernel: 1 if it has no trains, 0 if the network does not let anybody ask now. */
unsigned dg_host_segments_max(void);

#endif
