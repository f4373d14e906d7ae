#!/bin/sh
# A scripted agent. Its behaviour is data: the first file there is of $PLAN/<KEY>.<stage>.<n>, $PLAN/<KEY>.<stage>,
# $PLAN/<stage>.<n>, $PLAN/<stage> is read as shell; `n` counts the runs of this task at this stage. None: `good`.
set -eu
d="$ORCH_ARTEFACTS"
mkdir -p "$PLAN/count" "$PLAN/seen"
count="$PLAN/count/$ORCH_TASK.$ORCH_STAGE"
echo x >> "$count"
n=$(wc -l < "$count" | tr -d ' ')
cat > "$PLAN/seen/$ORCH_TASK.$ORCH_STAGE.$n"

# A link that an earlier run left in a document's place is never written through.
fresh() { mkdir -p "$d"; rm -f "$d/$1"; }
fm() {
    printf -- '---\nwork_item: %s\nstage: %s\nagent: %s\ncreated: 2026-01-01T00:00:00Z\n%s---\n\n# Document\n\n%s\n' \
        "$ORCH_TASK" "$ORCH_STAGE" "$ORCH_AGENT" "$1" "${2:-Text $n.}"
}
analysis() { for f in 01-brief 02-requirements 03-acceptance-criteria 04-test-plan; do fresh "$f.md"; fm '' > "$d/$f.md"; done; }
adr() { mkdir -p "$d/06-adr"; fresh 06-adr/ADR-001-choice.md; fm 'status: accepted
' > "$d/06-adr/ADR-001-choice.md"; }
develop() { mkdir -p src; echo "$ORCH_TASK attempt $ORCH_ATTEMPT run $n" >> "src/$ORCH_TASK.txt"; }
review() { fresh 12-review.md; fm "verdict: $1
" "${2:-}" > "$d/12-review.md"; }
tests() { fresh 13-test-report.md; fm "result: $1
verdict: $2
status: $3
" "${4:-}" > "$d/13-test-report.md"; }
staging() { fresh 15-staging-log.md; fm "staging_status: $1
" > "$d/15-staging-log.md"; }
cost() { printf '{"cost_usd":%s,"input_tokens":10,"output_tokens":5}\n' "$1"; }
# Waits until the test lets it go on (bounded), saying that it is there.
hold() { : > "$PLAN/at.$1"; i=0; while [ ! -e "$PLAN/go.$1" ] && [ $i -lt 1200 ]; do sleep 0.05; i=$((i + 1)); done; }
good() {
    case "$ORCH_STAGE" in
    analysis) analysis ;;
    architecture) adr ;;
    development) develop ;;
    review) review APPROVED ;;
    testing) tests PASS PASS PASS ;;
    deploy-staging) staging SUCCESS ;;
    esac
    cost 0.01
}

for plan in "$ORCH_TASK.$ORCH_STAGE.$n" "$ORCH_TASK.$ORCH_STAGE" "$ORCH_STAGE.$n" "$ORCH_STAGE"; do
    if [ -f "$PLAN/$plan" ]; then
        . "$PLAN/$plan"
        exit 0
    fi
done
good
