/* SPDX-License-Identifier: MIT */
/*
 * transfer.h: how the poll engine moves datagrams.
 *
 * The inner boundary to the calls that move datagrams, which differ by host. The build takes one of
 * transfer_mmsg.c (recvmmsg and sendmmsg: Linux, FreeBSD, NetBSD) and transfer_msg.c (any POSIX
 * host). Behind it lie system calls on one socket; nothing there waits, and nothing is kept between
 * the calls.
 */
#ifndef DGRAM_FALLBACK_TRANSFER_H
#define DGRAM_FALLBACK_TRANSFER_H

#include <errno.h>
#include <sys/socket.h>

/* One datagram or train: a struct mmsghdr where the host has it. */
struct transfer {
    struct msghdr header;
    unsigned int size; /* written: bytes sent, or the real bytes of what was received */
};

/* Receives at most `count` (1 or more) datagrams: how many came. *ret_error is 0, or the negated
 * errno that ended it behind them, -EAGAIN when nothing more is queued. A host may keep an error
 * behind datagrams for its next receive instead. */
unsigned int dg_transfer_receive(int fd, struct transfer *items, unsigned int count,
                                 int *ret_error);

/* Sends from the first of `count` (1 or more) on, in order and without gaps: how many were taken,
 * at least 1, or the negated errno that refused the first. Datagrams behind a refused one are not
 * tried. Taking fewer than `count` tells nothing: the next call begins at the first that is left,
 * and learns why. */
int dg_transfer_send(int fd, struct transfer *items, unsigned int count);

/* One datagram or train: 1, or the negated errno that refused it. */
static inline int transfer_send_one(int fd, struct transfer *item)
{
    ssize_t size;
    do {
        size = sendmsg(fd, &item->header, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (size < 0 && errno == EINTR);
    if (size < 0) {
        return -errno;
    }
    item->size = (unsigned int) size;
    return 1;
}

#endif
