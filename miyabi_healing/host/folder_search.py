"""Which of some open files lies in a folder, found by looking at all that is in it. Looks only.

For files whose path is not ours: a container has other mounts, and so another name for the same
file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from miyabi_healing.host.open_files import OpenFile
from miyabi_healing.host.ways import Way

_DEEPEST = 200  # one descriptor a level


def search_folder(
    folder: int, wanted: Mapping[tuple[int, int], OpenFile], way: Way, depth: int = 0
) -> OpenFile | None:
    """Whoever holds a folder or something in it, on its own filesystem, by device and inode. Raises
    OSError.
    """
    if depth > _DEEPEST:
        raise OSError(f"folders are nested more than {_DEEPEST} deep")
    status, several = os.fstat(folder), way.has_several_numbers
    found = wanted.get((status.st_dev, status.st_ino))
    if found and found.link != "maps":
        return found
    number = way.mount.device if way.mount else status.st_dev
    deeper = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                deeper.append(entry.name)
                continue
            # without a look at each: these are their own numbers
            device, inode = status.st_dev, entry.inode()
            if several:
                each = entry.stat(follow_symlinks=False)
                device, inode = each.st_dev, each.st_ino
            found = wanted.get((device, inode))
            if found and not (several and found.link == "maps"):
                return found
            # a mapping shows other numbers there: its name has to fit as well
            found = found or wanted.get((number, inode))
            if found and found.link == "maps" and os.path.basename(found.path) == entry.name:
                return found
    for name in deeper:
        try:
            inner = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
            )
        except FileNotFoundError:
            continue
        try:
            same = os.fstat(inner).st_dev == status.st_dev
            if same and (found := search_folder(inner, wanted, way, depth + 1)):
                return found
        finally:
            os.close(inner)
    return None
