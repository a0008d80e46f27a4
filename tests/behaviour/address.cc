/* SPDX-License-Identifier: MIT */
/*
 * address.cc: what needs no loop: addresses and their text, the names and sentences of errors, the
 * version.
 */
#include <net/if.h>

#include <cstddef>
#include <set>

#include "tests/support/harness.h"

using namespace harness;

namespace
{

class Address : public HostTest
{
};
class Words : public HostTest
{
};

TEST_F(Address, TextGoesRound)
{
    for (const char *text : {"0.0.0.0", "127.0.0.1", "255.255.255.255", "192.0.2.33", "::", "::1",
                             "2001:db8::1", "::ffff:192.0.2.1", "ff02::1", "fe80::1"}) {
        struct dgram_addr address = {};
        ASSERT_EQ(dgram_addr_parse(text, 4711, &address), 0) << text;
        char room[DGRAM_ADDR_TEXT_MAX];
        EXPECT_EQ(dgram_addr_text(&address, room), room);
        EXPECT_STREQ(room, text);
        EXPECT_EQ(dgram_addr_port(&address), 4711);
        EXPECT_STREQ(dgram_addr_family(&address), strchr(text, ':') != nullptr ? "IPv6" : "IPv4");
        EXPECT_EQ(address.size, strchr(text, ':') != nullptr ? sizeof(struct sockaddr_in6)
                                                             : sizeof(struct sockaddr_in));
    }
}

TEST_F(Address, TextIsWrittenInTheUsualForm)
{
    const struct {
        const char *read, *written;
    } pairs[] = {{"0:0:0:0:0:0:0:1", "::1"},
                 {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
                 {"::FFFF:127.0.0.1", "::ffff:127.0.0.1"},
                 {"::ffff:7f00:1", "::ffff:127.0.0.1"}};
    for (const auto &pair : pairs) {
        struct dgram_addr address = parse(pair.read, 1);
        EXPECT_EQ(text_of(&address), pair.written);
    }
}

/* The longest text fits. */
TEST_F(Address, LongestTextFits)
{
    struct dgram_addr address = parse("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", 65535);
    EXPECT_EQ(dgram_addr_port(&address), 65535);
    EXPECT_EQ(text_of(&address), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
}

/* L46, T14: a zone belongs to the literal; an unknown one is an error, not "the default". */
TEST_F(Address, ZonesAreReadAndWrittenForLinkLocalAddresses)
{
    const unsigned index = if_nametoindex("lo");
    if (index == 0) {
        GTEST_SKIP() << "no interface lo";
    }
    struct dgram_addr by_name = parse("fe80::1%lo", 5);
    struct dgram_addr by_number = parse("fe80::1%" + std::to_string(index), 5);
    struct dgram_addr without = parse("fe80::1", 5);
    EXPECT_EQ(by_name.u.in6.sin6_scope_id, index);
    EXPECT_TRUE(dgram_addr_equal(&by_name, &by_number));
    EXPECT_FALSE(dgram_addr_equal(&by_name, &without));
    EXPECT_EQ(text_of(&by_name), "fe80::1%lo");
    EXPECT_EQ(text_of(&by_number), "fe80::1%lo");
    EXPECT_EQ(text_of(&without), "fe80::1");
    struct dgram_addr global = parse("2001:db8::1%lo", 5);
    EXPECT_EQ(text_of(&global), "2001:db8::1");
    struct dgram_addr untouched = parse("192.0.2.1", 1);
    for (const char *text :
         {"fe80::1%", "fe80::1%no-such-if", "fe80::1%0", "fe80::1%4000000000",
          "fe80::1%99999999999999999999", "fe80::1%-1", "fe80::1%1x", "fe80::1%lo%lo",
          "fe80::1%lo:8125", "fe80::1%lo:", "::1%lo:junk", "ff02::fb%lo:5353", "fe80::1%1:8125",
          "fe80::1%lo/64", "fe80::1%lo ", "fe80::1% lo", "fe80::1%lo\t", "fe80::1%1/64",
          "fe80::1%longer-than-any-interface"}) {
        EXPECT_EQ(dgram_addr_parse(text, 1, &untouched), DGRAM_EBADINTERFACE) << text;
    }
    EXPECT_EQ(dgram_addr_parse("127.0.0.1%lo", 1, &untouched), DGRAM_EBADADDRESS);
    EXPECT_EQ(text_of(&untouched), "192.0.2.1");
}

TEST_F(Address, WhatIsNoLiteralIsRefused)
{
    struct dgram_addr untouched = parse("192.0.2.1", 1);
    const std::string endless(5000, '1');
    for (const char *text : {"",
                             " ",
                             "localhost",
                             "1",
                             "1.2.3",
                             "1.2.3.4.5",
                             "256.1.1.1",
                             "01.2.3.4.",
                             "1.2.3.4 ",
                             " 1.2.3.4",
                             "1.2.3.-4",
                             "0x7f.0.0.1",
                             "1.2.3.4:80",
                             "[::1]",
                             ":::",
                             "1::2::3",
                             "12345::",
                             "::1/64",
                             "::1 ",
                             "g::",
                             "::ffff:256.0.0.1",
                             "%lo",
                             "1:2:3:4:5:6:7:8:9",
                             endless.c_str()}) {
        EXPECT_EQ(dgram_addr_parse(text, 1, &untouched), DGRAM_EBADADDRESS) << text;
    }
    EXPECT_EQ(dgram_addr_parse(nullptr, 1, &untouched), DGRAM_ENULL);
    EXPECT_EQ(dgram_addr_parse("::1", 1, nullptr), DGRAM_ENULL);
    EXPECT_EQ(text_of(&untouched), "192.0.2.1");
}

/* Whoever is told so finds the mistake: a port or brackets in the text, or a name where none may
 * stand. */
TEST_F(Address, TheSentenceNamesTheCommonestMistakes)
{
    const std::string sentence = dgram_strerror(DGRAM_EBADADDRESS);
    for (const char *word : {"IP address", "port", "brackets", "where allowed, a host name"}) {
        EXPECT_NE(sentence.find(word), std::string::npos) << word << ": " << sentence;
    }
    EXPECT_EQ(sentence.find("neither"), std::string::npos) << sentence;
}

TEST_F(Address, WhatIsNoIpAddressHasNoText)
{
    struct dgram_addr local = {};
    local.u.un.sun_family = AF_UNIX;
    strcpy(local.u.un.sun_path, "/somewhere");
    local.size = sizeof(local.u.un);
    struct dgram_addr none = {};
    for (const struct dgram_addr *address : {static_cast<const struct dgram_addr *>(&local),
                                             static_cast<const struct dgram_addr *>(&none)}) {
        EXPECT_EQ(text_of(address), "");
        EXPECT_EQ(dgram_addr_port(address), 0);
        EXPECT_STREQ(dgram_addr_family(address), "");
    }
    char room[DGRAM_ADDR_TEXT_MAX];
    EXPECT_STREQ(dgram_addr_text(nullptr, room), "");
    EXPECT_EQ(dgram_addr_port(nullptr), 0);
    EXPECT_STREQ(dgram_addr_family(nullptr), "");
}

TEST_F(Address, EqualComparesFamilyAddressPortAndZone)
{
    struct dgram_addr one = parse("192.0.2.1", 80), same = parse("192.0.2.1", 80);
    memset(same.u.in4.sin_zero, 0xee, sizeof(same.u.in4.sin_zero)); /* does not count */
    memset(&same.u.un.sun_path[40], 0xee, 20);
    EXPECT_TRUE(dgram_addr_equal(&one, &same));
    struct dgram_addr port = parse("192.0.2.1", 81), other = parse("192.0.2.2", 80);
    struct dgram_addr mapped = parse("::ffff:192.0.2.1", 80);
    EXPECT_FALSE(dgram_addr_equal(&one, &port));
    EXPECT_FALSE(dgram_addr_equal(&one, &other));
    EXPECT_FALSE(dgram_addr_equal(&one, &mapped));
    struct dgram_addr six = parse("2001:db8::1", 80), flow = parse("2001:db8::1", 80);
    flow.u.in6.sin6_flowinfo = 77; /* does not count */
    EXPECT_TRUE(dgram_addr_equal(&six, &flow));
    EXPECT_FALSE(dgram_addr_equal(&six, nullptr));
    EXPECT_FALSE(dgram_addr_equal(nullptr, &six));
}

TEST_F(Words, EveryCodeHasItsNameAndASentence)
{
    const struct {
        int code;
        const char *name;
    } codes[] = {{DGRAM_ENULL, "DGRAM_ENULL"},
                 {DGRAM_EBADTYPE, "DGRAM_EBADTYPE"},
                 {DGRAM_EBADOPTIONS, "DGRAM_EBADOPTIONS"},
                 {DGRAM_EBADPORT, "DGRAM_EBADPORT"},
                 {DGRAM_EBADADDRESS, "DGRAM_EBADADDRESS"},
                 {DGRAM_EBADFAMILY, "DGRAM_EBADFAMILY"},
                 {DGRAM_EBADTTL, "DGRAM_EBADTTL"},
                 {DGRAM_EBADGROUP, "DGRAM_EBADGROUP"},
                 {DGRAM_EBADINTERFACE, "DGRAM_EBADINTERFACE"},
                 {DGRAM_EBADTIME, "DGRAM_EBADTIME"},
                 {DGRAM_EBADBUFFERSIZE, "DGRAM_EBADBUFFERSIZE"},
                 {DGRAM_EALREADYBOUND, "DGRAM_EALREADYBOUND"},
                 {DGRAM_ENOTBOUND, "DGRAM_ENOTBOUND"},
                 {DGRAM_ENOTRUNNING, "DGRAM_ENOTRUNNING"},
                 {DGRAM_EFORKED, "DGRAM_EFORKED"},
                 {DGRAM_EWRONGTHREAD, "DGRAM_EWRONGTHREAD"},
                 {DGRAM_EREENTERED, "DGRAM_EREENTERED"},
                 {DGRAM_EBADENGINE, "DGRAM_EBADENGINE"},
                 {DGRAM_ENOTFOUND, "DGRAM_ENOTFOUND"},
                 {DGRAM_EDNSTIMEOUT, "DGRAM_EDNSTIMEOUT"},
                 {DGRAM_EDNSFAILED, "DGRAM_EDNSFAILED"},
                 {DGRAM_EWRONGLOOP, "DGRAM_EWRONGLOOP"},
                 {-EADDRINUSE, "EADDRINUSE"},
                 {-EMSGSIZE, "EMSGSIZE"},
                 {-EACCES, "EACCES"},
                 {-E2BIG, "E2BIG"},
                 {-ECANCELED, "ECANCELED"},
                 {-EAGAIN, "EAGAIN"},
                 {0, "OK"},
                 {1, "OK"},
                 {65507, "OK"},
                 {-9999, "UNKNOWN"},
                 {-10000, "UNKNOWN"},
                 {-20000, "UNKNOWN"},
                 {INT32_MIN, "UNKNOWN"}};
    for (const auto &one : codes) {
        EXPECT_STREQ(dgram_error_name(one.code), one.name) << one.code;
        const char *sentence = dgram_strerror(one.code);
        ASSERT_NE(sentence, nullptr) << one.code;
        EXPECT_GT(strlen(sentence), 1u) << one.code;
        EXPECT_NE(sentence[strlen(sentence) - 1], '.') << sentence;
    }
    std::set<std::string> sentences;
    for (const auto &one : codes) {
        if (strncmp(one.name, "DGRAM_", 6) == 0) {
            EXPECT_TRUE(sentences.insert(dgram_strerror(one.code)).second) << one.name;
        }
    }
}

TEST_F(Words, VersionIsTheOneOfTheHeader)
{
    const std::string version = std::to_string(DGRAM_VERSION_MAJOR) + "." +
                                std::to_string(DGRAM_VERSION_MINOR) + "." +
                                std::to_string(DGRAM_VERSION_PATCH);
    EXPECT_EQ(dgram_version(), version);
}

/* ---- Addresses ----------------------------------------------------------------------------- */

/* The interface of a received datagram may be gone when the program writes its sender's address. */
TEST_F(Address, ZoneOfNoInterfaceIsWrittenAsItsNumber)
{
    char text[DGRAM_ADDR_TEXT_MAX];
    struct dgram_addr address = {};
    address.size = sizeof(address.u.in6);
    address.u.in6.sin6_family = AF_INET6;
    address.u.in6.sin6_addr.s6_addr[0] = 0xfe;
    address.u.in6.sin6_addr.s6_addr[1] = 0x80;
    address.u.in6.sin6_addr.s6_addr[15] = 1;
    address.u.in6.sin6_scope_id = 2147483632;
    EXPECT_STREQ(dgram_addr_text(&address, text), "fe80::1%2147483632");
}

struct dgram_addr unix_address(const std::string &path)
{
    struct dgram_addr address = {};
    address.size = static_cast<uint32_t>(offsetof(struct sockaddr_un, sun_path) + path.size() + 1);
    address.u.un.sun_family = AF_UNIX;
    memcpy(address.u.un.sun_path, path.c_str(), path.size() + 1);
    return address;
}

TEST_F(Address, OfAnotherFamilyIsComparedByItsBytes)
{
    const struct dgram_addr one = unix_address("one"), same = unix_address("one");
    const struct dgram_addr two = unix_address("two"), longer = unix_address("one more");
    EXPECT_TRUE(dgram_addr_equal(&one, &same));
    EXPECT_FALSE(dgram_addr_equal(&one, &two));
    EXPECT_FALSE(dgram_addr_equal(&one, &longer));
}

TEST_F(Address, EachPartCounts)
{
    const struct dgram_addr one = parse("fd00::1", 1), other = parse("fd00::2", 1);
    const struct dgram_addr port = parse("fd00::1", 2), in4 = parse("127.0.0.1", 1);
    struct dgram_addr zone = one;
    zone.u.in6.sin6_scope_id = 7;
    EXPECT_TRUE(dgram_addr_equal(&one, &one));
    for (const struct dgram_addr &differs : {other, port, in4, zone}) {
        EXPECT_FALSE(dgram_addr_equal(&one, &differs));
        EXPECT_FALSE(dgram_addr_equal(&differs, &one));
    }
}

} /* namespace */
