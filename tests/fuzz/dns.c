/* SPDX-License-Identifier: MIT */
/*
 * dns.c: a name server whose answers are the input, by UDP and TCP.
 *
 * It runs between the turns of one thread. The first bytes of an answer say how honest its head is:
 * with the question's number, with its section, or just as the input has it. A question that is
 * never answered rightly ends with the loop.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADER = 12, ANSWER_MAX = 4096, TURNS = 60 };

static struct {
    int udp, tcp, connection;
    char text[64], resolv_conf[64];
    struct bytes bytes;
    unsigned completed, accepted;
} server = {.connection = -1};

static void on_sent(struct dgram_socket *socket, int result, void *user)
{
    (void) socket;
    (void) user;
    must(result >= 0 || strcmp(dgram_error_name(result), "UNKNOWN") != 0, "a code is known");
    server.completed++;
}

static void remove_file(void)
{
    (void) unlink(server.resolv_conf);
}

static void server_open(void)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t size = sizeof(name);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server.udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    server.tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must(bind(server.udp, (struct sockaddr *) &name, size) == 0, "bound");
    must(getsockname(server.udp, (struct sockaddr *) &name, &size) == 0, "its name");
    must(bind(server.tcp, (struct sockaddr *) &name, size) == 0, "bound");
    must(listen(server.tcp, 8) == 0, "listens");
    (void) snprintf(server.text, sizeof(server.text), "127.0.0.1:%u", ntohs(name.sin_port));
    (void) snprintf(server.resolv_conf, sizeof(server.resolv_conf), "/tmp/fuzz-dns.XXXXXX");
    int fd = mkstemp(server.resolv_conf);
    static const char lines[] =
        "lookup bind\nsearch search.test\noptions timeout:30 attempts:2 ndots:0\n";
    must(fd >= 0 && write(fd, lines, sizeof(lines) - 1) == (ssize_t) sizeof(lines) - 1, "a file");
    (void) close(fd);
    (void) atexit(remove_file);
}

/* An answer to a question of `size` bytes; its own size. */
static size_t answer_make(const unsigned char *question, size_t size, unsigned char *answer)
{
    uint32_t honest = bytes_take(&server.bytes);
    size_t length = bytes_take_two(&server.bytes) % (ANSWER_MAX - 600), used = 0;
    if ((honest & 1) != 0) { /* a head that fits, and counts of the input's */
        memcpy(answer, question, HEADER);
        answer[2] = (unsigned char) (0x80 | (honest & 2));
        answer[3] = (unsigned char) (honest / 16);
        answer[7] = (unsigned char) bytes_take(&server.bytes);
        used = HEADER;
        if ((honest & 4) != 0 && size <= 600) {
            memcpy(answer + used, question + HEADER, size - HEADER);
            used = size;
        }
    }
    while (length-- > 0 && server.bytes.size > 0) {
        answer[used++] = (unsigned char) bytes_take(&server.bytes);
    }
    return used;
}

static void serve_udp(void)
{
    unsigned char question[1024], answer[ANSWER_MAX];
    struct sockaddr_in from;
    socklen_t from_size = sizeof(from);
    ssize_t size;
    while ((size = recvfrom(server.udp, question, sizeof(question), 0, (struct sockaddr *) &from,
                            &from_size)) >= HEADER) {
        size_t length = answer_make(question, (size_t) size, answer);
        (void) sendto(server.udp, answer, length, MSG_NOSIGNAL, (struct sockaddr *) &from,
                      from_size);
    }
}

static void serve_tcp(void)
{
    unsigned char question[1024], answer[2 + ANSWER_MAX];
    if (server.connection < 0) {
        server.connection = accept4(server.tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        return;
    }
    ssize_t size = recv(server.connection, question, sizeof(question), 0);
    if (size >= 2 + HEADER) {
        size_t length = answer_make(question + 2, (size_t) size - 2, answer + 2);
        uint32_t lie = bytes_take(&server.bytes);
        size_t told = lie < 200 ? length : length + lie;
        answer[0] = (unsigned char) (told >> 8);
        answer[1] = (unsigned char) told;
        (void) send(server.connection, answer, 2 + length, MSG_NOSIGNAL);
        size = lie % 4 == 3 ? 0 : size;
    }
    if (size == 0) {
        (void) close(server.connection);
        server.connection = -1;
    }
}

static void ask(struct dgram_socket *socket, const char *host)
{
    int code = dgram_send(socket, "x", 1, 9, host, on_sent, NULL);
    must(code == 0, "a well-formed name is accepted");
    server.accepted++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int opened;
    if (!opened++) {
        server_open();
    }
    server.bytes = (struct bytes){data, size};
    server.completed = server.accepted = 0;
    struct dgram_loop_options options = {.size = sizeof(options),
                                         .engine = DGRAM_ENGINE_POLL,
                                         .dns_servers = server.text,
                                         .resolv_conf = server.resolv_conf};
    struct dgram_loop *loop = NULL;
    struct dgram_socket *four = NULL, *six = NULL;
    must(dgram_loop_create(&options, &loop) == 0, "a loop");
    must(dgram_create_socket(loop, DGRAM_UDP4, NULL, &four) == 0, "a socket");
    must(dgram_create_socket(loop, DGRAM_UDP6, NULL, &six) == 0, "a socket");
    ask(four, "fuzz.test");
    ask(six, "other.fuzz.test");
    for (int i = 0; i < TURNS && (server.bytes.size > 0 || i < 4); i++) {
        must(dgram_loop_turn(loop, 0) >= 0, "a turn");
        serve_udp();
        serve_tcp();
    }
    (void) dgram_loop_free(loop);
    must(server.completed == server.accepted, "a send completes once");
    if (server.connection >= 0) {
        (void) close(server.connection);
        server.connection = -1;
    }
    serve_udp(); /* what is left of this run */
    serve_tcp();
    return 0;
}
