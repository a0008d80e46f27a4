/* SPDX-License-Identifier: MIT */
/* dns.c: see dns.h. */
#include "src/names/dns.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/core/alarm.h"
#include "src/names/dns_config.h"
#include "src/names/guest.h"
#include "src/names/text.h"
#include "src/net/address.h"
#include "src/system.h"

struct channel {
    struct guests guests; /* its sockets; first, so that the two convert */
    struct node node;     /* in the list of channels */
    struct dns *dns;
    ares_channel cares;
    struct dns_configuration configuration;
    uint32_t asked;     /* questions without an answer */
    struct alarm alarm; /* c-ares is to look at its timeouts */
    bool deaf;          /* a socket could not be watched: that is tried again soon */
};

struct dns {
    struct dgram_loop *loop;
    struct dns_source source;
    struct node channels; /* the newest first: it is asked */
    struct spare spare;
    int no_spare;    /* why there is none for this call */
    uint64_t called; /* how often c-ares looked at timeouts or sockets */
};

/* ---- Calls of c-ares ----------------------------------------------------------------------- */

/* Around every call of c-ares: 0, or -EMFILE or the like if it cannot read files now. */
static int cares_enter(struct dns *dns)
{
    dns->no_spare = dg_spare_take(&dns->spare);
    dg_spare_give(&dns->spare);
    return dns->no_spare;
}

static void channels_sweep(struct dns *dns);

static void cares_leave(struct dns *dns)
{
    (void) dg_spare_take(&dns->spare);
    dns->no_spare = 0;
    channels_sweep(dns);
}

/* ---- What differs by the version of c-ares -------------------------------------------------- */

#if ARES_VERSION >= 0x012200
/* Answers are remembered by names.c, and for as long as it says. */
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
        dg_alarm_set(loop->alarms, &channel->alarm, soon);
    }
}

/* After each call that may have begun or ended a question. */
static void deadline_update(struct channel *channel, bool passed)
{
    struct dgram_loop *loop = channel->dns->loop;
    if (channel->asked == 0) {
        dg_alarm_clear(loop->alarms, &channel->alarm);
        return;
    }
    if (passed || channel->asked == 1) {
        dg_alarm_set(loop->alarms, &channel->alarm, next_timeout(channel, loop->system->now()));
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

/* A socket is ready. c-ares may close it in its turn, so it is looked for again. Of a message that
 * is there, old versions read the length in one turn, and the rest in another. */
static void channel_socket_ready(struct guests *guests, int fd, bool readable)
{
    struct channel *channel = (struct channel *) guests;
    struct dns *dns = channel->dns;
    (void) cares_enter(dns);
    do {
        channel_process(channel, readable ? fd : ARES_SOCKET_BAD, readable ? ARES_SOCKET_BAD : fd);
    } while (readable && dg_guest_has_message(guests, fd));
    dg_guest_watch(guests, fd);
    cares_leave(dns);
}

static void channel_is_deaf(struct guests *guests)
{
    struct channel *channel = (struct channel *) guests;
    channel->deaf = true;
    deadline_lower(channel);
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
                                   .sock_state_cb = dg_guest_state_changed,
                                   .sock_state_cb_data = &channel->guests};
    int mask = ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | cache_off(&options);
    mask |= options.resolvconf_path != NULL ? ARES_OPT_RESOLVCONF : 0;
    int status = ares_init_options(&channel->cares, &options, mask);
    if (status != ARES_SUCCESS) {
        return code_of(status);
    }
    dg_guests_serve(&channel->guests, channel->cares);
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
    dg_guests_init(&channel->guests);
    channel->guests.loop = dns->loop;
    channel->guests.configuration = &channel->configuration;
    channel->guests.spare = &dns->spare;
    channel->guests.ready = channel_socket_ready;
    channel->guests.deaf = channel_is_deaf;
    node_init(&channel->node);
    channel->alarm.run = channel_rings;
    int code = dg_alarms_reserve(dns->loop->alarms);
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
        dg_alarms_release(dns->loop->alarms);
        dg_release(channel);
        return code;
    }
    node_prepend(&dns->channels, &channel->node);
    return 0;
}

/* Completes questions that are under way with ARES_EDESTRUCTION. */
static void channel_close(struct channel *channel)
{
    node_remove(&channel->node);
    ares_destroy(channel->cares);
    assert(node_alone(&channel->guests.sockets) && channel->asked == 0);
    dg_alarm_clear(channel->dns->loop->alarms, &channel->alarm);
    dg_alarms_release(channel->dns->loop->alarms);
    dg_dns_configuration_release(&channel->configuration);
    dg_release(channel);
}

/* Old channels go with their last answer. */
static void channels_sweep(struct dns *dns)
{
    struct node *newest = dns->channels.next;
    for (struct node *node = newest->next, *next; node != &dns->channels && newest != node;
         node = next) {
        struct channel *channel = owner_of(node, struct channel, node);
        next = node->next;
        if (channel->asked == 0) {
            channel_close(channel);
        }
    }
}

/* The newest channel, or NULL. */
static struct channel *channel_newest(const struct dns *dns)
{
    return node_alone(&dns->channels) ? NULL : owner_of(dns->channels.next, struct channel, node);
}

/* The first channel has the present configuration then. One that fails leaves the old one there:
 * the file that cannot be read now may be the one that was read before. */
static int channel_ready(struct dns *dns)
{
    const struct channel *channel = channel_newest(dns);
    bool good = channel != NULL && channel->guests.lacks == 0 &&
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

/* The code with which a question ended. Where this host lacked something meanwhile, that is why
 * servers could not be asked; and a file that could not be read may have had the name. */
static int code_of_answer(const struct question *question, int status)
{
    const struct channel *channel = question->channel;
    int code = code_of(status);
    bool not_found = code == DGRAM_ENOTFOUND;
    if (not_found && channel->dns->no_spare < 0) {
        return channel->dns->no_spare;
    }
    return code < 0 && !not_found && channel->guests.lacks != question->lacks ? channel->guests.lack
                                                                              : code;
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
    dns->spare = (struct spare){loop->system, spare_of, -1};
    node_init(&dns->channels);
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
    question->lacks = channel->guests.lacks;
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
        question_ask(channel_newest(dns), question);
    } else {
        question->answered(question, code, NULL, 0);
    }
    cares_leave(dns);
}

/* An answer for a socket that was not watched lies there. */
static void channel_rings(struct alarm *alarm)
{
    struct channel *channel = owner_of(alarm, struct channel, alarm);
    struct dns *dns = channel->dns;
    (void) cares_enter(dns);
    channel->deaf = false;
    channel_process(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    dg_guests_watch(&channel->guests);
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
    for (struct channel *channel; (channel = channel_newest(dns)) != NULL;) {
        channel->guests.forked = forked;
        channel_close(channel);
    }
    dg_spare_give(&dns->spare);
    dg_release(dns);
}
