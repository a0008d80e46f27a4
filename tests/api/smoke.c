/* SPDX-License-Identifier: MIT */
/*
 * smoke.c: datagrams of a socket to itself, on every engine that works here, for hosts where the
 * suites cannot be built. Prints one line for each engine; false if one loses something or none
 * works.
 */
#include <dgram.h>
#include <errno.h>
#include <stdio.h>

enum { COUNT = 100, SIZE = 1000 };

static int received;

static void on_message(struct dgram_socket *socket, const struct dgram_message *message, void *user)
{
    (void) socket;
    received += message->size == SIZE;
    if (received == COUNT) {
        dgram_loop_stop(user);
    }
}

static void on_timeout(struct dgram_timer *timer, void *user)
{
    (void) timer;
    dgram_loop_stop(user);
}

static int send_and_receive(struct dgram_loop *loop)
{
    static const char bytes[SIZE];
    struct dgram_socket *socket = NULL;
    struct dgram_timer *timer = NULL;
    struct dgram_addr self;
    int code = dgram_create_socket(loop, DGRAM_UDP4, NULL, &socket);
    code = code < 0 ? code : dgram_on_message(socket, on_message, loop);
    code = code < 0 ? code : dgram_bind(socket, 0, "127.0.0.1");
    code = code < 0 ? code : dgram_address(socket, &self);
    code = code < 0 ? code : dgram_timer_create(loop, on_timeout, loop, &timer);
    code = code < 0 ? code : dgram_timer_start(timer, 10000000000, 0);
    for (int i = 0; i < COUNT && code >= 0; i++) {
        code = dgram_send_to(socket, bytes, sizeof(bytes), &self, NULL, NULL);
    }
    received = 0;
    code = code < 0 ? code : dgram_loop_run(loop);
    return code < 0 ? code : received == COUNT ? 0 : -ETIMEDOUT;
}

int main(void)
{
    static const uint32_t engines[] = {DGRAM_ENGINE_URING, DGRAM_ENGINE_POLL};
    int works = 0, broken = 0;
    for (int i = 0; i < 2; i++) {
        struct dgram_loop_options options = {.size = sizeof(options), .engine = engines[i]};
        struct dgram_loop *loop = NULL;
        int code = dgram_loop_create(&options, &loop);
        if (code == 0) {
            code = send_and_receive(loop);
            works += code == 0;
            broken += code < 0;
            dgram_loop_free(loop);
        }
        printf("%s: %s\n", engines[i] == DGRAM_ENGINE_URING ? "uring" : "poll",
               dgram_strerror(code));
    }
    return works == 0 || broken > 0;
}
