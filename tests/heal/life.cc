/* SPDX-License-Identifier: MIT */
/* life.cc: see heal.h. */
#include "tests/heal/heal.h"

#include <poll.h>

#include <algorithm>

namespace heal
{

/* ---- Callbacks ----------------------------------------------------------------------------- */

void Life::on_message(struct dgram_socket *, const struct dgram_message *message, void *user)
{
    Peer *peer = static_cast<Peer *>(user);
    peer->received++;
    const size_t size = std::min<size_t>(message->size, sizeof(peer->last) - 1);
    memcpy(peer->last, message->data, size);
    peer->last[size] = '\0';
    if (peer->life->keep_) {
        peer->life->keep_ = false;
        (void) dgram_message_retain(message, &peer->life->kept_);
    }
}

void Life::on_close(struct dgram_socket *, void *user)
{
    Peer *peer = static_cast<Peer *>(user);
    peer->life->closed_++;
    peer->socket = nullptr;
}

void Life::on_sent(struct dgram_socket *, int, void *user)
{
    static_cast<Life *>(user)->completed_++;
}

/* Ends a run that nothing else ends. */
void Life::on_timer(struct dgram_timer *, void *user)
{
    Life *life = static_cast<Life *>(user);
    life->ticks_++;
    if (life->run_until_ != 0 && life->ticks_ >= life->run_until_) {
        ADD_FAILURE() << "a post did not wake the loop";
        life->run_until_ = 0;
        dgram_loop_stop(life->loop_);
    }
}

void Life::on_post(struct dgram_loop *loop, void *user)
{
    Life *life = static_cast<Life *>(user);
    life->posts_++;
    if (life->run_until_ != 0) {
        life->run_until_ = 0;
        dgram_loop_stop(loop);
    }
}

void Life::on_idle(struct dgram_buffer *, void *user)
{
    static_cast<Life *>(user)->idles_++;
}

/* Every name is this host. */
void Life::on_lookup(struct dgram_loop *, struct dgram_lookup *lookup, const char *, int family,
                     void *)
{
    struct dgram_addr address = {};
    EXPECT_EQ(dgram_addr_parse(family == 6 ? "::1" : "127.0.0.1", 0, &address), 0);
    (void) dgram_lookup_answer(lookup, 0, &address, 1);
}

/* ---- All that a loop can do ---------------------------------------------------------------- */

enum Place { RECEIVER, SENDER, SIX, MEMBER, UNBOUND, SHORT };

void Life::counted(int code)
{
    accepted_ += code == 0;
}

void Life::turned(int code)
{
    has_broken_ = has_broken_ || code < 0;
}

/* Each way of waiting is another call of the kernel. */
void Life::turn(int64_t timeout)
{
    turned(dgram_loop_turn(loop_, timeout));
}

bool Life::open_peer(struct dgram_loop *loop, Peer *peer, uint32_t type)
{
    struct dgram_socket_options options = socket_options();
    options.flags = type == DGRAM_UDP6 ? DGRAM_IPV6_ONLY : 0;
    peer->life = this;
    peer->type = type;
    if (dgram_create_socket(loop, type, &options, &peer->socket) < 0) {
        return false;
    }
    created_++;
    EXPECT_EQ(dgram_on_message(peer->socket, on_message, peer), 0);
    EXPECT_EQ(dgram_on_close(peer->socket, on_close, peer), 0);
    return true;
}

void Life::set_up()
{
    for (unsigned i = 0; i < PEERS; i++) {
        const bool six = i == SIX && has_ipv6();
        if (open_peer(loop_, &peers_[i], six ? DGRAM_UDP6 : DGRAM_UDP4) && i <= SIX) {
            (void) dgram_bind(peers_[i].socket, 0, loopback(peers_[i].type));
        }
    }
    if (dgram_timer_create(loop_, on_timer, this, &timer_) == 0) {
        EXPECT_EQ(dgram_timer_start(timer_, MILLISECOND, MILLISECOND), 0);
    }
    (void) dgram_loop_fd(loop_);
    struct dgram_buffer_options options = buffer_options(DGRAM_ZERO_COPY, on_idle, this);
    (void) dgram_buffer_create(loop_, 65536, &options, &buffer_);
    (void) dgram_destination_create(loop_, DGRAM_UDP4, 9, "127.0.0.1", &destination_);
    (void) dgram_destination_create(loop_, DGRAM_UDP4, 9, "named.heal.test", &named_);
}

/* Plain, by a lane, with a callback, many, in pieces, from a buffer, by handle and by name. */
void Life::send_all_ways(const Peer &from, const Peer &to)
{
    struct dgram_addr address = {};
    if (from.socket == nullptr || to.socket == nullptr || dgram_address(to.socket, &address) < 0) {
        return;
    }
    static const std::string payload = pattern(1000, 1);
    for (int i = 0; i < 3; i++) {
        (void) dgram_send_to(from.socket, payload.data(), 100, &address, nullptr, nullptr);
    }
    counted(dgram_send_to(from.socket, payload.data(), 1000, &address, on_sent, this));
    struct iovec pieces[2] = {{const_cast<char *>(payload.data()), 10},
                              {const_cast<char *>(payload.data()) + 10, 20}};
    struct dgram_outgoing items[2] = {};
    items[0].data = payload.data();
    items[0].size = 50;
    items[1].pieces = pieces;
    items[1].piece_count = 2;
    items[0].address = items[1].address = &address;
    const int many = dgram_send_many(from.socket, items, 2, on_sent, this);
    accepted_ += many > 0 ? static_cast<size_t>(many) : 0;
    for (size_t i = 0; i < 4 && buffer_ != nullptr; i++) {
        (void) dgram_send_buffer(from.socket, buffer_, i * 5000, 5000, &address);
    }
    for (struct dgram_destination *destination : {destination_, named_}) {
        if (destination != nullptr && from.type == DGRAM_UDP4) {
            counted(dgram_send_dest(from.socket, payload.data(), 5, destination, on_sent, this));
        }
    }
    counted(dgram_send(from.socket, payload.data(), 7, dgram_addr_port(&address), "heal.test",
                       on_sent, this));
    (void) dgram_send(from.socket, payload.data(), 7, dgram_addr_port(&address), "heal.test",
                      nullptr, nullptr);
}

/* The kernel has no room for a while; what waits is parked. */
void Life::press()
{
    struct dgram_addr address = {};
    struct dgram_socket *socket = peers_[SENDER].socket;
    if (socket == nullptr || peers_[RECEIVER].socket == nullptr ||
        dgram_address(peers_[RECEIVER].socket, &address) < 0) {
        return;
    }
    static const std::string payload = pattern(500, 2);
    sends_get_no_room(2);
    for (size_t i = 0; i < 6; i++) {
        counted(dgram_send_to(socket, payload.data(), 100 + 50 * i, &address, on_sent, this));
        (void) dgram_send_to(socket, payload.data(), 120 + 50 * i, &address, nullptr, nullptr);
    }
    turned(dgram_loop_flush(loop_));
    turn(0);
    turn(MILLISECOND);
    sends_get_no_room(0);
}

void Life::pause_and_resume()
{
    if (peers_[RECEIVER].socket != nullptr) {
        EXPECT_EQ(dgram_pause(peers_[RECEIVER].socket), 0);
        send_all_ways(peers_[SENDER], peers_[RECEIVER]);
        turn(0);
        EXPECT_EQ(dgram_resume(peers_[RECEIVER].socket), 0);
        keep_ = true;
        turn(0);
    }
}

void Life::groups()
{
    if (peers_[MEMBER].socket != nullptr &&
        dgram_add_membership(peers_[MEMBER].socket, "239.1.2.3", "lo") == 0) {
        turn(0); /* binds it */
        (void) dgram_drop_membership(peers_[MEMBER].socket, "239.1.2.3", "lo");
    }
}

/* By a post, which nothing but itself can wake the loop for. */
void Life::run()
{
    if (timer_ == nullptr) {
        return;
    }
    run_until_ = ticks_ + 3000;
    if (dgram_loop_post(loop_, on_post, this) == 0) {
        posted_++;
        turned(dgram_loop_run(loop_));
    }
    run_until_ = 0;
}

void Life::close_some()
{
    if (peers_[SHORT].socket != nullptr) {
        send_all_ways(peers_[SHORT], peers_[RECEIVER]);
        EXPECT_EQ(dgram_close(peers_[SHORT].socket), 0);
    }
    turn(0);
    turn(0);
}

bool Life::live()
{
    struct dgram_loop_options options = loop_options();
    options.engine = engine_;
    options.slots = 8;
    options.lookup = on_lookup;
    options.busy_poll_us = spins_ ? 20 : 0;
    create_code_ = dgram_loop_create(&options, &loop_);
    if (create_code_ < 0) {
        EXPECT_EQ(loop_, nullptr);
        return false;
    }
    set_up();
    turn(0);
    send_all_ways(peers_[SENDER], peers_[RECEIVER]);
    send_all_ways(peers_[UNBOUND], peers_[RECEIVER]);
    send_all_ways(peers_[SIX], peers_[SIX]);
    turn(MILLISECOND);
    press();
    pause_and_resume();
    groups();
    run();
    close_some();
    return true;
}

/* ---- It is well ---------------------------------------------------------------------------- */

/* What was accepted before is over. */
void Life::drain()
{
    auto drained = [&] {
        size_t queued = 0;
        for (const Peer &peer : peers_) {
            queued += dgram_get_send_queue_count(peer.socket);
        }
        return queued == 0 && completed_ == accepted_ &&
               (buffer_ == nullptr || !dgram_buffer_in_use(buffer_));
    };
    EXPECT_TRUE(run_until(loop_, drained)) << "something is queued for ever";
}

/* Whoever has sent to it before: nothing of that comes any more. */
void Life::send_and_see(const Peer &from, Peer *to, const std::string &text)
{
    struct dgram_addr address = address_of(to->socket);
    const size_t done = completed_;
    ASSERT_EQ(dgram_send_to(from.socket, text.data(), text.size(), &address, on_sent, this), 0);
    accepted_++;
    EXPECT_TRUE(run_until(loop_, [&] { return completed_ > done && to->last == text; }))
        << text << " did not come";
}

void Life::expect_echo_of(Peer *peer, unsigned number)
{
    SCOPED_TRACE(testing::Message() << "peer " << number);
    struct dgram_addr bound = {};
    if (dgram_address(peer->socket, &bound) < 0) {
        ASSERT_EQ(dgram_bind(peer->socket, 0, loopback(peer->type)), 0);
    }
    Peer other;
    ASSERT_TRUE(open_peer(loop_, &other, peer->type)) << "no new socket";
    ASSERT_EQ(dgram_bind(other.socket, 0, loopback(other.type)), 0);
    send_and_see(other, peer, "sync");
    const struct dgram_socket_stats before = stats_of(peer->socket);
    send_and_see(other, peer, "ping");
    send_and_see(*peer, &other, "pong of some length");
    const struct dgram_socket_stats after = stats_of(peer->socket), its = stats_of(other.socket);
    EXPECT_EQ(after.received, before.received + 1);
    EXPECT_EQ(after.received_bytes, before.received_bytes + 4);
    EXPECT_EQ(after.sent, before.sent + 1);
    EXPECT_EQ(after.sent_bytes, before.sent_bytes + 19);
    EXPECT_EQ(after.discarded, before.discarded);
    EXPECT_EQ(after.send_errors, before.send_errors);
    EXPECT_EQ(its.received, 1u);
    EXPECT_EQ(its.sent, 2u);
    EXPECT_EQ(dgram_get_send_queue_size(peer->socket), 0u);
    EXPECT_EQ(dgram_close(other.socket), 0);
    EXPECT_TRUE(run_until(loop_, [&] { return other.socket == nullptr; }));
}

/* Timers and posts. */
void Life::expect_clockwork()
{
    if (timer_ == nullptr) {
        ASSERT_EQ(dgram_timer_create(loop_, on_timer, this, &timer_), 0);
    }
    ASSERT_EQ(dgram_timer_start(timer_, MILLISECOND, 0), 0);
    const unsigned ticks = ticks_, posts = posts_;
    EXPECT_TRUE(run_until(loop_, [&] { return ticks_ > ticks; })) << "a timer does not tick";
    ASSERT_EQ(dgram_loop_post(loop_, on_post, this), 0);
    posted_++;
    EXPECT_TRUE(run_until(loop_, [&] { return posts_ == posts + 1; })) << "a post does not come";
}

/* An outer loop is woken by each of what wakes one. */
void Life::expect_embedded()
{
    struct pollfd outer = {dgram_loop_fd(loop_), POLLIN, 0};
    if (outer.fd == -ENOTSUP) {
        return;
    }
    ASSERT_GE(outer.fd, 0);
    auto woken_until = [&](const std::function<bool()> &done) {
        while (!done() && poll(&outer, 1, 10000 * static_cast<int>(patience())) == 1) {
            turned(dgram_loop_turn(loop_, 0));
        }
        return done();
    };
    const unsigned ticks = ticks_, posts = posts_;
    ASSERT_EQ(dgram_timer_start(timer_, 2 * MILLISECOND, 0), 0);
    EXPECT_TRUE(woken_until([&] { return ticks_ > ticks; })) << "not woken by a timer";
    ASSERT_EQ(dgram_loop_post(loop_, on_post, this), 0);
    posted_++;
    EXPECT_TRUE(woken_until([&] { return posts_ == posts + 1; })) << "not woken by a post";
    Peer *peer = &peers_[RECEIVER];
    if (peer->socket != nullptr) {
        Plain plain;
        plain.send("outer", address_of(peer->socket));
        EXPECT_TRUE(woken_until([&] { return strcmp(peer->last, "outer") == 0; }))
            << "not by a datagram";
    }
}

void Life::expect_every_way()
{
    Peer &from = peers_[SENDER], &to = peers_[RECEIVER];
    if (from.socket == nullptr || to.socket == nullptr) {
        return;
    }
    send_and_see(from, &to, "every way");
    const uint64_t received = stats_of(to.socket).received, sent = stats_of(from.socket).sent;
    const unsigned idles = idles_;
    send_all_ways(from, to);
    drain();
    send_and_see(from, &to, "behind them");
    const unsigned from_buffer = buffer_ != nullptr ? 4 : 0;
    const unsigned elsewhere = (destination_ != nullptr) + (named_ != nullptr);
    EXPECT_EQ(stats_of(to.socket).received, received + 3 + 1 + 2 + from_buffer + 2 + 1);
    EXPECT_EQ(stats_of(from.socket).sent, sent + 3 + 1 + 2 + from_buffer + elsewhere + 2 + 1);
    EXPECT_EQ(idles_, idles + (buffer_ != nullptr));
    EXPECT_EQ(dgram_pause(to.socket), 0);
    EXPECT_EQ(dgram_resume(to.socket), 0);
    send_and_see(from, &to, "resumed");
}

/* A broken engine stays broken with the code that the turn gave: true of io_uring alone. */
bool Life::stays_broken()
{
    if (!has_broken_) {
        return false;
    }
    const int code = dgram_loop_turn(loop_, 0);
    if (code < 0) {
        EXPECT_EQ(engine_, static_cast<uint32_t>(DGRAM_ENGINE_URING)) << dgram_error_name(code);
        EXPECT_EQ(dgram_loop_turn(loop_, 0), code);
        EXPECT_EQ(dgram_loop_flush(loop_), code);
        EXPECT_EQ(info_of(loop_).failed_code, code);
        EXPECT_STRNE(info_of(loop_).failed_call, "");
    }
    return code < 0;
}

void Life::expect_well()
{
    if (loop_ == nullptr || stays_broken()) {
        return;
    }
    drain();
    expect_clockwork();
    for (unsigned i = 0; i < PEERS && !testing::Test::HasFailure(); i++) {
        if (peers_[i].socket != nullptr) {
            expect_echo_of(&peers_[i], i);
        }
    }
    if (!testing::Test::HasFailure()) {
        expect_every_way();
        expect_embedded();
    }
}

/* ---- The end ------------------------------------------------------------------------------- */

void Life::end()
{
    if (loop_ != nullptr) {
        send_all_ways(peers_[SENDER], peers_[RECEIVER]);
        for (Peer &peer : peers_) {
            if (peer.socket != nullptr && &peer != &peers_[RECEIVER]) {
                EXPECT_EQ(dgram_close(peer.socket), 0);
            }
        }
        turn(0);
        turn(0);
        dgram_destination_free(destination_);
        dgram_destination_free(named_);
        loop_ = dgram_loop_free(loop_);
    }
    dgram_message_release(&kept_);
}

void Life::expect_accounts() const
{
    EXPECT_EQ(completed_, accepted_) << "a send completes exactly once";
    EXPECT_EQ(closed_, created_) << "a socket closes exactly once";
    EXPECT_EQ(posts_, posted_) << "a post is called exactly once";
}

void expect_new_loop_works(uint32_t engine)
{
    Life life(engine);
    EXPECT_EQ(patiently([&] { return life.live() ? 0 : life.create_code(); }), 0);
    life.expect_well();
    life.end();
    life.expect_accounts();
    EXPECT_FALSE(life.has_broken());
}

} /* namespace heal */
