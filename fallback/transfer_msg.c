/* SPDX-License-Identifier: MIT */
/*
 * transfer_msg.c: datagrams by recvmsg(2) and sendmsg(2), one system call each.
 *
 * Owns nothing: it is the system calls and their errors, no more.
 */
#include "fallback/transfer.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

static size_t room_of(const struct msghdr *header)
{
    size_t room = 0;
    for (size_t i = 0; i < (size_t) header->msg_iovlen; i++) {
        room += header->msg_iov[i].iov_len;
    }
    return room;
}

/* MSG_TRUNC asks for a datagram's real length. A host that does not know it as a request gives the
 * length that is present, and marks the datagram as cut. Then the real length is unknown, and the
 * answer is one byte more than the room. */
static int receive_one(int fd, struct transfer *item)
{
    size_t room = room_of(&item->header);
    ssize_t size;
    do {
        size = recvmsg(fd, &item->header, MSG_DONTWAIT | MSG_TRUNC);
    } while (size < 0 && errno == EINTR);
    if (size < 0) {
        return -errno;
    }
    if ((item->header.msg_flags & MSG_TRUNC) != 0 && (size_t) size <= room) {
        size = (ssize_t) (room + 1);
    }
    item->size = (unsigned int) size;
    return 0;
}

unsigned int dg_transfer_receive(int fd, struct transfer *items, unsigned int count, int *ret_error)
{
    assert(count > 0);
    unsigned int received = 0;
    int error = 0;
    while (received < count && error == 0) {
        error = receive_one(fd, &items[received]);
        received += error == 0;
    }
    *ret_error = error;
    return received;
}

/* One each call: so every refusal is seen with its errno, and none is met twice. */
int dg_transfer_send(int fd, struct transfer *items, unsigned int count)
{
    assert(count > 0);
    (void) count;
    return transfer_send_one(fd, items);
}
