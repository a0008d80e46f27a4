/* SPDX-License-Identifier: MIT */
/* interface.c: see interface.h. */
#include "src/net/interface.h"

#include <arpa/inet.h>
#include <dgram.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

/* As the kernel names interfaces. if_nametoindex(3) is less strict: it takes "eth0:1" for an alias
 * of eth0, as ifconfig once called it. A port behind a zone would get lost. */
static bool is_interface_name(const char *text)
{
    size_t length = strcspn(text, ":/ \t\n\v\f\r");
    return length > 0 && length < IF_NAMESIZE && text[length] == '\0';
}

/* A zone is the name or the number of an interface. 0 is none: libuv takes it for "the default"
 * silently; a mistyped zone deserves an error. */
unsigned dg_zone_read(const char *zone)
{
    if (!is_interface_name(zone)) {
        return 0;
    }
    unsigned index = if_nametoindex(zone);
    if (index == 0 && zone[0] >= '1' && zone[0] <= '9') {
        char *end = NULL;
        unsigned long number = strtoul(zone, &end, 10);
        char name[IF_NAMESIZE];
        if (*end == '\0' && number <= UINT32_MAX && if_indextoname((unsigned) number, name)) {
            index = (unsigned) number;
        }
    }
    return index;
}

/* "::%eth0": a zone behind an IPv6 address of whatever kind. */
static unsigned zone_after_address(const char *text, const char *percent)
{
    char literal[INET6_ADDRSTRLEN];
    struct in6_addr ignored;
    size_t length = (size_t) (percent - text);
    if (length >= sizeof(literal)) {
        return 0;
    }
    memcpy(literal, text, length);
    literal[length] = '\0';
    return inet_pton(AF_INET6, literal, &ignored) == 1 ? dg_zone_read(percent + 1) : 0;
}

bool dg_interface_is_in4(const char *text)
{
    struct in_addr ignored;
    return text != NULL && inet_pton(AF_INET, text, &ignored) == 1;
}

/*
 * For groups of IPv4, an interface is named by one of its addresses (Node's form), for those of
 * IPv6 by an address with a zone ("::%eth0", Node's form), for both by its name or number ("eth0",
 * "2"). Nothing, and the wildcard address of the family, leave the choice to the kernel. Text that
 * is none of these must not fall back to that (S30).
 */
int dg_interface_read(sa_family_t family, const char *text, struct dg_interface *ret_interface)
{
    struct dg_interface found = {0};
    bool chosen = text != NULL && text[0] != '\0';
    if (chosen && family == AF_INET6 && strcmp(text, "::") == 0) {
        found.in6_only = true;
    } else if (chosen && (family != AF_INET || inet_pton(AF_INET, text, &found.local) != 1)) {
        const char *percent = strchr(text, '%');
        if (percent == NULL) {
            found.index = dg_zone_read(text);
        } else if (family == AF_INET6) {
            found.index = zone_after_address(text, percent);
        }
        if (found.index == 0) {
            return DGRAM_EBADINTERFACE;
        }
    }
    *ret_interface = found;
    return 0;
}
