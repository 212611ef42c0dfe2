"""Why one thing goes or stays, for the ``why`` command: data alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What becomes of one thing, as this `kind` of thing.

    `verdict` is what becomes of it, in a line; `evidence` what that rests on; `changes` what would
    change it, and `commands` do so or show more. Not `certain`: something could not be told.
    """

    kind: str
    target: str
    verdict: str
    evidence: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    certain: bool = True


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something is: its filesystem in words, and the allowed folder that it lies in (None:
    none).
    """

    path: str
    filesystem: str
    root: str | None
    notes: tuple[str, ...] = ()
