/* SPDX-License-Identifier: MIT */
/*
 * faults.c: what goes wrong: of random strength, or as a test says. What a destination refuses is a
 * function of its address and the seed.
 */
#include "tests/sim/world.h"

#include <string.h>

void sim_break(uint32_t calls, int code)
{
    sim_world.faults.breaks = calls;
    sim_world.engine_calls = 0;
    sim_world.break_code = code;
}

void sim_delay(uint32_t ns)
{
    sim_world.faults.delay_ns = ns;
}

static uint32_t some(struct sim_random *random, uint32_t share, uint32_t most)
{
    return sim_random_chance(random, share) ? 1 + sim_random_below(random, most) : 0;
}

void sim_faults_random(struct sim_random *random, struct sim_faults *faults)
{
    *faults = (struct sim_faults){
        .loss = some(random, 300, 200),
        .duplicate = some(random, 300, 100),
        .delay_ns = some(random, 700, 100000),
        .reorder = sim_random_chance(random, 120),
        .recut = some(random, 600, 700),
        .merge = some(random, 500, 500),
        .icmp = some(random, 500, 800),
        .eagain = some(random, 600, 250),
        .nobufs = some(random, 400, 100),
        .transient = some(random, 200, 60),
        .refuse = some(random, 400, 200),
        .refusing = some(random, 500, 500),
        .loan_refused = some(random, 400, 300),
        .loan_unused = some(random, 400, 300),
        .loan_copied = some(random, 500, 200),
        .loan_ns = some(random, 700, 3000000),
        .deferred = sim_random_chance(random, 500),
        .early = some(random, 500, 300),
        .postpone = some(random, 600, 700),
        .stop = some(random, 500, 200),
        .stop_error = some(random, 400, 400),
        .starves = sim_random_chance(random, 400),
        .stop_late = some(random, 600, 1000),
        .stop_silent = some(random, 500, 1000),
        .late_ns = some(random, 600, 30000),
        .in_flush = some(random, 600, 900),
        .no_pollable = some(random, 200, 500),
        .breaks = some(random, 60, 3000),
        .no_refusal = some(random, 300, 1000),
        .setup = some(random, 250, 60),
        .bind = some(random, 400, 200),
        .memory = some(random, 150, 40),
    };
}

static uint64_t mixed(uint64_t number, uint64_t with)
{
    struct sim_random random = {number ^ with};
    return sim_random_next(&random);
}

uint64_t sim_address_number(const struct dgram_addr *address, uint64_t salt)
{
    uint64_t number = mixed(mixed(sim_world.seed, salt), sim_port_of(address));
    if (address->u.any.sa_family == AF_INET) {
        return mixed(number, address->u.in4.sin_addr.s_addr);
    }
    for (int i = 0; i < 16; i++) {
        number = mixed(number, address->u.in6.sin6_addr.s6_addr[i]);
    }
    return number;
}

/* What every send to an address of another host gets: nothing, or always the same error. */
int sim_error_of(const struct dgram_addr *to)
{
    static const int errors[] = {0, 0, -EHOSTUNREACH, -EPERM, -EACCES, -ENETUNREACH};
    if (sim_host_is_here(to)) {
        return 0;
    }
    return errors[sim_address_number(to, 1) % (sizeof(errors) / sizeof(errors[0]))];
}

int sim_refusal_of(const struct dgram_addr *to, uint32_t segment)
{
    uint64_t number = sim_address_number(to, 2);
    if (number % 1000 >= sim_world.faults.refusing) {
        return 0;
    }
    switch (number / 1000 % 4) {
    case 0:
        return -EIO;
    case 1:
        return -EINVAL;
    case 2:
        return -EPERM;
    default:
        return segment > 100 + number / 4000 % 1400 ? -EMSGSIZE : 0; /* a path's MTU */
    }
}

void sim_calm(void)
{
    bool deferred = sim_world.faults.deferred;
    sim_world.faults = (struct sim_faults){.deferred = deferred};
    sim_world.limit = DESCRIPTORS;
}

const struct sim_faults *sim_present_faults(void)
{
    return &sim_world.faults;
}

void sim_change_faults(const struct sim_faults *faults)
{
    sim_world.faults = *faults;
}

void sim_limit(uint32_t descriptors)
{
    sim_world.limit = descriptors < DESCRIPTORS ? descriptors : DESCRIPTORS;
}

void sim_no_room(uint32_t socket, int code, uint64_t until)
{
    struct descriptor *d = sim_socket_numbered(socket);
    if (d != NULL) {
        *(code == -EAGAIN ? &d->full_until : &d->nobufs_until) = until;
    }
}

void sim_no_room_for(uint16_t port)
{
    sim_world.no_room[port] = true;
}

void sim_room_for(uint16_t port)
{
    sim_world.no_room[port] = false;
}

void sim_room(uint32_t datagrams)
{
    sim_world.room = datagrams;
}

int sim_broken(void)
{
    return sim_world.broken;
}
