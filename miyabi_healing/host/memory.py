"""Memory: how much is really taken, on the host or in the container we are in, and by whom. Looks
only.

Cached files are not taken memory: the kernel's own estimate of what is available counts
(proc_meminfo(5), MemAvailable), and in a container its usage without inactive file pages, as the
kernel documents for cgroups v1 and v2.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

PROCFS = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """A reading: `percent` of `total` bytes taken, and of what (``host`` or a cgroup's folder)."""

    percent: float
    total: int
    available: int
    scope: str

    @property
    def group(self) -> Path | None:
        """The cgroup that is short of memory; None where it is the host."""
        return None if self.scope == "host" else Path(self.scope)


def read_memory() -> Memory:
    """Measure the host and every limited cgroup around us; the worst counts."""
    host = of_host()
    return max([host, *limited_groups(host.total)], key=lambda reading: reading.percent)


def of_host() -> Memory:
    if sys.platform.startswith("linux"):
        values = _keyed(PROCFS / "meminfo")
        total, available = values["MemTotal:"] * 1024, values["MemAvailable:"] * 1024
        return Memory(100 * (1 - available / total), total, available, "host")
    import psutil

    reading = psutil.virtual_memory()
    percent = max(reading.percent, {2: 91.0, 4: 96.0}.get(pressure_level(), 0.0))
    return Memory(percent, reading.total, reading.available, "host")


def pressure_level() -> int:
    """macOS's own judgement: 1 normal, 2 warning, 4 critical (sysctl
    ``kern.memorystatus_vm_pressure_level``).
    """
    import ctypes
    import ctypes.util

    library = ctypes.CDLL(ctypes.util.find_library("c"))
    level, size = ctypes.c_int(), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    code = library.sysctlbyname(
        b"kern.memorystatus_vm_pressure_level", ctypes.byref(level), ctypes.byref(size), None, 0
    )
    return level.value if code == 0 else 1


def limited_groups(total: int) -> Iterator[Memory]:
    """A reading for our cgroup and each one above it that has a limit below the host's memory."""
    for folder, limit_name, usage_name, inactive in groups():
        try:
            limit = int((folder / limit_name).read_text())
            usage = int((folder / usage_name).read_text())
            cached = _keyed(folder / "memory.stat").get(inactive, 0)
        except (OSError, ValueError):
            continue  # no limit ("max"), or no memory controller here
        if 0 < limit < total:
            taken = max(usage - cached, 0)
            yield Memory(100 * taken / limit, limit, limit - taken, str(folder))


def groups() -> Iterator[tuple[Path, str, str, str]]:
    """Our memory cgroup's folder and all above it, with the names of its files (cgroups(7), v1, v2
    and both mixed).
    """
    try:
        lines = (PROCFS / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top = CGROUPS / "unified" if (CGROUPS / "unified").is_dir() else CGROUPS
            names = ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top, names = (
                CGROUPS / "memory",
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            )
        else:
            continue
        folder = top / path.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(top):
                yield (each, *names)


def _keyed(path: Path) -> dict[str, int]:
    """A file of ``name number`` lines."""
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def consumers(count: int = 5) -> list[dict[str, object]]:
    """Who takes most: proportional set size where it may be read, else resident size, in bytes."""
    import psutil

    rows: list[dict[str, object]] = []
    sizes: list[tuple[int, psutil.Process]] = []
    for process in psutil.process_iter():
        try:
            sizes.append((process.memory_info().rss, process))
        except psutil.Error:
            continue
    for rss, process in sorted(sizes, key=lambda pair: -pair[0])[:count]:
        try:
            taken = getattr(process.memory_full_info(), "pss", rss)
            rows.append({"name": process.name(), "pid": process.pid, "bytes": taken})
        except psutil.Error:
            rows.append({"name": "?", "pid": process.pid, "bytes": rss})
    return rows


def resident(pid: int) -> int:
    """The bytes of memory that a process takes; 0 where that cannot be told."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since boot (``oom_kill`` in
    proc_vmstat(5)).
    """
    try:
        return _keyed(PROCFS / "vmstat").get("oom_kill", 0)
    except OSError:
        return 0
