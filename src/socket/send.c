/* SPDX-License-Identifier: MIT */
/* send.c: see send.h. */
#include "src/socket/send.h"

#include <errno.h>

#include "src/names/text.h"
#include "src/net/address.h"
#include "src/send/accept.h"
#include "src/send/await.h"
#include "src/send/lane.h"
#include "src/socket/bind.h"

/* ---- Checks -------------------------------------------------------------------------------- */

static inline int address_read(const struct dgram_socket *socket, const struct dgram_addr *address,
                               union dg_peer *ret_peer)
{
    if (address->size < sizeof(sa_family_t) || address->size > sizeof(address->u)) {
        return DGRAM_EBADADDRESS;
    }
    if (address->u.any.sa_family != socket->family) {
        return DGRAM_EBADFAMILY;
    }
    if (address->size < sender_peer_size(&socket->sender)) {
        return DGRAM_EBADADDRESS;
    }
    if (address->u.in4.sin_port == 0) {
        return DGRAM_EBADPORT;
    }
    /* Member by member: peers are compared as bytes. Hosts with a sin_len fill it in addresses from
     * the kernel, and not in those that were read from text. */
    const struct sockaddr_in6 *in6 = &address->u.in6;
    if (socket->family == AF_INET) {
        ret_peer->in4 = (struct sockaddr_in){.sin_family = AF_INET,
                                             .sin_port = address->u.in4.sin_port,
                                             .sin_addr = address->u.in4.sin_addr};
    } else {
        ret_peer->in6 = (struct sockaddr_in6){.sin6_family = AF_INET6,
                                              .sin6_port = in6->sin6_port,
                                              .sin6_flowinfo = in6->sin6_flowinfo,
                                              .sin6_addr = in6->sin6_addr,
                                              .sin6_scope_id = in6->sin6_scope_id};
    }
    return 0;
}

_Static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port),
               "address_read() looks at the port of either");

int dg_send_address(const struct dgram_socket *socket, const struct dgram_addr *address,
                    union dg_peer *ret_peer)
{
    return address_read(socket, address, ret_peer);
}

int dg_send_check(struct dgram_socket *socket, const void *data, size_t size)
{
    assert(socket_check(socket) == 0);
    if (socket->state != SOCKET_OPEN) {
        return DGRAM_ENOTRUNNING;
    }
    if (data == NULL && size > 0) {
        return DGRAM_ENULL;
    }
    if (size > sender_size_max(&socket->sender)) {
        return -EMSGSIZE;
    }
    bool bound = socket->bound || socket->binding;
    return bound ? 0 : dg_bind_implicitly(socket);
}

/* Not inlined, so that the fast way below saves no registers for it. */
__attribute__((noinline)) static int send_to(struct dgram_socket *socket, const void *data,
                                             size_t size, const struct dgram_addr *address,
                                             dgram_sent_fn *fn, void *user)
{
    union dg_peer peer;
    int code = socket_check(socket);
    if (code == 0) {
        code = address == NULL ? DGRAM_ENULL : address_read(socket, address, &peer);
    }
    if (code == 0) {
        code = dg_send_check(socket, data, size);
    }
    if (code < 0) {
        return code;
    }
    struct payload payload = {
        .data = data, .size = (uint32_t) size, .borrowed = send_borrows(socket, data, fn)};
    return dg_send_accept(&socket->sender, &peer, &payload, fn, user);
}

__attribute__((noinline)) static int send_buffer(struct dgram_socket *socket,
                                                 struct dgram_buffer *buffer, size_t offset,
                                                 size_t size, const struct dgram_addr *address)
{
    union dg_peer peer;
    int code = socket_check(socket);
    if (code == 0 && (buffer == NULL || address == NULL)) {
        code = DGRAM_ENULL;
    }
    if (code == 0 && buffer->loop != socket->loop) {
        code = DGRAM_EWRONGLOOP;
    }
    if (code == 0 && (offset > buffer->region.size || size > buffer->region.size - offset)) {
        code = DGRAM_EBADRANGE;
    }
    code = code == 0 ? address_read(socket, address, &peer) : code;
    const void *data = code == 0 ? (unsigned char *) buffer->region.memory + offset : NULL;
    code = code == 0 ? dg_send_check(socket, data, size) : code;
    if (code < 0) {
        return code;
    }
    struct payload payload = {.data = data, .size = (uint32_t) size, .buffer = buffer};
    return dg_send_accept(&socket->sender, &peer, &payload, NULL, NULL);
}

/* ---- The fast way -------------------------------------------------------------------------- */

/* The lane of another peer than the last one's: interleaved sends. */
__attribute__((noinline)) static int send_elsewhere(struct dgram_socket *socket, const void *data,
                                                    size_t size, const struct dgram_addr *address)
{
    struct flow *flow = lane_find(&socket->sender, address);
    if (flow == NULL || size != flow->lane_size || flow->lane_left == 0) {
        return send_to(socket, data, size, address, NULL, NULL);
    }
    lane_remember(&socket->sender, flow);
    return lane_take(flow, data, size, false);
}

/*
 * The fast way: another datagram of the same size to the same peer, without a callback. A flow
 * exists in this submission only if its socket is open, bound and not blocked, so all that was
 * checked for its first datagram holds. 50 instructions instead of some 250 (callgrind).
 */
int dgram_send_to(struct dgram_socket *socket, const void *data, size_t size,
                  const struct dgram_addr *address, dgram_sent_fn *fn, void *user)
{
    struct flow *flow = socket != NULL ? lane_last(&socket->sender) : NULL;
    if (flow == NULL || fn != NULL || data == NULL || address == NULL ||
        loop_forked(socket->loop)) {
        return send_to(socket, data, size, address, fn, user);
    }
    if (!flow_is_to(flow, address)) {
        return send_elsewhere(socket, data, size, address);
    }
    if (size != flow->lane_size || flow->lane_left == 0) {
        return send_to(socket, data, size, address, NULL, NULL);
    }
    return lane_take(flow, data, size, true);
}

/* To another peer than the last one's, or by the long way. */
__attribute__((noinline)) static int send_buffer_elsewhere(struct dgram_socket *socket,
                                                           struct dgram_buffer *buffer,
                                                           size_t offset, size_t size,
                                                           const struct dgram_addr *address)
{
    struct flow *flow = lane_find(&socket->sender, address);
    if (flow == NULL || !run_advance(flow, buffer, offset, size)) {
        return send_buffer(socket, buffer, offset, size, address);
    }
    lane_remember(&socket->sender, flow);
    return 0;
}

int dgram_send_buffer(struct dgram_socket *socket, struct dgram_buffer *buffer, size_t offset,
                      size_t size, const struct dgram_addr *address)
{
    struct flow *flow = socket != NULL ? lane_last(&socket->sender) : NULL;
    if (flow == NULL || buffer == NULL || address == NULL || loop_forked(socket->loop)) {
        return send_buffer(socket, buffer, offset, size, address);
    }
    if (!flow_is_to(flow, address)) {
        return send_buffer_elsewhere(socket, buffer, offset, size, address);
    }
    return run_advance(flow, buffer, offset, size)
               ? 0
               : send_buffer(socket, buffer, offset, size, address);
}

int dgram_send(struct dgram_socket *socket, const void *data, size_t size, uint32_t port,
               const char *address, dgram_sent_fn *fn, void *user)
{
    struct dgram_addr target;
    int code = socket_check(socket);
    if (code < 0) {
        return code;
    }
    if (port == 0 || port > UINT16_MAX) {
        return DGRAM_EBADPORT;
    }
    code = dg_address_read(socket->family, address, port, DG_LOOPBACK, &target);
    if (code != DGRAM_EBADADDRESS || !dg_name_is_well_formed(address)) {
        return code < 0 ? code : send_to(socket, data, size, &target, fn, user);
    }
    code = dg_send_check(socket, data, size);
    struct payload payload = {
        .data = data, .size = (uint32_t) size, .borrowed = send_borrows(socket, data, fn)};
    struct name *name = code == 0 ? dg_name_get(socket->loop, address, socket->family) : NULL;
    if (code == 0 && name == NULL) {
        code = -ENOMEM;
    }
    return code < 0 ? code
                    : dg_send_to_name(&socket->sender, name, USE_FRESH, htons((uint16_t) port),
                                      &payload, fn, user);
}
