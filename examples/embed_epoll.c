/* SPDX-License-Identifier: MIT */
/*
 * embed_epoll.c: the library inside a program that has an epoll loop of its own: an echo server.
 *
 *     embed_epoll [PORT]     PORT is 41234 if not given; 0 takes a free one
 *
 * The whole recipe: wait until dgram_loop_fd() is readable, then call dgram_loop_turn(loop, 0). The
 * descriptor covers timers, posts and queued sends too, so the other handlers of the program may
 * call the library at any time and need not think of it. This program's own business is a timer
 * that counts and a signal that ends it.
 */
#include <dgram.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

static uint64_t echoed, failed, ticks;

static void check(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, dgram_strerror(code));
        exit(1);
    }
}

/* The same for system calls, which leave their error in errno. */
static int check_system(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
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

/* ---- The library's side -------------------------------------------------------------------- */

static void on_message(struct dgram_socket *server, const struct dgram_message *message, void *user)
{
    (void) user;
    int code = dgram_send_to(server, message->data, message->size, message->from, NULL, NULL);
    echoed += code == 0;
    failed += code < 0; /* -EAGAIN: a server that nobody waits for drops what is too much */
}

static void on_error(struct dgram_socket *server, const struct dgram_error *error, void *user)
{
    (void) server;
    (void) user;
    fprintf(stderr, "%s: %s\n", error->operation, dgram_strerror(error->code));
}

/* ---- The program's side -------------------------------------------------------------------- */

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    check_system(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

static int open_timer(void)
{
    const struct itimerspec every = {{0, 100000000}, {0, 100000000}};
    int fd = check_system(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd");
    check_system(timerfd_settime(fd, 0, &every, NULL), "timerfd");
    return fd;
}

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    check_system(sigprocmask(SIG_BLOCK, &set, NULL), "sigprocmask");
    return check_system(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), "signalfd");
}

int main(int argc, char **argv)
{
    struct dgram_loop *loop;
    struct dgram_socket *server;
    struct dgram_addr address;
    char text[DGRAM_ADDR_TEXT_MAX];
    uint16_t port = argc > 1 ? port_from(argv[1]) : 41234;

    setvbuf(stdout, NULL, _IOLBF, 0);
    check(dgram_loop_create(NULL, &loop), "loop");
    int library = dgram_loop_fd(loop);
    check(library, "dgram_loop_fd"); /* -ENOTSUP where the host has only poll(2) */
    check(dgram_create_socket(loop, DGRAM_UDP4, NULL, &server), "socket");
    check(dgram_on_message(server, on_message, NULL), "socket");
    check(dgram_on_error(server, on_error, NULL), "socket");
    check(dgram_bind(server, port, NULL), "bind");
    check(dgram_address(server, &address), "address");
    printf("echo on %s:%u\n", dgram_addr_text(&address, text), dgram_addr_port(&address));

    int epoll = check_system(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    int timer = open_timer(), signals = open_signals();
    watch(epoll, library);
    watch(epoll, timer);
    watch(epoll, signals);

    bool running = true;
    while (running) {
        struct epoll_event events[3];
        int count = epoll_wait(epoll, events, 3, -1);
        if (count < 0 && errno != EINTR) {
            check_system(count, "epoll_wait");
        }
        for (int i = 0; i < count; i++) {
            uint64_t expirations;
            if (events[i].data.fd == library) {
                check(dgram_loop_turn(loop, 0), "turn");
            } else if (events[i].data.fd == timer) {
                if (read(timer, &expirations, sizeof(expirations)) == sizeof(expirations)) {
                    ticks += expirations;
                }
            } else {
                running = false;
            }
        }
    }

    printf("echoed %" PRIu64 ", dropped %" PRIu64 ", the timer ticked: %s\n", echoed, failed,
           ticks > 0 ? "yes" : "no");
    dgram_loop_free(loop); /* closes the socket, and what is queued gets its last attempt */
    close(signals);
    close(timer);
    close(epoll);
    return 0;
}
