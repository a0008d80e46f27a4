/* SPDX-License-Identifier: MIT */
/*
 * peers.c: `peers`: which engines can run here, and why not.
 */
#include <cjson/cJSON.h>
#include <stdio.h>

#include "bench/harness/engine.h"
#include "bench/harness/report.h"
#include "bench/scenarios/scenarios.h"

static void peer_print(const struct engine *engine, bool here, const char *why)
{
    printf("%-10s %-4s %s\n", engine->name, here ? "yes" : "no", engine->summary);
    if (!here) {
        printf("%-10s %-4s %s\n", "", "", why);
    }
}

static void peer_put(cJSON *list, const struct engine *engine, bool here, const char *why)
{
    cJSON *entry = cJSON_CreateObject();

    cJSON_AddStringToObject(entry, "engine", engine->name);
    cJSON_AddStringToObject(entry, "summary", engine->summary);
    cJSON_AddBoolToObject(entry, "available", here);
    cJSON_AddStringToObject(entry, "why", why);
    cJSON_AddItemToArray(list, entry);
}

int peers_main(const struct plan *plan)
{
    cJSON *object = cJSON_CreateObject();
    cJSON *list;

    cJSON_AddStringToObject(object, "scenario", plan->scenario);
    list = cJSON_AddArrayToObject(object, "peers");
    for (const struct engine *const *engine = plan->engines; *engine; engine++) {
        char why[256] = "";
        bool here = engine_available(*engine, why, sizeof(why)) == 0;

        if (plan->json) {
            peer_put(list, *engine, here, why);
        } else {
            peer_print(*engine, here, why);
        }
    }
    if (plan->json) {
        report_json(object);
    } else {
        cJSON_Delete(object);
    }
    return EXIT_GOOD;
}
