"""Reflogs, read without starting git: one line an entry, the oldest first (git-reflog(1)).

``OLD NEW NAME <ADDRESS> SECONDS ZONE``, a tab, words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.support.files import read_small

_LARGEST = 1 << 28  # bytes


@dataclass(frozen=True)
class Entry:
    """A change of a ref: from the commit `old` to `new` (nothing but zeros for none), and when, in
    seconds since the epoch.
    """

    old: str
    new: str
    time: float


def entries(reflog: Path, owner: int | None = None) -> tuple[Entry, ...]:
    """All of a reflog, none where there is no such file; lines that are none are left out, as git
    does. Raises OSError.
    """
    try:
        lines = read_small(reflog, owner=owner, limit=_LARGEST).splitlines()
    except FileNotFoundError:
        return ()
    return tuple(entry for line in lines if (entry := _entry(line)))


def first(reflog: Path) -> Entry | None:
    """The oldest entry; None where there is none to be read."""
    try:
        line, *_ = read_small(reflog, whole=False).splitlines()
    except (OSError, ValueError):
        return None
    return _entry(line)


def commits(found: tuple[Entry, ...], since: float = 0) -> Iterator[str]:
    """The commits that entries name, each once, the latest first: those that were left `since`."""
    named = (each for entry in reversed(found) if entry.time >= since for each in _both(entry))
    return (each for each in dict.fromkeys(named) if each.strip("0"))


def _both(entry: Entry) -> tuple[str, str]:
    return entry.new, entry.old


def _entry(line: bytes) -> Entry | None:
    head, _, _ = line.partition(b"\t")
    fields = head.decode("utf-8", "replace").split(" ")
    try:
        old, new, *_, seconds, _zone = fields
        return Entry(old, new, float(seconds))
    except ValueError:
        return None
