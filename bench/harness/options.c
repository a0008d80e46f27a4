/* SPDX-License-Identifier: MIT */
/*
 * options.c: the command line into a plan.
 *
 * Owns the options' names, ranges and defaults, and the complaints about a single option. Starts
 * nothing. check.c knows which options do not go together.
 */
#include "bench/harness/options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/harness/check.h"
#include "bench/harness/engine.h"
#include "bench/harness/process.h"

#define SECONDS_DEFAULT 3.0
#define SECONDS_LEAST 0.01
#define SECONDS_MOST 86400.0
#define COUNT_MOST UINT64_C(100000000000000) /* a run's mark stands above it: oneway.h */
#define RATE_DEFAULT 20000u
#define SENDERS_DEFAULT 8u
#define RATE_MOST UINT64_C(1000000000)

#define FOR_RATE (FOR_STREAM | FOR_FANOUT)
#define FOR_SIDES (FOR_SEND | FOR_RECV)
#define FOR_NUMBERS (FOR_RATE | FOR_PING | FOR_SIDES | FOR_COLLECT)
#define FOR_SERVERS (FOR_ECHO | FOR_RESPOND)
#define FOR_RUNS (FOR_NUMBERS | FOR_SERVERS)
#define FOR_TRAINS (FOR_RUNS & ~FOR_COLLECT)

/* Reads one option's text into the plan. Returns 0, or -1 after saying why the text is wrong. */
typedef int read_fn(struct plan *plan, const char *name, const char *text);

struct option_entry {
    const char *name;
    const char *value; /* its name in help; NULL: the option is a flag */
    const char *help;
    read_fn *read;
    uint32_t commands;
};

/* ---- Values -------------------------------------------------------------------------------- */

static int number_parse(const char *name, const char *text, uint64_t least, uint64_t most,
                        uint64_t *ret_value)
{
    char *end;
    unsigned long long value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value < least || value > most) {
        complain("--%s %s: must be a whole number from %" PRIu64 " to %" PRIu64, name, text, least,
                 most);
        return -1;
    }
    *ret_value = value;
    return 0;
}

static int number_parse32(const char *name, const char *text, uint32_t least, uint32_t most,
                          uint32_t *ret_value)
{
    uint64_t value;

    if (number_parse(name, text, least, most, &value) != 0) {
        return -1;
    }
    *ret_value = (uint32_t) value;
    return 0;
}

static const struct engine *engine_parse(const struct plan *plan, const char *name,
                                         const char *text)
{
    char names[256] = "";

    for (const struct engine *const *engine = plan->engines; *engine; engine++) {
        size_t used = strlen(names);

        if (strcmp((*engine)->name, text) == 0) {
            return *engine;
        }
        snprintf(names + used, sizeof(names) - used, "%s%s", used > 0 ? ", " : "", (*engine)->name);
    }
    complain("--%s %s: must be one of %s", name, text, names);
    return NULL;
}

static int read_engine(struct plan *plan, const char *name, const char *text)
{
    plan->engine = engine_parse(plan, name, text);
    return plan->engine ? 0 : -1;
}

static int read_server_engine(struct plan *plan, const char *name, const char *text)
{
    plan->server_engine = engine_parse(plan, name, text);
    return plan->server_engine ? 0 : -1;
}

static int read_size(struct plan *plan, const char *name, const char *text)
{
    return number_parse32(name, text, SIZE_LEAST, SIZE_MOST, &plan->size);
}

static int read_seconds(struct plan *plan, const char *name, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (*text == '\0' || *end != '\0' || !(value >= SECONDS_LEAST && value <= SECONDS_MOST)) {
        complain("--%s %s: must be a number from %g to %g", name, text, SECONDS_LEAST,
                 SECONDS_MOST);
        return -1;
    }
    plan->seconds = value;
    return 0;
}

static int read_count(struct plan *plan, const char *name, const char *text)
{
    return number_parse(name, text, 1, COUNT_MOST, &plan->count);
}

static int read_rate(struct plan *plan, const char *name, const char *text)
{
    return number_parse(name, text, 0, RATE_MOST, &plan->rate);
}

static int read_window(struct plan *plan, const char *name, const char *text)
{
    return number_parse32(name, text, 1, WINDOW_MOST, &plan->window);
}

static int read_segments(struct plan *plan, const char *name, const char *text)
{
    return number_parse32(name, text, 1, TRAIN_SEGMENTS, &plan->segments);
}

static int read_busy_poll(struct plan *plan, const char *name, const char *text)
{
    int result = number_parse32(name, text, 0, 1000000, &plan->busy_poll_us);

    plan->never_spins = result == 0 && plan->busy_poll_us == 0;
    return result;
}

static int read_max_delay(struct plan *plan, const char *name, const char *text)
{
    plan->max_delay_given = true;
    return number_parse32(name, text, 0, 100000, &plan->max_delay_us);
}

static int read_senders(struct plan *plan, const char *name, const char *text)
{
    return number_parse32(name, text, 1, SENDERS_MOST, &plan->senders);
}

static int read_saturate(struct plan *plan, const char *name, const char *text)
{
    (void) name;
    (void) text;
    plan->rate = 0;
    return 0;
}

/* Reads "NAME=ADDRESS"; the address is the rest of the text. Returns 0, or -1. */
static int spot_parse(struct spot *spot, char *text)
{
    struct dgram_addr address;
    char *equals = strchr(text, '=');

    if (!equals || equals == text || (size_t) (equals - text) >= sizeof(spot->netns) ||
        strchr(text, '/') || dgram_addr_parse(equals + 1, 0, &address) != 0) {
        return -1;
    }
    memcpy(spot->netns, text, (size_t) (equals - text));
    spot->address = equals + 1;
    return 0;
}

/* The text is argv's, which may be written to. */
static int read_between(struct plan *plan, const char *name, const char *text)
{
    char *first = (char *) (uintptr_t) text, *comma = strchr(first, ',');

    if (comma) {
        *comma = '\0';
    }
    if (!comma || spot_parse(&plan->spots[0], first) != 0 ||
        spot_parse(&plan->spots[1], comma + 1) != 0) {
        complain("--%s: must be NAME=ADDRESS,NAME=ADDRESS: two network namespaces (ip netns) and "
                 "an address in each",
                 name);
        return -1;
    }
    return 0;
}

static int read_flood(struct plan *plan, const char *name, const char *text)
{
    return number_parse32(name, text, 0, FLOOD_MOST, &plan->flood);
}

static int read_idle_sockets(struct plan *plan, const char *name, const char *text)
{
    return number_parse32(name, text, 0, IDLE_MOST, &plan->idle_sockets);
}

static int read_mode(struct plan *plan, const char *name, const char *text)
{
    (void) name;
    plan->mode = text;
    return 0;
}

static int read_host(struct plan *plan, const char *name, const char *text)
{
    struct dgram_addr address;

    if (dgram_addr_parse(text, 0, &address) != 0) {
        complain("--%s %s: must be the text of an IP address", name, text);
        return -1;
    }
    plan->host = text;
    return 0;
}

static int read_port(struct plan *plan, const char *name, const char *text)
{
    uint32_t port;

    if (number_parse32(name, text, 0, 65535, &port) != 0) {
        return -1;
    }
    plan->port = (uint16_t) port;
    return 0;
}

static int read_distinct_sizes(struct plan *plan, const char *name, const char *text)
{
    (void) name;
    (void) text;
    plan->distinct_sizes = true;
    return 0;
}

static int read_borrow(struct plan *plan, const char *name, const char *text)
{
    (void) name;
    (void) text;
    plan->borrow = true;
    return 0;
}

static int read_no_gro(struct plan *plan, const char *name, const char *text)
{
    (void) name;
    (void) text;
    plan->no_gro = true;
    return 0;
}

static int read_in_place(struct plan *plan, const char *name, const char *text)
{
    (void) name;
    (void) text;
    plan->in_place = true;
    return 0;
}

static int read_zero_copy(struct plan *plan, const char *name, const char *text)
{
    plan->zero_copy = true;
    return read_in_place(plan, name, text);
}

static int read_json(struct plan *plan, const char *name, const char *text)
{
    (void) name;
    (void) text;
    plan->json = true;
    return 0;
}

/* ---- The table ----------------------------------------------------------------------------- */

static const struct option_entry entries[] = {
    {"engine", "NAME", "what to measure; 'dgperf peers' lists them (auto)", read_engine, FOR_RUNS},
    {"server-engine", "NAME", "of ping's own server (as --engine)", read_server_engine, FOR_PING},
    {"mode", "NAME", "how libuv and asio are used (the best, after short trials)", read_mode,
     FOR_RATE},
    {"mode", "NAME", "how libuv and asio receive (the cheapest, after short trials)", read_mode,
     FOR_COLLECT},
    {"mode", "NAME", "how libuv and asio are used (a good one)", read_mode,
     FOR_SIDES | FOR_RESPOND},
    {"host", "ADDRESS", "the server (an own one)", read_host, FOR_PING},
    {"host", "ADDRESS", "where to listen (127.0.0.1)", read_host, FOR_SERVERS},
    {"host", "ADDRESS", "where to listen (0.0.0.0)", read_host, FOR_RECV},
    {"host", "ADDRESS", "where recv listens (127.0.0.1)", read_host, FOR_SEND},
    {"port", "NUMBER", "of the server", read_port, FOR_PING},
    {"port", "NUMBER", "where to listen (any)", read_port, FOR_SERVERS | FOR_RECV},
    {"port", "NUMBER", "where recv listens; must be given", read_port, FOR_SEND},
    {"size", "BYTES", "payload of each datagram, 8 to 65507 (64)", read_size,
     FOR_RATE | FOR_PING | FOR_SEND},
    {"size", "BYTES", "payload of each datagram, 16 to 65507 (64)", read_size, FOR_COLLECT},
    {"size", "BYTES", "the sender's --size (64)", read_size, FOR_RECV},
    {"distinct-sizes", NULL, "sizes from 8 to --size, no two neighbours equal", read_distinct_sizes,
     FOR_RATE | FOR_PING | FOR_SEND},
    {"distinct-sizes", NULL, "as the sender has it", read_distinct_sizes, FOR_RECV},
    {"seconds", "NUMBER", "how long (3)", read_seconds,
     FOR_RATE | FOR_PING | FOR_SEND | FOR_COLLECT},
    {"seconds", "NUMBER", "how long (until Ctrl-C)", read_seconds, FOR_SERVERS},
    {"seconds", "NUMBER", "how long (until the sender's end)", read_seconds, FOR_RECV},
    {"count", "NUMBER", "how many datagrams, in place of --seconds", read_count, FOR_NUMBERS},
    {"rate", "NUMBER", "datagrams a second; 0: as fast as it goes (0)", read_rate, FOR_SEND},
    {"rate", "NUMBER", "datagrams a second on average; 0: as fast as it goes (20000)", read_rate,
     FOR_COLLECT},
    {"saturate", NULL, "the same as --rate 0", read_saturate, FOR_COLLECT},
    {"senders", "NUMBER", "sockets that send them in turn, 1 to 1024 (8)", read_senders,
     FOR_COLLECT},
    {"window", "NUMBER", "datagrams under way (half the receive buffer, at most 16384; ping: 1)",
     read_window, FOR_RATE | FOR_PING},
    {"segments", "NUMBER", "datagrams a train may hold, 1 to 128; 1: no trains", read_segments,
     FOR_TRAINS},
    {"busy-poll", "MICROSECONDS",
     "look so long for datagrams before sleeping (the library: as long as it pays; others: 0)",
     read_busy_poll, FOR_RUNS},
    {"max-delay", "MICROSECONDS",
     "the library may let datagrams wait so long for others, 0 to 100000 (0)", read_max_delay,
     FOR_RUNS},
    {"between", "A=ADDRESS,B=ADDRESS",
     "in these network namespaces: sender or client, receiver or server", read_between,
     FOR_RATE | FOR_PING | FOR_COLLECT},
    {"flood", "NUMBER", "datagrams to another socket of the own server before each request (0)",
     read_flood, FOR_PING},
    {"idle-sockets", "NUMBER", "silent ones beside the receiver; the library's engines only (0)",
     read_idle_sockets, FOR_STREAM},
    {"borrow", NULL, "send with a callback and lent bytes; the library's engines only", read_borrow,
     FOR_RATE | FOR_SEND},
    {"in-place", NULL, "write datagrams into buffers of the library and send them from there",
     read_in_place, FOR_STREAM | FOR_SEND},
    {"zero-copy", NULL, "the same, and have the network card read the buffers if it can",
     read_zero_copy, FOR_STREAM | FOR_SEND},
    {"no-gro", NULL, "receive without UDP_GRO: datagrams one by one; the library's engines only",
     read_no_gro, FOR_RUNS},
    {"json", NULL, "print one line of JSON", read_json, FOR_RUNS | FOR_PEERS},
};

#define ENTRIES (sizeof(entries) / sizeof(entries[0]))
#define HELP ((int) ENTRIES) /* the index of --help, after the entries */

static const struct {
    uint32_t commands;
    const char *text;
} notes[] = {
    {FOR_RATE,
     "\nRates count what was received. CPU figures are of the sending and the receiving\n"
     "thread (of node: its process), user and system; what the sender spends waiting for\n"
     "credit is not in them (JSON: send_wait_ns)."},
    {FOR_PING,
     "\nNode's client takes the times itself; its rate and CPU include the pipe to dgperf.\n"
     "With --busy-poll a server of another engine that cannot spin sleeps.\n"
     "JSON: rtt_ns.percentiles is a list of pairs, percentile and nanoseconds, at 10, 20 ...\n"
     "90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.98 and 99.99 (above what the number of\n"
     "round trips can tell: the longest)."},
    {FOR_COLLECT,
     "\nThe senders are plain sockets of one thread that never sleeps; the gaps between their\n"
     "datagrams are exponential and the same in every run. The receiver has the first CPU, the\n"
     "senders the second. CPU is the receiver's thread (of node: its process), user and system,\n"
     "and includes what reading the clock for each datagram takes; delays are from just before\n"
     "sendto() to the receiver's callback. Sent CPU is without the senders' busy waiting (JSON:\n"
     "send_wait_ns). turns: how often the receiver's loop went round; wakeups: how often its\n"
     "thread had slept; null of node. With --saturate a loss is a result and no failure."},
    {FOR_RESPOND,
     "\nAnswers each question for an A record with 127.0.0.1; what else is a query with no data.\n"
     "A client for it: scripts/bench_respond, which runs dnsperf."},
    {FOR_SEND,
     "\nThere is no credit between two machines: without --rate it sends as fast as it\n"
     "goes, and what recv cannot take is lost. What was received only recv can tell (JSON\n"
     "here: null). The numbers carry a mark of this run, by which recv tells it from\n"
     "others; its end, after Ctrl-C too, is told by a few datagrams more, which\n"
     "kernel_sends counts too."},
    {FOR_RECV, "\nEnds when the sender tells its end, or after 5 s of silence since the last\n"
               "datagram; with --count also when so many have come or are known to be lost; with\n"
               "--seconds then, and not before, through all runs; with Ctrl-C always. A sender\n"
               "started anew is told by its mark and is no disorder; two at once are."},
    {FOR_RUNS,
     "\nJSON: kernel_sends is how often the library gave the kernel something, a datagram or\n"
     "a whole train, on the side that counts as having sent; kernel_receives how often it\n"
     "took something. null: of other engines, and of a side that runs elsewhere."},
};

#define NOTES (sizeof(notes) / sizeof(notes[0]))

static void help(const struct command *command)
{
    printf("usage: dgperf %s [OPTION]...\n\n%s\n\n", command->name, command->summary);
    for (size_t i = 0; i < ENTRIES; i++) {
        char name[48];

        if (entries[i].commands & command->bit) {
            snprintf(name, sizeof(name), "--%s%s%s", entries[i].name, entries[i].value ? " " : "",
                     entries[i].value ? entries[i].value : "");
            printf("  %-24s %s\n", name, entries[i].help);
        }
    }
    for (size_t i = 0; i < NOTES; i++) {
        if (notes[i].commands & command->bit) {
            puts(notes[i].text);
        }
    }
}

/* Fills in the long options of this command only: getopt_long() does not know those of others. */
static void long_options_fill(const struct command *command, struct option *options)
{
    size_t used = 0;

    for (size_t i = 0; i < ENTRIES; i++) {
        if (entries[i].commands & command->bit) {
            options[used++] = (struct option){
                .name = entries[i].name,
                .has_arg = entries[i].value ? required_argument : no_argument,
                .val = (int) i,
            };
        }
    }
    options[used++] = (struct option){.name = "help", .has_arg = no_argument, .val = HELP};
    options[used] = (struct option){.name = NULL};
}

/* ---- Reading ------------------------------------------------------------------------------- */

/* Takes the option that getopt_long() found. Returns 0, an exit code, or -1 after help. */
static int option_take(const struct command *command, char **argv, int found, struct plan *plan)
{
    if (found == HELP) {
        help(command);
        return -1;
    }
    if (found == '?') {
        complain("%s %s: no such option; try 'dgperf %s --help'", command->name, argv[optind - 1],
                 command->name);
        return EXIT_USAGE;
    }
    if (found == ':') {
        complain("%s %s: needs a value", command->name, argv[optind - 1]);
        return EXIT_USAGE;
    }
    return entries[found].read(plan, entries[found].name, optarg) == 0 ? 0 : EXIT_USAGE;
}

static int options_take(const struct command *command, int argc, char **argv, struct plan *plan)
{
    struct option options[ENTRIES + 2];
    int found;

    long_options_fill(command, options);
    opterr = 0;
    while ((found = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        int code = option_take(command, argv, found, plan);

        if (code != 0) {
            return code;
        }
    }
    if (optind < argc) {
        complain("%s: '%s' is no option", command->name, argv[optind]);
        return EXIT_USAGE;
    }
    return 0;
}

int options_read(const struct command *command, const struct engine *const *engines, int argc,
                 char **argv, struct plan *plan)
{
    bool server_given;
    int code;

    *plan = (struct plan){
        .engines = engines,
        .engine = engines[0],
        .scenario = command->name,
        .size = 64,
        .peers = command->bit == FOR_FANOUT ? FANOUT_PEERS : 1,
        .rate = command->bit == FOR_COLLECT ? RATE_DEFAULT : 0,
        .senders = command->bit == FOR_COLLECT ? SENDERS_DEFAULT : 0,
    };
    code = options_take(command, argc, argv, plan);
    if (code != 0) {
        return code;
    }
    server_given = plan->server_engine != NULL;
    if (!server_given) {
        plan->server_engine = plan->engine;
    }
    code = plan_check(command, plan, server_given);
    if (code == 0 && plan->seconds <= 0 && plan->count == 0 &&
        !(command->bit & (FOR_SERVERS | FOR_RECV))) {
        plan->seconds = SECONDS_DEFAULT;
    }
    return code;
}
