"""The whole picture of what takes a filesystem's space: its largest folders, deleted files that are
open, snapshots, our own quarantine, and what none of these explains.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from miyabi_healing.host import filesystems
from miyabi_healing.host.open_files import OpenFiles, scan_open_files
from miyabi_healing.host.space.brief import quarantine_bytes, read_blocks
from miyabi_healing.host.space.deleted_files import deleted_files
from miyabi_healing.host.space.folder_tree import by_bytes, by_files
from miyabi_healing.host.space.largest import MOST_ROWS, largest_rows
from miyabi_healing.host.space.look import INTERRUPTED as INTERRUPTED
from miyabi_healing.host.space.look import look_at
from miyabi_healing.host.space.pieces import Look
from miyabi_healing.host.space.places import Places
from miyabi_healing.host.space.snapshots import snapshot_notes
from miyabi_healing.model.config import Config
from miyabi_healing.model.space import SpaceKind, SpacePicture, SpaceRow
from miyabi_healing.support.mount_table import mount_around


def whole_picture(
    path: str,
    settings: Config,
    opened: OpenFiles,
    tell: Callable[[str], None],
    *,
    count_files: bool = False,
    most: int = MOST_ROWS,
) -> SpacePicture:
    """All of a folder and what is below it on its filesystem, looked at to the end, or until
    somebody presses Ctrl-C. Raises OSError.

    `opened` is what processes have open; `tell` hears of the progress; `count_files` sorts by
    the number of files.
    """
    places = Places(settings.caches)
    look = look_at(path, places, tell)
    size = by_files if count_files else by_bytes
    rows = largest_rows(look.tree, places, opened.files, size, most)
    return _picture(look, rows, opened, count_files=count_files)


def _picture(
    look: Look, rows: tuple[SpaceRow, ...], opened: OpenFiles, *, count_files: bool
) -> SpacePicture:
    path, tree = look.path, look.tree
    mount = filesystems.read_mount(path)
    point = mount_around(path)
    whole = point is not None and point.path == path and point.root == "/"
    deleted, deleted_bytes = deleted_files(opened.files, mount.device)
    blocks = read_blocks(path)
    explained = tree.bytes + deleted_bytes
    return SpacePicture(
        path=path,
        filesystem=f"{point.kind}, {point.source}" if point else "",
        whole=whole,
        short="files" if count_files else "bytes",
        percent=mount.blocks_percent,
        inodes_percent=mount.inodes_percent,
        size=blocks.size,
        used=blocks.used,
        free=blocks.free,
        reserved=blocks.reserved,
        seen_bytes=tree.bytes,
        seen_files=tree.files,
        rows=rows,
        deleted=tuple(deleted),
        deleted_bytes=deleted_bytes,
        unseen=len(opened.unseen),
        quarantine_bytes=quarantine_bytes(mount.device),
        unexplained=max(0, blocks.used - explained) if whole and not look.stopped else None,
        unread=tuple(look.unread),
        outside=tuple(look.outside),
        snapshots=tuple(look.snapshots),
        kinds=tuple(
            SpaceKind(name=name, folders=count, bytes=size, files=files)
            for name, (count, size, files) in look.kinds.items()
            if count > 1
        ),
        notes=tuple(snapshot_notes(point) if point and not look.snapshots else ()),
        stopped=look.stopped,
    )


def open_files() -> OpenFiles:
    """What processes have open; nothing where that cannot be seen."""
    try:
        return scan_open_files()
    except OSError:
        return OpenFiles((), ())


def real_filesystems(settings: Config) -> list[str]:
    """Each that is measured, the fullest first; one that does not answer is among them."""

    def fullness(path: str) -> float:
        try:
            return filesystems.read_mount(path).percent
        except OSError:
            return math.inf

    return sorted(filesystems.mounts(settings.disk.mounts), key=lambda path: -fullness(path))
