/* SPDX-License-Identifier: MIT */
/*
 * resolve.c: host names: who waits for them, what is known of them, destination handles.
 *
 * Owns the names of a loop, their answers, and the sends and binds that wait for one. It knows no
 * name server: a question goes to the program's hook or to dns.c, and comes back by
 * dgram_lookup_answer(), which only appends; the dispatch acts upon it. Concurrent sends to one
 * name share one question.
 */
#include <string.h>

#include "src/core.h"

/* Answers of no lifetime (files, TTL 0) would be asked for with every datagram, and so would those
 * that fail: 500 datagrams a second to a dead name were up to 2,000 questions a second. */
enum { TTL_LEAST = 1 };
#define SECOND_NS UINT64_C(1000000000)

/* A send that comes so long after the last question asks again; so many are under way at most. */
#define LOOKUP_RENEW_NS (2 * SECOND_NS)
enum { LOOKUPS_MAX = 8 };

/* ---- Time ---------------------------------------------------------------------------------- */

/* The loop's clock stands still between turns. */
static uint64_t time_now(const struct dgram_loop *loop)
{
    return loop->in_turn ? loop->now : loop->system->now();
}

/* ---- Text ---------------------------------------------------------------------------------- */

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

/* ---- The table ----------------------------------------------------------------------------- */

static void host_copy(char *target, const char *host)
{
    size_t i = 0;
    for (; host[i] != '\0' && i < HOST_TEXT_MAX - 1; i++) {
        target[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char) (host[i] + 32) : host[i];
    }
    target[i] = '\0';
}

static struct name **bucket_of(struct resolver *resolver, const char *host)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *host != '\0'; host++) {
        hash = (hash ^ (unsigned char) *host) * 16777619u;
    }
    return &resolver->buckets[hash % NAME_BUCKETS];
}

static bool name_is_idle(const struct name *name)
{
    return node_alone(&name->lookups) && node_alone(&name->waiters) && node_alone(&name->binds) &&
           name->destinations == 0;
}

static void name_remove(struct resolver *resolver, struct name *name)
{
    struct name **link = bucket_of(resolver, name->host);
    while (*link != name) {
        link = &(*link)->hash_next;
    }
    *link = name->hash_next;
    resolver->name_count--;
    dg_release(name);
}

/* Of a call that failed nothing stays behind: a name that was only looked up for it goes. */
static void name_drop(struct resolver *resolver, struct name *name)
{
    if (name_is_idle(name) && !name->known && name->failed_until == 0) {
        name_remove(resolver, name);
    }
}

/* The idle name that was used longest ago, or NULL. */
static struct name *names_oldest(const struct resolver *resolver)
{
    struct name *oldest = NULL;
    for (size_t i = 0; i < NAME_BUCKETS; i++) {
        for (struct name *name = resolver->buckets[i]; name != NULL; name = name->hash_next) {
            if (name_is_idle(name) && (oldest == NULL || name->used < oldest->used)) {
                oldest = name;
            }
        }
    }
    return oldest;
}

/* Two go for one that comes: a table that grew while sends waited gets back to its size. */
static void names_shrink(struct resolver *resolver)
{
    for (int i = 0; i < 2 && resolver->name_count >= NAMES_MAX && !resolver->none_idle; i++) {
        struct name *oldest = names_oldest(resolver);
        resolver->none_idle = oldest == NULL;
        if (oldest != NULL) {
            name_remove(resolver, oldest);
        }
    }
}

static struct name *name_get(struct dgram_loop *loop, const char *text, sa_family_t family)
{
    struct resolver *resolver = &loop->resolver;
    char host[HOST_TEXT_MAX];
    host_copy(host, text);
    struct name **bucket = bucket_of(resolver, host);
    struct name *name = *bucket;
    while (name != NULL && (name->family != family || strcmp(name->host, host) != 0)) {
        name = name->hash_next;
    }
    if (name == NULL) {
        names_shrink(resolver);
        name = dg_allocate(sizeof(*name));
        if (name == NULL) {
            return NULL;
        }
        memcpy(name->host, host, sizeof(host));
        name->family = family;
        node_init(&name->lookups);
        node_init(&name->waiters);
        node_init(&name->binds);
        name->hash_next = *bucket;
        *bucket = name;
        resolver->name_count++;
    }
    name->used = loop->turns;
    return name;
}

/* ---- Questions and answers ----------------------------------------------------------------- */

static struct dgram_lookup *lookup_make(struct dgram_loop *loop, struct name *name)
{
    struct dgram_lookup *lookup = dg_allocate(sizeof(*lookup));
    if (lookup != NULL) {
        lookup->loop = loop;
        lookup->name = name;
        node_init(&lookup->of_name);
    }
    return lookup;
}

static void lookup_begin(struct dgram_lookup *lookup)
{
    lookup->asked_at = time_now(lookup->loop);
    node_append(&lookup->name->lookups, &lookup->of_name);
}

/* Asked in the dispatch, because the hook is a callback. */
static void lookup_ask(struct dgram_lookup *lookup)
{
    lookup_begin(lookup);
    queue_append(&lookup->loop->resolver.questions, &lookup->link);
    dg_agenda_add(&lookup->loop->agenda, &lookup->loop->resolver.task);
}

/* The answer of a moment ago once more, in the next dispatch like any other. */
static void lookup_repeat(struct dgram_lookup *lookup)
{
    lookup_begin(lookup);
    lookup->remembered = true;
    (void) dgram_lookup_answer(lookup, lookup->name->failed_code, NULL, 0);
}

static bool name_failed_lately(const struct dgram_loop *loop, const struct name *name)
{
    return name->failed_until > loop->now && name->failed_until > time_now(loop);
}

/*
 * Whether nobody is asked for the name, or for so long that a new question may be answered first:
 * the server may be back, and c-ares waits longer after each try in vain. The program's hook is
 * asked once.
 */
static bool question_is_wanted(const struct dgram_loop *loop, const struct name *name)
{
    if (node_alone(&name->lookups)) {
        return true;
    }
    const struct dgram_lookup *newest =
        owner_of(name->lookups.previous, struct dgram_lookup, of_name);
    uint32_t count = 0;
    for (const struct node *node = name->lookups.next; node != &name->lookups; node = node->next) {
        count++;
    }
    return loop->resolver.hook == NULL && count < LOOKUPS_MAX &&
           time_now(loop) - newest->asked_at >= LOOKUP_RENEW_NS;
}

static int name_ask(struct dgram_loop *loop, struct name *name)
{
    if (!question_is_wanted(loop, name)) {
        return 0;
    }
    struct dgram_lookup *lookup = lookup_make(loop, name);
    if (lookup == NULL) {
        return -ENOMEM;
    }
    lookup_ask(lookup);
    return 0;
}

static bool name_is_fresh(const struct dgram_loop *loop, const struct name *name)
{
    return name->known && name->expires > loop->now && name->expires > time_now(loop);
}

static bool address_is_of(const struct dgram_addr *address, sa_family_t family)
{
    size_t least = family == AF_INET ? sizeof(address->u.in4) : sizeof(address->u.in6);
    return address->size >= least && address->u.any.sa_family == family;
}

int dgram_lookup_answer(struct dgram_lookup *lookup, int code, const struct dgram_addr *address,
                        uint32_t ttl_seconds)
{
    if (lookup == NULL || (code >= 0 && address == NULL)) {
        return DGRAM_ENULL;
    }
    if (lookup->loop == NULL) {
        dg_release(lookup);
        return 0;
    }
    assert(!lookup->answered);
    lookup->answered = true;
    if (dg_loop_forked(lookup->loop)) {
        return DGRAM_EFORKED; /* it goes with the child's copy of the loop */
    }
    lookup->ttl = ttl_seconds < TTL_LEAST ? TTL_LEAST : ttl_seconds;
    lookup->code = code < 0 ? code : 0;
    if (code >= 0 && !address_is_of(address, lookup->name->family)) {
        lookup->code = DGRAM_EBADFAMILY;
    } else if (code >= 0) {
        lookup->address = *address;
    }
    code = lookup->code == DGRAM_EBADFAMILY ? DGRAM_EBADFAMILY : 0;
    queue_append(&lookup->loop->resolver.answers, &lookup->link);
    dg_agenda_add(&lookup->loop->agenda, &lookup->loop->resolver.task);
    return code;
}

/* ---- Waiters ------------------------------------------------------------------------------- */

/* Sends of one socket that wait for one name; in the lists of both, so that either takes them out
 * without a look at others. */
struct waiter {
    struct name *name;
    struct dgram_socket *socket;
    struct node by_name;   /* in the name's list, in the order of their first sends */
    struct node by_socket; /* in the socket's */
    struct queue sends;    /* their `name` holds the port */
    struct share share;    /* of the queues, that these sends take */
};

/* In whichever list is shorter. */
static struct waiter *waiter_find(const struct dgram_socket *socket, const struct name *name)
{
    const struct node *by_name = name->waiters.next, *by_socket = socket->waiters.next;
    while (by_name != &name->waiters && by_socket != &socket->waiters) {
        struct waiter *of_name = owner_of(by_name, struct waiter, by_name);
        struct waiter *of_socket = owner_of(by_socket, struct waiter, by_socket);
        if (of_name->socket == socket) {
            return of_name;
        }
        if (of_socket->name == name) {
            return of_socket;
        }
        by_name = by_name->next;
        by_socket = by_socket->next;
    }
    return NULL;
}

static void waiter_link(struct waiter *waiter, struct dgram_socket *socket, struct name *name)
{
    waiter->name = name;
    waiter->socket = socket;
    node_init(&waiter->by_name);
    node_init(&waiter->by_socket);
    node_append(&name->waiters, &waiter->by_name);
    node_prepend(&socket->waiters, &waiter->by_socket);
}

/* It is gone before the first of its sends is told: that may close the socket. Who may send again
 * is told. */
static struct queue waiter_end(struct waiter *waiter)
{
    struct queue sends = waiter->sends;
    const struct link *link = queue_first(&sends);
    for (; link != NULL; link = queue_after(&sends, link)) {
        dg_share_release(waiter->socket, &waiter->share, ((const struct request *) link)->size);
    }
    dg_share_check(waiter->socket, &waiter->share);
    node_remove(&waiter->by_name);
    node_remove(&waiter->by_socket);
    dg_release(waiter);
    return sends;
}

/* Sends of the socket that wait for names end with the code. */
static void names_forget(struct dgram_socket *socket, int code)
{
    while (!node_alone(&socket->waiters)) {
        struct waiter *waiter = owner_of(socket->waiters.next, struct waiter, by_socket);
        const struct name *name = waiter->name;
        struct queue sends = waiter_end(waiter);
        socket->loop->resolver.none_idle = false;
        for (struct request *request; (request = dg_requests_pop(&sends)) != NULL;) {
            dg_send_unresolved(request, code, name->host);
        }
    }
}

/* ---- Answers ------------------------------------------------------------------------------- */

/* What waits for names of its own must fail with the bind, too: the kernel would bind the socket of
 * the first that leaves to any port. */
static void bind_answer(struct dgram_socket *socket, const struct name *name, int code)
{
    if (code < 0) {
        const struct dg_error error = {
            .operation = "bind", .code = code, .repeat = 1, .host = name->host};
        dg_error_queue(&socket->errors, &error);
    }
    code = dg_socket_bind_resolved(socket, code, &name->address);
    if (code < 0) {
        names_forget(socket, code);
    }
}

static void bind_link(struct dgram_socket *socket, struct name *name)
{
    socket->binding = name;
    node_prepend(&name->binds, &socket->binding_node);
}

static void bind_unlink(struct dgram_socket *socket)
{
    socket->binding = NULL;
    node_remove(&socket->binding_node);
}

static void binds_answer(struct name *name, int code)
{
    while (!node_alone(&name->binds)) {
        struct dgram_socket *socket = owner_of(name->binds.next, struct dgram_socket, binding_node);
        bind_unlink(socket);
        bind_answer(socket, name, code);
    }
}

static void send_answer(struct name *name, struct request *request, int code)
{
    struct dgram_socket *socket = request->socket;
    bool last_good_serves = name->known && request->peer.any.sa_family == name->family;
    if (code < 0 && !last_good_serves) {
        dg_send_unresolved(request, code, name->host);
        return;
    }
    dg_send_resolved(request, &name->address);
    if (socket->state != SOCKET_OPEN) {
        socket->last_flow = NULL; /* nothing new may come behind it by the fast way */
    }
}

static void sends_answer(struct name *name, int code)
{
    while (!node_alone(&name->waiters)) {
        struct queue sends = waiter_end(owner_of(name->waiters.next, struct waiter, by_name));
        for (struct request *request; (request = dg_requests_pop(&sends)) != NULL;) {
            send_answer(name, request, code);
        }
    }
}

/* What this host lacks (an errno), or an own mistake, says nothing of the name. */
static bool failure_is_of_name(int code)
{
    return code <= DGRAM_ENULL && code != DGRAM_EBADFAMILY;
}

static void name_learn(struct dgram_loop *loop, struct name *name,
                       const struct dgram_lookup *lookup)
{
    if (lookup->code == 0) {
        name->known = true;
        memcpy(&name->address, &lookup->address.u, sizeof(name->address));
        name->expires = time_now(loop) + lookup->ttl * SECOND_NS;
        name->failed_code = 0;
        name->failed_until = 0;
    } else if (!lookup->remembered && !name_is_fresh(loop, name)) { /* else an older question's */
        name->failed_code = lookup->code;
        if (failure_is_of_name(lookup->code)) {
            name->failed_until = time_now(loop) + lookup->ttl * SECOND_NS;
        }
    }
}

/* A failed refresh keeps the last good address; those who wait for a first one are told. */
static void name_answer(struct dgram_loop *loop, struct dgram_lookup *lookup)
{
    struct name *name = lookup->name;
    node_remove(&lookup->of_name);
    loop->resolver.none_idle = false;
    name_learn(loop, name, lookup);
    binds_answer(name, lookup->code);
    sends_answer(name, lookup->code);
}

static void question_ask(struct dgram_loop *loop, struct dgram_lookup *lookup)
{
    struct resolver *resolver = &loop->resolver;
    if (dg_loop_forked(loop)) {
        lookup->answered = true; /* the hook forked: the child asks nobody, it goes with its name */
    } else if (loop->freeing) {
        (void) dgram_lookup_answer(lookup, -ECANCELED, NULL, 0); /* nobody waits any more */
    } else if (resolver->hook != NULL) {
        int family = lookup->name->family == AF_INET ? 4 : 6;
        resolver->hook(loop, lookup, lookup->name->host, family, resolver->hook_user);
    } else {
        dg_dns_ask(loop, lookup);
    }
}

/* Questions are asked, and answers acted upon. */
static void resolver_run(struct task *task)
{
    struct dgram_loop *loop = owner_of(task, struct dgram_loop, resolver.task);
    struct queue questions = queue_take(&loop->resolver.questions);
    for (struct link *link; (link = queue_pop(&questions)) != NULL;) {
        question_ask(loop, (struct dgram_lookup *) link);
    }
    if (dg_loop_forked(loop)) {
        return; /* what was answered is the parent's to act upon */
    }
    struct queue answers = queue_take(&loop->resolver.answers);
    for (struct link *link; (link = queue_pop(&answers)) != NULL;) {
        name_answer(loop, (struct dgram_lookup *) link);
        dg_release(link);
    }
}

/* ---- Waiting ------------------------------------------------------------------------------- */

static union dg_peer peer_with_port(const union dg_peer *address, in_port_t port)
{
    union dg_peer with = *address;
    with.in4.sin_port = port; /* at the same place in sockaddr_in6 */
    return with;
}

/* What may be sent to at once. To a handle the last good address will do after its time, too. */
enum use { USE_FRESH, USE_LAST_GOOD };

/* A send that is refused asks nothing; one that is accepted must not fail to ask. `use` marks it:
 * while it waits, its family says whether the last good address will do. */
static int name_await(struct dgram_socket *socket, struct name *name, enum use use, in_port_t port,
                      const struct payload *payload, dgram_sent_fn *fn, void *user)
{
    struct waiter *waiter = waiter_find(socket, name), *made = NULL;
    struct dgram_lookup *lookup =
        question_is_wanted(socket->loop, name) ? lookup_make(socket->loop, name) : NULL;
    if (waiter == NULL && (waiter = made = dg_allocate(sizeof(*made))) != NULL) {
        made->share.whole = &name->whole;
    }
    int code = -ENOMEM;
    if (waiter != NULL && (lookup != NULL || !node_alone(&name->lookups))) {
        code = dg_send_await(socket, &waiter->sends, &waiter->share, port, payload, fn, user);
    }
    /* One that was refused because of what others hold waits for its `drain`. */
    bool waits = code == 0 || (made != NULL && made->share.refused_at > 0);
    if (made != NULL && waits) {
        waiter_link(made, socket, name);
    } else if (made != NULL) {
        dg_release(made);
    }
    if (code < 0) {
        dg_release(lookup);
        name_drop(&socket->loop->resolver, name);
        return code;
    }
    ((struct request *) waiter->sends.last)->peer.any.sa_family =
        use == USE_FRESH ? AF_UNSPEC : name->family;
    if (lookup != NULL && name_failed_lately(socket->loop, name)) {
        lookup_repeat(lookup);
    } else if (lookup != NULL) {
        lookup_ask(lookup);
    }
    return code;
}

/* Goes behind those who wait for the name already. */
static int send_to_name(struct dgram_socket *socket, struct name *name, enum use use,
                        in_port_t port, const struct payload *payload, dgram_sent_fn *fn,
                        void *user)
{
    bool usable = use == USE_FRESH ? name_is_fresh(socket->loop, name) : name->known;
    if (usable && node_alone(&name->waiters)) {
        union dg_peer address = peer_with_port(&name->address, port);
        return dg_send_accept(socket, &address, payload, fn, user);
    }
    return name_await(socket, name, use, port, payload, fn, user);
}

int dg_resolve_send(struct dgram_socket *socket, const char *host, in_port_t port,
                    const struct payload *payload, dgram_sent_fn *fn, void *user)
{
    struct name *name = name_get(socket->loop, host, socket->family);
    return name == NULL ? -ENOMEM : send_to_name(socket, name, USE_FRESH, port, payload, fn, user);
}

int dg_resolve_bind(struct dgram_socket *socket, const char *host, uint16_t port)
{
    struct name *name = name_get(socket->loop, host, socket->family);
    int code = name != NULL ? name_ask(socket->loop, name) : -ENOMEM;
    if (code == 0) {
        socket->bind_port = htons(port);
        bind_link(socket, name);
    }
    return code;
}

/* What waits for the bind never had an address to leave from. */
void dg_resolve_forget(struct dgram_socket *socket)
{
    if (socket->binding != NULL) {
        bind_unlink(socket);
        dg_send_cancel(socket, -ECANCELED);
    }
    names_forget(socket, -ECANCELED);
}

/* ---- Destinations -------------------------------------------------------------------------- */

int dgram_destination_create(struct dgram_loop *loop, uint32_t type, uint32_t port,
                             const char *address, struct dgram_destination **ret_destination)
{
    if (loop == NULL || ret_destination == NULL) {
        return DGRAM_ENULL;
    }
    if (dg_loop_forked(loop)) {
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
    struct name *name = named ? name_get(loop, address, family) : NULL;
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
        /* Its first send asks: an expired address was nobody's last good one. */
        name->known = name->known && (name->destinations > 0 || name_is_fresh(loop, name));
        name->destinations++;
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
            assert(destination->name->destinations > 0);
            destination->name->destinations--;
            destination->loop->resolver.none_idle = false;
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
        return dg_send_accept(socket, &address, payload, fn, user);
    }
    if (name->known && !name_is_fresh(socket->loop, name) &&
        !name_failed_lately(socket->loop, name)) {
        (void) name_ask(socket->loop, name); /* in the background: the last good address serves */
    }
    return send_to_name(socket, name, USE_LAST_GOOD, destination->port, payload, fn, user);
}

static void destination_write(const struct dgram_destination *destination,
                              struct dgram_addr *address)
{
    const struct name *name = destination->name;
    dg_address_set(address, &name->address,
                   name->family == AF_INET ? sizeof(struct sockaddr_in)
                                           : sizeof(struct sockaddr_in6));
    address->u.in4.sin_port = destination->port; /* at the same place in sockaddr_in6 */
}

/* The address of a name to which a send goes at once, since nothing has to be asked or waited
 * for. */
static bool destination_now(const struct dgram_destination *destination, struct dgram_addr *address)
{
    const struct name *name = destination->name;
    if (!node_alone(&name->waiters) || !name_is_fresh(destination->loop, name)) {
        return false;
    }
    destination_write(destination, address);
    return true;
}

/* What is known of a name, and a question in the background if that may be out of date. */
static int name_state(struct dgram_loop *loop, struct name *name)
{
    bool asks = !name_is_fresh(loop, name) && !name_failed_lately(loop, name) && !loop->freeing;
    int code = asks ? name_ask(loop, name) : 0;
    if (name->known) {
        return 0;
    }
    if (code == 0) {
        code = name->failed_code;
    }
    return code < 0 ? code : -EAGAIN;
}

int dgram_destination_address(struct dgram_destination *destination, struct dgram_addr *ret_address)
{
    if (destination == NULL || ret_address == NULL) {
        return DGRAM_ENULL;
    }
    if (dg_loop_forked(destination->loop)) {
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
    int code = dg_socket_check(socket);
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
    struct payload payload = {.data = data, .size = (uint32_t) size, .borrowed = !socket->copies};
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

/* ---- The loop's ends ----------------------------------------------------------------------- */

static char *text_copy(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = dg_allocate(size);
    if (copy != NULL) {
        memcpy(copy, text, size);
    }
    return copy;
}

int dg_resolver_open(struct dgram_loop *loop, const struct dgram_loop_options *options)
{
    struct resolver *resolver = &loop->resolver;
    dg_task_init(&resolver->task, PHASE_NAMES, resolver_run);
    resolver->hook = options->lookup;
    resolver->hook_user = options->lookup_user;
    if (options->dns_servers != NULL) {
        resolver->servers = text_copy(options->dns_servers);
    }
    if (options->resolv_conf != NULL) {
        resolver->resolv_conf = text_copy(options->resolv_conf);
    }
    bool complete = (options->dns_servers == NULL || resolver->servers != NULL) &&
                    (options->resolv_conf == NULL || resolver->resolv_conf != NULL);
    return complete ? 0 : -ENOMEM;
}

/* A question that the hook has not answered outlives the loop; c-ares answers all when it ends. */
static void lookup_orphan(struct resolver *resolver, struct dgram_lookup *lookup)
{
    if (lookup->answered || resolver->hook == NULL) {
        dg_release(lookup);
    } else {
        lookup->loop = NULL;
        lookup->name = NULL;
    }
}

/* Their sockets are gone. */
static void waiters_release(struct dgram_loop *loop, struct name *name)
{
    while (!node_alone(&name->waiters)) {
        struct waiter *waiter = owner_of(node_take(&name->waiters), struct waiter, by_name);
        dg_requests_forget(&waiter->sends, loop);
        dg_release(waiter);
    }
}

void dg_resolver_close(struct dgram_loop *loop, bool forked)
{
    struct resolver *resolver = &loop->resolver;
    for (struct link *link; (link = queue_pop(&resolver->questions)) != NULL;) {
        ((struct dgram_lookup *) link)->answered = true; /* nobody was asked */
    }
    dg_dns_close(loop, forked);
    for (size_t i = 0; i < NAME_BUCKETS; i++) {
        for (struct name *name = resolver->buckets[i], *next; name != NULL; name = next) {
            next = name->hash_next;
            while (!node_alone(&name->lookups)) {
                lookup_orphan(resolver,
                              owner_of(node_take(&name->lookups), struct dgram_lookup, of_name));
            }
            waiters_release(loop, name);
            dg_release(name);
        }
    }
    dg_release(resolver->servers);
    dg_release(resolver->resolv_conf);
    *resolver = (struct resolver){0};
}
