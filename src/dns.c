/* SPDX-License-Identifier: MIT */
/*
 * dns.c: c-ares, driven by the loop: no thread, nothing that blocks.
 *
 * Owns the channel and a pair of watches for each of its sockets. c-ares calls back inside its own
 * functions, even inside the one that asks; so its callbacks here only note answers and what its
 * sockets wait for. The channel reads the host's configuration when it is made: when the file has
 * changed, the next question that finds the channel idle makes a new one.
 */
#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "src/core.h"

struct dns;

/* A socket of c-ares. */
struct dns_socket {
    struct dns_socket *next;
    struct dns *dns;
    struct dg_watch readable, writable;
    bool wants_read, wants_write;
};

struct dns {
    struct dgram_loop *loop;
    ares_channel channel;
    bool open, forked;
    struct dns_socket *sockets;
    uint32_t asked; /* questions without an answer */
    struct stat configuration;
};

static const char default_resolv_conf[] = "/etc/resolv.conf";

/* READY of the two watches. */
enum { RECORDS_PER_DNS_SOCKET = 2 };

/* ---- Sockets of c-ares --------------------------------------------------------------------- */

static void socket_rearm(struct dns_socket *socket)
{
    struct dgram_loop *loop = socket->dns->loop;
    if (socket->wants_read && !socket->readable.armed) {
        (void) dg_watch_arm(loop, &socket->readable); /* failing, the question times out */
    }
    if (socket->wants_write && !socket->writable.armed) {
        (void) dg_watch_arm(loop, &socket->writable);
    }
}

static struct dns_socket *socket_find(struct dns *dns, ares_socket_t fd)
{
    struct dns_socket *socket = dns->sockets;
    while (socket != NULL && socket->readable.base.fd != fd) {
        socket = socket->next;
    }
    return socket;
}

/* c-ares may have closed the socket in its turn: it is looked for again. */
static void socket_process(struct dns *dns, ares_socket_t read_fd, ares_socket_t write_fd)
{
    ares_socket_t fd = read_fd != ARES_SOCKET_BAD ? read_fd : write_fd;
    ares_process_fd(dns->channel, read_fd, write_fd);
    struct dns_socket *socket = socket_find(dns, fd);
    if (socket != NULL) {
        socket_rearm(socket);
    }
}

static void socket_readable(struct dgram_loop *loop, struct dg_watch *watch)
{
    socket_process(loop->resolver.dns, watch->base.fd, ARES_SOCKET_BAD);
}

static void socket_writable(struct dgram_loop *loop, struct dg_watch *watch)
{
    socket_process(loop->resolver.dns, ARES_SOCKET_BAD, watch->base.fd);
}

static struct dns_socket *socket_make(struct dns *dns, ares_socket_t fd)
{
    if (dg_loop_reserve(dns->loop, RECORDS_PER_DNS_SOCKET) < 0) {
        return NULL;
    }
    struct dns_socket *socket = dg_allocate(sizeof(*socket));
    if (socket == NULL) {
        (void) dg_loop_reserve(dns->loop, -RECORDS_PER_DNS_SOCKET);
        return NULL;
    }
    socket->dns = dns;
    socket->readable =
        (struct dg_watch){.base = {.fd = fd, .events = POLLIN}, .fn = socket_readable};
    socket->writable =
        (struct dg_watch){.base = {.fd = fd, .events = POLLOUT}, .fn = socket_writable};
    socket->next = dns->sockets;
    dns->sockets = socket;
    return socket;
}

static void socket_end(struct dns *dns, struct dns_socket *socket)
{
    struct dns_socket **link = &dns->sockets;
    while (*link != socket) {
        link = &(*link)->next;
    }
    *link = socket->next;
    if (!dns->forked) {
        dg_watch_end(dns->loop, &socket->readable);
        dg_watch_end(dns->loop, &socket->writable);
    }
    (void) dg_loop_reserve(dns->loop, -RECORDS_PER_DNS_SOCKET);
    dg_release(socket);
}

/* c-ares tells what it waits for, and with (false, false) that it is about to close the socket. */
static void socket_state_changed(void *user, ares_socket_t fd, int readable, int writable)
{
    struct dns *dns = user;
    struct dns_socket *socket = socket_find(dns, fd);
    if (!readable && !writable) {
        if (socket != NULL) {
            socket_end(dns, socket);
        }
        return;
    }
    if (socket == NULL) {
        socket = socket_make(dns, fd);
    }
    if (socket != NULL) {
        socket->wants_read = readable;
        socket->wants_write = writable;
        socket_rearm(socket);
    }
}

/* ---- The channel --------------------------------------------------------------------------- */

static const char *configuration_path(const struct dgram_loop *loop)
{
    const char *path = loop->resolver.resolv_conf;
    return path != NULL ? path : default_resolv_conf;
}

static bool configuration_changed(const struct dns *dns)
{
    struct stat now = {0};
    const struct stat *then = &dns->configuration;
    (void) stat(configuration_path(dns->loop), &now); /* gone: all zero, a change */
    return now.st_ino != then->st_ino || now.st_size != then->st_size ||
           now.st_mtim.tv_sec != then->st_mtim.tv_sec ||
           now.st_mtim.tv_nsec != then->st_mtim.tv_nsec;
}

/* As in glibc: at least 1, at most `most`. */
static int option_number(const char *text, int most)
{
    long number = strtol(text, NULL, 10);
    return number < 1 ? 1 : number > most ? most : (int) number;
}

static void option_read(const char *word, struct ares_options *options, int *mask)
{
    if (strncmp(word, "timeout:", 8) == 0) {
        options->timeout = 1000 * option_number(word + 8, 30);
        *mask |= ARES_OPT_TIMEOUTMS;
    } else if (strncmp(word, "attempts:", 9) == 0) {
        options->tries = option_number(word + 9, 5);
        *mask |= ARES_OPT_TRIES;
    }
}

/* Two options of resolv.conf(5) that older versions of c-ares know by other names only. */
static void options_read(const char *path, struct ares_options *options, int *mask)
{
    FILE *file = fopen(path, "re");
    char line[512];
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        char *rest = NULL;
        const char *word = strtok_r(line, " \t\r\n", &rest);
        if (word != NULL && strcmp(word, "options") == 0) {
            while ((word = strtok_r(NULL, " \t\r\n", &rest)) != NULL) {
                option_read(word, options, mask);
            }
        }
    }
    if (file != NULL) {
        (void) fclose(file);
    }
}

static bool port_is_well_formed(const char *text)
{
    char *end = NULL;
    bool digit = text[0] >= '0' && text[0] <= '9'; /* strtol() takes blanks and signs as well */
    long port = strtol(text, &end, 10);
    return digit && *end == '\0' && port >= 1 && port <= UINT16_MAX;
}

/* "192.0.2.1", "192.0.2.1:53", "2001:db8::1" or "[2001:db8::1]:53"; changes the text. */
static bool server_is_well_formed(char *text)
{
    struct in6_addr address;
    char *port = NULL;
    int family = AF_INET6;
    if (text[0] == '[') {
        char *end = strchr(++text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':')) {
            return false;
        }
        port = end[1] == ':' ? end + 2 : NULL;
        *end = '\0';
    } else if (inet_pton(AF_INET6, text, &address) != 1) {
        family = AF_INET;
        port = strchr(text, ':');
        if (port != NULL) {
            *port++ = '\0';
        }
    }
    return inet_pton(family, text, &address) == 1 && (port == NULL || port_is_well_formed(port));
}

/* c-ares itself takes any port, half a bracket, and no server at all. */
bool dg_dns_servers_are_well_formed(const char *text)
{
    char server[INET6_ADDRSTRLEN + sizeof("[]:65535")];
    for (bool more = true; more;) {
        size_t length = strcspn(text, ",");
        if (length >= sizeof(server)) {
            return false;
        }
        memcpy(server, text, length);
        server[length] = '\0';
        if (!server_is_well_formed(server)) {
            return false;
        }
        more = text[length] == ',';
        text += length + more;
    }
    return true;
}

static int channel_open(struct dns *dns)
{
    const struct resolver *resolver = &dns->loop->resolver;
    struct ares_options options = {.sock_state_cb = socket_state_changed,
                                   .sock_state_cb_data = dns};
    int mask = ARES_OPT_SOCK_STATE_CB;
    if (resolver->resolv_conf != NULL) {
        options.resolvconf_path = resolver->resolv_conf;
        mask |= ARES_OPT_RESOLVCONF;
    }
    dns->configuration = (struct stat){0};
    (void) stat(configuration_path(dns->loop), &dns->configuration);
    options_read(configuration_path(dns->loop), &options, &mask);
    int status = ares_init_options(&dns->channel, &options, mask);
    if (status == ARES_SUCCESS && resolver->servers != NULL) {
        status = ares_set_servers_ports_csv(dns->channel, resolver->servers);
        if (status != ARES_SUCCESS) {
            ares_destroy(dns->channel);
        }
    }
    dns->open = status == ARES_SUCCESS;
    return status;
}

static void channel_close(struct dns *dns)
{
    if (dns->open) {
        dns->open = false;
        ares_destroy(dns->channel); /* completes what is under way with ARES_EDESTRUCTION */
    }
}

/* A channel in its present configuration. Questions that are under way are not disturbed. */
static int channel_ready(struct dns *dns)
{
    if (dns->open && dns->asked == 0 && configuration_changed(dns)) {
        channel_close(dns);
    }
    return dns->open ? ARES_SUCCESS : channel_open(dns);
}

/* ---- Questions ----------------------------------------------------------------------------- */

static int code_of(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return 0;
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
    case ARES_ENONAME:
    case ARES_EBADNAME:
        return DGRAM_ENOTFOUND;
    case ARES_ETIMEOUT:
        return DGRAM_EDNSTIMEOUT;
    case ARES_ENOMEM:
        return -ENOMEM;
    case ARES_ECANCELLED:
    case ARES_EDESTRUCTION:
        return -ECANCELED;
    default: /* ARES_ECONNREFUSED too: every server failed, refused, or was not there */
        return DGRAM_EDNSFAILED;
    }
}

/* The first answer, as Node does. A server may well add addresses that nobody asked for. */
static const struct ares_addrinfo_node *first_of(const struct ares_addrinfo *result, int family)
{
    const struct ares_addrinfo_node *node = result != NULL ? result->nodes : NULL;
    while (node != NULL && node->ai_family != family) {
        node = node->ai_next;
    }
    return node;
}

/* The least of the address's and of the aliases that led to it. Above 2^31 it is 0, RFC 2181. */
static uint32_t ttl_of(const struct ares_addrinfo *result, const struct ares_addrinfo_node *node)
{
    int ttl = node->ai_ttl;
    for (const struct ares_addrinfo_cname *c = result->cnames; c != NULL; c = c->next) {
        ttl = c->ttl < ttl ? c->ttl : ttl;
    }
    return ttl > 0 ? (uint32_t) ttl : 0;
}

static void answered(void *user, int status, int timeouts, struct ares_addrinfo *result)
{
    struct dgram_lookup *lookup = user;
    struct dgram_addr address = {0};
    int code = code_of(status);
    uint32_t ttl = 0;
    (void) timeouts;
    lookup->loop->resolver.dns->asked--;
    if (status == ARES_EDESTRUCTION) {
        return; /* the loop ends, or a child's copy of it: nobody is told, nobody woken */
    }
    const struct ares_addrinfo_node *node = first_of(result, lookup->name->family);
    if (code == 0 && node == NULL) {
        code = DGRAM_ENOTFOUND;
    }
    if (code == 0) {
        dg_address_set(&address, node->ai_addr, node->ai_addrlen);
        ttl = ttl_of(result, node);
    }
    if (result != NULL) {
        ares_freeaddrinfo(result);
    }
    (void) dgram_lookup_answer(lookup, code, &address, ttl);
}

static struct dns *dns_get(struct dgram_loop *loop)
{
    struct dns *dns = loop->resolver.dns;
    if (dns == NULL && (dns = dg_allocate(sizeof(*dns))) != NULL) {
        dns->loop = loop;
        loop->resolver.dns = dns;
    }
    return dns;
}

/* "localhost" and what is below it, RFC 6761. c-ares knows only the first of these spellings, and
 * 1.18 leaks memory when the host's file has no address of the family for it. */
static bool is_localhost(const char *host)
{
    static const char name[] = "localhost";
    size_t length = strlen(host), own = sizeof(name) - 1;
    length -= host[length - 1] == '.';
    return length >= own && strncmp(host + length - own, name, own) == 0 &&
           (length == own || host[length - own - 1] == '.');
}

static void answer_localhost(struct dgram_lookup *lookup)
{
    struct dgram_addr address = {0};
    int code = dg_address_read(lookup->name->family, NULL, 0, DG_LOOPBACK, &address);
    (void) dgram_lookup_answer(lookup, code, &address, UINT32_MAX);
}

void dg_dns_ask(struct dgram_loop *loop, struct dgram_lookup *lookup)
{
    const struct ares_addrinfo_hints hints = {.ai_family = lookup->name->family,
                                              .ai_socktype = SOCK_DGRAM};
    if (is_localhost(lookup->name->host)) {
        answer_localhost(lookup);
        return;
    }
    struct dns *dns = dns_get(loop);
    int status = dns != NULL ? channel_ready(dns) : ARES_ENOMEM;
    if (status != ARES_SUCCESS) {
        (void) dgram_lookup_answer(lookup, code_of(status), NULL, 0);
        return;
    }
    dns->asked++;
    ares_getaddrinfo(dns->channel, lookup->name->host, NULL, &hints, answered, lookup);
}

uint64_t dg_dns_deadline(const struct dgram_loop *loop)
{
    const struct dns *dns = loop->resolver.dns;
    struct timeval left;
    if (dns == NULL || dns->asked == 0 || ares_timeout(dns->channel, NULL, &left) == NULL) {
        return UINT64_MAX;
    }
    return loop->system->now() + (uint64_t) left.tv_sec * 1000000000u +
           (uint64_t) left.tv_usec * 1000u;
}

void dg_dns_run(struct dgram_loop *loop)
{
    struct dns *dns = loop->resolver.dns;
    if (dns != NULL && dns->asked > 0) {
        ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    }
}

/* In a forked child the watches are the parent's too: its sockets are closed, no engine is
 * asked. */
void dg_dns_close(struct dgram_loop *loop, bool forked)
{
    struct dns *dns = loop->resolver.dns;
    if (dns != NULL) {
        dns->forked = forked;
        channel_close(dns);
        assert(dns->sockets == NULL && dns->asked == 0);
        dg_release(dns);
        loop->resolver.dns = NULL;
    }
}
