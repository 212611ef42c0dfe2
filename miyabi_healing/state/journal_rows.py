"""A step as the journal has it, and a pause."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from miyabi_healing.state.run_clock import Moment

_COLUMNS = (
    "id, run, healer, issue, issue_target, kind, target, intended, finished, "
    "status, message, freed, undo"
)


@dataclass(frozen=True)
class Row:
    """One step as the journal has it. `finished` and `status` are None while it is in hand, and
    after a crash.
    """

    id: int
    run: str
    healer: str
    issue: str
    issue_target: str
    kind: str
    target: str
    intended: float
    finished: float | None
    status: str | None
    message: str
    freed: int
    undo: dict[str, Any]
    damage: str = ""  # why `undo` cannot be relied on


def _row_of(values: tuple[Any, ...]) -> Row:
    named = dict(zip(_COLUMNS.split(", "), values, strict=True))
    undo, damage = _note_of(named["undo"])
    empty = {
        "message": named["message"] or "",
        "freed": named["freed"] or 0,
        "undo": undo,
        "damage": damage,
    }
    return Row(**{**named, **empty})


def _note_of(text: str | None) -> tuple[dict[str, Any], str]:
    """What a step noted down for undoing it, and what is wrong with that: one damaged note must not
    stop anything else.
    """
    try:
        note = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}, "its undo note in the journal is no JSON"
    lists = [note.get("entries", []), note.get("refs", [])] if isinstance(note, dict) else [None]
    if not all(
        isinstance(each, list) and all(isinstance(item, str) for item in each) for each in lists
    ):
        return {}, "its undo note in the journal is not as it should be"
    return note, ""


def _decoded(raw: bytes) -> str:
    """Text of the journal, damaged or not."""
    return raw.decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Pause:
    """When healing rests, and why. Times in seconds since the epoch; `clock` is the run clock's at
    `begun`, None without one.
    """

    begun: float
    until: float
    reason: str
    person: str
    clock: float | None = None
    number: int = 0

    def is_over(self, now: Moment) -> bool:
        return now.has_passed(self.until - self.begun, self.begun, self.clock)

    def end(self, now: Moment) -> tuple[float, bool]:
        """When it ends at the earliest, and whether the run clock decides that."""
        return now.end_of(self.until - self.begun, self.begun, self.clock)
