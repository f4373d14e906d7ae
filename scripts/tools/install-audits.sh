#!/bin/sh
# Installs the dependency audits that `orch security-scan` and the tests use: pip-audit (own virtual environment) and
# cargo-audit (built from its own lock file). npm comes with the machine.
#
# Where they go: $ORCH_TOOLS_CACHE, else $XDG_CACHE_HOME/orch/tools, else ~/.cache/orch/tools. Prints their paths.
# With an argument (`pip-audit` or `cargo-audit`) only that one.
set -eu

PIP_AUDIT=2.10.1
CARGO_AUDIT=0.22.2

cache=${ORCH_TOOLS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orch/tools}
mkdir -p "$cache/bin"

pip_audit() {
    venv=$cache/pip-audit-$PIP_AUDIT
    if [ ! -x "$venv/bin/pip-audit" ]; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: "pip-audit==$PIP_AUDIT"; then
            rm -rf "$venv"
            return 3
        fi
    fi
    ln -sfn "../pip-audit-$PIP_AUDIT/bin/pip-audit" "$cache/bin/pip-audit"
    printf '%s\n' "$cache/bin/pip-audit"
}

cargo_audit() {
    root=$cache/cargo-audit-$CARGO_AUDIT
    [ -x "$root/bin/cargo-audit" ] || cargo install --quiet --locked --root "$root" "cargo-audit@$CARGO_AUDIT"
    ln -sfn "../cargo-audit-$CARGO_AUDIT/bin/cargo-audit" "$cache/bin/cargo-audit"
    printf '%s\n' "$cache/bin/cargo-audit"
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
