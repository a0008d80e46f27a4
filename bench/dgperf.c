/* SPDX-License-Identifier: MIT */
/*
 * dgperf.c: main: the table of subcommands.
 *
 * Owns the choice of a subcommand, the table of engines that it hands on, and standard output's
 * end. harness/options.c reads the options.
 */
#include <dgram.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/engines/engines.h"
#include "bench/harness/options.h"
#include "bench/harness/process.h"
#include "bench/scenarios/scenarios.h"

static const struct command commands[] = {
    {"collect", "lone datagrams at a rate: CPU and delay of the receiver", collect_main,
     FOR_COLLECT},
    {"respond", "a DNS server that knows one address, until Ctrl-C", respond_main, FOR_RESPOND},
    {"stream", "one sender, one receiver: datagrams a second", stream_main, FOR_STREAM},
    {"fanout", "one sender, 64 receivers, a datagram to each in turn", stream_main, FOR_FANOUT},
    {"ping", "round trips against an echo server: percentiles", ping_main, FOR_PING},
    {"echo", "an echo server, until Ctrl-C", echo_main, FOR_ECHO},
    {"send", "the sending side alone, for two machines", send_main, FOR_SEND},
    {"recv", "the receiving side alone, until the sender's end", recv_main, FOR_RECV},
    {"peers", "which engines can run on this machine", peers_main, FOR_PEERS},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *out)
{
    fputs("usage: dgperf COMMAND [OPTION]...\n\n", out);
    for (size_t i = 0; i < COMMANDS; i++) {
        fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].summary);
    }
    fputs("\nengines:\n", out);
    for (const struct engine *const *engine = engines; *engine; engine++) {
        fprintf(out, "  %-8s %s\n", (*engine)->name, (*engine)->summary);
    }
    fputs("\n'dgperf COMMAND --help' lists the options of one.\n"
          "Exit code: 0 all well; 1 the run failed, or datagrams were lost or wrong;\n"
          "2 a wrong command line; 3 the engine cannot run here, or not so (--zero-copy).\n",
          out);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct plan plan;
    int code = options_read(command, engines, argc, argv, &plan);

    if (code != 0) {
        return code < 0 ? EXIT_GOOD : code;
    }
    return command->run(&plan);
}

/* Returns `code`, or EXIT_BAD_RUN if the output does not arrive: the disk is full, or the reader
 * has gone. */
static int output_check(int code)
{
    bool failed = fflush(stdout) != 0 || ferror(stdout);

    if (failed) {
        complain("standard output: %s", errno != 0 ? strerror(errno) : "writing failed");
    }
    return failed && code == EXIT_GOOD ? EXIT_BAD_RUN : code;
}

/* Opens the standard descriptors that are closed: a socket would become one of them, and results
 * would go into it. Returns EXIT_GOOD, or EXIT_BAD_RUN. */
static int output_open(void)
{
    if (fcntl(STDOUT_FILENO, F_GETFD) < 0) {
        complain("standard output is closed");
        return EXIT_BAD_RUN;
    }
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) {
            return EXIT_BAD_RUN;
        }
    }
    signal(SIGPIPE, SIG_IGN); /* a write that fails says so */
    return EXIT_GOOD;
}

static int choose(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        usage(stdout);
        return EXIT_GOOD;
    }
    if (strcmp(name, "--version") == 0) {
        printf("dgperf %s\n", dgram_version());
        return EXIT_GOOD;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return run(&commands[i], argc - 1, argv + 1);
        }
    }
    if (argc > 1) {
        fprintf(stderr, "dgperf: no command '%s'\n\n", name);
    }
    usage(stderr);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    int code = output_open();

    return code != EXIT_GOOD ? code : output_check(choose(argc, argv));
}
