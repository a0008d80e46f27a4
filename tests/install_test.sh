#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The installed tree is enough to build a program: installs into a temporary place, compiles a small
# program through pkg-config against the shared and the static library, and runs it.
# Usage: install_test.sh BUILD_DIRECTORY
set -euo pipefail
for tool in meson pkg-config; do
    command -v "$tool" >/dev/null || { echo "no $tool here"; exit 77; }
done
build=$1
cc=${CC:-cc}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

meson install -C "$build" --no-rebuild --quiet --destdir "$root" >/dev/null
pc=$(find "$root" -name dgram.pc)
prefix=$root$(sed -n 's/^prefix=//p' "$pc")
export PKG_CONFIG_PATH=${pc%/*}

# What a package must contain, and nothing else: the header, the libraries, the .pc file.
stray=$(cd "$root" && find . ! -type d ! -name dgram.h ! -name 'libdgram.*' ! -name dgram.pc \
    ! -path '*/bin/dgperf' ! -path '*/share/*')
[ -z "$stray" ] || { echo "installed without need: $stray"; exit 1; }

cat >"$root/program.c" <<'C'
#include <dgram.h>
#include <stdio.h>

int main(void)
{
    struct dgram_loop *loop;
    int ret = dgram_loop_create(NULL, &loop);
    if (ret < 0) {
        printf("%s\n", dgram_strerror(ret));
        return 1;
    }
    ret = dgram_loop_run(loop); /* nothing keeps it alive */
    dgram_loop_free(loop);
    puts(dgram_version());
    return ret;
}
C

config() { pkg-config --define-variable=prefix="$prefix" "$@" dgram; }
libdir=$(config --variable=libdir)
expected=$(config --modversion)
# Compilers and flags come as words: unquoted on purpose.
# shellcheck disable=SC2046,SC2086
for how in shared static; do
    if [ "$how" = shared ]; then
        libs=$(config --libs)
    else
        libs=$(config --libs --static)
        libs=${libs/-ldgram/-l:libdgram.a}
    fi
    $cc -std=c11 -Wall -Werror $(config --cflags) "$root/program.c" -o "$root/$how" $libs
    version=$(LD_LIBRARY_PATH=$libdir "$root/$how")
    [ "$version" = "$expected" ] ||
        { echo "$how: dgram.pc says $expected, the library $version"; exit 1; }
done
if ldd "$root/static" | grep -q libdgram; then
    echo "the static program needs libdgram.so"
    exit 1
fi
