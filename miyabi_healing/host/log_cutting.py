"""Where the beginning of a live log may be cut off: between two lines, past what an earlier cut has
left.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

_NEAR = 1 << 20  # how far a cut moves to come between two lines


@dataclass(frozen=True)
class Cut:
    """Where a log is to be cut: archived from `start` on, gone up to `cut`; whole blocks up to
    `floor`.
    """

    start: int
    floor: int
    cut: int


def find_cut(descriptor: int, status: os.stat_result, keep_lines: int, keep_bytes: int) -> Cut:
    """Where to cut so that the last lines stay; what an earlier cut has left as a hole is not
    looked at again.

    Between two lines, unless one line alone is more than `keep_bytes`.
    """
    size, block = status.st_size, max(status.st_blksize, 4096)
    start = first_data(descriptor, size)
    least = max(size - keep_bytes, start)
    cut = _last_lines(descriptor, size, keep_lines, least)
    if cut == least > start:
        cut = _next_line(descriptor, least, size)
    return Cut(start, cut // block * block, cut)


def first_data(descriptor: int, size: int) -> int:
    """Where a file's leading hole ends (lseek(2), SEEK_DATA)."""
    if size == 0:
        return 0
    try:
        return os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else 0


def _last_lines(descriptor: int, size: int, count: int, least: int) -> int:
    """The offset at which the last `count` lines begin, or `least` where they begin before it."""
    if count == 0:
        return size
    position, found = size, 0
    while position > least:
        length = min(1 << 20, position - least)
        data = os.pread(descriptor, length, position - length)
        at = len(data)
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            ends_the_file = position - length + at == size - 1
            found += not ends_the_file
            if found == count:
                return position - length + at + 1
        position -= length
    return least


def _next_line(descriptor: int, offset: int, size: int) -> int:
    """Where the next line begins at or after `offset`; `offset` itself where none does nearby."""
    at = os.pread(descriptor, _NEAR, offset - 1).find(b"\n")
    return offset + at if at >= 0 and offset + at < size else offset
