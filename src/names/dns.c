/* SPDX-License-Identifier: MIT */
/* dns.c: see dns.h. */
#define CARES_NO_DEPRECATED /* 1.18 has no other names for some */
#include <ares.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/names/dns.h"
#include "src/names/dns_config.h"
#include "src/names/text.h"
#include "src/net/address.h"

/* A socket of c-ares. */
struct dns_socket {
    struct dns_socket *next;
    struct channel *channel;
    struct dg_watch readable, writable;
    bool wants_read, wants_write;
    struct stream *stream; /* NULL: datagrams */
};

/* What came by TCP: a message behind its length. */
struct stream {
    uint32_t filled, taken; /* by the server, by c-ares */
    unsigned char bytes[2 + UINT16_MAX];
};

struct channel {
    struct channel *next;
    struct dns *dns;
    ares_channel cares;
    struct dns_configuration configuration;
    struct dns_socket *sockets;
    uint32_t asked;     /* questions without an answer */
    struct alarm alarm; /* c-ares is to look at its timeouts */
    bool deaf;          /* a socket could not be watched: that is tried again soon */
    int lack;           /* what this host lacked last, -EMFILE or the like, */
    uint32_t lacks;     /* and how often it lacked something */
};

struct dns {
    struct dgram_loop *loop;
    struct dns_source source;
    const int *spare_of;      /* a descriptor of which `spare` is a copy */
    struct channel *channels; /* the newest first: it is asked */
    bool outdated;            /* unless it is to be replaced */
    bool forked;
    int spare;       /* a descriptor that c-ares may have while it is called; -1: none */
    int no_spare;    /* why there is none for this call */
    uint64_t called; /* how often c-ares looked at timeouts or sockets */
};

/* READY of the two watches. */
enum { RECORDS_PER_DNS_SOCKET = 2 };

/* ---- The spare descriptor ------------------------------------------------------------------ */

/*
 * c-ares reads files inside its calls (hosts(5)), and takes one that it cannot read for an empty
 * one. So there is a descriptor that the program cannot use up, given away around each call. It is
 * a copy of one that the loop has anyway.
 */
static int spare_take(struct dns *dns)
{
    if (dns->spare < 0) {
        dns->spare = dns->loop->system->duplicate(*dns->spare_of);
    }
    return dns->spare < 0 ? dns->spare : 0;
}

static void spare_give(struct dns *dns)
{
    if (dns->spare >= 0) {
        (void) dns->loop->system->close(dns->spare);
        dns->spare = -1;
    }
}

/* Around every call of c-ares: 0, or -EMFILE or the like if it cannot read files now. */
static int cares_enter(struct dns *dns)
{
    dns->no_spare = spare_take(dns);
    spare_give(dns);
    return dns->no_spare;
}

static void channels_sweep(struct dns *dns);

static void cares_leave(struct dns *dns)
{
    (void) spare_take(dns);
    dns->no_spare = 0;
    channels_sweep(dns);
}

/* ---- Sockets of c-ares --------------------------------------------------------------------- */

/* ENOSPC: epoll has no place left for a watch (fs.epoll.max_user_watches). */
static bool is_lack(int code)
{
    return code == -EMFILE || code == -ENFILE || code == -ENOMEM || code == -ENOBUFS ||
           code == -ENOSPC;
}

/* What this host lacks is no fault of the servers, though c-ares may take it for one. */
static void note_lack(struct channel *channel, int code)
{
    if (is_lack(code)) {
        channel->lack = code;
        channel->lacks++;
        channel->dns->outdated = true;
    }
}

static void deadline_lower(struct channel *channel);

static void watch_rearm(struct channel *channel, struct dg_watch *watch, bool wanted)
{
    if (wanted && !watch->armed) {
        int code = dg_watch_arm(&channel->dns->loop->io, watch);
        note_lack(channel, code);
        if (code < 0) {
            channel->deaf = true;
            deadline_lower(channel);
        }
    }
}

static void socket_rearm(struct dns_socket *socket)
{
    watch_rearm(socket->channel, &socket->readable, socket->wants_read);
    watch_rearm(socket->channel, &socket->writable, socket->wants_write);
}

static struct dns_socket *socket_find(const struct channel *channel, ares_socket_t fd)
{
    struct dns_socket *socket = channel->sockets;
    while (socket != NULL && socket->readable.base.fd != fd) {
        socket = socket->next;
    }
    return socket;
}

static bool stream_is_whole(const struct stream *stream)
{
    const unsigned char *bytes = stream->bytes;
    return stream->filled >= 2 && stream->filled == 2 + ((uint32_t) bytes[0] << 8 | bytes[1]);
}

static void channel_process(struct channel *channel, ares_socket_t read_fd, ares_socket_t write_fd);

/* c-ares may close the socket in its turn, so it is looked for again. Of a message that is there,
 * old versions read the length in one turn, and the rest in another. */
static void socket_process(struct dns_socket *socket, bool readable)
{
    struct channel *channel = socket->channel;
    struct dns *dns = channel->dns;
    ares_socket_t fd = socket->readable.base.fd;
    (void) cares_enter(dns);
    do {
        channel_process(channel, readable ? fd : ARES_SOCKET_BAD, readable ? ARES_SOCKET_BAD : fd);
        socket = socket_find(channel, fd);
    } while (readable && socket != NULL && socket->stream != NULL &&
             stream_is_whole(socket->stream));
    if (socket != NULL) {
        socket_rearm(socket);
    }
    cares_leave(dns);
}

static void socket_readable(struct dg_watch *watch)
{
    socket_process(owner_of(watch, struct dns_socket, readable), true);
}

static void socket_writable(struct dg_watch *watch)
{
    socket_process(owner_of(watch, struct dns_socket, writable), false);
}

static void socket_release(struct channel *channel, struct dns_socket *socket)
{
    (void) dg_io_reserve(&channel->dns->loop->io, -RECORDS_PER_DNS_SOCKET);
    dg_release(socket->stream);
    dg_release(socket);
}

static struct dns_socket *socket_make(struct channel *channel, int type)
{
    struct dns_socket *socket = dg_allocate(sizeof(*socket));
    if (socket == NULL || dg_io_reserve(&channel->dns->loop->io, RECORDS_PER_DNS_SOCKET) < 0) {
        dg_release(socket);
        return NULL;
    }
    if (type == SOCK_STREAM && (socket->stream = dg_allocate(sizeof(*socket->stream))) == NULL) {
        socket_release(channel, socket);
        return NULL;
    }
    return socket;
}

static void socket_link(struct channel *channel, struct dns_socket *socket, int fd)
{
    socket->channel = channel;
    socket->readable =
        (struct dg_watch){.base = {.fd = fd, .events = POLLIN}, .fn = socket_readable};
    socket->writable =
        (struct dg_watch){.base = {.fd = fd, .events = POLLOUT}, .fn = socket_writable};
    socket->next = channel->sockets;
    channel->sockets = socket;
}

static void socket_unlink(struct channel *channel, struct dns_socket *socket)
{
    struct dns_socket **link = &channel->sockets;
    while (*link != socket) {
        link = &(*link)->next;
    }
    *link = socket->next;
    if (!channel->dns->forked) {
        dg_watch_end(&channel->dns->loop->io, &socket->readable);
        dg_watch_end(&channel->dns->loop->io, &socket->writable);
    }
}

/* c-ares tells what it waits for, and with (false, false) that it is about to close the socket. */
static void socket_state_changed(void *user, ares_socket_t fd, int readable, int writable)
{
    struct dns_socket *socket = socket_find(user, fd);
    if (socket != NULL) {
        socket->wants_read = readable;
        socket->wants_write = writable;
        socket_rearm(socket);
    }
}

/* ---- The functions of its sockets ---------------------------------------------------------- */

/* As system calls end: a result, or -1 and errno. */
static int call_end(int result)
{
    errno = result < 0 ? -result : errno;
    return result < 0 ? -1 : result;
}

/*
 * The spare descriptor is for files: no socket may have it. Sockets to servers have no protocol
 * here. Those with one help to put addresses into an order (RFC 6724), and are not missed.
 */
static ares_socket_t guest_open(int family, int type, int protocol, void *user)
{
    struct channel *channel = user;
    struct dns_socket *socket = socket_make(channel, type);
    int fd = socket != NULL ? spare_take(channel->dns) : -ENOMEM;
    if (fd == 0) {
        fd = channel->dns->loop->system->guest_socket(family, type);
        spare_give(channel->dns);
    }
    if (fd >= 0) {
        socket_link(channel, socket, fd);
    } else if (socket != NULL) {
        socket_release(channel, socket);
    }
    if (protocol == 0) {
        note_lack(channel, fd);
    }
    return call_end(fd);
}

static int guest_close(ares_socket_t fd, void *user)
{
    struct channel *channel = user;
    struct dns_socket *socket = socket_find(channel, fd);
    socket_unlink(channel, socket);
    socket_release(channel, socket);
    return call_end(channel->dns->loop->system->close(fd));
}

static int guest_connect(ares_socket_t fd, const struct sockaddr *given, ares_socklen_t size,
                         void *user)
{
    struct channel *channel = user;
    union dg_peer peer = {0};
    memcpy(&peer, given, size < sizeof(peer) ? size : sizeof(peer));
    int code = dg_dns_peer_of_server(&channel->configuration, &peer);
    if (code == 0) {
        code = channel->dns->loop->system->guest_connect(fd, &peer.any, size);
    }
    note_lack(channel, code);
    return call_end(code);
}

/*
 * c-ares gets whole messages only. Of a connection that ends in the middle of one, 1.34.9 does not
 * see the end: it would be called again and again until the question timed out. Here, what came is
 * gone with the connection.
 */
static int stream_receive(const struct dg_system *system, int fd, struct stream *stream, void *data,
                          size_t size)
{
    while (!stream_is_whole(stream)) {
        const unsigned char *bytes = stream->bytes;
        uint32_t wanted = stream->filled < 2 ? 2 : 2 + ((uint32_t) bytes[0] << 8 | bytes[1]);
        int received = system->guest_receive(fd, stream->bytes + stream->filled,
                                             wanted - stream->filled, NULL, NULL);
        if (received <= 0) {
            return received;
        }
        stream->filled += (uint32_t) received;
    }
    uint32_t left = stream->filled - stream->taken;
    uint32_t taken = size < left ? (uint32_t) size : left;
    memcpy(data, stream->bytes + stream->taken, taken);
    stream->taken += taken;
    if (stream->taken == stream->filled) {
        stream->taken = stream->filled = 0;
    }
    return (int) taken;
}

static ares_ssize_t guest_receive(ares_socket_t fd, void *data, size_t size, int flags,
                                  struct sockaddr *from, ares_socklen_t *from_size, void *user)
{
    struct channel *channel = user;
    const struct dg_system *system = channel->dns->loop->system;
    const struct dns_socket *socket = socket_find(channel, fd);
    union dg_peer peer = {0};
    socklen_t peer_size = sizeof(peer);
    (void) flags; /* none is ever asked for */
    if (socket->stream != NULL) {
        return call_end(stream_receive(system, fd, socket->stream, data, size));
    }
    int received = system->guest_receive(fd, data, size, &peer.any, &peer_size);
    if (received >= 0 && from != NULL) {
        dg_dns_peer_for_cares(&channel->configuration, &peer);
        *from_size = peer_size < *from_size ? peer_size : *from_size;
        memcpy(from, &peer, *from_size);
    }
    return call_end(received);
}

/* A datagram for which there is no room is one that was lost, and is sent again like those. */
static ares_ssize_t guest_send(ares_socket_t fd, const struct iovec *vectors, int count, void *user)
{
    struct channel *channel = user;
    const struct dns_socket *socket = socket_find(channel, fd);
    int sent = channel->dns->loop->system->guest_send(fd, vectors, (size_t) count);
    if (socket->stream == NULL && (sent == -EAGAIN || sent == -ENOBUFS)) {
        sent = (int) vectors[0].iov_len;
    }
    note_lack(channel, sent);
    return call_end(sent);
}

/* ---- What differs by the version of c-ares -------------------------------------------------- */

#if ARES_VERSION >= 0x012200
static int guest_option(ares_socket_t fd, ares_socket_opt_t option, const void *value,
                        ares_socklen_t size, void *user)
{
    (void) fd, (void) option, (void) value, (void) size, (void) user;
    errno = ENOSYS; /* for one, without TCP_FASTOPEN: a question is sent when it is connected */
    return -1;
}

static int guest_connect_by(ares_socket_t fd, const struct sockaddr *name, ares_socklen_t size,
                            unsigned int flags, void *user)
{
    (void) flags;
    return guest_connect(fd, name, size, user);
}

static ares_ssize_t guest_send_to(ares_socket_t fd, const void *data, size_t size, int flags,
                                  const struct sockaddr *name, ares_socklen_t name_size, void *user)
{
    const struct iovec vector = {.iov_base = (void *) (uintptr_t) data, .iov_len = size};
    (void) flags, (void) name, (void) name_size; /* of TCP_FASTOPEN */
    return guest_send(fd, &vector, 1, user);
}

static int guest_name(ares_socket_t fd, struct sockaddr *name, ares_socklen_t *size, void *user)
{
    struct channel *channel = user;
    return call_end(channel->dns->loop->system->getsockname(fd, name, size));
}

static void functions_set(struct channel *channel)
{
    static const struct ares_socket_functions_ex functions = {
        .version = 1,
        .flags = ARES_SOCKFUNC_FLAG_NONBLOCKING,
        .asocket = guest_open,
        .aclose = guest_close,
        .asetsockopt = guest_option,
        .aconnect = guest_connect_by,
        .arecvfrom = guest_receive,
        .asendto = guest_send_to,
        .agetsockname = guest_name,
    };
    (void) ares_set_socket_functions_ex(channel->cares, &functions, channel);
}

/* Answers are remembered by resolve.c, and for as long as it says. */
static int cache_off(struct ares_options *options)
{
    options->qcache_max_ttl = 0;
    return ARES_OPT_QUERY_CACHE;
}

static void process(ares_channel cares, ares_socket_t read_fd, ares_socket_t write_fd)
{
    ares_fd_events_t event = {.fd = read_fd, .events = ARES_FD_EVENT_READ};
    if (read_fd == ARES_SOCKET_BAD) {
        event = (ares_fd_events_t){.fd = write_fd, .events = ARES_FD_EVENT_WRITE};
    }
    (void) ares_process_fds(cares, &event, event.fd != ARES_SOCKET_BAD, ARES_PROCESS_FLAG_NONE);
}
#else
static void functions_set(struct channel *channel)
{
    static const struct ares_socket_functions functions = {
        .asocket = guest_open,
        .aclose = guest_close,
        .aconnect = guest_connect,
        .arecvfrom = guest_receive,
        .asendv = guest_send,
    };
    ares_set_socket_functions(channel->cares, &functions, channel);
}

static int cache_off(struct ares_options *options)
{
    (void) options; /* it has none */
    return 0;
}

static void process(ares_channel cares, ares_socket_t read_fd, ares_socket_t write_fd)
{
    ares_process_fd(cares, read_fd, write_fd);
}
#endif

/* ---- Timeouts ------------------------------------------------------------------------------ */

/*
 * Old versions of c-ares walk all questions to tell when the next one times out (20,000: 1 ms), so
 * that is asked for when the time has come only, or of a single question. Else the time is one
 * before which no question of a moment ago times out, unless it is the only one. Where many are
 * under way the walk is as long later as keeps its share of the time small.
 */
#define TIMEOUT_LEAST_NS UINT64_C(250000000)
#define WALK_NS UINT64_C(4000) /* between two walks, for each question; it takes 50 */
#define MILLISECOND_NS UINT64_C(1000000)

static uint64_t next_timeout(const struct channel *channel, uint64_t now)
{
    struct timeval left = {0};
    if (ares_timeout(channel->cares, NULL, &left) == NULL) {
        return now + TIMEOUT_LEAST_NS;
    }
    uint64_t rounded = MILLISECOND_NS; /* it is told in whole milliseconds, rounded off */
    return now + (uint64_t) left.tv_sec * 1000000000u + (uint64_t) left.tv_usec * 1000u + rounded +
           channel->asked * WALK_NS;
}

static void deadline_lower(struct channel *channel)
{
    struct dgram_loop *loop = channel->dns->loop;
    uint64_t soon = loop->system->now() + TIMEOUT_LEAST_NS;
    if (!alarm_is_set(&channel->alarm) || soon < channel->alarm.deadline) {
        dg_alarm_set(&loop->alarms, &channel->alarm, soon);
    }
}

/* After each call that may have begun or ended a question. */
static void deadline_update(struct channel *channel, bool passed)
{
    struct dgram_loop *loop = channel->dns->loop;
    if (channel->asked == 0) {
        dg_alarm_clear(&loop->alarms, &channel->alarm);
        return;
    }
    if (passed || channel->asked == 1) {
        dg_alarm_set(&loop->alarms, &channel->alarm, next_timeout(channel, loop->system->now()));
    }
    if (channel->asked > 1 || channel->deaf) {
        deadline_lower(channel);
    }
}

static void channel_process(struct channel *channel, ares_socket_t read_fd, ares_socket_t write_fd)
{
    channel->dns->called++;
    process(channel->cares, read_fd, write_fd);
    deadline_update(channel, read_fd == ARES_SOCKET_BAD && write_fd == ARES_SOCKET_BAD);
}

/* ---- Channels ------------------------------------------------------------------------------ */

static int code_of(int status);

/* Where resolv.conf says nothing. c-ares waits twice as long after each try in vain: 2, 4 and 8 s.
 * Old versions would wait 5, 10, 20 and 40 s, and a name server that is back would be asked so much
 * later. */
enum { TIMEOUT_MS = 2000, TRIES = 3 };

static int cares_open(struct channel *channel)
{
    const struct dns_configuration *configuration = &channel->configuration;
    int timeout_ms = configuration->timeout_ms, tries = configuration->attempts;
    struct ares_options options = {.timeout = timeout_ms > 0 ? timeout_ms : TIMEOUT_MS,
                                   .tries = tries > 0 ? tries : TRIES,
                                   .resolvconf_path =
                                       (char *) (uintptr_t) channel->dns->source.resolv_conf,
                                   .sock_state_cb = socket_state_changed,
                                   .sock_state_cb_data = channel};
    int mask = ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | cache_off(&options);
    mask |= options.resolvconf_path != NULL ? ARES_OPT_RESOLVCONF : 0;
    int status = ares_init_options(&channel->cares, &options, mask);
    if (status != ARES_SUCCESS) {
        return code_of(status);
    }
    functions_set(channel);
    if (configuration->servers != NULL) {
        status = ares_set_servers_ports_csv(channel->cares, configuration->servers);
    }
    if (status != ARES_SUCCESS) {
        ares_destroy(channel->cares);
    }
    return code_of(status);
}

static void channel_rings(struct alarm *alarm);

static int channel_open(struct dns *dns)
{
    struct channel *channel = dg_allocate(sizeof(*channel));
    if (channel == NULL) {
        return -ENOMEM;
    }
    channel->dns = dns;
    channel->alarm.run = channel_rings;
    int code = dg_alarms_reserve(&dns->loop->alarms);
    if (code < 0) {
        dg_release(channel);
        return code;
    }
    code = dg_dns_configuration_read(&dns->source, &channel->configuration);
    if (code == 0) {
        code = cares_open(channel);
    }
    if (code < 0) {
        dg_dns_configuration_release(&channel->configuration);
        dg_alarms_release(&dns->loop->alarms);
        dg_release(channel);
        return code;
    }
    channel->next = dns->channels;
    dns->channels = channel;
    dns->outdated = false;
    return 0;
}

/* Completes what is under way with ARES_EDESTRUCTION. */
static void channel_close(struct channel *channel)
{
    ares_destroy(channel->cares);
    assert(channel->sockets == NULL && channel->asked == 0);
    dg_alarm_clear(&channel->dns->loop->alarms, &channel->alarm);
    dg_alarms_release(&channel->dns->loop->alarms);
    dg_dns_configuration_release(&channel->configuration);
    dg_release(channel);
}

/* Old channels go with their last answer. */
static void channels_sweep(struct dns *dns)
{
    struct channel **link = &dns->channels;
    while (*link != NULL) {
        struct channel *channel = *link;
        if (channel != dns->channels && channel->asked == 0) {
            *link = channel->next;
            channel_close(channel);
        } else {
            link = &channel->next;
        }
    }
}

/* The first channel has the present configuration then. One that fails leaves the old one there:
 * what cannot be read now may be what was read before. */
static int channel_ready(struct dns *dns)
{
    const struct channel *channel = dns->channels;
    bool good = channel != NULL && !dns->outdated &&
                !dg_dns_configuration_changed(&dns->source, &channel->configuration);
    return good ? 0 : channel_open(dns);
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

/* What a question ended with. Where this host lacked something meanwhile, that is why servers could
 * not be asked; and a file that could not be read may have had the name. */
static int code_of_answer(const struct question *question, int status)
{
    const struct channel *channel = question->channel;
    int code = code_of(status);
    bool not_found = code == DGRAM_ENOTFOUND;
    if (not_found && channel->dns->no_spare < 0) {
        return channel->dns->no_spare;
    }
    return code < 0 && !not_found && channel->lacks != question->lacks ? channel->lack : code;
}

static void answered(void *user, int status, int timeouts, struct ares_addrinfo *result)
{
    struct question *question = user;
    struct dgram_addr address = {0};
    int code = code_of_answer(question, status);
    uint32_t ttl = 0;
    (void) timeouts;
    question->channel->asked--;
    if (status == ARES_EDESTRUCTION) {
        return; /* the loop ends, or a child's copy of it: nobody is told, nobody woken */
    }
    const struct ares_addrinfo_node *node = first_of(result, question->family);
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
    question->answered(question, code, &address, ttl);
}

int dg_dns_open(struct dgram_loop *loop, const char *servers, const char *resolv_conf,
                const int *spare_of, struct dns **ret_dns)
{
    struct dns *dns = dg_allocate(sizeof(*dns));
    if (dns == NULL) {
        return -ENOMEM;
    }
    dns->loop = loop;
    dns->source = (struct dns_source){loop->system, servers, resolv_conf};
    dns->spare_of = spare_of;
    dns->spare = -1;
    *ret_dns = dns;
    return 0;
}

static void answer_localhost(struct question *question)
{
    struct dgram_addr address = {0};
    int code = dg_address_read(question->family, NULL, 0, DG_LOOPBACK, &address);
    question->answered(question, code, &address, UINT32_MAX);
}

static void question_ask(struct channel *channel, struct question *question)
{
    const struct ares_addrinfo_hints hints = {.ai_family = question->family,
                                              .ai_socktype = SOCK_DGRAM};
    question->channel = channel;
    question->lacks = channel->lacks;
    channel->asked++;
    ares_getaddrinfo(channel->cares, question->host, NULL, &hints, answered, question);
    deadline_update(channel, false);
}

void dg_dns_ask(struct dns *dns, struct question *question)
{
    if (dg_name_is_localhost(question->host)) {
        answer_localhost(question);
        return;
    }
    int code = cares_enter(dns);
    if (code == 0) {
        code = channel_ready(dns);
    }
    if (code == 0) {
        question_ask(dns->channels, question);
    } else {
        question->answered(question, code, NULL, 0);
    }
    cares_leave(dns);
}

/* What came for a socket that was not watched lies there. */
static void channel_rings(struct alarm *alarm)
{
    struct channel *channel = owner_of(alarm, struct channel, alarm);
    struct dns *dns = channel->dns;
    (void) cares_enter(dns);
    channel->deaf = false;
    channel_process(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    for (struct dns_socket *socket = channel->sockets; socket != NULL; socket = socket->next) {
        socket_rearm(socket);
    }
    cares_leave(dns);
}

uint64_t dg_dns_calls(const struct dns *dns)
{
    return dns->called;
}

/* In a forked child the watches are the parent's too: its sockets are closed, no engine is
 * asked. */
void dg_dns_close(struct dns *dns, bool forked)
{
    if (dns == NULL) {
        return;
    }
    dns->forked = forked;
    while (dns->channels != NULL) {
        struct channel *next = dns->channels->next;
        channel_close(dns->channels);
        dns->channels = next;
    }
    spare_give(dns);
    dg_release(dns);
}
