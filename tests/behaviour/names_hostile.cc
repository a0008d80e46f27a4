/* SPDX-License-Identifier: MIT */
/*
 * names_hostile.cc: answers of servers that lie, stammer or send noise: they do no harm, and the
 * truth is heard.
 */
#include <random>

#include "tests/support/names.h"

using namespace names;

namespace
{

class NameHostile : public NamesTest
{
  protected:
    std::vector<int> results_of_noise(bool disguise);

    /* Of the noise; printed, so that a failure can be had again. */
    const unsigned seed_ = seed_of_this_run();
};

INSTANTIATE_ON_HOST_ENGINES(NameHostile);

/* What is no message of DNS, from the server itself. c-ares 1.18 waits on for an answer, 1.34 takes
 * it for one. */
bool is_nonsense_or(int expected, int result)
{
    return result == expected || result == DGRAM_EDNSFAILED;
}

using Make = std::function<std::string(const dns::Question &)>;

/* A packet that is no answer to the question. */
struct Lie {
    const char *name;
    Make make;
    bool message = true; /* of DNS, at least */
};

std::vector<Lie> lies()
{
    auto lie = [](const dns::Question &question) {
        return dns::Reply(question).address("127.0.0.9", 60);
    };
    return {
        {"id.test",
         [=](const dns::Question &q) {
             std::string id = q.id();
             id[1] = static_cast<char>(id[1] ^ 1);
             return lie(q).id(id).bytes();
         }},
        {"name.test",
         [=](const dns::Question &q) {
             return lie(q)
                 .section(dns::wire_name("evil.test") + dns::number16(dns::TYPE_A) +
                          dns::number16(dns::CLASS_IN))
                 .bytes();
         }},
        {"type.test",
         [=](const dns::Question &q) {
             return lie(q)
                 .section(dns::wire_name(q.name) + dns::number16(dns::TYPE_AAAA) +
                          dns::number16(dns::CLASS_IN))
                 .bytes();
         }},
        {"class.test",
         [=](const dns::Question &q) {
             return lie(q)
                 .section(dns::wire_name(q.name) + dns::number16(dns::TYPE_A) + dns::number16(3))
                 .bytes();
         }},
        {"loop.test",
         [=](const dns::Question &q) {
             return lie(q)
                 .section(dns::pointer_to(dns::QUESTION_NAME) + dns::number16(1) + dns::number16(1))
                 .bytes();
         },
         false},
        {"header.test", [=](const dns::Question &q) { return lie(q).bytes().substr(0, 12); },
         false},
        {"eleven.test", [=](const dns::Question &q) { return lie(q).bytes().substr(0, 11); },
         false},
        {"one.test", [=](const dns::Question &q) { return q.id().substr(0, 1); }, false},
        {"half.test", [=](const dns::Question &q) { return lie(q).bytes().substr(0, 18); }, false}};
}

/* A lie that does not belong to the question, then the truth: the lie is as if it had not come. */
TEST_P(NameHostile, AnswersToOtherQuestionsAreIgnored)
{
    size_t good = 0;
    for (const Lie &one : lies()) {
        const Make make = one.make;
        server->script(one.name, [make](const dns::Question &question) {
            dns::Deed deed = true_answer(question);
            deed.packets.insert(deed.packets.begin(), make(question));
            return deed;
        });
        int result = result_of(one.name);
        EXPECT_TRUE(one.message ? result == 3 : is_nonsense_or(3, result)) << one.name << result;
        EXPECT_EQ(server->asked(one.name), 1u) << one.name;
        good += result == 3;
    }
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == good; }));
}

TEST_P(NameHostile, AnswerFromAnotherPortIsIgnored)
{
    server->script("host.test", [](const dns::Question &question) {
        dns::Deed deed = true_answer(question);
        deed.from_elsewhere = dns::Reply(question).address("127.0.0.9", 60).bytes();
        return deed;
    });
    EXPECT_EQ(result_of("host.test"), 3);
    EXPECT_TRUE(run_until(loop, [&] { return inbox.count() == 1; }));
}

const std::string in4("\x7f\0\0\1", 4), self = dns::pointer_to(dns::QUESTION_NAME);

/* A reply with this one record. */
Make record(const std::string &owner, unsigned length, const std::string &data,
            uint16_t type = dns::TYPE_A, uint16_t rclass = dns::CLASS_IN)
{
    return [=](const dns::Question &q) {
        return dns::Reply(q).record(owner, type, rclass, 60, length, data).bytes();
    };
}

using Malformed = std::vector<std::pair<std::string, Make>>;

/* Owners: a pointer to itself, two that point at each other, beyond the end, cut off, a reserved
 * kind of label, a label longer than the packet. */
Malformed bad_owners()
{
    using dns::pointer_to;
    return {{"itself",
             [](const dns::Question &q) {
                 unsigned at = static_cast<unsigned>(12 + q.section().size());
                 return dns::Reply(q).record(pointer_to(at), 1, 1, 60, 4, in4).bytes();
             }},
            {"each-other",
             [](const dns::Question &q) {
                 unsigned at = static_cast<unsigned>(12 + q.section().size());
                 return dns::Reply(q)
                     .record(pointer_to(at + 2) + pointer_to(at), 1, 1, 60, 4, in4)
                     .bytes();
             }},
            {"beyond", record(pointer_to(0x3fff), 4, in4)},
            {"cut-pointer",
             [](const dns::Question &q) {
                 return dns::Reply(q).append("\xc0").answer_count(1).bytes();
             }},
            {"reserved", record("\x80\x01", 4, in4)},
            {"long-label", [](const dns::Question &q) {
                 return dns::Reply(q)
                     .append("\x3f"
                             "abc")
                     .answer_count(1)
                     .bytes();
             }}};
}

/* Lengths: more than there is, less than an address, records that are missing. */
Malformed bad_lengths()
{
    return {
        {"too-long", record(self, 500, in4)},
        {"max-long", record(self, 65535, in4)},
        {"three-bytes", record(self, 3, in4.substr(0, 3))},
        {"no-bytes", record(self, 0, "")},
        {"missing", [](const dns::Question &q) { return dns::Reply(q).answer_count(1).bytes(); }},
        {"many-missing",
         [](const dns::Question &q) { return dns::Reply(q).answer_count(65535).bytes(); }},
        {"cut-record", [](const dns::Question &q) {
             return dns::Reply(q).append(self + dns::number16(1)).answer_count(1).bytes();
         }}};
}

/* Aliases: to themselves, in a circle, to a looping name, to nothing. */
Malformed bad_aliases()
{
    using dns::pointer_to;
    return {
        {"alias-self", record(self, 2, self, dns::TYPE_CNAME)},
        {"alias-loop",
         [](const dns::Question &q) {
             unsigned at = static_cast<unsigned>(12 + q.section().size() + 12);
             return dns::Reply(q).record(self, dns::TYPE_CNAME, 1, 60, 2, pointer_to(at)).bytes();
         }},
        {"alias-empty", record(self, 0, "", dns::TYPE_CNAME)},
        {"alias-circle", [](const dns::Question &q) {
             return dns::Reply(q).alias(q.name, "b.test", 60).alias("b.test", q.name, 60).bytes();
         }}};
}

/* Records that are no answer: another class, another type. */
Malformed bad_records()
{
    return {{"other-class", record(self, 4, in4, dns::TYPE_A, 3)},
            {"other-type", record(self, 4, in4, 16)},
            {"other-family", record(self, 16, std::string(15, '\0') + '\1', dns::TYPE_AAAA)}};
}

/* Right id, right question, and then nonsense. */
TEST_P(NameHostile, MalformedAnswersFail)
{
    Malformed cases;
    for (const Malformed &some : {bad_owners(), bad_lengths(), bad_aliases(), bad_records()}) {
        cases.insert(cases.end(), some.begin(), some.end());
    }
    for (const auto &one : cases) {
        std::string name = one.first + ".test";
        server->script(name, one_packet(one.second));
        int result = result_of(name);
        EXPECT_TRUE(result == DGRAM_EDNSFAILED || result == DGRAM_ENOTFOUND)
            << name << ": " << dgram_error_name(result);
        server->address(name, "127.0.0.1");
    }
    /* which newer versions of c-ares take: an address of another owner, the first four bytes */
    const std::pair<std::string, dns::Script> taken[] = {
        {"other-owner.test", one_packet(record(dns::wire_name("other.test"), 4, in4))},
        {"sixteen.test",
         one_packet(record(self, 16, std::string("\x7f\0\0\1", 4) + std::string(12, '\1')))}};
    for (const auto &one : taken) {
        server->script(one.first, one.second);
        int result = result_of(one.first);
        EXPECT_TRUE(is_nonsense_or(3, result) || result == DGRAM_ENOTFOUND) << result;
    }
    let_pass(loop, TTL_OVER);
    for (const auto &one : cases) {
        EXPECT_EQ(result_of(one.first + ".test"), 3) << one.first;
    }
}

bool is_an_outcome(int result)
{
    return result == 3 || result == DGRAM_EDNSFAILED || result == DGRAM_ENOTFOUND ||
           result == DGRAM_EDNSTIMEOUT;
}

/* Packets that c-ares is known to have stumbled over, or may well take for an answer. */
TEST_P(NameHostile, OddAnswersDoNoHarm)
{
    const std::pair<const char *, std::function<std::string(const dns::Question &)>> cases[] = {
        {"empty.test", [](const dns::Question &) { return std::string(); }},
        {"echo.test", [](const dns::Question &q) { return q.message; }},
        {"twice.test", [](const dns::Question &q) { return true_answer(q).packets[0]; }}};
    for (const auto &one : cases) {
        auto make = one.second;
        server->script(one.first, [make](const dns::Question &question) {
            dns::Deed deed = true_answer(question);
            deed.packets.insert(deed.packets.begin(), make(question));
            return deed;
        });
        int result = result_of(one.first);
        EXPECT_TRUE(is_an_outcome(result)) << one.first << ": " << result;
    }
    server->address("host.test", "127.0.0.1");
    EXPECT_EQ(result_of("host.test"), 3);
}

/* Larger than plain DNS allows: whatever is made of it, it is whole or not used. */
TEST_P(NameHostile, OversizedAnswersDoNoHarm)
{
    for (size_t size : {513, 1232, 4096, 4097, 9000, 65000}) {
        std::string name = "size" + std::to_string(size) + ".test";
        server->script(name, [size](const dns::Question &question) {
            dns::Deed deed = true_answer(question);
            if (!question.tcp) {
                deed.packets[0].resize(size, '\0');
            }
            return deed;
        });
        EXPECT_EQ(result_of(name), 3) << name;
    }
}

std::string random_bytes(std::mt19937 *random, size_t size)
{
    std::string bytes(size, '\0');
    for (char &byte : bytes) {
        byte = static_cast<char>((*random)());
    }
    return bytes;
}

/* Some packets of noise, then the truth. With a disguise they have the right id and question. */
dns::Script noise_and_truth(unsigned seed, bool disguise)
{
    return [=](const dns::Question &question) {
        std::mt19937 random(seed);
        dns::Deed deed = true_answer(question);
        for (int i = 0; i < 4 && !question.tcp; i++) {
            std::string bytes = random_bytes(&random, 1 + random() % 500);
            if (disguise) {
                bytes = question.id() + random_bytes(&random, 2) + dns::number16(1) +
                        random_bytes(&random, 6) + question.section() + bytes;
            }
            deed.packets.insert(deed.packets.begin(), bytes);
        }
        return deed;
    };
}

/* A few at a time: the socket of the resolver has room for all that comes. */
std::vector<int> NameHostile::results_of_noise(bool disguise)
{
    constexpr size_t at_once = 10;
    std::vector<int> all;
    for (size_t i = 0; i < 100; i += at_once) {
        Results results;
        for (size_t k = i; k < i + at_once; k++) {
            std::string name = "noise" + std::to_string(k) + ".test";
            server->script(name, noise_and_truth(seed_ + static_cast<unsigned>(k), disguise));
            EXPECT_EQ(send_counted(name, &results), 0);
        }
        EXPECT_TRUE(run_until(loop, [&] { return results.values.size() >= at_once; }));
        catch_up();
        EXPECT_EQ(results.values.size(), at_once);
        all.insert(all.end(), results.values.begin(), results.values.end());
    }
    return all;
}

TEST_P(NameHostile, RandomBytesAreNoAnswer)
{
    fprintf(stderr, "DGRAM_TEST_SEED=%u\n", seed_);
    SCOPED_TRACE(seed_);
    for (int result : results_of_noise(false)) {
        EXPECT_TRUE(is_nonsense_or(3, result)) << result;
    }
}

/* Anything may come of it but a crash, a hang or two results. */
TEST_P(NameHostile, RandomBytesInDisguiseDoNoHarm)
{
    fprintf(stderr, "DGRAM_TEST_SEED=%u\n", seed_);
    SCOPED_TRACE(seed_);
    for (int result : results_of_noise(true)) {
        EXPECT_TRUE(is_an_outcome(result)) << result;
    }
}

} /* namespace */
