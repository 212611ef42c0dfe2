"""Filesystems: how full they are, by blocks and by inodes. Looks only."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.model.config import ConfigError
from miyabi_healing.support import mount_answers, mount_table
from miyabi_healing.support.formatting import display

_Partition = tuple[str, str, str, str]
Mounts = tuple[mount_table.MountPoint, ...]
_ALWAYS_FULL = frozenset({"squashfs", "iso9660", "udf", "erofs", "cramfs", "romfs"})


@dataclass(frozen=True)
class Mount:
    """A filesystem as it was measured. Percentages are df's: of what a normal user can use. `free`
    and `size` in bytes. `number` is the same for all its mounts and subvolumes (`number_of`);
    `read_only` says what made it read-only, where that was an error and no person.
    """

    path: Path
    device: int
    blocks_percent: float
    inodes_percent: float
    free: int
    size: int
    number: int = 0
    read_only: str = ""

    def __str__(self) -> str:
        return display(self.path)

    @property
    def percent(self) -> float:
        """The worse of blocks and inodes: without free inodes no file can be made either. All of it
        where an error has made it read-only.
        """
        return 100.0 if self.read_only else max(self.blocks_percent, self.inodes_percent)

    @property
    def condition(self) -> str:
        """How it is, in a line."""
        if self.read_only:
            return f"{self} has become read-only by an error, nothing can be written to it"
        return f"{self} is {self.percent:.1f} % full ({self.tight})"

    @property
    def tight(self) -> str:
        return "space" if self.blocks_percent >= self.inodes_percent else "inodes"


def read_mount(path: str) -> Mount:
    """Measure the filesystem that `path` is on (statvfs(3)). Raises OSError."""
    mount_answers.check(path)
    status = os.statvfs(path)
    blocks = share(status.f_blocks - status.f_bfree, status.f_bavail)
    inodes = share(status.f_files - status.f_ffree, status.f_favail) if status.f_files else 0.0
    taken = status.f_blocks - status.f_bfree
    free, size = status.f_bavail * status.f_frsize, (taken + status.f_bavail) * status.f_frsize
    device, table = os.stat(path).st_dev, mount_table.mount_table()
    return Mount(
        Path(path),
        device,
        blocks,
        inodes,
        free,
        size,
        number_of(path, table),
        made_read_only(path, table),
    )


def number_of(path: str | Path, table: Mounts | None = None) -> int:
    """The number of the filesystem that a path is on, the same for all of its subvolumes and
    mounts: the one in the table of mounts, which is not stat(2)'s on btrfs. Raises OSError.
    """
    mount = _mount_at(path, table)
    return mount.device if mount else os.stat(path).st_dev


def made_read_only(path: str | Path, table: Mounts | None = None) -> str:
    """What shows that a filesystem has become read-only by an error; empty where nothing does, also
    where a person mounted it so.

    A person's ``-o ro`` is told of the mount; an error makes only the filesystem itself read-only
    (proc_pid_mountinfo(5); ``emergency_ro`` is what ext4 says since Linux 6.17).
    """
    rows = mount_table.mount_table() if table is None else table
    mount = _mount_at(path, rows)
    if mount is None:
        return ""
    said = mount.of_filesystem.split(",")
    if "emergency_ro" in said:
        return f"{mount.kind}: emergency_ro"
    alike = [each for each in rows if each.device == mount.device]
    if "ro" not in said or any("ro" in each.options.split(",") for each in alike):
        return ""
    return f"{mount.kind}: mounted to be written to, and read-only now"


def _mount_at(path: str | Path, table: Mounts | None) -> mount_table.MountPoint | None:
    if not sys.platform.startswith("linux"):
        return None
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return mount_table.mount_of(descriptor, table)
    finally:
        os.close(descriptor)


def share(used: int, available: int) -> float:
    """Percent used of what is used or available to a normal user, as df counts it: reserved blocks
    are neither.
    """
    # 9p tells of more free inodes than there are
    return max(0.0, 100 * used / (used + available)) if used + available else 0.0


def mounts(configured: tuple[str, ...]) -> tuple[str, ...]:
    """The filesystems to measure, one path each: the configured ones, or every real one.

    One that does not answer, or is configured and not there, is among them: its check says so, and
    is unknown.
    """
    paths = [os.path.abspath(os.path.expanduser(each)) for each in configured] or real()
    found: dict[int | str, str] = {}
    table = mount_table.mount_table()
    for path in paths:
        try:
            mount_answers.check(path)
            found.setdefault(number_of(path, table), path)
        except OSError as error:
            if configured or isinstance(error, mount_answers.NoAnswer):
                found[path] = path
            # else a mount that not even root may look at (FUSE): nobody's to clean
    return tuple(found.values())


def read_folder(path: str) -> Mount:
    """Measure one of these. Raises OSError, ConfigError where there is no such folder."""
    mount_answers.check(path)
    if not os.path.isdir(path):
        raise ConfigError(f"disk.mounts: {display(path)}: no such folder")
    return read_mount(path)


def apple(volumes: Iterable[tuple[str, str]]) -> list[str]:
    """One mount point for each APFS container: its volumes (device, mount point) share their space,
    and ``/`` is sealed.
    """
    system, data = "/System/Volumes/", "/System/Volumes/Data"
    found: dict[str, str] = {}
    for device, point in sorted(volumes, key=lambda each: (each[1] != data, each[1])):
        if point == data or not point.startswith(system):
            container = re.match(r"/dev/disk\d+", device)
            found.setdefault(container[0] if container else device, point)
    return list(found.values())


def real() -> list[str]:
    """Mount points of filesystems that hold data on a device and can be written, or could until an
    error; `/` whatever it is.
    """
    table = mount_table.mount_table()
    writable = [
        (device, point)
        for device, point, kind, options in partitions()
        if kind not in _ALWAYS_FULL
        and ("ro" not in options.split(",") or _is_broken(point, table))
        and (mount_answers.is_silent(point) or os.path.isdir(point))
    ]
    if sys.platform == "darwin":
        return apple(writable) or ["/"]
    return ["/", *sorted(point for _, point in writable if point != "/")]


def _is_broken(point: str, table: Mounts) -> bool:
    try:
        return not mount_answers.is_silent(point) and bool(made_read_only(point, table))
    except OSError:
        return False


def partitions() -> Iterator[_Partition]:
    """Device, mount point, kind and options of what is mounted from a device. On Linux as psutil
    tells it, without loading it.
    """
    if not sys.platform.startswith("linux"):
        import psutil

        yield from (
            (each.device, each.mountpoint, each.fstype, each.opts)
            for each in psutil.disk_partitions(all=False)
        )
        return
    kinds = {"zfs"}  # it has devices, but says that it has none
    for line in Path("/proc/filesystems").read_text().splitlines():
        if not line.startswith("nodev"):
            kinds.add(line.strip())
    for row in Path("/proc/self/mounts").read_bytes().splitlines():
        device, point, kind, options = (os.fsdecode(_unescaped(each)) for each in row.split()[:4])
        if device != "none" and kind in kinds:
            yield device, point, kind, options


def _unescaped(name: bytes) -> bytes:
    """Blanks and their like are written as ``\\040`` in the table of mounts (fstab(5))."""
    return (
        re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), name)
        if b"\\" in name
        else name
    )
