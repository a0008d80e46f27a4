/* SPDX-License-Identifier: MIT */
/*
 * report.c: prints results.
 *
 * Owns the words, the columns and the JSON keys. Computes rates from counts and nothing else.
 */
#include "bench/harness/report.h"

#include <cjson/cJSON.h>
#include <dgram.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

int result_verdict(const struct result *result)
{
    uint64_t count = result->unseen ? result->sent : result->received;
    bool all = result->lost == 0 || result->loss_is_normal;
    bool whole = all && result->disordered == 0 && result->corrupt == 0;

    return whole && count > 0 ? EXIT_GOOD : EXIT_BAD_RUN;
}

/* ---- The machine --------------------------------------------------------------------------- */

const char *kernel_release(void)
{
    static struct utsname name;

    return uname(&name) == 0 ? name.release : "unknown";
}

/* Reads the value of the first "key : value" line of /proc/cpuinfo. Returns whether there is
 * one. */
static bool cpuinfo_find(FILE *file, const char *key, char *value, size_t room)
{
    char line[256];

    while (fgets(line, sizeof(line), file)) {
        char *colon = strchr(line, ':');

        if (colon && strncmp(line, key, strlen(key)) == 0) {
            line[strcspn(line, "\n")] = '\0';
            colon += strspn(colon, ": \t");
            snprintf(value, room, "%s", colon);
            return true;
        }
    }
    return false;
}

const char *cpu_name(void)
{
    static char name[256];
    struct utsname system;
    FILE *file = fopen("/proc/cpuinfo", "re");
    bool found = false;

    if (file) {
        found = cpuinfo_find(file, "model name", name, sizeof(name));
        fclose(file);
    }
    if (!found && uname(&system) == 0) { /* ARM has no name there */
        snprintf(name, sizeof(name), "%s", system.machine);
    }
    return name;
}

/* ---- Derived figures ----------------------------------------------------------------------- */

static double per_second(uint64_t count, double seconds)
{
    return seconds > 0 ? (double) count / seconds : 0;
}

static double per_datagram(uint64_t nanoseconds, uint64_t count)
{
    return count > 0 ? (double) nanoseconds / (double) count : 0;
}

/* Returns the receiver's time, or the sender's where nobody sees the receiver. */
static double seconds_of(const struct result *result)
{
    return result->unseen ? result->sender.seconds : result->receiver.seconds;
}

static double gigabits(const struct result *result)
{
    return per_second(result->bytes, seconds_of(result)) * 8 / 1e9;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

/* Writes only digits that mean something: cJSON itself prints 17 of them. */
static void put_number(cJSON *object, const char *key, double value, int decimals)
{
    char text[64];

    snprintf(text, sizeof(text), "%.*f", decimals, value);
    cJSON_AddRawToObject(object, key, text);
}

static void put_count(cJSON *object, const char *key, uint64_t value)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRIu64, value);
    cJSON_AddRawToObject(object, key, text);
}

static void put_known(cJSON *object, const char *key, uint64_t value)
{
    if (value == COUNT_UNKNOWN) {
        cJSON_AddNullToObject(object, key);
    } else {
        put_count(object, key, value);
    }
}

/* Writes a list of pairs: percentile, nanoseconds. */
static void put_series(cJSON *object, const char *key, const uint64_t *series)
{
    cJSON *list = cJSON_AddArrayToObject(object, key);

    for (size_t i = 0; i < PERCENTILES; i++) {
        char text[64];

        snprintf(text, sizeof(text), "[%g,%" PRIu64 "]", percentiles[i], series[i]);
        cJSON_AddItemToArray(list, cJSON_CreateRaw(text));
    }
}

static void put_times(cJSON *object, const char *key, const struct times *times)
{
    cJSON *inner;

    if (times->samples == 0) { /* nothing came */
        cJSON_AddNullToObject(object, key);
        return;
    }
    inner = cJSON_AddObjectToObject(object, key);
    put_count(inner, "min", times->min);
    put_count(inner, "p50", times->p50);
    put_count(inner, "p90", times->p90);
    put_count(inner, "p99", times->p99);
    put_count(inner, "p999", times->p999);
    put_count(inner, "max", times->max);
    put_series(inner, "percentiles", times->series);
}

static void put_cpu(cJSON *object, const char *key, const struct tally *tally, uint64_t count)
{
    if (tally->known) {
        put_number(object, key, per_datagram(tally->cpu_ns, count), 2);
    } else {
        cJSON_AddNullToObject(object, key);
    }
}

/* Writes null for `send`: only the other side can tell how much was received. */
static void put_seen(cJSON *object, const char *key, const struct result *result, uint64_t value)
{
    put_known(object, key, result->unseen ? COUNT_UNKNOWN : value);
}

/* Writes null for a side that runs elsewhere, unless it has the time of this side. */
static void put_rate(cJSON *object, const char *key, uint64_t count, const struct tally *tally)
{
    if (tally->known || tally->seconds > 0) {
        put_number(object, key, per_second(count, tally->seconds), 1);
    } else {
        cJSON_AddNullToObject(object, key);
    }
}

static void put_extras(cJSON *object, const struct plan *plan, const struct result *result)
{
    put_count(object, "disordered", result->disordered);
    put_count(object, "corrupt", result->corrupt);
    put_known(object, "kernel_sends", result->kernel_sends);
    put_known(object, "kernel_receives", result->kernel_receives);
    put_count(object, "segments", result->segments);
    put_number(object, "send_wait_ns", per_datagram(result->sender.wait_ns, result->sent), 2);
    if (plan->peers > 1) {
        put_count(object, "peers", plan->peers);
    }
    if (result->mode) {
        cJSON_AddStringToObject(object, "mode", result->mode);
    }
    if (result->server) {
        cJSON_AddStringToObject(object, "server_engine", result->server);
    }
    if (plan->distinct_sizes) {
        cJSON_AddTrueToObject(object, "distinct_sizes");
    }
    if (plan->borrow) {
        cJSON_AddTrueToObject(object, "borrow");
    }
    if (plan->no_gro) {
        cJSON_AddTrueToObject(object, "no_gro");
    }
    if (plan->in_place) {
        cJSON_AddTrueToObject(object, plan->zero_copy ? "zero_copy" : "in_place");
    }
    if (plan->busy_poll_us > 0 || plan->never_spins) {
        put_count(object, "busy_poll_us", plan->busy_poll_us);
    }
    if (plan->max_delay_given) {
        put_count(object, "max_delay_us", plan->max_delay_us);
    }
}

static void put_collected(cJSON *object, const struct plan *plan, const struct result *result)
{
    put_count(object, "rate", plan->rate);
    put_count(object, "senders", plan->senders);
    put_times(object, "delay_ns", &result->times);
    put_known(object, "turns", result->turns);
    put_known(object, "wakeups", result->wakeups);
}

static void report_as_json(const struct plan *plan, const struct result *result)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "engine", result->engine);
    cJSON_AddStringToObject(object, "scenario", plan->scenario);
    put_count(object, "size", result->size);
    put_count(object, "window", result->window);
    put_number(object, "seconds", seconds_of(result), 6);
    put_count(object, "sent", result->sent);
    put_seen(object, "received", result, result->received);
    put_seen(object, "lost", result, result->lost);
    put_rate(object, "send_pps", result->sent, &result->sender);
    put_rate(object, "recv_pps", result->received, &result->receiver);
    put_number(object, "gbps", gigabits(result), 4);
    put_cpu(object, "send_cpu_ns", &result->sender, result->sent);
    put_cpu(object, "recv_cpu_ns", &result->receiver, result->received);
    if (strcmp(plan->scenario, "ping") == 0) {
        put_times(object, "rtt_ns", &result->times);
    }
    if (strcmp(plan->scenario, "collect") == 0) {
        put_collected(object, plan, result);
    }
    put_extras(object, plan, result);
    report_json(object);
}

void report_json(struct cJSON *object)
{
    char *text;

    cJSON_AddStringToObject(object, "kernel", kernel_release());
    cJSON_AddStringToObject(object, "cpu", cpu_name());
    cJSON_AddStringToObject(object, "version", dgram_version());
    text = cJSON_PrintUnformatted(object);
    puts(text ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(object);
}

/* ---- The table ----------------------------------------------------------------------------- */

/* Writes 41234567 as "41,234,567". Returns `text`. */
static const char *grouped(uint64_t value, char *text, size_t room)
{
    char digits[24];
    size_t length = (size_t) snprintf(digits, sizeof(digits), "%" PRIu64, value);
    size_t out = 0;

    for (size_t i = 0; i < length && out + 2 < room; i++) {
        if (i > 0 && (length - i) % 3 == 0) {
            text[out++] = ',';
        }
        text[out++] = digits[i];
    }
    text[out] = '\0';
    return text;
}

/* Writes "20.612 M/s" or "45.1 k/s". Returns `text`. */
static const char *rate_text(double rate, char *text, size_t room)
{
    if (rate >= 1e5) {
        snprintf(text, room, "%.3f M/s", rate / 1e6);
    } else if (rate >= 100) {
        snprintf(text, room, "%.3f k/s", rate / 1e3);
    } else {
        snprintf(text, room, "%.1f /s", rate);
    }
    return text;
}

static void print_row(const char *name, uint64_t count, const struct tally *tally)
{
    char number[40];
    char rate[40];

    printf("  %-10s %18s", name, grouped(count, number, sizeof(number)));
    if (tally->known || tally->seconds > 0) {
        printf(" %14s", rate_text(per_second(count, tally->seconds), rate, sizeof(rate)));
    } else {
        printf(" %14s", "-");
    }
    if (tally->known) {
        printf(" %12.1f\n", per_datagram(tally->cpu_ns, count));
    } else {
        printf(" %12s\n", "-");
    }
}

static void print_heading(const struct plan *plan, const struct result *result)
{
    printf("%s, %s", plan->scenario, result->engine);
    if (result->mode) {
        printf(" (%s)", result->mode);
    }
    if (result->server) {
        printf(" against %s", result->server);
    }
    if (result->size > 0) {
        printf(", %s%" PRIu32 " bytes", plan->distinct_sizes ? "8 to " : "", result->size);
    }
    if (result->window > 0) {
        printf(", window %" PRIu32, result->window);
    }
    if (plan->senders > 0 && plan->rate > 0) {
        printf(", %" PRIu64 "/s", plan->rate);
    }
    if (plan->senders > 0) {
        printf(" of %" PRIu32 " sockets", plan->senders);
    }
    if (plan->max_delay_given) {
        printf(", delay of up to %" PRIu32 " us", plan->max_delay_us);
    }
    if (result->segments > 1) {
        printf(", trains of up to %" PRIu32, result->segments);
    }
    putchar('\n');
}

static void print_losses(const struct result *result)
{
    char number[40];

    printf("  %-10s %18s\n", "lost", grouped(result->lost, number, sizeof(number)));
    if (result->disordered > 0) {
        printf("  %-10s %18s\n", "disordered", grouped(result->disordered, number, sizeof(number)));
    }
    if (result->corrupt > 0) {
        printf("  %-10s %18s\n", "corrupt", grouped(result->corrupt, number, sizeof(number)));
    }
}

static void print_times(const char *name, const struct times *times)
{
    printf("  %s, microseconds: min %.1f, p50 %.1f, p90 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n",
           name, (double) times->min / 1e3, (double) times->p50 / 1e3, (double) times->p90 / 1e3,
           (double) times->p99 / 1e3, (double) times->p999 / 1e3, (double) times->max / 1e3);
}

static void print_turns(const struct result *result)
{
    if (result->received > 0 && result->turns != COUNT_UNKNOWN) {
        printf("  turns of the loop a datagram %.2f, wake-ups %.2f\n",
               (double) result->turns / (double) result->received,
               (double) result->wakeups / (double) result->received);
    }
}

static void report_as_table(const struct plan *plan, const struct result *result)
{
    print_heading(plan, result);
    printf("  %-10s %18s %14s %12s\n", "", "datagrams", "rate", "CPU ns each");
    print_row("sent", result->sent, &result->sender);
    if (!result->unseen) {
        print_row("received", result->received, &result->receiver);
        print_losses(result);
    }
    if (result->times.samples > 0) {
        print_times(plan->senders > 0 ? "delay" : "round trip", &result->times);
    }
    if (plan->senders > 0) {
        print_turns(result);
    }
    printf("  %.3f Gbit/s of payload in %.3f s; Linux %s, %s, libdgram %s\n", gigabits(result),
           seconds_of(result), kernel_release(), cpu_name(), dgram_version());
}

void report(const struct plan *plan, const struct result *result)
{
    if (plan->json) {
        report_as_json(plan, result);
    } else {
        report_as_table(plan, result);
    }
}
