"""One pass at a time: a lock file in the state folder, held with flock(2), so that a crashed holder never blocks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

from miyabi_healing import paths


class Busy(Exception):
    """Another pass is at work; the message says which and since when."""


def acquire(state: Path) -> int:
    """Take the lock and return its descriptor, for `release`; dying gives it back, too. Raises Busy, OSError."""
    for folder in paths.refuges(state):
        if (folder / "lock").exists():  # a pass that found the disk full may be at work there
            release(take(folder))
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if reason := paths.distrust(state):
            raise PermissionError(errno.EPERM, reason, str(state))
        return take(state)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        from miyabi_healing.safekeeping import find_refuge

        return take(find_refuge(state))


def release(descriptor: int) -> None:
    """Give the lock back, also where a program that was forked meanwhile has inherited it."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def is_held(state: Path) -> bool:
    """Whether a pass is at work now. Changes nothing."""
    for folder in (state, *paths.refuges(state)):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
    return False


def take(folder: Path) -> int:
    path = folder / "lock"
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            lock(descriptor)
            if path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path)):  # else somebody deleted it meanwhile
                sign(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip()
        raise Busy(f"another pass is at work ({holder or 'just started'}); this one did nothing") from None


def sign(descriptor: int) -> None:
    """Say who holds the lock; on a full disk the lock is held all the same."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        who = f"pid {os.getpid()} on {os.uname().nodename}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
        os.pwrite(descriptor, who.encode(), 0)
