/* SPDX-License-Identifier: MIT */
/* names.cc: see names.h. */
#include "tests/support/names.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace names
{

const char *const patient_options = "options timeout:30 attempts:1\n";

/* ---- The fixture --------------------------------------------------------------------------- */

void NamesTest::SetUp()
{
    EngineTest::SetUp();
    if (loop == nullptr) {
        return; /* skipped */
    }
    unsetenv("RES_OPTIONS");
    unsetenv("LOCALDOMAIN");
    server.reset(new dns::Server());
    servers = server->text();
    directory_ = ::testing::TempDir() + "names.XXXXXX";
    ASSERT_NE(mkdtemp(&directory_[0]), nullptr) << strerror(errno);
    resolv_conf = directory_ + "/resolv.conf";
    write_resolv_conf(patient_options);
    begin(names_options());
}

void NamesTest::TearDown()
{
    if (server != nullptr) {
        server->stop();
        unlink(resolv_conf.c_str());
        rmdir(directory_.c_str());
    }
    EngineTest::TearDown();
}

/* The search list is never empty: c-ares would take it from the host's name. */
void NamesTest::write_resolv_conf(const std::string &options)
{
    std::ofstream file(resolv_conf, std::ios::trunc);
    file << "nameserver 127.0.0.1\nlookup file bind\nsearch search.test\n" << options;
}

struct dgram_loop_options NamesTest::names_options() const
{
    struct dgram_loop_options options = loop_options();
    options.dns_servers = servers.c_str();
    options.resolv_conf = resolv_conf.c_str();
    return options;
}

void NamesTest::begin(const struct dgram_loop_options &options)
{
    remake_loop(options);
    inbox = Inbox();
    failures.clear();
    target = open_inbox(loop, &inbox);
    sender = open_socket(loop);
    watch_errors(sender);
}

void NamesTest::begin_with_hook(Hook *hook)
{
    struct dgram_loop_options options = names_options();
    options.lookup = Hook::call;
    options.lookup_user = hook;
    begin(options);
}

void NamesTest::watch_errors(struct dgram_socket *socket)
{
    on_error_.error = [this](struct dgram_socket *, const struct dgram_error *error) {
        EXPECT_EQ(error->size, sizeof(*error));
        failures.push_back({error->code, error->operation,
                            error->host != nullptr ? error->host : "", error->address != nullptr});
    };
    on_error_.attach(socket);
}

int NamesTest::send_plain(const std::string &payload, const std::string &host)
{
    return dgram_send(sender, payload.data(), payload.size(), port_of(target), host.c_str(),
                      nullptr, nullptr);
}

int NamesTest::send_counted(const std::string &host, Results *results)
{
    return dgram_send(sender, "abc", 3, port_of(target), host.c_str(), Results::take, results);
}

int NamesTest::result_of(const std::string &host)
{
    Results results;
    int code = send_counted(host, &results);
    if (code < 0) {
        return code;
    }
    EXPECT_TRUE(run_until(loop, [&] { return !results.values.empty(); })) << host;
    return results.values.size() == 1 ? results.values[0] : INT32_MIN;
}

void NamesTest::catch_up()
{
    std::string marker = "marker" + std::to_string(markers_++) + ".test";
    server->address(marker, "127.0.0.1");
    EXPECT_EQ(result_of(marker), 3);
    EXPECT_EQ(server->asked(marker), 1u);
}

/* ---- Helpers ------------------------------------------------------------------------------- */

void let_pass(struct dgram_loop *loop, int64_t time)
{
    bool over = false;
    Tick tick([&](struct dgram_timer *) { over = true; });
    struct dgram_timer *timer = nullptr;
    ASSERT_EQ(dgram_timer_create(loop, Tick::call, &tick, &timer), 0);
    ASSERT_EQ(dgram_timer_start(timer, time, 0), 0);
    EXPECT_TRUE(run_until(loop, [&] { return over; }));
    dgram_timer_free(timer);
}

std::string numbered_name(size_t number)
{
    return "n" + std::to_string(number) + ".test";
}

std::vector<int> repeated(int value, size_t count)
{
    return std::vector<int>(count, value);
}

std::string name_of_hosts_file()
{
    std::ifstream file("/etc/hosts");
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line.substr(0, line.find('#')));
        std::string address, name;
        words >> address;
        while (address.rfind("127.", 0) == 0 && words >> name) {
            if (name.find("localhost") == std::string::npos) {
                return name;
            }
        }
    }
    return "";
}

bool enter_own_network()
{
    if (unshare(CLONE_NEWNET) < 0) {
        return false;
    }
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {};
    strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    close(fd);
    return up;
}

bool add_to_loopback(const std::string &address)
{
    struct { /* struct in6_ifreq of linux/ipv6.h, which does not go with netinet/in.h */
        struct in6_addr address;
        uint32_t prefix;
        int interface;
    } request = {};
    request.prefix = 64;
    request.interface = static_cast<int>(if_nametoindex("lo"));
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 name = {};
    name.sin6_family = AF_INET6;
    name.sin6_scope_id = static_cast<uint32_t>(request.interface);
    bool added = inet_pton(AF_INET6, address.c_str(), &request.address) == 1 && fd >= 0 &&
                 ioctl(fd, SIOCSIFADDR, &request) == 0;
    name.sin6_addr = request.address;
    /* The kernel may look for others that have it, first. */
    added = added && wait_until([&] {
                return bind(fd, reinterpret_cast<struct sockaddr *>(&name), sizeof(name)) == 0;
            });
    close(fd);
    return added;
}

dns::Script one_packet(std::function<std::string(const dns::Question &)> make)
{
    return [make](const dns::Question &question) {
        dns::Deed deed;
        deed.packets = {make(question)};
        return deed;
    };
}

dns::Script by_tcp(std::function<dns::Deed(const dns::Question &)> deed_by_tcp)
{
    return [deed_by_tcp](const dns::Question &question) {
        if (question.tcp) {
            return deed_by_tcp(question);
        }
        dns::Deed deed;
        deed.packets = {dns::Reply(question).truncated().bytes()};
        return deed;
    };
}

dns::Deed true_answer(const dns::Question &question)
{
    dns::Deed deed;
    deed.packets = {dns::Reply(question).address("127.0.0.1", 60).bytes()};
    return deed;
}

} /* namespace names */
