/* SPDX-License-Identifier: MIT */
/*
 * clib.cc: see clib.h. A file's text lies in an unnamed file of the host, a new one with each
 * change, so that stat(2) tells them apart.
 */
/* Both names of a call that has two are defined here, so neither may stand for the other. */
#undef _FILE_OFFSET_BITS
#include "tests/sim/clib.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "tests/sim/sim.h"
#include "tests/support/real.h"

namespace
{

constexpr uint64_t EPOCH_NS = 1000000000u * UINT64_C(1000000000);
constexpr int DESCRIPTOR_FIRST = 1000; /* of the world's */

struct File {
    std::string path;
    FILE *text = nullptr; /* NULL: there is no such file */
    int error = 0;
};

struct Clib {
    bool open = false;
    long versions = 0;
    struct sim_random random = {};
    std::vector<File> files;
};

Clib clib;

/* ---- Files --------------------------------------------------------------------------------- */

File *file_of(const char *path)
{
    for (File &file : clib.files) {
        if (file.path == path) {
            return &file;
        }
    }
    return nullptr;
}

File *file_get(const char *path)
{
    if (file_of(path) == nullptr) {
        clib.files.emplace_back();
        clib.files.back().path = path;
    }
    return file_of(path);
}

uint64_t wall_clock()
{
    return EPOCH_NS + sim_now();
}

struct timespec timespec_of(uint64_t ns)
{
    struct timespec time = {};
    time.tv_sec = static_cast<time_t>(ns / 1000000000u);
    time.tv_nsec = static_cast<long>(ns % 1000000000u);
    return time;
}

/* It is another version now. The number is in its time: file systems' own clocks are coarse. */
void text_touch(FILE *text)
{
    struct timespec when = timespec_of(wall_clock());
    when.tv_nsec = ++clib.versions;
    const struct timespec both[2] = {when, when};
    if (futimens(fileno(text), both) < 0) {
        abort();
    }
}

FILE *text_make(const char *text)
{
    FILE *made = tmpfile();
    if (made == nullptr || fputs(text, made) == EOF || fflush(made) == EOF) {
        abort();
    }
    text_touch(made);
    return made;
}

/* A descriptor at the beginning of the text, or a negated errno. */
int file_open(const char *path)
{
    const File *file = file_of(path);
    if (file == nullptr || file->error < 0 || file->text == nullptr) {
        return file != nullptr && file->error < 0 ? file->error : -ENOENT;
    }
    int fd = fcntl(fileno(file->text), F_DUPFD_CLOEXEC, 0);
    if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0) {
        abort();
    }
    return fd;
}

FILE *stream_open(const char *path)
{
    int fd = sim_descriptor_left() ? file_open(path) : -EMFILE;
    if (fd < 0) {
        errno = -fd;
        return nullptr;
    }
    return fdopen(fd, "r");
}

void random_fill(void *buffer, size_t size)
{
    auto *bytes = static_cast<unsigned char *>(buffer);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = static_cast<unsigned char>(sim_random_next(&clib.random));
    }
}

} /* namespace */

void sim_file(const char *path, const char *text)
{
    File *file = file_get(path);
    FILE *old = file->text;
    file->text = text != nullptr ? text_make(text) : nullptr;
    if (old != nullptr) {
        fclose(old);
    }
}

void sim_file_error(const char *path, int code)
{
    File *file = file_get(path);
    file->error = code;
    if (file->text != nullptr) {
        text_touch(file->text); /* as chmod(2) does, to the other time */
    }
}

void sim_clib_open(uint64_t seed)
{
    clib.open = true;
    clib.random.state = seed;
    sim_serve_files(file_open);
}

void sim_clib_close(void)
{
    for (const File &file : clib.files) {
        if (file.text != nullptr) {
            fclose(file.text);
        }
    }
    clib = Clib();
    sim_serve_files(nullptr);
}

/* ---- The C library's ----------------------------------------------------------------------- */

extern "C" {

static FILE *open_file(const char *path, const char *mode)
{
    static const auto fopen_real = real_function<FILE *(const char *, const char *)>("fopen");
    return clib.open ? stream_open(path) : fopen_real(path, mode);
}

#undef fopen
#undef fopen64
FILE *fopen(const char *path, const char *mode)
{
    return open_file(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    return open_file(path, mode);
}

int stat(const char *path, struct stat *ret)
{
    static const auto stat_real = real_function<int(const char *, struct stat *)>("stat");
    if (!clib.open) {
        return stat_real(path, ret);
    }
    const File *file = file_of(path);
    if (file == nullptr || file->text == nullptr) {
        errno = ENOENT;
        return -1;
    }
    return fstat(fileno(file->text), ret);
}

int stat64(const char *path, struct stat64 *ret)
{
    static const auto stat64_real = real_function<int(const char *, struct stat64 *)>("stat64");
    if (!clib.open) {
        return stat64_real(path, ret);
    }
    const File *file = file_of(path);
    if (file == nullptr || file->text == nullptr) {
        errno = ENOENT;
        return -1;
    }
    return fstat64(fileno(file->text), ret);
}

int clock_gettime(clockid_t clock, struct timespec *ret)
{
    REAL(clock_gettime);
    if (!clib.open) {
        return clock_gettime_real(clock, ret);
    }
    *ret = timespec_of(clock == CLOCK_REALTIME ? wall_clock() : sim_now());
    return 0;
}

int gettimeofday(struct timeval *ret, void *)
{
    struct timespec now = {};
    clock_gettime(CLOCK_REALTIME, &now);
    ret->tv_sec = now.tv_sec;
    ret->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *ret)
{
    struct timespec now = {};
    clock_gettime(CLOCK_REALTIME, &now);
    if (ret != nullptr) {
        *ret = now.tv_sec;
    }
    return now.tv_sec;
}

int rand()
{
    REAL(rand);
    return clib.open ? static_cast<int>(sim_random_below(&clib.random, RAND_MAX)) : rand_real();
}

ssize_t getrandom(void *buffer, size_t size, unsigned flags)
{
    REAL(getrandom);
    if (!clib.open) {
        return getrandom_real(buffer, size, flags);
    }
    random_fill(buffer, size);
    return static_cast<ssize_t>(size);
}

/* glibc has it since 2.36. Without a world there is no c-ares here that would ask. */
void arc4random_buf(void *buffer, size_t size)
{
    if (clib.open) {
        random_fill(buffer, size);
    } else if (getrandom(buffer, size, 0) != static_cast<ssize_t>(size)) {
        abort();
    }
}

/* Without a domain, in which names would be looked for. */
int gethostname(char *name, size_t size)
{
    REAL(gethostname);
    if (!clib.open) {
        return gethostname_real(name, size);
    }
    snprintf(name, size, "sim");
    return 0;
}

/* c-ares 1.18 asks for the name of a socket by itself. */
int getsockname(int fd, struct sockaddr *name, socklen_t *size)
{
    REAL(getsockname);
    return clib.open && fd >= DESCRIPTOR_FIRST ? sim_name_of(fd, name, size)
                                               : getsockname_real(fd, name, size);
}

} /* extern "C" */
