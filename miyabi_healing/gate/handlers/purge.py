"""Purging: deleting for good what has waited in quarantine for its time.

The entry is marked first: what is half deleted must never be given back. A purge that was cut short
is finished later.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from miyabi_healing.gate.handlers.delete import Tally, remove_name
from miyabi_healing.gate.handlers.handler import Irreversible, StepHandler, Undo
from miyabi_healing.gate.primitives import quarantine_locations, quarantine_restore
from miyabi_healing.gate.primitives.context import Context, StepResult, TargetUse
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.gate.primitives.room import Room, came_back, nothing_came_back
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.model.steps import Purge
from miyabi_healing.state import quarantine
from miyabi_healing.support.files import identity_at
from miyabi_healing.support.formatting import display
from miyabi_healing.support.tree_size import weigh_tree


def empty(
    entry: WrittenEntry, context: Context, forget: Callable[[WrittenEntry, Context], None]
) -> tuple[int, list[str]]:
    """Delete an entry; returns the bytes freed and what would not go. Raises OSError, ToolError."""
    for each in (entry.folder.parent.parent, entry.folder.parent, entry.folder):
        quarantine_locations.private_folder(each)
    if not entry.manifest.get("purging"):
        entry.write_manifest(purging=True)
    forget(entry, context)
    tally = Tally(deadline=context.deadline)
    folder = os.open(entry.folder, quarantine_locations.OPEN_LOCATION | os.O_NOFOLLOW)
    try:
        remove_name(folder, "thing", os.stat("thing", dir_fd=folder, follow_symlinks=False), tally)
    except FileNotFoundError:
        pass
    finally:
        os.close(folder)
    if os.path.lexists(entry.payload):
        if time.monotonic() > context.deadline:
            return tally.freed, [
                *tally.left,
                f"the time is over; {tally.files} file(s) of it are gone, the next run goes on",
            ]
        return tally.freed, tally.left or [f"{display(entry.payload)}: it is not empty"]
    quarantine_restore.discard(entry)
    return tally.freed, []


class PurgeHandler(StepHandler[Purge]):
    """Deleting for good what has waited in quarantine."""

    step_type = Purge
    after_crash = "what is left of it is in quarantine"
    next_run = "a run that may change something finishes it"
    undo = Irreversible("it was deleted for good")

    def __init__(self, undo_of: Callable[[str], Undo | None]) -> None:
        """`undo_of` knows how each kind of entry is restored, and so what else goes with it."""
        self._undo_of = undo_of

    def _forget(self, entry: WrittenEntry, context: Context) -> None:
        if undo := self._undo_of(entry.kind):
            undo.forget(entry, context)

    def target_use(self, step: Purge) -> TargetUse:
        return TargetUse()  # what nobody could reach any more is all that is ever purged

    def recheck(self, step: Purge, context: Context) -> str | None:
        if step.folder.parent.parent not in quarantine.locations(context.state):
            return "it is not in a quarantine of ours"
        if step.folder.parent.name == context.run_id:
            return "it was set aside in this run"
        try:
            found = identity_at(step.folder)
        except FileNotFoundError:
            return "it is gone already"
        if not found.same_file(step.identity):
            return "it was replaced since it was measured"
        held = quarantine.read_entry(step.folder)
        return None if held.manifest else held.damage or "it has no manifest"

    def apply(self, step: Purge, context: Context) -> StepResult:
        room = Room.at(step.folder.parent.parent)
        freed, left = empty(WrittenEntry.at(step.folder), context, self._forget)
        if left:
            raise OSError(f"{len(left)} thing(s) would not go: {left[0]}")
        gain = room.gained(freed)
        stop = nothing_came_back(freed, gain)
        return StepResult(freed=came_back(freed, gain), message=stop, stop=stop)

    def cost(self, step: Purge, deadline: float) -> Cost:
        return Cost(files=1, bytes=max(weigh_tree(step.folder / "thing", deadline), step.bytes))

    def resume(self, target: str, context: Context) -> str:
        """Finish a purge that was cut short: its entry is named by the step's target. Returns what
        became of it. Raises OSError.
        """
        for base in quarantine.locations(context.state):
            entry = WrittenEntry.at(base / target)
            if entry.manifest.get("purging"):
                left = empty(entry, context, self._forget)[1]
                return "finished" if not left else f"{len(left)} thing(s) would not go: {left[0]}"
            if (
                entry.folder.is_dir()
                and not entry.manifest
                and not entry.damage
                and not os.path.lexists(entry.payload)
            ):
                quarantine_restore.discard(entry)
                return "finished"
        return "nothing was left to do"
