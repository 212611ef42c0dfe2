"""Growth: what a dry run costs when there is ten times as much to look after. More than ten times
as much would be a mistake.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness import PROJECT, Aim, Case, Command, Settings, Side, ext4, main, needs_root
from benchmarks.worktrees import World

CHECKS = tuple(file.stem.removeprefix("test_") for file in (PROJECT / "checks").glob("test_*.py"))
HEAD = "[healers.cleanup_worktrees]\nidle_days = 0\n"


def cases(settings: Settings) -> Generator[Case, None, None]:
    yield from repositories(settings)
    with ext4(settings.folder, "12G") as disk:
        yield from log_files(settings, disk)
    yield from mounts(settings)


def dry_run(settings: Settings, name: str, text: str, *checks: str) -> Side:
    """A dry run of some checks with a configuration, in a home that is otherwise empty."""
    home = settings.folder / "home"
    home.mkdir(exist_ok=True)
    off = "".join(f"[checks.{each}]\nenabled = false\n" for each in CHECKS if each not in checks)
    file = settings.folder / f"{name.replace(' ', '-')}.toml"
    file.write_text(text + HEAD + off)
    environment = {"HOME": str(home), "XDG_STATE_HOME": None, "XDG_CONFIG_HOME": None}
    argv = (
        sys.executable,
        str(PROJECT / "self_healer.py"),
        "--dry-run",
        "--json",
        "--config",
        str(file),
    )
    command = Command(argv, cwd=home, environment=environment, codes=(0, 1))
    return Side(name, lambda: command)


def growing(what: str, sides: list[Side], rounds: int) -> Generator[Case, None, None]:
    for less, more in itertools.pairwise(sides):
        aims = (Aim(reach=10), Aim("cpu", 10, name="CPU"), Aim("rss", 10, name="memory"))
        yield Case(f"a dry run over {more.name}{what}", more, less, aims, rounds=rounds)


def repositories(settings: Settings) -> Generator[Case, None, None]:
    os.environ.update(
        GIT_CONFIG_GLOBAL=str(settings.folder / "gitconfig"), GIT_CONFIG_SYSTEM="/dev/null"
    )
    (settings.folder / "gitconfig").write_text(
        "[user]\nname = Bench\nemail = bench@example.invalid\n[gc]\nauto = 0\n"
    )
    top = settings.folder / "src"
    first = World(top / "0", trees=50, files=20)
    first.build()
    sides = []
    for count in (1, 10, settings.scaled(100)):
        for number in range(1, count):
            if not (top / str(number)).exists():
                copy(first.top, top / str(number))
        repos = ", ".join(f'"{top}/{number}/repo"' for number in range(count))
        name = f"{count} repositories"
        sides.append(
            dry_run(
                settings,
                name,
                f"[git]\nrepos = [{repos}]\n",
                "excessive_worktrees",
                "stale_git_lock",
            )
        )
    yield from growing(" of 50 worktrees", sides, rounds=1)
    shutil.rmtree(top)


def copy(source: Path, target: Path) -> None:
    """A repository with its worktrees somewhere else: both name each other by full paths."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    for link in (*target.glob("repo/.git/worktrees/*/gitdir"), *target.glob("trees/*/.git")):
        link.write_text(link.read_text().replace(f"{source}/", f"{target}/"))


def log_files(settings: Settings, disk: Path) -> Generator[Case, None, None]:
    sides = []
    for count in (10, 100, settings.scaled(1000)):
        folder = disk / f"{count}"
        folder.mkdir()
        for number in range(count):
            with (folder / f"{number}.log").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 10_000_000)
        sides.append(
            dry_run(
                settings,
                f"{count} log files",
                f'[logs]\npatterns = ["{folder}/*.log"]\n',
                "large_log_files",
            )
        )
    yield from growing(" of 10 MB", sides, rounds=3)


def mounts(settings: Settings) -> Generator[Case, None, None]:
    needs_root()
    with ExitStack() as mounted:
        points = [settings.folder / f"mount{number}" for number in range(10)]
        for point in points:
            point.mkdir()
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(point)], check=True
            )
            mounted.callback(subprocess.run, ["umount", "-l", str(point)], check=True)
        sides = []
        for count in (1, 10):
            listed = ", ".join(f'"{point}"' for point in points[:count])
            sides.append(
                dry_run(
                    settings,
                    f"{count} mount(s)",
                    f"[disk]\nmounts = [{listed}]\n",
                    "disk_space_critical",
                )
            )
        yield from growing("", sides, rounds=5)


if __name__ == "__main__":
    main({"scale": cases})
