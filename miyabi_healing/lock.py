"""One pass at a time: a lock file in the state folder, held with flock(2), so that a crashed holder never blocks."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


class Busy(Exception):
    """Another pass is at work; the message says which and since when."""


def acquire(state: Path) -> int:
    """Take the lock and return its descriptor; closing it, or dying, gives it back. Raises Busy, OSError."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 200).decode("utf-8", "replace").strip()
        os.close(descriptor)
        raise Busy(f"another pass is at work ({holder or 'just started'}); this one did nothing") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"pid {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode(), 0)
    return descriptor
