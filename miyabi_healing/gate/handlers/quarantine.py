"""Quarantine: a rename on the same filesystem, verified, undone by renaming back."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from miyabi_healing.gate.handlers.handler import (
    TAKEN_BACK,
    UNTOUCHED,
    Restorable,
    StepHandler,
    Undo,
)
from miyabi_healing.gate.primitives import quarantine_restore, quarantine_writer
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, TargetUse
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.gate.primitives.roots import root_of
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host.users import words
from miyabi_healing.model.steps import Quarantine
from miyabi_healing.support.files import identity_at, open_beneath
from miyabi_healing.support.formatting import display
from miyabi_healing.support.tree_size import weigh_tree


def _used_by_now(place: WrittenEntry, context: Context) -> str | None:
    """Who was at it at the last moment: now that it has no name any more where people look, nobody
    else can come.
    """
    try:
        user = context.host.witness().user(place.payload)
    except OSError as error:
        return f"who uses it could not be told at the last moment: {error.strerror or error}"
    return f"in use at the last moment, {words(user)}" if user else None


def cannot_go_back(entry: WrittenEntry, context: Context) -> str | None:
    """Why a thing cannot be renamed back to where it came from; None where it can, or never
    left.
    """
    here, there = os.path.lexists(entry.payload), os.path.lexists(entry.original)
    if (
        here
        and there
        and not (_is_real_folder(entry.payload) and _is_empty_folder(Path(entry.original)))
    ):
        return f"something else is at {display(entry.original)} now"
    if not here:
        return None if there else f"it is neither in quarantine nor at {display(entry.original)}"
    try:
        if quarantine_restore.missing_folders(entry):
            return quarantine_restore.cannot_make_folders(entry)
        with open_beneath(Path(entry.manifest["root"]), Path(entry.original)):
            return None
    except (OSError, ValueError) as error:
        return f"its folder cannot be reached: {getattr(error, 'strerror', None) or error}"


def _is_real_folder(path: Path) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _is_empty_folder(path: Path) -> bool:
    """Whether a folder holds nothing, and is one itself: what a tool left behind or made anew is no
    loss.
    """
    try:
        with os.scandir(path) as entries:
            return not path.is_symlink() and next(entries, None) is None
    except OSError:
        return False


def move_payload_back(entry: WrittenEntry, context: Context) -> None:
    """Rename it back, if it is here. Raises OSError."""
    if os.path.lexists(entry.payload):
        quarantine_restore.put_back(entry)
    else:
        quarantine_restore.discard(entry)


class QuarantineHandler(StepHandler[Quarantine]):
    """Setting a file or folder aside."""

    step_type = Quarantine
    after_crash = UNTOUCHED
    next_run = TAKEN_BACK
    undo = Restorable({"quarantine": Undo(cannot_go_back, move_payload_back)})

    def target_use(self, step: Quarantine) -> TargetUse:
        return TargetUse((step.path,))

    def recheck(self, step: Quarantine, context: Context) -> str | None:
        if root_of(step.path, context.roots) is None:
            return "outside the allowed roots"
        try:
            found = identity_at(step.path)
        except FileNotFoundError:
            return "it is gone already"
        return None if found == step.identity else "it changed since it was measured"

    def apply(self, step: Quarantine, context: Context) -> StepResult:
        root = root_of(step.path, context.roots)
        assert root is not None  # recheck has just said so
        place = quarantine_writer.quarantine_path(
            context, root, step.path, step.identity, step.kind
        )
        if late := _used_by_now(place, context):
            quarantine_restore.put_back(place)
            raise Refused(late)
        return StepResult(
            details={"quarantined": display(place.payload)}, undo={"entry": str(place.folder)}
        )

    def cost(self, step: Quarantine, deadline: float) -> Cost:
        size = weigh_tree(step.path, deadline)
        return Cost(files=1, bytes=max(size, step.bytes), kept=size, sizes={step.path: size})
