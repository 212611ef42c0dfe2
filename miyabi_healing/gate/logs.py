"""Making logs smaller without losing a line.

A live log loses its beginning in place, under its writers: what is cut off is archived and on disk first, then its blocks
are given back with fallocate(2). Where all writers append, and the filesystem can, the range is collapsed, so that the file
itself gets shorter; otherwise a hole is punched, which is right for every writer, because no offset changes.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.files import Identity, open_beneath, used
from miyabi_healing.gate import store
from miyabi_healing.gate.roots import root_of
from miyabi_healing.gate.verbs import Context, Done, Refused, apply, recheck
from miyabi_healing.gate.zstd import Archive
from miyabi_healing.host import logs
from miyabi_healing.plan import ArchiveLog, TrimLog

KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE = 0x01, 0x02, 0x08  # linux/falloc.h
CHUNK = 64 << 20  # archived and given back at a time: a writer never waits for more
PIECE = 4 << 20
UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@recheck.register
def _(step: TrimLog, context: Context) -> str | None:
    return objection(step, context)


@recheck.register
def _(step: ArchiveLog, context: Context) -> str | None:
    reason = objection(step, context)
    if reason is None and Identity.at(step.path) != step.identity:
        return "it changed since it was measured"
    return reason or still_open(step, context)


def objection(step: TrimLog | ArchiveLog, context: Context) -> str | None:
    """What speaks against touching a log, asked afresh."""
    if root_of(step.path, context.roots) is None:
        return "outside the allowed roots"
    if reason := logs.unsafe(step.path):
        return reason
    status = os.lstat(step.path)
    if not Identity.of(status).same_file(step.identity):
        return "it was replaced since it was measured"
    return logs.writers(step.identity, status.st_mode, status.st_uid, context.host.processes().open_files()).trouble


def still_open(step: ArchiveLog, context: Context) -> str | None:
    files = context.host.processes().open_files()
    holders = files.of(step.identity.device, step.identity.inode)
    if holders:
        return f"{holders[0].name} (pid {holders[0].pid}) has it open"
    return "holders unknown" if files.unseen else None


@contextlib.contextmanager
def opened(step: TrimLog | ArchiveLog, context: Context, flags: int) -> Iterator[tuple[int, int, str]]:
    """The log's descriptor, its folder's and its name; sure to be the file that was measured. Raises Refused."""
    root = root_of(step.path, context.roots)
    assert root is not None  # recheck has just said so
    with open_beneath(root, step.path) as (folder, name):
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            status = os.fstat(descriptor)
            if not Identity.of(status).same_file(step.identity) or not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise Refused("it was replaced since it was measured")
            yield descriptor, folder, name
        finally:
            os.close(descriptor)


def archive_place(context: Context, path: Path, size: int, kind: str) -> store.Entry:
    """A place for an archive of `size` bytes: the log's own filesystem or, if that is full, the state folder's."""
    for where in (path, context.state / "archive"):
        with contextlib.suppress(OSError):
            place = store.entry(context, where, kind)
            free = os.statvfs(place.folder)
            if free.f_bavail * free.f_frsize > size * 0.3 + (1 << 20):
                return place
            store.discard(place)
    raise Refused("there is no space to archive it")


@apply.register
def _(step: ArchiveLog, context: Context) -> Done:
    with opened(step, context, os.O_RDONLY) as (descriptor, folder, name):
        status = os.fstat(descriptor)
        place = archive_place(context, step.path, min(used(status), status.st_size), "log-archive")
        archive = Archive(place.thing)
        try:
            for start, length in pieces(0, status.st_size):
                archive.add(read_whole(descriptor, length, start))
            archive.sync()
            place.write_manifest(
                **facts(step.path, status), start=0, taken=status.st_size, raw=archive.raw, sha256=archive.sha256
            )
            size = archive.size
        except BaseException:
            drop(place)
            raise
        finally:
            archive.close()
        late = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if Identity.of(late) != step.identity or still_open(step, context):
            drop(place)
            raise Refused("it was written or opened at the last moment")
        os.unlink(name, dir_fd=folder)
    return Done(freed=used(status) - size, details={"archived_bytes": archive.raw}, undo={"entry": str(place.folder)})


def drop(place: store.Entry) -> None:
    """Take back an archive that was not finished; the log is still whole."""
    with contextlib.suppress(OSError):
        os.unlink(place.thing)
    store.discard(place)


def facts(path: Path, status: os.stat_result) -> dict[str, object]:
    """What a restored log needs besides its content."""
    return {
        "original": str(path), "mode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "gid": status.st_gid,
        "mtime_ns": status.st_mtime_ns, "atime_ns": status.st_atime_ns, "inode": status.st_ino, "packed": "zstd",
    }  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """Where a log is cut: archived from `start` on, gone up to `cut`; whole blocks up to `floor`."""

    start: int
    floor: int
    cut: int


@apply.register
def _(step: TrimLog, context: Context) -> Done:
    with opened(step, context, os.O_RDWR) as (descriptor, _folder, _name):
        status = os.fstat(descriptor)
        where = find_cut(descriptor, status, step.keep_lines, step.keep_bytes)
        if where.floor <= where.start:
            raise Refused("there is nothing to trim")
        room = min(where.cut - where.start, CHUNK)  # every part given back makes room for the next one's archive
        place = archive_place(context, step.path, room, "log-trim")
        archive = Archive(place.thing)
        place.write_manifest(**facts(step.path, status), start=where.start)
        taken = where.start
        touched = False
        try:
            for chunk in range(where.start, where.cut, CHUNK):
                end = min(chunk + CHUNK, where.cut)
                for start, length in pieces(chunk, end):
                    archive.add(read_whole(descriptor, length, start))
                archive.sync()
                place.write_manifest(archived=end, taken=taken, raw=archive.raw, sha256=archive.sha256)
                if shorter(descriptor, status):  # others truncate logs, too; what is there now was not archived
                    raise Refused("it became shorter at the last moment")
                if (whole := min(end, where.floor)) > chunk:
                    try:
                        fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, chunk, whole - chunk)
                    except OSError as error:  # one that the filesystem cannot do did nothing; any other may be half done
                        touched = touched or error.errno not in UNSUPPORTED
                        raise
                    touched = True
                if end > whole:  # the block that is shared with what stays
                    touched = True
                    blank(descriptor, whole, end)
                taken = end
            place.write_manifest(taken=taken)
        except BaseException:
            if not touched:
                drop(place)  # the log is whole; otherwise the archive has what it lacks
            raise
        finally:
            archive.close()
        collapsed = not shorter(descriptor, status) and collapse(step, context, descriptor, where)
        place.write_manifest(collapsed=where.floor if collapsed else 0, filler=where.cut - where.floor)
        freed = used(status) - used(os.fstat(descriptor)) - place.thing.stat().st_size
    details: dict[str, object] = {"archived_bytes": archive.raw, "way": "collapsed" if collapsed else "punched"}
    return Done(freed=max(freed, 0), details=details, undo={"entry": str(place.folder)})


def find_cut(descriptor: int, status: os.stat_result, keep_lines: int, keep_bytes: int) -> Cut:
    """Where to cut so that the last lines stay; what an earlier cut has left as a hole is not looked at again."""
    size, block = status.st_size, max(status.st_blksize, 4096)
    start = first_data(descriptor, size)
    cut = max(last_lines(descriptor, size, keep_lines, start), size - keep_bytes, start)
    return Cut(start, cut // block * block, cut)


def first_data(descriptor: int, size: int) -> int:
    """Where a file's leading hole ends (lseek(2), SEEK_DATA)."""
    if size == 0:
        return 0
    try:
        return os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else 0


def last_lines(descriptor: int, size: int, count: int, start: int) -> int:
    """The offset at which the last `count` lines begin."""
    position, found = size, 0
    while position > start:
        length = min(1 << 20, position - start)
        data = os.pread(descriptor, length, position - length)
        at = len(data)
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            ends_the_file = position - length + at == size - 1
            found += not ends_the_file
            if found == count:
                return position - length + at + 1
        position -= length
    return start if count else size


def pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    for offset in range(start, end, PIECE):
        yield offset, min(PIECE, end - offset)


def read_whole(descriptor: int, length: int, start: int) -> bytes:
    """Read so many bytes. Raises Refused where they are not there any more."""
    data = os.pread(descriptor, length, start)
    while len(data) < length:
        more = os.pread(descriptor, length - len(data), start + len(data))
        if not more:
            raise Refused("it became shorter at the last moment")
        data += more
    return data


def shorter(descriptor: int, before: os.stat_result) -> bool:
    return os.fstat(descriptor).st_size < before.st_size


def blank(descriptor: int, start: int, end: int) -> None:
    """Overwrite archived bytes with one empty-looking line, so that none of them is there twice."""
    filler = b" " * (end - start - 1) + b"\n"
    written = 0
    while written < len(filler):
        written += os.pwrite(descriptor, filler[written:], start + written)


def collapse(step: TrimLog, context: Context, descriptor: int, where: Cut) -> bool:
    """Make the file shorter where that is safe and possible. It is neither under a writer that keeps an offset of its own."""
    status = os.fstat(descriptor)
    seen = context.host.processes().open_files()
    if not logs.writers(step.identity, status.st_mode, status.st_uid, seen).append_only:
        return False
    try:
        fallocate(descriptor, COLLAPSE_RANGE, 0, where.floor)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        raise
    return True


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2), which Python has no call for. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "fallocate"):
        raise OSError(errno.EOPNOTSUPP, "this system cannot give back a part of a file")
    call = library.fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if call(descriptor, mode, offset, length):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
