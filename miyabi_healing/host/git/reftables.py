"""Reflogs in reftables, read without starting git (Documentation/technical/reftable in git's
sources). Looks only.

Git shows where each entry led, and not where it led from (git-log(1), ``-g``): once gc has dropped
one between two others, the commit that was left is known to the file alone.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from miyabi_healing.host.git.reflog import Entry
from miyabi_healing.support.files import read_small
from miyabi_healing.support.formatting import display

_LARGEST = 1 << 28  # bytes
_MOST_LOOKS = 3  # at the list, whose tables git may put together meanwhile
_HEADS = {1: 24, 2: 28}  # bytes, by version; the second says how objects are named
_LOG_POSITION = 24  # where in the footer, after what is a copy of the header, log blocks begin
_FOOT = 44  # bytes of the footer after that copy
_NEWEST = (1 << 64) - 1

# by the name of a reference and the number of a change; None where the entry was taken back
_Logs = dict[bytes, dict[int, Entry | None]]


def entries(git_folder: Path, name: str, owner: int) -> tuple[Entry, ...]:
    """The reflog of a reference that is kept in a git folder's own tables, the oldest first; none
    where it has none. Raises OSError, also where they are not what is known of them.
    """
    folder = git_folder / "reftable"
    for look in range(_MOST_LOOKS):
        listed = os.fsdecode(read_small(folder / "tables.list", owner=owner)).splitlines()
        found: dict[int, Entry | None] = {}
        try:
            for table in listed:  # the oldest first: what comes later holds
                found |= _logs_in(folder / table, owner).get(os.fsencode(name), {})
        except FileNotFoundError:
            if look == _MOST_LOOKS - 1:
                raise
            continue
        known = (entry for _, entry in sorted(found.items()) if entry)
        # that there is a reflog, though it was emptied, says an entry of no commits
        return tuple(each for each in known if each.old.strip("0") or each.new.strip("0"))
    return ()


def _logs_in(table: Path, owner: int) -> _Logs:
    if os.sep in table.name or table.parent.name != "reftable":
        raise OSError(errno.EINVAL, "names no table", display(table))
    status = os.lstat(table)
    return _parsed(table, owner, (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=64)
def _parsed(table: Path, owner: int, _identity: tuple[int, int, int]) -> _Logs:
    """What a table says: it never changes, git writes another one."""
    data = read_small(table, owner=owner, limit=_LARGEST)
    found: _Logs = {}
    try:
        for name, number, entry in _records(data):
            found.setdefault(name, {})[number] = entry
    except (IndexError, KeyError, ValueError, struct.error, zlib.error):
        # whoever owns a repository can have written anything there, or a newer git something new
        raise OSError(errno.EINVAL, "is no reftable as git wrote them so far", str(table)) from None
    return found


def _records(data: bytes) -> Iterator[tuple[bytes, int, Entry | None]]:
    if data[:4] != b"REFT":
        raise ValueError(data[:4])
    head = _HEADS[data[4]]
    width = 32 if data[4] == 2 and data[head - 4 : head] == b"s256" else 20
    end = len(data) - head - _FOOT
    if zlib.crc32(data[end:-4]) != int.from_bytes(data[-4:], "big"):
        raise ValueError(end)
    (at,) = struct.unpack_from(">Q", data, end + head + _LOG_POSITION)
    if not at and data[head : head + 1] != b"g":
        return
    while at < end:
        start = at + (0 if at else head)
        if data[start : start + 1] != b"g":
            return
        size = int.from_bytes(data[start + 1 : start + 4], "big") - (start - at) - 4
        inflating = zlib.decompressobj()
        block = inflating.decompress(data[start + 4 : end], size)
        if len(block) != size:
            raise ValueError(size)
        # the end of the stream may be left, though all of what is in it is there
        inflating.decompress(inflating.unconsumed_tail, 1)
        if not inflating.eof:
            raise ValueError(size)
        at = end - len(inflating.unused_data)
        yield from _records_in(block, width)


def _records_in(block: bytes, width: int) -> Iterator[tuple[bytes, int, Entry | None]]:
    end = len(block) - 2 - 3 * int.from_bytes(block[-2:], "big")
    at, key = 0, b""
    while at < end:
        same, at = _number(block, at)
        more, at = _number(block, at)
        key = key[:same] + block[at : at + (more >> 3)]
        at += more >> 3
        name, number = key[:-9], _NEWEST - int.from_bytes(key[-8:], "big")
        if not more & 7:
            yield name, number, None
            continue
        old, new = block[at : at + width].hex(), block[at + width : at + 2 * width].hex()
        at += 2 * width
        for _ in ("name", "address"):
            length, at = _number(block, at)
            at += length
        seconds, at = _number(block, at)
        length, at = _number(block, at + 2)  # after the zone
        at += length
        if at > end:
            raise ValueError(at)
        yield name, number, Entry(old, new, float(seconds))


def _number(block: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = block[at] & 0x7F
    while block[at] & 0x80:
        at += 1
        value = (value + 1) << 7 | (block[at] & 0x7F)
    return value, at + 1
