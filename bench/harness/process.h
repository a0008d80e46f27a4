/* SPDX-License-Identifier: MIT */
/*
 * process.h: clocks, messages, Ctrl-C, CPUs and descriptors of the process.
 */
#ifndef DGPERF_PROCESS_H
#define DGPERF_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* Tells the CPU that this is a waiting loop, where it can be told. */
#if defined(__x86_64__) || defined(__i386__)
#define CPU_RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__) || defined(__arm__)
#define CPU_RELAX() __asm__ volatile("yield")
#else
#define CPU_RELAX() ((void) 0)
#endif

uint64_t clock_now(void);        /* CLOCK_MONOTONIC in nanoseconds */
uint64_t clock_thread_cpu(void); /* CPU time of the calling thread */

/* Lets SIGINT and SIGTERM end the run with its summary; a second signal kills. */
void interrupts_catch(void);
bool interrupts_seen(void);

/* Prints "dgperf: ..." on standard error, after clearing the live line. */
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);

/* Shows the live line in place of the one before, and clears it. */
void live_show(const char *text);
void live_clear(void);

/* Returns how many CPUs this process may use. */
unsigned cpus_usable(void);

/* Raises the limit of descriptors as far as this user may. Where that is too few, socket(2)
 * fails. */
void descriptors_allow(void);

/* Pins the calling thread: place 0 is the first usable CPU, 1 its best partner. A host that refuses
 * measures less steadily, but it measures. */
void thread_pin(unsigned place);

#endif
