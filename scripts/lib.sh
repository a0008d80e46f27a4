# SPDX-License-Identifier: MIT
# Shared by scripts/test and scripts/bench: finding what is missing and installing it.
# shellcheck shell=bash

no_install=false
missing=() # packages without which nothing works
useful=()  # packages without which a part is left out

has() { command -v "$1"; }
has_pc() { pkg-config --exists "$1"; }
has_asio() { test -e /usr/include/asio.hpp; } # it comes without a .pc file

# need PACKAGE COMMAND...: PACKAGE is missing unless the command succeeds. want: the same, optional.
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
want() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || useful+=("$package")
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif has sudo >/dev/null; then
        sudo "$@"
    else
        echo "this needs root: $*" >&2
        exit 1
    fi
}

# Installs what need and want found, or names it and stops where that is not possible or not wished.
# A package that is only useful never stops anything.
install_missing() {
    [ $((${#missing[@]} + ${#useful[@]})) -gt 0 ] || return 0
    if $no_install || ! has apt-get >/dev/null; then
        [ ${#useful[@]} = 0 ] || echo "not here, left out: ${useful[*]}"
        [ ${#missing[@]} = 0 ] && return
        echo "not here, but needed (Debian's names): ${missing[*]}" >&2
        exit 1
    fi
    as_root apt-get update -qq
    # Names differ between releases (libclang-rt-dev): what this one does not have it does not need.
    local package packages=()
    for package in "${missing[@]}" "${useful[@]}"; do
        if [ -n "$(apt-cache madison "$package")" ]; then
            packages+=("$package")
        else
            echo "no package $package in this release"
        fi
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    echo "installing: ${packages[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        "${packages[@]}" >/dev/null
}

# Every build needs these.
need_build_tools() {
    need gcc has gcc
    need libc6-dev test -e /usr/include/stdio.h
    need meson has meson
    need ninja-build has ninja
    need pkg-config has pkg-config
    need python3 has python3
    need libc-ares-dev has_pc libcares
    need liburing-dev has_pc liburing
}

# The library of dgperf's percentiles: Ubuntu's libhdr-histogram-dev, or its source where meson
# looks for it. Releases that lack the package (Debian 12 and 13) get the source out of an npm
# package that ships it.
hdr_source=build-deps/HdrHistogram_c/src
hdr_package=native-hdr-histogram@1.0.0
hdr_sum=eb6feca66739e670eac90d41fbbe69a6eb084491f3e7cf8556d31ac651c1d600

has_hdr() { has_pc hdr_histogram || [ -e $hdr_source/hdr_histogram.c ]; }
want_hdr() { want libhdr-histogram-dev has_hdr; }

# has_npm: also after installing it.
has_npm() {
    has npm >/dev/null && return
    has apt-get >/dev/null && as_root apt-get install -qq -y --no-install-recommends npm >/dev/null
}

# After install_missing. False, and said why, if it cannot be had.
fetch_hdr() (
    has_hdr && return
    fail() {
        echo "not here: HdrHistogram_c, of which dgperf takes its percentiles: $*" >&2
        return 1
    }
    if $no_install; then
        fail "libhdr-histogram-dev, or 'npm pack $hdr_package' in build-deps/"
        return
    fi
    has_npm || { fail "npm, which would fetch it, cannot be installed"; return; }
    echo "fetching: $hdr_package"
    mkdir -p build-deps && cd build-deps || return
    archive=$(npm pack --loglevel=error $hdr_package 2>npm.log) ||
        { fail "npm pack $hdr_package failed: $(tail -n 3 npm.log)"; return; }
    if ! echo "$hdr_sum  $archive" | sha256sum --check --quiet >&2; then
        fail "$hdr_package is not what was expected"
        return
    fi
    tar xzf "$archive" --strip-components=1 package/HdrHistogram_c && rm "$archive" npm.log
)

# configure DIRECTORY OPTION...: makes a build directory or brings it up to date. One that another
# version of meson or another place left behind is made anew.
configure() {
    local directory=$1
    shift
    if [ -e "$directory/build.ninja" ]; then
        # Packages may have been installed meanwhile, so they are looked for again.
        meson configure "$directory" --clearcache >/dev/null &&
            meson setup --reconfigure "$directory" "$@" && return
    fi
    rm -rf "$directory"
    meson setup "$directory" "$@"
}

# Whether clang has libFuzzer and the sanitizers that go with it.
fuzzer_works() {
    echo 'int LLVMFuzzerTestOneInput(const char *d, long s) { return d != 0 && s < 0; }' |
        clang -fsanitize=fuzzer,address,undefined -xc -o /dev/null -
}
