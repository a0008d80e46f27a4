/* SPDX-License-Identifier: MIT */
/* dns_server.cc: see dns_server.h. */
#include "tests/support/dns_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <thread>

namespace dns
{

/* ---- Messages ------------------------------------------------------------------------------ */

constexpr size_t HEADER_SIZE = 12;

std::string number16(unsigned value)
{
    return {static_cast<char>(value >> 8), static_cast<char>(value)};
}

std::string number32(uint32_t value)
{
    return number16(value >> 16) + number16(value & 0xffff);
}

std::string pointer_to(unsigned offset)
{
    return number16(0xc000 | offset);
}

std::string wire_name(const std::string &name)
{
    std::string wire;
    for (size_t from = 0; from < name.size();) {
        size_t end = std::min(name.find('.', from), name.size());
        wire += static_cast<char>(end - from);
        wire += name.substr(from, end - from);
        from = end + 1;
    }
    return wire + '\0';
}

static unsigned read16(const std::string &bytes, size_t at)
{
    return static_cast<unsigned char>(bytes[at]) << 8 | static_cast<unsigned char>(bytes[at + 1]);
}

/* Reads the name of a question, which is never compressed; returns what is behind it, 0 for what is
 * no question. */
static size_t read_name(const std::string &message, std::string *ret_name)
{
    size_t at = HEADER_SIZE;
    while (at < message.size() && message[at] != 0) {
        size_t length = static_cast<unsigned char>(message[at]);
        if (length > 63 || at + length >= message.size()) {
            return 0;
        }
        *ret_name += (ret_name->empty() ? "" : ".") + message.substr(at + 1, length);
        at += 1 + length;
    }
    std::transform(ret_name->begin(), ret_name->end(), ret_name->begin(),
                   [](unsigned char c) { return static_cast<char>(tolower(c)); });
    return at + 1;
}

static bool read_question(const std::string &message, bool tcp, Question *ret_question)
{
    Question question;
    question.message = message;
    question.tcp = tcp;
    size_t behind = message.size() > HEADER_SIZE ? read_name(message, &question.name) : 0;
    if (behind == 0 || behind + 4 > message.size()) {
        return false;
    }
    question.type = static_cast<uint16_t>(read16(message, behind));
    *ret_question = question;
    return true;
}

std::string Question::id() const
{
    return message.substr(0, 2);
}

std::string Question::section() const
{
    size_t end = message.find('\0', HEADER_SIZE);
    return message.substr(HEADER_SIZE, end + 1 + 4 - HEADER_SIZE);
}

Reply::Reply(const Question &question) : id_(question.id()), section_(question.section())
{
}

Reply &Reply::record(const std::string &owner, uint16_t type, uint16_t rclass, uint32_t ttl,
                     unsigned length, const std::string &data)
{
    records_ += owner + number16(type) + number16(rclass) + number32(ttl) + number16(length) + data;
    count_++;
    return *this;
}

Reply &Reply::address(const std::string &text, uint32_t ttl, const std::string &owner)
{
    bool in6 = text.find(':') != std::string::npos;
    std::string data(in6 ? 16 : 4, '\0');
    EXPECT_EQ(inet_pton(in6 ? AF_INET6 : AF_INET, text.c_str(), &data[0]), 1) << text;
    return record(owner.empty() ? pointer_to(QUESTION_NAME) : wire_name(owner),
                  in6 ? TYPE_AAAA : TYPE_A, CLASS_IN, ttl, static_cast<unsigned>(data.size()),
                  data);
}

Reply &Reply::alias(const std::string &owner, const std::string &target, uint32_t ttl)
{
    std::string data = wire_name(target);
    return record(wire_name(owner), TYPE_CNAME, CLASS_IN, ttl, static_cast<unsigned>(data.size()),
                  data);
}

Reply &Reply::code(Rcode code)
{
    flags_ = (flags_ & ~0xfu) | static_cast<unsigned>(code);
    return *this;
}

Reply &Reply::truncated()
{
    flags_ |= 0x0200;
    return *this;
}

Reply &Reply::id(const std::string &bytes)
{
    id_ = bytes;
    return *this;
}

Reply &Reply::section(const std::string &bytes)
{
    section_ = bytes;
    return *this;
}

Reply &Reply::append(const std::string &bytes)
{
    records_ += bytes;
    return *this;
}

Reply &Reply::answer_count(unsigned count)
{
    count_ = count;
    return *this;
}

std::string Reply::bytes() const
{
    return id_ + number16(flags_) + number16(1) + number16(count_) + number16(0) + number16(0) +
           section_ + records_;
}

/* ---- The thread ---------------------------------------------------------------------------- */

/* A TCP connection: what came in, what is to go out. */
struct Connection {
    int fd = -1;
    std::string in, out;
    bool stepwise = false;
    size_t steps = 0; /* bytes that may go while stepwise */
    size_t cut = SIZE_MAX;
    bool over = false;
};

/* A question that is held, and the way back. */
struct Held {
    Question question;
    struct sockaddr_storage from = {};
    socklen_t from_size = 0;
    std::list<Connection>::iterator connection;
};

class Server::Works
{
  public:
    Works(const std::string &address, uint16_t port);
    ~Works();

    void stop();
    void wake();

    std::string text;
    mutable std::mutex lock; /* guards everything down to `thread` */
    std::map<std::string, Script> scripts;
    std::set<std::string> held_names;
    std::map<std::string, size_t> counts;
    size_t count = 0, tcp_count = 0, steps_given = 0;
    bool ending = false, hangs_up = false;

  private:
    void listen_at(const struct sockaddr *name, socklen_t size);
    void run();
    bool turn();
    void read_datagrams();
    void accept_connection();
    void read_connection(std::list<Connection>::iterator connection);
    void write_connection(Connection *connection);
    void take(Held held);
    void answer(const Held &held);
    void answer_by_tcp(Connection *connection, const Deed &deed);
    void release_held();
    void hand_out_steps();
    void reset_connections();
    void close_connections();

    int udp_ = -1, tcp_ = -1, elsewhere_ = -1;
    int wake_[2] = {-1, -1};
    std::list<Connection> connections_;
    std::list<Held> held_;
    std::thread thread_;
};

static struct sockaddr_storage read_address(const std::string &text, uint16_t port,
                                            socklen_t *ret_size)
{
    struct sockaddr_storage name = {};
    struct sockaddr_in in4 = {};
    struct sockaddr_in6 in6 = {};
    if (inet_pton(AF_INET, text.c_str(), &in4.sin_addr) == 1) {
        in4.sin_family = AF_INET;
        in4.sin_port = htons(port);
        *ret_size = sizeof(in4);
        memcpy(&name, &in4, sizeof(in4));
    } else {
        size_t percent = text.find('%');
        std::string zone = percent != std::string::npos ? text.substr(percent + 1) : "";
        EXPECT_EQ(inet_pton(AF_INET6, text.substr(0, percent).c_str(), &in6.sin6_addr), 1) << text;
        in6.sin6_scope_id = if_nametoindex(zone.c_str());
        in6.sin6_family = AF_INET6;
        in6.sin6_port = htons(port);
        *ret_size = sizeof(in6);
        memcpy(&name, &in6, sizeof(in6));
    }
    return name;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage name = {};
    socklen_t size = sizeof(name);
    EXPECT_EQ(getsockname(fd, reinterpret_cast<struct sockaddr *>(&name), &size), 0);
    struct sockaddr_in in4; /* the port is at the same place in both families */
    memcpy(&in4, &name, sizeof(in4));
    return ntohs(in4.sin_port);
}

/* One port for both transports: when TCP's is taken, another is tried. */
void Server::Works::listen_at(const struct sockaddr *name, socklen_t size)
{
    struct sockaddr_storage both = {};
    for (int tries = 0; tries < 50; tries++) {
        udp_ = socket(name->sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        tcp_ = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int on = 1;
        setsockopt(tcp_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        bool works = bind(udp_, name, size) == 0;
        socklen_t both_size = sizeof(both);
        auto *both_name = reinterpret_cast<struct sockaddr *>(&both);
        works = works && getsockname(udp_, both_name, &both_size) == 0 &&
                bind(tcp_, both_name, both_size) == 0 && listen(tcp_, 64) == 0;
        if (works) {
            return;
        }
        close(udp_);
        close(tcp_);
    }
    udp_ = tcp_ = -1;
    ADD_FAILURE() << "no port for a name server: " << strerror(errno);
}

Server::Works::Works(const std::string &address, uint16_t port)
{
    socklen_t size = 0;
    struct sockaddr_storage name = read_address(address, port, &size);
    listen_at(reinterpret_cast<struct sockaddr *>(&name), size);
    bool in6 = name.ss_family == AF_INET6;
    struct sockaddr_storage other = read_address(address, 0, &size);
    elsewhere_ = socket(name.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(elsewhere_, reinterpret_cast<struct sockaddr *>(&other), size), 0);
    EXPECT_EQ(pipe2(wake_, O_CLOEXEC | O_NONBLOCK), 0) << strerror(errno);
    int room = 4 << 20; /* many questions at once; what the host grants is taken */
    setsockopt(udp_, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    text = (in6 ? "[" + address + "]" : address) + ":" + std::to_string(port_of(udp_));
    thread_ = std::thread([this] { run(); });
}

Server::Works::~Works()
{
    stop();
}

void Server::Works::wake()
{
    ssize_t ignored = write(wake_[1], "", 1); /* a full pipe wakes, too */
    (void) ignored;
}

void Server::Works::stop()
{
    if (!thread_.joinable()) {
        return;
    }
    {
        std::lock_guard<std::mutex> guard(lock);
        ending = true;
    }
    wake();
    thread_.join();
    for (const Connection &connection : connections_) {
        close(connection.fd);
    }
    connections_.clear();
    for (int fd : {udp_, tcp_, elsewhere_, wake_[0], wake_[1]}) {
        close(fd);
    }
}

void Server::Works::run()
{
    while (turn()) {
    }
}

bool Server::Works::turn()
{
    std::vector<struct pollfd> ready = {
        {wake_[0], POLLIN, 0}, {udp_, POLLIN, 0}, {tcp_, POLLIN, 0}};
    for (const Connection &connection : connections_) {
        ready.push_back({connection.fd, POLLIN, 0});
    }
    poll(ready.data(), ready.size(), -1);
    char bytes[256];
    while (read(wake_[0], bytes, sizeof(bytes)) > 0) {
    }
    {
        std::lock_guard<std::mutex> guard(lock);
        if (ending) {
            return false;
        }
    }
    read_datagrams();
    size_t place = 3;
    for (auto it = connections_.begin(); it != connections_.end(); ++it, ++place) {
        if (ready[place].revents != 0) {
            read_connection(it);
        }
    }
    if (ready[2].revents != 0) {
        accept_connection();
    }
    release_held();
    hand_out_steps();
    reset_connections();
    close_connections();
    return true;
}

void Server::Works::read_datagrams()
{
    char bytes[4096];
    for (;;) {
        Held held;
        held.connection = connections_.end();
        held.from_size = sizeof(held.from);
        ssize_t got = recvfrom(udp_, bytes, sizeof(bytes), 0,
                               reinterpret_cast<struct sockaddr *>(&held.from), &held.from_size);
        if (got < 0) {
            return;
        }
        if (read_question(std::string(bytes, static_cast<size_t>(got)), false, &held.question)) {
            take(std::move(held));
        }
    }
}

void Server::Works::accept_connection()
{
    Connection connection;
    connection.fd = accept4(tcp_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connection.fd >= 0) {
        int on = 1; /* pieces are sent as pieces */
        setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        connections_.push_back(connection);
    }
}

void Server::Works::read_connection(std::list<Connection>::iterator connection)
{
    char bytes[4096];
    ssize_t got = read(connection->fd, bytes, sizeof(bytes));
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        connection->over = true;
        return;
    }
    connection->in.append(bytes, got > 0 ? static_cast<size_t>(got) : 0);
    while (connection->in.size() >= 2 && connection->in.size() >= 2 + read16(connection->in, 0)) {
        Held held;
        held.connection = connection;
        unsigned size = read16(connection->in, 0);
        if (read_question(connection->in.substr(2, size), true, &held.question)) {
            take(std::move(held));
        }
        connection->in.erase(0, 2 + size);
    }
}

/* Answers are small: they fit into the socket's buffer, or the peer is gone. */
void Server::Works::write_connection(Connection *connection)
{
    size_t size = std::min(connection->out.size(), connection->cut);
    if (connection->stepwise) {
        size = std::min(size, connection->steps);
        connection->steps -= size;
    }
    if (size > 0) {
        ssize_t put = send(connection->fd, connection->out.data(), size, MSG_NOSIGNAL);
        connection->over = connection->over || put != static_cast<ssize_t>(size);
        connection->out.erase(0, size);
    }
    if (connection->cut != SIZE_MAX) {
        connection->cut -= size;
        connection->over = connection->over || connection->cut == 0;
    }
}

void Server::Works::take(Held held)
{
    bool waits;
    {
        std::lock_guard<std::mutex> guard(lock);
        counts[held.question.name]++;
        count++;
        tcp_count += held.question.tcp;
        waits = held_names.count(held.question.name) > 0;
    }
    if (waits) {
        held_.push_back(std::move(held));
    } else {
        answer(held);
    }
}

void Server::Works::answer(const Held &held)
{
    Script script;
    {
        std::lock_guard<std::mutex> guard(lock);
        auto found = scripts.find(held.question.name);
        if (found != scripts.end()) {
            script = found->second;
        }
    }
    Deed deed;
    if (script) {
        deed = script(held.question);
    } else {
        deed.packets = {Reply(held.question).code(NXDOMAIN).bytes()};
    }
    if (held.question.tcp) {
        answer_by_tcp(&*held.connection, deed);
        return;
    }
    auto *to = reinterpret_cast<const struct sockaddr *>(&held.from);
    if (!deed.from_elsewhere.empty()) {
        sendto(elsewhere_, deed.from_elsewhere.data(), deed.from_elsewhere.size(), 0, to,
               held.from_size);
    }
    for (const std::string &packet : deed.packets) {
        sendto(udp_, packet.data(), packet.size(), 0, to, held.from_size);
    }
}

void Server::Works::answer_by_tcp(Connection *connection, const Deed &deed)
{
    for (const std::string &packet : deed.packets) {
        connection->out += deed.unframed ? "" : number16(static_cast<unsigned>(packet.size()));
        connection->out += packet;
    }
    connection->stepwise = deed.stepwise;
    connection->cut = deed.cut;
    write_connection(connection);
}

/* In the order in which the questions came. */
void Server::Works::release_held()
{
    for (auto it = held_.begin(); it != held_.end();) {
        bool waits;
        {
            std::lock_guard<std::mutex> guard(lock);
            waits = held_names.count(it->question.name) > 0;
        }
        if (waits) {
            ++it;
            continue;
        }
        answer(*it);
        it = held_.erase(it);
    }
}

void Server::Works::hand_out_steps()
{
    size_t steps;
    {
        std::lock_guard<std::mutex> guard(lock);
        steps = steps_given;
        steps_given = 0;
    }
    for (Connection &connection : connections_) {
        if (connection.stepwise && steps > 0) {
            connection.steps += steps;
            write_connection(&connection);
        }
    }
}

/* An end first, so that a reset which comes behind it makes the next write fail with EPIPE. */
void Server::Works::reset_connections()
{
    std::lock_guard<std::mutex> guard(lock);
    for (Connection &connection : connections_) {
        if (hangs_up) {
            struct linger reset = {1, 0};
            shutdown(connection.fd, SHUT_WR);
            setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            connection.over = true;
        }
    }
}

void Server::Works::close_connections()
{
    for (auto it = connections_.begin(); it != connections_.end();) {
        if (!it->over) {
            ++it;
            continue;
        }
        held_.remove_if(
            [&](const Held &held) { return held.question.tcp && held.connection == it; });
        close(it->fd);
        it = connections_.erase(it);
    }
}

/* ---- The server ---------------------------------------------------------------------------- */

Server::Server(const std::string &address, uint16_t port) : works_(new Works(address, port))
{
}

Server::~Server() = default;

void Server::stop()
{
    works_->stop();
}

std::string Server::text() const
{
    return works_->text;
}

void Server::script(const std::string &name, Script script)
{
    std::lock_guard<std::mutex> guard(works_->lock);
    works_->scripts[name] = std::move(script);
}

void Server::address(const std::string &name, const std::string &text, uint32_t ttl)
{
    uint16_t type = text.find(':') != std::string::npos ? TYPE_AAAA : TYPE_A;
    script(name, [=](const Question &question) {
        Deed deed;
        Reply reply(question);
        deed.packets = {question.type == type ? reply.address(text, ttl).bytes() : reply.bytes()};
        return deed;
    });
}

void Server::fail(const std::string &name, Rcode code)
{
    script(name, [=](const Question &question) {
        Deed deed;
        deed.packets = {Reply(question).code(code).bytes()};
        return deed;
    });
}

void Server::silence(const std::string &name)
{
    script(name, [](const Question &) { return Deed(); });
}

void Server::hold(const std::string &name)
{
    std::lock_guard<std::mutex> guard(works_->lock);
    works_->held_names.insert(name);
}

void Server::release(const std::string &name)
{
    {
        std::lock_guard<std::mutex> guard(works_->lock);
        works_->held_names.erase(name);
    }
    works_->wake();
}

void Server::step()
{
    {
        std::lock_guard<std::mutex> guard(works_->lock);
        works_->steps_given++;
    }
    works_->wake();
}

size_t Server::asked(const std::string &name) const
{
    std::lock_guard<std::mutex> guard(works_->lock);
    auto found = works_->counts.find(name);
    return found != works_->counts.end() ? found->second : 0;
}

size_t Server::asked() const
{
    std::lock_guard<std::mutex> guard(works_->lock);
    return works_->count;
}

void Server::hang_up()
{
    {
        std::lock_guard<std::mutex> guard(works_->lock);
        works_->hangs_up = true;
    }
    works_->wake();
}

size_t Server::asked_by_tcp() const
{
    std::lock_guard<std::mutex> guard(works_->lock);
    return works_->tcp_count;
}

} /* namespace dns */
