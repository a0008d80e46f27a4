/* SPDX-License-Identifier: MIT */
/*
 * guests.c: guests, which are sockets of other people's code (c-ares), and the services that they
 * ask.
 */
#include "tests/sim/world.h"

#include <stdlib.h>
#include <string.h>

static struct descriptor *guest_of(int fd)
{
    struct descriptor *d = sim_descriptor_of(fd, SOCKET);
    sim_rule(d->guest, "a call for guests, for a socket that is none's");
    return d;
}

int sim_guest_socket(int family, int type)
{
    int fd = sim_descriptor_open(SOCKET);
    if (fd >= 0) {
        struct descriptor *d = sim_descriptor_of(fd, SOCKET);
        d->family = (sa_family_t) family;
        d->guest = true;
        d->number = GUEST_FIRST + ++sim_world.guests;
        d->said = type == SOCK_STREAM ? sim_allocate(sizeof(*d->said)) : NULL;
    }
    sim_log("guest", (uint64_t) type, (uint64_t) fd);
    return fd;
}

int sim_guest_connect(int fd, const struct sockaddr *name, socklen_t size)
{
    static const int errors[] = {-ENETUNREACH, -EADDRNOTAVAIL, -ENOBUFS, -ENOMEM};
    struct descriptor *d = guest_of(fd);
    if (sim_chance(sim_world.faults.setup)) {
        return errors[sim_below(4)];
    }
    d->peer = sim_address_read(name, size);
    if (!d->bound) {
        d->local = sim_loopback_of(d->family);
        sim_choose_port(d);
        d->bound = true;
    }
    if (d->said == NULL) {
        return sim_error_of(&d->peer);
    }
    d->full_until = d->stream_last = sim_world.now + 1 + sim_below(sim_world.faults.delay_ns);
    if (!sim_is_served(&d->peer) || sim_chance(sim_world.faults.dns_down)) {
        d->pending_error = -ECONNREFUSED;
    }
    return -EINPROGRESS;
}

/* Pieces of a stream are late, but neither lost nor overtaken; one of no bytes is its end. */
static void stream_put(struct packet *packet)
{
    struct descriptor *d = sim_socket_numbered(packet->connection);
    packet->at += sim_world.now + 1 + sim_below(sim_world.faults.delay_ns);
    if (d == NULL) {
        free(packet);
        return;
    }
    packet->at = packet->at < d->stream_last ? d->stream_last : packet->at;
    packet->order = sim_world.order++;
    d->stream_last = packet->at;
    sim_heap_push(packet);
}

/* Takes no more than to the end of a question. */
static uint32_t stream_say(struct descriptor *d, const unsigned char *bytes, uint32_t size)
{
    struct said *said = d->said;
    uint32_t whole = 2;
    if (said->size >= 2) {
        whole += ((uint32_t) said->bytes[0] << 8) + said->bytes[1];
    }
    uint32_t taken = size < whole - said->size ? size : whole - said->size;
    sim_rule(whole <= SAID_MAX, "a question that is too long");
    memcpy(said->bytes + said->size, bytes, taken);
    said->size += taken;
    if (said->size > 2 && said->size == whole) {
        const struct packet like = {
            .source = d->number, .connection = d->number, .from = d->local, .to = d->peer};
        stream_put(sim_packet_make(&like, said->bytes + 2, said->size - 2));
        said->size = 0;
    }
    return taken;
}

static void datagram_say(const struct descriptor *d, const unsigned char *bytes, uint32_t size)
{
    const struct packet like = {.source = d->number, .from = d->local, .to = d->peer};
    sim_network_put(&like, bytes, size);
}

int sim_guest_send(int fd, const struct iovec *vectors, size_t count)
{
    static unsigned char bytes[DATAGRAM_MAX];
    struct descriptor *d = guest_of(fd);
    uint32_t size = 0;
    int code = sim_pending_error_take(d);
    code = code == 0 ? sim_send_room(d) : code;
    if (code < 0) {
        return code;
    }
    for (size_t i = 0; i < count && vectors[i].iov_len <= sizeof(bytes) - size; i++) {
        memcpy(bytes + size, vectors[i].iov_base, vectors[i].iov_len);
        size += (uint32_t) vectors[i].iov_len;
    }
    if (d->said == NULL) {
        datagram_say(d, bytes, size);
        return (int) size;
    }
    uint32_t taken = 0;
    for (uint32_t more = 1; more > 0; taken += more) {
        more = stream_say(d, bytes + taken, size - taken);
    }
    return (int) taken;
}

int sim_guest_receive(int fd, void *data, size_t size, struct sockaddr *name, socklen_t *name_size)
{
    struct descriptor *d = guest_of(fd);
    struct packet *packet = d->head;
    int code = sim_pending_error_take(d);
    if (code < 0 || packet == NULL || sim_chance(sim_world.faults.eagain)) {
        return code < 0 ? code : -EAGAIN;
    }
    uint32_t left = packet->size - packet->taken;
    uint32_t taken = size < left ? (uint32_t) size : left;
    memcpy(data, packet->bytes + packet->taken, taken);
    packet->taken += taken;
    if (name != NULL) {
        *name_size = *name_size < packet->from.size ? *name_size : packet->from.size;
        memcpy(name, &packet->from.u, *name_size);
    }
    bool ends = d->said != NULL && packet->size == 0;
    if (d->said == NULL || (packet->taken == packet->size && !ends)) {
        free(sim_packet_pop(d));
    }
    return (int) taken;
}

void sim_serve(uint16_t port, sim_service_fn *fn)
{
    sim_world.service_port = port;
    sim_world.service = fn;
}

void sim_reply(const struct sim_question *question, const unsigned char *bytes, uint32_t size,
               uint64_t delay_ns)
{
    const struct packet *asked = question->packet;
    const struct packet like = {
        .at = delay_ns, .connection = asked->connection, .from = asked->to, .to = asked->from};
    if (asked->connection != 0) {
        stream_put(sim_packet_make(&like, bytes, size));
    } else {
        sim_network_put(&like, bytes, size);
    }
}
