/* SPDX-License-Identifier: MIT */
/* calls_sim.c: a program of public calls on the simulated kernel, whose faults the input picks. */
#include <errno.h>

#include "tests/fuzz/program.h"
#include "tests/sim/sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void broken(void *user, const char *rule)
{
    (void) user;
    must(false, rule);
}

/* The engine breaks, or sockets get no room. */
static void fail(uint32_t kind, uint32_t n, uint32_t length)
{
    if (kind < 8) {
        sim_break(1 + n, -EIO);
    } else if (sim_last_socket() > 0) {
        sim_no_room(1 + n % sim_last_socket(), (kind & 1) != 0 ? -ENOBUFS : -EAGAIN,
                    sim_now() + length * UINT64_C(1000000));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct world world = {sim_loop_create, fail, sim_calm, false};
    static const struct sim_hooks hooks = {.broken = broken};
    struct bytes bytes = {data, size};
    struct sim_random random = {bytes_take_two(&bytes)};
    struct sim_faults faults = {0};
    if (random.state % 4 != 0) {
        sim_faults_random(&random, &faults);
    }
    sim_open(random.state, &faults, &hooks);
    program_run(&world, bytes);
    sim_close();
    return 0;
}
