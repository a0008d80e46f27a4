/* SPDX-License-Identifier: MIT */
/*
 * server.c: the server, and the subcommands `echo` and `respond`.
 *
 * Owns the counters of datagrams that come in and go back out. Looks into a datagram only for
 * FLOOD_MARK, with which it is not to go back (--flood); dns.c makes the answers of `respond`.
 */
#include "bench/scenarios/server.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "bench/harness/process.h"
#include "bench/harness/report.h"
#include "bench/scenarios/dns.h"
#include "bench/scenarios/scenarios.h"

static void server_take(struct end *end, const struct dgram_addr *from, const void *data,
                        uint32_t size)
{
    struct server *server = end->user;
    uint8_t answer[SERVER_ANSWER_MOST];
    int result = 0;

    if (server->flooded && size >= SIZE_LEAST && number_read(data) & FLOOD_MARK) {
        return;
    }
    server->received++;
    server->bytes += size;
    if (server->answer) {
        size = server->answer(data, size, answer);
        data = answer;
        server->senseless += size == 0;
    }
    if (size > 0 || !server->answer) {
        result = end->engine->reply(end, from, data, size);
    }
    if (result > 0) {
        server->dropped++;
    } else if (result < 0) {
        server->side.failed = true;
    }
}

static bool server_is_over(const struct server *server)
{
    const struct side *side = &server->side;

    return end_stopped(&side->end) || (server->timed && crew_time_over(side->crew, clock_now()));
}

static int server_work(struct side *side)
{
    struct server *server = side->run;
    uint64_t seen = 0;

    while (!server_is_over(server)) {
        if (side->end.engine->turn(&side->end, true) != 0 || side->failed) {
            return -1;
        }
        if (server->received != seen) {
            seen = server->received;
            server->last_ns = clock_now() - side->crew->started;
            atomic_store_explicit(&server->received_live, seen, memory_order_relaxed);
            atomic_store_explicit(&server->dropped_live, server->dropped, memory_order_relaxed);
        }
    }
    return 0;
}

void server_init(struct server *server, struct crew *crew, const struct engine *engine, bool timed)
{
    memset(server, 0, sizeof(*server));
    atomic_init(&server->received_live, 0);
    atomic_init(&server->dropped_live, 0);
    end_init(&server->side.end, crew, engine, ROLE_SERVER);
    server->side.end.on_datagram = server_take;
    server->side.end.user = server;
    server->side.work = server_work;
    server->side.run = server;
    server->side.name = "server";
    server->side.place = 1;
    server->timed = timed;
}

/* ---- echo and respond ---------------------------------------------------------------------- */

static void serve_live(void *user, double elapsed, char *text, size_t room)
{
    struct server *server = user;
    uint64_t received = atomic_load_explicit(&server->received_live, memory_order_relaxed);
    uint64_t dropped = atomic_load_explicit(&server->dropped_live, memory_order_relaxed);
    double left = crew_time_left(server->side.crew, elapsed);

    snprintf(text, room, "%s %s: %.1f k/s, %" PRIu64 " received, %" PRIu64 " dropped",
             server->side.end.plan->scenario, server->side.end.engine_name,
             (double) received / (elapsed > 0 ? elapsed : 1) / 1e3, received, dropped);
    live_add_left(text, room, left);
}

static void serve_result(const struct server *server, struct result *result)
{
    double seconds = (double) server->last_ns / 1e9;

    *result = (struct result){
        .engine = server->side.end.engine_name,
        .mode = server->side.end.mode,
        .segments = server->side.end.train,
        .sent = server->received - server->dropped - server->senseless,
        .received = server->received,
        .bytes = server->bytes,
        .lost = server->dropped,
        .corrupt = server->senseless,
        .kernel_sends = server->side.end.kernel_sends,
        .kernel_receives = server->side.end.kernel_receives,
        .sender = {.seconds = seconds},
        .receiver = {.seconds = seconds, .cpu_ns = server->side.cpu_ns, .known = true},
    };
}

static int serve_run(const struct plan *plan, struct crew *crew, struct server *server)
{
    struct side *const sides[] = {&server->side};
    struct result result;

    if (side_start(crew, &server->side) != 0) {
        return EXIT_BAD_RUN;
    }
    if (end_announce(&server->side.end) == 0) {
        crew_go(crew);
        crew_watch(crew, sides, 1, serve_live, server);
    }
    if (side_join(&server->side) != 0) {
        return EXIT_BAD_RUN;
    }
    serve_result(server, &result);
    report(plan, &result);
    return result.lost == 0 ? EXIT_GOOD : EXIT_BAD_RUN;
}

static int serve(const struct plan *plan, server_answer_fn *answer)
{
    static struct server server;
    struct crew crew;
    int code = engine_check(plan, plan->engine);

    if (code != 0) {
        return code;
    }
    crew_init(&crew, plan);
    server_init(&server, &crew, plan->engine, true);
    server.answer = answer;
    server.side.place = answer ? 0 : 1; /* ping, in another process, has the first CPU, too */
    server.side.end.mode = plan->mode ? plan->mode : server.side.end.mode;
    if (dgram_addr_parse(plan->host ? plan->host : "127.0.0.1", plan->port,
                         &server.side.end.bind_to) != 0) {
        complain("--host %s: must be the text of an IP address", plan->host);
        return EXIT_USAGE;
    }
    interrupts_catch();
    code = serve_run(plan, &crew, &server);
    crew_destroy(&crew);
    return code;
}

int echo_main(const struct plan *plan)
{
    return serve(plan, NULL);
}

int respond_main(const struct plan *plan)
{
    static_assert(DNS_ANSWER_MOST <= SERVER_ANSWER_MOST, "an answer must fit");
    return serve(plan, dns_answer);
}
