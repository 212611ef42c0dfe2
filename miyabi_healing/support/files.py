"""Looking at files without trusting their names: identities, ages, safe opening, printable paths.
Reads only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from miyabi_healing.model.identity import Identity
from miyabi_healing.support import mount_answers
from miyabi_healing.support.formatting import display

MEGABYTE = 1_000_000
MOST_LINKS = 40  # as Linux has it, path_resolution(7)
_SMALL_FILE = 1 << 16  # bytes of a small file: git's own, a lock's reason
# also one that may only be passed through
OPEN_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


def newest(status: os.stat_result) -> float:
    """The latest time anything happened to a file, in seconds since the epoch.

    Neither mtime nor ctime alone will do: ``curl -R`` gives a fresh download an mtime of years ago.
    """
    born: float = getattr(status, "st_birthtime", 0.0)
    return max(status.st_mtime, status.st_ctime, born)


def used(status: os.stat_result) -> int:
    """Bytes a file really occupies: sparse and punched files are smaller than they look (stat(2),
    st_blocks).
    """
    return status.st_blocks * 512


def read_small(
    path: Path | str,
    folder: int | None = None,
    *,
    owner: int | None = None,
    limit: int = _SMALL_FILE,
    whole: bool = True,
) -> bytes:
    """The content of a file that somebody else may have written, or put something else in its
    place. Raises OSError.

    Only of a regular file, not through a link, of at most `limit` bytes (or, not `whole`, the first
    ones), and without waiting for a writer. With `owner`: only where that user could read it, too,
    so that we show nobody what is not theirs (a further name of root's own file, say).
    """
    descriptor = os.open(
        path,
        os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC,
        dir_fd=folder,
    )
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "no regular file", display(path))
        if owner is not None and status.st_uid != owner and not status.st_mode & stat.S_IROTH:
            raise OSError(errno.EACCES, "it belongs to somebody else", display(path))
        data = bytearray()
        while len(data) <= limit and (
            piece := os.read(descriptor, min(limit + 1 - len(data), 1 << 20))
        ):
            data += piece
        if whole and len(data) > limit:
            raise OSError(errno.EFBIG, "larger than such a file can be", display(path))
        return bytes(data[:limit])
    finally:
        os.close(descriptor)


def is_beneath(path: Path, root: Path) -> bool:
    """Whether `path` lies below `root` by name alone; ``..`` is never beneath anything."""
    return path != root and path.is_relative_to(root) and ".." not in path.parts


def is_within(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies below it, by text alone."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def place_of(path: Path) -> Path:
    """A path without links on the way; a link itself is what it says, and not where it leads."""
    return (
        Path(os.path.realpath(path.parent), path.name)
        if path.name
        else Path(os.path.realpath(path))
    )


def open_root(root: Path) -> int:
    """Open a folder, following no link but root's and our own: another user can turn theirs
    anywhere. Raises OSError.

    What Linux does for the last name in a sticky folder (proc(5), protected_symlinks), for every
    name and in every folder.
    """
    mount_answers.check(root)
    folder, links = os.open("/", OPEN_FOLDER), 0
    left = [*reversed(root.absolute().parts[1:])]
    try:
        while left:
            name = left.pop()
            try:
                deeper = os.open(name, OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR) or links == MOST_LINKS:
                    raise
                target = _trusted_link(folder, name)
                links += 1
                left += reversed([part for part in target.split("/") if part])
                if not target.startswith("/"):
                    continue
                deeper = os.open("/", OPEN_FOLDER)
            os.close(folder)
            folder = deeper
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)


def _trusted_link(folder: int, name: str) -> str:
    """Where a symbolic link of root's or ours points to. Raises OSError for anything else."""
    before = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISLNK(before.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    target = os.readlink(name, dir_fd=folder)
    after = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if before.st_uid not in (0, os.geteuid()) or (before.st_uid, before.st_ino) != (
        after.st_uid,
        after.st_ino,
    ):
        raise OSError(errno.ELOOP, "another user's symbolic link is in the way", name)
    return target


@contextmanager
def open_beneath(root: Path, path: Path) -> Iterator[tuple[int, str]]:
    """Open the folder that holds `path`, walking down from `root` without following one symbolic
    link.

    Yields the folder's descriptor and the last name. `root` itself may be reached through links
    that we or root made; no name below may be one, and neither may it lead to another filesystem.
    Raises OSError where a link or another filesystem is in the way, ValueError where `path` is not
    beneath `root`.
    """
    if not is_beneath(path, root):
        raise ValueError(f"{display(path)} is not beneath {display(root)}")
    *folders, name = path.relative_to(root).parts
    mount_answers.check(path, follow=False)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    folder = open_root(root)
    try:
        device = os.fstat(folder).st_dev
        for part in folders:
            deeper = os.open(part, flags | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = deeper
            if os.fstat(folder).st_dev != device:
                raise OSError(f"{display(path)} is on another filesystem than {display(root)}")
        yield folder, name
    finally:
        os.close(folder)


def identity_at(path: Path | str) -> Identity:
    """Measure `path` itself, never what a symbolic link points to. Raises OSError."""
    return Identity.of(os.lstat(path))


def mount_number(folder: int) -> tuple[int, str]:
    """What a descriptor lies on: the device and, where the kernel tells it, the mount
    (proc_pid_fdinfo(5)).

    The device alone would let us into a folder of the same filesystem that is mounted here as well
    (mount --bind).
    """
    device = os.fstat(folder).st_dev
    try:
        with open(f"/proc/self/fdinfo/{folder}", encoding="ascii") as lines:
            return device, next((line for line in lines if line.startswith("mnt_id:")), "")
    except OSError:
        return device, ""
