"""Words of the page: checks by short names, values with their units, moments."""

from __future__ import annotations

import time

from miyabi_healing.report import summary
from miyabi_healing.report.folding import home_folded
from miyabi_healing.support.formatting import (
    DAY,
    day_text,
    display,
    duration_text,
    plain_number,
    size_text,
    timestamp_seconds,
)

_BYTES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "B": 1.0, "bytes": 1.0}
_KEEP = "\N{NO-BREAK SPACE}"


def short_name(check: str) -> str:
    """What a check measures: ``disk`` for ours, its name in words for others."""
    return display(summary.short_name(check)).replace("_", " ")


def place(path: str) -> str:
    """A path for people, with ``~`` for the home that it is in."""
    return home_folded(display(path))


def value_text(value: float | None, unit: str) -> str:
    """A value for people: ``77 %``, ``1.5 GB``, ``10 min``, ``13``."""
    return _plain(value, unit).replace(" ", _KEEP)


def _plain(value: float | None, unit: str) -> str:
    if value is None:
        return "not known"
    if unit in _BYTES:
        return size(value * _BYTES[unit])
    if unit == "s":
        return duration_text(value)
    if unit == "%":
        return f"{value:.0f} %" if value >= 10 else f"{value:.1f} %".replace(".0 ", " ")
    return f"{plain_number(value)} {display(unit)}".rstrip()


def size(count: float) -> str:
    """Bytes for people: ``1.5 GB``, ``50 GB``."""
    return size_text(count).replace(".0 ", " ")


def bare(value: float | None, unit: str, beside: float) -> str:
    """A value without its unit, where the one it is beside has the same."""
    text, other = value_text(value, unit), value_text(beside, unit)
    number, _, word = text.rpartition(_KEEP)
    return number if number and word == other.rpartition(_KEEP)[2] else text


def change(before: str, after: str) -> str:
    """``29 → 13``, in one piece."""
    return f"{before}{_KEEP}→{_KEEP}{after}"


def moment(seconds: float, now: float | None = None) -> str:
    """``25 Nov 16:00``; with the year where that is not the one of `now`."""
    then = time.localtime(seconds)
    return f"{day_text(seconds, now)} {then.tm_hour:02}:{then.tm_min:02}".replace(" ", _KEEP)


def seconds_of(stamp: str) -> float:
    """A report's timestamp as seconds since the epoch; 0 for what is none."""
    try:
        return timestamp_seconds(stamp)
    except (ValueError, OverflowError):
        return 0


def times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def many(count: int, word: str, plural: str = "") -> str:
    """``1 worktree``, ``3 worktrees``."""
    return f"{count:,} {word if count == 1 else plural or word + 's'}"


def span_text(seconds: float) -> str:
    """How long a history is: ``90 days``, ``3 h``, ``hour``."""
    if seconds >= 2 * DAY:
        return many(round(seconds / DAY), "day")
    return duration_text(seconds).removeprefix("1 h") or "hour"
