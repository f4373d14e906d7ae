#!/bin/sh
# The demo's agent: six roles, no model. orch starts it like any other: the prompt on stdin, a worktree of the branch as
# the current folder, its place in the pipeline in ORCH_* variables. What it leaves in the worktree is its work; what it
# says about it counts for nothing until a gate has read it from the pushed commit.
set -eu
prompt=$HOME/prompt.md
cat >"$prompt"
mkdir -p "$ORCH_ARTEFACTS"
scratch=$(mktemp)
trap 'rm -f "$scratch"' EXIT

# A document with the front matter that gates read. Its text comes on stdin.
document() { # FILE [FRONT MATTER LINE]...
    file=$ORCH_ARTEFACTS/$1
    shift
    mkdir -p "$(dirname "$file")"
    {
        printf -- '---\nwork_item: %s\nstage: %s\nagent: %s\n' "$ORCH_TASK" "$ORCH_STAGE" "$ORCH_AGENT"
        printf 'created: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
        for line in "$@"; do printf '%s\n' "$line"; done
        printf -- '---\n\n'
        cat
    } >"$file"
}

# Whether the prompt holds findings of this source.
sent_back_by() { grep -q "^## $1\$" "$prompt"; }

# One more kind of tea: before the last line of the program's list.
offer() { # PATTERN COMMAND
    sed "s|^\\*) |$1) $2 ;;\\n*) |" tea >"$scratch"
    cat "$scratch" >tea
}
tested() { # NAME COMMAND EXPECTED
    printf '#!/bin/sh\nexpect "$(%s)" "%s"\n' "$2" "$3" >"tests/$1.sh"
}
told() { printf -- '- `tea %s`: %s\n' "$1" "$2" >>README.md; }

develop() {
    case $ORCH_TASK in
    TEA-1)
        offer green "echo 'Green tea: 75 degrees, 2 minutes.'"
        tested green "./tea green" "Green tea: 75 degrees, 2 minutes."
        told green "not with boiling water"
        ;;
    TEA-2)
        if sent_back_by ci; then
            sed 's|echo black green|printf "black\\\\ngreen\\\\n"|' tea >"$scratch"
            cat "$scratch" >tea
        elif sent_back_by review; then
            told list "what is in the cupboard"
        else
            offer list "echo black green"
            tested list "./tea list | wc -l | tr -d ' '" 2
        fi
        ;;
    TEA-3)
        offer again "echo 'Green tea, second cup: 80 degrees, 1 minute.'"
        tested again "./tea again" "Green tea, second cup: 80 degrees, 1 minute."
        told again "green leaves are good for two cups"
        ;;
    TEA-4)
        if sent_back_by security; then
            # What should have been done at once: the key stays where keys belong.
            grep -v '^shop_key=' tea >"$scratch"
            sed 's|"$shop_key"|"${SHOP_KEY:?set SHOP_KEY}"|' "$scratch" >tea
        else
            # What happens when somebody is in a hurry.
            offer order "order '\"\$shop_key\"'"
            sed "s|^# shop: .*|shop_key=$(cat "$SHOP_KEY_FILE")|; s|'\"\\\$shop_key\"'|\"\$shop_key\"|" tea >"$scratch"
            cat "$scratch" >tea
            tested order "SHOP_KEY=of-a-test ./tea order" "Ordered: one tin of green tea."
            told order "one more tin, from the shop"
        fi
        ;;
    esac
}

case $ORCH_STAGE in
analysis)
    # What an agent has no business with. Where it is held, nothing of it is there.
    for place in "$TEA_DEMO/state" "$TEA_DEMO/orch.yaml" "$TEA_DEMO/board"; do
        if ls "$place" >/dev/null 2>&1; then echo "reached $place" >&2; else echo "could not reach $place" >&2; fi
    done
    echo "What is wanted: see the work item." | document 01-brief.md
    echo "\`tea\` does what the title says, and its README tells so." | document 02-requirements.md
    echo "The tests pass, with one more test for the new words." | document 03-acceptance-criteria.md
    echo "One test file per word, run by ci.sh." | document 04-test-plan.md
    ;;
architecture)
    echo "One more line in the list of \`tea\`. No new file, no new language, no new service." |
        document 06-adr/ADR-001-one-more-line.md "status: accepted"
    ;;
development)
    develop
    ;;
review)
    missing=
    for word in $(sed -n 's/^\([a-z][a-z]*\)) .*/\1/p' tea); do
        grep -q "tea $word" README.md || missing="$missing $word"
    done
    if [ -n "$missing" ]; then
        echo "The README does not mention:$missing. What is not written down was not built." |
            document 12-review.md "verdict: REQUEST_CHANGES"
    else
        echo "Reads well. Every word is in the README." | document 12-review.md "verdict: APPROVED"
    fi
    ;;
testing)
    if report=$(sh ci.sh 2>&1); then verdict=PASS; else verdict=FAIL; fi
    printf '## Run\n\n%s\n' "$report" | document 13-test-report.md "result: $verdict"
    ;;
deploy-staging)
    # No staging environment is declared, so the deployer looks for itself.
    if ./tea black >/dev/null; then status=SUCCESS; else status=FAILED; fi
    echo "A black tea was brewed on staging." | document 15-staging-log.md "staging_status: $status"
    ;;
esac

# The last line of output may tell what the run has cost. No model, no bill; words instead of tokens.
printf '{"cost_usd": 0, "input_tokens": %s, "output_tokens": %s}\n' \
    "$(wc -w <"$prompt" | tr -d ' ')" "$(git diff HEAD | wc -w | tr -d ' ')"
