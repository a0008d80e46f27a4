/* SPDX-License-Identifier: MIT */
/*
 * denied_limits.cc: limits of a process: locked memory, address space, descriptors.
 */
#include <dgram.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/host/denied.h"

using namespace denied;

namespace
{

/* A user of whom no other program counts locked memory: root takes a number, others stay. */
void become_nobody()
{
    const auto user = static_cast<uid_t>(61000 + getpid() % 4000);
    if (geteuid() == 0) {
        ASSERT_EQ(setresuid(user, user, user), 0); /* without CAP_IPC_LOCK */
    }
}

/* Many loops of one user under one limit of locked memory: each that was made can receive, whatever
 * the last ring had no room for, itself or its list of buffers. Untouched pools cost nothing. */
TEST(Limits, EachOfManyLoopsReceives)
{
    SKIP_WITHOUT_RING();
    for (uint32_t slots : {4u, 64u, 1000u}) {
        in_child([slots] {
            const struct rlimit few = {1 << 20, 1 << 20};
            unsetenv("DGRAM_ENGINE");
            ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &few), 0);
            become_nobody();
            std::vector<std::unique_ptr<Program>> programs;
            unsigned rings = 0;
            for (int i = 0; i < 45; i++) {
                programs.push_back(std::make_unique<Program>());
                ASSERT_EQ(programs.back()->create(DGRAM_ENGINE_AUTO, slots), 0);
            }
            for (auto &program : programs) {
                const struct dgram_loop_info info = program->info();
                rings += info.engine == DGRAM_ENGINE_URING;
                if (info.engine != DGRAM_ENGINE_URING) {
                    EXPECT_EQ(info.refused_code, -ENOMEM);
                    EXPECT_EQ(strncmp(info.refused_call, "io_uring_", 9), 0) << info.refused_call;
                    EXPECT_NE(strstr(info.refused_advice, "ulimit -l"), nullptr);
                }
                ASSERT_EQ(program->open(), 0);
                program->send(3);
                EXPECT_EQ(program->run_until(3, 1000), 0);
                ASSERT_EQ(program->messages, 3u) << info.name << " is deaf";
            }
            printf("%u slots: %u rings of 45 loops\n", slots, rings);
        });
    }
}

/* Memory of the process in bytes, for RLIMIT_AS. */
rlim_t address_space()
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    EXPECT_EQ(fscanf(file, "%lu", &pages), 1);
    fclose(file);
    return static_cast<rlim_t>(pages) * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
}

void limit_address_space(rlim_t more)
{
    const struct rlimit limit = {more == RLIM_INFINITY ? more : address_space() + more,
                                 RLIM_INFINITY};
    ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

/* A limit of memory that comes after the loop was made harms no receive; before, there is no loop,
 * and one when it has gone. */
TEST(Limits, AddressSpaceThatComesAndGoes)
{
    const rlim_t some = 64 << 20; /* the slots of this loop are 270 MB */
    for (uint32_t engine : {DGRAM_ENGINE_AUTO, DGRAM_ENGINE_POLL}) {
        in_child([engine] {
            Program program;
            limit_address_space(some);
            EXPECT_EQ(program.create(engine, 4096), -ENOMEM);
            limit_address_space(RLIM_INFINITY);
            ASSERT_EQ(program.create(engine, 4096), 0);
            limit_address_space(some);
            program.works();
        });
    }
}

/* No memory may be locked: where rings count as that, the reason says what to raise. */
TEST(Limits, NoLockedMemory)
{
    SKIP_WITHOUT_RING();
    in_child([] {
        const struct rlimit none = {0, 0};
        Program program;
        unsetenv("DGRAM_ENGINE");
        ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
        if (geteuid() == 0) {
            ASSERT_EQ(setresuid(65534, 65534, 65534), 0); /* without CAP_IPC_LOCK */
        }
        ASSERT_EQ(program.create(DGRAM_ENGINE_AUTO), 0);
        if (program.info().engine == DGRAM_ENGINE_POLL) {
            EXPECT_EQ(program.info().refused_code, -ENOMEM);
            EXPECT_NE(strstr(program.info().refused_advice, "ulimit -l"), nullptr);
        }
        program.works();
    });
}

/* Zero copy pins memory: without leave to, the buffer says so and is copied from. */
TEST(Limits, NoLockedMemoryForABuffer)
{
    SKIP_WITHOUT_RING();
    in_child([] {
        const struct rlimit none = {0, 0};
        Program program;
        if (geteuid() == 0) {
            ASSERT_EQ(setresuid(65534, 65534, 65534), 0); /* without CAP_IPC_LOCK */
        }
        if (program.create(DGRAM_ENGINE_URING) < 0) {
            printf("no memory for a ring here\n");
            return;
        }
        ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
        struct dgram_buffer_options options = {};
        options.size = sizeof(options);
        options.flags = DGRAM_ZERO_COPY;
        struct dgram_buffer *buffer = nullptr;
        ASSERT_EQ(dgram_buffer_create(program.loop, 1 << 20, &options, &buffer), 0);
        int code = dgram_buffer_zero_copy(buffer);
        EXPECT_TRUE(code == -ENOMEM || code == -EINVAL) << code; /* the latter before 6.15 */
        struct dgram_socket *sender = nullptr;
        struct dgram_addr to = {};
        ASSERT_EQ(dgram_create_socket(program.loop, DGRAM_UDP4, nullptr, &sender), 0);
        ASSERT_EQ(dgram_addr_parse("127.77.0.1", 9, &to), 0);
        for (size_t i = 0; i < 50; i++) {
            EXPECT_EQ(dgram_send_buffer(sender, buffer, i * 1200, 1200, &to), 0);
        }
        EXPECT_GE(dgram_loop_turn(program.loop, 0), 0);
        EXPECT_FALSE(dgram_buffer_in_use(buffer));
        EXPECT_EQ(program.info().zero_copy_sends, 0u);
    });
}

/* At every number of free descriptors: a clear error or a program that works; nothing is lost, and
 * with the limit gone all is well. */
TEST(Limits, FewDescriptors)
{
    in_child([] {
        struct rlimit usual = {};
        ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
        const size_t before = descriptors();
        bool worked = false;
        for (rlim_t free = 0; !worked; free++) {
            ASSERT_LT(free, 64u);
            struct rlimit few = {before + free, usual.rlim_max};
            ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
            {
                Program program;
                int code = program.create(DGRAM_ENGINE_AUTO);
                if (code == 0) {
                    code = program.open();
                }
                if (code == 0) {
                    program.send(30);
                    code = program.run_until(30, 1000);
                }
                if (code == 0) {
                    code = dgram_loop_fd(program.loop);
                }
                worked = code >= 0;
                EXPECT_TRUE(worked || code == -EMFILE) << free << ": " << code;
                EXPECT_EQ(program.completed, program.accepted);
            }
            ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
            EXPECT_EQ(descriptors(), before) << free;
        }
        Program program;
        ASSERT_EQ(program.create(DGRAM_ENGINE_AUTO), 0);
        program.works();
    });
}

} /* namespace */
