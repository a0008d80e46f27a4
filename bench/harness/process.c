/* SPDX-License-Identifier: MIT */
/*
 * process.c: clocks, messages on standard error, Ctrl-C, CPUs, descriptors.
 *
 * Owns everything that a process has once. Knows no plan, no engine and no scenario.
 */
#include "bench/harness/process.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* ---- Clocks -------------------------------------------------------------------------------- */

static uint64_t clock_read(clockid_t id)
{
    struct timespec time;

    clock_gettime(id, &time);
    return (uint64_t) time.tv_sec * 1000000000u + (uint64_t) time.tv_nsec;
}

uint64_t clock_now(void)
{
    return clock_read(CLOCK_MONOTONIC);
}

uint64_t clock_thread_cpu(void)
{
    return clock_read(CLOCK_THREAD_CPUTIME_ID);
}

/* ---- Messages ------------------------------------------------------------------------------ */

static bool live_shown;

void live_clear(void)
{
    if (live_shown) {
        fputs("\r\033[K", stderr);
        live_shown = false;
    }
}

/* Returns the columns of standard error; INT_MAX if the terminal does not tell them. */
static int live_columns(void)
{
    const char *columns = getenv("COLUMNS");
    struct winsize window = {.ws_col = 0};
    long told = columns ? strtol(columns, NULL, 10) : 0;

    if (told <= 0 && ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0) {
        told = window.ws_col;
    }
    return told > 0 && told < INT_MAX ? (int) told : INT_MAX;
}

/* Cuts the text: a line that is too long would go on in the next, from where it cannot be cleared.
 * The last column stays free: some terminals go on to the next line when it is written. */
void live_show(const char *text)
{
    fprintf(stderr, "\r\033[K%.*s", live_columns() - 1, text);
    fflush(stderr);
    live_shown = true;
}

void complain(const char *format, ...)
{
    va_list arguments;

    live_clear();
    fputs("dgperf: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

/* ---- Ctrl-C -------------------------------------------------------------------------------- */

#define INTERRUPT_ONCE_NS (UINT64_C(200) * 1000000) /* timeout(1) sends its signal twice */

static volatile sig_atomic_t interrupts;
static uint64_t interrupted_at; /* the handler's, which is not interrupted by itself */

static void on_interrupt(int number)
{
    uint64_t now = clock_now();

    if (interrupts == 0) {
        interrupted_at = now;
        interrupts = 1;
    } else if (now - interrupted_at >
               INTERRUPT_ONCE_NS) { /* a second one: the user wants no summary */
        signal(number, SIG_DFL);
        raise(number);
    }
}

void interrupts_catch(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};

    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool interrupts_seen(void)
{
    return interrupts != 0;
}

/* ---- CPUs ---------------------------------------------------------------------------------- */

static int topology_read(int cpu, const char *name)
{
    char path[96];
    FILE *file;
    int value = -1;

    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, name);
    file = fopen(path, "re");
    if (file) {
        if (fscanf(file, "%d", &value) != 1) {
            value = -1;
        }
        fclose(file);
    }
    return value;
}

/* Returns how well `cpu` suits as the partner of `first`: 2 is best. The two threads of one core
 * would share the time that is measured (0), and another package is far away (1). */
static int partner_rank(int first, int cpu)
{
    bool same_package =
        topology_read(first, "physical_package_id") == topology_read(cpu, "physical_package_id");
    bool same_core = topology_read(first, "core_id") == topology_read(cpu, "core_id");

    if (!same_package) {
        return 1;
    }
    return same_core ? 0 : 2;
}

unsigned cpus_usable(void)
{
    cpu_set_t set;

    if (sched_getaffinity(getpid(), sizeof(set), &set) != 0) {
        return 1;
    }
    return (unsigned) CPU_COUNT(&set);
}

/* Returns the CPU of a place: place 0 has the first usable CPU, 1 its best partner. Below zero: do
 * not pin. */
static int cpu_of_place(unsigned place)
{
    cpu_set_t set;
    int first = -1;
    int partner = -1;

    if (sched_getaffinity(getpid(), sizeof(set), &set) != 0 || CPU_COUNT(&set) < 2) {
        return -1;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET((size_t) cpu, &set)) {
            continue;
        }
        if (first < 0) {
            first = cpu;
        } else if (partner < 0 || partner_rank(first, cpu) > partner_rank(first, partner)) {
            partner = cpu;
        }
    }
    return place == 0 ? first : partner;
}

void thread_pin(unsigned place)
{
    int cpu = cpu_of_place(place);
    cpu_set_t set;

    if (cpu < 0) {
        return;
    }
    CPU_ZERO(&set);
    CPU_SET((size_t) cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

void descriptors_allow(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &limit);
    }
}
