"""Restoring one log that was archived, alone or among many, by the path that it had."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from miyabi_healing.gate import recover, undo
from miyabi_healing.gate.handlers import bundle_restore
from miyabi_healing.gate.primitives.context import Context, error_text
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.gate.rollback import Undone, Unknown, choose, describe_rollback
from miyabi_healing.state import quarantine
from miyabi_healing.state.journal import Journal
from miyabi_healing.support.formatting import display


def restore_file(
    path: str, context: Context, journal: Journal | None, *, only_look: bool
) -> Undone:
    """Restore the newest archive of a log; where many are in one, the others stay in it. Raises
    Unknown where none has it, sqlite3.Error.
    """
    place = Path(os.path.abspath(os.path.expanduser(path)))
    entry = _newest(context.state, place)
    (row,) = choose(context.state, journal, entry.run, (entry.step,))
    if entry.kind != "log-bundle":
        (seen,) = describe_rollback([row], context)
        if seen.status != "planned" or only_look or journal is None:
            return seen
        problem, told = recover.restore_step(
            row.run, row.id, context, journal, "rolled back", recover.BY_HAND
        )
        return Undone(row, "refused" if problem else "undone", problem or told or "given back")
    if reason := undo.undo_objection([entry], context):
        return Undone(row, "refused", reason)
    if only_look:
        return Undone(row, "planned", f"{display(place)} can be restored")
    try:
        told = bundle_restore.restore_files(entry, (place.name,))
    except Exception as error:
        return Undone(row, "refused", error_text(error))
    return Undone(row, "undone", f"{display(place)} is restored{told and '; '}{told}")


def _newest(state: Path, place: Path) -> WrittenEntry:
    """The last entry in quarantine that has a log. Raises Unknown."""
    damaged = []
    for held in reversed(quarantine.find_entries(state)):
        if held.manifest.get("purging") or held.manifest.get("dropped"):
            continue
        if held.kind == "log-archive" and held.original == str(place):
            return WrittenEntry.at(held.folder)
        if (
            held.kind == "log-bundle"
            and held.original == str(place.parent)
            and "raw" in held.manifest
        ):
            entry = WrittenEntry.at(held.folder)
            try:
                if bundle_restore.has(entry, place.name):
                    return entry
            except OSError:
                damaged.append(display(held.payload))
    more = f"; its folder's archives that cannot be read: {', '.join(damaged)}" if damaged else ""
    raise Unknown(f"no archive in quarantine has {display(place)}{more}")


def restore_all(
    paths: Sequence[str], context: Context, journal: Journal | None, *, only_look: bool
) -> list[Undone]:
    """The same of several. Raises Unknown before anything is restored, sqlite3.Error."""
    for path in paths:
        _newest(context.state, Path(os.path.abspath(os.path.expanduser(path))))
    return [restore_file(path, context, journal, only_look=only_look) for path in paths]
