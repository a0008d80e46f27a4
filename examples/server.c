/* SPDX-License-Identifier: MIT */
/*
 * server.c: the server of Node's manual. Prints every datagram and who sent it.
 *
 *     server [PORT [ADDRESS]]     PORT is 41234 if not given; 0 takes a free one
 *
 * Ctrl-C ends it: a signal handler may call dgram_loop_stop() and nothing else of the library.
 */
#include <dgram.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static struct dgram_loop *loop;

/* What fails at once is returned at once. Here nothing can go on without it. */
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

static void on_message(struct dgram_socket *server, const struct dgram_message *message, void *user)
{
    char from[DGRAM_ADDR_TEXT_MAX];
    (void) server;
    (void) user;
    printf("server got: ");
    fwrite(message->data, 1, message->size, stdout); /* bytes: no NUL ends them */
    printf(" from %s:%u\n", dgram_addr_text(message->from, from), dgram_addr_port(message->from));
}

static void on_listening(struct dgram_socket *server, void *user)
{
    struct dgram_addr address;
    char text[DGRAM_ADDR_TEXT_MAX];
    (void) user;
    check(dgram_address(server, &address), "address");
    printf("server listening %s:%u\n", dgram_addr_text(&address, text), dgram_addr_port(&address));
}

/* What failed later and belongs to no call. The socket stays usable; the manual's server closes. */
static void on_error(struct dgram_socket *server, const struct dgram_error *error, void *user)
{
    (void) user;
    fprintf(stderr, "server error: %s: %s\n", error->operation, dgram_strerror(error->code));
    dgram_close(server);
}

static void on_signal(int number)
{
    (void) number;
    dgram_loop_stop(loop); /* NOLINT(bugprone-signal-handler): made for it, says dgram.h */
}

int main(int argc, char **argv)
{
    struct dgram_socket *server;
    uint16_t port = argc > 1 ? port_from(argv[1]) : 41234;
    const char *address = argc > 2 ? argv[2] : NULL;

    setvbuf(stdout, NULL, _IOLBF, 0); /* whole lines also into a pipe */
    check(dgram_loop_create(NULL, &loop), "loop");
    check(dgram_create_socket(loop, DGRAM_UDP4, NULL, &server), "socket");
    check(dgram_on_message(server, on_message, NULL), "socket");
    check(dgram_on_listening(server, on_listening, NULL), "socket");
    check(dgram_on_error(server, on_error, NULL), "socket");
    check(dgram_bind(server, port, address), "bind");

    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    int code = dgram_loop_run(loop);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    dgram_loop_free(loop); /* closes the socket too */
    check(code, "run");
    return 0;
}
