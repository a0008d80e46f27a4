/* SPDX-License-Identifier: MIT */
/* host_linux.c: Linux, with epoll, timerfd and trains. Owns nothing, keeps no state. */
#include "src/host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int checked(int result)
{
    return result < 0 ? -errno : result;
}

int dg_host_socket(int family)
{
    return checked(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

/* Without TCP_NODELAY, a second question on a connection would wait for the first one's ACK. */
int dg_host_guest_socket(int family, int type)
{
    int fd = checked(socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd >= 0 && type == SOCK_STREAM) {
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    }
    return fd;
}

int dg_host_pipe(int ret_fds[2])
{
    return checked(pipe2(ret_fds, O_CLOEXEC | O_NONBLOCK));
}

const int dg_host_real_size = MSG_TRUNC;

/* A classic filter that lets nothing pass. Its drops count as the socket's, like those for want of
 * room (tests/host/kernel*.cc pin that). Asks for no privilege, socket(7). */
int dg_host_refuse(int fd)
{
    struct sock_filter nothing = {.code = BPF_RET | BPF_K, .k = 0};
    const struct sock_fprog program = {.len = 1, .filter = &nothing};
    return checked(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)));
}

/* SO_MEMINFO, since 4.12. Asked when somebody wants to know: SO_RXQ_OVFL, which tells the same,
 * would cost every datagram a control message. */
uint32_t dg_host_drops(int fd)
{
    uint32_t numbers[SK_MEMINFO_VARS] = {0};
    socklen_t size = sizeof(numbers);
    (void) getsockopt(fd, SOL_SOCKET, SO_MEMINFO, numbers, &size);
    return numbers[SK_MEMINFO_DROPS];
}

/* Asked of the main thread: a program that pins each thread to a CPU of its own has more than
 * one. */
bool dg_host_only_one_cpu(void)
{
    cpu_set_t allowed;
    bool one =
        sched_getaffinity(getpid(), sizeof(allowed), &allowed) == 0 && CPU_COUNT(&allowed) == 1;
    return one || sysconf(_SC_NPROCESSORS_ONLN) == 1;
}

int dg_host_gather_open(const int *fds, size_t count)
{
    int gather = checked(epoll_create1(EPOLL_CLOEXEC));
    for (size_t i = 0; gather >= 0 && i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN};
        int code = checked(epoll_ctl(gather, EPOLL_CTL_ADD, fds[i], &event));
        if (code < 0) {
            (void) close(gather);
            gather = code;
        }
    }
    return gather;
}

int dg_host_alarm_open(void)
{
    return checked(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
}

void dg_host_alarm_set(int fd, uint64_t deadline)
{
    struct itimerspec when = {0}; /* zero disarms, timerfd_create(2) */
    if (deadline != UINT64_MAX) {
        deadline = deadline == 0 ? 1 : deadline;
        when.it_value.tv_sec = (time_t) (deadline / 1000000000u);
        when.it_value.tv_nsec = (long) (deadline % 1000000000u);
    }
    (void) timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL); /* the arguments are valid */
}

/* Early in a boot the kernel has none yet; a sandbox may forbid to ask. */
int dg_host_random(uint64_t *ret_random)
{
    ssize_t size = getrandom(ret_random, sizeof(*ret_random), GRND_NONBLOCK);
    if (size == (ssize_t) sizeof(*ret_random)) {
        return 0;
    }
    return size < 0 ? -errno : -EAGAIN;
}

enum { SOL_UDP_ = 17, UDP_SEGMENT_ = 103 };

/* More datagrams than any kernel takes in one train, and than fit one packet of its loopback. */
enum { TRAIN_TOO_LONG = 1000 };

/* A train of `count` one-byte datagrams from a socket to itself; 0: one byte without the control
 * message. 0 or a negated errno. */
static int train_send(int fd, const struct sockaddr_in *self, uint16_t count)
{
    static const unsigned char payload[TRAIN_TOO_LONG];
    _Alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct iovec vector = {.iov_base = (void *) (uintptr_t) payload,
                           .iov_len = count > 0 ? count : 1};
    struct msghdr header = {
        .msg_name = (void *) (uintptr_t) self,
        .msg_namelen = sizeof(*self),
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    uint16_t segment = 1;
    c->cmsg_level = SOL_UDP_;
    c->cmsg_type = UDP_SEGMENT_;
    c->cmsg_len = CMSG_LEN(sizeof(segment));
    memcpy(CMSG_DATA(c), &segment, sizeof(segment));
    if (count == 0) {
        header.msg_control = NULL;
        header.msg_controllen = 0;
    }
    int code = checked((int) sendmsg(fd, &header, MSG_DONTWAIT));
    return code < 0 ? code : 0;
}

/*
 * No train left. Where in its way through the kernel each was refused tells the limit all the same
 * (udp_sendmsg() and udp_send_skb(); tests/host/kernel*.cc). A port is chosen (EAGAIN: none is
 * free). A control program may refuse (EPERM). A route is looked up (ENETUNREACH, EACCES). Then the
 * datagrams are counted (EINVAL: too many), then IPsec and missing checksums refuse (EIO), and
 * netfilter last (EPERM). So if a train that is surely too long gets EINVAL, one that gets anything
 * else has been counted and is short enough. If one datagram alone gets EINVAL, that errno tells
 * nothing.
 */
static unsigned segments_by_refusals(int fd, const struct sockaddr_in *self, int code_of_128)
{
    if (train_send(fd, self, TRAIN_TOO_LONG) != -EINVAL) {
        return 0;
    }
    if (code_of_128 != -EINVAL) {
        return 128;
    }
    if (train_send(fd, self, 64) != -EINVAL) {
        return 64;
    }
    return train_send(fd, self, 0) == -EINVAL ? 0 : 1;
}

static unsigned segments_of(int fd)
{
    struct sockaddr_in self = {.sin_family = AF_INET};
    self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(self);
    const int off = 0;
    /* A kernel before 4.18 ignores the control message and would send one large datagram. */
    if (setsockopt(fd, SOL_UDP_, UDP_SEGMENT_, &off, sizeof(off)) < 0 && errno == ENOPROTOOPT) {
        return 1;
    }
    if (bind(fd, (struct sockaddr *) &self, size) < 0 ||
        getsockname(fd, (struct sockaddr *) &self, &size) < 0) {
        return 0;
    }
    int code = train_send(fd, &self, 128);
    return code == 0 ? 128 : segments_by_refusals(fd, &self, code);
}

/* 128 segments since Linux 6.9 and some stable branches, 64 since 4.18: asked, not derived from a
 * version. */
unsigned dg_host_segments_max(void)
{
    int fd = dg_host_socket(AF_INET);
    unsigned segments = fd < 0 ? 0 : segments_of(fd);
    if (fd >= 0) {
        (void) close(fd);
    }
    return segments;
}
