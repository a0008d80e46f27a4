/* SPDX-License-Identifier: MIT */
/* program.c: see program.h. */
#include "tests/fuzz/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOCKETS = 5, TIMERS = 3, HANDLES = 3, LOOKUPS = 8, DEPTH = 3, DEEDS = 300 };

static struct program {
    struct bytes bytes;
    const struct world *world;
    struct dgram_loop *loop;
    struct dgram_socket *sockets[SOCKETS];
    struct dgram_timer *timers[TIMERS];
    struct dgram_destination *handles[HANDLES];
    struct dgram_lookup *lookups[LOOKUPS];
    struct dgram_buffer *buffer;
    struct dgram_message kept;
    unsigned lookup_count, depth, deeds;
    bool turning, freeing;
    size_t accepted, completed, created, closed, posted, posts;
} p;

static const unsigned char payload[70000];

void must(bool holds, const char *text)
{
    if (!holds) {
        fprintf(stderr, "does not hold: %s\n", text);
        abort();
    }
}

uint32_t bytes_take(struct bytes *bytes)
{
    if (bytes->size == 0) {
        return 0;
    }
    bytes->size--;
    return *bytes->data++;
}

uint32_t bytes_take_two(struct bytes *bytes)
{
    uint32_t high = bytes_take(bytes);
    return high << 8 | bytes_take(bytes);
}

static uint32_t take(void)
{
    return bytes_take(&p.bytes);
}

static int known(int code)
{
    must(code >= 0 || strcmp(dgram_error_name(code), "UNKNOWN") != 0, "a code is known");
    return code;
}

static void deed(void);

/* A callback does what the next bytes say. */
static void act(void)
{
    if (p.depth < DEPTH && p.bytes.size > 0) {
        p.depth++;
        deed();
        p.depth--;
    }
}

/* ---- Callbacks ----------------------------------------------------------------------------- */

static void on_sent(struct dgram_socket *socket, int result, void *user)
{
    (void) socket;
    (void) user;
    p.completed++;
    known(result);
    act();
}

static void on_message(struct dgram_socket *socket, const struct dgram_message *message, void *user)
{
    (void) user;
    must(message->size <= message->real_size, "no more comes than was sent");
    if (p.kept.owner == NULL && (message->size & 1) != 0) {
        known(dgram_message_retain(message, &p.kept));
    }
    if (p.depth == 0) {
        known(dgram_send_to(socket, message->data, message->size / 2, message->from, NULL, NULL));
    }
    act();
}

static void on_messages(struct dgram_socket *socket, const struct dgram_message *messages,
                        size_t count, void *user)
{
    must(count >= 1 && count <= 256, "1 to 256 messages");
    on_message(socket, &messages[count - 1], user);
}

static void on_event(struct dgram_socket *socket, void *user)
{
    (void) socket;
    (void) user;
    act();
}

static void on_error(struct dgram_socket *socket, const struct dgram_error *error, void *user)
{
    (void) socket;
    (void) user;
    known(error->code);
    act();
}

static void on_close(struct dgram_socket *socket, void *user)
{
    struct dgram_socket **place = user;
    must(*place == socket, "a socket closes once");
    act();
    *place = NULL;
    p.closed++;
}

static void on_timer(struct dgram_timer *timer, void *user)
{
    (void) timer;
    (void) user;
    act();
}

static void on_post(struct dgram_loop *loop, void *user)
{
    (void) loop;
    (void) user;
    p.posts++;
    act();
}

static void on_idle(struct dgram_buffer *buffer, void *user)
{
    (void) user;
    must(buffer == p.buffer, "a buffer that lives");
    act();
}

static void answer(struct dgram_lookup *lookup, uint32_t how)
{
    struct dgram_addr address = {0};
    must(dgram_addr_parse((how & 1) != 0 ? "::1" : "127.0.0.1", 0, &address) == 0, "a literal");
    int code = (how & 2) != 0 ? 0 : DGRAM_ENOTFOUND;
    known(dgram_lookup_answer(lookup, code, &address, how / 4));
}

static void on_lookup(struct dgram_loop *loop, struct dgram_lookup *lookup, const char *host,
                      int family, void *user)
{
    (void) loop;
    (void) user;
    must((family == 4 || family == 6) && host[0] != '\0', "a question");
    if (p.lookup_count < LOOKUPS) {
        p.lookups[p.lookup_count++] = lookup;
    } else {
        answer(lookup, family == 6 ? 3 : 2);
    }
}

/* ---- Deeds --------------------------------------------------------------------------------- */

static struct dgram_socket *any_socket(void)
{
    return p.sockets[take() % SOCKETS];
}

/* One that exists, or a fixed one. */
static struct dgram_addr any_address(void)
{
    struct dgram_addr address = {0};
    if (dgram_address(any_socket(), &address) < 0) {
        must(dgram_addr_parse("127.0.0.1", 9, &address) == 0, "a literal");
    }
    if (address.u.any.sa_family == AF_INET) {
        address.u.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        address.u.in6.sin6_addr = in6addr_loopback;
    }
    return address;
}

static const char *any_text(void)
{
    static const char *const texts[] = {"127.0.0.1", NULL,      "",       "::1",       "a.test",
                                        "b.test",    "bad one", "::1%lo", "localhost", "0.0.0.0"};
    return texts[take() % (sizeof(texts) / sizeof(texts[0]))];
}

static uint32_t any_size(void)
{
    static const uint32_t sizes[] = {0, 1, 64, 65, 1200, 1400, 9000, 65507};
    uint32_t choice = take();
    return choice < 128 ? sizes[choice % 8] : bytes_take_two(&p.bytes) % 3000;
}

static void create_socket(void)
{
    struct dgram_socket **place = &p.sockets[take() % SOCKETS];
    uint32_t choice = take();
    struct dgram_socket_options options = {.size = sizeof(options)};
    options.flags = choice & (DGRAM_REUSE_ADDR | DGRAM_REUSE_PORT | DGRAM_NO_GRO | DGRAM_COPY);
    options.segments_max = take();
    options.queue_limit = (choice & 64) != 0 ? 1 + bytes_take_two(&p.bytes) : 0;
    uint32_t type = (choice & 128) != 0 ? DGRAM_UDP6 : DGRAM_UDP4;
    if (*place == NULL && known(dgram_create_socket(p.loop, type, &options, place)) == 0) {
        p.created++;
        known(dgram_on_close(*place, on_close, place));
        known(dgram_on_message(*place, on_message, NULL));
    }
}

static void bind_socket(void)
{
    struct dgram_socket *socket = any_socket();
    known(dgram_bind(socket, 0, any_text()));
}

static void count(int code)
{
    p.accepted += known(code) == 0;
}

static void send_to(void)
{
    struct dgram_socket *socket = any_socket();
    struct dgram_addr to = any_address();
    uint32_t choice = take(), size = any_size();
    if ((choice & 1) != 0) {
        count(dgram_send_to(socket, payload, size, &to, on_sent, NULL));
    }
    for (uint32_t i = 0; i < choice / 4; i++) {
        (void) known(dgram_send_to(socket, payload, size, &to, NULL, NULL));
    }
}

static void send_text(void)
{
    struct dgram_socket *socket = any_socket();
    const char *text = any_text();
    count(dgram_send(socket, payload, any_size(), (uint16_t) bytes_take_two(&p.bytes), text,
                     on_sent, NULL));
}

static void send_many(void)
{
    struct dgram_socket *socket = any_socket();
    struct dgram_addr to = any_address();
    struct iovec pieces[2] = {{(void *) (uintptr_t) payload, 10},
                              {(void *) (uintptr_t) payload, 20}};
    struct dgram_outgoing items[6] = {{0}};
    for (size_t i = 0; i < 6; i++) {
        uint32_t choice = take();
        items[i].data = payload;
        items[i].size = any_size();
        items[i].address = (choice & 1) != 0 ? &to : NULL;
        items[i].destination = (choice & 1) != 0 ? NULL : p.handles[choice / 8 % HANDLES];
        items[i].pieces = (choice & 2) != 0 ? pieces : NULL;
        items[i].piece_count = (choice & 2) != 0 ? 2 : 0;
        items[i].flags = (choice & 4) != 0 ? DGRAM_COPY : 0;
    }
    int accepted = known(dgram_send_many(socket, items, 6, on_sent, NULL));
    p.accepted += accepted > 0 ? (size_t) accepted : 0;
    for (size_t i = 0; i < 6 && accepted >= 0; i++) {
        accepted -= items[i].status == 0;
    }
    must(accepted <= 0, "as many are accepted as their statuses tell");
}

static void use_buffer(void)
{
    struct dgram_buffer_options options = {.size = sizeof(options), .on_idle = on_idle};
    uint32_t choice = take();
    options.flags = (choice & 1) != 0 ? DGRAM_ZERO_COPY : 0;
    if (p.buffer == NULL) {
        known(dgram_buffer_create(p.loop, 65536, &options, &p.buffer));
    } else if (choice < 8) {
        p.buffer = dgram_buffer_free(p.buffer);
    }
    struct dgram_socket *socket = any_socket();
    struct dgram_addr to = any_address();
    size_t size = any_size(), offset = bytes_take_two(&p.bytes);
    for (uint32_t i = 0; i < choice / 16; i++, offset += size) {
        known(dgram_send_buffer(socket, p.buffer, offset, size, &to));
    }
}

static void end_socket(void)
{
    struct dgram_socket *socket = any_socket();
    known((take() & 1) != 0 ? dgram_end(socket) : dgram_close(socket));
}

static void pause_or_resume(void)
{
    struct dgram_socket *socket = any_socket();
    known((take() & 1) != 0 ? dgram_pause(socket) : dgram_resume(socket));
}

static void set_handlers(void)
{
    struct dgram_socket *socket = any_socket();
    uint32_t choice = take();
    known(dgram_on_message(socket, (choice & 1) != 0 ? on_message : NULL, NULL));
    known(dgram_on_messages(socket, (choice & 2) != 0 ? on_messages : NULL, NULL));
    known(dgram_on_listening(socket, (choice & 4) != 0 ? on_event : NULL, NULL));
    known(dgram_on_drain(socket, (choice & 8) != 0 ? on_event : NULL, NULL));
    known(dgram_on_error(socket, (choice & 16) != 0 ? on_error : NULL, NULL));
}

static void use_timer(void)
{
    struct dgram_timer **timer = &p.timers[take() % TIMERS];
    uint32_t choice = take();
    if (*timer == NULL) {
        known(dgram_timer_create(p.loop, on_timer, NULL, timer));
    } else if (choice % 4 == 0) {
        *timer = dgram_timer_free(*timer);
    } else if (choice % 4 == 1) {
        known(dgram_timer_stop(*timer));
    } else {
        known(dgram_timer_start(*timer, choice * 1000, (choice & 64) != 0 ? 1000000 : 0));
        known((choice & 128) != 0 ? dgram_timer_unref(*timer) : dgram_timer_ref(*timer));
    }
}

static void post(void)
{
    p.posted += known(dgram_loop_post(p.loop, on_post, NULL)) == 0;
}

static void use_group(void)
{
    struct dgram_socket *socket = any_socket();
    uint32_t choice = take();
    const char *group = (choice & 1) != 0 ? "ff11::1:2" : "239.1.2.3";
    const char *interface_text = (choice & 2) != 0 ? "lo" : NULL;
    known((choice & 4) != 0 || !p.world->knows_groups
              ? dgram_add_membership(socket, group, interface_text)
              : dgram_drop_membership(socket, group, interface_text));
}

static void set_options(void)
{
    struct dgram_socket *socket = any_socket();
    int value = (int) take();
    known(dgram_set_broadcast(socket, value & 1));
    known(dgram_set_ttl(socket, value));
    known(dgram_set_multicast_ttl(socket, value));
    known(dgram_set_multicast_loopback(socket, value & 2));
    known(dgram_set_multicast_interface(socket, (value & 4) != 0 ? "lo" : any_text()));
    known(dgram_set_recv_buffer_size(socket, (uint32_t) value * 1000));
    known((value & 8) != 0 ? dgram_ref(socket) : dgram_unref(socket));
}

static void use_handle(void)
{
    struct dgram_destination **handle = &p.handles[take() % HANDLES];
    uint32_t choice = take();
    struct dgram_addr address;
    if (*handle == NULL) {
        known(dgram_destination_create(p.loop, (choice & 1) != 0 ? DGRAM_UDP6 : DGRAM_UDP4,
                                       (uint16_t) choice, any_text(), handle));
    } else if (choice < 32) {
        *handle = dgram_destination_free(*handle);
    } else {
        known(dgram_destination_address(*handle, &address));
        count(dgram_send_dest(any_socket(), payload, any_size(), *handle, on_sent, NULL));
    }
}

static void look(void)
{
    struct dgram_socket *socket = any_socket();
    struct dgram_socket_stats stats = {.size = sizeof(stats)};
    struct dgram_loop_info info = {.size = sizeof(info)};
    known(dgram_socket_stats(socket, &stats));
    known(dgram_loop_info(p.loop, &info));
    must(info.slots_free <= info.slots, "no more slots are free than there are");
    must((dgram_get_send_queue_count(socket) > 0) >= (dgram_get_send_queue_size(socket) > 0),
         "bytes are queued by datagrams");
    (void) known(dgram_loop_fd(p.loop));
}

static void answer_one(void)
{
    uint32_t how = take();
    if (p.lookup_count > 0) {
        answer(p.lookups[--p.lookup_count], how);
    }
}

static void turn(void)
{
    uint32_t choice = take();
    if (p.turning) {
        must(dgram_loop_turn(p.loop, 0) == DGRAM_EREENTERED, "a turn in a turn is refused");
        return;
    }
    p.turning = true;
    int code = known(dgram_loop_turn(p.loop, choice < 200 ? 0 : choice * 1000));
    p.turning = false;
    if (p.freeing) {
        must(code == 0, "a loop that was freed in its turn");
        p.loop = NULL;
    }
}

static void flush(void)
{
    known(dgram_loop_flush(p.loop));
}

static void go_wrong(void)
{
    uint32_t kind = take(), n = take();
    p.world->fail(kind, n, 1 + take() % 8);
}

static void release(void)
{
    dgram_message_release(&p.kept);
}

/* They must be freed before their loop. */
static void free_handles(void)
{
    for (size_t i = 0; i < HANDLES; i++) {
        p.handles[i] = dgram_destination_free(p.handles[i]);
    }
}

static void free_in_turn(void)
{
    if (p.turning && take() == 77) {
        p.freeing = true;
        free_handles();
        (void) dgram_loop_free(p.loop);
        must(dgram_loop_post(p.loop, on_post, NULL) == DGRAM_ENOTRUNNING, "a loop that is freed");
    }
}

static void (*const deeds[])(void) = {
    create_socket, create_socket, bind_socket,  bind_socket, send_to,     send_to,
    send_to,       send_text,     send_many,    use_buffer,  end_socket,  pause_or_resume,
    set_handlers,  use_timer,     post,         use_group,   set_options, use_handle,
    look,          answer_one,    turn,         turn,        turn,        flush,
    go_wrong,      release,       free_in_turn,
};

static void deed(void)
{
    if (p.loop != NULL && !p.freeing && p.deeds++ < DEEDS) {
        deeds[take() % (sizeof(deeds) / sizeof(deeds[0]))]();
    }
}

/* ---- A run --------------------------------------------------------------------------------- */

static void finish(void)
{
    p.world->calm();
    p.bytes.size = 0; /* callbacks do no more */
    while (p.lookup_count > 0) {
        answer(p.lookups[--p.lookup_count], 2);
    }
    free_handles();
    p.loop = dgram_loop_free(p.loop);
    while (p.lookup_count > 0) { /* asked meanwhile */
        answer(p.lookups[--p.lookup_count], 2);
    }
    dgram_message_release(&p.kept);
    must(p.completed == p.accepted, "a send completes once");
    must(p.closed == p.created, "a socket closes once");
    must(p.posts == p.posted, "a post is called once");
}

void program_run(const struct world *world, struct bytes bytes)
{
    p = (struct program){.bytes = bytes, .world = world};
    struct dgram_loop_options options = {.size = sizeof(options), .lookup = on_lookup};
    uint32_t choice = take();
    options.slots = (choice & 1) != 0 ? 4 : 0;
    options.slot_size = (choice & 2) != 0 ? 512 : 0;
    options.segments_max = (choice & 4) != 0 ? 1 + take() % 128 : 0;
    options.queue_limit = (choice & 8) != 0 ? 1000 : 0;
    options.busy_poll_us = (choice & 16) != 0 ? DGRAM_BUSY_POLL_OFF : 0;
    options.max_delay_us = (choice & 32) != 0 ? 1000 : 0;
    if (known(world->create(&options, &p.loop)) == 0) {
        while (p.bytes.size > 0 && p.deeds < DEEDS && p.loop != NULL) {
            deed();
        }
        finish();
    }
    world->calm();
}
