/* SPDX-License-Identifier: MIT */
/*
 * ping.c: `ping`: round trips against an echo server.
 *
 * Owns the requests under way, their clocks and the percentiles. `--window` requests are under way
 * at a time, each in a slot; slot s carries the numbers s, s + window, s + 2 window, ...
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/harness/process.h"
#include "bench/harness/report.h"
#include "bench/harness/times.h"
#include "bench/scenarios/scenarios.h"
#include "bench/scenarios/server.h"

#define RETRANSMIT_NS (UINT64_C(200) * 1000000)
#define SCAN_NS (UINT64_C(10) * 1000000) /* how often slots are looked through */
#define GIVE_UP_NS (UINT64_C(5) * 1000000000)

#define FLOOD_BYTES 64

struct slot {
    uint64_t number; /* under way, or the next */
    uint64_t sent_at;
    bool open;
    bool repeated; /* the reply may be to the first request, so its time means nothing */
};

struct ping {
    const struct plan *plan;
    struct crew crew;
    struct side client;
    struct server server;
    bool own_server;
    _Atomic bool served; /* the client is done, the server may end */
    struct sizes sizes;
    struct dgram_addr peer, flooded; /* the server's sockets */
    uint32_t window;

    /* The client thread's. */
    struct slot *slots;
    uint8_t *payload;
    uint8_t flood_payload[FLOOD_BYTES];
    uint32_t open;   /* slots with a request under way */
    uint64_t issued; /* different requests */
    uint64_t sent;   /* with repetitions */
    uint64_t replies;
    uint64_t bytes;
    uint64_t lost;
    uint64_t corrupt;
    uint64_t scanned_at;
    uint64_t last_reply; /* clock_now() */
    bool failed;
    struct hdr_histogram *times; /* of round trips, in nanoseconds */

    _Atomic uint64_t live_replies;
    _Atomic uint64_t live_lost;
};

/* ---- The flood ----------------------------------------------------------------------------- */

/* Queues the flood, which leaves with the request, so the server finds both in one turn. */
static void flood_send(struct ping *ping)
{
    struct end *end = &ping->client.end;

    number_write(ping->flood_payload, FLOOD_MARK);
    for (uint32_t i = 0; i < ping->plan->flood; i++) {
        if (end->engine->reply(end, &ping->flooded, ping->flood_payload, FLOOD_BYTES) < 0) {
            ping->failed = true;
        }
    }
}

/* ---- Requests ------------------------------------------------------------------------------ */

/* Sends a request. Without room in the queue it counts as sent and lost, and is repeated. */
static void slot_send(struct ping *ping, struct slot *slot, uint64_t now)
{
    struct end *end = &ping->client.end;
    uint32_t size = sizes_of(&ping->sizes, slot->number, 0);

    number_write(ping->payload, slot->number);
    slot->sent_at = now;
    ping->sent++;
    if (end->engine->reply(end, &ping->peer, ping->payload, size) < 0) {
        ping->failed = true;
    }
}

static bool may_issue(const struct ping *ping, uint64_t now)
{
    uint64_t count = ping->plan->count;

    return (count == 0 || ping->issued < count) && !crew_stopped(&ping->crew) &&
           !crew_time_over(&ping->crew, now);
}

static void slot_issue(struct ping *ping, struct slot *slot, uint64_t now)
{
    if (!may_issue(ping, now)) {
        return;
    }
    slot->open = true;
    slot->repeated = false;
    ping->open++;
    ping->issued++;
    if (ping->plan->flood > 0) {
        flood_send(ping);
        now = clock_now();
    }
    slot_send(ping, slot, now);
}

/* Returns the slot whose request this answers, or NULL. */
static struct slot *slot_answered(struct ping *ping, const void *data, uint32_t size)
{
    struct slot *slot;
    uint64_t number;

    if (size < SIZE_LEAST) {
        ping->corrupt++;
        return NULL;
    }
    number = number_read(data);
    slot = &ping->slots[number % ping->window];
    if (size != sizes_of(&ping->sizes, number, 0) || number > slot->number) {
        ping->corrupt++;
        return NULL;
    }
    /* A lower number is the second reply to a request that was repeated. */
    return slot->open && number == slot->number ? slot : NULL;
}

static void on_reply(struct end *end, const struct dgram_addr *from, const void *data,
                     uint32_t size)
{
    struct ping *ping = end->user;
    uint64_t now = clock_now();
    struct slot *slot = slot_answered(ping, data, size);

    (void) from;
    if (!slot) {
        return;
    }
    ping->last_reply = now;
    ping->replies++;
    ping->bytes += size;
    ping->open--;
    slot->open = false;
    slot->number += ping->window;
    if (!slot->repeated) {
        uint64_t elapsed = end->elapsed_ns > 0 ? end->elapsed_ns : now - slot->sent_at;

        times_add(ping->times, elapsed);
    }
    slot_issue(ping, slot, now);
}

/* Repeats requests that have had no reply for too long. */
static void slots_scan(struct ping *ping, uint64_t now)
{
    if (now - ping->scanned_at < SCAN_NS) {
        return;
    }
    ping->scanned_at = now;
    for (uint32_t i = 0; i < ping->window; i++) {
        struct slot *slot = &ping->slots[i];

        if (slot->open && now - slot->sent_at > RETRANSMIT_NS) {
            ping->lost++;
            slot->repeated = true;
            slot_send(ping, slot, now);
        }
    }
    atomic_store_explicit(&ping->live_replies, ping->replies, memory_order_relaxed);
    atomic_store_explicit(&ping->live_lost, ping->lost, memory_order_relaxed);
}

/* ---- The client ---------------------------------------------------------------------------- */

/* Returns whether all is answered and nothing more is to be asked, or nothing answers any more. */
static bool client_is_over(const struct ping *ping, uint64_t now)
{
    uint64_t patience = may_issue(ping, now) ? GIVE_UP_NS : SILENCE_NS;

    return ping->open == 0 || now - ping->last_reply > patience;
}

static int client_loop(struct ping *ping)
{
    struct end *end = &ping->client.end;
    uint64_t now = ping->crew.started;

    ping->last_reply = now;
    for (uint32_t i = 0; i < ping->window; i++) {
        slot_issue(ping, &ping->slots[i], clock_now());
    }
    while (!client_is_over(ping, now)) {
        if (end->engine->turn(end, true) != 0 || ping->failed) {
            return -1;
        }
        now = clock_now();
        slots_scan(ping, now);
    }
    ping->lost += ping->open;
    return 0;
}

static int client_work(struct side *side)
{
    struct ping *ping = side->run;
    int result = client_loop(ping);

    atomic_store(&ping->served, true);
    return result;
}

/* ---- The run ------------------------------------------------------------------------------- */

static void ping_live(void *user, double elapsed, char *text, size_t room)
{
    struct ping *ping = user;
    uint64_t replies = atomic_load_explicit(&ping->live_replies, memory_order_relaxed);
    uint64_t lost = atomic_load_explicit(&ping->live_lost, memory_order_relaxed);
    double rate = (double) replies / (elapsed > 0 ? elapsed : 1);
    double left = crew_time_left(&ping->crew, elapsed);

    if (left < 0) {
        left = rate > 0 ? (double) (ping->plan->count - replies) / rate : 0;
    }
    snprintf(text, room, "ping %s: %.1f k/s, %" PRIu64 " lost, %.0f s left",
             ping->client.end.engine_name, rate / 1e3, lost, left);
}

static void ping_result(const struct ping *ping, struct result *result)
{
    double seconds = (double) (ping->last_reply - ping->crew.started) / 1e9;

    *result = (struct result){
        .engine = ping->client.end.engine_name,
        .mode = ping->client.end.mode,
        .server = ping->own_server ? ping->server.side.end.engine_name : NULL,
        .size = ping->plan->size,
        .window = ping->window,
        .segments = ping->client.end.train,
        .sent = ping->sent,
        .received = ping->replies,
        .bytes = ping->bytes,
        .lost = ping->lost,
        .corrupt = ping->corrupt,
        .kernel_sends = ping->client.end.kernel_sends,
        .kernel_receives = ping->client.end.kernel_receives,
        .sender = {.seconds = seconds, .cpu_ns = ping->client.cpu_ns, .known = true},
        .receiver = {.seconds = seconds,
                     .cpu_ns = ping->server.side.cpu_ns,
                     .known = ping->own_server},
        .times = times_read(ping->times),
    };
}

static void ping_init(struct ping *ping, const struct plan *plan)
{
    ping->plan = plan;
    ping->window = plan->window > 0 ? plan->window : 1;
    crew_init(&ping->crew, plan);
    sizes_fill(&ping->sizes, plan);
    atomic_init(&ping->served, false);
    atomic_init(&ping->live_replies, 0);
    atomic_init(&ping->live_lost, 0);
    end_init(&ping->client.end, &ping->crew, plan->engine, ROLE_CLIENT);
    ping->client.end.peers = &ping->peer;
    ping->client.end.sizes = &ping->sizes;
    ping->client.end.on_datagram = on_reply;
    ping->client.end.user = ping;
    ping->client.work = client_work;
    ping->client.run = ping;
    ping->client.name = "client";
    ping->own_server = !plan->host;
    server_init(&ping->server, &ping->crew, plan->server_engine, false);
    ping->server.flooded = plan->flood > 0;
    ping->server.side.end.sockets = plan->flood > 0 ? 2 : 1;
    ping->server.side.end.stop = &ping->served; /* it outlives the last request */
}

static int ping_memory(struct ping *ping)
{
    ping->slots = calloc(ping->window, sizeof(*ping->slots));
    ping->payload = calloc(1, ping->plan->size);
    ping->times = times_open();
    if (!ping->slots || !ping->payload || !ping->times) {
        complain("not enough memory");
        return -1;
    }
    for (uint32_t i = 0; i < ping->window; i++) {
        ping->slots[i].number = i;
    }
    return 0;
}

/* Sets the server's address and, for another host, a local address that reaches it. */
static int peer_find(struct ping *ping)
{
    const struct plan *plan = ping->plan;
    struct dgram_addr *own = &ping->client.end.bind_to;

    if (ping->own_server) {
        if (side_start(&ping->crew, &ping->server.side) != 0) {
            return EXIT_BAD_RUN;
        }
        ping->peer = ping->server.side.end.local[0];
        ping->flooded = ping->server.side.end.local[1];
        return 0;
    }
    if (dgram_addr_parse(plan->host, plan->port, &ping->peer) != 0) {
        complain("--host %s: must be the text of an IP address", plan->host);
        return EXIT_USAGE;
    }
    dgram_addr_parse(ping->peer.u.any.sa_family == AF_INET6 ? "::" : "0.0.0.0", 0, own);
    return 0;
}

/* Returns 0, or an exit code after saying why. */
static int ping_run(struct ping *ping)
{
    struct side *const sides[] = {&ping->client, &ping->server.side};
    int failed;
    int code = peer_find(ping);

    if (code != 0) {
        return code;
    }
    failed = side_start(&ping->crew, &ping->client);
    if (failed == 0) {
        crew_go(&ping->crew);
        crew_watch(&ping->crew, sides, ping->own_server ? 2 : 1, ping_live, ping);
    }
    atomic_store(&ping->served, true);
    failed |= side_join(&ping->client);
    failed |= side_join(&ping->server.side);
    return failed == 0 ? 0 : EXIT_BAD_RUN;
}

static int engines_check(const struct plan *plan)
{
    int code = engine_check(plan, plan->engine);

    if (code == 0 && !plan->host && plan->server_engine != plan->engine) {
        code = engine_check(plan, plan->server_engine);
    }
    return code;
}

int ping_main(const struct plan *plan)
{
    static struct ping ping;
    struct result result;
    int code = engines_check(plan);

    if (code != 0) {
        return code;
    }
    ping_init(&ping, plan);
    interrupts_catch();
    code = ping_memory(&ping) == 0 ? ping_run(&ping) : EXIT_BAD_RUN;
    if (code == 0) {
        ping_result(&ping, &result);
        report(plan, &result);
        code = result_verdict(&result);
    }
    crew_destroy(&ping.crew);
    times_close(ping.times);
    free(ping.payload);
    free(ping.slots);
    return code;
}
