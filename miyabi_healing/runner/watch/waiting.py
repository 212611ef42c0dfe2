"""What reaches a watch from outside while it waits: signals, a terminal or a reader that goes, and
the time at which its view is drawn anew.

Signals ring a bell that can be waited for (signal.set_wakeup_fd): nothing is cut short.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from miyabi_healing.state.run_clock import since_boot
from miyabi_healing.support import systemd_notify

if TYPE_CHECKING:
    from miyabi_healing.report.live import View

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_LONGEST = 60.0  # seconds of one wait: poll(2) does not count those that the host sleeps
_GONE = {errno.EIO: signal.SIGHUP, errno.EPIPE: signal.SIGPIPE}
_STDOUT = 1


def has_terminal() -> bool:
    """Whether this process has a controlling terminal (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@dataclass
class Waiting:
    """`ending` is the exit status to end with, 0 while nobody asked; `at_once` is whether the next
    run is to begin now. `screen` is whether standard output is a terminal; `terminal` whether there
    was a controlling one at the last rest, and at the one before: its end takes a while to arrive.
    """

    view: View
    bell: int
    screen: bool
    ending: int = 0
    at_once: bool = False
    terminal: tuple[bool, bool] = (False, False)

    @classmethod
    @contextlib.contextmanager
    def begin(cls, view: View) -> Iterator[Waiting]:
        """Have signals ring the bell. SIGHUP that is ignored, as by nohup(1), stays so where there
        is a terminal; Ctrl-Z is ours only where the view must give the terminal back.
        """
        bell, rope = os.pipe()
        for each in (bell, rope):
            os.set_blocking(each, False)
        here = has_terminal()
        numbers = [*_STOPPING, signal.SIGCHLD]
        if not here or signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        if view.tick is not None:
            numbers += [signal.SIGWINCH, signal.SIGCONT, signal.SIGTSTP]
        before = {number: signal.signal(number, _only_ring) for number in numbers}
        old = signal.set_wakeup_fd(rope, warn_on_full_buffer=False)
        try:
            yield cls(view, bell, os.isatty(_STDOUT), terminal=(here, here))
        finally:
            signal.set_wakeup_fd(old)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(bell)
            os.close(rope)

    def rest(self, due: float) -> int:
        """Wait for the next run, due at so many seconds since the boot; returns the exit status
        where the watch is to end, else 0.
        """
        self.terminal = (has_terminal(), self.terminal[0])
        while not self.ending:
            left = due - since_boot()
            if left <= 0 or self.at_once:
                self.at_once = False
                return 0
            self.wait([], left)
        return self.ending

    def wait(self, descriptors: list[int], seconds: float) -> list[int]:
        """Wait until one can be read, or something comes from outside; returns those that can.

        systemd is told meanwhile that we are alive, and the view is drawn.
        """
        beat = systemd_notify.watchdog_seconds()
        longest = min(filter(None, (_LONGEST, beat and beat / 3, self.view.tick)))
        poll = select.poll()
        for each in (self.bell, *descriptors):
            poll.register(each, select.POLLIN)
        if sys.platform == "linux":  # elsewhere, poll(2) may not know terminals
            poll.register(_STDOUT, 0)
        end = time.monotonic() + max(seconds, 0)
        left = max(end - time.monotonic(), 0)
        found = dict(poll.poll(min(left, longest) * 1000))
        if beat:
            systemd_notify.notify("WATCHDOG=1")
        if found.get(_STDOUT, 0) & (select.POLLERR | select.POLLHUP):
            self._lost(signal.SIGHUP if self.screen else signal.SIGPIPE)
        if self.bell in found:
            self._hear()
        if not found:
            self.tell(self.view.redraw)
        return [each for each in descriptors if each in found]

    def tell(self, action: Callable[[], None]) -> None:
        """Have the view show something. That nobody is left to see it is a reason to end."""
        try:
            action()
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._lost(_GONE[error.errno])

    def _lost(self, number: int) -> None:
        self.ending = self.ending or 128 + number

    def _hear(self) -> None:
        """Take the signals that came in; SIGCHLD only wakes us."""
        for number in os.read(self.bell, 64):
            if number in _STOPPING:
                self.ending = 128 + number
            elif number == signal.SIGHUP and any(self.terminal):
                self._lost(number)
            elif number == signal.SIGHUP:
                self.at_once = True
            elif number == signal.SIGTSTP:
                self.tell(self.view.suspend)
                _stop()
                self.tell(self.view.redraw)
            elif number in (signal.SIGWINCH, signal.SIGCONT):
                self.tell(self.view.redraw)


def _only_ring(_number: int, _frame: object) -> None:
    """Nothing more: the bell has rung."""


def _stop() -> None:
    """Stop as if nobody had handled SIGTSTP: the kernel lets nobody stop whom no shell could wake
    again (an orphaned process group, setpgid(2)).
    """
    before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, before)
