"""One look at all that is in a folder: by descriptors, through no link, on its own filesystem, into
nothing that is mounted there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from miyabi_healing.host.space.folder_tree import Folder, Totals, prune
from miyabi_healing.host.space.places import Places
from miyabi_healing.host.space.subvolumes import is_snapshot
from miyabi_healing.support.tree_size import DEEPEST, READ_FOLDER

_ROUND = 64  # folders between two words about how far it is
_NAMES = 1 << 12  # names of one folder, for the same


class Stopped(Exception):
    """Somebody wants to know what is known so far."""


@dataclass
class Walk:
    """A look at folders of one filesystem, by its `device`; `points` are the folders that something
    is mounted on. `tell` hears of the progress, and may raise Stopped.

    Then: `unread` are folders that could not be read, `outside` those of other filesystems,
    `snapshots` those of btrfs, which have their blocks in common with what they were made of, and
    `kinds` how many folders there are of each well-known name, with their bytes and files.
    """

    device: int
    places: Places
    points: Collection[str] = ()
    tell: Callable[[str, Totals], None] = lambda path, totals: None
    totals: Totals = field(default_factory=Totals)
    unread: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    snapshots: list[str] = field(default_factory=list)
    kinds: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    _folders: int = 0
    _subvolumes: set[int] = field(default_factory=set)

    def is_inside(self, handle: int, status: os.stat_result, path: str) -> bool:
        """Whether an open folder is to be looked at; if not, it is noted why."""
        if status.st_dev == self.device or status.st_dev in self._subvolumes:
            return True
        snapshot = is_snapshot(handle, status)
        if snapshot is False:
            self._subvolumes.add(status.st_dev)
            return True
        (self.outside if snapshot is None else self.snapshots).append(path)
        return False

    def enter(self, parent: int, folder: Folder, path: str, depth: int) -> None:
        """Add what is in one folder, and in all below, by its name in an open one. Raises Stopped,
        after what was seen until then was added.
        """
        handle = self._open(folder, parent, folder.name, path)
        if handle is None:
            folder.files = folder.files if folder.at_least else 0
            return
        try:
            self.inside(handle, folder, path, depth)
        finally:
            os.close(handle)

    def inside(self, handle: int, folder: Folder, path: str, depth: int) -> None:
        """Add what is in an open folder, and in all below. Raises Stopped."""
        place = self.places.of(path, folder.name)
        try:
            self._inside(handle, folder, path, place is not None and place.whole, depth)
        finally:
            prune(folder, self.totals)
            if folder.name in self.places.names:
                one = {folder.name: (1, folder.rough_bytes, folder.rough_files)}
                add_kinds(self.kinds, one)

    def names(self, handle: int, folder: Folder, path: str) -> list[str]:
        """Add what lies directly in an open folder; returns the names of the folders in it. Raises
        Stopped, after what was seen until then was added.
        """
        deeper, size, count, largest = [], 0, 0, 0
        links, name, met = folder.links, "", 0
        try:
            with os.scandir(handle) as entries:
                for met, entry in enumerate(entries, 1):
                    if not met % _NAMES:
                        seen = Totals(self.totals.bytes + size * 512, self.totals.files + met)
                        self.tell(path, seen)
                    if entry.is_dir(follow_symlinks=False):
                        deeper.append(entry.name)
                        continue
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # somebody works there
                        continue
                    if status.st_nlink > 1:
                        inode = status.st_ino + (status.st_dev << 64)
                        links[inode] = status.st_blocks * 512
                        continue
                    blocks = status.st_blocks
                    size += blocks
                    count += 1
                    if blocks > largest:
                        largest, name = blocks, entry.name
        except OSError:
            self._not_read(folder, path)
        finally:
            folder.bytes += size * 512
            folder.files += count
            if largest * 512 > folder.largest[0]:
                folder.largest = largest * 512, name
            self.totals.bytes += size * 512
            self.totals.files += count
        return deeper

    def _inside(self, handle: int, folder: Folder, path: str, whole: bool, depth: int) -> None:
        self._folders += 1
        around = path.rstrip("/") + "/"
        try:
            if self._folders % _ROUND == 0:
                self.tell(path, self.totals)
            deeper = self.names(handle, folder, path)
            if deeper and depth >= DEEPEST:
                self._not_read(folder, path)
                return
            for name in deeper:
                below = around + name
                if below in self.points:
                    self.outside.append(below)
                elif whole:
                    self._add_to(folder, handle, name, below, depth + 1)
                else:
                    inner = Folder(name)
                    folder.below.append(inner)
                    self.enter(handle, inner, below, depth + 1)
        except Stopped:
            folder.at_least = True
            raise

    def _add_to(self, folder: Folder, parent: int, name: str, path: str, depth: int) -> None:
        """What is in a folder counts in the one around it, which is known as a whole."""
        handle = self._open(folder, parent, name, path)
        if handle is None:
            return
        try:
            folder.files += 1
            self._inside(handle, folder, path, True, depth)
        finally:
            os.close(handle)

    def _open(self, folder: Folder, parent: int, name: str, path: str) -> int | None:
        """Open a folder by its name in an open one, and count its own blocks in `folder`; None
        where it is gone, is on another filesystem, or cannot be read, which is noted.
        """
        try:
            handle = os.open(name, READ_FOLDER, dir_fd=parent)
        except FileNotFoundError:
            return None
        except OSError:
            self._not_read(folder, path)
            return None
        status = os.fstat(handle)
        if not self.is_inside(handle, status, path):
            os.close(handle)
            return None
        folder.bytes += status.st_blocks * 512
        self.totals.files += 1
        return handle

    def _not_read(self, folder: Folder, path: str) -> None:
        folder.at_least = True
        self.unread.append(path)


def add_kinds(
    kinds: dict[str, tuple[int, int, int]], more: Mapping[str, tuple[int, int, int]]
) -> None:
    """Add numbers of folders, bytes and files by name to others."""
    for name, found in more.items():
        count, size, files = kinds.get(name, (0, 0, 0))
        kinds[name] = count + found[0], size + found[1], files + found[2]
