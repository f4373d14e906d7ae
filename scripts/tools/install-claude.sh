#!/bin/sh
# Installs the Claude Code CLI that the tests of the `claude` runtime use (against a scripted model, without an account).
#
# It is proprietary: never vendored, only installed by whoever runs the tests. If it is missing, they say loudly that they
# are skipped. The version is pinned because events and flags change between releases, and on an older Node an unversioned
# install silently picks another one.
#
# Where it goes: $ORCH_TOOLS_CACHE, else $XDG_CACHE_HOME/orch/tools, else ~/.cache/orch/tools. Prints the program's path.
set -eu

VERSION=2.1.330
PACKAGE=@anthropic-ai/claude-code

cache=${ORCH_TOOLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orch/tools}
root=$cache/claude-$VERSION

# `--version` needs neither network nor account.
works() {
    [ -x "$1/bin/claude" ] && case "$(env -i HOME="$cache" PATH="$PATH" DISABLE_AUTOUPDATER=1 "$1/bin/claude" --version)" in
    "$VERSION "*) ;;
    *) return 1 ;;
    esac
}

if ! works "$root"; then
    mkdir -p "$cache/bin"
    work=$(mktemp -d "$cache/.claude-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    # Its install script only links the platform package's program; no other package may run one.
    npm install --global --prefix "$work" --no-audit --no-fund --loglevel=error \
        --allow-scripts="$PACKAGE" "$PACKAGE@$VERSION" >&2
    if ! works "$work"; then
        echo "install-claude: $PACKAGE@$VERSION was installed and does not answer --version with $VERSION" >&2
        exit 3
    fi
    rm -rf "$root"
    mv "$work" "$root"
fi
mkdir -p "$cache/bin"
ln -sfn "../claude-$VERSION/bin/claude" "$cache/bin/claude"
printf '%s\n' "$cache/bin/claude"
