/* SPDX-License-Identifier: MIT */
/* names.c: see names.h. */
#include "src/names/names.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/base/queue.h"
#include "src/core/agenda.h"
#include "src/core/check.h"
#include "src/names/dns.h"
#include "src/names/text.h"
#include "src/system.h"

/* Answers of no lifetime (files, TTL 0) would be asked for with every datagram, and so would those
 * that fail: 500 datagrams a second to a dead name were up to 2,000 questions a second. */
enum { TTL_LEAST = 1 };
#define SECOND_NS UINT64_C(1000000000)

/* A send that comes so long after the last question asks again; so many are under way at most. */
#define LOOKUP_RENEW_NS (2 * SECOND_NS)
enum { LOOKUPS_MAX = 8 };

enum {
    NAME_BUCKETS = 256,
    NAMES_MAX = 256 /* remembered; more only while somebody waits for them */
};

struct name {
    struct node bucket;    /* in the table */
    struct node lookups;   /* under way, the newest last */
    struct node waiters;   /* in the order in which they are told */
    uint64_t waiting;      /* kept by waiters: see dg_name_waiting() */
    uint32_t handles;      /* that name it */
    uint64_t used;         /* the turn of its last use */
    uint64_t expires;      /* loop time; the address is good until then */
    uint64_t failed_until; /* the last question failed; until then it is not asked again */
    int failed_code;       /* of the last question; 0: it had an answer, or there was none */
    union dg_peer address;
    bool known; /* there is an address, perhaps an expired one */
    sa_family_t family;
    char host[HOST_TEXT_MAX];
};

/* One question to c-ares or to the program's hook. */
struct dgram_lookup {
    struct link link;        /* of a question, then of an answer; first, so that the two convert */
    struct dgram_loop *loop; /* NULL: the loop was freed meanwhile */
    struct name *name;
    struct node of_name; /* in its list, until the answer was acted upon */
    struct question question;
    uint64_t asked_at; /* loop time */
    bool answered;
    bool remembered; /* nobody was asked: a failure of a moment ago */
    int code;
    uint32_t ttl;
    struct dgram_addr address;
};

struct names {
    struct task task; /* there are questions or answers; first, so that the two convert */
    struct dgram_loop *loop;
    struct node buckets[NAME_BUCKETS];
    uint32_t name_count;
    bool none_idle;         /* a look for an idle name was in vain, and none became idle since */
    struct queue questions; /* to be asked in the next dispatch */
    struct queue answers;   /* to be acted upon in the next dispatch */
    dgram_lookup_fn *hook;
    void *hook_user;
    char *servers, *resolv_conf; /* options, or NULL */
    struct dns *dns;             /* NULL until the first question */
    const int *spare_of;         /* for guest.c */
};

/* The loop's clock stands still between turns. */
static uint64_t time_now(const struct dgram_loop *loop)
{
    return loop->in_turn ? loop->now : loop->system->now();
}

/* ---- The table ----------------------------------------------------------------------------- */

static struct node *bucket_of(struct names *names, const char *host)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *host != '\0'; host++) {
        hash = (hash ^ (unsigned char) *host) * 16777619u;
    }
    return &names->buckets[hash % NAME_BUCKETS];
}

static bool name_is_idle(const struct name *name)
{
    return node_alone(&name->lookups) && node_alone(&name->waiters) && name->handles == 0;
}

static void name_remove(struct names *names, struct name *name)
{
    node_remove(&name->bucket);
    names->name_count--;
    dg_release(name);
}

void dg_name_drop(struct dgram_loop *loop, struct name *name)
{
    if (name_is_idle(name) && !name->known && name->failed_until == 0) {
        name_remove(loop->names, name);
    }
}

/* The idle name that was used longest ago, or NULL. */
static struct name *names_oldest(const struct names *names)
{
    struct name *oldest = NULL;
    for (size_t i = 0; i < NAME_BUCKETS; i++) {
        const struct node *bucket = &names->buckets[i];
        for (struct node *node = bucket->next; node != bucket; node = node->next) {
            struct name *name = owner_of(node, struct name, bucket);
            if (name_is_idle(name) && (oldest == NULL || name->used < oldest->used)) {
                oldest = name;
            }
        }
    }
    return oldest;
}

/* Two go for one that comes: a table that grew while sends waited gets back to its size. */
static void names_shrink(struct names *names)
{
    for (int i = 0; i < 2 && names->name_count >= NAMES_MAX && !names->none_idle; i++) {
        struct name *oldest = names_oldest(names);
        names->none_idle = oldest == NULL;
        if (oldest != NULL) {
            name_remove(names, oldest);
        }
    }
}

static struct name *name_find(const struct node *bucket, const char *host, sa_family_t family)
{
    for (struct node *node = bucket->next; node != bucket; node = node->next) {
        struct name *name = owner_of(node, struct name, bucket);
        if (name->family == family && strcmp(name->host, host) == 0) {
            return name;
        }
    }
    return NULL;
}

static struct name *name_make(struct names *names, const char host[HOST_TEXT_MAX],
                              sa_family_t family)
{
    names_shrink(names);
    struct name *name = dg_allocate(sizeof(*name));
    if (name != NULL) {
        memcpy(name->host, host, HOST_TEXT_MAX);
        name->family = family;
        node_init(&name->bucket);
        node_init(&name->lookups);
        node_init(&name->waiters);
        node_prepend(bucket_of(names, host), &name->bucket);
        names->name_count++;
    }
    return name;
}

struct name *dg_name_get(struct dgram_loop *loop, const char *text, sa_family_t family)
{
    char host[HOST_TEXT_MAX];
    dg_name_copy(host, text);
    struct name *name = name_find(bucket_of(loop->names, host), host, family);
    if (name == NULL) {
        name = name_make(loop->names, host, family);
    }
    if (name != NULL) {
        name->used = loop->turns;
    }
    return name;
}

/* ---- Questions and answers ----------------------------------------------------------------- */

static void question_answered(struct question *question, int code, const struct dgram_addr *address,
                              uint32_t ttl)
{
    (void) dgram_lookup_answer(owner_of(question, struct dgram_lookup, question), code, address,
                               ttl);
}

static struct dgram_lookup *lookup_make(struct dgram_loop *loop, struct name *name)
{
    struct dgram_lookup *lookup = dg_allocate(sizeof(*lookup));
    if (lookup != NULL) {
        lookup->loop = loop;
        lookup->name = name;
        lookup->question = (struct question){
            .host = name->host, .family = name->family, .answered = question_answered};
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
    queue_append(&lookup->loop->names->questions, &lookup->link);
    dg_agenda_add(lookup->loop->agenda, &lookup->loop->names->task);
}

/* The answer of a moment ago once more, in the next dispatch like any other. */
static void lookup_repeat(struct dgram_lookup *lookup)
{
    lookup_begin(lookup);
    lookup->remembered = true;
    (void) dgram_lookup_answer(lookup, lookup->name->failed_code, NULL, 0);
}

bool dg_name_failed_lately(const struct dgram_loop *loop, const struct name *name)
{
    return name->failed_until > loop->now && name->failed_until > time_now(loop);
}

/*
 * Whether nobody is asked for the name, or for so long that a new question may be answered first.
 * The server may be back, and c-ares waits longer after each try in vain. The program's hook is
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
    return loop->names->hook == NULL && count < LOOKUPS_MAX &&
           time_now(loop) - newest->asked_at >= LOOKUP_RENEW_NS;
}

int dg_lookup_prepare(struct dgram_loop *loop, struct name *name, struct dgram_lookup **ret_lookup)
{
    *ret_lookup = question_is_wanted(loop, name) ? lookup_make(loop, name) : NULL;
    return *ret_lookup != NULL || !node_alone(&name->lookups) ? 0 : -ENOMEM;
}

void dg_lookup_ask(struct dgram_lookup *lookup)
{
    if (dg_name_failed_lately(lookup->loop, lookup->name)) {
        lookup_repeat(lookup);
    } else {
        lookup_ask(lookup);
    }
}

void dg_lookup_drop(struct dgram_lookup *lookup)
{
    dg_release(lookup);
}

int dg_name_ask(struct dgram_loop *loop, struct name *name)
{
    struct dgram_lookup *lookup = NULL;
    if (!question_is_wanted(loop, name)) {
        return 0;
    }
    int code = (lookup = lookup_make(loop, name)) == NULL ? -ENOMEM : 0;
    if (code == 0) {
        lookup_ask(lookup);
    }
    return code;
}

bool dg_name_is_fresh(const struct dgram_loop *loop, const struct name *name)
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
    if (loop_forked(lookup->loop)) {
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
    queue_append(&lookup->loop->names->answers, &lookup->link);
    dg_agenda_add(lookup->loop->agenda, &lookup->loop->names->task);
    return code;
}

/* A lack of this host (an errno), or an own mistake, says nothing of the name. */
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
    } else if (!lookup->remembered &&
               !dg_name_is_fresh(loop, name)) { /* else an older question's */
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
    loop->names->none_idle = false;
    name_learn(loop, name, lookup);
    while (!node_alone(&name->waiters)) {
        struct waiter *waiter = owner_of(node_take(&name->waiters), struct waiter, node);
        waiter->answered(waiter, lookup->code, dg_name_address(name));
    }
}

static void dns_ask(struct dgram_loop *loop, struct dgram_lookup *lookup)
{
    struct names *names = loop->names;
    int code = 0;
    if (names->dns == NULL) { /* the first question */
        code = dg_dns_open(loop, names->servers, names->resolv_conf, names->spare_of, &names->dns);
    }
    if (code == 0) {
        dg_dns_ask(names->dns, &lookup->question);
    } else {
        (void) dgram_lookup_answer(lookup, code, NULL, 0);
    }
}

static void question_ask(struct dgram_loop *loop, struct dgram_lookup *lookup)
{
    struct names *names = loop->names;
    if (loop_forked(loop)) {
        lookup->answered = true; /* the hook forked: the child asks nobody, it goes with its name */
    } else if (loop->freeing) {
        (void) dgram_lookup_answer(lookup, -ECANCELED, NULL, 0); /* nobody waits any more */
    } else if (names->hook != NULL) {
        int family = lookup->name->family == AF_INET ? 4 : 6;
        names->hook(loop, lookup, lookup->name->host, family, names->hook_user);
    } else {
        dns_ask(loop, lookup);
    }
}

/* Questions are asked, and answers acted upon. */
static void names_run(struct task *task)
{
    struct dgram_loop *loop = ((struct names *) task)->loop;
    struct queue questions = queue_take(&loop->names->questions);
    for (struct link *link; (link = queue_pop(&questions)) != NULL;) {
        question_ask(loop, (struct dgram_lookup *) link);
    }
    if (loop_forked(loop)) {
        return; /* answers are the parent's to act upon */
    }
    struct queue answers = queue_take(&loop->names->answers);
    for (struct link *link; (link = queue_pop(&answers)) != NULL;) {
        name_answer(loop, (struct dgram_lookup *) link);
        dg_release(link);
    }
    if (queue_is_empty(&loop->names->questions) && queue_is_empty(&loop->names->answers)) {
        dg_agenda_drop(loop->agenda, task); /* answered at once */
    }
}

/* ---- Looks --------------------------------------------------------------------------------- */

const char *dg_name_host(const struct name *name)
{
    return name->host;
}

const union dg_peer *dg_name_address(const struct name *name)
{
    return name->known ? &name->address : NULL;
}

int dg_name_failed_code(const struct name *name)
{
    return name->failed_code;
}

uint64_t dg_dns_called(const struct dgram_loop *loop)
{
    return loop->names->dns != NULL ? dg_dns_calls(loop->names->dns) : 0;
}

/* ---- Waiters and handles ------------------------------------------------------------------- */

void dg_name_await(struct name *name, struct waiter *waiter, bool first)
{
    waiter->name = name;
    if (first) {
        node_prepend(&name->waiters, &waiter->node);
    } else {
        node_append(&name->waiters, &waiter->node);
    }
}

void dg_name_leave(struct dgram_loop *loop, struct waiter *waiter)
{
    node_remove(&waiter->node);
    loop->names->none_idle = false;
}

const struct node *dg_name_waiters(const struct name *name)
{
    return &name->waiters;
}

uint64_t *dg_name_waiting(struct name *name)
{
    return &name->waiting;
}

void dg_name_hold(struct dgram_loop *loop, struct name *name)
{
    name->known = name->known && (name->handles > 0 || dg_name_is_fresh(loop, name));
    name->handles++;
}

void dg_name_release(struct dgram_loop *loop, struct name *name)
{
    assert(name->handles > 0);
    name->handles--;
    loop->names->none_idle = false;
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

int dg_names_open(struct dgram_loop *loop, const struct dgram_loop_options *options,
                  const int *spare_of)
{
    struct names *names = dg_allocate(sizeof(*names));
    if (names == NULL) {
        return -ENOMEM;
    }
    loop->names = names;
    names->loop = loop;
    names->spare_of = spare_of;
    names->hook = options->lookup;
    names->hook_user = options->lookup_user;
    dg_task_init(&names->task, PHASE_NAMES, names_run);
    for (int i = 0; i < NAME_BUCKETS; i++) {
        node_init(&names->buckets[i]);
    }
    if (options->dns_servers != NULL) {
        names->servers = text_copy(options->dns_servers);
    }
    if (options->resolv_conf != NULL) {
        names->resolv_conf = text_copy(options->resolv_conf);
    }
    bool complete = (options->dns_servers == NULL || names->servers != NULL) &&
                    (options->resolv_conf == NULL || names->resolv_conf != NULL);
    return complete ? 0 : -ENOMEM;
}

/* A question that the hook has not answered outlives the loop; c-ares answers all when it ends. */
static void lookup_orphan(const struct names *names, struct dgram_lookup *lookup)
{
    if (lookup->answered || names->hook == NULL) {
        dg_release(lookup);
    } else {
        lookup->loop = NULL;
        lookup->name = NULL;
    }
}

static void name_free(struct names *names, struct name *name)
{
    assert(node_alone(&name->waiters));
    while (!node_alone(&name->lookups)) {
        lookup_orphan(names, owner_of(node_take(&name->lookups), struct dgram_lookup, of_name));
    }
    dg_release(name);
}

void dg_names_close(struct dgram_loop *loop, bool forked)
{
    struct names *names = loop->names;
    if (names == NULL) {
        return;
    }
    for (struct link *link; (link = queue_pop(&names->questions)) != NULL;) {
        ((struct dgram_lookup *) link)->answered = true; /* nobody was asked */
    }
    dg_dns_close(names->dns, forked);
    for (size_t i = 0; i < NAME_BUCKETS; i++) {
        while (!node_alone(&names->buckets[i])) {
            name_free(names, owner_of(node_take(&names->buckets[i]), struct name, bucket));
        }
    }
    dg_release(names->servers);
    dg_release(names->resolv_conf);
    dg_release(names);
}
