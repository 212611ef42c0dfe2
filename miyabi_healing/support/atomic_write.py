"""Writing files of the program's own, that somebody asked for: units, configurations, metrics.
Nothing is healed here.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def create(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a new file, durably. Raises FileExistsError where there is one, also a dangling link,
    and OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode
    )
    try:
        _fill(descriptor, data)
    except BaseException:
        path.unlink()
        raise
    _sync(path.parent)


def replace(
    path: Path, data: bytes, mode: int = 0o644, folder_mode: int = 0o755, like: Path | None = None
) -> None:
    """Put a file in its place as a whole, or not at all, and durably; a link there is replaced, not
    followed. It gets the group and the extended attributes (access lists are some) of `like`.
    Raises OSError.
    """
    path.parent.mkdir(mode=folder_mode, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        if like:
            os.fchown(descriptor, -1, os.stat(like).st_gid)
        os.fchmod(descriptor, mode)
        if like and hasattr(os, "listxattr"):
            for attribute in os.listxattr(like):
                value = os.getxattr(like, attribute)
                if value != _attribute(descriptor, attribute):
                    os.setxattr(descriptor, attribute, value)
        _fill(descriptor, data)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    _sync(path.parent)


def _attribute(descriptor: int, name: str) -> bytes | None:
    """An extended attribute as it is now: a security label may be right by itself, and no right of
    ours to set.
    """
    try:
        return os.getxattr(descriptor, name)
    except OSError:
        return None


def _fill(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def remove_file(path: Path) -> None:
    """Delete a file, durably. Raises OSError."""
    path.unlink()
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Have a folder's entries on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
