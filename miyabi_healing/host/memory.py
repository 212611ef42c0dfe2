"""Memory: how much is really taken, on the host or in the container we are in, and by whom. Looks
only.

What the kernel can have back at once is not taken: its own estimate counts (MemAvailable in
proc_meminfo(5)), ZFS's cache above its minimum, which that leaves out (openzfs/zfs#10255), and in a
limited cgroup the clean pages of files, active ones as well (cgroups v1 and v2, "Memory"): those
are read twice, not needed twice. Pages of tmpfs and of shared memory are never among them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.host.memory_pressure import Pressure

PROCFS = Path("/proc")
_NAME_AND_NUMBER = re.compile(r"^(\S+)[ \t]+(\d+)(?!\S)", re.MULTILINE)
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

    @property
    def pressure(self) -> Pressure | None:
        """Whether anything waits for it, as it is now; None where the kernel does not say."""
        from miyabi_healing.host import memory_pressure

        return memory_pressure.read_pressure(self.group, PROCFS)

    def words(self, above: float) -> str:
        """What was measured; where it is `above` a limit, also whether anything waits for it."""
        text = f"{self.percent:.1f} % of the memory is taken ({display(self.scope)})"
        if self.percent > above and (pressure := self.pressure):
            text += f", {pressure.words}"
        return text

    def users(self) -> list[dict[str, object]]:
        """Who uses it, at most five rows, the largest first, those inside the cgroup alone."""
        from miyabi_healing.host import memory_rows

        linux = sys.platform.startswith("linux")
        kernel = read_keyed(PROCFS / "meminfo") if linux and self.group is None else {}
        return memory_rows.users(self.group, self.total, tmpfs_of(self), kernel)


def tmpfs_of(reading: Memory) -> list[tuple[int, str, int]]:
    """The tmpfs whose files are a part of what is taken. A cgroup has as much in them as its pages
    of tmpfs and shared memory are; which it wrote to is not told.
    """
    from miyabi_healing.host import memory_rows, tmpfs

    least = memory_rows.LEAST * reading.total
    if reading.group is not None:
        rows = read_keyed(reading.group / "memory.stat")
        if rows.get("total_shmem", rows.get("shmem", 0)) < least:
            return []
    return [each for each in tmpfs.read_mounts() if each[0] >= least]


def read_memory() -> Memory:
    """Measure the host and every limited cgroup around us; the worst counts."""
    host = of_host()
    return max([host, *limited_groups(host.total)], key=lambda reading: reading.percent)


def of_host() -> Memory:
    if sys.platform.startswith("linux"):
        values = read_keyed(PROCFS / "meminfo")
        total = values["MemTotal:"] * 1024
        available = min(_available(values) * 1024 + _zfs_cache(), total)
        return Memory(100 * (1 - available / total), total, available, "host")
    import psutil

    reading = psutil.virtual_memory()
    percent = max(reading.percent, {2: 91.0, 4: 96.0}.get(pressure_level(), 0.0))
    return Memory(percent, reading.total, reading.available, "host")


def swap_sizes() -> tuple[int, int]:
    """The bytes of swap there are, and those that are free or also in memory still (SwapCached).
    None where swap grows on demand (macOS). Raises OSError.
    """
    if not sys.platform.startswith("linux"):
        return 0, 0
    values = read_keyed(PROCFS / "meminfo")
    total, free = values.get("SwapTotal:", 0), values.get("SwapFree:", 0)
    return total * 1024, min(free + values.get("SwapCached:", 0), total) * 1024


def _available(values: dict[str, int]) -> int:
    """In kB; where the kernel gives no estimate (before Linux 3.14), as free(1) makes one."""
    if "MemAvailable:" in values:
        return values["MemAvailable:"]
    cached = sum(values.get(name, 0) for name in ("Buffers:", "Cached:", "SReclaimable:"))
    return max(values["MemFree:"] + cached - values.get("Shmem:", 0), 0)


def _zfs_cache() -> int:
    """The bytes that ZFS's cache (ARC) would give back: it shrinks on demand, down to a minimum.

    Where meminfo is not the kernel's own (lxcfs shows a container's share), the host's cache is
    none of that memory.
    """
    try:
        lines = (PROCFS / "spl/kstat/zfs/arcstats").read_text().splitlines()
        if os.stat(PROCFS / "meminfo").st_dev != os.stat(PROCFS).st_dev:
            return 0
    except OSError:
        return 0
    rows = (line.split() for line in lines)
    values = {row[0]: int(row[2]) for row in rows if len(row) == 3 and row[2].isdigit()}
    return max(values.get("size", 0) - values.get("c_min", 0), 0)


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


# What a memory cgroup's files are called, by the version of cgroups: its limit, its usage; what is
# before the rows of memory.stat that count all below it as well; and those of pages that have to be
# written before they can be had back.
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_", ("dirty", "writeback"))
_V2 = ("memory.max", "memory.current", "", ("file_dirty", "file_writeback"))


def limited_groups(total: int) -> Iterator[Memory]:
    """A reading for our cgroup and each one above it that has a limit below the host's memory."""
    for folder, (limit_name, usage_name, before, unwritten) in groups():
        try:
            limit = int((folder / limit_name).read_text())
            if not 0 < limit < total:
                continue
            usage = int((folder / usage_name).read_text())
            rows = read_keyed(folder / "memory.stat")
        except (OSError, ValueError):
            continue  # no limit ("max"), or no memory controller here
        files = sum(rows.get(f"{before}{kind}_file", 0) for kind in ("inactive", "active"))
        waiting = sum(rows.get(f"{before}{kind}", 0) for kind in unwritten)
        taken = max(usage - max(files - waiting, 0), 0)
        yield Memory(100 * taken / limit, limit, limit - taken, str(folder))


def groups() -> Iterator[tuple[Path, tuple[str, str, str, tuple[str, str]]]]:
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
            names = _V2
        elif "memory" in controllers.split(","):
            top, names = CGROUPS / "memory", _V1
        else:
            continue
        folder = top / path.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(top):
                yield each, names


def read_keyed(path: Path) -> dict[str, int]:
    """A file of ``name number`` lines. Raises OSError."""
    rows = _NAME_AND_NUMBER.findall(path.read_text(encoding="ascii", errors="replace"))
    return {name: int(number) for name, number in rows}


def kernel_cache(group: Path) -> int:
    """The bytes of a cgroup that asking may free though the measure counts them as taken: the
    kernel's own caches of names and inodes. Exact in v2 (``slab_reclaimable``), at most that in v1.
    """
    try:
        rows = read_keyed(group / "memory.stat")
        if "slab_reclaimable" in rows:
            return rows["slab_reclaimable"]
        return int((group / "memory.kmem.usage_in_bytes").read_text())
    except (OSError, ValueError):
        return 0


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since boot, those in cgroups
    included (``oom_kill`` in proc_vmstat(5)), or in our cgroups, where that is hidden from us.
    """
    try:
        host = read_keyed(PROCFS / "vmstat").get("oom_kill")
    except OSError:
        host = None
    if host is not None:
        return host
    counts = [0]
    for folder, _ in groups():
        for name in ("memory.events", "memory.oom_control"):
            try:
                counts.append(read_keyed(folder / name).get("oom_kill", 0))
            except OSError:
                continue
    return max(counts)
