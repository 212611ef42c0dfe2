"""The quarantine: where removed things that a person might want wait on their own filesystem,
private and described.

A thing is renamed, never copied, so its owner, mode, times and extended attributes stay as they
are.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from pathlib import Path

from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.gate.primitives.quarantine_locations import (
    PRIVATE_MODE,
    locations_for,
    private_folder,
    register,
    sync_folder,
)
from miyabi_healing.gate.primitives.quarantine_restore import discard, put_back
from miyabi_healing.model.identity import Identity
from miyabi_healing.state import quarantine
from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.support.files import open_beneath, used
from miyabi_healing.support.formatting import display

# another place may do; a full or failing disk will not
_NOT_HERE = (errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)


class WrittenEntry(QuarantineEntry):
    """One thing in quarantine that is being filled or emptied."""

    @classmethod
    def at(cls, folder: Path) -> WrittenEntry:
        """An entry with its manifest, as it is on disk now."""
        found = quarantine.read_entry(folder)
        return cls(folder, found.manifest, found.damage)

    @property
    def manifest_file(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def occupied(self) -> int:
        """The bytes that an entry takes whose payload is one file: with its folder and manifest."""
        parts = (self.folder, self.manifest_file, self.payload)
        return sum(used(os.lstat(each)) for each in parts)

    def write_manifest(self, **facts: object) -> None:
        """Add facts to the manifest, durably: a crash leaves the old one or the new one."""
        self.manifest.update(facts)
        aside = self.folder / "manifest.new"
        descriptor = os.open(
            aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(self.manifest, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.rename(aside, self.manifest_file)
        sync_folder(self.folder)


def _entry_in(base: Path, context: Context, path: Path, kind: str, **facts: object) -> WrittenEntry:
    """Make a place in one quarantine. Raises OSError, and Refused where there is no space even for
    that.
    """
    try:
        return _make_entry(base, context, path, kind, **facts)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refused(f"there is no space for a quarantine in {display(base.parent)}") from None
        raise


def _make_entry(
    base: Path, context: Context, path: Path, kind: str, **facts: object
) -> WrittenEntry:
    private_folder(base)
    register(context.state, base)  # only now: what others prepared must never count as ours
    run = base / context.run_id
    private_folder(run)
    for number in range(1_000_000):
        again = f".{number:06}" if number else ""
        folder = run / f"{context.step:04}-{kind.replace(' ', '-')}{again}"
        try:
            os.mkdir(folder, PRIVATE_MODE)
        except FileExistsError:
            continue
        entry = WrittenEntry(folder)
        about: dict[str, object] = {
            "original": str(path),
            "kind": kind,
            "run": context.run_id,
            "step": context.step,
        }
        about |= {"time": time.time()}
        if context.now:
            about |= {"seen": context.now.seen, "clock": context.now.clock}
        if (size := context.sizes.get(path)) is not None:
            about["bytes"] = size
        try:
            entry.write_manifest(**{**about, **facts})
            sync_folder(run)
        except BaseException:
            discard(entry)
            raise
        return entry
    raise OSError(errno.EMFILE, "too many entries of one run", str(run))


def entry(context: Context, path: Path, kind: str, **facts: object) -> WrittenEntry:
    """Make a private place on `path`'s filesystem for one thing, with its manifest. Raises OSError
    where none can be.
    """
    problem: OSError | None = None
    for base in locations_for(context, path):
        try:
            return _entry_in(base, context, path, kind, **facts)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            problem = problem or error
    raise problem or OSError(errno.ENOENT, "no place for a quarantine", str(path))


def drop(place: WrittenEntry) -> None:
    """Take back a place with the copy it holds, which nobody needs (any more): marked first, so
    that a crash leaves no riddle.
    """
    with contextlib.suppress(OSError):  # on a full disk it goes without the mark
        place.write_manifest(dropped=True)
    with contextlib.suppress(OSError):
        os.unlink(place.payload)
    discard(place)


def quarantine_path(
    context: Context,
    root: Path,
    path: Path,
    identity: Identity,
    kind: str,
    *,
    unsynced: list[Path] | None = None,
    **facts: object,
) -> WrittenEntry:
    """Rename `path`, which lies beneath `root`, into quarantine. Raises Refused where it is not
    what was measured.

    The folders whose names have changed are made durable; where `unsynced` is given, they are added
    to it instead, in the order for that, for whoever takes several things out of one.

    The name is renamed first and looked at afterwards: between a look and a deletion a new file can
    take the name, after a rename nothing can. A stranger caught that way is put back.
    """
    crossed: OSError | None = None
    for base in locations_for(context, path):
        parent = os.lstat(path.parent)
        times = [parent.st_atime_ns, parent.st_mtime_ns]
        around = [stat.S_IMODE(parent.st_mode), parent.st_uid, parent.st_gid]
        try:
            place = _entry_in(
                base,
                context,
                path,
                kind,
                root=str(root),
                parent_times=times,
                parent=around,
                **facts,
            )
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            crossed = crossed or error
            continue
        try:
            with open_beneath(root, path) as (folder, name):
                os.rename(name, place.payload, src_dir_fd=folder)
                # whatever a network filesystem says to that: the thing is here now, and stays on
                # record
                left = _time_of(folder)
        except FileNotFoundError:
            discard(place)
            raise Refused("it is gone already") from None
        except OSError as error:
            discard(place)
            if error.errno not in _NOT_HERE:
                raise
            # a bind mount or subvolume in between: same device number, yet no rename
            crossed = error
            continue
        status = os.lstat(place.payload)
        if Identity.of(status).unchanged(identity):
            # its time changes with whatever befalls its other names
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                # on a full disk, a folder's time is not worth failing for
                with contextlib.suppress(OSError):
                    place.write_manifest(left=left)
            # where it is now before where it was: lost power must not lose both names
            changed = [place.folder, path.parent]
            if unsynced is None:
                for each in changed:
                    sync_folder(each)
            else:
                unsynced[:] = [place.folder, *unsynced, path.parent]
            return place
        put_back(place)
        raise Refused("it was replaced since it was measured")
    raise crossed or OSError(errno.EXDEV, "no quarantine on its filesystem", display(path))


def _time_of(folder: int) -> int:
    """When a folder was last changed, in nanoseconds; 0 where that cannot be had."""
    try:
        return os.fstat(folder).st_mtime_ns
    except OSError:
        return 0
