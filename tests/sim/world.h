/* SPDX-License-Identifier: MIT */
/*
 * world.h: the inside of the simulator: what its files know of the one world, and offer each other.
 *
 * From below:
 *
 *     random.c    chance, the log, broken rules
 *     faults.c    what goes wrong
 *     address.c   addresses of this world
 *     system.c    descriptors, and struct dg_system
 *     network.c   datagrams under way
 *     trains.c    how the engine sends
 *     engine.c    the rest of the engine
 *     guests.c    sockets of c-ares, and who answers them
 *     world.c     beginning and end, memory, the clock, what tests see
 *
 * Time passes in sim_wait() and sim_sleep() only, and a little with every wait, so that a loop that
 * turns without sleeping gets somewhere.
 */
#ifndef DGRAM_TESTS_SIM_WORLD_H
#define DGRAM_TESTS_SIM_WORLD_H

#include "src/backend.h"
#include "src/base/memory.h"
#include "src/system.h"
#include "tests/sim/sim.h"

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
    TRAIN_MAX = 65473,     /* above, the stack cuts IPv6 trains in software; not taken from src/ */
    WAITS_MAX = 5000000    /* of one world: more is a loop that spins */
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

extern struct world sim_world;

/* ---- random.c ------------------------------------------------------------------------------ */

/* A rule of the boundaries. Goes on after a broken one, so that the run can end in order. */
void sim_rule(bool kept, const char *text);

/* Beyond repair: what follows would say nothing any more. */
void sim_give_up(const char *text);

/* ---- faults.c ------------------------------------------------------------------------------ */

/* A number for an address that depends on nothing but the seed and the address. */
uint64_t sim_address_number(const struct dgram_addr *address, uint64_t salt);

/* What a destination that refuses trains answers to this one, 0 if it takes it. */
int sim_refusal_of(const struct dgram_addr *to, uint32_t segment);

/* ---- address.c ----------------------------------------------------------------------------- */

uint16_t sim_port_of(const struct dgram_addr *address);
void sim_set_port(struct dgram_addr *address, uint16_t port);
struct dgram_addr sim_address_read(const void *name, size_t size);
bool sim_host_equal(const struct dgram_addr *one, const struct dgram_addr *two);
bool sim_host_is_any(const struct dgram_addr *address);
struct dgram_addr sim_loopback_of(sa_family_t family);
bool sim_host_is_here(const struct dgram_addr *address);

/* ---- system.c ------------------------------------------------------------------------------ */

struct descriptor *sim_descriptor_of(int fd, enum descriptor_kind kind);

/* The lowest free number, as the kernel does: numbers come back soon. */
int sim_descriptor_open(enum descriptor_kind kind);
struct packet *sim_packet_pop(struct descriptor *d);
struct descriptor *sim_socket_numbered(uint32_t number);
void sim_choose_port(struct descriptor *d);

/* A kernel without trains, one that takes few, one of each generation. */
unsigned sim_segments_max(void);
extern const struct dg_system sim_system;

/* ---- network.c ----------------------------------------------------------------------------- */

void sim_heap_push(struct packet *packet);
struct packet *sim_packet_make(const struct packet *like, const unsigned char *bytes,
                               uint32_t size);

/* One unit on its way: lost, doubled or delayed. Its sender may want it late (`at` of `like`), and
 * others overtake it then. A double comes right behind, and trains have none, so that the order
 * stays. */
void sim_network_put(const struct packet *like, const unsigned char *bytes, uint32_t size);
void sim_network_send(const struct packet *like, const unsigned char *bytes, uint32_t size);
bool sim_is_served(const struct dgram_addr *address);
void sim_network_arrive(void);

/* ---- trains.c ------------------------------------------------------------------------------ */

/* No room, for a while that begins by chance. */
int sim_send_room(struct descriptor *d);

/* An older datagram's error, once: a send that is repeated at once is told the truth. */
int sim_pending_error_take(struct descriptor *d);
void sim_loan_end(struct engine *engine, struct lent **link);
int sim_engine_lend(struct engine *engine, struct region *region);
void sim_engine_reclaim(struct engine *engine, const struct region *region);
void sim_engine_send(struct engine *engine, struct train *const *trains, size_t count);

/* Starts, watches and slots become known to the kernel; trains get their results. */
int sim_submit(struct engine *engine);

/* ---- engine.c ------------------------------------------------------------------------------ */

uint32_t sim_control_write(unsigned char *control, uint32_t segment);
uint32_t sim_count_there(const struct engine *engine);

/* The next moment at which something may be there that is not there now. */
uint64_t sim_due_next(bool with_alarms);
extern const struct backend sim_backend;

/* ---- guests.c ------------------------------------------------------------------------------ */

int sim_guest_socket(int family, int type);
int sim_guest_connect(int fd, const struct sockaddr *name, socklen_t size);
int sim_guest_send(int fd, const struct iovec *vectors, size_t count);
int sim_guest_receive(int fd, void *data, size_t size, struct sockaddr *name, socklen_t *name_size);

/* ---- world.c ------------------------------------------------------------------------------- */

void *sim_allocate(size_t size);
void sim_time_passes(uint64_t to);

/* The same while everybody sleeps. */
void sim_time_passes_asleep(uint64_t to);

#endif
