"""Restoring a log that was archived: under its name, or beside what has that name now."""

from __future__ import annotations

import contextlib
import errno
import os

from miyabi_healing.gate.handlers.log_files import aside
from miyabi_healing.gate.handlers.log_restore import (
    dress,
    is_at,
    is_back,
    is_there,
    no_room,
    top_of,
    unusable_entry,
    write_contents,
)
from miyabi_healing.gate.primitives.compression import verify
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.gate.primitives.quarantine_restore import set_times
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry, drop
from miyabi_healing.gate.primitives.syscalls import rename_new
from miyabi_healing.support.files import open_beneath
from miyabi_healing.support.formatting import display

# bytes of a log's name that one beside it begins with: a name has 255 at most (NAME_MAX)
_LONGEST_NAME = 180


def archive_objection(entry: WrittenEntry, context: Context) -> str | None:
    if "raw" not in entry.manifest:
        return None  # the archive was not finished, so the log was not touched
    top, original = top_of(entry)
    try:
        with open_beneath(top, original) as (folder, name):
            # it was cut short before the log itself was deleted
            if is_there(folder, aside(entry, "gone")):
                return None
            if is_at(entry, folder, name, unchanged=True) or is_back(entry, folder):
                return None
            return unusable_entry(entry) or no_room(folder, entry.manifest["raw"])
    except (OSError, ValueError) as error:
        return f"its folder cannot be reached: {getattr(error, 'strerror', None) or error}"


def restore_archive(entry: WrittenEntry, context: Context) -> str:
    """Make the log again; returns where it is, if that is not where it was."""
    if "raw" not in entry.manifest:
        drop(entry)
        return ""
    top, original = top_of(entry)
    with open_beneath(top, original) as (folder, name):
        _put_other_back(entry, folder, name)
        parent, gone = os.fstat(folder), aside(entry, "gone")
        if is_there(folder, gone):
            entry.write_manifest(returning=True)
            place = _rename_free(entry, folder, gone, name)
        elif is_at(entry, folder, name, unchanged=True):
            place = name
        elif is_back(entry, folder):
            place = str(entry.manifest.get("place", name))
        else:
            place = _publish(entry, folder, name)
            if len(times := entry.manifest.get("parent_times", [])) == 3:
                set_times(folder, parent, times[2], times[:2])
        os.fsync(folder)
    drop(entry)
    return (
        ""
        if place == name
        else f"something else is at {display(original)} now; it is beside it, as {display(place)}"
    )


def would_be_beside(entry: WrittenEntry) -> str:
    """Words for a dry run, where something else has the log's name."""
    if (
        "raw" not in entry.manifest
        or not os.path.lexists(entry.original)
        or entry.manifest.get("published")
    ):
        return ""
    found = os.lstat(entry.original)
    if (found.st_size, found.st_mtime_ns) == (entry.manifest["size"], entry.manifest["mtime_ns"]):
        return ""  # most likely itself: it was not deleted yet
    return f"something else is at {display(entry.original)} now, so it is made beside it"


def _put_other_back(entry: WrittenEntry, folder: int, name: str) -> None:
    """What an earlier version had moved away from the log's name when it was cut short gets that
    name again.
    """
    with contextlib.suppress(FileNotFoundError, FileExistsError):
        rename_new(folder, aside(entry, "since"), folder, name)


def _rename_free(entry: WrittenEntry, folder: int, old: str, name: str) -> str:
    """Rename to a name that nothing has: the log's own or, where that is taken, one beside it.
    Returns it.
    """
    short = os.fsdecode(os.fsencode(name)[:_LONGEST_NAME])
    for number in range(1000):
        beside = f"{short}.restored-{entry.run}" + (f".{number}" if number > 1 else "")
        place = beside if number else name
        entry.write_manifest(place=place)
        with contextlib.suppress(FileExistsError):
            rename_new(folder, old, folder, place)
            return place
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _publish(entry: WrittenEntry, folder: int, name: str) -> str:
    """Make the log anew under a name of our own, and only when it is whole give it its name.
    Returns that.
    """
    fresh = aside(entry, "new")
    verify(entry.payload, entry.manifest)
    entry.write_manifest(published=False)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh, dir_fd=folder)
    descriptor = os.open(
        fresh,
        os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
        dir_fd=folder,
    )
    try:
        write_contents(descriptor, entry)
        os.ftruncate(descriptor, entry.manifest["size"])
        dress(descriptor, entry.manifest)
        os.fsync(descriptor)
        entry.write_manifest(published=True)
    finally:
        os.close(descriptor)
    return _rename_free(entry, folder, fresh, name)
