"""Whether a file is what a log is: text. Judged by samples of head, middle and tail. Looks only."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

_SAMPLE = 16 << 10  # bytes, of each of the three places
_ENOUGH = 4 << 10  # bytes of a sample that tell what its lines are
# What says by its first bytes that it is something else (file(1), the formats' own documents).
_MAGIC = (
    (b"SQLite format 3", "an SQLite database"),
    (b"\x37\x7f\x06\x82", "an SQLite write-ahead log"),
    (b"\x37\x7f\x06\x83", "an SQLite write-ahead log"),
    (b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", "an SQLite journal"),
    (b"\xfebin", "a MySQL binary log"),
    (b"REDIS0", "a Redis database"),
    (b"ZKLG", "a ZooKeeper log"),
    (b"** This file is an SQLite", "an SQLite database"),
    (b"LPKSHHRH", "a systemd journal"),
    (b"# Dumb format", "an RRD database"),
    (b"RRD\0", "an RRD database"),
    (b"H:2,block", "an H2 database"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x7fELF", "a program"),
    (b"%PDF-", "a PDF document"),
    (b"-----BEGIN ", "a key or certificate"),
    (b"\x89PNG\r\n", "a picture"),
    (b"\xd4\xc3\xb2\xa1", "a packet capture"),
    (b"\xa1\xb2\xc3\xd4", "a packet capture"),
    (b"\n\r\r\n", "a packet capture"),
    (b"MDMP", "a memory dump"),
    (b"PGDMP", "a PostgreSQL dump"),
    (b"*3\r\n$", "a Redis append-only file"),
    (b"*2\r\n$", "a Redis append-only file"),
)
# How a rotated log may be compressed: fine under a name that says so, otherwise something else.
_PACKED = (
    (b"\x1f\x8b", (".gz", ".tgz"), "gzip"),
    (b"\xfd7zXZ\0", (".xz",), "xz"),
    (b"\x28\xb5\x2f\xfd", (".zst",), "zstd"),
    (b"BZh", (".bz2",), "bzip2"),
    (b"\x04\x22\x4d\x18", (".lz4",), "lz4"),
)
# Bell, backspace, tab, the ends of lines and pages, shift in and out, and escape are in what
# programs write to a terminal; bytes above 0x7f are letters in one encoding or the other.
_TEXT = bytes({7, 8, 9, 10, 11, 12, 13, 14, 15, 27, *range(0x20, 0x7F), *range(0x80, 0x100)})
# of the bytes may be other control characters; of packed or encrypted ones a tenth is
_STRAY = 0.003
_STATEMENTS = tuple(
    (
        b"/*C|INSERT INTO |DELETE FROM |CREATE USER |CREATE SCHEMA |CREATE TABLE "
        b"|CREATE MEMORY TABLE |CREATE CACHED TABLE|CREATE ROLE |ALTER |GRANT |SET SCHEMA "
        b"|SET DATABASE |SET FILES |SET WRITE_DELAY |SET TABLE |SET AUTOCOMMIT |CONNECT USER"
        b"|COMMIT|DISCONNECT"
    ).split(b"|")
)


def why_not_text_at(path: str | os.PathLike[str]) -> str | None:
    """Why a file is no log, by what is in it; None where it is one, or cannot be opened (any
    more).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return why_not_text(descriptor, os.path.basename(path))
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    finally:
        os.close(descriptor)


def why_not_text(descriptor: int, name: str) -> str | None:
    """The same for an open file; `name` may say that it is compressed. Raises OSError where it
    cannot be read.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return "no regular file"
    parts = list(_samples(descriptor, status.st_size))
    if not parts:
        return None  # empty, or one hole
    head = parts[0]
    for magic, endings, how in _PACKED:
        if head.startswith(magic):
            return None if name.endswith(endings) else f"no text: compressed ({how})"
    if kind := next((kind for magic, kind in _MAGIC if head.startswith(magic)), None):
        return f"no text: {kind}"
    data = b"".join(parts)
    if b"\0" in data:
        return "no text: it has NUL bytes"
    strange = len(data.translate(None, _TEXT))
    if strange > max(2, len(data) * _STRAY):
        return "no text: it has control characters"
    if b"\n" not in data and b"\r" not in data:
        return "no lines: it has no line that ends"
    return (
        "part of a database: its lines are SQL statements"
        if _is_journal_of_statements(parts)
        else None
    )


def is_packed_at(path: str | os.PathLike[str]) -> bool:
    """Whether a file is compressed, as its name says. Raises OSError."""
    if not os.fspath(path).endswith(tuple(end for _magic, ends, _how in _PACKED for end in ends)):
        return False  # one that is, and does not say so, is no log
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return is_packed(descriptor)
    finally:
        os.close(descriptor)


def is_packed(descriptor: int) -> bool:
    """Whether a file is compressed, so that no part of it is of use without its beginning. Raises
    OSError.
    """
    return os.pread(descriptor, 8, 0).startswith(tuple(magic for magic, _endings, _how in _PACKED))


def _samples(descriptor: int, size: int) -> Iterator[bytes]:
    """The head after a leading hole, the middle and the tail; what is a hole in the file is left
    out. Raises OSError.
    """
    start = _next_data(descriptor, 0, size)
    reached = 0
    for place in (
        start,
        max(start, (start + size) // 2 - _SAMPLE // 2),
        max(start, size - _SAMPLE),
    ):
        begin = _next_data(descriptor, max(place, reached), size)
        hole = _next_hole(descriptor, begin, size)
        end = min(hole, begin + _SAMPLE)
        if begin < end and (data := os.pread(descriptor, end - begin, begin)):
            yield _without_rest_of_holes(
                data,
                before=0 < begin == start or begin > max(place, reached),
                after=end == hole < size,
            )
            reached = begin + len(data)


def _without_rest_of_holes(data: bytes, before: bool, after: bool) -> bytes:
    """Holes end where blocks do; the zeros next to one, in a log that others emptied, belong to
    it.
    """
    left = data.lstrip(b"\0") if before else data
    left = left.rstrip(b"\0") if after else left
    return left or data


def _next_data(descriptor: int, offset: int, size: int) -> int:
    """Where there is data at or after an offset (lseek(2), SEEK_DATA); `size` where there is
    none.
    """
    if offset >= size:
        return size
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else offset


def _next_hole(descriptor: int, offset: int, size: int) -> int:
    """Where the next hole begins; `size` where there is none, or the filesystem does not tell."""
    if offset >= size:
        return size
    try:
        return os.lseek(descriptor, offset, os.SEEK_HOLE)
    except OSError:
        return size


def _is_journal_of_statements(parts: list[bytes]) -> bool:
    """Whether its lines are bare SQL, as HSQLDB's ``.log`` has them; a log for people has a time
    before it.
    """
    heads = [part[:_ENOUGH] for part in parts]
    if not any(statement in head for head in heads for statement in _STATEMENTS):
        return False  # as of nearly all, told without taking them apart
    lines = [
        line
        for number, head in enumerate(heads)
        for line in head.splitlines()[number > 0 :]
        if line.strip()
    ]
    return bool(lines) and sum(line.startswith(_STATEMENTS) for line in lines) > 0.8 * len(lines)
