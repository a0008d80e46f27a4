#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the scripts answer to mistakes, and what they say where something cannot be had. None of them
# gets as far as to build or to install anything.
# Usage: scripts_test.sh SOURCE_DIRECTORY
set -euo pipefail
source=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# expect STATUS PATTERN COMMAND...: its exit status, and a line of what it says.
expect() {
    local status=$1 pattern=$2 got=0 said
    shift 2
    said=$(timeout 60 "$@" 2>&1 </dev/null) || got=$?
    if [ "$got" != "$status" ] || ! grep -Eq -- "$pattern" <<<"$said"; then
        printf '%s\n' "$* ended with $got, not with $status, or without a line like '$pattern':" \
            "$said"
        exit 1
    fi
}

for script in bench test instructions check-portability; do
    expect 0 "^Usage: scripts/$script" "$source/scripts/$script" --help
    expect 2 "^Usage: scripts/$script" "$source/scripts/$script" --bogus
done
expect 0 '^bench_respond DGPERF ENGINE' "$source/scripts/bench_respond" --help
expect 2 '^bench_respond DGPERF ENGINE' "$source/scripts/bench_respond" dgperf
bench=$source/scripts/bench
expect 2 '^no such option: --bogus$' "$bench" --bogus
for option in --rounds --seconds --engines --only --cases; do
    expect 2 "^$option needs a value\$" "$bench" $option
done
expect 2 '^--rounds many: must be a whole number' "$bench" --rounds many
expect 2 '^--rounds 0: must be a whole number' "$bench" --rounds 0
expect 2 '^--seconds soon: must be a number$' "$bench" --seconds soon
expect 2 '^--only dance: must be of collect stream ' "$bench" --only 'collect dance'
expect 2 '^no such case: stream \(' "$bench" --cases stream
expect 2 '^no such case: veth-respond:0 \(' "$bench" --cases veth-respond:0
expect 2 '^no such way or option: dance$' "$source/scripts/instructions" send dance

# HdrHistogram where no package has it, and npm cannot fetch it.
mkdir "$root/bin"
cat >"$root/bin/npm" <<'SH'
#!/bin/sh
echo 'npm ERR! network request failed' >&2
exit 1
SH
chmod +x "$root/bin/npm"
cat >"$root/fetch" <<SH
set -euo pipefail
cd "$root"
. "$source/scripts/lib.sh"
has_pc() { false; }
no_install=\$1
fetch_hdr || exit 7
SH
PATH=$root/bin:$PATH
expect 7 'not here: HdrHistogram_c, .*: npm pack native-hdr-\S+ failed: npm ERR! network' \
    bash "$root/fetch" false
expect 7 "not here: HdrHistogram_c, .*: libhdr-histogram-dev, or 'npm pack " bash "$root/fetch" true

# scripts/bench says so, too, and that it ends: with a copy that has no HdrHistogram beside it.
if ! pkg-config --exists hdr_histogram && pkg-config --exists libcjson; then
    cp -r "$source/scripts" "$root/scripts"
    expect 1 '^without it there is no dgperf, and nothing to measure with$' \
        "$root/scripts/bench" --no-install
fi
