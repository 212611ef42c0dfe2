"""Texts for people: paths, sizes, moments and plurals, each as one printable line."""

from __future__ import annotations

import os
import time

DAY = 86_400  # seconds
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def display(path: object) -> str:
    """A path as one printable line: undecodable bytes and control characters are escaped."""
    try:
        text = os.fsencode(str(path)).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character, as JSON can have one
        text = str(path).encode("utf-8", "backslashreplace").decode()
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def size_text(count: float) -> str:
    """Bytes for people, in powers of 1000: ``1.5 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def timestamp(seconds: float | None = None) -> str:
    """Seconds since the epoch, or now, as every report has them: ``2026-01-31T12:00:00``, local."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))


def timestamp_seconds(stamp: str) -> float:
    """A report's timestamp as seconds since the epoch. Raises ValueError, OverflowError."""
    return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S"))


def day_text(seconds: float, now: float | None = None) -> str:
    """A day for people: ``25 Nov``; with the year where that is not the one of `now`."""
    then = time.localtime(seconds)
    year = "" if now is None or then.tm_year == time.localtime(now).tm_year else f" {then.tm_year}"
    return f"{then.tm_mday} {_MONTHS[then.tm_mon - 1]}{year}"


def time_text(stamp: str) -> str:
    """A timestamp for people: ``2026-01-31 12:00:00``."""
    return stamp.replace("T", " ")


def expiry_text(stamp: str, decided_by: str | None) -> str:
    """When the first thing leaves the quarantine, for people; a clock of runs may decide that."""
    runs = decided_by == "run clock"
    only = ", as only time that runs see pass counts" if runs else ""
    return f"the first is deleted on {time_text(stamp)} at the earliest{only}"


def minute_text(seconds: float) -> str:
    """Seconds since the epoch for people, to the minute: ``2026-01-31 12:00``."""
    return time_text(timestamp(seconds)).rpartition(":")[0]


def duration_text(seconds: float) -> str:
    """How long something takes, rounded, for people: ``40 s``, ``3 min``, ``2 h``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or seconds == size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def interval_text(seconds: float) -> str:
    """How often something is repeated, exactly, for people: ``90 s``, ``5 min``, ``24 h``."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def name_stamp() -> str:
    """Now and our process, in the names of runs and of files set aside: these names are on disk."""
    return f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"


def printable(value: object) -> object:
    """A value for a report: every text in it as one printable line, whoever it came from, in
    whatever it is nested.
    """
    if isinstance(value, str):
        return display(value)
    if isinstance(value, dict):
        return {display(key): printable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable(each) for each in value]
    return value


def figure(value: float, unit: str, beside: float | None = None) -> str:
    """A measured value for people, with as few digits as tell it from the one `beside` it:
    ``54 %``, ``81 MB``, ``61 min``, ``15``.
    """
    if unit == "s":
        text = duration_text(value)
        same = beside not in (None, value) and text == duration_text(beside or 0)
        return f"{plain_number(value)} s" if same else text
    if value == beside:  # a limit as it was set
        return f"{plain_number(value)} {unit}".rstrip()
    digits = 0 if abs(value) >= 10 or value == int(value) or unit == "%" else 1
    while beside is not None and digits < 3 and (value > beside) != (round(value, digits) > beside):
        digits += 1
    return f"{round(value, digits):.15g} {unit}".rstrip()


def plain_number(value: float) -> str:
    """A number as people write it: not more than two decimals."""
    return f"{round(value, 2):.15g}"
