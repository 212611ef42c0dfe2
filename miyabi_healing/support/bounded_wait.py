"""Waiting for the network, but not for ever."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TypeVar

from miyabi_healing.support import interrupts

_Answer = TypeVar("_Answer")


def within(seconds: float, action: Callable[[], _Answer]) -> _Answer:
    """Do something that may hang. Raises TimeoutError when it took longer, and whatever `action`
    raises.

    Neither a server nor the resolver of names has a limit for the whole of it, so a thread waits in
    our place, and is left behind if it must be: it holds nothing, and ends with the program.
    """
    results: list[_Answer] = []
    errors: list[Exception] = []

    def work() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, interrupts.ASKING)  # they are for the main thread
        try:
            results.append(action())
        except Exception as error:
            errors.append(error)

    if seconds > 0:
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]
