/* SPDX-License-Identifier: MIT */
/*
 * exporter.c: sends what it reads from stdin, line by line, packed into datagrams that are written
 * where they are sent from: no byte is copied after it was read.
 *
 *     exporter ADDRESS PORT [zero-copy]
 *
 * Two buffers take turns. One is filled from its start while the other is in use; when both are,
 * stdin has to wait: that is all the back-pressure a sender of this kind needs. `idle` says that a
 * buffer is free again. What cannot be sent is counted by the socket. For files and busy pipes:
 * what was read leaves when a buffer is full.
 */
#include <dgram.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DATAGRAM = 1200, BUFFERS = 2, BUFFER_SIZE = 128 * DATAGRAM };

struct exporter {
    struct dgram_socket *socket;
    struct dgram_addr to;
    struct dgram_buffer *buffers[BUFFERS];
    char line[DATAGRAM + 1]; /* one that did not fit into the datagram before it */
    uint64_t lines, datagrams, cut;
};

static void check(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, dgram_strerror(code));
        exit(1);
    }
}

/* The next line, without its end; false when there is none. What is too long for a datagram is cut
 * and counted. */
static bool line_next(struct exporter *exporter)
{
    if (exporter->line[0] != '\0') {
        return true;
    }
    if (fgets(exporter->line, sizeof(exporter->line), stdin) == NULL) {
        return false;
    }
    if (strchr(exporter->line, '\n') == NULL && !feof(stdin)) {
        for (int rest = 0; rest != '\n' && rest != EOF;) {
            rest = getchar();
        }
        exporter->line[DATAGRAM - 1] = '\n';
        exporter->cut++;
    }
    exporter->lines++;
    return true;
}

/* Writes one datagram's worth of lines; how many bytes, 0 at the end of stdin. */
static size_t datagram_write(struct exporter *exporter, char *place)
{
    size_t size = 0;
    while (line_next(exporter)) {
        size_t length = strlen(exporter->line);
        if (size + length > DATAGRAM) {
            break;
        }
        memcpy(place + size, exporter->line, length);
        size += length;
        exporter->line[0] = '\0';
    }
    return size;
}

/* Fills the buffer and sends what it holds. Called at the start and whenever it is idle. */
static void fill(struct dgram_buffer *buffer, void *user)
{
    struct exporter *exporter = user;
    char *bytes = dgram_buffer_data(buffer);
    for (size_t at = 0; at + DATAGRAM <= BUFFER_SIZE;) {
        size_t size = datagram_write(exporter, bytes + at);
        if (size == 0) {
            return; /* nothing is in use any more, so dgram_loop_run() returns */
        }
        int code = dgram_send_buffer(exporter->socket, buffer, at, size, &exporter->to);
        check(code, "send"); /* two buffers never fill the queue, so this is no -EAGAIN */
        exporter->datagrams++;
        at += size;
    }
}

static void report(struct exporter *exporter, struct dgram_loop *loop)
{
    struct dgram_socket_stats stats = {.size = sizeof(stats)};
    struct dgram_loop_info info = {.size = sizeof(info)};
    check(dgram_socket_stats(exporter->socket, &stats), "stats");
    check(dgram_loop_info(loop, &info), "info");
    printf("%" PRIu64 " lines in %" PRIu64 " datagrams, %" PRIu64 " cut; sent %" PRIu64
           ", failed %" PRIu64 ", %" PRIu64 " sends of the kernel, %" PRIu64 " without a copy\n",
           exporter->lines, exporter->datagrams, exporter->cut, stats.sent, stats.send_errors,
           stats.sends, info.zero_copy_spared);
}

int main(int argc, char **argv)
{
    static struct exporter exporter;
    struct dgram_loop *loop;
    bool zero_copy = argc > 3 && strcmp(argv[3], "zero-copy") == 0;
    if (argc < 3 || argc > 4 || (argc == 4 && !zero_copy)) {
        fprintf(stderr, "usage: %s ADDRESS PORT [zero-copy]\n", argv[0]);
        return 2;
    }
    check(dgram_addr_parse(argv[1], (uint16_t) strtoul(argv[2], NULL, 10), &exporter.to), argv[1]);
    uint32_t type = exporter.to.u.any.sa_family == AF_INET ? DGRAM_UDP4 : DGRAM_UDP6;
    check(dgram_loop_create(NULL, &loop), "loop");
    check(dgram_create_socket(loop, type, NULL, &exporter.socket), "socket");
    dgram_unref(exporter.socket); /* bound by its first send, but nothing to wait for */
    const struct dgram_buffer_options options = {.size = sizeof(options),
                                                 .flags = zero_copy ? DGRAM_ZERO_COPY : 0,
                                                 .on_idle = fill,
                                                 .user = &exporter};
    for (int i = 0; i < BUFFERS; i++) {
        check(dgram_buffer_create(loop, BUFFER_SIZE, &options, &exporter.buffers[i]), "buffer");
        fill(exporter.buffers[i], &exporter);
    }
    if (zero_copy && dgram_buffer_zero_copy(exporter.buffers[0]) < 0) {
        fprintf(stderr, "no zero copy: %s\n",
                dgram_strerror(dgram_buffer_zero_copy(exporter.buffers[0])));
    }
    check(dgram_loop_run(loop), "run");
    report(&exporter, loop);
    dgram_loop_free(loop); /* and the buffers */
    return 0;
}
