"""Giving logs back: an archived one as a file of its own, a shortened one in place, under its
writers.

Only the very file that was shortened is written to; an archived one whose name something else has
now is made beside it. A log that was punched gets its bytes back where they were; one that was
collapsed is widened at its front first (fallocate(2), FALLOC_FL_INSERT_RANGE), which appending
writers do not notice.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from miyabi_healing.gate.handlers.log_files import aside
from miyabi_healing.gate.primitives.compression import unpack, verify
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry, drop, set_times
from miyabi_healing.gate.primitives.syscalls import INSERT_RANGE, UNSUPPORTED, fallocate, rename_new
from miyabi_healing.host import log_cutting, log_places, log_writers
from miyabi_healing.state import quarantine
from miyabi_healing.support import file_identity
from miyabi_healing.support.files import open_beneath
from miyabi_healing.support.formatting import display, size_text

# bytes of a log's name that one beside it begins with: a name has 255 at most (NAME_MAX)
_LONGEST_NAME = 180


def _top_of(entry: WrittenEntry) -> tuple[Path, Path]:
    return Path(entry.facts["root"]), Path(entry.original)


def _is_at(entry: WrittenEntry, folder: int, name: str, *, unchanged: bool = False) -> bool:
    """Whether a name stands for the log itself, by what lasts; `unchanged` asks for size and time
    too.

    They matter where the log was deleted: the next file that is made often gets its inode.
    """
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if found.st_ino != entry.facts.get("identity", entry.facts).get("inode"):
            return False
        same = file_identity.lasting_identity_at(folder, name).is_known_by(entry.facts)
    except FileNotFoundError:
        return False
    return same and (
        not unchanged
        or (found.st_size, found.st_mtime_ns) == (entry.facts["size"], entry.facts["mtime_ns"])
    )


def _is_back(entry: WrittenEntry, folder: int) -> bool:
    """Whether an earlier attempt came as far as giving the log a name: only then the one it had
    meanwhile is free.
    """
    published = entry.facts.get("published") and not _is_there(folder, aside(entry, "new"))
    return bool(published or entry.facts.get("returning"))


def _is_there(folder: int, name: str) -> bool:
    """Whether there is anything of that name, a link that leads nowhere included."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _no_room(folder: int, needed: int) -> str | None:
    space = os.fstatvfs(folder)
    free = (space.f_bavail if os.geteuid() else space.f_bfree) * space.f_frsize
    return (
        None if free > needed else f"it takes {size_text(needed)}, but {size_text(free)} are free"
    )


def _unusable(entry: WrittenEntry) -> str | None:
    """What is wrong with an archive; None where it is whole."""
    try:
        verify(entry.thing, entry.facts)
    except FileNotFoundError:
        return "its archive is gone"
    except OSError as error:
        return f"its archive cannot be used: {error.strerror}"
    return None


def _put(descriptor: int, entry: WrittenEntry) -> None:
    """Write what was archived to where it was, but for its holes. Raises OSError, at the end where
    the archive is damaged.
    """
    position = entry.facts["start"]
    for data in unpack(entry.thing, entry.facts):
        end = position + len(data)
        at = position
        for start, stop in [*entry.facts["holes"], (end, end)]:
            while at < min(start, end):
                at += os.pwrite(descriptor, data[at - position : min(start, end) - position], at)
            at = max(at, stop) if start < end else at
        position = end


# A log that was archived and deleted


def archive_objection(entry: WrittenEntry, context: Context) -> str | None:
    if "raw" not in entry.facts:
        return None  # the archive was not finished, so the log was not touched
    top, original = _top_of(entry)
    try:
        with open_beneath(top, original) as (folder, name):
            # it was cut short before the log itself was deleted
            if _is_there(folder, aside(entry, "gone")):
                return None
            if _is_at(entry, folder, name, unchanged=True) or _is_back(entry, folder):
                return None
            return _unusable(entry) or _no_room(folder, entry.facts["raw"])
    except (OSError, ValueError) as error:
        return f"its folder cannot be reached: {getattr(error, 'strerror', None) or error}"


def restore_archive(entry: WrittenEntry, context: Context) -> str:
    """Make the log again; returns where it is, if that is not where it was."""
    if "raw" not in entry.facts:
        drop(entry)
        return ""
    top, original = _top_of(entry)
    with open_beneath(top, original) as (folder, name):
        _put_other_back(entry, folder, name)
        parent, gone = os.fstat(folder), aside(entry, "gone")
        if _is_there(folder, gone):
            entry.write_manifest(returning=True)
            place = _rename_free(entry, folder, gone, name)
        elif _is_at(entry, folder, name, unchanged=True):
            place = name
        elif _is_back(entry, folder):
            place = str(entry.facts.get("place", name))
        else:
            place = _publish(entry, folder, name)
            if len(times := entry.facts.get("parent_times", [])) == 3:
                set_times(folder, parent, times[2], times[:2])
        os.fsync(folder)
    drop(entry)
    return (
        ""
        if place == name
        else f"something else is at {display(original)} now; it is beside it, as {display(place)}"
    )


def would_be_beside(entry: WrittenEntry) -> str:
    """Words for a dry run, where something else has the log's name."""
    if (
        "raw" not in entry.facts
        or not os.path.lexists(entry.original)
        or entry.facts.get("published")
    ):
        return ""
    found = os.lstat(entry.original)
    if (found.st_size, found.st_mtime_ns) == (entry.facts["size"], entry.facts["mtime_ns"]):
        return ""  # most likely itself: it was not deleted yet
    return f"something else is at {display(entry.original)} now, so it is made beside it"


def _put_other_back(entry: WrittenEntry, folder: int, name: str) -> None:
    """What an earlier version had moved away from the log's name when it was cut short gets that
    name again.
    """
    with contextlib.suppress(FileNotFoundError, FileExistsError):
        rename_new(folder, aside(entry, "since"), folder, name)


def _rename_free(entry: WrittenEntry, folder: int, old: str, name: str) -> str:
    """Rename to a name that nothing has: the log's own or, where that is taken, one beside it.
    Returns it.
    """
    short = os.fsdecode(os.fsencode(name)[:_LONGEST_NAME])
    for number in range(1000):
        beside = f"{short}.restored-{entry.run}" + (f".{number}" if number > 1 else "")
        place = beside if number else name
        entry.write_manifest(place=place)
        with contextlib.suppress(FileExistsError):
            rename_new(folder, old, folder, place)
            return place
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _publish(entry: WrittenEntry, folder: int, name: str) -> str:
    """Make the log anew under a name of our own, and only when it is whole give it its name.
    Returns that.
    """
    fresh = aside(entry, "new")
    verify(entry.thing, entry.facts)
    entry.write_manifest(published=False)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh, dir_fd=folder)
    descriptor = os.open(
        fresh,
        os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
        dir_fd=folder,
    )
    try:
        _put(descriptor, entry)
        os.ftruncate(descriptor, entry.facts["size"])
        dress(descriptor, entry)
        os.fsync(descriptor)
        entry.write_manifest(published=True)
    finally:
        os.close(descriptor)
    return _rename_free(entry, folder, fresh, name)


def dress(descriptor: int, entry: WrittenEntry) -> None:
    """Owner, mode, attributes and times as they were."""
    facts = entry.facts
    os.fchown(descriptor, facts["uid"], facts["gid"])
    os.fchmod(descriptor, facts["mode"])
    for name, value in facts["xattrs"].items():
        with contextlib.suppress(PermissionError):  # a security label that only the system may give
            os.setxattr(descriptor, name, bytes.fromhex(value))
    os.utime(descriptor, ns=(facts["atime_ns"], facts["mtime_ns"]))


# A log that was shortened


@contextlib.contextmanager
def _shortened(entry: WrittenEntry, flags: int) -> Iterator[tuple[int, int, Path]]:
    """The log's descriptor, its folder's, and where it is now: it may have been rotated. Raises
    Refused, OSError.
    """
    top, original = _top_of(entry)
    with open_beneath(top, original) as (folder, name):
        now = next(
            (each for each in (name, *sorted(os.listdir(folder))) if _is_at(entry, folder, each)),
            None,
        )
        if now is None:
            raise Refused(
                "the log is not in its folder any more; what was cut off is in "
                f"{display(entry.thing)}"
            )
        descriptor = os.open(
            now, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
        )
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Refused("it is no regular file any more")
            yield descriptor, folder, original.parent / now
        finally:
            os.close(descriptor)


def _is_collapsed(entry: WrittenEntry, descriptor: int) -> bool:
    """Whether the front of a log is missing, not just empty. Raises Refused where that cannot be
    told.
    """
    facts = entry.facts
    if "collapsing" not in facts or facts.get("widened"):
        return False
    begins = log_cutting.first_data(descriptor, os.fstat(descriptor).st_size)
    if begins not in (facts["collapsing"], facts["collapsing"] - facts["floor"]):
        raise Refused("it was rewritten since")
    return bool(begins != facts["collapsing"])


def trim_objection(entry: WrittenEntry, context: Context) -> str | None:
    if "archived" not in entry.facts:
        return None  # nothing was cut off yet
    if bad := _unusable(entry):
        return bad
    try:
        with _shortened(entry, os.O_RDONLY) as (descriptor, folder, path):
            return _log_trouble(entry, context, descriptor, path) or _no_room(
                folder, entry.facts["raw"]
            )
    except Refused as refusal:
        return str(refusal)
    except (OSError, ValueError) as error:
        return f"it cannot be reached: {getattr(error, 'strerror', None) or error}"


def _log_trouble(entry: WrittenEntry, context: Context, descriptor: int, path: Path) -> str | None:
    """What speaks against giving a log its beginning back. Raises Refused, OSError."""
    facts, status = entry.facts, os.fstat(descriptor)
    now = file_identity.lasting_identity(descriptor)
    around = Path(entry.original).parent
    later = [
        each
        for each in quarantine.find_entries(context.state)
        if each.kind == entry.kind and each.time > entry.time
        and Path(each.original).parent == around and now.is_known_by(each.facts)
    ]  # fmt: skip
    if later:
        return f"it was shortened again later (step {later[0].step}): roll that back first"
    if (status.st_uid, status.st_gid, status.st_mode & 0o777) != (
        facts["uid"],
        facts["gid"],
        facts["mode"] & 0o777,
    ):
        return f"its owner or mode was changed since; what was cut off is in {display(entry.thing)}"
    if reason := log_places.unsafe_place(path, status, _top_of(entry)[0]):
        return reason
    gone = facts["floor"] if _is_collapsed(entry, descriptor) else 0
    begins = log_cutting.first_data(descriptor, os.fstat(descriptor).st_size)
    refilled = (
        not gone and "left_size" in facts and not facts.get("widened") and begins < facts["floor"]
    )
    witness = os.pread(descriptor, facts["witness"], facts["cut"] - gone)
    # an earlier version named no filesystem
    unknown = not ("identity" in facts or witness or _untouched(entry, status))
    if refilled or unknown or hashlib.sha256(witness).hexdigest() != facts["witness_sha256"]:
        return f"it was truncated or rewritten since; what was cut off is in {display(entry.thing)}"
    found = log_writers.writers_of(
        path, os.fstat(descriptor), context.host.witness().of(path), but=descriptor
    )
    if found.trouble or (gone and not found.append_only):
        return found.trouble or "it has a writer that keeps an offset of its own"
    return None


def _untouched(entry: WrittenEntry, status: os.stat_result) -> bool:
    """Whether nobody has written to a log since it was shortened."""
    return (status.st_size, status.st_mtime_ns) == (
        entry.facts.get("left_size"),
        entry.facts.get("left_mtime_ns"),
    )


def restore_trim(entry: WrittenEntry, context: Context) -> str:
    if "archived" in entry.facts:
        verify(entry.thing, entry.facts)
        with _shortened(entry, os.O_RDWR) as (descriptor, _folder, path):
            if reason := _log_trouble(entry, context, descriptor, path):
                raise Refused(reason)
            before = os.fstat(descriptor)
            if _is_collapsed(entry, descriptor):
                _widen(descriptor, entry.facts["floor"])
            entry.write_manifest(widened=True)
            _put(descriptor, entry)
            if _untouched(entry, before):
                os.utime(descriptor, ns=(entry.facts["atime_ns"], entry.facts["mtime_ns"]))
            os.fsync(descriptor)
    drop(entry)
    return ""


def _widen(descriptor: int, length: int) -> None:
    try:
        fallocate(descriptor, INSERT_RANGE, 0, length)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            raise Refused("its filesystem cannot widen a file at its front") from None
        raise
