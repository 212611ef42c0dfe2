"""A past that was never lived: runs on record, at regular intervals until a moment ago."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from miyabi_healing.state.journal import Journal
from miyabi_healing.support import paths

EVERY = 300.0  # seconds between two runs


def journal_of(state: Path) -> Journal:
    """The journal of a state folder, to write; made where there is none."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Journal(state / paths.JOURNAL)


def lived(
    journal: Journal,
    name: str,
    target: str,
    values: Sequence[float],
    threshold: float = 90,
    every: float = EVERY,
    now: float | None = None,
) -> None:
    """Put a run on record for each value, the newest `every` seconds before `now`."""
    now = time.time() if now is None else now
    clock = journal.keep_time().seen
    row = journal.one("select max(id) from pass")
    first = (row[0] or 0) + 1
    with journal.at_once():
        for at, value in enumerate(values):
            ago = (len(values) - at) * every
            ended = now - ago
            journal.write(
                "insert into pass (id, run, began, ended, checks, found, healed, unknown, freed, "
                "clock) values (?, ?, ?, ?, 1, 0, 0, 0, 0, ?)",
                (first + at, f"run{first + at}", ended, ended, clock - ago),
            )
            journal.write(
                "insert into measurement (pass, name, target, value, threshold, unit, outcome, "
                "severity, description, actions) values (?, ?, ?, ?, ?, '', 'healthy', '', '', '')",
                (first + at, name, target, value, threshold),
            )


def rising(last: float, hourly: float, count: int = 200, every: float = EVERY) -> list[float]:
    """Steady growth that has come to `last` a moment ago."""
    return [last - hourly * every / 3600 * (count - at) for at in range(count)]


def closed_logs(folder: Path, megabytes: float, count: int = 10) -> list[Path]:
    """Logs that nobody has written to for three days, so large together."""
    folder.mkdir(parents=True, exist_ok=True)
    line = b"2026-01-31 12:00:00 something of no interest was noted\n"
    size = int(megabytes * 1e6 / count)
    logs = [folder / f"old{number}.log" for number in range(count)]
    for each in logs:
        each.write_bytes((line * (size // len(line) + 1))[:size])
        old = time.time() - 3 * 86_400
        os.utime(each, (old, old))
    return logs
