"""Watch mode: what a run costs, and what a thousand of them leave behind.

A run is what the watch, the process that keeps the checks, and their forks take together, but for
their start.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from benchmarks.harness import PROJECT, Aim, Case, Command, Settings, Side, main, needs, python
from benchmarks.processes import crowd
from benchmarks.start import interpreter, world

COMMANDS = """#!/bin/sh
df -P
git worktree list
ps -eo stat,pid,ppid
find ~/.miyabi/logs /tmp -maxdepth 1 -name '*.log' -size +100M
free
"""
# The same, with what it takes to find out whether something is wrong.
CHECKS = """#!/bin/sh
status=0
say() { echo "$1"; status=1; }
df -P | awk 'NR > 1 && $5 + 0 > 90 { print $6, $5; bad = 1 } END { exit bad }' || status=1
[ "$(git worktree list | wc -l)" -le 1000 ] || say worktrees
[ "$(ps -eo stat= | grep -c '^Z')" -le 5 ] || say zombies
[ -z "$(find "$(git rev-parse --git-dir)" -name '*.lock' -mmin +10)" ] || say locks
logs=$(find ~/.miyabi/logs /tmp -maxdepth 1 -name '*.log' -printf '%b\\n' |
  awk '{ s += $1 } END { print int(s / 2000) }')
[ "$logs" -le 500000 ] || say logs
[ "$(free | awk '/^Mem:/ { print int(100 * ($2 - $7) / $2) }')" -le 90 ] || say memory
exit "$status"
"""


# The same questions in a monitor's words; what it has no words for, by scripts.
MONIT = """
set daemon 1
set logfile FOLDER/monit.log
set pidfile FOLDER/monit.pid
set idfile FOLDER/monit.id
set statefile FOLDER/monit.state
check filesystem root with path /
    if space usage > 99% then alert
check system here
    if memory usage > 99% then alert
"""
SCRIPT = """check program NAME with path "FOLDER/NAME.sh"
    if status != 0 then alert
"""


def rules(folder: Path, repository: Path, home: str) -> tuple[Path, Path]:
    """What monit is told, and the file that tells how often it has gone round."""
    asked = [line for line in CHECKS.splitlines() if line.startswith(("[", "logs="))]
    scripts = {
        "worktrees": asked[:1],
        "zombies": asked[1:2],
        "locks": asked[2:3],
        "logs": asked[3:5],
    }
    told, counter = MONIT, folder / "rounds"
    for name, lines in scripts.items():
        file = folder / f"{name}.sh"
        count = [f"printf . >> {counter}"] if name == "worktrees" else []
        file.write_text(
            "\n".join(
                [
                    "#!/bin/sh",
                    f"cd {repository}; HOME={home}",
                    "say() { exit 1; }",
                    *lines,
                    *count,
                    "",
                ]
            )
        )
        file.chmod(0o700)
        told += SCRIPT.replace("NAME", name)
    settings = folder / "monitrc"
    settings.write_text(told.replace("FOLDER", str(folder)))
    settings.chmod(0o600)
    return settings, counter


BUSY = (1000, 100, 2000)  # a build machine: processes, worktrees, logs
SCRIPTS = {
    "a script of df, git worktree list, ps, find, free": COMMANDS,
    "a script that also judges": CHECKS,
}


def cases(settings: Settings) -> Generator[Case, None, None]:
    interpreter()
    for name in ("df", "git", "ps", "find", "free", "awk"):
        needs(name)
    idle, busy = settings.folder / "idle", settings.folder / "busy"
    yield from passes("a run in watch mode", idle, settings)
    processes, worktrees, logs = (settings.scaled(number) for number in BUSY)
    job = f"a run in watch mode among {processes:,} processes, {worktrees} worktrees, {logs:,} logs"
    with crowd(processes, 0):
        yield from passes(job, busy, settings, worktrees, logs)
    count = settings.scaled(1000)
    left = tuple(
        Aim(figure, reach, absolute=True, name=name, unit=unit)
        for figure, reach, name, unit in (
            ("grown", 1e6, "its memory has grown by", "MB"),
            ("descriptors", 0, "descriptors more", ""),
            ("threads", 0, "threads more", ""),
            ("zombies", 0, "zombies", ""),
            ("temporary", 0, "temporary files", ""),
            ("keeper", None, "the process that keeps the checks has grown by", "MB"),
            ("journal", None, "journal", "MB"),
        )
    )
    yield Case(
        f"{count:,} runs in watch mode",
        watch(count, *world(settings.folder / "long")),
        None,
        left,
        rounds=1,
    )


def passes(job: str, folder: Path, settings: Settings, *many: int) -> Generator[Case, None, None]:
    """A run against each script, in a world with so `many` worktrees and logs."""
    repository, environment = world(folder, *many)
    ours = watch(settings.scaled(200), repository, environment)
    for name, script in SCRIPTS.items():
        file = folder / f"{len(script)}.sh"
        file.write_text(script)
        peer = python(
            "benchmarks.ours",
            "repeat",
            file,
            settings.scaled(50),
            cwd=repository,
            environment=environment,
        )
        yield Case(job, ours, side(name, peer), (Aim("each", 0.5, name="CPU", unit="s"),), rounds=7)
    told = rules(folder, repository, str(environment["HOME"]))

    def monit() -> Command:
        return python(
            "benchmarks.ours",
            "monit",
            needs("monit"),
            *told,
            settings.scaled(10),
            environment=environment,
        )

    yield Case(
        job,
        ours,
        Side("monit, the same questions", monit),
        (Aim("each", name="CPU", unit="s"),),
        rounds=3,
    )


def watch(count: int, repository: Path, environment: dict[str, str | None]) -> Side:
    """So many runs in a world; of the mounts only its own, for those that come and go are another
    matter.
    """
    told = {**environment, "MIYABI_HEALING_CONFIG": f"{environment['HOME']}/limits.toml"}
    return side(
        "ours",
        python(
            "benchmarks.ours",
            "watch",
            PROJECT / "run_healing.sh",
            count,
            cwd=repository,
            environment=told,
        ),
    )


def side(name: str, command: Command) -> Side:
    return Side(name, lambda: command)


if __name__ == "__main__":
    main({"watch": cases})
