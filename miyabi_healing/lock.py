"""One pass at a time: a lock file in the state folder, held with flock(2), so that a crashed holder never blocks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path


class Busy(Exception):
    """Another pass is at work; the message says which and since when."""


def acquire(state: Path) -> int:
    """Take the lock and return its descriptor; closing it, or dying, gives it back. Raises Busy, OSError."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state / "lock"
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            take(descriptor)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):  # else somebody deleted the file meanwhile
                sign(descriptor)
                return descriptor
        except FileNotFoundError:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def take(descriptor: int) -> None:
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
