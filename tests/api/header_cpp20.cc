/* SPDX-License-Identifier: MIT */
/*
 * header_cpp20.cc: a C++20 program fills in structs of the header, with every warning about
 * initialisers on: by DGRAM_SIZED() and then the members, or by designated initialisers in the
 * header's order.
 */
#include <dgram.h>

#include <type_traits>

/* None of them has const members, constructors or defaults: they can be kept, copied and assigned,
 * and any initialiser of C works. */
template <typename T>
constexpr bool plain = std::is_aggregate_v<T> &&std::is_trivial_v<T> &&std::is_standard_layout_v<T>
    &&std::is_copy_assignable_v<T>;

static_assert(plain<struct dgram_addr> && plain<struct dgram_error> && plain<struct dgram_message>);
static_assert(plain<struct dgram_loop_options> && plain<struct dgram_loop_info> &&
              plain<struct dgram_engine_report>);
static_assert(plain<struct dgram_socket_options> && plain<struct dgram_socket_stats> &&
              plain<struct dgram_outgoing>);
static_assert(plain<struct dgram_buffer_options>);

/* The way without a warning: DGRAM_SIZED() and then the members. */
static constinit struct dgram_loop_options sized = DGRAM_SIZED(struct dgram_loop_options);

/* g++ warns of every member that a designated list leaves out, in C++ alone; clang++ does not. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#endif

static const struct dgram_loop_options loop_options = {
    .size = sizeof(loop_options),
    .engine = DGRAM_ENGINE_POLL,
    .slots = 16,
    .segments_max = 1,
    .busy_poll_us = DGRAM_BUSY_POLL_OFF,
};

static const struct dgram_socket_options socket_options = {
    .size = sizeof(socket_options),
    .flags = DGRAM_REUSE_ADDR,
    .recv_buffer_size = 1 << 20,
    .queue_limit = 1 << 20,
};

static const struct dgram_outgoing outgoing = {.data = "x", .size = 1, .address = nullptr};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

int main()
{
    struct dgram_loop_info info = DGRAM_SIZED(struct dgram_loop_info);
    struct dgram_socket_options socket = DGRAM_SIZED(struct dgram_socket_options);
    struct dgram_loop *loop = nullptr;

    sized.engine = DGRAM_ENGINE_POLL;
    if (dgram_loop_create(&sized, &loop) != 0 || dgram_loop_info(loop, &info) != 0) {
        return 1;
    }
    dgram_loop_free(loop);
    if (dgram_loop_create(&loop_options, &loop) != 0) {
        return 1;
    }
    socket = socket_options;
    dgram_loop_free(loop);
    return info.engine == DGRAM_ENGINE_POLL && socket.flags != 0 && outgoing.size == 1 ? 0 : 1;
}
