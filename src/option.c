/* SPDX-License-Identifier: MIT */
/*
 * option.c: the setters: broadcast, TTLs, multicast, buffer sizes.
 *
 * Owns nothing: each checks its arguments and makes one setsockopt(2), after what was sent before
 * has left if the option is one of sending. On udp6 the IPv4 twin of an option is set as well, as a
 * wish, because such a socket also sends to "::ffff:a.b.c.d".
 */
#include <arpa/inet.h>
#include <limits.h>
#include <net/if.h>
#include <string.h>

#include "src/core.h"

static int set_option(struct dgram_socket *socket, int level, int name, const void *value,
                      size_t size)
{
    return socket->loop->system->setsockopt(socket->endpoint.fd, level, name, value,
                                            (socklen_t) size);
}

/* The options of sending hold from now on: what was accepted before leaves with the old ones. What
 * waits for room in the kernel, or for a name, cannot. */
static int set_sending(struct dgram_socket *socket, int level, int name, const void *value,
                       size_t size)
{
    if (socket->loop->batch->train_count > 0) {
        (void) dg_send_flush(socket->loop); /* a broken engine shows in the results */
    }
    return set_option(socket, level, name, value, size);
}

/* One int option that both families have under different names. */
static int set_twin(struct dgram_socket *socket, int in4_name, int in6_name, int value)
{
    if (socket->family == AF_INET) {
        return set_sending(socket, IPPROTO_IP, in4_name, &value, sizeof(value));
    }
    (void) set_sending(socket, IPPROTO_IP, in4_name, &value, sizeof(value));
    return set_option(socket, IPPROTO_IPV6, in6_name, &value, sizeof(value));
}

int dgram_set_broadcast(struct dgram_socket *socket, bool on)
{
    int code = dg_socket_check(socket);
    int value = on;
    return code < 0 ? code : set_sending(socket, SOL_SOCKET, SO_BROADCAST, &value, sizeof(value));
}

int dgram_set_ttl(struct dgram_socket *socket, int ttl)
{
    int code = dg_socket_check(socket);
    if (code < 0) {
        return code;
    }
    return ttl < 1 || ttl > 255 ? (int) DGRAM_EBADTTL
                                : set_twin(socket, IP_TTL, IPV6_UNICAST_HOPS, ttl);
}

int dgram_set_multicast_ttl(struct dgram_socket *socket, int ttl)
{
    int code = dg_socket_check(socket);
    if (code < 0) {
        return code;
    }
    return ttl < 0 || ttl > 255 ? (int) DGRAM_EBADTTL
                                : set_twin(socket, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, ttl);
}

int dgram_set_multicast_loopback(struct dgram_socket *socket, bool on)
{
    int code = dg_socket_check(socket);
    return code < 0 ? code : set_twin(socket, IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, on);
}

/* ---- Multicast ----------------------------------------------------------------------------- */

struct interface {
    unsigned index;       /* 0: the kernel chooses, unless `local` says */
    struct in_addr local; /* INADDR_ANY: not given */
};

/* "", NULL and the wildcard addresses leave the choice to the kernel. IPv6 has no interfaces named
 * by IPv4 addresses. */
static int interface_read(const struct dgram_socket *socket, const char *text,
                          struct interface *ret_interface)
{
    struct interface found = {0};
    if (text != NULL && text[0] != '\0' && strcmp(text, "::") != 0) {
        int code = dg_interface_read(socket->family, text, &found.index, &found.local);
        if (code < 0) {
            return code;
        }
    }
    *ret_interface = found;
    return 0;
}

int dgram_set_multicast_interface(struct dgram_socket *socket, const char *interface_text)
{
    int code = dg_socket_check(socket);
    struct interface interface;
    if (code == 0) {
        code = interface_read(socket, interface_text, &interface);
    }
    if (code < 0) {
        return code;
    }
    if (socket->family == AF_INET6) {
        int index = (int) interface.index;
        return set_sending(socket, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof(index));
    }
    struct ip_mreqn request = {.imr_address = interface.local,
                               .imr_ifindex = (int) interface.index};
    code = set_sending(socket, IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof(request));
    return code == -EADDRNOTAVAIL ? (int) DGRAM_EBADINTERFACE : code;
}

static bool is_group(const struct dgram_addr *address)
{
    if (address->u.any.sa_family == AF_INET) {
        return IN_MULTICAST(ntohl(address->u.in4.sin_addr.s_addr));
    }
    return IN6_IS_ADDR_MULTICAST(&address->u.in6.sin6_addr);
}

static int group_read(const struct dgram_socket *socket, const char *text,
                      struct dgram_addr *ret_group)
{
    struct dgram_addr group;
    if (text == NULL) {
        return DGRAM_ENULL;
    }
    int code = dgram_addr_parse(text, 0, &group);
    if (code == DGRAM_EBADINTERFACE && socket->family == AF_INET6) {
        return code; /* the zone's */
    }
    if (code < 0 || group.u.any.sa_family != socket->family || !is_group(&group)) {
        return DGRAM_EBADGROUP;
    }
    *ret_group = group;
    return 0;
}

static int membership_in4(struct dgram_socket *socket, bool join, const struct dgram_addr *group,
                          const struct interface *interface)
{
    struct ip_mreqn request = {
        .imr_multiaddr = group->u.in4.sin_addr,
        .imr_address = interface->local,
        .imr_ifindex = (int) interface->index,
    };
    int name = join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP;
    int code = set_option(socket, IPPROTO_IP, name, &request, sizeof(request));
    /* The kernel answers ENODEV both for "no route" and for an address that is not local. */
    bool named = interface->local.s_addr != INADDR_ANY;
    return named && code == -ENODEV ? (int) DGRAM_EBADINTERFACE : code;
}

static int membership_in6(struct dgram_socket *socket, bool join, const struct dgram_addr *group,
                          const struct interface *interface)
{
    struct ipv6_mreq request = {
        .ipv6mr_multiaddr = group->u.in6.sin6_addr,
        .ipv6mr_interface = interface->index != 0 ? interface->index : group->u.in6.sin6_scope_id,
    };
    int name = join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP;
    return set_option(socket, IPPROTO_IPV6, name, &request, sizeof(request));
}

/* Which of the two was meant? Who joins the wrong one hears nothing. */
static bool zone_contradicts(const struct dgram_addr *group, const struct interface *interface)
{
    uint32_t zone = group->u.any.sa_family == AF_INET6 ? group->u.in6.sin6_scope_id : 0;
    return zone != 0 && interface->index != 0 && zone != interface->index;
}

static int membership(struct dgram_socket *socket, bool join, const char *group_text,
                      const char *interface_text)
{
    struct dgram_addr group;
    struct interface interface;
    int code = dg_socket_check(socket);
    if (code == 0) {
        code = group_read(socket, group_text, &group);
    }
    if (code == 0) {
        code = interface_read(socket, interface_text, &interface);
    }
    if (code == 0 && zone_contradicts(&group, &interface)) {
        code = DGRAM_EBADINTERFACE;
    }
    if (code < 0) {
        return code;
    }
    return socket->family == AF_INET ? membership_in4(socket, join, &group, &interface)
                                     : membership_in6(socket, join, &group, &interface);
}

/* "create, join, bind" is the commonest multicast program, so a join must not bind at once; but a
 * program that never binds wants its messages too. */
int dgram_add_membership(struct dgram_socket *socket, const char *group, const char *interface_text)
{
    int code = membership(socket, true, group, interface_text);
    if (code == 0) {
        socket->joined++;
    }
    if (code == 0 && !socket->bound) {
        dg_socket_due(socket, DUE_BIND);
    }
    return code;
}

int dgram_drop_membership(struct dgram_socket *socket, const char *group,
                          const char *interface_text)
{
    int code = membership(socket, false, group, interface_text);
    assert(code < 0 || socket->joined > 0);
    if (code == 0 && --socket->joined == 0) {
        socket->due &= (uint8_t) ~DUE_BIND;
    }
    return code;
}

/* ---- Buffer sizes -------------------------------------------------------------------------- */

static int buffer_set(struct dgram_socket *socket, int name, uint32_t bytes)
{
    int code = dg_socket_check(socket);
    if (code < 0) {
        return code;
    }
    int value = (int) bytes;
    return bytes == 0 || bytes > INT_MAX
               ? (int) DGRAM_EBADBUFFERSIZE
               : set_option(socket, SOL_SOCKET, name, &value, sizeof(value));
}

static int buffer_get(struct dgram_socket *socket, int name)
{
    int code = dg_socket_check(socket);
    int value = 0;
    socklen_t size = sizeof(value);
    if (code == 0) {
        code =
            socket->loop->system->getsockopt(socket->endpoint.fd, SOL_SOCKET, name, &value, &size);
    }
    return code < 0 ? code : value;
}

int dgram_set_recv_buffer_size(struct dgram_socket *socket, uint32_t bytes)
{
    int code = buffer_set(socket, SO_RCVBUF, bytes);
    if (code == 0) {
        socket->loop->gathering.buffer = 0; /* to be asked again */
    }
    return code;
}

int dgram_set_send_buffer_size(struct dgram_socket *socket, uint32_t bytes)
{
    return buffer_set(socket, SO_SNDBUF, bytes);
}

int dgram_get_recv_buffer_size(struct dgram_socket *socket)
{
    return buffer_get(socket, SO_RCVBUF);
}

int dgram_get_send_buffer_size(struct dgram_socket *socket)
{
    return buffer_get(socket, SO_SNDBUF);
}
