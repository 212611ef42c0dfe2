"""Giving logs back: an archived one under its name, a shortened one in place, under its writers.

What was written since stays behind what was archived. A log that was punched gets its bytes back where they were; one that was
collapsed is widened at its front first (fallocate(2), FALLOC_FL_INSERT_RANGE), which appending writers do not notice.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from miyabi_healing.files import display, open_beneath, size_text
from miyabi_healing.gate.logs import aside, contents
from miyabi_healing.gate.store import Entry, drop, set_times
from miyabi_healing.gate.syscalls import INSERT_RANGE, UNSUPPORTED, fallocate, rename_new
from miyabi_healing.gate.undo import WAYS, Way
from miyabi_healing.gate.verbs import Context, Refused
from miyabi_healing.gate.zstd import unpack, verify
from miyabi_healing.host import logs, quarantine


def top_of(entry: Entry) -> tuple[Path, Path]:
    return Path(entry.facts["root"]), Path(entry.original)


def is_at(entry: Entry, folder: int, name: str, *, unchanged: bool = False) -> bool:
    """Whether a name stands for the log itself, by its inode; `unchanged` asks for size and time too.

    They matter where the log was deleted: the next file that is made often gets its inode.
    """
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    same = (found.st_dev, found.st_ino) == (entry.facts.get("device"), entry.facts.get("inode"))
    return same and (not unchanged or (found.st_size, found.st_mtime_ns) == (entry.facts["size"], entry.facts["mtime_ns"]))


def is_published(entry: Entry, folder: int) -> bool:
    """Whether an earlier attempt came as far as giving the log its name: only then the name it was made under is free."""
    return bool(entry.facts.get("published")) and not is_there(folder, aside(entry, "new"))


def is_there(folder: int, name: str) -> bool:
    """Whether there is anything of that name, a link that leads nowhere included."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def no_room(folder: int, needed: int) -> str | None:
    space = os.fstatvfs(folder)
    free = (space.f_bavail if os.geteuid() else space.f_bfree) * space.f_frsize
    return None if free > needed else f"it takes {size_text(needed)}, but {size_text(free)} are free"


def unusable(entry: Entry) -> str | None:
    """What is wrong with an archive; None where it is whole."""
    try:
        verify(entry.thing, entry.facts)
    except FileNotFoundError:
        return "its archive is gone"
    except OSError as error:
        return f"its archive cannot be used: {error.strerror}"
    return None


def put(descriptor: int, entry: Entry) -> None:
    """Write what was archived to where it was, but for its holes. Raises OSError, at the end where the archive is damaged."""
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


def closed(path: Path, top: Path, context: Context) -> str | None:
    """Why the file that has taken a log's name cannot be put behind it; None where it can."""
    if reason := logs.unsafe(path, top, context.host.config.logs.databases):
        return reason
    found = logs.writers(path, os.lstat(path), context.host.processes().open_files())
    if found.holders:
        return f"{found.holders[0].name} (pid {found.holders[0].pid}) has it open"
    return None if found.closed else "holders unknown"


def archive_objection(entry: Entry, context: Context) -> str | None:
    if "raw" not in entry.facts:
        return None  # the archive was not finished, so the log was not touched
    top, original = top_of(entry)
    try:
        with open_beneath(top, original) as (folder, name):
            if is_there(folder, gone := aside(entry, "gone")):  # it was cut short before the log itself was deleted
                return (
                    f"something else is at {display(original)} now; it is beside it, as {gone}"
                    if is_there(folder, name)
                    else None
                )
            if is_at(entry, folder, name, unchanged=True) or is_published(entry, folder):
                return None
            if bad := unusable(entry):
                return bad
            if os.path.lexists(original) and (reason := closed(original, top, context)):
                return f"something else is at {display(original)} now: {reason}"
            return no_room(folder, entry.facts["raw"])
    except (OSError, ValueError) as error:
        return f"its folder cannot be reached: {getattr(error, 'strerror', None) or error}"


def restore_archive(entry: Entry, context: Context) -> None:
    top, original = top_of(entry) if "root" in entry.facts else (Path("/"), Path(entry.original))
    with open_beneath(top, original) as (folder, name):
        if is_there(folder, aside(entry, "gone")):
            rename_new(folder, aside(entry, "gone"), folder, name)
            os.fsync(folder)
        elif "raw" in entry.facts and not is_at(entry, folder, name, unchanged=True):
            parent = os.fstat(folder)
            if not is_published(entry, folder):
                publish(entry, context, folder, name)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside(entry, "since"), dir_fd=folder)
            if times := entry.facts.get("parent_times"):
                set_times(folder, parent, times[2], times[:2])
            os.fsync(folder)
    drop(entry)


def publish(entry: Entry, context: Context, folder: int, name: str) -> None:
    """Make the log anew beside its place, with what has been written under its name since behind it, and give it its name."""
    fresh, since = aside(entry, "new"), aside(entry, "since")
    verify(entry.thing, entry.facts)
    entry.write_manifest(published=False)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh, dir_fd=folder)
    with contextlib.suppress(FileNotFoundError):
        rename_new(folder, name, folder, since)  # nobody can open it by its name any more: now look who has it
    top, original = top_of(entry)
    if os.path.lexists(original.parent / since) and (reason := closed(original.parent / since, top, context)):
        rename_new(folder, since, folder, name)
        raise Refused(f"something else is at {display(original)} now: {reason}")
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        put(descriptor, entry)
        os.ftruncate(descriptor, entry.facts["size"])
        newer = append(descriptor, folder, since)
        dress(descriptor, entry, newer)
        os.fsync(descriptor)
        entry.write_manifest(published=True)
    finally:
        os.close(descriptor)
    rename_new(folder, fresh, folder, name)


def append(descriptor: int, folder: int, name: str) -> os.stat_result | None:
    """Put the content of `name` behind what is there, if there is such a file; returns what it was."""
    try:
        other = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        status, end = os.fstat(other), os.fstat(descriptor).st_size
        for data in contents(other, 0, status.st_size):
            while data:
                data = data[(written := os.pwrite(descriptor, data, end)) :]
                end += written
        return status
    finally:
        os.close(other)


def dress(descriptor: int, entry: Entry, newer: os.stat_result | None) -> None:
    """Owner, mode, attributes and times as they were."""
    facts = entry.facts
    os.fchown(descriptor, facts["uid"], facts["gid"])
    os.fchmod(descriptor, facts["mode"])
    for name, value in facts["xattrs"].items():
        with contextlib.suppress(PermissionError):  # a security label that only the system may give
            os.setxattr(descriptor, name, bytes.fromhex(value))
    times = (newer.st_atime_ns, newer.st_mtime_ns) if newer else (facts["atime_ns"], facts["mtime_ns"])
    os.utime(descriptor, ns=times)


# A log that was shortened


@contextlib.contextmanager
def shortened(entry: Entry, flags: int) -> Iterator[tuple[int, int, Path]]:
    """The log's descriptor, its folder's, and where it is now: it may have been rotated. Raises Refused, OSError."""
    top, original = top_of(entry)
    with open_beneath(top, original) as (folder, name):
        now = next((each for each in (name, *sorted(os.listdir(folder))) if is_at(entry, folder, each)), None)
        if now is None:
            raise Refused(f"the log is not in its folder any more; what was cut off is in {display(entry.thing)}")
        descriptor = os.open(now, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Refused("it is no regular file any more")
            yield descriptor, folder, original.parent / now
        finally:
            os.close(descriptor)


def is_collapsed(entry: Entry, descriptor: int) -> bool:
    """Whether the front of a log is missing, not just empty. Raises Refused where that cannot be told."""
    facts = entry.facts
    if "collapsing" not in facts or facts.get("widened"):
        return False
    begins = logs.first_data(descriptor, os.fstat(descriptor).st_size)
    if begins not in (facts["collapsing"], facts["collapsing"] - facts["floor"]):
        raise Refused("it was rewritten since")
    return bool(begins != facts["collapsing"])


def trim_objection(entry: Entry, context: Context) -> str | None:
    if "archived" not in entry.facts:
        return None  # nothing was cut off yet
    if bad := unusable(entry):
        return bad
    try:
        with shortened(entry, os.O_RDONLY) as (descriptor, folder, path):
            return trouble(entry, context, descriptor, path) or no_room(folder, entry.facts["raw"])
    except Refused as refusal:
        return str(refusal)
    except (OSError, ValueError) as error:
        return f"it cannot be reached: {getattr(error, 'strerror', None) or error}"


def trouble(entry: Entry, context: Context, descriptor: int, path: Path) -> str | None:
    """What speaks against giving a log its beginning back. Raises Refused, OSError."""
    facts = entry.facts
    keys = ("device", "inode")
    later = [
        each
        for each in quarantine.find(context.state)
        if each.kind == entry.kind and each.time > entry.time and all(each.facts.get(key) == facts[key] for key in keys)
    ]
    if later:
        return f"it was shortened again later (step {later[0].step}): roll that back first"
    if reason := logs.unsafe(path, top_of(entry)[0], context.host.config.logs.databases):
        return reason
    gone = facts["floor"] if is_collapsed(entry, descriptor) else 0
    begins = logs.first_data(descriptor, os.fstat(descriptor).st_size)
    refilled = not gone and "left_size" in facts and not facts.get("widened") and begins < facts["floor"]
    witness = os.pread(descriptor, facts["witness"], facts["cut"] - gone)
    if refilled or hashlib.sha256(witness).hexdigest() != facts["witness_sha256"]:
        return f"it was truncated or rewritten since; what was cut off is in {display(entry.thing)}"
    found = logs.writers(path, os.fstat(descriptor), context.host.processes().open_files(), but=descriptor)
    if found.trouble or (gone and not found.append_only):
        return found.trouble or "it has a writer that keeps an offset of its own"
    return None


def restore_trim(entry: Entry, context: Context) -> None:
    if "archived" in entry.facts:
        verify(entry.thing, entry.facts)
        with shortened(entry, os.O_RDWR) as (descriptor, _folder, path):
            if reason := trouble(entry, context, descriptor, path):
                raise Refused(reason)
            before = os.fstat(descriptor)
            if is_collapsed(entry, descriptor):
                widen(descriptor, entry.facts["floor"])
            entry.write_manifest(widened=True)
            put(descriptor, entry)
            if (before.st_size, before.st_mtime_ns) == (entry.facts.get("left_size"), entry.facts.get("left_mtime_ns")):
                os.utime(descriptor, ns=(entry.facts["atime_ns"], entry.facts["mtime_ns"]))
            os.fsync(descriptor)
    drop(entry)


def widen(descriptor: int, length: int) -> None:
    try:
        fallocate(descriptor, INSERT_RANGE, 0, length)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            raise Refused("its filesystem cannot widen a file at its front") from None
        raise


WAYS["log-archive"] = Way(archive_objection, restore_archive)
WAYS["log-trim"] = Way(trim_objection, restore_trim)
