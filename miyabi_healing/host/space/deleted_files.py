"""Files that have no name any more and still take space, because a process has them open: ``df``
counts them, ``du`` finds none.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from miyabi_healing.host.open_files import OpenFile, told_by
from miyabi_healing.model.space import DeletedFiles
from miyabi_healing.support import mount_answers
from miyabi_healing.support.files import used


def deleted_files(files: Iterable[OpenFile], device: int) -> tuple[list[DeletedFiles], int]:
    """Who holds deleted files of a filesystem open, and how many bytes that keeps taken, the
    largest first; and the bytes of all, a file that several processes have open once.
    """
    holders = {(each.pid, each.name) for each in files if each.device == device}
    every: dict[int, int] = {}
    rows = []
    for pid, name in holders:
        found = _of_process(pid, device)
        every.update(found)
        if size := sum(found.values()):
            rows.append(DeletedFiles(name=name, pid=pid, bytes=size))
    rows.sort(key=lambda row: (-row.bytes, row.pid))
    return rows, sum(every.values())


def _of_process(pid: int, device: int) -> dict[int, int]:
    """The deleted files that a process has open on a device: bytes by inode."""
    found: dict[int, int] = {}
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                if not os.readlink(f"{folder}/{name}").endswith(" (deleted)"):
                    continue
                if mount_answers.behind(
                    f"{folder}/{name}", told_by(f"/proc/{pid}/fdinfo/{name}")[1]
                ):
                    continue
                status = os.stat(f"{folder}/{name}")
                if status.st_dev == device and status.st_nlink == 0:
                    found[status.st_ino] = used(status)
    return found
