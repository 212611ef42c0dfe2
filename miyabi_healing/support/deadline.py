"""How much time a healer has left: looking, planning and doing together stay within its time limit.

The end is set before a healer plans, and whatever is started for it, from any thread, gets no more
than what is left.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miyabi_healing.support.command_errors import ToolError

SLICE = 0.25  # seconds after which a thread that waits sees that it need not wait any longer
LATE = 1.0  # seconds that a plan may take longer, for words about what was not looked at
# Cut short, it could leave a program that nobody ends; and it keeps to the same limit by itself.
_NOT_IN_THE_MIDDLE_OF = "miyabi_healing.support.commands"

_end = math.inf  # by time.monotonic
_words = ""
_planning = False


class TooLong(BaseException):
    """Planning went on after the time limit. A healer's ``except Exception`` does not stop it."""


@contextlib.contextmanager
def time_limit(healer: str, limit: float) -> Iterator[None]:
    """Let the time of a healer run from now on, for `limit` seconds."""
    global _end, _words
    before = _end, _words
    _end, _words = time.monotonic() + limit, f"the time limit of {healer}, {limit:g} s, is over"
    try:
        yield
    finally:
        _end, _words = before


@contextlib.contextmanager
def lifted() -> Iterator[None]:
    """Let no limit hold meanwhile: what was begun is taken back, however long that takes."""
    global _end
    before, _end = _end, math.inf
    try:
        yield
    finally:
        _end = before


def cut_short() -> None:
    """End the time now, for whoever waits in another thread."""
    global _end, _words
    _end, _words = -math.inf, _words or "the run is being ended"


def end_within(limit: float) -> float:
    """When a time limit that begins now is over, at the latest with the healer's (monotonic)."""
    return min(time.monotonic() + limit, _end)


def is_over() -> bool:
    return time.monotonic() >= _end


def left(limit: float) -> float:
    """How many seconds of `limit` there are. Raises ToolError where the healer's time is over."""
    if is_over():
        raise over()
    return min(limit, _end - time.monotonic())


def over() -> ToolError:
    from miyabi_healing.support.command_errors import OutOfTime

    return OutOfTime(_words)


def too_slow(name: str, limit: float) -> ToolError:
    """What to say of a program that was stopped because of the time it took."""
    from miyabi_healing.support.command_errors import ToolError

    return (
        over() if is_over() else ToolError(f"{name} took longer than {limit:g} s and was stopped")
    )


@contextlib.contextmanager
def planning() -> Iterator[None]:
    """End a plan that is not made a little after the limit, whatever it is at (setitimer(2)).
    Raises TooLong.

    Only a main thread can be ended so; what waits in the kernel cannot.
    """
    global _planning
    left = _end + LATE - time.monotonic()
    if threading.current_thread() is not threading.main_thread() or not math.isfinite(left):
        yield
        return
    handler = signal.signal(signal.SIGALRM, _ring)
    timer = signal.setitimer(signal.ITIMER_REAL, max(left, 0.001), LATE)
    begun, _planning = time.monotonic(), True
    try:
        yield
    finally:
        _planning = False  # what rings from here on comes too late to end anything
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if timer[0]:
            signal.setitimer(
                signal.ITIMER_REAL, max(timer[0] - (time.monotonic() - begun), 0.001), timer[1]
            )


def _ring(_number: int, frame: FrameType | None) -> None:
    while _planning and frame is not None:
        if frame.f_globals.get("__name__") == _NOT_IN_THE_MIDDLE_OF:
            return  # it rings again
        frame = frame.f_back
    if _planning:
        raise TooLong(_words)
