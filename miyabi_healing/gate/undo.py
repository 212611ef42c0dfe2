"""Giving back what a step took away: by the entries it made in quarantine, each kind in its own
way.

Every way of undoing looks at what is there before it does anything, so that it can be cut short and
begun again: a rollback that somebody asked for, a healer that failed half way and a step that a
crash interrupted all come here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from miyabi_healing.gate.handlers.table import UNDO
from miyabi_healing.gate.primitives import quarantine_restore, quarantine_writer
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.state import quarantine
from miyabi_healing.support.formatting import display


def entries(state: Path, run: str, step: int) -> list[WrittenEntry]:
    """What a step has in quarantine, the last first."""
    runs = (base / run for base in quarantine.locations(state))
    folders = [
        folder
        for each in runs
        for folder in quarantine.subfolders(each)
        if folder.name.startswith(f"{step:04}-")
    ]
    found = [WrittenEntry.at(folder) for folder in folders]
    return sorted(found, key=lambda entry: entry.time, reverse=True)


def away(state: Path, target: str) -> str | None:
    """The quarantine of a target's filesystem, if that is known but not there: it is not mounted
    now. None where it is.
    """
    listed = (
        base for base in quarantine.locations(state)[1:] if Path(target).is_relative_to(base.parent)
    )
    return next((display(base) for base in listed if not os.path.lexists(base)), None)


def undo_objection(found: Sequence[WrittenEntry], context: Context) -> str | None:
    """Why what a step took cannot be given back; None where it can."""
    for entry in found:
        if not entry.manifest:
            if entry.damage or os.path.lexists(entry.payload):
                return f"{entry.damage or 'it has no manifest'}; it lies in {display(entry.folder)}"
            continue  # a crash came before the manifest: nothing was taken yet
        if entry.manifest.get("dropped"):
            # it was given back, or not needed; a crash came before the last of it was gone
            continue
        if entry.manifest.get("purging"):
            return "it is being purged from quarantine"
        if entry.kind not in UNDO:
            return f"this version does not know things of the kind {entry.kind!r}"
        try:
            reason = UNDO[entry.kind].objection(entry, context)
        except Exception as error:  # one that nobody thought of must not stop the others
            reason = (
                f"it cannot be looked at: {type(error).__name__}: {error}; it lies in "
                f"{display(entry.folder)}"
            )
        if reason:
            return reason
    return None


def elsewhere(found: Sequence[WrittenEntry]) -> str:
    """What would come back to another place than it was taken from, in words."""
    told = (
        UNDO[entry.kind].elsewhere(entry)
        for entry in found
        if entry.kind in UNDO and not entry.manifest.get("dropped")
    )
    return "; ".join(filter(None, told))


def restore(found: Sequence[WrittenEntry], context: Context) -> str:
    """Give back all that a step took, or nothing of it; returns what is elsewhere than it was, in
    words.

    Raises Refused, and OSError where it fails half way.
    """
    if reason := undo_objection(found, context):
        raise Refused(reason)
    told = []
    for entry in found:
        if entry.manifest.get("dropped"):
            quarantine_writer.drop(entry)
        elif entry.manifest:
            told.append(UNDO[entry.kind].restore(entry, context))
        else:
            quarantine_restore.discard(entry)
    return "; ".join(filter(None, told))
