"""Making logs smaller without losing a line.

A live log loses its beginning in place, under its writers: what is cut off is archived and on disk
first, then its blocks are given back with fallocate(2). Where all writers append, and the
filesystem can, the range is collapsed, so that the file itself gets shorter; otherwise a hole is
punched, which is right for every writer, because no offset changes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from miyabi_healing.gate.primitives import quarantine_restore, quarantine_writer
from miyabi_healing.gate.primitives.compression import PIECE, Archive
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.gate.primitives.roots import root_of
from miyabi_healing.gate.primitives.syscalls import (
    COLLAPSE_RANGE,
    KEEP_SIZE,
    PUNCH_HOLE,
    UNSUPPORTED,
    fallocate,
    rename_new,
)
from miyabi_healing.host import log_cutting, log_places, log_text, log_writers
from miyabi_healing.host.users import Witness
from miyabi_healing.model.identity import Identity
from miyabi_healing.model.steps import ArchiveLog, TrimLog
from miyabi_healing.state.store import has_room
from miyabi_healing.support import file_identity
from miyabi_healing.support.files import open_beneath, used
from miyabi_healing.support.formatting import size_text

PACKED = 0.3  # of a log at most, as a rule, once it is compressed
CHUNK = 64 << 20  # archived and given back at a time: a writer never waits for more
PAYS = 0.9  # an archive larger than that part of its log frees too little
WITNESS = 4096  # bytes after a cut by which the log is known again
_MOST_HOLES = 1000  # a file with more of them comes back without


def log_objection(step: TrimLog | ArchiveLog, context: Context) -> str | None:
    """What speaks against touching a log, asked afresh."""
    root = root_of(step.path, context.roots)
    if root is None:
        return "outside the allowed roots"
    if reason := log_places.unsafe_log(step.path, root, context.host.config.logs):
        return reason
    try:
        with opened(step, context, os.O_RDONLY) as (descriptor, _folder, _name):
            status = os.fstat(descriptor)
    except Refused as refusal:
        return str(refusal)
    return log_writers.writers_of(step.path, status, context.witness.of(step.path)).trouble


def still_open(
    step: ArchiveLog, witness: Witness, but: int = -1, now: Path | None = None
) -> str | None:
    """Why it cannot be said that nobody has a log open; `but` is a descriptor of our own that does
    not count.

    `now` is where it is, if it was renamed.
    """
    path = now or step.path
    seen = witness.of(path)
    return log_writers.why_not_closed(log_writers.writers_of(path, os.lstat(path), seen, but), seen)


@contextlib.contextmanager
def opened(
    step: TrimLog | ArchiveLog, context: Context, flags: int
) -> Iterator[tuple[int, int, str]]:
    """The log's descriptor, its folder's and its name; sure to be the file that was measured, and a
    log. Raises Refused.
    """
    root = root_of(step.path, context.roots)
    assert root is not None  # recheck has just said so
    with open_beneath(root, step.path) as (folder, name):
        descriptor = os.open(
            name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
        )
        try:
            status = os.fstat(descriptor)
            if (
                not Identity.of(status).same_file(step.identity)
                or not stat.S_ISREG(status.st_mode)
                or status.st_nlink != 1
            ):
                raise Refused("it was replaced since it was measured")
            if reason := log_text.why_not_text(descriptor, name):
                raise Refused(reason)
            if not isinstance(step, ArchiveLog) and log_text.is_packed(descriptor):
                raise Refused("it is compressed: without its beginning the rest of it is of no use")
            yield descriptor, folder, name
        finally:
            os.close(descriptor)


def archive_place(
    context: Context, path: Path, size: int, kind: str, *, original: Path | None = None
) -> quarantine_writer.WrittenEntry:
    """A place for an archive of `size` bytes: the log's own filesystem or, if that is full, the
    state folder's. `original` is what is archived, if that is not `path`.
    """
    for where in (path, context.state / "archive"):
        with contextlib.suppress(OSError):
            place = quarantine_writer.entry(context, where, kind, original=str(original or path))
            if has_room(place.folder, int(size * 0.3) + (1 << 20)):
                return place
            quarantine_restore.discard(place)
    raise Refused("there is no space to archive it")


def aside(entry: quarantine_writer.WrittenEntry, what: str) -> str:
    """A name beside the log that nothing else has."""
    return f".miyabi-{entry.run}-{entry.folder.name}-{what}"


def take_out(
    step: ArchiveLog,
    context: Context,
    descriptor: int,
    folder: int,
    place: quarantine_writer.WrittenEntry,
) -> None:
    """Rename the log to where nobody can open it, and only then look for the last time: logs are
    rotated at any moment.

    Raises Refused where it was another file, or was written or opened; it then has its name again.
    Raises OSError where that name was taken meanwhile.
    """
    name, gone = step.path.name, aside(place, "gone")
    try:
        rename_new(folder, name, folder, gone)
    except FileNotFoundError:
        raise Refused("it is gone already") from None
    place.manifest["touched"] = (
        True  # until it has its name again, the archive and the manifest stay
    )
    found = Identity.of(os.stat(gone, dir_fd=folder, follow_symlinks=False))
    if found == step.identity and not still_open(
        step, context.host.witness(), descriptor, step.path.parent / gone
    ):
        return
    rename_new(folder, gone, folder, name)
    del place.manifest["touched"]
    raise Refused("it was written or opened at the last moment")


@contextlib.contextmanager
def archiving(
    context: Context, path: Path, size: int, kind: str
) -> Iterator[tuple[quarantine_writer.WrittenEntry, Archive]]:
    """An archive to fill, in a place of its own. What fails inside takes it back, unless the log
    already lacks a part of it.
    """
    place = archive_place(context, path, size, kind)
    try:
        archive = Archive(place.payload)
        try:
            yield place, archive
        finally:
            archive.close()
    except BaseException:
        if not place.manifest.get("touched"):
            quarantine_writer.drop(place)
        raise


def manifest_of_log(
    step: TrimLog | ArchiveLog, context: Context, descriptor: int, status: os.stat_result
) -> dict[str, object]:
    """What it takes to give a log back, besides its content."""
    return {
        "original": str(step.path),
        "root": str(root_of(step.path, context.roots)),
        "packed": "zstd",
        **facts_of_log(descriptor, status),
        "holes": holes(descriptor, status.st_size),
    }


def facts_of_log(
    descriptor: int, status: os.stat_result, where: str | None = None
) -> dict[str, object]:
    """What a log is known by, and what it gets again; `where` is its filesystem, if that is
    known.
    """
    names = os.listxattr(descriptor) if hasattr(os, "listxattr") else []
    return {
        "identity": file_identity.lasting_identity(descriptor, where).facts,
        "size": status.st_size,
        "mode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "atime_ns": status.st_atime_ns,
        "mtime_ns": status.st_mtime_ns,
        "xattrs": {name: os.getxattr(descriptor, name).hex() for name in names},
    }


def holes(descriptor: int, size: int) -> list[tuple[int, int]]:
    """The holes of a file, each from where to where (lseek(2), SEEK_HOLE)."""
    found: list[tuple[int, int]] = []
    with contextlib.suppress(OSError):  # a filesystem that cannot tell has none
        end = 0
        while (
            end < size
            and (start := os.lseek(descriptor, end, os.SEEK_HOLE)) < size
            and len(found) < _MOST_HOLES
        ):
            try:
                end = os.lseek(descriptor, start, os.SEEK_DATA)
            except OSError:  # ENXIO: there is no data any more
                end = size
            found.append((start, end))
    return found if len(found) < _MOST_HOLES else []


def punch_all(descriptor: int, before: os.stat_result, where: log_cutting.Cut) -> None:
    """Give back everything up to a cut, a part at a time: a writer waits for one part, not for
    all.
    """
    for begin in range(where.start, where.floor, CHUNK):
        if shorter(descriptor, before):
            raise Refused("it became shorter at the last moment")
        punch(descriptor, begin, min(begin + CHUNK, where.floor), first=begin == where.start)
    if where.cut > where.floor:
        blank(descriptor, where.floor, where.cut)


def punch(descriptor: int, begin: int, end: int, first: bool) -> None:
    """Give the blocks of a part back. Raises Refused where that cannot be done at all, OSError
    where it fails later.
    """
    try:
        fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, begin, end - begin)
    except OSError as error:
        if first and error.errno in UNSUPPORTED:
            raise Refused("its filesystem cannot free a part of a file") from None
        raise


def free_blocks(
    descriptor: int,
    before: os.stat_result,
    place: quarantine_writer.WrittenEntry,
    begin: int,
    end: int,
    floor: int,
) -> None:
    """Give back a part that is in the archive. From the first byte on the archive is all there is
    of it: ``touched`` says so.
    """
    first = not place.manifest.get("touched")
    if shorter(descriptor, before):  # others truncate logs, too; what is there now was not archived
        reason = "it became shorter at the last moment"
        raise Refused(reason) if first else OSError(f"{reason}; what was cut before is archived")
    if (whole := min(end, floor)) > begin:
        # beforehand: a call that fails half way has given some of it back
        place.manifest["touched"] = True
        try:
            punch(descriptor, begin, whole, first)
        except Refused:
            del place.manifest["touched"]
            raise
    if end > whole:  # the block that is shared with what stays
        blank(descriptor, max(whole, begin), end)


def contents(descriptor: int, begin: int, end: int) -> Iterator[memoryview]:
    """What is between two places, in pieces, each gone when the next one comes. Raises Refused
    where it is not all there.
    """
    # one for all: fresh memory for each costs more than hashing
    room = memoryview(bytearray(min(PIECE, end - begin)))
    for start in range(begin, end, PIECE):
        piece = room[: min(PIECE, end - start)]
        filled = 0
        while filled < len(piece):
            got = os.preadv(descriptor, [piece[filled:]], start + filled)
            if not got:
                raise Refused("it became shorter at the last moment")
            filled += got
        yield piece


def shorter(descriptor: int, before: os.stat_result) -> bool:
    return os.fstat(descriptor).st_size < before.st_size


def blank(descriptor: int, start: int, end: int) -> None:
    """Overwrite archived bytes with one empty-looking line, so that none of them is there twice."""
    filler = b" " * (end - start - 1) + b"\n"
    written = 0
    while written < len(filler):
        written += os.pwrite(descriptor, filler[written:], start + written)


def collapse(
    step: TrimLog,
    context: Context,
    descriptor: int,
    before: os.stat_result,
    place: quarantine_writer.WrittenEntry,
) -> bool:
    """Make the file shorter where that is safe and possible. It is neither under a writer that
    keeps an offset of its own.

    Where its data begins is noted first: after a crash that alone tells whether the file was
    collapsed.
    """
    if not can_collapse(step, context, descriptor, before):
        return False
    place.write_manifest(
        collapsing=log_cutting.first_data(descriptor, os.fstat(descriptor).st_size)
    )
    return collapse_to(descriptor, place.manifest["floor"])


def why_as_long(status: os.stat_result) -> str:
    """Why ``ls`` shows a log that a hole was punched into as large as before."""
    return (
        f"ls still shows {size_text(status.st_size)}, as its writers' offsets must not move; on "
        f"the disk it takes {size_text(used(status))} (ls -s, du)"
    )


def can_collapse(step: TrimLog, context: Context, descriptor: int, before: os.stat_result) -> bool:
    seen = context.host.witness().of(step.path)
    holders = log_writers.writers_of(step.path, os.fstat(descriptor), seen, but=descriptor)
    return holders.append_only and not shorter(descriptor, before)


def collapse_to(descriptor: int, floor: int) -> bool:
    """Take away everything before `floor`; False where the filesystem cannot."""
    try:
        fallocate(descriptor, COLLAPSE_RANGE, 0, floor)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        raise
    return True
