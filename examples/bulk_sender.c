/* SPDX-License-Identifier: MIT */
/*
 * bulk_sender.c: sends as fast as the host can, and prints totals.
 *
 *     bulk_sender ADDRESS PORT [COUNT [SIZE]]     1000000 datagrams of 200 bytes if not given
 *
 * The three rules of a sender that never waits and never loses count:
 *   - send until a send is refused with -EAGAIN, then stop: the queue is full;
 *   - go on at `drain`: it has fallen to half;
 *   - every send that was accepted completes exactly once: that is what is counted.
 * There is nothing here about trains of datagrams: the library makes them by itself.
 */
#include <dgram.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct job {
    struct dgram_addr to;
    unsigned char *payload; /* borrowed by every send: it never changes */
    size_t size;
    uint64_t wanted, accepted, completed, failed, refused;
    int last_error;
};

static void check(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, dgram_strerror(code));
        exit(1);
    }
}

static uint64_t number_from(const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || *text == '-' || errno != 0 || number < least ||
        number > most) {
        fprintf(stderr, "%s is no number from %" PRIu64 " to %" PRIu64 "\n", text, least, most);
        exit(2);
    }
    return number;
}

static void on_sent(struct dgram_socket *socket, int result, void *user)
{
    struct job *job = user;
    if (result < 0) {
        job->failed++;
        job->last_error = result;
    }
    if (++job->completed == job->wanted) {
        struct dgram_socket_stats stats = {.size = sizeof(stats)};
        check(dgram_socket_stats(socket, &stats), "stats");
        printf("%" PRIu64 " datagrams in %" PRIu64 " sends of the kernel\n", stats.sent,
               stats.sends);
        dgram_close(socket);
    }
}

static void send_more(struct dgram_socket *socket, void *user)
{
    struct job *job = user;
    while (job->accepted < job->wanted) {
        int code = dgram_send_to(socket, job->payload, job->size, &job->to, on_sent, job);
        if (code == -EAGAIN) {
            job->refused++;
            return; /* `drain` calls again */
        }
        check(code, "send");
        job->accepted++;
    }
}

int main(int argc, char **argv)
{
    struct dgram_loop *loop;
    struct dgram_socket *socket;
    struct job job = {.wanted = 1000000, .size = 200};

    if (argc < 3) {
        fprintf(stderr, "usage: %s ADDRESS PORT [COUNT [SIZE]]\n", argv[0]);
        return 2;
    }
    uint16_t port = (uint16_t) number_from(argv[2], 1, 65535);
    check(dgram_addr_parse(argv[1], port, &job.to), argv[1]);
    job.wanted = argc > 3 ? number_from(argv[3], 1, UINT64_MAX) : job.wanted;
    job.size = argc > 4 ? (size_t) number_from(argv[4], 0, DGRAM_UDP6_SIZE_MAX) : job.size;
    job.payload = calloc(1, job.size + 1);
    if (job.payload == NULL) {
        perror("payload");
        return 1;
    }

    uint32_t type = job.to.u.any.sa_family == AF_INET ? DGRAM_UDP4 : DGRAM_UDP6;
    check(dgram_loop_create(NULL, &loop), "loop");
    check(dgram_create_socket(loop, type, NULL, &socket), "socket");
    check(dgram_on_drain(socket, send_more, &job), "socket");
    uint64_t start = dgram_loop_now(loop);
    send_more(socket, &job);
    check(dgram_loop_run(loop), "run");

    double seconds = (double) (dgram_loop_now(loop) - start) / 1e9;
    uint64_t sent = job.completed - job.failed;
    printf("sent %" PRIu64 ", failed %" PRIu64 ", %" PRIu64 " bytes, refused %" PRIu64
           " times, %.3f s, %.0f a second\n",
           sent, job.failed, sent * job.size, job.refused, seconds,
           seconds > 0 ? (double) sent / seconds : 0.0);
    if (job.failed > 0) {
        fprintf(stderr, "send: %s\n", dgram_strerror(job.last_error));
    }
    dgram_loop_free(loop);
    free(job.payload);
    return job.failed > 0;
}
