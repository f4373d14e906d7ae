#!/bin/sh
# The agent of a night: registers itself, looks for another living agent of its task, plays its part. The part of a task is
# its number (`role` in tests/it/support/night/mod.rs); every start, end and scripted failure is a line of agents.log.
set -eu
world=@WORLD@
cat > /dev/null
ticks() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | grep -v '^[ZX]' | cut -d' ' -f20; }
say() { echo "$1 $ORCH_TASK $ORCH_STAGE $ORCH_ATTEMPT $ORCH_RUN" >> "$world/agents.log"; }
me="$$.$(ticks $$)"
mkdir -p "$world/agents/$ORCH_TASK"
: > "$world/agents/$ORCH_TASK/$me"
say start
for other in "$world/agents/$ORCH_TASK"/*; do
    other=${other##*/}
    [ "$other" = "$me" ] && continue
    [ "$(ticks "${other%%.*}")" = "${other#*.}" ] && echo "$ORCH_TASK: $me beside $other" >> "$world/violations.log"
done
leave() { say "$1"; rm -f "$world/agents/$ORCH_TASK/$me"; exit "$2"; }
plays=$(grep -c "^start $ORCH_TASK $ORCH_STAGE $ORCH_ATTEMPT " "$world/agents.log")
part="${ORCH_TASK##*-}.$ORCH_STAGE"
sleep @NAP@
case "$part.$plays" in
2.development.*) [ "${ORCH_TASK%-*}" != AA ] || { echo 'it can not be done'; leave fail 1; } ;;
6.architecture.1) echo 'this time it fails'; leave fail 1 ;;
5.testing.1)
    echo '{"type":"result","subtype":"success","is_error":true,"api_error_status":429,"result":"You have hit your limit","num_turns":1,"total_cost_usd":0.01,"modelUsage":{},"session_id":"5b0e8b1c-3c1e-4f57-9d64-0c1f6f0f6a11"}'
    leave limit 1
    ;;
esac
d="$ORCH_ARTEFACTS"; mkdir -p "$d"
fm() { printf -- '---\nwork_item: %s\nstage: %s\nagent: %s\ncreated: 2026-01-01T00:00:00Z\n%s---\n\n# %s\n\nRun %s.\n' "$ORCH_TASK" "$ORCH_STAGE" "$ORCH_AGENT" "$2" "$1" "$ORCH_RUN"; }
case "$ORCH_STAGE" in
analysis) for f in 01-brief 02-requirements 03-acceptance-criteria 04-test-plan; do fm $f "" > "$d/$f.md"; done ;;
architecture) mkdir -p "$d/06-adr"; fm adr "status: accepted
" > "$d/06-adr/ADR-001-x.md" ;;
development)
    mkdir -p src
    echo "$ORCH_TASK round $ORCH_ATTEMPT" >> "src/$ORCH_TASK.txt"
    case "$part.$ORCH_ATTEMPT" in
    7.development.1) [ "${ORCH_TASK%-*}" != AA ] || : > broken ;;
    7.development.*) rm -f broken ;;
    8.development.* | 9.development.*) echo "$ORCH_TASK" > shared.txt ;;
    esac
    ;;
review)
    verdict=APPROVED
    [ "$part.$ORCH_ATTEMPT" != 10.review.1 ] || verdict=REQUEST_CHANGES
    fm review "verdict: $verdict
" > "$d/12-review.md"
    ;;
testing) fm test "result: PASS
verdict: PASS
status: PASS
" > "$d/13-test-report.md" ;;
deploy-staging) fm staging "staging_status: SUCCESS
" > "$d/15-staging-log.md" ;;
esac
if [ "$ORCH_STAGE" = testing ]; then
    echo '{"type":"result","subtype":"success","is_error":false,"result":"Tested.","num_turns":1,"total_cost_usd":0.01,"modelUsage":{},"session_id":"5b0e8b1c-3c1e-4f57-9d64-0c1f6f0f6a11"}'
else
    echo '{"cost_usd":0.01,"input_tokens":10,"output_tokens":5}'
fi
leave end 0
