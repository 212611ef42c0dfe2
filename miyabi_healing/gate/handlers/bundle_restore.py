"""Restoring logs that were archived together: all of them, or some by their names.

Nothing notes how far a restore has come. What is at a log's name tells it: the log itself, which
never left or was renamed back, or a file with its content, size and time. So a restore that was cut
short can be begun again. What something else has the name of comes beside it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from miyabi_healing.gate.handlers.log_files import aside
from miyabi_healing.gate.handlers.log_restore import dress, is_there, no_room, unusable_entry
from miyabi_healing.gate.primitives.compression import verify
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.gate.primitives.log_bundle import Row, read_file, read_list
from miyabi_healing.gate.primitives.quarantine_restore import set_times
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry, drop
from miyabi_healing.gate.primitives.syscalls import rename_new, sync_filesystem
from miyabi_healing.support import file_identity
from miyabi_healing.support.files import open_beneath
from miyabi_healing.support.formatting import display

# bytes of a log's name that one beside it begins with: a name has 255 at most (NAME_MAX)
_LONGEST_NAME = 180
_MOST_NAMED = 5


def bundle_objection(entry: WrittenEntry, context: Context) -> str | None:
    if "raw" not in entry.manifest:
        return None  # the archive was not finished, so no log was touched
    try:
        with _opened(entry) as folder:
            return unusable_entry(entry) or no_room(folder, entry.manifest["raw"])
    except (OSError, ValueError) as error:
        return f"its folder cannot be reached: {getattr(error, 'strerror', None) or error}"


def restore_bundle(entry: WrittenEntry, context: Context) -> str:
    """Make all logs of an archive again that are not there; returns where those are that are not
    where they were.
    """
    if "raw" not in entry.manifest:
        drop(entry)
        return ""
    told = restore_files(entry)
    drop(entry)
    return told


def would_be_beside(entry: WrittenEntry) -> str:
    """Words for a dry run, where something else has the name of some logs."""
    if "raw" not in entry.manifest:
        return ""
    try:
        with _opened(entry) as folder:
            taken = [
                row["name"]
                for _number, row in _missing(entry)
                if is_there(folder, row["name"]) and not _is_itself(folder, row["name"], row)
            ]
    except (OSError, ValueError):
        return ""
    return (
        f"something else has the name of {len(taken)} now, so they are made beside: {_some(taken)}"
        if taken
        else ""
    )


def restore_files(entry: WrittenEntry, only: Collection[str] | None = None) -> str:
    """The same of all, or of those named, whose names are noted in the manifest; the archive stays.
    Raises OSError.
    """
    verify(entry.payload, entry.manifest)
    with _opened(entry) as folder:
        parent = os.fstat(folder)
        places: dict[str, str] = {}
        fresh: list[tuple[str, Row]] = []
        for number, row in _missing(entry, only):
            name, gone = row["name"], aside(entry, f"gone.{number}")
            new = aside(entry, f"new.{number}")
            if is_there(folder, gone):
                places[name] = _rename_free(entry, folder, gone, row)
            elif (place := _where(entry, folder, row)) is not None:
                places[name] = place
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(new, dir_fd=folder)
            else:
                _write(entry, folder, new, row)
                fresh.append((new, row))
        _make_durable(folder, [new for new, _row in fresh])
        for new, row in fresh:
            places[row["name"]] = _rename_free(entry, folder, new, row)
        if only is None and len(times := entry.manifest.get("parent_times", [])) == 3:
            set_times(folder, parent, times[2], times[:2])
        os.fsync(folder)
    if only is not None:
        entry.write_manifest(restored=sorted({*entry.manifest.get("restored", ()), *places}))
    beside = [f"{name} as {place}" for name, place in places.items() if place != name]
    return (
        f"something else has the name of {len(beside)} now; beside it: {_some(beside)}"
        if beside
        else ""
    )


def has(entry: WrittenEntry, name: str) -> bool:
    """Whether an archive has a log. Raises OSError."""
    return next(_missing(entry, (name,)), None) is not None


@contextlib.contextmanager
def _opened(entry: WrittenEntry) -> Iterator[int]:
    """The folder that the logs were in. Raises OSError, ValueError."""
    with open_beneath(Path(entry.manifest["root"]), Path(entry.original, "any")) as (folder, _):
        yield folder


def _missing(entry: WrittenEntry, only: Collection[str] | None = None) -> Iterator[tuple[int, Row]]:
    """What of the list is to be restored, each with its number in it: not what stayed, nor, where
    all are asked for, what was restored before.
    """
    there = {*entry.manifest.get("stayed", ())}
    there |= set() if only is not None else {*entry.manifest.get("restored", ())}
    for number, row in enumerate(read_list(entry.payload, entry.manifest)):
        if row["name"] not in there and (only is None or row["name"] in only):
            yield number, row


def _where(entry: WrittenEntry, folder: int, row: Row) -> str | None:
    """The name at which a log is, if it is there: its own, or one beside."""
    return next(
        (
            name
            for name in (row["name"], *_beside(entry, row["name"], 2))
            if _is_itself(folder, name, row)
        ),
        None,
    )


def _is_itself(folder: int, name: str, row: Row) -> bool:
    """Whether a name stands for the log: the file that was measured, by what lasts, or one that was
    made of the archive.
    """
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            return False
        if found.st_ino == row["identity"]["inode"]:
            now, then = file_identity.lasting_identity_at(folder, name), row["identity"]
            # the next file that is made often gets its inode: the time of birth tells them apart
            if now.born and now.born == then.get("born_ns") and now.is_known_by(row):
                return True
        if (found.st_size, found.st_mtime_ns) != (row["size"], row["mtime_ns"]):
            return False
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        return False
    try:
        content = os.pread(descriptor, row["size"], 0)
    finally:
        os.close(descriptor)
    return bool(hashlib.sha256(content).hexdigest() == row["sha256"])


def _beside(entry: WrittenEntry, name: str, most: int = 1000) -> Iterator[str]:
    short = os.fsdecode(os.fsencode(name)[:_LONGEST_NAME])
    for number in range(1, most):
        yield f"{short}.restored-{entry.run}" + (f".{number}" if number > 1 else "")


def _rename_free(entry: WrittenEntry, folder: int, old: str, row: Row) -> str:
    """Rename to a name that nothing has: the log's own or, where that is taken, one beside it.
    Returns it.
    """
    for place in (row["name"], *_beside(entry, row["name"])):
        with contextlib.suppress(FileExistsError):
            rename_new(folder, old, folder, place)
            return str(place)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), row["name"])


def _write(entry: WrittenEntry, folder: int, new: str, row: Row) -> None:
    """Make a log anew under a name of our own."""
    content = read_file(entry.payload, row)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, 0o600, dir_fd=folder)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        dress(descriptor, row)
    finally:
        os.close(descriptor)


def _make_durable(folder: int, names: Collection[str]) -> None:
    """Have files on disk before they get their names; once for all, then each is asked whether it
    is there.
    """
    if len(names) > 1:
        sync_filesystem(folder)
    for name in names:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _some(names: Collection[str]) -> str:
    some = ", ".join(display(each) for each in [*names][:_MOST_NAMED])
    return some + (", …" if len(names) > _MOST_NAMED else "")
