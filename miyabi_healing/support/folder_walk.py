"""All folders below one, for patterns with ``**``: bounded, never through a symbolic link, and not
into a mount before it has answered. Looks only.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from miyabi_healing.support import mount_answers
from miyabi_healing.support.formatting import display

# Filesystems in which nobody keeps files.
_KERNELS = frozenset(
    """proc sysfs cgroup cgroup2 devpts devtmpfs mqueue securityfs debugfs tracefs bpf nsfs configfs
    pstore fusectl binfmt_misc hugetlbfs efivarfs""".split()
)
_NO_SUBFOLDER = 2  # links of a folder: its name, and its own "."; each subfolder's ".." is one more
_ROUND = 256  # folders between two looks at the clock


@dataclass(frozen=True)
class Bounds:
    """How far a walk goes: so many folders, levels below the top, and seconds."""

    folders: int = 400_000
    levels: int = 24
    seconds: float = 15


USUAL_BOUNDS = Bounds()


@dataclass
class Looked:
    """One folder with all names in it. `enter` are the folders in it that the walk goes into next:
    whoever takes some away keeps it out of them; with `later`, after all others.
    """

    path: str
    level: int
    names: frozenset[str]
    enter: list[os.DirEntry[str]]
    later: bool


@dataclass
class FolderWalk:
    """The folders below `top`, and `top`, the upper ones first.

    After the walk: `stopped` is the bound at which it ended, empty where it came to its end; `shut`
    are folders that could not be read, `silent` mounts that do not answer.

    Among the `later` ones those without a subfolder, most are, are left out. That is told by their
    link count, on a filesystem that was seen to count links so (inode(7); btrfs does not).
    """

    top: str
    bounds: Bounds = USUAL_BOUNDS
    stopped: str = ""
    shut: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    looked_at: int = 0
    _counts_links: dict[int, bool] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Looked]:
        end = time.monotonic() + self.bounds.seconds
        if mount_answers.is_silent(self.top):
            self.silent.append(self.top)
            return
        try:
            status = os.stat(self.top)
        except OSError:
            return
        may_block = mount_answers.may_block()
        soon = deque([(self.top, 0, status.st_dev, status.st_nlink)])
        late: deque[tuple[str, int, int, int]] = deque()
        while soon or late:
            later = not soon
            path, level, device, links = (soon or late).popleft()
            if self.looked_at >= self.bounds.folders:
                self.stopped = f"{self.bounds.folders:,} folders"
                return
            if self.looked_at % _ROUND == 0 and time.monotonic() > end:
                self.stopped = f"{self.bounds.seconds:g} seconds"
                return
            self.looked_at += 1
            looked = self._look(path, level, device, links, later)
            if looked is None:
                continue
            yield looked
            if level >= self.bounds.levels and looked.enter:
                self.stopped = f"{self.bounds.levels} levels, as in {display(path)}"
                continue
            waiting = late if looked.later else soon
            counted = looked.later and self._counts_links.get(device, False)
            for entry in looked.enter:
                point = may_block and mount_answers.is_point(entry.path)
                if point and mount_answers.is_silent(entry.path):
                    self.silent.append(entry.path)
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:  # it is gone
                    continue
                if status.st_dev != device:
                    if not _holds_files(entry.path):
                        continue
                elif counted and status.st_nlink == _NO_SUBFOLDER:
                    continue
                waiting.append((entry.path, level + 1, status.st_dev, status.st_nlink))

    def _look(self, path: str, level: int, device: int, links: int, later: bool) -> Looked | None:
        try:
            with os.scandir(path) as scan:
                entries = list(scan)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            self.shut.append(path)
            return None
        inside = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        if inside and self._counts_links.get(device, True):
            self._counts_links[device] = links == _NO_SUBFOLDER + len(inside)
        names = frozenset([entry.name for entry in entries])
        return Looked(path, level, names, inside, later)


def _holds_files(point: str) -> bool:
    """Whether a mount is of a kind in which people have files."""
    from miyabi_healing.support import mount_table

    row = next((each for each in reversed(mount_table.mount_table()) if each.path == point), None)
    return row is None or row.kind not in _KERNELS
