#!/usr/bin/env bash
# Before a job of a self-hosted runner (ACTIONS_RUNNER_HOOK_JOB_STARTED): waits while another runner's job-completed.sh
# heals this host, for as long as that may take at most. This file is the lock.
command -v flock >/dev/null || exit 0
exec 9<"$(readlink -f -- "$0")"
flock --shared --timeout "$((${MIYABI_HEALING_HOOK_SECONDS:-600} + 130))" 9 ||
    echo "miyabi-healing: healing has not ended in time; the job begins all the same"
exit 0
