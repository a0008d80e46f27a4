/* SPDX-License-Identifier: MIT */
/* dns_config.c: see dns_config.h. */
#include "src/names/dns_config.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/memory.h"
#include "src/net/address.h"
#include "src/system.h"

/* ---- The text of a server ------------------------------------------------------------------ */

enum { SERVER_TEXT_MAX = INET6_ADDRSTRLEN + IF_NAMESIZE + sizeof("[%]:65535") };

/* Text taken apart: "192.0.2.1", "192.0.2.1:53", "2001:db8::1", "[fe80::1%eth0]:53". */
struct server_text {
    char bytes[SERVER_TEXT_MAX];
    const char *address; /* with its zone */
    const char *port;    /* 53 unless it says so */
    int family;
    bool zoned;
};

static bool port_is_well_formed(const char *text)
{
    char *end = NULL;
    bool digit = text[0] >= '0' && text[0] <= '9'; /* strtol() takes blanks and signs as well */
    long port = strtol(text, &end, 10);
    return digit && *end == '\0' && port >= 1 && port <= UINT16_MAX;
}

static bool literal_is_of(int family, const char *text)
{
    struct in6_addr address;
    char literal[INET6_ADDRSTRLEN];
    size_t length = strcspn(text, family == AF_INET6 ? "%" : "");
    if (length >= sizeof(literal)) {
        return false;
    }
    memcpy(literal, text, length);
    literal[length] = '\0';
    return inet_pton(family, literal, &address) == 1;
}

/* False if that is no server. Whether the zone is an interface is not asked here. */
static bool server_read(const char *text, size_t length, struct server_text *server)
{
    char *address = server->bytes;
    *server = (struct server_text){.port = "53", .family = AF_INET6};
    if (length >= sizeof(server->bytes)) {
        return false;
    }
    memcpy(server->bytes, text, length);
    if (address[0] == '[') {
        char *end = strchr(++address, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':')) {
            return false;
        }
        server->port = end[1] == ':' ? end + 2 : server->port;
        *end = '\0';
    } else if (!literal_is_of(AF_INET6, address)) {
        server->family = AF_INET;
        char *colon = strchr(address, ':');
        if (colon != NULL) {
            *colon = '\0';
            server->port = colon + 1;
        }
    }
    server->address = address;
    server->zoned = strchr(address, '%') != NULL;
    return literal_is_of(server->family, address) && port_is_well_formed(server->port);
}

/* c-ares itself takes any port, half a bracket, and no server at all. */
bool dg_dns_servers_are_well_formed(const char *text)
{
    struct server_text server;
    struct dgram_addr address;
    for (bool more = true; more;) {
        size_t length = strcspn(text, ",");
        if (!server_read(text, length, &server) ||
            (server.zoned && dgram_addr_parse(server.address, 0, &address) < 0)) {
            return false;
        }
        more = text[length] == ',';
        text += length + more;
    }
    return true;
}

/* ---- Stand-ins ----------------------------------------------------------------------------- */

static const struct in6_addr stand_ins = {.s6_addr = {0x01}};

static bool is_stand_in(const struct dns_configuration *configuration, const union dg_peer *peer,
                        uint32_t *ret_row)
{
    const unsigned char *bytes = peer->in6.sin6_addr.s6_addr;
    if (peer->any.sa_family != AF_INET6 || memcmp(bytes, &stand_ins, 14) != 0) {
        return false;
    }
    *ret_row = (uint32_t) bytes[14] << 8 | bytes[15];
    return *ret_row < configuration->zoned_count;
}

/* The zone is looked up each time: an interface that was made anew has another number. */
int dg_dns_peer_of_server(struct dns_configuration *configuration, union dg_peer *peer)
{
    uint32_t row;
    struct dgram_addr address;
    if (!is_stand_in(configuration, peer, &row)) {
        return 0;
    }
    struct zoned_server *server = &configuration->zoned[row];
    errno = 0; /* if_nametoindex(3) may want a socket, and have none */
    if (dgram_addr_parse(server->text, ntohs(peer->in6.sin6_port), &address) < 0) {
        return errno == EMFILE || errno == ENFILE ? -errno : -ENODEV;
    }
    server->peer = peer->in6 = address.u.in6;
    return 0;
}

void dg_dns_peer_for_cares(const struct dns_configuration *configuration, union dg_peer *peer)
{
    for (uint32_t i = 0; i < configuration->zoned_count; i++) {
        const struct sockaddr_in6 *server = &configuration->zoned[i].peer;
        uint32_t zone = peer->in6.sin6_scope_id; /* 0 where the address needs none */
        if (peer->any.sa_family == AF_INET6 && (zone == server->sin6_scope_id || zone == 0) &&
            memcmp(&peer->in6.sin6_addr, &server->sin6_addr, sizeof(server->sin6_addr)) == 0) {
            peer->in6.sin6_addr = stand_ins;
            peer->in6.sin6_addr.s6_addr[14] = (unsigned char) (i >> 8);
            peer->in6.sin6_addr.s6_addr[15] = (unsigned char) i;
            return;
        }
    }
}

/* ---- The servers, as c-ares takes them ----------------------------------------------------- */

static size_t count_of(const char *text, char wanted)
{
    size_t count = 0;
    for (; *text != '\0'; text++) {
        count += *text == wanted;
    }
    return count;
}

/* Appends a server, in the one form that every version of c-ares reads. */
static void server_write(struct dns_configuration *configuration, const struct server_text *server)
{
    char *end = configuration->servers + strlen(configuration->servers);
    const char *comma = end != configuration->servers ? "," : "";
    if (server->zoned) {
        uint32_t row = configuration->zoned_count++;
        assert(configuration->zoned != NULL); /* a row for each '%' */
        /* A text that does not fit is the zone of no interface. */
        memcpy(configuration->zoned[row].text, server->address,
               strnlen(server->address, sizeof(configuration->zoned[row].text) - 1));
        sprintf(end, "%s[100::%x]:%s", comma, row, server->port);
    } else if (server->family == AF_INET6) {
        sprintf(end, "%s[%s]:%s", comma, server->address, server->port);
    } else {
        sprintf(end, "%s%s:%s", comma, server->address, server->port);
    }
}

/* From a list that is separated by commas; words that are no server are left out. 0 or -ENOMEM. */
static int servers_set(struct dns_configuration *configuration, const char *text)
{
    enum { ZONED_MAX = UINT16_MAX, GROWTH = sizeof(",[100::ffff]:65535") };
    size_t zoned = count_of(text, '%');
    configuration->servers = dg_allocate(strlen(text) + GROWTH * (count_of(text, ',') + 1));
    configuration->zoned = zoned > 0 ? dg_allocate(zoned * sizeof(*configuration->zoned)) : NULL;
    if (configuration->servers == NULL || (zoned > 0 && configuration->zoned == NULL)) {
        return -ENOMEM;
    }
    for (bool more = true; more;) {
        struct server_text server;
        size_t length = strcspn(text, ",");
        if (server_read(text, length, &server) && configuration->zoned_count < ZONED_MAX) {
            server_write(configuration, &server);
        }
        more = text[length] == ',';
        text += length + more;
    }
    return 0;
}

/* ---- The file ------------------------------------------------------------------------------ */

/* Its servers in a row; servers that do not fit are left out. glibc takes three. */
struct server_list {
    char text[16 * SERVER_TEXT_MAX];
    size_t length;
};

static const char *path_of(const struct dns_source *source)
{
    return source->resolv_conf != NULL ? source->resolv_conf : "/etc/resolv.conf";
}

/* As in glibc: at least 1, at most `most`. */
static int option_number(const char *text, int most)
{
    long number = strtol(text, NULL, 10);
    return number < 1 ? 1 : number > most ? most : (int) number;
}

/* Two options that older versions of c-ares know by other names only. */
static void option_read(struct dns_configuration *configuration, const char *word)
{
    if (strncmp(word, "timeout:", 8) == 0) {
        configuration->timeout_ms = 1000 * option_number(word + 8, 30);
    } else if (strncmp(word, "attempts:", 9) == 0) {
        configuration->attempts = option_number(word + 9, 5);
    }
}

static void server_note(struct server_list *list, const char *word)
{
    struct server_text server;
    size_t length = strlen(word);
    if (server_read(word, length, &server) && list->length + length + 2 <= sizeof(list->text)) {
        if (list->length > 0) {
            list->text[list->length++] = ',';
        }
        memcpy(list->text + list->length, word, length);
        list->length += length;
    }
}

static void line_read(struct dns_configuration *configuration, struct server_list *list, char *line)
{
    char *rest = NULL;
    line[strcspn(line, "#;")] = '\0'; /* neither an address nor an option has them */
    const char *word = strtok_r(line, " \t\r\n", &rest);
    bool options = word != NULL && strcmp(word, "options") == 0;
    bool server = word != NULL && strcmp(word, "nameserver") == 0;
    while ((options || server) && (word = strtok_r(NULL, " \t\r\n,", &rest)) != NULL) {
        if (options) {
            option_read(configuration, word);
        } else {
            server_note(list, word);
        }
    }
}

/* The facts of the file are those of the descriptor: another file may be there a moment later. */
static int file_read(struct dns_configuration *configuration, struct server_list *list, int fd)
{
    char line[512];
    FILE *file = fdopen(fd, "r");
    if (file == NULL) {
        (void) close(fd);
        return -ENOMEM;
    }
    int code = fstat(fd, &configuration->file) < 0 ? -errno : 0;
    while (code == 0 && fgets(line, sizeof(line), file) != NULL) {
        line_read(configuration, list, line);
    }
    code = code == 0 && ferror(file) ? -errno : code;
    (void) fclose(file);
    return code;
}

int dg_dns_configuration_read(const struct dns_source *source,
                              struct dns_configuration *ret_configuration)
{
    struct dns_configuration read = {0};
    struct server_list list = {.length = 0};
    const char *servers = source->servers;
    int fd = source->system->file_open(path_of(source));
    int code = fd >= 0 ? file_read(&read, &list, fd) : fd == -ENOENT ? 0 : fd;
    if (code == 0 && (servers != NULL || list.length > 0)) {
        code = servers_set(&read, servers != NULL ? servers : list.text);
    }
    if (code < 0) {
        dg_dns_configuration_release(&read);
        return code;
    }
    *ret_configuration = read;
    return 0;
}

void dg_dns_configuration_release(struct dns_configuration *configuration)
{
    dg_release(configuration->servers);
    dg_release(configuration->zoned);
    *configuration = (struct dns_configuration){0};
}

/* A file that cannot be looked at has changed: reading it tells why. */
bool dg_dns_configuration_changed(const struct dns_source *source,
                                  const struct dns_configuration *configuration)
{
    struct stat now = {0};
    const struct stat *then = &configuration->file;
    bool failed = stat(path_of(source), &now) < 0 && errno != ENOENT;
    return failed || now.st_dev != then->st_dev || now.st_ino != then->st_ino ||
           now.st_size != then->st_size || now.st_mtim.tv_sec != then->st_mtim.tv_sec ||
           now.st_mtim.tv_nsec != then->st_mtim.tv_nsec ||
           now.st_ctim.tv_sec != then->st_ctim.tv_sec ||
           now.st_ctim.tv_nsec != then->st_ctim.tv_nsec;
}
