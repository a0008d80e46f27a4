/* SPDX-License-Identifier: MIT */
/* handlers.cc: see handlers.h. */
#include "tests/support/handlers.h"

#include <algorithm>

#include "tests/support/fixtures.h"
#include "tests/support/sockets.h"

namespace harness
{

void Handlers::attach(struct dgram_socket *socket)
{
    if (listening) {
        EXPECT_EQ(dgram_on_listening(socket, on_listening, this), 0);
    }
    if (error) {
        EXPECT_EQ(dgram_on_error(socket, on_error, this), 0);
    }
    if (drain) {
        EXPECT_EQ(dgram_on_drain(socket, on_drain, this), 0);
    }
    if (close) {
        EXPECT_EQ(dgram_on_close(socket, on_close, this), 0);
    }
    if (message) {
        EXPECT_EQ(dgram_on_message(socket, on_message, this), 0);
    }
    if (messages) {
        EXPECT_EQ(dgram_on_messages(socket, on_messages, this), 0);
    }
}

void Handlers::on_message(struct dgram_socket *socket, const struct dgram_message *message,
                          void *user)
{
    if (!muted()) {
        static_cast<Handlers *>(user)->message(socket, message);
    }
}

void Handlers::on_messages(struct dgram_socket *socket, const struct dgram_message *messages,
                           size_t count, void *user)
{
    if (!muted()) {
        static_cast<Handlers *>(user)->messages(socket, messages, count);
    }
}

void Handlers::on_listening(struct dgram_socket *socket, void *user)
{
    if (!muted()) {
        static_cast<Handlers *>(user)->listening(socket);
    }
}

void Handlers::on_error(struct dgram_socket *socket, const struct dgram_error *error, void *user)
{
    if (!muted()) {
        static_cast<Handlers *>(user)->error(socket, error);
    }
}

void Handlers::on_drain(struct dgram_socket *socket, void *user)
{
    if (!muted()) {
        static_cast<Handlers *>(user)->drain(socket);
    }
}

void Handlers::on_close(struct dgram_socket *socket, void *user)
{
    if (!muted()) {
        static_cast<Handlers *>(user)->close(socket);
    }
}

void Sent::call(struct dgram_socket *socket, int result, void *user)
{
    if (!muted()) {
        static_cast<Sent *>(user)->fn(socket, result);
    }
}

void Results::take(struct dgram_socket *, int result, void *user)
{
    if (!muted()) {
        static_cast<Results *>(user)->values.push_back(result);
    }
}

void Tick::call(struct dgram_timer *timer, void *user)
{
    if (!muted()) {
        static_cast<Tick *>(user)->fn(timer);
    }
}

void Job::call(struct dgram_loop *loop, void *user)
{
    if (!muted()) {
        static_cast<Job *>(user)->fn(loop);
    }
}

void Inbox::take(struct dgram_socket *, const struct dgram_message *message, void *user)
{
    if (!muted()) {
        Inbox *inbox = static_cast<Inbox *>(user);
        inbox->payloads.push_back(payload_of(message));
        inbox->from.push_back(*message->from);
    }
}

size_t Recorder::count(const std::string &event) const
{
    return static_cast<size_t>(std::count(events.begin(), events.end(), event));
}

std::string Recorder::text() const
{
    std::string all;
    for (const std::string &event : events) {
        all += all.empty() ? event : " " + event;
    }
    return all;
}

} /* namespace harness */
