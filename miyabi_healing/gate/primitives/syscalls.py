"""System calls that Python has no name for."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from functools import lru_cache

KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, INSERT_RANGE = 0x01, 0x02, 0x08, 0x20  # linux/falloc.h
UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_EXCHANGE = 2  # RENAME_EXCHANGE, RENAME_SWAP
_NO_REPLACE = 4 if sys.platform == "darwin" else 1  # RENAME_EXCL, RENAME_NOREPLACE


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2). Raises OSError."""
    library = _library()
    # musl knows the second only
    call = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if call is None:
        raise OSError(errno.EOPNOTSUPP, "this system cannot give back a part of a file")
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if call(descriptor, mode, offset, length):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sync_filesystem(descriptor: int) -> None:
    """Make all of a filesystem durable at once (syncfs(2)): cheaper than thousands of fsync(2).
    Raises OSError.
    """
    library = _library()
    call = getattr(library, "syncfs", None)
    if call is None:
        os.sync()
    elif call(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def rename_new(old_folder: int, old: str, new_folder: int, new: str) -> None:
    """Rename, never over something that is there already (renameat2(2), renameatx_np(2)). Raises
    OSError.

    Where the filesystem cannot, a hard link does the same for a file; for a folder the name is
    looked at first.
    """
    library = _library()
    call = getattr(library, "renameatx_np" if sys.platform == "darwin" else "renameat2", None)
    if call is not None:
        if call(old_folder, os.fsencode(old), new_folder, os.fsencode(new), _NO_REPLACE) == 0:
            return
        if (number := ctypes.get_errno()) not in (*UNSUPPORTED, errno.ENOTSUP):
            raise OSError(number, os.strerror(number), new)
    if stat.S_ISDIR(os.stat(old, dir_fd=old_folder, follow_symlinks=False).st_mode):
        if new in os.listdir(new_folder):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        os.rename(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)
    else:
        os.link(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder, follow_symlinks=False)
        os.unlink(old, dir_fd=old_folder)


def exchange(folder: int, name: str, other_folder: int, other: str) -> None:
    """Let two files change places, in one moment (renameat2(2), renameatx_np(2)). Raises OSError,
    with one of UNSUPPORTED where the filesystem cannot.
    """
    library = _library()
    call = getattr(library, "renameatx_np" if sys.platform == "darwin" else "renameat2", None)
    if call is None:
        raise OSError(errno.EOPNOTSUPP, "this system cannot exchange files")
    if call(folder, os.fsencode(name), other_folder, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
