/* SPDX-License-Identifier: MIT */
/*
 * send.c: the public sends: checks, and the way into the batch or the queue.
 *
 *     accept (here) -> batch (train.c) -> engine -> settle.c -> sent: callback, or nothing
 *
 * Owns nothing. While a socket has parked sends, new ones queue up behind them; while a destination
 * has, those to it do.
 */
#include <string.h>

#include "src/core.h"

/* ---- Accepting ----------------------------------------------------------------------------- */

static int peer_read(const struct dgram_socket *socket, const struct dgram_addr *address,
                     union dg_peer *ret_peer)
{
    if (address->size < sizeof(sa_family_t) || address->size > sizeof(address->u)) {
        return DGRAM_EBADADDRESS;
    }
    if (address->u.any.sa_family != socket->family) {
        return DGRAM_EBADFAMILY;
    }
    if (address->size < socket->peer_size) {
        return DGRAM_EBADADDRESS;
    }
    if (address->u.in4.sin_port == 0) {
        return DGRAM_EBADPORT;
    }
    /* Member by member: names are compared as bytes, and hosts with a sin_len have it filled in
     * what the kernel gave and not in what was read from text. */
    const struct sockaddr_in6 *in6 = &address->u.in6;
    if (socket->family == AF_INET) {
        ret_peer->in4 = (struct sockaddr_in){.sin_family = AF_INET,
                                             .sin_port = address->u.in4.sin_port,
                                             .sin_addr = address->u.in4.sin_addr};
    } else {
        ret_peer->in6 = (struct sockaddr_in6){.sin6_family = AF_INET6,
                                              .sin6_port = in6->sin6_port,
                                              .sin6_flowinfo = in6->sin6_flowinfo,
                                              .sin6_addr = in6->sin6_addr,
                                              .sin6_scope_id = in6->sin6_scope_id};
    }
    return 0;
}

_Static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port),
               "peer_read() looks at the port of either");

/* The request of a datagram that outlives this call: it borrows from a caller who waits for a
 * callback, or owns a copy. NULL when memory ran out; `request` is gone then. */
static struct request *request_waiting(struct dgram_socket *socket, const struct payload *payload,
                                       struct request *request)
{
    if (request != NULL && request->data != NULL) {
        return request;
    }
    struct request *owner =
        dg_request_with_room(socket, payload->size, request != NULL ? request->fn : NULL,
                             request != NULL ? request->user : NULL);
    if (request != NULL) {
        dg_request_give(socket->loop, request);
    }
    assert(payload->data != NULL || payload->size == 0);
    if (owner != NULL && payload->size > 0) {
        memcpy(owner + 1, payload->data, payload->size);
    }
    return owner;
}

static void send_batched(struct dgram_socket *socket, const union dg_peer *peer,
                         const struct payload *payload, struct request *request)
{
    struct dgram_loop *loop = socket->loop;
    struct flow *flow = dg_batch_flow(loop, socket, peer);
    if (dg_batch_append(loop->batch, flow, payload, request)) {
        (void) dg_send_flush(loop); /* a broken engine shows in the results */
    }
}

/* What is sent on from a handler is copied: it ends with the handler, the callback may be late. */
static struct request *request_for(struct dgram_socket *socket, const struct payload *payload,
                                   dgram_sent_fn *fn, void *user)
{
    struct request *request = dg_request_take(socket->loop);
    if (request != NULL) {
        request->socket = socket;
        request->fn = fn;
        request->user = user;
        bool lasts = payload->borrowed && !dg_receive_owns(socket->loop, payload->data);
        request->data = lasts ? payload->data : NULL;
        request->size = payload->size;
        request->heap = false;
        request->parked = false;
        request->tries = 0;
        request->since = 0;
        request->peer_size = 0;
    }
    return request;
}

/* The kernel has no room, others wait already, or the socket waits for the name it binds to. */
static bool must_wait(const struct dgram_socket *socket)
{
    return !queue_is_empty(&socket->parked) || socket->blocked || socket->binding != NULL;
}

/* What waits for the same destination without room, or NULL. */
static struct stall *stall_of(const struct dgram_socket *socket, const union dg_peer *peer)
{
    return !node_alone(&socket->stalls) ? dg_stall_find(socket, peer) : NULL;
}

/* Behind the socket's others, or its destination's. */
static void send_waits(struct dgram_socket *socket, struct stall *stall, struct request *request)
{
    if (must_wait(socket)) {
        dg_request_park(&socket->parked, request);
    } else {
        dg_stall_append(stall, &stall->requests, request);
    }
}

int dg_send_accept(struct dgram_socket *socket, const union dg_peer *peer,
                   const struct payload *payload, dgram_sent_fn *fn, void *user)
{
    struct request *request = NULL;
    struct stall *stall = stall_of(socket, peer);
    if (dg_queue_is_full(socket, payload->size)) {
        return dg_queue_refuse(socket, payload->size);
    }
    if (stall != NULL && dg_share_is_full(socket, &stall->share, payload->size)) {
        return dg_share_refuse(socket, &stall->share, payload->size);
    }
    if (fn != NULL && (request = request_for(socket, payload, fn, user)) == NULL) {
        return -ENOMEM;
    }
    if (stall != NULL || must_wait(socket)) {
        request = request_waiting(socket, payload, request);
        if (request == NULL) {
            return -ENOMEM;
        }
        request->peer = *peer;
        request->peer_size = (uint8_t) socket->peer_size;
        dg_queue_count(socket, payload->size, 1);
        send_waits(socket, stall, request);
    } else {
        dg_queue_count(socket, payload->size, 1);
        send_batched(socket, peer, payload, request);
    }
    if (payload->buffer != NULL) {
        dg_buffer_due(payload->buffer); /* unless the submission has it: it was copied to wait */
    }
    agenda_wake(&socket->loop->agenda);
    return 0;
}

int dg_send_await(struct dgram_socket *socket, struct queue *queue, struct share *share,
                  in_port_t port, const struct payload *payload, dgram_sent_fn *fn, void *user)
{
    struct request *request = NULL;
    if (dg_queue_is_full(socket, payload->size)) {
        return dg_queue_refuse(socket, payload->size);
    }
    if (dg_share_is_full(socket, share, payload->size)) {
        return dg_share_refuse(socket, share, payload->size);
    }
    if (fn != NULL && (request = request_for(socket, payload, fn, user)) == NULL) {
        return -ENOMEM;
    }
    request = request_waiting(socket, payload, request);
    if (request == NULL) {
        return -ENOMEM;
    }
    request->peer.in4.sin_port = port;
    request->peer_size = 0; /* not an address yet */
    queue_append(queue, &request->link);
    dg_queue_count(socket, payload->size, 1);
    dg_share_charge(socket, share, payload->size);
    return 0;
}

/* Not by way of the parked queue, if nothing waits there: a lane to the same peer may be open. */
void dg_send_resolved(struct request *request, const union dg_peer *address)
{
    struct dgram_socket *socket = request->socket;
    struct payload payload = {.data = request->data, .size = request->size, .borrowed = true};
    in_port_t port = request->peer.in4.sin_port;
    request->peer = *address;
    request->peer.in4.sin_port = port;
    request->peer_size = (uint8_t) socket->peer_size;
    struct stall *stall = stall_of(socket, &request->peer);
    if (stall != NULL || must_wait(socket)) {
        send_waits(socket, stall, request);
    } else {
        send_batched(socket, &request->peer, &payload, request);
    }
}

void dg_send_unresolved(struct request *request, int code, const char *host)
{
    if (request->fn == NULL) {
        const struct dg_error error = {
            .operation = "send", .code = code, .repeat = 1, .host = host};
        dg_error_queue(&request->socket->errors, &error);
        request->socket->stats.send_errors++;
        dg_queue_uncount(request->socket, request->size, 1);
        dg_request_give(request->socket->loop, request);
    } else {
        dg_request_complete(request, code);
    }
}

int dg_send_check(struct dgram_socket *socket, const void *data, size_t size)
{
    assert(dg_socket_check(socket) == 0);
    if (socket->state != SOCKET_OPEN) {
        return DGRAM_ENOTRUNNING;
    }
    if (data == NULL && size > 0) {
        return DGRAM_ENULL;
    }
    if (size > socket->size_max) {
        return -EMSGSIZE;
    }
    bool bound = socket->bound || socket->binding != NULL;
    return bound ? 0 : dg_socket_bind_implicitly(socket);
}

/* Not inlined, so that the fast way below saves no registers for it. */
__attribute__((noinline)) static int send_to(struct dgram_socket *socket, const void *data,
                                             size_t size, const struct dgram_addr *address,
                                             dgram_sent_fn *fn, void *user)
{
    union dg_peer peer;
    int code = dg_socket_check(socket);
    if (code == 0) {
        code = address == NULL ? DGRAM_ENULL : peer_read(socket, address, &peer);
    }
    if (code == 0) {
        code = dg_send_check(socket, data, size);
    }
    if (code < 0) {
        return code;
    }
    struct payload payload = {.data = data, .size = (uint32_t) size, .borrowed = !socket->copies};
    return dg_send_accept(socket, &peer, &payload, fn, user);
}

__attribute__((noinline)) static int send_buffer(struct dgram_socket *socket,
                                                 struct dgram_buffer *buffer, size_t offset,
                                                 size_t size, const struct dgram_addr *address)
{
    union dg_peer peer;
    int code = dg_socket_check(socket);
    if (code == 0 && (buffer == NULL || address == NULL)) {
        code = DGRAM_ENULL;
    }
    if (code == 0 && buffer->loop != socket->loop) {
        code = DGRAM_EWRONGLOOP;
    }
    if (code == 0 && (offset > buffer->region.size || size > buffer->region.size - offset)) {
        code = DGRAM_EBADRANGE;
    }
    code = code == 0 ? peer_read(socket, address, &peer) : code;
    const void *data = code == 0 ? (unsigned char *) buffer->region.memory + offset : NULL;
    code = code == 0 ? dg_send_check(socket, data, size) : code;
    if (code < 0) {
        return code;
    }
    struct payload payload = {.data = data, .size = (uint32_t) size, .buffer = buffer};
    return dg_send_accept(socket, &peer, &payload, NULL, NULL);
}

/* ---- The lane ------------------------------------------------------------------------------ */

/* A block that the compiler neither merges with its neighbours nor makes a call of. */
typedef struct {
    uint64_t first, second;
} block;

/* Up to LANE_INLINE_MAX bytes the call of a function shows; above LANE_BLOCKS_MAX, memcpy's wider
 * vectors win. */
#define BLOCK sizeof(block)
#define LANE_INLINE_MAX (4 * BLOCK)
#define LANE_BLOCKS_MAX (16 * BLOCK)

static inline void block_copy(unsigned char *target, const unsigned char *source)
{
    block b;
    memcpy(&b, source, sizeof(b));
    memcpy(target, &b, sizeof(b));
}

/*
 * Copies a payload whose first 16 bytes were written a moment ago, as a program does that numbers
 * or stamps its datagrams: a vector load of bytes that are still in the store buffer in narrower
 * pieces has to wait for them (measured: 12 % of both sides' time at 64 B). Words do not wait. The
 * rest goes in blocks, of which the last may overlap the one before: without the call of memcpy a
 * datagram of 64 B costs the sender 24.3 instead of 25.2 ns, the kernel's 17 included; and 1 ns
 * less than that with the four of 64 B in a row instead of in a loop.
 */
static inline void fresh_copy(unsigned char *target, const unsigned char *source)
{
    uint64_t first, second;
    memcpy(&first, source, sizeof(first));
    memcpy(&second, source + sizeof(first), sizeof(second));
    __asm__("" : "+r"(first), "+r"(second)); /* or the compiler makes one vector of them */
    memcpy(target, &first, sizeof(first));
    memcpy(target + sizeof(first), &second, sizeof(second));
}

static inline int lane_advance(struct flow *flow, size_t size)
{
    flow->lane += size;
    flow->lane_left--;
    return 0;
}

/* One to four blocks. */
static inline int lane_copy(struct flow *flow, const unsigned char *data, size_t size)
{
    assert(size >= BLOCK && size <= LANE_INLINE_MAX);
    unsigned char *lane = flow->lane;
    size_t last = size - BLOCK;
    fresh_copy(lane, data);
    if (size > 2 * BLOCK) {
        block_copy(lane + BLOCK, data + BLOCK);
        block_copy(lane + last - BLOCK, data + last - BLOCK);
    }
    block_copy(lane + last, data + last);
    return lane_advance(flow, size);
}

static inline void pair_copy(unsigned char *target, const unsigned char *source)
{
    block_copy(target, source);
    block_copy(target + BLOCK, source + BLOCK);
}

/* Five to sixteen blocks. Not inlined, nor is the next, so that short datagrams save no registers
 * for them. */
__attribute__((noinline)) static int lane_blocks(struct flow *flow, const unsigned char *data,
                                                 size_t size)
{
    assert(size > LANE_INLINE_MAX && size <= LANE_BLOCKS_MAX);
    unsigned char *lane = flow->lane;
    size_t last = size - 2 * BLOCK;
    fresh_copy(lane, data);
    for (size_t at = BLOCK; at < last; at += 2 * BLOCK) {
        pair_copy(lane + at, data + at);
        __asm__("" ::: "memory"); /* or the compiler calls memcpy */
    }
    pair_copy(lane + last, data + last);
    return lane_advance(flow, size);
}

/*
 * Asks for the cache lines that the next datagram will be copied to: the arena has left the
 * first-level cache since its last use, and a copy's stores would wait for them one after the other
 * (512 B on the sender's side: 66 ns a datagram without, 61 with; 1,200 B in slow memory 211 and
 * 170). Up to LANE_BLOCKS_MAX the processor is quick enough by itself, above 2 KiB the copy.
 */
static inline void lane_prefetch(const struct flow *flow, size_t size)
{
    enum { LINE = 64, PREFETCH_MAX = 2048, FOR_WRITING = 1 };
    for (size_t at = LINE; at <= size && size <= PREFETCH_MAX; at += LINE) {
        __builtin_prefetch(flow->lane + at, FOR_WRITING);
    }
}

/* Of all other sizes. `runs`: the next one is likely to be for this peer, too. */
__attribute__((noinline)) static int lane_call(struct flow *flow, const unsigned char *data,
                                               size_t size, bool runs)
{
    size_t fresh = size > BLOCK ? BLOCK : 0;
    if (fresh > 0) {
        fresh_copy(flow->lane, data);
    }
    memcpy(flow->lane + fresh, data + fresh, size - fresh);
    lane_advance(flow, size);
    if (runs) {
        lane_prefetch(flow, size);
    }
    return 0;
}

static inline int lane_take(struct flow *flow, const unsigned char *data, size_t size, bool runs)
{
    if (size - BLOCK <= LANE_INLINE_MAX - BLOCK) { /* and no smaller than a block */
        return lane_copy(flow, data, size);
    }
    return size - BLOCK <= LANE_BLOCKS_MAX - BLOCK ? lane_blocks(flow, data, size)
                                                   : lane_call(flow, data, size, runs);
}

static bool flow_is_to(const struct flow *flow, const struct dgram_addr *address)
{
    uint64_t one, two;
    memcpy(&one, &flow->peer, sizeof(one));
    memcpy(&two, &address->u, sizeof(two));
    if (one != two || address->size < flow->peer_size) {
        return false;
    }
    return flow->peer_size == sizeof(struct sockaddr_in) ||
           memcmp(&flow->peer.in6, &address->u.in6, sizeof(address->u.in6)) == 0;
}

/* The lane of another peer than the last one's: interleaved sends. */
__attribute__((noinline)) static int send_elsewhere(struct dgram_socket *socket, const void *data,
                                                    size_t size, const struct dgram_addr *address)
{
    struct flow *flow = NULL;
    if (address->size >= socket->peer_size) {
        flow = dg_batch_find(socket, (const union dg_peer *) &address->u);
    }
    if (flow == NULL || size != flow->lane_size || flow->lane_left == 0) {
        return send_to(socket, data, size, address, NULL, NULL);
    }
    socket->last_flow = flow;
    return lane_take(flow, data, size, false);
}

/*
 * The fast way: another datagram of the same size to the same peer, without a callback. A flow
 * exists in this submission only if its socket is open, bound and not blocked, so all that was
 * checked for its first datagram holds. 50 instructions instead of some 250 (callgrind).
 */
int dgram_send_to(struct dgram_socket *socket, const void *data, size_t size,
                  const struct dgram_addr *address, dgram_sent_fn *fn, void *user)
{
    struct flow *flow = socket != NULL ? socket->last_flow : NULL;
    if (flow == NULL || fn != NULL || data == NULL || address == NULL ||
        dg_loop_forked(socket->loop)) {
        return send_to(socket, data, size, address, fn, user);
    }
    if (!flow_is_to(flow, address)) {
        return send_elsewhere(socket, data, size, address);
    }
    if (size != flow->lane_size || flow->lane_left == 0) {
        return send_to(socket, data, size, address, NULL, NULL);
    }
    return lane_take(flow, data, size, true);
}

/* The lane of what lies in a buffer already: nothing is left to do but to count. */
static inline bool run_advance(struct flow *flow, const struct dgram_buffer *buffer, size_t offset,
                               size_t size)
{
    if (flow->run_left == 0 || size != flow->lane_size || buffer != flow->tail->buffer ||
        offset != (size_t) (flow->lane - (unsigned char *) buffer->region.memory)) {
        return false;
    }
    flow->lane += size;
    flow->run_left--;
    return true;
}

/* To another peer than the last one's, or by the long way. */
__attribute__((noinline)) static int send_buffer_elsewhere(struct dgram_socket *socket,
                                                           struct dgram_buffer *buffer,
                                                           size_t offset, size_t size,
                                                           const struct dgram_addr *address)
{
    struct flow *flow = NULL;
    if (address->size >= socket->peer_size) {
        flow = dg_batch_find(socket, (const union dg_peer *) &address->u);
    }
    if (flow == NULL || !run_advance(flow, buffer, offset, size)) {
        return send_buffer(socket, buffer, offset, size, address);
    }
    socket->last_flow = flow;
    return 0;
}

int dgram_send_buffer(struct dgram_socket *socket, struct dgram_buffer *buffer, size_t offset,
                      size_t size, const struct dgram_addr *address)
{
    struct flow *flow = socket != NULL ? socket->last_flow : NULL;
    if (flow == NULL || buffer == NULL || address == NULL || dg_loop_forked(socket->loop)) {
        return send_buffer(socket, buffer, offset, size, address);
    }
    if (!flow_is_to(flow, address)) {
        return send_buffer_elsewhere(socket, buffer, offset, size, address);
    }
    return run_advance(flow, buffer, offset, size)
               ? 0
               : send_buffer(socket, buffer, offset, size, address);
}

int dgram_send(struct dgram_socket *socket, const void *data, size_t size, uint32_t port,
               const char *address, dgram_sent_fn *fn, void *user)
{
    struct dgram_addr target;
    int code = dg_socket_check(socket);
    if (code < 0) {
        return code;
    }
    if (port == 0 || port > UINT16_MAX) {
        return DGRAM_EBADPORT;
    }
    code = dg_address_read(socket->family, address, port, DG_LOOPBACK, &target);
    if (code != DGRAM_EBADADDRESS || !dg_name_is_well_formed(address)) {
        return code < 0 ? code : send_to(socket, data, size, &target, fn, user);
    }
    code = dg_send_check(socket, data, size);
    struct payload payload = {.data = data, .size = (uint32_t) size, .borrowed = !socket->copies};
    return code < 0 ? code
                    : dg_resolve_send(socket, address, htons((uint16_t) port), &payload, fn, user);
}

/* ---- Many at once -------------------------------------------------------------------------- */

/* The payload of an item; pieces are joined into a buffer of the loop, which lends nothing. */
static int item_payload(struct dgram_socket *socket, const struct dgram_outgoing *item,
                        struct payload *ret_payload)
{
    bool borrowed = !socket->copies && !(item->flags & DGRAM_COPY);
    if (item->pieces == NULL) {
        *ret_payload = (struct payload){
            .data = item->data, .size = (uint32_t) item->size, .borrowed = borrowed};
        return dg_send_check(socket, item->data, item->size);
    }
    size_t size = 0;
    for (size_t i = 0; i < item->piece_count; i++) {
        const struct iovec *piece = &item->pieces[i];
        int code = dg_send_check(socket, piece->iov_base, piece->iov_len);
        if (code < 0) {
            return code;
        }
        if (size + piece->iov_len > socket->size_max) {
            return -EMSGSIZE;
        }
        if (piece->iov_len > 0) {
            memcpy(socket->loop->pieces + size, piece->iov_base, piece->iov_len);
        }
        size += piece->iov_len;
    }
    *ret_payload = (struct payload){.data = socket->loop->pieces, .size = (uint32_t) size};
    return dg_send_check(socket, socket->loop->pieces, size);
}

static int item_send(struct dgram_socket *socket, const struct dgram_outgoing *item,
                     dgram_sent_fn *fn, void *user)
{
    struct payload payload;
    union dg_peer peer;
    if ((item->flags & ~DGRAM_COPY) != 0 || (item->address != NULL && item->destination != NULL)) {
        return DGRAM_EBADOPTIONS;
    }
    if (item->address == NULL && item->destination == NULL) {
        return DGRAM_ENULL;
    }
    if (fn == NULL && item->pieces == NULL) { /* by the lanes */
        return item->address != NULL
                   ? dgram_send_to(socket, item->data, item->size, item->address, NULL, NULL)
                   : dgram_send_dest(socket, item->data, item->size, item->destination, NULL, NULL);
    }
    int code = item->address != NULL ? peer_read(socket, item->address, &peer)
                                     : dg_destination_check(socket, item->destination);
    if (code == 0) {
        code = item_payload(socket, item, &payload);
    }
    if (code != 0) {
        return code;
    }
    user = item->user != NULL ? item->user : user;
    return item->address != NULL
               ? dg_send_accept(socket, &peer, &payload, fn, user)
               : dg_destination_send(socket, item->destination, &payload, fn, user);
}

int dgram_send_many(struct dgram_socket *socket, struct dgram_outgoing *items, size_t count,
                    dgram_sent_fn *fn, void *user)
{
    int accepted = 0, status = dg_socket_check(socket);
    if (status == 0 && socket->state != SOCKET_OPEN) {
        status = DGRAM_ENOTRUNNING;
    }
    if (status < 0 || (items == NULL && count > 0)) {
        return status < 0 ? status : (int) DGRAM_ENULL;
    }
    for (size_t i = 0; i < count; i++) {
        status = status == -EAGAIN ? -EAGAIN : item_send(socket, &items[i], fn, user);
        items[i].status = status;
        accepted += status == 0;
    }
    return accepted;
}

size_t dgram_get_send_queue_size(const struct dgram_socket *socket)
{
    if (socket == NULL || socket->state >= SOCKET_CLOSING) {
        return 0;
    }
    dg_batch_sync(socket->loop->batch);
    return (size_t) socket->queue_bytes;
}

size_t dgram_get_send_queue_count(const struct dgram_socket *socket)
{
    if (socket == NULL || socket->state >= SOCKET_CLOSING) {
        return 0;
    }
    dg_batch_sync(socket->loop->batch);
    return (size_t) socket->queue_count;
}
