"""How long one may still believe to have a slice, by one's own clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def since_boot() -> float:
    """Seconds by a clock that nobody sets, and that goes on while the host sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def longest_absence(lease: float) -> float:
    """Seconds after which a coordinator gives up a store that does not do its work."""
    return max(300, 10 * lease)


class LeaseWatch:
    """Counts from before the store was asked, so it runs out before the store's own lease does: by
    a tenth of it (2 seconds at most), in which whoever works can end.

    Once it was said to have run out, it stays so.
    """

    def __init__(self, sent: float, lease: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lease = lease
        self._early = min(lease / 10, 2)
        self._until = sent + lease - self._early
        self._over = threading.Event()

    def renewed(self, sent: float) -> None:
        """The store has begun the lease anew; it was asked at that moment."""
        self._until = sent + self._lease - self._early

    def end(self) -> None:
        self._over.set()

    def wait(self, seconds: float) -> None:
        """No longer than that, and not when it is over."""
        self._over.wait(seconds)

    def is_over(self) -> bool:
        """May be asked by any thread."""
        if not self._over.is_set() and self._clock() >= self._until:
            self._over.set()
        return self._over.is_set()
