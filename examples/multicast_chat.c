/* SPDX-License-Identifier: MIT */
/*
 * multicast_chat.c: lines of stdin go to a multicast group, what the group says is printed.
 *
 *     multicast_chat GROUP PORT [INTERFACE]
 *     multicast_chat 239.255.0.1 5000 eth0        multicast_chat ff15::5000 5000 eth0
 *
 * INTERFACE is a name, or a local address on IPv4; without it the kernel picks one. PORT 0 takes a
 * free one. The end of stdin ends the program.
 *
 * Reading stdin may block, so a thread of its own does it and posts each line to the loop: apart
 * from dgram_loop_post(), only the loop's thread calls the library.
 */
#include <dgram.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct chat {
    struct dgram_loop *loop;
    struct dgram_socket *socket;
    struct dgram_addr group;
};

/* What the reader hands to the loop, which frees it. */
struct line {
    struct chat *chat;
    char *text;
    size_t size;
};

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

/* ---- The loop's thread --------------------------------------------------------------------- */

static void on_message(struct dgram_socket *socket, const struct dgram_message *message, void *user)
{
    char from[DGRAM_ADDR_TEXT_MAX];
    (void) socket;
    (void) user;
    printf("%s:%u: ", dgram_addr_text(message->from, from), dgram_addr_port(message->from));
    fwrite(message->data, 1, message->size, stdout);
    putchar('\n');
}

static void on_error(struct dgram_socket *socket, const struct dgram_error *error, void *user)
{
    (void) socket;
    (void) user;
    fprintf(stderr, "%s: %s\n", error->operation, dgram_strerror(error->code));
}

/* Posted functions run like all callbacks. A send without a callback copies, so the line may go. */
static void say(struct dgram_loop *loop, void *user)
{
    struct line *line = user;
    struct chat *chat = line->chat;
    (void) loop;
    int code = dgram_send_to(chat->socket, line->text, line->size, &chat->group, NULL, NULL);
    if (code < 0) {
        fprintf(stderr, "not said: %s\n", dgram_strerror(code));
    }
    free(line->text);
    free(line);
}

/* No more lines: what is queued is still sent, then the socket closes and the loop ends. */
static void say_no_more(struct dgram_loop *loop, void *user)
{
    struct chat *chat = user;
    (void) loop;
    dgram_end(chat->socket);
}

/* ---- The reader's thread ------------------------------------------------------------------- */

static void post(struct chat *chat, dgram_post_fn *fn, void *user)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    int code;
    while ((code = dgram_loop_post(chat->loop, fn, user)) == -EAGAIN) {
        nanosleep(&moment, NULL); /* 65,536 lines are waiting: somebody pasted a book */
    }
    check(code, "post");
}

static void *read_lines(void *user)
{
    struct chat *chat = user;
    char *text = NULL;
    size_t room = 0;
    ssize_t size;
    while ((size = getline(&text, &room, stdin)) >= 0) {
        struct line *line = malloc(sizeof(*line));
        if (line == NULL) {
            break;
        }
        size -= size > 0 && text[size - 1] == '\n';
        *line = (struct line){.chat = chat, .text = text, .size = (size_t) size};
        text = NULL; /* the line's now; getline() takes new room */
        room = 0;
        post(chat, say, line);
    }
    free(text);
    post(chat, say_no_more, chat);
    return NULL;
}

int main(int argc, char **argv)
{
    struct chat chat;
    struct dgram_addr local;
    pthread_t reader;

    if (argc < 3) {
        fprintf(stderr, "usage: %s GROUP PORT [INTERFACE]\n", argv[0]);
        return 2;
    }
    uint16_t port = port_from(argv[2]);
    const char *interface_text = argc > 3 ? argv[3] : NULL;
    uint32_t type = strchr(argv[1], ':') != NULL ? DGRAM_UDP6 : DGRAM_UDP4;
    /* Several programs of a host may listen to a group. */
    struct dgram_socket_options options = {
        .size = sizeof(options), .flags = DGRAM_REUSE_ADDR, .on_message = on_message};

    setvbuf(stdout, NULL, _IOLBF, 0);
    check(dgram_loop_create(NULL, &chat.loop), "loop");
    check(dgram_create_socket(chat.loop, type, &options, &chat.socket), "socket");
    check(dgram_on_error(chat.socket, on_error, NULL), "socket");
    check(dgram_bind(chat.socket, port, NULL), "bind");
    check(dgram_address(chat.socket, &local), "address");
    check(dgram_addr_parse(argv[1], dgram_addr_port(&local), &chat.group), argv[1]);
    check(dgram_add_membership(chat.socket, argv[1], interface_text), "join");
    check(dgram_set_multicast_interface(chat.socket, interface_text), "interface");
    printf("in %s, port %u\n", argv[1], dgram_addr_port(&local));

    check(-pthread_create(&reader, NULL, read_lines, &chat), "thread");
    int code = dgram_loop_run(chat.loop);
    check(code, "run");
    pthread_join(reader, NULL); /* nobody posts any more */
    dgram_loop_free(chat.loop);
    return 0;
}
