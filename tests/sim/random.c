/* SPDX-License-Identifier: MIT */
/*
 * random.c: chance, the log of a run of which only a hash is kept, and broken rules.
 */
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t sim_random_next(struct sim_random *random)
{
    uint64_t z = random->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint32_t sim_random_below(struct sim_random *random, uint32_t bound)
{
    return bound == 0 ? 0 : (uint32_t) ((sim_random_next(random) >> 32) * bound >> 32);
}

bool sim_random_chance(struct sim_random *random, uint32_t permille)
{
    return permille > 0 && sim_random_below(random, 1000) < permille;
}

uint32_t sim_below(uint32_t bound)
{
    return sim_random_below(&sim_world.random, bound);
}

bool sim_chance(uint32_t permille)
{
    return sim_random_chance(&sim_world.random, permille);
}

static void hash_add(uint64_t value)
{
    sim_world.hash = (sim_world.hash ^ value) * 0x100000001b3u;
    sim_world.hash ^= sim_world.hash >> 29;
}

void sim_log(const char *what, uint64_t one, uint64_t two)
{
    for (const char *c = what; *c != '\0'; c++) {
        hash_add((unsigned char) *c);
    }
    hash_add(one);
    hash_add(two);
    if (sim_world.trace) {
        fprintf(stderr, "%12llu %-20s %llu %llu\n", (unsigned long long) sim_world.now, what,
                (unsigned long long) one, (unsigned long long) two);
    }
}

uint64_t sim_hash(void)
{
    return sim_world.hash;
}

void sim_rule(bool kept, const char *text)
{
    if (!kept) {
        sim_log(text, 0, 0);
        sim_world.hooks.broken(sim_world.hooks.user, text);
    }
}

void sim_give_up(const char *text)
{
    fprintf(stderr, "sim: %s (seed %llu)\n", text, (unsigned long long) sim_world.seed);
    abort();
}
