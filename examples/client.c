/* SPDX-License-Identifier: MIT */
/*
 * client.c: the client of Node's manual. Sends "Some bytes" and closes when they are sent.
 *
 *     client [PORT [HOST]]     41234 and localhost if not given
 *
 * The host is looked up without blocking. Closing the only socket leaves the loop nothing to wait
 * for, so it ends.
 */
#include <dgram.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, dgram_strerror(code));
        exit(1);
    }
}

static uint16_t port_from(const char *text)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || port > 65535) {
        fprintf(stderr, "%s is no port\n", text);
        exit(2);
    }
    return (uint16_t) port;
}

/* Comes exactly once for every send that was accepted. From here on the message is ours again. */
static void on_sent(struct dgram_socket *client, int result, void *user)
{
    bool *failed = user;
    if (result < 0) {
        fprintf(stderr, "send: %s\n", dgram_strerror(result));
        *failed = true;
    } else {
        printf("client sent %d bytes\n", result);
    }
    dgram_close(client);
}

int main(int argc, char **argv)
{
    static const char message[] = "Some bytes"; /* borrowed until on_sent() */
    struct dgram_loop *loop;
    struct dgram_socket *client;
    bool failed = false;
    uint16_t port = argc > 1 ? port_from(argv[1]) : 41234;
    const char *host = argc > 2 ? argv[2] : "localhost";

    check(dgram_loop_create(NULL, &loop), "loop");
    check(dgram_create_socket(loop, DGRAM_UDP4, NULL, &client), "socket");
    check(dgram_send(client, message, sizeof(message) - 1, port, host, on_sent, &failed), "send");

    int code = dgram_loop_run(loop);
    dgram_loop_free(loop);
    check(code, "run");
    return failed;
}
