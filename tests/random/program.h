/* SPDX-License-Identifier: MIT */
/*
 * program.h: the random program of test.cc: its books, and what its files offer each other.
 *
 *     deeds.cc    what the program does: every call of the library but those that turn a loop,
 *     sends.cc    and all that sends
 *     checks.cc   what it sees: callbacks and the simulator's hooks, held against the books
 *     test.cc     loops, seeds and the tests
 *
 * It knows the public header and the simulator, and nothing of the library's inside.
 */
#ifndef DGRAM_TESTS_RANDOM_PROGRAM_H
#define DGRAM_TESTS_RANDOM_PROGRAM_H

#include <dgram.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/sim.h"

namespace sim_program
{

constexpr uint64_t FOREVER = UINT64_MAX;
constexpr int64_t MILLISECOND = 1000000;
constexpr uint64_t OVERHEAD = 64;          /* that a datagram is charged, dgram.h */
constexpr uint64_t NOBUFS_RETRY = 1000000; /* after which a send is tried again */
constexpr size_t SOCKETS_MAX = 8, TIMERS_MAX = 20, KEPT_MAX = 12, HANDLES_MAX = 5, NAMES = 5;
constexpr size_t BUFFERS_MAX = 3;
constexpr uint64_t EVENTS_MAX = 2000; /* after which a loop that runs is stopped */
constexpr size_t ERRORS_MAX = 1024;   /* that wait in a loop, dgram.h */

/* ---- Payloads ------------------------------------------------------------------------------ */

/*
 * A send's number says who sent it and how: one byte order of the host. Payloads are cut out of one
 * table at a place that the number decides, and begin with the number where it fits.
 */
constexpr uint64_t ID_NAMED = 1ull << 63; /* to a host name: joins the order when that is known */
constexpr unsigned ID_SOCKET_SHIFT = 40;

void payload_write(uint64_t id, unsigned char *bytes, size_t size);
bool payload_is(uint64_t id, const unsigned char *bytes, size_t size);
uint64_t digest(const void *data, size_t size);

/* ---- Addresses ----------------------------------------------------------------------------- */

/* Family, host and port as text that orders and compares; never what the host makes of padding. */
std::string key_of(const struct dgram_addr &address);
struct dgram_addr parse(const std::string &text, uint16_t port);
const char *loopback(uint32_t type);
/* The names that the program asks its resolver for. */
std::string host_name(uint32_t name);

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
    uint64_t handed = 0; /* by the kernel */
    uint64_t send_events = 0;
    uint64_t refusals = 0, drains = 0;
    bool drain_owed = false;
    /* The largest since the last `drain`, and between the two before it: what is refused after a
     * `drain` was due and before it came belongs to the next. */
    uint32_t refused_size = 0, refused_before = 0;
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
    struct dgram_timer *handle;
    bool started = false, unreffed = false;
    uint64_t deadline = 0, interval = 0;
};

/* A buffer of the library, filled from its start on. */
struct Buffer {
    Run *run;
    struct dgram_buffer *handle; /* NULL: freed */
    uint32_t size = 0, used = 0;
    bool idle_owed = false; /* something was sent from it since `idle` */
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
    std::deque<std::unique_ptr<Buffer>> buffers;
    std::vector<Buffer *> live_buffers;
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
    uint64_t last_taken = 0; /* in this wait or flush, of all sockets */
    uint64_t events = 0;     /* callbacks so far */
    Socket *self = nullptr;  /* whose callback runs */
    Socket *last_socket = nullptr;
    Target last_target;
    uint32_t last_size = 0;
    unsigned calling = 0; /* inside a call that runs no callbacks */
    unsigned turning = 0; /* inside one that does */
    unsigned depth = 0;   /* inside callbacks */
    bool free_requested = false, ending = false, quiet = false, stopped = false;
    bool failed = false;
    uint32_t slowness = 0;    /* of handlers, at most, in nanoseconds */
    bool stalled_yet = false; /* sends waited without room: what is low is not what is counted */
    uint64_t loop_time = 0;

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
    void expect_the_end();
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
    void free_handles();
    void buffer_act();
    void buffer_create();
    void buffer_send(Buffer *buffer);
    bool buffer_room(Buffer *buffer, uint32_t size);
    void send_from(Socket *socket, const Target &target, Buffer *buffer, uint32_t size);
    void check_send(Socket *socket, uint32_t size, int code);
    void misuse();
    void join_group(Socket *socket);
    void many();
    void settle_call(List *list, Send *send, int code, bool lent);
    void settle_many(const std::vector<struct dgram_outgoing> &items,
                     const std::vector<List *> &lists, const std::vector<Send *> &made, int code);
    Target target_here(const Socket *socket);
    Target target_for(const Socket *socket);
    Target target_name(const Socket *socket, uint16_t port);
    uint32_t size_for(const Socket *socket, bool may_be_tiny);
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
    void be_slow();
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

uint64_t charge_of(const struct dgram_socket *handle);

/* ---- Callbacks ----------------------------------------------------------------------------- */

void on_sent(struct dgram_socket *handle, int result, void *user);
void on_message(struct dgram_socket *handle, const struct dgram_message *message, void *user);
void on_messages(struct dgram_socket *handle, const struct dgram_message *messages, size_t count,
                 void *user);
void on_listening(struct dgram_socket *handle, void *user);
void on_drain(struct dgram_socket *handle, void *user);
void on_error(struct dgram_socket *handle, const struct dgram_error *error, void *user);
void on_close(struct dgram_socket *handle, void *user);
void on_timer(struct dgram_timer *handle, void *user);
void on_post(struct dgram_loop *loop, void *user);
void on_idle(struct dgram_buffer *handle, void *user);
void on_lookup(struct dgram_loop *loop, struct dgram_lookup *lookup, const char *host, int family,
               void *user);

} /* namespace sim_program */

#endif
