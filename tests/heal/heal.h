/* SPDX-License-Identifier: MIT */
/*
 * heal.h: faults that come and go, and the life of a loop that they hit.
 *
 *     faults.cc   where faults come from: memory, the C library's calls, liburing's
 *     life.cc     a life with everything that a loop can do, and the proof that it is well
 *     test.cc     the tests: each place of a life fails, once or for a stretch
 *     names.cc    the same of lookups
 *     results.cc  what becomes of datagrams when one operation of a ring fails
 *
 * A fault ends. Then the same loop must do all that a loop can do, unless its engine broke, which
 * the turn has said; and a new loop must in any case.
 */
#ifndef DGRAM_TESTS_HEAL_HEAL_H
#define DGRAM_TESTS_HEAL_HEAL_H

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/harness.h"

namespace heal
{

using namespace harness;

/* ---- Faults (faults.cc) -------------------------------------------------------------------- */

enum class Source {
    NONE,
    MEMORY,  /* dg_allocate() */
    RESULTS, /* single operations of a ring, each as it is submitted: it ends with an error */
    ENDS,    /* receives of a ring, after each that brought something: it ends with an error */
    CALLS,   /* what the library calls of the C library and of liburing that can fail for a while */
};

struct Plan {
    Source source = Source::NONE;
    uint64_t first = 0; /* the first call that fails, counted from 1; 0: none, only count */
    uint64_t length = 1;
    unsigned errnum = 0; /* which of the errnos that are likely for the call; modulo their number */
    const char *only = nullptr; /* calls of this name alone count */
};

/* From now on; the count begins at 0. Only calls of this thread count. */
void faults_begin(const Plan &plan);
/* Between two parts of a life; the count goes on. */
void faults_pause(bool on);
/* The fault is over. */
void faults_end();

struct Injected {
    uint64_t calls = 0;  /* counted */
    uint64_t failed = 0; /* of these */
    std::string where;   /* the first that failed: name and errno */
    size_t choices = 1;  /* how many errnos are likely for that call */
};
const Injected &faults_injected();

/* The next so many sends get EAGAIN: back-pressure, which is no fault. */
void sends_get_no_room(unsigned count);

/* Called with the name that the next getsockname(2) gives, before the library has it. */
void tell_the_next_name(std::function<void(const struct sockaddr *)> told);

/* Blocks of the library's memory that are in use. */
int64_t live_memory();

/* ---- A life (life.cc) ---------------------------------------------------------------------- */

class Life
{
  public:
    /* `spins`: turns look for datagrams for a while before they sleep. */
    explicit Life(uint32_t engine, bool spins = false) : engine_(engine), spins_(spins)
    {
    }

    /* All that a loop can do; careless of what fails. False if there is no loop. */
    bool live();
    /* The fault is over: what is left completes, and all sockets work as new ones do. */
    void expect_well();
    /* Closes and frees; careless, too. */
    void end();
    /* After the end: everything completed, everything closed, once. */
    void expect_accounts() const;

    int create_code() const
    {
        return create_code_;
    }

    bool has_broken() const
    {
        return has_broken_;
    }

  private:
    struct Peer {
        Life *life = nullptr;
        struct dgram_socket *socket = nullptr; /* NULL: not there, or closed */
        uint32_t type = DGRAM_UDP4;
        unsigned received = 0;
        char last[32] = ""; /* no memory is asked for in handlers: that may be short */
    };
    enum { PEERS = 6 };

    static void on_message(struct dgram_socket *socket, const struct dgram_message *message,
                           void *user);
    static void on_close(struct dgram_socket *socket, void *user);
    static void on_sent(struct dgram_socket *socket, int result, void *user);
    static void on_timer(struct dgram_timer *timer, void *user);
    static void on_post(struct dgram_loop *loop, void *user);
    static void on_idle(struct dgram_buffer *buffer, void *user);
    static void on_lookup(struct dgram_loop *loop, struct dgram_lookup *lookup, const char *host,
                          int family, void *user);

    bool open_peer(struct dgram_loop *loop, Peer *peer, uint32_t type);
    void set_up();
    void send_all_ways(const Peer &from, const Peer &to);
    void press();
    void pause_and_resume();
    void groups();
    void run();
    void close_some();
    void turn(int64_t timeout);
    void turned(int code);
    void counted(int code);
    void drain();
    void send_and_see(const Peer &from, Peer *to, const std::string &text);
    void expect_echo_of(Peer *peer, unsigned number);
    void expect_clockwork();
    void expect_embedded();
    void expect_every_way();
    bool stays_broken();

    uint32_t engine_;
    bool spins_;
    int create_code_ = 0;
    bool has_broken_ = false; /* a turn or flush said so */
    struct dgram_loop *loop_ = nullptr;
    Peer peers_[PEERS];
    struct dgram_timer *timer_ = nullptr;
    struct dgram_buffer *buffer_ = nullptr;
    struct dgram_destination *destination_ = nullptr, *named_ = nullptr;
    struct dgram_message kept_ = {};
    bool keep_ = false;
    size_t accepted_ = 0, completed_ = 0, created_ = 0, closed_ = 0;
    unsigned ticks_ = 0, posts_ = 0, posted_ = 0, idles_ = 0;
    unsigned run_until_ = 0; /* ticks at which a run is given up; 0: none */
};

/* A new loop, with everything that a life has, in which nothing fails. */
void expect_new_loop_works(uint32_t engine);

} /* namespace heal */

#endif
