"""Whether a log may be touched where it lies: links, folders that others can write to,
attributes.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from miyabi_healing.host.logs import no_log_file, no_log_folder
from miyabi_healing.host.process_status import LINUX
from miyabi_healing.model.config import LogSettings
from miyabi_healing.support import ownership

_GET_FLAGS = 0x80086601 if LINUX else 0  # FS_IOC_GETFLAGS, ioctl_iflags(2)


_ATTRIBUTES = {0x10: "immutable", 0x20: "append-only by attribute"}


def unsafe_log(path: Path, top: Path, settings: LogSettings) -> str | None:
    """Why a log file must not be touched where it is; None where it may. `top` is the folder above
    it that is trusted.

    In a folder that others can write to, a name can be swapped for a link to anything: root
    truncating such a name empties somebody else's file. A sticky folder (``/tmp``) is safe as far
    as the file is our own, and one that only its owner's own group can write to is his alone.
    """
    try:
        status = os.lstat(path)
        return LogPlace(path.parent, top, settings).objection(path.name, status)
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"


class LogPlace:
    """A folder with logs in it, looked at once for all of them. Raises OSError."""

    def __init__(self, folder: Path, top: Path, settings: LogSettings) -> None:
        self.folder = folder
        self._settings = settings
        self._shared = _shared(folder)
        self._way = _unsafe_way(folder, top)

    @cached_property
    def _foreign(self) -> Callable[[str], str | None]:
        return no_log_folder(self.folder, os.listdir(self.folder), self._settings)

    def objection(self, name: str, status: os.stat_result) -> str | None:
        """Why one file must not be touched; None where it may. Raises OSError."""
        return no_log_file(name, status) or self._foreign(name) or self.unsafe(name, status)

    def unsafe(self, name: str, status: os.stat_result) -> str | None:
        """The same by where it is, whatever it is. Raises OSError."""
        if status.st_nlink != 1:
            return f"it has {status.st_nlink} names"
        if self._shared and not self._shared & stat.S_ISVTX:
            return "others can write to its folder"
        if self._shared and status.st_uid != os.geteuid():
            return "another user's file in a shared folder"
        path = os.path.join(self.folder, name)
        if reason := self._way or attribute(path, status):
            return reason
        return None if os.access(path, os.R_OK | os.W_OK) else "not permitted"


def unsafe_place(path: Path, status: os.stat_result, top: Path) -> str | None:
    """Why a file must not be touched where it is, whatever it is. Raises OSError."""
    return LogPlace(path.parent, top, LogSettings()).unsafe(path.name, status)


def _shared(folder: Path) -> int:
    """The mode of a folder that others than its owner can write to, 0 where nobody else can: a
    group that has no other member is the owner's own. Raises OSError.
    """
    status = os.stat(folder)
    if not status.st_mode & 0o022:
        return 0
    owner = frozenset((status.st_uid, ownership.ROOT))
    return status.st_mode if ownership.others_write(str(folder), status, owner) else 0


def _unsafe_way(folder: Path, top: Path) -> str | None:
    """Why the folders between a trusted one and a log's own cannot be relied on. Raises OSError."""
    below, above = folder, folder.parent
    while below != top and below != above:
        if stat.S_ISLNK(os.lstat(below).st_mode):
            return "reached through a symbolic link"
        shared = _shared(above)
        if shared and not (shared & stat.S_ISVTX and os.lstat(below).st_uid == os.geteuid()):
            return "others can write to a folder above it"
        below, above = above, above.parent
    return None


def attribute(path: Path | str, status: os.stat_result) -> str | None:
    """The attribute that keeps even its owner from changing a file (chattr(1), chflags(1)). Raises
    OSError.
    """
    flags = getattr(status, "st_flags", 0)  # macOS and the BSDs
    if flags & (stat.UF_IMMUTABLE | stat.SF_IMMUTABLE):
        return _ATTRIBUTES[0x10]
    if flags & (stat.UF_APPEND | stat.SF_APPEND):
        return _ATTRIBUTES[0x20]
    if not LINUX or not os.access(path, os.R_OK):
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = array.array("l", [0])
        fcntl.ioctl(descriptor, _GET_FLAGS, found)
    except OSError as error:
        # a filesystem without attributes
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            return None
        raise
    finally:
        os.close(descriptor)
    return next((word for bit, word in _ATTRIBUTES.items() if found[0] & bit), None)
