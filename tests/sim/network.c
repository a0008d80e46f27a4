/* SPDX-License-Identifier: MIT */
/*
 * network.c: datagrams under way, and where they arrive.
 */
#include "tests/sim/world.h"

#include <stdlib.h>
#include <string.h>

static bool sooner(const struct packet *one, const struct packet *two)
{
    return one->at != two->at ? one->at < two->at : one->order < two->order;
}

void sim_heap_push(struct packet *packet)
{
    if (sim_world.heap_count == sim_world.heap_capacity) {
        sim_world.heap_capacity = sim_world.heap_capacity == 0 ? 64 : sim_world.heap_capacity * 2;
        sim_world.heap = realloc(sim_world.heap, sim_world.heap_capacity * sizeof(struct packet *));
        if (sim_world.heap == NULL) {
            sim_give_up("the host has no memory");
        }
    }
    uint32_t i = sim_world.heap_count++;
    for (; i > 0 && sooner(packet, sim_world.heap[(i - 1) / 2]); i = (i - 1) / 2) {
        sim_world.heap[i] = sim_world.heap[(i - 1) / 2];
    }
    sim_world.heap[i] = packet;
}

static struct packet *heap_pop(void)
{
    struct packet *first = sim_world.heap[0];
    struct packet *last = sim_world.heap[--sim_world.heap_count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= sim_world.heap_count) {
            break;
        }
        if (child + 1 < sim_world.heap_count &&
            sooner(sim_world.heap[child + 1], sim_world.heap[child])) {
            child++;
        }
        if (!sooner(sim_world.heap[child], last)) {
            break;
        }
        sim_world.heap[i] = sim_world.heap[child];
        i = child;
    }
    sim_world.heap[i] = last;
    return first;
}

struct packet *sim_packet_make(const struct packet *like, const unsigned char *bytes, uint32_t size)
{
    struct packet *packet = sim_allocate(sizeof(*packet) + size);
    *packet = *like;
    packet->next = NULL;
    packet->size = size;
    if (size > 0) {
        memcpy(packet->bytes, bytes, size);
    }
    return packet;
}

void sim_network_put(const struct packet *like, const unsigned char *bytes, uint32_t size)
{
    uint32_t flow = (uint32_t) sim_address_number(&like->to, like->source) % FLOWS;
    uint64_t at = sim_world.now + like->at + 1 + sim_below(sim_world.faults.delay_ns);
    if (sim_chance(sim_world.faults.loss)) {
        sim_log("lost", like->source, size);
        return;
    }
    if (!sim_world.faults.reorder && like->at == 0) {
        at = at < sim_world.flow_last[flow] ? sim_world.flow_last[flow] : at;
        sim_world.flow_last[flow] = at;
    }
    bool doubled = like->segment == 0 && sim_chance(sim_world.faults.duplicate);
    for (int copies = doubled ? 2 : 1; copies > 0; copies--) {
        struct packet *packet = sim_packet_make(like, bytes, size);
        packet->at = at;
        packet->order = sim_world.order++;
        sim_heap_push(packet);
    }
}

void sim_network_send(const struct packet *like, const unsigned char *bytes, uint32_t size)
{
    struct packet single = *like;
    if (like->segment == 0 || sim_chance(500)) {
        sim_network_put(like, bytes, size);
        return;
    }
    single.segment = 0; /* as on a wire */
    for (uint32_t at = 0; at < size; at += like->segment) {
        sim_network_put(&single, bytes + at, size - at < like->segment ? size - at : like->segment);
    }
}

/* A guest's socket is connected: it gets its peer's datagrams, or the pieces of its stream. */
static bool is_of_peer(const struct descriptor *d, const struct packet *packet)
{
    return packet->connection != 0 ? packet->connection == d->number
                                   : d->said == NULL && sim_host_equal(&packet->from, &d->peer) &&
                                         sim_port_of(&packet->from) == sim_port_of(&d->peer);
}

static struct descriptor *receiver_of(const struct packet *packet)
{
    for (int i = 0; i < DESCRIPTORS; i++) {
        struct descriptor *d = &sim_world.descriptors[i];
        if (d->kind == SOCKET && d->bound && d->family == packet->to.u.any.sa_family &&
            sim_port_of(&d->local) == sim_port_of(&packet->to) && sim_host_is_here(&packet->to) &&
            (!d->guest || is_of_peer(d, packet))) {
            return d;
        }
    }
    return NULL;
}

static void buffer_put(struct descriptor *d, struct packet *packet)
{
    if (d->refuses || d->packets >= BUFFER_PACKETS || d->bytes + packet->size > BUFFER_BYTES) {
        sim_log("overflow", d->number, packet->size);
        d->dropped++;
        free(packet);
        return;
    }
    packet->next = NULL;
    if (d->tail != NULL) {
        d->tail->next = packet;
    } else {
        d->head = packet;
    }
    d->tail = packet;
    d->packets++;
    d->bytes += packet->size;
}

bool sim_is_served(const struct dgram_addr *address)
{
    return sim_world.service != NULL && sim_port_of(address) == sim_world.service_port &&
           sim_host_is_here(address);
}

static void service_ask(struct packet *packet)
{
    struct sim_question question = {.bytes = packet->bytes,
                                    .size = packet->size,
                                    .stream = packet->connection != 0,
                                    .packet = packet};
    struct descriptor *source = sim_socket_numbered(packet->source);
    if (!sim_chance(sim_world.faults.dns_down)) {
        sim_world.service(&question);
    } else if (source != NULL) {
        source->pending_error = -ECONNREFUSED;
    }
    free(packet);
}

static void packet_arrives(struct packet *packet)
{
    if (sim_is_served(&packet->to)) {
        service_ask(packet);
        return;
    }
    struct descriptor *d = receiver_of(packet);
    if (d == NULL) {
        struct descriptor *source = sim_socket_numbered(packet->source);
        if (source != NULL && sim_host_is_here(&packet->to) &&
            sim_world.now >= source->error_from && sim_chance(sim_world.faults.icmp)) {
            source->pending_error = -ECONNREFUSED;
            source->error_from = sim_world.now + ERROR_PAUSE_NS;
        }
        free(packet);
        return;
    }
    if (packet->segment == 0 || (d->gro && !sim_chance(sim_world.faults.recut))) {
        buffer_put(d, packet);
        return;
    }
    uint32_t segment = packet->segment, size = packet->size;
    packet->segment = 0;
    for (uint32_t at = 0; at < size; at += segment) {
        buffer_put(d, sim_packet_make(packet, packet->bytes + at,
                                      size - at < segment ? size - at : segment));
    }
    free(packet);
}

void sim_network_arrive(void)
{
    while (sim_world.heap_count > 0 && sim_world.heap[0]->at <= sim_world.now) {
        packet_arrives(heap_pop());
    }
}
