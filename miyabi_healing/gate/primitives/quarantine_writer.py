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
from collections.abc import Iterator
from pathlib import Path

from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.gate.primitives.syscalls import rename_new
from miyabi_healing.host.git import repository_paths
from miyabi_healing.model.identity import Identity
from miyabi_healing.state import quarantine
from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.support.files import open_beneath, open_root
from miyabi_healing.support.formatting import display

FOLDER = ".miyabi-healing"
_PRIVATE = 0o700
# another place may do; a full or failing disk will not
_NOT_HERE = (errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)
_OPEN_LOCATION = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# ns; one rename stamps a folder and what was in it, at most a few ticks of the kernel's clock apart
SAME_MOMENT = 50_000_000


class WrittenEntry(QuarantineEntry):
    """One thing in quarantine that is being filled or emptied."""

    @classmethod
    def at(cls, folder: Path) -> WrittenEntry:
        """An entry with its manifest, as it is on disk now."""
        found = quarantine.read_entry(folder)
        return cls(folder, found.facts, found.damage)

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"

    def write_manifest(self, **facts: object) -> None:
        """Add facts to the manifest, durably: a crash leaves the old one or the new one."""
        self.facts.update(facts)
        aside = self.folder / "manifest.new"
        descriptor = os.open(
            aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(self.facts, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.rename(aside, self.manifest)
        _sync_folder(self.folder)


def _sync_folder(folder: Path) -> None:
    """Make a folder's names durable (fsync(2): a file's own fsync does not cover its directory
    entry).
    """
    descriptor = os.open(folder, _OPEN_LOCATION)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def private_folder(path: Path) -> None:
    """Make sure `path` is a folder of ours that nobody else can enter. Raises OSError where it is
    not.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, _PRIVATE)
        _sync_folder(path.parent)
    status = os.lstat(path)
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid != os.geteuid()
        or stat.S_IMODE(status.st_mode) & 0o077
    ):
        raise PermissionError(errno.EPERM, "not a private folder of ours", str(path))


def register(state: Path, base: Path) -> None:
    """Note a folder that is about to hold quarantined things, so that they are found again. Raises
    OSError.
    """
    if base in quarantine.locations(state):
        return
    state.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(state / quarantine.BASES, flags, 0o600)
    try:
        # the first break ends a line that a crash cut short
        os.write(descriptor, f"\n{json.dumps(str(base))}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync_folder(state)


def locations_for(context: Context, path: Path) -> Iterator[Path]:
    """Where the quarantine for `path` may lie: the state folder, then the highest folder of its
    filesystem that lets us.

    The second is what the XDG trash specification does for other filesystems. Folders that others
    can write come last. It is never inside a work tree, where ``git clean`` would delete it and
    ``git add`` take it in: at last, in the git folder.
    """
    device = os.lstat(path.parent).st_dev
    with contextlib.suppress(OSError):
        context.state.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        if os.stat(context.state).st_dev == device and not _work_tree_around(context.state):
            yield context.state / "quarantine"
    ancestors = [each for each in reversed(path.parents) if os.lstat(each).st_dev == device]
    outside = [each for each in ancestors if not _work_tree_around(each)]
    guarded = [each for each in outside if not os.lstat(each).st_mode & 0o022]
    yield from (
        each / FOLDER for each in [*guarded, *(each for each in outside if each not in guarded)]
    )
    yield from _git_folders(path, device)


def _work_tree_around(folder: Path) -> Path | None:
    """The work tree that a folder is, or lies in; None where git would not come upon it."""
    real = Path(os.path.realpath(folder))
    if ".git" in real.parts:
        return None  # git looks at nothing in there
    return next((each for each in (real, *real.parents) if os.path.lexists(each / ".git")), None)


def _git_folders(path: Path, device: int) -> Iterator[Path]:
    """A place in the git folder of each repository that `path` is in, where that is on the same
    filesystem.
    """
    top = _work_tree_around(path.parent)
    while top:
        with contextlib.suppress(OSError, ValueError):
            found = repository_paths.locate(top)
            if found and os.stat(found.common).st_dev == device:
                yield found.common / FOLDER
        top = _work_tree_around(top.parent) if top != top.parent else None


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
            os.mkdir(folder, _PRIVATE)
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
            _sync_folder(run)
        except BaseException:
            discard(entry)
            raise
        return entry
    raise OSError(errno.EMFILE, "too many entries of one pass", str(run))


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


def discard(place: QuarantineEntry) -> None:
    """Take back a place that holds nothing (any more)."""
    for leftover in ("manifest.new", "manifest.json"):
        with contextlib.suppress(OSError):
            os.unlink(place.folder / leftover)
    with contextlib.suppress(OSError):
        os.rmdir(place.folder)
        os.rmdir(place.folder.parent)


def drop(place: WrittenEntry) -> None:
    """Take back a place with the copy it holds, which nobody needs (any more): marked first, so
    that a crash leaves no riddle.
    """
    with contextlib.suppress(OSError):  # on a full disk it goes without the mark
        place.write_manifest(dropped=True)
    with contextlib.suppress(OSError):
        os.unlink(place.thing)
    discard(place)


def quarantine_path(
    context: Context, root: Path, path: Path, identity: Identity, kind: str, **facts: object
) -> WrittenEntry:
    """Rename `path`, which lies beneath `root`, into quarantine. Raises Refused where it is not
    what was measured.

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
                os.rename(name, place.thing, src_dir_fd=folder)
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
        status = os.lstat(place.thing)
        if Identity.of(status).unchanged(identity):
            # its time changes with whatever befalls its other names
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                # on a full disk, a folder's time is not worth failing for
                with contextlib.suppress(OSError):
                    place.write_manifest(left=left)
            _sync_folder(place.folder)
            _sync_folder(path.parent)
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


def _rename_back(inside: int, folder: int, name: str, thing: os.stat_result) -> None:
    """Rename a thing to where it was, never over anything; a folder may take the place of an empty
    one. Raises OSError.
    """
    try:
        rename_new(inside, "thing", folder, name)
    except FileExistsError:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not (stat.S_ISDIR(thing.st_mode) and stat.S_ISDIR(there.st_mode)):
            raise
        # rename(2) itself refuses one that is not empty
        os.rename("thing", name, src_dir_fd=inside, dst_dir_fd=folder)


def put_back(place: QuarantineEntry) -> None:
    """Undo `take`, never over something that has taken the name meanwhile. Raises OSError; the
    thing then stays put.
    """
    move_back(place)
    discard(place)


def move_back(place: QuarantineEntry) -> None:
    """The same, but its place and manifest stay, for what else has to be done."""
    _make_folders_again(place)
    with open_beneath(Path(place.facts["root"]), Path(place.original)) as (folder, name):
        left, parent = (
            place.facts.get("left") or os.lstat(place.thing).st_ctime_ns,
            os.fstat(folder),
        )
        inside = os.open(place.folder, _OPEN_LOCATION)
        try:
            _rename_back(inside, folder, name, os.lstat(place.thing))
        finally:
            os.close(inside)
        if times := place.facts.get("parent_times"):
            set_times(folder, parent, left, times)
        os.fsync(folder)


def missing_folders(place: QuarantineEntry) -> list[Path]:
    """The folders on the way to where a thing was that are gone, the first one first."""
    return [each for each in reversed(Path(place.original).parents) if not os.path.lexists(each)]


def cannot_make_folders(place: QuarantineEntry) -> str | None:
    """Why the folders that a thing was in cannot be made again: their filesystem may only not be
    mounted now.
    """
    missing = missing_folders(place)
    if missing and os.lstat(missing[0].parent).st_dev != os.lstat(place.thing).st_dev:
        return f"{display(missing[0])} is gone, or its filesystem is not mounted"
    return None


def _make_folders_again(place: QuarantineEntry) -> None:
    """Make what is gone of the folders that a thing was in: ``git clean`` takes them away when they
    are empty. Raises OSError.

    They get the owner and the mode that the last of them had.
    """
    if not (missing := missing_folders(place)):
        return
    if reason := cannot_make_folders(place):
        raise OSError(errno.ENOENT, reason)
    folder = open_root(missing[0].parent)
    try:
        above = os.fstat(folder)
        mode, uid, gid = place.facts.get("parent") or (
            stat.S_IMODE(above.st_mode),
            above.st_uid,
            above.st_gid,
        )
        for path in missing:
            os.mkdir(path.name, _PRIVATE, dir_fd=folder)
            deeper = os.open(path.name, _OPEN_LOCATION | os.O_NOFOLLOW, dir_fd=folder)
            # another user's folder, or a group that we are not in
            with contextlib.suppress(PermissionError):
                os.fchown(deeper, uid, gid)
            os.fchmod(deeper, mode)
            os.fsync(folder)
            os.close(folder)
            folder = deeper
    finally:
        os.close(folder)


def set_times(folder: int, before: os.stat_result, left: int, times: list[int]) -> None:
    """Give a folder the times it had before something was taken out of it, if that was the last
    thing done in it.
    """
    if abs(before.st_mtime_ns - left) < SAME_MOMENT:
        os.utime(folder, ns=(times[0], times[1]))
