/* SPDX-License-Identifier: MIT */
/* text.c: see text.h. */
#include "src/names/text.h"

#include <string.h>

static bool is_label_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static bool label_is_well_formed(const char *label, size_t length, bool *ret_number)
{
    bool number = true;
    if (length == 0 || length > 63 || label[0] == '-' || label[length - 1] == '-') {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!is_label_character(label[i])) {
            return false;
        }
        number = number && label[i] >= '0' && label[i] <= '9';
    }
    *ret_number = number;
    return true;
}

bool dg_name_is_well_formed(const char *text)
{
    size_t length = strnlen(text, HOST_TEXT_MAX + 1);
    bool number = true;
    if (length > 0 && text[length - 1] == '.') {
        length--; /* the root's dot: a fully qualified name */
    }
    if (length == 0 || length > HOST_TEXT_MAX - 2) {
        return false;
    }
    for (const char *end = text + length; text < end;) {
        const char *dot = memchr(text, '.', (size_t) (end - text));
        size_t label = dot != NULL ? (size_t) (dot - text) : (size_t) (end - text);
        if (!label_is_well_formed(text, label, &number) || (dot != NULL && dot + 1 == end)) {
            return false;
        }
        text += label + (dot != NULL);
    }
    return !number; /* "10.1" and "256.1.1.1" are mistyped addresses, not names */
}

void dg_name_copy(char *target, const char *host)
{
    size_t i = 0;
    for (; host[i] != '\0' && i < HOST_TEXT_MAX - 1; i++) {
        target[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char) (host[i] + 32) : host[i];
    }
    target[i] = '\0';
}

/* c-ares knows only the first of these spellings, and
 * 1.18 leaks memory when the host's file has no address of the family for it. */
bool dg_name_is_localhost(const char *host)
{
    static const char name[] = "localhost";
    size_t length = strlen(host), own = sizeof(name) - 1;
    length -= host[length - 1] == '.';
    return length >= own && strncmp(host + length - own, name, own) == 0 &&
           (length == own || host[length - own - 1] == '.');
}
