"""One healthy run, from the start of ``run_healing.sh`` to its end, with its journal and its
report, against other ways to look.

All of them run the interpreter of the environment that ``run_healing.sh`` makes, at whatever speed
it starts.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator
from pathlib import Path

from benchmarks.harness import PROJECT, Aim, Case, Command, Settings, Side, Skipped, main, needs

EMPTY = "".join(
    f"def test_{name}():\n    pass\n\n\n" for name in ("one", "two", "three", "four", "five", "six")
)
# What our six checks ask, asked by testinfra of the tools that people ask.
PEER = """
def test_disk_space(host):
    rows = [line.split() for line in host.check_output("df -P").splitlines()[1:]]
    assert all(int(row[4].rstrip("%")) <= 101 for row in rows if row[4] != "-")


def test_worktrees(host):
    assert len(host.check_output("git worktree list").splitlines()) <= 15


def test_zombies(host):
    rows = host.check_output("ps -eo stat=").splitlines()
    assert sum(row.startswith("Z") for row in rows) <= 10000


def test_locks(host):
    assert host.check_output("find .git -name '*.lock' -mmin +10") == ""


def test_logs(host):
    find = "find ~/.miyabi/logs /tmp -maxdepth 1 -name '*.log' -printf '%b\\\\n'"
    sizes = host.check_output(find).split()
    assert sum(map(int, sizes)) * 512 <= 500_000_000_000


def test_memory(host):
    row = host.check_output("free").splitlines()[1].split()
    total, free = int(row[1]), int(row[6])
    assert free >= total / 100
"""
LIMITS = """
[disk]
mounts = ["/"]
[checks.disk_space_critical]
threshold = 100
[checks.zombie_processes]
threshold = 10000
[checks.excessive_worktrees]
threshold = 1000
[checks.high_memory_usage]
threshold = 100
[checks.large_log_files]
threshold = 500000
"""
WORKTREES, LOGS = 11, 50


def world(
    folder: Path, worktrees: int = WORKTREES, logs: int = LOGS
) -> tuple[Path, dict[str, str | None]]:
    """A home with some logs, and a repository with worktrees, in which nothing is wrong: its path,
    and an environment.
    """
    needs("git")
    home, repository = folder / "home", folder / "repository"
    places = home / ".miyabi" / "logs"
    places.mkdir(parents=True)
    for number in range(logs):
        (places / f"{number}.log").write_text("a line\n" * 1000)
    (home / "limits.toml").write_text(LIMITS)
    names = [
        name
        for name in os.environ
        if name.startswith(("XDG_", "PYTEST_", "MIYABI_", "GIT_", "COVERAGE_"))
    ]
    environment: dict[str, str | None] = {**dict.fromkeys(names), "HOME": str(home)}
    git = [
        "git",
        "-C",
        str(repository),
        "-c",
        "user.name=Bench",
        "-c",
        "user.email=bench@example.invalid",
    ]
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    for number in range(worktrees):
        add = [*git, "worktree", "add", "-q", "-b", f"topic{number}", str(folder / f"tree{number}")]
        subprocess.run(add, check=True, capture_output=True)
    return repository, environment


def interpreter() -> str:
    """The one that ``run_healing.sh`` runs. Raises Skipped."""
    made = subprocess.run(
        [str(PROJECT / "run_healing.sh"), "--version"], capture_output=True, text=True
    )
    python = PROJECT / ".venv" / "bin" / "python"
    if made.returncode or not python.exists():
        raise Skipped(f"run_healing.sh has no environment in {PROJECT.name}: {made.stderr.strip()}")
    return str(python)


def with_testinfra(python: str, folder: Path) -> str:
    """An interpreter of the same version with testinfra and the same pytest. Raises Skipped."""
    version = subprocess.run(
        [python, "-c", "import pytest; print(pytest.__version__)"], capture_output=True, text=True
    )
    other = folder / "testinfra" / "bin" / "python"
    packages = [f"pytest=={version.stdout.strip()}", "pytest-testinfra"]
    for command in (
        [python, "-m", "venv", str(folder / "testinfra")],
        [str(other), "-m", "pip", "install", "-q", *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Skipped(
                f"pytest-testinfra cannot be installed: {done.stderr.strip().splitlines()[-1:]}"
            )
    return str(other)


def cases(settings: Settings) -> Generator[Case, None, None]:
    python, rounds = interpreter(), 15
    repository, environment = world(settings.folder)
    (settings.folder / "test_empty.py").write_text(EMPTY)
    ours = Command(
        (str(PROJECT / "run_healing.sh"), "--config", f"{environment['HOME']}/limits.toml"),
        repository,
        environment,
    )
    plain = Command(
        (str(PROJECT / "run_healing.sh"),),
        repository,
        {**environment, "MIYABI_HEALING_CONFIG": None},
        (0, 1),
    )
    bare = Command(
        (python, "-m", "pytest", str(settings.folder / "test_empty.py")), repository, environment
    )
    barest = Command(bare.argv, repository, {**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})

    def case(job: str, command: Command, name: str, peer: Command, reach: float | None) -> Case:
        aims = (Aim("wall", reach), Aim("cpu", reach, name="CPU"), Aim("rss", name="peak memory"))
        return Case(job, Side("ours", lambda: command), Side(name, lambda: peer), aims, rounds)

    yield case("a healthy run", plain, "pytest, six empty tests", bare, 0.85)
    yield case(
        "a healthy run, with a configuration file", ours, "pytest, six empty tests", bare, 0.85
    )
    yield case("a healthy run", plain, "the same pytest without plugins", barest, None)
    (settings.folder / "test_host.py").write_text(PEER)
    infra = with_testinfra(python, settings.folder)
    for name in ("df", "ps", "find", "free"):
        needs(name)
    peer = Command(
        (infra, "-m", "pytest", str(settings.folder / "test_host.py")), repository, environment
    )
    yield case("a healthy run", plain, "testinfra, six checks", peer, 0.65)


if __name__ == "__main__":
    main({"start": cases})
