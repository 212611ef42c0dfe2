"""A run in a child of the program that was started, where something may hold it up in the kernel,
or end it without a word.

No signal reaches Python in a process that waits for a server that is gone, and a check of one's own
may call os._exit. The child makes the run and reports as ever. The parent passes signals on, ends a
child that does not end by itself, and reports only where the child did not.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import sys
import time
from dataclasses import dataclass

from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.runner import session
from miyabi_healing.support import interrupts

_HOST_ENDS_WITHIN = 4.0  # seconds after a signal: a run that is asked to stop is over within five
# the same once it has reported: who else is to be told has limits of its own, and Ctrl-C ends that
_TELLING = 75.0
_LAST = 0.5  # seconds for the end of a child that was killed
_LOOK = 1.0  # seconds after which it is seen that a child can no longer report
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, prctl(2)
_WAS_SHOWN = b"."

_pipe = -1


@dataclass(frozen=True)
class _Ending:
    """How a child ended: its wait status as an exit code, None where even SIGKILL did not end it;
    the signal that asked.
    """

    code: int | None
    reported: bool
    asked: int

    @property
    def exit_status(self) -> int:
        """What the parent ends with after a child that has reported."""
        if self.code is None or self.code < 0:
            return 128 + (self.asked or -(self.code or 0))
        return self.code

    @property
    def reason(self) -> str:
        if self.asked:
            name = signal.Signals(self.asked).name
            killed = self.code in (None, -signal.SIGKILL)
            late = (
                f" what was at work had not ended {_HOST_ENDS_WITHIN:g} s later and was killed;"
                if killed
                else ""
            )
            return (
                f"stopped by {name} before the run had reported;{late} "
                "the next run repairs what is half done"
            )
        if self.code is None or self.code == -signal.SIGKILL:
            how = "was killed"
        elif self.code < 0:
            how = f"was ended by {signal.Signals(-self.code).name}"
        else:
            how = f"ended with status {self.code}"
        return f"the run {how} before it had reported; a check or healer may have ended it"


def enter() -> None:
    """Go on in a child. The parent does not return: it ends as the child does, or raises
    session.Stopped for it.
    """
    global _pipe
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    we = os.getpid()
    ours, theirs = os.pipe()
    waited = {*interrupts.heeded(), signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    child = os.fork()
    if child == 0:
        os.close(ours)
        _pipe = theirs
        _be_a_child_of(we)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os.close(theirs)
    try:
        ending = _follow_child(child, ours, waited)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(ours)
    if ending.reported:
        sys.exit(ending.exit_status)
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K\x1b[?25h")  # what was shown of its progress, and the cursor
    code = 128 + ending.asked if ending.asked else ExitCode.UNKNOWN
    raise session.Stopped(ending.reason, code)


def _be_a_child_of(parent: int) -> None:
    """In the child: end with the parent, and be ended only once by a signal that reaches both."""
    import ctypes

    interrupts.guardian = parent
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(ExitCode.UNKNOWN)
    for number in interrupts.ASKING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupts.once)


def reported() -> None:
    """In the child: from here on the parent has nothing to add."""
    if _pipe >= 0:
        with contextlib.suppress(OSError):
            os.write(_pipe, _WAS_SHOWN)


def _follow_child(child: int, pipe: int, waited: set[signal.Signals]) -> _Ending:
    """Wait for the child, pass on what asks it to end, and end it where it does not."""
    heard, asked, killed = _Heard(pipe), 0, False
    # when it was asked to end, or killed, or was seen to be another program by now
    since = math.inf
    while True:
        patience = _LAST if killed else _TELLING if heard.anything else _HOST_ENDS_WITHIN
        found = signal.sigtimedwait(waited, min(max(since + patience - time.monotonic(), 0), _LOOK))
        if found and found.si_signo != signal.SIGCHLD:
            if not asked:
                asked, since = found.si_signo, time.monotonic()
            # else the kernel sent it, for a key on the terminal, to all that run there
            if found.si_code <= 0:
                os.kill(child, found.si_signo)
        pid, status = os.waitpid(child, os.WNOHANG)
        if heard.is_all() and not heard.anything:
            since = min(since, time.monotonic())
        if pid:
            return _Ending(os.waitstatus_to_exitcode(status), heard.anything, asked)
        if time.monotonic() >= since + patience:
            if killed:
                return _Ending(None, heard.anything, asked)
            os.kill(child, signal.SIGKILL)
            killed, since = True, time.monotonic()


@dataclass
class _Heard:
    """What a child said through its pipe."""

    pipe: int
    anything: bool = False
    ended: bool = False

    def is_all(self) -> bool:
        """Whether it cannot say more; what there is, is taken."""
        while not self.ended and select.select([self.pipe], [], [], 0)[0]:
            data = os.read(self.pipe, 16)
            self.anything, self.ended = self.anything or bool(data), not data
        return self.ended
