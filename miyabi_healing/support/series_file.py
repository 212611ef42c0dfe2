"""A value over time out of a file that somebody else wrote: a time and a number a line.

Columns are told apart by a semicolon, a tab, a comma or a blank, the first of them that there is;
with one of the first two, a number may have a decimal comma. A time is in seconds since the epoch,
or as ISO 8601 has it (local, where it names no zone); from 100,000,000,000 on it is milliseconds.
Empty lines and those that begin with # are none, and so is a first one with names. What else is no
time and number is bad, and is told by its number.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from miyabi_healing.support.formatting import display

KEPT = 10_000  # samples at most: as many as a forecast looks at
NAMED = 5  # bad lines
_LONGEST = 4096  # bytes of a line
_MILLISECONDS = 1e11
_LATEST = 253_402_300_799.0  # the end of the year 9999, the last that ISO 8601 can write
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")
_SHOWN = 40  # characters of what is bad


@dataclass(frozen=True)
class SeriesFile:
    """What it says: times and values, the oldest first. Of more than `KEPT` samples, these are one
    of `every` so many, and the last; `lines` is how many there were. `bad` counts the lines that
    are none, and the first few of them are `named`.
    """

    times: list[float]
    values: list[float]
    lines: int = 0
    every: int = 1
    bad: int = 0
    named: tuple[str, ...] = ()


class _BadLine(Exception):
    """No sample; the message says why."""


def read_series_file(file: BinaryIO) -> SeriesFile:
    """All that can be read, in memory that does not depend on how much that is. Raises OSError."""
    found: list[tuple[float, float]] = []
    named: list[str] = []
    last: tuple[float, float] | None = None
    lines, bad, every, begun = 0, 0, 1, False
    for number, line in _lines(file):
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace").strip()
        if not text or text.startswith("#"):
            continue
        first, begun = not begun, True
        try:
            sample = _sample(text, whole=len(line) < _LONGEST)
        except _BadLine as error:
            if first and _is_header(text):
                continue
            bad += 1
            if len(named) < NAMED:
                named.append(f"line {number}: {error}")
            continue
        if lines % every == 0:
            found.append(sample)
            if len(found) > KEPT:
                found, every = found[::2], 2 * every
        lines += 1
        if last is None or sample[0] >= last[0]:
            last = sample
    if last and last not in found:
        found.append(last)
    found.sort(key=lambda each: each[0])  # of one time, the later line stays the later one
    return SeriesFile(
        [at for at, _ in found], [value for _, value in found], lines, every, bad, tuple(named)
    )


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Each line with its number, and no more than the beginning of one that is too long."""
    number = 0
    while line := file.readline(_LONGEST):
        number += 1
        yield number, line
        while len(line) == _LONGEST and not line.endswith(b"\n"):
            line = file.readline(_LONGEST)


def _sample(text: str, whole: bool) -> tuple[float, float]:
    if not whole:
        raise _BadLine("it is too long")
    columns, comma = _columns(text)
    if len(columns) != 2:
        words = "1 column" if len(columns) == 1 else f"{len(columns)} columns"
        raise _BadLine(f"{_quoted(text)} has {words}, not a time and a number")
    at, value = columns
    if comma and _DECIMAL_COMMA.fullmatch(value):
        value = value.replace(",", ".")
    return _time(at), _number(value)


def _columns(text: str) -> tuple[list[str], bool]:
    """The columns, and whether a number in them may have a decimal comma."""
    for mark in (";", "\t", ","):
        if mark in text:
            return [each.strip().strip("\"'") for each in text.split(mark)], mark != ","
    return [each.strip("\"'") for each in text.rsplit(None, 1)], False


def _time(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        try:
            return datetime.datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            raise _BadLine(f"{_quoted(text)} is no time") from None
    if abs(seconds) >= _MILLISECONDS:
        seconds /= 1000
    if not -_LATEST < seconds < _LATEST:  # neither is what is no number
        raise _BadLine(f"{_quoted(text)} is no time")
    return seconds


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _BadLine(f"{_quoted(text)} is no number")
    return value


def _is_header(text: str) -> bool:
    """Whether a line names columns: neither of them is anything like a number."""
    columns, _ = _columns(text)
    return (
        len(columns) == 2
        and all(re.match(r"[^\W\d]", each) for each in columns)
        and (columns[1].lower() not in ("nan", "inf", "infinity", "null", "none"))
    )


def _quoted(text: str) -> str:
    shown = display(text)
    return repr(shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…")
