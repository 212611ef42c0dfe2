#!/usr/bin/env bash
# After a job of a self-hosted runner (ACTIONS_RUNNER_HOOK_JOB_COMPLETED): looks at the host, and heals it if the runner's
# .env has MIYABI_HEALING_HOOK=heal, but never while another job is at work on this host. Whatever happens, the job is not
# failed by it.
#
# Another runner's job that begins meanwhile waits in job-started.sh, which takes the same lock: job-started.sh itself.
set -u
PATH=/usr/local/bin:/usr/bin:/bin:${HOME:-}/.local/bin # not the one that the job has left

here=$(cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd -P)
program=$here/../../run_healing.sh
[ -x "$program" ] || program=$(command -v miyabi-healing) || {
    echo "miyabi-healing: it is not installed: neither $here/../../run_healing.sh nor miyabi-healing on PATH"
    exit 0
}

# The process ids of other jobs: Runner.Worker is one for each, and that of this job is above us.
other_jobs() {
    local above=" " pid=$$
    while [ "${pid:-0}" -gt 1 ]; do
        above+="$pid "
        pid=$(ps -o ppid= -p "$pid" | tr -d ' ')
    done
    for pid in $(pgrep -x Runner.Worker); do
        [[ $above == *" $pid "* ]] || echo "$pid"
    done
}

words=(--quiet --github --dry-run)
if [ "${MIYABI_HEALING_HOOK:-dry-run}" = heal ]; then
    exec 9<"$here/job-started.sh"
    if ! command -v flock >/dev/null || ! command -v pgrep >/dev/null || ! cat /proc/1/comm >/dev/null 2>&1; then
        echo "miyabi-healing: whether other jobs are at work cannot be told (flock, pgrep, /proc); it only looks"
    elif ! flock --nonblock 9; then
        echo "miyabi-healing: another runner's hook is healing this host; it only looks"
    elif others=$(other_jobs) && [ -n "$others" ]; then
        echo "miyabi-healing: another job is at work on this host (process ${others//$'\n'/, }); it only looks"
    else
        words=(--quiet --github)
    fi
fi

# What the job put into the environment is not for us: nothing but who we are. The lock is ours alone, too.
env -i HOME="${HOME:-}" USER="${USER:-}" LOGNAME="${LOGNAME:-}" PATH="$PATH" LANG=C.UTF-8 \
    timeout --kill-after=130 "${MIYABI_HEALING_HOOK_SECONDS:-600}" "$program" "${words[@]}" 9<&-
exit 0
