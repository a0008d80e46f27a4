/* SPDX-License-Identifier: MIT */
/*
 * netns_peer.c: the library's end of netns_test.py: one socket that obeys commands on stdin. Uses
 * dgram.h only.
 *
 *     netns_peer 4|6 [QUEUE_LIMIT]
 *
 * Every command is answered by one line that begins with its name; the end of stdin ends it.
 *
 *     bind PORT [ADDRESS]            ttl N               join GROUP [INTERFACE]
 *     broadcast 0|1                  multicast_ttl N     leave GROUP [INTERFACE]
 *     loopback 0|1                   send_buffer BYTES   interface [INTERFACE]
 *     echo 0|1                       every datagram goes back to its sender
 *     burst COUNT SMALLEST LARGEST PORT ADDRESS...
 *                                    sends with callbacks, to the addresses in turn, obeying
 *                                    -EAGAIN and `drain`; answers when every callback has come
 *     tell SIZE PORT ADDRESS         sends without a callback
 *     error                          answers when `error` events have come, with how many
 *     wait COUNT                     answers when so many datagrams have come since the last
 *                                    answer, or with fewer when patience ends
 *     buffer COUNT SIZE PORT ADDRESS sends from a DGRAM_ZERO_COPY buffer; answers whether zero copy
 *                                    was granted
 *     buffer_free                    frees that buffer, whether it is in use or not
 *     in_use                         answers whether the buffer is
 *     idle                           answers when it is idle, with the loop's counters of zero copy
 *     stats                          the socket's counters
 *     end | close                    dgram_end(), dgram_close(); answers at `close`
 *
 * Datagrams of 16 bytes and more carry a stream, which is a burst's number and the place of its
 * destination, and a sequence number: the receiver knows what is lost, late or damaged.
 */
#include "tests/programs/common.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

enum { STREAMS = 256, CODES = 8, DESTINATIONS = 8, MAGIC = 0x6d617264 };

struct head {
    uint32_t magic, stream, sequence, size;
};

struct stream {
    uint32_t number, next;
    uint16_t port; /* the sender's */
};

/* One datagram of a burst. */
struct item {
    unsigned char *payload;
    size_t size;
    unsigned calls;
};

static struct dgram_loop *loop;
static struct dgram_socket *socket_;

static struct {
    struct item *items;
    size_t count, accepted, completed, good, refused;
    struct dgram_addr to[DESTINATIONS];
    size_t destinations;
    unsigned number;
    int codes[CODES];
    size_t code_counts[CODES];
} burst;
static unsigned called_again; /* callbacks above one for a datagram */

static struct {
    struct stream streams[STREAMS];
    size_t stream_count;
    size_t total, in_order, lost, late, corrupt, other, wanted;
    char from[DGRAM_ADDR_TEXT_MAX];
    unsigned from_port, size;
    bool echoes;
    struct dgram_timer *timer;
} inbox;

static size_t error_count;
static bool error_wanted;
static const char *error_operation = "";
static int error_code;

static uint32_t number_of(const char *text)
{
    return (uint32_t) strtoul(text, NULL, 10);
}

static void answer(const char *command, int code)
{
    printf("%s: %s\n", command, dgram_error_name(code));
}

/* ---- Payloads ------------------------------------------------------------------------------ */

static unsigned char pattern(size_t sequence, size_t place)
{
    return (unsigned char) (sequence * 31 + place * 7 + (place >> 8) * 13);
}

static void payload_write(unsigned char *payload, size_t size, uint32_t stream, uint32_t sequence)
{
    struct head head = {MAGIC, stream, sequence, (uint32_t) size};
    for (size_t i = 0; i < size; i++) {
        payload[i] = pattern(sequence, i);
    }
    if (size >= sizeof(head)) {
        memcpy(payload, &head, sizeof(head));
    }
}

static bool payload_is_whole(const unsigned char *payload, size_t size, const struct head *head)
{
    for (size_t i = sizeof(*head); i < size; i++) {
        if (payload[i] != pattern(head->sequence, i)) {
            return false;
        }
    }
    return head->size == size;
}

/* ---- Receiving ----------------------------------------------------------------------------- */

static struct stream *stream_of(uint32_t number, uint16_t port)
{
    for (size_t i = 0; i < inbox.stream_count; i++) {
        if (inbox.streams[i].number == number && inbox.streams[i].port == port) {
            return &inbox.streams[i];
        }
    }
    if (inbox.stream_count == STREAMS) {
        puts("too many streams");
        exit(1);
    }
    inbox.streams[inbox.stream_count] = (struct stream){.number = number, .port = port};
    return &inbox.streams[inbox.stream_count++];
}

static void inbox_count(const struct dgram_message *message)
{
    struct head head;
    if (message->size < sizeof(head)) {
        inbox.other++;
        return;
    }
    memcpy(&head, message->data, sizeof(head));
    if (head.magic != MAGIC) {
        inbox.other++;
        return;
    }
    if (!payload_is_whole(message->data, message->size, &head)) {
        inbox.corrupt++;
        return;
    }
    struct stream *stream = stream_of(head.stream, dgram_addr_port(message->from));
    if (head.sequence < stream->next) {
        inbox.late++;
        return;
    }
    inbox.lost += head.sequence - stream->next;
    inbox.in_order++;
    stream->next = head.sequence + 1;
}

static void inbox_answer(void)
{
    printf("wait: %zu came, %zu in order, %zu lost, %zu late, %zu corrupt, %zu other, last %u from "
           "%s %u\n",
           inbox.total, inbox.in_order, inbox.lost, inbox.late, inbox.corrupt, inbox.other,
           inbox.size, inbox.from, inbox.from_port);
    inbox.wanted = inbox.total = inbox.in_order = inbox.lost = inbox.late = 0;
    inbox.corrupt = inbox.other = 0;
    dgram_timer_stop(inbox.timer);
}

static void inbox_patience_ends(struct dgram_timer *timer, void *user)
{
    (void) timer;
    (void) user;
    inbox_answer();
}

static void on_message(struct dgram_socket *socket, const struct dgram_message *message, void *user)
{
    (void) user;
    inbox.total++;
    inbox.size = message->size;
    inbox.from_port = dgram_addr_port(message->from);
    dgram_addr_text(message->from, inbox.from);
    inbox_count(message);
    if (inbox.echoes) {
        check(dgram_send_to(socket, message->data, message->size, message->from, NULL, NULL),
              "echo");
    }
    if (inbox.wanted > 0 && inbox.total >= inbox.wanted) {
        inbox_answer();
    }
}

static void error_answer(void)
{
    printf("error: %zu %s %s\n", error_count, error_operation, dgram_error_name(error_code));
    error_count = 0;
    error_wanted = false;
}

static void on_error(struct dgram_socket *socket, const struct dgram_error *error, void *user)
{
    (void) socket;
    (void) user;
    error_count++;
    error_operation = error->operation;
    error_code = error->code;
    if (error_wanted) {
        error_answer();
    }
}

/* ---- Bursts -------------------------------------------------------------------------------- */

static void burst_answer(void)
{
    printf("burst: %zu good", burst.good);
    for (int i = 0; i < CODES && burst.code_counts[i] > 0; i++) {
        printf(", %zu %s", burst.code_counts[i], dgram_error_name(burst.codes[i]));
    }
    printf(", refused %s, called again %u\n", burst.refused > 0 ? "some" : "none", called_again);
}

static void burst_free(void)
{
    for (size_t i = 0; i < burst.count; i++) {
        free(burst.items[i].payload);
    }
    free(burst.items);
    burst.items = NULL;
    burst.count = 0;
}

static void burst_count(const struct item *item, int result)
{
    if (result == (int) item->size) {
        burst.good++;
        return;
    }
    for (int i = 0; i < CODES; i++) {
        if (burst.code_counts[i] == 0 || burst.codes[i] == result) {
            burst.codes[i] = result;
            burst.code_counts[i]++;
            return;
        }
    }
}

static void on_sent(struct dgram_socket *socket, int result, void *user)
{
    struct item *item = user;
    (void) socket;
    if (item->calls++ > 0) {
        called_again++;
        return;
    }
    memset(item->payload, 0xaa, item->size); /* ours again: the receiver must not see this */
    burst_count(item, result);
    if (++burst.completed == burst.count) {
        burst_answer();
    }
}

static void burst_more(struct dgram_socket *socket, void *user)
{
    (void) user;
    while (burst.accepted < burst.count) {
        struct item *item = &burst.items[burst.accepted];
        const struct dgram_addr *to = &burst.to[burst.accepted % burst.destinations];
        int code = dgram_send_to(socket, item->payload, item->size, to, on_sent, item);
        if (code == -EAGAIN) {
            burst.refused++;
            return;
        }
        if (code < 0) {
            answer("burst", code);
            burst_free();
            return;
        }
        burst.accepted++;
    }
}

static void burst_command(char **words, int count)
{
    uint32_t smallest = number_of(words[2]), largest = number_of(words[3]);
    burst_free();
    memset(&burst.codes, 0, sizeof(burst.codes));
    memset(&burst.code_counts, 0, sizeof(burst.code_counts));
    burst.accepted = burst.completed = burst.good = burst.refused = burst.destinations = 0;
    burst.number++;
    for (int i = 5; i < count && burst.destinations < DESTINATIONS; i++) {
        int code = dgram_addr_parse(words[i], (uint16_t) number_of(words[4]),
                                    &burst.to[burst.destinations++]);
        if (code < 0) {
            answer("burst", code);
            return;
        }
    }
    if (burst.destinations == 0) {
        answer("burst", DGRAM_EBADADDRESS);
        return;
    }
    burst.count = number_of(words[1]);
    burst.items = allocate(burst.count * sizeof(struct item));
    for (uint32_t i = 0; i < burst.count; i++) {
        struct item *item = &burst.items[i];
        uint32_t place = i % (uint32_t) burst.destinations;
        item->size = smallest + i * 7919u % (largest - smallest + 1);
        item->payload = allocate(item->size);
        payload_write(item->payload, item->size, burst.number << 8 | place,
                      i / (uint32_t) burst.destinations);
    }
    burst_more(socket_, NULL);
}

static void tell_command(char **words, int count)
{
    struct dgram_addr to;
    unsigned char payload[2048];
    size_t size = number_of(words[1]);
    (void) count;
    size = size > sizeof(payload) ? sizeof(payload) : size;
    payload_write(payload, size, ++burst.number << 8, 0);
    int code = dgram_addr_parse(words[3], (uint16_t) number_of(words[2]), &to);
    answer("tell", code < 0 ? code : dgram_send_to(socket_, payload, size, &to, NULL, NULL));
}

/* ---- A buffer ------------------------------------------------------------------------------ */

static struct dgram_buffer *buffer;
static size_t buffer_size;
static bool buffer_used, idle_wanted;

static void idle_answer(void)
{
    struct dgram_loop_info info = {.size = sizeof(info)};
    check(dgram_loop_info(loop, &info), "info");
    printf("idle: sends %" PRIu64 ", copied %" PRIu64 "\n", info.zero_copy_sends,
           info.zero_copy_copied);
    idle_wanted = false;
}

/* Its bytes are overwritten at once: whoever still reads them is found out. */
static void on_idle(struct dgram_buffer *idle, void *user)
{
    (void) user;
    memset(dgram_buffer_data(idle), 0xee, buffer_size);
    buffer_used = false;
    if (idle_wanted) {
        idle_answer();
    }
}

static void buffer_command(char **words, int count)
{
    struct dgram_addr to;
    uint32_t datagrams = number_of(words[1]), size = number_of(words[2]);
    const struct dgram_buffer_options options = {
        .size = sizeof(options), .flags = DGRAM_ZERO_COPY, .on_idle = on_idle};
    int code = dgram_addr_parse(words[4], (uint16_t) number_of(words[3]), &to);
    (void) count;
    dgram_buffer_free(buffer);
    buffer = NULL;
    buffer_size = (size_t) datagrams * size;
    if (code == 0) {
        code = dgram_buffer_create(loop, buffer_size, &options, &buffer);
    }
    burst.number++;
    for (uint32_t i = 0; i < datagrams && code == 0; i++) {
        unsigned char *payload = (unsigned char *) dgram_buffer_data(buffer) + (size_t) i * size;
        payload_write(payload, size, burst.number << 8, i);
        code = dgram_send_buffer(socket_, buffer, (size_t) i * size, size, &to);
        buffer_used = true;
    }
    answer("buffer", code < 0 ? code : dgram_buffer_zero_copy(buffer));
}

static void buffer_free_command(char **words, int count)
{
    (void) words;
    (void) count;
    buffer = dgram_buffer_free(buffer);
    answer("buffer_free", 0);
}

static void in_use_command(char **words, int count)
{
    (void) words;
    (void) count;
    printf("in_use: %s\n", dgram_buffer_in_use(buffer) ? "yes" : "no");
}

static void idle_command(char **words, int count)
{
    (void) words;
    (void) count;
    idle_wanted = true;
    if (!buffer_used) {
        idle_answer();
    }
}

/* ---- Other commands ------------------------------------------------------------------------ */

static void bind_command(char **words, int count)
{
    struct dgram_addr address;
    int code = dgram_bind(socket_, (uint16_t) number_of(words[1]), count > 2 ? words[2] : NULL);
    if (code < 0) {
        answer("bind", code);
        return;
    }
    check(dgram_address(socket_, &address), "address");
    printf("bind: OK %u\n", dgram_addr_port(&address));
}

static void option_command(char **words, int count)
{
    const char *name = words[0], *text = count > 1 ? words[1] : NULL;
    int value = text != NULL ? (int) number_of(text) : 0;
    int code = DGRAM_ENULL;
    if (strcmp(name, "ttl") == 0) {
        code = dgram_set_ttl(socket_, value);
    } else if (strcmp(name, "broadcast") == 0) {
        code = dgram_set_broadcast(socket_, value != 0);
    } else if (strcmp(name, "multicast_ttl") == 0) {
        code = dgram_set_multicast_ttl(socket_, value);
    } else if (strcmp(name, "loopback") == 0) {
        code = dgram_set_multicast_loopback(socket_, value != 0);
    } else if (strcmp(name, "send_buffer") == 0) {
        code = dgram_set_send_buffer_size(socket_, (uint32_t) value);
    } else if (strcmp(name, "interface") == 0) {
        code = dgram_set_multicast_interface(socket_, text);
    } else if (strcmp(name, "join") == 0 && text != NULL) {
        code = dgram_add_membership(socket_, text, count > 2 ? words[2] : NULL);
    } else if (strcmp(name, "leave") == 0 && text != NULL) {
        code = dgram_drop_membership(socket_, text, count > 2 ? words[2] : NULL);
    }
    answer(name, code);
}

static void echo_command(char **words, int count)
{
    (void) count;
    inbox.echoes = number_of(words[1]) != 0;
    answer("echo", 0);
}

static void error_command(char **words, int count)
{
    (void) words;
    (void) count;
    error_wanted = true;
    if (error_count > 0) {
        error_answer();
    }
}

static void wait_command(char **words, int count)
{
    (void) count;
    inbox.wanted = number_of(words[1]);
    if (inbox.total >= inbox.wanted) {
        inbox_answer();
    } else {
        check(dgram_timer_start(inbox.timer, PATIENCE_S * INT64_C(1000000000), 0), "timer");
    }
}

static void stats_command(char **words, int count)
{
    struct dgram_socket_stats stats = {.size = sizeof(stats)};
    (void) words;
    (void) count;
    check(dgram_socket_stats(socket_, &stats), "stats");
    printf("stats: sent %" PRIu64 ", sends %" PRIu64 ", trains refused %" PRIu64 ", parked %" PRIu64
           ", send errors %" PRIu64 ", received %" PRIu64 ", receives %" PRIu64 "\n",
           stats.sent, stats.sends, stats.trains_refused, stats.parked, stats.send_errors,
           stats.received, stats.receives);
}

static void on_close(struct dgram_socket *socket, void *user)
{
    (void) socket;
    puts(user);
}

static void end_command(char **words, int count)
{
    static char end_text[] = "end: closed", close_text[] = "close: closed";
    bool ends = strcmp(words[0], "end") == 0;
    (void) count;
    check(dgram_on_close(socket_, on_close, ends ? end_text : close_text), "on_close");
    check(ends ? dgram_end(socket_) : dgram_close(socket_), words[0]);
}

static const struct {
    const char *name;
    int least; /* words */
    void (*run)(char **words, int count);
} commands[] = {
    {"bind", 2, bind_command},        {"broadcast", 2, option_command},
    {"ttl", 2, option_command},       {"multicast_ttl", 2, option_command},
    {"loopback", 2, option_command},  {"send_buffer", 2, option_command},
    {"interface", 1, option_command}, {"join", 2, option_command},
    {"leave", 2, option_command},     {"echo", 2, echo_command},
    {"burst", 6, burst_command},      {"tell", 4, tell_command},
    {"error", 1, error_command},      {"wait", 2, wait_command},
    {"stats", 1, stats_command},      {"end", 1, end_command},
    {"close", 1, end_command},        {"buffer", 5, buffer_command},
    {"in_use", 1, in_use_command},    {"buffer_free", 1, buffer_free_command},
    {"idle", 1, idle_command},
};

/* ---- stdin --------------------------------------------------------------------------------- */

static void obey(struct dgram_loop *l, void *user)
{
    enum { WORDS = 16 };
    char *line = user, *words[WORDS], *rest = NULL;
    int count = 0;
    (void) l;
    for (char *word = strtok_r(line, " \n", &rest); word != NULL && count < WORDS;
         word = strtok_r(NULL, " \n", &rest)) {
        words[count++] = word;
    }
    bool known = false;
    for (size_t i = 0; count > 0 && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, words[0]) == 0 && count >= commands[i].least) {
            commands[i].run(words, count);
            known = true;
        }
    }
    if (!known) {
        puts("no such command");
    }
    free(line);
}

static void *read_commands(void *user)
{
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) >= 0) {
        check(dgram_loop_post(loop, obey, line), "post");
        line = NULL;
        room = 0;
    }
    free(line);
    dgram_loop_stop(loop);
    return user;
}

int main(int argc, char **argv)
{
    pthread_t reader;
    uint32_t type = argc > 1 ? number_of(argv[1]) : 0;
    struct dgram_socket_options options = {.size = sizeof(options),
                                           .flags = DGRAM_REUSE_ADDR,
                                           .queue_limit = argc > 2 ? number_of(argv[2]) : 0,
                                           .on_message = on_message};
    struct dgram_timer *stays; /* the loop goes on when the socket is closed */

    setvbuf(stdout, NULL, _IOLBF, 0);
    check(dgram_loop_create(NULL, &loop), "loop");
    check(dgram_create_socket(loop, type, &options, &socket_), "socket");
    check(dgram_on_error(socket_, on_error, NULL), "socket");
    check(dgram_on_drain(socket_, burst_more, NULL), "socket");
    check(dgram_timer_create(loop, inbox_patience_ends, NULL, &inbox.timer), "timer");
    check(dgram_timer_create(loop, inbox_patience_ends, NULL, &stays), "timer");
    check(dgram_timer_start(stays, INT64_C(3600) * 1000000000, 0), "timer");
    check(-pthread_create(&reader, NULL, read_commands, NULL), "thread");
    check(dgram_loop_run(loop), "run");
    pthread_join(reader, NULL);
    dgram_loop_free(loop);
    burst_free();
    return 0;
}
