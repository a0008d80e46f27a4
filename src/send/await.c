/* SPDX-License-Identifier: MIT */
/* await.c: see await.h. */
#include "src/send/await.h"

#include <errno.h>

#include "src/base/list.h"
#include "src/base/memory.h"
#include "src/base/queue.h"
#include "src/send/accept.h"

struct await {
    struct waiter waiter;  /* in the name's list; first, so that the two convert */
    struct node by_sender; /* in the sender's */
    struct sender *sender;
    struct queue sends; /* their `peer` holds the port */
    struct share share; /* of the queues, that these sends take */
};

static void await_answered(struct waiter *waiter, int code, const union dg_peer *address);

/* In whichever list is shorter. */
static struct await *await_find(const struct sender *sender, const struct name *name)
{
    const struct node *of_name = dg_name_waiters(name), *of_sender = &sender->awaits;
    const struct node *one = of_name->next, *two = of_sender->next;
    for (; one != of_name && two != of_sender; one = one->next, two = two->next) {
        struct waiter *waiter = owner_of(one, struct waiter, node);
        struct await *await = (struct await *) waiter;
        if (waiter->answered == await_answered && await->sender == sender) {
            return await;
        }
        await = owner_of(two, struct await, by_sender);
        if (await->waiter.name == name) {
            return await;
        }
    }
    return NULL;
}

static void await_link(struct await *await, struct sender *sender, struct name *name)
{
    node_init(&await->waiter.node);
    node_init(&await->by_sender);
    await->waiter.answered = await_answered;
    await->sender = sender;
    dg_name_await(name, &await->waiter, false);
    node_prepend(&sender->awaits, &await->by_sender);
}

/* It is gone before the first of its sends is told: that may close the socket. Who may send again
 * is told. */
static struct queue await_end(struct await *await)
{
    struct queue sends = await->sends;
    const struct link *link = queue_first(&sends);
    for (; link != NULL; link = queue_after(&sends, link)) {
        dg_share_release(await->sender, &await->share, ((const struct request *) link)->size);
    }
    dg_share_check(await->sender, &await->share);
    dg_name_leave(await->sender->loop, &await->waiter);
    node_remove(&await->by_sender);
    dg_release(await);
    return sends;
}

/* ---- Answers ------------------------------------------------------------------------------- */

/* A send whose family is set may go to the last good address. */
static void send_answered(struct request *request, int code, const union dg_peer *address,
                          const char *host)
{
    bool last_good_serves =
        address != NULL && request->peer.any.sa_family == address->any.sa_family;
    if (code < 0 && !last_good_serves) {
        dg_send_unresolved(request, code, host);
    } else {
        dg_send_resolved(request, address);
    }
}

static void await_answered(struct waiter *waiter, int code, const union dg_peer *address)
{
    const char *host = dg_name_host(waiter->name);
    struct queue sends = await_end((struct await *) waiter);
    for (struct request *request; (request = requests_pop(&sends)) != NULL;) {
        send_answered(request, code, address, host);
    }
}

void dg_awaits_cancel(struct sender *sender, int code)
{
    while (!node_alone(&sender->awaits)) {
        struct await *await = owner_of(sender->awaits.next, struct await, by_sender);
        const char *host = dg_name_host(await->waiter.name);
        struct queue sends = await_end(await);
        for (struct request *request; (request = requests_pop(&sends)) != NULL;) {
            dg_send_unresolved(request, code, host);
        }
    }
}

void dg_awaits_forget(struct sender *sender)
{
    while (!node_alone(&sender->awaits)) {
        struct await *await = owner_of(node_take(&sender->awaits), struct await, by_sender);
        dg_requests_forget(&await->sends);
        node_remove(&await->waiter.node);
        dg_release(await);
    }
}

/* ---- Waiting ------------------------------------------------------------------------------- */

/* A send that is refused asks nothing; one that is accepted must not fail to ask. `use` marks it:
 * while it waits, its family says whether the last good address will do. */
static int send_awaits(struct sender *sender, struct name *name, enum use use, in_port_t port,
                       const struct payload *payload, dgram_sent_fn *fn, void *user)
{
    struct await *await = await_find(sender, name), *made = NULL;
    struct dgram_lookup *lookup = NULL;
    int code = dg_lookup_prepare(sender->loop, name, &lookup);
    if (await == NULL && (await = made = dg_allocate(sizeof(*made))) != NULL) {
        made->share.whole = dg_name_waiting(name);
    }
    code = await == NULL ? -ENOMEM : code;
    if (code == 0) {
        code = dg_send_accept_later(sender, &await->sends, &await->share, port, payload, fn, user);
    }
    /* One that was refused because of the share of others waits for its `drain`. */
    bool waits = code == 0 || (made != NULL && made->share.refused_at > 0);
    if (made != NULL && waits) {
        await_link(made, sender, name);
    } else if (made != NULL) {
        dg_release(made);
    }
    if (code < 0) {
        dg_lookup_drop(lookup);
        dg_name_drop(sender->loop, name);
        return code;
    }
    ((struct request *) await->sends.last)->peer.any.sa_family =
        use == USE_FRESH ? AF_UNSPEC : sender->family;
    if (lookup != NULL) {
        dg_lookup_ask(lookup);
    }
    return 0;
}

/* Goes behind those who wait for the name already. */
int dg_send_to_name(struct sender *sender, struct name *name, enum use use, in_port_t port,
                    const struct payload *payload, dgram_sent_fn *fn, void *user)
{
    const union dg_peer *address = dg_name_address(name);
    bool usable = use == USE_FRESH ? dg_name_is_fresh(sender->loop, name) : address != NULL;
    if (usable && *dg_name_waiting(name) == 0) {
        union dg_peer peer = *address;
        peer.in4.sin_port = port; /* at the same place in sockaddr_in6 */
        return dg_send_accept(sender, &peer, payload, fn, user);
    }
    return send_awaits(sender, name, use, port, payload, fn, user);
}
