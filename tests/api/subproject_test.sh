#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Another project has this one as a subproject: makes such a project, builds and runs its programs.
# Usage: subproject_test.sh SOURCE_DIRECTORY OPTION...
set -euo pipefail
for tool in meson ninja python3; do
    command -v "$tool" >/dev/null || { echo "no $tool here"; exit 77; }
done
source=$1
shift
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cd "$root"

fail() {
    echo "$*"
    exit 1
}

mkdir outer outer/subprojects
ln -s "$source" outer/subprojects/libdgram
cat >outer/meson.build <<'MESON'
project('outer', 'c', meson_version: '>=1.0.0')
executable('program', 'program.c', dependencies: dependency('dgram', fallback: 'libdgram'))
executable('static', 'program.c', dependencies: dependency('dgram', static: true))
MESON
cat >outer/program.c <<'C'
#include <dgram.h>
#include <stdio.h>

int main(void)
{
    struct dgram_loop *loop;
    int code = dgram_loop_create(NULL, &loop);
    code = code < 0 ? code : dgram_loop_run(loop); /* nothing keeps it alive */
    puts(code < 0 ? dgram_strerror(code) : dgram_version());
    dgram_loop_free(loop);
    return code < 0;
}
C

# outer NAME OPTION...: the outer project's build directory NAME.
outer() {
    local name=$1
    shift
    meson setup "$name" outer "$@" >log 2>&1 && ninja -C "$name" >log 2>&1 ||
        { cat log; fail "$name: no build"; }
}

# What there is of this project: the library.
targets() {
    meson introspect --targets "$1" | python3 -c 'import json, sys
print(*sorted({target["name"] for target in json.load(sys.stdin)} - {"program", "static"}))'
}

needs_shared() { [[ $(ldd "$1") = *libdgram.so* ]]; }

options=("${@/#-D/-Dlibdgram:}")
outer both "${options[@]}"
[ "$(targets both)" = dgram ] || fail "more than the library is built: $(targets both)"
both/program
both/static
needs_shared both/program || fail "the program has the library in it"
! needs_shared both/static || fail "the static program needs libdgram.so"

outer only_static "${options[@]}" -Dlibdgram:default_library=static
only_static/program
! needs_shared only_static/program || fail "static: the program needs libdgram.so"
