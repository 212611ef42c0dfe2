"""The page of 90 days of runs, one every five minutes, each with twelve values."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Generator
from pathlib import Path

from benchmarks.harness import Aim, Case, Settings, Side, main, python
from miyabi_healing.state.journal import Journal

DAYS, SECONDS = 90, 300
VALUES = (
    *(("disk_space_critical", mount, 90, "%") for mount in ("/", "/data", "/home")),
    *(("excessive_worktrees", f"/home/build/src/{name}", 15, "") for name in ("app", "lib")),
    *(("tmpfs_usage", mount, 25, "%") for mount in ("/tmp", "/dev/shm")),
    ("large_log_files", "/var/log/build/*.log", 500, "MB"),
    ("high_memory_usage", "", 90, "%"),
    ("swap_usage", "", 90, "%"),
    ("stale_git_lock", "/home/build/src/app", 600, "s"),
    ("orphaned_processes", "", 1000, "MB"),
)
PASS = (
    "insert into pass (id, run, began, ended, checks, found, healed, unknown, freed) "
    "values (?, ?, ?, ?, ?, ?, ?, 0, 0)"
)
MEASUREMENT = (
    "insert into measurement (pass, name, target, value, after, threshold, unit, outcome, "
    "severity, description, actions) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def cases(settings: Settings) -> Generator[Case, None, None]:
    state = settings.folder / "state"
    state.mkdir(mode=0o700)
    runs = write_history(state / "journal.sqlite3", settings.scaled(DAYS * 86_400 / SECONDS))
    made = python("benchmarks.ours", "make_page", state)
    yield Case(
        f"the page of {runs:,} runs with {len(VALUES)} values each",
        Side("ours", lambda: made),
        None,
        (
            Aim("cpu", 1, absolute=True, name="CPU"),
            Aim("kilobytes", 150, absolute=True, name="size", unit="kB"),
            Aim("rss", name="memory"),
        ),
    )


def write_history(file: Path, runs: int) -> int:
    """Runs until now: values that wander, and are healed where they reach their limit."""
    book, chance, now = Journal(file), random.Random(4), time.time()
    book.database.execute("pragma synchronous=off")
    values = [0.5 * limit for _, _, limit, _ in VALUES]
    with book.at_once():
        for number in range(1, runs + 1):
            moment, healed = now - (runs - number) * SECONDS, 0
            rows = []
            for place, (name, target, limit, unit) in enumerate(VALUES):
                wave = math.sin(number / 288 * 2 * math.pi + place)
                value = values[place] + limit * (chance.gauss(0.0002, 0.01) + 0.002 * wave)
                over = value > limit
                values[place] = 0.6 * limit if over else max(value, 0)
                healed += over
                what = ("healed", "high") if over else ("healthy", "")
                words = f"{target or 'memory'} is at {value:.1f} {unit}"
                after = values[place] if over else None
                rows.append((number, name, target, value, after, limit, unit, *what, words, ""))
            name = time.strftime("%Y%m%dT%H%M%S-4711", time.localtime(moment))
            row = (number, name, moment - 1, moment, len(VALUES), healed, healed)
            book.database.execute(PASS, row)
            book.database.executemany(MEASUREMENT, rows)
    book.close()
    return runs


if __name__ == "__main__":
    main({"page": cases})
