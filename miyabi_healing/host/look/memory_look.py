"""One look at the memory: how much is taken, and what each program has that it shares with
nobody.
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

from miyabi_healing.host import memory, memory_rows, memory_users
from miyabi_healing.host.look.bound import Bound
from miyabi_healing.host.memory import Memory
from miyabi_healing.host.process_status import PROC, Process
from miyabi_healing.host.programs import program_name
from miyabi_healing.model.look import MemoryLook, ProgramLook
from miyabi_healing.support.formatting import display

MOST_PROGRAMS = 40  # in the record
_MOST_PROCESSES = 1000
_LEAST = 1 << 20  # bytes of a process
_LEAST_GROWTH, _LEAST_SHARE = 16 << 20, 1 / 500


def has_grown(before: MemoryLook, used: int) -> bool:
    """Whether by so much that its parts say something."""
    return used - before.used >= max(_LEAST_GROWTH, before.total * _LEAST_SHARE)


def look_at_memory(reading: Memory, bound: Bound) -> MemoryLook:
    """What is taken of the memory that was measured, by program. Raises OSError."""
    sizes: list[tuple[int, Process]] = []
    for process in memory_rows.inside(reading.group):
        if bound.is_spent():
            break
        if not process.kernel and (size := _alone(process.pid)) >= _LEAST:
            sizes.append((size, process))
    sizes.sort(key=lambda each: -each[0])
    together: defaultdict[tuple[str, str], list[tuple[int, Process]]] = defaultdict(list)
    for size, process in sizes[:_MOST_PROCESSES]:
        if bound.is_spent():
            break
        name = display(program_name(process)), display(memory_users.place_of(process.pid))
        together[name].append((size, process))
    programs = [
        ProgramLook(
            program=program,
            unit=unit,
            bytes=sum(size for size, _ in found),
            count=len(found),
            pid=found[0][1].pid,
            start=found[0][1].start,
        )
        for (program, unit), found in together.items()
    ]
    programs.sort(key=lambda each: -each.bytes)
    return MemoryLook(
        scope=reading.scope,
        time=time.time(),
        used=reading.total - reading.available,
        total=reading.total,
        programs=tuple(programs[:MOST_PROGRAMS]),
        files=_files(reading.group),
        waited=_waited(reading.group),
        partial=bound.reached,
    )


def _alone(pid: int) -> int:
    """What a process has in memory and shares with nobody (proc_pid_statm(5))."""
    try:
        with open(f"{PROC}/{pid}/statm", "rb", buffering=0) as file:
            _size, resident, shared, *_rest = map(int, file.read(200).split())
    except (OSError, ValueError):
        return 0
    return max(resident - shared, 0) * memory_users.PAGE


def _files(group: Path | None) -> int:
    """The pages of tmpfs and shared memory."""
    try:
        if group is None:
            return memory.read_keyed(memory.PROCFS / "meminfo").get("Shmem:", 0) * 1024
        rows = memory.read_keyed(group / "memory.stat")
    except OSError:
        return 0
    return rows.get("total_shmem", rows.get("shmem", 0))


def _waited(group: Path | None) -> int:
    """For how many microseconds programs have waited for memory (PSI's ``some total``)."""
    file = group / "memory.pressure" if group else memory.PROCFS / "pressure" / "memory"
    try:
        line = file.read_text(encoding="ascii").splitlines()[0]
        return int(line.rpartition("total=")[2])
    except (OSError, ValueError, IndexError):
        return -1
