/* SPDX-License-Identifier: MIT */
/*
 * sends.cc: how the random program sends: to sockets of its own, to strangers and to names, in
 * every way that there is, and from buffers. Each send is entered into the books before the call.
 */
#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "tests/random/program.h"

namespace sim_program
{

/* ---- What the program does: sends ---------------------------------------------------------- */

Target Run::target_name(const Socket *socket, uint16_t port)
{
    Target target;
    target.name = static_cast<int>(below(NAMES));
    target.text = host_name(static_cast<uint32_t>(target.name));
    target.port = port;
    for (const Handle &handle : handles) {
        if (handle.type == socket->type && chance(300)) {
            target.handle = handle.handle;
            target.name = handle.name;
            target.port = handle.port;
            target.address = handle.address;
            break;
        }
    }
    return target;
}

/* A socket of ours, or a port that nobody has. */
Target Run::target_here(const Socket *socket)
{
    Target target;
    const Socket *peer = any_of(live);
    bool usable = peer != nullptr && peer->type == socket->type && peer->bound == Bound::YES;
    target.text = loopback(socket->type);
    target.port = usable ? dgram_addr_port(&peer->address) : static_cast<uint16_t>(9000 + below(4));
    target.address = parse(target.text, target.port);
    return target;
}

Target Run::target_for(const Socket *socket)
{
    Target target = target_here(socket);
    uint32_t way = below(100);
    if (way < 15) {
        return target_name(socket, target.port);
    }
    if (way < 30) {
        target.text = socket->type == DGRAM_UDP4 ? "10.9.0." + std::to_string(below(6))
                                                 : "fd00::" + std::to_string(below(6));
        target.port = static_cast<uint16_t>(7000 + below(3));
    }
    target.address = parse(target.text, target.port);
    return target;
}

/* Tiny ones cannot be told from each other: only where none fails that another one overtakes. */
uint32_t Run::size_for(const Socket *socket, bool may_be_tiny)
{
    uint32_t most = socket->type == DGRAM_UDP4 ? DGRAM_UDP4_SIZE_MAX : DGRAM_UDP6_SIZE_MAX;
    uint32_t way = below(100);
    if (way < 15) {
        return !may_be_tiny ? 8 + below(8) : way < 5 ? 0 : 1 + below(12);
    }
    if (way < 65) {
        return 8 + below(250);
    }
    if (way < 85) {
        return 200 + below(1300);
    }
    if (way < 97) {
        return 2048 + below(7000);
    }
    return way < 99 ? most - below(3000) * below(20) : most + below(2);
}

/* What closed sockets still have in the queue is not told. */
bool Run::all_open() const
{
    return std::all_of(live.begin(), live.end(),
                       [](const Socket *s) { return s->state == State::OPEN; });
}

/* Whether the queue has no room, by the library's own count of what is queued. */
bool Run::forecast_full(const Socket *socket, uint32_t size) const
{
    uint64_t need = size + OVERHEAD, all = loop_charge();
    bool own = dgram_get_send_queue_count(socket->handle) > 0 &&
               charge_of(socket->handle) + need > socket->limit;
    return own || (all > 0 && all + need > loop_limit);
}

int Run::send_call(Socket *s, const Target &target, const void *data, uint32_t size, Send *send)
{
    dgram_sent_fn *fn = send->has_fn ? on_sent : nullptr;
    if (target.handle != nullptr) {
        return call(
            [&] { return dgram_send_dest(s->handle, data, size, target.handle, fn, send); });
    }
    if (target.name >= 0 || chance(200)) {
        return call([&] {
            return dgram_send(s->handle, data, size, target.port, target.text.c_str(), fn, send);
        });
    }
    return call([&] { return dgram_send_to(s->handle, data, size, &target.address, fn, send); });
}

static List *list_for(Socket *s, const Target &target)
{
    std::string key = target.name < 0 ? key_of(target.address)
                                      : host_name(static_cast<uint32_t>(target.name)) + " " +
                                            std::to_string(target.port);
    List *list = &s->lists[key];
    list->name = target.name;
    list->port = target.port;
    return list;
}

/* Into the books before the call: it may hand over what is queued, this send included. */
static void enlist(Socket *s, List *list, Send *send)
{
    list->queue.push_back(send);
    s->accepted++;
    (send->has_fn ? s->with_fn : s->plain)++;
}

/* Out of them again: the call was refused. */
static void strike(Socket *s, List *list, const Send *send)
{
    auto found = std::find(list->queue.rbegin(), list->queue.rend(), send);
    s->run->expect(!send->taken, "a refused send was sent");
    if (found != list->queue.rend()) {
        list->queue.erase(std::next(found).base());
    }
    s->accepted--;
    (send->has_fn ? s->with_fn : s->plain)--;
}

static std::unique_ptr<Send> send_make(Socket *s, const Target &target, uint32_t size, bool with_fn)
{
    auto send = std::make_unique<Send>();
    send->socket = s;
    send->id = (static_cast<uint64_t>(s->number) << ID_SOCKET_SHIFT) | s->next_id++;
    send->id |= target.name >= 0 ? ID_NAMED : 0;
    send->size = size;
    send->has_fn = with_fn;
    send->name = target.name;
    send->to = target.address;
    send->to.u.in4.sin_port = htons(target.port);
    send->borrowed.reset(new unsigned char[size]);
    if (size <= 65527) {
        payload_write(send->id, send->borrowed.get(), size);
    }
    return send;
}

static uint32_t size_max(const Socket *s)
{
    return s->type == DGRAM_UDP4 ? DGRAM_UDP4_SIZE_MAX : DGRAM_UDP6_SIZE_MAX;
}

/* Sure: nothing but the size and the queue can be in the way. */
static bool is_sure(const Socket *s)
{
    const Run *run = s->run;
    return s->state == State::OPEN && s->bound == Bound::YES && !run->may_lack_memory() &&
           !run->ending && !run->free_requested;
}

void Run::check_send(Socket *s, uint32_t size, int code)
{
    if (is_sure(s)) {
        expect_code(code,
                    {size > size_max(s) ? -EMSGSIZE : 0, size > size_max(s) ? -EMSGSIZE : -EAGAIN},
                    "a send");
    } else if (s->state != State::OPEN) {
        expect_code(code, {DGRAM_ENOTRUNNING}, "a send");
    }
}

void Run::send_one(Socket *s, const Target &target, uint32_t size, bool with_fn)
{
    sends.push_back(send_make(s, target, size, with_fn));
    Send *send = sends.back().get();
    bool exact = is_sure(s) && chance(200) && all_open() && sim_stalled(loop) == 0;
    bool full = exact && forecast_full(s, size);
    const void *data = size == 0 && chance(500) ? nullptr : send->borrowed.get();
    List *list = list_for(s, target);
    enlist(s, list, send);
    int code = send_call(s, target, data, size, send);
    sim_log("send call", (static_cast<uint64_t>(s->number) << 32) + size,
            static_cast<uint64_t>(code));
    if (exact && size <= size_max(s)) {
        expect_code(code, {full ? -EAGAIN : 0}, "dgram_send");
    }
    check_send(s, size, code);
    settle_call(list, send, code, with_fn && !s->copies);
    learn_bound(s);
}

/* What a send's code means for the books, and whose its bytes are now. */
void Run::settle_call(List *list, Send *send, int code, bool lent)
{
    stalled_yet = stalled_yet || sim_stalled(loop) > 0;
    if (code == 0) {
        send->socket->fresh.add(turns(), send->size + OVERHEAD);
    }
    if (code == -EAGAIN) {
        send->socket->refusals++;
        send->socket->drain_owed = true;
        send->socket->refused_size = std::max(send->socket->refused_size, send->size);
    }
    if (code < 0 || !lent) {
        memset(send->borrowed.get(), 0xee, send->size);
        send->borrowed.reset();
    }
    if (code < 0) {
        strike(send->socket, list, send);
        send->called = true; /* nothing follows */
    }
}

/* A payload in up to three parts. */
static std::vector<struct iovec> cut(Run *run, unsigned char *bytes, uint32_t size)
{
    std::vector<struct iovec> pieces;
    uint32_t at = 0;
    for (int i = 0; i < 2 && run->chance(700); i++) {
        uint32_t part = run->below(size - at + 1);
        pieces.push_back({bytes + at, part});
        at += part;
    }
    pieces.push_back({bytes + at, size - at});
    return pieces;
}

/* dgram_send_many(): items of any kind, each with a status of its own. */
void Run::many()
{
    Socket *s = any_of(live);
    uint32_t count = 1 + below(30);
    bool with_fn = chance(600), plain_size = chance(500);
    std::vector<struct dgram_outgoing> items(count);
    std::vector<std::vector<struct iovec>> pieces(count);
    std::vector<List *> lists;
    std::vector<Send *> made;
    if (s == nullptr) {
        return;
    }
    uint32_t size = size_for(s, false);
    Target target;
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || chance(300)) {
            target = target_for(s);
            target = target.name >= 0 && target.handle == nullptr ? target_here(s) : target;
        }
        sends.push_back(send_make(s, target, plain_size ? size : size_for(s, false), with_fn));
        Send *send = sends.back().get();
        struct dgram_outgoing *item = &items[i];
        *item = {};
        item->data = send->borrowed.get();
        item->size = send->size;
        if (chance(300)) {
            pieces[i] = cut(this, send->borrowed.get(), send->size);
            item->pieces = pieces[i].data();
            item->piece_count = pieces[i].size();
        }
        item->address = target.handle == nullptr ? &send->to : nullptr;
        item->destination = target.handle;
        item->user = send;
        item->flags = chance(200) ? DGRAM_COPY : 0;
        made.push_back(send);
        lists.push_back(list_for(s, target));
        enlist(s, lists.back(), send);
    }
    int code = call([&] {
        return dgram_send_many(s->handle, items.data(), count, with_fn ? on_sent : nullptr,
                               nullptr);
    });
    sim_log("many call", s->number, static_cast<uint64_t>(code));
    settle_many(items, lists, made, code);
    learn_bound(s);
    budget -= std::min<uint64_t>(budget, count / 2);
}

void Run::settle_many(const std::vector<struct dgram_outgoing> &items,
                      const std::vector<List *> &lists, const std::vector<Send *> &made, int code)
{
    const Socket *s = made[0]->socket;
    int accepted = 0;
    bool full = false;
    expect(code >= 0 || s->state != State::OPEN || ending || free_requested,
           "dgram_send_many failed as a whole");
    for (size_t i = 0; i < items.size(); i++) {
        int status = code < 0 ? code : items[i].status;
        bool lent = made[i]->has_fn && !s->copies && items[i].pieces == nullptr &&
                    (items[i].flags & DGRAM_COPY) == 0;
        expect(!full || status == -EAGAIN, "an item overtook one that found the queue full");
        full = status == -EAGAIN;
        accepted += status == 0;
        if (code >= 0 && s->bound == Bound::YES) {
            expect_code(status, {0, -EAGAIN, -EMSGSIZE}, "an item of dgram_send_many");
        }
        settle_call(lists[i], made[i], status, lent);
    }
    expect(code < 0 || accepted == code, "dgram_send_many miscounts");
}

void Run::burst()
{
    Socket *s = chosen();
    if (s == nullptr) {
        return;
    }
    Target targets[4];
    uint32_t target_count = chance(500) ? 1 : 1 + below(4);
    for (uint32_t i = 0; i < target_count; i++) {
        targets[i] = target_for(s);
    }
    uint32_t count = 1 + below(chance(300) ? 40 : 6);
    uint32_t fixed = chance(600) ? size_for(s, false) : 0;
    uint32_t with_fn = chance(300) ? 0 : chance(400) ? 1000 : below(1000);
    bool in_turns = chance(400);
    remember(s, targets[0], fixed > 0 ? fixed : 100);
    for (uint32_t i = 0; i < count && !failed && s->handle != nullptr; i++) {
        const Target &target = targets[in_turns ? i % target_count : below(target_count)];
        bool may_be_tiny = target.name < 0 && s->bound == Bound::YES && !may_lack_memory();
        uint32_t size = fixed > 0 ? fixed : size_for(s, may_be_tiny);
        send_one(s, target, size, chance(with_fn));
    }
    budget -= std::min<uint64_t>(budget, count);
}

/* Many of one size to one peer, without callbacks: the library's fast way. */
void Run::flood()
{
    Socket *s = any_of(live);
    if (s == nullptr) {
        return;
    }
    Target target = target_for(s);
    uint32_t count = 40 + below(300), size = 8 + below(chance(500) ? 100 : 1464);
    uint32_t other = chance(500) ? 0 : below(100);
    remember(s, target, size);
    for (uint32_t i = 0; i < count && !failed; i++) {
        bool odd = chance(other);
        send_one(s, target, odd ? size_for(s, false) : size, odd && chance(500));
    }
    budget -= std::min<uint64_t>(budget, count / 4);
}

void Run::remember(Socket *socket, const Target &target, uint32_t size)
{
    if (target.handle == nullptr) {
        last_socket = socket;
        last_target = target;
        last_size = size;
    }
}

/* The same as before, whatever happened to the socket meanwhile. */
void Run::again()
{
    Socket *s = last_socket;
    if (s == nullptr || s->handle == nullptr || s->state == State::GONE) {
        return;
    }
    for (uint32_t i = 1 + below(5); i > 0 && !failed; i--) {
        send_one(s, last_target, last_size, false);
    }
}

void Run::flush_loop()
{
    int code = call([&] { return dgram_loop_flush(loop); });
    expect_code(code, {0, sim_broken()}, "dgram_loop_flush");
}

/* ---- What the program does: buffers -------------------------------------------------------- */

void Run::buffer_create()
{
    auto made = std::make_unique<Buffer>();
    struct dgram_buffer_options options = {};
    options.size = sizeof(options);
    options.flags = chance(700) ? DGRAM_ZERO_COPY : 0;
    options.on_idle = on_idle;
    options.user = made.get();
    made->run = this;
    made->size = chance(300) ? 64 + below(4000) : 66000 + below(200000);
    int code = call([&] { return dgram_buffer_create(loop, made->size, &options, &made->handle); });
    sim_log("buffer call", made->size, static_cast<uint64_t>(code));
    if (code < 0) {
        expect(may_lack_memory(), "no buffer, for no reason");
        return;
    }
    int granted = dgram_buffer_zero_copy(made->handle);
    bool may_fail = faults.setup > 0 || may_lack_memory();
    int wanted = options.flags == 0 ? -ENOTSUP : made->size < 16384 ? DGRAM_EBADBUFFERSIZE : 0;
    expect(granted == wanted || (granted == -ENOMEM && may_fail),
           "zero copy was refused, for no reason");
    live_buffers.push_back(made.get());
    buffers.push_back(std::move(made));
}

/* Whether so many bytes may be written; from the start again, if nothing there is in use. */
bool Run::buffer_room(Buffer *buffer, uint32_t size)
{
    if (!dgram_buffer_in_use(buffer->handle) &&
        (chance(100) || buffer->used + size > buffer->size)) {
        memset(dgram_buffer_data(buffer->handle), 0xee, buffer->used);
        buffer->used = 0;
    }
    return buffer->used + size <= buffer->size;
}

void Run::send_from(Socket *s, const Target &target, Buffer *buffer, uint32_t size)
{
    sends.push_back(send_make(s, target, size, false));
    Send *send = sends.back().get();
    List *list = list_for(s, target);
    payload_write(send->id,
                  static_cast<unsigned char *>(dgram_buffer_data(buffer->handle)) + buffer->used,
                  size);
    enlist(s, list, send);
    buffer->idle_owed = true;
    int code = call([&] {
        return dgram_send_buffer(s->handle, buffer->handle, buffer->used, size, &target.address);
    });
    sim_log("send buffer call", (static_cast<uint64_t>(s->number) << 32) + size,
            static_cast<uint64_t>(code));
    check_send(s, size, code);
    settle_call(list, send, code, false);
    buffer->used += code == 0 ? size : 0;
    learn_bound(s);
}

void Run::buffer_send(Buffer *buffer)
{
    Socket *s = chosen();
    for (int looks = 0; looks < 4 && s != nullptr && s->limit < 100000; looks++) {
        s = chosen();
    }
    if (s == nullptr) {
        return;
    }
    Target target = target_here(s);
    bool large = chance(700); /* trains that are worth a loan */
    uint32_t count = large ? 40 + below(80) : 1 + below(10);
    uint32_t fixed = large ? 800 + below(700) : chance(800) ? size_for(s, false) : 0;
    bool owed = buffer->idle_owed;
    for (uint32_t i = 0; i < count && !failed; i++) {
        uint32_t size = fixed > 0 ? fixed : size_for(s, false);
        if (!buffer_room(buffer, size)) {
            break;
        }
        target = chance(10) ? target_here(s) : target;
        uint64_t accepted = s->accepted;
        send_from(s, target, buffer, size);
        owed = owed || s->accepted > accepted;
        buffer->idle_owed = owed;
        buffer->used += chance(10) ? below(64) : 0;
        buffer->used = std::min(buffer->used, buffer->size);
        if (chance(10)) {
            again(); /* a copy between them */
        }
    }
    budget -= std::min<uint64_t>(budget, count / 4);
}

void Run::buffer_act()
{
    Buffer *buffer = any_of(live_buffers);
    if (free_requested || ending) {
        return;
    }
    if (buffer == nullptr || (live_buffers.size() < BUFFERS_MAX && chance(150))) {
        buffer_create();
    } else if (chance(30)) {
        sim_log("buffer free call", buffer->size, 0);
        live_buffers.erase(std::find(live_buffers.begin(), live_buffers.end(), buffer));
        call([&] { return dgram_buffer_free(buffer->handle); });
        buffer->handle = nullptr;
    } else {
        buffer_send(buffer);
    }
}

} /* namespace sim_program */
