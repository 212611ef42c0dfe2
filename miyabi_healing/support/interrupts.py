"""Being asked to stop: SIGINT, SIGTERM and SIGHUP end a run in order, with the step in hand
finished or taken back.

What must not be cut in two, recording and undoing, is done with the signals held back.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Signals = frozenset[int]
received = 0  # the signal that asked, 0 while none has
guardian = 0  # the process that watches over this one and is the same program; 0 without one
_putting_off = False


def heeded() -> tuple[signal.Signals, ...]:
    """The signals that ask to stop: not SIGHUP where it is ignored, as nohup(1) has it."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return tuple(each for each in ASKING if each != signal.SIGHUP or not ignored)


class StopRequested(KeyboardInterrupt):
    """Somebody wants the program to stop. pytest ends a session on it as on Ctrl-C."""


def _note(number: int, _frame: FrameType | None) -> None:
    global received
    again, received = bool(received), received or number
    # asked twice is not asked harder: the step in hand is being taken back already
    if not again and not _putting_off:
        raise StopRequested(signal.Signals(number).name)


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Let a signal take effect only after what runs inside; unlike `held_back`, a program that is
    started inside gets it.

    For a moment only, and in the main thread; others are never interrupted.
    """
    global _putting_off
    if _putting_off or threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _putting_off = received, True
    try:
        yield
    finally:
        _putting_off = False
    if received != before:
        raise StopRequested(signal.Signals(received).name)


def once(number: int, _frame: FrameType | None) -> None:
    """Be ended by a signal, as ever, but not by the same one again, where it was sent to two
    processes of a run.
    """
    if not received:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


@contextlib.contextmanager
def in_order() -> Iterator[None]:
    """Let the signals end what runs inside in order. Only a program's main thread can."""
    global received
    received = 0
    before = {number: signal.signal(number, _note) for number in heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back(which: Iterable[int] = ASKING) -> Iterator[Signals]:
    """Keep the signals waiting until what runs inside is done; yields those that were kept waiting
    before.
    """
    before = frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    if threading.current_thread() is not threading.main_thread():
        yield before
        return
    with _mask(before.union(which)):
        yield before


@contextlib.contextmanager
def _mask(signals: Signals) -> Iterator[None]:
    """Keep just these waiting meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
