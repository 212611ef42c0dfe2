"""Giving logs back: an archived one as a file of its own, a shortened one in place, under its
writers.

Only the very file that was shortened is written to; an archived one whose name something else has
now is made beside it. A log that was punched gets its bytes back where they were; one that was
collapsed is widened at its front first (fallocate(2), FALLOC_FL_INSERT_RANGE), which appending
writers do not notice.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miyabi_healing.gate.handlers.log_files import aside
from miyabi_healing.gate.primitives.compression import unpack, verify
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.support import file_identity
from miyabi_healing.support.formatting import size_text


def top_of(entry: WrittenEntry) -> tuple[Path, Path]:
    return Path(entry.manifest["root"]), Path(entry.original)


def is_at(entry: WrittenEntry, folder: int, name: str, *, unchanged: bool = False) -> bool:
    """Whether a name stands for the log itself, by what lasts; `unchanged` asks for size and time
    too.

    They matter where the log was deleted: the next file that is made often gets its inode.
    """
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if found.st_ino != entry.manifest.get("identity", entry.manifest).get("inode"):
            return False
        same = file_identity.lasting_identity_at(folder, name).is_known_by(entry.manifest)
    except FileNotFoundError:
        return False
    return same and (
        not unchanged
        or (found.st_size, found.st_mtime_ns)
        == (entry.manifest["size"], entry.manifest["mtime_ns"])
    )


def is_back(entry: WrittenEntry, folder: int) -> bool:
    """Whether an earlier attempt came as far as giving the log a name: only then the one it had
    meanwhile is free.
    """
    published = entry.manifest.get("published") and not is_there(folder, aside(entry, "new"))
    return bool(published or entry.manifest.get("returning"))


def is_there(folder: int, name: str) -> bool:
    """Whether there is anything of that name, a link that leads nowhere included."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def no_room(folder: int, needed: int) -> str | None:
    space = os.fstatvfs(folder)
    free = (space.f_bavail if os.geteuid() else space.f_bfree) * space.f_frsize
    return (
        None if free > needed else f"it takes {size_text(needed)}, but {size_text(free)} are free"
    )


def unusable_entry(entry: WrittenEntry) -> str | None:
    """What is wrong with an archive; None where it is whole."""
    try:
        verify(entry.payload, entry.manifest)
    except FileNotFoundError:
        return "its archive is gone"
    except OSError as error:
        return f"its archive cannot be used: {error.strerror}"
    return None


def write_contents(descriptor: int, entry: WrittenEntry) -> None:
    """Write what was archived to where it was, but for its holes. Raises OSError, at the end where
    the archive is damaged.
    """
    position = entry.manifest["start"]
    for data in unpack(entry.payload, entry.manifest):
        end = position + len(data)
        at = position
        for start, stop in [*entry.manifest["holes"], (end, end)]:
            while at < min(start, end):
                at += os.pwrite(descriptor, data[at - position : min(start, end) - position], at)
            at = max(at, stop) if start < end else at
        position = end


# A log that was archived and deleted


def dress(descriptor: int, facts: Mapping[str, Any]) -> None:
    """Owner, mode, attributes and times as they were."""
    os.fchown(descriptor, facts["uid"], facts["gid"])
    os.fchmod(descriptor, facts["mode"])
    for name, value in facts["xattrs"].items():
        with contextlib.suppress(PermissionError):  # a security label that only the system may give
            os.setxattr(descriptor, name, bytes.fromhex(value))
    os.utime(descriptor, ns=(facts["atime_ns"], facts["mtime_ns"]))


# A log that was shortened
