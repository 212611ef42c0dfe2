"""What a file is known by while a run lasts."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """What makes a file the one that was measured: renaming, replacing or writing it changes
    something here.

    Times are in nanoseconds. `size` and `mtime` are of use only where content must not have changed
    meanwhile.
    """

    device: int
    inode: int
    kind: int
    size: int
    mtime: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(
            status.st_dev,
            status.st_ino,
            stat.S_IFMT(status.st_mode),
            status.st_size,
            status.st_mtime_ns,
        )

    def same_file(self, other: Identity) -> bool:
        return (self.device, self.inode, self.kind) == (other.device, other.inode, other.kind)

    def unchanged(self, other: Identity) -> bool:
        """Whether it is the same file with the same content: a new file often gets the inode of one
        just deleted.
        """
        return self == other if stat.S_ISREG(self.kind) else self.same_file(other)
