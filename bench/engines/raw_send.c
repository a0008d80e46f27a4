/* SPDX-License-Identifier: MIT */
/*
 * raw_send.c: batches of trains for sendmmsg.
 *
 * Owns one arena that is used again as soon as sendmmsg returns, so that it stays in the cache.
 * Copies and remembers nothing per datagram: it makes none of a library's promises.
 */
#include "bench/engines/raw.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#define ARENA_BYTES (RAW_BATCH_BYTES + 65536u)

int raw_out_open(struct raw_out *out, struct end *end, int fd, uint32_t train)
{
    out->end = end;
    out->fd = fd;
    out->train = train;
    out->arena = calloc(1, ARENA_BYTES);
    if (!out->arena) {
        return end_fail(end, "memory", -ENOMEM);
    }
    for (uint32_t i = 0; i < RAW_MESSAGES; i++) {
        out->headers[i].msg_hdr.msg_iov = &out->pieces[i];
        out->headers[i].msg_hdr.msg_iovlen = 1;
    }
    return 0;
}

void raw_out_close(struct raw_out *out)
{
    free(out->arena);
    out->arena = NULL;
}

/* ---- Making trains ------------------------------------------------------------------------- */

static void train_begin(struct raw_out *out, const struct dgram_addr *to, uint32_t size)
{
    uint32_t i = out->messages++;
    uint32_t room = ARENA_BYTES - out->used < TRAIN_BYTES ? ARENA_BYTES - out->used : TRAIN_BYTES;

    out->to = to;
    out->segment = size;
    out->left = size > 0 ? out->train - 1 : 0;
    out->room = size < room ? room - size : 0;
    out->segments[i] = 1;
    out->sizes[i] = (uint16_t) size;
    out->pieces[i].iov_base = out->arena + out->used;
    out->pieces[i].iov_len = size;
    out->headers[i].msg_hdr.msg_name = (void *) (uintptr_t) &to->u;
    out->headers[i].msg_hdr.msg_namelen = to->size;
}

static inline bool train_takes(const struct raw_out *out, const struct dgram_addr *to,
                               uint32_t size)
{
    return out->left > 0 && size <= out->segment && size <= out->room && size > 0 &&
           (out->to == to || dgram_addr_equal(out->to, to));
}

static inline void train_add(struct raw_out *out, uint32_t size)
{
    uint32_t last = out->messages - 1;

    out->segments[last]++;
    out->pieces[last].iov_len += size;
    out->room -= size;
    out->left = size < out->segment ? 0 : out->left - 1;
}

static inline uint8_t *append(struct raw_out *out, const struct dgram_addr *to, uint32_t size)
{
    uint8_t *place;

    if (train_takes(out, to, size)) {
        train_add(out, size);
    } else {
        bool full = out->messages == RAW_MESSAGES || out->used >= RAW_BATCH_BYTES;

        if (full && raw_out_flush(out) != 0) {
            return NULL;
        }
        train_begin(out, to, size);
    }
    place = out->arena + out->used;
    out->used += size;
    return place;
}

uint8_t *raw_out_append(struct raw_out *out, const struct dgram_addr *to, uint32_t size)
{
    return append(out, to, size);
}

/* ---- Sending them -------------------------------------------------------------------------- */

/* Gives message `i` its control message if it is a train of two or more. With a control message the
 * kernel refuses to fragment. */
static void control_set(struct raw_out *out, uint32_t i)
{
    struct msghdr *header = &out->headers[i].msg_hdr;
    struct cmsghdr *control = &out->controls[i].align;

    if (out->segments[i] == 1) {
        header->msg_control = NULL;
        header->msg_controllen = 0;
        return;
    }
    header->msg_control = control;
    header->msg_controllen = CMSG_SPACE(sizeof(uint16_t));
    control->cmsg_level = SOL_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    memcpy(CMSG_DATA(control), &out->sizes[i], sizeof(uint16_t));
}

/* Returns whether the same call may succeed after `error`: no room, a signal, or the ICMP error of
 * an older datagram. */
static bool worth_repeating(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ENOBUFS ||
           error == ECONNREFUSED;
}

/* Makes one call, the cheapest that can take the messages. Returns how many it took, or -1. */
static int call_send(struct raw_out *out, uint32_t from)
{
    const struct msghdr *header = &out->headers[from].msg_hdr;

    if (out->messages - from > 1 || out->segments[from] > 1) {
        return sendmmsg(out->fd, out->headers + from, out->messages - from, 0);
    }
    return sendto(out->fd, header->msg_iov->iov_base, header->msg_iov->iov_len, 0, header->msg_name,
                  header->msg_namelen) < 0
               ? -1
               : 1;
}

static int batch_send(struct raw_out *out)
{
    uint32_t done = 0;

    while (done < out->messages) {
        int taken = call_send(out, done);

        if (taken < 0 && !worth_repeating(errno)) {
            return end_fail(out->end, "send", -errno);
        }
        if (taken < 0) {
            if (end_stopped(out->end)) {
                return 0;
            }
            sched_yield();
            continue;
        }
        for (uint32_t i = done; i < done + (uint32_t) taken; i++) {
            out->taken += out->segments[i];
        }
        done += (uint32_t) taken;
    }
    return 0;
}

int raw_out_flush(struct raw_out *out)
{
    int result;

    for (uint32_t i = 0; i < out->messages; i++) {
        control_set(out, i);
    }
    result = batch_send(out);
    out->messages = 0;
    out->used = 0;
    out->left = 0;
    return result;
}

/* ---- Numbered datagrams -------------------------------------------------------------------- */

static int numbers_in_order(struct raw_out *out, uint64_t first, uint32_t count)
{
    const struct end *end = out->end;
    struct cursor cursor = cursor_at(first, end->plan->peers);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = sizes_of(end->sizes, cursor.number, cursor.peer);
        uint8_t *place = append(out, &end->peers[cursor.peer], size);

        if (!place) {
            return -1;
        }
        number_write(place, cursor.number);
        cursor_next(&cursor);
    }
    return 0;
}

/* Sends the datagrams peer by peer, as a program without a library would: a train has one peer.
 * Each peer's numbers keep their order. */
static int numbers_by_peer(struct raw_out *out, uint64_t first, uint32_t count)
{
    const struct end *end = out->end;
    uint32_t peers = end->plan->peers;

    for (uint32_t k = 0; k < peers && k < count; k++) {
        struct cursor cursor = cursor_at(first + k, peers);

        for (uint32_t i = k; i < count; i += peers, cursor.number++) {
            uint32_t size = sizes_of(end->sizes, cursor.number, cursor.peer);
            uint8_t *place = append(out, &end->peers[cursor.peer], size);

            if (!place) {
                return -1;
            }
            number_write(place, cursor.number);
        }
    }
    return 0;
}

int64_t raw_out_numbers(struct raw_out *out, uint64_t first, uint32_t count)
{
    bool sort = out->end->plan->peers > 1 && out->train > 1;
    uint64_t before = out->taken;
    int result = sort ? numbers_by_peer(out, first, count) : numbers_in_order(out, first, count);

    if (result != 0 || raw_out_flush(out) != 0) {
        return -1;
    }
    return (int64_t) (out->taken - before);
}
