/* SPDX-License-Identifier: MIT */
/*
 * core.h: the structs of the core and the functions that its files offer each other. Nothing here
 * is public.
 *
 * A turn, in order (loop.c): prepare (due binds, closes, re-arms) - hand over the queued trains and
 * wait - settle the trains - dispatch timers, events, completions, sent callbacks, errors, closes.
 * Callbacks run in the dispatch part only, so every other part may assume that nothing changes
 * under its feet.
 */
#ifndef DGRAM_CORE_H
#define DGRAM_CORE_H

#include <dgram.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "src/backend.h"
#include "src/base/array.h"
#include "src/base/fork.h"
#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/base/sized.h"
#include "src/core/agenda.h"
#include "src/core/alarm.h"
#include "src/core/errors.h"
#include "src/core/io.h"
#include "src/net/address.h"
#include "src/net/cmsg.h"
#include "src/net/interface.h"
#include "src/net/peer.h"
#include "src/system.h"

/* ---- Limits -------------------------------------------------------------------------------- */

enum {
    SLOTS_DEFAULT = 64,
    SLOTS_MIN = 4,
    SLOTS_MAX = 4096,
    SLOT_SIZE_DEFAULT = 65536,
    SLOT_SIZE_MIN = 512,
    MESSAGES_MAX = 256,      /* of one `messages` event */
    SEGMENTS_LIMIT = 128,    /* of one train: the kernel's, since 6.9; 64 before */
    TRAIN_BYTES_MAX = 65473, /* payload of a train: one byte more, and IPv6 trains are cut up in
                                 software, ten times dearer (65,493 for IPv4) */
    QUEUE_OVERHEAD = 64,     /* bytes that a queued datagram is charged beside its payload */
    POSTS_MAX = 65536
};

/* ---- Sending: flows, trains, requests (train.c, request.c) --------------------------------- */

/* A datagram that must be remembered one by one: it has a callback, or waits for room. */
struct request {
    struct link link; /* first, so that the two convert */
    struct dgram_socket *socket;
    dgram_sent_fn *fn; /* NULL: failures become `error` events */
    void *user;
    const void
        *data; /* borrowed until fn has run, or this request's own; NULL: only in the arena */
    uint32_t size;
    int32_t result;
    uint16_t index; /* which datagram of its train */
    bool heap;      /* allocated alone, payload behind the struct; else from the loop's store */
    bool parked;    /* has waited for room, and is counted */
    uint8_t peer_size;
    uint16_t tries;     /* in vain, since the kernel had no memory for it (ENOBUFS), */
    uint32_t since;     /* and from when on: the loop's time in milliseconds */
    union dg_peer peer; /* set while parked */
};

/* The datagrams that wait for one destination or name, as a part of the queues. */
struct share {
    uint64_t charge;     /* sizes, and QUEUE_OVERHEAD for each */
    uint64_t refused_at; /* its charge when it last refused a send; 0: none since a `drain` */
    struct share *whole; /* of all sockets for the same name; NULL: there is no more than this */
};

/* A destination of a socket for which the kernel had no memory (ENOBUFS), and the datagrams that
 * wait for it. */
struct stall {
    struct node turn; /* in the socket's list */
    struct stall *hash_next;
    struct dgram_socket *socket;
    union dg_peer peer;
    struct share share;
    struct queue requests; /* in order */
    struct queue again;    /* refused in the submission that is being settled */
    bool goes;             /* the datagram that was tried last has left: the rest may go, too */
};

/*
 * One destination of one socket within a submission. Its *lane* is the fast way into its last
 * train: so many more datagrams of exactly this size and without a callback may simply be copied to
 * `lane`, and are accounted for when dg_flow_sync() comes by.
 */
struct flow {
    unsigned char *lane;
    uint32_t lane_size, lane_left, lane_granted;
    uint32_t run_left; /* the same where `lane` points into a buffer of the program: further
                          datagrams that lie there already. One of the two is 0 */
    union dg_peer peer;
    socklen_t peer_size;
    uint32_t trains_below; /* datagrams of this size and more travel alone: see struct refusal */
    struct dgram_socket *socket;
    struct stall *stall; /* its stall, where datagrams wait for room, or NULL */
    struct flow **bucket, *hash_next;
    struct dg_train *head, *tail;
};

/* Chunks of arena, or borrowed payloads, that one train gathers. Arena chunks double, so 8 reach
 * from 1 KiB to a full train. */
enum { TRAIN_VECTORS = 8 };

/* Datagrams of one flow and one size, of which the last may be shorter. */
struct dg_train {
    struct train base; /* the engine's part; first, so that the two convert */
    struct flow *flow;
    struct dg_train *next; /* the flow's next one */
    struct queue requests; /* its requests, by rising index */
    uint32_t segment;      /* size of the first datagram */
    uint32_t bytes;
    uint32_t bytes_max;
    uint16_t count; /* datagrams */
    bool full;      /* takes no more */
    bool retried;   /* after a pending ICMP error */
    unsigned char *room,
        *room_end;               /* free arena behind the last payload, or the rest of `buffer` */
    struct dgram_buffer *buffer; /* all of the train lies there, in one vector; NULL: elsewhere */
    struct iovec vectors[TRAIN_VECTORS];
    _Alignas(size_t) unsigned char control[CMSG_SPACE(sizeof(uint16_t))];
};

enum {
    BATCH_TRAINS = 128, /* in one submission; at 3.3 us for a lone datagram, 0.4 ms of sending */
    BATCH_BUCKETS = 256,
    BATCH_FULL_TRAINS = 16,        /* submit after so many full trains, */
    BATCH_FULL_BYTES = 256 * 1024, /* or so many bytes in them, while they are in the cache, */
    BATCH_BYTES = 1024 * 1024,     /* or so much of arena and buffers is used: interleaved sends to
                                      many peers fill their trains late */
    /* The most that open lanes can hold before dg_flow_sync() charges it to the queues: an arena of
     * one-byte datagrams, each with its overhead. */
    BATCH_CHARGE_MAX = BATCH_BYTES + BATCH_TRAINS * SEGMENTS_LIMIT * QUEUE_OVERHEAD,
    /* Of a lane in a buffer: all flows may have one. */
    LANE_RUN_BYTES = BATCH_BYTES / BATCH_TRAINS,
    ARENA_BYTES = BATCH_BYTES + 2 * 65536, /* so there is always room for one more datagram */
    CHUNK_BYTES = 1024                     /* first arena chunk of a train */
};

/* The submission being built. One per loop, allocated with it. */
struct batch {
    struct flow flows[BATCH_TRAINS];
    struct dg_train trains[BATCH_TRAINS];
    struct train *order[BATCH_TRAINS];
    struct flow *buckets[BATCH_BUCKETS];
    uint32_t flow_count, train_count, full_trains, full_bytes;
    int code;              /* of the engine, while results are settled: 0, or why it failed */
    uint32_t in_buffers;   /* trains */
    uint32_t buffer_bytes; /* of theirs, and of what their lanes may take: beside the arena */
    unsigned char *arena, *arena_top, *arena_end;
    uint64_t secrets[3]; /* multipliers of the hash of names: odd, nobody else's */
};

/* A destination that refused a train: datagrams of that size and more go to it alone for a while.
 * EMSGSIZE is about the path's MTU, so smaller ones may still travel in trains; other refusals
 * (EIO: IPsec, or no checksum offload; EPERM: a firewall) are about trains as such and are noted as
 * size 0. */
struct refusal {
    union dg_peer peer;
    uint32_t size;
    uint64_t until; /* loop time */
};

enum { REFUSALS = 64 };
#define REFUSAL_NS UINT64_C(10000000000) /* routes and tunnels change: asked again after 10 s */

/* ---- Receiving ----------------------------------------------------------------------------- */

struct pool;
struct request_slab;

/* The bytes of one RECEIVED record, taken apart as messages are delivered. */
struct arrival {
    const unsigned char *data;
    uint32_t size;    /* bytes left */
    uint32_t segment; /* bytes of each datagram but the last; 0: one datagram, whatever its size */
    uint32_t real_size;
    bool truncated;
    const struct dgram_addr *from;
    void *owner; /* dgram_message.owner */
};

/* Owner of messages that lie in no slot: its lowest bit says so. */
#define DG_OWNER_COPIED ((void *) 1)

/* For backlog_item.slot: the arrival is a copy. */
#define DG_NO_SLOT UINT32_MAX

/* An arrival, or its rest, that waits for its socket: in its slot, of which each has one of these,
 * because the turn was over; or copied away, because the socket was paused. */
struct backlog_item {
    struct link link; /* first, so that the two convert */
    struct arrival arrival;
    uint32_t slot;
};

/* Bits of dgram_socket.drain_wanted. */
enum {
    WANTED_QUEUE = 1 << 0,  /* room in the queue */
    WANTED_STALLED = 1 << 1 /* room in the half of it for stalled datagrams */
};

enum receive_state {
    RECEIVE_OFF,
    RECEIVE_ON,
    RECEIVE_STOPPING, /* recv_stop() was called, STOPPED has not come */
    RECEIVE_STARVED,  /* no slot was free; in one of the loop's lists of the starved */
    RECEIVE_FAILED    /* error after error; in the loop's list for timed retries */
};

/* ---- Sockets ------------------------------------------------------------------------------- */

enum socket_state {
    SOCKET_OPEN,
    SOCKET_ENDING,   /* dgram_end(): no new sends */
    SOCKET_EMPTYING, /* and all were made: no new arrivals; the kernel's datagrams are delivered */
    SOCKET_CLOSING,  /* dgram_close(): no messages; being detached */
    SOCKET_CLOSED,   /* the descriptor is closed; `close` is due */
    SOCKET_GONE      /* `close` is being emitted */
};

struct dgram_socket {
    struct endpoint endpoint; /* first, so that the two convert */
    struct dgram_loop *loop;
    /* Work that is due: another step of its end; a bind for its memberships; the last attempt to
     * send, then to be detached; to start or stop receiving; events; to be freed. */
    struct task ending, bind, closing, receiving, listening, drain, closed;
    struct node all;      /* in loop->sockets, */
    struct node starved;  /* loop->starved or starved_again, */
    struct node retried;  /* loop->blocked, for timed retries, */
    struct node rotation; /* loop->rotation, the rotation */
    uint8_t state;        /* enum socket_state */
    uint8_t receive;      /* enum receive_state */
    bool bound, gro, unreffed, counted, paused;
    bool got_some; /* received something since it was started */
    bool delivers; /* messages may be delivered: open or ending, not paused, with a handler */
    bool copies;   /* DGRAM_COPY */
    bool ipv6_only;
    bool announcing;          /* `listening` is about to be called */
    bool blocked;             /* the socket's buffer is full: sends are parked */
    uint8_t drain_wanted;     /* WANTED_...: the limits that refused a send since the last `drain`
                                 */
    uint8_t receive_errors;   /* since it received something, at most 16 */
    uint64_t receive_told;    /* loop time: when the last of them was told */
    in_port_t bind_port;      /* network order, while `binding` */
    struct name *binding;     /* the name to which it is to be bound, or NULL, */
    struct node binding_node; /* in that name's list */
    struct node waiters;      /* for names that its sends wait for */
    sa_family_t family;
    socklen_t peer_size;
    uint32_t size_max, segments_max;
    uint32_t bind_patience_ms;

    struct flow *last_flow;    /* of the current submission, or NULL */
    struct queue parked;       /* wait for room, in order */
    struct queue parked_again; /* refused in the submission that is being settled */
    struct node stalls;        /* in the order of their turns */
    struct dg_watch writable;
    uint32_t refused_trains;  /* by one destination after the other, since one took a train */
    uint64_t alone_until;     /* loop time: no trains before */
    uint32_t refused_size;    /* of the largest that the queue refused since the last `drain`, */
    uint32_t refused_stalled; /* and that the part for stalled ones refused */
    uint32_t vain_retries;    /* timed retries since something was sent */
    struct node memberships;  /* the last to be joined comes first */
    uint64_t queue_bytes, queue_count, queue_limit;
    uint64_t
        stalled; /* of the queue's charge: waits for names, and for destinations without room */

    struct queue backlog;   /* taken from the kernel, to be delivered first */
    uint32_t backlog_slots; /* of them, those that lie in slots */
    uint64_t empty_at; /* while it is emptied: received bytes after which there can be no more */
    bool more;         /* while it is emptied: the kernel holds something */
    uint16_t pace;     /* datagrams between two looks at the clock; 0: not known yet */

    dgram_message_fn *on_message;
    void *message_user;
    dgram_messages_fn *on_messages;
    void *messages_user;
    dgram_event_fn *on_listening, *on_drain, *on_close;
    void *listening_user, *drain_user, *close_user;
    struct error_sink errors;

    struct dgram_socket_stats stats;
};

/* A multicast group that a socket has joined, and how. */
struct membership {
    struct node node;
    struct dgram_addr group; /* without port and zone */
    struct in_addr local;    /* of the interface, as it was given */
    unsigned index;          /* of the interface: where the kernel has the membership; 0: unknown */
    char where[];            /* the text of the interface or zone, without address; "": none */
};

/* ---- Names (resolve.c, dns.c) -------------------------------------------------------------- */

enum {
    HOST_TEXT_MAX = 255, /* RFC 1035: 253 characters, the root's dot, the NUL */
    NAME_BUCKETS = 256,
    NAMES_MAX = 256 /* remembered; more only while sends wait for them */
};

/* A host name in one family: its address, and the sends and binds that wait for it. */
struct name {
    struct name *hash_next;
    struct node lookups;   /* under way, the newest last */
    struct node waiters;   /* sockets whose sends wait for an answer, in order */
    struct share whole;    /* of all of them */
    struct node binds;     /* sockets that wait to be bound to it, the last first */
    uint32_t destinations; /* handles that name it */
    uint64_t used;         /* the turn of its last use */
    uint64_t expires;      /* loop time; the address is good until then */
    uint64_t failed_until; /* the last question failed; until then it is not asked again */
    int failed_code;       /* of the last question; 0: it had an answer, or there was none */
    union dg_peer address;
    bool known; /* there is an address, perhaps an expired one */
    sa_family_t family;
    char host[HOST_TEXT_MAX];
};

/* One question to c-ares or to the program's hook. */
struct dgram_lookup {
    struct link link;        /* of a question, then of an answer; first, so that the two convert */
    struct dgram_loop *loop; /* NULL: the loop was freed meanwhile */
    struct name *name;
    struct node of_name; /* in its list, until the answer was acted upon */
    uint64_t asked_at;   /* loop time */
    bool answered;
    bool remembered;         /* nobody was asked: a failure of a moment ago */
    struct channel *channel; /* dns.c: of c-ares, that was asked, */
    uint32_t lacks;          /* and how often this host had lacked something then */
    int code;
    uint32_t ttl;
    struct dgram_addr address;
};

struct dns; /* dns.c: c-ares */

struct resolver {
    struct name *buckets[NAME_BUCKETS];
    uint32_t name_count;
    bool none_idle;         /* a look for an idle name was in vain, and none became idle since */
    struct task task;       /* there are questions or answers: */
    struct queue questions; /* to be asked in the next dispatch */
    struct queue answers;   /* to be acted upon in the next dispatch */
    dgram_lookup_fn *hook;
    void *hook_user;
    char *servers, *resolv_conf; /* options, or NULL */
    struct dns *dns;             /* NULL until the first question */
};

struct dgram_destination {
    struct dgram_loop *loop;
    struct name *name;         /* NULL: a literal */
    struct dgram_addr address; /* of a literal */
    sa_family_t family;
    in_port_t port; /* network order */
};

/* ---- Buffers (buffer.c) -------------------------------------------------------------------- */

struct dgram_buffer {
    struct region region;
    struct dgram_loop *loop;
    struct node all;  /* the loop's */
    struct task idle; /* `idle` is to be called, or the buffer to be freed */
    dgram_buffer_fn *on_idle;
    void *user;
    uint32_t uses; /* trains of the submission that lie here, and loans */
    int zero_copy; /* 0, or why its trains are copied */
    bool freed;
};

enum {
    /* Of a train that is worth a loan: below, the notification costs more than the copy. */
    ZERO_COPY_BYTES = 16 * 1024
};

struct loans;

/* ---- Timers, posts ------------------------------------------------------------------------- */

struct dgram_timer {
    struct alarm alarm; /* first, so that the two convert */
    struct dgram_loop *loop;
    struct node all; /* the loop's */
    dgram_timer_fn *fn;
    void *user;
    uint64_t interval;
    bool unreffed;
};

struct timers {
    struct node all;
    uint32_t keeping; /* started and not unref'd */
};

struct post {
    dgram_post_fn *fn;
    void *user;
};

/* Posts and stops that other threads and signal handlers hand to the loop. */
struct inbox {
    pthread_mutex_t lock; /* guards the arrays and their posts */
    struct post *posts, *running;
    size_t capacity, running_capacity;
    bool closed;         /* the loop is being freed */
    atomic_size_t count; /* written under the lock */
    atomic_bool stop;
    int fds[2]; /* wake-up: read end, write end; -1: nobody is to be woken any more */
    struct dg_watch watch;
};

/* The descriptor of an outer loop: it gathers the engine's, a kick and an alarm. The kick says that
 * the core itself has work, whatever the engine has armed. */
struct embedding {
    int fd;      /* -1 until dgram_loop_fd() */
    int kick[2]; /* as wake_open() makes it */
    int alarm;
    uint64_t deadline; /* for which the alarm is set; 0: passed */
    bool kicked;
};

/* ---- The loop ------------------------------------------------------------------------------ */

/* The rate of datagrams, and whether gathering pays at that rate (wait.c). A train counts once. */
struct gathering {
    int64_t budget_ns;        /* the longest delay that the program allows; 0: none */
    uint64_t since;           /* when the window began, */
    uint32_t records;         /* and the datagrams in it, */
    uint64_t bytes;           /* as receive buffers are charged for them */
    uint64_t bytes_in_budget; /* the same in the time of the budget, at the last window's rate */
    uint64_t buffer;          /* the least receive buffer of a socket; 0: to be asked */
    uint32_t came;            /* datagrams since the last wait */
    bool pays;                /* at the last window's rate */
    bool in_vain;             /* the last sleep brought nothing */
};

/* The time and the datagrams that the message handlers of a turn have used up (backlog.c). */
struct turn {
    uint64_t start, looked; /* at the clock: when they began, and last */
    uint32_t unseen;        /* datagrams delivered since then */
    uint32_t delivered;     /* and before */
    uint64_t unanswered;    /* delivered since a handler sent datagrams that have not left yet */
    bool late;              /* other callbacks ran since the loop's clock was read */
    bool rotates;           /* backlogs are being served: each look is the end of a quantum */
    bool over;              /* the quantum, or the whole turn: */
    bool spent;             /* nothing more is delivered in it */
};

/* The cost of datagrams: nanoseconds of the thread's CPU, and of time. */
struct price {
    uint64_t cpu, time, datagrams;
};

enum spin_state {
    SPIN_TRIES, /* by turns asleep and awake */
    SPIN_HOLDS, /* awake, since that pays */
    SPIN_RESTS  /* asleep, since it does not */
};

/* Whether spinning pays, which is tried out by epochs of some waits (wait.c). */
struct spinning {
    struct price epoch;     /* CPU, clock and datagrams when it began */
    unsigned epoch_waits;   /* in it, so far */
    unsigned epochs;        /* of the trial, so far, */
    struct price prices[2]; /* and the cost of its datagrams, asleep and awake */
    uint64_t until;         /* the next trial; of HOLDS and RESTS, */
    uint64_t held_at;       /* which began then */
    uint64_t rest_ns;       /* of the next RESTS */
    uint64_t answered_at;   /* the last wait of a loop that answers */
    uint64_t start;         /* of the last wait or, if it was one, spin */
    unsigned looks;         /* so far */
    uint8_t state;          /* enum spin_state */
    bool adapts;            /* it is tried; else the program has decided */
    bool awake;             /* it spins */
    bool hoped;             /* the last trial saved no CPU, but the other side may try, too */
    bool promises;          /* the last wait was short */
    bool found;             /* something, the last spin, */
    bool at_once;           /* and with its first look */
};

struct dgram_loop {
    const struct dg_system *system;
    struct agenda agenda; /* work that is due now, */
    struct alarms alarms; /* and later */
    struct io io;
    struct errors *errors;

    struct batch *batch;
    struct queue request_store; /* free ones */
    struct request_slab *request_slabs;
    struct queue done; /* callbacks to run, */
    struct task sent;  /* if any */
    struct refusal refusals[REFUSALS];
    struct node blocked; /* sockets that wait a moment, after ENOBUFS or failed receives, */
    struct alarm retry;  /* until this rings */

    struct pool *pool;
    struct node starved; /* sockets that got nothing since they were started: first in turn; */
    struct node starved_again; /* those that got something */
    struct node rotation;      /* arrivals wait in their backlogs; the next to be served first */
    const struct queue
        *served; /* a handler has so many of the arrivals of this backlog; NULL: none */
    uint32_t served_count;
    struct turn turn;
    struct dgram_message *messages; /* MESSAGES_MAX of them, for the `messages` event */
    unsigned char *pieces;          /* DGRAM_UDP6_SIZE_MAX bytes: pieces become one payload */

    struct node sockets; /* the newest first */

    struct timers timers;
    struct inbox inbox;
    struct resolver resolver;

    struct embedding embedding;

    struct node buffers;
    struct loans *loans; /* NULL until a buffer wants zero copy */
    uint32_t loans_out;  /* at the moment */
    uint64_t zero_copy_sends, zero_copy_copied, zero_copy_spared;

    uint64_t now;
    uint64_t queue_charge, queue_limit, stalled; /* of all sockets */
    struct stall *stalls[BATCH_BUCKETS];
    uint32_t drains_wanted; /* sockets that are owed a `drain` */
    uint32_t keeping;       /* sockets that keep the loop alive */
    uint32_t segments_max, slots, slot_size;
    int64_t busy_poll_ns; /* 0: never */
    struct gathering gathering;
    struct spinning spinning;
    uint64_t delivered; /* datagrams, to handlers */
    bool in_turn, freeing, free_requested;
    bool dispatches;   /* `dispatching` is being walked */
    uint64_t owner;    /* the number of the thread of the first turn; 0: there was none yet */
    bool attended;     /* in the list of loops whose owner is to be looked after when it ends */
    struct node owned; /* in that list */
    int cancel_state;  /* of the thread, while it is in a turn: as the program had set it */
    uint64_t turns, flushes;
    uint64_t sent_at; /* when the last of these was; 0: never */

    int refused_code;
    const char *refused_call, *refused_advice;
};

/* ---- loop.c -------------------------------------------------------------------------------- */

/* dgram_loop_create() on another system: for tests. */
int dg_loop_create_with(const struct dgram_loop_options *options, const struct dg_system *system,
                        struct dgram_loop **ret_loop);
/* The same on this engine, whatever the options say; NULL: as they say. */
int dg_loop_create_on(const struct dgram_loop_options *options, const struct dg_system *system,
                      const struct backend *backend, struct dgram_loop **ret_loop);

/* The loop belongs to the parent process. */
static inline bool dg_loop_forked(const struct dgram_loop *loop)
{
    return dg_forked(loop->agenda.fork_generation);
}

/* Something to call back without waiting for the kernel. */
bool dg_loop_has_work(struct dgram_loop *loop);
/* ---- owner.c ------------------------------------------------------------------------------- */

void dg_owners_open(void);
/* Whether the loop belongs to another thread than this one. */
bool dg_owner_is_other(const struct dgram_loop *loop);
/* The loop belongs to this thread, at whose end the engine is put to rest. */
void dg_owner_attend(struct dgram_loop *loop);
/* The loop is being freed: its owner has nothing to do with it any more. */
void dg_owner_leave(struct dgram_loop *loop);

/* Between these two pthread_cancel(3) does not end the thread, whatever is called: no change of
 * ours stays half made. hold() returns the state that release() restores. */
int dg_cancel_hold(void);
void dg_cancel_release(int state);

/* ---- wait.c -------------------------------------------------------------------------------- */

bool dg_wait_options_are_good(const struct dgram_loop_options *options);
void dg_wait_set(struct dgram_loop *loop, const struct dgram_loop_options *options);

/* How long the turn may sleep: not at all if there is work, else until the first deadline. */
int64_t dg_wait_patience(struct dgram_loop *loop, int64_t timeout_ns);
/* Submits, and waits that long at most for something to happen: 0, or the error of a broken engine.
 * The loop's clock tells then when it ended.
 * `limited`: by the program; the wait then lasts as long unless something happens. */
int dg_wait(struct dgram_loop *loop, int64_t patience, bool limited);
/* These RECEIVED records were delivered, as so many datagrams. */
void dg_wait_received(struct dgram_loop *loop, const struct completion *records, uint32_t count,
                      uint64_t datagrams);

/* ---- embed.c ------------------------------------------------------------------------------- */

/* A turn begins, and ends. */
void dg_embedding_clear(struct dgram_loop *loop);
void dg_embedding_set(struct dgram_loop *loop);
void dg_embedding_close(struct dgram_loop *loop);

/* ---- engine.c ------------------------------------------------------------------------------ */

/* Opens the given engine, or if it is NULL the wanted or the best one, and gives it the loop's
 * pool; fills the loop's backend, engine and refused_... */
int dg_engine_open(struct dgram_loop *loop, const struct backend *given, uint32_t engine);
uint32_t dg_engine_number(const struct backend *backend);

/* ---- socket.c ------------------------------------------------------------------------------ */

/* 0 if the socket may be used, else DGRAM_ENULL, DGRAM_EFORKED, DGRAM_ENOTRUNNING. */
static inline int dg_socket_check(const struct dgram_socket *socket)
{
    if (socket == NULL) {
        return DGRAM_ENULL;
    }
    if (dg_loop_forked(socket->loop)) {
        return DGRAM_EFORKED;
    }
    return socket->state >= SOCKET_CLOSING ? DGRAM_ENOTRUNNING : 0;
}

/* Whether the `listening` handler is still to be called: sends wait for it. */
static inline bool dg_socket_announces(const struct dgram_socket *socket)
{
    return (socket->announcing || task_is_due(&socket->listening)) && socket->on_listening != NULL;
}

void dg_socket_begin_close(struct dgram_socket *socket);
/* An ending socket has sent all. */
void dg_socket_all_sent(struct dgram_socket *socket);
int dg_socket_bind_implicitly(struct dgram_socket *socket);
void dg_socket_detached(struct dgram_socket *socket);
/* The least receive buffer of the loop's bound sockets, in bytes; UINT64_MAX without one. */
uint64_t dg_sockets_receive_buffer(struct dgram_loop *loop);

/* The loop is being freed and its engine is of no use: closes without it. */
void dg_socket_abandon(struct dgram_socket *socket, int code);

/* ---- request.c ----------------------------------------------------------------------------- */

struct request *dg_request_take(struct dgram_loop *loop);
void dg_request_give(struct dgram_loop *loop, struct request *request);
/* A request that owns its payload, of which the caller fills the bytes behind the struct. */
struct request *dg_request_with_room(struct dgram_socket *socket, uint32_t size, dgram_sent_fn *fn,
                                     void *user);
/* Joins a queue of those that wait for room. */
void dg_request_park(struct queue *queue, struct request *request);
/* NULL: it is empty. */
static inline struct request *dg_requests_pop(struct queue *queue)
{
    return (struct request *) queue_pop(queue);
}
/* The request's datagram has its result: its callback is due, or it is done. */
void dg_request_complete(struct request *request, int result);
void dg_requests_open(struct dgram_loop *loop);
/* Releases requests without completing them: in a forked child. */
void dg_requests_forget(struct queue *queue, struct dgram_loop *loop);
void dg_requests_release(struct dgram_loop *loop);

/* Datagrams join and leave the queue; the last to leave closes a socket that is ending. */
void dg_queue_count(struct dgram_socket *socket, uint64_t bytes, uint64_t count);
void dg_queue_uncount(struct dgram_socket *socket, uint64_t bytes, uint64_t count);
bool dg_queue_is_full(struct dgram_socket *socket, uint32_t size);
int dg_queue_refuse(struct dgram_socket *socket, uint32_t size);
void dg_queue_check_drains(struct dgram_loop *loop);

/* Stalled datagrams take half of the queue at most, and each destination or name a share of that
 * half which leaves room for others. A share that is NULL is one that holds nothing yet. */
bool dg_share_is_full(const struct dgram_socket *socket, const struct share *share, uint32_t size);
int dg_share_refuse(struct dgram_socket *socket, struct share *share, uint32_t size);
/* A datagram of the queue begins to wait, and waits no longer. */
void dg_share_charge(struct dgram_socket *socket, struct share *share, uint32_t size);
void dg_share_release(struct dgram_socket *socket, struct share *share, uint32_t size);
/* After releases: a share that has refused and has room again is a reason for `drain`. */
void dg_share_check(struct dgram_socket *socket, struct share *share);

/* ---- stall.c ------------------------------------------------------------------------------- */

/* NULL if the socket may send to the destination at once. */
struct stall *dg_stall_find(const struct dgram_socket *socket, const union dg_peer *peer);
/* NULL when memory ran out. */
struct stall *dg_stall_open(struct dgram_socket *socket, const union dg_peer *peer);
/* To one of the two lists of the stall. */
void dg_stall_append(struct stall *stall, struct queue *queue, struct request *request);
/* The submission is settled: ends the stall if nothing waits in it. */
void dg_stall_rejoin(struct stall *stall);
/* Destinations have their turns: some of them, and again in a moment; all, once. */
void dg_stalls_retry(struct dgram_socket *socket);
void dg_stalls_retry_all(struct dgram_socket *socket);
/* What waits is completed with a code; in a forked child it is only released. */
void dg_stalls_cancel(struct dgram_socket *socket, int code);
void dg_stalls_forget(struct dgram_socket *socket);

/* ---- settle.c ------------------------------------------------------------------------------ */

/* Hands the batch over and submits; settle() after wait(), with its code, when hand_over() was done
 * for it. Both return it, or the code with which the engine broke meanwhile. */
int dg_send_flush(struct dgram_loop *loop);
void dg_send_hand_over(struct dgram_loop *loop);
int dg_send_settle(struct dgram_loop *loop, int code);
/* Whether somebody has to hear the results of the batch before the loop may sleep. */
bool dg_send_wants_answer(const struct dgram_loop *loop);
void dg_send_open(struct dgram_loop *loop);
/* What is parked: tried again; completed with a code. */
void dg_send_retry(struct dgram_socket *socket);
/* The socket's parked datagrams are tried again in a millisecond. */
void dg_socket_retry_soon(struct dgram_socket *socket);
void dg_send_cancel(struct dgram_socket *socket, int code);

/* ---- send.c -------------------------------------------------------------------------------- */

/* A datagram that is to be sent. */
struct payload {
    const void *data;
    uint32_t size;
    bool borrowed;               /* the caller leaves it alone until its callback */
    struct dgram_buffer *buffer; /* it lies there, and is left alone until that is idle; or NULL */
};

/* The public sends end here: dg_socket_check() comes first, this checks the payload and binds, then
 * comes the queue. */
int dg_send_check(struct dgram_socket *socket, const void *data, size_t size);
int dg_send_accept(struct dgram_socket *socket, const union dg_peer *peer,
                   const struct payload *payload, dgram_sent_fn *fn, void *user);
/* Accepts a datagram into the list of a name that is being looked up, as part of that share. */
int dg_send_await(struct dgram_socket *socket, struct queue *queue, struct share *share,
                  in_port_t port, const struct payload *payload, dgram_sent_fn *fn, void *user);
/* The wait is over: to this address, or with this code; an `error` event names the host. */
void dg_send_resolved(struct request *request, const union dg_peer *address);
void dg_send_unresolved(struct request *request, int code, const char *host);

/* ---- resolve.c, dns.c ---------------------------------------------------------------------- */

/* Whether the text may be a host name (RFC 1123): letters, digits, inner hyphens and underscores
 * in labels of 1 to 63, 253 in all, the last one not a number. */
bool dg_name_is_well_formed(const char *text);

int dg_resolver_open(struct dgram_loop *loop, const struct dgram_loop_options *options);
void dg_resolver_close(struct dgram_loop *loop, bool forked);

int dg_resolve_send(struct dgram_socket *socket, const char *host, in_port_t port,
                    const struct payload *payload, dgram_sent_fn *fn, void *user);
int dg_destination_send(struct dgram_socket *socket, struct dgram_destination *destination,
                        const struct payload *payload, dgram_sent_fn *fn, void *user);
int dg_resolve_bind(struct dgram_socket *socket, const char *host, uint16_t port);
/* The socket closes: nobody waits for it any more. */
void dg_resolve_forget(struct dgram_socket *socket);

/* c-ares: asks; answers arrive by dgram_lookup_answer(). */
/* A comma-separated list of IP addresses, with a port or without. */
bool dg_dns_servers_are_well_formed(const char *text);
/* Whether the socket may send to it: 0, DGRAM_EWRONGLOOP, DGRAM_EBADFAMILY. */
int dg_destination_check(const struct dgram_socket *socket,
                         const struct dgram_destination *destination);
void dg_dns_ask(struct dgram_loop *loop, struct dgram_lookup *lookup);
/* How often c-ares has looked at its timeouts or sockets so far. */
uint64_t dg_dns_called(const struct dgram_loop *loop);
void dg_dns_close(struct dgram_loop *loop, bool forked);

/* socket.c: what dg_resolve_bind() was for. */
int dg_socket_bind_resolved(struct dgram_socket *socket, int code, const union dg_peer *address);

/* ---- train.c ------------------------------------------------------------------------------- */

/* `random`: 64 bits that nobody else knows. */
int dg_batch_create(uint64_t random, struct batch **ret_batch);
void dg_batch_free(struct batch *batch);
void dg_batch_reset(struct batch *batch);

/* The flow of a socket to a peer in this submission. There is always room for one. */
struct flow *dg_batch_flow(struct dgram_loop *loop, struct dgram_socket *socket,
                           const union dg_peer *peer);

/* Of 8 bits, and not to be foreseen by peers. `socket` may be NULL. */
uint32_t dg_peer_bucket(const struct batch *batch, const struct dgram_socket *socket,
                        const union dg_peer *peer);

/* The same if there is one already, else NULL. */
struct flow *dg_batch_find(const struct dgram_socket *socket, const union dg_peer *peer);

/* The peer refused a train of datagrams of `size` bytes; 0: it takes no trains at all. Returns
 * whether that is news. */
bool dg_batch_refused(struct dgram_loop *loop, const union dg_peer *peer, uint32_t size);

/* Adds a datagram to the flow's last train, or to a new one. `request` may be NULL. Returns whether
 * the batch ought to be submitted before the next one. */
bool dg_batch_append(struct batch *batch, struct flow *flow, const struct payload *payload,
                     struct request *request);

/* Charges the datagrams that the lanes of a flow, or of all flows, took. */
void dg_flow_sync(struct flow *flow);
void dg_batch_sync(struct batch *batch);

/* Readies every train for the engine, trains of one flow next to each other; returns how many. Not
 * those that wait for a `listening`. */
size_t dg_batch_order(struct dgram_loop *loop);
void dg_train_ready(struct dg_train *train);

/* Copies datagrams out of a train's vectors: `size` bytes from `offset`. */
void dg_train_copy(const struct dg_train *train, uint32_t offset, uint32_t size, void *target);

/* ---- buffer.c ------------------------------------------------------------------------------ */

/* A train that is about to be handed over may go without a copy, if that pays. */
void dg_train_lend(struct dgram_loop *loop, struct dg_train *train);
/* It was tried. What the engine still reads is on loan; from now on the train is like any other. */
void dg_train_take_back(struct dgram_loop *loop, struct dg_train *train);
/* A train to this host was copied, or could not go without: none of its peers is tried for a
 * while. */
void dg_buffer_copied(struct dgram_loop *loop, const union dg_peer *peer);
/* A train leaves the submission: its buffer is no longer in use by it. */
void dg_train_left(struct dgram_loop *loop, struct dg_train *train);
/* A loan is over. */
void dg_buffer_released(struct dgram_loop *loop, uint32_t number, bool copied);
/* Unless it is in use, `idle` is called in the next dispatch. */
void dg_buffer_due(struct dgram_buffer *buffer);
void dg_buffers_free(struct dgram_loop *loop);

/* ---- receive.c ----------------------------------------------------------------------------- */

/* Handlers, pause or state changed: starts or stops receiving as needed. */
void dg_receive_update(struct dgram_socket *socket);
void dg_receive_apply(struct dgram_socket *socket);
void dg_receive_prepare(struct dgram_loop *loop);
/* Starved sockets could be started: the loop must not sleep. */
bool dg_receive_has_work(const struct dgram_loop *loop);
/* The first of the records is RECEIVED: delivers it, or it and some after it; how many. */
uint32_t dg_receive_completed(struct dgram_loop *loop, const struct completion *records,
                              uint32_t count);
void dg_receive_stopped(struct dgram_socket *socket, int result);
void dg_receive_retry(struct dgram_socket *socket);
/* Delivers the backlog of the socket for a quantum. */
void dg_receive_serve(struct dgram_socket *socket);
/* Whether these bytes are a received message's, which ends with its handler. (A retained one may
 * lie there, too: its slot is pinned.) */
bool dg_receive_owns(const struct dgram_loop *loop, const void *data);

/* ---- backlog.c ----------------------------------------------------------------------------- */

enum { PACE_MAX = 64 };

/* The message handlers of a turn begin. `received`: there is something new for them. */
void dg_turn_begin(struct dgram_loop *loop, bool received);
/* Reads the clock, and decides whether the turn or the quantum is over. */
void dg_turn_look(struct dgram_socket *socket);

/* So many datagrams at least may be delivered before the next look. */
static inline uint32_t dg_turn_allows(const struct dgram_socket *socket)
{
    uint32_t unseen = socket->loop->turn.unseen;
    return socket->pace > unseen ? socket->pace - unseen : 1;
}

static inline void dg_turn_delivered(struct dgram_socket *socket, uint32_t count)
{
    struct turn *turn = &socket->loop->turn;
    turn->unseen += count;
    if (turn->unseen >= socket->pace) {
        dg_turn_look(socket);
    }
}

/* Whether a new arrival has to wait behind the backlogs. */
static inline bool dg_turn_is_full(const struct dgram_loop *loop)
{
    return loop->turn.spent || !node_alone(&loop->rotation);
}

/* The arrival waits: in its slot, which stays with the core; or as a copy, if there is memory. */
void dg_backlog_keep(struct dgram_socket *socket, const struct arrival *arrival, uint32_t slot);
void dg_backlog_copy(struct dgram_socket *socket, const struct arrival *arrival);
/* The first arrival of the backlog is done with. */
void dg_backlog_pop(struct dgram_socket *socket);
/* The socket may be long in coming back to its backlog: the arrivals leave their slots. */
void dg_backlog_leave_slots(struct dgram_socket *socket);
void dg_backlog_discard(struct dgram_socket *socket);
/* The rotation: a socket that holds something joins it at its end, unless it is in it already; the
 * next one whose turn it is leaves it. NULL: nobody, or nobody in this turn any more. */
void dg_backlog_join(struct dgram_socket *socket);
struct dgram_socket *dg_backlog_next(struct dgram_loop *loop);
/* Copies the arrival of one slot, for a socket that starves. Not while handlers run. */
bool dg_backlog_make_room(struct dgram_loop *loop);

/* Whether these bytes are of a copy that a handler has. */
bool dg_backlog_owns(const struct dgram_loop *loop, const void *data);

/* Datagrams that are left of an arrival. */
uint64_t dg_arrival_count(const struct arrival *arrival);

/* The dispatch is done with the slot. */
void dg_slot_done(struct dgram_loop *loop, uint32_t slot);

/* ---- ending.c ------------------------------------------------------------------------------ */

/* Begins to empty the socket: false if it cannot deliver. A step of that: false when it is over. */
bool dg_ending_begin(struct dgram_socket *socket);
bool dg_ending_step(struct dgram_socket *socket);
/* Takes the kernel's datagrams of a socket that no engine has any more, and counts them. */
void dg_ending_count(struct dgram_socket *socket);

/* ---- pool.c -------------------------------------------------------------------------------- */

int dg_pool_create(uint32_t slots, uint32_t slot_size, struct pool **ret_pool);
const struct slots *dg_pool_slots(const struct pool *pool);
bool dg_pool_contains(const struct pool *pool, const void *data);
uint32_t dg_pool_free_count(const struct pool *pool);
/* The core got a slot from the engine. Returns the owner to put into messages, and where to keep
 * the sender's address. */
void *dg_pool_take(struct pool *pool, uint32_t slot, struct dgram_addr **ret_from);
/* The dispatch is done with a slot. True if it is free now, false if a message of it is
 * retained. */
bool dg_pool_done(struct pool *pool, uint32_t slot);
/* Where the rest of what lies in a slot is noted while it waits. */
struct backlog_item *dg_pool_backlog_item(struct pool *pool, uint32_t slot);
/* The next slot whose last retained message was released since; false if there is none. */
bool dg_pool_returned(struct pool *pool, uint32_t *ret_slot);
/* The loop ends. The memory goes when the last retained message is released. */
void dg_pool_abandon(struct pool *pool);

/* ---- group.c ------------------------------------------------------------------------------- */

/* The descriptor is closed, and the kernel has left all groups. */
void dg_memberships_forget(struct dgram_socket *socket);

/* ---- timer.c, post.c ----------------------------------------------------------------------- */

void dg_timers_stop(struct dgram_loop *loop); /* all of them */
void dg_timers_free(struct dgram_loop *loop);

int dg_inbox_open(struct dgram_loop *loop);
void dg_inbox_end(struct dgram_loop *loop); /* takes no more */
void dg_inbox_close(struct dgram_loop *loop);
/* Waits until the kernel holds nothing any more of what the engine had watched. */
void dg_inbox_await(struct dgram_loop *loop);
void dg_inbox_run(struct dgram_loop *loop);
bool dg_inbox_waiting(struct dgram_loop *loop);

#endif
