"""The quarantine: where removed things that a person might want wait on their own filesystem, private and described.

A thing is renamed, never copied, so its owner, mode, times and extended attributes stay as they are.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.files import Identity, display, open_beneath
from miyabi_healing.gate.verbs import Context, Refused

FOLDER = ".miyabi-healing"
PRIVATE = 0o700
ELSEWHERE = (errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)  # another place may do; a full or failing disk will not


@dataclass(frozen=True)
class Entry:
    """One thing in quarantine: its folder, and in it the thing and a manifest."""

    folder: Path
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def thing(self) -> Path:
        return self.folder / "thing"

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"

    def write_manifest(self, **facts: object) -> None:
        """Add facts to the manifest, durably: a crash leaves the old one or the new one."""
        self.facts.update(facts)
        aside = self.folder / "manifest.new"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(self.facts, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.rename(aside, self.manifest)
        sync_folder(self.folder)


def sync_folder(folder: Path) -> None:
    """Make a folder's names durable (fsync(2): a file's own fsync does not cover its directory entry)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def private_folder(path: Path) -> None:
    """Make sure `path` is a folder of ours that nobody else can enter. Raises OSError where it is not."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, PRIVATE)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(errno.EPERM, "not a private folder of ours", str(path))


def bases(context: Context, path: Path) -> Iterator[Path]:
    """Where the quarantine for `path` may lie: the state folder, then the highest folder of its filesystem that lets us.

    The second is what the XDG trash specification does for other filesystems. Folders that others can write come last.
    """
    device = os.lstat(path.parent).st_dev
    with contextlib.suppress(OSError):
        context.state.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        if os.stat(context.state).st_dev == device:
            yield context.state / "quarantine"
    ancestors = [each for each in reversed(path.parents) if os.lstat(each).st_dev == device]
    guarded = [each for each in ancestors if not os.lstat(each).st_mode & 0o022]
    yield from (each / FOLDER for each in [*guarded, *(each for each in ancestors if each not in guarded)])


def entry_in(base: Path, context: Context, path: Path, kind: str) -> Entry:
    private_folder(base)
    run = base / context.run_id
    private_folder(run)
    for number in range(1, 1_000_000):
        folder = run / f"{number:04}-{kind.replace(' ', '-')}"
        try:
            os.mkdir(folder, PRIVATE)
        except FileExistsError:
            continue
        entry = Entry(folder)
        try:
            entry.write_manifest(original=str(path), kind=kind, run=context.run_id, time=time.time())
            sync_folder(run)
        except BaseException:
            discard(entry)
            raise
        return entry
    raise OSError(errno.EMFILE, "too many entries of one pass", str(run))


def entry(context: Context, path: Path, kind: str) -> Entry:
    """Make a private place on `path`'s filesystem for one thing, with its manifest. Raises OSError where none can be."""
    problem: OSError | None = None
    for base in bases(context, path):
        try:
            return entry_in(base, context, path, kind)
        except OSError as error:
            if error.errno not in ELSEWHERE:
                raise
            problem = problem or error
    raise problem or OSError(errno.ENOENT, "no place for a quarantine", str(path))


def discard(place: Entry) -> None:
    """Take back a place that nothing was put into."""
    for leftover in (place.manifest, place.folder / "manifest.new"):
        with contextlib.suppress(OSError):
            os.unlink(leftover)
    with contextlib.suppress(OSError):
        os.rmdir(place.folder)
        os.rmdir(place.folder.parent)


def take(context: Context, root: Path, path: Path, identity: Identity, kind: str) -> Entry:
    """Rename `path`, which lies beneath `root`, into quarantine. Raises Refused where it is not what was measured.

    The name is renamed first and looked at afterwards: between a look and a deletion a new file can take the name, after a
    rename nothing can. A stranger caught that way is put back.
    """
    crossed: OSError | None = None
    for base in bases(context, path):
        try:
            place = entry_in(base, context, path, kind)
        except OSError as error:
            if error.errno not in ELSEWHERE:
                raise
            crossed = crossed or error
            continue
        try:
            with open_beneath(root, path) as (folder, name):
                os.rename(name, place.thing, src_dir_fd=folder)
        except FileNotFoundError:
            discard(place)
            raise Refused("it is gone already") from None
        except OSError as error:
            discard(place)
            if error.errno not in ELSEWHERE:
                raise
            crossed = error  # a bind mount or subvolume in between: same device number, yet no rename
            continue
        found = Identity.at(place.thing)
        if found.unchanged(identity):
            sync_folder(place.folder)
            sync_folder(path.parent)
            return place
        put_back(place, root, path)
        raise Refused("it was replaced since it was measured")
    raise crossed or OSError(errno.EXDEV, "no quarantine on its filesystem", display(path))


def put_back(place: Entry, root: Path, path: Path) -> None:
    """Undo `take`, never over something that has taken the name meanwhile. Raises OSError; the thing then stays put."""
    with open_beneath(root, path) as (folder, name):
        if stat.S_ISDIR(os.lstat(place.thing).st_mode):
            if name in os.listdir(folder):
                raise FileExistsError(errno.EEXIST, "something else has its name", str(path))
            os.rename(place.thing, name, dst_dir_fd=folder)
        else:
            os.link(place.thing, name, dst_dir_fd=folder, follow_symlinks=False)
            os.unlink(place.thing)
    discard(place)
