"""Repairs before an issue occurs: simulated weeks of a small filesystem, by the real program.

``python -m benchmarks.early`` compares with the same program that only reacts. Its clocks are set
forward from run to run, in the process that makes the run; files, deletions and the journal are
real. Needs root, for a mount of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import PROJECT, Broken, needs, python

HOUR = 3600.0
SIZE = 200  # MB: one is half a per cent
LIMIT, CLEAR = 90, 85
DAYS = 7
# What is not made again, and what is, in a home: a person's files, a costly cache, one that is
# neither.
WORK, COSTLY, CACHE = "work", ".cache/huggingface/hub", ".cache/pypoetry/artifacts"
SETTINGS = """
[disk]
mounts = ["{disk}"]
[caches]
homes = ["{home}"]
also = ["huggingface"]
[healers.cleanup_disk]
idle_minutes = 0
[logs]
patterns = []
[foresight]
heal_early = {early}
[safety]
ours_alone = ["{disk}"]
[history]
days = 60
"""
OFF = "high_memory_usage swap_usage tmpfs_usage zombie_processes orphaned_processes".split()


@dataclass
class World:
    """A filesystem and what its writers have put there; a megabyte is a file."""

    home: Path
    dice: random.Random = field(default_factory=lambda: random.Random(14))
    number: int = 0
    owed: dict[str, float] = field(default_factory=dict)

    def write(self, where: str, megabytes: float, name: str = "") -> None:
        """Fractions of a megabyte add up."""
        self.owed[where] = self.owed.get(where, 0) + megabytes * 2
        folder = self.home / where
        folder.mkdir(parents=True, exist_ok=True)
        while self.owed[where] >= 1:
            self.owed[where] -= 1
            self.number += 1
            with contextlib.suppress(OSError):  # full
                (folder / f"{name}{self.number}").write_bytes(bytes(500_000))

    def remove(self, where: str, name: str) -> None:
        for each in (self.home / where).glob(f"{name}*"):
            each.unlink()


def steady(world: World, hour: int) -> None:
    """A cache that grows all the time: the limit is reached twice a day."""
    world.write(CACHE, 0.8 + world.dice.uniform(-0.2, 0.2))


def working_days(world: World, hour: int) -> None:
    """Builds from eight to six on weekdays; what a person makes stays."""
    if hour // 24 % 7 < 5 and 8 <= hour % 24 < 18:
        world.write(CACHE, 1.5)
        world.write(WORK, 0.05)


def two_writers(world: World, hour: int) -> None:
    """A cheap cache and a costly one that the configuration names, too."""
    world.write(CACHE, 0.5)
    world.write(COSTLY, 0.2)


def flat(world: World, hour: int) -> None:
    """Nothing but noise, above the clear level."""
    if hour % 2:
        world.write(CACHE, world.dice.choice((0.5, 1, 1.5)), "noise")
    else:
        world.remove(CACHE, "noise")


def burst(world: World, hour: int) -> None:
    """An upgrade every fourth day: four hours, and then it stays for a day."""
    if hour % 96 in (40, 41, 42, 43):
        world.write(CACHE, 1.5, "burst")
    elif hour % 96 == 70:
        world.remove(CACHE, "burst")


def nightly(world: World, hour: int) -> None:
    """A job that takes room every night for two hours."""
    if hour % 24 in (1, 2):
        world.write(CACHE, 3, "night")
    elif hour % 24 == 3:
        world.remove(CACHE, "night")


@dataclass(frozen=True)
class Pattern:
    """How a filesystem is written to, hour by hour, from so many MB in the cache and for good."""

    name: str
    write: Callable[[World, int], None]
    work: float
    cache: float


PATTERNS = {
    "steady": Pattern("a cache that grows", steady, 120, 20),
    "working_days": Pattern("builds on weekdays", working_days, 120, 30),
    "two_writers": Pattern("a cheap and a costly cache", two_writers, 110, 30),
    "flat": Pattern("flat", flat, 140, 38),
    "burst": Pattern("a burst every fourth day", burst, 140, 31),
    "nightly": Pattern("a nightly job", nightly, 140, 31),
    "soon": Pattern("a cache that grows, near the limit", steady, 120, 44),
}
GROWING, QUIET = ("steady", "working_days", "two_writers"), ("flat", "burst", "nightly")


def at(moment: float) -> None:
    """Set this process's clocks forward; nothing else is changed of the program."""
    real, clock, off = time.time, time.clock_gettime, moment - time.time()
    time.time = lambda: real() + off
    time.clock_gettime = lambda which: clock(which) + off


def one_run(moment: float, config: Path, note: Path) -> dict[str, Any]:
    """The report of a run of the program at that moment, in a child. Raises Broken."""
    child = os.fork()
    if not child:
        code = 70
        try:
            with note.open("w") as output:
                os.dup2(output.fileno(), 1)
            at(moment)
            sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False))
            sys.argv = ["self_healer.py", "--json", "--config", str(config)]
            with contextlib.suppress(SystemExit):
                runpy.run_path(str(PROJECT / "self_healer.py"), run_name="__main__")
            sys.stdout.flush()
            code = 0
        finally:
            os._exit(code)
    os.waitpid(child, 0)
    try:
        document: dict[str, Any] = json.loads(note.read_text())
    except ValueError:
        raise Broken(f"the program said: {note.read_text()[-500:]!r}") from None
    if document["errors"]:
        raise Broken(str(document["errors"]))
    return document


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A small filesystem, which only this process and its children see."""
    place = folder / "disk"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}M", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def lived(folder: Path, pattern: Pattern, early: bool, hours: int) -> dict[str, float]:
    """Make a run an hour; what it came to. In a mount and a PID namespace of its own."""
    figures = dict.fromkeys(
        ("crossings", "hours_over", "reacting", "early", "freed", "largest", "outside"), 0.0
    )
    with disk(folder) as place:
        home, note, config = place / "home", folder / "said", folder / "config.toml"
        world = World(home)
        world.write(WORK, pattern.work)
        world.write(CACHE, pattern.cache)
        off = "".join(f"[checks.{each}]\nenabled = false\n" for each in OFF)
        text = SETTINGS.format(disk=place, home=home, early=str(early).lower())
        config.write_text(text + off)
        state = {"HOME": str(home), "XDG_STATE_HOME": str(folder / "state")}
        kept = {name: os.environ[name] for name in ("PATH",)}
        os.environ.clear()
        os.environ.update(kept | state)
        os.chdir(folder)
        begun, over = time.time(), False
        for hour in range(hours):
            pattern.write(world, hour)
            document = one_run(begun + hour * HOUR, config, note)
            was, over = over, any(document["issues_detected"])
            figures["crossings"] += over and not was
            figures["hours_over"] += over
            count(document, figures)
    return figures


def count(document: dict[str, Any], figures: dict[str, float]) -> None:
    """Add what a run did, and how much of what was early is of no class that may be."""
    for action in document["actions_taken"]:
        applied = [each for each in action["steps"] if each["status"] == "applied"]
        if not applied:
            continue
        freed = sum(each["freed"] for each in applied)
        early = bool(action.get("early"))
        figures["early" if early else "reacting"] += 1
        figures["freed"] += freed
        figures["largest"] = max(figures["largest"], freed)
        if early:
            figures["outside"] += sum(
                each["kind"] != "delete" or CACHE not in each["target"] for each in applied
            )


def simulate(folder: str, name: str, early: str, hours: str) -> None:
    """Print the figures of one simulation as JSON."""
    # what is loaded before the first run is there in each child
    import pytest_jsonreport.plugin  # noqa: F401

    from miyabi_healing.cli import main as program  # noqa: F401
    from miyabi_healing.runner import healing, plugin, session  # noqa: F401

    print(json.dumps(lived(Path(folder), PATTERNS[name], early == "early", int(hours))))


def figures_of(name: str, early: bool, hours: int) -> dict[str, float]:
    """A simulation in a process and in namespaces of its own. Raises Broken."""
    with tempfile.TemporaryDirectory(prefix="early-") as folder:
        inner = python(
            "benchmarks.early", "simulate", folder, name, "early" if early else "", hours
        )
        apart = (needs("unshare"), "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
        argv = [*apart, *inner.argv]
        done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        raise Broken(f"{name}: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(hours: int, names: Sequence[str]) -> Iterator[str]:
    """Line by line: each pattern, with early repairs and, where it grows, without."""
    yield (
        "| pattern | | crossings | hours over | early | reacting | largest | freed "
        "| outside the class |"
    )
    yield "| --- " * 9 + "|"
    for name in names:
        for early in (True, False) if name in GROWING else (True,):
            found = figures_of(name, early, hours)
            row = (
                PATTERNS[name].name,
                "early" if early else "only reacting",
                *(f"{found[key]:.0f}" for key in ("crossings", "hours_over", "early", "reacting")),
                *(f"{found[key] / 1e6:.1f} MB" for key in ("largest", "freed")),
                f"{found['outside']:.0f}",
            )
            yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Simulated weeks; needs root.")
    parser.add_argument("patterns", nargs="*", choices=[*PATTERNS, []], help="default: all")
    parser.add_argument("--days", type=float, default=DAYS)
    options = parser.parse_args()
    for line in table(int(options.days * 24), options.patterns or (*GROWING, *QUIET)):
        print(line, flush=True)
