/* SPDX-License-Identifier: MIT */
/*
 * handlers.h: the callbacks of the API as functions with state: the handlers of a socket, of sends,
 * timers and posts; and what they collect.
 *
 * All of them do nothing once the body of their test is over (muted()), so that a loop may be freed
 * after the variables that they refer to are gone.
 */
#ifndef DGRAM_TESTS_SUPPORT_HANDLERS_H
#define DGRAM_TESTS_SUPPORT_HANDLERS_H

#include <dgram.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace harness
{

/* Whether callbacks of the test that ended must do nothing. */
bool muted();
/* A test that runs no fixture code before its callbacks (a forked child) may set it. */
void set_muted(bool on);

/* The handlers of one socket. attach() sets those that are not empty. */
struct Handlers {
    std::function<void(struct dgram_socket *, const struct dgram_message *)> message;
    std::function<void(struct dgram_socket *, const struct dgram_message *, size_t)> messages;
    std::function<void(struct dgram_socket *)> listening;
    std::function<void(struct dgram_socket *, const struct dgram_error *)> error;
    std::function<void(struct dgram_socket *)> drain;
    std::function<void(struct dgram_socket *)> close;

    void attach(struct dgram_socket *socket);

    /* The C side; `user` is the Handlers. */
    static void on_message(struct dgram_socket *socket, const struct dgram_message *message,
                           void *user);
    static void on_messages(struct dgram_socket *socket, const struct dgram_message *messages,
                            size_t count, void *user);
    static void on_listening(struct dgram_socket *socket, void *user);
    static void on_error(struct dgram_socket *socket, const struct dgram_error *error, void *user);
    static void on_drain(struct dgram_socket *socket, void *user);
    static void on_close(struct dgram_socket *socket, void *user);
};

/* A callback of sends: pass Sent::call and the object. */
struct Sent {
    std::function<void(struct dgram_socket *, int)> fn;
    Sent() = default;
    explicit Sent(std::function<void(struct dgram_socket *, int)> function)
        : fn(std::move(function))
    {
    }
    static void call(struct dgram_socket *socket, int result, void *user);
};

/* The results of sends, in the order of the callbacks: pass Results::take and the object. */
struct Results {
    std::vector<int> values;
    static void take(struct dgram_socket *socket, int result, void *user);
};

/* A timer's callback: pass Tick::call and the object. */
struct Tick {
    std::function<void(struct dgram_timer *)> fn;
    explicit Tick(std::function<void(struct dgram_timer *)> function) : fn(std::move(function))
    {
    }
    static void call(struct dgram_timer *timer, void *user);
};

/* A posted function: pass Job::call and the object. */
struct Job {
    std::function<void(struct dgram_loop *)> fn;
    explicit Job(std::function<void(struct dgram_loop *)> function) : fn(std::move(function))
    {
    }
    static void call(struct dgram_loop *loop, void *user);
};

/* Received payloads in order, with their senders: pass Inbox::take and the object. */
struct Inbox {
    std::vector<std::string> payloads;
    std::vector<struct dgram_addr> from;
    size_t count() const
    {
        return payloads.size();
    }
    static void take(struct dgram_socket *socket, const struct dgram_message *message, void *user);
};

/* What happened, in order, as words. */
struct Recorder {
    std::vector<std::string> events;
    void add(const std::string &event)
    {
        events.push_back(event);
    }
    size_t count(const std::string &event) const;
    std::string text() const; /* separated by spaces */
};

} /* namespace harness */

#endif
