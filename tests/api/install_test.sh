#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The installed tree is enough to build a program: installs into a temporary place, compiles a small
# program through pkg-config against the shared and the static library, and runs it. Then the same
# of a build that was asked for a static library only, and of one for a shared library only.
# Usage: install_test.sh BUILD_DIRECTORY SOURCE_DIRECTORY OPTION...
set -euo pipefail
for tool in meson pkg-config; do
    command -v "$tool" >/dev/null || { echo "no $tool here"; exit 77; }
done
build=$1
source=$2
options=("${@:3}") # of the build, for those that are made here
cc=${CC:-cc}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

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

fail() {
    echo "$*"
    exit 1
}

# install_from BUILD: into an empty place. What a package must contain, and nothing else: the
# header, the libraries, the .pc file.
install_from() {
    local stray pc
    place=$root/place
    rm -rf "$place"
    meson install -C "$1" --no-rebuild --quiet --destdir "$place" >/dev/null
    pc=$(find "$place" -name dgram.pc)
    prefix=$place$(sed -n 's/^prefix=//p' "$pc")
    export PKG_CONFIG_PATH=${pc%/*}
    libdir=$(config --variable=libdir)
    stray=$(cd "$place" && find . ! -type d ! -name dgram.h ! -name 'libdgram.*' ! -name dgram.pc \
        ! -path '*/bin/dgperf' ! -path '*/share/*')
    [ -z "$stray" ] || fail "installed without need: $stray"
}

config() { pkg-config --define-variable=prefix="$prefix" "$@" dgram; }

# compile NAME LIBRARY...: the program, and what it says. Compilers and flags come as words:
# unquoted on purpose.
compile() {
    local version name=$1
    shift
    # shellcheck disable=SC2046,SC2086
    $cc -std=c11 -Wall -Werror $(config --cflags) "$root/program.c" -o "$root/$name" "$@"
    version=$(LD_LIBRARY_PATH=$libdir "$root/$name")
    [ "$version" = "$(config --modversion)" ] ||
        fail "$name: dgram.pc says $(config --modversion), the library $version"
}

needs_shared() { [[ $(ldd "$root/$1") = *libdgram.so* ]]; }

# build_of KIND: a build directory with this kind of library.
build_of() {
    meson setup "$root/$1-build" "$source" -Ddefault_library="$1" -Dtests=disabled \
        -Dbench=disabled -Dexamples=disabled "${options[@]}" >"$root/log" 2>&1 &&
        ninja -C "$root/$1-build" >"$root/log" 2>&1 || { cat "$root/log"; fail "$1: no build"; }
}

# shellcheck disable=SC2046
if [ -e "$build/libdgram.a" ] && [ -e "$build/libdgram.so" ]; then
    install_from "$build"
    compile shared $(config --libs)
    needs_shared shared || fail "the shared program has the library in it"
    libs=$(config --libs --static)
    # shellcheck disable=SC2086
    compile static ${libs/-ldgram/-l:libdgram.a}
    ! needs_shared static || fail "the static program needs libdgram.so"
fi

build_of static
install_from "$root/static-build"
[ -z "$(find "$place" -name '*.so*')" ] || fail "static: a shared library was installed"
# shellcheck disable=SC2046
compile static_only $(config --libs)
! needs_shared static_only || fail "static: the program needs libdgram.so"

build_of shared
install_from "$root/shared-build"
[ -z "$(find "$place" -name '*.a')" ] || fail "shared: a static library was installed"
# shellcheck disable=SC2046
compile shared_only $(config --libs)
needs_shared shared_only || fail "shared: the program has the library in it"
