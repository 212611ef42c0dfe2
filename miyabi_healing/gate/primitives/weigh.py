"""What a file or folder occupies, looked at without following a link."""

from __future__ import annotations

import math
import os
import stat
import time
from pathlib import Path

from miyabi_healing.support.files import used
from miyabi_healing.support.formatting import display

DEEPEST = 200  # one descriptor a level: nothing that a tool made by itself goes as deep
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def weigh(path: Path, deadline: float = math.inf) -> int:
    """The bytes that a file or folder takes on its own filesystem; 0 where it is gone. Raises
    OSError, TimeoutError.
    """
    try:
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            return used(status)
        folder = os.open(path, FOLDER_FLAGS)
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
            inside = os.open(name, FOLDER_FLAGS, dir_fd=folder)
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
