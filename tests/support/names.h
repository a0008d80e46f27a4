/* SPDX-License-Identifier: MIT */
/*
 * names.h: what the suites about host names share: a fixture with a name server, and helpers.
 */
#ifndef DGRAM_TESTS_SUPPORT_NAMES_H
#define DGRAM_TESTS_SUPPORT_NAMES_H

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/dns_server.h"
#include "tests/support/harness.h"

namespace names
{

using namespace harness;

/* No answer that a test waits for comes later than this; those that never come have their own. */
extern const char *const patient_options;

/* The least TTL is a second. */
constexpr int64_t TTL_OVER = 1100 * MILLISECOND;

/* ---- The fixture --------------------------------------------------------------------------- */

/* An `error` event. */
struct Failure {
    int code;
    std::string operation, host;
    bool has_address;
};

/* A hook of a test; silent once the test is over, when it only gives the question back. */
struct Hook {
    std::function<void(struct dgram_lookup *, const std::string &, int)> fn;

    static void call(struct dgram_loop *, struct dgram_lookup *lookup, const char *host, int family,
                     void *user)
    {
        if (muted()) {
            dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 0);
        } else {
            static_cast<Hook *>(user)->fn(lookup, host, family);
        }
    }
};

/*
 * A name server, a resolv.conf that only the loop reads, a socket that receives what the names lead
 * to (`target`, on 127.0.0.1) and one that sends.
 */
class NamesTest : public EngineTest
{
  protected:
    void SetUp() override;
    void TearDown() override;

    /* Options of a loop that asks the server; they point into the fixture. */
    struct dgram_loop_options names_options() const;
    void write_resolv_conf(const std::string &options);
    /* The fixture's loop again, after which there are a new target and sender. */
    void begin(const struct dgram_loop_options &options);
    void begin_with_hook(Hook *hook);
    void watch_errors(struct dgram_socket *socket);

    /* A datagram to the target's port under this name. */
    int send_plain(const std::string &payload, const std::string &host);
    int send_counted(const std::string &host, Results *results);
    /* The same, waited for: its result. */
    int result_of(const std::string &host);
    /* What was asked before has reached the server when this returns. */
    void catch_up();

    std::unique_ptr<dns::Server> server;
    std::string servers, resolv_conf;
    struct dgram_socket *target = nullptr, *sender = nullptr;
    Inbox inbox;
    std::vector<Failure> failures;

  private:
    std::string directory_;
    Handlers on_error_;
    unsigned markers_ = 0;
};

/* ---- Helpers ------------------------------------------------------------------------------- */

/* Counts ticks of a timer, and does something at each. */
struct Ticker {
    Tick tick;
    struct dgram_timer *timer = nullptr;
    size_t count = 0;

    Ticker(struct dgram_loop *loop, int64_t interval, std::function<void(size_t)> each)
        : tick([this, each](struct dgram_timer *) { each(++count); })
    {
        EXPECT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
        EXPECT_EQ(dgram_timer_start(timer, interval, interval), 0);
    }
    Ticker(struct dgram_loop *loop, int64_t interval) : Ticker(loop, interval, [](size_t) {})
    {
    }
    ~Ticker()
    {
        dgram_timer_free(timer);
    }
};

/* A socket being bound to a name, with all that it says. */
struct Binding {
    struct dgram_socket *socket;
    Recorder log;
    Handlers on;
    std::vector<Failure> failures;
    bool closed = false;

    explicit Binding(struct dgram_loop *loop, uint32_t type = DGRAM_UDP4)
        : socket(open_socket(loop, type))
    {
        on.listening = [this](struct dgram_socket *) { log.add("listening"); };
        on.close = [this](struct dgram_socket *) {
            log.add("close");
            closed = true;
        };
        on.error = [this](struct dgram_socket *, const struct dgram_error *error) {
            log.add("error");
            failures.push_back({error->code, error->operation,
                                error->host != nullptr ? error->host : "",
                                error->address != nullptr});
        };
        on.attach(socket);
    }
    ~Binding()
    {
        if (!closed) {
            dgram_on_listening(socket, nullptr, nullptr);
            dgram_on_close(socket, nullptr, nullptr);
            dgram_on_error(socket, nullptr, nullptr);
        }
    }
};

/* Lets this much time pass; only for what is about a time to live. */
void let_pass(struct dgram_loop *loop, int64_t time);

std::vector<int> repeated(int value, size_t count);
/* "n7.test" */
std::string numbered_name(size_t number);

/* A name of the host's own file that leads to 127.0.0.0/8, other than localhost; "" if there is
 * none. */
std::string name_of_hosts_file();

/* A network of this thread's own, where port 53 is free, and an address of its loopback interface;
 * false where that is not permitted. */
bool enter_own_network();
bool add_to_loopback(const std::string &address);

/* Scripts of the server: one packet for each question; by UDP a truncated answer, by TCP this. */
dns::Script one_packet(std::function<std::string(const dns::Question &)> make);
dns::Script by_tcp(std::function<dns::Deed(const dns::Question &)> deed_by_tcp);
/* 127.0.0.1. */
dns::Deed true_answer(const dns::Question &question);

} /* namespace names */

#endif
