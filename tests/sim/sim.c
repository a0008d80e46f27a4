/* SPDX-License-Identifier: MIT */
/*
 * sim.c: see sim.h.
 *
 * From below: chance and the log, the allocator, descriptors, the network, the engine, guests, and
 * struct dg_system. Time passes in sim_wait() and sim_sleep() only, and a little with every wait,
 * so that a loop that turns without sleeping gets somewhere. What the engine may do late has a due
 * time, or is there and left for later by chance; a wait that would sleep takes it nevertheless.
 */
#include "tests/sim/sim.h"

#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/loop/loop.h"
#include "src/send/sender.h"

#define NEVER UINT64_MAX
#define ERROR_PAUSE_NS 20000 /* between two pending errors of a socket */
#define WAKE_CPU_NS 10000    /* of whoever wakes up */

enum {
    DESCRIPTOR_FIRST = 1000,
    DESCRIPTORS = 256,
    PORT_FIRST = 20000, /* of those that the kernel chooses */
    PORT_COUNT = 20000,
    BUFFER_PACKETS = 256, /* in one socket's receive buffer */
    BUFFER_BYTES = 2 * 1024 * 1024,
    FLOWS = 1024,
    SOCKETS_COUNTED = 4096,
    GATHERED_MAX = 4,
    DATAGRAM_MAX = 65535,
    GUEST_FIRST = 1 << 30, /* sockets of guests are numbered from here */
    SAID_MAX = 1024,       /* a question by a stream, with its length */
    TRAIN_MAX = 65473, /* above, the stack cuts IPv6 trains in software; not a constant of core.h */
    WAITS_MAX = 5000000 /* of one world: more is a loop that spins */
};

/* A slot as the io_uring engine lays it out: a header, the sender, control, payload. */
enum { SLOT_NAME_AT = 16, SLOT_CONTROL_AT = SLOT_NAME_AT + SLOT_NAME_SIZE };

enum { SIM_SOL_UDP = 17, SIM_UDP_SEGMENT = 103, SIM_UDP_GRO = 104 }; /* udp(7) */

/* A datagram, or a train of them, on its way or in a receive buffer. */
struct packet {
    struct packet *next;
    uint64_t at, order;  /* when it arrives; ties go by order */
    uint32_t source;     /* the socket that sent it */
    uint32_t connection; /* the guest's socket of whose stream it is a piece; 0: a datagram */
    uint32_t taken;      /* of a piece: bytes that were received */
    struct dgram_addr from, to;
    uint32_t size, segment; /* segment 0: one datagram */
    unsigned char bytes[];
};

enum descriptor_kind { FREE, SOCKET, WAKE, ALARM, ENGINE, GATHER };

struct descriptor {
    enum descriptor_kind kind;

    /* SOCKET */
    uint32_t number;
    sa_family_t family;
    struct dgram_addr local;
    bool bound, reuse_address, reuse_port, gro;
    bool refuses; /* what arrives */
    uint32_t dropped;
    struct packet *head, *tail;
    uint32_t packets, bytes;
    uint64_t full_until, nobufs_until;
    int pending_error;
    uint64_t error_from; /* no other error is noted before */
    struct attached *attached;
    bool guest;             /* a guest's; its peer is a service, or nobody */
    struct dgram_addr peer; /* since it was connected */
    struct said *said;      /* by TCP; NULL: UDP. `full_until` then is when it is connected */
    uint64_t stream_last;   /* when the last piece for it arrives */

    /* WAKE, ALARM, ENGINE, GATHER */
    int reader; /* the other end, or itself */
    bool signalled;
    uint64_t deadline;
    struct engine *engine;
    int gathered[GATHERED_MAX];
    size_t gathered_count;
};

/* A question that is not complete. */
struct said {
    uint32_t size;
    unsigned char bytes[SAID_MAX];
};

/* What the engine keeps of an endpoint. */
struct attached {
    struct attached *next;
    struct endpoint *endpoint;
    int fd;
    bool queued;    /* recv_start() was called and not yet submitted */
    bool receiving; /* queued ones are not */
    bool silent;    /* no STOPPED after detach() */
    uint64_t stop_at, detach_at;
};

/* And of a watch. */
struct watching {
    struct watching *next;
    struct watch *watch;
    bool queued, armed;
};

/* Memory that the engine still reads: `copy` tells whether it was left alone. */
struct lent {
    struct lent *next;
    uint32_t number;
    uint64_t until;
    bool copied;
    const unsigned char *memory;
    uint32_t size;
    unsigned char copy[];
};

enum slot_state { SLOT_FREE, SLOT_LENT, SLOT_RETURNED /* the kernel does not know yet */ };

struct engine {
    struct engine *next;
    struct completions *completions;
    struct slots slots;
    unsigned char *states; /* of slots */
    uint32_t *used;        /* bytes of each slot that were written */
    uint32_t free_count;
    struct attached *endpoints;
    struct watching *watches;
    struct lent *lent;
    uint32_t regions; /* made so far; each has its number */
    struct train *const *trains;
    size_t train_count;
    bool sent;   /* send() was called since the last flush() or wait() */
    bool failed; /* and a train of it was not taken */
    int fd;
};

struct world {
    bool exists, trace;
    uint64_t seed, now, hash, order, waits, live;
    uint64_t engine_calls; /* waits and flushes */
    uint64_t peeks, relaxes;
    uint64_t asleep, wakes; /* time in which nobody used a CPU, and how often it ended */
    int64_t gathered;       /* what the last wait() was told */
    bool no_room[65536];    /* ports, in host order, whose device is full, */
    uint32_t room;          /* but for so many datagrams */
    int broken;             /* the engine's code since it broke */
    int break_code;         /* what it will be; 0: any */
    uint32_t sockets, guests;
    uint32_t limit; /* of descriptors */
    uint16_t service_port;
    sim_service_fn *service;
    int (*open_file)(const char *path);
    uint64_t counted[SOCKETS_COUNTED]; /* by number */
    struct sim_random random;
    struct sim_faults faults;
    struct sim_hooks hooks;
    struct dg_memory_hooks memory_before;
    struct descriptor descriptors[DESCRIPTORS];
    struct engine *engines;
    struct packet **heap; /* under way, the next to arrive first */
    uint32_t heap_count, heap_capacity;
    uint64_t flow_last[FLOWS]; /* when the last packet of a flow arrives */
};

static struct world world;

/* ---- Chance and the log -------------------------------------------------------------------- */

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

static uint32_t below(uint32_t bound)
{
    return sim_random_below(&world.random, bound);
}

static bool chance(uint32_t permille)
{
    return sim_random_chance(&world.random, permille);
}

uint32_t sim_below(uint32_t bound)
{
    return below(bound);
}

bool sim_chance(uint32_t permille)
{
    return chance(permille);
}

static void hash_add(uint64_t value)
{
    world.hash = (world.hash ^ value) * 0x100000001b3u;
    world.hash ^= world.hash >> 29;
}

void sim_log(const char *what, uint64_t one, uint64_t two)
{
    for (const char *c = what; *c != '\0'; c++) {
        hash_add((unsigned char) *c);
    }
    hash_add(one);
    hash_add(two);
    if (world.trace) {
        fprintf(stderr, "%12llu %-20s %llu %llu\n", (unsigned long long) world.now, what,
                (unsigned long long) one, (unsigned long long) two);
    }
}

uint64_t sim_hash(void)
{
    return world.hash;
}

void sim_break(uint32_t calls, int code)
{
    world.faults.breaks = calls;
    world.engine_calls = 0;
    world.break_code = code;
}

void sim_delay(uint32_t ns)
{
    world.faults.delay_ns = ns;
}

uint64_t sim_now(void)
{
    return world.now;
}

static void time_passes(uint64_t to);

void sim_burn(uint64_t time_ns)
{
    time_passes(world.now + time_ns);
}

uint64_t sim_calls(void)
{
    return world.waits;
}

static uint64_t system_cpu(void)
{
    return world.now - world.asleep + world.wakes * WAKE_CPU_NS;
}

uint64_t sim_relaxes(void)
{
    return world.relaxes;
}

uint64_t sim_peeks(void)
{
    return world.peeks;
}

int64_t sim_gathered(void)
{
    int64_t gathered = world.gathered;
    world.gathered = 0;
    return gathered;
}

/* A rule of the boundaries. Goes on after a broken one, so that the run can end in order. */
static void rule(bool kept, const char *text)
{
    if (!kept) {
        sim_log(text, 0, 0);
        world.hooks.broken(world.hooks.user, text);
    }
}

/* Beyond repair: what follows would say nothing any more. */
static void give_up(const char *text)
{
    fprintf(stderr, "sim: %s (seed %llu)\n", text, (unsigned long long) world.seed);
    abort();
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

/* ---- Memory -------------------------------------------------------------------------------- */

static void *memory_allocate(size_t size)
{
    if (chance(world.faults.memory)) {
        sim_log("no memory", size, 0);
        return NULL;
    }
    void *memory = calloc(1, size);
    if (memory == NULL) {
        give_up("the host has no memory");
    }
    world.live++;
    return memory;
}

static void memory_release(void *memory)
{
    world.live -= memory != NULL;
    free(memory);
}

static void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (memory == NULL) {
        give_up("the host has no memory");
    }
    return memory;
}

/* ---- Addresses ----------------------------------------------------------------------------- */

static uint16_t port_of(const struct dgram_addr *address)
{
    return ntohs(address->u.in4.sin_port); /* at the same place in sockaddr_in6 */
}

static void set_port(struct dgram_addr *address, uint16_t port)
{
    address->u.in4.sin_port = htons(port);
}

static struct dgram_addr address_read(const void *name, size_t size)
{
    struct dgram_addr address = {.size = (uint32_t) size};
    memcpy(&address.u, name, size < sizeof(address.u) ? size : sizeof(address.u));
    return address;
}

static bool host_equal(const struct dgram_addr *one, const struct dgram_addr *two)
{
    if (one->u.any.sa_family == AF_INET) {
        return one->u.in4.sin_addr.s_addr == two->u.in4.sin_addr.s_addr;
    }
    return memcmp(&one->u.in6.sin6_addr, &two->u.in6.sin6_addr, 16) == 0;
}

static bool host_is_any(const struct dgram_addr *address)
{
    static const struct dgram_addr none;
    struct dgram_addr any = none;
    any.u.any.sa_family = address->u.any.sa_family;
    return host_equal(address, &any);
}

static struct dgram_addr loopback_of(sa_family_t family)
{
    struct dgram_addr address = {.size = sizeof(struct sockaddr_in)};
    address.u.any.sa_family = family;
    if (family == AF_INET) {
        address.u.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        address.size = sizeof(struct sockaddr_in6);
        address.u.in6.sin6_addr = in6addr_loopback;
    }
    return address;
}

static bool host_is_here(const struct dgram_addr *address)
{
    struct dgram_addr loopback = loopback_of(address->u.any.sa_family);
    return host_equal(address, &loopback);
}

static uint64_t mixed(uint64_t number, uint64_t with)
{
    struct sim_random random = {number ^ with};
    return sim_random_next(&random);
}

/* A number for an address that depends on nothing but the seed and the address. */
static uint64_t address_number(const struct dgram_addr *address, uint64_t salt)
{
    uint64_t number = mixed(mixed(world.seed, salt), port_of(address));
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
    if (host_is_here(to)) {
        return 0;
    }
    return errors[address_number(to, 1) % (sizeof(errors) / sizeof(errors[0]))];
}

/* What a destination that refuses trains answers to this one, 0 if it takes it. */
static int refusal_of(const struct dgram_addr *to, uint32_t segment)
{
    uint64_t number = address_number(to, 2);
    if (number % 1000 >= world.faults.refusing) {
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

/* ---- Descriptors --------------------------------------------------------------------------- */

static struct descriptor *descriptor_of(int fd, enum descriptor_kind kind)
{
    static struct descriptor nothing;
    int index = fd - DESCRIPTOR_FIRST;
    bool known = index >= 0 && index < DESCRIPTORS && world.descriptors[index].kind == kind;
    rule(known, "a descriptor is used that is not open, or of another kind");
    return known ? &world.descriptors[index] : &nothing;
}

uint32_t sim_descriptors(void)
{
    uint32_t count = 0;
    for (int i = 0; i < DESCRIPTORS; i++) {
        count += world.descriptors[i].kind != FREE;
    }
    return count;
}

bool sim_descriptor_left(void)
{
    return sim_descriptors() < world.limit;
}

/* The lowest free number, as the kernel does: numbers come back soon. */
static int descriptor_open(enum descriptor_kind kind)
{
    if (chance(world.faults.setup)) {
        return chance(500) ? -EMFILE : -ENFILE;
    }
    for (int i = 0; i < DESCRIPTORS && sim_descriptor_left(); i++) {
        struct descriptor *d = &world.descriptors[i];
        if (d->kind == FREE) {
            *d = (struct descriptor){.kind = kind, .deadline = NEVER};
            return d->reader = DESCRIPTOR_FIRST + i;
        }
    }
    return -EMFILE;
}

static struct packet *packet_pop(struct descriptor *d)
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

static struct descriptor *socket_numbered(uint32_t number)
{
    for (int i = 0; i < DESCRIPTORS; i++) {
        if (world.descriptors[i].kind == SOCKET && world.descriptors[i].number == number) {
            return &world.descriptors[i];
        }
    }
    return NULL;
}

static int system_socket(int family)
{
    int fd = descriptor_open(SOCKET);
    if (fd >= 0) {
        struct descriptor *d = descriptor_of(fd, SOCKET);
        d->family = (sa_family_t) family;
        d->number = ++world.sockets;
    }
    sim_log("socket", (uint64_t) family, (uint64_t) fd);
    return fd;
}

static bool names_clash(const struct descriptor *one, const struct descriptor *two)
{
    if (one->family != two->family || port_of(&one->local) != port_of(&two->local)) {
        return false;
    }
    bool overlap = host_is_any(&one->local) || host_is_any(&two->local) ||
                   host_equal(&one->local, &two->local);
    bool shared =
        (one->reuse_address && two->reuse_address) || (one->reuse_port && two->reuse_port);
    return overlap && !shared;
}

static bool name_is_free(const struct descriptor *d)
{
    for (int i = 0; i < DESCRIPTORS; i++) {
        const struct descriptor *other = &world.descriptors[i];
        if (other != d && other->kind == SOCKET && other->bound && names_clash(d, other)) {
            return false;
        }
    }
    return true;
}

static void choose_port(struct descriptor *d)
{
    do {
        set_port(&d->local, (uint16_t) (PORT_FIRST + below(PORT_COUNT)));
    } while (!name_is_free(d));
}

static int socket_bind(struct descriptor *d, const struct sockaddr *address, socklen_t size)
{
    static const int errors[] = {-EADDRINUSE, -EADDRNOTAVAIL, -EACCES};
    if (chance(world.faults.bind)) {
        return errors[below(3)];
    }
    if (d->bound || address->sa_family != d->family) {
        return -EINVAL;
    }
    d->local = address_read(address, size);
    if (!host_is_any(&d->local) && !host_is_here(&d->local)) {
        return -EADDRNOTAVAIL;
    }
    if (port_of(&d->local) == 0) {
        choose_port(d);
    } else if (!name_is_free(d)) {
        return -EADDRINUSE;
    }
    d->bound = true;
    return 0;
}

static int system_bind(int fd, const struct sockaddr *address, socklen_t size)
{
    struct descriptor *d = descriptor_of(fd, SOCKET);
    int code = socket_bind(d, address, size);
    sim_log("bind", d->number, code < 0 ? (uint64_t) -code : port_of(&d->local));
    return code;
}

static int system_setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    struct descriptor *d = descriptor_of(fd, SOCKET);
    int number = 0;
    if (chance(world.faults.setup)) {
        return chance(500) ? -ENOPROTOOPT : -ENOMEM;
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
    (void) descriptor_of(fd, SOCKET);
    (void) level;
    (void) name;
    memcpy(value, &granted, *size < sizeof(granted) ? *size : sizeof(granted));
    return 0;
}

/* What this network loses on the way is nobody's. */
static uint32_t system_drops(int fd)
{
    return descriptor_of(fd, SOCKET)->dropped;
}

static int system_refuse(int fd)
{
    struct descriptor *d = descriptor_of(fd, SOCKET);
    d->refuses = !chance(world.faults.no_refusal);
    sim_log("refuse", d->number, d->refuses);
    return d->refuses ? 0 : -ENOTSUP;
}

static uint32_t control_write(unsigned char *control, uint32_t segment);

static int system_receive(int fd, struct msghdr *header, int flags)
{
    struct descriptor *d = descriptor_of(fd, SOCKET);
    struct packet *packet = d->head;
    rule(d->attached == NULL || (!d->attached->receiving && !d->attached->queued) ||
             world.broken < 0,
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
    rule(segment == 0 || header->msg_controllen >= CMSG_SPACE(sizeof(int)),
         "a train is received without room for its segment size");
    header->msg_controllen = segment > 0 ? control_write(header->msg_control, segment) : 0;
    sim_log((flags & MSG_PEEK) != 0 ? "peeked" : "counted", d->number, packet->size);
    if ((flags & MSG_PEEK) == 0) {
        world.counted[d->number % SOCKETS_COUNTED] +=
            segment > 0 ? (packet->size + segment - 1) / segment : 1;
        free(packet_pop(d));
    }
    return size;
}

static int system_getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    const struct descriptor *d = descriptor_of(fd, SOCKET);
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
    for (const struct engine *engine = world.engines; engine != NULL; engine = engine->next) {
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
        rule(world.broken < 0, "a socket is closed before DETACHED");
        d->attached->fd = -1;
    }
    rule(d->head == NULL || !d->refuses, "a socket is closed, and what it held was not counted");
    while (d->head != NULL) {
        free(packet_pop(d));
    }
    free(d->said);
}

static int system_close(int fd)
{
    int index = fd - DESCRIPTOR_FIRST;
    bool known = index >= 0 && index < DESCRIPTORS && world.descriptors[index].kind != FREE;
    rule(known, "a descriptor is closed that is not open");
    if (known) {
        struct descriptor *d = &world.descriptors[index];
        rule(d->kind != ENGINE, "the engine's descriptor is closed by the core");
        rule(!d->guest || !is_watched(fd), "a guest's socket is closed while it is watched");
        sim_log("close", d->number, (uint64_t) fd);
        socket_close(d);
        *d = (struct descriptor){.kind = FREE};
    }
    return known ? 0 : -EBADF;
}

static int system_wake_open(int ret_fds[2])
{
    int first = descriptor_open(WAKE);
    int second = first < 0 ? first : descriptor_open(WAKE);
    if (second < 0) {
        if (first >= 0) {
            (void) system_close(first);
        }
        return second;
    }
    descriptor_of(second, WAKE)->reader = first;
    ret_fds[0] = first;
    ret_fds[1] = second;
    return 0;
}

static void system_wake_signal(int fd)
{
    descriptor_of(descriptor_of(fd, WAKE)->reader, WAKE)->signalled = true;
}

static void system_wake_clear(int fd)
{
    descriptor_of(fd, WAKE)->signalled = false;
}

static void system_pause(uint64_t ns)
{
    world.now += ns;
}

static void system_relax(void)
{
    world.relaxes++;
}

static int system_alarm_open(void)
{
    return descriptor_open(ALARM);
}

static void system_alarm_set(int fd, uint64_t deadline)
{
    descriptor_of(fd, ALARM)->deadline = deadline;
}

static int system_gather_open(const int *fds, size_t count)
{
    int fd = descriptor_open(GATHER);
    if (fd >= 0) {
        struct descriptor *d = descriptor_of(fd, GATHER);
        rule(count <= GATHERED_MAX, "more is gathered than there is room for");
        d->gathered_count = count <= GATHERED_MAX ? count : GATHERED_MAX;
        memcpy(d->gathered, fds, d->gathered_count * sizeof(*fds));
    }
    return fd;
}

/* A kernel without trains, one that takes few, one of each generation. */
static unsigned system_segments_max(void)
{
    static const unsigned kernels[] = {1, 3, 64, 64, 128, 128};
    struct sim_random random = {world.seed ^ 3};
    return kernels[sim_random_below(&random, 6)];
}

/* A number of the seed's own: a run replays. */
static uint64_t system_random(void)
{
    struct sim_random random = {world.seed ^ 4};
    return sim_random_next(&random);
}

/* ---- The network --------------------------------------------------------------------------- */

static bool sooner(const struct packet *one, const struct packet *two)
{
    return one->at != two->at ? one->at < two->at : one->order < two->order;
}

static void heap_push(struct packet *packet)
{
    if (world.heap_count == world.heap_capacity) {
        world.heap_capacity = world.heap_capacity == 0 ? 64 : world.heap_capacity * 2;
        world.heap = realloc(world.heap, world.heap_capacity * sizeof(struct packet *));
        if (world.heap == NULL) {
            give_up("the host has no memory");
        }
    }
    uint32_t i = world.heap_count++;
    for (; i > 0 && sooner(packet, world.heap[(i - 1) / 2]); i = (i - 1) / 2) {
        world.heap[i] = world.heap[(i - 1) / 2];
    }
    world.heap[i] = packet;
}

static struct packet *heap_pop(void)
{
    struct packet *first = world.heap[0];
    struct packet *last = world.heap[--world.heap_count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= world.heap_count) {
            break;
        }
        if (child + 1 < world.heap_count && sooner(world.heap[child + 1], world.heap[child])) {
            child++;
        }
        if (!sooner(world.heap[child], last)) {
            break;
        }
        world.heap[i] = world.heap[child];
        i = child;
    }
    world.heap[i] = last;
    return first;
}

static struct packet *packet_make(const struct packet *like, const unsigned char *bytes,
                                  uint32_t size)
{
    struct packet *packet = allocate(sizeof(*packet) + size);
    *packet = *like;
    packet->next = NULL;
    packet->size = size;
    if (size > 0) {
        memcpy(packet->bytes, bytes, size);
    }
    return packet;
}

/* One unit on its way: lost, doubled or delayed. Its sender may want it late (`at` of `like`), and
 * others overtake it then. A double comes right behind, and trains have none, so that the order
 * stays. */
static void network_put(const struct packet *like, const unsigned char *bytes, uint32_t size)
{
    uint32_t flow = (uint32_t) address_number(&like->to, like->source) % FLOWS;
    uint64_t at = world.now + like->at + 1 + below(world.faults.delay_ns);
    if (chance(world.faults.loss)) {
        sim_log("lost", like->source, size);
        return;
    }
    if (!world.faults.reorder && like->at == 0) {
        at = at < world.flow_last[flow] ? world.flow_last[flow] : at;
        world.flow_last[flow] = at;
    }
    bool doubled = like->segment == 0 && chance(world.faults.duplicate);
    for (int copies = doubled ? 2 : 1; copies > 0; copies--) {
        struct packet *packet = packet_make(like, bytes, size);
        packet->at = at;
        packet->order = world.order++;
        heap_push(packet);
    }
}

static void network_send(const struct packet *like, const unsigned char *bytes, uint32_t size)
{
    struct packet single = *like;
    if (like->segment == 0 || chance(500)) {
        network_put(like, bytes, size);
        return;
    }
    single.segment = 0; /* as on a wire */
    for (uint32_t at = 0; at < size; at += like->segment) {
        network_put(&single, bytes + at, size - at < like->segment ? size - at : like->segment);
    }
}

/* A guest's socket is connected: it gets its peer's datagrams, or the pieces of its stream. */
static bool is_of_peer(const struct descriptor *d, const struct packet *packet)
{
    return packet->connection != 0 ? packet->connection == d->number
                                   : d->said == NULL && host_equal(&packet->from, &d->peer) &&
                                         port_of(&packet->from) == port_of(&d->peer);
}

static struct descriptor *receiver_of(const struct packet *packet)
{
    for (int i = 0; i < DESCRIPTORS; i++) {
        struct descriptor *d = &world.descriptors[i];
        if (d->kind == SOCKET && d->bound && d->family == packet->to.u.any.sa_family &&
            port_of(&d->local) == port_of(&packet->to) && host_is_here(&packet->to) &&
            (!d->guest || is_of_peer(d, packet))) {
            return d;
        }
    }
    return NULL;
}

static void buffer_put(struct descriptor *d, struct packet *packet)
{
    if (d->refuses || d->packets >= BUFFER_PACKETS || d->bytes + packet->size > BUFFER_BYTES) {
        sim_log("overflow", d->number, packet->size);
        d->dropped++;
        free(packet);
        return;
    }
    packet->next = NULL;
    if (d->tail != NULL) {
        d->tail->next = packet;
    } else {
        d->head = packet;
    }
    d->tail = packet;
    d->packets++;
    d->bytes += packet->size;
}

static bool is_served(const struct dgram_addr *address)
{
    return world.service != NULL && port_of(address) == world.service_port && host_is_here(address);
}

static void service_ask(struct packet *packet)
{
    struct sim_question question = {.bytes = packet->bytes,
                                    .size = packet->size,
                                    .stream = packet->connection != 0,
                                    .packet = packet};
    struct descriptor *source = socket_numbered(packet->source);
    if (!chance(world.faults.dns_down)) {
        world.service(&question);
    } else if (source != NULL) {
        source->pending_error = -ECONNREFUSED;
    }
    free(packet);
}

static void packet_arrives(struct packet *packet)
{
    if (is_served(&packet->to)) {
        service_ask(packet);
        return;
    }
    struct descriptor *d = receiver_of(packet);
    if (d == NULL) {
        struct descriptor *source = socket_numbered(packet->source);
        if (source != NULL && host_is_here(&packet->to) && world.now >= source->error_from &&
            chance(world.faults.icmp)) {
            source->pending_error = -ECONNREFUSED;
            source->error_from = world.now + ERROR_PAUSE_NS;
        }
        free(packet);
        return;
    }
    if (packet->segment == 0 || (d->gro && !chance(world.faults.recut))) {
        buffer_put(d, packet);
        return;
    }
    uint32_t segment = packet->segment, size = packet->size;
    packet->segment = 0;
    for (uint32_t at = 0; at < size; at += segment) {
        buffer_put(
            d, packet_make(packet, packet->bytes + at, size - at < segment ? size - at : segment));
    }
    free(packet);
}

static void network_arrive(void)
{
    while (world.heap_count > 0 && world.heap[0]->at <= world.now) {
        packet_arrives(heap_pop());
    }
}

/* ---- The engine: sending ------------------------------------------------------------------- */

/* A train as the kernel reads it. */
struct reading {
    struct dgram_addr to;
    uint32_t size, segment, count;
    unsigned char bytes[DATAGRAM_MAX];
};

static uint32_t segment_read(const struct msghdr *header)
{
    uint16_t segment = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL;
         c = CMSG_NXTHDR((struct msghdr *) (uintptr_t) header, c)) {
        rule(c->cmsg_level == SIM_SOL_UDP && c->cmsg_type == SIM_UDP_SEGMENT &&
                 c->cmsg_len == CMSG_LEN(sizeof(segment)),
             "a train has a control message that is not UDP_SEGMENT");
        memcpy(&segment, CMSG_DATA(c), sizeof(segment));
        rule(segment > 0, "a segment size of 0");
    }
    return segment;
}

static void train_read(const struct train *train, struct reading *reading)
{
    const struct msghdr *header = &train->header;
    reading->to = address_read(header->msg_name, header->msg_namelen);
    reading->segment = segment_read(header);
    reading->size = 0;
    for (size_t i = 0; i < header->msg_iovlen; i++) {
        size_t length = header->msg_iov[i].iov_len;
        bool fits = length <= DATAGRAM_MAX - reading->size;
        rule(fits, "a train is larger than a datagram");
        if (fits && length > 0) {
            memcpy(reading->bytes + reading->size, header->msg_iov[i].iov_base, length);
            reading->size += (uint32_t) length;
        }
    }
    reading->count = 1;
    if (reading->segment > 0) {
        reading->count = (reading->size + reading->segment - 1) / reading->segment;
        rule(reading->count >= 2, "UDP_SEGMENT for a lone datagram");
        rule(reading->size <= TRAIN_MAX, "a train that the stack cuts in software");
        rule(reading->count <= system_segments_max(), "more segments than the kernel takes");
    }
}

static void train_check(const struct engine *engine, struct train *const *trains, size_t index)
{
    const struct train *train = trains[index];
    const struct attached *a = train->endpoint->state;
    rule(a != NULL && a->endpoint == train->endpoint, "a send for what is not attached");
    rule(a == NULL || a->detach_at == NEVER, "a send after detach()");
    if (a != NULL && a->fd >= 0) {
        rule(descriptor_of(a->fd, SOCKET)->bound, "a send from a socket that is not bound");
    }
    if (train->follows) {
        bool shape = index > 0 && trains[index - 1]->endpoint == train->endpoint &&
                     trains[index - 1]->header.msg_namelen == train->header.msg_namelen &&
                     memcmp(trains[index - 1]->header.msg_name, train->header.msg_name, 8) == 0;
        rule(shape, "a train follows one of another flow");
    }
    (void) engine;
}

/* No room, for a while that begins by chance. */
static int room_for(struct descriptor *d)
{
    if (world.now >= d->full_until && chance(world.faults.eagain)) {
        d->full_until = world.now + 1 + below(30000);
    }
    if (world.now < d->full_until) {
        return -EAGAIN;
    }
    if (world.now >= d->nobufs_until && chance(world.faults.nobufs)) {
        d->nobufs_until = world.now + 1 + below(1500000);
    }
    return world.now < d->nobufs_until ? -ENOBUFS : 0;
}

static int whim(const struct reading *reading)
{
    static const int refusals[] = {-EIO, -EINVAL, -EMSGSIZE, -EPERM, -ENOMEM};
    if (reading->count > 1 && chance(world.faults.refuse)) {
        return refusals[below(5)];
    }
    /* Tiny ones cannot be told from each other, so the checks could not say which one failed. */
    if (reading->count == 1 && reading->size >= 8 && chance(world.faults.transient)) {
        return -EPERM;
    }
    return 0;
}

/* An older datagram's error, once: a send that is repeated at once is told the truth. */
static int pending_error_take(struct descriptor *d)
{
    int code = d->pending_error;
    d->pending_error = 0;
    if (code < 0) {
        d->error_from = world.now + ERROR_PAUSE_NS;
    }
    return code;
}

/* The device to the ports that have no room, which takes what the test lets it. */
static bool device_is_full(const struct reading *reading)
{
    if (!world.no_room[port_of(&reading->to)]) {
        return false;
    }
    if (world.room < reading->count) {
        return true;
    }
    world.room -= reading->count;
    return false;
}

static int train_result(struct descriptor *d, const struct reading *reading)
{
    int code = pending_error_take(d);
    if (code == 0) {
        code = room_for(d);
    }
    if (code == 0 && device_is_full(reading)) {
        code = -ENOBUFS;
    }
    if (code == 0) {
        code = sim_error_of(&reading->to);
    }
    if (code == 0 && reading->count > 1) {
        code = refusal_of(&reading->to, reading->segment);
    }
    return code == 0 ? whim(reading) : code;
}

static void train_taken(struct descriptor *d, const struct reading *reading)
{
    struct packet like = {.source = d->number, .to = reading->to, .segment = reading->segment};
    like.from = d->local;
    if (host_is_any(&like.from)) {
        like.from = loopback_of(d->family);
        set_port(&like.from, port_of(&d->local));
    }
    uint32_t step = reading->segment > 0 ? reading->segment : reading->size;
    uint32_t at = 0;
    do {
        uint32_t size = reading->size - at < step ? reading->size - at : step;
        if (world.hooks.taken != NULL) {
            world.hooks.taken(world.hooks.user, d->number, &reading->to, reading->bytes + at, size);
        }
        at += size;
    } while (at < reading->size);
    network_send(&like, reading->bytes, reading->size);
}

/* ---- The engine: loans --------------------------------------------------------------------- */

/* An attempt without a copy fails in ways of its own, and may leave a loan all the same. */
static int loan_refusal(const struct train *train)
{
    static const int codes[] = {-EINVAL, -EFAULT, -ENOMEM, -EMSGSIZE, -EOPNOTSUPP};
    return train->loan != 0 && chance(world.faults.loan_refused) ? codes[below(5)] : 0;
}

static void loan_make(struct engine *engine, struct train *train, const struct reading *reading)
{
    const struct iovec *vector = train->header.msg_iov;
    const unsigned char *memory = train->region->memory;
    const unsigned char *start = vector->iov_base;
    rule(train->header.msg_iovlen == 1 && start >= memory &&
             start + vector->iov_len <= memory + train->region->size,
         "a loan that is not one piece of its region");
    if (chance(world.faults.loan_unused) || (train->result < 0 && chance(700))) {
        return;
    }
    for (const struct lent *l = engine->lent; l != NULL; l = l->next) {
        rule(l->number != train->loan, "a number of a loan that is not over");
    }
    struct lent *lent = allocate(sizeof(*lent) + reading->size);
    lent->number = train->loan;
    lent->until = world.now + below(world.faults.loan_ns);
    lent->copied = chance(world.faults.loan_copied);
    lent->memory = start;
    lent->size = reading->size;
    memcpy(lent->copy, reading->bytes, reading->size);
    lent->next = engine->lent;
    engine->lent = lent;
    train->lent = true;
    sim_log("lent", lent->number, lent->size);
}

static void loan_end(struct engine *engine, struct lent **link)
{
    struct lent *lent = *link;
    *link = lent->next;
    rule(memcmp(lent->memory, lent->copy, lent->size) == 0, "lent memory changed");
    sim_log("released", lent->number, lent->copied);
    *completions_append(engine->completions) = (struct completion){
        .kind = COMPLETION_RELEASED, .loan = lent->number, .result = lent->copied};
    free(lent);
}

static int engine_lend(struct engine *engine, struct region *region)
{
    if (chance(world.faults.setup)) {
        return -ENOMEM;
    }
    region->number = ++engine->regions;
    return 0;
}

static void engine_reclaim(struct engine *engine, const struct region *region)
{
    rule(region->number > 0 && region->number <= engine->regions, "reclaim() of what is not lent");
}

static int train_try(struct engine *engine, struct train *const *trains, size_t index)
{
    static struct reading reading;
    struct train *train = trains[index];
    const struct attached *a = train->endpoint->state;
    train_check(engine, trains, index);
    if (train->follows && index > 0 && trains[index - 1]->result < 0) {
        return -ECANCELED;
    }
    if (a == NULL || a->fd < 0) {
        return -EBADF;
    }
    struct descriptor *d = descriptor_of(a->fd, SOCKET);
    train_read(train, &reading);
    int code = loan_refusal(train);
    if (code == 0) {
        code = train_result(d, &reading);
    }
    sim_log(code < 0 ? "refused" : "taken", ((uint64_t) d->number << 32) + reading.size,
            code < 0 ? (uint64_t) -code : reading.count);
    if (code == 0) {
        train_taken(d, &reading);
        code = chance(500) ? 0 : (int) reading.size;
    }
    if (train->loan != 0) {
        train->result = code;
        loan_make(engine, train, &reading);
    }
    return code;
}

static void trains_go(struct engine *engine, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        engine->trains[i]->result = train_try(engine, engine->trains, i);
        engine->failed = engine->failed || engine->trains[i]->result < 0;
    }
}

static void engine_send(struct engine *engine, struct train *const *trains, size_t count)
{
    rule(!engine->sent, "send() twice before a flush() or wait()");
    engine->sent = true;
    engine->trains = trains;
    engine->train_count = count;
    for (size_t i = 0; i < count; i++) {
        trains[i]->result = -ENOTRECOVERABLE; /* whoever looks now, looks too early */
    }
    if (!world.faults.deferred && world.broken == 0) {
        trains_go(engine, 0, count);
    }
}

/* Starts, watches and slots become known to the kernel; trains get their results. */
static int submit(struct engine *engine)
{
    bool breaks =
        world.broken == 0 && world.faults.breaks > 0 && ++world.engine_calls >= world.faults.breaks;
    size_t from = engine->sent && world.faults.deferred ? 0 : engine->train_count;
    size_t to = breaks || world.broken < 0 ? from : engine->train_count;
    if (breaks) {
        static const int codes[] = {-EBADF, -EIO, -EINVAL, -ENXIO, -EAGAIN, -ENOBUFS};
        world.broken = world.break_code < 0 ? world.break_code : codes[below(6)];
        sim_log("breaks", (uint64_t) -world.broken, 0);
        to = from + below((uint32_t) (engine->train_count - from) + 1);
    } else if (world.broken < 0 && !world.faults.deferred) {
        from = to = 0;
    }
    trains_go(engine, from, to);
    for (size_t i = to; i < engine->train_count; i++) {
        engine->trains[i]->result = world.broken;
    }
    engine->sent = false;
    engine->train_count = 0;
    for (struct attached *a = engine->endpoints; a != NULL; a = a->next) {
        a->receiving = a->receiving || a->queued;
        a->queued = false;
    }
    for (struct watching *w = engine->watches; w != NULL; w = w->next) {
        w->armed = w->armed || w->queued;
        w->queued = false;
    }
    for (uint32_t i = 0; i < engine->slots.count; i++) {
        if (engine->states[i] == SLOT_RETURNED) {
            engine->states[i] = SLOT_FREE;
            engine->free_count++;
        }
    }
    return world.broken;
}

/* ---- The engine: receiving ----------------------------------------------------------------- */

static void append_stopped(struct engine *engine, struct attached *a, int result)
{
    a->receiving = a->queued = false;
    a->stop_at = NEVER;
    sim_log("stopped", a->fd < 0 ? 0 : descriptor_of(a->fd, SOCKET)->number, (uint64_t) -result);
    *completions_append(engine->completions) =
        (struct completion){.kind = COMPLETION_STOPPED, .endpoint = a->endpoint, .result = result};
}

static void append_detached(struct engine *engine, struct attached *a)
{
    struct attached **link = &engine->endpoints;
    while (*link != a) {
        link = &(*link)->next;
    }
    *link = a->next;
    struct descriptor *d = descriptor_of(a->fd, SOCKET);
    d->attached = NULL;
    sim_log("detached", d->number, 0);
    a->endpoint->state = NULL;
    *completions_append(engine->completions) =
        (struct completion){.kind = COMPLETION_DETACHED, .endpoint = a->endpoint};
    dg_release(a);
}

static uint32_t slot_take(struct engine *engine)
{
    uint32_t skip = below(engine->free_count), slot = 0;
    while (engine->states[slot] != SLOT_FREE || skip-- > 0) {
        slot++;
    }
    engine->states[slot] = SLOT_LENT;
    engine->free_count--;
    return slot;
}

/* Whether the next packet may join a train of `size` bytes, as a receive offload would do it. */
static bool may_merge(const struct descriptor *d, const struct packet *first, uint32_t size,
                      uint32_t segment, uint32_t room)
{
    const struct packet *next = d->head;
    return next != NULL && next->segment == 0 && next->source == first->source && next->size > 0 &&
           next->size <= segment && size % segment == 0 && size + next->size <= room &&
           size / segment < 64 && chance(world.faults.merge);
}

/* Fills the payload of a slot; returns the bytes that were there, which may not all have fitted. */
static uint32_t payload_write(struct descriptor *d, struct packet *packet, unsigned char *payload,
                              uint32_t room, uint32_t *ret_segment)
{
    uint32_t size = packet->size, segment = packet->segment;
    memcpy(payload, packet->bytes, size < room ? size : room);
    if (d->gro && size > 0 && size <= room) {
        uint32_t step = segment > 0 ? segment : size;
        while (may_merge(d, packet, size, step, room < 65535 ? room : 65535)) {
            struct packet *next = packet_pop(d);
            memcpy(payload + size, next->bytes, next->size);
            size += next->size;
            segment = step;
            free(next);
        }
    }
    *ret_segment = segment;
    return size;
}

static uint32_t control_write(unsigned char *control, uint32_t segment)
{
    struct msghdr header = {.msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(int))};
    int value = (int) segment;
    if (segment == 0) {
        return 0;
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SIM_SOL_UDP;
    c->cmsg_type = SIM_UDP_GRO;
    c->cmsg_len = CMSG_LEN(sizeof(value));
    memcpy(CMSG_DATA(c), &value, sizeof(value));
    return CMSG_SPACE(sizeof(value));
}

static void append_received(struct engine *engine, struct attached *a)
{
    struct descriptor *d = descriptor_of(a->fd, SOCKET);
    struct packet *packet = packet_pop(d);
    uint32_t slot = slot_take(engine), segment;
    uint32_t before = SLOT_CONTROL_AT + a->endpoint->control_size;
    uint32_t room = engine->slots.stride - before;
    unsigned char *base = engine->slots.memory + (size_t) slot * engine->slots.stride;
    uint32_t size = payload_write(d, packet, base + before, room, &segment);
    uint32_t present = size < room ? size : room;
    memcpy(base + SLOT_NAME_AT, &packet->from.u, packet->from.size);
    engine->used[slot] = before + present;
    sim_log("received", ((uint64_t) d->number << 32) + size, slot);
    if (world.hooks.handed != NULL) {
        world.hooks.handed(world.hooks.user, d->number, &packet->from, base + before, present, size,
                           segment);
    }
    *completions_append(engine->completions) = (struct completion){
        .kind = COMPLETION_RECEIVED,
        .truncated = present < size,
        .name_size = (uint16_t) packet->from.size,
        .slot = slot,
        .size = present,
        .real_size = size,
        .control_size = control_write(base + SLOT_CONTROL_AT, segment),
        .endpoint = a->endpoint,
        .data = base + before,
        .name = base + SLOT_NAME_AT,
        .control = base + SLOT_CONTROL_AT,
    };
    free(packet);
}

/* ---- The engine: what is there ------------------------------------------------------------- */

enum step { STEP_NONE, STEP_RECEIVE, STEP_STARVE, STEP_STOP, STEP_DETACH };

static enum step attached_step(const struct engine *engine, const struct attached *a)
{
    if (a->detach_at != NEVER) {
        if (world.now < a->detach_at) {
            return STEP_NONE;
        }
        return a->receiving && !a->silent ? STEP_STOP : STEP_DETACH;
    }
    if (!a->receiving) {
        return STEP_NONE;
    }
    if (world.now >= a->stop_at) {
        return STEP_STOP;
    }
    bool has_data = descriptor_of(a->fd, SOCKET)->head != NULL;
    if (engine->free_count > 0) {
        return has_data ? STEP_RECEIVE : STEP_NONE;
    }
    return has_data || world.faults.starves ? STEP_STARVE : STEP_NONE;
}

/* What poll(2) would say to a watch; 0 if nothing. */
static short watch_revents(const struct watching *w)
{
    int index = w->watch->fd - DESCRIPTOR_FIRST;
    if (!w->armed || index < 0 || index >= DESCRIPTORS) {
        return 0;
    }
    const struct descriptor *d = &world.descriptors[index];
    switch (d->kind) {
    case SOCKET:
        if (d->pending_error != 0) {
            return POLLERR;
        }
        if (w->watch->events == POLLIN) {
            return d->guest && d->head != NULL ? POLLIN : 0;
        }
        return world.now >= d->full_until ? POLLOUT : 0;
    case WAKE:
        return d->signalled ? POLLIN : 0;
    case ALARM:
        return world.now >= d->deadline ? POLLIN : 0;
    default:
        return 0;
    }
}

static uint32_t count_there(const struct engine *engine)
{
    uint32_t count = 0;
    for (const struct attached *a = engine->endpoints; a != NULL; a = a->next) {
        count += attached_step(engine, a) != STEP_NONE;
    }
    for (const struct watching *w = engine->watches; w != NULL; w = w->next) {
        count += watch_revents(w) != 0;
    }
    for (const struct lent *l = engine->lent; l != NULL; l = l->next) {
        count += world.now >= l->until;
    }
    return count;
}

static void attached_go(struct engine *engine, struct attached *a)
{
    switch (attached_step(engine, a)) {
    case STEP_RECEIVE:
        append_received(engine, a);
        break;
    case STEP_STARVE:
        append_stopped(engine, a, -ENOBUFS);
        break;
    case STEP_STOP:
        append_stopped(engine, a, 0);
        break;
    case STEP_DETACH:
        append_detached(engine, a);
        break;
    case STEP_NONE:
        break;
    }
}

static void watch_go(struct engine *engine, struct watching *w)
{
    short revents = watch_revents(w);
    w->armed = false;
    sim_log("ready", (uint64_t) w->watch->fd, (uint64_t) revents);
    *completions_append(engine->completions) =
        (struct completion){.kind = COMPLETION_READY, .watch = w->watch, .result = revents};
}

static void go(struct engine *engine, uint32_t which)
{
    for (struct attached *a = engine->endpoints; a != NULL; a = a->next) {
        if (attached_step(engine, a) != STEP_NONE && which-- == 0) {
            attached_go(engine, a);
            return;
        }
    }
    for (struct watching *w = engine->watches; w != NULL; w = w->next) {
        if (watch_revents(w) != 0 && which-- == 0) {
            watch_go(engine, w);
            return;
        }
    }
    for (struct lent **link = &engine->lent; *link != NULL; link = &(*link)->next) {
        if (world.now >= (*link)->until && which-- == 0) {
            loan_end(engine, link);
            return;
        }
    }
}

/* A receive ends by itself: for no reason, for want of slots, or with an error. */
static void stop_some(struct engine *engine)
{
    static const int errors[] = {-ENETDOWN, -ECONNREFUSED, -EIO, -ENOMEM};
    for (struct attached *a = engine->endpoints; a != NULL; a = a->next) {
        if (!a->receiving || a->detach_at != NEVER || !chance(world.faults.stop)) {
            continue;
        }
        int result = engine->free_count == 0 && chance(700) ? -ENOBUFS : 0;
        if (result == 0 && chance(world.faults.stop_error)) {
            result = errors[below(4)];
        }
        append_stopped(engine, a, result);
    }
}

/* Appends what is there, in any order; not all of it unless `all`. */
static void collect(struct engine *engine, bool all)
{
    stop_some(engine);
    for (uint32_t count; (count = count_there(engine)) > 0;) {
        if (!all && chance(world.faults.postpone)) {
            return;
        }
        go(engine, below(count));
    }
}

/* The next moment at which something may be there that is not there now. */
static uint64_t next_event(bool with_alarms)
{
    uint64_t next = world.heap_count > 0 ? world.heap[0]->at : NEVER;
    for (int i = 0; i < DESCRIPTORS; i++) {
        const struct descriptor *d = &world.descriptors[i];
        if (d->kind == SOCKET && d->full_until > world.now && d->full_until < next) {
            next = d->full_until;
        }
        if (d->kind == ALARM && with_alarms && d->deadline > world.now && d->deadline < next) {
            next = d->deadline;
        }
    }
    for (const struct engine *engine = world.engines; engine != NULL; engine = engine->next) {
        for (const struct attached *a = engine->endpoints; a != NULL; a = a->next) {
            bool detaching = a->detach_at != NEVER;
            uint64_t due = detaching ? a->detach_at : a->receiving ? a->stop_at : NEVER;
            next = due > world.now && due < next ? due : next;
        }
        for (const struct lent *l = engine->lent; l != NULL; l = l->next) {
            next = l->until > world.now && l->until < next ? l->until : next;
        }
    }
    return next;
}

/* ---- The engine: waiting ------------------------------------------------------------------- */

static void time_passes(uint64_t to)
{
    world.now = to > world.now ? to : world.now;
    network_arrive();
}

/* The same while everybody sleeps. */
static void time_passes_asleep(uint64_t to)
{
    uint64_t from = world.now;
    time_passes(to);
    world.asleep += world.now - from;
    world.wakes++;
}

static void sleep_until(struct engine *engine, uint64_t until)
{
    while (engine->completions->count == 0) {
        if (count_there(engine) > 0) {
            collect(engine, true);
            return;
        }
        uint64_t next = next_event(true);
        if (world.hooks.sleeping != NULL) {
            world.hooks.sleeping(world.hooks.user, until);
        }
        if (count_there(engine) > 0) {
            continue;
        }
        if (next == NEVER && until == NEVER) {
            give_up("the loop sleeps, and nothing will ever wake it");
        }
        if (until <= next) {
            time_passes_asleep(until);
            return;
        }
        time_passes_asleep(next);
    }
}

static int engine_wait(struct engine *engine, int64_t timeout_ns, bool gathers)
{
    uint64_t until = timeout_ns < 0 ? NEVER : world.now + (uint64_t) timeout_ns;
    rule(!gathers || timeout_ns > 0, "wait() gathers without a limit");
    world.gathered = gathers ? timeout_ns : world.gathered;
    if (++world.waits > WAITS_MAX) {
        give_up("the loop spins");
    }
    int code = submit(engine);
    bool failed = engine->failed;
    engine->failed = false;
    if (code < 0) {
        return code;
    }
    sim_log("wait", (uint64_t) timeout_ns, engine->completions->count);
    time_passes(world.now + 1 + below(1000));
    if (engine->completions->count == 0 && !failed && gathers && !chance(world.faults.early)) {
        time_passes(until);
        timeout_ns = 0;
    }
    collect(engine, false);
    if (timeout_ns == 0 || engine->completions->count > 0 || failed) {
        return 0;
    }
    if (chance(world.faults.early)) {
        uint64_t left = until > world.now ? until - world.now : 0;
        time_passes(world.now + below(left < 50000 ? (uint32_t) left + 1 : 50000));
        return 0;
    }
    sleep_until(engine, until);
    return 0;
}

/* Datagrams only, and not always those. A look takes time, or a busy loop would look for ever. */
static int engine_peek(struct engine *engine)
{
    rule(!engine->sent, "peek() between send() and flush()");
    world.peeks++;
    world.now += 1 + below(2000);
    network_arrive();
    for (struct attached *a = engine->endpoints; a != NULL; a = a->next) {
        if (attached_step(engine, a) == STEP_RECEIVE && !chance(world.faults.postpone)) {
            append_received(engine, a);
        }
    }
    return world.broken;
}

static int engine_flush(struct engine *engine)
{
    if (++world.waits > WAITS_MAX) {
        give_up("the loop spins");
    }
    int code = submit(engine);
    engine->failed = false;
    if (code == 0 && chance(world.faults.in_flush)) {
        collect(engine, false);
    }
    return code;
}

/* ---- The engine: the rest of the boundary -------------------------------------------------- */

static int engine_open(const struct engine_config *config, struct engine **ret_engine,
                       const char **ret_call)
{
    struct engine *engine = chance(world.faults.setup) ? NULL : dg_allocate(sizeof(*engine));
    if (engine == NULL) {
        *ret_call = "sim";
        return -ENOMEM;
    }
    engine->completions = config->completions;
    engine->fd = -1;
    engine->next = world.engines;
    world.engines = engine;
    *ret_engine = engine;
    return 0;
}

static void engine_close(struct engine *engine, bool forked)
{
    struct engine **link = &world.engines;
    (void) forked;
    while (*link != engine) {
        link = &(*link)->next;
    }
    *link = engine->next;
    for (struct attached *a = engine->endpoints, *next; a != NULL; a = next) {
        next = a->next;
        rule(world.broken < 0, "the engine is closed before a socket is detached");
        if (a->fd >= 0) {
            descriptor_of(a->fd, SOCKET)->attached = NULL;
        }
        dg_release(a);
    }
    for (struct watching *w = engine->watches, *next; w != NULL; w = next) {
        next = w->next;
        dg_release(w);
    }
    while (engine->lent != NULL) { /* the memory is unmapped, but for the network it is there */
        struct lent *lent = engine->lent;
        engine->lent = lent->next;
        free(lent);
    }
    if (engine->fd >= 0) {
        world.descriptors[engine->fd - DESCRIPTOR_FIRST] = (struct descriptor){.kind = FREE};
    }
    dg_release(engine->states);
    dg_release(engine->used);
    dg_release(engine);
}

static int engine_attach(struct engine *engine, struct endpoint *endpoint)
{
    struct descriptor *d = descriptor_of(endpoint->fd, SOCKET);
    struct attached *a = chance(world.faults.setup) ? NULL : dg_allocate(sizeof(*a));
    if (a == NULL) {
        return -ENOMEM;
    }
    rule(endpoint->state == NULL && d->attached == NULL, "attach() of what is attached");
    rule(endpoint->control_size % 8 == 0 &&
             endpoint->control_size <= SLOT_HEADROOM - SLOT_CONTROL_AT,
         "a control size that no slot has room for");
    a->endpoint = endpoint;
    a->fd = endpoint->fd;
    a->stop_at = a->detach_at = NEVER;
    struct attached **link = &engine->endpoints;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = a;
    d->attached = a;
    endpoint->state = a;
    return 0;
}

static struct attached *attached_of(struct endpoint *endpoint)
{
    struct attached *a = endpoint->state;
    if (a == NULL || a->endpoint != endpoint) {
        give_up("an endpoint that is not attached");
    }
    rule(a->detach_at == NEVER, "a call for an endpoint after its detach()");
    return a;
}

static uint64_t some_time_later(uint32_t permille)
{
    return world.now + (chance(permille) ? below(world.faults.late_ns) : 0);
}

static void engine_detach(struct engine *engine, struct endpoint *endpoint)
{
    struct attached *a = attached_of(endpoint);
    for (const struct watching *w = engine->watches; w != NULL; w = w->next) {
        rule(w->watch->endpoint != endpoint, "detach() before unwatch()");
    }
    if (a->receiving && chance(world.faults.postpone)) { /* what was on its way */
        while (descriptor_of(a->fd, SOCKET)->head != NULL && engine->free_count > 0) {
            append_received(engine, a);
        }
    }
    a->queued = false; /* nobody knows of it yet */
    a->silent = chance(world.faults.stop_silent);
    a->detach_at = some_time_later(1000);
}

static int engine_provide(struct engine *engine, const struct slots *slots, const char **ret_call)
{
    rule(engine->states == NULL, "provide() twice");
    unsigned char *states = chance(world.faults.setup) ? NULL : dg_allocate(slots->count);
    uint32_t *used = states == NULL ? NULL : dg_allocate(slots->count * sizeof(*used));
    if (used == NULL) {
        dg_release(states);
        *ret_call = "sim";
        return -ENOMEM;
    }
    engine->states = states;
    engine->used = used;
    engine->slots = *slots;
    engine->free_count = slots->count;
    return 0;
}

static void engine_recv_start(struct engine *engine, struct endpoint *endpoint)
{
    struct attached *a = attached_of(endpoint);
    rule(engine->states != NULL, "recv_start() before provide()");
    rule(!a->queued && !a->receiving, "recv_start() before STOPPED");
    a->stop_at = NEVER;
    a->queued = world.faults.deferred;
    a->receiving = !a->queued;
}

static void engine_recv_stop(struct engine *engine, struct endpoint *endpoint)
{
    struct attached *a = attached_of(endpoint);
    rule(a->stop_at == NEVER, "recv_stop() twice");
    if (a->queued && chance(500)) {
        append_stopped(engine, a, 0); /* taken back before anyone knew of it */
    } else if (a->queued || a->receiving) {
        a->receiving = true;
        a->queued = false;
        a->stop_at = some_time_later(world.faults.stop_late);
    }
}

/* What a program that kept a message without retaining it would see. */
static void slot_spoil(const struct engine *engine, uint32_t slot)
{
    memset(engine->slots.memory + (size_t) slot * engine->slots.stride, 0xdb, engine->used[slot]);
}

static void engine_recycle(struct engine *engine, uint32_t slot)
{
    bool lent = slot < engine->slots.count && engine->states[slot] == SLOT_LENT;
    rule(lent, "recycle() of a slot that is not lent");
    if (lent) {
        slot_spoil(engine, slot);
        engine->states[slot] = world.faults.deferred ? SLOT_RETURNED : SLOT_FREE;
        engine->free_count += !world.faults.deferred;
    }
}

static int engine_watch(struct engine *engine, struct watch *watch)
{
    struct watching *w = watch->state;
    if (w == NULL) {
        w = chance(world.faults.setup) ? NULL : dg_allocate(sizeof(*w));
        if (w == NULL) {
            return -ENOMEM;
        }
        w->watch = watch;
        w->next = engine->watches;
        engine->watches = w;
        watch->state = w;
    }
    rule(w->watch == watch && !w->queued && !w->armed, "watch() of what is armed");
    w->queued = world.faults.deferred;
    w->armed = !w->queued;
    return 0;
}

static void engine_unwatch(struct engine *engine, struct watch *watch)
{
    struct watching **link = &engine->watches;
    while (*link != NULL && (*link)->watch != watch) {
        link = &(*link)->next;
    }
    rule(*link != NULL && watch->state == *link, "unwatch() of what is not watched");
    struct watching *w = *link;
    if (w != NULL) {
        *link = w->next;
        watch->state = NULL;
        dg_release(w);
    }
}

static int engine_fd(struct engine *engine)
{
    if (engine->fd < 0) {
        engine->fd = chance(world.faults.no_pollable) ? -ENOTSUP : descriptor_open(ENGINE);
        if (engine->fd < 0) {
            int code = engine->fd;
            engine->fd = -1;
            return code;
        }
        descriptor_of(engine->fd, ENGINE)->engine = engine;
    }
    return engine->fd;
}

static const struct backend sim_backend = {
    .name = "sim",
    .open = engine_open,
    .close = engine_close,
    .attach = engine_attach,
    .detach = engine_detach,
    .provide = engine_provide,
    .recv_start = engine_recv_start,
    .recv_stop = engine_recv_stop,
    .recycle = engine_recycle,
    .send = engine_send,
    .lend = engine_lend,
    .reclaim = engine_reclaim,
    .flush = engine_flush,
    .watch = engine_watch,
    .unwatch = engine_unwatch,
    .wait = engine_wait,
    .peek = engine_peek,
    .fd = engine_fd,
};

/* ---- Guests and services ------------------------------------------------------------------- */

static struct descriptor *guest_of(int fd)
{
    struct descriptor *d = descriptor_of(fd, SOCKET);
    rule(d->guest, "a call for guests, for a socket that is none's");
    return d;
}

static int system_guest_socket(int family, int type)
{
    int fd = descriptor_open(SOCKET);
    if (fd >= 0) {
        struct descriptor *d = descriptor_of(fd, SOCKET);
        d->family = (sa_family_t) family;
        d->guest = true;
        d->number = GUEST_FIRST + ++world.guests;
        d->said = type == SOCK_STREAM ? allocate(sizeof(*d->said)) : NULL;
    }
    sim_log("guest", (uint64_t) type, (uint64_t) fd);
    return fd;
}

static int system_guest_connect(int fd, const struct sockaddr *name, socklen_t size)
{
    static const int errors[] = {-ENETUNREACH, -EADDRNOTAVAIL, -ENOBUFS, -ENOMEM};
    struct descriptor *d = guest_of(fd);
    if (chance(world.faults.setup)) {
        return errors[below(4)];
    }
    d->peer = address_read(name, size);
    if (!d->bound) {
        d->local = loopback_of(d->family);
        choose_port(d);
        d->bound = true;
    }
    if (d->said == NULL) {
        return sim_error_of(&d->peer);
    }
    d->full_until = d->stream_last = world.now + 1 + below(world.faults.delay_ns);
    if (!is_served(&d->peer) || chance(world.faults.dns_down)) {
        d->pending_error = -ECONNREFUSED;
    }
    return -EINPROGRESS;
}

/* Pieces of a stream are late, but neither lost nor overtaken; one of no bytes is its end. */
static void stream_put(struct packet *packet)
{
    struct descriptor *d = socket_numbered(packet->connection);
    packet->at += world.now + 1 + below(world.faults.delay_ns);
    if (d == NULL) {
        free(packet);
        return;
    }
    packet->at = packet->at < d->stream_last ? d->stream_last : packet->at;
    packet->order = world.order++;
    d->stream_last = packet->at;
    heap_push(packet);
}

/* Takes no more than to the end of a question. */
static uint32_t stream_say(struct descriptor *d, const unsigned char *bytes, uint32_t size)
{
    struct said *said = d->said;
    uint32_t whole = 2;
    if (said->size >= 2) {
        whole += ((uint32_t) said->bytes[0] << 8) + said->bytes[1];
    }
    uint32_t taken = size < whole - said->size ? size : whole - said->size;
    rule(whole <= SAID_MAX, "a question that is too long");
    memcpy(said->bytes + said->size, bytes, taken);
    said->size += taken;
    if (said->size > 2 && said->size == whole) {
        const struct packet like = {
            .source = d->number, .connection = d->number, .from = d->local, .to = d->peer};
        stream_put(packet_make(&like, said->bytes + 2, said->size - 2));
        said->size = 0;
    }
    return taken;
}

static void datagram_say(const struct descriptor *d, const unsigned char *bytes, uint32_t size)
{
    const struct packet like = {.source = d->number, .from = d->local, .to = d->peer};
    network_put(&like, bytes, size);
}

static int system_guest_send(int fd, const struct iovec *vectors, size_t count)
{
    static unsigned char bytes[DATAGRAM_MAX];
    struct descriptor *d = guest_of(fd);
    uint32_t size = 0;
    int code = pending_error_take(d);
    code = code == 0 ? room_for(d) : code;
    if (code < 0) {
        return code;
    }
    for (size_t i = 0; i < count && vectors[i].iov_len <= sizeof(bytes) - size; i++) {
        memcpy(bytes + size, vectors[i].iov_base, vectors[i].iov_len);
        size += (uint32_t) vectors[i].iov_len;
    }
    if (d->said == NULL) {
        datagram_say(d, bytes, size);
        return (int) size;
    }
    uint32_t taken = 0;
    for (uint32_t more = 1; more > 0; taken += more) {
        more = stream_say(d, bytes + taken, size - taken);
    }
    return (int) taken;
}

static int system_guest_receive(int fd, void *data, size_t size, struct sockaddr *name,
                                socklen_t *name_size)
{
    struct descriptor *d = guest_of(fd);
    struct packet *packet = d->head;
    int code = pending_error_take(d);
    if (code < 0 || packet == NULL || chance(world.faults.eagain)) {
        return code < 0 ? code : -EAGAIN;
    }
    uint32_t left = packet->size - packet->taken;
    uint32_t taken = size < left ? (uint32_t) size : left;
    memcpy(data, packet->bytes + packet->taken, taken);
    packet->taken += taken;
    if (name != NULL) {
        *name_size = *name_size < packet->from.size ? *name_size : packet->from.size;
        memcpy(name, &packet->from.u, *name_size);
    }
    bool ends = d->said != NULL && packet->size == 0;
    if (d->said == NULL || (packet->taken == packet->size && !ends)) {
        free(packet_pop(d));
    }
    return (int) taken;
}

void sim_serve(uint16_t port, sim_service_fn *fn)
{
    world.service_port = port;
    world.service = fn;
}

void sim_reply(const struct sim_question *question, const unsigned char *bytes, uint32_t size,
               uint64_t delay_ns)
{
    const struct packet *asked = question->packet;
    const struct packet like = {
        .at = delay_ns, .connection = asked->connection, .from = asked->to, .to = asked->from};
    if (asked->connection != 0) {
        stream_put(packet_make(&like, bytes, size));
    } else {
        network_put(&like, bytes, size);
    }
}

/* ---- Files, and the whole table ------------------------------------------------------------ */

static int system_file_open(const char *path)
{
    if (chance(world.faults.setup)) {
        return chance(500) ? -EMFILE : -ENFILE;
    }
    if (!sim_descriptor_left()) {
        return -EMFILE;
    }
    return world.open_file != NULL ? world.open_file(path) : -ENOENT;
}

void sim_serve_files(int (*open)(const char *path))
{
    world.open_file = open;
}

/* Of wake-ups only: nothing else is ever duplicated. */
static int system_duplicate(int fd)
{
    const struct descriptor *d = descriptor_of(fd, WAKE);
    int made = descriptor_open(WAKE);
    if (made >= 0) {
        descriptor_of(made, WAKE)->reader = d->reader;
    }
    return made;
}

static const struct dg_system sim_system = {
    .socket = system_socket,
    .bind = system_bind,
    .setsockopt = system_setsockopt,
    .getsockopt = system_getsockopt,
    .getsockname = system_getsockname,
    .close = system_close,
    .now = sim_now,
    .receive = system_receive,
    .refuse = system_refuse,
    .guest_socket = system_guest_socket,
    .guest_connect = system_guest_connect,
    .guest_send = system_guest_send,
    .guest_receive = system_guest_receive,
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
    .segments_max = system_segments_max,
};

/* ---- The world ----------------------------------------------------------------------------- */

void sim_open(uint64_t seed, const struct sim_faults *faults, const struct sim_hooks *hooks)
{
    if (world.exists) {
        give_up("two worlds at a time");
    }
    memset(&world, 0, sizeof(world));
    world.exists = true;
    world.trace = getenv("DGRAM_SIM_TRACE") != NULL;
    world.seed = seed;
    world.random.state = seed ^ 0x5eed;
    world.hash = 0xcbf29ce484222325u;
    world.now = 1000000000u + below(1000000000);
    world.faults = *faults;
    world.limit = DESCRIPTORS;
    world.hooks = *hooks;
    world.memory_before = dg_memory;
    dg_memory = (struct dg_memory_hooks){memory_allocate, memory_release};
}

void sim_close(void)
{
    rule(world.engines == NULL, "an engine is left open");
    for (int i = 0; i < DESCRIPTORS; i++) {
        struct descriptor *d = &world.descriptors[i];
        rule(d->kind == FREE, "a descriptor is left open");
        while (d->head != NULL) {
            free(packet_pop(d));
        }
    }
    rule(world.live == 0, "memory is left allocated");
    while (world.heap_count > 0) {
        free(world.heap[--world.heap_count]);
    }
    free(world.heap);
    dg_memory = world.memory_before;
    world.exists = false;
}

int sim_loop_create(const struct dgram_loop_options *options, struct dgram_loop **ret_loop)
{
    return dg_loop_create_on(options, &sim_system, &sim_backend, ret_loop);
}

void sim_calm(void)
{
    bool deferred = world.faults.deferred;
    world.faults = (struct sim_faults){.deferred = deferred};
    world.limit = DESCRIPTORS;
}

const struct sim_faults *sim_present_faults(void)
{
    return &world.faults;
}

void sim_change_faults(const struct sim_faults *faults)
{
    world.faults = *faults;
}

void sim_limit(uint32_t descriptors)
{
    world.limit = descriptors < DESCRIPTORS ? descriptors : DESCRIPTORS;
}

void sim_no_room(uint32_t socket, int code, uint64_t until)
{
    struct descriptor *d = socket_numbered(socket);
    if (d != NULL) {
        *(code == -EAGAIN ? &d->full_until : &d->nobufs_until) = until;
    }
}

void sim_no_room_for(uint16_t port)
{
    world.no_room[port] = true;
}

void sim_room_for(uint16_t port)
{
    world.no_room[port] = false;
}

void sim_room(uint32_t datagrams)
{
    world.room = datagrams;
}

uint64_t sim_stalled(const struct dgram_loop *loop)
{
    return loop->outbox->stalled;
}

uint64_t sim_counted(uint32_t socket)
{
    return world.counted[socket % SOCKETS_COUNTED];
}

uint32_t sim_last_socket(void)
{
    return world.sockets;
}

struct sim_socket sim_look(uint32_t socket)
{
    struct sim_socket seen = {0};
    const struct descriptor *d = socket_numbered(socket);
    if (d == NULL) {
        return seen;
    }
    seen.open = true;
    seen.has_data = d->head != NULL;
    seen.full = world.now < d->full_until;
    seen.attached = d->attached != NULL;
    for (const struct engine *e = world.engines; e != NULL && seen.attached; e = e->next) {
        for (const struct watching *w = e->watches; w != NULL; w = w->next) {
            bool own = w->watch->endpoint == d->attached->endpoint;
            seen.watched = seen.watched || (own && (w->queued || w->armed));
        }
        for (const struct attached *a = e->endpoints; a != NULL; a = a->next) {
            seen.slot_free = seen.slot_free || (a == d->attached && e->free_count > 0);
        }
    }
    seen.detaching = seen.attached && d->attached->detach_at != NEVER;
    seen.receiving = seen.attached && (d->attached->queued || d->attached->receiving);
    return seen;
}

uint32_t sim_slots_lent(void)
{
    uint32_t count = 0;
    for (const struct engine *e = world.engines; e != NULL; e = e->next) {
        for (uint32_t i = 0; i < e->slots.count; i++) {
            count += e->states[i] == SLOT_LENT;
        }
    }
    return count;
}

uint32_t sim_lent(void)
{
    uint32_t count = 0;
    for (const struct engine *e = world.engines; e != NULL; e = e->next) {
        for (const struct lent *l = e->lent; l != NULL; l = l->next) {
            count++;
        }
    }
    return count;
}

int sim_broken(void)
{
    return world.broken;
}

static bool anything_there(void)
{
    for (const struct engine *engine = world.engines; engine != NULL; engine = engine->next) {
        if (count_there(engine) > 0) {
            return true;
        }
    }
    return false;
}

bool sim_quiet(void)
{
    return !anything_there() && next_event(false) == NEVER;
}

bool sim_readable(int fd)
{
    const struct descriptor *d = &world.descriptors[(fd - DESCRIPTOR_FIRST) % DESCRIPTORS];
    switch (d->kind) {
    case WAKE:
        return d->signalled;
    case ALARM:
        return world.now >= d->deadline;
    case ENGINE:
        return count_there(d->engine) > 0;
    case GATHER:
        for (size_t i = 0; i < d->gathered_count; i++) {
            if (sim_readable(d->gathered[i])) {
                return true;
            }
        }
        return false;
    default:
        rule(false, "a descriptor that nothing can be read from");
        return false;
    }
}

uint64_t sim_next_event(void)
{
    return next_event(true);
}

bool sim_sleep(uint64_t until)
{
    uint64_t next = next_event(true);
    if (next == NEVER && until == NEVER) {
        return false;
    }
    time_passes_asleep(next < until ? next : until);
    return true;
}
