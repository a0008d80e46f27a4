/* SPDX-License-Identifier: MIT */
/*
 * test.cc: a program that uses the library at random, on the simulator, and checks it.
 *
 * One seed is one run: sockets, handlers, bursts, timers, posts and names come and go, inside
 * callbacks and outside, while the simulated host does everything that it is allowed to do. The run
 * keeps its own books of what it asked for and of what the simulator saw, and compares them with
 * what the library says:
 *
 *     what left          each accepted send is given to the kernel at most once, with its bytes,
 *                        in order per socket and destination, and completes exactly once
 *     what came          exactly what the kernel handed over, in order, to whom it may be delivered
 *     what is owed       whenever the loop would sleep, nothing is due that the sleep would delay
 *     what is left       no memory, no descriptor, no slot; the same seed gives the same log
 *
 * A run that fails prints how to replay it:
 *
 *     DGRAM_SIM_SEED=<seed> ./sim --gtest_filter=Sim.Hunt       (DGRAM_SIM_TRACE=1 shows the log)
 *     DGRAM_SIM_SEED=<first> DGRAM_SIM_SEEDS=<count> ./sim --gtest_filter=Sim.Hunt
 *
 * This file owns the loops and the seeds; program.h tells where the rest is.
 */
#include <gtest/gtest.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/random/program.h"

namespace sim_program
{

/* ---- Turning ------------------------------------------------------------------------------- */

bool Run::open_loop()
{
    static const uint32_t slot_counts[] = {4, 4, 5, 8, 16, 0};
    static const uint32_t slot_sizes[] = {0, 0, 0, 512, 1500, 9000};
    static const uint32_t segments[] = {0, 0, 1, 2, 64};
    struct dgram_loop_options options = {};
    options.size = sizeof(options);
    options.slots = slot_counts[below(6)];
    options.slot_size = slot_sizes[below(6)];
    options.segments_max = segments[below(5)];
    options.queue_limit = chance(500) ? 0 : 2000 + below(300000);
    options.busy_poll_us = chance(250) ? 1 + below(60) : chance(250) ? DGRAM_BUSY_POLL_OFF : 0;
    options.max_delay_us = chance(300) ? 1 + below(2000) : 0;
    options.lookup = on_lookup;
    options.lookup_user = this;
    slots = options.slots != 0 ? options.slots : 64;
    slot_size = options.slot_size != 0 ? options.slot_size : 65536;
    loop_limit = options.queue_limit != 0 ? options.queue_limit : 16u << 20;
    loop = nullptr;
    int code = call([&] { return sim_loop_create(&options, &loop); });
    expect(code == 0 || faults.setup > 0 || may_lack_memory(), "no loop, for no reason");
    expect((code == 0) == (loop != nullptr), "a loop and an error");
    fd = -1;
    embedded = chance(250);
    free_requested = ending = quiet = stopped = false;
    loop_time = 0;
    return code == 0;
}

/* After every turn and run: what it returned, and whether the loop is still there. */
void Run::after_turn(int code)
{
    if (free_requested) {
        loop_gone();
        return;
    }
    uint64_t now = dgram_loop_now(loop);
    expect(now >= loop_time && now <= sim_now(), "the loop's clock is wrong");
    loop_time = now;
    for (Socket *socket : std::vector<Socket *>(live)) {
        learn_bound(socket);
        if (chance(200)) {
            check_socket(socket);
        }
    }
    if (code < 0) {
        expect(code == sim_broken(), "a turn failed, for no reason");
    }
}

int Run::turn_once(int64_t timeout)
{
    stopped = false; /* the turn uses up what was asked before it */
    turning++;
    int code = dgram_loop_turn(loop, timeout);
    turning--;
    sim_log("turn", static_cast<uint64_t>(code), static_cast<uint64_t>(timeout));
    if (code == 0 && !free_requested) {
        expect(!is_alive(), "dgram_loop_turn says that nothing is alive");
    }
    return code;
}

void Run::run_loop()
{
    turning++;
    int code = dgram_loop_run(loop);
    turning--;
    sim_log("run", static_cast<uint64_t>(code), 0);
    if (free_requested) {
        expect_code(code, {1}, "dgram_loop_run of a loop that was freed");
    } else if (code == 0) {
        expect(!is_alive() && !stopped, "dgram_loop_run returned, and the loop is alive");
    } else if (code == 1) {
        expect(stopped, "dgram_loop_run was stopped by nobody");
    }
    stopped = false;
    after_turn(code);
}

/* As another event loop would: sleeps on the descriptor, turns when it is readable. */
void Run::turn_embedded()
{
    if (fd < 0) {
        fd = call([&] { return dgram_loop_fd(loop); });
        bool may_fail = faults.setup > 0 || faults.no_pollable > 0 || may_lack_memory();
        expect(fd >= 0 || may_fail, "no descriptor, for no reason");
    }
    for (uint32_t rounds = 1 + below(20); rounds > 0 && fd >= 0 && loop != nullptr; rounds--) {
        if (!sim_readable(fd)) {
            audit(sim_next_event());
            if (failed || !sim_sleep(sim_now() + 5 * MILLISECOND)) {
                return;
            }
            continue;
        }
        int code = turn_once(0);
        after_turn(code);
        if (code < 0 || failed) {
            return;
        }
    }
}

void Run::turn()
{
    static const int64_t timeouts[] = {0, 0, 1000, 50000, 3 * MILLISECOND, -1};
    if (embedded && chance(800)) {
        turn_embedded();
        if (fd >= 0) {
            return;
        }
    }
    if (chance(250)) {
        run_loop();
        return;
    }
    int64_t timeout = timeouts[below(6)];
    after_turn(turn_once(timeout));
}

/* ---- The end of a loop --------------------------------------------------------------------- */

/* What dgram_loop_free() promises at once. */
void Run::expect_the_end()
{
    for (Socket *socket : live) {
        if (socket->is_live()) {
            socket->state = State::CLOSING;
        }
    }
    for (Timer *timer : live_timers) {
        timer->started = false;
    }
}

void Run::free_loop()
{
    free_handles();
    expect_the_end();
    sim_log("free", 0, 0);
    ending = true;
    turning++;
    expect(dgram_loop_free(loop) == nullptr, "dgram_loop_free returned something");
    turning--;
    loop_gone();
}

/* Nothing may be left of a freed loop but kept messages and unanswered lookups. */
void Run::loop_gone()
{
    loop = nullptr;
    if (failed) {
        live.clear();
    }
    expect(live.empty(), "a socket without `close`");
    live.clear();
    expect(untold == 0, "a send without its callback");
    expect(posted.empty(), "a post was never called");
    posted.clear();
    live_timers.clear();
    live_buffers.clear();
    buffers.clear();
    untold = 0;
    for (const auto &send : sends) {
        expect(!send->has_fn || send->called, "an accepted send was never completed");
    }
    sends.clear();
    ending = false;
    free_requested = false;
}

/* What has still to happen, "" if nothing. */
std::string Run::owed()
{
    if (!sim_quiet() || !lookups.empty()) {
        return "the host is not quiet";
    }
    if (!posted.empty()) {
        return "a post";
    }
    for (const Buffer *buffer : live_buffers) {
        if (buffer->idle_owed) {
            return "`idle`";
        }
    }
    for (Socket *s : live) {
        std::string name = "socket " + std::to_string(s->number) + ": ";
        if (s->state != State::OPEN) {
            return name + "`close`";
        }
        if (dgram_get_send_queue_count(s->handle) > 0 || s->called < s->with_fn) {
            return name + "sends";
        }
        if (s->wants_messages() && !s->expected.empty() && !may_lack_memory() &&
            !s->receive_failed) {
            return name + "messages";
        }
        if (s->drain_owed && s->on_drain) {
            return name + "`drain`";
        }
        if (s->bound == Bound::YES && s->on_listening && !s->listened) {
            return name + "`listening`";
        }
    }
    return "";
}

/* Nothing goes wrong any more: everything that is owed must come, and nothing may be left. */
void Run::finish_quietly()
{
    sim_calm();
    quiet = true;
    while (!kept.empty()) {
        release_one();
    }
    for (Timer *timer : live_timers) {
        timer->started = false;
        call([&] { return dgram_timer_stop(timer->handle); });
    }
    for (Socket *s : live) {
        if (s->is_live() && call([&] { return dgram_resume(s->handle); }) == 0) {
            s->paused = false;
            s->on_message = s->on_message ||
                            call([&] { return dgram_on_message(s->handle, on_message, s); }) == 0;
        }
    }
    for (int rounds = 0;
         rounds < 2000 && !failed && (rounds < 3 || !owed().empty() || sim_slots_lent() > 0);
         rounds++) {
        while (!lookups.empty()) {
            answer_one();
        }
        after_turn(turn_once(MILLISECOND));
    }
}

void Run::finish()
{
    uint32_t way = below(10);
    if (failed || sim_broken() < 0 || way < 4) {
        free_loop();
        return;
    }
    if (way < 6) {
        post_one(true);
        while (loop != nullptr && !failed && !posted.empty() && sim_broken() == 0) {
            run_loop();
        }
        if (loop != nullptr) {
            free_loop();
        }
        return;
    }
    finish_quietly();
    if (loop == nullptr) {
        return;
    }
    std::string what = owed();
    if (!what.empty()) {
        fail("nothing goes wrong any more, and something is owed: " + what);
    }
    struct dgram_loop_info info = {};
    info.size = sizeof(info);
    dgram_loop_info(loop, &info);
    if (info.slots_free != slots || sim_slots_lent() != 0) {
        fail("of " + std::to_string(slots) + " slots only " + std::to_string(info.slots_free) +
             " are free, and the engine misses " + std::to_string(sim_slots_lent()));
    }
    for (Socket *s : std::vector<Socket *>(live)) {
        check_socket(s);
        expect(dgram_get_send_queue_size(s->handle) == 0, "a queue is not empty");
        int code =
            call([&] { return chance(500) ? dgram_close(s->handle) : dgram_end(s->handle); });
        expect_code(code, {0}, "dgram_close");
        s->state = State::CLOSING;
    }
    turning++;
    int code = dgram_loop_run(loop);
    turning--;
    expect(code == (stopped ? 1 : 0), "dgram_loop_run does not end");
    if (code == 0) {
        expect(live.empty(), "dgram_loop_run ended before all sockets were closed");
    }
    free_loop();
}

/* The program does something else for a while: buffers fill, names expire. */
void Run::be_busy()
{
    uint64_t until = sim_now() + below(1500000000);
    sim_log("busy", until, 0);
    while (sim_now() < until) {
        sim_sleep(until);
    }
}

void Run::live_once()
{
    if (!open_loop()) {
        budget -= std::min<uint64_t>(budget, 50);
        return;
    }
    uint64_t most = budget;
    uint64_t least = chance(300) ? most / 2 : 0; /* another loop after this one */
    while (budget > least && loop != nullptr && !failed && sim_broken() == 0) {
        self = nullptr;
        for (uint32_t deeds = 1 + below(12); deeds > 0 && budget > 0 && !failed; deeds--) {
            act();
        }
        if (!failed && chance(30)) {
            be_busy();
        }
        if (!failed) {
            turn();
        }
    }
    if (loop != nullptr) {
        finish();
    }
}

void Run::go()
{
    do {
        live_once();
    } while (budget > 0 && !failed && sim_broken() == 0);
    quiet = true;
    while (!kept.empty()) { /* after the loop is gone */
        release_one();
    }
    while (!lookups.empty()) {
        answer_one();
    }
}

Run::Run(uint64_t the_seed) : seed(the_seed), random{the_seed}
{
    sim_faults_random(&random, &faults);
    if (chance(80)) {
        faults = {};
    }
    budget = 200 + below(1200);
    slowness = chance(300) ? 1 + below(3000000) : 0;
}

/* ---- Seeds --------------------------------------------------------------------------------- */

static void hook_taken(void *user, uint32_t socket, const struct dgram_addr *to,
                       const unsigned char *data, uint32_t size)
{
    static_cast<Run *>(user)->taken(socket, *to, data, size);
}

static void hook_handed(void *user, uint32_t socket, const struct dgram_addr *from,
                        const unsigned char *data, uint32_t size, uint32_t real_size,
                        uint32_t segment)
{
    static_cast<Run *>(user)->handed(socket, *from, data, size, real_size, segment);
}

static void hook_sleeping(void *user, uint64_t until)
{
    static_cast<Run *>(user)->sleeping(until);
}

static void hook_broken(void *user, const char *rule)
{
    static_cast<Run *>(user)->fail(std::string("a rule of the boundary: ") + rule);
}

/* For whoever dies in a run: an assertion of the library, a sanitizer. */
char last_words[128];

static void say_last_words()
{
    ssize_t ignored = write(STDERR_FILENO, last_words, strlen(last_words));
    (void) ignored;
}

static void on_abort(int)
{
    say_last_words();
}

extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

struct Outcome {
    uint64_t hash;
    bool failed;
};

static Outcome run_seed(uint64_t seed)
{
    snprintf(last_words, sizeof(last_words),
             "died in seed %llu; replay: DGRAM_SIM_SEED=%llu ./sim --gtest_filter=Sim.Hunt\n",
             static_cast<unsigned long long>(seed), static_cast<unsigned long long>(seed));
    signal(SIGABRT, on_abort);
    if (__sanitizer_set_death_callback != nullptr) {
        __sanitizer_set_death_callback(say_last_words);
    }
    Run run(seed);
    const struct sim_hooks hooks = {&run, hook_taken, hook_handed, hook_sleeping, hook_broken};
    sim_open(seed, &run.faults, &hooks);
    run.go();
    sim_close();
    signal(SIGABRT, SIG_DFL);
    return {sim_hash(), run.failed};
}

/* `count` seeds from `first` on; some of them twice, since the same seed must give the same run. */
static void run_seeds(uint64_t first, uint64_t count, uint64_t twice_every)
{
    unsigned failures = 0;
    for (uint64_t seed = first; seed < first + count && failures < 5; seed++) {
        Outcome outcome = run_seed(seed);
        failures += outcome.failed;
        if (!outcome.failed && seed % twice_every == 0) {
            EXPECT_EQ(run_seed(seed).hash, outcome.hash) << "seed " << seed << " is not replayed";
        }
    }
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text != nullptr ? strtoull(text, nullptr, 10) : otherwise;
}

constexpr uint64_t SHARD = 125;

class Seeds : public ::testing::TestWithParam<int>
{
};

TEST_P(Seeds, AllHold)
{
    uint64_t first = 1 + SHARD * static_cast<uint64_t>(GetParam());
    run_seeds(first, SHARD, 16);
}

INSTANTIATE_TEST_SUITE_P(Sim, Seeds, ::testing::Range(0, 8));

TEST(Sim, Hunt)
{
    uint64_t first = number_from("DGRAM_SIM_SEED", 0), count = number_from("DGRAM_SIM_SEEDS", 1);
    if (first == 0) {
        GTEST_SKIP() << "DGRAM_SIM_SEED and DGRAM_SIM_SEEDS name the seeds to run";
    }
    struct timespec begin = {}, end = {};
    clock_gettime(CLOCK_MONOTONIC, &begin);
    run_seeds(first, count, 16);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (count == 1) {
        printf("seed %llu: the log's hash is %016llx\n", static_cast<unsigned long long>(first),
               static_cast<unsigned long long>(sim_hash()));
    }
    double seconds = static_cast<double>(end.tv_sec - begin.tv_sec) +
                     static_cast<double>(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("seeds %llu to %llu: %.0f a second\n", static_cast<unsigned long long>(first),
           static_cast<unsigned long long>(first + count - 1),
           static_cast<double>(count) / seconds);
}

} /* namespace sim_program */
