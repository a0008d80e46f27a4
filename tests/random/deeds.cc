/* SPDX-License-Identifier: MIT */
/*
 * deeds.cc: what the random program does with its sockets, timers, names and messages: one function
 * for each kind of deed, which does it, checks what the call returned, and enters it into the
 * books. act() picks one.
 */
#include <algorithm>
#include <cerrno>

#include <memory>

#include "tests/random/program.h"

namespace sim_program
{

/* ---- What the program does: sockets -------------------------------------------------------- */

/* The library's own word for whether a socket is bound, and where. */
void Run::learn_bound(Socket *socket)
{
    if (socket->bound == Bound::YES || !socket->is_live()) {
        return;
    }
    struct dgram_addr address = {};
    int code = call([&] { return dgram_address(socket->handle, &address); });
    if (code == 0) {
        socket->bound = Bound::YES;
        socket->address = address;
        expect(dgram_addr_port(&address) != 0, "a bound socket without a port");
    } else if (socket->state == State::ENDING || ending || free_requested) {
        expect_code(code, {DGRAM_ENOTBOUND, DGRAM_ENOTRUNNING}, "dgram_address");
    } else {
        expect_code(code, {DGRAM_ENOTBOUND}, "dgram_address");
    }
}

static void set_all_handlers(Socket *s)
{
    dgram_on_close(s->handle, on_close, s);
    dgram_on_error(s->handle, s->on_error ? on_error : nullptr, s);
    dgram_on_listening(s->handle, s->on_listening ? on_listening : nullptr, s);
    dgram_on_drain(s->handle, s->on_drain ? on_drain : nullptr, s);
    dgram_on_message(s->handle, s->on_message ? on_message : nullptr, s);
}

void Run::create_socket()
{
    if (live.size() >= SOCKETS_MAX) {
        return;
    }
    struct dgram_socket_options options = {};
    uint32_t type = chance(650) ? DGRAM_UDP4 : DGRAM_UDP6;
    options.size = sizeof(options);
    options.flags = below(16) & (DGRAM_REUSE_ADDR | DGRAM_REUSE_PORT | DGRAM_NO_GRO);
    options.flags &= chance(700) ? DGRAM_NO_GRO : ~0u;
    options.flags |= chance(250) ? DGRAM_COPY : 0;
    options.flags |= type == DGRAM_UDP6 && chance(500) ? DGRAM_IPV6_ONLY : 0;
    options.segments_max = chance(300) ? 1 + below(128) : 0;
    options.queue_limit = chance(500) ? 0 : chance(300) ? 1 + below(500) : 1000 + below(60000);
    struct dgram_socket *handle = nullptr;
    int code = call([&] { return dgram_create_socket(loop, type, &options, &handle); });
    while (sockets.size() < sim_last_socket()) {
        sockets.push_back(std::make_unique<Socket>());
    }
    if (code < 0) {
        bool may_fail = faults.setup > 0 || may_lack_memory() || ending || free_requested;
        expect(may_fail, "dgram_create_socket failed, for no reason");
        return;
    }
    Socket *s = sockets.back().get();
    s->run = this;
    s->number = sim_last_socket();
    s->type = type;
    s->handle = handle;
    s->limit = options.queue_limit != 0 ? options.queue_limit : 4u << 20;
    s->copies = (options.flags & DGRAM_COPY) != 0;
    s->on_listening = chance(700);
    s->on_drain = chance(800);
    s->on_error = chance(800);
    s->on_error_always = s->on_error && chance(700);
    s->on_message = chance(800);
    live.push_back(s);
    call([&] { return set_all_handlers(s), 0; });
}

void Run::bind_socket()
{
    Socket *s = any_of(live);
    if (s == nullptr || (s->bound == Bound::YES && !chance(100))) {
        return;
    }
    uint16_t port = chance(500) ? 0 : static_cast<uint16_t>(5000 + below(8));
    std::string text;
    switch (below(10)) {
    case 0:
        text = host_name(below(NAMES));
        break;
    case 1:
        text = s->type == DGRAM_UDP4 ? "203.0.113.9" : "2001:db8::9";
        break;
    case 2:
        text = "no address!";
        break;
    case 3:
    case 4:
        text = loopback(s->type);
        break;
    default:
        break;
    }
    int code = call([&] { return dgram_bind(s->handle, port, text.c_str()); });
    sim_log("bind call", s->number, static_cast<uint64_t>(code));
    bool named = text.compare(0, 4, "host") == 0;
    s->named_bind = s->named_bind || (code == 0 && named);
    if (!s->is_live() || s->state == State::ENDING || ending || free_requested) {
        learn_bound(s);
        return;
    }
    Bound before = s->bound;
    if (code == 0 && before == Bound::NO) {
        s->bound = Bound::MAYBE;
    }
    learn_bound(s);
    expect(code != 0 || named || s->bound == Bound::YES, "dgram_bind succeeded without a bind");
    expect(code != 0 || before != Bound::YES, "bound twice");
    if (code < 0 && code != DGRAM_EALREADYBOUND && code != DGRAM_EBADADDRESS) {
        expect_code(code, {-EADDRINUSE, -EADDRNOTAVAIL, -EACCES}, "dgram_bind");
    }
}

/* Any socket; inside a callback often the one that it is for. */
Socket *Run::chosen()
{
    bool own = self != nullptr && self->state != State::GONE && chance(400);
    return own ? self : any_of(live);
}

void Run::close_socket()
{
    Socket *s = chosen();
    if (s == nullptr) {
        return;
    }
    int code = call([&] { return dgram_close(s->handle); });
    sim_log("close call", s->number, static_cast<uint64_t>(code));
    if (s->state == State::OPEN && !ending && !free_requested) {
        expect_code(code, {0}, "dgram_close");
    } else if (s->state == State::CLOSING) {
        expect_code(code, {DGRAM_ENOTRUNNING}, "dgram_close");
    }
    s->state = State::CLOSING;
}

void Run::end_socket()
{
    Socket *s = chosen();
    if (s == nullptr) {
        return;
    }
    int code = call([&] { return dgram_end(s->handle); });
    sim_log("end call", s->number, static_cast<uint64_t>(code));
    if (s->state == State::OPEN && !ending && !free_requested) {
        expect_code(code, {0}, "dgram_end");
        s->state = State::ENDING;
    } else if (s->state != State::OPEN) {
        expect_code(code, {DGRAM_ENOTRUNNING}, "dgram_end");
    }
}

/* Whether a call for this socket has to say 0 and did; a closed one has to say that it is. */
static bool obeyed(Socket *s, int code, const char *call)
{
    Run *run = s->run;
    if (s->state == State::CLOSING) {
        run->expect_code(code, {DGRAM_ENOTRUNNING}, call);
    } else if (s->state == State::ENDING || run->ending || run->free_requested) {
        run->expect_code(code, {0, DGRAM_ENOTRUNNING}, call);
    } else {
        run->expect_code(code, {0}, call);
    }
    return code == 0;
}

void Run::pause_or_resume()
{
    Socket *s = chosen();
    if (s == nullptr) {
        return;
    }
    bool pause = chance(400);
    int code = call([&] { return pause ? dgram_pause(s->handle) : dgram_resume(s->handle); });
    sim_log(pause ? "pause call" : "resume call", s->number, 0);
    if (obeyed(s, code, "dgram_pause or dgram_resume")) {
        s->paused = pause;
    }
}

void Run::set_handlers()
{
    Socket *s = chosen();
    if (s == nullptr) {
        return;
    }
    bool on = chance(650);
    sim_log(on ? "handler on" : "handler off", s->number, 0);
    switch (below(3)) {
    case 0:
        if (obeyed(s,
                   call([&] { return dgram_on_message(s->handle, on ? on_message : nullptr, s); }),
                   "dgram_on_message")) {
            s->on_message = on;
        }
        break;
    case 1:
        if (obeyed(s, call([&] {
                       return dgram_on_messages(s->handle, on ? on_messages : nullptr, s);
                   }),
                   "dgram_on_messages")) {
            s->on_messages = on;
        }
        break;
    default:
        if (!s->on_error_always) {
            expect_code(call([&] { return dgram_on_error(s->handle, on ? on_error : nullptr, s); }),
                        {0}, "dgram_on_error");
            s->on_error = on;
        }
        break;
    }
}

void Run::ref_or_unref()
{
    Socket *s = any_of(live);
    if (s == nullptr) {
        return;
    }
    bool ref = chance(600);
    int code = call([&] { return ref ? dgram_ref(s->handle) : dgram_unref(s->handle); });
    if (obeyed(s, code, "dgram_ref or dgram_unref")) {
        s->unreffed = !ref;
    }
}

void Run::join_group(Socket *s)
{
    const char *group = s->type == DGRAM_UDP4 ? "224.0.0.251" : "ff02::fb";
    int code = call([&] { return dgram_add_membership(s->handle, group, nullptr); });
    if (code == 0 && s->bound == Bound::NO) {
        s->bound = Bound::MAYBE;
    }
}

void Run::set_options()
{
    Socket *s = any_of(live);
    if (s == nullptr) {
        return;
    }
    int code = 0;
    switch (below(5)) {
    case 0:
        code = call([&] { return dgram_set_ttl(s->handle, 1 + static_cast<int>(below(255))); });
        break;
    case 1:
        code = call([&] { return dgram_set_broadcast(s->handle, chance(500)); });
        break;
    case 2:
        code = call([&] { return dgram_set_recv_buffer_size(s->handle, 1 + below(100000)); });
        break;
    case 3:
        code = call([&] { return dgram_get_send_buffer_size(s->handle); });
        break;
    default:
        join_group(s);
        break;
    }
    expect(code >= 0 || s->state != State::OPEN || faults.setup > 0 || ending || free_requested,
           "an option failed, for no reason");
}

/* ---- What the program does: the rest ------------------------------------------------------- */

void Run::release_one()
{
    if (kept.empty()) {
        return;
    }
    size_t index = below(static_cast<uint32_t>(kept.size()));
    Kept one = kept[index];
    kept.erase(kept.begin() + static_cast<long>(index));
    expect(digest(one.message.data, one.message.size) == one.digest, "a kept message changed");
    expect(dgram_addr_equal(one.message.from, &one.from), "a kept message's sender changed");
    call([&] { return dgram_message_release(&one.message), 0; });
    sim_log("release call", one.message.size, 0);
}

void Run::timer_start(Timer *timer)
{
    uint64_t delay = chance(200) ? 0 : below(chance(500) ? 20000 : 3000000);
    timer->interval = chance(300) ? 20000 + below(2000000) : 0;
    timer->deadline = sim_now() + delay;
    timer->started = !ending && !free_requested;
    int code = call([&] {
        return dgram_timer_start(timer->handle, static_cast<int64_t>(delay),
                                 static_cast<int64_t>(timer->interval));
    });
    expect_code(code, {timer->started ? 0 : static_cast<int>(DGRAM_ENOTRUNNING)},
                "dgram_timer_start");
}

void Run::timer_act()
{
    Timer *timer = any_of(live_timers);
    uint32_t way = timer == nullptr ? 12 : below(13);
    if (way >= 8 && live_timers.size() < TIMERS_MAX) {
        auto made = std::make_unique<Timer>();
        made->run = this;
        int code =
            call([&] { return dgram_timer_create(loop, on_timer, made.get(), &made->handle); });
        if (code == 0) {
            live_timers.push_back(made.get());
            timers.push_back(std::move(made));
            timer_start(live_timers.back());
        }
        expect(code == 0 || may_lack_memory() || ending || free_requested, "no timer");
    } else if (timer == nullptr || way >= 6) {
        return;
    } else if (way >= 3) {
        timer_start(timer);
    } else if (way == 2) {
        timer->started = false;
        expect_code(call([&] { return dgram_timer_stop(timer->handle); }), {0}, "dgram_timer_stop");
    } else if (way == 1) {
        timer->unreffed = chance(500);
        call([&] {
            return timer->unreffed ? dgram_timer_unref(timer->handle)
                                   : dgram_timer_ref(timer->handle);
        });
    } else {
        live_timers.erase(std::find(live_timers.begin(), live_timers.end(), timer));
        timer->started = false;
        call([&] { return dgram_timer_free(timer->handle); });
    }
}

void Run::post_one(bool frees)
{
    auto post = std::make_unique<Post>();
    post->run = this;
    post->number = posts.size();
    post->frees = frees;
    int code = call([&] { return dgram_loop_post(loop, on_post, post.get()); });
    sim_log("post call", post->number, static_cast<uint64_t>(code));
    if (code != DGRAM_ENOTRUNNING || !(ending || free_requested)) {
        expect_code(code, {0}, "dgram_loop_post");
    }
    if (code == 0) {
        posted.push_back(post->number);
        posts.push_back(std::move(post));
    }
}

void Run::stop_loop()
{
    call([&] { return dgram_loop_stop(loop), 0; });
    stopped = true;
}

void Run::answer_one()
{
    if (lookups.empty()) {
        return;
    }
    size_t index = below(static_cast<uint32_t>(lookups.size()));
    Lookup lookup = lookups[index];
    lookups.erase(lookups.begin() + static_cast<long>(index));
    static const int codes[] = {DGRAM_ENOTFOUND, DGRAM_EDNSTIMEOUT, DGRAM_EDNSFAILED};
    bool in4 = lookup.family == 4;
    bool here = chance(700);
    std::string text = here ? (in4 ? "127.0.0.1" : "::1")
                            : (in4 ? "10.9.0." : "fd00::") + std::to_string(below(6));
    struct dgram_addr address = parse(text, 1);
    int code = chance(250) && !quiet ? codes[below(3)] : 0;
    if (code == 0) {
        answers[lookup.name].push_back(address);
    } else {
        failures[lookup.name].push_back(code);
    }
    uint32_t ttl = below(3);
    sim_log("answer call", lookup.name, static_cast<uint64_t>(code));
    expect_code(call([&] { return dgram_lookup_answer(lookup.handle, code, &address, ttl); }), {0},
                "dgram_lookup_answer");
}

void Run::handle_act()
{
    if (free_requested || ending) {
        return;
    }
    if (handles.size() >= HANDLES_MAX || (!handles.empty() && chance(300))) {
        size_t index = below(static_cast<uint32_t>(handles.size()));
        call([&] { return dgram_destination_free(handles[index].handle); });
        handles.erase(handles.begin() + static_cast<long>(index));
        return;
    }
    Handle handle = {};
    handle.type = chance(650) ? DGRAM_UDP4 : DGRAM_UDP6;
    handle.name = chance(600) ? static_cast<int>(below(NAMES)) : -1;
    handle.port = static_cast<uint16_t>(5000 + below(8));
    std::string text = handle.name >= 0 ? host_name(static_cast<uint32_t>(handle.name))
                                        : std::string(loopback(handle.type));
    handle.address = parse(text, handle.port);
    int code = call([&] {
        return dgram_destination_create(loop, handle.type, handle.port, text.c_str(),
                                        &handle.handle);
    });
    expect_code(code, {0}, "dgram_destination_create");
    if (code == 0) {
        handles.push_back(handle);
    }
}

/* What the library says of itself, now and then. */
void Run::inspect()
{
    struct dgram_loop_info info = {};
    info.size = sizeof(info);
    expect_code(call([&] { return dgram_loop_info(loop, &info); }), {0}, "dgram_loop_info");
    expect(info.slots_free <= slots, "more free slots than slots");
    expect(std::string(info.name) == "sim", "another engine");
    if (Socket *s = any_of(live)) {
        check_socket(s);
    }
}

/* Queue and statistics against the books. */
void Run::check_socket(Socket *s)
{
    size_t count = dgram_get_send_queue_count(s->handle);
    size_t size = dgram_get_send_queue_size(s->handle);
    uint64_t untold_fn = s->with_fn - s->called;
    expect(count <= untold_fn + s->plain_left(), "more is queued than was accepted");
    expect(count > 0 || size == 0, "bytes of no datagram are queued");
    bool closing = s->state != State::OPEN || ending || free_requested;
    expect(closing || count >= untold_fn, "less is queued than is to complete");
    struct dgram_socket_stats stats = {};
    stats.size = sizeof(stats);
    expect_code(call([&] { return dgram_socket_stats(s->handle, &stats); }), {0}, "stats");
    if (closing) { /* its queue is not told */
        return;
    }
    expect(stats.sent == s->taken && stats.sent_bytes == s->taken_bytes, "statistics of sends");
    expect(stats.received == s->delivered && stats.received_bytes == s->delivered_bytes,
           "statistics of messages");
    expect(stats.sent + stats.send_errors + count >= s->accepted, "an accepted send was forgotten");
    expect(stats.sent + stats.send_errors <= s->accepted, "a send was counted twice");
    expect(count + stats.send_errors >= untold_fn + s->plain_left(), "the queue lost a send");
}

/* Calls that must be refused and change nothing. */
void Run::misuse()
{
    struct dgram_socket *none = nullptr;
    expect_code(call([&] { return dgram_close(nullptr); }), {DGRAM_ENULL}, "dgram_close");
    expect_code(call([&] { return dgram_create_socket(loop, 5, nullptr, &none); }),
                {DGRAM_EBADTYPE, DGRAM_ENOTRUNNING}, "dgram_create_socket");
    if (depth > 0) {
        expect_code(call([&] { return dgram_loop_turn(loop, 0); }), {DGRAM_EREENTERED},
                    "dgram_loop_turn");
        expect_code(call([&] { return dgram_loop_run(loop); }), {DGRAM_EREENTERED},
                    "dgram_loop_run");
    }
    Socket *s = any_of(live);
    if (s != nullptr && s->state == State::OPEN && !ending && !free_requested) {
        expect_code(call([&] { return dgram_send(s->handle, "x", 1, 0, "", nullptr, nullptr); }),
                    {DGRAM_EBADPORT}, "dgram_send");
        const char *wrong = loopback(s->type == DGRAM_UDP4 ? DGRAM_UDP6 : DGRAM_UDP4);
        expect_code(call([&] { return dgram_send(s->handle, "x", 1, 9, wrong, nullptr, nullptr); }),
                    {DGRAM_EBADFAMILY}, "dgram_send");
    }
}

/* The loop is to be freed: what has to go before it goes now. */
void Run::free_handles()
{
    for (const Handle &handle : handles) {
        call([&] { return dgram_destination_free(handle.handle); });
    }
    handles.clear();
}

/* From inside a callback. */
void Run::request_free()
{
    free_handles();
    expect(call([&] { return dgram_loop_free(loop); }) == nullptr, "dgram_loop_free returned");
    expect_the_end();
    free_requested = true;
    sim_log("free call", 0, 0);
}

void Run::act()
{
    struct Deed {
        uint32_t weight;
        void (Run::*deed)();
    };
    static const Deed deeds[] = {
        {250, &Run::burst},
        {20, &Run::flood},
        {50, &Run::create_socket},
        {60, &Run::bind_socket},
        {20, &Run::close_socket},
        {12, &Run::end_socket},
        {50, &Run::pause_or_resume},
        {50, &Run::set_handlers},
        {20, &Run::ref_or_unref},
        {40, &Run::release_one},
        {60, &Run::timer_act},
        {20, &Run::stop_loop},
        {40, &Run::flush_loop},
        {20, &Run::set_options},
        {60, &Run::inspect},
        {40, &Run::answer_one},
        {25, &Run::handle_act},
        {10, &Run::misuse},
        {50, &Run::many},
        {40, &Run::again},
        {60, &Run::buffer_act},
    };
    static const uint32_t total = [] {
        uint32_t sum = 0;
        for (const Deed &deed : deeds) {
            sum += deed.weight;
        }
        return sum;
    }();
    budget--;
    uint32_t way = below(total + 26);
    for (const Deed &deed : deeds) {
        if (way < deed.weight) {
            (this->*deed.deed)();
            return;
        }
        way -= deed.weight;
    }
    if (way < 25) {
        for (uint32_t posts = chance(30) ? 100 : 1; posts > 0; posts--) {
            post_one(false);
        }
    } else if (depth > 0 && chance(250) && !free_requested && !ending) {
        request_free();
    }
}

void Run::act_often(uint32_t permille)
{
    while (!quiet && !failed && budget > 0 && chance(permille)) {
        act();
    }
}

} /* namespace sim_program */
