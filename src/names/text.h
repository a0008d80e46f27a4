/* SPDX-License-Identifier: MIT */
/* text.h: the text of host names, RFC 1123. It asks nobody. */
#ifndef DGRAM_NAMES_TEXT_H
#define DGRAM_NAMES_TEXT_H

#include <stdbool.h>

enum { HOST_TEXT_MAX = 255 /* RFC 1035: 253 characters, the root's dot, the NUL */ };

/* Whether the text may be a host name: letters, digits, inner hyphens and underscores in labels of
 * 1 to 63, 253 in all, the last one not a number. */
bool dg_name_is_well_formed(const char *text);

/* "localhost" and the names below it, RFC 6761. */
bool dg_name_is_localhost(const char *host);

/* Copies a name in lower case into HOST_TEXT_MAX bytes. */
void dg_name_copy(char *target, const char *host);

#endif
