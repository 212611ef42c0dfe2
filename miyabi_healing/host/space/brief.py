"""In short, for the report of a healing run: the largest folders of a full filesystem, and who has
deleted files of it open.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from miyabi_healing.host.filesystems import Mount
from miyabi_healing.host.open_files import OpenFile
from miyabi_healing.host.space.deleted_files import deleted_files
from miyabi_healing.model.config import Config
from miyabi_healing.model.space import SpaceRow
from miyabi_healing.support import mount_answers, paths
from miyabi_healing.support.formatting import display, size_text
from miyabi_healing.support.invocation import own_command
from miyabi_healing.support.mount_table import mount_around

_NAMED_DELETED = 5


@dataclass(frozen=True)
class Blocks:
    """A filesystem's own numbers, in bytes (statvfs(3))."""

    used: int
    free: int
    reserved: int
    size: int


def largest_folders(mount: Mount, settings: Config, files: Iterable[OpenFile]) -> dict[str, object]:
    """For the report of a healing run that was not enough: what a glance tells of a full
    filesystem, as rows of its details (report.schema.json).
    """
    from miyabi_healing.host.space.folder_tree import by_bytes, by_files
    from miyabi_healing.host.space.glance import Glance
    from miyabi_healing.host.space.largest import largest_rows
    from miyabi_healing.host.space.places import Places
    from miyabi_healing.host.space.snapshots import snapshot_notes

    short_of_files = mount.tight == "inodes"
    point = _top_of(mount)
    places = Places(settings.caches)
    glance = Glance(point, places, weigh=not short_of_files)
    size = by_files if short_of_files else by_bytes
    rows = largest_rows(glance.tree, places, tuple(files), size)
    most = read_blocks(point).used
    around = mount_around(point)
    notes = snapshot_notes(around) if around else []
    if glance.unread:
        first, count = display(glance.unread[0]), len(glance.unread)
        notes.append(f"{first}{f' and {count - 1} more' if count > 1 else ''} could not be read")
    if held := quarantine_bytes(mount.device):
        notes.append(f"in quarantine: {size_text(held)} ({own_command()} quarantine list)")
    facts = {
        "path": point,
        "by": "files" if short_of_files else "bytes",
        "entries": glance.entries,
        "whole": glance.is_whole,
        "notes": notes,
    }
    listed = [_facts(row, short_of_files, most) for row in rows]
    return {"largest_folders": listed, "glance": facts}


def _top_of(mount: Mount) -> str:
    """Where the filesystem is mounted that a path lies on: all of it counts, whatever folder was
    named.
    """
    path = os.path.realpath(mount.path)
    try:
        device = os.stat(path).st_dev
        while path != "/" and not mount_answers.is_silent(above := os.path.dirname(path)):
            if os.stat(above).st_dev != device:
                break
            path = above
    except OSError:
        pass
    return path


def _facts(row: SpaceRow, short_of_files: bool, most: int) -> dict[str, object]:
    facts: dict[str, object] = {
        "path": row.path, "bytes": row.bytes, "files": row.files,
        "verdict": row.verdict, "what": row.what, "at_least": row.at_least,
    }  # fmt: skip
    if row.estimate is not None:
        facts["estimate"] = row.estimate if short_of_files else min(row.estimate, most)
    if row.besides:
        facts["besides"] = True
    return facts


def deleted_rows(files: Iterable[OpenFile], device: int) -> list[dict[str, object]]:
    """Who holds deleted files of a filesystem open, the largest few, as rows of a report's
    details.
    """
    found, _all = deleted_files(files, device)
    return [
        {"name": each.name, "pid": each.pid, "bytes": each.bytes} for each in found[:_NAMED_DELETED]
    ]


def read_blocks(path: str) -> Blocks:
    status = os.statvfs(path)
    unit = status.f_frsize
    return Blocks(
        used=(status.f_blocks - status.f_bfree) * unit,
        free=status.f_bavail * unit,
        reserved=(status.f_bfree - status.f_bavail) * unit,
        size=status.f_blocks * unit,
    )


def quarantine_bytes(device: int) -> int:
    """What our own quarantine has on a filesystem."""
    from miyabi_healing.state import quarantine

    size = 0
    for held in quarantine.find_entries(paths.state_folder()):
        try:
            size += held.bytes if os.lstat(held.folder).st_dev == device else 0
        except OSError:
            continue
    return size
