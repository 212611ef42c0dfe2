"""How a path is reached: the mount that it is on, and the folders above it.

Looked at once, so that every question about who uses a path is asked of the same file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from miyabi_healing.support import mount_table
from miyabi_healing.support.mount_table import MountPoint

# files of one such mount differ in st_dev
_SEVERAL_NUMBERS = ("overlay", "btrfs", "bcachefs", "zfs")


@dataclass(frozen=True)
class Way:
    """How a path is reached: the mount it is on, the folders above it from the top, each with its
    status, and its own.
    """

    path: str
    mount: MountPoint | None
    folders: tuple[tuple[str, os.stat_result], ...]
    status: os.stat_result

    @property
    def inner(self) -> str:
        return mount_table.path_in_filesystem(self.mount, self.path) if self.mount else self.path

    @property
    def has_several_numbers(self) -> bool:
        """Whether files on its mount have several device numbers, and none has the mount's own."""
        return self.mount is not None and self.mount.kind in _SEVERAL_NUMBERS
