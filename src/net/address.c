/* SPDX-License-Identifier: MIT */
/* address.c: see address.h. */
#include "src/net/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "src/net/interface.h"

_Static_assert(DGRAM_ADDR_TEXT_MAX >= INET6_ADDRSTRLEN + IF_NAMESIZE + 1, "a literal and its zone");

static int read_in6(const char *text, struct sockaddr_in6 *in6)
{
    char literal[INET6_ADDRSTRLEN];
    const char *percent = strchr(text, '%');
    size_t length = percent != NULL ? (size_t) (percent - text) : strlen(text);
    if (length >= sizeof(literal)) {
        return DGRAM_EBADADDRESS;
    }
    memcpy(literal, text, length);
    literal[length] = '\0';
    if (inet_pton(AF_INET6, literal, &in6->sin6_addr) != 1) {
        return DGRAM_EBADADDRESS;
    }
    if (percent != NULL) {
        in6->sin6_scope_id = dg_zone_read(percent + 1);
        if (in6->sin6_scope_id == 0) {
            return DGRAM_EBADINTERFACE;
        }
    }
    in6->sin6_family = AF_INET6;
    return 0;
}

int dgram_addr_parse(const char *text, uint32_t port, struct dgram_addr *ret_address)
{
    if (text == NULL || ret_address == NULL) {
        return DGRAM_ENULL;
    }
    if (port > UINT16_MAX) {
        return DGRAM_EBADPORT;
    }
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
    if (inet_pton(AF_INET, text, &in4.sin_addr) == 1) {
        dg_address_set(ret_address, &in4, sizeof(in4));
        return 0;
    }
    struct sockaddr_in6 in6 = {.sin6_port = htons((uint16_t) port)};
    int code = read_in6(text, &in6);
    if (code == 0) {
        dg_address_set(ret_address, &in6, sizeof(in6));
    }
    return code;
}

void dg_address_set(struct dgram_addr *address, const void *name, size_t size)
{
    assert(size <= sizeof(address->u));
    address->size = (uint32_t) size;
    memcpy(&address->u, name, size);
}

int dg_address_read(sa_family_t family, const char *text, uint32_t port, enum dg_fallback fallback,
                    struct dgram_addr *ret_address)
{
    assert(family == AF_INET || family == AF_INET6);
    if (text == NULL || text[0] == '\0') {
        if (family == AF_INET) {
            text = fallback == DG_ANY ? "0.0.0.0" : "127.0.0.1";
        } else {
            text = fallback == DG_ANY ? "::" : "::1";
        }
    }
    struct dgram_addr address = {0};
    int code = dgram_addr_parse(text, port, &address);
    if (code == 0 && address.u.any.sa_family != family) {
        code = DGRAM_EBADFAMILY;
    }
    if (code == 0) {
        *ret_address = address;
    }
    return code;
}

const char *dgram_addr_text(const struct dgram_addr *address, char *text)
{
    if (text == NULL) {
        return "";
    }
    text[0] = '\0';
    if (address == NULL || address->size < sizeof(sa_family_t)) {
        return text;
    }
    if (address->u.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->u.in4.sin_addr, text, DGRAM_ADDR_TEXT_MAX);
    } else if (address->u.any.sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = &address->u.in6;
        inet_ntop(AF_INET6, &in6->sin6_addr, text, DGRAM_ADDR_TEXT_MAX);
        if (in6->sin6_scope_id != 0 && IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr)) {
            char name[IF_NAMESIZE];
            size_t length = strlen(text);
            if (if_indextoname(in6->sin6_scope_id, name) != NULL) {
                snprintf(text + length, DGRAM_ADDR_TEXT_MAX - length, "%%%s", name);
            } else {
                snprintf(text + length, DGRAM_ADDR_TEXT_MAX - length, "%%%u", in6->sin6_scope_id);
            }
        }
    }
    return text;
}

uint16_t dgram_addr_port(const struct dgram_addr *address)
{
    if (address == NULL || address->size < sizeof(sa_family_t)) {
        return 0;
    }
    switch (address->u.any.sa_family) {
    case AF_INET:
        return ntohs(address->u.in4.sin_port);
    case AF_INET6:
        return ntohs(address->u.in6.sin6_port);
    default:
        return 0;
    }
}

const char *dgram_addr_family(const struct dgram_addr *address)
{
    if (address == NULL || address->size < sizeof(sa_family_t)) {
        return "";
    }
    switch (address->u.any.sa_family) {
    case AF_INET:
        return "IPv4";
    case AF_INET6:
        return "IPv6";
    default:
        return "";
    }
}

bool dgram_addr_equal(const struct dgram_addr *one, const struct dgram_addr *two)
{
    if (one == NULL || two == NULL || one->size == 0 || two->size == 0 ||
        one->u.any.sa_family != two->u.any.sa_family) {
        return false;
    }
    switch (one->u.any.sa_family) {
    case AF_INET:
        return one->u.in4.sin_port == two->u.in4.sin_port &&
               one->u.in4.sin_addr.s_addr == two->u.in4.sin_addr.s_addr;
    case AF_INET6:
        return one->u.in6.sin6_port == two->u.in6.sin6_port &&
               one->u.in6.sin6_scope_id == two->u.in6.sin6_scope_id &&
               IN6_ARE_ADDR_EQUAL(&one->u.in6.sin6_addr, &two->u.in6.sin6_addr);
    default:
        return one->size == two->size && memcmp(&one->u, &two->u, one->size) == 0;
    }
}
