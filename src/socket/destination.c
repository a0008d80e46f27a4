/* SPDX-License-Identifier: MIT */
/* destination.c: see destination.h. */
#include "src/socket/destination.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/names/text.h"
#include "src/net/address.h"
#include "src/send/accept.h"
#include "src/send/await.h"
#include "src/socket/send.h"

struct dgram_destination {
    struct dgram_loop *loop;
    struct name *name;         /* NULL: a literal */
    struct dgram_addr address; /* of a literal */
    sa_family_t family;
    in_port_t port; /* network order */
};

int dgram_destination_create(struct dgram_loop *loop, uint32_t type, uint32_t port,
                             const char *address, struct dgram_destination **ret_destination)
{
    if (loop == NULL || ret_destination == NULL) {
        return DGRAM_ENULL;
    }
    if (loop_forked(loop)) {
        return DGRAM_EFORKED;
    }
    if (loop->freeing) {
        return DGRAM_ENOTRUNNING;
    }
    if (type != DGRAM_UDP4 && type != DGRAM_UDP6) {
        return DGRAM_EBADTYPE;
    }
    if (port == 0 || port > UINT16_MAX) {
        return DGRAM_EBADPORT;
    }
    struct dgram_addr literal = {0};
    sa_family_t family = type == DGRAM_UDP4 ? AF_INET : AF_INET6;
    int code = dg_address_read(family, address, port, DG_LOOPBACK, &literal);
    bool named = code == DGRAM_EBADADDRESS && dg_name_is_well_formed(address);
    if (code < 0 && !named) {
        return code;
    }
    struct name *name = named ? dg_name_get(loop, address, family) : NULL;
    struct dgram_destination *made = dg_allocate(sizeof(*made));
    if (made == NULL || (named && name == NULL)) {
        dg_release(made);
        return -ENOMEM;
    }
    made->loop = loop;
    made->family = family;
    made->port = htons((uint16_t) port);
    made->name = name;
    if (named) {
        dg_name_hold(loop, name);
    } else {
        made->address = literal;
    }
    *ret_destination = made;
    return 0;
}

struct dgram_destination *dgram_destination_free(struct dgram_destination *destination)
{
    if (destination != NULL) {
        if (destination->name != NULL) {
            dg_name_release(destination->loop, destination->name);
        }
        dg_release(destination);
    }
    return NULL;
}

int dg_destination_check(const struct dgram_socket *socket,
                         const struct dgram_destination *destination)
{
    if (destination->loop != socket->loop) {
        return DGRAM_EWRONGLOOP;
    }
    return destination->family != socket->family ? (int) DGRAM_EBADFAMILY : 0;
}

int dg_destination_send(struct dgram_socket *socket, struct dgram_destination *destination,
                        const struct payload *payload, dgram_sent_fn *fn, void *user)
{
    struct name *name = destination->name;
    assert(dg_destination_check(socket, destination) == 0);
    if (name == NULL) {
        union dg_peer address;
        memcpy(&address, &destination->address.u, sizeof(address));
        return dg_send_accept(&socket->sender, &address, payload, fn, user);
    }
    if (dg_name_address(name) != NULL && !dg_name_is_fresh(socket->loop, name) &&
        !dg_name_failed_lately(socket->loop, name)) {
        (void) dg_name_ask(socket->loop,
                           name); /* in the background: the last good address serves */
    }
    return dg_send_to_name(&socket->sender, name, USE_LAST_GOOD, destination->port, payload, fn,
                           user);
}

static void destination_write(const struct dgram_destination *destination,
                              struct dgram_addr *address)
{
    dg_address_set(address, dg_name_address(destination->name),
                   destination->family == AF_INET ? sizeof(struct sockaddr_in)
                                                  : sizeof(struct sockaddr_in6));
    address->u.in4.sin_port = destination->port; /* at the same place in sockaddr_in6 */
}

/* The address of a name to which a send goes at once, since nothing has to be asked or waited
 * for. */
static bool destination_now(const struct dgram_destination *destination, struct dgram_addr *address)
{
    struct name *name = destination->name;
    if (*dg_name_waiting(name) > 0 || !dg_name_is_fresh(destination->loop, name)) {
        return false;
    }
    destination_write(destination, address);
    return true;
}

/* The state of a name, and a question in the background if that may be out of date. */
static int name_state(struct dgram_loop *loop, struct name *name)
{
    bool asks =
        !dg_name_is_fresh(loop, name) && !dg_name_failed_lately(loop, name) && !loop->freeing;
    int code = asks ? dg_name_ask(loop, name) : 0;
    if (dg_name_address(name) != NULL) {
        return 0;
    }
    if (code == 0) {
        code = dg_name_failed_code(name);
    }
    return code < 0 ? code : -EAGAIN;
}

int dgram_destination_address(struct dgram_destination *destination, struct dgram_addr *ret_address)
{
    if (destination == NULL || ret_address == NULL) {
        return DGRAM_ENULL;
    }
    if (loop_forked(destination->loop)) {
        return DGRAM_EFORKED;
    }
    if (destination->name == NULL) {
        *ret_address = destination->address;
        return 0;
    }
    int code = name_state(destination->loop, destination->name);
    if (code == 0) {
        destination_write(destination, ret_address);
    }
    return code;
}

/* Not inlined, so that literals save no registers for it. */
__attribute__((noinline)) static int send_dest(struct dgram_socket *socket, const void *data,
                                               size_t size, struct dgram_destination *destination,
                                               dgram_sent_fn *fn, void *user)
{
    struct dgram_addr address;
    int code = socket_check(socket);
    if (code == 0) {
        code = destination == NULL ? (int) DGRAM_ENULL : dg_destination_check(socket, destination);
    }
    if (code == 0 && destination->name != NULL && destination_now(destination, &address)) {
        return dgram_send_to(socket, data, size, &address, fn, user);
    }
    if (code == 0) {
        code = dg_send_check(socket, data, size);
    }
    if (code < 0) {
        return code;
    }
    struct payload payload = {
        .data = data, .size = (uint32_t) size, .borrowed = send_borrows(socket, data, fn)};
    return dg_destination_send(socket, destination, &payload, fn, user);
}

/* A literal, and a name that is known, is an address like any other: its lane is open to it. */
int dgram_send_dest(struct dgram_socket *socket, const void *data, size_t size,
                    struct dgram_destination *destination, dgram_sent_fn *fn, void *user)
{
    if (socket != NULL && destination != NULL && destination->name == NULL &&
        destination->loop == socket->loop) {
        return dgram_send_to(socket, data, size, &destination->address, fn, user);
    }
    return send_dest(socket, data, size, destination, fn, user);
}
