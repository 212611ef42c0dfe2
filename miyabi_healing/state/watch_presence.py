"""A watch says in the state folder that it is there, and when its next run is due: a file that it
keeps locked (flock(2)).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.support import mount_answers

_WATCH_FILE = "watch"


@dataclass(frozen=True)
class _RunningWatch:
    """A watch that runs. `due` is when its next run begins, in seconds since the epoch."""

    pid: int
    due: float


@dataclass
class PresenceFile:
    """The file, as the watch that holds it sees it. What cannot be written is nobody's loss."""

    state: Path
    descriptor: int = -1

    def renew(self, seconds: float) -> None:
        """Say that the next run is due in so many seconds."""
        with contextlib.suppress(OSError):
            mount_answers.check(self.state)
            if not self._still_holds_it():
                self._take()
            data = json.dumps({"pid": os.getpid(), "due": time.time() + seconds}).encode()
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, data, 0)

    def _still_holds_it(self) -> bool:
        """Whether the file is still the one that we hold: a state folder may vanish."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self.descriptor), os.stat(self.state / _WATCH_FILE))
        return False

    def _take(self) -> None:
        self.close()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.descriptor = os.open(self.state / _WATCH_FILE, flags, 0o600)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def find_running(state: Path) -> _RunningWatch | None:
    """The watch that runs with this state folder; None where none does. Changes nothing."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        descriptor = os.open(
            state / _WATCH_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            row = json.loads(os.pread(descriptor, 300, 0))
            return _RunningWatch(int(row["pid"]), float(row["due"]))
        finally:
            os.close(descriptor)
    return None
