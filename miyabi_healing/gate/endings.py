"""What can be said of a step that has no entry in quarantine (any more): after a crash, and when
asked to undo it.

A kind without a handler is one of another version's: what such a step did is not known, and is not
guessed.
"""

from __future__ import annotations

from miyabi_healing.gate.handlers.handler import GONE, Restorable
from miyabi_healing.gate.handlers.table import HANDLERS, UNDO


def is_unknown(kind: str) -> bool:
    """Whether it is a kind neither of steps nor of entries in quarantine, by which a step is named
    when the journal is gone.
    """
    return kind not in HANDLERS and kind not in UNDO


def unknown_kind(kind: str) -> str:
    return f"this version does not know steps of the kind {kind!r}: what it did is unknown"


def crash_not_repaired(kind: str) -> str:
    """What came of a step that was ended in the middle, where nothing of it is in quarantine."""
    return HANDLERS[kind].after_crash if kind in HANDLERS else unknown_kind(kind)


def to_come(kind: str) -> str:
    """What the next run that may change something will do about it."""
    return HANDLERS[kind].next_run if kind in HANDLERS else unknown_kind(kind)


def no_way(kind: str) -> str:
    """Why a step that was applied cannot be undone, where nothing of it is in quarantine."""
    if is_unknown(kind):
        return unknown_kind(kind)
    if kind not in HANDLERS:
        return GONE
    undo = HANDLERS[kind].undo
    return undo.gone if isinstance(undo, Restorable) else undo.reason
