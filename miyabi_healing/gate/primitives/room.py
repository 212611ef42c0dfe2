"""What comes back on a filesystem when things on it are deleted: by its own account, and only once
it has one.

btrfs and zfs free with their next transaction, xfs in the background: asked too early they say that
nothing came back, and more would be deleted than has to be.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.support.flush import flush_filesystem
from miyabi_healing.support.formatting import size_text

LEAST = 1 << 20  # bytes: less is lost among what others write meanwhile
_ENOUGH = 0.5  # of what went: then no more is waited for, others write as well
_NEARLY_NOTHING = 0.1
_FLUSHING, _WAITING, _POLL = 10.0, 0.5, 0.02  # seconds


@dataclass(frozen=True)
class Room:
    """How much was free on the filesystem of a path before something went. Raises OSError."""

    path: Path
    before: int

    @classmethod
    def at(cls, path: Path) -> Room:
        return cls(path, _free(path))

    def gained(self, expected: int) -> int:
        """How many bytes more are free now; where it is far less than what went, asked again after
        the filesystem has written what it has to.
        """
        gain = _free(self.path) - self.before
        if gain >= expected * _ENOUGH:
            return gain
        flush_filesystem(_still_there(self.path), _FLUSHING)
        end = time.monotonic() + _WAITING
        while (gain := _free(self.path) - self.before) < expected * _ENOUGH:
            if expected < LEAST or time.monotonic() > end:
                break
            time.sleep(_POLL)
        return gain


def came_back(gone: int, gain: int) -> int:
    """The bytes that deleting `gone` of them has freed: these, unless the filesystem has far less
    more room (`Room.gained`), as where snapshots or copies share most blocks; then what it has.
    """
    return gone if gone < LEAST or gain >= gone * _ENOUGH else max(gain, 0)


def nothing_came_back(gone: int, gain: int) -> str:
    """Why nothing more is to be deleted: so many bytes went, and the filesystem has no more room.
    Empty where it has, or where that cannot be told.
    """
    if gone < LEAST or gain >= gone * _NEARLY_NOTHING:
        return ""
    return (
        f"{size_text(gone)} of files went and no room came back: snapshots probably hold them, or "
        "copies that share their blocks; else something is written as fast"
    )


def _still_there(path: Path) -> Path:
    """A path, or the nearest folder around it: some tools delete the folder of their cache, too."""
    return next((each for each in (path, *path.parents) if each.is_dir()), path)


def _free(path: Path) -> int:
    """Raises OSError."""
    status = os.statvfs(_still_there(path))
    return status.f_bfree * status.f_frsize
