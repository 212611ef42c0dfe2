"""Restoring the beginning of a log that was trimmed, into that very file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from miyabi_healing.gate.handlers.log_restore import (
    is_at,
    no_room,
    top_of,
    unusable_entry,
    write_contents,
)
from miyabi_healing.gate.primitives.compression import verify
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry, drop
from miyabi_healing.gate.primitives.syscalls import INSERT_RANGE, UNSUPPORTED, fallocate
from miyabi_healing.host import log_cutting, log_places, log_writers
from miyabi_healing.state import quarantine
from miyabi_healing.support import file_identity
from miyabi_healing.support.files import open_beneath
from miyabi_healing.support.formatting import display


@contextlib.contextmanager
def _shortened(entry: WrittenEntry, flags: int) -> Iterator[tuple[int, int, Path]]:
    """The log's descriptor, its folder's, and where it is now: it may have been rotated. Raises
    Refused, OSError.
    """
    top, original = top_of(entry)
    with open_beneath(top, original) as (folder, name):
        now = next(
            (each for each in (name, *sorted(os.listdir(folder))) if is_at(entry, folder, each)),
            None,
        )
        if now is None:
            raise Refused(
                "the log is not in its folder any more; what was cut off is in "
                f"{display(entry.payload)}"
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
    facts = entry.manifest
    if "collapsing" not in facts or facts.get("widened"):
        return False
    begins = log_cutting.first_data(descriptor, os.fstat(descriptor).st_size)
    if begins not in (facts["collapsing"], facts["collapsing"] - facts["floor"]):
        raise Refused("it was rewritten since")
    return bool(begins != facts["collapsing"])


def trim_objection(entry: WrittenEntry, context: Context) -> str | None:
    if "archived" not in entry.manifest:
        return None  # nothing was cut off yet
    if bad := unusable_entry(entry):
        return bad
    try:
        with _shortened(entry, os.O_RDONLY) as (descriptor, folder, path):
            return _log_trouble(entry, context, descriptor, path) or no_room(
                folder, entry.manifest["raw"]
            )
    except Refused as refusal:
        return str(refusal)
    except (OSError, ValueError) as error:
        return f"it cannot be reached: {getattr(error, 'strerror', None) or error}"


def _log_trouble(entry: WrittenEntry, context: Context, descriptor: int, path: Path) -> str | None:
    """What speaks against giving a log its beginning back. Raises Refused, OSError."""
    facts, status = entry.manifest, os.fstat(descriptor)
    now = file_identity.lasting_identity(descriptor)
    around = Path(entry.original).parent
    later = [
        each
        for each in quarantine.find_entries(context.state)
        if each.kind == entry.kind and each.time > entry.time
        and Path(each.original).parent == around and now.is_known_by(each.manifest)
    ]  # fmt: skip
    if later:
        return f"it was shortened again later (step {later[0].step}): roll that back first"
    if (status.st_uid, status.st_gid, status.st_mode & 0o777) != (
        facts["uid"],
        facts["gid"],
        facts["mode"] & 0o777,
    ):
        return (
            f"its owner or mode was changed since; what was cut off is in {display(entry.payload)}"
        )
    if reason := log_places.unsafe_place(path, status, top_of(entry)[0]):
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
        return (
            f"it was truncated or rewritten since; what was cut off is in {display(entry.payload)}"
        )
    seen = context.host.witness().of(path)
    found = log_writers.writers_of(path, os.fstat(descriptor), seen, but=descriptor)
    return log_writers.why_not_append_only(found, seen) if gone else found.trouble


def _untouched(entry: WrittenEntry, status: os.stat_result) -> bool:
    """Whether nobody has written to a log since it was shortened."""
    return (status.st_size, status.st_mtime_ns) == (
        entry.manifest.get("left_size"),
        entry.manifest.get("left_mtime_ns"),
    )


def restore_trim(entry: WrittenEntry, context: Context) -> str:
    if "archived" in entry.manifest:
        verify(entry.payload, entry.manifest)
        with _shortened(entry, os.O_RDWR) as (descriptor, _folder, path):
            if reason := _log_trouble(entry, context, descriptor, path):
                raise Refused(reason)
            before = os.fstat(descriptor)
            if _is_collapsed(entry, descriptor):
                _widen(descriptor, entry.manifest["floor"])
            entry.write_manifest(widened=True)
            write_contents(descriptor, entry)
            if _untouched(entry, before):
                os.utime(descriptor, ns=(entry.manifest["atime_ns"], entry.manifest["mtime_ns"]))
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
