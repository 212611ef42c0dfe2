"""Subvolumes of btrfs: folders with a device number of their own on the same filesystem, which have
no mount of their own. A snapshot is one that shares its blocks with another.
"""

from __future__ import annotations

import os
import sys

_FIRST = 256  # BTRFS_FIRST_FREE_OBJECTID: the inode of every subvolume's top
_SIZE = 504  # of struct btrfs_ioctl_get_subvol_info_args in linux/btrfs.h
_GET_INFO = (2 << 30) | (_SIZE << 16) | (0x94 << 8) | 60  # BTRFS_IOC_GET_SUBVOL_INFO, Linux 4.18
_PARENT = slice(312, 328)  # parent_uuid: whose snapshot it is


def is_snapshot(folder: int, status: os.stat_result) -> bool | None:
    """Whether an open folder is the top of a snapshot; None where it is no subvolume at all."""
    if status.st_ino != _FIRST or not sys.platform.startswith("linux"):
        return None
    import fcntl

    answer = bytearray(_SIZE)
    try:
        fcntl.ioctl(folder, _GET_INFO, answer)
    except OSError:
        return None
    return any(answer[_PARENT])
