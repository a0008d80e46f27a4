/* SPDX-License-Identifier: MIT */
/*
 * names_lacks.cc: host names when it is this host that fails: no descriptors, a resolv.conf that
 * cannot be read; also servers that hang up, and what the sockets of c-ares are. Through the table
 * of src/system.h. What this host lacks is never a verdict on a name, and never remembered.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <map>
#include <random>

#include "tests/support/internals.h"
#include "tests/support/names.h"

using namespace names;

namespace
{

/* ---- The table ----------------------------------------------------------------------------- */

/* What fails now, and what was seen of the sockets of c-ares. */
struct {
    int file, datagram, stream;    /* negated errnos of opens; 0: none */
    std::function<void()> hang_up; /* before a stream is written to */
    std::mt19937 random;
    unsigned permille;       /* of all calls: fail at random */
    std::map<int, int> open; /* sockets, and their types */
    size_t opened, streams, written_to_streams;
    bool wrong_flags;
} host;

/* 0, or a code with which a call fails by chance. */
int chance(std::initializer_list<int> codes)
{
    if (host.random() % 1000 >= host.permille) {
        return 0;
    }
    return codes.begin()[host.random() % codes.size()];
}

int host_file_open(const char *path)
{
    int code = chance({-EMFILE, -ENFILE, -EACCES, -EIO, -ENOMEM});
    if (code < 0) {
        return code;
    }
    return host.file < 0 ? host.file : dg_system_host.file_open(path);
}

int host_guest_socket(int family, int type)
{
    int code = chance({-EMFILE, -ENFILE, -ENOBUFS, -ENOMEM});
    code = code < 0 ? code : type == SOCK_STREAM ? host.stream : host.datagram;
    int fd = code < 0 ? code : dg_system_host.guest_socket(family, type);
    if (fd >= 0) {
        host.open[fd] = type;
        host.opened++;
        host.streams += type == SOCK_STREAM;
        host.wrong_flags = host.wrong_flags || (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0 ||
                           (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
    }
    return fd;
}

int host_guest_connect(int fd, const struct sockaddr *name, socklen_t size)
{
    int code = chance({-ENETUNREACH, -EADDRNOTAVAIL, -ENOBUFS, -EPERM});
    return code < 0 ? code : dg_system_host.guest_connect(fd, name, size);
}

/* No losses: old versions of c-ares have no timeout below a second. */
int host_guest_send(int fd, const struct iovec *vectors, size_t count)
{
    int code = chance({-ECONNREFUSED, -ENETUNREACH, -EPERM, -ENOMEM});
    if (code < 0) {
        return code;
    }
    if (host.open.at(fd) == SOCK_STREAM && host.hang_up) {
        host.hang_up();
        struct pollfd ready = {fd, 0, 0}; /* POLLERR: the reset has come */
        EXPECT_EQ(poll(&ready, 1, static_cast<int>(10000 * patience())), 1);
        host.written_to_streams++;
    }
    return dg_system_host.guest_send(fd, vectors, count);
}

int host_guest_receive(int fd, void *data, size_t size, struct sockaddr *name, socklen_t *name_size)
{
    int code = chance({-ECONNREFUSED, -EHOSTUNREACH, -ENOMEM});
    return code < 0 ? code : dg_system_host.guest_receive(fd, data, size, name, name_size);
}

int host_duplicate(int fd)
{
    int code = chance({-EMFILE, -ENFILE});
    return code < 0 ? code : dg_system_host.duplicate(fd);
}

int host_close(int fd)
{
    host.open.erase(fd);
    return dg_system_host.close(fd);
}

const struct dg_system *own_system()
{
    static const struct dg_system table = [] {
        struct dg_system made = dg_system_host;
        made.file_open = host_file_open;
        made.guest_socket = host_guest_socket;
        made.guest_connect = host_guest_connect;
        made.guest_send = host_guest_send;
        made.guest_receive = host_guest_receive;
        made.duplicate = host_duplicate;
        made.close = host_close;
        return made;
    }();
    return &table;
}

class NameLacks : public NamesTest
{
  protected:
    void SetUp() override
    {
        host = decltype(host)();
        NamesTest::SetUp();
        if (loop != nullptr) {
            begin_own(names_options());
        }
    }

    /* The fixture's loop again, on the table above. */
    void begin_own(struct dgram_loop_options options)
    {
        options.engine = GetParam().number;
        loop = dgram_loop_free(loop);
        ASSERT_EQ(
            patiently([&] { return dg_loop_create_on(&options, own_system(), nullptr, &loop); }),
            0);
        inbox = Inbox();
        failures.clear();
        target = open_inbox(loop, &inbox);
        sender = open_socket(loop);
        watch_errors(sender);
        ASSERT_EQ(dgram_bind(sender, 0, nullptr), 0);
    }
};

INSTANTIATE_ON_HOST_ENGINES(NameLacks);

/* ---- Sockets of c-ares --------------------------------------------------------------------- */

/* Writing to a connection that the other side has ended and reset raises SIGPIPE, and that ends a
 * program. Blocked, a signal that was raised would be pending. */
TEST_P(NameLacks, ServerThatHangsUpRaisesNoSignal)
{
    sigset_t pipe_only, before, pending;
    struct sigaction standard = {}, action_before = {};
    standard.sa_handler = SIG_DFL;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    ASSERT_EQ(sigaction(SIGPIPE, &standard, &action_before), 0);
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &pipe_only, &before), 0);
    server->script("big.test", by_tcp(true_answer));
    host.hang_up = [&] { server->hang_up(); };
    EXPECT_EQ(result_of("big.test"), DGRAM_EDNSFAILED);
    EXPECT_GE(host.written_to_streams, 1u);
    EXPECT_EQ(sigpending(&pending), 0);
    EXPECT_EQ(sigismember(&pending, SIGPIPE), 0);
    const struct timespec at_once = {};
    while (sigtimedwait(&pipe_only, nullptr, &at_once) == SIGPIPE) { /* or it would end the suite */
    }
    EXPECT_EQ(pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
    EXPECT_EQ(sigaction(SIGPIPE, &action_before, nullptr), 0);
    catch_up();
}

TEST_P(NameLacks, SocketsNeitherBlockNorSurviveAnExec)
{
    server->script("big.test", by_tcp(true_answer));
    EXPECT_EQ(result_of("big.test"), 3);
    EXPECT_GE(host.opened, 2u);
    EXPECT_EQ(host.streams, 1u);
    EXPECT_FALSE(host.wrong_flags);
    EXPECT_TRUE(run_until(loop, [] { return host.open.empty(); }));
}

/* ---- resolv.conf --------------------------------------------------------------------------- */

/* It is an error of the questions of that time. The configuration is what the file says. */
TEST_P(NameLacks, FileThatCannotBeReadIsAnErrorAndNoConfiguration)
{
    server->address("host.search.test", "127.0.0.1", 1);
    for (int code : {-EMFILE, -ENFILE, -EACCES, -ENOMEM, -EIO}) {
        SCOPED_TRACE(dgram_error_name(code));
        begin_own(names_options());
        host.file = code;
        EXPECT_EQ(result_of("host"), code);
        EXPECT_EQ(result_of("host"), code);
        host.file = 0;
        EXPECT_EQ(result_of("host"), 3);
    }
    EXPECT_EQ(server->asked(), 5u);
}

/* The same when there was a configuration, and the file has changed. */
TEST_P(NameLacks, ChangeThatCannotBeReadIsReadLater)
{
    server->address("host.search.test", "127.0.0.1", 1);
    server->address("host.other.test", "127.0.0.1", 1);
    server->address("new.other.test", "127.0.0.1", 1);
    EXPECT_EQ(result_of("host"), 3);
    std::ofstream(resolv_conf, std::ios::trunc)
        << "search other.test\nlookup file bind\n# longer than before\n"
        << patient_options;
    host.file = -EMFILE;
    EXPECT_EQ(result_of("new"), -EMFILE);
    EXPECT_EQ(result_of("host"), 3); /* of which the answer is known */
    host.file = 0;
    EXPECT_EQ(result_of("new"), 3);
    EXPECT_EQ(server->asked("new.other.test"), 1u);
    EXPECT_EQ(server->asked("new.search.test"), 0u);
}

/* What is there instead of the file: nothing that can be opened, or nothing that can be read. */
TEST_P(NameLacks, WhateverIsThereAndNoFileIsAnError)
{
    size_t number = 0;
    for (bool there : {true, false}) {
        for (int code : {-ELOOP, -EISDIR}) {
            SCOPED_TRACE(testing::Message() << there << dgram_error_name(code));
            const std::string before = numbered_name(number++), after = numbered_name(number++);
            server->address(before, "127.0.0.1");
            server->address(after, "127.0.0.1");
            write_resolv_conf(patient_options);
            EXPECT_EQ(there ? 0 : unlink(resolv_conf.c_str()), 0);
            begin_own(names_options());
            EXPECT_EQ(result_of(before), 3);
            EXPECT_EQ(there ? unlink(resolv_conf.c_str()) : 0, 0);
            EXPECT_EQ(code == -ELOOP ? symlink(resolv_conf.c_str(), resolv_conf.c_str())
                                     : mkdir(resolv_conf.c_str(), 0700),
                      0);
            EXPECT_EQ(result_of(after), code);
            EXPECT_EQ(remove(resolv_conf.c_str()), 0);
            write_resolv_conf(patient_options);
            EXPECT_EQ(result_of(after), 3);
        }
    }
}

/* In place, as long as before, and as old by its time of modification, which anybody may set. */
TEST_P(NameLacks, ChangeThatSetsTheFilesTimeBackIsSeen)
{
    struct stat before = {}, after = {};
    server->address("host.one.test", "127.0.0.1", 1);
    server->address("new.two.test", "127.0.0.1", 1);
    auto write = [&](const char *list) {
        std::ofstream(resolv_conf, std::ios::trunc) << "search " << list << "\nlookup file bind\n"
                                                    << patient_options;
    };
    write("one.test");
    ASSERT_EQ(stat(resolv_conf.c_str(), &before), 0);
    EXPECT_EQ(result_of("host"), 3);
    EXPECT_TRUE(wait_until([&] {
        write("two.test"); /* again and again, until its own clock of the file has moved */
        const struct timespec times[2] = {before.st_atim, before.st_mtim};
        return utimensat(AT_FDCWD, resolv_conf.c_str(), times, 0) == 0 &&
               stat(resolv_conf.c_str(), &after) == 0 &&
               (after.st_ctim.tv_sec != before.st_ctim.tv_sec ||
                after.st_ctim.tv_nsec != before.st_ctim.tv_nsec);
    }));
    ASSERT_EQ(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    ASSERT_EQ(after.st_size, before.st_size);
    EXPECT_EQ(result_of("new"), 3);
}

/* New questions go by the new file at once, old ones end as they began, and then nothing is left of
 * the old configuration. */
TEST_P(NameLacks, ChangeServesNewQuestionsAtOnce)
{
    Results results;
    server->address("slow.test", "127.0.0.1");
    server->hold("slow.test");
    for (const char *list : {"one.test", "two.test", "three.test"}) {
        server->address(std::string("host.") + list, "127.0.0.1", 1);
        server->address(std::string(list) + ".", "127.0.0.1");
    }
    ASSERT_EQ(send_counted("slow.test", &results), 0);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("slow.test") == 1; }));
    std::string comment = "#";
    for (const char *list : {"one.test", "two.test", "three.test"}) {
        std::ofstream(resolv_conf, std::ios::trunc)
            << "search " << list << "\nlookup file bind\n"
            << patient_options << (comment += "longer") << "\n";
        std::string name = std::string("host") + (list[0] == 't' ? list[1] == 'w' ? "2" : "3" : "");
        server->address(name + "." + list, "127.0.0.1");
        EXPECT_EQ(result_of(name), 3) << list;
        EXPECT_EQ(server->asked(name + "." + list), 1u);
        EXPECT_EQ(results.values.size(), 0u);
    }
    EXPECT_EQ(host.open.size(), 1u); /* of the question that waits: all others are done */
    server->release("slow.test");
    ASSERT_TRUE(run_until(loop, [&] { return !results.values.empty(); }));
    EXPECT_EQ(results.values, std::vector<int>{3});
    EXPECT_EQ(server->asked("slow.test"), 1u);
    EXPECT_TRUE(host.open.empty());
}

/* ---- Descriptors and memory ---------------------------------------------------------------- */

TEST_P(NameLacks, SocketThatCannotBeMadeIsNoFaultOfTheServer)
{
    int number = 0;
    for (int code : {-EMFILE, -ENFILE, -ENOMEM, -ENOBUFS}) {
        SCOPED_TRACE(dgram_error_name(code));
        std::string name = numbered_name(number++);
        server->address(name, "127.0.0.1");
        host.datagram = code;
        EXPECT_EQ(result_of(name), code);
        EXPECT_EQ(result_of(name), code);
        host.datagram = 0;
        EXPECT_EQ(result_of(name), 3);
        EXPECT_EQ(server->asked(name), 1u);
    }
}

/* A handle tells it like a send. */
TEST_P(NameLacks, HandleTellsWhatIsLackedAndAsksAgain)
{
    struct dgram_destination *destination = nullptr;
    struct dgram_addr address = {};
    server->address("host.test", "127.0.0.1");
    ASSERT_EQ(dgram_destination_create(loop, DGRAM_UDP4, 9, "host.test", &destination), 0);
    host.datagram = -EMFILE;
    EXPECT_EQ(dgram_destination_address(destination, &address), -EAGAIN);
    EXPECT_EQ(result_of("host.test"), -EMFILE);
    EXPECT_EQ(dgram_destination_address(destination, &address), -EMFILE);
    host.datagram = 0;
    EXPECT_TRUE(
        spin_until(loop, [&] { return dgram_destination_address(destination, &address) == 0; }));
    dgram_destination_free(destination);
}

/* In the middle of a question: the answer was truncated, and there is no socket for the whole. */
TEST_P(NameLacks, QuestionThatCannotGoOnIsNoFaultOfTheServer)
{
    server->script("big.test", by_tcp(true_answer));
    host.stream = -EMFILE;
    EXPECT_EQ(result_of("big.test"), -EMFILE);
    EXPECT_EQ(result_of("big.test"), -EMFILE);
    host.stream = 0;
    EXPECT_EQ(result_of("big.test"), 3);
    EXPECT_EQ(server->asked_by_tcp(), 1u);
}

/* What a server says is true whatever this host lacks. */
TEST_P(NameLacks, TrueAnswersAreTakenAllTheSame)
{
    server->script("big.test", by_tcp(true_answer));
    server->hold("no.test");
    Results results;
    ASSERT_EQ(send_counted("no.test", &results), 0);
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("no.test") == 1; }));
    host.stream = -EMFILE;
    EXPECT_EQ(result_of("big.test"), -EMFILE);
    server->release("no.test");
    ASSERT_TRUE(run_until(loop, [&] { return !results.values.empty(); }));
    EXPECT_EQ(results.values, std::vector<int>{DGRAM_ENOTFOUND});
}

TEST_P(NameLacks, FirstQuestionWithoutDescriptors)
{
    server->address("host.test", "127.0.0.1");
    {
        NoDescriptors none;
        EXPECT_EQ(result_of("host.test"), -EMFILE);
        EXPECT_EQ(result_of("host.test"), -EMFILE);
    }
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(server->asked("host.test"), 1u);
}

/* The same later; and a name that servers do not know was not looked for in the host's file. */
TEST_P(NameLacks, LaterQuestionsWithoutDescriptors)
{
    server->address("host.test", "127.0.0.1");
    EXPECT_EQ(result_of("no.test"), DGRAM_ENOTFOUND);
    {
        NoDescriptors none;
        EXPECT_EQ(result_of("host.test"), -EMFILE);
        EXPECT_EQ(result_of("no2.test"), -EMFILE);
    }
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_EQ(result_of("no2.test"), DGRAM_ENOTFOUND);
}

/* One descriptor is kept for that file, whatever the program takes. */
TEST_P(NameLacks, NamesOfTheHostsFileNeedNoDescriptor)
{
    std::string name = name_of_hosts_file();
    if (name.empty()) {
        GTEST_SKIP() << "the host's file has only localhost";
    }
    server->address("slow.test", "127.0.0.1");
    server->hold("slow.test");
    Results results;
    ASSERT_EQ(send_counted("slow.test", &results), 0); /* c-ares has a socket open */
    ASSERT_TRUE(spin_until(loop, [&] { return server->asked("slow.test") == 1; }));
    {
        NoDescriptors none;
        EXPECT_EQ(result_of(name), 3);
        EXPECT_EQ(result_of("host.test"), DGRAM_ENOTFOUND); /* by the socket that is there */
    }
    server->release("slow.test");
    ASSERT_TRUE(run_until(loop, [&] { return !results.values.empty(); }));
    EXPECT_EQ(results.values, std::vector<int>{3});
}

/* ---- Everything at random ------------------------------------------------------------------ */

/* Calls fail by chance, servers refuse, the file changes, sockets come and go. Each send ends once.
 * When the faults are over, and what may be remembered of them, every name resolves. */
TEST_P(NameLacks, EveryNameResolvesWhenTheFaultsAreOver)
{
    constexpr size_t NAMES = 12, SENDS = 600;
    const unsigned seed = seed_of_this_run();
    SCOPED_TRACE("DGRAM_TEST_SEED=" + std::to_string(seed));
    host.random.seed(seed);
    host.permille = 150;
    std::vector<int> results;
    Sent sent([&](struct dgram_socket *, int result) { results.push_back(result); });
    size_t accepted = 0;
    auto below = [](unsigned bound) { return host.random() % bound; };
    struct dgram_socket *second = open_socket(loop);
    for (size_t i = 0; i < SENDS; i++) {
        std::string name = numbered_name(below(NAMES));
        switch (below(4)) {
        case 0:
            server->fail(name, below(2) == 0 ? dns::SERVFAIL : dns::REFUSED);
            break;
        case 1:
            server->script(name, by_tcp(true_answer));
            break;
        default:
            server->address(name, "127.0.0.1", 1);
        }
        struct dgram_socket *socket = below(2) == 0 ? sender : second;
        int code = dgram_send(socket, "abc", 3, 9, name.c_str(), Sent::call, &sent);
        EXPECT_EQ(code, 0);
        accepted += code == 0;
        if (below(50) == 0) {
            close_and_wait(loop, second);
            second = open_socket(loop);
        }
        if (below(20) == 0) {
            write_resolv_conf(std::string(below(60), '#') + "\n" + patient_options);
        }
        EXPECT_GE(dgram_loop_turn(loop, static_cast<int64_t>(below(3)) * MILLISECOND), 0);
    }
    EXPECT_TRUE(run_until(loop, [&] { return results.size() == accepted; }));
    for (int result : results) {
        EXPECT_TRUE(result == 3 || result < 0) << result;
    }
    host.permille = 0;
    for (size_t n = 0; n < NAMES; n++) {
        server->address(numbered_name(n), "127.0.0.1", 1);
    }
    let_pass(loop, TTL_OVER);
    for (size_t n = 0; n < NAMES; n++) {
        EXPECT_EQ(result_of(numbered_name(n)), 3) << n;
    }
    EXPECT_EQ(results.size(), accepted);
    EXPECT_TRUE(host.open.empty());
}

} /* namespace */
