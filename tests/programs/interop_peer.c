/* SPDX-License-Identifier: MIT */
/*
 * interop_peer.c: the library's end of the conversations that interop_test.py holds with other
 * programs. Uses dgram.h only.
 *
 *     interop_peer [-6] [-o] [-d SERVERS] MODE ...
 *
 *     probe                          says whether the engine of DGRAM_ENGINE works; 77 if not
 *     echo ADDRESS PORT              prints "port N" and returns every datagram, until SIGTERM
 *     send HOST PORT COUNT SIZE...   for each size, COUNT datagrams at once; all must come back
 *     query ADDRESS PORT NAME TYPE   asks a name server for A (1) or AAAA (28) records
 *
 * -6 takes a udp6 socket, -o sends one way and waits for no echo, -d asks other name servers than
 * the host's.
 */
#include "tests/programs/common.h"

#include <arpa/inet.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { SKIPPED = 77 };

static struct dgram_loop *loop;
static uint32_t type = DGRAM_UDP4;
static bool one_way;
static int outcome;

/* The end of a test that cannot go on. */
static void fail(const char *why)
{
    printf("failed: %s\n", why);
    outcome = 1;
    dgram_loop_stop(loop);
}

static void on_error(struct dgram_socket *socket, const struct dgram_error *error, void *user)
{
    (void) socket;
    (void) user;
    printf("error event: %s: %s\n", error->operation, dgram_error_name(error->code));
    fail("an error event");
}

static struct dgram_socket *open_socket(dgram_message_fn *on_message, void *user)
{
    struct dgram_socket *socket;
    struct dgram_socket_options options = {
        .size = sizeof(options), .on_message = on_message, .user = user};
    check(dgram_create_socket(loop, type, &options, &socket), "socket");
    check(dgram_on_error(socket, on_error, NULL), "socket");
    return socket;
}

static void on_time_out(struct dgram_timer *timer, void *user)
{
    (void) timer;
    fail(user);
}

static struct dgram_timer *start_timer(char *why)
{
    struct dgram_timer *timer;
    check(dgram_timer_create(loop, on_time_out, why, &timer), "timer");
    check(dgram_timer_start(timer, PATIENCE_S * INT64_C(1000000000), 0), "timer");
    return timer;
}

/* ---- probe --------------------------------------------------------------------------------- */

static int probe(void)
{
    const char *name = getenv("DGRAM_ENGINE");
    struct dgram_engine_report report = {.size = sizeof(report)};
    bool uring = name == NULL || strcmp(name, "uring") == 0;
    check(dgram_engine_probe(uring ? DGRAM_ENGINE_URING : DGRAM_ENGINE_POLL, &report), "probe");
    if (report.code < 0) {
        printf("engine %s does not work here: %s%s%s\n", report.name, report.call,
               report.call[0] != '\0' ? ": " : "", dgram_error_name(report.code));
        return SKIPPED;
    }
    printf("engine %s\n", report.name);
    return 0;
}

/* ---- echo ---------------------------------------------------------------------------------- */

struct echo {
    unsigned long received, returned, failed;
};

static void echo_sent(struct dgram_socket *socket, int result, void *user)
{
    struct echo *echo = user;
    (void) socket;
    echo->returned += result >= 0;
    echo->failed += result < 0;
}

static void echo_message(struct dgram_socket *socket, const struct dgram_message *message,
                         void *user)
{
    struct echo *echo = user;
    echo->received++;
    if (message->size == 0) {
        puts("empty"); /* some peers cannot tell that they got an empty one back */
    }
    /* With a callback the bytes would be borrowed beyond this handler: hence DGRAM_COPY. */
    int code = dgram_send_to(socket, message->data, message->size, message->from, echo_sent, echo);
    echo->failed += code < 0;
}

static void on_signal(int number)
{
    (void) number;
    dgram_loop_stop(loop); /* NOLINT(bugprone-signal-handler): may be called here, says dgram.h */
}

static int echo_mode(char **arguments)
{
    struct echo echo = {0};
    struct dgram_addr address;
    struct dgram_socket *socket;
    struct dgram_socket_options options = {
        .size = sizeof(options), .flags = DGRAM_COPY, .on_message = echo_message, .user = &echo};
    check(dgram_create_socket(loop, type, &options, &socket), "socket");
    check(dgram_bind(socket, (uint16_t) strtoul(arguments[1], NULL, 10), arguments[0]), "bind");
    check(dgram_address(socket, &address), "address");
    signal(SIGTERM, on_signal);
    printf("port %u\n", dgram_addr_port(&address));
    check(dgram_loop_run(loop), "run");
    signal(SIGTERM, SIG_DFL);
    loop = dgram_loop_free(loop); /* completes what is queued */
    printf("received %lu, returned %lu, failed %lu\n", echo.received, echo.returned, echo.failed);
    return 0;
}

/* ---- send ---------------------------------------------------------------------------------- */

struct sender {
    struct dgram_socket *socket;
    const char *host;
    uint16_t port;
    struct dgram_timer *timer;
    unsigned char *payloads; /* of one round: `count` of `size` bytes each */
    size_t count, size, sent, echoed;
    size_t seed;  /* of the round's first payload */
    char **sizes; /* of the rounds to come */
};

/* Differs from place to place and from datagram to datagram. */
static void fill(unsigned char *payload, size_t size, size_t seed)
{
    for (size_t i = 0; i < size; i++) {
        payload[i] = (unsigned char) (seed * 31 + i * 7 + (i >> 8) * 13);
    }
}

static void round_end(struct sender *sender);

static void sender_sent(struct dgram_socket *socket, int result, void *user)
{
    struct sender *sender = user;
    (void) socket;
    if (result != (int) sender->size) {
        printf("send of %zu bytes: %d\n", sender->size, result);
        fail("a send");
    }
    sender->sent++;
    round_end(sender);
}

static void sender_message(struct dgram_socket *socket, const struct dgram_message *message,
                           void *user)
{
    struct sender *sender = user;
    const unsigned char *expected = sender->payloads + sender->echoed * sender->size;
    (void) socket;
    if (sender->echoed == sender->count || message->size != sender->size ||
        message->real_size != message->size || message->flags != 0 ||
        memcmp(message->data, expected, sender->size) != 0 ||
        dgram_addr_port(message->from) != sender->port) {
        printf("echo %zu: %u bytes instead of %zu, or others\n", sender->echoed, message->size,
               sender->size);
        fail("another datagram came back");
        return;
    }
    sender->echoed++;
    round_end(sender);
}

static void round_begin(struct sender *sender)
{
    sender->size = strtoul(*sender->sizes++, NULL, 10);
    sender->seed += sender->count;
    sender->sent = sender->echoed = 0;
    free(sender->payloads);
    sender->payloads = allocate(sender->count * sender->size);
    for (size_t i = 0; i < sender->count; i++) {
        unsigned char *payload = sender->payloads + i * sender->size;
        fill(payload, sender->size, sender->seed + i);
        check(dgram_send(sender->socket, payload, sender->size, sender->port, sender->host,
                         sender_sent, sender),
              "send");
    }
    check(dgram_timer_start(sender->timer, PATIENCE_S * INT64_C(1000000000), 0), "timer");
}

static void round_end(struct sender *sender)
{
    if (sender->sent < sender->count || (sender->echoed < sender->count && !one_way)) {
        return;
    }
    printf("%zu x %zu bytes %s\n", sender->count, sender->size, one_way ? "sent" : "came back");
    if (*sender->sizes != NULL) {
        round_begin(sender);
    } else {
        dgram_loop_stop(loop);
    }
}

static int send_mode(char **arguments)
{
    static char why[] = "an echo is missing";
    struct sender sender = {.host = arguments[0],
                            .port = (uint16_t) strtoul(arguments[1], NULL, 10),
                            .count = strtoul(arguments[2], NULL, 10),
                            .sizes = arguments + 3};
    sender.socket = open_socket(sender_message, &sender);
    sender.timer = start_timer(why);
    round_begin(&sender);
    check(dgram_loop_run(loop), "run");
    loop = dgram_loop_free(loop);
    free(sender.payloads);
    return outcome;
}

/* ---- query --------------------------------------------------------------------------------- */

/* RFC 1035, section 4. */
enum { DNS_HEADER = 12, DNS_FIXED = 10, DNS_MAX = 512 };

struct query {
    struct dgram_addr server;
    unsigned char bytes[DNS_MAX];
    size_t size;
    unsigned rrtype;
};

static unsigned read16(const unsigned char *bytes)
{
    return (unsigned) bytes[0] << 8 | bytes[1];
}

static size_t write_name(unsigned char *out, const char *name)
{
    size_t size = 0;
    while (*name != '\0') {
        size_t label = strcspn(name, ".");
        out[size++] = (unsigned char) label;
        memcpy(out + size, name, label);
        size += label;
        name += label;
        name += *name == '.';
    }
    out[size++] = 0;
    return size;
}

static void write_query(struct query *query, const char *name)
{
    static const unsigned char header[DNS_HEADER] = {0xd6, 0x4a, 0x01, 0x00, 0, 1};
    memcpy(query->bytes, header, sizeof(header));
    query->size = DNS_HEADER + write_name(query->bytes + DNS_HEADER, name);
    query->bytes[query->size++] = 0;
    query->bytes[query->size++] = (unsigned char) query->rrtype;
    query->bytes[query->size++] = 0;
    query->bytes[query->size++] = 1; /* IN */
}

/* Behind a name, which may end in a pointer. */
static size_t skip_name(const unsigned char *bytes, size_t size, size_t at)
{
    while (at < size && bytes[at] != 0 && bytes[at] < 0xc0) {
        at += bytes[at] + 1u;
    }
    return at < size && bytes[at] >= 0xc0 ? at + 2 : at + 1;
}

/* Prints the addresses among the answers. */
static void print_answers(const struct query *query, const unsigned char *bytes, size_t size)
{
    unsigned answers = read16(bytes + 6);
    size_t at = query->size;
    for (unsigned i = 0; i < answers; i++) {
        at = skip_name(bytes, size, at);
        if (at + DNS_FIXED > size || at + DNS_FIXED + read16(bytes + at + 8) > size) {
            fail("the reply is cut");
            return;
        }
        unsigned rrtype = read16(bytes + at), length = read16(bytes + at + 8);
        char text[INET6_ADDRSTRLEN];
        at += DNS_FIXED;
        if (rrtype == query->rrtype && (length == 4 || length == 16)) {
            printf("answer %s\n",
                   inet_ntop(length == 4 ? AF_INET : AF_INET6, bytes + at, text, sizeof(text)));
        }
        at += length;
    }
}

static void query_message(struct dgram_socket *socket, const struct dgram_message *message,
                          void *user)
{
    const struct query *query = user;
    const unsigned char *bytes = message->data;
    (void) socket;
    if (!dgram_addr_equal(message->from, &query->server) || message->size < query->size ||
        read16(bytes) != read16(query->bytes) || (bytes[2] & 0x80) == 0 ||
        memcmp(bytes + DNS_HEADER, query->bytes + DNS_HEADER, query->size - DNS_HEADER) != 0) {
        fail("this is no reply to the query");
        return;
    }
    printf("rcode %d\n", bytes[3] & 15);
    print_answers(query, bytes, message->size);
    dgram_loop_stop(loop);
}

static void query_sent(struct dgram_socket *socket, int result, void *user)
{
    (void) socket;
    (void) user;
    check(result, "send");
}

static int query_mode(char **arguments)
{
    static char why[] = "no reply";
    static struct query query;
    uint16_t port = (uint16_t) strtoul(arguments[1], NULL, 10);
    if (strlen(arguments[2]) > DNS_MAX / 2) {
        return 2;
    }
    query.rrtype = (unsigned) strtoul(arguments[3], NULL, 10) & 0xff;
    check(dgram_addr_parse(arguments[0], port, &query.server), "server");
    write_query(&query, arguments[2]);
    struct dgram_socket *socket = open_socket(query_message, &query);
    start_timer(why);
    check(dgram_send_to(socket, query.bytes, query.size, &query.server, query_sent, NULL), "send");
    check(dgram_loop_run(loop), "run");
    loop = dgram_loop_free(loop);
    return outcome;
}

/* -------------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    struct dgram_loop_options options = {.size = sizeof(options)};
    int option;
    while ((option = getopt(argc, argv, "6od:")) != -1) {
        if (option == '6') {
            type = DGRAM_UDP6;
        } else if (option == 'o') {
            one_way = true;
        } else if (option == 'd') {
            options.dns_servers = optarg;
        } else {
            return 2;
        }
    }
    char **arguments = argv + optind + 1;
    const char *mode = optind < argc ? argv[optind] : "";
    int count = argc - optind - 1;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(mode, "probe") == 0) {
        return probe();
    }
    check(dgram_loop_create(&options, &loop), "loop");
    if (strcmp(mode, "echo") == 0 && count == 2) {
        return echo_mode(arguments);
    }
    if (strcmp(mode, "send") == 0 && count >= 4) {
        return send_mode(arguments);
    }
    if (strcmp(mode, "query") == 0 && count == 4) {
        return query_mode(arguments);
    }
    fprintf(stderr, "usage: %s [-6] [-o] [-d SERVERS] probe|echo|send|query ...\n", argv[0]);
    dgram_loop_free(loop);
    return 2;
}
