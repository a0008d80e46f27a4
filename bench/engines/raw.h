/* SPDX-License-Identifier: MIT */
/*
 * raw.h: the common part of the raw engines: sending by sendmmsg, receiving by recvmmsg.
 *
 * A train is one message of several datagrams (UDP_SEGMENT, udp(7)); raw-mmsg is the case of trains
 * that hold one. Private to raw.c, raw_send.c and raw_receive.c.
 */
#ifndef DGPERF_RAW_H
#define DGPERF_RAW_H

#include <netinet/udp.h>
#include <sys/socket.h>

#include "bench/harness/engine.h"

#define RAW_MESSAGES 64u             /* per sendmmsg and recvmmsg */
#define RAW_BATCH_BYTES (256u << 10) /* per sendmmsg: more falls out of the cache */

/* One control message with one number, on either side. */
union raw_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

struct raw_out {
    struct end *end;
    int fd;
    uint32_t train; /* datagrams a train may hold */
    uint64_t taken; /* datagrams that the kernel took, ever */

    /* The train that may still grow: the last of the batch. */
    const struct dgram_addr *to;
    uint32_t segment; /* the size of its datagrams; the last may be smaller and ends it */
    uint32_t left;    /* how many more it may hold */
    uint32_t room;    /* bytes that it may still take */

    /* The batch. */
    uint32_t messages;
    uint32_t used; /* bytes of the arena */
    uint8_t *arena;
    uint32_t segments[RAW_MESSAGES]; /* datagrams in each train */
    uint16_t sizes[RAW_MESSAGES];    /* the segment of each train */
    struct mmsghdr headers[RAW_MESSAGES];
    struct iovec pieces[RAW_MESSAGES];
    union raw_control controls[RAW_MESSAGES];
};

struct raw_in {
    struct end *end;
    int fds[FANOUT_PEERS];
    int epoll;  /* -1 for a single socket: it can sleep in recvmmsg */
    bool polls; /* it sleeps in poll, as an event loop must: collectors */
    bool gro;
    uint32_t messages; /* per recvmmsg */
    size_t stride;
    uint8_t *buffers;
    struct mmsghdr headers[RAW_MESSAGES];
    struct iovec pieces[RAW_MESSAGES];
    union raw_control controls[RAW_MESSAGES];
    struct dgram_addr names[RAW_MESSAGES];
};

int raw_out_open(struct raw_out *out, struct end *end, int fd, uint32_t train);
void raw_out_close(struct raw_out *out);

/* Returns room for one more datagram, to be filled before the next call. NULL: the batch cannot
 * leave. */
uint8_t *raw_out_append(struct raw_out *out, const struct dgram_addr *to, uint32_t size);

/* Sends the batch. Returns 0, or -1 with end->error. The rest of a stopped end's batch is
 * dropped. */
int raw_out_flush(struct raw_out *out);

/* Sends numbered datagrams as send() of struct engine does, and returns the same. */
int64_t raw_out_numbers(struct raw_out *out, uint64_t first, uint32_t count);

int raw_in_open(struct raw_in *in, struct end *end, bool gro);
void raw_in_close(struct raw_in *in);

/* Receives and delivers once, after waiting at most a tick if `wait`. Returns 0, or -1. */
int raw_in_turn(struct raw_in *in, bool wait);

#endif
