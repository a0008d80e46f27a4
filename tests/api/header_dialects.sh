#!/bin/sh
# SPDX-License-Identifier: MIT
# The header in every dialect of every compiler that is here, with the warnings that programs turn
# on: structs are initialised (header_sized.c) and nothing is said.
# header_dialects.sh INCLUDE TESTS
set -eu
include=$1 tests=$2
program=$tests/header_sized.c
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
failed=0

# Each struct that begins with `size` has its line in the program.
for name in $(awk '/^struct dgram_[a-z_]* \{/ { name = $2; next }
                   name && /^    size_t size;/ { print name } { name = "" }' "$include/dgram.h"); do
    grep -q "CHECK($name);" "$program" || { echo "$name is not in $program"; failed=1; }
done

# dialect COMPILER LANGUAGE STANDARD [WARNING...]: a standard that a compiler lacks is no failure.
dialect() {
    compiler=$1 language=$2 standard=$3
    shift 3
    echo 'int main(void) { return 0; }' >"$place/empty.c"
    "$compiler" -x "$language" "-std=$standard" -fsyntax-only "$place/empty.c" 2>/dev/null ||
        return 0
    echo "$compiler $standard"
    "$compiler" -x "$language" "-std=$standard" -I"$include" -Werror -Wall -Wextra -Wpedantic \
        -Wmissing-field-initializers -Wshadow -Wconversion "$@" "$program" -o "$place/program" &&
        "$place/program" || failed=1
}

for compiler in gcc clang; do
    command -v "$compiler" >/dev/null || continue
    for standard in c11 c17 c2x; do
        dialect "$compiler" c "$standard" -Wc++-compat
    done
done
for compiler in g++ clang++; do
    command -v "$compiler" >/dev/null || continue
    for standard in c++11 c++14 c++17 c++20 c++2b; do
        dialect "$compiler" c++ "$standard" -Wold-style-cast -Wzero-as-null-pointer-constant
    done
done
exit $failed
