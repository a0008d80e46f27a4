/* SPDX-License-Identifier: MIT */
/*
 * guest.h: the sockets of c-ares: other people's code in this process.
 *
 * Owns the sockets, for each a pair of watches, and the functions by which c-ares makes and uses
 * them: no signal, close-on-exec, nothing that blocks. It knows no questions: whoever embeds the
 * guests is told when c-ares has to look at a socket.
 */
#ifndef DGRAM_NAMES_GUEST_H
#define DGRAM_NAMES_GUEST_H

#define CARES_NO_DEPRECATED /* 1.18 has no other names for some */
#include <ares.h>

#include "src/base/list.h"
#include "src/core/core.h"
#include "src/names/dns_config.h"

/*
 * A descriptor that the program cannot use up. c-ares reads files inside its calls (hosts(5)), and
 * takes one that it cannot read for an empty one. So the spare is given away around each call. It
 * is a copy of a descriptor that the loop has anyway.
 */
struct spare {
    const struct dg_system *system;
    const int *source;
    int fd; /* -1: none */
};

/* 0, or -EMFILE or the like. */
int dg_spare_take(struct spare *spare);
void dg_spare_give(struct spare *spare);

struct guests {
    struct dgram_loop *loop;
    struct node sockets;
    struct dns_configuration *configuration;
    struct spare *spare;
    bool forked; /* a child's copy: the watches are the parent's, too */
    void (*ready)(struct guests *guests, int fd, bool readable);
    void (*deaf)(struct guests *guests); /* a socket could not be watched */
    int lack;                            /* the last lack of this host, -EMFILE or the like, */
    uint32_t lacks;                      /* and how often it lacked something */
};

void dg_guests_init(struct guests *guests);
/* c-ares uses these sockets. */
void dg_guests_serve(struct guests *guests, ares_channel cares);
/* ares_options.sock_state_cb, with the guests as its data. */
void dg_guest_state_changed(void *guests, ares_socket_t fd, int readable, int writable);

/* Watches a socket, or all of them, as c-ares wants it. */
void dg_guest_watch(struct guests *guests, int fd);
void dg_guests_watch(struct guests *guests);
/* A whole message that came by TCP lies here, and c-ares has not read all of it. */
bool dg_guest_has_message(const struct guests *guests, int fd);

#endif
