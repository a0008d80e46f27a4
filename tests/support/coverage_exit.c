/* SPDX-License-Identifier: MIT */
/*
 * coverage_exit.c: _exit(2) for the suites of scripts/coverage.
 *
 * Many tests run in child processes, which end by _exit(2); it writes no counts, so all that only
 * children run would seem untested. This one writes them first. Other builds do without it.
 */
#include <sys/syscall.h>
#include <unistd.h>

void __gcov_dump(void); /* libgcov's */

void _exit(int code)
{
    __gcov_dump();
    for (;;) {
        syscall(SYS_exit_group, code);
    }
}
