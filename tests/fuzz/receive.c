/* SPDX-License-Identifier: MIT */
/*
 * receive.c: control messages of any bytes, and received trains of any shape.
 *
 * The engine here is a script: each wait() hands over what the input says: a size, a sender's name
 * of any length, control bytes. What is delivered must be what lay in the slot, cut where the
 * segment size says.
 */
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/loop/loop.h"
#include "src/net/cmsg.h"
#include "src/receive/inlet.h"
#include "src/system.h"
#include "tests/fuzz/program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SLOTS = 4, SLOT_SIZE = 2048 };

struct engine {
    struct completions *completions;
    struct slots slots;
    bool lent[SLOTS];
    struct endpoint *endpoint; /* receives */
    struct endpoint *leaving;
    bool stopped;
};

static struct {
    struct bytes bytes;
    uint64_t handed, delivered, bytes_handed, bytes_delivered;
    bool pauses;
    struct dgram_message kept;
} run;

/* ---- The engine ---------------------------------------------------------------------------- */

static int script_open(const struct engine_config *config, struct engine **ret_engine,
                       const char **ret_call)
{
    (void) ret_call;
    *ret_engine = dg_allocate(sizeof(**ret_engine));
    must(*ret_engine != NULL, "memory");
    (*ret_engine)->completions = config->completions;
    return 0;
}

static void script_close(struct engine *engine, bool forked)
{
    (void) forked;
    dg_release(engine);
}

static int script_attach(struct engine *engine, struct endpoint *endpoint)
{
    endpoint->state = engine;
    return 0;
}

static void script_detach(struct engine *engine, struct endpoint *endpoint)
{
    engine->endpoint = NULL;
    engine->stopped = false;
    engine->leaving = endpoint;
}

static int script_provide(struct engine *engine, const struct slots *slots, const char **ret_call)
{
    (void) ret_call;
    must(slots->count == SLOTS, "as many slots as were asked for");
    engine->slots = *slots;
    return 0;
}

static void script_recv_start(struct engine *engine, struct endpoint *endpoint)
{
    engine->endpoint = endpoint;
}

static void script_recv_stop(struct engine *engine, struct endpoint *endpoint)
{
    (void) endpoint;
    engine->stopped = true;
}

static void script_recycle(struct engine *engine, uint32_t slot)
{
    must(slot < SLOTS && engine->lent[slot], "a slot comes back once");
    engine->lent[slot] = false;
}

static void script_send(struct engine *engine, struct train *const *trains, size_t count)
{
    (void) engine;
    for (size_t i = 0; i < count; i++) {
        trains[i]->result = 0;
    }
}

static int script_flush(struct engine *engine)
{
    (void) engine;
    return 0;
}

static int script_watch(struct engine *engine, struct watch *watch)
{
    (void) engine;
    (void) watch;
    return 0;
}

static void script_unwatch(struct engine *engine, struct watch *watch)
{
    (void) engine;
    (void) watch;
}

/* A slot: name, control, payload, as in the other engines. */
static void hand_over(struct engine *engine, uint32_t slot)
{
    unsigned char *memory = engine->slots.memory + (size_t) slot * engine->slots.stride;
    uint32_t shape = bytes_take(&run.bytes), control_size = engine->endpoint->control_size;
    uint32_t size = bytes_take_two(&run.bytes) % (SLOT_SIZE + 1);
    struct sockaddr_in6 name = {.sin6_family = (shape & 1) != 0 ? AF_INET6 : AF_INET};
    uint32_t name_size = (shape & 2) != 0 ? shape / 8 : (uint32_t) sizeof(struct sockaddr_in);
    memcpy(memory, &name, sizeof(name));
    for (uint32_t i = 0; i < control_size; i++) {
        memory[SLOT_NAME_SIZE + i] = (unsigned char) bytes_take(&run.bytes);
    }
    if ((shape & 4) != 0 && control_size > 0) { /* a true one, of any segment size */
        const int segment = (int) bytes_take_two(&run.bytes) - 100;
        const struct cmsghdr header = {CMSG_LEN(sizeof(segment)), 17, 104};
        memcpy(memory + SLOT_NAME_SIZE, &header, sizeof(header));
        memcpy(memory + SLOT_NAME_SIZE + sizeof(header), &segment, sizeof(segment));
    }
    memset(memory + SLOT_NAME_SIZE + control_size, (int) (shape & 0xff), size);
    engine->lent[slot] = true;
    run.handed++;
    run.bytes_handed += size;
    *completions_append(engine->completions) = (struct completion){
        .kind = COMPLETION_RECEIVED,
        .name_size = (uint16_t) (name_size < SLOT_NAME_SIZE ? name_size : SLOT_NAME_SIZE),
        .truncated = (shape & 128) != 0,
        .slot = slot,
        .size = size,
        .real_size = (shape & 128) != 0 ? size + 7 : size,
        .control_size = (shape & 64) != 0 ? control_size : control_size / 2,
        .endpoint = engine->endpoint,
        .data = memory + SLOT_NAME_SIZE + control_size,
        .name = memory,
        .control = memory + SLOT_NAME_SIZE,
    };
}

static int script_wait(struct engine *engine, int64_t timeout_ns, bool gathers)
{
    (void) timeout_ns;
    (void) gathers;
    uint32_t most = 1 + bytes_take(&run.bytes) % SLOTS;
    for (uint32_t slot = 0; slot < SLOTS && engine->endpoint != NULL && most > 0; slot++) {
        if (!engine->lent[slot] && run.bytes.size > 0) {
            most--;
            hand_over(engine, slot);
        }
    }
    if (engine->stopped) {
        *completions_append(engine->completions) =
            (struct completion){.kind = COMPLETION_STOPPED, .endpoint = engine->endpoint};
        engine->stopped = false;
        engine->endpoint = NULL;
    }
    if (engine->leaving != NULL) {
        engine->leaving->state = NULL;
        *completions_append(engine->completions) =
            (struct completion){.kind = COMPLETION_DETACHED, .endpoint = engine->leaving};
        engine->leaving = NULL;
    }
    return 0;
}

static int script_fd(struct engine *engine)
{
    (void) engine;
    return -ENOTSUP;
}

static const struct backend script = {
    .name = "script",
    .open = script_open,
    .close = script_close,
    .attach = script_attach,
    .detach = script_detach,
    .provide = script_provide,
    .recv_start = script_recv_start,
    .recv_stop = script_recv_stop,
    .recycle = script_recycle,
    .send = script_send,
    .flush = script_flush,
    .watch = script_watch,
    .unwatch = script_unwatch,
    .wait = script_wait,
    .fd = script_fd,
};

/* ---- The program --------------------------------------------------------------------------- */

static void on_message(struct dgram_socket *socket, const struct dgram_message *message, void *user)
{
    (void) user;
    const unsigned char *bytes = message->data;
    char text[DGRAM_ADDR_TEXT_MAX];
    must(bytes != NULL && message->from != NULL, "a message has data and a sender");
    for (uint32_t i = 1; i < message->size; i++) {
        must(bytes[i] == bytes[0], "the bytes of one train");
    }
    must(message->real_size >= message->size, "no more comes than was sent");
    must(((message->flags & DGRAM_TRUNCATED) != 0) == (message->real_size > message->size) ||
             message->size == 0,
         "what is cut says so");
    (void) dgram_addr_text(message->from, text);
    run.delivered++;
    run.bytes_delivered += message->size;
    if (run.kept.owner == NULL) {
        must(dgram_message_retain(message, &run.kept) == 0, "it is retained");
    } else if (message->size % 5 == 0) {
        dgram_message_release(&run.kept);
    }
    if (run.pauses && message->size % 7 == 0) {
        must(dgram_pause(socket) == 0, "it is paused");
    }
}

static void on_messages(struct dgram_socket *socket, const struct dgram_message *messages,
                        size_t count, void *user)
{
    must(count >= 1 && count <= MESSAGES_MAX, "1 to 256 messages");
    for (size_t i = 0; i < count; i++) {
        on_message(socket, &messages[i], user);
    }
}

/* Control bytes at the end of a page of their own: a read beyond them is seen. */
static void read_control(const uint8_t *data, size_t size)
{
    size_t length = size < 256 ? size : 256;
    unsigned char *control = malloc(length > 0 ? length : 1);
    must(control != NULL, "memory");
    if (length > 0) {
        memcpy(control, data, length);
    }
    must(dg_cmsg_segment(control, length) <= INT32_MAX, "a segment size");
    free(control);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    memset(&run, 0, sizeof(run));
    run.bytes = (struct bytes){data, size};
    uint32_t choice = bytes_take(&run.bytes);
    read_control(run.bytes.data, run.bytes.size);
    struct dgram_loop_options options = {
        .size = sizeof(options), .slots = SLOTS, .slot_size = SLOT_SIZE};
    struct dgram_loop *loop = NULL;
    struct dgram_socket *socket = NULL;
    must(dg_loop_create_on(&options, &dg_system_host, &script, &loop) == 0, "a loop");
    must(dgram_create_socket(loop, DGRAM_UDP4, NULL, &socket) == 0, "a socket");
    run.pauses = (choice & 1) != 0;
    if ((choice & 2) != 0) {
        must(dgram_on_messages(socket, on_messages, NULL) == 0, "a handler");
    } else {
        must(dgram_on_message(socket, on_message, NULL) == 0, "a handler");
    }
    must(dgram_bind(socket, 0, "127.0.0.1") == 0, "bound");
    for (int i = 0; i < 1000 && run.bytes.size > 0; i++) {
        must(dgram_loop_turn(loop, 0) >= 0, "a turn");
        must(dgram_resume(socket) == 0, "resumed");
    }
    for (int i = 0; i < 2000 &&
                    (i < 3 || run.bytes_delivered < run.bytes_handed || run.delivered < run.handed);
         i++) { /* held back; the last may be empty */
        must(dgram_loop_turn(loop, 0) >= 0, "a turn");
        must(dgram_resume(socket) == 0, "resumed");
        run.pauses = run.pauses && i < 1000;
    }
    must(run.bytes_delivered == run.bytes_handed, "each byte is delivered once");
    must(run.delivered >= run.handed, "a record is a message at least");
    (void) dgram_loop_free(loop);
    dgram_message_release(&run.kept);
    return 0;
}
