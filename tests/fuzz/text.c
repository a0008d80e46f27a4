/* SPDX-License-Identifier: MIT */
/*
 * text.c: texts of addresses, interfaces, groups, hosts and name servers, and option structs of odd
 * sizes. What is accepted must mean something: a parsed address comes back from its own text.
 */
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const char *text)
{
    struct dgram_addr address = {0}, again = {0};
    char written[DGRAM_ADDR_TEXT_MAX];
    int code = dgram_addr_parse(text, 53, &address);
    must(code == 0 || code == DGRAM_EBADADDRESS || code == DGRAM_EBADINTERFACE, "its codes");
    if (code == 0) {
        must(dgram_addr_text(&address, written) == written, "the text is where it was asked for");
        must(strnlen(written, sizeof(written)) < sizeof(written), "and fits");
        must(dgram_addr_parse(written, 53, &again) == 0, "it can be read again");
        if (address.u.any.sa_family == AF_INET6 &&
            !IN6_IS_ADDR_LINKLOCAL(&address.u.in6.sin6_addr)) {
            address.u.in6.sin6_scope_id = 0; /* only link-local ones are written with their zone */
        }
        must(dgram_addr_equal(&address, &again), "and is the same");
        must(dgram_addr_port(&again) == 53, "with its port");
        must(dgram_addr_family(&again)[0] == 'I', "and a family");
    }
}

/* Whatever bytes an address has. */
static void look(const uint8_t *data, size_t size)
{
    struct dgram_addr one = {0}, other = {0};
    char text[DGRAM_ADDR_TEXT_MAX];
    memcpy(&one, data, size < sizeof(one) ? size : sizeof(one));
    other = one;
    one.size = other.size = one.size % (sizeof(one.u) + 1);
    (void) dgram_addr_text(&one, text);
    must(strnlen(text, sizeof(text)) < sizeof(text), "the text fits");
    (void) dgram_addr_port(&one);
    must(strlen(dgram_addr_family(&one)) <= 4, "a family");
    (void) dgram_addr_equal(&one, &other);
}

static void on_lookup(struct dgram_loop *loop, struct dgram_lookup *lookup, const char *host,
                      int family, void *user)
{
    (void) loop;
    (void) user;
    (void) family;
    must(strlen(host) <= 254, "a host name is no longer");
    (void) dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, NULL, 1);
}

static int known(int code)
{
    must(code >= 0 || strcmp(dgram_error_name(code), "UNKNOWN") != 0, "a code is known");
    return code;
}

static void use_text(struct dgram_loop *loop, uint32_t type, const char *text, const char *other)
{
    struct dgram_socket *socket = NULL;
    struct dgram_destination *destination = NULL;
    must(dgram_create_socket(loop, type, NULL, &socket) == 0, "a socket");
    known(dgram_add_membership(socket, text, other));
    known(dgram_drop_membership(socket, text, other));
    known(dgram_set_multicast_interface(socket, text));
    known(dgram_send(socket, "x", 1, 9, text, NULL, NULL));
    known(dgram_bind(socket, 0, text));
    known(dgram_destination_create(loop, type, 9, text, &destination));
    known(dgram_loop_turn(loop, 0));
    known(dgram_loop_turn(loop, 0));
    (void) dgram_destination_free(destination);
    known(dgram_close(socket));
    known(dgram_loop_turn(loop, 0));
}

/* The size member tells how much of it the library may read: the memory ends there. */
static void *struct_of(struct bytes *bytes, size_t whole)
{
    size_t size = bytes_take(bytes);
    size_t room = size < sizeof(size) ? sizeof(size) : size;
    unsigned char *memory = calloc(1, room);
    must(memory != NULL, "memory");
    for (size_t i = sizeof(size); i < size && i < whole; i++) {
        memory[i] = (unsigned char) bytes_take(bytes);
    }
    memcpy(memory, &size, sizeof(size));
    return memory;
}

/* Pointers and handlers in it are not of the input. */
static void use_structs(struct dgram_loop *loop, struct bytes bytes)
{
    struct dgram_socket *socket = NULL;
    void *options = struct_of(&bytes, offsetof(struct dgram_socket_options, on_message));
    if (known(dgram_create_socket(loop, DGRAM_UDP4, options, &socket)) == 0) {
        void *stats = struct_of(&bytes, 0);
        known(dgram_socket_stats(socket, stats));
        free(stats);
        known(dgram_close(socket));
    }
    free(options);
    void *info = struct_of(&bytes, 0);
    known(dgram_loop_info(loop, info));
    free(info);
    struct dgram_buffer *buffer = NULL;
    options = struct_of(&bytes, offsetof(struct dgram_buffer_options, on_idle));
    known(dgram_buffer_create(loop, 100, options, &buffer));
    free(options);
    known(dgram_loop_turn(loop, 0));
}

static void use_loop_options(struct bytes bytes)
{
    struct dgram_loop *loop = NULL;
    struct dgram_loop_options *options =
        struct_of(&bytes, offsetof(struct dgram_loop_options, dns_servers));
    size_t size = options->size;
    if (size >= offsetof(struct dgram_loop_options, slots)) {
        options->engine = DGRAM_ENGINE_POLL;
    }
    if (size >= offsetof(struct dgram_loop_options, slot_size)) {
        options->slots %= 70;
    }
    if (known(dgram_loop_create(options, &loop)) == 0) {
        (void) dgram_loop_free(loop);
    }
    free(options);
}

static void use_servers(const char *text)
{
    struct dgram_loop_options options = {.size = sizeof(options), .engine = DGRAM_ENGINE_POLL};
    struct dgram_loop *loop = NULL;
    options.dns_servers = text;
    int code = dgram_loop_create(&options, &loop);
    must(code == 0 || code == DGRAM_EBADOPTIONS, "its codes");
    (void) dgram_loop_free(loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dgram_loop *loop;
    struct bytes bytes = {data, size};
    uint32_t choice = bytes_take(&bytes);
    char *text = calloc(1, bytes.size + 1);
    must(text != NULL, "memory");
    memcpy(text, bytes.data, bytes.size);
    char *half = strchr(text, '\n');
    if (loop == NULL) {
        struct dgram_loop_options options = {
            .size = sizeof(options), .engine = DGRAM_ENGINE_POLL, .lookup = on_lookup};
        must(dgram_loop_create(&options, &loop) == 0, "a loop");
    }
    if (half != NULL) {
        *half++ = '\0';
    }
    parse(text);
    look(bytes.data, bytes.size);
    if (choice % 4 == 0) {
        use_text(loop, (choice & 16) != 0 ? DGRAM_UDP6 : DGRAM_UDP4, text, half);
    } else if (choice % 4 == 1) {
        use_servers(text);
    } else if (choice % 4 == 2) {
        use_structs(loop, bytes);
    } else {
        use_loop_options(bytes);
    }
    free(text);
    return 0;
}
