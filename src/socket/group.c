/* SPDX-License-Identifier: MIT */
/*
 * group.c: multicast groups.
 *
 * Owns the memberships: for each the texts by which it was joined, and the index of the interface
 * on which the kernel has it. The kernel keeps memberships of interfaces that are gone, and they
 * count (net.ipv4.igmp_max_memberships); one that comes back under its name has another index. So a
 * membership is found by its texts, and left by its index, ip(7).
 *
 * A udp6 socket that is not for IPv6 alone joins groups of both families.
 */
#include "src/socket/group.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/core/agenda.h"
#include "src/net/address.h"
#include "src/net/interface.h"
#include "src/system.h"

/* A multicast group that a socket has joined, and how. */
struct membership {
    struct node node;
    struct dgram_addr group; /* without port and zone */
    struct in_addr local;    /* of the interface, as it was given */
    unsigned index;          /* of the interface: where the kernel has the membership; 0: unknown */
    char where[];            /* the text of the interface or zone, without address; "": none */
};

/* ---- Texts --------------------------------------------------------------------------------- */

/* The group to join or leave. */
struct ask {
    struct dgram_addr group;
    const char *zone;           /* of the group's text; NULL: none */
    const char *interface_text; /* "": none */
    const char *where;          /* as in struct membership */
    struct dg_interface interface;
};

static bool is_group(const struct dgram_addr *address)
{
    if (address->u.any.sa_family == AF_INET) {
        return IN_MULTICAST(ntohl(address->u.in4.sin_addr.s_addr));
    }
    return IN6_IS_ADDR_MULTICAST(&address->u.in6.sin6_addr);
}

/* "::ffff:239.1.2.3" is the group 239.1.2.3. */
static void unmap(struct dgram_addr *address)
{
    if (address->u.any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&address->u.in6.sin6_addr)) {
        struct sockaddr_in in4 = {.sin_family = AF_INET};
        memcpy(&in4.sin_addr, &address->u.in6.sin6_addr.s6_addr[12], sizeof(in4.sin_addr));
        dg_address_set(address, &in4, sizeof(in4));
    }
}

static int group_read(const struct dgram_socket *socket, const char *text, struct ask *ask)
{
    char literal[INET6_ADDRSTRLEN];
    size_t length = strcspn(text, "%");
    if (length >= sizeof(literal)) {
        return DGRAM_EBADGROUP;
    }
    memcpy(literal, text, length);
    literal[length] = '\0';
    ask->zone = text[length] == '%' ? &text[length + 1] : NULL;
    if (dgram_addr_parse(literal, 0, &ask->group) < 0) {
        return DGRAM_EBADGROUP;
    }
    bool both = socket->family == AF_INET6 && !socket->ipv6_only;
    if (both) {
        unmap(&ask->group);
    }
    sa_family_t family = ask->group.u.any.sa_family;
    bool zoned_in4 = family == AF_INET && ask->zone != NULL;
    if ((family != socket->family && !both) || !is_group(&ask->group) || zoned_in4) {
        return DGRAM_EBADGROUP;
    }
    return ask->zone != NULL && ask->zone[0] == '\0' ? (int) DGRAM_EBADINTERFACE : 0;
}

/* "::%eth0" and "eth0" are the same, for a group of IPv6. */
static const char *without_address(sa_family_t family, const char *text)
{
    struct in6_addr ignored;
    char literal[INET6_ADDRSTRLEN] = "";
    size_t length = strcspn(text, "%");
    if (length >= sizeof(literal)) {
        return text;
    }
    memcpy(literal, text, length);
    bool zoned = family == AF_INET6 && text[length] == '%';
    return zoned && inet_pton(AF_INET6, literal, &ignored) == 1 ? &text[length + 1] : text;
}

static int ask_read(const struct dgram_socket *socket, const char *group,
                    const char *interface_text, struct ask *ask)
{
    int code = socket_check(socket);
    if (code < 0) {
        return code;
    }
    if (group == NULL) {
        return DGRAM_ENULL;
    }
    *ask = (struct ask){.interface_text = interface_text != NULL ? interface_text : ""};
    code = group_read(socket, group, ask);
    if (code == 0) {
        bool zone_only = ask->zone != NULL && ask->interface_text[0] == '\0';
        ask->where = zone_only ? ask->zone
                               : without_address(ask->group.u.any.sa_family, ask->interface_text);
    }
    return code;
}

/* Which interface the texts name now. If zone and interface differ: which of the two was meant? Who
 * joins the wrong one hears nothing. */
static int interface_find(struct ask *ask)
{
    sa_family_t family = ask->group.u.any.sa_family;
    int code = dg_interface_read(family, ask->interface_text, &ask->interface);
    if (code < 0 || ask->zone == NULL) {
        return code;
    }
    unsigned index = dg_zone_read(ask->zone);
    if (ask->interface.index == 0) {
        ask->interface.index = index;
    }
    return index != 0 && index == ask->interface.index ? 0 : (int) DGRAM_EBADINTERFACE;
}

/* ---- The kernel ---------------------------------------------------------------------------- */

static int kernel_membership(const struct dgram_socket *socket, bool join,
                             const struct dgram_addr *group, unsigned index, struct in_addr local)
{
    const struct dg_system *system = socket->loop->system;
    int fd = socket->endpoint.fd;
    if (group->u.any.sa_family == AF_INET6) {
        struct ipv6_mreq request = {.ipv6mr_multiaddr = group->u.in6.sin6_addr,
                                    .ipv6mr_interface = index};
        int name = join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP;
        return system->setsockopt(fd, IPPROTO_IPV6, name, &request, sizeof(request));
    }
    struct ip_mreqn request = {
        .imr_multiaddr = group->u.in4.sin_addr, .imr_address = local, .imr_ifindex = (int) index};
    int name = join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP;
    int code = system->setsockopt(fd, IPPROTO_IP, name, &request, sizeof(request));
    /* The kernel answers ENODEV both for "no route" and for an address that is not local. */
    return code == -ENODEV && local.s_addr != INADDR_ANY ? (int) DGRAM_EBADINTERFACE : code;
}

static int kernel_leave(const struct dgram_socket *socket, const struct membership *membership)
{
    return kernel_membership(socket, false, &membership->group, membership->index,
                             membership->local);
}

/* ---- What is known ------------------------------------------------------------------------- */

static bool same_group(const struct dgram_addr *one, const struct dgram_addr *two)
{
    return dgram_addr_equal(one, two);
}

static bool is_known(const struct dgram_socket *socket, const struct dgram_addr *group,
                     unsigned index)
{
    const struct node *node = socket->memberships.next;
    for (; node != &socket->memberships; node = node->next) {
        const struct membership *m = owner_of(node, struct membership, node);
        if (m->index == index && same_group(&m->group, group)) {
            return true;
        }
    }
    return false;
}

#ifdef MCAST_MSFILTER
/* Whether the kernel has the group on this interface. */
static bool is_joined_on(const struct dgram_socket *socket, const struct dgram_addr *group,
                         unsigned index)
{
    struct group_filter filter = {.gf_interface = index};
    socklen_t size = GROUP_FILTER_SIZE(0);
    int level = group->u.any.sa_family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
    memcpy(&filter.gf_group, &group->u, group->size);
    return socket->loop->system->getsockopt(socket->endpoint.fd, level, MCAST_MSFILTER, &filter,
                                            &size) == 0;
}

/* The interface that the kernel has chosen. 0 if it does not tell. */
static unsigned index_find(const struct dgram_socket *socket, const struct dgram_addr *group)
{
    struct if_nameindex *all = if_nameindex();
    unsigned found = 0;
    for (const struct if_nameindex *one = all; one != NULL && one->if_index != 0 && found == 0;
         one++) {
        if (!is_known(socket, group, one->if_index) && is_joined_on(socket, group, one->if_index)) {
            found = one->if_index;
        }
    }
    if_freenameindex(all);
    return found;
}
#else
static unsigned index_find(const struct dgram_socket *socket, const struct dgram_addr *group)
{
    (void) socket;
    (void) group;
    return 0;
}
#endif

static void membership_remove(struct membership *membership)
{
    node_remove(&membership->node);
    dg_release(membership);
}

void dg_memberships_forget(struct dgram_socket *socket)
{
    while (!node_alone(&socket->memberships)) {
        membership_remove(owner_of(socket->memberships.next, struct membership, node));
    }
}

/* Its interface is gone, or the text names another one now: it was made anew. */
static bool is_stale(const struct membership *membership, const struct ask *ask)
{
    char name[IF_NAMESIZE];
    if (membership->index == 0) {
        return false;
    }
    return ask->interface.index != 0 ? ask->interface.index != membership->index
                                     : if_indextoname(membership->index, name) == NULL;
}

/* Leaves groups that were joined by the same texts on an interface that does not exist any more. */
static void leave_stale(struct dgram_socket *socket, const struct ask *ask)
{
    struct node *list = &socket->memberships;
    for (struct node *node = list->next, *next; node != list; node = next) {
        struct membership *m = owner_of(node, struct membership, node);
        next = node->next;
        if (same_group(&m->group, &ask->group) && strcmp(m->where, ask->where) == 0 &&
            is_stale(m, ask)) {
            (void) kernel_leave(socket, m);
            membership_remove(m);
        }
    }
}

/* ---- Join and leave ------------------------------------------------------------------------ */

static int join(struct dgram_socket *socket, const struct ask *ask)
{
    size_t size = strlen(ask->where) + 1;
    struct membership *membership = dg_allocate(sizeof(*membership) + size);
    if (membership == NULL) {
        return -ENOMEM;
    }
    leave_stale(socket, ask);
    int code =
        kernel_membership(socket, true, &ask->group, ask->interface.index, ask->interface.local);
    if (code < 0) {
        dg_release(membership);
        return code;
    }
    unsigned index = ask->interface.index;
    membership->group = ask->group;
    membership->local = ask->interface.local;
    membership->index = index != 0 ? index : index_find(socket, &ask->group);
    memcpy(membership->where, ask->where, size);
    node_init(&membership->node);
    node_prepend(&socket->memberships, &membership->node);
    return 0;
}

/* "create, join, bind" is the commonest multicast program, so a join must not bind at once; but a
 * program that never binds wants its messages too. */
int dgram_add_membership(struct dgram_socket *socket, const char *group, const char *interface_text)
{
    struct ask ask;
    int code = ask_read(socket, group, interface_text, &ask);
    if (code == 0) {
        code = interface_find(&ask);
    }
    if (code == 0) {
        code = join(socket, &ask);
    }
    if (code == 0 && !socket->bound) {
        dg_agenda_add(socket->loop->agenda, &socket->bind);
    }
    return code;
}

/* The number of an interface that may be gone; 0: the text is none. */
static unsigned number_of(const char *text)
{
    char *end = NULL;
    unsigned long number = text[0] >= '1' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    return number != 0 && *end == '\0' && number <= UINT32_MAX ? (unsigned) number : 0;
}

enum match { DIFFERENT, POSSIBLE, SAME };

/* `found`: the texts name an interface that exists. */
static enum match compare(const struct membership *membership, const struct ask *ask, bool found)
{
    unsigned index =
        found && ask->interface.index != 0 ? ask->interface.index : number_of(ask->where);
    if (!same_group(&membership->group, &ask->group)) {
        return DIFFERENT;
    }
    if (strcmp(membership->where, ask->where) == 0) {
        return SAME;
    }
    if (index != 0) {
        return membership->index == index ? SAME : membership->index == 0 ? POSSIBLE : DIFFERENT;
    }
    return found && ask->interface.local.s_addr == INADDR_ANY ? POSSIBLE : DIFFERENT;
}

/* The one that the texts name; else one that they may mean, because they name no interface. */
static struct membership *membership_find(const struct dgram_socket *socket, const struct ask *ask,
                                          bool found)
{
    struct membership *possible = NULL;
    const struct node *node = socket->memberships.next;
    for (; node != &socket->memberships; node = node->next) {
        struct membership *m = owner_of(node, struct membership, node);
        enum match match = compare(m, ask, found);
        if (match == SAME) {
            return m;
        }
        if (match == POSSIBLE && possible == NULL) {
            possible = m;
        }
    }
    return possible;
}

int dgram_drop_membership(struct dgram_socket *socket, const char *group,
                          const char *interface_text)
{
    struct ask ask;
    int code = ask_read(socket, group, interface_text, &ask);
    if (code < 0) {
        return code;
    }
    int found = interface_find(&ask);
    if (found < 0 && ask.zone != NULL && strcmp(ask.zone, ask.where) != 0) {
        return found; /* they contradict each other, whether they exist or not */
    }
    struct membership *membership = membership_find(socket, &ask, found == 0);
    if (membership == NULL) {
        return found < 0 ? found : -EADDRNOTAVAIL;
    }
    code = kernel_leave(socket, membership);
    if (code == 0) {
        membership_remove(membership);
    }
    if (node_alone(&socket->memberships)) {
        dg_agenda_drop(socket->loop->agenda, &socket->bind);
    }
    return code;
}
