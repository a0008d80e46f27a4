/* SPDX-License-Identifier: MIT */
/*
 * asio_sockets.h: asio's sockets as plain C, since the harness is C11 that no C++ compiler reads.
 * Private to the asio files. Functions return 0 or a negated errno unless they say otherwise.
 */
#ifndef DGPERF_ASIO_SOCKETS_H
#define DGPERF_ASIO_SOCKETS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#else
#include <stdbool.h>
#endif

struct asio_group;

typedef void asio_datagram_fn(void *user, uint32_t socket, const struct sockaddr *from,
                              size_t from_size, const void *data, size_t size);

struct asio_setup {
    const struct sockaddr *bind_to;
    size_t bind_size;
    uint32_t sockets;
    uint32_t payload;        /* bytes of the largest datagram sent */
    uint32_t receive_buffer; /* bytes to ask for */
    bool async_send;         /* async_send_to; else send_to, without blocking */
    bool async_receive;      /* async_receive_from; else async_wait, then receive_from */
    asio_datagram_fn *take;  /* NULL: receives nothing */
    void *user;              /* for take */
};

int asio_group_open(const struct asio_setup *setup, struct asio_group **ret_group);
void asio_group_close(struct asio_group *group);

/* Reads the address and the receive buffer of one socket. *size is the room at `name` before the
 * call, the size of the address after it. */
int asio_group_name(struct asio_group *group, uint32_t socket, struct sockaddr *name, size_t *size,
                    uint32_t *ret_granted);

/* Returns the place for the next datagram's payload. NULL: all places are under way, turn first. */
void *asio_group_payload(struct asio_group *group);

/* Sends the payload from the first socket. -EAGAIN: asio did not take it, turn first. */
int asio_group_send(struct asio_group *group, const struct sockaddr *to, size_t to_size,
                    size_t size);

/* Returns how many sends have not completed. */
uint32_t asio_group_pending(const struct asio_group *group);

/* Waits at most `wait_ms` until a handler is ready, and runs all that are. Returns the error of an
 * earlier send or of a receive, too. */
int asio_group_turn(struct asio_group *group, int wait_ms);

#ifdef __cplusplus
}
#endif

#endif
