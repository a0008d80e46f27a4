/* SPDX-License-Identifier: MIT */
/*
 * cmsg.c: see cmsg.h. Newer constants of the stable kernel interface are written here under private
 * names, because the headers of the oldest supported system lack some.
 */
#include "src/net/cmsg.h"

#include <assert.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

enum { DG_SOL_UDP = 17, DG_UDP_SEGMENT = 103, DG_UDP_GRO = 104 };

/* The message is CMSG_SPACE(sizeof(int)). */
enum { SEGMENT_CONTROL_SIZE = 24 };
_Static_assert(SEGMENT_CONTROL_SIZE >= CMSG_SPACE(sizeof(int)), "the segment size fits");
_Static_assert(SEGMENT_CONTROL_SIZE % 8 == 0, "control sizes are multiples of 8");

/* Only where trains are known: the number may mean anything to another host. */
uint32_t dg_cmsg_ask_for_segments(const struct dg_system *system, int fd)
{
    const int on = 1;
    bool granted = system->segments_max() > 1 &&
                   system->setsockopt(fd, DG_SOL_UDP, DG_UDP_GRO, &on, sizeof(on)) == 0;
    return granted ? SEGMENT_CONTROL_SIZE : 0;
}

/* The length is a size_t on glibc and a socklen_t elsewhere; it is never more than a slot's. */
static struct msghdr header_of(void *control, size_t size)
{
    return (struct msghdr){.msg_control = control, .msg_controllen = (socklen_t) size};
}

uint32_t dg_cmsg_segment(const void *control, size_t size)
{
    struct msghdr header = header_of((void *) (uintptr_t) control, size);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c != NULL; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level == DG_SOL_UDP && c->cmsg_type == DG_UDP_GRO &&
            c->cmsg_len >= CMSG_LEN(sizeof(int))) {
            int segment = 0;
            memcpy(&segment, CMSG_DATA(c), sizeof(segment));
            return segment > 0 ? (uint32_t) segment : 0;
        }
    }
    return 0;
}

size_t dg_cmsg_write_segment(void *control, size_t size, uint16_t segment)
{
    assert(size >= CMSG_SPACE(sizeof(segment)) && segment > 0);
    struct msghdr header = header_of(control, size);
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = DG_SOL_UDP;
    c->cmsg_type = DG_UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof(segment));
    memcpy(CMSG_DATA(c), &segment, sizeof(segment));
    return CMSG_SPACE(sizeof(segment));
}
