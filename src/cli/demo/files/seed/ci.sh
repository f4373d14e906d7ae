#!/bin/sh
# Runs every test of the folder. orch takes this file from main, so that no branch can soften it.
set -u
chmod +x tea 2>/dev/null
failed=0 run=0
for test in tests/*.sh; do
    expect() { [ "$1" = "$2" ] || { printf '%s: expected "%s", got "%s"\n' "$test" "$2" "$1"; failed=1; }; }
    . "./$test"
    run=$((run + 1))
done
[ "$failed" = 0 ] && echo "$run of $run tests passed"
exit "$failed"
