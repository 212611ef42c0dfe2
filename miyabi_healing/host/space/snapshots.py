"""Snapshots that can be seen without asking anybody's tool. What a snapshot has stays taken,
whatever is deleted outside it.
"""

from __future__ import annotations

import os
from pathlib import Path

from miyabi_healing.support.formatting import display
from miyabi_healing.support.mount_table import MountPoint, mount_table

# Where snapper, Timeshift and people keep them, below a mount of btrfs.
_FOLDERS = (".snapshots", "timeshift-btrfs/snapshots", ".snapshot", "@snapshots", "snapshots")


def snapshot_notes(mount: MountPoint) -> list[str]:
    """A line for each kind of snapshot on a mount's filesystem, or for why none can be seen."""
    if mount.kind == "btrfs":
        return _btrfs(mount)
    if mount.kind == "zfs":
        return _zfs(mount)
    return _lvm(mount.device)


def _btrfs(mount: MountPoint) -> list[str]:
    found: dict[str, int] = {}
    for each in mount_table():
        if each.kind != "btrfs" or each.source != mount.source:
            continue
        for folder in _FOLDERS:
            place = os.path.join(each.path, folder)
            if names := _names(place):
                found[os.path.realpath(place)] = len(names)
    if not found:
        return ["snapshots: btrfs may have some; none was seen in the usual folders"]
    places = ", ".join(f"{display(place)} ({count})" for place, count in found.items())
    return [f"snapshots: {places}; what is in one stays taken until it is deleted"]


def _zfs(mount: MountPoint) -> list[str]:
    names = _names(os.path.join(mount.path, ".zfs/snapshot"))
    if names is None:
        return [f"snapshots: whether {display(mount.source)} has any cannot be told"]
    if not names:
        return []
    text = f"snapshots: {len(names)} of {display(mount.source)}"
    return [f"{text} (zfs list -t snapshot); what is in one stays taken until it is destroyed"]


def _lvm(device: int, devices: Path = Path("/sys/dev/block")) -> list[str]:
    """Of a volume in a thin pool (its device lies on ``VG-POOL-tpool``, lvmthin(7))."""
    folder = devices / f"{os.major(device)}:{os.minor(device)}" / "slaves"
    for slave in _names(str(folder)) or []:
        try:
            name = (folder / slave / "dm/name").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if (name := name.strip()).endswith("-tpool"):
            pool = display(name.removesuffix("-tpool"))
            return [
                f"snapshots: it lies in the LVM thin pool {pool}; whether snapshots there keep "
                "what is deleted here cannot be told (lvs)"
            ]
    return []


def _names(folder: str) -> list[str] | None:
    try:
        return os.listdir(folder)
    except OSError:
        return None
