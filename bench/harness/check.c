/* SPDX-License-Identifier: MIT */
/*
 * check.c: options that do not go together, and those that an engine lacks.
 *
 * Owns the complaints about them. Reads a plan, and never changes one.
 */
#include "bench/harness/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench/harness/engine.h"
#include "bench/harness/process.h"

static bool mode_exists(const char *const *modes, const char *mode)
{
    while (modes && *modes && strcmp(*modes, mode) != 0) {
        modes++;
    }
    return modes && *modes;
}

static int mode_check(const struct plan *plan)
{
    bool receives = plan->senders > 0;
    const char *const *modes = receives ? plan->engine->receive_modes : plan->engine->modes;

    if (!plan->mode || mode_exists(modes, plan->mode)) {
        return 0;
    }
    complain("--mode %s: not a mode of engine %s", plan->mode, plan->engine->name);
    for (const char *const *mode = modes; mode && *mode; mode++) {
        complain("  --mode %s is one", *mode);
    }
    return EXIT_USAGE;
}

/* Writes the names of the engines that have one of ENGINE_..., "auto, uring, poll". Returns
 * `text`. */
static const char *engines_with(const struct plan *plan, uint32_t trait, char *text, size_t room)
{
    text[0] = '\0';
    for (const struct engine *const *engine = plan->engines; *engine; engine++) {
        size_t used = strlen(text);

        if ((*engine)->traits & trait) {
            snprintf(text + used, room - used, "%s%s", used > 0 ? ", " : "", (*engine)->name);
        }
    }
    return text;
}

/* Refuses options that the engine lacks: they would change nothing. */
static int traits_check(const struct plan *plan, const struct engine *engine)
{
    bool client_only = engine != plan->engine; /* ping's server sleeps if it cannot spin */
    const struct {
        const char *option;
        bool given;
        uint32_t trait;
    } choices[] = {
        {"--busy-poll", plan->busy_poll_us > 0 && !client_only, ENGINE_BUSY_POLL},
        {"--segments", plan->segments > 1, ENGINE_TRAINS},
        {"--borrow", plan->borrow, ENGINE_BORROWS},
        {"--no-gro", plan->no_gro, ENGINE_BORROWS},
        {"--zero-copy", plan->zero_copy, ENGINE_BORROWS},
        {"--in-place", plan->in_place, ENGINE_BORROWS},
        {"--idle-sockets", plan->idle_sockets > 0, ENGINE_IDLE},
        {"--max-delay", plan->max_delay_given && !client_only, ENGINE_DELAYS},
        {"--flood", plan->flood > 0, ENGINE_FLOOD},
        {"respond", strcmp(plan->scenario, "respond") == 0, ENGINE_ANSWERS},
    };
    char names[256];

    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
        if (choices[i].given && !(engine->traits & choices[i].trait)) {
            complain("%s: engine %s has no such choice; these have: %s", choices[i].option,
                     engine->name, engines_with(plan, choices[i].trait, names, sizeof(names)));
            return EXIT_USAGE;
        }
    }
    return 0;
}

static int engine_options_check(const struct plan *plan, const struct engine *engine)
{
    if (plan->borrow && plan->in_place) {
        complain("--borrow and --in-place exclude each other");
        return EXIT_USAGE;
    }
    return traits_check(plan, engine) == 0 ? mode_check(plan) : EXIT_USAGE;
}

static int ping_options_check(const struct plan *plan, bool server_given)
{
    if (plan->port > 0 && !plan->host) {
        complain("--port needs --host: without it ping starts a server of its own");
        return EXIT_USAGE;
    }
    if (plan->host && plan->port == 0) {
        complain("--host needs --port, from 1 to 65535");
        return EXIT_USAGE;
    }
    if (plan->host && (plan->flood > 0 || plan->spots[0].address)) {
        complain("--host excludes --flood and --between: they need a server of its own");
        return EXIT_USAGE;
    }
    if (plan->host && server_given) {
        complain("--server-engine and --host exclude each other");
        return EXIT_USAGE;
    }
    return plan->host ? 0 : engine_options_check(plan, plan->server_engine);
}

static int send_options_check(const struct plan *plan)
{
    if (plan->port == 0) {
        complain("send needs --port, from 1 to 65535: where recv listens");
        return EXIT_USAGE;
    }
    return 0;
}

int plan_check(const struct command *command, const struct plan *plan, bool server_given)
{
    int code = engine_options_check(plan, plan->engine);

    if (code != 0) {
        return code;
    }
    if (plan->seconds > 0 && plan->count > 0) {
        complain("--seconds and --count exclude each other");
        return EXIT_USAGE;
    }
    if (plan->distinct_sizes && plan->size == SIZE_LEAST) {
        complain("--distinct-sizes needs --size from %u to %u", SIZE_LEAST + 1, SIZE_MOST);
        return EXIT_USAGE;
    }
    if (command->bit == FOR_COLLECT && plan->size < SIZE_STAMPED) {
        complain("--size %" PRIu32 ": collect needs %u to %u: a number and a time are in each",
                 plan->size, SIZE_STAMPED, SIZE_MOST);
        return EXIT_USAGE;
    }
    if (command->bit == FOR_SEND) {
        return send_options_check(plan);
    }
    return command->bit == FOR_PING ? ping_options_check(plan, server_given) : 0;
}
