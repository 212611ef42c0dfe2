"""Moving what was set aside back to where it was, with the folders that were there."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from miyabi_healing.gate.primitives.quarantine_locations import OPEN_LOCATION, PRIVATE_MODE
from miyabi_healing.gate.primitives.syscalls import rename_new
from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.support.files import open_beneath, open_root
from miyabi_healing.support.formatting import display

# ns; one rename stamps a folder and what was in it, at most a few ticks of the kernel's clock apart
SAME_MOMENT = 50_000_000


def _rename_back(inside: int, folder: int, name: str, thing: os.stat_result) -> None:
    """Rename a thing to where it was, never over anything; a folder may take the place of an empty
    one. Raises OSError.
    """
    try:
        rename_new(inside, "thing", folder, name)
    except FileExistsError:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not (stat.S_ISDIR(thing.st_mode) and stat.S_ISDIR(there.st_mode)):
            raise
        # rename(2) itself refuses one that is not empty
        os.rename("thing", name, src_dir_fd=inside, dst_dir_fd=folder)


def put_back(place: QuarantineEntry) -> None:
    """Undo `quarantine_path`, never over something that has taken the name meanwhile. Raises
    OSError; the thing then stays put.
    """
    move_back(place)
    discard(place)


def move_back(place: QuarantineEntry) -> None:
    """The same, but its place and manifest stay, for what else has to be done."""
    _make_folders_again(place)
    with open_beneath(Path(place.manifest["root"]), Path(place.original)) as (folder, name):
        left, parent = (
            place.manifest.get("left") or os.lstat(place.payload).st_ctime_ns,
            os.fstat(folder),
        )
        inside = os.open(place.folder, OPEN_LOCATION)
        try:
            _rename_back(inside, folder, name, os.lstat(place.payload))
        finally:
            os.close(inside)
        if times := place.manifest.get("parent_times"):
            set_times(folder, parent, left, times)
        os.fsync(folder)


def missing_folders(place: QuarantineEntry) -> list[Path]:
    """The folders on the way to where a thing was that are gone, the first one first."""
    return [each for each in reversed(Path(place.original).parents) if not os.path.lexists(each)]


def cannot_make_folders(place: QuarantineEntry) -> str | None:
    """Why the folders that a thing was in cannot be made again: their filesystem may only not be
    mounted now.
    """
    missing = missing_folders(place)
    if missing and os.lstat(missing[0].parent).st_dev != os.lstat(place.payload).st_dev:
        return f"{display(missing[0])} is gone, or its filesystem is not mounted"
    return None


def _make_folders_again(place: QuarantineEntry) -> None:
    """Make what is gone of the folders that a thing was in: ``git clean`` takes them away when they
    are empty. Raises OSError.

    They get the owner and the mode that the last of them had.
    """
    if not (missing := missing_folders(place)):
        return
    if reason := cannot_make_folders(place):
        raise OSError(errno.ENOENT, reason)
    folder = open_root(missing[0].parent)
    try:
        above = os.fstat(folder)
        mode, uid, gid = place.manifest.get("parent") or (
            stat.S_IMODE(above.st_mode),
            above.st_uid,
            above.st_gid,
        )
        for path in missing:
            os.mkdir(path.name, PRIVATE_MODE, dir_fd=folder)
            deeper = os.open(path.name, OPEN_LOCATION | os.O_NOFOLLOW, dir_fd=folder)
            # another user's folder, or a group that we are not in
            with contextlib.suppress(PermissionError):
                os.fchown(deeper, uid, gid)
            os.fchmod(deeper, mode)
            os.fsync(folder)
            os.close(folder)
            folder = deeper
    finally:
        os.close(folder)


def set_times(folder: int, before: os.stat_result, left: int, times: list[int]) -> None:
    """Give a folder the times it had before something was taken out of it, if that was the last
    thing done in it.
    """
    if abs(before.st_mtime_ns - left) < SAME_MOMENT:
        os.utime(folder, ns=(times[0], times[1]))


def discard(place: QuarantineEntry) -> None:
    """Take back a place that holds nothing (any more)."""
    for leftover in ("manifest.new", "manifest.json"):
        with contextlib.suppress(OSError):
            os.unlink(place.folder / leftover)
    with contextlib.suppress(OSError):
        os.rmdir(place.folder)
        os.rmdir(place.folder.parent)
