"""What a file or folder occupies, looked at without following a link."""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Mapping
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
    try:
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            return used(status)
        folder = os.open(path, READ_FOLDER)
    except FileNotFoundError:
        return 0  # the gate looks again, and says so
    try:
        return weigh_inside(folder, os.fstat(folder).st_dev, set(), deadline, 0)
    finally:
        os.close(folder)


def weigh_inside(folder: int, device: int, seen: set[int], deadline: float, depth: int) -> int:
    """The bytes that is in an open folder. A file with several names counts once: `seen` has those
    met already.
    """
    if depth > DEEPEST:
        raise OSError(f"folders are nested more than {DEEPEST} deep")
    if time.monotonic() > deadline:
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
            elif status.st_ino not in seen:
                seen.add(status.st_ino)
                size += status.st_blocks * 512
    for name in deeper:
        try:
            inside = os.open(name, READ_FOLDER, dir_fd=folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OSError(f"{display(name)}: {error.strerror}") from None
        try:
            if os.fstat(inside).st_dev == device:
                size += weigh_inside(inside, device, seen, deadline, depth + 1)
        finally:
            os.close(inside)
    return size


@dataclass(frozen=True)
class Cost:
    """What a step counts for. `files` are those deleted, and one for each other thing that is done
    to a file or by a command.

    `kept` are the bytes that it adds to the quarantine, None for a step that sets nothing aside;
    `sizes` has what was measured of each folder or file that goes there as it is.
    """

    files: int = 0
    bytes: int = 0
    worktrees: int = 0
    processes: frozenset[tuple[int, int]] = frozenset()
    kept: int | None = None
    sizes: Mapping[Path, int] = field(default_factory=dict)
