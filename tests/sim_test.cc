/* SPDX-License-Identifier: MIT */
/*
 * sim_test.cc: a program that uses the library at random, on the simulator, and checks it.
 *
 * One seed is one run: sockets, handlers, bursts, timers, posts and names come and go, inside
 * callbacks and outside, while the simulated host does everything that it is allowed to do. The run
 * keeps its own books of what it asked for and of what the simulator saw, and compares them with
 * what the library says. It knows nothing of the library's inside.
 *
 *     what left          each accepted send is given to the kernel at most once, with its bytes,
 *                        in order per socket and destination, and completes exactly once
 *     what came          exactly what the kernel handed over, in order, to whom it may be delivered
 *     what is owed       whenever the loop would sleep, nothing is due that the sleep would delay
 *     what is left       no memory, no descriptor, no slot; the same seed gives the same log
 *
 * A run that fails prints how to replay it:
 *
 *     DGRAM_SIM_SEED=<seed> ./sim --gtest_filter=Sim.Hunt       (DGRAM_SIM_TRACE=1 shows the log)
 *     DGRAM_SIM_SEED=<first> DGRAM_SIM_SEEDS=<count> ./sim --gtest_filter=Sim.Hunt
 */
#include "tests/sim.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace
{

constexpr uint64_t FOREVER = UINT64_MAX;
constexpr int64_t MILLISECOND = 1000000;
constexpr uint64_t OVERHEAD = 64;          /* that a datagram is charged, dgram.h */
constexpr uint64_t NOBUFS_RETRY = 1000000; /* after which a send is tried again */
constexpr size_t SOCKETS_MAX = 8, TIMERS_MAX = 20, KEPT_MAX = 12, HANDLES_MAX = 5, NAMES = 5;
constexpr uint64_t EVENTS_MAX = 2000; /* after which a loop that runs is stopped */
constexpr size_t ERRORS_MAX = 1024;   /* that wait in a loop, dgram.h */

/* ---- Payloads ------------------------------------------------------------------------------ */

/*
 * A send's number says who sent it and how: one byte order of the host. Payloads are cut out of one
 * table at a place that the number decides, and begin with the number where it fits.
 */
constexpr uint64_t ID_NAMED = 1ull << 63; /* to a host name: joins the order when that is known */
constexpr unsigned ID_SOCKET_SHIFT = 40;

const unsigned char *payload_table()
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

const unsigned char *payload_at(uint64_t id)
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

/* ---- Addresses ----------------------------------------------------------------------------- */

/* Family, host and port as text that orders and compares; never what the host makes of padding. */
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

/* ---- The books ----------------------------------------------------------------------------- */

struct Run;
struct Socket;

struct Send {
    Socket *socket;
    uint64_t id;
    uint32_t size;
    bool has_fn, taken, called;
    int name; /* -1: to an address */
    struct dgram_addr to;
    std::unique_ptr<unsigned char[]> borrowed;
};

/* What is queued for one address, or for one name and port, in the order of the calls. */
struct List {
    int name = -1;
    uint16_t port = 0;
    std::deque<Send *> queue;
};

/* A datagram that the kernel handed over and that is still to be delivered. */
struct Expected {
    uint64_t digest;
    uint32_t size, real_size;
    struct dgram_addr from;
};

/* What was accepted lately, by turns. */
struct Fresh {
    uint64_t turn = 0, charge = 0, charge_before = 0;
    void add(uint64_t now, uint64_t more)
    {
        charge_before = now == turn ? charge_before : now == turn + 1 ? charge : 0;
        charge = now == turn ? charge + more : more;
        turn = now;
    }
    uint64_t since(uint64_t first) const
    {
        return turn < first ? 0 : turn == first ? charge : charge + charge_before;
    }
};

enum class State { OPEN, ENDING, CLOSING, GONE };
enum class Bound { NO, MAYBE, YES }; /* MAYBE: a name or a membership will bind it */

struct Socket {
    Run *run;
    uint32_t number, type;
    struct dgram_socket *handle;
    State state = State::OPEN;
    Bound bound = Bound::NO;
    struct dgram_addr address = {};
    uint64_t limit = 0;
    bool copies = false, unreffed = false, paused = false;
    bool on_message = false, on_messages = false;
    bool on_listening = false, on_drain = false; /* from the start and for good, or never */
    bool on_error = false, on_error_always = false;
    bool listened = false, receive_failed = false, named_bind = false;

    std::map<std::string, List> lists;
    std::deque<Expected> expected;
    std::map<uint64_t, uint64_t> last_from; /* by sending socket: the last number that came */

    uint64_t next_id = 1;
    uint64_t accepted = 0;
    uint64_t with_fn = 0, called = 0;    /* sends with a callback */
    uint64_t plain = 0, plain_taken = 0; /* and without */
    uint64_t taken = 0, taken_bytes = 0, taken_in = 0;
    uint64_t delivered = 0, delivered_bytes = 0;
    uint64_t send_events = 0;
    uint64_t refusals = 0, drains = 0;
    bool drain_owed = false;
    Fresh fresh;

    bool is_live() const
    {
        return state == State::OPEN || state == State::ENDING;
    }
    bool wants_messages() const
    {
        return is_live() && bound == Bound::YES && !paused && (on_message || on_messages);
    }
    uint64_t plain_left() const
    {
        return plain - plain_taken;
    }
};

struct Timer {
    Run *run;
    uint32_t number;
    struct dgram_timer *handle;
    bool started = false, unreffed = false;
    uint64_t deadline = 0, interval = 0;
};

struct Post {
    Run *run;
    uint64_t number;
    bool frees;
};

struct Kept {
    struct dgram_message message;
    uint64_t digest;
    struct dgram_addr from;
};

struct Lookup {
    struct dgram_lookup *handle;
    uint32_t name;
    int family;
};

/* A destination handle. */
struct Handle {
    struct dgram_destination *handle;
    uint32_t type;
    int name;
    uint16_t port;
    struct dgram_addr address;
};

/* Where a burst goes. */
struct Target {
    int name = -1;
    uint16_t port = 0;
    std::string text;
    struct dgram_addr address = {};
    struct dgram_destination *handle = nullptr;
};

/* ---- A run --------------------------------------------------------------------------------- */

struct Run {
    explicit Run(uint64_t the_seed);

    uint64_t seed;
    struct sim_random random;
    struct sim_faults faults;

    struct dgram_loop *loop = nullptr;
    uint64_t loop_limit = 0;
    uint32_t slots = 0, slot_size = 0;
    int fd = -1; /* for an outer loop */
    bool embedded = false;

    std::vector<std::unique_ptr<Socket>> sockets; /* of all loops; by number, less one */
    std::vector<Socket *> live;                   /* with a handle */
    std::deque<std::unique_ptr<Send>> sends;
    std::deque<std::unique_ptr<Timer>> timers; /* in the order of creation */
    std::vector<Timer *> live_timers;
    std::deque<std::unique_ptr<Post>> posts;
    std::deque<uint64_t> posted; /* not yet called */
    std::vector<Kept> kept;
    std::vector<Lookup> lookups;
    std::vector<Handle> handles;
    std::vector<struct dgram_addr> answers[NAMES]; /* ever given for each name */
    std::vector<int> failures[NAMES];

    uint64_t budget = 0; /* calls left */
    uint64_t untold = 0; /* sends that the kernel took and whose callback is still to come */
    uint64_t failed_plain = 0;
    uint64_t events = 0;    /* callbacks so far */
    Socket *self = nullptr; /* whose callback runs */
    Socket *last_socket = nullptr;
    Target last_target;
    uint32_t last_size = 0;
    unsigned calling = 0; /* inside a call that runs no callbacks */
    unsigned turning = 0; /* inside one that does */
    unsigned depth = 0;   /* inside callbacks */
    bool free_requested = false, ending = false, quiet = false, stopped = false;
    bool failed = false;
    uint64_t loop_time = 0;
    std::string failure;

    /* The run. */
    void go();
    void live_once();
    bool open_loop();
    void turn();
    void turn_embedded();
    void run_loop();
    void after_turn(int code);
    int turn_once(int64_t timeout);
    void be_busy();
    void finish();
    void finish_quietly();
    std::string owed();
    void free_loop();
    void loop_gone();
    void request_free();

    /* What it does. */
    void act();
    void act_often(uint32_t permille);
    Socket *chosen();
    void create_socket();
    void bind_socket();
    void close_socket();
    void end_socket();
    void pause_or_resume();
    void set_handlers();
    void ref_or_unref();
    void burst();
    void flood();
    void again();
    void remember(Socket *socket, const Target &target, uint32_t size);
    void release_one();
    void timer_act();
    void timer_start(Timer *timer);
    void post_one(bool frees);
    void stop_loop();
    void flush_loop();
    void set_options();
    void inspect();
    void answer_one();
    void handle_act();
    void misuse();
    void join_group(Socket *socket);
    void many();
    void settle_call(List *list, Send *send, int code, bool lent);
    void settle_many(const std::vector<struct dgram_outgoing> &items,
                     const std::vector<List *> &lists, const std::vector<Send *> &made, int code);
    Target target_here(const Socket *socket);
    Target target_for(const Socket *socket);
    Target target_name(const Socket *socket, uint16_t port);
    uint32_t size_for(const Socket *socket, bool may_be_empty);
    void send_one(Socket *socket, const Target &target, uint32_t size, bool with_fn);
    int send_call(Socket *socket, const Target &target, const void *data, uint32_t size,
                  Send *send);
    bool all_open() const;
    bool forecast_full(const Socket *socket, uint32_t size) const;
    void learn_bound(Socket *socket);

    /* What it sees. */
    void taken(uint32_t number, const struct dgram_addr &to, const unsigned char *data,
               uint32_t size);
    void handed(uint32_t number, const struct dgram_addr &from, const unsigned char *data,
                uint32_t size, uint32_t real_size, uint32_t segment);
    void sleeping(uint64_t until);
    void audit(uint64_t until);
    void audit_socket(Socket *socket, uint64_t until, uint64_t loop_charge);
    void check_socket(Socket *socket);
    void check_code(const Send &send, int code);
    void check_message(Socket *socket, const struct dgram_message &message);
    void maybe_keep(const struct dgram_message &message);
    void sent(Send *send, int result);
    void closed(Socket *socket);
    void error(Socket *socket, const struct dgram_error &error);

    /* Helpers. */
    void enter(const char *what, Socket *socket);
    void fail(const std::string &text);
    void expect(bool holds, const char *text)
    {
        if (!holds) {
            fail(text);
        }
    }
    void expect_code(int code, std::initializer_list<int> codes, const char *call);
    uint32_t below(uint32_t bound)
    {
        return sim_random_below(&random, bound);
    }
    bool chance(uint32_t permille)
    {
        return sim_random_chance(&random, permille);
    }
    template <class T> T *any_of(const std::vector<T *> &list)
    {
        return list.empty() ? nullptr : list[below(static_cast<uint32_t>(list.size()))];
    }
    template <class F> auto call(F function)
    {
        calling++;
        auto result = function();
        calling--;
        return result;
    }
    bool may_lack_memory() const
    {
        return faults.memory > 0;
    }
    bool is_alive() const;
    bool may_be_alive() const;
    uint64_t loop_charge() const;
    uint64_t turns() const;
};

void Run::fail(const std::string &text)
{
    if (!failed) {
        failed = true;
        failure = text;
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
    return !posted.empty();
}

bool Run::may_be_alive() const
{
    for (const Socket *s : live) {
        if (s->bound == Bound::MAYBE || dgram_get_send_queue_count(s->handle) > 0) {
            return true;
        }
    }
    return is_alive() || !lookups.empty();
}

/* ---- What the simulator saw ---------------------------------------------------------------- */

bool leads_to(const Run &run, const List &list, const std::string &key, const struct dgram_addr &to,
              const std::string &list_key)
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

/* Takes the send at `index` out of its list. Those before it must have failed, or will be reported
 * so: they can no longer be taken. */
void take_from(Run *run, Socket *socket, List *list, size_t index)
{
    Send *send = list->queue[index];
    list->queue.erase(list->queue.begin(), list->queue.begin() + static_cast<long>(index) + 1);
    run->expect(!send->called, "a send was completed before the kernel took it");
    send->taken = true;
    socket->taken_in = sim_calls();
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
        expect(look.receiving || !look.has_data || !look.slot_free,
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
    if (s->drain_owed && s->on_drain && charge <= s->limit / 2 && loop_charge <= loop_limit / 2) {
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
    expect(!stopped, "sleeps, and was stopped");
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

/* Where one sending socket's datagrams overtook each other, to one receiver. */
void check_order(Run *run, Socket *socket, uint64_t id)
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

/* What holds for one message and for an array of them. */
void check_delivery(Socket *socket, bool array)
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
    run->expect(charge_of(handle) <= socket->limit / 2 + socket->fresh.since(run->turns() - 1),
                "`drain`, and the queue is more than half full");
    socket->drain_owed = false;
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

/* ---- What the program does: sockets -------------------------------------------------------- */

/* The library's own word for whether a socket is bound, and where. */
void Run::learn_bound(Socket *socket)
{
    if (socket->bound == Bound::YES || !socket->is_live()) {
        return;
    }
    struct dgram_addr address = {};
    int code = call([&] { return dgram_address(socket->handle, &address); });
    if (code == 0) {
        socket->bound = Bound::YES;
        socket->address = address;
        expect(dgram_addr_port(&address) != 0, "a bound socket without a port");
    } else if (socket->state == State::ENDING || ending || free_requested) {
        expect_code(code, {DGRAM_ENOTBOUND, DGRAM_ENOTRUNNING}, "dgram_address");
    } else {
        expect_code(code, {DGRAM_ENOTBOUND}, "dgram_address");
    }
}

void set_all_handlers(Socket *s)
{
    Run *run = s->run;
    run->expect_code(dgram_on_close(s->handle, on_close, s), {0}, "dgram_on_close");
    if (s->on_error) {
        run->expect_code(dgram_on_error(s->handle, on_error, s), {0}, "dgram_on_error");
    }
    if (s->on_listening) {
        run->expect_code(dgram_on_listening(s->handle, on_listening, s), {0}, "dgram_on_listening");
    }
    if (s->on_drain) {
        run->expect_code(dgram_on_drain(s->handle, on_drain, s), {0}, "dgram_on_drain");
    }
    if (s->on_message) {
        run->expect_code(dgram_on_message(s->handle, on_message, s), {0}, "dgram_on_message");
    }
}

void Run::create_socket()
{
    if (live.size() >= SOCKETS_MAX) {
        return;
    }
    struct dgram_socket_options options = {};
    uint32_t type = chance(650) ? DGRAM_UDP4 : DGRAM_UDP6;
    options.size = sizeof(options);
    options.flags = below(16) & (DGRAM_REUSE_ADDR | DGRAM_REUSE_PORT | DGRAM_NO_GRO);
    options.flags &= chance(700) ? DGRAM_NO_GRO : ~0u;
    options.flags |= chance(250) ? DGRAM_COPY : 0;
    options.flags |= type == DGRAM_UDP6 && chance(500) ? DGRAM_IPV6_ONLY : 0;
    options.segments_max = chance(300) ? 1 + below(128) : 0;
    options.queue_limit = chance(500) ? 0 : chance(300) ? 1 + below(500) : 1000 + below(60000);
    struct dgram_socket *handle = nullptr;
    int code = call([&] { return dgram_create_socket(loop, type, &options, &handle); });
    while (sockets.size() < sim_last_socket()) {
        sockets.push_back(std::make_unique<Socket>());
    }
    if (code < 0) {
        bool may_fail = faults.setup > 0 || may_lack_memory() || ending || free_requested;
        expect(may_fail, "dgram_create_socket failed, for no reason");
        return;
    }
    Socket *s = sockets.back().get();
    s->run = this;
    s->number = sim_last_socket();
    s->type = type;
    s->handle = handle;
    s->limit = options.queue_limit != 0 ? options.queue_limit : 4u << 20;
    s->copies = (options.flags & DGRAM_COPY) != 0;
    s->on_listening = chance(700);
    s->on_drain = chance(800);
    s->on_error = chance(800);
    s->on_error_always = s->on_error && chance(700);
    s->on_message = chance(800);
    live.push_back(s);
    set_all_handlers(s);
}

std::string host_name(uint32_t name)
{
    return "host" + std::to_string(name) + ".test";
}

void Run::bind_socket()
{
    Socket *s = any_of(live);
    if (s == nullptr || (s->bound == Bound::YES && !chance(100))) {
        return;
    }
    uint16_t port = chance(500) ? 0 : static_cast<uint16_t>(5000 + below(8));
    std::string text;
    switch (below(10)) {
    case 0:
        text = host_name(below(NAMES));
        break;
    case 1:
        text = s->type == DGRAM_UDP4 ? "203.0.113.9" : "2001:db8::9";
        break;
    case 2:
        text = "no address!";
        break;
    case 3:
    case 4:
        text = loopback(s->type);
        break;
    default:
        break;
    }
    int code = call([&] { return dgram_bind(s->handle, port, text.c_str()); });
    sim_log("bind call", s->number, static_cast<uint64_t>(code));
    bool named = text.compare(0, 4, "host") == 0;
    s->named_bind = s->named_bind || (code == 0 && named);
    if (!s->is_live() || s->state == State::ENDING || ending || free_requested) {
        learn_bound(s);
        return;
    }
    Bound before = s->bound;
    if (code == 0 && before == Bound::NO) {
        s->bound = Bound::MAYBE;
    }
    learn_bound(s);
    expect(code != 0 || named || s->bound == Bound::YES, "dgram_bind succeeded without a bind");
    expect(code != 0 || before != Bound::YES, "bound twice");
    if (code < 0 && code != DGRAM_EALREADYBOUND && code != DGRAM_EBADADDRESS) {
        expect_code(code, {-EADDRINUSE, -EADDRNOTAVAIL, -EACCES}, "dgram_bind");
    }
}

/* Any socket; inside a callback often the one that it is for. */
Socket *Run::chosen()
{
    bool own = self != nullptr && self->state != State::GONE && chance(400);
    return own ? self : any_of(live);
}

void Run::close_socket()
{
    Socket *s = chosen();
    if (s == nullptr) {
        return;
    }
    int code = call([&] { return dgram_close(s->handle); });
    sim_log("close call", s->number, static_cast<uint64_t>(code));
    if (s->state == State::OPEN && !ending && !free_requested) {
        expect_code(code, {0}, "dgram_close");
    } else if (s->state == State::CLOSING) {
        expect_code(code, {DGRAM_ENOTRUNNING}, "dgram_close");
    }
    s->state = State::CLOSING;
}

void Run::end_socket()
{
    Socket *s = chosen();
    if (s == nullptr) {
        return;
    }
    int code = call([&] { return dgram_end(s->handle); });
    sim_log("end call", s->number, static_cast<uint64_t>(code));
    if (s->state == State::OPEN && !ending && !free_requested) {
        expect_code(code, {0}, "dgram_end");
        s->state = State::ENDING;
    } else if (s->state != State::OPEN) {
        expect_code(code, {DGRAM_ENOTRUNNING}, "dgram_end");
    }
}

/* Whether a call for this socket has to say 0 and did; a closed one has to say that it is. */
bool obeyed(Socket *s, int code, const char *call)
{
    Run *run = s->run;
    if (s->state == State::CLOSING) {
        run->expect_code(code, {DGRAM_ENOTRUNNING}, call);
    } else if (s->state == State::ENDING || run->ending || run->free_requested) {
        run->expect_code(code, {0, DGRAM_ENOTRUNNING}, call);
    } else {
        run->expect_code(code, {0}, call);
    }
    return code == 0;
}

void Run::pause_or_resume()
{
    Socket *s = chosen();
    if (s == nullptr) {
        return;
    }
    bool pause = chance(400);
    int code = call([&] { return pause ? dgram_pause(s->handle) : dgram_resume(s->handle); });
    sim_log(pause ? "pause call" : "resume call", s->number, 0);
    if (obeyed(s, code, "dgram_pause or dgram_resume")) {
        s->paused = pause;
    }
}

void Run::set_handlers()
{
    Socket *s = chosen();
    if (s == nullptr) {
        return;
    }
    bool on = chance(650);
    sim_log(on ? "handler on" : "handler off", s->number, 0);
    switch (below(3)) {
    case 0:
        if (obeyed(s,
                   call([&] { return dgram_on_message(s->handle, on ? on_message : nullptr, s); }),
                   "dgram_on_message")) {
            s->on_message = on;
        }
        break;
    case 1:
        if (obeyed(s, call([&] {
                       return dgram_on_messages(s->handle, on ? on_messages : nullptr, s);
                   }),
                   "dgram_on_messages")) {
            s->on_messages = on;
        }
        break;
    default:
        if (!s->on_error_always) {
            expect_code(call([&] { return dgram_on_error(s->handle, on ? on_error : nullptr, s); }),
                        {0}, "dgram_on_error");
            s->on_error = on;
        }
        break;
    }
}

void Run::ref_or_unref()
{
    Socket *s = any_of(live);
    if (s == nullptr) {
        return;
    }
    bool ref = chance(600);
    int code = call([&] { return ref ? dgram_ref(s->handle) : dgram_unref(s->handle); });
    if (obeyed(s, code, "dgram_ref or dgram_unref")) {
        s->unreffed = !ref;
    }
}

void Run::join_group(Socket *s)
{
    const char *group = s->type == DGRAM_UDP4 ? "224.0.0.251" : "ff02::fb";
    int code = call([&] { return dgram_add_membership(s->handle, group, nullptr); });
    if (code == 0 && s->bound == Bound::NO) {
        s->bound = Bound::MAYBE;
    }
}

void Run::set_options()
{
    Socket *s = any_of(live);
    if (s == nullptr) {
        return;
    }
    int code = 0;
    switch (below(5)) {
    case 0:
        code = call([&] { return dgram_set_ttl(s->handle, 1 + static_cast<int>(below(255))); });
        break;
    case 1:
        code = call([&] { return dgram_set_broadcast(s->handle, chance(500)); });
        break;
    case 2:
        code = call([&] { return dgram_set_recv_buffer_size(s->handle, 1 + below(100000)); });
        break;
    case 3:
        code = call([&] { return dgram_get_send_buffer_size(s->handle); });
        break;
    default:
        join_group(s);
        break;
    }
    expect(code >= 0 || s->state != State::OPEN || faults.setup > 0 || ending || free_requested,
           "an option failed, for no reason");
}

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

/* Empty ones cannot be told from each other: only where the order of all completions is certain. */
uint32_t Run::size_for(const Socket *socket, bool may_be_empty)
{
    uint32_t most = socket->type == DGRAM_UDP4 ? DGRAM_UDP4_SIZE_MAX : DGRAM_UDP6_SIZE_MAX;
    uint32_t way = below(100);
    if (way < 5) {
        return may_be_empty ? 0 : 8;
    }
    if (way < 15) {
        return 1 + below(12);
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

/* Whether the queue has no room, by the library's own count of what is queued. */
/* What closed sockets still have in the queue is not told. */
bool Run::all_open() const
{
    return std::all_of(live.begin(), live.end(),
                       [](const Socket *s) { return s->state == State::OPEN; });
}

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

List *list_for(Socket *s, const Target &target)
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
void enlist(Socket *s, List *list, Send *send)
{
    list->queue.push_back(send);
    s->accepted++;
    (send->has_fn ? s->with_fn : s->plain)++;
}

/* Out of them again: the call was refused. */
void strike(Socket *s, List *list, const Send *send)
{
    auto found = std::find(list->queue.rbegin(), list->queue.rend(), send);
    s->run->expect(!send->taken, "a refused send was sent");
    if (found != list->queue.rend()) {
        list->queue.erase(std::next(found).base());
    }
    s->accepted--;
    (send->has_fn ? s->with_fn : s->plain)--;
}

std::unique_ptr<Send> send_make(Socket *s, const Target &target, uint32_t size, bool with_fn)
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

void Run::send_one(Socket *s, const Target &target, uint32_t size, bool with_fn)
{
    sends.push_back(send_make(s, target, size, with_fn));
    Send *send = sends.back().get();
    bool sure = s->state == State::OPEN && s->bound == Bound::YES && !may_lack_memory() &&
                !ending && !free_requested;
    bool exact = sure && chance(200) && all_open();
    bool full = exact && forecast_full(s, size);
    const void *data = size == 0 && chance(500) ? nullptr : send->borrowed.get();
    List *list = list_for(s, target);
    enlist(s, list, send);
    int code = send_call(s, target, data, size, send);
    uint32_t most = s->type == DGRAM_UDP4 ? DGRAM_UDP4_SIZE_MAX : DGRAM_UDP6_SIZE_MAX;
    sim_log("send call", (static_cast<uint64_t>(s->number) << 32) + size,
            static_cast<uint64_t>(code));
    if (size > most && sure) {
        expect_code(code, {-EMSGSIZE}, "dgram_send of too much");
    } else if (exact) {
        expect_code(code, {full ? -EAGAIN : 0}, "dgram_send");
    } else if (sure) {
        expect_code(code, {0, -EAGAIN}, "dgram_send");
    } else if (s->state != State::OPEN) {
        expect_code(code, {DGRAM_ENOTRUNNING}, "dgram_send");
    }
    settle_call(list, send, code, with_fn && !s->copies);
    learn_bound(s);
}

/* What a send's code means for the books, and whose its bytes are now. */
void Run::settle_call(List *list, Send *send, int code, bool lent)
{
    if (code == 0) {
        send->socket->fresh.add(turns(), send->size + OVERHEAD);
    }
    if (code == -EAGAIN) {
        send->socket->refusals++;
        send->socket->drain_owed = true;
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
std::vector<struct iovec> cut(Run *run, unsigned char *bytes, uint32_t size)
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
        bool may_be_empty = target.name < 0 && s->bound == Bound::YES && !may_lack_memory();
        uint32_t size = fixed > 0 ? fixed : size_for(s, may_be_empty);
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
    uint32_t count = 40 + below(300), size = 1 + below(chance(500) ? 100 : 1472);
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

/* ---- What the program does: the rest ------------------------------------------------------- */

void Run::release_one()
{
    if (kept.empty()) {
        return;
    }
    size_t index = below(static_cast<uint32_t>(kept.size()));
    Kept one = kept[index];
    kept.erase(kept.begin() + static_cast<long>(index));
    expect(digest(one.message.data, one.message.size) == one.digest, "a kept message changed");
    expect(dgram_addr_equal(one.message.from, &one.from), "a kept message's sender changed");
    call([&] { return dgram_message_release(&one.message), 0; });
    sim_log("release call", one.message.size, 0);
}

void Run::timer_start(Timer *timer)
{
    uint64_t delay = chance(200) ? 0 : below(chance(500) ? 20000 : 3000000);
    timer->interval = chance(300) ? 20000 + below(2000000) : 0;
    timer->deadline = sim_now() + delay;
    timer->started = true;
    int code = call([&] {
        return dgram_timer_start(timer->handle, static_cast<int64_t>(delay),
                                 static_cast<int64_t>(timer->interval));
    });
    expect_code(code, {0}, "dgram_timer_start");
}

void Run::timer_act()
{
    Timer *timer = any_of(live_timers);
    uint32_t way = timer == nullptr ? 12 : below(13);
    if (way >= 8 && live_timers.size() < TIMERS_MAX) {
        auto made = std::make_unique<Timer>();
        made->run = this;
        int code =
            call([&] { return dgram_timer_create(loop, on_timer, made.get(), &made->handle); });
        if (code == 0) {
            live_timers.push_back(made.get());
            timers.push_back(std::move(made));
            timer_start(live_timers.back());
        }
        expect(code == 0 || may_lack_memory() || ending || free_requested, "no timer");
    } else if (timer == nullptr || way >= 6) {
        return;
    } else if (way >= 3) {
        timer_start(timer);
    } else if (way == 2) {
        timer->started = false;
        expect_code(call([&] { return dgram_timer_stop(timer->handle); }), {0}, "dgram_timer_stop");
    } else if (way == 1) {
        timer->unreffed = chance(500);
        call([&] {
            return timer->unreffed ? dgram_timer_unref(timer->handle)
                                   : dgram_timer_ref(timer->handle);
        });
    } else {
        live_timers.erase(std::find(live_timers.begin(), live_timers.end(), timer));
        timer->started = false;
        call([&] { return dgram_timer_free(timer->handle); });
    }
}

void Run::post_one(bool frees)
{
    auto post = std::make_unique<Post>();
    post->run = this;
    post->number = posts.size();
    post->frees = frees;
    int code = call([&] { return dgram_loop_post(loop, on_post, post.get()); });
    sim_log("post call", post->number, static_cast<uint64_t>(code));
    if (code != DGRAM_ENOTRUNNING || !(ending || free_requested)) {
        expect_code(code, {0}, "dgram_loop_post");
    }
    if (code == 0) {
        posted.push_back(post->number);
        posts.push_back(std::move(post));
    }
}

void Run::stop_loop()
{
    call([&] { return dgram_loop_stop(loop), 0; });
    stopped = true;
}

void Run::answer_one()
{
    if (lookups.empty()) {
        return;
    }
    size_t index = below(static_cast<uint32_t>(lookups.size()));
    Lookup lookup = lookups[index];
    lookups.erase(lookups.begin() + static_cast<long>(index));
    static const int codes[] = {DGRAM_ENOTFOUND, DGRAM_EDNSTIMEOUT, DGRAM_EDNSFAILED};
    bool in4 = lookup.family == 4;
    bool here = chance(700);
    std::string text = here ? (in4 ? "127.0.0.1" : "::1")
                            : (in4 ? "10.9.0." : "fd00::") + std::to_string(below(6));
    struct dgram_addr address = parse(text, 1);
    int code = chance(250) && !quiet ? codes[below(3)] : 0;
    if (code == 0) {
        answers[lookup.name].push_back(address);
    } else {
        failures[lookup.name].push_back(code);
    }
    uint32_t ttl = below(3);
    sim_log("answer call", lookup.name, static_cast<uint64_t>(code));
    expect_code(call([&] { return dgram_lookup_answer(lookup.handle, code, &address, ttl); }), {0},
                "dgram_lookup_answer");
}

void Run::handle_act()
{
    if (free_requested || ending) {
        return;
    }
    if (handles.size() >= HANDLES_MAX || (!handles.empty() && chance(300))) {
        size_t index = below(static_cast<uint32_t>(handles.size()));
        call([&] { return dgram_destination_free(handles[index].handle); });
        handles.erase(handles.begin() + static_cast<long>(index));
        return;
    }
    Handle handle = {};
    handle.type = chance(650) ? DGRAM_UDP4 : DGRAM_UDP6;
    handle.name = chance(600) ? static_cast<int>(below(NAMES)) : -1;
    handle.port = static_cast<uint16_t>(5000 + below(8));
    std::string text = handle.name >= 0 ? host_name(static_cast<uint32_t>(handle.name))
                                        : std::string(loopback(handle.type));
    handle.address = parse(text, handle.port);
    int code = call([&] {
        return dgram_destination_create(loop, handle.type, handle.port, text.c_str(),
                                        &handle.handle);
    });
    expect_code(code, {0}, "dgram_destination_create");
    if (code == 0) {
        handles.push_back(handle);
    }
}

/* What the library says of itself, now and then. */
void Run::inspect()
{
    struct dgram_loop_info info = {};
    info.size = sizeof(info);
    expect_code(call([&] { return dgram_loop_info(loop, &info); }), {0}, "dgram_loop_info");
    expect(info.slots_free <= slots, "more free slots than slots");
    expect(std::string(info.name) == "sim", "another engine");
    if (Socket *s = any_of(live)) {
        check_socket(s);
    }
}

/* Queue and statistics against the books. */
void Run::check_socket(Socket *s)
{
    size_t count = dgram_get_send_queue_count(s->handle);
    size_t size = dgram_get_send_queue_size(s->handle);
    uint64_t untold_fn = s->with_fn - s->called;
    expect(count <= untold_fn + s->plain_left(), "more is queued than was accepted");
    expect(count > 0 || size == 0, "bytes of no datagram are queued");
    bool closing = s->state != State::OPEN || ending || free_requested;
    expect(closing || count >= untold_fn, "less is queued than is to complete");
    struct dgram_socket_stats stats = {};
    stats.size = sizeof(stats);
    int code = call([&] { return dgram_socket_stats(s->handle, &stats); });
    if (code < 0) {
        expect(closing, "no statistics");
        return;
    }
    expect(stats.sent == s->taken && stats.sent_bytes == s->taken_bytes, "statistics of sends");
    expect(stats.received == s->delivered && stats.received_bytes == s->delivered_bytes,
           "statistics of messages");
    expect(stats.sent + stats.send_errors + count >= s->accepted, "an accepted send was forgotten");
    expect(stats.sent + stats.send_errors <= s->accepted, "a send was counted twice");
    expect(count + stats.send_errors >= untold_fn + s->plain_left(), "the queue lost a send");
}

/* Calls that must be refused and change nothing. */
void Run::misuse()
{
    struct dgram_socket *none = nullptr;
    expect_code(call([&] { return dgram_close(nullptr); }), {DGRAM_ENULL}, "dgram_close");
    expect_code(call([&] { return dgram_create_socket(loop, 5, nullptr, &none); }),
                {DGRAM_EBADTYPE, DGRAM_ENOTRUNNING}, "dgram_create_socket");
    if (depth > 0) {
        expect_code(call([&] { return dgram_loop_turn(loop, 0); }), {DGRAM_EREENTERED},
                    "dgram_loop_turn");
        expect_code(call([&] { return dgram_loop_run(loop); }), {DGRAM_EREENTERED},
                    "dgram_loop_run");
    }
    Socket *s = any_of(live);
    if (s != nullptr && s->state == State::OPEN && !ending && !free_requested) {
        expect_code(call([&] { return dgram_send(s->handle, "x", 1, 0, "", nullptr, nullptr); }),
                    {DGRAM_EBADPORT}, "dgram_send");
        const char *wrong = loopback(s->type == DGRAM_UDP4 ? DGRAM_UDP6 : DGRAM_UDP4);
        expect_code(call([&] { return dgram_send(s->handle, "x", 1, 9, wrong, nullptr, nullptr); }),
                    {DGRAM_EBADFAMILY}, "dgram_send");
    }
}

/* The loop is to be freed: what has to go before it goes now. */
void free_handles(Run *run)
{
    for (const Handle &handle : run->handles) {
        run->call([&] { return dgram_destination_free(handle.handle); });
    }
    run->handles.clear();
}

/* From inside a callback. */
void Run::request_free()
{
    free_handles(this);
    expect(call([&] { return dgram_loop_free(loop); }) == nullptr, "dgram_loop_free returned");
    free_requested = true;
    sim_log("free call", 0, 0);
}

void Run::act()
{
    struct Deed {
        uint32_t weight;
        void (Run::*deed)();
    };
    static const Deed deeds[] = {
        {250, &Run::burst},
        {20, &Run::flood},
        {50, &Run::create_socket},
        {60, &Run::bind_socket},
        {20, &Run::close_socket},
        {12, &Run::end_socket},
        {50, &Run::pause_or_resume},
        {50, &Run::set_handlers},
        {20, &Run::ref_or_unref},
        {40, &Run::release_one},
        {60, &Run::timer_act},
        {20, &Run::stop_loop},
        {40, &Run::flush_loop},
        {20, &Run::set_options},
        {60, &Run::inspect},
        {40, &Run::answer_one},
        {25, &Run::handle_act},
        {10, &Run::misuse},
        {50, &Run::many},
        {40, &Run::again},
    };
    static const uint32_t total = [] {
        uint32_t sum = 0;
        for (const Deed &deed : deeds) {
            sum += deed.weight;
        }
        return sum;
    }();
    budget--;
    uint32_t way = below(total + 26);
    for (const Deed &deed : deeds) {
        if (way < deed.weight) {
            (this->*deed.deed)();
            return;
        }
        way -= deed.weight;
    }
    if (way < 25) {
        for (uint32_t posts = chance(30) ? 100 : 1; posts > 0; posts--) {
            post_one(false);
        }
    } else if (depth > 0 && chance(250) && !free_requested && !ending) {
        request_free();
    }
}

void Run::act_often(uint32_t permille)
{
    while (!quiet && !failed && budget > 0 && chance(permille)) {
        act();
    }
}

/* ---- Turning ------------------------------------------------------------------------------- */

bool Run::open_loop()
{
    static const uint32_t slot_counts[] = {4, 4, 5, 8, 16, 0};
    static const uint32_t slot_sizes[] = {0, 0, 0, 512, 1500, 9000};
    static const uint32_t segments[] = {0, 0, 1, 2, 64};
    struct dgram_loop_options options = {};
    options.size = sizeof(options);
    options.slots = slot_counts[below(6)];
    options.slot_size = slot_sizes[below(6)];
    options.segments_max = segments[below(5)];
    options.queue_limit = chance(500) ? 0 : 2000 + below(300000);
    options.busy_poll_us = chance(250) ? 1 + below(60) : 0;
    options.lookup = on_lookup;
    options.lookup_user = this;
    slots = options.slots != 0 ? options.slots : 64;
    slot_size = options.slot_size != 0 ? options.slot_size : 65536;
    loop_limit = options.queue_limit != 0 ? options.queue_limit : 16u << 20;
    loop = nullptr;
    int code = call([&] { return sim_loop_create(&options, &loop); });
    expect(code == 0 || faults.setup > 0 || may_lack_memory(), "no loop, for no reason");
    expect((code == 0) == (loop != nullptr), "a loop and an error");
    fd = -1;
    embedded = chance(250);
    free_requested = ending = quiet = stopped = false;
    loop_time = 0;
    return code == 0;
}

/* After every turn and run: what it returned, and whether the loop is still there. */
void Run::after_turn(int code)
{
    if (free_requested) {
        loop_gone();
        return;
    }
    uint64_t now = dgram_loop_now(loop);
    expect(now >= loop_time && now <= sim_now(), "the loop's clock is wrong");
    loop_time = now;
    for (Socket *socket : std::vector<Socket *>(live)) {
        learn_bound(socket);
        if (chance(200)) {
            check_socket(socket);
        }
    }
    if (code < 0) {
        expect(code == sim_broken(), "a turn failed, for no reason");
    }
}

int Run::turn_once(int64_t timeout)
{
    stopped = false; /* the turn uses up what was asked before it */
    turning++;
    int code = dgram_loop_turn(loop, timeout);
    turning--;
    sim_log("turn", static_cast<uint64_t>(code), static_cast<uint64_t>(timeout));
    if (code == 0 && !free_requested) {
        expect(!is_alive(), "dgram_loop_turn says that nothing is alive");
    }
    return code;
}

void Run::run_loop()
{
    turning++;
    int code = dgram_loop_run(loop);
    turning--;
    sim_log("run", static_cast<uint64_t>(code), 0);
    if (free_requested) {
        expect_code(code, {1}, "dgram_loop_run of a loop that was freed");
    } else if (code == 0) {
        expect(!is_alive() && !stopped, "dgram_loop_run returned, and the loop is alive");
    } else if (code == 1) {
        expect(stopped, "dgram_loop_run was stopped by nobody");
    }
    stopped = false;
    after_turn(code);
}

/* As another event loop would: sleeps on the descriptor, turns when it is readable. */
void Run::turn_embedded()
{
    if (fd < 0) {
        fd = call([&] { return dgram_loop_fd(loop); });
        bool may_fail = faults.setup > 0 || faults.no_pollable > 0 || may_lack_memory();
        expect(fd >= 0 || may_fail, "no descriptor, for no reason");
    }
    for (uint32_t rounds = 1 + below(20); rounds > 0 && fd >= 0 && loop != nullptr; rounds--) {
        if (!sim_readable(fd)) {
            audit(sim_next_event());
            if (failed || !sim_sleep(sim_now() + 5 * MILLISECOND)) {
                return;
            }
            continue;
        }
        int code = turn_once(0);
        after_turn(code);
        if (code < 0 || failed) {
            return;
        }
    }
}

void Run::turn()
{
    static const int64_t timeouts[] = {0, 0, 1000, 50000, 3 * MILLISECOND, -1};
    if (embedded && chance(800)) {
        turn_embedded();
        if (fd >= 0) {
            return;
        }
    }
    if (chance(250)) {
        run_loop();
        return;
    }
    int64_t timeout = timeouts[below(6)];
    after_turn(turn_once(timeout));
}

/* ---- The end of a loop --------------------------------------------------------------------- */

void Run::free_loop()
{
    free_handles(this);
    for (Socket *socket : live) {
        if (socket->is_live()) {
            socket->state = State::CLOSING;
        }
    }
    sim_log("free", 0, 0);
    ending = true;
    turning++;
    expect(dgram_loop_free(loop) == nullptr, "dgram_loop_free returned something");
    turning--;
    loop_gone();
}

/* Nothing may be left of a freed loop but kept messages and unanswered lookups. */
void Run::loop_gone()
{
    loop = nullptr;
    if (failed) {
        live.clear();
    }
    expect(live.empty(), "a socket without `close`");
    live.clear();
    expect(untold == 0, "a send without its callback");
    expect(posted.empty(), "a post was never called");
    posted.clear();
    live_timers.clear();
    untold = 0;
    for (const auto &send : sends) {
        expect(!send->has_fn || send->called, "an accepted send was never completed");
    }
    sends.clear();
    ending = false;
    free_requested = false;
}

/* What has still to happen, "" if nothing. */
std::string Run::owed()
{
    if (!sim_quiet() || !lookups.empty()) {
        return "the host is not quiet";
    }
    if (!posted.empty()) {
        return "a post";
    }
    for (Socket *s : live) {
        std::string name = "socket " + std::to_string(s->number) + ": ";
        if (s->state != State::OPEN) {
            return name + "`close`";
        }
        if (dgram_get_send_queue_count(s->handle) > 0 || s->called < s->with_fn) {
            return name + "sends";
        }
        if (s->wants_messages() && !s->expected.empty() && !s->receive_failed) {
            return name + "messages";
        }
        if (s->drain_owed && s->on_drain) {
            return name + "`drain`";
        }
        if (s->bound == Bound::YES && s->on_listening && !s->listened) {
            return name + "`listening`";
        }
    }
    return "";
}

/* Nothing goes wrong any more: everything that is owed must come, and nothing may be left. */
void Run::finish_quietly()
{
    sim_calm();
    quiet = true;
    while (!kept.empty()) {
        release_one();
    }
    for (Timer *timer : live_timers) {
        timer->started = false;
        call([&] { return dgram_timer_stop(timer->handle); });
    }
    for (Socket *s : live) {
        if (s->is_live() && call([&] { return dgram_resume(s->handle); }) == 0) {
            s->paused = false;
            s->on_message = s->on_message ||
                            call([&] { return dgram_on_message(s->handle, on_message, s); }) == 0;
        }
    }
    for (int rounds = 0; rounds < 2000 && !failed && (rounds < 3 || !owed().empty()); rounds++) {
        while (!lookups.empty()) {
            answer_one();
        }
        after_turn(turn_once(MILLISECOND));
    }
}

void Run::finish()
{
    uint32_t way = below(10);
    if (failed || sim_broken() < 0 || way < 4) {
        free_loop();
        return;
    }
    if (way < 6) {
        post_one(true);
        while (loop != nullptr && !failed && !posted.empty() && sim_broken() == 0) {
            run_loop();
        }
        if (loop != nullptr) {
            free_loop();
        }
        return;
    }
    finish_quietly();
    if (loop == nullptr) {
        return;
    }
    std::string what = owed();
    if (!what.empty()) {
        fail("nothing goes wrong any more, and something is owed: " + what);
    }
    struct dgram_loop_info info = {};
    info.size = sizeof(info);
    dgram_loop_info(loop, &info);
    if (info.slots_free != slots || sim_slots_lent() != 0) {
        fail("of " + std::to_string(slots) + " slots only " + std::to_string(info.slots_free) +
             " are free, and the engine misses " + std::to_string(sim_slots_lent()));
    }
    for (Socket *s : std::vector<Socket *>(live)) {
        check_socket(s);
        expect(dgram_get_send_queue_size(s->handle) == 0, "a queue is not empty");
        int code =
            call([&] { return chance(500) ? dgram_close(s->handle) : dgram_end(s->handle); });
        expect_code(code, {0}, "dgram_close");
        s->state = State::CLOSING;
    }
    turning++;
    int code = dgram_loop_run(loop);
    turning--;
    expect(code == (stopped ? 1 : 0), "dgram_loop_run does not end");
    if (code == 0) {
        expect(live.empty(), "dgram_loop_run ended before all sockets were closed");
    }
    free_loop();
}

/* The program does something else for a while: buffers fill, names expire. */
void Run::be_busy()
{
    uint64_t until = sim_now() + below(1500000000);
    sim_log("busy", until, 0);
    while (sim_now() < until) {
        sim_sleep(until);
    }
}

void Run::live_once()
{
    if (!open_loop()) {
        budget -= std::min<uint64_t>(budget, 50);
        return;
    }
    uint64_t most = budget;
    uint64_t least = chance(300) ? most / 2 : 0; /* another loop after this one */
    while (budget > least && loop != nullptr && !failed && sim_broken() == 0) {
        self = nullptr;
        for (uint32_t deeds = 1 + below(12); deeds > 0 && budget > 0 && !failed; deeds--) {
            act();
        }
        if (!failed && chance(30)) {
            be_busy();
        }
        if (!failed) {
            turn();
        }
    }
    if (loop != nullptr) {
        finish();
    }
}

void Run::go()
{
    do {
        live_once();
    } while (budget > 0 && !failed && sim_broken() == 0);
    quiet = true;
    while (!kept.empty()) { /* after the loop is gone */
        release_one();
    }
    while (!lookups.empty()) {
        answer_one();
    }
}

Run::Run(uint64_t the_seed) : seed(the_seed), random{the_seed}
{
    sim_faults_random(&random, &faults);
    if (chance(80)) {
        faults = {};
    }
    budget = 200 + below(1200);
}

/* ---- Seeds --------------------------------------------------------------------------------- */

void hook_taken(void *user, uint32_t socket, const struct dgram_addr *to, const unsigned char *data,
                uint32_t size)
{
    static_cast<Run *>(user)->taken(socket, *to, data, size);
}

void hook_handed(void *user, uint32_t socket, const struct dgram_addr *from,
                 const unsigned char *data, uint32_t size, uint32_t real_size, uint32_t segment)
{
    static_cast<Run *>(user)->handed(socket, *from, data, size, real_size, segment);
}

void hook_sleeping(void *user, uint64_t until)
{
    static_cast<Run *>(user)->sleeping(until);
}

void hook_broken(void *user, const char *rule)
{
    static_cast<Run *>(user)->fail(std::string("a rule of the boundary: ") + rule);
}

/* For whoever dies in a run: an assertion of the library, a sanitizer. */
char last_words[128];

void say_last_words()
{
    ssize_t ignored = write(STDERR_FILENO, last_words, strlen(last_words));
    (void) ignored;
}

void on_abort(int)
{
    say_last_words();
}

struct Outcome {
    uint64_t hash;
    bool failed;
};

Outcome run_seed(uint64_t seed)
{
    snprintf(last_words, sizeof(last_words),
             "died in seed %llu; replay: DGRAM_SIM_SEED=%llu ./sim --gtest_filter=Sim.Hunt\n",
             static_cast<unsigned long long>(seed), static_cast<unsigned long long>(seed));
    signal(SIGABRT, on_abort);
    Run run(seed);
    const struct sim_hooks hooks = {&run, hook_taken, hook_handed, hook_sleeping, hook_broken};
    sim_open(seed, &run.faults, &hooks);
    run.go();
    sim_close();
    signal(SIGABRT, SIG_DFL);
    return {sim_hash(), run.failed};
}

/* `count` seeds from `first` on; some of them twice, since the same seed must give the same run. */
void run_seeds(uint64_t first, uint64_t count, uint64_t twice_every)
{
    unsigned failures = 0;
    for (uint64_t seed = first; seed < first + count && failures < 5; seed++) {
        Outcome outcome = run_seed(seed);
        failures += outcome.failed;
        if (!outcome.failed && seed % twice_every == 0) {
            EXPECT_EQ(run_seed(seed).hash, outcome.hash) << "seed " << seed << " is not replayed";
        }
    }
}

uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text != nullptr ? strtoull(text, nullptr, 10) : otherwise;
}

constexpr uint64_t SHARD = 125;

class Seeds : public ::testing::TestWithParam<int>
{
};

TEST_P(Seeds, AllHold)
{
    uint64_t first = 1 + SHARD * static_cast<uint64_t>(GetParam());
    run_seeds(first, SHARD, 16);
}

INSTANTIATE_TEST_SUITE_P(Sim, Seeds, ::testing::Range(0, 8));

TEST(Sim, Hunt)
{
    uint64_t first = number_from("DGRAM_SIM_SEED", 0), count = number_from("DGRAM_SIM_SEEDS", 1);
    if (first == 0) {
        GTEST_SKIP() << "DGRAM_SIM_SEED and DGRAM_SIM_SEEDS name the seeds to run";
    }
    struct timespec begin = {}, end = {};
    clock_gettime(CLOCK_MONOTONIC, &begin);
    run_seeds(first, count, 16);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (count == 1) {
        printf("seed %llu: the log's hash is %016llx\n", static_cast<unsigned long long>(first),
               static_cast<unsigned long long>(sim_hash()));
    }
    double seconds = static_cast<double>(end.tv_sec - begin.tv_sec) +
                     static_cast<double>(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("seeds %llu to %llu: %.0f a second\n", static_cast<unsigned long long>(first),
           static_cast<unsigned long long>(first + count - 1),
           static_cast<double>(count) / seconds);
}

} /* namespace */
