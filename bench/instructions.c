/* SPDX-License-Identifier: MIT */
/*
 * instructions.c: the library's own cost of a datagram, in instructions.
 *
 * Owns an engine that completes at once: it takes every train and, when asked to, says that trains
 * of 128 datagrams have come. So callgrind counts the library and its caller between the two
 * marks, and the caller's functions are told by their names. scripts/instructions runs it; the
 * figures do not depend on the machine's speed or load.
 *
 *     instructions send|lone|handle|many|buffer|receive COUNT
 *
 * lone: sends without trains; handle: dgram_send_dest(); many: dgram_send_many(), whose items are
 * filled in, too; buffer: dgram_send_buffer()
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/loop/loop.h"
#include "src/system.h"

enum { SIZE = 64, SEGMENTS = 128, TURN = 1024 };

struct engine {
    struct completions *out;
    struct slots slots;
    struct endpoint *receiver;
    uint32_t trains_due; /* to be reported by the next wait() */
};

static struct engine the_engine;
static struct sockaddr_in peer;

static int instant_open(const struct engine_config *config, struct engine **ret_engine,
                        const char **ret_call)
{
    (void) ret_call;
    the_engine.out = config->completions;
    *ret_engine = &the_engine;
    return 0;
}

static void instant_close(struct engine *engine, bool forked)
{
    (void) engine;
    (void) forked;
}

static int instant_attach(struct engine *engine, struct endpoint *endpoint)
{
    (void) engine;
    (void) endpoint;
    return 0;
}

static void instant_detach(struct engine *engine, struct endpoint *endpoint)
{
    *completions_append(engine->out) =
        (struct completion){.kind = COMPLETION_DETACHED, .endpoint = endpoint};
}

static int instant_provide(struct engine *engine, const struct slots *slots, const char **ret_call)
{
    (void) ret_call;
    engine->slots = *slots;
    return 0;
}

static void instant_recv_start(struct engine *engine, struct endpoint *endpoint)
{
    engine->receiver = endpoint;
}

static void instant_recv_stop(struct engine *engine, struct endpoint *endpoint)
{
    (void) engine;
    (void) endpoint;
}

static void instant_recycle(struct engine *engine, uint32_t slot)
{
    (void) engine;
    (void) slot;
}

static void instant_send(struct engine *engine, struct train *const *trains, size_t count)
{
    (void) engine;
    for (size_t i = 0; i < count; i++) {
        trains[i]->result = 0;
    }
}

static int instant_flush(struct engine *engine)
{
    (void) engine;
    return 0;
}

static int instant_watch(struct engine *engine, struct watch *watch)
{
    (void) engine;
    (void) watch;
    return 0;
}

static void instant_unwatch(struct engine *engine, struct watch *watch)
{
    (void) engine;
    (void) watch;
}

/* Puts a train into slot `slot`, with the control message in which the kernel tells its segment
 * size. */
static void train_arrives(struct engine *engine, uint32_t slot)
{
    enum { NAME = 16, CONTROL = NAME + SLOT_NAME_SIZE, PAYLOAD = CONTROL + 24, UDP_GRO_ = 104 };
    unsigned char *base = engine->slots.memory + (size_t) slot * engine->slots.stride;
    struct msghdr header = {.msg_control = base + CONTROL, .msg_controllen = 24};
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    int segment = SIZE;
    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = UDP_GRO_;
    c->cmsg_len = CMSG_LEN(sizeof(segment));
    memcpy(CMSG_DATA(c), &segment, sizeof(segment));
    memcpy(base + NAME, &peer, sizeof(peer));
    *completions_append(engine->out) = (struct completion){
        .kind = COMPLETION_RECEIVED,
        .endpoint = engine->receiver,
        .slot = slot,
        .size = SEGMENTS * SIZE,
        .real_size = SEGMENTS * SIZE,
        .data = base + PAYLOAD,
        .name = base + NAME,
        .name_size = sizeof(peer),
        .control = base + CONTROL,
        .control_size = 24,
    };
}

static int instant_wait(struct engine *engine, int64_t timeout_ns, bool gathers)
{
    (void) timeout_ns;
    (void) gathers;
    for (uint32_t i = 0; i < engine->trains_due; i++) {
        train_arrives(engine, i);
    }
    engine->trains_due = 0;
    return 0;
}

static int instant_fd(struct engine *engine)
{
    (void) engine;
    return -ENOTSUP;
}

static const struct backend instant = {
    .name = "instant",
    .open = instant_open,
    .close = instant_close,
    .attach = instant_attach,
    .detach = instant_detach,
    .provide = instant_provide,
    .recv_start = instant_recv_start,
    .recv_stop = instant_recv_stop,
    .recycle = instant_recycle,
    .send = instant_send,
    .flush = instant_flush,
    .watch = instant_watch,
    .unwatch = instant_unwatch,
    .wait = instant_wait,
    .fd = instant_fd,
};

static uint64_t received;

static void called_back(struct dgram_socket *socket, const struct dgram_message *message,
                        void *user)
{
    (void) socket;
    (void) user;
    received += message->size;
}

/* ---- What is measured ---------------------------------------------------------------------- */

static struct dgram_loop *loop;
static struct dgram_socket *sender;
static struct dgram_addr to;
static struct dgram_destination *handle;
static struct dgram_buffer *buffer;
static unsigned char payload[SIZE];

static void call_send_to(int index)
{
    (void) index;
    (void) dgram_send_to(sender, payload, SIZE, &to, NULL, NULL);
}

static void call_send_dest(int index)
{
    (void) index;
    (void) dgram_send_dest(sender, payload, SIZE, handle, NULL, NULL);
}

/* Makes one call a turn. The filling of the items counts: a program has to do that for the call. */
static void send_many_items(int index)
{
    static struct dgram_outgoing items[TURN];
    for (int i = 0; index == 0 && i < TURN; i++) {
        items[i] = (struct dgram_outgoing){.data = payload, .size = SIZE, .address = &to};
    }
    if (index == 0) {
        (void) dgram_send_many(sender, items, TURN, NULL, NULL);
    }
}

static void call_send_buffer(int index)
{
    (void) dgram_send_buffer(sender, buffer, (size_t) index * SIZE, SIZE, &to);
}

static const struct way {
    const char *name;
    void (*send)(int index); /* NULL: receives */
    uint32_t segments_max;
} ways[] = {
    {"send", call_send_to, 0},    {"lone", call_send_to, 1},       {"handle", call_send_dest, 0},
    {"many", send_many_items, 0}, {"buffer", call_send_buffer, 0}, {"receive", NULL, 0},
};

/* Callgrind counts from here (--toggle-collect=measured). scripts/instructions leaves out the own
 * instructions of this function, of call_...() and of called_back(), which are a program's. */
__attribute__((noinline)) void measured(const struct way *way, uint64_t count);
void measured(const struct way *way, uint64_t count)
{
    for (uint64_t done = 0; done < count; done += TURN) {
        for (int i = 0; way->send != NULL && i < TURN; i++) {
            way->send(i);
        }
        the_engine.trains_due = way->send != NULL ? 0 : TURN / SEGMENTS;
        (void) dgram_loop_turn(loop, 0);
    }
}

/* Returns a time that moves by 1 us a call. By the true clock, handlers under callgrind would take
 * longer than the library lets them have in a turn. */
static uint64_t quick_now(void)
{
    static uint64_t now;
    return now += 1000;
}

static int prepare(const struct way *way)
{
    const struct dgram_loop_options options = {.size = sizeof(options),
                                               .segments_max = way->segments_max};
    static struct dg_system quick;
    quick = dg_system_host;
    quick.now = quick_now;
    int code = dg_loop_create_on(&options, &quick, &instant, &loop);
    code = code < 0 ? code : dgram_create_socket(loop, DGRAM_UDP4, NULL, &sender);
    code = code < 0 ? code : dgram_on_message(sender, called_back, NULL);
    code = code < 0 ? code : dgram_bind(sender, 0, "127.0.0.1");
    code = code < 0 ? code : dgram_address(sender, &to);
    code = code < 0 ? code
                    : dgram_destination_create(loop, DGRAM_UDP4, dgram_addr_port(&to), "127.0.0.1",
                                               &handle);
    code = code < 0 ? code : dgram_buffer_create(loop, (size_t) TURN * SIZE, NULL, &buffer);
    peer = to.u.in4;
    return code < 0 ? code : dgram_loop_turn(loop, 0);
}

int main(int argc, char **argv)
{
    const struct way *way = NULL;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]) && argc == 3; i++) {
        way = strcmp(argv[1], ways[i].name) == 0 ? &ways[i] : way;
    }
    if (way == NULL) {
        fputs("usage: instructions send|lone|handle|many|buffer|receive COUNT\n", stderr);
        return 2;
    }
    uint64_t count = strtoull(argv[2], NULL, 10) / TURN * TURN;
    int code = prepare(way);
    if (code < 0) {
        fprintf(stderr, "instructions: %s\n", dgram_strerror(code));
        return 1;
    }
    measured(way, count);
    struct dgram_socket_stats stats = {.size = sizeof(stats)};
    (void) dgram_socket_stats(sender, &stats);
    dgram_destination_free(handle);
    dgram_loop_free(loop);
    if (way->send != NULL ? stats.sent != count : received != count * SIZE) {
        fputs("instructions: not all datagrams went through\n", stderr);
        return 1;
    }
    printf("%llu\n", (unsigned long long) count);
    return 0;
}
