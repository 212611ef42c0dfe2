"""Files that are kept in memory (tmpfs(5)): how much they take, and where. Looks only.

No program's memory explains these: a file in /dev/shm or /tmp stays when its writer has gone. A
tmpfs answers at once, but what is mounted over its folder may not; that is never asked.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from miyabi_healing.host.process_status import PROC
from miyabi_healing.support import mount_answers
from miyabi_healing.support.formatting import size_text

_KINDS = (b" - tmpfs ", b" - devtmpfs ")
Taken = tuple[int, str, int]  # the bytes of its files, where it is mounted, its device


@dataclass(frozen=True)
class TmpfsUse:
    """All that we can see, each once, the largest first; and the host's memory in bytes."""

    mounts: tuple[Taken, ...]
    total: int

    @property
    def percent(self) -> float:
        return 100 * sum(taken for taken, _, _ in self.mounts) / self.total

    @property
    def words(self) -> str:
        taken = size_text(sum(each for each, _, _ in self.mounts))
        return f"Files in tmpfs take {taken}, {self.percent:.1f} % of the memory"

    def users(self) -> list[dict[str, object]]:
        """The largest of them with what is in each, at most five."""
        from miyabi_healing.host import memory_rows

        return memory_rows.tmpfs_rows(self.mounts)


def read_mounts() -> tuple[Taken, ...]:
    """Every tmpfs that is mounted where we can see it; none where there is no /proc."""
    try:
        lines = (PROC / "self" / "mountinfo").read_bytes().splitlines()
    except OSError:
        return ()
    found: dict[int, Taken] = {}
    for line in lines:
        if not any(kind in line for kind in _KINDS):
            continue
        device, path = _device_and_path(line)
        if device in found or mount_answers.is_silent(path):
            continue
        try:
            if os.stat(path).st_dev != device:
                continue  # another filesystem is mounted over it
            status = os.statvfs(path)
        except OSError:
            continue
        taken = (status.f_blocks - status.f_bfree) * status.f_frsize
        found[device] = taken, path, device
    return tuple(sorted(found.values(), reverse=True))


def _device_and_path(line: bytes) -> tuple[int, str]:
    """Of a row of proc_pid_mountinfo(5)."""
    if b"\\" in line:  # almost never, and all that is needed to undo it is much to load
        from miyabi_healing.support.mount_table import parse_mount

        row = parse_mount(line)
        return row.device, row.path
    _number, _parent, device, _root, path, *_rest = line.split(b" ")
    major, minor = device.split(b":")
    return os.makedev(int(major), int(minor)), os.fsdecode(path)
