"""Who and what uses the memory, in rows for a report: programs, and what no program's size
explains. Looks only.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from miyabi_healing.host import memory_users
from miyabi_healing.host.process_status import Process, living
from miyabi_healing.support.formatting import display, size_text

Taken = tuple[int, str, int]  # of a tmpfs: the bytes of its files, where it is, its device
LEAST = 0.01  # of the memory: what is smaller explains nothing
_SECONDS = 1.0  # for looking at what is in one
_MOST_NAMED = 3  # files and folders in one
# what else the kernel keeps for itself, by its row in proc_meminfo(5)
_KERNEL = {"Hugetlb:": "reserved huge pages", "SUnreclaim:": "the kernel's own tables"}
_Rows = list[dict[str, object]]


def users(
    group: Path | None, total: int, files: Iterable[Taken], kernel: Mapping[str, int]
) -> _Rows:
    """At most five rows with ``name``, ``bytes`` and ``text``, the largest first: the programs of a
    cgroup or of the host, `files` in tmpfs, and what the kernel keeps by its rows of `kernel`.

    Of a limited cgroup its own members alone count: nobody else's end would help it.
    """
    programs = memory_users.group_by_program(inside(group))[: memory_users.MOST_ROWS]
    rows = [each.row for each in memory_users.located(programs)]
    rows += tmpfs_rows(files)
    rows += [
        {"name": name, "bytes": taken, "text": f"{name}, {size_text(taken)}"}
        for key, name in _KERNEL.items()
        if (taken := kernel.get(key, 0) * 1024) >= LEAST * total
    ]
    rows.sort(key=lambda row: -_size(row))
    return rows[: memory_users.MOST_ROWS]


def inside(group: Path | None) -> tuple[Process, ...]:
    """The living processes of a cgroup, or of the host."""
    everyone = living()
    if group is None:
        return everyone
    there = members(group)
    return tuple(each for each in everyone if each.pid in there)


def members(group: Path) -> frozenset[int]:
    """The processes in a cgroup and in all below it; whom it does not show us is not among them."""
    found: set[int] = set()
    for folder, _, files in os.walk(group):
        if "cgroup.procs" in files:
            try:
                found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
            except (OSError, ValueError):
                continue  # it was removed meanwhile, or is a threaded one: its domain lists them
    return frozenset(found - {0})


def swap_users() -> _Rows:
    """Who has most in swap, summed by program: at most five rows."""
    programs = memory_users.swap_by_program(living())[: memory_users.MOST_ROWS]
    return [each.row for each in memory_users.located(programs)]


def tmpfs_rows(mounts: Iterable[Taken]) -> _Rows:
    """``files in /dev/shm (tmpfs), 12.0 GB: core-dump.bin 11.0 GB``: at most five rows."""
    rows: _Rows = []
    for taken, path, device in list(mounts)[: memory_users.MOST_ROWS]:
        if not taken:
            continue
        text = f"files in {display(path)} (tmpfs), {size_text(taken)}"
        if named := largest(path, device):
            text += ": " + ", ".join(f"{display(name)} {size_text(size)}" for name, size in named)
        name = f"files in {display(path)}"
        rows.append({"name": name, "bytes": taken, "folder": display(path), "text": text})
    return rows


def largest(path: str, device: int) -> list[tuple[str, int]]:
    """The largest files and folders right in a folder, as far as can be looked at in a second."""
    from miyabi_healing.support.tree_size import Scales

    scales = Scales(time.monotonic() + _SECONDS, go_on=True)
    sizes: list[tuple[str, int]] = []
    try:
        if os.stat(path).st_dev != device:
            return []
        for name in os.listdir(path):
            sizes.append((name, scales.weigh(Path(path, name))))
    except (OSError, TimeoutError):
        pass  # what has been looked at until then is said
    found = heapq.nlargest(_MOST_NAMED, sizes, key=lambda pair: pair[1])
    return [each for each in found if each[1]]


def _size(row: dict[str, object]) -> int:
    size = row["bytes"]
    return size if isinstance(size, int) else 0
