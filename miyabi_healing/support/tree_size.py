"""What files and folders occupy, looked at without following a link."""

from __future__ import annotations

import math
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.support.files import used
from miyabi_healing.support.formatting import display

DEEPEST = 200  # one descriptor a level: nothing that a tool made by itself goes as deep
READ_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def weigh_tree(path: Path, deadline: float = math.inf) -> int:
    """The bytes that a file or folder takes on its own filesystem; 0 where it is gone. Raises
    OSError, TimeoutError.
    """
    return Scales(deadline).weigh(path)


@dataclass
class Scales:
    """What weighs files and folders, one after the other, until `deadline` (time.monotonic). A file
    with several names counts once, also where they lie in several of them.

    `apart` are folders, by device and inode, that do not count where they lie in another one. With
    `go_on`, what cannot be read is noted in `unread`, and the rest counts.
    """

    deadline: float = math.inf
    apart: frozenset[tuple[int, int]] = frozenset()
    go_on: bool = False
    unread: list[str] = field(default_factory=list)
    _met: dict[int, set[int]] = field(default_factory=dict)

    def weigh(self, path: Path) -> int:
        """The bytes of a file or folder on its own filesystem. Raises OSError, TimeoutError."""
        try:
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode):
                return used(status)
            folder = os.open(path, READ_FOLDER)
        except FileNotFoundError:
            return 0  # whoever acts on it looks again, and says so
        try:
            device = os.fstat(folder).st_dev
            return self._inside(folder, device, self._met.setdefault(device, set()), 0)
        finally:
            os.close(folder)

    def _inside(self, folder: int, device: int, met: set[int], depth: int) -> int:
        """The bytes that are in an open folder."""
        if depth > DEEPEST:
            raise OSError(f"folders are nested more than {DEEPEST} deep")
        if time.monotonic() > self.deadline:
            raise TimeoutError("the time is over")
        size, deeper = 0, []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    deeper.append(entry.name)
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # somebody works there
                    continue
                if status.st_nlink == 1:
                    size += status.st_blocks * 512
                elif status.st_ino not in met:
                    met.add(status.st_ino)
                    size += status.st_blocks * 512
        for name in deeper:
            try:
                inside = os.open(name, READ_FOLDER, dir_fd=folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                if self.go_on:
                    self.unread.append(_path_of(folder, name))
                    continue
                raise OSError(f"{display(name)}: {error.strerror}") from None
            try:
                found = os.fstat(inside)
                if found.st_dev == device and (device, found.st_ino) not in self.apart:
                    size += self._inside(inside, device, met, depth + 1)
            finally:
                os.close(inside)
        return size


def _path_of(folder: int, name: str) -> str:
    """Where a name in an open folder is (proc_pid_fd(5)); the name alone without /proc."""
    try:
        return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
    except OSError:
        return name
