#!/usr/bin/env bash
# What action.yml runs. Inputs come as MIYABI_INPUT_…, and never as text of this script: whoever can choose an input could
# run anything otherwise.
set -euo pipefail

words=(--json --github)
case $MIYABI_INPUT_DRY_RUN in
    true) words+=(--dry-run) ;;
    false) ;;
    *)
        echo "::error title=Miyabi Healing::the input dry-run is true or false"
        exit 2
        ;;
esac
[ -z "$MIYABI_INPUT_ONLY" ] || words+=(--only "$MIYABI_INPUT_ONLY")
[ -z "$MIYABI_INPUT_SKIP" ] || words+=(--skip "$MIYABI_INPUT_SKIP")
[ -z "$MIYABI_INPUT_CONFIG" ] || words+=(--config "$MIYABI_INPUT_CONFIG")
read -r -d '' -a more <<<"$MIYABI_INPUT_ARGS" || true # it ends at no NUL

report=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/miyabi-healing-XXXXXX")/report.json
code=0
"$GITHUB_ACTION_PATH/run_healing.sh" "${words[@]}" ${more[@]+"${more[@]}"} >"$report" || code=$?

case $code in
    0) if grep -q '"healed": true' "$report"; then result=healed; else result=healthy; fi ;;
    1) result=issues ;;
    2) result=usage ;;
    3) result=unknown ;;
    75) result=busy ;;
    *) result=stopped ;;
esac
{
    echo "result=$result"
    echo "exit-code=$code"
    echo "json=$report"
} >>"$GITHUB_OUTPUT"
echo "Miyabi Healing: $result (exit status $code); the report is in $report"
exit "$code"
