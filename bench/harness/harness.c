/* SPDX-License-Identifier: MIT */
/*
 * harness.c: the crew: threads, the common start, the stop, the live line; and their ends.
 *
 * Owns all waiting that is not an engine's. Never touches a socket.
 */
#include "bench/harness/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/harness/process.h"

#define LIVE_NS (UINT64_C(200) * 1000000)

/* ---- Sides --------------------------------------------------------------------------------- */

static void side_enter(struct side *side, enum side_state state)
{
    pthread_mutex_lock(&side->crew->lock);
    side->state = state;
    pthread_cond_broadcast(&side->crew->changed);
    pthread_mutex_unlock(&side->crew->lock);
}

static void side_await_go(struct side *side)
{
    struct crew *crew = side->crew;

    pthread_mutex_lock(&crew->lock);
    while (!crew->go) {
        pthread_cond_wait(&crew->changed, &crew->lock);
    }
    pthread_mutex_unlock(&crew->lock);
}

static uint64_t side_cpu(struct side *side)
{
    return side->end.engine->cpu ? side->end.engine->cpu(&side->end) : clock_thread_cpu();
}

static void side_run(struct side *side)
{
    uint64_t before;

    side_enter(side, SIDE_READY);
    side_await_go(side);
    before = side_cpu(side);
    if (side->work(side) != 0) {
        side->failed = true;
        atomic_store(&side->crew->stop, true);
    }
    side->cpu_ns = side_cpu(side) - before;
    if (side->end.engine->calls) {
        side->end.engine->calls(&side->end);
    }
}

static const struct spot *spot_of(const struct plan *plan, enum role role)
{
    return &plan->spots[role == ROLE_SINK || role == ROLE_SERVER || role == ROLE_COLLECTOR];
}

/* Moves the calling thread into the namespace of its end: sockets that the thread opens, and its
 * processes, are there. Returns 0, or -1 with end->error. */
static int netns_enter(struct end *end)
{
    const struct spot *spot = spot_of(end->plan, end->role);
    char path[96];
    int fd, result;

    if (spot->netns[0] == '\0') {
        return 0;
    }
    snprintf(path, sizeof(path), "/run/netns/%s", spot->netns);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return end_fail(end, path, -errno);
    }
    result = setns(fd, CLONE_NEWNET);
    result = result == 0 ? 0 : end_fail(end, "setns", -errno);
    close(fd);
    return result;
}

static void *side_main(void *user)
{
    struct side *side = user;

    thread_pin(side->place);
    if (netns_enter(&side->end) != 0 || side->end.engine->open(&side->end) != 0) {
        side->failed = true;
    } else {
        side_run(side);
    }
    side->end.engine->close(&side->end);
    side_enter(side, SIDE_DONE);
    return NULL;
}

int side_start(struct crew *crew, struct side *side)
{
    int error;

    side->crew = crew;
    side->state = SIDE_OPENING;
    error = pthread_create(&side->thread, NULL, side_main, side);
    if (error != 0) {
        complain("the %s: no thread: %s", side->name, strerror(error));
        return -1;
    }
    side->joinable = true;
    pthread_mutex_lock(&crew->lock);
    while (side->state == SIDE_OPENING) {
        pthread_cond_wait(&crew->changed, &crew->lock);
    }
    pthread_mutex_unlock(&crew->lock);
    return side->state == SIDE_READY ? 0 : side_join(side);
}

int side_join(struct side *side)
{
    if (!side->joinable) {
        return 0;
    }
    atomic_store(&side->crew->stop, true);
    crew_go(side->crew);
    pthread_join(side->thread, NULL);
    side->joinable = false;
    if (!side->failed) {
        return 0;
    }
    complain("the %s: %s: %s", side->name, side->end.engine->name, side->end.error);
    return -1;
}

/* ---- Crew ---------------------------------------------------------------------------------- */

void crew_init(struct crew *crew, const struct plan *plan)
{
    pthread_condattr_t attributes;

    *crew = (struct crew){.plan = plan};
    atomic_init(&crew->stop, false);
    pthread_mutex_init(&crew->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&crew->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void crew_destroy(struct crew *crew)
{
    pthread_cond_destroy(&crew->changed);
    pthread_mutex_destroy(&crew->lock);
}

void crew_go(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    if (!crew->go) {
        crew->go = true;
        crew->started = clock_now();
        pthread_cond_broadcast(&crew->changed);
    }
    pthread_mutex_unlock(&crew->lock);
}

/* Waits LIVE_NS at most, with the crew locked. Returns whether all sides are done. */
static bool crew_await(struct crew *crew, struct side *const *sides, size_t count)
{
    uint64_t until = clock_now() + LIVE_NS;
    struct timespec deadline = {.tv_sec = (time_t) (until / 1000000000u),
                                .tv_nsec = (long) (until % 1000000000u)};

    for (size_t i = 0; i < count;) {
        if (sides[i]->state == SIDE_DONE) {
            i++;
        } else if (pthread_cond_timedwait(&crew->changed, &crew->lock, &deadline) == ETIMEDOUT) {
            return false;
        }
    }
    return true;
}

static void crew_show(struct crew *crew, live_fn *live, void *run)
{
    double elapsed = (double) (clock_now() - crew->started) / 1e9;
    char text[160];

    live(run, elapsed, text, sizeof(text));
    live_show(text);
}

void crew_watch(struct crew *crew, struct side *const *sides, size_t count, live_fn *live,
                void *run)
{
    bool done = false;

    if (!isatty(STDERR_FILENO)) {
        live = NULL;
    }
    while (!done) {
        pthread_mutex_lock(&crew->lock);
        done = crew_await(crew, sides, count);
        pthread_mutex_unlock(&crew->lock);
        if (interrupts_seen()) {
            atomic_store(&crew->stop, true);
        }
        if (live && !done) {
            crew_show(crew, live, run);
        }
    }
    live_clear();
}

int crew_finish(struct crew *crew, struct side *const *sides, size_t count, live_fn *live,
                void *run)
{
    int failed = 0;

    crew_watch(crew, sides, count, live, run);
    for (size_t i = 0; i < count; i++) {
        failed |= side_join(sides[i]);
    }
    return failed;
}

void live_add_left(char *text, size_t room, double left)
{
    size_t used = strlen(text);

    if (left >= 0) {
        snprintf(text + used, room - used, ", %.0f s left", left);
    }
}

bool crew_time_over(const struct crew *crew, uint64_t now)
{
    double seconds = crew->plan->seconds;

    return seconds > 0 && (double) (now - crew->started) >= seconds * 1e9;
}

double crew_time_left(const struct crew *crew, double elapsed)
{
    double left = crew->plan->seconds - elapsed;

    if (!(crew->plan->seconds > 0)) {
        return -1;
    }
    return left > 0 ? left : 0;
}

/* ---- Ends ---------------------------------------------------------------------------------- */

/* Returns a size that differs from its neighbour and, for the last, from the first: the table is
 * read round and round. The generator must be the same for every engine and machine. */
static uint32_t size_differing(uint64_t *seed, uint32_t span, uint32_t before, uint32_t first)
{
    uint32_t size;

    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    size = SIZE_LEAST + (uint32_t) ((*seed >> 33) % span);
    while (size == before || size == first) {
        size = size + 1 < SIZE_LEAST + span ? size + 1 : SIZE_LEAST;
    }
    return size;
}

void sizes_fill(struct sizes *sizes, const struct plan *plan)
{
    uint32_t span = plan->size - SIZE_LEAST + 1;
    uint64_t seed = 1;

    if (!plan->distinct_sizes) {
        for (uint32_t i = 0; i < SIZES; i++) {
            sizes->at[i] = plan->size;
        }
        return;
    }
    sizes->at[0] = SIZE_LEAST;
    for (uint32_t i = 1; i < SIZES; i++) {
        uint32_t first = i == SIZES - 1 ? sizes->at[0] : 0;
        sizes->at[i] = size_differing(&seed, span, sizes->at[i - 1], first);
    }
}

void end_init(struct end *end, struct crew *crew, const struct engine *engine, enum role role)
{
    const struct spot *spot = spot_of(crew->plan, role);

    *end = (struct end){
        .plan = crew->plan,
        .engine = engine,
        .mode = engine->modes ? engine->reply_mode : NULL,
        .role = role,
        .sockets = 1,
        .stop = &crew->stop,
        .engine_name = engine->name,
        .train = 1,
        .kernel_sends = COUNT_UNKNOWN,
        .kernel_receives = COUNT_UNKNOWN,
    };
    dgram_addr_parse(spot->address ? spot->address : "127.0.0.1", 0, &end->bind_to);
}

int end_fail(struct end *end, const char *what, int code)
{
    if (code == 0) {
        snprintf(end->error, sizeof(end->error), "%s", what);
    } else {
        snprintf(end->error, sizeof(end->error), "%s: %s", what, dgram_strerror(code));
    }
    return -1;
}

int end_drain(struct end *end)
{
    uint64_t until = clock_now() + SILENCE_NS;

    while (end->engine->pending && end->engine->pending(end) > 0 && clock_now() < until) {
        if (end->engine->turn(end, false) != 0) {
            return -1;
        }
    }
    return 0;
}

int end_announce(const struct end *end)
{
    FILE *out = end->plan->json ? stderr : stdout;
    char text[DGRAM_ADDR_TEXT_MAX];

    fprintf(out, "%s, %s: %s port %u\n", end->plan->scenario, end->engine_name,
            dgram_addr_text(&end->local[0], text), dgram_addr_port(&end->local[0]));
    return fflush(out) == 0 ? 0 : -1;
}

int engine_available(const struct engine *engine, char *why, size_t room)
{
    if (engine->missing) {
        snprintf(why, room, "%s", engine->missing);
        return -1;
    }
    return engine->available ? engine->available(why, room) : 0;
}

int engine_check(const struct plan *plan, const struct engine *engine)
{
    char why[256] = "";

    if (engine_available(engine, why, sizeof(why)) != 0) {
        complain("--engine %s cannot run here: %s", engine->name, why);
        return EXIT_UNAVAILABLE;
    }
    if (plan->zero_copy && engine->zero_copy(why, sizeof(why)) != 0) {
        complain("--zero-copy: engine %s cannot here: %s", engine->name, why);
        return EXIT_UNAVAILABLE;
    }
    return 0;
}
