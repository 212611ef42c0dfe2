"""Deleting what its tool makes again: through directory descriptors alone, so that no swapped link
leads anywhere else.

Every name is opened with O_NOFOLLOW relative to a descriptor that was checked; nothing on another
filesystem is entered.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.gate.handlers.handler import Irreversible, StepHandler
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, TargetUse
from miyabi_healing.gate.primitives.room import Room, came_back, nothing_came_back
from miyabi_healing.gate.primitives.roots import root_of
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host import cache_deletion, caches
from miyabi_healing.host.open_files import OpenFile, OpenFiles
from miyabi_healing.model.identity import Identity
from miyabi_healing.model.steps import Delete, Unit
from miyabi_healing.support.files import mount_number, open_beneath, used
from miyabi_healing.support.formatting import display
from miyabi_healing.support.tree_size import DEEPEST, READ_FOLDER


@dataclass
class Tally:
    """What was deleted and what would not go. `helped`: two are at it already; `stop` ends a helper
    between two names.

    So does the `deadline` (time.monotonic) for everybody.
    """

    files: int = 0
    freed: int = 0
    left: list[str] = field(default_factory=list)
    helped: bool = False
    stop: bool = False
    deadline: float = math.inf


def judge_units(step: Delete, files: OpenFiles) -> list[tuple[Unit, str | None]]:
    """What speaks against deleting each unit, all of them looked at afresh; None where nothing
    does.
    """
    there = [unit for unit in step.units if os.path.lexists(unit.path)]
    weighed = caches.weigh_all(
        (each.path for each in there), step.root, os.lstat(step.root).st_dev, files
    )
    now = {unit.path: (unit, holder) for unit, holder in weighed}
    return [(unit, _objection(unit, *now.get(unit.path, (None, None)))) for unit in there]


def _objection(unit: Unit, found: Unit | None, holder: OpenFile | None) -> str | None:
    name = display(unit.path.name)
    if found is None:
        return f"{name} cannot be looked at (any more)"
    # or a healer said less than it is, which budgets count by
    grown = found.files > unit.files or found.bytes > unit.bytes
    if grown or not found.identity.unchanged(unit.identity) or found.newest > unit.newest:
        return f"{name} changed since it was measured"
    return f"{name} is in use by {holder.name} (pid {holder.pid})" if holder else None


@contextlib.contextmanager
def _owner_locked(root: Path, locks: tuple[Path, ...]) -> Iterator[None]:
    """Hold the locks of the cache's owner, those that exist. Raises Refused while the owner holds
    one.
    """
    with contextlib.ExitStack() as held:
        for path in locks:
            try:
                with open_beneath(root, path) as (folder, name):
                    descriptor = os.open(
                        name,
                        os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                        dir_fd=folder,
                    )
            except FileNotFoundError:
                continue
            held.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused("the cache is locked by its owner") from None
        yield


def write_manifest(step: Delete, context: Context) -> str:
    """Note what is about to be deleted. On a full disk the deletion goes on without: it is what
    makes room.
    """
    folder = context.state / "manifests"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{context.run_id}-{len(os.listdir(folder)):04}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            for unit in step.units:
                file.write(
                    json.dumps({"path": str(unit.path), "files": unit.files, "bytes": unit.bytes})
                    + "\n"
                )
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"not written: {error.strerror}"
    return display(path)


def remove_all(root: Path, units: Sequence[Unit], tally: Tally) -> None:
    for unit in units:
        try:
            remove_unit(root, unit, tally)
        except OSError as error:
            tally.left.append(f"{display(unit.path)}: {error.strerror or error}")


def remove_unit(root: Path, unit: Unit, tally: Tally) -> None:
    """Delete one unit, if it still is the one that was measured. Raises OSError where it is not."""
    with open_beneath(root, unit.path) as (folder, name):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not Identity.of(status).unchanged(unit.identity):
            raise OSError("it was replaced since it was measured")
        remove_name(folder, name, status, tally)


def _open_to_owner(folder: int) -> None:
    """Let its owner delete in a folder, as go closes those of modules even to them; it goes
    itself.
    """
    status = os.fstat(folder)
    if not status.st_mode & stat.S_IWUSR and status.st_uid == os.geteuid():
        os.fchmod(folder, stat.S_IMODE(status.st_mode) | stat.S_IRWXU)


def remove_name(
    folder: int, name: str, status: os.stat_result, tally: Tally, depth: int = 0
) -> None:
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=folder)
        tally.files += 1
        tally.freed += used(status) if status.st_nlink == 1 else 0
        return
    if depth > DEEPEST:
        raise OSError(f"folders are nested more than {DEEPEST} deep")
    inside = os.open(name, READ_FOLDER, dir_fd=folder)
    try:
        if mount_number(inside) != mount_number(folder):
            raise OSError(f"{display(name)} is another filesystem, or mounted here")
        _open_to_owner(inside)
        with os.scandir(inside) as entries:
            kinds = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        names = sorted(kinds)
        # files first: a mark of completeness (.cargo-ok) has to go before what it vouches for,
        # should we be killed
        _remove_names(inside, [each for each in names if not kinds[each]], tally, depth)
        _remove_folders(inside, [each for each in names if kinds[each]], tally, depth)
    finally:
        os.close(inside)
    with contextlib.suppress(OSError):  # what would not go is noted already
        os.rmdir(name, dir_fd=folder)


def _remove_names(folder: int, names: Sequence[str], tally: Tally, depth: int) -> None:
    for name in names:
        if tally.stop or time.monotonic() > tally.deadline:
            return
        try:
            remove_name(
                folder, name, os.stat(name, dir_fd=folder, follow_symlinks=False), tally, depth + 1
            )
        except FileNotFoundError:
            continue
        except OSError as error:
            tally.left.append(f"{display(name)}: {error.strerror or error}")


def _remove_folders(folder: int, names: Sequence[str], tally: Tally, depth: int) -> None:
    """Delete folders, half of them in a second thread: deleting is the kernel's work, and no two
    folders share a lock there.
    """
    if tally.helped or len(names) < 2 or os.cpu_count() == 1:
        _remove_names(folder, names, tally, depth)
        return
    from concurrent.futures import ThreadPoolExecutor

    helper, tally.helped = Tally(helped=True, deadline=tally.deadline), True
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(_remove_names, folder, names[1::2], helper, depth)
        try:
            _remove_names(folder, names[::2], tally, depth)
            other.result()
        finally:
            # where we were interrupted: it has to be out of the folder before that is closed
            helper.stop = True
    tally.helped = False
    tally.files, tally.freed = tally.files + helper.files, tally.freed + helper.freed
    tally.left += helper.left


def _not_disposable(step: Delete, context: Context) -> str | None:
    """Why nothing may be deleted there, whatever a healer plans; None where it may."""
    reason = cache_deletion.delete_objection(step, context.host.config)
    if reason != cache_deletion.NOT_DISPOSABLE:
        return reason
    from miyabi_healing.host.git import droppable

    return droppable.delete_objection(step, context.host.config)


class DeleteHandler(StepHandler[Delete]):
    """Deleting what its tool makes again."""

    step_type = Delete
    after_crash = "what was deleted stays deleted: its tool makes it again"
    next_run = after_crash
    undo = Irreversible(
        "its tool makes it again; what it was is listed in the state folder's manifests"
    )

    def target_use(self, step: Delete) -> TargetUse:
        return TargetUse(
            (step.root,), tuple(unit.path for unit in step.units), judged=True
        )  # unit by unit

    def recheck(self, step: Delete, context: Context) -> str | None:
        if root_of(step.root, context.roots) is None:
            return "outside the allowed roots"
        if reason := _not_disposable(step, context):
            return reason
        if any(
            not unit.path.is_relative_to(step.root) or ".." in unit.path.parts
            for unit in step.units
        ):
            return "a unit lies outside the cache"
        objections = [reason for _unit, reason in judge_units(step, context.witness.files)]
        return None if None in objections else next(iter(objections), "it is gone already")

    def apply(self, step: Delete, context: Context) -> StepResult:
        root = root_of(step.root, context.roots)
        assert root is not None  # recheck has just said so
        with _owner_locked(root, step.locks):
            judged = judge_units(step, context.host.witness().files)
            manifest = write_manifest(step, context)
            tally = Tally()
            tally.left += [reason for _unit, reason in judged if reason]
            room = Room.at(step.root)
            remove_all(root, [unit for unit, reason in judged if not reason], tally)
        if tally.left and not tally.files:
            raise Refused(f"nothing could be deleted: {'; '.join(tally.left[:3])}")
        details: dict[str, object] = {"files_deleted": tally.files, "manifest": manifest}
        if tally.left:
            details["not_deleted"] = tally.left[:20]
        gain = room.gained(tally.freed)
        stop = nothing_came_back(tally.freed, gain)
        left = f"{len(tally.left)} left" if tally.left else ""
        return StepResult(
            freed=came_back(tally.freed, gain),
            message="; ".join(filter(None, (left, stop))),
            details=details,
            in_vain=bool(stop),
            stop=stop,
        )

    def cost(self, step: Delete, deadline: float) -> Cost:
        """As its parts say: before it deletes them, the gate weighs them, and refuses one that is
        more than it says.
        """
        return Cost(
            files=step.files, bytes=max(step.bytes, sum(unit.bytes for unit in step.units), 0)
        )
