/* SPDX-License-Identifier: MIT */
/*
 * raw.c: `raw-mmsg` and `raw-gso`: the kernel without any library.
 *
 * raw-mmsg batches system calls, one datagram a message. raw-gso sends hand-written trains
 * (UDP_SEGMENT) and receives them whole (UDP_GRO).
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/engines/engines.h"
#include "bench/engines/raw.h"

struct raw {
    struct raw_in in;
    struct raw_out out;
};

/* ---- What the kernel takes ----------------------------------------------------------------- */

/* Sends a train of one-byte datagrams from a socket to itself. Returns 0 or a negated errno. */
static int train_try(int fd, uint32_t segments)
{
    struct sockaddr_in self;
    socklen_t size = sizeof(self);
    uint8_t bytes[TRAIN_SEGMENTS] = {0};
    struct iovec piece = {.iov_base = bytes, .iov_len = segments};
    union raw_control control = {.bytes = {0}};
    struct msghdr header = {.msg_name = &self, .msg_iov = &piece, .msg_iovlen = 1};
    uint16_t segment = 1;

    if (getsockname(fd, (struct sockaddr *) &self, &size) != 0) {
        return -errno;
    }
    header.msg_namelen = size;
    header.msg_control = &control;
    header.msg_controllen = CMSG_SPACE(sizeof(segment));
    control.align.cmsg_level = SOL_UDP;
    control.align.cmsg_type = UDP_SEGMENT;
    control.align.cmsg_len = CMSG_LEN(sizeof(segment));
    memcpy(CMSG_DATA(&control.align), &segment, sizeof(segment));
    return sendmsg(fd, &header, MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Returns how many datagrams a train may hold (128, or 64 on older kernels), or a negated errno. */
static int trains_probe(void)
{
    struct sockaddr_in self = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int on = 1;
    int result;

    if (fd < 0) {
        return -errno;
    }
    if (bind(fd, (struct sockaddr *) &self, sizeof(self)) != 0 ||
        setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)) != 0) {
        result = -errno;
    } else if (train_try(fd, TRAIN_SEGMENTS) == 0) {
        result = (int) TRAIN_SEGMENTS;
    } else {
        result = train_try(fd, TRAIN_SEGMENTS / 2);
        result = result == 0 ? (int) TRAIN_SEGMENTS / 2 : result;
    }
    close(fd);
    return result;
}

static int gso_available(char *why, size_t room)
{
    int trains = trains_probe();

    if (trains < 0) {
        snprintf(why, room, "UDP_SEGMENT or UDP_GRO: %s (Linux 5.0 has both)", strerror(-trains));
        return -1;
    }
    return 0;
}

/* ---- The end ------------------------------------------------------------------------------- */

static int raw_open(struct end *end, uint32_t train)
{
    struct raw *raw = calloc(1, sizeof(*raw));

    if (!raw) {
        return end_fail(end, "memory", -ENOMEM);
    }
    end->state = raw;
    end->train = train;
    if (raw_in_open(&raw->in, end, end->engine == &engine_raw_gso) != 0) {
        return -1;
    }
    return raw_out_open(&raw->out, end, raw->in.fds[0], train);
}

static int mmsg_open(struct end *end)
{
    return raw_open(end, 1);
}

static int gso_open(struct end *end)
{
    int most = trains_probe();
    uint32_t asked = end->plan->segments;

    if (most < 0) {
        return end_fail(end, "UDP_SEGMENT", most);
    }
    return raw_open(end, asked > 0 && asked < (uint32_t) most ? asked : (uint32_t) most);
}

static int64_t raw_send(struct end *end, uint64_t first, uint32_t count)
{
    struct raw *raw = end->state;

    return raw_out_numbers(&raw->out, first, count);
}

static int raw_reply(struct end *end, const struct dgram_addr *to, const void *data, uint32_t size)
{
    struct raw *raw = end->state;
    uint8_t *place = raw_out_append(&raw->out, to, size);

    if (!place) {
        return -1;
    }
    memcpy(place, data, size);
    return 0;
}

static int raw_turn(struct end *end, bool wait)
{
    struct raw *raw = end->state;

    if (raw_out_flush(&raw->out) != 0 || raw_in_turn(&raw->in, wait) != 0) {
        return -1;
    }
    return raw_out_flush(&raw->out);
}

static void raw_close(struct end *end)
{
    struct raw *raw = end->state;

    if (raw) {
        raw_out_close(&raw->out);
        raw_in_close(&raw->in);
        free(raw);
    }
    end->state = NULL;
}

const struct engine engine_raw_mmsg = {
    .name = "raw-mmsg",
    .summary = "sendmmsg and recvmmsg of 64 datagrams",
    .traits = ENGINE_BUSY_POLL | ENGINE_FLOOD | ENGINE_ANSWERS,
    .open = mmsg_open,
    .send = raw_send,
    .reply = raw_reply,
    .turn = raw_turn,
    .close = raw_close,
};

const struct engine engine_raw_gso = {
    .name = "raw-gso",
    .summary = "the same with hand-written trains: UDP_SEGMENT, UDP_GRO",
    .traits = ENGINE_TRAINS | ENGINE_BUSY_POLL | ENGINE_FLOOD | ENGINE_ANSWERS,
    .available = gso_available,
    .open = gso_open,
    .send = raw_send,
    .reply = raw_reply,
    .turn = raw_turn,
    .close = raw_close,
};
