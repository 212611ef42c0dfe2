"""Changing single values of a file of tasks that others write as well: what somebody has written
meanwhile is never lost.

The new text is made in a quarantine entry beside the old one, and the two change places in one
moment; what comes out is looked at. If it is not what was read, or somebody has it open to write,
they change places again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.gate.primitives.syscalls import UNSUPPORTED, exchange
from miyabi_healing.support import ownership
from miyabi_healing.support.files import open_beneath
from miyabi_healing.support.formatting import display

_WAIT = 5.0  # seconds for a lock that somebody holds
_POLL = 0.02
CHANGED = "somebody has written it meanwhile"


@contextlib.contextmanager
def locked(path: str, deadline: float) -> Iterator[None]:
    """The lock that writers hold (flock(2)), where the configuration names its file. Raises Refused
    where it is held for too long, OSError.
    """
    file = Path(path).expanduser()
    if not path or not os.path.lexists(file):  # whoever makes it now is seen when files are swapped
        yield
        return
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    end = min(time.monotonic() + _WAIT, deadline)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise Refused(f"somebody holds {display(path)}") from None
                time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


def fill(entry: WrittenEntry, name: str, text: str, like: os.stat_result, source: int) -> None:
    """Write a text into an entry, with the mode, owner and extended attributes of the file that it
    is to replace, which `source` is open on. Raises OSError, also where it could not be the same
    owner's.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(entry.folder / name, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode("utf-8"))
        if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, like.st_uid, like.st_gid)
        for each in os.listxattr(source) if hasattr(os, "listxattr") else ():
            with contextlib.suppress(PermissionError):  # a label that is right by itself
                os.setxattr(descriptor, each, os.getxattr(source, each))
        os.fchmod(descriptor, like.st_mode & 0o7777)
        file.flush()
        os.fsync(descriptor)


@dataclass(frozen=True)
class Read:
    """What a file was when it was read."""

    text: str
    status: os.stat_result


def swap(
    entry: WrittenEntry, inner: str, root: Path, path: Path, read: Read, context: Context
) -> None:
    """Put a filled file of an entry in the place of `path`, which was `read`; the entry has the old
    one then. Raises Refused where somebody has written it since, and all is as it was; OSError.
    """
    inside = os.open(entry.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open_beneath(root, path) as (folder, name):
            ours = os.stat(inner, dir_fd=inside, follow_symlinks=False)
            _exchange(inside, inner, folder, name, read.status)
            try:
                if reason := _written(inside, inner, path, read, context):
                    raise Refused(reason)
            except BaseException:
                if _is(ours, name, folder):
                    exchange(inside, inner, folder, name)
                    if not _is(ours, inner, inside):  # of somebody who has just replaced it
                        exchange(inside, inner, folder, name)
                raise
            os.fsync(folder)
            os.fsync(inside)
    finally:
        os.close(inside)


def _is(file: os.stat_result, name: str, folder: int) -> bool:
    there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return (there.st_dev, there.st_ino) == (file.st_dev, file.st_ino)


def _exchange(inside: int, inner: str, folder: int, name: str, read: os.stat_result) -> None:
    """Raises Refused where the filesystem cannot: then a writer could be overtaken."""
    try:
        if not _same(os.stat(name, dir_fd=folder, follow_symlinks=False), read):
            raise Refused(CHANGED)
        exchange(inside, inner, folder, name)
    except FileNotFoundError:
        raise Refused("it is gone") from None
    except OSError as error:
        if error.errno in UNSUPPORTED:
            why = "its filesystem cannot exchange files; give_back_command can do it"
            raise Refused(why) from None
        raise


def _written(inside: int, inner: str, path: Path, read: Read, context: Context) -> str:
    """Whether what came out is not what was read, or somebody is about to write it: no other can
    find it any more.
    """
    if not _same(os.stat(inner, dir_fd=inside, follow_symlinks=False), read.status):
        return CHANGED
    witness = context.host.witness()
    for user in witness.files.of(read.status.st_dev, read.status.st_ino):
        if user.writable:
            return f"{user.name} (pid {user.pid}) has it open to write"
    if ownership.others_write(str(path), read.status, ownership.us()) and (
        unseen := witness.unseen(path)
    ):
        return f"others can write it: {unseen}"
    # times are no finer than a tick of the kernel's clock, so its content is read again
    descriptor = os.open(inner, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)
    with os.fdopen(descriptor, "rb") as file:
        return "" if file.read() == read.text.encode("utf-8") else CHANGED


def _same(now: os.stat_result, read: os.stat_result) -> bool:
    """The same file with the same content, as far as its times tell; a rename changes its ctime."""
    facts = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_mode", "st_uid")
    return all(getattr(now, each) == getattr(read, each) for each in facts)
