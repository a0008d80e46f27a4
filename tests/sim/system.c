/* SPDX-License-Identifier: MIT */
/*
 * system.c: descriptors: sockets, wake-ups, alarms; and struct dg_system, which the library calls.
 */
#include "tests/sim/world.h"

#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t system_cpu(void)
{
    return sim_world.now - sim_world.asleep + sim_world.wakes * WAKE_CPU_NS;
}

struct descriptor *sim_descriptor_of(int fd, enum descriptor_kind kind)
{
    static struct descriptor nothing;
    int index = fd - DESCRIPTOR_FIRST;
    bool known = index >= 0 && index < DESCRIPTORS && sim_world.descriptors[index].kind == kind;
    sim_rule(known, "a descriptor is used that is not open, or of another kind");
    return known ? &sim_world.descriptors[index] : &nothing;
}

uint32_t sim_descriptors(void)
{
    uint32_t count = 0;
    for (int i = 0; i < DESCRIPTORS; i++) {
        count += sim_world.descriptors[i].kind != FREE;
    }
    return count;
}

bool sim_descriptor_left(void)
{
    return sim_descriptors() < sim_world.limit;
}

int sim_descriptor_open(enum descriptor_kind kind)
{
    if (sim_chance(sim_world.faults.setup)) {
        return sim_chance(500) ? -EMFILE : -ENFILE;
    }
    for (int i = 0; i < DESCRIPTORS && sim_descriptor_left(); i++) {
        struct descriptor *d = &sim_world.descriptors[i];
        if (d->kind == FREE) {
            *d = (struct descriptor){.kind = kind, .deadline = NEVER};
            return d->reader = DESCRIPTOR_FIRST + i;
        }
    }
    return -EMFILE;
}

struct packet *sim_packet_pop(struct descriptor *d)
{
    struct packet *packet = d->head;
    d->head = packet->next;
    if (d->head == NULL) {
        d->tail = NULL;
    }
    d->packets--;
    d->bytes -= packet->size;
    return packet;
}

struct descriptor *sim_socket_numbered(uint32_t number)
{
    for (int i = 0; i < DESCRIPTORS; i++) {
        if (sim_world.descriptors[i].kind == SOCKET && sim_world.descriptors[i].number == number) {
            return &sim_world.descriptors[i];
        }
    }
    return NULL;
}

static int system_socket(int family)
{
    int fd = sim_descriptor_open(SOCKET);
    if (fd >= 0) {
        struct descriptor *d = sim_descriptor_of(fd, SOCKET);
        d->family = (sa_family_t) family;
        d->number = ++sim_world.sockets;
    }
    sim_log("socket", (uint64_t) family, (uint64_t) fd);
    return fd;
}

static bool names_clash(const struct descriptor *one, const struct descriptor *two)
{
    if (one->family != two->family || sim_port_of(&one->local) != sim_port_of(&two->local)) {
        return false;
    }
    bool overlap = sim_host_is_any(&one->local) || sim_host_is_any(&two->local) ||
                   sim_host_equal(&one->local, &two->local);
    bool shared =
        (one->reuse_address && two->reuse_address) || (one->reuse_port && two->reuse_port);
    return overlap && !shared;
}

static bool name_is_free(const struct descriptor *d)
{
    for (int i = 0; i < DESCRIPTORS; i++) {
        const struct descriptor *other = &sim_world.descriptors[i];
        if (other != d && other->kind == SOCKET && other->bound && names_clash(d, other)) {
            return false;
        }
    }
    return true;
}

void sim_choose_port(struct descriptor *d)
{
    do {
        sim_set_port(&d->local, (uint16_t) (PORT_FIRST + sim_below(PORT_COUNT)));
    } while (!name_is_free(d));
}

static int socket_bind(struct descriptor *d, const struct sockaddr *address, socklen_t size)
{
    static const int errors[] = {-EADDRINUSE, -EADDRNOTAVAIL, -EACCES};
    if (sim_chance(sim_world.faults.bind)) {
        return errors[sim_below(3)];
    }
    if (d->bound || address->sa_family != d->family) {
        return -EINVAL;
    }
    d->local = sim_address_read(address, size);
    if (!sim_host_is_any(&d->local) && !sim_host_is_here(&d->local)) {
        return -EADDRNOTAVAIL;
    }
    if (sim_port_of(&d->local) == 0) {
        sim_choose_port(d);
    } else if (!name_is_free(d)) {
        return -EADDRINUSE;
    }
    d->bound = true;
    return 0;
}

static int system_bind(int fd, const struct sockaddr *address, socklen_t size)
{
    struct descriptor *d = sim_descriptor_of(fd, SOCKET);
    int code = socket_bind(d, address, size);
    sim_log("bind", d->number, code < 0 ? (uint64_t) -code : sim_port_of(&d->local));
    return code;
}

static int system_setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    struct descriptor *d = sim_descriptor_of(fd, SOCKET);
    int number = 0;
    if (sim_chance(sim_world.faults.setup)) {
        return sim_chance(500) ? -ENOPROTOOPT : -ENOMEM;
    }
    memcpy(&number, value, size < sizeof(number) ? size : sizeof(number));
    if (level == SIM_SOL_UDP && name == SIM_UDP_GRO) {
        d->gro = number != 0;
    } else if (level == SOL_SOCKET && name == SO_REUSEADDR) {
        d->reuse_address = number != 0;
    } else if (level == SOL_SOCKET && name == SO_REUSEPORT) {
        d->reuse_port = number != 0;
    }
    return 0;
}

static int system_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    const int granted = 212992;
    (void) sim_descriptor_of(fd, SOCKET);
    (void) level;
    (void) name;
    memcpy(value, &granted, *size < sizeof(granted) ? *size : sizeof(granted));
    return 0;
}

/* What this network loses on the way is nobody's. */
static uint32_t system_drops(int fd)
{
    return sim_descriptor_of(fd, SOCKET)->dropped;
}

static int system_refuse(int fd)
{
    struct descriptor *d = sim_descriptor_of(fd, SOCKET);
    d->refuses = !sim_chance(sim_world.faults.no_refusal);
    sim_log("refuse", d->number, d->refuses);
    return d->refuses ? 0 : -ENOTSUP;
}

static int system_receive(int fd, struct msghdr *header, int flags)
{
    struct descriptor *d = sim_descriptor_of(fd, SOCKET);
    struct packet *packet = d->head;
    sim_rule(d->attached == NULL || (!d->attached->receiving && !d->attached->queued) ||
                 sim_world.broken < 0,
             "the core receives beside the engine");
    if (d->pending_error != 0) {
        int code = d->pending_error;
        d->pending_error = 0;
        return code;
    }
    if (packet == NULL) {
        return -EAGAIN;
    }
    int size = (int) packet->size;
    uint32_t segment = packet->segment;
    sim_rule(segment == 0 || header->msg_controllen >= CMSG_SPACE(sizeof(int)),
             "a train is received without room for its segment size");
    header->msg_controllen = segment > 0 ? sim_control_write(header->msg_control, segment) : 0;
    sim_log((flags & MSG_PEEK) != 0 ? "peeked" : "counted", d->number, packet->size);
    if ((flags & MSG_PEEK) == 0) {
        sim_world.counted[d->number % SOCKETS_COUNTED] +=
            segment > 0 ? (packet->size + segment - 1) / segment : 1;
        free(sim_packet_pop(d));
    }
    return size;
}

static int system_getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    const struct descriptor *d = sim_descriptor_of(fd, SOCKET);
    struct dgram_addr local = d->local;
    local.u.any.sa_family = d->family;
    socklen_t whole =
        d->family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    memcpy(address, &local.u, *size < whole ? *size : whole);
    *size = whole;
    return 0;
}

int sim_name_of(int fd, struct sockaddr *address, socklen_t *size)
{
    return system_getsockname(fd, address, size);
}

static bool is_watched(int fd)
{
    for (const struct engine *engine = sim_world.engines; engine != NULL; engine = engine->next) {
        for (const struct watching *w = engine->watches; w != NULL; w = w->next) {
            if (w->watch->fd == fd) {
                return true;
            }
        }
    }
    return false;
}

static void socket_close(struct descriptor *d)
{
    if (d->attached != NULL) {
        sim_rule(sim_world.broken < 0, "a socket is closed before DETACHED");
        d->attached->fd = -1;
    }
    sim_rule(d->head == NULL || !d->refuses,
             "a socket is closed, and what it held was not counted");
    while (d->head != NULL) {
        free(sim_packet_pop(d));
    }
    free(d->said);
}

static int system_close(int fd)
{
    int index = fd - DESCRIPTOR_FIRST;
    bool known = index >= 0 && index < DESCRIPTORS && sim_world.descriptors[index].kind != FREE;
    sim_rule(known, "a descriptor is closed that is not open");
    if (known) {
        struct descriptor *d = &sim_world.descriptors[index];
        sim_rule(d->kind != ENGINE, "the engine's descriptor is closed by the core");
        sim_rule(!d->guest || !is_watched(fd), "a guest's socket is closed while it is watched");
        sim_log("close", d->number, (uint64_t) fd);
        socket_close(d);
        *d = (struct descriptor){.kind = FREE};
    }
    return known ? 0 : -EBADF;
}

static int system_wake_open(int ret_fds[2])
{
    int first = sim_descriptor_open(WAKE);
    int second = first < 0 ? first : sim_descriptor_open(WAKE);
    if (second < 0) {
        if (first >= 0) {
            (void) system_close(first);
        }
        return second;
    }
    sim_descriptor_of(second, WAKE)->reader = first;
    ret_fds[0] = first;
    ret_fds[1] = second;
    return 0;
}

static void system_wake_signal(int fd)
{
    sim_descriptor_of(sim_descriptor_of(fd, WAKE)->reader, WAKE)->signalled = true;
}

static void system_wake_clear(int fd)
{
    sim_descriptor_of(fd, WAKE)->signalled = false;
}

static void system_pause(uint64_t ns)
{
    sim_world.now += ns;
}

static void system_relax(void)
{
    sim_world.relaxes++;
}

static int system_alarm_open(void)
{
    return sim_descriptor_open(ALARM);
}

static void system_alarm_set(int fd, uint64_t deadline)
{
    sim_descriptor_of(fd, ALARM)->deadline = deadline;
}

static int system_gather_open(const int *fds, size_t count)
{
    int fd = sim_descriptor_open(GATHER);
    if (fd >= 0) {
        struct descriptor *d = sim_descriptor_of(fd, GATHER);
        sim_rule(count <= GATHERED_MAX, "more is gathered than there is room for");
        d->gathered_count = count <= GATHERED_MAX ? count : GATHERED_MAX;
        memcpy(d->gathered, fds, d->gathered_count * sizeof(*fds));
    }
    return fd;
}

unsigned sim_segments_max(void)
{
    static const unsigned kernels[] = {1, 3, 64, 64, 128, 128};
    struct sim_random random = {sim_world.seed ^ 3};
    return kernels[sim_random_below(&random, 6)];
}

/* A number of the seed's own: a run replays. */
static uint64_t system_random(void)
{
    struct sim_random random = {sim_world.seed ^ 4};
    return sim_random_next(&random);
}

static int system_file_open(const char *path)
{
    if (sim_chance(sim_world.faults.setup)) {
        return sim_chance(500) ? -EMFILE : -ENFILE;
    }
    if (!sim_descriptor_left()) {
        return -EMFILE;
    }
    return sim_world.open_file != NULL ? sim_world.open_file(path) : -ENOENT;
}

void sim_serve_files(int (*open)(const char *path))
{
    sim_world.open_file = open;
}

/* Of wake-ups only: nothing else is ever duplicated. */
static int system_duplicate(int fd)
{
    const struct descriptor *d = sim_descriptor_of(fd, WAKE);
    int made = sim_descriptor_open(WAKE);
    if (made >= 0) {
        sim_descriptor_of(made, WAKE)->reader = d->reader;
    }
    return made;
}

const struct dg_system sim_system = {
    .socket = system_socket,
    .bind = system_bind,
    .setsockopt = system_setsockopt,
    .getsockopt = system_getsockopt,
    .getsockname = system_getsockname,
    .close = system_close,
    .now = sim_now,
    .receive = system_receive,
    .refuse = system_refuse,
    .guest_socket = sim_guest_socket,
    .guest_connect = sim_guest_connect,
    .guest_send = sim_guest_send,
    .guest_receive = sim_guest_receive,
    .file_open = system_file_open,
    .duplicate = system_duplicate,
    .cpu = system_cpu,
    .drops = system_drops,
    .pause = system_pause,
    .relax = system_relax,
    .wake_open = system_wake_open,
    .wake_signal = system_wake_signal,
    .wake_clear = system_wake_clear,
    .gather_open = system_gather_open,
    .alarm_open = system_alarm_open,
    .alarm_set = system_alarm_set,
    .random = system_random,
    .segments_max = sim_segments_max,
};
