/* SPDX-License-Identifier: MIT */
/*
 * embed_uv.c: the library inside a libuv program: pings a server and prints the replies.
 *
 *     embed_uv HOST PORT [COUNT]     COUNT pings, 3 if not given, 100 ms apart
 *
 * The whole recipe: a uv_poll_t on dgram_loop_fd(), whose callback calls dgram_loop_turn(loop, 0).
 * The descriptor covers timers, posts and queued sends too, so libuv's callbacks may call the
 * library at any time: here a uv_timer_t sends.
 */
#include <dgram.h>
#include <uv.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PING_EVERY_MS = 100, LAST_REPLY_MS = 2000 };

struct pinger {
    struct dgram_loop *loop;
    struct dgram_socket *socket;
    struct dgram_destination *server; /* a name would be looked up once, not for every ping */
    uv_poll_t poll;
    uv_timer_t timer;
    uint64_t wanted, sent, replies;
};

static void check(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, dgram_strerror(code));
        exit(1);
    }
}

/* libuv's codes are negated errnos too, but its own text knows more of them. */
static void check_uv(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, uv_strerror(code));
        exit(1);
    }
}

static uint64_t number_from(const char *text, uint64_t least, uint64_t most)
{
    char *end;
    unsigned long long number = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || *text == '-' || number < least || number > most) {
        fprintf(stderr, "%s is no number from %" PRIu64 " to %" PRIu64 "\n", text, least, most);
        exit(2);
    }
    return number;
}

/* ---- The library's side -------------------------------------------------------------------- */

static void on_sent(struct dgram_socket *socket, int result, void *user)
{
    (void) socket;
    (void) user;
    check(result, "send");
}

static void on_message(struct dgram_socket *socket, const struct dgram_message *message, void *user)
{
    struct pinger *pinger = user;
    char from[DGRAM_ADDR_TEXT_MAX];
    pinger->replies++;
    printf("reply %.*s from %s:%u\n", (int) message->size, (const char *) message->data,
           dgram_addr_text(message->from, from), dgram_addr_port(message->from));
    if (pinger->replies == pinger->wanted) {
        dgram_close(socket);
    }
}

/* The last event of the socket: without its handles libuv's loop ends. */
static void on_close(struct dgram_socket *socket, void *user)
{
    struct pinger *pinger = user;
    (void) socket;
    uv_close((uv_handle_t *) &pinger->poll, NULL);
    uv_close((uv_handle_t *) &pinger->timer, NULL);
}

/* ---- libuv's side -------------------------------------------------------------------------- */

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct pinger *pinger = poll->data;
    (void) events;
    check_uv(status, "poll");
    check(dgram_loop_turn(pinger->loop, 0), "turn");
}

/* A datagram may be lost on its way: after the last ping the wait for replies has an end. */
static void on_tick(uv_timer_t *timer)
{
    struct pinger *pinger = timer->data;
    char text[32];
    if (pinger->sent == pinger->wanted) {
        dgram_close(pinger->socket);
        return;
    }
    int size = snprintf(text, sizeof(text), "ping %" PRIu64, ++pinger->sent);
    /* With a callback the bytes would be borrowed until then; DGRAM_COPY has them copied. */
    check(dgram_send_dest(pinger->socket, text, (size_t) size, pinger->server, on_sent, NULL),
          "send");
    if (pinger->sent == pinger->wanted) {
        uv_timer_start(timer, on_tick, LAST_REPLY_MS, 0);
    }
}

int main(int argc, char **argv)
{
    struct pinger pinger = {.wanted = 3};
    struct dgram_socket_options options = {
        .size = sizeof(options), .flags = DGRAM_COPY, .on_message = on_message, .user = &pinger};
    if (argc < 3) {
        fprintf(stderr, "usage: %s HOST PORT [COUNT]\n", argv[0]);
        return 2;
    }
    uint16_t port = (uint16_t) number_from(argv[2], 1, 65535);
    pinger.wanted = argc > 3 ? number_from(argv[3], 1, UINT32_MAX) : pinger.wanted;

    setvbuf(stdout, NULL, _IOLBF, 0);
    check(dgram_loop_create(NULL, &pinger.loop), "loop");
    check(dgram_create_socket(pinger.loop, DGRAM_UDP4, &options, &pinger.socket), "socket");
    check(dgram_on_close(pinger.socket, on_close, &pinger), "socket");
    check(dgram_destination_create(pinger.loop, DGRAM_UDP4, port, argv[1], &pinger.server),
          argv[1]);
    int fd = dgram_loop_fd(pinger.loop);
    check(fd, "dgram_loop_fd");

    uv_loop_t *uv = uv_default_loop();
    pinger.poll.data = pinger.timer.data = &pinger;
    check_uv(uv_poll_init(uv, &pinger.poll, fd), "uv_poll_init");
    check_uv(uv_poll_start(&pinger.poll, UV_READABLE, on_readable), "uv_poll_start");
    check_uv(uv_timer_init(uv, &pinger.timer), "uv_timer_init");
    check_uv(uv_timer_start(&pinger.timer, on_tick, 0, PING_EVERY_MS), "uv_timer_start");
    uv_run(uv, UV_RUN_DEFAULT);
    uv_loop_close(uv);

    printf("%" PRIu64 " sent, %" PRIu64 " replies\n", pinger.sent, pinger.replies);
    dgram_destination_free(pinger.server);
    dgram_loop_free(pinger.loop);
    return pinger.replies < pinger.wanted;
}
