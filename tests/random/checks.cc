/* SPDX-License-Identifier: MIT */
/*
 * checks.cc: what the random program sees, held against its books: the datagrams that the simulated
 * kernel takes and hands over, the moments at which the loop would sleep, and every callback.
 * Callbacks go on to act (deeds.cc) when they have been checked.
 */
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <deque>

#include "tests/random/program.h"

namespace sim_program
{

/* ---- Payloads and addresses ---------------------------------------------------------------- */

static const unsigned char *payload_table()
{
    static const std::vector<unsigned char> table = [] {
        std::vector<unsigned char> bytes(2 * 65536);
        struct sim_random random = {1};
        for (unsigned char &byte : bytes) {
            byte = static_cast<unsigned char>(sim_random_next(&random));
        }
        return bytes;
    }();
    return table.data();
}

static const unsigned char *payload_at(uint64_t id)
{
    struct sim_random random = {id};
    return payload_table() + sim_random_below(&random, 65536);
}

void payload_write(uint64_t id, unsigned char *bytes, size_t size)
{
    memcpy(bytes, payload_at(id), size);
    if (size >= sizeof(id)) {
        memcpy(bytes, &id, sizeof(id));
    }
}

bool payload_is(uint64_t id, const unsigned char *bytes, size_t size)
{
    if (size < sizeof(id)) {
        return memcmp(bytes, payload_at(id), size) == 0;
    }
    return memcmp(bytes, &id, sizeof(id)) == 0 &&
           memcmp(bytes + sizeof(id), payload_at(id) + sizeof(id), size - sizeof(id)) == 0;
}

uint64_t digest(const void *data, size_t size)
{
    const unsigned char *bytes = static_cast<const unsigned char *>(data);
    uint64_t hash = size;
    for (; size >= 8; bytes += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, bytes, sizeof(word));
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}

std::string key_of(const struct dgram_addr &address)
{
    char text[DGRAM_ADDR_TEXT_MAX];
    return std::string(dgram_addr_text(&address, text)) + " " +
           std::to_string(dgram_addr_port(&address));
}

struct dgram_addr parse(const std::string &text, uint16_t port)
{
    struct dgram_addr address = {};
    dgram_addr_parse(text.c_str(), port, &address);
    return address;
}

const char *loopback(uint32_t type)
{
    return type == DGRAM_UDP4 ? "127.0.0.1" : "::1";
}

std::string host_name(uint32_t name)
{
    return "host" + std::to_string(name) + ".test";
}

/* ---- The run ------------------------------------------------------------------------------- */

void Run::fail(const std::string &text)
{
    if (!failed) {
        failed = true;
        sim_log("FAILED", 0, 0);
        ADD_FAILURE() << "seed " << seed << ": " << text << "\n  replay: DGRAM_SIM_SEED=" << seed
                      << " ./sim --gtest_filter=Sim.Hunt";
    }
}

void Run::expect_code(int code, std::initializer_list<int> codes, const char *call)
{
    for (int allowed : codes) {
        if (code == allowed) {
            return;
        }
    }
    if (code == -ENOMEM && may_lack_memory()) {
        return;
    }
    fail(std::string(call) + " gave " + dgram_error_name(code) + " (" + std::to_string(code) + ")");
}

/* Every callback begins here. */
void Run::enter(const char *what, Socket *socket)
{
    sim_log(what, socket != nullptr ? socket->number : 0, 0);
    self = socket;
    stalled_yet = stalled_yet || sim_stalled(loop) > 0;
    if (++events % EVENTS_MAX == 0) { /* timers can keep a loop busy for ever */
        stop_loop();
    }
    expect(turning > 0, "a callback outside of a turn");
    expect(calling == 0, "a callback inside the call that caused it");
    if (socket != nullptr) {
        expect(socket->state != State::GONE, "a callback after `close`");
    }
}

uint64_t charge_of(const struct dgram_socket *handle)
{
    return dgram_get_send_queue_size(handle) + OVERHEAD * dgram_get_send_queue_count(handle);
}

/* So far, of this loop. */
uint64_t Run::turns() const
{
    struct dgram_loop_info info = {};
    info.size = sizeof(info);
    dgram_loop_info(loop, &info);
    return info.turns;
}

uint64_t Run::loop_charge() const
{
    uint64_t charge = 0;
    for (const Socket *socket : live) {
        charge += charge_of(socket->handle);
    }
    return charge;
}

/* For certain. */
bool Run::is_alive() const
{
    for (const Socket *s : live) {
        if (s->state != State::OPEN || (s->bound == Bound::YES && !s->unreffed)) {
            return true;
        }
        if (s->called < s->with_fn) {
            return true;
        }
    }
    for (const Timer *timer : live_timers) {
        if (timer->started && !timer->unreffed) {
            return true;
        }
    }
    for (const Buffer *buffer : live_buffers) {
        if (buffer->idle_owed) {
            return true;
        }
    }
    return !posted.empty();
}

bool Run::may_be_alive() const
{
    for (const Socket *s : live) {
        if (s->bound == Bound::MAYBE || dgram_get_send_queue_count(s->handle) > 0) {
            return true;
        }
    }
    bool freed = std::any_of(buffers.begin(), buffers.end(),
                             [](const auto &b) { return b->handle == nullptr && b->idle_owed; });
    return freed || is_alive() || !lookups.empty();
}

/* ---- What the simulator saw ---------------------------------------------------------------- */

static bool leads_to(const Run &run, const List &list, const std::string &key,
                     const struct dgram_addr &to, const std::string &list_key)
{
    if (list.name < 0) {
        return list_key == key;
    }
    if (list.port != dgram_addr_port(&to)) {
        return false;
    }
    for (struct dgram_addr answer : run.answers[list.name]) {
        answer.u.in4.sin_port = to.u.in4.sin_port;
        if (dgram_addr_equal(&answer, &to)) {
            return true;
        }
    }
    return false;
}

/* Takes the send at `index` out of its list. Those before it to the same address must have failed,
 * or will be reported so: they can no longer be taken. A name may have another address by now, and
 * those before it may wait for room at the one before. */
static void take_from(Run *run, Socket *socket, List *list, size_t index)
{
    Send *send = list->queue[index];
    auto at = list->queue.begin() + static_cast<long>(index);
    list->queue.erase(list->name < 0 ? list->queue.begin() : at, at + 1);
    run->expect(!send->called, "a send was completed before the kernel took it");
    send->taken = true;
    socket->taken_in = run->last_taken = sim_calls();
    socket->taken++;
    socket->taken_bytes += send->size;
    if (send->has_fn) {
        run->untold++;
    } else {
        socket->plain_taken++;
    }
}

void Run::taken(uint32_t number, const struct dgram_addr &to, const unsigned char *data,
                uint32_t size)
{
    Socket *socket = sockets[number - 1].get();
    std::string key = key_of(to);
    std::vector<List *> lists;
    for (auto &entry : socket->lists) {
        if (leads_to(*this, entry.second, key, to, entry.first)) {
            lists.push_back(&entry.second);
        }
    }
    auto is_it = [&](const Send *send) {
        return send->size == size && payload_is(send->id, data, size);
    };
    for (List *list : lists) {
        if (!list->queue.empty() && is_it(list->queue.front())) {
            return take_from(this, socket, list, 0);
        }
    }
    for (List *list : lists) {
        for (size_t i = 1; i < list->queue.size(); i++) {
            if (is_it(list->queue[i])) {
                return take_from(this, socket, list, i);
            }
        }
    }
    std::string text =
        "the kernel got a datagram out of order, twice, or with other bytes: socket " +
        std::to_string(number) + " to " + key + ", " + std::to_string(size) + " bytes; queued are";
    for (List *list : lists) {
        for (size_t i = 0; i < list->queue.size() && i < 5; i++) {
            text += " " + std::to_string(list->queue[i]->size);
        }
        text += ";";
    }
    fail(text);
}

void Run::handed(uint32_t number, const struct dgram_addr &from, const unsigned char *data,
                 uint32_t size, uint32_t real_size, uint32_t segment)
{
    Socket *socket = sockets[number - 1].get();
    socket->handed += segment == 0 ? 1 : (size + segment - 1) / segment;
    if (segment == 0) {
        uint32_t present = std::min(size, slot_size);
        socket->expected.push_back({digest(data, present), present, real_size, from});
        return;
    }
    for (uint32_t at = 0; at < size; at += segment) {
        uint32_t part = std::min(size - at, segment);
        socket->expected.push_back({digest(data + at, part), part, part, from});
    }
}

/* ---- Whether the loop may sleep ------------------------------------------------------------ */

void Run::audit_socket(Socket *s, uint64_t until, uint64_t loop_charge)
{
    struct sim_socket look = sim_look(s->number);
    if (s->state == State::CLOSING && !ending) {
        expect(look.detaching, "sleeps, and a closed socket is not being detached");
    }
    if (!s->is_live() || look.detaching) { /* an ended one closes by itself */
        return;
    }
    bool may_fail = faults.setup > 0 || may_lack_memory();
    if (s->state == State::OPEN && s->wants_messages() && !may_fail) {
        /* After error upon error it is tried again in a while. */
        bool paused = faults.stop_error > 0 && until <= sim_now() + NOBUFS_RETRY + 1;
        expect(look.receiving || !look.has_data || !look.slot_free || paused,
               "sleeps, and a socket with data and a free slot is not received from");
    }
    size_t count = dgram_get_send_queue_count(s->handle);
    if (s->state == State::ENDING && count == 0) {
        fail("sleeps, and an ended socket with an empty queue is not closed");
    }
    /* What the kernel took in this very wait counts until the wait returns. */
    bool waits = count == 0 || s->taken_in + 1 >= sim_calls() || (look.full && look.watched) ||
                 !lookups.empty();
    if (!waits) {
        expect(until <= sim_now() + NOBUFS_RETRY + 1, "sleeps, and queued sends are not retried");
    }
    uint64_t charge = charge_of(s->handle);
    uint64_t refused = std::max(s->refused_size, s->refused_before) + OVERHEAD;
    bool low = charge <= s->limit / 2 && loop_charge <= loop_limit / 2;
    bool fits = (charge == 0 || charge + refused <= s->limit) &&
                (loop_charge == 0 || loop_charge + refused <= loop_limit);
    if (s->drain_owed && s->on_drain && low && fits && sim_stalled(loop) == 0) {
        fail("sleeps, and `drain` is due");
    }
}

/* The loop means to sleep until `until`, if nothing comes. */
void Run::audit(uint64_t until)
{
    for (Socket *socket : live) {
        learn_bound(socket);
    }
    uint64_t charge = loop_charge();
    for (Socket *socket : std::vector<Socket *>(live)) {
        audit_socket(socket, until, charge);
    }
    for (const Timer *timer : live_timers) {
        expect(!timer->started || until <= std::max(timer->deadline, sim_now()),
               "sleeps past a timer");
    }
    for (const Buffer *buffer : live_buffers) {
        expect(!buffer->idle_owed || ending || free_requested || sim_lent() > 0 ||
                   last_taken + 1 >= sim_calls(),
               "sleeps, and `idle` is due");
    }
    expect(untold == 0, "sleeps, and a callback of a send is due");
    expect(posted.empty(), "sleeps, and a post waits");
}

/* Inside a wait that lets time pass: the moment of other threads. */
void Run::sleeping(uint64_t until)
{
    if (failed) {
        call([&] { return dgram_loop_stop(loop), 0; });
        return;
    }
    audit(until);
    expect(!stopped || ending || free_requested, "sleeps, and was stopped");
    expect(may_be_alive() || ending || free_requested, "sleeps, and nothing keeps the loop alive");
    if (chance(60) && !quiet && !ending) {
        post_one(false);
    }
    if (chance(60)) {
        release_one();
    }
    bool endless = until == FOREVER && (sim_next_event() == FOREVER || budget == 0);
    if (endless || (chance(80) && !quiet)) {
        stop_loop();
    }
}

/* ---- Handlers ------------------------------------------------------------------------------ */

/* The send's own completion may have one of these for a reason. */
void Run::check_code(const Send &send, int code)
{
    const Socket *s = send.socket;
    bool fine = (code == -ECANCELED && (!s->is_live() || ending || free_requested)) ||
                (code == -ENOMEM && may_lack_memory()) ||
                (code == -EPERM && faults.transient > 0) || (code == sim_broken() && code < 0);
    if (send.name < 0) { /* a true error is tried again, and may meet a pending one then */
        int error = sim_error_of(&send.to);
        fine = fine || (error < 0 && (code == error || code == -ECONNREFUSED));
    } else {
        const std::vector<int> &codes = failures[send.name];
        fine = fine || std::count(codes.begin(), codes.end(), code) > 0;
        for (struct dgram_addr to : answers[send.name]) {
            to.u.in4.sin_port = send.to.u.in4.sin_port;
            int error = sim_error_of(&to);
            fine = fine || (error < 0 && (code == error || code == -ECONNREFUSED));
        }
    }
    if (s->named_bind) { /* the bind failed, and with it what waited for it */
        for (const std::vector<int> &codes : failures) {
            fine = fine || std::count(codes.begin(), codes.end(), code) > 0;
        }
        fine = fine || code == -EADDRINUSE || code == -EADDRNOTAVAIL || code == -EACCES;
    }
    if (!fine) {
        fail(std::string("a send failed with ") + dgram_error_name(code) + ", for no reason");
    }
}

void Run::sent(Send *send, int result)
{
    Socket *socket = send->socket;
    enter("sent", socket);
    expect(!send->called, "a send was completed twice");
    send->called = true;
    socket->called++;
    if (result >= 0) {
        expect(send->taken, "a send succeeded that the kernel never got");
        expect(static_cast<uint32_t>(result) == send->size, "a send's result is not its size");
    } else {
        expect(!send->taken, "a send failed that the kernel took");
        check_code(*send, result);
    }
    if (send->taken) {
        untold--;
    } else {
        for (auto &entry : socket->lists) {
            std::deque<Send *> &queue = entry.second.queue;
            auto found = std::find(queue.begin(), queue.end(), send);
            if (found != queue.end()) {
                queue.erase(found);
                break;
            }
        }
    }
    if (send->borrowed != nullptr && send->size > 0) {
        expect(payload_is(send->id, send->borrowed.get(), send->size), "borrowed bytes changed");
    }
    send->borrowed.reset(); /* whoever looks at it later is seen by the sanitizer */
    act_often(250);
}

void on_sent(struct dgram_socket *handle, int result, void *user)
{
    Send *send = static_cast<Send *>(user);
    Run *run = send->socket->run;
    run->expect(handle == send->socket->handle, "a callback names another socket");
    run->depth++;
    run->sent(send, result);
    run->depth--;
}

void on_idle(struct dgram_buffer *handle, void *user)
{
    Buffer *buffer = static_cast<Buffer *>(user);
    Run *run = buffer->run;
    run->depth++;
    run->enter("idle", nullptr);
    run->expect(handle == buffer->handle, "`idle` of a buffer that was freed");
    run->expect(!run->ending, "`idle` while the loop is being freed");
    run->expect(!dgram_buffer_in_use(handle), "`idle`, and the buffer is in use");
    run->expect(buffer->idle_owed, "`idle` once more");
    buffer->idle_owed = false;
    memset(dgram_buffer_data(handle), 0xee, buffer->used);
    buffer->used = 0;
    run->act_often(250);
    run->depth--;
}

/* Where one sending socket's datagrams overtook each other, to one receiver. */
static void check_order(Run *run, Socket *socket, uint64_t id)
{
    if ((id & ID_NAMED) != 0 || run->faults.reorder) {
        return;
    }
    uint64_t &last = socket->last_from[id >> ID_SOCKET_SHIFT];
    if (id < last) {
        run->fail("datagrams of one flow were delivered out of order: number " +
                  std::to_string(id & 0xffffffff) + " after " + std::to_string(last & 0xffffffff) +
                  " of socket " + std::to_string(id >> ID_SOCKET_SHIFT));
    }
    last = id;
}

void Run::check_message(Socket *socket, const struct dgram_message &message)
{
    if (may_lack_memory()) { /* what could not be held back is gone */
        while (!socket->expected.empty() &&
               socket->expected.front().digest != digest(message.data, message.size)) {
            socket->expected.pop_front();
        }
    }
    if (socket->expected.empty()) {
        fail("a message that the kernel did not hand over, or not once more");
        return;
    }
    Expected front = socket->expected.front();
    socket->expected.pop_front();
    bool truncated = front.size < front.real_size;
    expect(message.data != nullptr, "a message without data");
    expect(message.size == front.size, "a message of another size, or out of order");
    expect(message.real_size == front.real_size, "a wrong real_size");
    expect(message.flags == (truncated ? DGRAM_TRUNCATED : 0), "wrong flags");
    expect(dgram_addr_equal(message.from, &front.from), "a wrong sender");
    expect(digest(message.data, message.size) == front.digest, "a message with other bytes");
    socket->delivered++;
    socket->delivered_bytes += message.size;
    uint64_t id = 0;
    if (!failed && message.size >= sizeof(id) && !truncated) {
        memcpy(&id, message.data, sizeof(id));
        expect(payload_is(id, static_cast<const unsigned char *>(message.data), message.size),
               "a message that nobody sent");
        check_order(this, socket, id);
    }
}

void Run::maybe_keep(const struct dgram_message &message)
{
    if (kept.size() >= KEPT_MAX || !chance(120) || quiet) {
        return;
    }
    Kept one = {};
    int code = call([&] { return dgram_message_retain(&message, &one.message); });
    expect_code(code, {0}, "dgram_message_retain");
    if (code == 0) {
        one.digest = digest(one.message.data, one.message.size);
        one.from = *one.message.from;
        expect(one.digest == digest(message.data, message.size), "a kept message changed");
        kept.push_back(one);
    }
}

/* Some handlers take longer than a turn may last. */
void Run::be_slow()
{
    if (slowness > 0 && chance(300)) {
        sim_burn(below(slowness));
    }
}

/* What holds for one message and for an array of them. */
static void check_delivery(Socket *socket, bool array)
{
    Run *run = socket->run;
    run->enter(array ? "messages" : "message", socket);
    run->expect(socket->is_live(), "a message after dgram_close()");
    run->expect(!socket->paused, "a message while paused");
    run->expect(array ? socket->on_messages : socket->on_message && !socket->on_messages,
                "a message to a handler that is not set");
    run->expect(socket->listened || !socket->on_listening, "a message before `listening`");
}

void on_message(struct dgram_socket *handle, const struct dgram_message *message, void *user)
{
    Socket *socket = static_cast<Socket *>(user);
    Run *run = socket->run;
    run->depth++;
    run->expect(handle == socket->handle, "a callback names another socket");
    check_delivery(socket, false);
    run->check_message(socket, *message);
    run->maybe_keep(*message);
    run->be_slow();
    run->act_often(250);
    run->depth--;
}

void on_messages(struct dgram_socket *handle, const struct dgram_message *messages, size_t count,
                 void *user)
{
    Socket *socket = static_cast<Socket *>(user);
    Run *run = socket->run;
    run->depth++;
    run->expect(handle == socket->handle, "a callback names another socket");
    check_delivery(socket, true);
    run->expect(count >= 1 && count <= 256, "an array of a wrong length");
    for (size_t i = 0; i < count; i++) {
        run->check_message(socket, messages[i]);
        run->maybe_keep(messages[i]);
        run->be_slow();
    }
    run->act_often(300);
    run->depth--;
}

void on_listening(struct dgram_socket *handle, void *user)
{
    Socket *socket = static_cast<Socket *>(user);
    Run *run = socket->run;
    run->depth++;
    run->enter("listening", socket);
    run->expect(handle == socket->handle, "a callback names another socket");
    run->expect(socket->is_live(), "`listening` after dgram_close()");
    run->expect(!socket->listened, "`listening` twice");
    socket->listened = true;
    run->learn_bound(socket);
    run->expect(socket->bound == Bound::YES, "`listening` of a socket that is not bound");
    run->act_often(500);
    run->depth--;
}

void on_drain(struct dgram_socket *handle, void *user)
{
    Socket *socket = static_cast<Socket *>(user);
    Run *run = socket->run;
    run->depth++;
    run->enter("drain", socket);
    run->expect(handle == socket->handle, "a callback names another socket");
    run->expect(socket->is_live(), "`drain` after dgram_close()");
    run->expect(++socket->drains <= socket->refusals, "`drain`, and nothing was refused");
    run->expect(charge_of(handle) <= socket->limit / 2 + socket->fresh.since(run->turns() - 1) ||
                    run->stalled_yet,
                "`drain`, and the queue is more than half full");
    socket->drain_owed = false;
    socket->refused_before = socket->refused_size;
    socket->refused_size = 0;
    run->act_often(500);
    run->depth--;
}

void Run::error(Socket *socket, const struct dgram_error &error)
{
    std::string operation = error.operation;
    enter("error", socket);
    expect(error.size == sizeof(error) && error.code < 0, "an error that is none");
    expect(socket->on_error, "an error to a handler that is not set");
    if (operation == "send") {
        Send send = {};
        send.socket = socket;
        send.name = -1;
        socket->send_events++;
        expect(error.address != nullptr || error.host != nullptr, "a failed send to nowhere");
        if (error.address != nullptr) {
            send.to = *error.address;
        }
        for (uint32_t i = 0; i < NAMES && error.host != nullptr; i++) {
            if (std::string(error.host) == "host" + std::to_string(i) + ".test") {
                send.name = static_cast<int>(i);
            }
        }
        check_code(send, error.code);
    } else if (operation == "recvmsg") {
        bool no_pool = error.code == -ENOMEM && (faults.setup > 0 || may_lack_memory());
        socket->receive_failed = socket->receive_failed || no_pool;
        expect(no_pool || faults.stop_error > 0, "a receive failed, for no reason");
    } else {
        expect(operation == "bind", "an unknown operation");
        learn_bound(socket);
        socket->bound = socket->bound == Bound::YES ? Bound::YES : Bound::NO;
    }
    act_often(300);
}

void on_error(struct dgram_socket *handle, const struct dgram_error *error, void *user)
{
    Socket *socket = static_cast<Socket *>(user);
    Run *run = socket->run;
    run->depth++;
    run->expect(handle == socket->handle, "a callback names another socket");
    run->error(socket, *error);
    run->depth--;
}

void Run::closed(Socket *socket)
{
    enter("closed", socket);
    expect(socket->state != State::OPEN || ending || free_requested,
           "`close`, and nobody closed the socket");
    expect(socket->called == socket->with_fn, "`close` before the callback of a send");
    expect(!sim_look(socket->number).open, "`close` before the descriptor is closed");
    expect_code(dgram_close(socket->handle), {DGRAM_ENOTRUNNING}, "dgram_close in `close`");
    expect_code(dgram_send(socket->handle, "", 0, 1, "", nullptr, nullptr), {DGRAM_ENOTRUNNING},
                "dgram_send in `close`");
    struct dgram_socket_stats stats = {};
    stats.size = sizeof(stats);
    dgram_socket_stats(socket->handle, &stats);
    expect(stats.received == socket->delivered, "`received` is not what was delivered");
    expect(stats.received + stats.discarded == socket->handed + sim_counted(socket->number),
           "datagrams that were taken from the kernel are in no counter");
    uint64_t failing = failed_plain; /* so many at most could wait at a time */
    for (const Socket *other : live) {
        failing += other->plain_left();
    }
    failed_plain += socket->plain_left();
    expect(socket->send_events <= socket->plain_left(), "an error event for no failed send");
    if (socket->on_error_always && !may_lack_memory() && failing < ERRORS_MAX) {
        expect(socket->send_events == socket->plain_left(), "a failed send without an error event");
    }
    socket->state = State::GONE;
    live.erase(std::find(live.begin(), live.end(), socket));
    act_often(300);
    socket->handle = nullptr;
}

void on_close(struct dgram_socket *handle, void *user)
{
    Socket *socket = static_cast<Socket *>(user);
    Run *run = socket->run;
    run->depth++;
    run->expect(handle == socket->handle, "a callback names another socket");
    run->closed(socket);
    run->depth--;
}

void on_timer(struct dgram_timer *handle, void *user)
{
    Timer *timer = static_cast<Timer *>(user);
    Run *run = timer->run;
    run->depth++;
    run->enter("timer", nullptr);
    run->expect(handle == timer->handle, "a callback names another timer");
    run->expect(timer->started, "a stopped timer fires");
    uint64_t now = dgram_loop_now(run->loop);
    run->expect(now >= timer->deadline && now <= sim_now(), "a timer fires early");
    if (timer->interval > 0) {
        timer->deadline += timer->interval * ((now - timer->deadline) / timer->interval + 1);
    } else {
        timer->started = false;
    }
    run->act_often(600);
    run->depth--;
}

void on_post(struct dgram_loop *loop, void *user)
{
    Post *post = static_cast<Post *>(user);
    Run *run = post->run;
    run->depth++;
    run->enter("post", nullptr);
    run->expect(loop == run->loop, "a post names another loop");
    run->expect(!run->posted.empty() && run->posted.front() == post->number,
                "posts out of order, or twice");
    if (!run->posted.empty()) {
        run->posted.pop_front();
    }
    if (post->frees) {
        run->request_free();
    }
    run->act_often(500);
    run->depth--;
}

/* The program's own resolver. */
void on_lookup(struct dgram_loop *loop, struct dgram_lookup *lookup, const char *host, int family,
               void *user)
{
    Run *run = static_cast<Run *>(user);
    run->depth++;
    run->enter("lookup", nullptr);
    run->expect(loop == run->loop, "a lookup names another loop");
    run->expect(strncmp(host, "host", 4) == 0 && (family == 4 || family == 6), "a wrong question");
    run->lookups.push_back({lookup, static_cast<uint32_t>(host[4] - '0'), family});
    if (run->chance(400)) {
        run->answer_one();
    }
    run->depth--;
}

} /* namespace sim_program */
