/* SPDX-License-Identifier: MIT */
/*
 * dns_server.h: the tests' own name server, on UDP and TCP of one free port of a local address.
 *
 * What it does with a question is decided by the name's script: a function that turns the question
 * into packets, so a test says byte for byte what comes back. A name without a script does not
 * exist. Answers can be held until the test releases them, and TCP can be fed byte by byte, so no
 * test has to let time pass in order to have a slow server. Questions are counted as they come in.
 *
 * It runs on a thread of its own; every function may be called from any thread.
 */
#ifndef DGRAM_TESTS_SUPPORT_DNS_SERVER_H
#define DGRAM_TESTS_SUPPORT_DNS_SERVER_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace dns
{

constexpr uint16_t TYPE_A = 1;
constexpr uint16_t TYPE_CNAME = 5;
constexpr uint16_t TYPE_AAAA = 28;
constexpr uint16_t CLASS_IN = 1;

enum Rcode { NOERROR = 0, FORMERR = 1, SERVFAIL = 2, NXDOMAIN = 3, NOTIMP = 4, REFUSED = 5 };

std::string number16(unsigned value);
std::string number32(uint32_t value);
/* A name as it stands in a message, without compression. */
std::string wire_name(const std::string &name);
/* A pointer to an earlier place of the message; the question's name stands at 12. */
std::string pointer_to(unsigned offset);
constexpr unsigned QUESTION_NAME = 12;

struct Question {
    std::string name; /* in lower case, without the root's dot */
    uint16_t type = 0;
    bool tcp = false;
    std::string message; /* all of it */

    std::string id() const;      /* two bytes */
    std::string section() const; /* name, type and class as they were asked */
};

/* A reply, record by record; without any it says that there are none (NODATA). Every part can be
 * replaced by bytes that no honest server sends. */
class Reply
{
  public:
    explicit Reply(const Question &question);

    Reply &address(const std::string &text, uint32_t ttl, const std::string &owner = "");
    Reply &alias(const std::string &owner, const std::string &target, uint32_t ttl);
    Reply &code(Rcode code);
    Reply &truncated();
    Reply &id(const std::string &bytes);
    Reply &section(const std::string &bytes);
    /* The raw form: owner, type, class, TTL, length and data as given. */
    Reply &record(const std::string &owner, uint16_t type, uint16_t rclass, uint32_t ttl,
                  unsigned length, const std::string &data);
    Reply &append(const std::string &bytes); /* behind the records, counted as none */
    Reply &answer_count(unsigned count);     /* instead of the true one */
    std::string bytes() const;

  private:
    std::string id_, section_, records_;
    unsigned flags_ = 0x8180; /* a recursive server's answer */
    unsigned count_ = 0;
};

/* What the server does with one question. */
struct Deed {
    std::vector<std::string> packets; /* in this order; none: silence */
    std::string from_elsewhere;       /* sent before them, from another port; empty: none */
    bool stepwise = false;            /* TCP: one byte for each DnsServer::step() */
    bool unframed = false;            /* TCP: the bytes have no length word of ours */
    size_t cut = SIZE_MAX;            /* TCP: closed after so many bytes */
};

using Script = std::function<Deed(const Question &)>;

class Server
{
  public:
    /* An address of this host, with its zone where it needs one. Port 0 takes a free one. */
    explicit Server(const std::string &address = "127.0.0.1", uint16_t port = 0);
    ~Server();
    Server(const Server &) = delete;
    Server &operator=(const Server &) = delete;

    /* Ends the thread and closes every descriptor. */
    void stop();
    /* For the option dns_servers: "127.0.0.1:5300", "[::1]:5300". */
    std::string text() const;

    void script(const std::string &name, Script script);
    /* Common scripts. An address of the wrong family for a question is NODATA. */
    void address(const std::string &name, const std::string &text, uint32_t ttl = 60);
    void fail(const std::string &name, Rcode code);
    void silence(const std::string &name);

    /* Questions about this name wait, until it is released: then they are answered as the script
     * says at that time, and later ones at once. */
    void hold(const std::string &name);
    void release(const std::string &name);
    /* Lets one more byte of every stepwise answer go. */
    void step();
    /* Every TCP connection is ended and reset, now and from now on. */
    void hang_up();

    /* Questions so far: about this name (any type, UDP and TCP), about all names. */
    size_t asked(const std::string &name) const;
    size_t asked() const;
    size_t asked_by_tcp() const;

  private:
    class Works;
    std::unique_ptr<Works> works_;
};

} /* namespace dns */

#endif
