/* SPDX-License-Identifier: MIT */
/*
 * option.c: the setters: broadcast, TTLs, the interface of multicasts, buffer sizes.
 *
 * Owns nothing: each checks its arguments and makes one setsockopt(2). An option of sending waits
 * until the datagrams before it have left. On udp6 the IPv4 twin of an option is set as well, as a
 * wish, because such a socket also sends to "::ffff:a.b.c.d".
 */
#include <errno.h>
#include <limits.h>

#include "src/net/interface.h"
#include "src/send/submit.h"
#include "src/socket/socket.h"
#include "src/system.h"

static int set_option(struct dgram_socket *socket, int level, int name, const void *value,
                      size_t size)
{
    return socket->loop->system->setsockopt(socket->endpoint.fd, level, name, value,
                                            (socklen_t) size);
}

/* The options of sending hold from now on: datagrams that were accepted before leave with the old
 * ones. Datagrams that wait for room in the kernel, for a name or for `listening` cannot. */
static int set_sending(struct dgram_socket *socket, int level, int name, const void *value,
                       size_t size)
{
    if (send_is_queued(socket->loop)) {
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
    int code = socket_check(socket);
    int value = on;
    return code < 0 ? code : set_sending(socket, SOL_SOCKET, SO_BROADCAST, &value, sizeof(value));
}

int dgram_set_ttl(struct dgram_socket *socket, int ttl)
{
    int code = socket_check(socket);
    if (code < 0) {
        return code;
    }
    return ttl < 1 || ttl > 255 ? (int) DGRAM_EBADTTL
                                : set_twin(socket, IP_TTL, IPV6_UNICAST_HOPS, ttl);
}

int dgram_set_multicast_ttl(struct dgram_socket *socket, int ttl)
{
    int code = socket_check(socket);
    if (code < 0) {
        return code;
    }
    return ttl < 0 || ttl > 255 ? (int) DGRAM_EBADTTL
                                : set_twin(socket, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, ttl);
}

int dgram_set_multicast_loopback(struct dgram_socket *socket, bool on)
{
    int code = socket_check(socket);
    return code < 0 ? code : set_twin(socket, IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, on);
}

/* ---- Multicast ----------------------------------------------------------------------------- */

static int multicast_from_in4(struct dgram_socket *socket, const struct dg_interface *interface)
{
    struct ip_mreqn request = {.imr_address = interface->local,
                               .imr_ifindex = (int) interface->index};
    int code = set_sending(socket, IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof(request));
    return code == -EADDRNOTAVAIL ? (int) DGRAM_EBADINTERFACE : code;
}

/* An IPv4 address is about the IPv4 groups of a udp6 socket, and "::" about the others; a name is
 * about both, and about those of IPv4 as a wish. */
static int multicast_from_in6(struct dgram_socket *socket, const char *text)
{
    struct dg_interface interface;
    if (!socket->ipv6_only && dg_interface_is_in4(text)) {
        int code = dg_interface_read(AF_INET, text, &interface);
        return code < 0 ? code : multicast_from_in4(socket, &interface);
    }
    int code = dg_interface_read(AF_INET6, text, &interface);
    if (code < 0) {
        return code;
    }
    int index = (int) interface.index;
    code = set_sending(socket, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof(index));
    if (code == 0 && !socket->ipv6_only && !interface.in6_only) {
        (void) multicast_from_in4(socket, &interface);
    }
    return code;
}

int dgram_set_multicast_interface(struct dgram_socket *socket, const char *interface_text)
{
    int code = socket_check(socket);
    struct dg_interface interface;
    if (code < 0) {
        return code;
    }
    if (socket->family == AF_INET6) {
        return multicast_from_in6(socket, interface_text);
    }
    code = dg_interface_read(AF_INET, interface_text, &interface);
    return code < 0 ? code : multicast_from_in4(socket, &interface);
}

/* ---- Buffer sizes -------------------------------------------------------------------------- */

static int buffer_set(struct dgram_socket *socket, int name, uint32_t bytes)
{
    int code = socket_check(socket);
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
    int code = socket_check(socket);
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
        socket->loop->buffers_changed++; /* to be asked again */
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
