"""Where a quarantine may lie: in the state folder, or on the filesystem of what is set aside."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.host.git import repository_paths
from miyabi_healing.state import quarantine

FOLDER = ".miyabi-healing"


PRIVATE_MODE = 0o700
OPEN_LOCATION = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def sync_folder(folder: Path) -> None:
    """Make a folder's names durable (fsync(2): a file's own fsync does not cover its directory
    entry).
    """
    descriptor = os.open(folder, OPEN_LOCATION)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def private_folder(path: Path) -> None:
    """Make sure `path` is a folder of ours that nobody else can enter. Raises OSError where it is
    not.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, PRIVATE_MODE)
        sync_folder(path.parent)
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
    state.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(state / quarantine.BASES, flags, 0o600)
    try:
        # the first break ends a line that a crash cut short
        os.write(descriptor, f"\n{json.dumps(str(base))}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(state)


def locations_for(context: Context, path: Path) -> Iterator[Path]:
    """Where the quarantine for `path` may lie: the state folder, then the highest folder of its
    filesystem that lets us.

    The second is what the XDG trash specification does for other filesystems. Folders that others
    can write come last. It is never inside a work tree, where ``git clean`` would delete it and
    ``git add`` take it in: at last, in the git folder.
    """
    device = os.lstat(path.parent).st_dev
    with contextlib.suppress(OSError):
        context.state.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
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
