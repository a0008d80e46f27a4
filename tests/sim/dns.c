/* SPDX-License-Identifier: MIT */
/* dns.c: see dns.h. Messages are those of RFC 1035. */
#include "tests/sim/dns.h"

#include <stdbool.h>
#include <string.h>

#include "tests/sim/sim.h"

enum { DNS_PORT = 53, HEADER_SIZE = 12, TYPE_A = 1, TYPE_AAAA = 28 };
enum { SERVFAIL = 2, NXDOMAIN = 3 };
/* A pointer to the name, type, class, TTL, the data's length. */
enum { RECORD_SIZE = 2 + 2 + 2 + 4 + 2, ADDRESS_MAX = 16, QUESTION_MAX = 512 };

static struct {
    uint32_t ttl;
    uint64_t asked, asked_by_tcp;
} server;

/* An answer; the first two bytes are the length, for streams. */
struct answer {
    uint32_t size;
    unsigned char bytes[2 + QUESTION_MAX + RECORD_SIZE + ADDRESS_MAX];
};

/* Where the first question ends, 0 if there is none. Its name has no pointers. */
static uint32_t question_end(const struct sim_question *question)
{
    uint32_t at = HEADER_SIZE;
    while (at < question->size && question->bytes[at] != 0) {
        at += 1u + question->bytes[at];
    }
    uint32_t end = at + 1 + 4;
    return end <= question->size && end <= QUESTION_MAX ? end : 0;
}

static void put16(unsigned char *bytes, uint32_t value)
{
    bytes[0] = (unsigned char) (value >> 8);
    bytes[1] = (unsigned char) value;
}

static bool label_begins_with(const struct sim_question *question, const char *text)
{
    const unsigned char *label = question->bytes + HEADER_SIZE;
    size_t length = strlen(text);
    if (label[0] < length) {
        return false;
    }
    for (size_t i = 0; i < length; i++) { /* c-ares may ask in capitals */
        if ((label[1 + i] | 0x20) != (text[i] | 0x20)) {
            return false;
        }
    }
    return true;
}

static void append_address(struct answer *answer, uint32_t type)
{
    static const unsigned char in4[] = {127, 0, 0, 1}, in6[16] = {[15] = 1};
    const uint32_t length = type == TYPE_A ? sizeof(in4) : sizeof(in6);
    unsigned char *record = answer->bytes + answer->size;
    put16(record, 0xc000 | HEADER_SIZE);
    put16(record + 2, type);
    put16(record + 4, 1); /* IN */
    put16(record + 6, server.ttl >> 16);
    put16(record + 8, server.ttl);
    put16(record + 10, length);
    memcpy(record + RECORD_SIZE, type == TYPE_A ? in4 : in6, length);
    answer->size += RECORD_SIZE + length;
}

/* A recursive server's. */
static void answer_write(const struct sim_question *question, uint32_t end, uint32_t code,
                         bool truncated, struct answer *answer)
{
    unsigned char *message = answer->bytes + 2;
    uint32_t type = (uint32_t) question->bytes[end - 4] << 8 | question->bytes[end - 3];
    bool exists = !label_begins_with(question, "none");
    bool known = type == TYPE_A || (type == TYPE_AAAA && !label_begins_with(question, "v4"));
    bool tells = code == 0 && !truncated && exists && known;
    code = code == 0 && !exists ? NXDOMAIN : code;
    memset(message, 0, HEADER_SIZE);
    memcpy(message, question->bytes, 2);
    put16(message + 2, 0x8180 | (truncated ? 0x0200 : 0) | code);
    put16(message + 4, 1);
    put16(message + 6, tells);
    memcpy(message + HEADER_SIZE, question->bytes + HEADER_SIZE, end - HEADER_SIZE);
    answer->size = 2 + end;
    if (tells) {
        append_address(answer, type);
    }
    put16(answer->bytes, answer->size - 2);
}

/* In two pieces, of which the second may be the stream's end. */
static void answer_by_stream(const struct sim_question *question, const struct answer *answer,
                             uint64_t late)
{
    uint32_t first = sim_below(answer->size);
    bool hangs_up = sim_chance(sim_present_faults()->dns_hangs_up);
    if (first > 0) {
        sim_reply(question, answer->bytes, first, late);
    }
    if (hangs_up) {
        sim_reply(question, answer->bytes, 0, late);
    } else {
        sim_reply(question, answer->bytes + first, answer->size - first, late);
    }
}

static void on_question(const struct sim_question *question)
{
    const struct sim_faults *faults = sim_present_faults();
    struct answer answer;
    uint32_t end = question_end(question), code = 0;
    server.asked++;
    server.asked_by_tcp += question->stream;
    sim_log("question", question->size, question->stream);
    if (end == 0 || sim_chance(faults->dns_silent)) {
        return;
    }
    if (sim_chance(faults->dns_fails)) {
        code = SERVFAIL;
    } else if (sim_chance(faults->dns_denies)) {
        code = NXDOMAIN;
    }
    uint64_t late =
        sim_chance(faults->dns_late) ? 1 + faults->dns_late_ns / 1000 * sim_below(1000) : 0;
    bool truncated = !question->stream && sim_chance(faults->dns_truncates);
    answer_write(question, end, code, truncated, &answer);
    if (question->stream) {
        answer_by_stream(question, &answer, late);
    } else {
        sim_reply(question, answer.bytes + 2, answer.size - 2, late);
    }
}

void sim_dns_open(void)
{
    server.ttl = 60;
    server.asked = server.asked_by_tcp = 0;
    sim_serve(DNS_PORT, on_question);
}

void sim_dns_ttl(uint32_t ttl)
{
    server.ttl = ttl;
}

uint64_t sim_dns_asked(void)
{
    return server.asked;
}

uint64_t sim_dns_asked_by_tcp(void)
{
    return server.asked_by_tcp;
}
