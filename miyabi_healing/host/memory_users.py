"""Who uses the memory: processes summed by program, and by the unit or container they are in.
Looks only.

The proportional set size counts (PSS, smaps_rollup in proc_pid_smaps(5)): a page that several
processes share is divided among them, so that sums are true. It costs a walk over a process's
pages, so only the largest are asked for it; the rest count with what they do not share by
proc_pid_statm(5). Where it cannot be read, the resident size has to do, which is too much.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from miyabi_healing.host import control_groups
from miyabi_healing.host.process_status import LINUX, PROC, Process
from miyabi_healing.host.programs import program_name
from miyabi_healing.support.formatting import display, duration_text, size_text

MOST_ROWS = 5
_MOST_MEASURED = 50  # processes whose PSS is read
_SECONDS = 2.0  # for reading it: a walk over a process's pages takes time
_LONGEST_NAME = 60
_MORE = 1.05  # times what one program takes: then it is said what its container takes in all
PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProgramUse:
    """What the processes of one program take: `bytes` in all, the largest process first.

    `exact` is False where a size is not PSS; `seconds` is how long the oldest has been running,
    `folder` where the largest works and `place` the unit or container it is in (empty: unknown), in
    which all programs together take `place_bytes`.
    """

    program: str
    processes: tuple[Process, ...]
    bytes: int
    exact: bool
    seconds: float
    folder: str = ""
    place: str = ""
    place_bytes: int = 0

    @property
    def text(self) -> str:
        """``bundler-server ×3, 1.2 GB, for 3 h, ~/project``."""
        count = f" ×{len(self.processes)}" if len(self.processes) > 1 else ""
        others = self.place_bytes > self.bytes * _MORE
        in_all = f" ({size_text(self.place_bytes)} in all)" if others else ""
        facts = [
            f"{self.program}{count}",
            f"{'' if self.exact else 'about '}{size_text(self.bytes)}",
            f"for {duration_text(self.seconds)}",
            *(each for each in (self.folder, self.place and self.place + in_all) if each),
        ]
        return display(", ".join(facts))

    @property
    def row(self) -> dict[str, object]:
        """For the JSON report: `pid` is that of the largest process."""
        return {
            "name": display(self.program),
            "pid": self.processes[0].pid,
            "bytes": self.bytes,
            "count": len(self.processes),
            "seconds": round(self.seconds),
            "folder": display(self.folder),
            "place": display(self.place),
            "place_bytes": self.place_bytes,
            "exact": self.exact,
            "text": self.text,
        }


@dataclass(frozen=True)
class ProcessUse:
    """What one process takes; `exact` where that is its PSS."""

    process: Process
    bytes: int
    exact: bool


def group_by_program(processes: Iterable[Process]) -> tuple[ProgramUse, ...]:
    """What `processes` take, summed by program (`programs.program_name`), the largest first. The
    same program in two containers or services is two rows.
    """
    return _by_program(measure_processes(processes))


def swap_by_program(processes: Iterable[Process]) -> tuple[ProgramUse, ...]:
    """The same of what they have in swap (VmSwap in proc_pid_status(5))."""
    found = [
        ProcessUse(each, taken, exact=True)
        for each in processes
        if not each.kernel and (taken := _swapped(each.pid))
    ]
    return _by_program(sorted(found, key=lambda each: -each.bytes))


def _by_program(sizes: Iterable[ProcessUse]) -> tuple[ProgramUse, ...]:
    together: defaultdict[tuple[str, str], list[ProcessUse]] = defaultdict(list)
    totals: Counter[str] = Counter()
    for each in sizes:
        place = place_of(each.process.pid)
        totals[place] += each.bytes
        apart = "" if place.endswith(".scope") else place  # one person's sessions go together
        together[program_name(each.process)[:_LONGEST_NAME], apart].append(each)
    found = [
        ProgramUse(
            name,
            tuple(each.process for each in uses),
            sum(each.bytes for each in uses),
            all(each.exact for each in uses),
            max(seconds_running(each.process) for each in uses),
            place=place,
            place_bytes=totals[place] if place else 0,
        )
        for (name, place), uses in together.items()
    ]
    return tuple(sorted(found, key=lambda each: -each.bytes))


def located(uses: Sequence[ProgramUse]) -> tuple[ProgramUse, ...]:
    """The same with `folder`, and the sessions as `place`: for those rows alone that are shown."""
    return tuple(
        replace(each, folder=work_folder(pid), place=each.place or place_of(pid))
        for each in uses
        for pid in [each.processes[0].pid]
    )


def measure_processes(processes: Iterable[Process]) -> list[ProcessUse]:
    """What each of them takes, the largest first; who takes nothing (a kernel thread, a zombie) is
    left out.
    """
    sizes = [(each, *_sizes(each.pid)) for each in processes if not each.kernel]
    sizes.sort(key=lambda each: -each[1])
    end = time.monotonic() + _SECONDS
    found = []
    for number, (process, resident, alone) in enumerate(sizes):
        if not resident:
            continue
        # what waits in the kernel may hold the lock that reading this would wait for
        ask = number < _MOST_MEASURED and process.state != "D" and time.monotonic() < end
        proportional = _proportional(process.pid) if ask else None
        if proportional is not None:
            found.append(ProcessUse(process, proportional, exact=True))
        else:
            small = number >= _MOST_MEASURED
            found.append(ProcessUse(process, alone if small else resident, exact=False))
    return sorted(found, key=lambda each: -each.bytes)


def process_bytes(process: Process) -> int:
    """What one process takes, in bytes; 0 where that cannot be told."""
    return sum(each.bytes for each in measure_processes([process]))


def _sizes(pid: int) -> tuple[int, int]:
    """A process's resident bytes, and those of them that it has alone, as an estimate."""
    if not LINUX:
        import psutil

        try:
            resident = int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0, 0
        return resident, resident
    try:
        with open(f"{PROC}/{pid}/statm", "rb", buffering=0) as file:
            _size, resident, shared, *_rest = map(int, file.read(200).split())
    except (OSError, ValueError):
        return 0, 0
    return resident * PAGE, max(resident - shared, 0) * PAGE


def _proportional(pid: int) -> int | None:
    """A process's PSS in bytes; None where it cannot be read (another user's, an old kernel)."""
    try:
        with open(f"{PROC}/{pid}/smaps_rollup", "rb", buffering=0) as file:
            lines = file.read(4096).splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:")), None)


def _swapped(pid: int) -> int:
    try:
        with open(f"{PROC}/{pid}/status", "rb") as file:
            lines = file.read().split(b"\n")  # a name may have a carriage return in it
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(b"VmSwap:")), 0)


def seconds_running(process: Process) -> float:
    """How long ago a process was started."""
    if not LINUX:
        return max(time.time() - process.start / 1000, 0)
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - process.start / _TICKS, 0)


def work_folder(pid: int) -> str:
    """The folder a process works in, from ``~`` where that is ours; empty for ``/`` and where it
    cannot be told.
    """
    try:
        folder = os.readlink(f"{PROC}/{pid}/cwd")
    except OSError:
        return ""
    home = os.path.expanduser("~")
    if home != "/" and (folder == home or folder.startswith(f"{home}/")):
        folder = f"~{folder[len(home) :]}"
    return "" if folder == "/" else folder


def place_of(pid: int) -> str:
    """The unit or container a process is in, by its control groups; empty where they do not say."""
    try:
        with open(f"{PROC}/{pid}/cgroup", "rb", buffering=0) as file:
            return _place(file.readall())
    except OSError:
        return ""


@lru_cache(maxsize=1000)  # thousands of processes, but few places
def _place(text: bytes) -> str:
    return place_name(control_groups.parse_paths(os.fsdecode(text)))


def place_name(groups: dict[str, str]) -> str:
    """``container 0123456789ab``, ``nginx.service``, or nothing."""
    if folder := control_groups.container_of(groups):
        number = re.search("[0-9a-f]{12}", folder)
        return f"container {number[0] if number else folder}"
    unit = control_groups.unit_of(groups)
    return unit.name if unit else ""
