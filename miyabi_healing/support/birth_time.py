"""When a file was made, which nobody can set (statx(2)): its inode may be an old one's."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

_AT_FDCWD, _NO_FOLLOW, _BIRTH = -100, 0x100, 0x800
_MASK, _SECONDS, _NANOSECONDS = slice(0, 4), slice(80, 88), slice(88, 92)
_SIZE = 256  # of struct statx


def birth_time(path: str, status: os.stat_result, *, follow: bool = False) -> float | None:
    """Seconds since the epoch; None where it cannot be told (an old kernel, some filesystems)."""
    if not sys.platform.startswith("linux"):
        return getattr(status, "st_birthtime", None)
    if (library := _library()) is None:
        return None
    room = bytearray(_SIZE)
    import ctypes  # at work already

    place = (ctypes.c_char * _SIZE).from_buffer(room)
    flags = 0 if follow else _NO_FOLLOW
    if library.statx(_AT_FDCWD, os.fsencode(path), flags, _BIRTH, place) != 0:
        return None
    order = sys.byteorder
    if not int.from_bytes(room[_MASK], order) & _BIRTH:
        return None
    seconds = int.from_bytes(room[_SECONDS], order, signed=True)
    return seconds + int.from_bytes(room[_NANOSECONDS], order) / 1e9


@cache
def _library() -> Any:
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    return library if hasattr(library, "statx") else None
