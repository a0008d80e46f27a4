/* SPDX-License-Identifier: MIT */
/*
 * harness.h: what the behaviour suites share.
 *
 * The suites test include/dgram.h and nothing behind it, once per engine. There is no C++ wrapper
 * of a loop or a socket here: tests call the C API and see what a C program sees. What is here: the
 * list of engines, a fixture that owns a loop and watches for lost descriptors, handlers written as
 * lambdas, waiting until something is true, and plain sockets as peers.
 *
 * Nothing depends on timing. A test waits for an event, a count or a state and fails when a
 * generous limit has passed; DGRAM_TEST_PATIENCE multiplies the limits (valgrind, slow hosts).
 */
#ifndef DGRAM_TESTS_SUPPORT_HARNESS_H
#define DGRAM_TESTS_SUPPORT_HARNESS_H

#include <dgram.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iosfwd>
#include <string>
#include <utility>
#include <vector>

namespace harness
{

/* ---- Engines ------------------------------------------------------------------------------- */

struct Engine {
    const char *name;
    uint32_t number;
    /* dgram_loop_create() with this engine, patiently(). `options` may be NULL; its `engine` is
     * replaced. */
    int (*create)(const struct dgram_loop_options *options, struct dgram_loop **ret_loop);
    /* Why it cannot be used here, "" if it can. */
    std::string (*missing)();
    /* Around each test, or NULL. */
    void (*begin)(), (*end)();
};

/*
 * Calls `create` again while it gives -ENOMEM, for a long time. An unprivileged process may lock
 * little memory (ulimit -l), rings are counted against it, and the kernel gives the memory of a
 * ring back some time after the ring is gone: after a hundred loops in a row it has none.
 */
int patiently(const std::function<int()> &create, unsigned seconds = 60);
/* dgram_engine_probe() of an engine that exists, patiently for some seconds. */
struct dgram_engine_report probe(uint32_t engine);

std::ostream &operator<<(std::ostream &out, const Engine &engine);

/* Every engine: for tests whose sockets only talk to each other. */
std::vector<Engine> all_engines();
/* Those on the host's network: for tests with plain sockets, threads, processes, descriptors. */
std::vector<Engine> host_engines();

std::string engine_name(const ::testing::TestParamInfo<Engine> &info);

#define INSTANTIATE_ON_ALL_ENGINES(suite)                                                          \
    INSTANTIATE_TEST_SUITE_P(Engine, suite, ::testing::ValuesIn(::harness::all_engines()),         \
                             ::harness::engine_name)
#define INSTANTIATE_ON_HOST_ENGINES(suite)                                                         \
    INSTANTIATE_TEST_SUITE_P(Engine, suite, ::testing::ValuesIn(::harness::host_engines()),        \
                             ::harness::engine_name)

/* ---- Limits -------------------------------------------------------------------------------- */

/* How much longer than usual everything may take, from DGRAM_TEST_PATIENCE; 1 or more. */
unsigned patience();

/* The clock of the loop under test: the simulator's while it runs. */
uint64_t monotonic_ns();

constexpr int64_t MILLISECOND = 1000000;
constexpr int64_t SECOND = 1000000000;
constexpr int64_t HOUR = 3600 * SECOND;

/* ---- The fixture --------------------------------------------------------------------------- */

/*
 * Gives each test a loop of its engine, frees it afterwards and checks that no descriptor is left
 * open. Handlers made with the helpers below are silent from the end of the test body on, so that
 * the loop may be freed after the variables that they refer to are gone.
 */
class EngineTest : public ::testing::TestWithParam<Engine>
{
  protected:
    void SetUp() override;
    void TearDown() override;

    /* A loop beside the fixture's; the caller frees it. NULL after a failure. */
    struct dgram_loop *make_loop(const struct dgram_loop_options *options = nullptr) const;
    /* The fixture's loop again, with other options. */
    void remake_loop(const struct dgram_loop_options &options);

    struct dgram_loop *loop = nullptr;

  private:
    int descriptors_before_ = -1;
};

/* The same without an engine: for functions that need no loop, and for tests of the choice. */
class HostTest : public ::testing::Test
{
  protected:
    void SetUp() override;
    void TearDown() override;

  private:
    int descriptors_before_ = -1;
};

/* Open descriptors of this process; a constant where /proc is missing. */
int descriptors();

/* All descriptors but those that are open are taken, for as long as this lives. */
class NoDescriptors
{
  public:
    NoDescriptors();
    ~NoDescriptors();
    NoDescriptors(const NoDescriptors &) = delete;
    NoDescriptors &operator=(const NoDescriptors &) = delete;

  private:
    struct rlimit before_ = {};
    std::vector<int> taken_;
};

/* ---- Handlers as functions ----------------------------------------------------------------- */

/* Whether callbacks of the test that ended must do nothing. */
bool muted();
/* A test that runs no fixture code before its callbacks (a forked child) may set it. */
void set_muted(bool on);

/* The handlers of one socket. attach() sets those that are not empty. */
struct Handlers {
    std::function<void(struct dgram_socket *, const struct dgram_message *)> message;
    std::function<void(struct dgram_socket *, const struct dgram_message *, size_t)> messages;
    std::function<void(struct dgram_socket *)> listening;
    std::function<void(struct dgram_socket *, const struct dgram_error *)> error;
    std::function<void(struct dgram_socket *)> drain;
    std::function<void(struct dgram_socket *)> close;

    void attach(struct dgram_socket *socket);

    /* The C side; `user` is the Handlers. */
    static void on_message(struct dgram_socket *socket, const struct dgram_message *message,
                           void *user);
    static void on_messages(struct dgram_socket *socket, const struct dgram_message *messages,
                            size_t count, void *user);
    static void on_listening(struct dgram_socket *socket, void *user);
    static void on_error(struct dgram_socket *socket, const struct dgram_error *error, void *user);
    static void on_drain(struct dgram_socket *socket, void *user);
    static void on_close(struct dgram_socket *socket, void *user);
};

/* A callback of sends: pass Sent::call and the object. */
struct Sent {
    std::function<void(struct dgram_socket *, int)> fn;
    Sent() = default;
    explicit Sent(std::function<void(struct dgram_socket *, int)> function)
        : fn(std::move(function))
    {
    }
    static void call(struct dgram_socket *socket, int result, void *user);
};

/* The results of sends, in the order of the callbacks: pass Results::take and the object. */
struct Results {
    std::vector<int> values;
    static void take(struct dgram_socket *socket, int result, void *user);
};

/* A timer's callback: pass Tick::call and the object. */
struct Tick {
    std::function<void(struct dgram_timer *)> fn;
    explicit Tick(std::function<void(struct dgram_timer *)> function) : fn(std::move(function))
    {
    }
    static void call(struct dgram_timer *timer, void *user);
};

/* A posted function: pass Job::call and the object. */
struct Job {
    std::function<void(struct dgram_loop *)> fn;
    explicit Job(std::function<void(struct dgram_loop *)> function) : fn(std::move(function))
    {
    }
    static void call(struct dgram_loop *loop, void *user);
};

/* Received payloads in order, with their senders: pass Inbox::take and the object. */
struct Inbox {
    std::vector<std::string> payloads;
    std::vector<struct dgram_addr> from;
    size_t count() const
    {
        return payloads.size();
    }
    static void take(struct dgram_socket *socket, const struct dgram_message *message, void *user);
};

/* What happened, in order, as words. */
struct Recorder {
    std::vector<std::string> events;
    void add(const std::string &event)
    {
        events.push_back(event);
    }
    size_t count(const std::string &event) const;
    std::string text() const; /* separated by spaces */
};

/* ---- Waiting ------------------------------------------------------------------------------- */

/* Turns the loop, asleep between events, until `done`. Fails the test and returns false when the
 * limit passes, so a wake-up that never comes is a failure and not a delay. */
bool run_until(struct dgram_loop *loop, const std::function<bool()> &done);

/* The same without sleeping in the loop: for what other threads and processes do. */
bool spin_until(struct dgram_loop *loop, const std::function<bool()> &done);

/* Waits for a state that no loop of this thread changes. */
bool wait_until(const std::function<bool()> &done);

/* Turns until everything that was on its way has surely been seen: datagrams of a socket of its own
 * have gone round a few times. What did not happen until then does not happen. */
void settle(struct dgram_loop *loop);

/* ---- Sockets ------------------------------------------------------------------------------- */

struct dgram_loop_options loop_options();
struct dgram_socket_options socket_options();
struct dgram_buffer_options buffer_options(uint32_t flags, dgram_buffer_fn *on_idle = nullptr,
                                           void *user = nullptr);

bool has_ipv6();
/* DGRAM_UDP4, and DGRAM_UDP6 where the host has IPv6. */
std::vector<uint32_t> socket_types();
const char *loopback(uint32_t type);
size_t size_max(uint32_t type);

/* An unbound socket; NULL after a failure, which fails the test. */
struct dgram_socket *open_socket(struct dgram_loop *loop, uint32_t type = DGRAM_UDP4,
                                 uint32_t flags = 0);
/* Bound to a free port of the loopback address. */
struct dgram_socket *open_bound(struct dgram_loop *loop, uint32_t type = DGRAM_UDP4,
                                uint32_t flags = 0);
/* The same with the message handler of an inbox. */
struct dgram_socket *open_inbox(struct dgram_loop *loop, Inbox *inbox, uint32_t type = DGRAM_UDP4,
                                uint32_t flags = 0);

/* Where to send to so that this bound socket gets it. */
struct dgram_addr address_of(struct dgram_socket *socket);
uint16_t port_of(struct dgram_socket *socket);
struct dgram_addr parse(const std::string &text, uint16_t port);
std::string text_of(const struct dgram_addr *address);

/* dgram_send_to() of a string without a callback. */
int send_text(struct dgram_socket *socket, const std::string &payload,
              const struct dgram_addr &address);
/* Sends and waits for the completion: its result, or the refusal. */
int send_and_wait(struct dgram_loop *loop, struct dgram_socket *socket, const std::string &payload,
                  const struct dgram_addr &address);

std::string payload_of(const struct dgram_message *message);
/* `size` bytes that differ from place to place and from seed to seed. */
std::string pattern(size_t size, unsigned seed);
/* The same with the number in the first four bytes, as far as they fit. */
std::string numbered(unsigned number, size_t size = 64);

/* Small datagrams that surely fit into this socket's receive buffer at once. */
size_t room_of(struct dgram_socket *socket);

/* Proves that a socket works: binds it to loopback if it is unbound, has a datagram come in and
 * one go out. Takes its message handler away afterwards. */
void expect_echo(struct dgram_loop *loop, struct dgram_socket *socket);

/* Closes and waits for `close`. Takes the close handler. */
void close_and_wait(struct dgram_loop *loop, struct dgram_socket *socket);

struct dgram_loop_info info_of(struct dgram_loop *loop);
struct dgram_socket_stats stats_of(struct dgram_socket *socket);

/* Every function that takes a socket and returns a code, with arguments that are right for a udp4
 * socket: for what must be refused because of the socket itself. dgram_close() and dgram_end() come
 * last. */
struct SocketCall {
    const char *name;
    int (*call)(struct dgram_socket *socket);
};
std::vector<SocketCall> socket_calls();

/* ---- Plain peers --------------------------------------------------------------------------- */

/* A UDP socket of the host, not of the library. Closed with the object. */
class Plain
{
  public:
    /* Bound to `port` of `address`, the loopback address of the type if NULL. */
    explicit Plain(uint32_t type = DGRAM_UDP4, const char *address = nullptr, uint16_t port = 0);
    ~Plain();
    Plain(const Plain &) = delete;
    Plain &operator=(const Plain &) = delete;

    int fd() const
    {
        return fd_;
    }
    struct dgram_addr address() const;
    void send(const std::string &payload, const struct dgram_addr &to);
    /* The next datagram; fails the test and returns "" when none comes. */
    std::string receive(struct dgram_addr *ret_from = nullptr);
    /* Whether a datagram waits now. */
    bool readable() const;
    void set(int level, int name, int value);
    /* Listens no more and yet keeps its port: whoever sends to it is told "port unreachable". */
    void leave();

  private:
    int fd_;
};

/* A port of loopback that nobody listens on and that nobody else can be given meanwhile: datagrams
 * to it make the kernel answer "port unreachable". */
class DeadPort
{
  public:
    explicit DeadPort(uint32_t type = DGRAM_UDP4);
    struct dgram_addr address() const;

  private:
    Plain plain_;
};

/* An address of loopback to which a send fails later with -EACCES while broadcast is off: the way
 * to an error that no call can know at once. `refused_address_usable()` is false where the host has
 * no such address. */
struct dgram_addr refused_address();
bool refused_address_usable();

/* A free port outside of the range of which the kernel takes ports for "port 0", so no other test
 * comes by it between two binds. */
uint16_t private_port(uint32_t type);

} /* namespace harness */

#endif
