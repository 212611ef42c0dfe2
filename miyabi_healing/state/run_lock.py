"""One run at a time: a lock file in the state folder, held with flock(2), so that a crashed holder
never blocks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

from miyabi_healing.support import interrupts, paths
from miyabi_healing.support.formatting import time_text, timestamp

FILE = "lock"
_ASKED_FOR_AT_MOST = 10.0  # seconds, for those who only ask
_Held = tuple[int, ...]  # descriptors


class Busy(Exception):
    """Another run is at work; the message says which and since when."""


def acquire(state: Path) -> _Held:
    """Take the lock, for `release`; dying gives it back, too. Raises Busy, OSError."""
    for folder in paths.fallback_folders(state):
        if (folder / FILE).exists():  # a run that found the disk full may be at work there
            release(lock_folder(folder))
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if reason := paths.distrust(state):
            raise PermissionError(errno.EPERM, reason, str(state))
        return lock_folder(state)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        from miyabi_healing.state.store import make_fallback_folder

        return lock_folder(make_fallback_folder(state))


def release(held: _Held) -> None:
    """Give the lock back, also where a program that was forked meanwhile has inherited it."""
    for descriptor in held:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def is_held(state: Path) -> bool:
    """Whether a run is at work now. Changes nothing."""
    for path in (
        each
        for folder in (state, *paths.fallback_folders(state))
        for each in (folder, folder / FILE)
    ):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:  # a folder on NFS
                continue
            finally:
                os.close(descriptor)
    return False


def lock_folder(folder: Path) -> _Held:
    """Lock the folder and the file in it: somebody may delete the file, taking it for stale; NFS
    locks no folder.
    """
    with contextlib.ExitStack() as held:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        held.callback(os.close, place)
        with contextlib.suppress(OSError):
            _lock_descriptor(place, folder)
        path = folder / FILE
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            held.callback(os.close, descriptor)
            _lock_descriptor(descriptor, folder)
            # else somebody deleted it meanwhile
            if path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                _sign(descriptor)
                held.pop_all()
                return place, descriptor


def _lock_descriptor(descriptor: int, folder: Path) -> None:
    """Raises Busy, OSError. Whoever only asks whether it is held shares it for a moment: these are
    waited for, since only they leave it to be shared by one more.
    """
    waits_until = time.monotonic() + _ASKED_FOR_AT_MOST
    while True:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            break
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        if time.monotonic() > waits_until:
            break
        time.sleep(0.001)
    holder = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        holder = (folder / FILE).read_text(encoding="utf-8")[:300].strip()
    raise Busy(f"another run is at work ({holder or 'just started'}); this one did nothing")


def _sign(descriptor: int) -> None:
    """Say who holds the lock; on a full disk the lock is held all the same."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        who = (
            f"pid {interrupts.guardian or os.getpid()} on {os.uname().nodename}, "
            f"since {time_text(timestamp())}\n"
        )
        os.pwrite(descriptor, who.encode(), 0)
