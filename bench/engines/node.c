/* SPDX-License-Identifier: MIT */
/*
 * node.c: `node`: Node's own dgram, in a child process.
 *
 * Owns the process and the two pipes to it. The end's thread only passes on: jobs to the process,
 * and the size and the number of each datagram that came to the harness. The harness counts and
 * checks as it does for every engine. CPU time is that of the process.
 *
 * Node reads struct job and writes struct record. Node's side is node_end.js, which meson embeds.
 * Node's server answers by itself. Node's client measures round trips by itself, so the pipes are
 * not in the round trips, but they are in its rate and CPU.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/engines/engines.h"
#include "bench/engines/node_end.h"
#include "bench/harness/process.h"

#define AHEAD_MOST 4096u                    /* datagrams that node may be behind */
#define OPEN_NS (UINT64_C(20) * 1000000000) /* until node must have opened its sockets */
#define CHILD_INPUT 0
#define CHILD_OUTPUT 1

extern char **environ;

/* Tells node to send `count` numbered datagrams, the first being number `first` of all. */
struct job {
    uint64_t first;
    uint64_t count;
};

enum kind {
    KIND_SENT = 0xffffff01,    /* `number` so far */
    KIND_ELAPSED = 0xffffff02, /* the round trip of the datagram that follows: `number` ns */
    KIND_FAILED = 0xffffff03,  /* the reason follows, `value` bytes of text */
    KIND_OPENED = 0xffffff10   /* and the socket's index: port `value`, buffer `number` bytes */
};

/* A datagram that came, with the socket's index in `kind`, its size in `value`, and its number; or
 * a message of enum kind. */
struct record {
    uint32_t kind;
    uint32_t value;
    uint64_t number;
};

struct node {
    struct end *end;
    pid_t pid;
    int to;   /* a socket, since writing to a pipe whose reader is gone kills */
    int from; /* a pipe, which node writes to without delay */
    uint32_t opened;
    uint64_t ordered; /* datagrams that node was told to send */
    uint64_t sent;    /* and has handed to its socket */
    size_t used;
    _Alignas(struct record) uint8_t buffer[65536];
};

/* ---- Whether it is there ------------------------------------------------------------------- */

static bool node_found(void)
{
    const char *path = getenv("PATH");
    char name[4096];

    while (path && *path) {
        size_t length = strcspn(path, ":");

        snprintf(name, sizeof(name), "%.*s/node", (int) length, path);
        if (access(name, X_OK) == 0) {
            return true;
        }
        path += length + (path[length] == ':');
    }
    return false;
}

static int node_available(char *why, size_t room)
{
    if (node_found()) {
        return 0;
    }
    snprintf(why, room, "no program node in PATH");
    return -1;
}

/* ---- What node says ------------------------------------------------------------------------ */

static void opened_take(struct node *node, const struct record *record)
{
    struct end *end = node->end;
    uint32_t index = record->kind - KIND_OPENED;
    uint16_t port = htons((uint16_t) record->value);

    end->local[index] = end->bind_to;
    if (end->bind_to.u.any.sa_family == AF_INET6) {
        end->local[index].u.in6.sin6_port = port;
    } else {
        end->local[index].u.in4.sin_port = port;
    }
    end->granted = (uint32_t) record->number;
    node->opened++;
}

/* Returns how many bytes of text belong to the record, or -1. */
static int record_take(struct node *node, const struct record *record, size_t behind)
{
    struct end *end = node->end;

    if (record->kind < end->sockets) {
        end_take(end, record->kind, NULL, &record->number, record->value);
        end->elapsed_ns = 0;
    } else if (record->kind >= KIND_OPENED && record->kind < KIND_OPENED + end->sockets) {
        opened_take(node, record);
    } else if (record->kind == KIND_SENT) {
        node->sent = record->number;
    } else if (record->kind == KIND_ELAPSED) {
        end->elapsed_ns = record->number;
    } else if (record->kind == KIND_FAILED) {
        size_t length = record->value < behind ? record->value : behind;

        snprintf(end->error, sizeof(end->error), "%.*s", (int) length, (const char *) (record + 1));
        return -1;
    }
    return 0;
}

static int records_take(struct node *node)
{
    size_t at = 0;

    for (; node->used - at >= sizeof(struct record); at += sizeof(struct record)) {
        const struct record *record = (const struct record *) (void *) (node->buffer + at);

        if (record_take(node, record, node->used - at - sizeof(*record)) != 0) {
            return -1;
        }
    }
    node->used -= at;
    memmove(node->buffer, node->buffer + at, node->used);
    return 0;
}

static int node_turn(struct end *end, bool wait)
{
    struct node *node = end->state;
    struct pollfd ready = {.fd = node->from, .events = POLLIN};
    ssize_t size;

    if (wait) {
        poll(&ready, 1, TICK_MS);
    }
    size = read(node->from, node->buffer + node->used, sizeof(node->buffer) - node->used);
    if (size < 0) {
        bool nothing = errno == EAGAIN || errno == EINTR;
        return nothing ? 0 : end_fail(end, "reading from node", -errno);
    }
    if (size == 0) {
        return end_fail(end, "it has ended", 0);
    }
    node->used += (size_t) size;
    return records_take(node);
}

static uint64_t node_pending(struct end *end)
{
    const struct node *node = end->state;

    return node->ordered - node->sent;
}

/* ---- Sending ------------------------------------------------------------------------------- */

/* Returns 0, 1 if the end was stopped before node took the job, or -1. */
static int job_give(struct node *node, uint64_t first, uint32_t count)
{
    struct job job = {.first = first, .count = count};

    for (;;) {
        ssize_t size = send(node->to, &job, sizeof(job), MSG_NOSIGNAL | MSG_DONTWAIT);

        if (size == (ssize_t) sizeof(job)) {
            node->ordered += count;
            return 0;
        }
        if (size >= 0 || (errno != EAGAIN && errno != EINTR)) {
            return end_fail(node->end, "writing to node", -errno);
        }
        if (node_turn(node->end, true) != 0) {
            return -1;
        }
        if (end_stopped(node->end)) {
            return 1;
        }
    }
}

/* Returns before node has sent the datagrams, so that node always has the next job. */
static int64_t node_send(struct end *end, uint64_t first, uint32_t count)
{
    struct node *node = end->state;
    int result;

    while (node_pending(end) > AHEAD_MOST) {
        if (node_turn(end, true) != 0) {
            return -1;
        }
        if (end_stopped(end)) {
            return 0;
        }
    }
    result = job_give(node, first, count);
    if (result != 0 || node_turn(end, false) != 0) {
        return result > 0 ? 0 : -1;
    }
    return count;
}

/* Node's server has answered already. A client's request is a job of one datagram. */
static int node_reply(struct end *end, const struct dgram_addr *to, const void *data, uint32_t size)
{
    (void) to;
    (void) size;
    return end->role == ROLE_SERVER ? 0 : job_give(end->state, number_read(data), 1);
}

/* ---- Open and close ------------------------------------------------------------------------ */

static cJSON *place_json(const struct dgram_addr *address)
{
    char text[DGRAM_ADDR_TEXT_MAX];
    cJSON *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "address", dgram_addr_text(address, text));
    cJSON_AddNumberToObject(object, "port", dgram_addr_port(address));
    return object;
}

/* Returns the text that node_end.js reads; the caller frees it by cJSON_free(). */
static char *setup_text(const struct end *end)
{
    static const char *const roles[] = {"source", "sink", "client", "server", "collector"};
    bool sends = end->role == ROLE_SOURCE || end->role == ROLE_CLIENT;
    cJSON *object = cJSON_CreateObject();
    cJSON *peers;
    cJSON *sizes;
    char *text;

    cJSON_AddStringToObject(object, "role", roles[end->role]);
    cJSON_AddNumberToObject(object, "family", end->bind_to.u.any.sa_family == AF_INET6 ? 6 : 4);
    cJSON_AddNumberToObject(object, "sockets", end->sockets);
    cJSON_AddNumberToObject(object, "size", end->plan->size);
    cJSON_AddNumberToObject(object, "buffer", RECEIVE_BUFFER);
    cJSON_AddItemToObject(object, "bind", place_json(&end->bind_to));
    peers = cJSON_AddArrayToObject(object, "peers");
    sizes = cJSON_AddArrayToObject(object, "sizes");
    for (uint32_t i = 0; sends && i < end->plan->peers; i++) {
        cJSON_AddItemToArray(peers, place_json(&end->peers[i]));
    }
    for (uint32_t i = 0; sends && i < SIZES; i++) {
        cJSON_AddItemToArray(sizes, cJSON_CreateNumber(end->sizes->at[i]));
    }
    text = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    return text;
}

/* Starts node in a process group of its own: Ctrl-C is for dgperf, which still wants node's last
 * figures. */
static int node_spawn(struct node *node, int input, int output)
{
    char *setup = setup_text(node->end);
    char *const words[] = {(char[]){"node"}, (char[]){"-e"}, (char *) (uintptr_t) node_end_js,
                           setup, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int result;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, CHILD_INPUT);
    posix_spawn_file_actions_adddup2(&actions, output, CHILD_OUTPUT);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    result =
        setup ? posix_spawnp(&node->pid, "node", &actions, &attributes, words, environ) : ENOMEM;
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    cJSON_free(setup);
    return result == 0 ? 0 : end_fail(node->end, "starting node", -result);
}

static int node_start(struct node *node)
{
    int input[2];
    int output[2];
    int result;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, input) != 0) {
        return end_fail(node->end, "socketpair", -errno);
    }
    node->to = input[0];
    if (pipe2(output, O_CLOEXEC) != 0) {
        close(input[1]);
        return end_fail(node->end, "pipe", -errno);
    }
    node->from = output[0];
    fcntl(node->from, F_SETFL, O_NONBLOCK); /* node's end of it still blocks */
    result = node_spawn(node, input[1], output[1]);
    close(input[1]);
    close(output[1]);
    return result;
}

static int node_open(struct end *end)
{
    struct node *node = calloc(1, sizeof(*node));
    uint64_t until = clock_now() + OPEN_NS;

    if (!node) {
        return end_fail(end, "memory", -ENOMEM);
    }
    *node = (struct node){.end = end, .to = -1, .from = -1};
    end->state = node;
    if (node_start(node) != 0) {
        return -1;
    }
    while (node->opened < end->sockets) {
        if (node_turn(end, true) != 0) {
            return -1;
        }
        if (interrupts_seen()) {
            return end_fail(end, "interrupted before it had opened its sockets", 0);
        }
        if (clock_now() > until) {
            return end_fail(end, "it did not open its sockets", 0);
        }
    }
    return 0;
}

/* Returns the CPU time of the process, all its threads together. */
static uint64_t node_cpu(struct end *end)
{
    const struct node *node = end->state;
    struct timespec time = {.tv_sec = 0};
    clockid_t clock;

    if (clock_getcpuclockid(node->pid, &clock) == 0) {
        clock_gettime(clock, &time);
    }
    return (uint64_t) time.tv_sec * 1000000000u + (uint64_t) time.tv_nsec;
}

static void node_close(struct end *end)
{
    struct node *node = end->state;

    if (!node) {
        return;
    }
    if (node->pid > 0) {
        kill(node->pid, SIGKILL); /* it has nothing left to do */
        waitpid(node->pid, NULL, 0);
    }
    close(node->to);
    close(node->from);
    free(node);
    end->state = NULL;
}

const struct engine engine_node = {
    .name = "node",
    .summary = "Node's own dgram, in a process of its own",
    .available = node_available,
    .open = node_open,
    .send = node_send,
    .reply = node_reply,
    .turn = node_turn,
    .pending = node_pending,
    .cpu = node_cpu,
    .close = node_close,
};
