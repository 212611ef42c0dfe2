"""What is in quarantine: a line for each run, or for each thing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from miyabi_healing.report import style
from miyabi_healing.report.layout import wrapped
from miyabi_healing.state import run_clock
from miyabi_healing.state.quarantine_things import QuarantinedThing
from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support.formatting import (
    day_text,
    display,
    size_text,
    timestamp,
    timestamp_seconds,
)

_Row = dict[str, Any]


def build_quarantine(found: Sequence[QuarantinedThing], days: float, now: Moment) -> _Row:
    """The document of ``quarantine list --json``: every entry, and every run with what it took."""
    runs: dict[str, list[QuarantinedThing]] = {}
    for each in found:
        runs.setdefault(each.run, []).append(each)
    return {
        "things": [row for each in found for row in _entry_rows(each, days, now)],
        "bytes": sum(each.bytes for each in found),
        "runs": [_run_row(run, held, days, now) for run, held in runs.items()],
    }


def _entry_rows(thing: QuarantinedThing, days: float, now: Moment) -> Iterator[_Row]:
    for each in thing.entries:
        end, by_runs = each.end_of(days, now)
        yield {
            "name": each.name,
            "kind": each.kind,
            "original": each.original,
            "bytes": each.bytes,
            "step": each.step,
            "since": timestamp(each.time),
            "until": timestamp(end),
            "until_by": run_clock.decided_by(by_runs),
            "thing": str(each.payload),
            "run": each.run,
            "belongs_to": thing.first.name,
        }


def _run_row(run: str, held: Sequence[QuarantinedThing], days: float, now: Moment) -> _Row:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for each in held:
        counts[each.noun] += each.count
        sizes[each.noun] += each.bytes
    sound = [each for each in held if not each.damage]
    end, by_runs = min((each.end_of(days, now) for each in sound), default=(None, False))
    return {
        "run": run,
        "things": len(held),
        "counts": [{"what": what, "count": counts[what], "bytes": sizes[what]} for what in counts],
        "bytes": sum(sizes.values()),
        "until": None if end is None else timestamp(end),
        "until_by": run_clock.decided_by(by_runs),
        "damaged": len(held) - len(sound),
        "rollback": f"rollback {run}",
    }


def run_lines(document: _Row, width: float) -> Iterator[str]:
    """One line for each run, the oldest first, and a sum."""
    for row in document["runs"]:
        yield from wrapped(_run_line(row), width, rest="  ")
    yield from wrapped(_sum_line(document), width, rest="  ")


def _run_line(row: _Row) -> str:
    dot = style.current().finished("·")
    held = ", ".join(
        f"{each['count']} {_plural(each['what'], each['count'])} {size_text(each['bytes'])}"
        for each in row["counts"]
    )
    parts = [f"{row['run']}  {held}"]
    if row["until"]:
        sure = " at the earliest" if row["until_by"] == "run clock" else ""
        parts.append(f"until {day_text(timestamp_seconds(row['until']), time.time())}{sure}")
        parts.append(row["rollback"])
    if row["damaged"]:
        parts.append(f"{row['damaged']} of it cannot be relied on: -v says why")
    return f" {dot} ".join(parts)


def _sum_line(document: _Row) -> str:
    number = sum(row["things"] for row in document["runs"])
    if not number:
        return "The quarantine is empty."
    ways = (
        "rollback RUN restores them, quarantine purge RUN deletes them for good, "
        "quarantine list RUN names each"
    )
    return f"{_things(number)}, {size_text(document['bytes'])}; {ways}."


def thing_lines(
    found: Sequence[QuarantinedThing], days: float, now: Moment, width: float
) -> Iterator[str]:
    """Each thing by its name, until when it stays, and where it was."""
    for each in found:
        yield from wrapped(_thing_line(each, days, now), width, rest="  ")
        yield from wrapped(_place(each), width, first="    ", rest="      ")


def _thing_line(thing: QuarantinedThing, days: float, now: Moment) -> str:
    if thing.damage:
        return f"{thing.first.name}  cannot be relied on: {thing.damage}"
    end, by_runs = thing.end_of(days, now)
    only = " at the earliest (only time that runs see pass counts)" if by_runs else ""
    return f"{thing.first.name}  {size_text(thing.bytes)}, until {timestamp(end)}{only}"


def _place(thing: QuarantinedThing) -> str:
    if thing.damage:
        return f"it lies in {display(thing.first.payload)}"
    many = f"; {thing.count} logs of it" if "files" in thing.first.manifest else ""
    return f"{display(thing.first.original)}{many}"


def _things(number: int) -> str:
    return "1 thing" if number == 1 else f"{number} things"


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"
